#include "store/insert_sql.h"

#include <fmt/format.h>

#include <algorithm>

namespace dragoman::store {

std::string on_conflict(std::span<const std::string_view> columns, std::span<const std::string_view> upsert_key) {
  std::string sets;
  for (const auto column : columns)
    if (std::find(upsert_key.begin(), upsert_key.end(), column) == upsert_key.end())
      sets += fmt::format("{}{} = excluded.{}", sets.empty() ? "" : ", ", column, column);
  return fmt::format(" ON CONFLICT ({}) DO {}", comma_list(upsert_key),
                     sets.empty() ? "NOTHING" : "UPDATE SET " + sets);
}

std::string comma_list(std::span<const std::string_view> names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace dragoman::store
