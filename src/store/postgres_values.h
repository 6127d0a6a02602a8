#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "store/store.h"

namespace dragoman::store {

/// The numbers of PostgreSQL's own types, which never change (src/include/catalog/pg_type.dat).
namespace pg_type {
inline constexpr Oid boolean = 16, bytea = 17, int8 = 20, int2 = 21, int4 = 23, text = 25, float8 = 701;
}  // namespace pg_type

/// The type that a parameter has by itself, 0 for NULL.
Oid natural_type(const Param& param);

/// Appends the binary form of `param` as a value of type `type`, without its length.
/// Errors: bug (the parameter doesn't fit the type), invalid (code `text`).
void append_binary(std::string& out, const Param& param, Oid type);

/// The same with the 4 bytes of length before it, -1 for NULL: as COPY and arrays have it.
void append_field(std::string& out, const Param& param, Oid type);

/// The array type whose elements are `type`. Errors: bug (not one of ours).
Oid array_type(Oid type);
/// Appends one column of `values` (rows of `width`) as an array; `rows` are those to take.
void append_array(std::string& out, std::span<const Param> values, std::size_t width, std::size_t column,
                  std::span<const std::size_t> rows, Oid type);

void append_int16(std::string& out, std::int16_t value);
void append_int32(std::string& out, std::int32_t value);

/// One row of a result in binary form.
class PostgresRow final : public Row {
 public:
  PostgresRow(const PGresult* result, int row, std::string_view sql) : result_(result), row_(row), sql_(sql) {}

  bool is_null(int column) const override;
  std::int64_t int64(int column) const override;
  double real(int column) const override;
  std::string_view text(int column) const override;
  std::string_view bytes(int column) const override;

 private:
  Oid type(int column) const;
  std::string_view raw(int column) const;
  [[noreturn]] void mismatch(int column, std::string_view what) const;

  const PGresult* result_;
  int row_;
  std::string_view sql_;
};

/// The highest N of the `$N` in a statement, strings, names and comments left out.
std::size_t parameter_count(std::string_view sql);

}  // namespace dragoman::store
