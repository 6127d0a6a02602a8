#include "notify/text.h"

#include <algorithm>

#include "base/text.h"

namespace dragoman::notify {

std::string plain(std::string_view text, bool one_line, std::size_t bytes_max) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 1;
    while (length <= 4 && i + length <= text.size() && !is_utf8(text.substr(i, length))) ++length;
    const bool whole = length <= 4 && i + length <= text.size();
    std::string_view piece = whole ? text.substr(i, length) : std::string_view("\xef\xbf\xbd");
    i += whole ? length : 1;
    const auto c = static_cast<unsigned char>(piece.front());
    if (c == 0 || c == 0x7f || (c < 0x20 && (one_line || (c != '\n' && c != '\t')))) piece = " ";
    if (out.size() + piece.size() > bytes_max) return out + "…";
    out += piece;
  }
  return out;
}

}  // namespace dragoman::notify
