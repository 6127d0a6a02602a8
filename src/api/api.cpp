#include "api/api.h"

#include <strings.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "http/event_stream.h"
#include "store/store.h"

namespace dragoman::api {
namespace {

using http::Call;
using http::Reply;
using nlohmann::json;

constexpr Micros kReadinessAge = std::chrono::seconds(5);
constexpr std::string_view kBase = "/api/v1";
// What is read on the io thread, which nobody else gets meanwhile: about 0.1 ms.
constexpr std::size_t kAtOnceBytesMax = 16 << 10;

Reply json_reply(std::string text, int status = 200) {
  Reply reply;
  reply.response.status = status;
  reply.response.headers.add("Content-Type", "application/json");
  reply.response.headers.add("Cache-Control", "no-store");
  reply.response.headers.add("X-Content-Type-Options", "nosniff");
  reply.response.body = std::move(text);
  reply.response.body += '\n';
  return reply;
}

std::string_view media_type(std::string_view header) {
  header = header.substr(0, header.find(';'));
  while (!header.empty() && header.back() == ' ') header.remove_suffix(1);
  return header;
}

bool wants_events(const Call& call) {
  const auto accept = call.exchange.request.headers.find("Accept");
  return accept && accept->find("text/event-stream") != std::string_view::npos;
}

bool lacks_json_type(const http::Request& request) {
  const auto type = request.headers.find("Content-Type");
  return !request.body.empty() && (!type || media_type(*type) != "application/json");
}

bool is_compressed(const http::Request& request) {
  const auto encoding = request.headers.find("Content-Encoding");
  return encoding && !encoding->empty() && media_type(*encoding) != "identity";
}

// The token that came with it, if one did.
std::optional<std::string_view> bearer(const Call& call) {
  const auto header = call.exchange.request.headers.find("Authorization");
  if (!header || !(header->starts_with("Bearer ") || header->starts_with("bearer "))) return std::nullopt;
  return header->substr(7);
}

// Counts a slow request down when it is over, however it ends.
struct Leave {
  std::atomic<int>* count;
  ~Leave() {
    if (count) --*count;
  }
};

const ops::Field* field_of(const ops::Operation& operation, std::string_view name) {
  for (const auto& field : operation.inputs)
    if (field.name == name) return &field;
  return nullptr;
}

// Path, query and body make one input; a name in two of them is a mistake worth telling.
json input_of(const ops::Operation& operation, const Call& call) {
  const auto& request = call.exchange.request;
  json input = json::object();
  if (!request.body.empty()) {
    input = ops::parse_body(request.body);
    if (!input.is_object()) throw Error(Error::Kind::invalid, "The body must be a JSON object.");
  }
  const auto take = [&](const http::Parameters& parameters) {
    for (const auto& [key, text] : parameters) {
      if (input.contains(key)) {
        Error error(Error::Kind::invalid, "`" + key + "` is given twice: in the address and in the body or path.");
        error.code = "duplicate";
        throw error;
      }
      // Of an unknown one check_input tells.
      const auto* field = field_of(operation, key);
      input[key] = field ? ops::value_of(*field, text) : json(text);
    }
  };
  take(call.path);
  take(call.query);
  for (const auto& field : operation.inputs) {
    if (field.header.empty()) continue;
    if (input.contains(field.name)) {
      Error error(Error::Kind::invalid, "`" + field.name + "` comes in the header `" + field.header + "`.");
      error.code = "input";
      throw error;
    }
    if (const auto value = request.headers.find(field.header)) {
      const bool again = std::count_if(request.headers.begin(), request.headers.end(), [&](const auto& one) {
                           return ::strcasecmp(one.first.c_str(), field.header.c_str()) == 0;
                         }) > 1;
      if (again) {
        Error error(Error::Kind::invalid, "The header `" + field.header + "` is there more than once.");
        error.code = "duplicate";
        throw error;
      }
      input[field.name] = ops::value_of(field, std::string(*value));
    }
  }
  return input;
}

}  // namespace

Api::Api(Settings settings, const std::vector<ops::Operation>& operations, ops::Services& services, Metrics& metrics)
    : settings_(std::move(settings)),
      operations_(operations),
      services_(services),
      metrics_(metrics),
      per_token_(settings_.per_token, services.clock),
      per_address_(settings_.per_address, services.clock),
      openapi_(openapi(operations, services.version)) {}

void Api::add_routes(http::Router& router) {
  const std::string base(kBase);
  for (const auto& operation : operations_) {
    router.add(operation.method, base + operation.path,
               [this, &operation](Call& call) { return run(operation, call); });
    if (operation.at_once || operation.begin)
      router.add_at_once(operation.method, base + operation.path,
                         [this, &operation](Call& call) { return at_once(operation, call); });
  }
  router.add_immediate("GET", base + "/openapi.json", [this](Call&) { return json_reply(openapi_); });
  // Whether the process lives: asks nobody.
  router.add_immediate("GET", "/healthz", [](Call&) { return json_reply(R"({"status":"ok"})"); });
  router.add("GET", "/readyz", [this](Call& call) { return ready(call); });
  router.add("GET", "/metrics", [this](Call& call) { return metrics(call); });
}

bool Api::within_limit(access::RateLimit& limit, std::string_view key, const Call& call, Reply& refusal) {
  const auto wait = limit.take(key);
  if (!wait) return true;
  Error error(Error::Kind::busy, "Too many requests; slow down.");
  error.code = "rate_limit";
  error.retry_in(std::chrono::ceil<std::chrono::seconds>(*wait));
  refusal = {http::error_response(error, call.request_id), {}};
  return false;
}

std::optional<access::Token> Api::authenticate(Call& call, Reply& refusal) {
  const auto presented = bearer(call);
  // Whoever stands between may have looked at the other one.
  if (call.exchange.request.headers.count("Authorization") > 1) {
    if (within_limit(per_address_, call.exchange.peer, call, refusal))
      refusal.response = http::problem_response({400, "invalid", "two_tokens", "There are two `Authorization` headers.",
                                                 "send one, with one token", call.request_id});
    return std::nullopt;
  }
  if (presented) {
    if (auto token = services_.tokens.check(*presented)) {
      if (within_limit(per_token_, std::to_string(token->id), call, refusal)) return token;
      return std::nullopt;
    }
  }
  if (!within_limit(per_address_, call.exchange.peer, call, refusal)) return std::nullopt;
  refusal.response = http::problem_response(
      {401, "auth", presented ? "bad_token" : "no_token",
       presented ? "This token is not known here, or has ended." : "This needs a token.",
       "send `Authorization: Bearer TOKEN`; the first token is in the file `token` of the hub's data folder, and "
       "`dragoman token create` makes more",
       call.request_id});
  refusal.response.headers.add("WWW-Authenticate", presented ? "Bearer error=\"invalid_token\"" : "Bearer");
  return std::nullopt;
}

std::optional<Reply> Api::at_once(const ops::Operation& operation, Call& call) {
  const auto& request = call.exchange.request;
  if (request.body.size() > kAtOnceBytesMax || lacks_json_type(request) || is_compressed(request)) return std::nullopt;
  if (operation.at_once && !(request.body.empty() && call.query.empty())) return std::nullopt;
  const auto presented = bearer(call);
  const auto token = presented ? services_.tokens.check_from_memory(*presented) : std::nullopt;
  // Whoever is to be refused is so by a request thread.
  if (!token || request.headers.count("Authorization") > 1 || !access::allows(token->role, operation.permission))
    return std::nullopt;
  ops::Context context{services_, token->name, call.exchange.stop, "token " + token->name};
  Reply reply;
  if (operation.at_once) {
    auto text = operation.at_once(context);
    if (!text) return std::nullopt;
    if (!within_limit(per_token_, std::to_string(token->id), call, reply)) return reply;
    return json_reply(*std::move(text), operation.status);
  }
  if (!within_limit(per_token_, std::to_string(token->id), call, reply)) return reply;
  const json input = ops::check_input(operation, input_of(operation, call));
  reply.later = [rest = operation.begin(context, input), status = operation.status](auto take) {
    rest([take = std::move(take), status](ops::Operation::Result result) {
      take([&] { return json_reply(result(), status); });
    });
  };
  return reply;
}

Reply Api::run(const ops::Operation& operation, Call& call) {
  Reply refusal;
  const auto token = authenticate(call, refusal);
  if (!token) return refusal;
  if (!access::allows(token->role, operation.permission)) {
    Error error(Error::Kind::forbidden, "`" + operation.name + "` needs the role " +
                                            std::string(access::name(operation.permission)) + ", and this token's is " +
                                            std::string(access::name(token->role)) + ".");
    error.code = "role";
    throw error;
  }
  const auto& request = call.exchange.request;
  if (lacks_json_type(request))
    return {http::problem_response({415, "invalid", "content_type", "The body must be JSON.",
                                    "send `Content-Type: application/json`", call.request_id}),
            {}};
  if (is_compressed(request))
    return {http::problem_response({415, "invalid", "content_encoding", "The body must not be compressed.",
                                    "send it as it is, without `Content-Encoding`", call.request_id}),
            {}};
  json input = input_of(operation, call);
  if (operation.follow && wants_events(call)) return follow(operation, call, std::move(input), token->name);
  input = ops::check_input(operation, std::move(input));
  const bool slow = operation.slow && input.value("wait", 1) != 0;
  const Leave leave{slow ? &slow_ : nullptr};
  if (slow && slow_.fetch_add(1) >= settings_.slow_max) {
    Error error(Error::Kind::busy,
                "As many requests that take long are under way as the hub takes at once; try again in a moment.");
    error.code = "slow_requests";
    error.retry_in(std::chrono::seconds(2));
    throw error;
  }
  ops::Context context{services_, token->name, call.exchange.stop, "token " + token->name};
  return json_reply(ops::perform(operation, context, input), operation.status);
}

Reply Api::follow(const ops::Operation& operation, Call& call, json input, std::string caller) {
  const auto last = call.exchange.request.headers.find("Last-Event-ID");
  const auto* field = field_of(operation, operation.resume);
  if (last && !last->empty() && field) input[operation.resume] = ops::value_of(*field, std::string(*last));
  input = ops::check_input(operation, std::move(input));
  ops::Context asked{services_, caller, call.exchange.stop};
  if (operation.check_follow) operation.check_follow(asked, input);
  Reply reply;
  reply.response.headers.add("Content-Type", "text/event-stream");
  reply.response.headers.add("Cache-Control", "no-store");
  reply.response.headers.add("X-Accel-Buffering", "no");  // nginx would hold events back
  reply.stream = [this, &operation, input = std::move(input), caller = std::move(caller)](http::Sink& sink) {
    ops::Context context{services_, caller, sink.stop()};
    if (!sink.write(http::kHeartbeat)) return;
    std::string text;
    operation.follow(context, input, [&](std::string_view id, std::string_view event, std::string_view data) {
      if (data.empty()) return sink.write(http::kHeartbeat);
      text.clear();
      http::append_event(text, {id, event, data});
      return sink.write(text);
    });
  };
  return reply;
}

Reply Api::ready(Call& call) {
  const Micros now = services_.clock.steady();
  auto state = readiness_.lock();
  // The check writes, so it is not repeated for everyone who asks.
  if (!state->known || now - state->checked >= kReadinessAge) {
    state->checked = now;
    state->known = true;
    state->problem.clear();
    try {
      services_.store.write([](store::Session& session) {
        if (session.execute("UPDATE feed SET last = last WHERE id = 1") != 1)
          throw Error(Error::Kind::unavailable, "The database lacks the tables of this version.");
      });
    } catch (const Error& error) {
      state->problem = error.message;
    }
    if (state->problem.empty() && services_.trouble) state->problem = services_.trouble();
  }
  if (state->problem.empty()) return json_reply(R"({"status":"ready"})");
  return {http::problem_response({503, "unavailable", "not_ready", state->problem, {}, call.request_id}), {}};
}

Reply Api::metrics(Call& call) {
  if (settings_.metrics != "loopback" || !call.exchange.peer_is_loopback) {
    Reply refusal;
    if (!authenticate(call, refusal)) return refusal;
  }
  Reply reply;
  reply.response.headers.add("Content-Type", "text/plain; version=0.0.4; charset=utf-8");
  reply.response.body = metrics_.text();
  return reply;
}

}  // namespace dragoman::api
