#include "store/postgres_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <unordered_set>

#include "base/error.h"
#include "base/log.h"
#include "store/engine.h"
#include "store/insert_sql.h"
#include "store/postgres_values.h"

namespace dragoman::store {
namespace {

// As for SQLite: texts that are put together must not fill the server's memory.
constexpr std::size_t kStatementsMax = 500;
// An array is built whole by the server; past this the rows go in several statements.
constexpr std::size_t kUpsertRowsMax = 2000;
constexpr std::size_t kUpsertBytesMax = 8 << 20;
constexpr std::size_t kCopyPiece = 256 << 10;

std::string first_line(std::string_view text) {
  std::string line(text.substr(0, text.find('\n')));
  return line;
}

std::size_t size_of(const Param& param) {
  if (const auto* text = std::get_if<std::string_view>(&param)) return text->size();
  if (const auto* bytes = std::get_if<Bytes>(&param)) return bytes->data.size();
  return 8;
}

}  // namespace

/// Rows come one at a time, so a long answer costs no memory. Where the callback runs another statement, the rest is
/// fetched first, because a connection does one thing at a time.
class PostgresConnection::Stream {
 public:
  Stream(PostgresConnection& connection, std::string_view sql) : connection_(connection), outer_(connection.stream_) {
    if (PQsetSingleRowMode(connection.connection_) != 1)
      throw Error(Error::Kind::bug, "rows cannot be fetched one at a time", std::string(sql));
    connection_.stream_ = this;
  }
  ~Stream() {
    connection_.stream_ = outer_;
    // The callback threw: the rest is of no interest.
    if (!complete_)
      while (connection_.next_result()) {
      }
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  PostgresResult next() {
    if (!kept_.empty()) {
      auto result = std::move(kept_.front());
      kept_.pop_front();
      return result;
    }
    return complete_ ? nullptr : fetch();
  }
  void fetch_all() {
    while (!complete_)
      if (auto result = fetch()) kept_.push_back(std::move(result));
  }

 private:
  PostgresResult fetch() {
    auto result = connection_.next_result();
    complete_ = !result;
    return result;
  }

  PostgresConnection& connection_;
  Stream* outer_;
  std::deque<PostgresResult> kept_;
  bool complete_ = false;
};

PostgresConnection::PostgresConnection(const std::string& url, Micros connect_timeout) {
  const auto seconds = std::to_string(std::max<std::int64_t>(
      2, std::chrono::duration_cast<std::chrono::seconds>(connect_timeout).count()));  // libpq's least is 2
  // What stands before `dbname` are defaults, what stands after it is not for the URL to say. A peer that vanished is
  // noticed after about half a minute.
  const char* names[] = {
      "target_session_attrs", "connect_timeout",  "keepalives_idle", "keepalives_interval", "keepalives_count",
      "tcp_user_timeout",     "application_name", "dbname",          "client_encoding",     nullptr};
  const char* values[] = {"read-write", seconds.c_str(), "15",        "5",    "3",
                          "30000",      "dragoman",      url.c_str(), "UTF8", nullptr};
  // The parser's own message may quote a piece of the URL, and with it a password.
  PQconninfoOption* parsed = PQconninfoParse(url.c_str(), nullptr);
  if (!parsed)
    raise(Error::Kind::invalid, "store_url",
          "the store's URL cannot be read: it is postgres://USER:PASSWORD@HOST:PORT/DATABASE, with %40 for an @ in "
          "the password");
  PQconninfoFree(parsed);
  connection_ = PQconnectdbParams(names, values, 1);
  if (PQstatus(connection_) != CONNECTION_OK) {
    const auto said = first_line(PQerrorMessage(connection_));
    PQfinish(connection_);
    raise(Error::Kind::unavailable, "connect", fmt::format("the store's database is not reached: {}", said));
  }
  PQsetNoticeProcessor(
      connection_,
      [](void*, const char* message) {
        log::debug("the database says", {{"notice", first_line(message)}});
      },
      nullptr);
  try {
    // What `write` promises needs the server to wait for its disk; stronger settings of the server stay.
    execute("SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'");
  } catch (...) {
    PQfinish(connection_);
    throw;
  }
}

PostgresConnection::~PostgresConnection() {
  PQfinish(connection_);
}

const std::string& PostgresConnection::prepare(std::string_view sql, std::span<const Param> params) {
  auto it = prepared_.find(sql);
  if (it == prepared_.end()) {
    if (const auto wanted = parameter_count(sql); wanted != params.size())
      throw Error(Error::Kind::bug,
                  fmt::format("a statement has {} parameters and was given {}", wanted, params.size()),
                  std::string(sql));
    if (prepared_.size() >= kStatementsMax) {
      script("DEALLOCATE ALL");
      prepared_.clear();
    }
    it = prepared_.emplace(sql, std::vector<Prepared>()).first;
  }
  // A NULL has no type: it fits whatever a value had at its place.
  for (const auto& known : it->second) {
    if (known.types.size() != params.size()) break;
    const auto fits = [&](std::size_t i) {
      const auto type = natural_type(params[i]);
      return type == 0 || type == known.types[i];
    };
    bool all = true;
    for (std::size_t i = 0; all && i < params.size(); ++i) all = fits(i);
    if (all) return known.name;
  }
  if (!it->second.empty() && it->second.front().types.size() != params.size())
    throw Error(
        Error::Kind::bug,
        fmt::format("a statement has {} parameters and was given {}", it->second.front().types.size(), params.size()),
        std::string(sql));
  Prepared fresh{.types = {}, .name = "s" + std::to_string(++names_given_)};
  for (const auto& param : params) fresh.types.push_back(natural_type(param));
  const PostgresResult result(PQprepare(connection_, fresh.name.c_str(), it->first.c_str(),
                                        static_cast<int>(fresh.types.size()), fresh.types.data()));
  if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) {
    if (it->second.empty()) prepared_.erase(it);
    fail(result.get(), sql);
  }
  it->second.push_back(std::move(fresh));
  return it->second.back().name;
}

void PostgresConnection::send(std::string_view sql, std::span<const Param> params) {
  const auto& name = prepare(sql, params);
  // Numbers are laid out here, texts and bytes are sent from where they are.
  std::string numbers;
  numbers.reserve(params.size() * 8);
  std::vector<const char*> values(params.size());
  std::vector<int> lengths(params.size()), formats(params.size(), 1);
  for (std::size_t i = 0; i < params.size(); ++i) {
    const auto& param = params[i];
    std::string_view bytes;
    if (std::holds_alternative<std::nullptr_t>(param)) continue;
    if (const auto* text = std::get_if<std::string_view>(&param)) {
      check_text(*text);
      bytes = *text;
    } else if (const auto* raw = std::get_if<Bytes>(&param)) {
      bytes = raw->data;
    } else {
      const auto at = numbers.size();
      append_binary(numbers, param, natural_type(param));
      bytes = std::string_view(numbers).substr(at);
    }
    if (bytes.size() > (1u << 30)) raise(Error::Kind::invalid, "too_big", "a value is too big for the store (1 GB)");
    values[i] = bytes.data() ? bytes.data() : "";  // a null pointer would be NULL
    lengths[i] = static_cast<int>(bytes.size());
  }
  if (PQsendQueryPrepared(connection_, name.c_str(), static_cast<int>(params.size()), values.data(), lengths.data(),
                          formats.data(), 1) != 1)
    fail(nullptr, sql);
}

void PostgresConnection::make_way() {
  if (stream_) stream_->fetch_all();
}

void PostgresConnection::query(std::string_view sql, std::span<const Param> params,
                               const std::function<void(const Row&)>& each) {
  make_way();
  send(sql, params);
  Stream stream(*this, sql);
  while (auto result = stream.next()) {
    const auto status = PQresultStatus(result.get());
    if (status != PGRES_SINGLE_TUPLE && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
      stream.fetch_all();
      fail(result.get(), sql);
    }
    for (int row = 0; row < PQntuples(result.get()); ++row) each(PostgresRow(result.get(), row, sql));
  }
}

PostgresResult PostgresConnection::finish(std::string_view sql) {
  PostgresResult last, failed;
  while (auto result = next_result()) {
    const auto status = PQresultStatus(result.get());
    if (status == PGRES_FATAL_ERROR && !failed)
      failed = std::move(result);
    else
      last = std::move(result);
  }
  if (failed) fail(failed.get(), sql);
  if (!last) fail(nullptr, sql);
  return last;
}

std::int64_t PostgresConnection::execute(std::string_view sql, std::span<const Param> params) {
  make_way();
  send(sql, params);
  const auto result = finish(sql);
  const std::string_view did = PQcmdStatus(result.get());
  if (!did.starts_with("INSERT") && !did.starts_with("UPDATE") && !did.starts_with("DELETE")) return 0;
  const std::string_view text = PQcmdTuples(result.get());
  std::int64_t rows = 0;
  std::from_chars(text.data(), text.data() + text.size(), rows);
  return rows;
}

void PostgresConnection::script(const std::string& sql) {
  make_way();
  if (PQsendQuery(connection_, sql.c_str()) != 1) fail(nullptr, sql);
  finish(sql);
}

std::string PostgresConnection::literal(std::string_view text) {
  char* escaped = PQescapeLiteral(connection_, text.data(), text.size());
  if (!escaped) fail(nullptr, "PQescapeLiteral");
  std::string out(escaped);
  PQfreemem(escaped);
  return out;
}

const std::vector<Oid>& PostgresConnection::column_types(std::string_view table,
                                                         std::span<const std::string_view> columns) {
  const auto sql = fmt::format("SELECT {} FROM {}", comma_list(columns), table);
  if (const auto it = column_types_.find(sql); it != column_types_.end()) return it->second;
  const auto& name = prepare(sql, {});
  const PostgresResult described(PQdescribePrepared(connection_, name.c_str()));
  if (PQresultStatus(described.get()) != PGRES_COMMAND_OK) fail(described.get(), sql);
  std::vector<Oid> types;
  types.reserve(columns.size());
  for (int i = 0; i < PQnfields(described.get()); ++i) types.push_back(PQftype(described.get(), i));
  return column_types_.emplace(sql, std::move(types)).first->second;
}

void PostgresConnection::insert_many(std::string_view table, std::span<const std::string_view> columns,
                                     std::span<const Param> values, std::span<const std::string_view> upsert_key) {
  make_way();
  if (values.empty()) return;
  const auto& types = column_types(table, columns);
  if (upsert_key.empty())
    copy_in(table, columns, values, types);
  else
    upsert(table, columns, values, upsert_key, types);
}

void PostgresConnection::copy_in(std::string_view table, std::span<const std::string_view> columns,
                                 std::span<const Param> values, const std::vector<Oid>& types) {
  const auto sql = fmt::format("COPY {} ({}) FROM STDIN (FORMAT binary)", table, comma_list(columns));
  if (PQsendQuery(connection_, sql.c_str()) != 1) fail(nullptr, sql);
  if (const auto begun = next_result(); PQresultStatus(begun.get()) != PGRES_COPY_IN) {
    while (next_result()) {
    }
    fail(begun.get(), sql);
  }
  try {
    std::string buffer("PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19);
    const auto put = [&] {
      if (PQputCopyData(connection_, buffer.data(), static_cast<int>(buffer.size())) != 1) fail(nullptr, sql);
      buffer.clear();
    };
    for (std::size_t at = 0; at < values.size(); at += columns.size()) {
      append_int16(buffer, static_cast<std::int16_t>(columns.size()));
      for (std::size_t i = 0; i < columns.size(); ++i) append_field(buffer, values[at + i], types[i]);
      if (buffer.size() >= kCopyPiece) put();
    }
    append_int16(buffer, -1);
    put();
  } catch (...) {
    // Leaves the connection in order, whose transaction fails.
    if (!cut() && PQputCopyEnd(connection_, "given up") == 1)
      while (next_result()) {
      }
    throw;
  }
  if (PQputCopyEnd(connection_, nullptr) != 1) fail(nullptr, sql);
  finish(sql);
}

// Arrays instead of COPY into a temporary table and a merge of it: 1.5 times as fast with 500 rows of 2 KB (see
// bench/store_bench.cpp), because each row is written once, and nothing is left to truncate.
void PostgresConnection::upsert(std::string_view table, std::span<const std::string_view> columns,
                                std::span<const Param> values, std::span<const std::string_view> key,
                                const std::vector<Oid>& types) {
  const auto width = columns.size();
  std::vector<std::size_t> key_columns;
  for (const auto name : key) {
    const auto it = std::find(columns.begin(), columns.end(), name);
    DRAGOMAN_ASSERT(it != columns.end(), "the key's columns are among those inserted");
    key_columns.push_back(static_cast<std::size_t>(it - columns.begin()));
  }
  // One statement may not touch a row twice, so of rows with one key the last counts, as if they came one by one.
  std::unordered_set<std::string> seen;
  std::vector<std::size_t> rows;
  for (std::size_t row = values.size() / width; row-- > 0;) {
    std::string name;
    bool has_null = false;
    for (const auto column : key_columns) {
      has_null |= std::holds_alternative<std::nullptr_t>(values[row * width + column]);
      append_field(name, values[row * width + column], types[column]);
    }
    if (has_null || seen.insert(std::move(name)).second) rows.push_back(row);
  }
  std::reverse(rows.begin(), rows.end());

  std::string places;
  std::vector<Oid> array_types;
  for (std::size_t i = 0; i < width; ++i) {
    places += fmt::format("{}${}", i ? ", " : "", i + 1);
    array_types.push_back(array_type(types[i]));
  }
  const auto sql = fmt::format("INSERT INTO {} ({}) SELECT * FROM unnest({}){}", table, comma_list(columns), places,
                               on_conflict(columns, key));
  auto& known = prepared_[sql];
  if (known.empty()) {
    Prepared fresh{.types = array_types, .name = "s" + std::to_string(++names_given_)};
    const PostgresResult result(
        PQprepare(connection_, fresh.name.c_str(), sql.c_str(), static_cast<int>(width), array_types.data()));
    if (PQresultStatus(result.get()) != PGRES_COMMAND_OK) fail(result.get(), sql);
    known.push_back(std::move(fresh));
  }
  const std::string name = known.front().name;

  const auto left = std::span<const std::size_t>(rows);
  for (std::size_t from = 0; from < left.size();) {
    std::size_t to = from, bytes = 0;
    while (to < left.size() && to - from < kUpsertRowsMax && bytes < kUpsertBytesMax) {
      for (std::size_t i = 0; i < width; ++i) bytes += size_of(values[left[to] * width + i]);
      ++to;
    }
    std::string buffer;
    buffer.reserve(bytes + (to - from) * width * 12);
    std::vector<std::size_t> begins;
    for (std::size_t i = 0; i < width; ++i) {
      begins.push_back(buffer.size());
      append_array(buffer, values, width, i, left.subspan(from, to - from), types[i]);
    }
    begins.push_back(buffer.size());
    std::vector<const char*> data;
    std::vector<int> lengths, formats(width, 1);
    for (std::size_t i = 0; i < width; ++i) {
      data.push_back(buffer.data() + begins[i]);
      lengths.push_back(static_cast<int>(begins[i + 1] - begins[i]));
    }
    if (PQsendQueryPrepared(connection_, name.c_str(), static_cast<int>(width), data.data(), lengths.data(),
                            formats.data(), 1) != 1)
      fail(nullptr, sql);
    finish(sql);
    from = to;
  }
}

void PostgresConnection::fail(const PGresult* result, std::string_view sql) {
  using Kind = Error::Kind;
  const auto field = [&](int code) {
    const char* text = result ? PQresultErrorField(result, code) : nullptr;
    return std::string(text ? text : "");
  };
  const auto state = field(PG_DIAG_SQLSTATE);
  const auto said = result ? field(PG_DIAG_MESSAGE_PRIMARY) : first_line(PQerrorMessage(connection_));
  // Not PG_DIAG_MESSAGE_DETAIL: it shows values of the row.
  const auto detail = fmt::format("postgresql {} {}: {}", state, said, sql);
  const auto is = [&](std::string_view prefix) { return state.starts_with(prefix); };

  if (is("57P") || (is("08") && state != "08P01") || (state.empty() && cut()))
    raise(Kind::unavailable, "cut", "the connection to the store's database was cut", detail);
  if (state == "23505") raise(Kind::conflict, "unique", "a record with the same key exists already", detail);
  if (state == "23503")
    raise(Kind::conflict, "foreign_key", "a record that this one belongs to, or that belongs to it, is in the way",
          detail);
  if (is("23")) raise(Kind::bug, "constraint", "the store refused a row that breaks its rules", detail);
  if (state == "40001" || state == "40P01")
    raise(Kind::busy, "serialization", "others are changing the same records: try again", detail);
  if (state == "55P03" || state == "55006")
    raise(Kind::busy, "locked", "the store's database is locked by another program: try again later", detail);
  if (state == "53100")
    raise(Kind::unavailable, "disk_full",
          "there is no room left on the store's database server: free some disk space there; what was being written "
          "was undone as a whole",
          detail);
  if (state == "53300")
    raise(Kind::unavailable, "connections", "the store's database server takes no more connections", detail);
  if (is("53") || state == "57014" || is("58"))
    raise(Kind::unavailable, "server", fmt::format("the store's database server has a problem: {}", said), detail);
  if (state == "25006")
    raise(Kind::unavailable, "read_only",
          "the store's database is read-only: name the primary server, or several hosts", detail);
  if (state == "42501" || is("28"))
    raise(Kind::forbidden, "privilege",
          fmt::format("the store's database refuses its user something ({}): let this user own the database", said),
          detail);
  if (state == "22021" || state == "22P05")
    raise(Kind::invalid, "text", "text with a NUL byte or invalid UTF-8 cannot be stored as text", detail);
  if (state == "54000") raise(Kind::invalid, "too_big", "a value is too big for the store (1 GB)", detail);
  if (is("XX0") && state != "XX000")
    raise(Kind::invalid, "corrupt",
          "the store's database is damaged: check the server's disk and restore the last backup", detail);
  raise(Kind::bug, "sql", "the store refused a statement", detail);
}

}  // namespace dragoman::store
