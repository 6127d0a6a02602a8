#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sandbox/odoo/schema.h"
#include "sandbox/odoo/table.h"

namespace sandbox::odoo {

/// "2026-11-20 10:05:48" from microseconds since 1970 (the fraction is cut off, as reads do).
std::string format_datetime(std::int64_t time_us);
/// As format_datetime with ".113847": what a server action or a webhook shows.
std::string format_datetime_us(std::int64_t time_us);
std::string format_date(std::int64_t time_us);
/// Only the form that writes accept: "YYYY-MM-DD HH:MM:SS", or a date alone.
std::optional<std::int64_t> parse_written_datetime(std::string_view text);
std::optional<std::int64_t> parse_date(std::string_view text);
/// What domains accept: `T`, fractions of a second, and `Z` where `allow_z`.
std::optional<std::int64_t> parse_domain_datetime(std::string_view text, bool allow_z);

/// Python's repr() of a JSON value as Odoo received it: error messages quote leaves this way.
/// Lists print as [..], or as a tuple where `tuple` is set.
std::string python_repr(const Json& value, bool tuple = false);

/// "2.44 Kb": Odoo's text for a binary under bin_size.
std::string human_size(std::size_t bytes);

/// The value as SQL would keep it, checked as Odoo checks it on create and write.
/// Throws OdooError with Odoo's class and text.
Cell to_cell(const Model& model, const Field& field, const Json& value);

/// SQL's LIKE with % and _; `fold` ignores the case of ASCII and of Latin letters with accents.
bool like(std::string_view text, std::string_view pattern, bool fold);

}  // namespace sandbox::odoo
