#include "app/selftest_target.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "connectors/catalog.h"
#include "http/client.h"
#include "pipeline/source.h"
#include "pipeline/target.h"

namespace dragoman::app {
namespace {

using nlohmann::json;
using pipeline::Delivered;

// There is nothing to read at it.
class NoSource final : public pipeline::Source {
 public:
  std::vector<std::string> default_models(std::stop_token) override { return {}; }
  std::optional<pipeline::Description> describe(const std::string&, std::optional<pipeline::Range>,
                                                std::stop_token) override {
    return std::nullopt;
  }
  std::int64_t count(const std::string&, const pipeline::Plan&, std::stop_token) override { return 0; }
  std::int64_t last_id(const std::string&, const pipeline::Plan&, std::stop_token) override { return 0; }
  std::unique_ptr<pipeline::Page> page(const std::string&, const pipeline::Plan&, pipeline::Range, std::int64_t,
                                       std::stop_token) override {
    refuse();
  }
  std::unique_ptr<pipeline::Page> read(const std::string&, const pipeline::Plan&, const std::vector<std::int64_t>&,
                                       std::stop_token) override {
    refuse();
  }
  Stamps stamps(const std::string&, const pipeline::Plan&, std::optional<Time>, pipeline::Range, std::int64_t,
                std::stop_token) override {
    return {};
  }
  std::vector<std::int64_t> existing(const std::string&, const std::vector<std::int64_t>&, std::stop_token) override {
    return {};
  }
  std::optional<std::string> binary(const std::string&, std::int64_t, const std::string&, std::stop_token) override {
    return std::nullopt;
  }
  std::string learnt() const override { return "{}"; }
  int places() const override { return 1; }
  std::int64_t calls() const override { return 0; }

 private:
  [[noreturn]] static void refuse() { throw Error(Error::Kind::not_found, "There is nothing to read in a selftest."); }
};

class RemoteTarget final : public pipeline::Target {
 public:
  explicit RemoteTarget(std::string url)
      : url_(std::move(url)), client_(http::make_client({.total_timeout = std::chrono::seconds(20)})) {}

  std::string system() const override { return "selftest"; }
  std::vector<Delivered> deliver(std::span<const pipeline::Outgoing> records, std::stop_token stop) override {
    json body = json::array();
    for (const auto& record : records)
      body.push_back({{"key", record.key},
                      {"version", record.version},
                      {"value", json::parse(record.content).at("values").at("value")}});
    const json answers = ask("/deliver", body, stop);
    std::vector<Delivered> out;
    for (const auto& answer : answers) {
      const std::string word = answer.at("what");
      out.push_back({.what = word == "created"     ? Delivered::What::created
                             : word == "updated"   ? Delivered::What::updated
                             : word == "unchanged" ? Delivered::What::unchanged
                                                   : Delivered::What::skipped,
                     .id = std::to_string(answer.at("id").get<std::int64_t>())});
    }
    return out;
  }
  std::vector<std::optional<pipeline::Found>> find(std::span<const Key> keys, std::stop_token stop) override {
    json body = json::array();
    for (const auto& key : keys) body.push_back(key.key);
    std::vector<std::optional<pipeline::Found>> out;
    try {
      for (const auto& answer : ask("/find", body, stop))
        if (answer.is_null())
          out.emplace_back();
        else
          out.push_back(pipeline::Found{.id = std::to_string(answer.at("id").get<std::int64_t>()),
                                        .version = answer.at("version").get<std::int64_t>()});
    } catch (const Error& error) {
      // A look changes nothing: whether it arrived does not matter.
      if (error.kind == Error::Kind::in_doubt) throw Error(Error::Kind::unavailable, error.message, error.detail);
      throw;
    }
    return out;
  }
  std::string child_model(const std::string&, const std::string&, std::stop_token) override { return {}; }
  std::string entity(const std::string& model) const override { return model; }

 private:
  json ask(const std::string& path, const json& body, std::stop_token stop) {
    http::Request request{.method = "POST", .target = url_ + path, .body = body.dump()};
    request.headers.add("Content-Type", "application/json");
    http::Response response;
    try {
      response = client_->send(request, stop);
    } catch (const Error& error) {
      if (error.kind == Error::Kind::cancelled && error.code == "sent")
        throw Error(Error::Kind::in_doubt, error.message, error.detail);
      throw;
    }
    if (response.status != 200)
      throw Error(Error::Kind::unavailable, fmt::format("The selftest's target answered {}.", response.status));
    return json::parse(response.body);
  }

  const std::string url_;
  const std::unique_ptr<http::Client> client_;
};

}  // namespace

pipeline::Connector selftest_connector() {
  pipeline::Connector connector;
  connector.kind = "selftest";
  connector.summary = "the remote of `dragoman selftest`";
  connector.settings = {{"url", "text", true, nullptr, "where it listens"}};
  connector.secret_doc = "none";
  connector.make_source = [](const pipeline::Connection&, const Secret&, Clock&) { return std::make_unique<NoSource>(); };
  connector.test = [](const pipeline::Connection&, const Secret&, Clock&, std::stop_token) { return pipeline::Probe{}; };
  connector.make_target = [](const pipeline::Connection& connection, const Secret&, Clock&) {
    return std::make_unique<RemoteTarget>(connection.settings.at("url").get<std::string>());
  };
  jobs::Kind kind;
  kind.name = "selftest.deliver";
  kind.summary = "Delivers to the remote of a selftest";
  kind.batch_max = 20;
  connector.kinds = {kind};
  connector.intake = kind.name;
  return connector;
}

pipeline::ConnectorList selftest_connectors() {
  auto all = connectors::catalog().all();
  all.push_back(selftest_connector());
  return pipeline::ConnectorList(std::move(all));
}

SelftestTarget::SelftestTarget()
    : server_({.port = 0}, {[this](http::Exchange exchange) { return answer(exchange.request); }, {}}) {}

void SelftestTarget::on_next_delivery(std::function<void()> act) {
  std::lock_guard lock(mutex_);
  act_ = std::move(act);
}

std::map<std::string, SelftestTarget::Record> SelftestTarget::records() const {
  std::lock_guard lock(mutex_);
  return {known_.begin(), known_.end()};
}

SelftestTarget::Counts SelftestTarget::counts() const {
  std::lock_guard lock(mutex_);
  return counts_;
}

http::Reply SelftestTarget::answer(const http::Request& request) {
  http::Reply reply;
  try {
    const json body = json::parse(request.body);
    std::lock_guard lock(mutex_);
    reply.response.body = (request.target == "/find" ? find(body) : deliver(body)).dump();
    reply.response.headers.add("Content-Type", "application/json");
  } catch (const std::exception& error) {
    reply.response.status = 500;
    reply.response.body = error.what();
  }
  return reply;
}

json SelftestTarget::deliver(const json& records) {
  if (const auto act = std::exchange(act_, {})) act();
  ++counts_.calls;
  json out = json::array();
  for (const auto& record : records) {
    const std::string key = record.at("key");
    const std::int64_t version = record.at("version");
    auto& known = known_[key];
    std::string what = "updated";
    if (version <= known.version) {
      what = version == known.version ? "unchanged" : "skipped";
      // One that was applied before: excused only where a look before said that it was not there.
      if (known.looked >= 0 && known.looked < version)
        ++counts_.late;
      else
        counts_.repeated.push_back(fmt::format("{} in version {}", key, version));
      known.looked = -1;
    } else {
      if (known.id == 0) {
        known.id = ++counts_.created;
        what = "created";
      } else {
        ++counts_.updated;
      }
      known.version = version;
      known.value = record.at("value");
    }
    out.push_back({{"what", what}, {"id", known.id}});
  }
  return out;
}

json SelftestTarget::find(const json& keys) {
  ++counts_.looks;
  json out = json::array();
  for (const auto& key : keys) {
    auto& known = known_[key.get<std::string>()];
    known.looked = known.version;
    out.push_back(known.id == 0 ? json(nullptr) : json{{"id", known.id}, {"version", known.version}});
  }
  return out;
}

}  // namespace dragoman::app
