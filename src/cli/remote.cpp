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

std::string RemoteHub::call(const ops::Operation& operation, const json& input, std::stop_token stop) {
  http::Request request = request_of(operation, input);
  request.target = url_ + request.target;
  request.headers.add("Accept", "application/json");
  request.headers.add("Authorization", "Bearer " + token_.reveal());
  http::Response response;
  try {
    response = client_.send(request, stop);
  } catch (Error& error) {
    if (error.kind != Error::Kind::unavailable) throw;
    Error better(Error::Kind::unavailable, fmt::format("There is no hub at {}: {}", url_, error.message), error.detail);
    better.code = error.code;
    throw better;
  }
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
