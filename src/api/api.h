#pragma once

#include <atomic>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "access/rate_limit.h"
#include "api/metrics.h"
#include "base/guarded.h"
#include "http/router.h"
#include "ops/operation.h"

namespace dragoman::api {

struct Settings {
  access::RateLimit::Settings per_token{.per_second = 100, .burst = 400};
  /// Of requests without a good token: guessing is slow.
  access::RateLimit::Settings per_address{.per_second = 5, .burst = 50};
  /// Who may read /metrics: `loopback` (this machine without a token, others with one) or `token`.
  std::string metrics = "loopback";
  /// Slow operations at once, fewer than the server's request threads: others must get through.
  int slow_max = 4;
};

/// The REST face of the operations: `/api/v1/…`, `openapi.json`, and what machines ask: `/healthz`, `/readyz`,
/// `/metrics`. No logic of its own beyond who may ask and how an answer is written.
///
/// Threads: safe from any thread after construction.
class Api {
 public:
  Api(Settings settings, const std::vector<ops::Operation>& operations, ops::Services& services, Metrics& metrics);

  /// Adds every route; the Api must outlive the router's last answer.
  void add_routes(http::Router& router);

 private:
  http::Reply run(const ops::Operation& operation, http::Call& call);
  /// As run, on the io thread: nothing if it would have to wait, or is to be refused.
  std::optional<http::Reply> at_once(const ops::Operation& operation, http::Call& call);
  http::Reply follow(const ops::Operation& operation, http::Call& call, nlohmann::json input, std::string caller);
  http::Reply ready(http::Call& call);
  http::Reply metrics(http::Call& call);
  /// The caller's token, or none and the answer that refuses.
  std::optional<access::Token> authenticate(http::Call& call, http::Reply& refusal);
  /// Counts the request; false, and the answer that refuses, if it is one too many.
  bool within_limit(access::RateLimit& limit, std::string_view key, const http::Call& call, http::Reply& refusal);

  const Settings settings_;
  const std::vector<ops::Operation>& operations_;
  ops::Services& services_;
  Metrics& metrics_;
  access::RateLimit per_token_;
  access::RateLimit per_address_;
  const std::string openapi_;
  std::atomic<int> slow_ = 0;

  struct Readiness {
    Micros checked{};
    bool known = false;
    std::string problem;  ///< empty: ready
  };
  Guarded<Readiness> readiness_;
};

/// The whole API as an OpenAPI 3.1 document, pretty-printed, with a line break at the end.
std::string openapi(const std::vector<ops::Operation>& operations, const std::string& version);

}  // namespace dragoman::api
