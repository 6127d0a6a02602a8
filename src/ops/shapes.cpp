#include "ops/shapes.h"

#include "base/error.h"
#include "pipeline/connections.h"

#include <nlohmann/json.hpp>

namespace dragoman::ops {

using nlohmann::json;

std::string change_text(const pipeline::Change& change, bool with_body) {
  json head = {{"number", change.number},
               {"connection", change.connection},
               {"model", change.model},
               {"id", change.external_id},
               {"version", change.version},
               {"kind", pipeline::name(change.kind)},
               {"schema", change.schema_number},
               {"company_id", change.company_id ? json(*change.company_id) : json(nullptr)},
               {"write_date", time_or_null(change.write_date)},
               {"seen", format_iso(change.seen)},
               {"digest", change.digest}};
  if (!change.binaries.empty()) {
    json binaries = json::object();
    for (const auto& [field, digest] : change.binaries) binaries[field] = digest;
    head["binaries"] = binaries;
  }
  std::string text = dump(head);
  if (with_body) {
    text.pop_back();
    text += ",\"body\":";
    text += change.body ? *change.body : "null";
    text += '}';
  }
  return text;
}

std::string rows_text(std::string_view rows, const std::vector<std::string>& texts, const json& fields) {
  std::string out = "{\"" + std::string(rows) + "\":[";
  for (std::size_t i = 0; i < texts.size(); ++i) {
    if (i > 0) out += ',';
    out += texts[i];
  }
  out += ']';
  if (fields.is_object() && !fields.empty()) {
    const std::string rest = dump(fields);
    out += ',';
    out.append(rest, 1, rest.size() - 2);
  }
  return out + '}';
}

std::vector<Field> change_fields(bool with_body) {
  std::vector<Field> fields{
      {.name = "number", .type = Type::integer, .doc = "its place in the change feed", .required = true},
      {.name = "connection", .doc = "name of the connection", .required = true},
      {.name = "model", .doc = "the remote model", .required = true},
      {.name = "id", .type = Type::integer, .doc = "the record's id there", .required = true},
      {.name = "version", .type = Type::integer, .doc = "of the record, from 1", .required = true},
      {.name = "kind",
       .doc = "what happened",
       .required = true,
       .choices = {"create", "change", "archive", "restore", "delete"}},
      {.name = "schema",
       .type = Type::integer,
       .doc = "number of the model's schema version",
       .required = true,
       .hidden = true},
      {.name = "company_id", .type = Type::integer, .doc = "null: of no company", .hidden = true},
      {.name = "write_date", .type = Type::time, .doc = "as the remote has it, UTC; null if it has none"},
      {.name = "seen", .type = Type::time, .doc = "when the hub stored it", .required = true, .hidden = with_body},
      {.name = "digest", .doc = "of the body's canonical form", .required = true, .hidden = true},
      {.name = "binaries", .type = Type::object, .doc = "field → digest of its content", .hidden = true}};
  if (with_body)
    fields.push_back({.name = "body", .type = Type::object, .doc = "the bytes of the answer; null for a deletion"});
  return fields;
}

json time_or_null(const std::optional<Time>& time) {
  return time ? json(format_iso(*time)) : json(nullptr);
}

std::optional<std::int64_t> maybe_integer(const json& input, const char* name) {
  const auto found = input.find(name);
  return found == input.end() ? std::nullopt : std::optional(found->get<std::int64_t>());
}

std::vector<std::string> texts(const json& input, const char* name) {
  std::vector<std::string> out;
  if (const auto found = input.find(name); found != input.end())
    for (const auto& item : *found) out.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  return out;
}

Field connection_field() {
  return {.name = "connection", .doc = "name of the connection", .required = true, .positional = true};
}

Field model_field() {
  return {.name = "model", .doc = "the remote model, such as `res.partner`", .required = true, .positional = true};
}

Field id_field() {
  return {.name = "id",
          .type = Type::integer,
          .doc = "the record's id at the remote",
          .required = true,
          .positional = true};
}

Field limit_field(std::int64_t fallback, std::int64_t max) {
  return {.name = "limit",
          .type = Type::integer,
          .doc = "how many at most",
          .fallback = std::to_string(fallback),
          .min = 1,
          .max = max};
}

Field company_field() {
  return {.name = "company",
          .type = Type::integer,
          .doc = "only this company's records, and those shared between companies"};
}

Field organisation_field() {
  return {.name = "organisation",
          .doc = "only the records of this organisation's companies, as the connection maps it"};
}

pipeline::CompanyView view_of(Context& context, const nlohmann::json& input) {
  const auto company = maybe_integer(input, "company");
  const std::string organisation = input.value("organisation", "");
  if (organisation.empty()) return company ? pipeline::CompanyView{{*company}} : pipeline::CompanyView{};
  if (company) throw Error(Error::Kind::invalid, "Give a company or an organisation, not both.");
  const std::string connection = input.value("connection", "");
  if (connection.empty())
    throw Error(Error::Kind::invalid, "An organisation is a connection's: name the connection too.");
  return {context.services.connections.companies_of(connection, organisation)};
}

}  // namespace dragoman::ops
