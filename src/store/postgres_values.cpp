#include "store/postgres_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "base/error.h"
#include "store/engine.h"

namespace dragoman::store {
namespace {

constexpr Oid kName = 19, kOid = 26, kJson = 114, kFloat4 = 700, kUnknown = 705, kBpchar = 1042, kVarchar = 1043,
              kNumeric = 1700;

template <typename T>
void append_number(std::string& out, T value) {
  char bytes[sizeof(T)];
  for (std::size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<char>(value >> (8 * (sizeof(T) - 1 - i)));
  out.append(bytes, sizeof(T));
}

template <typename T>
T number_from(std::string_view bytes) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value << 8 | static_cast<unsigned char>(bytes[i]));
  return value;
}

[[noreturn]] void does_not_fit(Oid type) {
  throw Error(Error::Kind::bug, fmt::format("a parameter does not fit a column of PostgreSQL type {}", type));
}

void append_whole(std::string& out, std::int64_t value, Oid type) {
  const auto within = [&](std::int64_t low, std::int64_t high) {
    if (value < low || value > high) does_not_fit(type);
  };
  switch (type) {
    case pg_type::int8:
      return append_number(out, static_cast<std::uint64_t>(value));
    case pg_type::int4:
      within(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max());
      return append_number(out, static_cast<std::uint32_t>(value));
    case pg_type::int2:
      within(std::numeric_limits<std::int16_t>::min(), std::numeric_limits<std::int16_t>::max());
      return append_number(out, static_cast<std::uint16_t>(value));
    case pg_type::boolean:
      within(0, 1);
      out += static_cast<char>(value);
      return;
    case pg_type::float8:
      return append_number(out, std::bit_cast<std::uint64_t>(static_cast<double>(value)));
    default:
      does_not_fit(type);
  }
}

/// A whole number out of PostgreSQL's decimal, which sums of BIGINT are: digits in base 10,000.
std::optional<std::int64_t> whole_numeric(std::string_view bytes) {
  if (bytes.size() < 8) return std::nullopt;
  const auto digits = number_from<std::uint16_t>(bytes);
  const auto weight = static_cast<std::int16_t>(number_from<std::uint16_t>(bytes.substr(2)));
  const auto sign = number_from<std::uint16_t>(bytes.substr(4));
  if ((sign != 0 && sign != 0x4000) || digits > weight + 1 || bytes.size() < 8 + 2 * std::size_t{digits})
    return std::nullopt;
  __int128 value = 0;
  for (int i = 0; i <= weight; ++i) {
    value = value * 10'000 +
            (i < digits ? number_from<std::uint16_t>(bytes.substr(8 + 2 * static_cast<std::size_t>(i))) : 0);
    if (value > std::numeric_limits<std::int64_t>::max()) return std::nullopt;
  }
  return static_cast<std::int64_t>(sign ? -value : value);
}

}  // namespace

Oid natural_type(const Param& param) {
  static constexpr Oid kTypes[] = {0, pg_type::int8, pg_type::float8, pg_type::text, pg_type::bytea};
  return kTypes[param.index()];
}

void append_binary(std::string& out, const Param& param, Oid type) {
  if (const auto* whole = std::get_if<std::int64_t>(&param)) return append_whole(out, *whole, type);
  if (const auto* real = std::get_if<double>(&param)) {
    if (type != pg_type::float8) does_not_fit(type);
    return append_number(out, std::bit_cast<std::uint64_t>(*real));
  }
  if (const auto* text = std::get_if<std::string_view>(&param)) {
    if (type != pg_type::text && type != kVarchar) does_not_fit(type);
    check_text(*text);
    out += *text;
    return;
  }
  if (const auto* bytes = std::get_if<Bytes>(&param)) {
    if (type != pg_type::bytea) does_not_fit(type);
    out += bytes->data;
  }
}

void append_field(std::string& out, const Param& param, Oid type) {
  if (std::holds_alternative<std::nullptr_t>(param)) return append_int32(out, -1);
  const auto at = out.size();
  append_int32(out, 0);
  append_binary(out, param, type);
  const auto length = out.size() - at - 4;
  if (length > static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()))
    raise(Error::Kind::invalid, "too_big", "a value is too big for the store (1 GB)");
  for (std::size_t i = 0; i < 4; ++i) out[at + i] = static_cast<char>(length >> (8 * (3 - i)));
}

Oid array_type(Oid type) {
  switch (type) {
    case pg_type::boolean:
      return 1000;
    case pg_type::bytea:
      return 1001;
    case pg_type::int2:
      return 1005;
    case pg_type::int4:
      return 1007;
    case pg_type::text:
    case kVarchar:
      return 1009;
    case pg_type::int8:
      return 1016;
    case pg_type::float8:
      return 1022;
    default:
      does_not_fit(type);
  }
}

void append_array(std::string& out, std::span<const Param> values, std::size_t width, std::size_t column,
                  std::span<const std::size_t> rows, Oid type) {
  append_int32(out, 1);  // dimensions
  append_int32(out, 1);  // may hold NULLs
  append_int32(out, static_cast<std::int32_t>(type));
  append_int32(out, static_cast<std::int32_t>(rows.size()));
  append_int32(out, 1);  // first index
  for (const auto row : rows) append_field(out, values[row * width + column], type);
}

void append_int16(std::string& out, std::int16_t value) {
  append_number(out, static_cast<std::uint16_t>(value));
}
void append_int32(std::string& out, std::int32_t value) {
  append_number(out, static_cast<std::uint32_t>(value));
}

Oid PostgresRow::type(int column) const {
  if (column < 0 || column >= PQnfields(result_))
    throw Error(Error::Kind::bug, fmt::format("a query has no column {}", column), std::string(sql_));
  return PQftype(result_, column);
}

std::string_view PostgresRow::raw(int column) const {
  return {PQgetvalue(result_, row_, column), static_cast<std::size_t>(PQgetlength(result_, row_, column))};
}

void PostgresRow::mismatch(int column, std::string_view what) const {
  throw Error(Error::Kind::bug,
              fmt::format("column {} ({}) of a query is not {}", column, PQfname(result_, column), what),
              std::string(sql_));
}

bool PostgresRow::is_null(int column) const {
  type(column);
  return PQgetisnull(result_, row_, column) == 1;
}

std::int64_t PostgresRow::int64(int column) const {
  const auto oid = type(column);
  if (is_null(column)) mismatch(column, "a whole number");
  const auto bytes = raw(column);
  switch (oid) {
    case pg_type::int8:
      return static_cast<std::int64_t>(number_from<std::uint64_t>(bytes));
    case pg_type::int4:
      return static_cast<std::int32_t>(number_from<std::uint32_t>(bytes));
    case pg_type::int2:
      return static_cast<std::int16_t>(number_from<std::uint16_t>(bytes));
    case kOid:
      return number_from<std::uint32_t>(bytes);
    case pg_type::boolean:
      return bytes[0];
    case kNumeric:
      if (const auto whole = whole_numeric(bytes)) return *whole;
      [[fallthrough]];
    default:
      mismatch(column, "a whole number");
  }
}

double PostgresRow::real(int column) const {
  const auto oid = type(column);
  if (is_null(column)) mismatch(column, "a number");
  switch (oid) {
    case pg_type::float8:
      return std::bit_cast<double>(number_from<std::uint64_t>(raw(column)));
    case kFloat4:
      return std::bit_cast<float>(number_from<std::uint32_t>(raw(column)));
    case pg_type::int8:
    case pg_type::int4:
    case pg_type::int2:
      return static_cast<double>(int64(column));
    default:
      mismatch(column, "a number");
  }
}

std::string_view PostgresRow::text(int column) const {
  const auto oid = type(column);
  if (is_null(column)) mismatch(column, "text");
  switch (oid) {
    case pg_type::text:
    case kVarchar:
    case kBpchar:
    case kName:
    case kUnknown:
    case kJson:
      return raw(column);
    default:
      mismatch(column, "text");
  }
}

std::string_view PostgresRow::bytes(int column) const {
  return type(column) == pg_type::bytea && !is_null(column) ? raw(column) : text(column);
}

std::size_t parameter_count(std::string_view sql) {
  std::size_t highest = 0;
  for (std::size_t i = 0; i < sql.size(); ++i) {
    const char c = sql[i];
    if (c == '\'' || c == '"') {
      // A doubled quote closes and opens again, which comes to the same.
      i = sql.find(c, i + 1);
    } else if (c == '-' && sql.substr(i, 2) == "--") {
      i = sql.find('\n', i);
    } else if (c == '$') {
      std::size_t number = 0;
      while (i + 1 < sql.size() && sql[i + 1] >= '0' && sql[i + 1] <= '9')
        number = number * 10 + static_cast<std::size_t>(sql[++i] - '0');
      highest = std::max(highest, number);
    }
    if (i == std::string_view::npos) break;
  }
  return highest;
}

}  // namespace dragoman::store
