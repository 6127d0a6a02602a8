// Delivery through the import procedure, into real servers and the stand-in. The instantiation says which.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "connectors/catalog.h"
#include "connectors/odoo/import_target.h"
#include "connectors/odoo/odoo_source.h"
#include "connectors/odoo/provision.h"
#include "fakes/odoo_servers.h"
#include "pipeline/connections.h"
#include "pipeline/deliver.h"
#include "pipeline/own_writes.h"
#include "pipeline/records.h"
#include "pipeline/sync.h"
#include "sandbox/odoo/server.h"
#include "store/store.h"

namespace dragoman::connectors::odoo {
namespace {

using jobs::Job;
using jobs::Outcome;
using nlohmann::json;

/// A network that loses requests on their way and answers on their way back, after the server has done its work.
class LossyHttp final : public http::Client {
 public:
  struct Odds {
    int lost_before = 0, lost_after = 0;  ///< per cent
  };
  LossyHttp(std::unique_ptr<http::Client> inner, std::shared_ptr<Odds> odds, std::uint64_t seed)
      : inner_(std::move(inner)), odds_(std::move(odds)), random_(seed) {}

  http::Response send(const http::Request& request, std::stop_token stop) override {
    // Only what writes: the answer of a search may be asked for again.
    const bool import = request.body.find("\"items\"") != std::string::npos;
    if (import && chance(odds_->lost_before)) throw lost("timeout");
    auto response = inner_->send(request, stop);
    if (import && chance(odds_->lost_after)) throw lost("reset");
    return response;
  }

 private:
  static Error lost(const char* code) {
    Error error(Error::Kind::in_doubt, "the request went out, and no answer came");
    error.code = code;
    return error;
  }
  bool chance(int percent) { return percent > 0 && random_.next() % 100 < static_cast<std::uint64_t>(percent); }

  const std::unique_ptr<http::Client> inner_;
  const std::shared_ptr<Odds> odds_;
  SeededRandom random_;
};

std::uint64_t seed() {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t value = given ? std::strtoull(given, nullptr, 10) : SystemRandom().next() % 1'000'000;
  std::cout << "seed " << value << " (DRAGOMAN_SEED=" << value << " runs it again)\n";
  return value;
}

class LiveImport : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string which = GetParam();
    if (which.starts_with("StandIn")) {
      stand_in_ = std::make_unique<sandbox::odoo::Server>(
          sandbox::odoo::Options{.series = std::stoi(which.substr(7)), .workers = 4});
      stand_in_->start();
      const auto& options = stand_in_->options();
      server_ = tests::OdooServer{stand_in_->url(),  options.db,      "admin", options.admin_password,
                                  options.admin_key, which.substr(7), ""};
    } else {
      server_ = tests::odoo_server(which);
    }
    DRAGOMAN_NEED_SERVER(server_, which);
    tag_ = "dragoman-" + random_hex(random_, 4);
    store_ = store::open({.url = "sqlite::memory:"}, clock_);
    keys_.emplace(access::KeyRing::open_file(::testing::TempDir() + "import-" + random_hex(random_, 6), random_));
    connections_.emplace(*store_, *keys_, clock_);
    settings_.url = server_->url;
    settings_.database = server_->database;
    settings_.login = server_->login;
    settings_.password = Secret(server_->password);
    outside_ = std::make_unique<rpc::Client>(settings_, clock_);
    connections_->add("main", "odoo",
                      connectors_.check_settings("odoo", {{"url", server_->url},
                                                          {"database", server_->database},
                                                          {"login", server_->login},
                                                          {"default_models", false},
                                                          {"models", {"res.partner"}}}),
                      Secret(server_->password));
    Provisioning provisioning(
        *outside_,
        [this](const std::string& login, const Secret& secret) {
          auto settings = settings_;
          settings.login = login;
          settings.password = secret;
          return std::make_unique<rpc::Client>(settings, clock_);
        },
        server_->login, Secret(server_->password), {}, clock_, random_);
    const auto applied = provisioning.apply({}, [](const std::string&, const Secret&) {});
    const auto id = connections_->get("main").id;
    connections_->set_learnt(id, json{{"provision", applied.state.json()}}.dump());
    odds_ = std::make_shared<LossyHttp::Odds>();
    auto http = std::make_unique<LossyHttp>(http::make_client(settings_.http), odds_, seed_);
    target_ = std::make_shared<ImportTarget>(std::make_shared<rpc::Client>(settings_, clock_, std::move(http)),
                                             action_of(connections_->get("main"), "import"),
                                             std::vector<std::int64_t>{}, "main");
    handler_.emplace(
        *store_, [this, id](std::int64_t) { return pipeline::Destination{id, "main", target_}; }, "node test");
    connection_id_ = id;
  }

  void TearDown() override {
    if (!outside_) return;
    const auto orders = outside_->search("sale.order", rpc::Domain::where("client_order_ref", "=", tag_), {}, {});
    // The stand-in goes with its records; it has no such method.
    if (stand_in_) return;
    for (const auto id : orders) {
      rpc::CallOptions options;
      options.context = R"({"disable_cancel_warning":true})";
      outside_->call("sale.order", "action_cancel", fmt::format("[[{}]]", id), "", options);
    }
    if (!orders.empty()) outside_->unlink("sale.order", orders, {});
    const auto left = outside_->search("res.partner", rpc::Domain::where("ref", "=", tag_), {}, archived_too());
    if (!left.empty()) outside_->unlink("res.partner", left, {});
  }

  rpc::CallOptions archived_too() const {
    rpc::CallOptions options;
    options.context = R"({"active_test":false})";
    return options;
  }

  Job job(const std::string& model, const std::string& key, std::int64_t version, const json& content) {
    Job job;
    job.id = ++last_job_;
    job.kind = "odoo.import";
    job.connection_id = connection_id_;
    job.payload = pipeline::DeliveryOrder{model, tag_ + "-" + key, version, content.dump(), 0, 0}.json();
    job.cause = "test";
    return job;
  }
  Job partner(const std::string& key, std::int64_t version, json values) {
    values["ref"] = tag_;
    return job("res.partner", key, version, {{"values", values}});
  }
  std::vector<Outcome> deliver(const std::vector<Job>& jobs) {
    auto outcomes = handler_->run(jobs, {});
    for (const auto& outcome : outcomes)
      if (outcome.commit) store_->write(outcome.commit);
    return outcomes;
  }
  std::string outcome_of(const Outcome& outcome) {
    return outcome.what == Outcome::What::done ? json::parse(outcome.result).value("outcome", "") : outcome.message;
  }
  /// As the queue does it: again until each is done. Some attempts die before their outcome is written.
  void deliver_all(std::vector<Job> waiting, std::size_t batch, int killed_percent) {
    SeededRandom random(seed_);
    for (int rounds = 0; !waiting.empty(); ++rounds) {
      ASSERT_LT(rounds, 20'000);
      const std::vector<Job> now(waiting.begin(),
                                 waiting.begin() + static_cast<std::ptrdiff_t>(std::min(batch, waiting.size())));
      waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(now.size()));
      const auto outcomes = handler_->run(now, {});
      const bool killed = random.next() % 100 < static_cast<std::uint64_t>(killed_percent);
      for (std::size_t i = 0; i < now.size(); ++i) {
        if (!killed && outcomes[i].commit) store_->write(outcomes[i].commit);
        if (!killed && outcomes[i].what == Outcome::What::done) continue;
        ASSERT_NE(outcomes[i].what, Outcome::What::dead) << outcomes[i].message << outcomes[i].detail;
        waiting.push_back(now[i]);
        waiting.back().in_doubt = true;
      }
    }
  }
  std::int64_t count(const std::string& sql) {
    std::int64_t number = -1;
    store_->read([&](store::Session& session) {
      session.query(sql, std::initializer_list<store::Param>{}, [&](const store::Row& row) { number = row.int64(0); });
    });
    return number;
  }

  const std::uint64_t seed_ = seed();
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<sandbox::odoo::Server> stand_in_;
  std::optional<tests::OdooServer> server_;
  const pipeline::ConnectorList connectors_ = catalog();
  std::unique_ptr<store::Store> store_;
  std::optional<access::KeyRing> keys_;
  std::optional<pipeline::Connections> connections_;
  rpc::Settings settings_;
  std::unique_ptr<rpc::Client> outside_;
  std::shared_ptr<LossyHttp::Odds> odds_;
  std::shared_ptr<ImportTarget> target_;
  std::optional<pipeline::DeliveryHandler> handler_;
  std::int64_t connection_id_ = 0, last_job_ = 0;
  std::string tag_;
};

TEST_P(LiveImport, LostAnswersEndInExactlyOneRecordEach) {
  // DRAGOMAN_LOST_ANSWERS=10000 for more.
  const char* more = std::getenv("DRAGOMAN_LOST_ANSWERS");
  const int records = more ? std::atoi(more) : stand_in_ ? 300 : 60;
  *odds_ = {.lost_before = 20, .lost_after = 30};
  std::vector<Job> jobs;
  for (int i = 0; i < records; ++i)
    jobs.push_back(partner(fmt::format("P{}", i), 1, {{"name", fmt::format("Lost {} {}", tag_, i)}}));
  deliver_all(jobs, more ? 25 : 10, 15);
  EXPECT_EQ(outside_->search_count("res.partner", rpc::Domain::where("ref", "=", tag_), {}), records);
  EXPECT_EQ(count("SELECT count(*) FROM integration_mapping"), records);
  EXPECT_EQ(count("SELECT count(*) FROM delivery WHERE version = 1 AND intent_job IS NULL"), records);
}

TEST_P(LiveImport, AnOrderWithItsLinesIsMadeAndConfirmedOnce) {
  const auto product = outside_->search("product.product", rpc::Domain::where("sale_ok", "=", true), {.limit = 1}, {});
  ASSERT_FALSE(product.empty());
  *odds_ = {.lost_before = 20, .lost_after = 40};
  std::vector<Job> jobs{partner("C", 1, {{"name", "Buyer " + tag_}})};
  deliver_all(jobs, 1, 0);
  jobs.clear();
  constexpr int kOrders = 8;
  for (int i = 0; i < kOrders; ++i) {
    json lines = json::array();
    for (int line = 1; line <= 2; ++line)
      lines.push_back({{"key", std::to_string(line)},
                       {"values", {{"product_id", product[0]}, {"product_uom_qty", line}, {"price_unit", 9.99}}}});
    jobs.push_back(job("sale.order", fmt::format("O{}", i), 1,
                       {{"values", {{"partner_id", {{"key", tag_ + "-C"}}}, {"client_order_ref", tag_}}},
                        {"children", {{"order_line", lines}}},
                        {"call", "action_confirm"}}));
  }
  deliver_all(jobs, 4, 20);
  rpc::ReadOptions read;
  read.fields = {"state", "order_line"};
  const auto orders = json::parse(
      outside_->search_read("sale.order", rpc::Domain::where("client_order_ref", "=", tag_), read, {}).result());
  ASSERT_EQ(orders.size(), static_cast<std::size_t>(kOrders));
  for (const auto& order : orders) {
    EXPECT_EQ(order.at("state"), "sale");
    EXPECT_EQ(order.at("order_line").size(), 2u);
  }
  EXPECT_EQ(count("SELECT count(*) FROM integration_mapping WHERE entity = 'order'"), kOrders);
  EXPECT_EQ(count("SELECT count(*) FROM integration_mapping WHERE entity = 'order_line'"), 2 * kOrders);
}

TEST_P(LiveImport, EachRecordOfABatchHasItsOutcomeInOdoosWords) {
  const auto outcomes = deliver({partner("A", 1, {{"name", "Good " + tag_}}),
                                 partner("B", 1, {{"name", "Bad " + tag_}, {"no_such_field", 1}}),
                                 partner("C", 1, {{"name", "Good too " + tag_}})});
  EXPECT_EQ(outcome_of(outcomes[0]), "created");
  EXPECT_EQ(outcomes[1].what, Outcome::What::dead);
  EXPECT_NE(outcomes[1].message.find("no_such_field"), std::string::npos) << outcomes[1].message;
  EXPECT_EQ(outcome_of(outcomes[2]), "created");
  EXPECT_EQ(outside_->search_count("res.partner", rpc::Domain::where("ref", "=", tag_), {}), 2);
}

TEST_P(LiveImport, AnAppliedVersionNeverGoesBack) {
  EXPECT_EQ(outcome_of(deliver({partner("A", 3, {{"name", "Three " + tag_}})})[0]), "created");
  EXPECT_EQ(outcome_of(deliver({partner("A", 2, {{"name", "Two " + tag_}})})[0]), "skipped");
  // Odoo itself holds it, too, where the hub's own memory is gone.
  store_->write([](store::Session& session) { session.execute("DELETE FROM delivery"); });
  EXPECT_EQ(outcome_of(deliver({partner("A", 2, {{"name", "Two " + tag_}})})[0]), "skipped");
  // And where no versions are given, counting goes on behind what is there.
  store_->write([](store::Session& session) { session.execute("DELETE FROM delivery"); });
  EXPECT_EQ(outcome_of(deliver({partner("A", 0, {{"name", "Later " + tag_}})})[0]), "updated");
  rpc::ReadOptions read;
  read.fields = {"name"};
  const auto there =
      json::parse(outside_->search_read("res.partner", rpc::Domain::where("ref", "=", tag_), read, {}).result());
  ASSERT_EQ(there.size(), 1u);
  EXPECT_EQ(there[0].at("name"), "Later " + tag_);
}

TEST_P(LiveImport, OurOwnWritesAreKnownWhenThePollSeesThemAndForeignOnesAreNot) {
  pipeline::SyncService sync(*store_, *connections_, connectors_, clock_, random_, {});
  pipeline::Records records(*store_);
  const auto poll = [&] {
    const auto result = sync.run("main", {"res.partner"}, {}, {});
    EXPECT_TRUE(result.errors.empty()) << result.errors.front();
  };
  // What was changed in this record since the number, and whether it is ours.
  const auto own = [&](std::int64_t id, std::int64_t since) {
    std::vector<std::int64_t> numbers;
    for (const auto& change : records.changes({.since = since}).changes)
      if (change.external_id == id) numbers.push_back(change.number);
    std::string out;
    for (const std::int64_t number : numbers)
      store_->write([&](store::Session& session) {
        const auto answer = pipeline::is_own(session, number);
        out += answer == pipeline::Own::yes ? "yes " : answer == pipeline::Own::no ? "no " : "not yet ";
      });
    return out;
  };
  const auto last = [&] { return records.changes({.limit = 0}).last; };
  poll();
  auto since = last();
  deliver({partner("A", 1, {{"name", "Own " + tag_}, {"phone", "+999 555 0100"}, {"customer_rank", 1}})});
  const auto id = outside_->search("res.partner", rpc::Domain::where("ref", "=", tag_), {}, {}).at(0);
  poll();
  EXPECT_EQ(own(id, since), "yes ") << "the create";
  since = last();
  deliver({partner("A", 2, {{"name", "Own anew " + tag_}, {"phone", "+999 555 0101"}})});
  poll();
  EXPECT_EQ(own(id, since), "yes ") << "the update: " << records.diff("main", "res.partner", id, {}, {}).dump();
  since = last();
  outside_->write("res.partner", {id}, {{"street", "1 Foreign Street"}}, {});
  poll();
  EXPECT_EQ(own(id, since), "no ") << "somebody else's field";
  since = last();
  deliver({partner("A", 3, {{"phone", "+999 555 0102"}})});
  outside_->write("res.partner", {id}, {{"city", "Foreign City"}}, {});
  poll();
  EXPECT_EQ(own(id, since), "no ") << "theirs and ours in one";
}

TEST_P(LiveImport, AProcedureThatIsNotThereMakesTheJobsWait) {
  ImportTarget gone(std::make_shared<rpc::Client>(settings_, clock_), 987'654, {}, "main");
  const std::vector<pipeline::Target::Key> keys{{"res.partner", "x"}};
  try {
    gone.find(keys, {});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::unavailable);
    EXPECT_EQ(error.code, pipeline::kNotProvisioned);
  }
  EXPECT_TRUE(gone.stale());
}

INSTANTIATE_TEST_SUITE_P(Odoo19, LiveImport, ::testing::Values("Odoo19"));
INSTANTIATE_TEST_SUITE_P(Odoo14, LiveImport, ::testing::Values("Odoo14"));
INSTANTIATE_TEST_SUITE_P(StandIn, LiveImport, ::testing::Values("StandIn19", "StandIn14"));

}  // namespace
}  // namespace dragoman::connectors::odoo
