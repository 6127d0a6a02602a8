#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ops/operation.h"

namespace dragoman::cli {

/// An answer for a person: its values a line each, its rows as a table. Values are shown as they stand in the JSON, so
/// no digit is lost; control characters are not passed on to the terminal.
std::string render(const ops::Operation& operation, std::string_view answer);

/// The answer's rows, and one of its values, as they stand in it.
std::vector<std::string_view> rows_of(const ops::Operation& operation, std::string_view answer);
std::string_view value_of(std::string_view answer, std::string_view name);

/// One row of the answer in one line, for what is followed.
std::string render_row(const ops::Operation& operation, std::string_view row);

/// True if the answer says that all is well: the operation's verdict is true, 0 or empty.
bool is_well(const ops::Operation& operation, std::string_view answer);

}  // namespace dragoman::cli
