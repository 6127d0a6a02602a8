#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <stop_token>
#include <string>

#include "base/secret.h"
#include "http/client.h"
#include "ops/operation.h"

namespace dragoman::cli {

/// HTTP clients by how long they wait for the next byte.
///
/// Threads: one thread at a time.
class Clients {
 public:
  /// 0 seconds: without a limit.
  using Make = std::function<std::unique_ptr<http::Client>(std::chrono::seconds patience)>;
  Clients(std::chrono::seconds limit, Make make) : limit_(limit), make_(std::move(make)) {}

  std::chrono::seconds limit() const { return limit_; }
  http::Client& get(std::chrono::seconds patience);

 private:
  const std::chrono::seconds limit_;
  const Make make_;
  std::map<std::chrono::seconds, std::unique_ptr<http::Client>> made_;
};

/// How long the answer to an operation may take to begin, where others may take `limit`. 0: as long as it likes.
std::chrono::seconds patience_for(const ops::Operation& operation, const nlohmann::json& input,
                                  std::chrono::seconds limit);

/// Asks a running hub over its API.
///
/// Threads: one thread at a time.
class RemoteHub {
 public:
  RemoteHub(std::string url, Secret token, Clients& clients)
      : url_(std::move(url)), token_(std::move(token)), clients_(clients) {}

  /// The answer's text. Before an operation that may take as long as it likes, the hub is asked whether it is there.
  ///
  /// Errors  as the operation's, rebuilt from what the hub answers; unavailable if it is not there, or (code `timeout`)
  ///         does not answer; in_doubt (code `timeout`) if it may have done what it did not answer; auth (code
  ///         `no_token`, `bad_token`); protocol if it is no hub.
  std::string call(const ops::Operation& operation, const nlohmann::json& input, std::stop_token stop);

 private:
  http::Response send(const http::Request& request, std::chrono::seconds patience, bool changes, std::stop_token stop);

  const std::string url_;
  const Secret token_;
  Clients& clients_;
};

/// The request that asks for an operation: path filled in, the rest in the query or the body.
http::Request request_of(const ops::Operation& operation, nlohmann::json input);

}  // namespace dragoman::cli
