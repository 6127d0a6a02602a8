#pragma once

#include <string>
#include <string_view>

#include "ops/operation.h"

namespace dragoman::cli {

/// An answer for a person: its values a line each, its rows as a table. Values are shown as they stand in the JSON, so
/// no digit is lost; control characters are not passed on to the terminal.
std::string render(const ops::Operation& operation, std::string_view answer);

/// One row of the answer in one line, for what is followed.
std::string render_row(const ops::Operation& operation, std::string_view row);

/// True if the answer says that all is well: the operation's verdict is true, 0 or empty.
bool is_well(const ops::Operation& operation, std::string_view answer);

}  // namespace dragoman::cli
