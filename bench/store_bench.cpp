// P9: how much of the bare engine's speed is left when rows go through the store. Both sides upsert the same 2 KB rows
// in commits of 500, half of the rows are there already; each side has a database of its own.
//
// store_bench [--pairs 9] [--rows 10000]; PostgreSQL is the server that DRAGOMAN_TEST_PG names.
#include <libpq-fe.h>
#include <sqlite3.h>

#include <cstdlib>
#include <filesystem>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "bench/figure.h"
#include "store/engine.h"

namespace dragoman::bench {
namespace {

using store::Bytes;
using store::Param;

constexpr std::int64_t kCommit = 500;
constexpr store::Migration kSchema[] = {
    {1, "bench",
     "CREATE TABLE record (model_id {{int}} NOT NULL, external_id {{int}} NOT NULL, write_date_us {{int}}, "
     "digest {{bytes}}, body {{bytes}}, PRIMARY KEY (model_id, external_id)) {{strict}};"}};
constexpr std::string_view kColumns[] = {"model_id", "external_id", "write_date_us", "digest", "body"};
constexpr std::string_view kKey[] = {"model_id", "external_id"};
constexpr const char* kUpsert =
    " ON CONFLICT (model_id, external_id) DO UPDATE SET write_date_us = excluded.write_date_us, "
    "digest = excluded.digest, body = excluded.body";

/// The rows of one run: the ids move on by half a run each time.
class Rows {
 public:
  explicit Rows(std::int64_t count, std::uint64_t seed) : count_(count) {
    SeededRandom random(seed);
    for (int i = 0; i < 64; ++i) bodies_.push_back("{\"name\": \"" + random_hex(random, 1000) + "\"}");
    digest_ = random_hex(random, 16);
  }
  std::int64_t count() const { return count_; }
  std::int64_t id(std::int64_t run, std::int64_t i) const { return run * count_ / 2 + i; }
  std::string_view body(std::int64_t id) const { return bodies_[static_cast<std::size_t>(id) % bodies_.size()]; }
  std::string_view digest() const { return digest_; }

 private:
  std::int64_t count_;
  std::vector<std::string> bodies_;
  std::string digest_;
};

void ingest(store::Store& store, const Rows& rows, std::int64_t run) {
  for (std::int64_t at = 0; at < rows.count(); at += kCommit) {
    std::vector<Param> values;
    values.reserve(static_cast<std::size_t>(kCommit) * std::size(kColumns));
    for (std::int64_t i = at; i < std::min(at + kCommit, rows.count()); ++i) {
      const auto id = rows.id(run, i);
      values.insert(values.end(), {Param(std::int64_t{1}), Param(id), Param(run), Param(Bytes{rows.digest()}),
                                   Param(Bytes{rows.body(id)})});
    }
    store.write([&](store::Session& session) { session.insert_many("record", kColumns, values, kKey); });
  }
}

[[noreturn]] void give_up(std::string_view what) {
  fmt::print(stderr, "{}\n", what);
  std::exit(1);
}

/// Nothing but SQLite, with the same durability and its own defaults for the rest.
class BareSqlite {
 public:
  explicit BareSqlite(const std::string& path) {
    if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) give_up(sqlite3_errmsg(db_));
    exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    exec(store::expand(kSchema[0].sql, store::Engine::sqlite).c_str());
    const auto sql = std::string("INSERT INTO record VALUES (?, ?, ?, ?, ?)") + kUpsert;
    if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &insert_, nullptr) != SQLITE_OK) give_up(sqlite3_errmsg(db_));
  }
  ~BareSqlite() {
    sqlite3_finalize(insert_);
    sqlite3_close(db_);
  }
  void ingest(const Rows& rows, std::int64_t run) {
    for (std::int64_t at = 0; at < rows.count(); at += kCommit) {
      exec("BEGIN IMMEDIATE");
      for (std::int64_t i = at; i < std::min(at + kCommit, rows.count()); ++i) {
        const auto id = rows.id(run, i);
        const auto body = rows.body(id), digest = rows.digest();
        sqlite3_bind_int64(insert_, 1, 1);
        sqlite3_bind_int64(insert_, 2, id);
        sqlite3_bind_int64(insert_, 3, run);
        sqlite3_bind_blob(insert_, 4, digest.data(), static_cast<int>(digest.size()), SQLITE_STATIC);
        sqlite3_bind_blob(insert_, 5, body.data(), static_cast<int>(body.size()), SQLITE_STATIC);
        if (sqlite3_step(insert_) != SQLITE_DONE) give_up(sqlite3_errmsg(db_));
        sqlite3_reset(insert_);
      }
      exec("COMMIT");
    }
  }

 private:
  void exec(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) give_up(sqlite3_errmsg(db_));
  }
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
};

/// Nothing but libpq: binary COPY into a temporary table, and one statement that merges it.
class BarePostgres {
 public:
  explicit BarePostgres(const std::string& url) : connection_(PQconnectdb(url.c_str())) {
    if (PQstatus(connection_) != CONNECTION_OK) give_up(PQerrorMessage(connection_));
    exec(store::expand(kSchema[0].sql, store::Engine::postgres));
    exec("CREATE TEMP TABLE arrived (LIKE record) ON COMMIT DELETE ROWS");
  }
  ~BarePostgres() { PQfinish(connection_); }
  void exec(const std::string& sql) {
    PGresult* result = PQexec(connection_, sql.c_str());
    const auto status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_COPY_IN)
      give_up(PQerrorMessage(connection_));
    PQclear(result);
  }
  void ingest(const Rows& rows, std::int64_t run) {
    for (std::int64_t at = 0; at < rows.count(); at += kCommit) {
      exec("BEGIN");
      exec("COPY arrived FROM STDIN (FORMAT binary)");
      std::string buffer("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
      for (std::int64_t i = at; i < std::min(at + kCommit, rows.count()); ++i) {
        const auto id = rows.id(run, i);
        number(buffer, 5, 2);
        for (const auto value : {std::int64_t{1}, id, run}) {
          number(buffer, 8, 4);
          number(buffer, value, 8);
        }
        for (const auto bytes : {rows.digest(), rows.body(id)}) {
          number(buffer, static_cast<std::int64_t>(bytes.size()), 4);
          buffer += bytes;
        }
      }
      number(buffer, -1, 2);
      PQputCopyData(connection_, buffer.data(), static_cast<int>(buffer.size()));
      PQputCopyEnd(connection_, nullptr);
      while (PGresult* result = PQgetResult(connection_)) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK) give_up(PQerrorMessage(connection_));
        PQclear(result);
      }
      exec(std::string("INSERT INTO record SELECT * FROM arrived") + kUpsert);
      exec("COMMIT");
    }
  }

 private:
  static void number(std::string& buffer, std::int64_t value, int bytes) {
    for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) buffer += static_cast<char>(value >> shift);
  }
  PGconn* connection_;
};

void report(std::string_view engine, const Pairs& pairs, std::int64_t rows) {
  std::vector<double> ratios, ours, floor;
  for (std::size_t i = 0; i < pairs.ours.size(); ++i) {
    ratios.push_back(pairs.floor[i] / pairs.ours[i]);
    ours.push_back(static_cast<double>(rows) / pairs.ours[i]);
    floor.push_back(static_cast<double>(rows) / pairs.floor[i]);
  }
  print_figure(fmt::format("P9 rows through the store / bare {}", engine), estimate(ratios), "ratio", 0.5, "higher");
  print_figure(fmt::format("P9 rows through the store, {}", engine), estimate(ours), "rows/s");
  print_figure(fmt::format("P9 rows into bare {}", engine), estimate(floor), "rows/s");
}

int run(int argc, char** argv) {
  const auto pairs = option(argc, argv, "pairs", 9);
  const Rows rows(option(argc, argv, "rows", 10'000), 1);
  log::configure(log::Level::warning, "");
  SystemClock clock;
  SystemRandom random;

  const auto folder = std::filesystem::temp_directory_path() / ("dragoman-bench-" + random_hex(random, 6));
  std::filesystem::create_directory(folder);
  {
    const auto ours = store::open({.url = (folder / "ours.db").string()}, clock, kSchema);
    BareSqlite bare((folder / "bare.db").string());
    print_setting(fmt::format("SQLite {}, {}, {} rows of 2 KB in commits of {}, {} pairs", sqlite3_libversion(),
                              ours->info().sync_mode, rows.count(), kCommit, pairs));
    std::int64_t our_run = 0, bare_run = 0;
    report("SQLite",
           measure_pairs(
               pairs, [&] { ingest(*ours, rows, our_run++); }, [&] { bare.ingest(rows, bare_run++); }),
           rows.count());
  }
  std::filesystem::remove_all(folder);

  const char* server = std::getenv("DRAGOMAN_TEST_PG");
  if (!server || !*server) {
    fmt::print(stderr, "DRAGOMAN_TEST_PG names no PostgreSQL: its figures are left out\n");
    return 0;
  }
  PGconn* admin = PQconnectdb(server);
  const auto name = "bench_" + random_hex(random, 6);
  const auto exec = [&](const std::string& sql) {
    PGresult* result = PQexec(admin, sql.c_str());
    if (PQresultStatus(result) != PGRES_COMMAND_OK) give_up(PQerrorMessage(admin));
    PQclear(result);
  };
  for (const char* side : {"_ours", "_bare"}) exec("CREATE DATABASE " + name + side);
  {
    const std::string url(server);
    const auto base = url.substr(0, url.find('/', url.find("://") + 3)) + "/" + name;
    const auto ours = store::open({.url = base + "_ours"}, clock, kSchema);
    BarePostgres bare(base + "_bare");
    print_setting(fmt::format("PostgreSQL {}, {}", ours->info().server_version, ours->info().sync_mode));
    std::int64_t our_run = 0, bare_run = 0;
    report("PostgreSQL COPY + merge",
           measure_pairs(
               pairs, [&] { ingest(*ours, rows, our_run++); }, [&] { bare.ingest(rows, bare_run++); }),
           rows.count());
  }
  for (const char* side : {"_ours", "_bare"}) exec("DROP DATABASE " + name + side + " WITH (FORCE)");
  PQfinish(admin);
  return 0;
}

}  // namespace
}  // namespace dragoman::bench

int main(int argc, char** argv) {
  return dragoman::bench::run(argc, argv);
}
