#include "sandbox/cartona/server.h"

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace sandbox::cartona {

struct Server::Parts {
  Options options;
  std::unique_ptr<Service> service;
  std::unique_ptr<HttpServer> http;
  std::thread player;
  int port = 0;
};

Server::Server(Options options) : parts_(std::make_unique<Parts>()) {
  parts_->options = std::move(options);
}

Server::~Server() {
  stop();
}

int Server::start() {
  Parts& parts = *parts_;
  const std::string& prefix = parts.options.start.prefix;
  if (prefix.empty() || prefix.front() != '/' || prefix.back() != '/' || prefix == "/sandbox/") {
    throw std::runtime_error("the prefix must begin and end with a slash, and not be /sandbox/");
  }
  parts.http =
      std::make_unique<HttpServer>(HttpServer::Options{.bind = parts.options.bind, .port = parts.options.port},
                                   [&parts](const HttpRequest& request) { return parts.service->handle(request); });
  HttpServer& http = *parts.http;
  parts.service = std::make_unique<Service>(
      parts.options.start, [&http](std::chrono::milliseconds time) { return http.wait(time); },
      [&http] { return http.counters(); });
  Json scenario = parts.options.scenario;
  if (const std::string& path = parts.options.state; !path.empty() && std::filesystem::exists(path)) {
    std::uint64_t before = 0;
    try {
      std::ifstream in(path);
      before = parts.service->take_up(Json::parse(in));
    } catch (const std::exception& error) {
      throw std::runtime_error(path + " is no state of a stand-in Cartona: " + error.what());
    }
    // Another day, not the same one again.
    if (!scenario.is_null()) scenario["seed"] = scenario.value("seed", parts.options.start.seed) + before;
  }
  if (!scenario.is_null()) parts.service->control("POST", "/scenario", scenario);
  parts.port = http.start();
  parts.player = std::thread([&parts] { parts.service->play_until_stopped(); });
  return parts.port;
}

void Server::stop() {
  if (parts_->http) parts_->http->stop();
  if (!parts_->player.joinable()) return;
  parts_->service->stop_playing();
  parts_->player.join();
  if (const std::string& path = parts_->options.state; !path.empty()) {
    std::ofstream out(path + ".new", std::ios::trunc);
    out << parts_->service->kept().dump(-1, ' ', false, Json::error_handler_t::replace);
    out.close();
    if (!out) throw std::runtime_error("cannot write " + path);
    std::filesystem::rename(path + ".new", path);
  }
}

int Server::port() const {
  return parts_->port;
}

std::string Server::base_url() const {
  return "http://" + parts_->options.bind + ":" + std::to_string(parts_->port) + parts_->options.start.prefix;
}

std::string Server::control_url() const {
  return "http://" + parts_->options.bind + ":" + std::to_string(parts_->port) + "/sandbox";
}

Json Server::control(const std::string& method, const std::string& path, const Json& body) {
  if (!parts_->service) throw std::runtime_error("the server is not started");
  return parts_->service->control(method, path, body);
}

}  // namespace sandbox::cartona
