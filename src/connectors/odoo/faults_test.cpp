// Capture from a stand-in Odoo that misbehaves: nothing may be lost, whatever happens on the wire.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "connectors/catalog.h"
#include "notify/alert.h"
#include "pipeline/connections.h"
#include "pipeline/sync.h"
#include "sandbox/odoo/server.h"
#include "store/store.h"

namespace dragoman::connectors {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;
using pipeline::CertifyOptions;
using namespace std::chrono_literals;

std::uint64_t seed() {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t value = given ? std::strtoull(given, nullptr, 10) : SystemRandom().next() % 1'000'000;
  std::cout << "seed " << value << " (DRAGOMAN_SEED=" << value << " runs it again)\n";
  return value;
}

class StandIn : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    odoo_ = std::make_unique<sandbox::odoo::Server>(sandbox::odoo::Options{.series = GetParam(), .workers = 4});
    odoo_->start();
    store_ = store::open({.url = "sqlite::memory:"}, clock_);
    keys_.emplace(access::KeyRing::open_file(::testing::TempDir() + "faults-" + random_hex(random_, 6), random_));
    connections_.emplace(*store_, *keys_, clock_);
    sync_.emplace(*store_, *connections_, connectors_, clock_, random_,
                  pipeline::SyncSettings{.page_records_max = 100});
    records_.emplace(*store_);
  }

  void connect(const std::string& name, json more, const std::string& login = "admin",
               const std::string& secret = "admin") {
    json settings{{"url", odoo_->url()}, {"database", odoo_->options().db}, {"login", login}};
    settings.update(more);
    connections_->add(name, "odoo", connectors_.check_settings("odoo", settings), Secret(secret));
  }
  json partners_only() const { return {{"default_models", false}, {"models", {"res.partner"}}}; }

  void fault(ordered_json match, ordered_json action) {
    odoo_->control("POST", "/faults", {{"match", std::move(match)}, {"action", std::move(action)}});
  }
  void no_faults() { odoo_->control("DELETE", "/faults", ordered_json::object()); }

  std::int64_t create(const ordered_json& values) {
    const ordered_json ids = odoo_->call("res.partner", "create", ordered_json::array({ordered_json::array({values})}),
                                         ordered_json::object());
    return ids.is_array() ? ids.at(0).get<std::int64_t>() : ids.get<std::int64_t>();
  }
  std::set<std::int64_t> there(const std::string& model) {
    std::set<std::int64_t> ids;
    const ordered_json answer = odoo_->control("GET", "/times", {{"model", model}});
    for (const auto& pair : answer.at("times")) ids.insert(pair.at(0).get<std::int64_t>());
    return ids;
  }
  std::set<std::int64_t> here(const std::string& connection, const std::string& model) {
    std::set<std::int64_t> ids;
    try {
      for (const auto& change : records_->list(connection, model, {.limit = 10'000'000, .bodies = false}))
        ids.insert(change.external_id);
    } catch (const Error& error) {
      if (error.kind != Error::Kind::not_found) throw;  // never captured
    }
    return ids;
  }
  // As the follower does: again and again, whatever goes wrong.
  pipeline::RunResult run_until_it_works(const std::string& name) {
    for (int tries = 0; tries < 400; ++tries) {
      try {
        auto result = sync_->run(name, {}, {}, {});
        if (result.errors.empty()) return result;
        ++failures_;
      } catch (const Error& error) {
        EXPECT_NE(error.kind, Error::Kind::bug) << error.message << " " << error.detail;
        EXPECT_NE(error.kind, Error::Kind::auth) << error.message;
        ++failures_;
      }
    }
    ADD_FAILURE() << "400 runs, none without an error";
    return {};
  }

  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<sandbox::odoo::Server> odoo_;
  const pipeline::ConnectorList connectors_ = catalog();
  std::unique_ptr<store::Store> store_;
  std::optional<access::KeyRing> keys_;
  std::optional<pipeline::Connections> connections_;
  std::optional<pipeline::SyncService> sync_;
  std::optional<pipeline::Records> records_;
  int failures_ = 0;
};

TEST_P(StandIn, APullThroughEveryKindOfFaultHoldsEveryRecord) {
  odoo_->control("POST", "/fill", {{"model", "res.partner"}, {"count", 3000}, {"seed", 7}});
  connect("main", partners_only());
  sync_->run("main", {"res.company"}, {}, {});  // logged in, described
  const auto number = seed();
  const std::vector<ordered_json> actions{
      {{"kind", "reset_before"}},
      {{"kind", "reset_after_commit"}},
      {{"kind", "worker_killed"}},
      {{"kind", "status"}, {"status", 502}, {"body", "<html>Bad Gateway</html>"}, {"content_type", "text/html"}},
      {{"kind", "status"}, {"status", 500}, {"body", "<html>Oops</html>"}, {"content_type", "text/html"}},
      {{"kind", "status"}, {"status", 503}},
      {{"kind", "cut"}, {"at", 1000}},
      {{"kind", "truncated"}},
      {{"kind", "invalid_utf8"}}};
  int n = 0;
  for (const auto& action : actions)
    fault({{"model", "res.partner"}, {"probability", 0.02}, {"seed", number + static_cast<std::uint64_t>(++n)}},
          action);
  run_until_it_works("main");
  no_faults();
  run_until_it_works("main");
  EXPECT_EQ(here("main", "res.partner"), there("res.partner"));
  const auto certificate =
      sync_->certify("main", {.models = {"res.partner"}, .bodies = CertifyOptions::Bodies::all}, {}).at(0);
  EXPECT_EQ(certificate.differences.size(), 0u);
  for (const auto& change : records_->changes({.limit = 1'000'000}).changes)
    EXPECT_EQ(change.version, 1) << "a fault made a version";
  std::cout << failures_ << " runs failed on the way\n";
}

TEST_P(StandIn, WhatIsNeverReadableIsSaidAndTheRestIsHere) {
  odoo_->control("POST", "/fill", {{"model", "res.partner"}, {"count", 300}, {"seed", 7}});
  connect("main", partners_only());
  const auto id = create({{"name", "Odd Trading"}});
  sync_->run("main", {"res.partner"}, {}, {});
  EXPECT_TRUE(here("main", "res.partner").contains(id));
  fault({{"model", "res.partner"}, {"method", "search_read"}}, {{"kind", "deep"}});
  fault({{"model", "res.partner"}, {"method", "read"}}, {{"kind", "deep"}});
  const auto result = sync_->run("main", {"res.partner"}, {.full = true}, {});
  EXPECT_FALSE(result.errors.empty());
  no_faults();
  EXPECT_TRUE(sync_->run("main", {"res.partner"}, {}, {}).errors.empty());
  EXPECT_EQ(here("main", "res.partner"), there("res.partner"));
}

TEST_P(StandIn, IdsOver32BitsAreHeldAsTheyAre) {
  connect("main", partners_only());
  odoo_->control("POST", "/sql/insert",
                 {{"model", "res.partner"}, {"id", 5'000'000'000}, {"values", {{"name", "Far Trading"}}}});
  const auto result = sync_->run("main", {"res.partner"}, {}, {});
  if (GetParam() == 14) {  // its database has no such numbers, and says so when asked for one
    EXPECT_FALSE(result.errors.empty());
    return;
  }
  EXPECT_TRUE(result.errors.empty());
  EXPECT_NE(records_->show("main", "res.partner", 5'000'000'000, std::nullopt).body->find("\"id\": 5000000000"),
            std::string::npos);
}

TEST_P(StandIn, ALimitedAccountHasWhatItMayReadAndIsToldTheRest) {
  connect("limited", json::object(), "limited", odoo_->options().limited_password);
  const auto result = sync_->run("limited", {}, {}, {});
  EXPECT_TRUE(result.errors.empty()) << result.errors.front();
  EXPECT_EQ(here("limited", "product.template"), there("product.template"));
  int unavailable = 0;
  for (const auto& model : records_->models("limited", false))
    if (model.state == "unavailable") {
      ++unavailable;
      EXPECT_FALSE(model.reason.empty()) << model.name;
    }
  EXPECT_GT(unavailable, 0);
  EXPECT_TRUE(sync_->test("limited", {}).ok());
}

TEST_P(StandIn, AFieldAddedLaterIsReadForEveryRecordAndOneRemovedIsNoError) {
  connect("main", partners_only());
  sync_->run("main", {"res.partner"}, {}, {});
  odoo_->control("POST", "/schema/field",
                 {{"model", "res.partner"},
                  {"name", "x_route"},
                  {"attributes", {{"type", "char"}, {"string", "Route"}, {"store", true}}}});
  const auto added = sync_->run("main", {"res.partner"}, {}, {});
  EXPECT_EQ(added.changed, static_cast<std::int64_t>(there("res.partner").size()));
  EXPECT_EQ(records_->schemas("main", "res.partner").back().difference["added"], json({"x_route"}));
  odoo_->control("DELETE", "/schema/field", {{"model", "res.partner"}, {"name", "x_route"}});
  EXPECT_TRUE(sync_->run("main", {"res.partner"}, {}, {}).errors.empty());
  EXPECT_EQ(records_->schemas("main", "res.partner").back().difference["removed"], json({"x_route"}));
}

TEST_P(StandIn, OneCompanysRecordsDoNotShowInAnothersView) {
  connect("main", {{"organisations", {{"first", {1}}, {"second", {999'999}}}}});
  sync_->run("main", {}, {}, {});
  const auto companies = here("main", "res.company");
  std::size_t seen = 0;
  for (const std::int64_t company : companies)
    for (const auto& change : records_->list("main", "sale.order", {.limit = 100'000, .view = {{company}}})) {
      EXPECT_EQ(change.company_id, company);
      ++seen;
    }
  EXPECT_EQ(seen, here("main", "sale.order").size());
  const pipeline::CompanyView second{connections_->companies_of("main", "second")};
  EXPECT_TRUE(records_->list("main", "sale.order", {.view = second}).empty());
  // What Odoo shares between companies is in every view; what has no company at all is in none.
  EXPECT_FALSE(records_->list("main", "res.partner", {.view = second}).empty());
  EXPECT_TRUE(records_->list("main", "product.attribute", {.view = second}).empty());
  for (const auto& change :
       records_->changes({.limit = 100'000, .model = "sale.order", .view = {{*companies.begin()}}}).changes)
    EXPECT_EQ(change.company_id, *companies.begin());
  const auto order = *here("main", "sale.order").begin();
  EXPECT_NO_THROW(
      records_->show("main", "sale.order", order, std::nullopt, {connections_->companies_of("main", "first")}));
  EXPECT_THROW(records_->show("main", "sale.order", order, std::nullopt, second), Error);
  EXPECT_TRUE(records_->history("main", "sale.order", order, 10, second).empty());
  EXPECT_THROW(connections_->companies_of("main", "third"), Error);
}

TEST_P(StandIn, SettingsThatCannotBeRightAreRefusedBeforeAnythingIsStored) {
  const auto refused = [&](json settings) {
    json all{{"url", odoo_->url()}, {"database", "d"}, {"login", "l"}};
    all.update(settings);
    try {
      connectors_.check_settings("odoo", all);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::invalid) << settings.dump();
      EXPECT_EQ(error.message.find("hunter2"), std::string::npos);
      return true;
    }
    return false;
  };
  EXPECT_FALSE(refused(json::object()));
  EXPECT_FALSE(refused({{"url", "https://erp.example.com:8443/"}}));
  EXPECT_FALSE(refused({{"marketplace_fields", {{"sale.order", {{"cartona_id", "x_studio_id"}}}}}}));
  for (const json& settings : std::vector<json>{{{"url", "erp.example.com"}},
                                                {{"url", ""}},
                                                {{"url", "ftp://erp.example.com"}},
                                                {{"url", "http://"}},
                                                {{"url", "http://user:hunter2@erp.example.com"}},
                                                {{"url", "http://erp.example.com\r\nX: y"}},
                                                {{"url", "http://erp.example.com/?db=x"}},
                                                {{"transport", "carrier pigeon"}},
                                                {{"workers", -5}},
                                                {{"timeout_seconds", 0}},
                                                {{"bulk_share", "some"}},
                                                {{"binaries", "maybe"}},
                                                {{"per_model", {{"res.partner", {{"feilds", 1}}}}}},
                                                {{"organisations", {{"north", "b"}}}},
                                                {{"companies", {-3}}},
                                                {{"marketplace_fields", {{"sale.ordre", {{"cartona_id", "x_a"}}}}}},
                                                {{"marketplace_fields", {{"sale.order", {{"cartona", "x_a"}}}}}},
                                                {{"marketplace_fields", {{"sale.order", {{"cartona_id", "x a"}}}}}},
                                                {{"marketplace_fields", {{"sale.order", "x_a"}}}},
                                                {{"ca_file", "/nonexistent/ca.pem"}}})
    EXPECT_TRUE(refused(settings)) << settings.dump();
}

TEST_P(StandIn, AFieldThatIsThereForSomethingElseIsRefusedWithTheReason) {
  const auto refusal = [&](const char* model, json fields) -> std::string {
    try {
      connectors_.check_settings("odoo", {{"url", odoo_->url()},
                                          {"database", "d"},
                                          {"login", "l"},
                                          {"marketplace_fields", {{model, std::move(fields)}}}});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::invalid);
      return error.message;
    }
    return "";
  };
  const auto says = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  says(refusal("sale.order", {{"marketplace_status", "state"}}), "writes something else into it");
  says(refusal("sale.order", {{"marketplace_order_number", "client_order_ref"}}), "writes something else into it");
  says(refusal("sale.order", {{"cartona_id", "id"}}), "Odoo keeps it itself");
  says(refusal("res.partner", {{"cartona_id", "ref"}}), "can't be `ref`");
  says(refusal("sale.order", {{"cartona_id", "x_marketplace_status"}}), "the hub's own field for `marketplace_status`");
  says(refusal("sale.order", {{"cartona_id", "x_a"}, {"marketplace_status", "x_a"}}),
       "`cartona_id` and `marketplace_status` of sale.order are both `x_a`");
  EXPECT_EQ(refusal("sale.order", {{"cartona_id", "x_cartona_id"}, {"marketplace_order_number", "origin"}}), "");
  EXPECT_EQ(refusal("product.product", {{"cartona_id", "default_code"}}), "");
}

TEST_P(StandIn, AConnectionThatHoldsRecordsIsNotPointedElsewhereUnasked) {
  connect("main", partners_only());
  json settings = connections_->get("main").settings;
  settings["url"] = "https://moved.example.com";
  EXPECT_NO_THROW(connections_->update("main", settings, Secret()));  // nothing is held yet
  settings["url"] = odoo_->url();
  connections_->update("main", settings, Secret());
  sync_->run("main", {}, {}, {});
  for (const char* part : {"url", "database"}) {
    json other = settings;
    other[part] = "https://other.example.com";
    try {
      connections_->update("main", other, Secret());
      ADD_FAILURE() << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, "other_database");
    }
    EXPECT_NO_THROW(connections_->update("main", other, Secret(), true));
    connections_->update("main", settings, Secret(), true);
  }
  settings["timeout_seconds"] = 60;
  EXPECT_NO_THROW(connections_->update("main", settings, Secret()));
}

TEST_P(StandIn, AConnectionThatCanNeverLogInStopsForOneReasonThatIsToldOnce) {
  connect("main", {{"default_models", false}, {"models", {"res.partner", "res.users"}}, {"transport", "jsonrpc"}}, "");
  const std::string reason = "this transport needs a login name besides the password or API key";
  try {
    sync_->run("main", {}, {}, {});
    ADD_FAILURE() << "it has no login";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::auth);
    EXPECT_EQ(error.message, reason);
  }
  sync_->start();
  while (connections_->get("main").state == "active") std::this_thread::yield();
  const auto status = sync_->status("main").at(0);
  EXPECT_EQ(status.state, "error");
  EXPECT_EQ(status.reason, reason);
  for (const auto& model : status.models) EXPECT_EQ(model.error, "") << model.model;
  std::vector<notify::Problem> told;
  store_->read([&](store::Session& session) { told = notify::problems(session, 10); });
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].alert.fingerprint, "connection:main:auth");
  EXPECT_EQ(told[0].alert.text.substr(0, reason.size() + 1), reason + ".");
  json settings = connections_->get("main").settings;
  settings["login"] = "admin";
  connections_->update("main", settings, Secret());
  sync_->refresh("main");
  EXPECT_EQ(sync_->run("main", {}, {}, {}).errors, std::vector<std::string>()) << "given one, it goes on";
}

TEST_P(StandIn, NothingIsReadThroughAPausedConnection) {
  connect("main", partners_only());
  connections_->set_state("main", "paused", "by the test");
  EXPECT_THROW(sync_->run("main", {}, {}, {}), Error);
  EXPECT_THROW(sync_->certify("main", {}, {}), Error);
  EXPECT_TRUE(here("main", "res.partner").empty());
}

// Writers in transactions that overlap, in the same seconds, with archives and deletes, while the follower polls over
// the wire. The intermediate states are the in-memory test's matter; here it is the end that must be equal, on both
// semantics of comparing times.
TEST_P(StandIn, RandomWritesOverTheWireEndWithoutADifference) {
  SeededRandom random(seed());
  const auto below = [&](std::uint64_t n) { return static_cast<std::int64_t>(random.next() % n); };
  connect("main", partners_only());
  sync_->start();
  std::vector<ordered_json> open;
  std::vector<std::int64_t> ids;
  const int steps = std::getenv("DRAGOMAN_FULL") ? 20'000 : 2'000;
  for (int i = 0; i < steps; ++i) {
    // The follower runs on its own; now and then the writers wait for it, or it would see only the end.
    if (i % 100 == 0) sync_->run("main", {"res.partner"}, {}, {});
    const auto what = below(20);
    try {
      if (what < 6 || ids.size() < 5) {
        ids.push_back(create({{"name", fmt::format("Random {}", i)}}));
      } else if (what < 8) {
        open.push_back(odoo_->control("POST", "/tx/begin", {{"uid", 2}})["tx"]);
        odoo_->control("POST", "/tx/write",
                       {{"tx", open.back()},
                        {"model", "res.partner"},
                        {"ids", {ids[static_cast<std::size_t>(below(ids.size()))]}},
                        {"values", {{"name", fmt::format("Late {}", i)}}}});
      } else if (what < 10 && !open.empty()) {
        const auto at = open.begin() + below(open.size());
        const ordered_json tx = *at;
        open.erase(at);
        odoo_->control("POST", "/tx/commit", {{"tx", tx}});
      } else if (what == 10) {
        const auto at = ids.begin() + below(ids.size());
        const auto id = *at;
        ids.erase(at);
        odoo_->call("res.partner", "unlink", ordered_json::array({ordered_json::array({id})}), ordered_json::object());
      } else {
        ordered_json values{{"name", fmt::format("Changed {}", i)}};
        if (what == 11) values["active"] = false;
        if (what == 12) values["active"] = true;
        odoo_->call(
            "res.partner", "write",
            ordered_json::array({ordered_json::array({ids[static_cast<std::size_t>(below(ids.size()))]}), values}),
            ordered_json::object());
      }
    } catch (const std::exception&) {
      // Two transactions want one record, or it is gone: as in real life the later one fails.
    }
  }
  for (const auto& tx : open) {
    try {
      odoo_->control("POST", "/tx/commit", {{"tx", tx}});
    } catch (const std::exception&) {
    }
  }
  sync_->run("main", {"res.partner"}, {}, {});
  EXPECT_EQ(here("main", "res.partner"), there("res.partner"));
  const auto certificate =
      sync_->certify("main", {.models = {"res.partner"}, .bodies = CertifyOptions::Bodies::all}, {}).at(0);
  for (const auto& one : certificate.differences) ADD_FAILURE() << one.id << ": " << one.what;
  std::cout << steps << " steps, " << records_->changes({.limit = 0}).last << " versions\n";
}

INSTANTIATE_TEST_SUITE_P(Series, StandIn, ::testing::Values(19, 14),
                         [](const auto& info) { return fmt::format("StandIn{}", info.param); });

}  // namespace
}  // namespace dragoman::connectors
