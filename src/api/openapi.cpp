#include <nlohmann/json.hpp>

#include "api/api.h"

namespace dragoman::api {
namespace {

using nlohmann::ordered_json;

struct Answer {
  const char* status;
  const char* name;
  const char* text;
  bool of_body = false;  // only where there is one
};
constexpr Answer kErrors[] = {
    {"401", "Unauthorized", "No token, or one that is not known or has ended"},
    {"403", "Forbidden", "The token's role may not do this, or the remote account may not"},
    {"404", "NotFound", "What was named does not exist"},
    {"409", "Conflict", "The state of the thing does not allow it"},
    {"413", "TooLarge", "The body is larger than the hub takes", true},
    {"415", "NotJson", "The body has no `Content-Type: application/json`, or is compressed", true},
    {"422", "Invalid", "The input is wrong; the message names what"},
    {"429", "Busy", "Too many requests; `Retry-After` says when to come back"},
    {"500", "Bug", "A fault of the hub; its log has more under the request_id"},
    {"502", "Remote", "The remote refused our credentials, or answered something unexpected"},
    {"503", "Unavailable", "Not reached, or the hub is full or stopping; try again"},
    {"504", "InDoubt", "Sent to the remote, and no answer came: it may have been done"},
};

// `connection add` → `connectionAdd`, what generators make function names of.
std::string operation_id(const std::string& name) {
  std::string id;
  bool upper = false;
  for (const char c : name) {
    if (c == ' ' || c == '-') {
      upper = true;
    } else {
      id += upper ? static_cast<char>(c - 'a' + 'A') : c;
      upper = false;
    }
  }
  return id;
}

ordered_json refer_to(const std::string& to) {
  ordered_json object;
  object["$ref"] = "#/components/" + to;
  return object;
}

ordered_json content(const char* type, ordered_json schema) {
  ordered_json object;
  object[type]["schema"] = std::move(schema);
  return object;
}

ordered_json property(const char* type, const char* description) {
  ordered_json object;
  object["type"] = type;
  object["description"] = description;
  return object;
}

ordered_json answers(const ops::Operation& operation, bool has_body) {
  ordered_json all;
  const std::string good = std::to_string(operation.status);
  all[good]["description"] = operation.status == 202 ? "stored, and will be done" : "done";
  all[good]["content"] = content("application/json", ops::output_schema(operation));
  if (operation.follow)
    all[good]["content"]["text/event-stream"]["schema"] =
        property("string", "server-sent events; the data of each is one row");
  for (const Answer& error : kErrors)
    if (has_body || !error.of_body) all[error.status] = refer_to(std::string("responses/") + error.name);
  return all;
}

ordered_json entry_of(const ops::Operation& operation) {
  ordered_json entry;
  entry["operationId"] = operation_id(operation.name);
  entry["tags"] = ordered_json::array({operation.name.substr(0, operation.name.find(' '))});
  entry["summary"] = operation.summary;
  std::string description = operation.description;
  if (!description.empty()) description += "\n\n";
  entry["description"] = description + "Command: `dragoman " + operation.name +
                         "`. Role: " + std::string(access::name(operation.permission)) + ".";
  const ordered_json input = ops::input_schema(operation);
  ordered_json parameters = ordered_json::array(), required = ordered_json::array();
  ordered_json body;
  body["type"] = "object";
  body["properties"] = ordered_json::object();
  for (const auto& field : operation.inputs) {
    ordered_json schema = input["properties"][field.name];
    const bool in_path = operation.path.find("{" + field.name + "}") != std::string::npos;
    const bool in_header = !field.header.empty();
    if (in_path || in_header || operation.method == "GET" || operation.method == "DELETE") {
      ordered_json parameter;
      parameter["name"] = in_header ? field.header : field.name;
      parameter["in"] = in_path ? "path" : in_header ? "header" : "query";
      if (in_path || field.required) parameter["required"] = true;
      parameter["description"] = field.doc;
      if (field.type == ops::Type::list) {
        parameter["style"] = "form";
        parameter["explode"] = false;
      }
      schema.erase("description");
      parameter["schema"] = std::move(schema);
      parameters.push_back(std::move(parameter));
    } else {
      body["properties"][field.name] = std::move(schema);
      if (field.required) required.push_back(field.name);
    }
  }
  if (operation.follow) {
    ordered_json parameter;
    parameter["name"] = "Last-Event-ID";
    parameter["in"] = "header";
    parameter["description"] = "for event streams: go on after this one";
    parameter["schema"]["type"] = "string";
    parameters.push_back(std::move(parameter));
  }
  if (!parameters.empty()) entry["parameters"] = std::move(parameters);
  const bool has_body = !body["properties"].empty();
  if (has_body) {
    const bool needed = !required.empty();
    if (needed) body["required"] = std::move(required);
    body["additionalProperties"] = false;
    entry["requestBody"]["required"] = needed;
    entry["requestBody"]["content"] = content("application/json", std::move(body));
  }
  entry["responses"] = answers(operation, has_body);
  return entry;
}

ordered_json error_schema() {
  ordered_json fields;
  fields["kind"] = property("string", "one of the hub's error kinds");
  fields["code"] = property("string", "which of several like errors, a stable word");
  fields["message"] = property("string", "for a person: what is wrong and what to do");
  fields["hint"] = property("string", "what else may help");
  fields["request_id"] = property("string", "also in the header X-Request-Id and the log");
  ordered_json error;
  error["type"] = "object";
  error["required"] = ordered_json::array({"kind", "code", "message"});
  error["properties"] = std::move(fields);
  ordered_json schema;
  schema["type"] = "object";
  schema["required"] = ordered_json::array({"error"});
  schema["properties"]["error"] = std::move(error);
  return schema;
}

}  // namespace

std::string openapi(const std::vector<ops::Operation>& operations, const std::string& version) {
  ordered_json document;
  document["openapi"] = "3.1.0";
  auto& info = document["info"];
  info["title"] = "Dragoman";
  info["version"] = version;
  info["description"] = "The integration hub for Odoo. Every operation is also a command of `dragoman`.";
  info["license"]["name"] = "Apache-2.0";
  info["license"]["identifier"] = "Apache-2.0";
  ordered_json server;
  server["url"] = "/api/v1";
  document["servers"].push_back(std::move(server));
  ordered_json token;
  token["token"] = ordered_json::array();
  document["security"].push_back(std::move(token));
  document["paths"] = ordered_json::object();
  for (const auto& operation : operations) {
    std::string method = operation.method;
    for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
    document["paths"][operation.path][method] = entry_of(operation);
  }
  auto& components = document["components"];
  components["securitySchemes"]["token"]["type"] = "http";
  components["securitySchemes"]["token"]["scheme"] = "bearer";
  components["schemas"]["Error"] = error_schema();
  for (const Answer& error : kErrors) {
    components["responses"][error.name]["description"] = error.text;
    components["responses"][error.name]["content"] = content("application/json", refer_to("schemas/Error"));
  }
  return document.dump(2) + "\n";
}

}  // namespace dragoman::api
