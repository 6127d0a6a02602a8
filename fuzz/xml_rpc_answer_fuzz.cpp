// XML-RPC answers: whatever comes, the result is whole JSON or an error.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "json/scan.h"
#include "odoo/xml_rpc.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string body(reinterpret_cast<const char*>(data), size);
  try {
    const auto answer = odoo::read_xml_rpc(body);
    if (!answer.fault) json::check(answer.json, 4096);
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::protocol) std::abort();
  }
  return 0;
}
