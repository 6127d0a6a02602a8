#include "http/router.h"

#include <algorithm>

#include "base/log.h"
#include "base/text.h"

namespace dragoman::http {
namespace {

constexpr std::size_t kSegmentsMax = 32;
constexpr std::size_t kParametersMax = 64;

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Error bad(std::string code, std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = std::move(code);
  return error;
}

bool is_name(std::string_view segment) {
  return segment.size() > 2 && segment.front() == '{' && segment.back() == '}';
}

std::vector<std::string> split(std::string_view path) {
  std::vector<std::string> segments;
  path.remove_prefix(1);
  while (true) {
    const auto slash = path.find('/');
    segments.emplace_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    path.remove_prefix(slash + 1);
  }
}

bool plain_id(std::string_view id) {
  return !id.empty() && id.size() <= 64 && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
  });
}

}  // namespace

std::optional<std::string> find(const Parameters& parameters, std::string_view name) {
  for (const auto& [key, value] : parameters)
    if (key == name) return value;
  return std::nullopt;
}

std::string decode_percent(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      const int high = i + 2 < text.size() ? hex(text[i + 1]) : -1;
      const int low = high < 0 ? -1 : hex(text[i + 2]);
      if (low < 0) throw bad("encoding", "the address has a '%' that is not followed by two hexadecimal digits");
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    if (c == '\0') throw bad("encoding", "the address holds a NUL character");
    out += c;
  }
  if (!is_utf8(out)) throw bad("encoding", "the address is not UTF-8 text");
  return out;
}

std::string encode_percent(std::string_view text) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' ||
        c == '_' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    }
  }
  return out;
}

Parameters parse_query(std::string_view query) {
  Parameters parameters;
  while (!query.empty()) {
    const auto end = query.find('&');
    const auto pair = query.substr(0, end);
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    std::string name = decode_percent(pair.substr(0, equals), true);
    std::string value = equals == std::string_view::npos ? "" : decode_percent(pair.substr(equals + 1), true);
    if (find(parameters, name)) throw bad("duplicate", "the parameter '" + name + "' is given twice; give it once");
    if (parameters.size() == kParametersMax) throw bad("too_many", "the address has more than 64 parameters");
    parameters.emplace_back(std::move(name), std::move(value));
  }
  return parameters;
}

Target parse_target(std::string_view target) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!target.starts_with(scheme)) continue;
    const auto slash = target.find('/', scheme.size());
    target = slash == std::string_view::npos ? "/" : target.substr(slash);
  }
  Target parsed;
  if (!target.starts_with('/')) throw bad("target", "the address must begin with '/'");
  if (target.find('#') != std::string_view::npos) throw bad("target", "the address must not hold '#'");
  const auto question = target.find('?');
  if (question != std::string_view::npos) parsed.query = target.substr(question + 1);
  parsed.segments = split(target.substr(0, question));
  if (parsed.segments.size() > kSegmentsMax) throw bad("target", "the address has too many parts");
  for (auto& segment : parsed.segments) {
    segment = decode_percent(segment, false);
    const auto dots = [](std::string_view part) { return part == "." || part == ".."; };
    bool odd = dots(segment) || segment.find('\\') != std::string::npos;
    // A name may have an encoded '/' in it, but nothing that looks like a way out of a folder.
    if (segment.find('/') != std::string::npos) {
      const auto parts = split("/" + segment);
      odd = odd || std::any_of(parts.begin(), parts.end(), dots);
    }
    if (odd) throw bad("target", "the address must not hold '.' or '..' as a part, or a '\\'");
  }
  return parsed;
}

Router::Methods& Router::methods(std::string_view pattern) {
  Methods fresh{std::string(pattern), split(pattern), {}};
  const bool named = std::any_of(fresh.segments.begin(), fresh.segments.end(), is_name);
  if (!named) return exact_.try_emplace(std::string(pattern), std::move(fresh)).first->second;
  for (auto& known : patterns_)
    if (known.pattern == pattern) return known;
  return patterns_.emplace_back(std::move(fresh));
}

void Router::add(std::string_view method, std::string_view pattern, Route route) {
  auto& routes = methods(pattern).routes;
  for (const auto& [known, _] : routes) DRAGOMAN_ASSERT(known != method, "a route is added once");
  routes.emplace_back(method, std::move(route));
}

void Router::add_immediate(std::string_view method, std::string_view pattern, Route route) {
  add(method, pattern, route);
  add_at_once(method, pattern, [route = std::move(route)](Call& call) { return std::optional(route(call)); });
}

void Router::add_at_once(std::string_view method, std::string_view pattern, AtOnce route) {
  methods(pattern).at_once.emplace_back(method, std::move(route));
}

const Router::Methods* Router::match(const std::vector<std::string>& segments, Parameters& path) const {
  std::string whole;
  bool plain = true;
  for (const auto& segment : segments) {
    whole.append("/").append(segment);
    plain = plain && segment.find('/') == std::string::npos;
  }
  // One with an encoded '/' in it only looks like an exact path that has more parts.
  if (const auto found = exact_.find(whole); plain && found != exact_.end()) return &found->second;
  for (const auto& candidate : patterns_) {
    if (candidate.segments.size() != segments.size()) continue;
    path.clear();
    bool same = true;
    for (std::size_t i = 0; same && i < segments.size(); ++i) {
      const std::string& wanted = candidate.segments[i];
      if (is_name(wanted) && !segments[i].empty())
        path.emplace_back(wanted.substr(1, wanted.size() - 2), segments[i]);
      else
        same = wanted == segments[i];
    }
    if (same) return &candidate;
  }
  path.clear();
  return nullptr;
}

Reply Router::route(Call& call, Served& served) const {
  Exchange& exchange = call.exchange;
  const std::string& method = exchange.request.method;
  if (method == "OPTIONS" && exchange.request.target == "*")
    return {{204, {{"Allow", "GET, HEAD, OPTIONS, POST"}}}, {}};
  const Target target = parse_target(exchange.request.target);
  const Methods* found = match(target.segments, call.path);
  if (!found)
    return {problem_response({404, "not_found", "route", "there is nothing at this address",
                              "the list of addresses is at /api/v1/openapi.json", call.request_id}),
            {}};
  served.route = call.route = found->pattern;
  const std::string_view wanted = method == "HEAD" ? "GET" : std::string_view(method);
  for (const auto& [known, route] : found->routes) {
    if (known != wanted) continue;
    call.query = parse_query(target.query);
    return route(call);
  }
  std::string allow;
  for (const auto& [known, _] : found->routes) allow += known + (known == "GET" ? ", HEAD, " : ", ");
  allow += "OPTIONS";
  if (method == "OPTIONS") return {{204, {{"Allow", allow}}}, {}};
  Response response = problem_response(
      {405, "invalid", "method", "this address doesn't take " + method, "it takes " + allow, call.request_id});
  response.headers.set("Allow", allow);
  return {std::move(response), {}};
}

namespace {

std::string id_of(const Request& request, Random& random) {
  const auto asked = request.headers.find("X-Request-Id");
  return asked && plain_id(*asked) ? std::string(*asked) : random_hex(random, 8);
}

}  // namespace

template <typename Work>
std::optional<Reply> Router::guarded(const Work& work, std::string_view request_id, Micros begin,
                                     Served& served) const {
  Reply reply;
  const auto done = [&](const std::exception* error) {
    if (reply.later) return;  // it is served when it is there
    reply.response.headers.set("X-Request-Id", std::string(request_id));
    served.status = reply.response.status;
    served.took = clock_.steady() - begin;
    served.error = error;
    if (observer_) observer_(served);
  };
  try {
    std::optional<Reply> made = work();
    if (!made) return std::nullopt;
    reply = std::move(*made);
    done(nullptr);
  } catch (const Error& error) {
    reply = {error_response(error, request_id), {}};
    done(&error);
  } catch (const std::exception& error) {
    log::error("a request failed in a way that was not foreseen",
               {{"request", request_id}, {"route", served.route}, {"error", error.what()}});
    reply = {error_response(Error(Error::Kind::bug, "something went wrong inside the hub"), request_id), {}};
    done(&error);
  }
  if (!reply.later) return reply;
  // What is still needed then; the request itself is gone.
  struct Asked {
    std::string method, route, request_id, peer;
  };
  auto asked = std::make_shared<const Asked>(
      Asked{std::string(served.method), std::string(served.route), std::string(request_id), std::string(served.peer)});
  reply.later = [this, begin, asked = std::move(asked), later = std::move(reply.later)](auto take) mutable {
    later([this, begin, asked = std::move(asked), take = std::move(take)](Reply::Result result) mutable {
      take([&] {
        Served then{asked->method, asked->route, asked->request_id, asked->peer};
        return *guarded(result, asked->request_id, begin, then);
      });
    });
  };
  return reply;
}

Reply Router::answer(Exchange exchange) const {
  const Micros begin = clock_.steady();
  Call call{exchange, {}, {}, {}, id_of(exchange.request, random_)};
  Served served{exchange.request.method, {}, call.request_id, exchange.peer};
  return *guarded([&] { return route(call, served); }, call.request_id, begin, served);
}

std::optional<Reply> Router::at_once(Exchange& exchange) const {
  const Micros begin = clock_.steady();
  const Request& request = exchange.request;
  Call call{exchange, {}, {}, {}, {}};
  const AtOnce* found = nullptr;
  try {
    const Target target = parse_target(request.target);
    const Methods* methods = match(target.segments, call.path);
    if (!methods || methods->at_once.empty()) return std::nullopt;
    const std::string_view wanted = request.method == "HEAD" ? "GET" : std::string_view(request.method);
    for (const auto& [known, route] : methods->at_once)
      if (known == wanted) found = &route;
    if (!found) return std::nullopt;
    call.route = methods->pattern;
    call.query = parse_query(target.query);
  } catch (const Error&) {
    return std::nullopt;  // told where every request is
  }
  call.request_id = id_of(request, random_);
  Served served{request.method, call.route, call.request_id, exchange.peer};
  return guarded([&] { return (*found)(call); }, call.request_id, begin, served);
}

Response error_response(const Error& error, std::string_view request_id) {
  const ErrorPolicy& table = policy(error.kind);
  // A bug's text is for the log: it may hold anything.
  const bool ours = error.kind == Error::Kind::bug;
  if (ours)
    log::error("a bug of ours ended a request", {{"request", request_id},
                                                 {"error", error.message},
                                                 {"detail", error.detail},
                                                 {"file", error.where.file_name()},
                                                 {"line", error.where.line()}});
  Response response = problem_response({table.http_status,
                                        table.name,
                                        error.code.empty() ? table.name : error.code,
                                        ours ? std::string_view("something went wrong inside the hub; the log has more "
                                                                "under this request_id")
                                             : std::string_view(error.message),
                                        {},
                                        request_id});
  if (error.retry_after)
    response.headers.set("Retry-After", std::to_string(std::max<std::int64_t>(1, error.retry_after->count())));
  else if (table.http_status == 503 || table.http_status == 429)
    response.headers.set("Retry-After", "1");
  return response;
}

}  // namespace dragoman::http
