#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "http/server.h"

namespace dragoman::http {

/// Names and values in the order they came, decoded.
using Parameters = std::vector<std::pair<std::string, std::string>>;
std::optional<std::string> find(const Parameters& parameters, std::string_view name);

/// `%41` → `A`; with `plus_is_space` also `+` → space. Throws invalid (code `encoding`) on a broken escape, a NUL, or
/// what is not UTF-8.
std::string decode_percent(std::string_view text, bool plus_is_space);
/// Everything but letters, digits and `-._~` as `%XX`.
std::string encode_percent(std::string_view text);
/// Reads `a=1&b=2`. Throws invalid: code `encoding`, `duplicate` (a name twice), `too_many` (over 64).
Parameters parse_query(std::string_view query);

/// A target that has passed the checks: a path from `/`, without `.`, `..` or empty segments inside.
struct Target {
  std::vector<std::string> segments;  ///< decoded; a `%2F` in one is a `/` of its name
  std::string_view query;             ///< as received
};
/// Throws invalid, code `target` or `encoding`. Takes `/path?query` and `http://host/path?query`.
Target parse_target(std::string_view target);

/// A request as a route sees it.
struct Call {
  Exchange& exchange;
  std::string_view route;  ///< the pattern that matched
  Parameters path;         ///< the `{name}`s of the pattern
  Parameters query;
  std::string request_id;
};
using Route = std::function<Reply(Call&)>;
/// As Route, on the io thread: nothing if it would have to wait, and then it has left no trace.
using AtOnce = std::function<std::optional<Reply>(Call&)>;

/// What was done, for the log and the metrics.
struct Served {
  std::string_view method, route, request_id;  ///< `route` is the pattern, or empty if none matched
  std::string_view peer;
  int status = 0;
  Micros took{0};
  const std::exception* error = nullptr;
};

/// Finds the route of a request, and is where an Error of a request ends: it becomes the JSON error with the status of
/// the error table; anything else thrown becomes `bug`, with its text in the log only.
///
/// HEAD is answered by GET's route (the server leaves the body out), OPTIONS by the list of methods, an unknown path by
/// 404 and a wrong method by 405 with Allow. An `X-Request-Id` of 1–64 plain characters is kept, else one is made;
/// every answer has it.
///
/// Threads: add before the server starts; `answer` is safe from any thread.
class Router {
 public:
  Router(const Clock& clock, Random& random) : clock_(clock), random_(random) {}

  /// `pattern`: `/api/v1/records/{model}/{id}`. An exact path wins over one with names.
  void add(std::string_view method, std::string_view pattern, Route route);
  /// As add, for a route that never waits: it may be answered on the io thread.
  void add_immediate(std::string_view method, std::string_view pattern, Route route);
  /// Beside add, for a route that sometimes needs no waiting.
  void add_at_once(std::string_view method, std::string_view pattern, AtOnce route);
  void observe(std::function<void(const Served&)> observer) { observer_ = std::move(observer); }

  Reply answer(Exchange exchange) const;
  /// For Handler::at_once.
  std::optional<Reply> at_once(Exchange& exchange) const;

 private:
  struct Methods {
    std::string pattern;
    std::vector<std::string> segments;
    std::vector<std::pair<std::string, Route>> routes;
    std::vector<std::pair<std::string, AtOnce>> at_once{};
  };
  Methods& methods(std::string_view pattern);
  const Methods* match(const std::vector<std::string>& segments, Parameters& path) const;
  Reply route(Call& call, Served& served) const;
  /// What `work` answers, its errors as answers; nothing if it does.
  template <typename Work>
  std::optional<Reply> guarded(const Work& work, std::string_view request_id, Micros begin, Served& served) const;

  const Clock& clock_;
  Random& random_;
  std::unordered_map<std::string, Methods> exact_;
  std::vector<Methods> patterns_;
  std::function<void(const Served&)> observer_;
};

/// The answer to an Error, by the error table.
Response error_response(const Error& error, std::string_view request_id);

}  // namespace dragoman::http
