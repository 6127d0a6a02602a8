#include "app/core.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/error.h"
#include "pipeline/job_alerts.h"
#include "pipeline/record_check.h"
#include "store/engine.h"

namespace dragoman::app {
namespace {

[[noreturn]] void unusable(Error::Kind kind, const std::string& what) {
  Error error(kind, what);
  error.code = "data_dir";
  throw error;
}

const std::string& made(const std::string& path) {
  std::error_code code;
  const bool fresh = std::filesystem::create_directories(path, code);
  if (code)
    unusable(Error::Kind::invalid,
             fmt::format("The data folder {} can't be made: {}. Name another with --data-dir.", path, code.message()));
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0)
    unusable(Error::Kind::invalid,
             fmt::format("The data folder {} can't be written to by this user: {}. Name another with --data-dir.", path,
                         std::strerror(errno)));
  // Holds the key of the secrets: nobody else's business. A folder that was there before keeps its rights; each file in
  // it is its owner's alone in any case.
  if (fresh) ::chmod(path.c_str(), 0700);
  return path;
}

// There while the first start of a data folder makes its database.
std::string first_start(const Config& config) {
  return config.data_dir + "/first-start";
}

// The SQLite file of the store; nullopt: it has none.
std::optional<std::string> store_file(const Config& config) {
  auto file = store::sqlite_path(config.store.url);
  if (file && *file == ":memory:") return std::nullopt;
  return file;
}

std::unique_ptr<store::Store> open_store(const Config& config, Clock& clock) {
  refuse_lost_store(config);
  const auto file = store_file(config);
  std::error_code ignored;
  // Killed before the store is whole, it leaves an empty file that is no lost one.
  if (file && !std::filesystem::exists(*file, ignored)) write_private_file(first_start(config), "");
  auto store = store::open(config.store, clock);
  if (file) ::unlink(first_start(config).c_str());
  return store;
}

// A new key in place of a lost one would open nothing, and the loss would show only when a connection is used.
access::KeyRing open_keys(const Config& config, store::Store& store, Random& random) {
  const char* given = std::getenv("DRAGOMAN_SECRET_KEY");
  std::error_code code;
  if ((!given || !*given) && !std::filesystem::exists(config.key_file, code)) {
    std::vector<std::string> sealed;
    store.read([&](store::Session& session) {
      sealed.clear();
      session.query("SELECT name, secret FROM connection WHERE secret IS NOT NULL ORDER BY name",
                    std::initializer_list<store::Param>{}, [&](const store::Row& row) {
                      if (!row.bytes(1).empty()) sealed.emplace_back(row.text(0));
                    });
    });
    if (!sealed.empty()) {
      Error error(
          Error::Kind::invalid,
          fmt::format("The key file {0} is not there, and the secrets in the database ({1}) open only with it. "
                      "Put it back from your copy, or name it (`secrets.key_file`, DRAGOMAN_SECRET_KEY). If it "
                      "is lost for good, make a new one with `(umask 077; openssl rand -hex 32 > {0})` and then "
                      "give every connection its secret again with `dragoman connection update NAME "
                      "--secret-file FILE`.",
                      config.key_file, fmt::join(sealed, ", ")));
      error.code = "key_missing";
      throw error;
    }
  }
  return access::KeyRing::open_file(config.key_file, random);
}

// Of all that the hub does as jobs.
std::vector<jobs::Kind> job_kinds(pipeline::SyncJobs& sync, const pipeline::ConnectorList& connectors,
                                  jobs::Handler& delivery, pipeline::MarketJobs& market,
                                  pipeline::MarketStockJobs& stock, pipeline::MarketCatalogJobs& catalog,
                                  pipeline::MarketStatusJobs& status, pipeline::MarketCustomers& customers) {
  std::vector<jobs::Kind> kinds = sync.kinds();
  for (auto& kind : market.kinds()) kinds.push_back(std::move(kind));
  for (auto& kind : stock.kinds()) kinds.push_back(std::move(kind));
  for (auto& kind : catalog.kinds()) kinds.push_back(std::move(kind));
  for (auto& kind : status.kinds()) kinds.push_back(std::move(kind));
  kinds.push_back(customers.kind());
  for (const auto& connector : connectors.all())
    for (jobs::Kind kind : connector.kinds) {
      kind.handler = &delivery;
      kind.check = pipeline::delivery_check(kind.name, connector.kind);
      kinds.push_back(std::move(kind));
    }
  return kinds;
}

// The machine's name alone is the same in many containers, and a data folder may be copied.
std::string node_name(const std::string& data_dir, Random& random) {
  const std::string file = data_dir + "/node";
  auto kept = read_file(file);
  if (!kept || kept->empty()) {
    kept = random_hex(random, 4);
    write_private_file(file, *kept + "\n");
  }
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  return fmt::format("{}-{}", *host ? host : "hub", *kept);
}

jobs::RunnerSettings runner_settings(const Config& config, Random& random) {
  auto settings = config.jobs;
  settings.stop_grace = config.stop_grace;
  settings.node.version = version();
  if (settings.node.name.empty()) settings.node.name = node_name(config.data_dir, random);
  return settings;
}

}  // namespace

std::string version() {
  return DRAGOMAN_VERSION;
}

void write_private_file(const std::string& path, std::string_view text) {
  const std::string draft = path + ".new";
  ::unlink(draft.c_str());
  const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool fine = fd >= 0;
  while (fine && !text.empty()) {
    const auto written = ::write(fd, text.data(), text.size());
    fine = written > 0;
    if (fine) text.remove_prefix(static_cast<std::size_t>(written));
  }
  fine = fine && ::fsync(fd) == 0;
  const int why = errno;
  if (fd >= 0) ::close(fd);
  if (!fine || ::rename(draft.c_str(), path.c_str()) != 0) {
    const int reason = fine ? errno : why;
    ::unlink(draft.c_str());
    unusable(Error::Kind::unavailable, fmt::format("The file {} can't be written: {}.", path, std::strerror(reason)));
  }
}

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  std::ostringstream out;
  out << in.rdbuf();
  std::string text = out.str();
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

DataFolder::DataFolder(const std::string& path) : path_(path), lock_(made(path) + "/lock") {}

bool DataFolder::try_lock(Clock& clock, Micros patience) {
  return lock_.lock(clock, patience);
}

void DataFolder::write_hub(const std::string& url) const {
  write_private_file(path("hub.json"), nlohmann::json{{"url", url}, {"pid", getpid()}}.dump() + "\n");
}

void DataFolder::remove_hub() const {
  ::unlink(path("hub.json").c_str());
}

std::optional<std::string> DataFolder::hub_url() const {
  const auto text = read_file(path("hub.json"));
  if (!text) return std::nullopt;
  const auto parsed = nlohmann::json::parse(*text, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("url") || !parsed["url"].is_string()) return std::nullopt;
  return parsed["url"].get<std::string>();
}

void refuse_lost_store(const Config& config) {
  const auto file = store_file(config);
  std::error_code code;
  if (!file || std::filesystem::exists(first_start(config), code)) return;
  const bool gone = !std::filesystem::exists(*file, code);
  if (!gone && std::filesystem::file_size(*file, code) > 0) return;
  // A key alone may have been put there for a hub that is still to start.
  std::vector<std::string> left;
  for (const auto& one : {config.data_dir + "/token", config.data_dir + "/node", *file + "-wal"})
    if (std::filesystem::exists(one, code)) left.push_back(std::filesystem::path(one).filename().string());
  if (gone && left.empty()) return;
  Error error(Error::Kind::invalid,
              gone
                  ? fmt::format("The data folder {} was used before (it has {}), and the database {} is not there. Put "
                                "it back, from a backup if need be (docs/reference/store.md), or name the place where "
                                "it is with --store. To begin anew, move those files away.",
                                config.data_dir, fmt::join(left, ", "), *file)
                  : fmt::format("The database {} is empty (0 bytes): what was in it is gone. Put it back from a backup "
                                "(docs/reference/store.md). To begin anew, move it away{}{}.",
                                *file, left.empty() ? "" : ", and with it ", fmt::join(left, ", ")));
  error.code = "store_lost";
  throw error;
}

Core::Core(const Config& config, Clock& clock, Random& random, pipeline::ConnectorList connectors)
    : store_(open_store(config, clock)),
      keys_(open_keys(config, *store_, random)),
      tokens_(*store_, clock, random),
      connectors_(std::move(connectors)),
      connections_(*store_, keys_, clock),
      records_(*store_),
      sync_(*store_, connections_, connectors_, clock, random, config.sync),
      sender_(*store_, notify::make_channels(config.notify), config.notify, clock, random, pipeline::who_is_told),
      sync_jobs_(sync_, connections_),
      runner_settings_(runner_settings(config, random)),
      targets_(connections_, connectors_, clock),
      delivery_(
          *store_, [this](std::int64_t connection_id) { return targets_.get(connection_id); },
          "node " + runner_settings_.node.name),
      market_(*store_, clock),
      market_products_(*store_),
      traces_(*store_, connections_),
      marketplaces_(connections_, connectors_, clock, &traces_),
      order_books_(connections_, connectors_, clock),
      market_jobs_(
          market_, marketplaces_, order_books_,
          [this](std::int64_t connection_id) { return targets_.get(connection_id); },
          "node " + runner_settings_.node.name),
      market_stock_jobs_(*store_, marketplaces_, order_books_),
      market_catalog_jobs_(*store_, marketplaces_, order_books_),
      market_status_jobs_(
          market_, marketplaces_, keys_, [this](std::int64_t connection_id) { return targets_.get(connection_id); },
          "node " + runner_settings_.node.name),
      market_customers_(
          market_, marketplaces_, [this](std::int64_t connection_id) { return targets_.get(connection_id); },
          "node " + runner_settings_.node.name),
      job_kinds_(job_kinds(sync_jobs_, connectors_, delivery_, market_jobs_, market_stock_jobs_, market_catalog_jobs_,
                           market_status_jobs_, market_customers_),
                 pipeline::tell_of_dead_letters),
      jobs_(*store_, job_kinds_),
      runner_(*store_, job_kinds_, clock, random, runner_settings_),
      schedules_(job_kinds_),
      scheduler_(*store_, schedules_),
      inbox_(*store_, connectors_, config.inbox),
      mapping_(*store_),
      services_{.store = *store_,
                .tokens = tokens_,
                .keys = keys_,
                .connections = connections_,
                .connectors = connectors_,
                .records = records_,
                .sync = sync_,
                .sender = sender_,
                .jobs = jobs_,
                .schedules = schedules_,
                .scheduler = scheduler_,
                .inbox = inbox_,
                .mapping = mapping_,
                .market = market_,
                .market_products = market_products_,
                .marketplaces = marketplaces_,
                .traces = traces_,
                .clock = clock,
                .config = [lines = config.lines] { return lines; },
                .rotate_key = [this] { return rotate_key(); },
                .version = version(),
                .started = clock.now(),
                .trouble =
                    [this] {
                      const std::string full = store_->trouble();
                      return full.empty() ? runner_.status().trouble : full;
                    }} {
  pipeline::MarketStatus::seal_plain_otps(*store_, keys_);
}

std::int64_t Core::rotate_key() {
  std::int64_t count = 0;
  keys_.rotate([&] {
    store_->write([&](store::Session& session) {
      count = 0;
      session.lock(access::kSecretsLock);
      struct Row {
        std::int64_t id;
        std::string context, sealed;
      };
      std::vector<Row> rows;
      session.query(
          "SELECT id, name, secret FROM connection WHERE secret IS NOT NULL", std::initializer_list<store::Param>{},
          [&](const store::Row& row) {
            rows.push_back({row.int64(0), "connection:" + std::string(row.text(1)), std::string(row.bytes(2))});
          });
      for (const Row& row : rows) {
        if (row.sealed.empty() || keys_.is_current(row.sealed)) continue;
        const std::string sealed = keys_.seal(keys_.open(row.sealed, row.context), row.context);
        session.execute("UPDATE connection SET secret = $2 WHERE id = $1", {{row.id}, {store::Bytes{sealed}}});
        ++count;
      }
      count += pipeline::MarketStatus::reseal_otps(session, keys_);
    });
  });
  return count;
}

}  // namespace dragoman::app
