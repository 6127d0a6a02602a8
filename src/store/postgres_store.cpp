#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "store/engine.h"
#include "store/postgres_connection.h"
#include "store/postgres_listener.h"
#include "store/signals.h"

namespace dragoman::store {
namespace {

// Connections besides those for reading, so that writers are not kept waiting by long reads.
constexpr int kWriters = 4;
// How often `work` runs again for a passing reason; between runs it waits 2, 4, 8, … ms, at most 100.
constexpr int kConflictRunsMax = 10;
// How often it runs again because the connection was cut: once for a connection that died while it lay in the pool,
// once more for a server that is just being restarted.
constexpr int kCutRunsMax = 3;

/// A stable number for a name, the same on every node and version (FNV-1a, 64 bits).
std::int64_t lock_number(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return static_cast<std::int64_t>(hash);
}

class PostgresSession final : public Session {
 public:
  explicit PostgresSession(PostgresConnection& connection) : connection_(connection) {}

  using Session::execute;
  using Session::query;

  Engine engine() const override { return Engine::postgres; }
  Time now() override {
    Time now;
    query("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)", std::span<const Param>(),
          [&](const Row& row) { now = row.time(0); });
    return now;
  }

  void query(std::string_view sql, std::span<const Param> params,
             const std::function<void(const Row&)>& each) override {
    bool in_callback = false;
    guarded(in_callback, [&] {
      connection_.query(sql, params, [&](const Row& row) {
        gave_rows_ = true;
        in_callback = true;
        each(row);
        in_callback = false;
      });
    });
  }

  std::int64_t execute(std::string_view sql, std::span<const Param> params) override {
    bool in_callback = false;
    std::int64_t changed = 0;
    guarded(in_callback, [&] { changed = connection_.execute(sql, params); });
    return changed;
  }

  void insert_many(std::string_view table, std::span<const std::string_view> columns, std::span<const Param> values,
                   std::span<const std::string_view> upsert_key) override {
    DRAGOMAN_ASSERT(!columns.empty() && values.size() % columns.size() == 0, "values are whole rows");
    bool in_callback = false;
    guarded(in_callback, [&] { connection_.insert_many(table, columns, values, upsert_key); });
  }

  void notify(std::string_view channel) override { notified_.emplace(channel); }
  void lock(std::string_view name) override {
    bool in_callback = false;
    const Param params[] = {lock_number(name)};
    guarded(in_callback, [&] { connection_.execute("SELECT pg_advisory_xact_lock($1)", params); });
  }
  void script(const std::string& sql) {
    bool in_callback = false;
    guarded(in_callback, [&] { connection_.script(sql); });
  }

  const std::set<std::string>& notified() const { return notified_; }
  bool gave_rows() const { return gave_rows_; }
  /// The first statement that failed, which is what ended the transaction, whatever `work` made of it.
  const std::exception_ptr& failure() const { return failure_; }

 private:
  template <typename F>
  void guarded(const bool& in_callback, F&& run) {
    if (failure_) std::rethrow_exception(failure_);
    try {
      run();
    } catch (...) {
      if (!in_callback) failure_ = std::current_exception();
      throw;
    }
  }

  PostgresConnection& connection_;
  std::set<std::string> notified_;
  std::exception_ptr failure_;
  bool gave_rows_ = false;
};

std::string code_of(const std::exception_ptr& failure) {
  if (!failure) return {};
  try {
    std::rethrow_exception(failure);
  } catch (const Error& error) {
    return error.code;
  } catch (...) {
    return {};
  }
}

class PostgresStore final : public Store {
 public:
  PostgresStore(const StoreSettings& settings, Clock& clock, std::span<const Migration> migrations)
      : url_(settings.url),
        connect_timeout_(settings.lock_timeout),
        connections_max_(std::max(1, settings.readers) + kWriters),
        clock_(clock),
        listener_(url_, connect_timeout_, signals_) {
    schema_version_ =
        migrate({.exclusively =
                     [&](const auto& work) {
                       run("BEGIN", true, [&](Session& session) {
                         session.lock("dragoman schema");
                         check_ours(session);
                         work(session);
                       });
                     },
                 .script = [](Session& s, const std::string& sql) { static_cast<PostgresSession&>(s).script(sql); }},
                migrations, Engine::postgres, clock_);
  }

  void read(const std::function<void(Session&)>& work) override {
    run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", false, work);
  }

  void write(const std::function<void(Session&)>& work) override {
    try {
      run("BEGIN", true, work);
    } catch (const Error& error) {
      if (error.code == "disk_full") {
        std::lock_guard lock(full_mutex_);
        full_ = error.message;
        full_at_ = clock_.steady();
      }
      throw;
    }
  }

  std::string trouble() override {
    // Small writes may go well all the while, and how much room the server has can't be asked.
    constexpr Micros kBelieved = std::chrono::seconds(30);
    std::lock_guard lock(full_mutex_);
    if (!full_.empty() && clock_.steady() - full_at_ > kBelieved) full_.clear();
    return full_;
  }

  std::uint64_t wait(std::string_view channel, std::uint64_t seen, Micros timeout, std::stop_token stop) override {
    CallbackGuard::assert_outside(this);
    listener_.start();
    return signals_.wait(channel, seen, clock_, timeout, stop, std::chrono::milliseconds(100), {});
  }

  void backup(const std::string&) override {
    CallbackGuard::assert_outside(this);
    const Lease lease(*this);
    raise(
        Error::Kind::invalid, "postgres_backup",
        fmt::format("a store on PostgreSQL is backed up by its own tools, for instance: pg_dump -Fc -f hub.dump "
                    "-h {} -p {} -U {} {}",
                    PQhost(lease->handle()), PQport(lease->handle()), PQuser(lease->handle()), PQdb(lease->handle())));
  }

  Info info() override {
    Info info{.engine = Engine::postgres};
    info.schema_version = schema_version_;
    run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", false, [&](Session& session) {
      session.query(
          "SELECT pg_database_size(current_database()), current_setting('server_version'), "
          "current_setting('synchronous_commit'), current_setting('fsync')",
          {}, [&](const Row& row) {
            info.bytes = row.int64(0);
            info.server_version = std::string(row.text(1));
            info.sync_mode = fmt::format("synchronous_commit={}, fsync={}", row.text(2), row.text(3));
          });
    });
    const Lease lease(*this);
    info.location = fmt::format("postgres://{}@{}:{}/{}", PQuser(lease->handle()), PQhost(lease->handle()),
                                PQport(lease->handle()), PQdb(lease->handle()));
    return info;
  }

 private:
  /// A connection, for a scope: an idle one, or a new one, at most `connections_max_` at once.
  class Lease {
   public:
    explicit Lease(PostgresStore& store) : store_(store) {
      {
        std::unique_lock lock(store.pool_mutex_);
        store.connection_free_.wait(lock, [&] { return store.lent_ < store.connections_max_; });
        ++store.lent_;
        if (!store.idle_.empty()) {
          connection_ = std::move(store.idle_.back());
          store.idle_.pop_back();
        }
      }
      if (connection_) return;
      try {
        connection_ = std::make_unique<PostgresConnection>(store.url_, store.connect_timeout_);
      } catch (...) {
        give_back();
        throw;
      }
    }
    ~Lease() { give_back(); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    PostgresConnection& operator*() const { return *connection_; }
    PostgresConnection* operator->() const { return connection_.get(); }

   private:
    void give_back() {
      {
        std::lock_guard lock(store_.pool_mutex_);
        --store_.lent_;
        if (connection_ && connection_->idle()) store_.idle_.push_back(std::move(connection_));
        // Whatever cut this one has most likely cut the others too.
        else if (connection_ && connection_->cut())
          store_.idle_.clear();
      }
      store_.connection_free_.notify_one();
    }

    PostgresStore& store_;
    std::unique_ptr<PostgresConnection> connection_;
  };

  void check_ours(Session& session) {
    // Tables that an extension brought don't count as somebody's.
    session.query(
        "SELECT to_regclass('dragoman_migration') IS NOT NULL, current_database(), EXISTS (SELECT 1 FROM pg_class c "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT EXISTS "
        "(SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'))",
        {}, [](const Row& row) {
          if (row.int64(0) == 0 && row.int64(2) == 1)
            raise(Error::Kind::invalid, "not_ours",
                  fmt::format("the database {} holds tables of another program: create an empty one for the store",
                              row.text(1)));
        });
  }

  /// Runs `work` in a transaction, again where the reason passes.
  void run(std::string_view begin, bool writes, const std::function<void(Session&)>& work) {
    const CallbackGuard guard(this);
    for (int conflicts = 0, cuts = 0;;) {
      std::exception_ptr failure;
      {
        const Lease lease(*this);
        PostgresSession session(*lease);
        try {
          session.execute(begin);
          work(session);
          if (session.failure()) std::rethrow_exception(session.failure());
          commit(*lease, session);
          return;
        } catch (const InDoubt& lost) {
          throw lost.error;
        } catch (...) {
          failure = std::current_exception();
        }
        if (!lease->cut()) roll_back(*lease);
        const auto code = code_of(session.failure() ? session.failure() : failure);
        // What a read has given out can't be taken back; its caller decides.
        const bool repeatable = writes || !session.gave_rows();
        if (code == "cut" && lease->cut() && repeatable && ++cuts < kCutRunsMax) {
          log::info("the connection to the store was cut: once more", {{"cut", cuts}});
        } else if (code == "serialization" && repeatable && ++conflicts < kConflictRunsMax) {
          log::debug("others changed the same records: once more", {{"run", conflicts}});
        } else {
          std::rethrow_exception(failure);
        }
      }
      if (conflicts > 0) clock_.wait(std::chrono::milliseconds(std::min(100, 1 << std::min(conflicts, 7))), {});
    }
  }

  /// A commit whose answer was lost, which must not be run again.
  struct InDoubt {
    Error error;
  };

  void commit(PostgresConnection& connection, PostgresSession& session) {
    // In one message with COMMIT, so that notifying costs no round trip.
    std::string sql;
    for (const auto& channel : session.notified())
      sql += fmt::format("SELECT pg_notify('{}', {}); ", kPostgresChannel, connection.literal(channel));
    try {
      connection.script(sql + "COMMIT");
    } catch (const Error& error) {
      if (error.code != "cut") throw;
      Error lost(Error::Kind::in_doubt,
                 "the connection to the store's database was cut while it was asked to commit: the change may be "
                 "there or not",
                 error.detail);
      lost.code = "commit";
      throw InDoubt{lost};
    }
  }

  void roll_back(PostgresConnection& connection) {
    if (PQtransactionStatus(connection.handle()) == PQTRANS_IDLE) return;
    try {
      connection.script("ROLLBACK");
    } catch (const Error& error) {
      ignore_error("a transaction that cannot be rolled back ends with its connection", error);
    }
  }

  const std::string url_;
  const Micros connect_timeout_;
  const int connections_max_;
  Clock& clock_;
  int schema_version_ = 0;

  std::mutex pool_mutex_;
  std::condition_variable connection_free_;
  std::vector<std::unique_ptr<PostgresConnection>> idle_;
  int lent_ = 0;

  Signals signals_;
  std::mutex full_mutex_;  ///< guards what follows
  std::string full_;       ///< what the last write that met a full disk said
  Micros full_at_{};
  PostgresListener listener_;
};

}  // namespace

std::unique_ptr<Store> open_postgres(const StoreSettings& settings, Clock& clock,
                                     std::span<const Migration> migrations) {
  return std::make_unique<PostgresStore>(settings, clock, migrations);
}

}  // namespace dragoman::store
