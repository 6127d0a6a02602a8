#include "sandbox/odoo/server.h"

#include <filesystem>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "sandbox/odoo/churn.h"
#include "sandbox/odoo/database.h"
#include "sandbox/odoo/fill.h"
#include "sandbox/odoo/http.h"
#include "sandbox/odoo/service.h"
#include "sandbox/odoo/state.h"

namespace sandbox::odoo {

struct Server::Parts {
  Options options;
  std::unique_ptr<Database> database;
  std::unique_ptr<Service> service;
  std::unique_ptr<HttpServer> http;
  std::mutex churn_mutex;
  std::unique_ptr<Churn> churn;
  int port = 0;
  bool stopped = false;

  /// POST starts people at work, DELETE lets them finish, all answer what they have done.
  Json churn_control(const std::string& method, const Json& body) {
    const std::lock_guard lock(churn_mutex);
    if (method == "POST") {
      if (churn) throw std::runtime_error("people are at work already: DELETE first");
      const int per_second = body.value("per_second", 20);
      if (per_second < 1) throw std::runtime_error("per_second must be 1 or more");
      churn = std::make_unique<Churn>(*service, per_second, body.value("seed", options.seed));
      churn->start();
    }
    Json counts = Json::object();
    if (churn) {
      if (method == "DELETE") churn->stop();
      for (const auto& [what, count] : churn->counts()) counts[what] = count;
      if (method == "DELETE") churn.reset();
    }
    return {{"counts", counts}};
  }
};

Server::Server(Options options) : parts_(std::make_unique<Parts>()) {
  parts_->options = std::move(options);
}

Server::~Server() {
  stop();
}

int Server::start() {
  Parts& parts = *parts_;
  const Options& options = parts.options;
  if (options.workers < 1) throw std::runtime_error("--workers must be 1 or more");
  parts.database = std::make_unique<Database>(options.db, load_schema(options.series));
  const SeedUsers users{options.admin_password, options.admin_key, options.limited_password, options.limited_key};
  const bool goes_on = !options.state.empty() && std::filesystem::exists(options.state);
  if (goes_on) {
    load_state(*parts.database, options.state);
  } else if (options.seed_data == "small") {
    seed_company(*parts.database, options.seed, users);
  } else if (options.seed_data == "none") {
    seed_base(*parts.database, users);
  } else {
    throw std::runtime_error("unknown seed data '" + options.seed_data + "': small or none");
  }
  if (!goes_on)
    for (const auto& [model, count] : options.fill) fill(*parts.database, model, count, options.seed);
  HttpServer::Options http;
  http.bind = options.bind;
  http.port = options.port;
  http.workers = options.workers;
  http.socket_timeout = options.socket_timeout;
  http.announces_close = options.series >= 17;
  http.server_name = options.series >= 17 ? "Werkzeug/3.1.3 Python/3.13.5" : "Werkzeug/1.0.1 Python/3.9.2";
  parts.http = std::make_unique<HttpServer>(
      http, [&parts](const HttpRequest& request) { return parts.service->handle(request); });
  HttpServer& server = *parts.http;
  parts.service = std::make_unique<Service>(
      *parts.database, [&server](std::chrono::milliseconds time) { return server.wait(time); },
      [&server] { return server.counters(); }, [&server] { server.reset_counters(); });
  parts.service->extend_control(
      [&parts](const std::string& method, const std::string& path, const Json& body) -> std::optional<Json> {
        if (path != "/churn") return std::nullopt;
        return parts.churn_control(method, body);
      });
  parts.port = server.start();
  if (options.churn_per_second > 0) parts.churn_control("POST", {{"per_second", options.churn_per_second}});
  return parts.port;
}

void Server::stop() {
  {
    const std::lock_guard lock(parts_->churn_mutex);
    parts_->churn.reset();
  }
  if (!parts_->http || parts_->stopped) return;
  parts_->stopped = true;
  parts_->http->stop();
  if (!parts_->options.state.empty()) save_state(*parts_->database, parts_->options.state);
}

int Server::port() const {
  return parts_->port;
}

std::string Server::url() const {
  return "http://" + parts_->options.bind + ":" + std::to_string(parts_->port);
}

const Options& Server::options() const {
  return parts_->options;
}

nlohmann::ordered_json Server::control(const std::string& method, const std::string& path,
                                       const nlohmann::ordered_json& body) {
  if (!parts_->service) throw std::runtime_error("the server is not started");
  return parts_->service->control(method, path, body);
}

nlohmann::ordered_json Server::call(const std::string& model, const std::string& method,
                                    const nlohmann::ordered_json& args, const nlohmann::ordered_json& kwargs,
                                    std::int64_t uid) {
  if (!parts_->service) throw std::runtime_error("the server is not started");
  return parts_->service->call(uid, model, method, args, kwargs);
}

}  // namespace sandbox::odoo
