#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/step.h"
#include "fakes/delivery_fakes.h"
#include "fakes/market_fakes.h"
#include "jobs/board.h"
#include "jobs/node.h"
#include "jobs/queue.h"
#include "pipeline/market_catalog.h"
#include "pipeline/market_customers.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_status_jobs.h"
#include "pipeline/market_stock_jobs.h"
#include "pipeline/market_watch.h"

namespace dragoman::tests {

/// A hub between a marketplace and Odoo, one thread: both ends in memory, the queue and the store for real.
class MarketFixture : public DeliveryStore {
 protected:
  void SetUp() override {
    DeliveryStore::SetUp();
    if (!store_) return;
    // The connection of DeliveryStore was given its number, which the engine's own counting does not know of.
    if (store_->info().engine == store::Engine::postgres)
      store_->write([](store::Session& session) {
        session.query("SELECT setval(pg_get_serial_sequence('connection', 'id'), 10)", {}, [](const store::Row&) {});
      });
    keys_.emplace(access::KeyRing::open_file(folder_ / "secret.key", random_));
    pipeline::Connector odoo, fake;
    odoo.kind = "fake";
    fake.kind = "market";
    fake.settings = pipeline::marketplace_settings();
    fake.settings.push_back({"cancellation_reason", "text", false, "out_of_stock", "as a marketplace has it"});
    odoo.make_book = [this](const pipeline::Connection&, const Secret&, Clock&) { return book_; };
    fake.make_marketplace = [this](const pipeline::Connection& connection, const Secret&, Clock&) {
      return connection.name == "other" ? other_ : shop_;
    };
    connectors_.emplace(std::vector<pipeline::Connector>{odoo, fake});
    connections_.emplace(*store_, *keys_, clock_);
    marketplaces_.emplace(*connections_, *connectors_, clock_);
    books_.emplace(*connections_, *connectors_, clock_);
    orders_.emplace(*store_, clock_);
    market_.emplace(
        *orders_, *marketplaces_, *books_, [this](std::int64_t id) { return pipeline::Destination{id, "main", odoo_}; },
        "node test");
    stock_jobs_.emplace(*store_, *marketplaces_, *books_);
    auto kinds = market_->kinds();
    for (auto& kind : stock_jobs_->kinds()) kinds.push_back(std::move(kind));
    catalog_jobs_.emplace(*store_, *marketplaces_, *books_);
    for (auto& kind : catalog_jobs_->kinds()) kinds.push_back(std::move(kind));
    status_jobs_.emplace(
        *orders_, *marketplaces_, *keys_, [this](std::int64_t id) { return pipeline::Destination{id, "main", odoo_}; },
        "node test");
    for (auto& kind : status_jobs_->kinds()) kinds.push_back(std::move(kind));
    customers_.emplace(
        *orders_, *marketplaces_, [this](std::int64_t id) { return pipeline::Destination{id, "main", odoo_}; },
        "node test");
    kinds.push_back(customers_->kind());
    kinds_.emplace(std::move(kinds));
    queue_.emplace(*store_, *kinds_, random_, "test");
    node_.emplace(*queue_, clock_, jobs::NodeSettings{.name = "test"});
    board_.emplace(*store_, *kinds_);
    node_->start();
    odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  }
  void TearDown() override {
    on_step({});
    node_.reset();
    queue_.reset();
    orders_.reset();
    DeliveryStore::TearDown();
  }

  /// The connection `shop`, with these settings beside what it needs.
  std::int64_t add_shop(nlohmann::json settings = nlohmann::json::object()) {
    settings["odoo"] = settings.value("odoo", "main");
    shop_id_ = connections_->add("shop", "market", connectors_->check_settings("market", settings), Secret("token")).id;
    return shop_id_;
  }
  void ask_for_pull() {
    store_->write([&](store::Session& session) { pipeline::MarketJobs::enqueue_pull(session, shop_id_, "test"); });
  }
  /// Does every job there is to do now, as the runner hands them out. How many.
  int work() {
    int count = 0;
    for (;;) {
      auto claims = queue_->claim(node_->id(), {.jobs_max = 1000, .room = {}, .idle = true}).jobs;
      if (claims.empty()) return count;
      std::map<std::int64_t, std::vector<jobs::Claimed>> lanes;
      for (auto& one : claims) lanes[one.lane.id].push_back(std::move(one));
      for (auto& [lane, all] : lanes) {
        const auto batch = static_cast<std::size_t>(all.front().lane.kind->batch_max);
        for (std::size_t at = 0; at < all.size(); at += batch) {
          std::vector<jobs::Job> some;
          std::vector<jobs::Finished> finished;
          for (std::size_t i = at; i < std::min(all.size(), at + batch); ++i) some.push_back(all[i].job);
          const auto outcomes = all[at].lane.kind->handler->run(some, {});
          ASSERT_RETURN(outcomes.size() == some.size());
          for (std::size_t i = 0; i < some.size(); ++i)
            finished.push_back({.claimed = all[at + i], .outcome = outcomes[i]});
          queue_->finish(finished);
          count += static_cast<int>(some.size());
        }
      }
    }
  }
  static void ASSERT_RETURN(bool fine) { ASSERT_TRUE(fine) << "an outcome for every job"; }
  /// One look at what changed in Odoo, as the watch of the hub does it each second.
  void look() {
    pipeline::MarketWatch watch(1, *orders_, status_, stock_, *marketplaces_, *books_, clock_);
    watch.step({});
  }
  int pull() {
    ask_for_pull();
    return work();
  }
  /// Until what is scheduled or retried is due, and what is held is tried again.
  void time_passes() {
    store_->write([](store::Session& session) {
      session.execute("UPDATE job SET run_at_us = 0 WHERE state IN (1, 3)");
      session.execute("UPDATE breaker SET until_us = 0");
      session.execute("UPDATE market_order SET hold_next_us = 0 WHERE hold_next_us IS NOT NULL");
      session.execute("UPDATE market_order SET acked_us = 0 WHERE acked_us IS NOT NULL");
    });
  }
  void try_again() {
    time_passes();
    orders_->try_again(500);
    work();
  }
  pipeline::MarketOrderRow order(const std::string& id) { return orders_->get("shop", id); }
  FakeOdoo::Order& there(const std::string& id) { return odoo_->orders.at("fake/shop/" + id); }
  /// `id state ack` of all.
  std::string all() { return rows("SELECT external_id, state, ack FROM market_order ORDER BY external_id", 3); }

  store::TemporaryFolder folder_;
  SystemRandom random_;
  std::shared_ptr<FakeMarketplace> shop_ = std::make_shared<FakeMarketplace>();
  std::shared_ptr<FakeMarketplace> other_ = std::make_shared<FakeMarketplace>();  ///< of a connection named `other`
  std::shared_ptr<FakeOdoo> odoo_ = std::make_shared<FakeOdoo>();
  std::shared_ptr<FakeBook> book_ = std::make_shared<FakeBook>(*odoo_);
  std::int64_t shop_id_ = 0;
  std::optional<access::KeyRing> keys_;
  std::optional<pipeline::ConnectorList> connectors_;
  std::optional<pipeline::Connections> connections_;
  std::optional<pipeline::Marketplaces> marketplaces_;
  std::optional<pipeline::OrderBooks> books_;
  std::optional<pipeline::MarketOrders> orders_;
  pipeline::MarketStatus status_;
  pipeline::MarketStock stock_;
  std::optional<pipeline::MarketJobs> market_;
  std::optional<pipeline::MarketStockJobs> stock_jobs_;
  std::optional<pipeline::MarketCatalogJobs> catalog_jobs_;
  std::optional<pipeline::MarketStatusJobs> status_jobs_;
  std::optional<pipeline::MarketCustomers> customers_;
  std::optional<jobs::Kinds> kinds_;
  std::optional<jobs::Queue> queue_;
  std::optional<jobs::Node> node_;
  std::optional<jobs::Board> board_;
};

}  // namespace dragoman::tests
