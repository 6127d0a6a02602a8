// A user's domain: refused with a reason, or read to a form that reads to itself.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "json/scan.h"
#include "odoo/arguments.h"
#include "odoo/domain.h"
#include "odoo/xml_rpc.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto domain = odoo::Domain::parse(text);
    const std::string json = domain.json();
    json::check(json);
    if (odoo::Domain::parse(json).json() != json) std::abort();
    json::check((domain && !domain).json());
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::invalid) std::abort();
  }
  try {
    odoo::named_arguments("write", text, "");
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::invalid) std::abort();
  }
  try {
    const std::string_view params[] = {text};
    odoo::xml_rpc_call("execute_kw", std::span<const std::string_view>(params));
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::invalid) std::abort();
  }
  return 0;
}
