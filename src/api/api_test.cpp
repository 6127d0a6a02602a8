#include "api/api.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "api/metrics.h"
#include "connectors/catalog.h"
#include "fakes/fake_hub.h"
#include "fakes/golden.h"
#include "fakes/raw_http.h"
#include "http/server.h"

namespace dragoman::api {
namespace {

using nlohmann::json;
using tests::RawHttp;

class ApiTest : public testing::Test {
 protected:
  explicit ApiTest(Settings settings = {}) : settings_(std::move(settings)) {
    api_.add_routes(router_);
    router_.observe([this](const http::Served& served) { metrics_.served(served); });
    admin_ = hub_.tokens.create("admin", access::Role::admin, {}).secret;
    viewer_ = hub_.tokens.create("viewer", access::Role::viewer, {}).secret;
  }

  http::Response ask(std::string method, std::string target, std::string body = {}, http::Headers headers = {}) {
    http::Exchange exchange;
    exchange.request = {std::move(method), std::move(target), std::move(headers), std::move(body)};
    exchange.peer = "192.0.2.1";
    if (auto reply = router_.at_once(exchange)) return there(*std::move(reply));
    return there(router_.answer(std::move(exchange)));
  }
  // What a reply says, when it is there.
  static http::Response there(http::Reply reply) {
    if (!reply.later) return std::move(reply.response);
    std::promise<http::Response> said;
    reply.later([&](http::Reply::Result result) { said.set_value(result().response); });
    return said.get_future().get();
  }
  // Whether it is answered on the io thread.
  bool at_once(std::string method, std::string target, std::string body = {}, http::Headers headers = {}) {
    http::Exchange exchange;
    exchange.request = {std::move(method), std::move(target), std::move(headers), std::move(body)};
    auto reply = router_.at_once(exchange);
    if (reply) there(*std::move(reply));
    return reply.has_value();
  }
  http::Headers as(const Secret& token) {
    return {{"Authorization", "Bearer " + token.reveal()}, {"Content-Type", "application/json"}};
  }
  static std::string code(const http::Response& response) {
    const json parsed = json::parse(response.body, nullptr, false);
    return parsed.is_object() && parsed.contains("error") ? parsed["error"].value("code", "") : "";
  }

  tests::FakeHub hub_;
  Settings settings_;
  Metrics metrics_{"1.2.3"};
  Api api_{settings_, hub_.operations, hub_.services, metrics_};
  http::Router router_{hub_.clock, hub_.random};
  Secret admin_, viewer_;
};

TEST_F(ApiTest, NeedsATokenThatIsKnown) {
  const auto none = ask("GET", "/api/v1/status");
  EXPECT_EQ(none.status, 401);
  EXPECT_EQ(none.headers.find("WWW-Authenticate"), "Bearer");
  EXPECT_EQ(code(none), "no_token");
  EXPECT_EQ(code(ask("GET", "/api/v1/status", {}, {{"Authorization", "Bearer dgm_nonsense"}})), "bad_token");
  EXPECT_EQ(code(ask("GET", "/api/v1/status", {}, {{"Authorization", "Basic " + admin_.reveal()}})), "no_token");
  const auto two = ask("GET", "/api/v1/status", {},
                       {{"Authorization", "Bearer " + admin_.reveal()}, {"authorization", "Bearer dgm_nonsense"}});
  EXPECT_EQ(two.status, 400);
  EXPECT_EQ(code(two), "two_tokens") << "whoever stands between may have looked at the other one";
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, as(viewer_)).status, 200);
}

TEST_F(ApiTest, ARoleMayDoWhatItMayAndNoMore) {
  for (const auto& operation : hub_.operations) {
    if (operation.permission == access::Role::viewer) continue;
    const auto answer = ask(operation.method, "/api/v1" + operation.path, {}, as(viewer_));
    EXPECT_EQ(answer.status, 403) << operation.name;
    EXPECT_EQ(code(answer), "role");
  }
}

TEST_F(ApiTest, RefusesInputWithTheRightStatus) {
  const auto admin = as(admin_);
  EXPECT_EQ(ask("POST", "/api/v1/connections", "{", admin).status, 422);
  EXPECT_EQ(code(ask("POST", "/api/v1/connections", std::string(50'000, '['), admin)), "json_depth");
  EXPECT_EQ(code(ask("POST", "/api/v1/connections", "{\"name\":\"\xff\"}", admin)), "json_utf8");
  EXPECT_EQ(code(ask("POST", "/api/v1/connections", "{\"name\":\"a\",\"name\":\"b\"}", admin)), "duplicate");
  EXPECT_EQ(ask("POST", "/api/v1/connections", "[1]", admin).status, 422);
  EXPECT_EQ(ask("POST", "/api/v1/connections", "{}", {{"Authorization", "Bearer " + admin_.reveal()}}).status, 415);
  EXPECT_EQ(ask("POST", "/api/v1/connections", "{}",
                {{"Authorization", "Bearer " + admin_.reveal()}, {"Content-Type", "text/plain"}})
                .status,
            415);
  auto compressed = as(admin_);
  compressed.add("Content-Encoding", "gzip");
  EXPECT_EQ(code(ask("POST", "/api/v1/connections", "{}", compressed)), "content_encoding");
  compressed.add("Idempotency-Key", "k");
  EXPECT_EQ(code(ask("POST", "/api/v1/inbox/main", "{}", compressed)), "content_encoding");
  EXPECT_EQ(ask("GET", "/api/v1/changes?since=x", {}, admin).status, 422);
  EXPECT_EQ(ask("GET", "/api/v1/changes?since=-1", {}, admin).status, 422);
  EXPECT_EQ(ask("GET", "/api/v1/changes?since=1&since=2", {}, admin).status, 422);
  EXPECT_EQ(ask("GET", "/api/v1/changes?snice=1", {}, admin).status, 422);
  EXPECT_EQ(ask("GET", "/api/v1/connections/nobody", {}, admin).status, 404);
  EXPECT_EQ(ask("PATCH", "/api/v1/connections/a", "{\"name\":\"b\"}", admin).status, 422) << "the name is in the path";
  EXPECT_EQ(ask("PUT", "/api/v1/connections", {}, admin).status, 405);
  EXPECT_EQ(ask("GET", "/api/v1/../../etc/passwd", {}, admin).status, 422);
  EXPECT_EQ(ask("GET", "/api/v1/nothing", {}, admin).status, 404);
}

TEST_F(ApiTest, AnEncodedSlashReachesTheOperationAsPartOfTheName) {
  const auto answer = ask("GET", "/api/v1/connections/a%2Fb", {}, as(admin_));
  EXPECT_EQ(answer.status, 404);
  EXPECT_NE(answer.body.find("a/b"), std::string::npos) << answer.body;
}

TEST_F(ApiTest, ConflictsAndRemoteRefusalsHaveTheirStatus) {
  const auto admin = as(admin_);
  const std::string body = R"({"name":"main","url":"x","secret":"open sesame"})";
  const auto added = ask("POST", "/api/v1/connections", body, admin);
  EXPECT_EQ(added.status, 200) << added.body;
  EXPECT_EQ(added.headers.find("Cache-Control"), "no-store");
  EXPECT_EQ(ask("POST", "/api/v1/connections", body, admin).status, 409);
  EXPECT_EQ(ask("PATCH", "/api/v1/connections/main", R"({"secret":"wrong"})", admin).status, 200);
  const auto refused = ask("POST", "/api/v1/connections/main/sync", {}, admin);
  EXPECT_TRUE(refused.status == 502 || refused.body.find("refuses this password") != std::string::npos) << refused.body;
}

TEST_F(ApiTest, RecordsAreTakenInOnceUnderTheirKey) {
  hub_.connections.add("main", "fake", {{"url", "x"}}, Secret("open sesame"));
  const std::string body = R"({"model":"thing","key":"A","values":{"name":"a","price":9.90}})";
  const auto put = [&](const std::string& text, std::optional<std::string> key) {
    auto headers = as(admin_);
    if (key) headers.add("idempotency-key", *key);
    return ask("POST", "/api/v1/inbox/main", text, headers);
  };
  const auto first = put(body, "k1");
  ASSERT_EQ(first.status, 202) << first.body;
  const json answer = json::parse(first.body);
  EXPECT_EQ(put(body, "k1").body, first.body) << "the same answer, byte for byte";
  EXPECT_EQ(put(R"({"values":{"price":9.9,"name":"a"},"key":"A","model":"thing"})", "k1").body, first.body)
      << "the same JSON is the same body";
  const auto reused = put(R"({"model":"thing","key":"A","values":{"name":"b"}})", "k1");
  EXPECT_EQ(reused.status, 422);
  EXPECT_EQ(code(reused), "idempotency_key_reused");
  for (const char* other :
       {R"({"model":"thing","key":"A","version":1,"values":{"name":"a","price":9.90}})",
        R"({"model":"thing","key":"B","values":{"name":"a","price":9.90}})",
        R"({"model":"thing","key":"A","recreate":true,"values":{"name":"a","price":9.90}})",
        R"({"model":"thing","records":[{"key":"A","values":{"name":"a","price":9.90}},{"key":"B","values":{}}]})"})
    EXPECT_EQ(code(put(other, "k1")), "idempotency_key_reused") << other;
  EXPECT_EQ(put(body, std::nullopt).status, 422);
  EXPECT_EQ(put(body, "").status, 422);
  EXPECT_EQ(code(put(body, std::string(300, 'k'))), "idempotency_key");
  EXPECT_EQ(put(R"({"model":"thing","key":"A","values":{},"idempotency_key":"k2"})", std::nullopt).status, 422)
      << "from the header only";
  auto twice = as(admin_);
  twice.add("Idempotency-Key", "a");
  twice.add("Idempotency-Key", "b");
  EXPECT_EQ(code(ask("POST", "/api/v1/inbox/main", body, twice)), "duplicate");

  const auto shown = ask("GET", answer.at("location"), {}, as(viewer_));
  ASSERT_EQ(shown.status, 200) << shown.body;
  EXPECT_EQ(json::parse(shown.body).at("items").at(0).at("state"), "waiting");
  EXPECT_EQ(ask("GET", "/api/v1/inbox/main/999", {}, as(viewer_)).status, 404);
  EXPECT_EQ(json::parse(ask("GET", "/api/v1/inbox", {}, as(viewer_)).body).at("entries").size(), 1u);
}

TEST_F(ApiTest, RecordsThatAreNoneAreRefusedBeforeAnythingIsStored) {
  hub_.connections.add("main", "fake", {{"url", "x"}}, Secret("open sesame"));
  int number = 0;
  const auto refused = [&](const std::string& body, const std::string& part) {
    auto headers = as(admin_);
    headers.add("Idempotency-Key", "r" + std::to_string(++number));
    const auto answer = ask("POST", "/api/v1/inbox/main", body, headers);
    EXPECT_EQ(answer.status, 422) << body << answer.body;
    EXPECT_NE(answer.body.find(part), std::string::npos) << body << answer.body;
  };
  refused(R"({"key":"A","values":{}})", "model");
  refused(R"({"model":"thing","values":{}})", "key");
  refused(R"({"model":"thing","key":"A"})", "values");
  refused(R"({"model":"thing","key":"A","values":[]})", "values");
  refused(R"({"model":"thing","key":"A","values":{},"version":0})", "version");
  refused(R"({"model":"thing","key":"A","values":{},"call":"_private"})", "public method");
  refused(R"({"model":"thing","key":"A","values":{},"verison":1})", "Did you mean `version`?");
  refused(R"({"model":"thing","key":"A\u0000","values":{}})", "NUL");
  refused(R"({"model":"thing","records":[]})", "no record");
  refused(R"({"model":"thing","records":[1]})", "JSON objects");
  refused(R"({"model":"thing","records":[{"key":"A","values":{},"verson":1}]})", "record 0");
  refused(R"({"model":"thing","key":"A","records":[{"key":"A","values":{}}]})", "several");
  refused(R"({"model":"thing","key":"A","values":{},"children":{"lines":[{"values":{}}]}})", "key");
  refused(R"({"model":"thing","key":"A","values":{"lines":1},"children":{"lines":[]}})", "both");
  refused(
      R"({"model":"thing","key":"A","values":{},"children":{"l":[{"key":"1","values":{}},{"key":"1","values":{}}]}})",
      "twice");
  auto viewer = as(viewer_);
  viewer.add("Idempotency-Key", "v");
  EXPECT_EQ(ask("POST", "/api/v1/inbox/main", R"({"model":"thing","key":"A","values":{}})", viewer).status, 403);
  EXPECT_EQ(json::parse(ask("GET", "/api/v1/inbox", {}, as(viewer_)).body).at("entries").size(), 0u);
}

TEST_F(ApiTest, HealthAndReadinessNeedNoToken) {
  EXPECT_EQ(ask("GET", "/healthz").status, 200);
  EXPECT_EQ(ask("GET", "/readyz").status, 200);
  EXPECT_TRUE(at_once("GET", "/healthz"));
  EXPECT_FALSE(at_once("GET", "/readyz"));
  EXPECT_EQ(ask("GET", "/metrics").status, 401) << "not from this machine";
}

TEST_F(ApiTest, StatusNeedsNoThreadWhileWhatItTellsIsInMemory) {
  const auto status = [&] { return at_once("GET", "/api/v1/status", {}, as(viewer_)); };
  EXPECT_FALSE(status()) << "the token is not known yet";
  // What is in memory is young for a quarter of a second, which may pass between the two on a slow machine.
  bool found = false;
  while (!found) {
    ASSERT_EQ(ask("GET", "/api/v1/status", {}, as(viewer_)).status, 200);
    found = status();
  }
  EXPECT_FALSE(at_once("GET", "/api/v1/status")) << "who is refused is so by a thread";
  EXPECT_FALSE(at_once("GET", "/api/v1/status?x=1", {}, as(viewer_)));
  EXPECT_FALSE(at_once("POST", "/api/v1/status", {}, as(viewer_)));
  EXPECT_FALSE(at_once("GET", "/api/v1/tokens", {}, as(admin_)));
  hub_.tokens.revoke(hub_.tokens.list().back().prefix);
  EXPECT_FALSE(status());
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, as(viewer_)).status, 401);
}

class SlowApiTest : public ApiTest {
 protected:
  SlowApiTest()
      : ApiTest({.per_token = {.per_second = 0.001, .burst = 2}, .per_address = {.per_second = 0.001, .burst = 3}}) {}
};

TEST_F(SlowApiTest, TooManyRequestsAreToldWhenToComeBack) {
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, as(viewer_)).status, 200);
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, as(viewer_)).status, 200);
  const auto limited = ask("GET", "/api/v1/status", {}, as(viewer_));
  EXPECT_EQ(limited.status, 429);
  EXPECT_EQ(code(limited), "rate_limit");
  EXPECT_GT(std::stoi(std::string(*limited.headers.find("Retry-After"))), 100);
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, as(admin_)).status, 200) << "another token has its own";
}

TEST_F(SlowApiTest, GuessingTokensIsSlowAndDoesNotStopThoseWhoHaveOne) {
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(ask("GET", "/api/v1/status", {}, {{"Authorization", "Bearer dgm_guess" + std::to_string(i)}}).status,
              401);
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, {{"Authorization", "Bearer dgm_guess"}}).status, 429);
  EXPECT_EQ(ask("GET", "/api/v1/status", {}, as(admin_)).status, 200);
}

class ApiServerTest : public ApiTest {
 protected:
  ApiServerTest() {
    hub_.connections.add("main", "fake", {{"url", "x"}}, Secret("open sesame"));
    hub_.sync.run("main", {}, {}, {});
  }
  std::string request(const std::string& target, const std::string& more = {}) {
    return "GET " + target + " HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer " + viewer_.reveal() + "\r\n" + more +
           "\r\n";
  }

  http::Server server_{{.port = 0},
                       {[this](http::Exchange exchange) { return router_.answer(std::move(exchange)); },
                        [this](http::Exchange& exchange) { return router_.at_once(exchange); }}};
};

TEST_F(ApiServerTest, ChangesComeAsEventsAndGoOnAfterTheLastOneSeen) {
  RawHttp first(server_.port());
  first.send(request("/api/v1/changes?since=0&limit=2", "Accept: text/event-stream\r\n"));
  EXPECT_NE(first.until("\r\n\r\n").find("Content-Type: text/event-stream"), std::string::npos);
  const std::string events = first.until("id: 3\nevent: create\n");
  EXPECT_NE(events.find("id: 1\nevent: create\ndata: {"), std::string::npos);
  EXPECT_LT(events.find("id: 1\n"), events.find("id: 2\n"));

  RawHttp again(server_.port());
  again.send(request("/api/v1/changes", "Accept: text/event-stream\r\nLast-Event-ID: 2\r\n"));
  const std::string rest = again.until("id: 3\nevent: create\n");
  EXPECT_EQ(rest.find("id: 1\n"), std::string::npos);
  EXPECT_EQ(rest.find("id: 2\n"), std::string::npos);

  RawHttp wrong(server_.port());
  EXPECT_EQ(wrong.ask(request("/api/v1/changes", "Accept: text/event-stream\r\nLast-Event-ID: x\r\n")).status, 422);
}

TEST_F(ApiServerTest, AReaderWhoIsAheadOfTheFeedIsToldThatItIsAnother) {
  for (const char* headers : {"", "Accept: text/event-stream\r\n"}) {
    RawHttp ahead(server_.port());
    const auto answer = ahead.ask(request("/api/v1/changes?since=999999", headers));
    EXPECT_EQ(answer.status, 409) << headers;
    const json error = json::parse(answer.body)["error"];
    EXPECT_EQ(error["code"], "feed_behind");
    EXPECT_NE(error["message"].get<std::string>().find("newest number is 3, older than yours (999999)"),
              std::string::npos);
    EXPECT_NE(error["message"].get<std::string>().find("Start again from 3"), std::string::npos);
  }
  RawHttp last(server_.port());
  EXPECT_EQ(last.ask(request("/api/v1/changes?since=3")).status, 200) << "who has read all of it is not ahead";
}

TEST_F(ApiServerTest, AChangeReachesThoseWhoFollowAndThoseWhoWait) {
  RawHttp follower(server_.port()), waiter(server_.port());
  follower.send(request("/api/v1/changes?since=3", "Accept: text/event-stream\r\n"));
  follower.until(": still here");
  waiter.send(request("/api/v1/changes?since=3&wait=60"));
  hub_.connections.add("other", "fake", {{"url", "x"}}, Secret("open sesame"));
  hub_.sync.run("other", {}, {}, {});
  EXPECT_NE(follower.until("id: 4\n").find("id: 4\n"), std::string::npos);
  const auto answer = waiter.answer();
  EXPECT_EQ(json::parse(answer.body)["changes"][0]["number"], 4);
}

TEST_F(ApiServerTest, OnlySomeMayWaitAtOnceSoThatOthersGetThrough) {
  std::vector<std::unique_ptr<RawHttp>> waiters;
  // One more than may; the server answers each connection on its own, so any one of them is the one refused.
  for (int i = 0; i <= settings_.slow_max; ++i) {
    waiters.push_back(std::make_unique<RawHttp>(server_.port()));
    waiters.back()->send(request("/api/v1/changes?since=3&wait=60"));
  }
  RawHttp other(server_.port());
  EXPECT_EQ(other.ask(request("/api/v1/status")).status, 200);
  EXPECT_EQ(other.ask(request("/api/v1/changes?since=3")).status, 200) << "not waiting is not slow";
  hub_.connections.add("other", "fake", {{"url", "x"}}, Secret("open sesame"));
  hub_.sync.run("other", {}, {}, {});
  std::map<int, int> statuses;
  for (auto& waiter : waiters) ++statuses[waiter->answer().status];
  EXPECT_EQ(statuses[429] + statuses[200], settings_.slow_max + 1);
  EXPECT_LE(statuses[429], 1);
}

TEST_F(ApiServerTest, ServesItsOwnDescription) {
  RawHttp client(server_.port());
  const auto answer = client.ask("GET /api/v1/openapi.json HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(json::parse(answer.body)["openapi"], "3.1.0");
  EXPECT_EQ(client.ask("GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").status, 200) << "from this machine";
}

// Names and labels without the values, sorted: what dashboards are built on.
std::string shape_of_metrics(const std::string& text) {
  std::set<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("# HELP")) continue;
    lines.insert(line.starts_with('#') ? line : line.substr(0, line.rfind(' ')));
  }
  std::string out;
  for (const auto& line : lines) out += line + "\n";
  return out;
}

TEST(Metrics, NamesAndLabelsAreTheCommittedOnes) {
  Metrics metrics("1.2.3");
  metrics.served({.method = "GET", .route = "/api/v1/status", .status = 200, .took = Micros(1500)});
  metrics.served({.method = "HEAD", .route = "/api/v1/status", .status = 200});
  metrics.served({.method = "GET", .route = "", .status = 404});
  metrics.served({.method = "BREW", .route = "/api/v1/status", .status = 405});
  metrics.on_scrape([] {
    Metrics::Snapshot snapshot;
    for (const char* phase : {"pulling", "following", "sweeping", "waiting", "unavailable"})
      snapshot.phases.push_back({phase, 1});
    return snapshot;
  });
  const std::string text = metrics.text();
  EXPECT_NE(text.find("dragoman_http_requests_total{route=\"GET /api/v1/status\",status=\"2xx\"} 2\n"),
            std::string::npos);
  EXPECT_EQ(text.find("BREW"), std::string::npos);
  tests::expect_golden(SOURCE_DIR "/contract/metrics.txt", shape_of_metrics(text));
}

TEST(OpenApi, DescribesEveryOperationWithItsInputs) {
  const auto connectors = connectors::catalog();
  const auto operations = ops::catalog(connectors);
  const json document = json::parse(openapi(operations, "1"));
  for (const auto& operation : operations) {
    std::string method = operation.method;
    std::transform(method.begin(), method.end(), method.begin(), [](char c) { return static_cast<char>(c | 0x20); });
    const json& entry = document["paths"][operation.path][method];
    ASSERT_TRUE(entry.is_object()) << operation.name;
    std::set<std::string> described;
    if (entry.contains("parameters"))
      for (const auto& parameter : entry["parameters"]) described.insert(parameter["name"].get<std::string>());
    if (entry.contains("requestBody"))
      for (const auto& [name, _] : entry["requestBody"]["content"]["application/json"]["schema"]["properties"].items())
        described.insert(name);
    for (const char* status : {"413", "415"})
      EXPECT_EQ(entry["responses"].contains(status), entry.contains("requestBody")) << operation.name << " " << status;
    for (const auto& field : operation.inputs)
      EXPECT_TRUE(described.count(field.header.empty() ? field.name : field.header)) << operation.name << field.name;
  }
}

}  // namespace
}  // namespace dragoman::api
