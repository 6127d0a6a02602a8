#pragma once

#include <string>
#include <string_view>

#include "base/error.h"

namespace dragoman::odoo {

/// What Odoo says about a call that failed, whichever transport it came by.
struct Fault {
  std::string name;     ///< `odoo.exceptions.AccessError`
  std::string message;  ///< for people, by Odoo
  std::string debug;    ///< its traceback: paths and data of the server, for the log only
};

/// The Error for a fault, told by Odoo's own names and never by status codes (they differ by version). The call was
/// rolled back.
Error translate(const Fault& fault, std::string_view model, std::string_view method);

/// From an XML-RPC fault: 2 warning, 3 access denied, 4 access error, 1 anything else, with a traceback as its text.
Fault xml_rpc_fault(int code, std::string_view text);

/// The first `max` bytes of remote text on one line, cut at a whole character.
std::string shorten(std::string_view text, std::size_t max);

}  // namespace dragoman::odoo
