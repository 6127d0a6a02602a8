// Pages of records: what the reader takes, simdjson takes too, and every slice stands for itself.
#include <simdjson.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "json/records.h"
#include "json/scan.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static simdjson::dom::parser parser;

  bool valid = true;
  try {
    json::check(text);
  } catch (const Error&) {
    valid = false;
  }
  // What simdjson takes is taken here (but for what is nested deeper than our limit), and where it sees broken grammar
  // so do we. It alone refuses numbers that fit no double and halves of surrogate pairs.
  const auto error = parser.parse(text.data(), text.size()).error();
  const bool mark = text.starts_with("\xef\xbb\xbf");  // newer ones skip a byte order mark
  if (error == simdjson::SUCCESS && !valid && !mark && size <= 512) std::abort();
  if (valid && (error == simdjson::TAPE_ERROR || error == simdjson::UTF8_ERROR || error == simdjson::UNCLOSED_STRING ||
                error == simdjson::UNESCAPED_CHARS || error == simdjson::EMPTY || error == simdjson::T_ATOM_ERROR ||
                error == simdjson::F_ATOM_ERROR || error == simdjson::N_ATOM_ERROR))
    std::abort();

  static json::PageReader reader([] {
    json::FieldKinds kinds;
    kinds.set("m", json::FieldKind::many2one);
    kinds.set("t", json::FieldKind::many2many);
    kinds.set("i", json::FieldKind::ignored);
    return kinds;
  }());
  try {
    const auto records = reader.parse(text);
    if (!valid) std::abort();
    const std::vector<json::Record> kept(records.begin(), records.end());
    for (const auto& record : kept) {
      if (record.id <= 0 || record.raw.data() < text.data() ||
          record.raw.data() + record.raw.size() > text.data() + size)
        std::abort();
      if (reader.digest(record.raw) != record.digest) std::abort();
    }
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::protocol) std::abort();
  }
  return 0;
}
