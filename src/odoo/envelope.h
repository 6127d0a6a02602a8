#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "odoo/fault.h"

namespace dragoman::odoo {

/// Where in an answer's body its result stands, or what went wrong.
struct Envelope {
  std::size_t begin = 0, end = 0;  ///< both 0: no result, which is `null`
  std::optional<Fault> fault;
};

/// How much of a result is looked at: `page` leaves the inside of the result to json::PageReader, which reads every
/// byte anyway.
enum class Check { whole, page };

/// Reads `{"jsonrpc":"2.0","id":1,"result":…}` or `{…,"error":{…}}`. Neither result nor error is `null`: so Odoo
/// answers for a method that returns None. Throws protocol if it is nothing of the kind.
Envelope read_json_rpc(std::string_view body, Check check);

/// Reads JSON-2's error body `{"name":…,"message":…,"debug":…}`; nullopt if it is none.
std::optional<Fault> read_json2_fault(std::string_view body);

/// The members of an object's text, values as their own bytes. Throws invalid, naming `what`, if it is no object.
std::vector<std::pair<std::string, std::string_view>> members_of(std::string_view object, std::string_view what);
/// The items of an array's text.
std::vector<std::string_view> items_of(std::string_view array, std::string_view what);

}  // namespace dragoman::odoo
