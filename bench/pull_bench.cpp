// The hub's side of the pull figures: the same store, connector and sync service as the program's own, in a process
// that measures itself. Unlike `dragoman sync run` it can tell the pull from the sweep that ends a run, and leaves out
// the start of the process. tools/run_bench.py starts it, beside the floors and the peers.
//
// pull_bench pull   DIR SETTINGS MODEL [AGAIN]   a pull of one model into a new store in DIR, then AGAIN runs that find
//                                                nothing new; prints one line of JSON
// pull_bench follow DIR SETTINGS TOKEN           follows everything at the default poll interval until its input ends;
// prints
//                                                a line per change whose body holds TOKEN and a number
// pull_bench store  DIR FROM                     the bodies captured in the folder FROM into a new file by nothing but
//                                                SQLite: the floor of the storing side
// SETTINGS is the connection's settings as JSON; its secret comes in ODOO_API_KEY.
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "access/sealed.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/random.h"
#include "connectors/catalog.h"
#include "pipeline/connections.h"
#include "pipeline/records.h"
#include "pipeline/sync.h"
#include "store/store.h"

namespace dragoman::bench {
namespace {

using nlohmann::json;
using pipeline::Plan;
using pipeline::Range;

struct Usage {
  double wall = 0, cpu = 0;
};
Usage usage(const Clock& clock) {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return {static_cast<double>(clock.steady().count()) / 1e6, seconds(used.ru_utime) + seconds(used.ru_stime)};
}
double peak_mb() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_maxrss) / 1024;
}

// What the benches want to know of the calls that pass through.
struct Watch {
  std::mutex mutex;
  std::optional<Usage> pull_ended;  ///< when the first poll began: the last page is durable then
  std::int64_t pages = 0, page_bytes = 0;
  std::vector<double> poll_ms;
};

class WatchedSource final : public pipeline::Source {
 public:
  WatchedSource(std::unique_ptr<Source> inner, Watch& watch, Clock& clock)
      : inner_(std::move(inner)), watch_(watch), clock_(clock) {}

  std::vector<std::string> default_models(std::stop_token stop) override { return inner_->default_models(stop); }
  std::optional<pipeline::Description> describe(const std::string& model, std::optional<Range> failing,
                                                std::stop_token stop) override {
    return inner_->describe(model, failing, stop);
  }
  std::int64_t count(const std::string& model, const Plan& plan, std::stop_token stop) override {
    return inner_->count(model, plan, stop);
  }
  std::int64_t last_id(const std::string& model, const Plan& plan, std::stop_token stop) override {
    return inner_->last_id(model, plan, stop);
  }
  std::unique_ptr<pipeline::Page> page(const std::string& model, const Plan& plan, Range range, std::int64_t limit,
                                       std::stop_token stop) override {
    auto page = inner_->page(model, plan, range, limit, stop);
    std::lock_guard lock(watch_.mutex);
    ++watch_.pages;
    watch_.page_bytes += page->bytes;
    return page;
  }
  std::unique_ptr<pipeline::Page> read(const std::string& model, const Plan& plan, const std::vector<std::int64_t>& ids,
                                       std::stop_token stop) override {
    return inner_->read(model, plan, ids, stop);
  }
  Stamps stamps(const std::string& model, const Plan& plan, std::optional<Time> since, Range range, std::int64_t limit,
                std::stop_token stop) override {
    if (since) {
      std::lock_guard lock(watch_.mutex);
      if (!watch_.pull_ended) watch_.pull_ended = usage(clock_);
    }
    auto stamps = inner_->stamps(model, plan, since, range, limit, stop);
    if (since) {
      std::lock_guard lock(watch_.mutex);
      watch_.poll_ms.push_back(static_cast<double>(stamps.took.count()) / 1e3);
    }
    return stamps;
  }
  std::vector<std::int64_t> existing(const std::string& model, const std::vector<std::int64_t>& ids,
                                     std::stop_token stop) override {
    return inner_->existing(model, ids, stop);
  }
  std::optional<std::string> binary(const std::string& model, std::int64_t id, const std::string& field,
                                    std::stop_token stop) override {
    return inner_->binary(model, id, field, stop);
  }
  std::string learnt() const override { return inner_->learnt(); }
  int places() const override { return inner_->places(); }
  std::int64_t calls() const override { return inner_->calls(); }

 private:
  std::unique_ptr<Source> inner_;
  Watch& watch_;
  Clock& clock_;
};

pipeline::ConnectorList watched(Watch& watch) {
  auto connectors = connectors::catalog().all();
  for (auto& connector : connectors)
    connector.make_source = [inner = connector.make_source, &watch](const pipeline::Connection& connection,
                                                                    const Secret& secret, Clock& clock) {
      return std::make_unique<WatchedSource>(inner(connection, secret, clock), watch, clock);
    };
  return pipeline::ConnectorList(std::move(connectors));
}

// A hub with one connection; a folder that is not fresh goes on where it was.
struct Hub {
  Hub(const std::string& dir, const json& settings)
      : store(store::open({.url = dir + "/dragoman.db"}, clock)),
        keys(access::KeyRing::open_file(dir + "/secret.key", random)),
        connectors(watched(watch)),
        connections(*store, keys, clock),
        sync(std::make_unique<pipeline::SyncService>(*store, connections, connectors, clock, random,
                                                     pipeline::SyncSettings{})) {
    const char* secret = std::getenv("ODOO_API_KEY");
    if (!connections.find("main"))
      connections.add("main", "odoo", connectors.check_settings("odoo", settings), Secret(secret ? secret : ""));
  }

  SystemClock clock;
  SystemRandom random;
  Watch watch;
  std::unique_ptr<store::Store> store;
  access::KeyRing keys;
  pipeline::ConnectorList connectors;
  pipeline::Connections connections;
  std::unique_ptr<pipeline::SyncService> sync;
};

json of(const pipeline::RunResult& run) {
  return {{"created", run.created},     {"changed", run.changed}, {"deleted", run.deleted},
          {"unchanged", run.unchanged}, {"calls", run.calls},     {"errors", run.errors}};
}

int pull(const std::string& dir, const json& settings, const std::string& model, int again) {
  Hub hub(dir, settings);
  const Usage start = usage(hub.clock);
  const auto run = hub.sync->run("main", {model}, {}, {});
  const Usage run_end = usage(hub.clock);
  if (!run.errors.empty()) throw Error(Error::Kind::unavailable, fmt::format("{}", fmt::join(run.errors, "; ")));
  const Usage end = hub.watch.pull_ended.value_or(run_end);
  json result = of(run);
  result["pages"] = hub.watch.pages;
  result["bytes"] = hub.watch.page_bytes;
  result["wall"] = end.wall - start.wall;
  result["run_wall"] = run_end.wall - start.wall;
  result["again"] = json::array();
  double cpu_again = 0;
  for (int i = 0; i < again; ++i) {
    const Usage before = usage(hub.clock);
    json one = of(hub.sync->run("main", {model}, {}, {}));
    const Usage after = usage(hub.clock);
    one["wall"] = after.wall - before.wall;
    one["cpu"] = after.cpu - before.cpu;
    cpu_again += after.cpu - before.cpu;
    result["again"].push_back(one);
  }
  // What the store still had to do for these records (its last checkpoint) belongs to them.
  const Usage closing = usage(hub.clock);
  hub.sync.reset();
  hub.store.reset();
  const Usage closed = usage(hub.clock);
  result["cpu"] = end.cpu - start.cpu + (closed.cpu - closing.cpu);
  result["run_cpu"] = closed.cpu - start.cpu - cpu_again;
  result["peak_mb"] = peak_mb();
  fmt::print("{}\n", result.dump());
  return 0;
}

int follow(const std::string& dir, const json& settings, const std::string& token) {
  Hub hub(dir, settings);
  hub.sync->start();
  std::jthread observer([&](std::stop_token stop) {
    pipeline::Records records(*hub.store);
    std::int64_t since = 0;
    bool said = false;
    while (!stop.stop_requested()) {
      records.wait(since, std::chrono::seconds(1), stop);
      for (;;) {
        const auto feed = records.changes({.since = since, .limit = 500, .bodies = true});
        const auto at = to_us(hub.clock.now());
        for (const auto& change : feed.changes) {
          if (!change.body) continue;
          const auto found = change.body->find(token);
          if (found != std::string::npos)
            fmt::print("{}\n", json{{"number", std::atoll(change.body->c_str() + found + token.size())},
                                    {"model", change.model},
                                    {"at_us", at}}
                                   .dump());
        }
        if (feed.next == since) break;
        since = feed.next;
      }
      if (!said) {
        const auto status = hub.sync->status("main");
        const auto& models = status.front().models;
        // The first sweeps follow right after the pull; they are over, too.
        const auto settled = [](const auto& model) {
          return model.phase == "unavailable" || (model.phase == "following" && model.swept);
        };
        if (!models.empty() && std::all_of(models.begin(), models.end(), settled)) {
          said = true;
          std::lock_guard lock(hub.watch.mutex);
          hub.watch.poll_ms.clear();  // from here on it is only following
          fmt::print("{}\n", json{{"following", models.size()}, {"records", since}}.dump());
        }
      }
      std::fflush(stdout);
    }
  });
  for (char ignored; ::read(0, &ignored, 1) > 0;) {
  }
  observer.request_stop();
  observer.join();
  hub.sync->stop();
  std::lock_guard lock(hub.watch.mutex);
  fmt::print("{}\n", json{{"poll_ms", hub.watch.poll_ms}}.dump());
  return 0;
}

// --- the floor of storing
// ---------------------------------------------------------------------------------------------

class Bare {
 public:
  explicit Bare(const std::string& path) {
    check(sqlite3_open(path.c_str(), &db_));
    exec("PRAGMA journal_mode = WAL");
    exec("PRAGMA synchronous = FULL");
  }
  ~Bare() { sqlite3_close(db_); }
  void exec(const char* sql) { check(sqlite3_exec(db_, sql, nullptr, nullptr, nullptr)); }
  sqlite3_stmt* prepare(const char* sql) {
    sqlite3_stmt* statement = nullptr;
    check(sqlite3_prepare_v2(db_, sql, -1, &statement, nullptr));
    return statement;
  }
  void check(int code) {
    if (code != SQLITE_OK) throw Error(Error::Kind::bug, sqlite3_errmsg(db_));
  }

 private:
  sqlite3* db_ = nullptr;
};

int store_floor(const std::string& dir, const std::string& from) {
  struct Row {
    std::int64_t id, write_date;
    std::string digest, body;
  };
  std::vector<Row> rows;
  std::vector<std::string> tables;
  {
    Bare source(from + "/dragoman.db");
    auto* read = source.prepare(
        "SELECT external_id, coalesce(write_date_us, 0), digest, body FROM change WHERE kind = 1 ORDER BY number");
    while (sqlite3_step(read) == SQLITE_ROW)
      rows.push_back({sqlite3_column_int64(read, 0),
                      sqlite3_column_int64(read, 1),
                      {static_cast<const char*>(sqlite3_column_blob(read, 2)),
                       static_cast<std::size_t>(sqlite3_column_bytes(read, 2))},
                      {static_cast<const char*>(sqlite3_column_blob(read, 3)),
                       static_cast<std::size_t>(sqlite3_column_bytes(read, 3))}});
    sqlite3_finalize(read);
    read = source.prepare("SELECT sql FROM sqlite_master WHERE type = 'table' AND name IN ('change', 'snapshot')");
    while (sqlite3_step(read) == SQLITE_ROW)
      tables.emplace_back(reinterpret_cast<const char*>(sqlite3_column_text(read, 0)));
    sqlite3_finalize(read);
  }
  SystemClock clock;
  const Usage start = usage(clock);
  {
    Bare target(dir + "/floor.db");
    for (const auto& table : tables) target.exec(table.c_str());
    auto* change = target.prepare(
        "INSERT INTO change (number, model_id, external_id, version, previous, kind, schema_number, company_id, "
        "write_date_us, seen_us, digest, body) VALUES (?1, 1, ?2, 1, 0, 1, 1, NULL, ?3, ?4, ?5, ?6)");
    auto* snapshot = target.prepare(
        "INSERT INTO snapshot (model_id, external_id, change_number, version, state, company_id, write_date_us, "
        "read_us, digest) VALUES (1, ?2, ?1, 1, 0, NULL, ?3, ?4, ?5)");
    for (std::size_t at = 0; at < rows.size(); at += 1000) {
      target.exec("BEGIN IMMEDIATE");
      for (std::size_t i = at; i < std::min(at + 1000, rows.size()); ++i)
        for (auto* statement : {change, snapshot}) {
          const Row& row = rows[i];
          sqlite3_bind_int64(statement, 1, static_cast<std::int64_t>(i) + 1);
          sqlite3_bind_int64(statement, 2, row.id);
          sqlite3_bind_int64(statement, 3, row.write_date);
          sqlite3_bind_int64(statement, 4, to_us(clock.now()));
          sqlite3_bind_blob(statement, 5, row.digest.data(), static_cast<int>(row.digest.size()), SQLITE_STATIC);
          if (statement == change)
            sqlite3_bind_blob(statement, 6, row.body.data(), static_cast<int>(row.body.size()), SQLITE_STATIC);
          if (sqlite3_step(statement) != SQLITE_DONE) throw Error(Error::Kind::bug, "the floor's insert failed");
          sqlite3_reset(statement);
        }
      target.exec("COMMIT");
    }
    sqlite3_finalize(change);
    sqlite3_finalize(snapshot);
  }
  const Usage end = usage(clock);
  fmt::print("{}\n",
             json{{"wall", end.wall - start.wall}, {"cpu", end.cpu - start.cpu}, {"records", rows.size()}}.dump());
  return 0;
}

int run(std::vector<std::string> args) {
  const std::string command = args.empty() ? "" : args[0];
  if (command == "pull" && args.size() >= 4)
    return pull(args[1], json::parse(args[2]), args[3], args.size() > 4 ? std::atoi(args[4].c_str()) : 0);
  if (command == "follow" && args.size() == 4) return follow(args[1], json::parse(args[2]), args[3]);
  if (command == "store" && args.size() == 3) return store_floor(args[1], args[2]);
  fmt::print(stderr,
             "usage: pull_bench pull DIR SETTINGS MODEL [AGAIN] | follow DIR SETTINGS TOKEN | store DIR FROM\n");
  return 64;
}

}  // namespace
}  // namespace dragoman::bench

int main(int argc, char** argv) {
  dragoman::keep_heap_small();
  try {
    return dragoman::bench::run({argv + 1, argv + argc});
  } catch (const dragoman::Error& error) {
    fmt::print(stderr, "pull_bench: {} {}\n", error.message, error.detail);
  } catch (const std::exception& error) {
    fmt::print(stderr, "pull_bench: {}\n", error.what());
  }
  return 1;
}
