// The canonical form is a fixed point, the digest does not see the difference, and nothing differs from itself.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "json/records.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const json::FieldKinds kinds = [] {
    json::FieldKinds made;
    made.set("m", json::FieldKind::many2one);
    made.set("t", json::FieldKind::one2many);
    made.set("i", json::FieldKind::ignored);
    return made;
  }();
  try {
    json::FieldKinds::from_fields_get(text);
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::protocol) std::abort();
  }
  static json::PageReader reader(kinds);
  try {
    const auto digest = reader.digest(text);
    const std::string canonical = json::canonical(text, kinds);
    if (json::canonical(canonical, kinds) != canonical) std::abort();
    if (!json::diff(text, canonical, kinds).empty()) std::abort();
    if (canonical.find("\"id\":") != std::string::npos && reader.digest(canonical) != digest) std::abort();
    json::field(text, "name");
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::protocol) std::abort();
  }
  return 0;
}
