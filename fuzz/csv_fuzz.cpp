// A table of links as somebody hands it in: whatever its bytes, rows or an error that names a line; and what was read
// is the same after it was written.

#include <cstdint>
#include <string_view>

#include "base/csv.h"
#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dragoman;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<csv::Row> rows;
  try {
    rows = csv::parse(text);
  } catch (const Error& error) {
    DRAGOMAN_ASSERT(error.kind == Error::Kind::invalid && error.code == "csv", "refused in words");
    return 0;
  }
  for (const auto& row : rows) {
    std::string written;
    csv::append(written, row.cells);
    const auto again = csv::parse(written);
    DRAGOMAN_ASSERT(again.size() == 1 && again[0].cells.size() == row.cells.size(), "one row with as many cells");
    for (std::size_t i = 0; i < row.cells.size(); ++i)
      DRAGOMAN_ASSERT(csv::plain(again[0].cells[i]) == row.cells[i], "the same cells");
  }
  return 0;
}
