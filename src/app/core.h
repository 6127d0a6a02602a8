#pragma once

#include <memory>
#include <optional>
#include <string>

#include "access/sealed.h"
#include "access/tokens.h"
#include "app/config.h"
#include "base/clock.h"
#include "base/random.h"
#include "connectors/catalog.h"
#include "jobs/board.h"
#include "jobs/runner.h"
#include "jobs/scheduler.h"
#include "notify/sender.h"
#include "ops/operation.h"
#include "pipeline/connections.h"
#include "pipeline/deliver.h"
#include "pipeline/inbox.h"
#include "pipeline/mapping.h"
#include "pipeline/market_catalog.h"
#include "pipeline/market_customers.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_products.h"
#include "pipeline/market_status_jobs.h"
#include "pipeline/market_stock_jobs.h"
#include "pipeline/market_watch.h"
#include "pipeline/records.h"
#include "pipeline/sync.h"
#include "pipeline/sync_jobs.h"
#include "store/file_lock.h"
#include "store/store.h"

namespace dragoman::app {

/// The data folder, held by this process alone: two hubs never share one SQLite file.
///
/// Threads: one thread at a time.
class DataFolder {
 public:
  /// Makes the folder (mode 0700) if it is not there. Throws invalid (code `data_dir`) if that can't be.
  explicit DataFolder(const std::string& path);

  bool try_lock(Clock& clock, Micros patience);

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::string token_file() const { return path("token"); }

  /// Where the hub that holds the folder answers.
  void write_hub(const std::string& url) const;
  void remove_hub() const;
  std::optional<std::string> hub_url() const;

 private:
  const std::string path_;
  store::FileLock lock_;
};

/// Everything below the API, built in order and destroyed in reverse. Serves a command and the running hub alike.
class Core {
 public:
  /// Throws what opening the store throws, as refuse_lost_store, and invalid (code `key_missing`) if the database holds
  /// sealed secrets and there is no key.
  Core(const Config& config, Clock& clock, Random& random, pipeline::ConnectorList connectors = connectors::catalog());

  ops::Services& services() { return services_; }
  store::Store& store() { return *store_; }
  access::Tokens& tokens() { return tokens_; }
  pipeline::Connections& connections() { return connections_; }
  const pipeline::ConnectorList& connectors() const { return connectors_; }
  pipeline::Records& records() { return records_; }
  pipeline::SyncService& sync() { return sync_; }
  notify::Sender& sender() { return sender_; }
  jobs::Board& jobs() { return jobs_; }
  pipeline::Inbox& inbox() { return inbox_; }
  jobs::Runner& runner() { return runner_; }
  const jobs::Schedules& schedules() const { return schedules_; }
  jobs::Scheduler& scheduler() { return scheduler_; }
  pipeline::MarketOrders& market() { return market_; }
  pipeline::Marketplaces& marketplaces() { return marketplaces_; }
  pipeline::MarketStatus& market_status() { return market_status_; }
  pipeline::MarketStock& market_stock() { return market_stock_; }
  pipeline::OrderBooks& order_books() { return order_books_; }
  pipeline::Traces& traces() { return traces_; }

 private:
  std::int64_t rotate_key();

  std::unique_ptr<store::Store> store_;
  access::KeyRing keys_;
  access::Tokens tokens_;
  const pipeline::ConnectorList connectors_;
  pipeline::Connections connections_;
  pipeline::Records records_;
  pipeline::SyncService sync_;
  notify::Sender sender_;
  pipeline::SyncJobs sync_jobs_;
  const jobs::RunnerSettings runner_settings_;
  pipeline::Targets targets_;
  pipeline::DeliveryHandler delivery_;
  pipeline::MarketOrders market_;
  pipeline::MarketProducts market_products_;
  pipeline::Traces traces_;
  pipeline::Marketplaces marketplaces_;
  pipeline::OrderBooks order_books_;
  pipeline::MarketStatus market_status_;
  pipeline::MarketStock market_stock_;
  pipeline::MarketJobs market_jobs_;
  pipeline::MarketStockJobs market_stock_jobs_;
  pipeline::MarketCatalogJobs market_catalog_jobs_;
  pipeline::MarketStatusJobs market_status_jobs_;
  pipeline::MarketCustomers market_customers_;
  const jobs::Kinds job_kinds_;
  jobs::Board jobs_;
  jobs::Runner runner_;
  const jobs::Schedules schedules_;
  jobs::Scheduler scheduler_;
  pipeline::Inbox inbox_;
  pipeline::Mapping mapping_;
  ops::Services services_;
};

/// Throws invalid (code `store_lost`) where the database file is gone or empty and what else is there shows that there
/// was one: a new one in its place would look as if nothing had ever been captured.
void refuse_lost_store(const Config& config);

/// Writes a file that only its owner may read, whole or not at all.
void write_private_file(const std::string& path, std::string_view text);
/// The text of a file without the line break at its end; nullopt if it is not there.
std::optional<std::string> read_file(const std::string& path);

/// Of `dragoman`, such as `0.1.0`.
std::string version();

}  // namespace dragoman::app
