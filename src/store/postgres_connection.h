#pragma once

#include <libpq-fe.h>

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

struct PostgresResultFree {
  void operator()(PGresult* result) const { PQclear(result); }
};
using PostgresResult = std::unique_ptr<PGresult, PostgresResultFree>;

/// One connection to a PostgreSQL server with its prepared statements, kept by text and types.
///
/// Errors  those of Store, translated here and nowhere else. A cut connection is `unavailable` with code `cut`.
/// Threads one thread at a time.
class PostgresConnection {
 public:
  /// Connects to the first of the URL's hosts that can be written to.
  PostgresConnection(const std::string& url, Micros connect_timeout);
  ~PostgresConnection();
  PostgresConnection(const PostgresConnection&) = delete;
  PostgresConnection& operator=(const PostgresConnection&) = delete;

  void query(std::string_view sql, std::span<const Param> params, const std::function<void(const Row&)>& each);
  std::int64_t execute(std::string_view sql, std::span<const Param> params = {});
  /// COPY, or where there is a key INSERT ... ON CONFLICT from arrays.
  void insert_many(std::string_view table, std::span<const std::string_view> columns, std::span<const Param> values,
                   std::span<const std::string_view> upsert_key);
  /// Several statements without parameters or answers.
  void script(const std::string& sql);
  /// `text` as an SQL literal.
  std::string literal(std::string_view text);

  /// Neither cut nor inside a transaction.
  bool idle() const {
    return PQstatus(connection_) == CONNECTION_OK && PQtransactionStatus(connection_) == PQTRANS_IDLE;
  }
  bool cut() const { return PQstatus(connection_) != CONNECTION_OK; }
  PGconn* handle() { return connection_; }

 private:
  struct Prepared {
    std::vector<Oid> types;
    std::string name;
  };
  /// The rows of a query that have not been given to the callback yet.
  class Stream;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };

  const std::string& prepare(std::string_view sql, std::span<const Param> params);
  /// Sends a prepared statement; its results are to be fetched.
  void send(std::string_view sql, std::span<const Param> params);
  /// Makes way for a command while a query's callback runs: fetches that query's remaining rows.
  void make_way();
  PostgresResult next_result() { return PostgresResult(PQgetResult(connection_)); }
  /// Fetches what is left of the running command, and throws if it failed.
  PostgresResult finish(std::string_view sql);
  const std::vector<Oid>& column_types(std::string_view table, std::span<const std::string_view> columns);
  void copy_in(std::string_view table, std::span<const std::string_view> columns, std::span<const Param> values,
               const std::vector<Oid>& types);
  void upsert(std::string_view table, std::span<const std::string_view> columns, std::span<const Param> values,
              std::span<const std::string_view> key, const std::vector<Oid>& types);
  [[noreturn]] void fail(const PGresult* result, std::string_view sql);

  PGconn* connection_ = nullptr;
  std::unordered_map<std::string, std::vector<Prepared>, Hash, std::equal_to<>> prepared_;
  std::unordered_map<std::string, std::vector<Oid>> column_types_;
  std::uint64_t names_given_ = 0;
  Stream* stream_ = nullptr;
};

}  // namespace dragoman::store
