#pragma once

#include <memory>
#include <string>
#include <vector>

#include "access/sealed.h"
#include "access/tokens.h"
#include "fakes/fake_source.h"
#include "jobs/board.h"
#include "jobs/scheduler.h"
#include "notify/sender.h"
#include "ops/operation.h"
#include "pipeline/connections.h"
#include "pipeline/inbox.h"
#include "pipeline/mapping.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_products.h"
#include "pipeline/records.h"
#include "pipeline/sync.h"
#include "pipeline/sync_jobs.h"
#include "pipeline/trace.h"
#include "store/store.h"
#include "store/test_store.h"

namespace dragoman::tests {

/// Everything below the API on a fresh SQLite file, with one connector, `fake`: every connection through it sees the
/// model `thing` with the records 1 `one`, 2 `two` (archived) and 3 `three`. Its secret has to be `open sesame`.
///
/// Threads: one thread at a time, but for what its parts say.
struct FakeHub {
  static pipeline::ConnectorList fake_connectors() {
    pipeline::Connector connector;
    connector.kind = "fake";
    connector.summary = "Three things.";
    connector.settings = {{"url", "text", true, nullptr, "where the things are"},
                          {"size", "number", false, 7, "how large"},
                          {"companies", "list", false, nlohmann::json::array(), "ids of companies"}};
    connector.secret_doc = "the password";
    connector.make_source = [](const pipeline::Connection&, const Secret& secret, Clock&) {
      if (!secret.equals("open sesame")) throw Error(Error::Kind::auth, "The fake refuses this password.");
      static HandClock clock;
      auto source = std::make_unique<FakeSource>(clock);
      auto transaction = source->begin();
      source->create(transaction, "one");
      source->create(transaction, "two");
      source->create(transaction, "three");
      transaction.writes[2]->active = false;
      source->commit(transaction);
      return source;
    };
    connector.intake = "fake.import";
    connector.test = [](const pipeline::Connection&, const Secret& secret, Clock&, std::stop_token) {
      const bool fine = secret.equals("open sesame");
      return pipeline::Probe{{{"reach", "is there", true}, {"log in", fine ? "welcome" : "wrong password", fine}}};
    };
    return pipeline::ConnectorList({connector});
  }

  FakeHub() { operations = ops::catalog(connectors); }

  const ops::Operation& operation(std::string_view name) const { return *ops::find(operations, name); }

  store::TemporaryFolder folder;
  SystemClock clock;
  SystemRandom random;
  std::unique_ptr<store::Store> store = store::open({.url = folder / "hub.db"}, clock);
  access::KeyRing keys = access::KeyRing::open_file(folder / "secret.key", random);
  access::Tokens tokens{*store, clock, random};
  pipeline::ConnectorList connectors = fake_connectors();
  pipeline::Connections connections{*store, keys, clock};
  pipeline::Records records{*store};
  pipeline::SyncService sync{*store, connections, connectors, clock, random, {}};
  notify::Sender sender{*store, {}, {}, clock, random};
  pipeline::SyncJobs sync_jobs{sync, connections};
  jobs::Kinds job_kinds{sync_jobs.kinds()};
  jobs::Board jobs{*store, job_kinds};
  jobs::Schedules schedules{job_kinds};
  jobs::Scheduler scheduler{*store, schedules};
  pipeline::Inbox inbox{*store, connectors};
  pipeline::Mapping mapping{*store};
  pipeline::MarketOrders market{*store, clock};
  pipeline::MarketProducts market_products{*store};
  pipeline::Marketplaces marketplaces{connections, connectors, clock};
  pipeline::Traces traces{*store, connections};
  ops::Services services{
      .store = *store,
      .tokens = tokens,
      .keys = keys,
      .connections = connections,
      .connectors = connectors,
      .records = records,
      .sync = sync,
      .sender = sender,
      .jobs = jobs,
      .schedules = schedules,
      .scheduler = scheduler,
      .inbox = inbox,
      .mapping = mapping,
      .market = market,
      .market_products = market_products,
      .marketplaces = marketplaces,
      .traces = traces,
      .clock = clock,
      .config = [] { return std::vector<ops::ConfigLine>{{"store.url", "postgres://hub:***@db", "flag", "where"}}; },
      .rotate_key = [] { return std::int64_t{0}; },
      .version = "1.2.3",
      .started = clock.now()};
  std::vector<ops::Operation> operations;
};

}  // namespace dragoman::tests
