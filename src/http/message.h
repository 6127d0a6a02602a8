#pragma once

#include <chrono>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace dragoman::http {

/// Header fields in the order they came; names compare without case.
class Headers {
 public:
  Headers() = default;
  Headers(std::initializer_list<std::pair<std::string, std::string>> fields) : fields_(fields) {}

  void add(std::string name, std::string value) { fields_.emplace_back(std::move(name), std::move(value)); }
  /// Replaces every field of that name by one.
  void set(std::string_view name, std::string value);
  /// The first value with that name.
  std::optional<std::string_view> find(std::string_view name) const;
  std::size_t count(std::string_view name) const;
  void clear() { fields_.clear(); }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

struct Request {
  std::string method = "GET";
  std::string target;  ///< for the server: path and query as received; for the client: the whole URL
  Headers headers;
  std::string body;
};

struct Response {
  int status = 200;
  Headers headers;
  /// From the client: at least 64 spare bytes of capacity behind the end, as simdjson wants.
  std::string body;
};

/// Reads one line of a header block, `Name: value`, with or without its line end. nullopt if it is none: no colon, a
/// name that is no token, a control character in the value.
std::optional<std::pair<std::string_view, std::string_view>> parse_header_line(std::string_view line);

/// The preferred form of an HTTP date, `Sun, 06 Nov 1994 08:49:37 GMT`; nullopt if it is another.
std::optional<Time> parse_http_date(std::string_view text);

/// How long a `Retry-After` asks to wait: seconds, or an HTTP date (RFC 9110, its preferred form) seen from `now`.
/// Never negative, at most a day (who asks for more is asked again then). nullopt if it is neither form.
std::optional<std::chrono::seconds> parse_retry_after(std::string_view value, Time now);

/// The media type of a Content-Type in lower case without its parameters: `application/json`.
std::string media_type(const Headers& headers);

}  // namespace dragoman::http
