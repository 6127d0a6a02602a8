// Envelopes of JSON-RPC and JSON-2, and what is made of the errors in them.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "json/scan.h"
#include "odoo/client.h"
#include "odoo/envelope.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const auto check : {odoo::Check::whole, odoo::Check::page}) {
    try {
      const auto envelope = odoo::read_json_rpc(body, check);
      if (envelope.begin > envelope.end || envelope.end > size) std::abort();
      if (check == odoo::Check::whole && envelope.end > 0)
        json::check(body.substr(envelope.begin, envelope.end - envelope.begin));
      if (envelope.fault && odoo::translate(*envelope.fault, "res.partner", "read").message.empty()) std::abort();
    } catch (const Error& refused) {
      if (refused.kind != Error::Kind::protocol) std::abort();
    }
  }
  if (const auto fault = odoo::read_json2_fault(body)) odoo::translate(*fault, "res.partner", "read");
  odoo::translate(odoo::xml_rpc_fault(int(size % 5), body), "res.partner", "read");
  odoo::parse_version(body, "");
  return 0;
}
