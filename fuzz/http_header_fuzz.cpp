// Header lines, Retry-After and dates as a server sends them.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "http/message.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const Time now = from_us(1'790'000'000'000'000);
  http::Headers headers;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const auto line = text.substr(0, end);
    if (const auto field = http::parse_header_line(line)) {
      if (field->first.empty() || field->second.find('\n') != std::string_view::npos) std::abort();
      headers.add(std::string(field->first), std::string(field->second));
    }
    if (const auto wait = http::parse_retry_after(line, now);
        wait && (wait->count() < 0 || *wait > std::chrono::hours(24)))
      std::abort();
    http::parse_http_date(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  http::media_type(headers);
  return 0;
}
