#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "odoo/fault.h"

namespace dragoman::odoo {

/// `<methodCall>` with parameters given as JSON text each. Whole numbers within 32 bits become `int`, others `i8`.
/// Throws invalid if a parameter is no JSON.
std::string xml_rpc_call(std::string_view method, std::span<const std::string_view> params);
inline std::string xml_rpc_call(std::string_view method, const std::vector<std::string>& params) {
  const std::vector<std::string_view> views(params.begin(), params.end());
  return xml_rpc_call(method, std::span(views));
}

struct XmlRpcAnswer {
  std::string json;  ///< the result as JSON, in the bytes that Python's json.dumps would write
  std::optional<Fault> fault;
  bool none = false;  ///< Odoo could not say the None that the method returned; it was done
};

/// Reads a `<methodResponse>`; `body` is parsed in place and spoilt. Throws protocol: no XML, too deep, not the shape.
XmlRpcAnswer read_xml_rpc(std::string& body);

}  // namespace dragoman::odoo
