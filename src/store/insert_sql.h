#pragma once

#include <span>
#include <string>
#include <string_view>

namespace dragoman::store {

/// `ON CONFLICT (a) DO UPDATE SET b = excluded.b, …`, or `DO NOTHING` where every column is of the key.
std::string on_conflict(std::span<const std::string_view> columns, std::span<const std::string_view> upsert_key);
/// `a, b, c`
std::string comma_list(std::span<const std::string_view> names);

}  // namespace dragoman::store
