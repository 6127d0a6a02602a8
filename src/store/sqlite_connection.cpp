#include "store/sqlite_connection.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "base/error.h"
#include "store/engine.h"

namespace dragoman::store {
namespace {

// Texts come from our own code, but some are put together (filters, column lists): past this many, all are
// forgotten and prepared again as needed.
constexpr std::size_t kStatementsMax = 500;

/// What the system said to the last failed call on the file or its log. sqlite3_system_errno() alone often holds a
/// later call's number by the time a COMMIT fails.
int last_errno(sqlite3* db) {
  const auto is_room = [](int error) { return error == ENOSPC || error == EDQUOT || error == EFBIG; };
  int found = sqlite3_system_errno(db);
  for (const int which : {SQLITE_FCNTL_JOURNAL_POINTER, SQLITE_FCNTL_FILE_POINTER}) {
    sqlite3_file* file = nullptr;
    int error = 0;
    if (sqlite3_file_control(db, "main", which, &file) == SQLITE_OK && file && file->pMethods &&
        file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error) == SQLITE_OK && is_room(error))
      found = error;
  }
  return found;
}

class SqliteRow final : public Row {
 public:
  explicit SqliteRow(sqlite3_stmt* statement) : statement_(statement) {}

  bool is_null(int column) const override { return type(column) == SQLITE_NULL; }
  std::int64_t int64(int column) const override {
    require(column, SQLITE_INTEGER, "a whole number");
    return sqlite3_column_int64(statement_, column);
  }
  double real(int column) const override {
    if (type(column) != SQLITE_INTEGER) require(column, SQLITE_FLOAT, "a number");
    return sqlite3_column_double(statement_, column);
  }
  std::string_view text(int column) const override {
    require(column, SQLITE_TEXT, "text");
    const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }
  std::string_view bytes(int column) const override {
    if (type(column) != SQLITE_TEXT) require(column, SQLITE_BLOB, "bytes");
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, column))};
  }

 private:
  int type(int column) const {
    if (column < 0 || column >= sqlite3_column_count(statement_))
      throw Error(Error::Kind::bug, fmt::format("a query has no column {}", column), sqlite3_sql(statement_));
    return sqlite3_column_type(statement_, column);
  }
  // SQLite would convert silently what PostgreSQL refuses; both refuse.
  void require(int column, int wanted, std::string_view what) const {
    if (type(column) == wanted) return;
    throw Error(
        Error::Kind::bug,
        fmt::format("column {} ({}) of a query is not {}", column, sqlite3_column_name(statement_, column), what),
        sqlite3_sql(statement_));
  }

  sqlite3_stmt* statement_;
};

}  // namespace

class SqliteConnection::Run {
 public:
  Run(SqliteConnection& connection, std::string_view sql) : statement_(connection.prepare(sql)) {
    DRAGOMAN_ASSERT(!statement_.running, "a query's callback must not run a statement of the same text");
    statement_.running = true;
  }
  ~Run() {
    sqlite3_reset(statement_.handle);
    statement_.running = false;
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  Statement& operator*() { return statement_; }
  sqlite3_stmt* handle() { return statement_.handle; }

 private:
  Statement& statement_;
};

SqliteConnection::SqliteConnection(const std::string& path, Micros lock_timeout) : path_(path) {
  int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  // The caller has made the file, with our mode; a file that went away since must not come back empty.
  if (path == ":memory:") flags |= SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY;
  const int rc = sqlite3_open_v2(path.c_str(), &db_, flags, nullptr);
  try {
    if (rc != SQLITE_OK) fail(rc, "");
    sqlite3_busy_timeout(db_, static_cast<int>(lock_timeout.count() / 1000));
    if (sqlite3_db_readonly(db_, "main") == 1) fail(SQLITE_READONLY, "");
  } catch (...) {
    sqlite3_close(db_);
    throw;
  }
}

SqliteConnection::~SqliteConnection() {
  statements_.clear();
  sqlite3_close(db_);
}

SqliteConnection::Statement& SqliteConnection::prepare(std::string_view sql) {
  if (const auto it = statements_.find(sql); it != statements_.end()) return *it->second;
  if (statements_.size() >= kStatementsMax)
    std::erase_if(statements_, [](const auto& s) { return !s.second->running; });

  auto statement = std::make_unique<Statement>();
  const char* rest = nullptr;
  const int rc = sqlite3_prepare_v3(db_, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                    &statement->handle, &rest);
  if (rc != SQLITE_OK) fail(rc, sql);
  const std::string_view tail(rest, static_cast<std::size_t>(sql.data() + sql.size() - rest));
  if (!statement->handle || tail.find_first_not_of(" \t\r\n;") != std::string_view::npos)
    throw Error(Error::Kind::bug, "one call of the store takes exactly one statement", std::string(sql));
  // `$1` is a name to SQLite, which numbers names by where they stand first.
  const int count = sqlite3_bind_parameter_count(statement->handle);
  for (int i = 1; i <= count; ++i) {
    const char* name = sqlite3_bind_parameter_name(statement->handle, i);
    int number = 0;
    if (!name || name[0] != '$' ||
        std::from_chars(name + 1, name + std::strlen(name), number).ptr != name + std::strlen(name) || number < 1)
      throw Error(Error::Kind::bug, "parameters of a statement are named $1, $2, …", std::string(sql));
    statement->places.push_back(number - 1);
    statement->params = std::max(statement->params, static_cast<std::size_t>(number));
  }
  return *statements_.emplace(sql, std::move(statement)).first->second;
}

void SqliteConnection::bind(Statement& statement, std::span<const Param> params, std::string_view sql) {
  if (params.size() != statement.params)
    throw Error(Error::Kind::bug,
                fmt::format("a statement has {} parameters and was given {}", statement.params, params.size()),
                std::string(sql));
  for (std::size_t i = 0; i < statement.places.size(); ++i) {
    const int place = static_cast<int>(i) + 1;
    sqlite3_stmt* handle = statement.handle;
    // A null pointer would bind NULL, and an empty view may hold one.
    const auto data = [](std::string_view v) { return v.data() ? v.data() : ""; };
    const int rc = std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::nullptr_t>) {
            return sqlite3_bind_null(handle, place);
          } else if constexpr (std::is_same_v<T, std::int64_t>) {
            return sqlite3_bind_int64(handle, place, value);
          } else if constexpr (std::is_same_v<T, double>) {
            return sqlite3_bind_double(handle, place, value);
          } else if constexpr (std::is_same_v<T, std::string_view>) {
            check_text(value);
            return sqlite3_bind_text64(handle, place, data(value), value.size(), SQLITE_STATIC, SQLITE_UTF8);
          } else {
            return sqlite3_bind_blob64(handle, place, data(value.data), value.data.size(), SQLITE_STATIC);
          }
        },
        params[static_cast<std::size_t>(statement.places[i])]);
    if (rc != SQLITE_OK) fail(rc, sql);
  }
}

void SqliteConnection::query(std::string_view sql, std::span<const Param> params,
                             const std::function<void(const Row&)>& each) {
  Run run(*this, sql);
  bind(*run, params, sql);
  const SqliteRow row(run.handle());
  while (true) {
    const int rc = sqlite3_step(run.handle());
    if (rc == SQLITE_DONE) return;
    if (rc != SQLITE_ROW) fail(rc, sql);
    each(row);
  }
}

std::int64_t SqliteConnection::execute(std::string_view sql, std::span<const Param> params) {
  Run run(*this, sql);
  bind(*run, params, sql);
  // sqlite3_changes keeps the number of the last statement that could change rows; DDL and SELECT leave it alone.
  const auto before = sqlite3_total_changes64(db_);
  int rc = SQLITE_ROW;
  while (rc == SQLITE_ROW) rc = sqlite3_step(run.handle());
  if (rc != SQLITE_DONE) fail(rc, sql);
  return sqlite3_total_changes64(db_) == before ? 0 : sqlite3_changes64(db_);
}

void SqliteConnection::execute_rows(std::string_view sql, std::size_t width, std::span<const Param> values) {
  Run run(*this, sql);
  for (std::size_t at = 0; at < values.size(); at += width) {
    bind(*run, values.subspan(at, width), sql);
    const int rc = sqlite3_step(run.handle());
    if (rc != SQLITE_DONE) fail(rc, sql);
    sqlite3_reset(run.handle());
  }
}

void SqliteConnection::script(const std::string& sql) {
  const int rc = sqlite3_exec(db_, sql.c_str(), nullptr, nullptr, nullptr);
  if (rc != SQLITE_OK) fail(rc, sql);
}

std::int64_t SqliteConnection::number(std::string_view sql) {
  std::int64_t value = 0;
  query(sql, {}, [&](const Row& row) { value = row.int64(0); });
  return value;
}

void SqliteConnection::fail(int rc, std::string_view sql) {
  using Kind = Error::Kind;
  const std::string said = db_ ? sqlite3_errmsg(db_) : sqlite3_errstr(rc);
  const bool of_the_disk = (rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN;
  const int system = db_ && of_the_disk ? last_errno(db_) : 0;
  const std::string detail = fmt::format("sqlite {} ({}): {}", said, rc, sql);

  const bool out_of_room = system == ENOSPC || system == EDQUOT || system == EFBIG;
  const bool forbidden = system == EACCES || system == EPERM || system == EROFS;
  const int primary = rc & 0xff;
  if (primary == SQLITE_FULL || rc == SQLITE_IOERR_SHMSIZE || (primary == SQLITE_IOERR && out_of_room) ||
      (primary == SQLITE_CANTOPEN && out_of_room))
    raise(Kind::unavailable, "disk_full",
          fmt::format("there is no room left for the store {}: free some disk space; what was being written was "
                      "undone as a whole",
                      path_),
          detail);
  if (primary == SQLITE_READONLY || primary == SQLITE_PERM || (primary == SQLITE_CANTOPEN && forbidden))
    raise(Kind::unavailable, "read_only",
          fmt::format("the store {} cannot be written: this user needs write permission on the file and on its "
                      "folder, and the disk must not be mounted read-only",
                      path_),
          detail);
  switch (primary) {
    case SQLITE_CANTOPEN:
      raise(Kind::unavailable, "open",
            fmt::format("the store {} cannot be opened{}", path_,
                        system ? fmt::format(": {}", std::strerror(system)) : ""),
            detail);
    case SQLITE_IOERR:
      raise(Kind::unavailable, "io",
            fmt::format("reading or writing the store {} failed{}: look at the disk", path_,
                        system ? fmt::format(" ({})", std::strerror(system)) : ""),
            detail);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: {
      const auto holders = lock_holders(path_);
      raise(Kind::busy, "locked",
            fmt::format("the store {} is locked by {}: end what it is doing, or wait and try again", path_,
                        holders.empty() ? "another program" : holders),
            detail);
    }
    case SQLITE_NOTADB:
      raise(Kind::invalid, "not_ours", fmt::format("{} is not a database: name another file for the store", path_),
            detail);
    case SQLITE_CORRUPT:
      raise(Kind::invalid, "corrupt",
            fmt::format("the store {} is damaged: stop the hub, keep a copy of the file and its -wal, check the disk, "
                        "and restore the last backup",
                        path_),
            detail);
    case SQLITE_CONSTRAINT:
      if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_ROWID)
        raise(Kind::conflict, "unique", "a record with the same key exists already", detail);
      if (rc == SQLITE_CONSTRAINT_FOREIGNKEY)
        raise(Kind::conflict, "foreign_key", "a record that this one belongs to, or that belongs to it, is in the way",
              detail);
      raise(Kind::bug, "constraint", "the store refused a row that breaks its rules", detail);
    case SQLITE_TOOBIG:
      raise(Kind::invalid, "too_big", "a value is too big for the store (1 GB)", detail);
    case SQLITE_NOMEM:
      raise(Kind::unavailable, "memory", "the store ran out of memory", detail);
    default:
      raise(Kind::bug, "sql", "the store refused a statement", detail);
  }
}

std::string lock_holders(const std::string& path) {
  // Lines like `1: POSIX  ADVISORY  WRITE 4711 fe:00:12345 1073741824 1073742335`.
  std::set<std::string> wanted;
  for (const char* suffix : {"", "-shm", ".lock"}) {
    struct stat info {};
    if (::stat((path + suffix).c_str(), &info) == 0)
      wanted.insert(fmt::format("{:02x}:{:02x}:{}", major(info.st_dev), minor(info.st_dev), info.st_ino));
  }
  std::set<std::string> pids;
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::istringstream words(line);
    std::string number, kind, mode, access, pid, file;
    words >> number >> kind >> mode >> access >> pid >> file;
    // Every reader shares a read lock; who has a write lock is in the way.
    if (access == "WRITE" && wanted.count(file) && pid != std::to_string(::getpid()) && pid != "-1") pids.insert(pid);
  }
  return pids.empty() ? "" : fmt::format("process {}", fmt::join(pids, ", "));
}

}  // namespace dragoman::store
