#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "base/random.h"

namespace dragoman::store {

enum class Engine { sqlite, postgres };

/// A byte string that is not text (BLOB, bytea). Borrowed like string_view.
struct Bytes {
  Bytes() = default;
  explicit Bytes(std::string_view bytes)
      : data(bytes) {}  // not an aggregate: a string must not turn into one by itself
  std::string_view data;
};

/// A parameter of a statement. Borrowed: must outlive the call it is given to.
using Param = std::variant<std::nullptr_t, std::int64_t, double, std::string_view, Bytes>;

/// One row of an answer. Views are valid until the callback that was given the row returns.
class Row {
 public:
  virtual ~Row() = default;
  virtual bool is_null(int column) const = 0;
  virtual std::int64_t int64(int column) const = 0;
  virtual double real(int column) const = 0;
  virtual std::string_view text(int column) const = 0;
  virtual std::string_view bytes(int column) const = 0;

  std::optional<std::int64_t> maybe_int64(int column) const {
    return is_null(column) ? std::nullopt : std::optional(int64(column));
  }
  std::optional<std::string> maybe_text(int column) const {
    return is_null(column) ? std::nullopt : std::optional(std::string(text(column)));
  }
  Time time(int column) const { return from_us(int64(column)); }
  std::optional<Time> maybe_time(int column) const {
    return is_null(column) ? std::nullopt : std::optional(time(column));
  }
};

/// One connection inside one transaction (or one read snapshot). Lives only inside the callback of
/// Store::read or Store::write. SQL is the common subset of SQLite and PostgreSQL with `$1` parameters;
/// booleans are integers 0 and 1, times integer microseconds. Text is UTF-8 without NUL; anything else is Bytes.
///
/// A statement that fails fails the transaction, even where its error is caught: later statements throw it again,
/// and so does Store::write in the end.
///
/// Threads: one thread at a time: the one that the callback runs on.
class Session {
 public:
  virtual ~Session() = default;
  virtual Engine engine() const = 0;

  /// The database's time: of PostgreSQL's server, of SQLite's the clock that the store was opened with. What several
  /// nodes compare comes from here, since their own clocks may differ. It moves on within a transaction.
  virtual Time now() = 0;

  /// Calls `each` for every row, while rows still come in. Statements are prepared once per connection and text, so
  /// the text holds no values. `each` may run other statements, but not one of the same text. A NULL whose type
  /// cannot be told from where it stands (`$1 IS NULL`) needs a CAST.
  virtual void query(std::string_view sql, std::span<const Param> params,
                     const std::function<void(const Row&)>& each) = 0;
  /// Returns the number of rows changed.
  virtual std::int64_t execute(std::string_view sql, std::span<const Param> params) = 0;

  void query(std::string_view sql, std::initializer_list<Param> params, const std::function<void(const Row&)>& each) {
    query(sql, std::span(params.begin(), params.size()), each);
  }
  std::int64_t execute(std::string_view sql, std::initializer_list<Param> params = {}) {
    return execute(sql, std::span(params.begin(), params.size()));
  }
  /// True if there was a row; `each` sees the first only.
  bool first(std::string_view sql, std::initializer_list<Param> params, const std::function<void(const Row&)>& each);

  /// Inserts many rows as fast as the engine can (SQLite: one prepared statement; PostgreSQL: COPY, or arrays where
  /// there is a key). `values` holds rows × columns.size() parameters, row after row. A conflict fails the whole
  /// call, unless `upsert_key` names the columns of a unique key, all of them among `columns`: then the other columns
  /// of the existing row are replaced, and of several rows with one key the last counts.
  virtual void insert_many(std::string_view table, std::span<const std::string_view> columns,
                           std::span<const Param> values, std::span<const std::string_view> upsert_key = {}) = 0;

  /// When (and only when) this transaction commits, wakes those who wait on `channel`, on every node.
  virtual void notify(std::string_view channel) = 0;

  /// Held until the transaction ends, across nodes; waits for it. SQLite: the one writer holds everything already.
  virtual void lock(std::string_view name) = 0;
};

/// What `dragoman store info` shows.
struct Info {
  Engine engine;
  std::string location;  ///< path, or URL without password
  std::string server_version;
  std::int64_t schema_version = 0;
  std::int64_t bytes = 0;
  std::string sync_mode;
};

/// The hub's database: durable when `write` has returned.
///
/// SQLite: WAL, synchronous=FULL, one writer connection (writes queue fairly), a pool of readers, checkpoints
/// by one connection only. PostgreSQL: a pool of connections that are made again after a cut.
///
/// Errors  unavailable (server away; disk full: code `disk_full`; read-only: code `read_only`), in_doubt (PostgreSQL
///         was cut off while it committed), busy (locked by another process), invalid (not our file: code `not_ours`;
///         newer version: `newer`; damaged: `corrupt`; text that is no text: `text`), conflict (a unique key: code
///         `unique`; a reference: `foreign_key`), forbidden (the PostgreSQL user lacks a right), bug (any other SQL
///         error). After each of them the store can be used again.
/// Threads safe from any thread. A callback runs on the calling thread, and must not call the Store again.
class Store {
 public:
  virtual ~Store() = default;

  /// Runs `work` in a snapshot that doesn't change under it, taken by its first statement. Writing in it is refused.
  /// A read that was cut before it gave out a row is run again.
  virtual void read(const std::function<void(Session&)>& work) = 0;
  /// Runs `work` in one transaction; rolled back if it throws. Where the engine refuses for a passing reason
  /// (serialization, deadlock, a cut connection) `work` runs again: it must not have side effects outside the
  /// Session, or begin by undoing them.
  ///
  /// SQLite runs one write at a time. PostgreSQL runs several, each seeing what was committed before each of its
  /// statements: what is read in order to be changed is guarded by lock(), or changed where it is (`SET n = n + 1`).
  virtual void write(const std::function<void(Session&)>& work) = 0;

  /// Waits until something was notified on `channel`, by any node or process, since the call that returned `seen`;
  /// or the time is up, or a stop is asked. `seen` begins at 0. Returns the new value for `seen`.
  ///
  /// It may return early for nothing (another process wrote something else, the connection was made again), never
  /// too late: who waits looks for itself, then waits with the value it had before looking.
  virtual std::uint64_t wait(std::string_view channel, std::uint64_t seen, Micros timeout, std::stop_token stop) = 0;

  /// A consistent copy, made while others write: a database file of mode 0600 at `path`, which must not exist yet.
  /// PostgreSQL: invalid, with the pg_dump command that does it.
  virtual void backup(const std::string& path) = 0;
  virtual Info info() = 0;
  /// Why the next write of some size may fail, though small ones go well: the disk was full at the last one that
  /// failed, and there is no more room since. Empty: all is well.
  virtual std::string trouble() { return {}; }
};

struct StoreSettings {
  /// `sqlite:PATH`, a bare path, or `postgres://…` (several hosts allowed, as libpq has it).
  std::string url;
  int readers = 4;  ///< connections for reading (SQLite), or in all (PostgreSQL: readers + 4)
  /// How long to wait for a lock of another process (SQLite) or for a connection to be made (PostgreSQL).
  Micros lock_timeout = std::chrono::seconds(10);
};

/// Opens, checks that the database is ours and not newer, and brings its schema to this version
/// (each migration in its own transaction; two nodes at once do it once).
std::unique_ptr<Store> open(const StoreSettings& settings, Clock& clock);

}  // namespace dragoman::store
