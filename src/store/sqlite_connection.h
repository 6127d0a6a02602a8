#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::store {

/// One connection to a SQLite file with its prepared statements, kept by text.
///
/// Errors  those of Store, translated here and nowhere else.
/// Threads one thread at a time.
class SqliteConnection {
 public:
  /// Opens for reading and writing, and changes nothing yet. Locks of others are waited for up to `lock_timeout`.
  SqliteConnection(const std::string& path, Micros lock_timeout);
  ~SqliteConnection();
  SqliteConnection(const SqliteConnection&) = delete;
  SqliteConnection& operator=(const SqliteConnection&) = delete;

  void query(std::string_view sql, std::span<const Param> params, const std::function<void(const Row&)>& each);
  std::int64_t execute(std::string_view sql, std::span<const Param> params = {});
  /// `values` holds rows of `width` parameters; `sql` runs once for each row.
  void execute_rows(std::string_view sql, std::size_t width, std::span<const Param> values);
  /// Several statements without parameters or answers: PRAGMAs and migrations.
  void script(const std::string& sql);
  /// The first column of the first row of a PRAGMA or query, 0 if there is none.
  std::int64_t number(std::string_view sql);

  bool in_transaction() const { return sqlite3_get_autocommit(db_) == 0; }
  sqlite3* handle() { return db_; }
  /// Throws what `rc` means. `sql` goes to the detail.
  [[noreturn]] void fail(int rc, std::string_view sql);

 private:
  struct Statement {
    sqlite3_stmt* handle = nullptr;
    /// The parameter `$N` (N from 0) of each place that SQLite numbers from 1.
    std::vector<int> places;
    std::size_t params = 0;
    bool running = false;
    ~Statement() { sqlite3_finalize(handle); }
  };
  /// Lends a statement for one run, and resets it whatever happens.
  class Run;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  Statement& prepare(std::string_view sql);
  void bind(Statement& statement, std::span<const Param> params, std::string_view sql);

  std::string path_;
  sqlite3* db_ = nullptr;
  std::unordered_map<std::string, std::unique_ptr<Statement>, Hash, std::equal_to<>> statements_;
};

/// The processes that hold a lock on `path` now, as text for a message (`process 4711`); empty if unknown.
std::string lock_holders(const std::string& path);

}  // namespace dragoman::store
