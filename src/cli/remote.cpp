#include "cli/remote.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "http/router.h"

namespace dragoman::cli {

using nlohmann::json;

namespace {

std::string text_of(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  return ops::dump(value);
}

}  // namespace

http::Request request_of(const ops::Operation& operation, json input) {
  http::Request request;
  request.method = operation.method;
  std::string path = operation.path;
  for (const auto& field : operation.inputs) {
    const auto at = path.find("{" + field.name + "}");
    if (at == std::string::npos) continue;
    path.replace(at, field.name.size() + 2, http::encode_percent(text_of(input.at(field.name))));
    input.erase(field.name);
  }
  for (const auto& field : operation.inputs) {
    if (field.header.empty() || !input.contains(field.name)) continue;
    request.headers.add(field.header, text_of(input.at(field.name)));
    input.erase(field.name);
  }
  if (operation.method == "GET" || operation.method == "DELETE") {
    char separator = '?';
    for (const auto& [name, value] : input.items()) {
      path += separator + http::encode_percent(name) + "=" + http::encode_percent(text_of(value));
      separator = '&';
    }
  } else if (!input.empty()) {
    request.headers.add("Content-Type", "application/json");
    request.body = ops::dump(input);
  }
  request.target = "/api/v1" + path;
  return request;
}

http::Client& Clients::get(std::chrono::seconds patience) {
  auto& client = made_[patience];
  if (!client) client = make_(patience);
  return *client;
}

std::chrono::seconds patience_for(const ops::Operation& operation, const json& input, std::chrono::seconds limit) {
  if (const auto wait = input.find("wait"); wait != input.end() && wait->is_number_integer() && limit.count() > 0)
    return limit + std::chrono::seconds(wait->get<std::int64_t>());
  return operation.slow ? std::chrono::seconds(0) : limit;
}

http::Response RemoteHub::send(const http::Request& request, std::chrono::seconds patience, bool changes,
                               std::stop_token stop) {
  try {
    return clients_.get(patience).send(request, stop);
  } catch (Error& error) {
    const bool silent = error.code == "timeout";
    if (error.kind != Error::Kind::unavailable && !silent) throw;
    const bool in_doubt = changes && error.kind == Error::Kind::in_doubt;
    Error better(
        in_doubt ? Error::Kind::in_doubt : Error::Kind::unavailable,
        silent
            ? fmt::format("The hub at {} does not answer: nothing came for {} s (--timeout).{}", url_, patience.count(),
                          in_doubt ? " Whether it was done is not known: look before you ask for it again." : "")
            : fmt::format("There is no hub at {}: {}", url_, error.message),
        error.detail);
    better.code = error.code;
    throw better;
  }
}

std::string RemoteHub::call(const ops::Operation& operation, const json& input, std::stop_token stop) {
  http::Request request = request_of(operation, input);
  request.target = url_ + request.target;
  request.headers.add("Accept", "application/json");
  request.headers.add("Authorization", "Bearer " + token_.reveal());
  const auto patience = patience_for(operation, input, clients_.limit());
  if (patience.count() == 0 && clients_.limit().count() > 0) {
    http::Request ping;
    ping.method = "GET";
    ping.target = url_ + "/healthz";
    send(ping, clients_.limit(), false, stop);
  }
  http::Response response = send(request, patience, operation.changes(), stop);
  if (response.status == operation.status) {
    while (!response.body.empty() && response.body.back() == '\n') response.body.pop_back();
    return std::move(response.body);
  }
  const json answer = json::parse(response.body, nullptr, false);
  if (!answer.is_object() || !answer.contains("error") || !answer["error"].is_object())
    throw Error(Error::Kind::protocol, fmt::format("What answers at {} is no hub (status {}).", url_, response.status));
  const json& told = answer["error"];
  const auto word = [&](const char* name) {
    const auto found = told.find(name);
    return found != told.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  std::string message = word("message");
  if (const std::string hint = word("hint"); !hint.empty()) message += " (" + hint + ")";
  Error error(error_kind(word("kind")).value_or(Error::Kind::protocol), message);
  error.code = word("code");
  throw error;
}

}  // namespace dragoman::cli
