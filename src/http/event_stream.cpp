#include "http/event_stream.h"

namespace dragoman::http {

void append_event(std::string& out, const Event& event) {
  if (!event.id.empty()) out.append("id: ").append(event.id) += '\n';
  if (!event.event.empty()) out.append("event: ").append(event.event) += '\n';
  std::string_view rest = event.data;
  while (true) {
    // A carriage return ends a line too, for a reader of event streams.
    const auto end = rest.find_first_of("\r\n");
    out.append("data: ").append(rest.substr(0, end)) += '\n';
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + (rest.substr(end, 2) == "\r\n" ? 2 : 1));
  }
  out += '\n';
}

}  // namespace dragoman::http
