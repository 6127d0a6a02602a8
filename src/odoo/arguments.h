#pragma once

#include <string>
#include <string_view>

namespace dragoman::odoo {

/// Turns positional arguments into JSON-2's named ones: `[[5],{"name":"x"}]` of `write` into
/// `"ids":[5],"vals":{"name":"x"}`. Answers the members of the body without its braces; `kwargs` are appended.
///
/// Names are those of Odoo 19's methods. A method that is not in the table may have no positional arguments but a
/// record's id or a list of ids. Throws invalid otherwise, saying what to do.
std::string named_arguments(std::string_view method, std::string_view args, std::string_view kwargs);

}  // namespace dragoman::odoo
