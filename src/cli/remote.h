#pragma once

#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>

#include "base/secret.h"
#include "http/client.h"
#include "ops/operation.h"

namespace dragoman::cli {

/// Asks a running hub over its API.
///
/// Threads: one thread at a time.
class RemoteHub {
 public:
  RemoteHub(std::string url, Secret token, http::Client& client)
      : url_(std::move(url)), token_(std::move(token)), client_(client) {}

  /// The answer's text. Errors: as the operation's, rebuilt from what the hub answers; unavailable if it is not there;
  /// auth (code `no_token`, `bad_token`); protocol if it is no hub.
  std::string call(const ops::Operation& operation, const nlohmann::json& input, std::stop_token stop);

 private:
  const std::string url_;
  const Secret token_;
  http::Client& client_;
};

/// The request that asks for an operation: path filled in, the rest in the query or the body.
http::Request request_of(const ops::Operation& operation, nlohmann::json input);

}  // namespace dragoman::cli
