#include "connectors/odoo/field_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"

namespace dragoman::connectors::odoo {
namespace {

using nlohmann::json;

std::string text(const json& attributes, const char* name) {
  const auto found = attributes.find(name);
  return found != attributes.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool truth(const json& attributes, const char* name) {
  const auto found = attributes.find(name);
  return found != attributes.end() && found->is_boolean() && found->get<bool>();
}

// Gateways, mail servers and portals keep their keys in ordinary fields; a copy of them in every version of a record
// would be a leak waiting for its day.
bool looks_like_credential(const std::string& field, const std::string& type) {
  if (type != "char" && type != "text") return false;
  static constexpr std::array<std::string_view, 11> kWords{"password",    "passwd",     "secret",       "token",
                                                           "api_key",     "apikey",     "private_key",  "access_key",
                                                           "credentials", "client_key", "signature_key"};
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](std::string_view word) { return field.find(word) != std::string::npos; });
}

// Why the field is left out, or empty.
std::string reason_against(const std::string& field, const json& attributes, const ModelSettings& settings,
                           const std::set<std::string>& captured) {
  const std::string type = text(attributes, "type");
  const bool named = std::find(settings.fields.begin(), settings.fields.end(), field) != settings.fields.end();
  static const std::set<std::string> always{"id", "write_date", "active", "company_id"};
  if (!settings.fields.empty() && !named && !always.contains(field))
    return "not among the fields that the settings name";
  if (!truth(attributes, "store") && !truth(attributes, "company_dependent") && !named)
    return "computed by Odoo when asked, not stored";
  if (type == "binary") return settings.binary_bytes_max == 0 ? "binary, and the setting `binaries` is none" : "";
  if (named) return "";
  if (type == "one2many") {
    const std::string relation = text(attributes, "relation"), inverse = text(attributes, "relation_field");
    if (!inverse.empty() && captured.contains(relation))
      return fmt::format("the same link is captured as {}.{}", relation, inverse);
  }
  if (looks_like_credential(field, type)) return "looks like a credential; name it in the settings to capture it";
  return "";
}

}  // namespace

const std::vector<std::string>& schema_attributes() {
  static const std::vector<std::string> kAttributes{
      "type",   "store",  "required", "readonly",       "relation",  "relation_field", "selection", "company_dependent",
      "string", "digits", "size",     "currency_field", "translate", "depends"};
  return kAttributes;
}

pipeline::Plan make_plan(std::string_view fields_get, const ModelSettings& settings,
                         const std::set<std::string>& captured) {
  const json described = json::parse(fields_get, nullptr, false);
  if (!described.is_object())
    throw Error(Error::Kind::protocol, "The answer of fields_get is not an object.",
                std::string(fields_get.substr(0, 500)));
  std::vector<std::string> names;
  for (const auto& [name, attributes] : described.items()) names.push_back(name);
  for (const std::string& wanted : settings.fields)
    if (!described.contains(wanted)) {
      const std::string near = nearest(wanted, names);
      throw Error(Error::Kind::invalid,
                  fmt::format("The settings name a field `{}` that the model does not have.{}", wanted,
                              near.empty() ? "" : fmt::format(" Did you mean `{}`?", near)));
    }

  pipeline::Plan plan;
  plan.names = settings.names;
  plan.has_write_date = false;
  for (const auto& [name, attributes] : described.items()) {  // sorted by name
    if (!attributes.is_object())
      throw Error(Error::Kind::protocol,
                  fmt::format("fields_get describes `{}` by something that is not an object.", name));
    const std::string reason = reason_against(name, attributes, settings, captured);
    if (!reason.empty()) {
      plan.left_out.push_back({name, reason});
      continue;
    }
    const std::string type = text(attributes, "type");
    if (type == "binary") {
      plan.binaries.push_back(name);
      continue;
    }
    plan.fields.push_back(name);
    plan.types.emplace(name, type);
    if (name == "write_date") plan.has_write_date = true;
    if (name == "active") plan.has_active = true;
  }
  return plan;
}

}  // namespace dragoman::connectors::odoo
