#include "app/bench_floor.h"

#include <fmt/format.h>
#include <libpq-fe.h>
#include <sqlite3.h>

#include <algorithm>
#include <initializer_list>
#include <map>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace dragoman::app {
namespace {

// A time, a hash and texts of the lengths that the hub's rows have.
constexpr std::int64_t kNow = 1'800'000'000'000'000;
const std::string kHash(32, 'h');
constexpr std::string_view kAction = "odoo.import", kActor = "node bench", kCounts = R"({"created":50})";

struct Taken {
  std::int64_t id = 0, fence = 0;
};

[[noreturn]] void fail(std::string_view what) {
  throw Error(Error::Kind::unavailable, fmt::format("The floor of the bench failed: {}.", what));
}

class SqliteFloor final : public BenchFloor {
 public:
  explicit SqliteFloor(const std::string& path) {
    if (sqlite3_open_v2(path.c_str(), &db_, SQLITE_OPEN_READWRITE, nullptr) != SQLITE_OK) fail(sqlite3_errmsg(db_));
    script("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -65536");
  }
  ~SqliteFloor() override {
    for (const auto& [sql, statement] : statements_) sqlite3_finalize(statement);
    sqlite3_close(db_);
  }

  void run(const Batches& batches) override {
    std::vector<Taken> held;
    while (true) {
      script("BEGIN IMMEDIATE");
      finish(held, batches.call);
      held = claim(batches.turn);
      script("COMMIT");
      if (held.empty()) return;
      if (batches.call == 0) continue;
      for (std::size_t at = 0; at < held.size(); at += static_cast<std::size_t>(batches.call)) {
        script("BEGIN IMMEDIATE");
        intend(std::span(held).subspan(at, std::min<std::size_t>(batches.call, held.size() - at)));
        script("COMMIT");
      }
    }
  }

 private:
  void script(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail(sqlite3_errmsg(db_));
  }
  sqlite3_stmt* prepared(const char* sql) {
    auto& statement = statements_[sql];
    if (!statement && sqlite3_prepare_v3(db_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr) != SQLITE_OK)
      fail(sqlite3_errmsg(db_));
    sqlite3_reset(statement);
    return statement;
  }
  static void bind(sqlite3_stmt* statement, int at, std::int64_t value) { sqlite3_bind_int64(statement, at, value); }
  static void bind(sqlite3_stmt* statement, int at, std::string_view text) {
    sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
  }
  template <typename... Values>
  void execute(const char* sql, Values... values) {
    auto* statement = prepared(sql);
    int at = 0;
    (bind(statement, ++at, values), ...);
    const int code = sqlite3_step(statement);
    if (code != SQLITE_DONE && code != SQLITE_ROW) fail(sqlite3_errmsg(db_));
    sqlite3_reset(statement);
  }

  std::vector<Taken> claim(std::int64_t most) {
    std::vector<Taken> taken;
    auto* statement = prepared(
        "SELECT id, fence, payload FROM job WHERE lane_id = 1 AND state = 0 AND hold = 0 ORDER BY priority, id LIMIT ?1");
    bind(statement, 1, most);
    while (sqlite3_step(statement) == SQLITE_ROW)
      taken.push_back({sqlite3_column_int64(statement, 0), sqlite3_column_int64(statement, 1) + 1});
    sqlite3_reset(statement);
    for (const auto& one : taken)
      execute(
          "UPDATE job SET state = 2, attempt = attempt + 1, fence = fence + 1, node_id = 1, started_us = ?2 WHERE id = ?1",
          one.id, kNow);
    return taken;
  }

  void intend(std::span<const Taken> jobs) {
    execute(
        "INSERT INTO sync_log (connection_id, model, kind, started_us, finished_us, outcome, counts) VALUES (1, "
        "'res.partner', 'deliver', ?1, ?1, 'running', '{}')",
        kNow);
    run_ = sqlite3_last_insert_rowid(db_);
    for (const auto& job : jobs) {
      const std::string key = fmt::format("bench-{}", job.id);
      execute("SELECT version FROM delivery WHERE connection_id = 1 AND model = 'res.partner' AND record_key = ?1",
              std::string_view(key));
      execute(
          "INSERT INTO delivery (connection_id, model, record_key, intent_job, intent_version, intent_digest, "
          "intent_run, intent_us) VALUES (1, 'res.partner', ?1, ?2, 1, CAST('digestdigestdige' AS BLOB), ?3, ?4)",
          std::string_view(key), job.id, run_, kNow);
    }
  }

  void finish(std::span<const Taken> jobs, std::int64_t call) {
    if (jobs.empty()) return;
    for (const auto& job : jobs) {
      if (call > 0) {
        const std::string key = fmt::format("bench-{}", job.id), there = fmt::format("bench:res.partner:{}", job.id);
        execute(
            "UPDATE delivery SET version = 1, digest = CAST('digestdigestdige' AS BLOB), external_id = ?2, job_id = ?3, "
            "applied_us = ?4, intent_job = NULL, intent_version = NULL, intent_digest = NULL, intent_run = NULL, "
            "intent_us = NULL WHERE connection_id = 1 AND model = 'res.partner' AND record_key = ?1 AND version <= 1",
            std::string_view(key), std::string_view(there), job.id, kNow);
        execute(
            "INSERT INTO integration_mapping (connection_id, entity, internal_id, external_id, cause, created_us) VALUES "
            "(1, 'customer', ?1, ?2, 'job', ?3)",
            std::string_view(key), std::string_view(there), kNow);
        execute(
            "INSERT INTO audit (number, at_us, actor, action, subject, why, outcome, state_before, state_after, hash) "
            "VALUES (?1, ?2, ?3, ?4, ?5, 'bench', 'created', '', '', CAST(?6 AS BLOB))",
            ++audited_, kNow, kActor, kAction, std::string_view(there), std::string_view(kHash));
      }
      execute("UPDATE job SET state = 4, finished_us = ?3, result = '' WHERE id = ?1 AND fence = ?2 AND state = 2", job.id,
              job.fence, kNow);
    }
    if (call > 0) {
      const auto runs = (static_cast<std::int64_t>(jobs.size()) + call - 1) / call;
      for (std::int64_t run = run_ - runs + 1; run <= run_; ++run)
        execute("UPDATE sync_log SET finished_us = ?2, outcome = 'ok', counts = ?3 WHERE id = ?1", run, kNow, kCounts);
      execute("UPDATE audit_head SET entries = ?1, hash = CAST(?2 AS BLOB)", audited_, std::string_view(kHash));
    }
    execute(
        "INSERT INTO job_tally (lane_id, slot, done, cancelled) VALUES (1, 0, ?1, 0) ON CONFLICT (lane_id, slot) DO "
        "UPDATE SET done = done + excluded.done",
        static_cast<std::int64_t>(jobs.size()));
  }

  sqlite3* db_ = nullptr;
  std::map<const char*, sqlite3_stmt*> statements_;
  std::int64_t run_ = 0, audited_ = 0;
};

class PostgresFloor final : public BenchFloor {
 public:
  explicit PostgresFloor(const std::string& url) : connection_(PQconnectdb(url.c_str())) {
    if (PQstatus(connection_) != CONNECTION_OK) fail(PQerrorMessage(connection_));
  }
  ~PostgresFloor() override {
    PQclear(last_);
    PQfinish(connection_);
  }

  void run(const Batches& batches) override {
    std::vector<Taken> held;
    while (true) {
      execute("BEGIN", {});
      finish(held, batches.call);
      held = claim(batches.turn);
      execute("COMMIT", {});
      if (held.empty()) return;
      if (batches.call == 0) continue;
      for (std::size_t at = 0; at < held.size(); at += static_cast<std::size_t>(batches.call)) {
        execute("BEGIN", {});
        intend(std::span(held).subspan(at, std::min<std::size_t>(batches.call, held.size() - at)));
        execute("COMMIT", {});
      }
    }
  }

 private:
  struct Result {
    PGresult* result = nullptr;
    ~Result() { PQclear(result); }
  };
  // Prepared once, as the hub's are.
  PGresult* execute(const std::string& sql, std::initializer_list<std::string> values) {
    const auto [known, fresh] = names_.try_emplace(sql, fmt::format("f{}", names_.size()));
    if (fresh) {
      const Result made{PQprepare(connection_, known->second.c_str(), sql.c_str(), 0, nullptr)};
      if (PQresultStatus(made.result) != PGRES_COMMAND_OK) fail(PQerrorMessage(connection_));
    }
    std::vector<const char*> texts;
    for (const auto& value : values) texts.push_back(value.c_str());
    PGresult* result = PQexecPrepared(connection_, known->second.c_str(), static_cast<int>(texts.size()), texts.data(),
                                      nullptr, nullptr, 0);
    PQclear(std::exchange(last_, result));
    const auto status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) fail(PQerrorMessage(connection_));
    return result;
  }

  std::vector<Taken> claim(std::int64_t most) {
    const auto* rows = execute(
        "UPDATE job SET state = 2, attempt = attempt + 1, fence = fence + 1, node_id = 1, started_us = $2 WHERE id = "
        "ANY(ARRAY(SELECT id FROM job WHERE lane_id = 1 AND state = 0 AND hold = 0 ORDER BY priority, id LIMIT $1 FOR "
        "UPDATE SKIP LOCKED)) RETURNING id, fence, payload",
        {std::to_string(most), std::to_string(kNow)});
    std::vector<Taken> taken;
    for (int row = 0; row < PQntuples(rows); ++row)
      taken.push_back({std::atoll(PQgetvalue(rows, row, 0)), std::atoll(PQgetvalue(rows, row, 1))});
    return taken;
  }

  template <typename Of>
  static std::string array(std::span<const Taken> jobs, Of of) {
    std::string out = "{";
    for (const auto& job : jobs) out += fmt::format("{}{}", out.size() > 1 ? "," : "", of(job));
    return out + "}";
  }
  static std::string ids(std::span<const Taken> jobs) {
    return array(jobs, [](const Taken& job) { return job.id; });
  }

  void intend(std::span<const Taken> jobs) {
    const std::string now = std::to_string(kNow);
    const auto* row = execute(
        "INSERT INTO sync_log (connection_id, model, kind, started_us, finished_us, outcome, counts) VALUES (1, "
        "'res.partner', 'deliver', $1, $1, 'running', '{}') RETURNING id",
        {now});
    run_ = std::atoll(PQgetvalue(row, 0, 0));
    execute(
        "SELECT record_key, version FROM delivery WHERE connection_id = 1 AND model = 'res.partner' AND record_key IN "
        "(SELECT 'bench-' || unnest(CAST($1 AS bigint[])))",
        {ids(jobs)});
    execute(
        "INSERT INTO delivery (connection_id, model, record_key, intent_job, intent_version, intent_digest, intent_run, "
        "intent_us) SELECT 1, 'res.partner', 'bench-' || id, id, 1, 'digestdigestdige', $2, $3 FROM "
        "unnest(CAST($1 AS bigint[])) id",
        {ids(jobs), std::to_string(run_), now});
  }

  void finish(std::span<const Taken> jobs, std::int64_t call) {
    if (jobs.empty()) return;
    const std::string now = std::to_string(kNow), all = ids(jobs);
    execute(
        "UPDATE job SET state = 4, finished_us = $3 FROM (SELECT unnest(CAST($1 AS bigint[])) AS id, unnest(CAST($2 AS "
        "bigint[])) AS fence) d WHERE job.id = d.id AND job.fence = d.fence AND job.state = 2",
        {all, array(jobs, [](const Taken& job) { return job.fence; }), now});
    if (call > 0) {
      execute(
          "UPDATE delivery SET version = 1, digest = 'digestdigestdige', external_id = 'bench:res.partner:' || d.id, "
          "job_id = d.id, applied_us = $2, intent_job = NULL, intent_version = NULL, intent_digest = NULL, intent_run = "
          "NULL, intent_us = NULL FROM unnest(CAST($1 AS bigint[])) d(id) WHERE connection_id = 1 AND model = "
          "'res.partner' AND record_key = 'bench-' || d.id AND version <= 1",
          {all, now});
      execute(
          "INSERT INTO integration_mapping (connection_id, entity, internal_id, external_id, cause, created_us) SELECT 1, "
          "'customer', 'bench-' || id, 'bench:res.partner:' || id, 'job', $2 FROM unnest(CAST($1 AS bigint[])) id",
          {all, now});
      const auto runs = (static_cast<std::int64_t>(jobs.size()) + call - 1) / call;
      execute("UPDATE sync_log SET finished_us = $3, outcome = 'ok', counts = $4 WHERE id > $1 AND id <= $2",
              {std::to_string(run_ - runs), std::to_string(run_), now, std::string(kCounts)});
      execute("SELECT entries, hash FROM audit_head FOR UPDATE", {});
      execute(
          "INSERT INTO audit (number, at_us, actor, action, subject, why, outcome, state_before, state_after, hash) "
          "SELECT $2 + row_number() OVER (), $3, $4, $5, 'bench:res.partner:' || id, 'bench', 'created', '', '', "
          "CAST(CAST($6 AS text) AS bytea) FROM unnest(CAST($1 AS bigint[])) id",
          {all, std::to_string(audited_), now, std::string(kActor), std::string(kAction), kHash});
      audited_ += static_cast<std::int64_t>(jobs.size());
      execute("UPDATE audit_head SET entries = $1, hash = CAST(CAST($2 AS text) AS bytea)",
              {std::to_string(audited_), kHash});
    }
    execute(
        "INSERT INTO job_tally (lane_id, slot, done, cancelled) VALUES (1, 0, $1, 0) ON CONFLICT (lane_id, slot) DO UPDATE "
        "SET done = job_tally.done + excluded.done",
        {std::to_string(jobs.size())});
  }

  PGconn* connection_;
  PGresult* last_ = nullptr;
  std::map<std::string, std::string> names_;
  std::int64_t run_ = 0, audited_ = 0;
};

}  // namespace

std::unique_ptr<BenchFloor> make_floor(store::Engine engine, const std::string& location) {
  if (engine == store::Engine::sqlite) return std::make_unique<SqliteFloor>(location);
  return std::make_unique<PostgresFloor>(location);
}

void run_on_postgres(const std::string& url, const std::string& sql) {
  PGconn* connection = PQconnectdb(url.c_str());
  std::string message = PQstatus(connection) == CONNECTION_OK ? "" : PQerrorMessage(connection);
  PGresult* result = message.empty() ? PQexec(connection, sql.c_str()) : nullptr;
  const auto status = PQresultStatus(result);
  const bool fine = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
  if (!fine && message.empty()) message = PQerrorMessage(connection);
  PQclear(result);
  PQfinish(connection);
  if (!fine)
    throw Error(Error::Kind::unavailable, fmt::format("PostgreSQL refused: {}", message.substr(0, message.find('\n'))));
}

}  // namespace dragoman::app
