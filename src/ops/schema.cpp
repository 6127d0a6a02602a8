#include <nlohmann/json.hpp>

#include "ops/operation.h"

namespace dragoman::ops {
namespace {

using nlohmann::ordered_json;

ordered_json schema_of(const Field& field) {
  ordered_json schema = ordered_json::object();
  switch (field.type) {
    case Type::text:
      schema["type"] = "string";
      break;
    case Type::integer:
      schema["type"] = "integer";
      schema["format"] = "int64";
      break;
    case Type::boolean:
      schema["type"] = "boolean";
      break;
    case Type::time:
      schema["type"] = "string";
      schema["format"] = "date-time";
      break;
    case Type::list:
      schema["type"] = "array";
      schema["items"] = ordered_json::object();
      if (field.objects) schema["items"]["type"] = "object";
      break;
    case Type::object:
      schema["type"] = "object";
      break;
  }
  if (!field.doc.empty()) schema["description"] = field.doc;
  if (!field.choices.empty()) schema["enum"] = field.choices;
  if (field.min) schema["minimum"] = *field.min;
  if (field.max) schema["maximum"] = *field.max;
  if (!field.fallback.empty()) schema["default"] = ordered_json::parse(field.fallback);
  if (field.secret) schema["writeOnly"] = true;
  return schema;
}

// What an answer may leave empty is null there.
ordered_json object_of(const std::vector<Field>& fields, bool nullable) {
  ordered_json schema = {{"type", "object"}, {"properties", ordered_json::object()}};
  ordered_json required = ordered_json::array();
  for (const Field& field : fields) {
    ordered_json one = schema_of(field);
    if (nullable && !field.required) one["type"] = {one["type"], "null"};
    schema["properties"][field.name] = std::move(one);
    if (field.required) required.push_back(field.name);
  }
  if (!required.empty()) schema["required"] = required;
  return schema;
}

}  // namespace

ordered_json input_schema(const Operation& operation) {
  ordered_json schema = object_of(operation.inputs, false);
  schema["additionalProperties"] = false;
  return schema;
}

ordered_json output_schema(const Operation& operation) {
  ordered_json schema = object_of(operation.output.fields, true);
  if (!operation.output.rows.empty()) {
    schema["properties"][operation.output.rows] = {{"type", "array"},
                                                   {"items", object_of(operation.output.columns, true)}};
    schema["required"].push_back(operation.output.rows);
  }
  return schema;
}

}  // namespace dragoman::ops
