#pragma once

#include <string>
#include <string_view>

namespace dragoman::http {

/// One server-sent event. Line breaks within `data` are kept; `id` and `event` must have none.
struct Event {
  std::string_view id;
  std::string_view event;
  std::string_view data;
};
/// Appends the event in wire form, with the empty line that ends it.
void append_event(std::string& out, const Event& event);

/// A comment that keeps proxies and readers from taking a quiet stream for a dead one.
inline constexpr std::string_view kHeartbeat = ": still here\n\n";

}  // namespace dragoman::http
