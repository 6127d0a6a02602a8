#include "pipeline/source.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace dragoman::pipeline {

using nlohmann::json;

dragoman::json::FieldKinds Plan::kinds() const {
  using dragoman::json::FieldKind;
  dragoman::json::FieldKinds kinds;
  for (const auto& [name, type] : types) {
    if (type == "many2one") kinds.set(name, FieldKind::many2one);
    if (type == "many2many") kinds.set(name, FieldKind::many2many);
    if (type == "one2many") kinds.set(name, FieldKind::one2many);
  }
  return kinds;
}

std::string Plan::json() const {
  nlohmann::json left = nlohmann::json::array();
  for (const LeftOut& out : left_out) left.push_back({{"field", out.field}, {"reason", out.reason}});
  return nlohmann::json{{"fields", fields},        {"binaries", binaries}, {"left_out", left},
                        {"types", types},          {"names", names},       {"has_write_date", has_write_date},
                        {"has_active", has_active}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Plan Plan::parse(std::string_view text) {
  const auto read = nlohmann::json::parse(text, nullptr, false);
  if (!read.is_object()) throw Error(Error::Kind::bug, "A model's plan in the store is not a JSON object.");
  Plan plan;
  plan.fields = read.value("fields", plan.fields);
  plan.binaries = read.value("binaries", plan.binaries);
  for (const auto& out : read.value("left_out", nlohmann::json::array()))
    plan.left_out.push_back({out.value("field", ""), out.value("reason", "")});
  plan.types = read.value("types", plan.types);
  plan.names = read.value("names", false);
  plan.has_write_date = read.value("has_write_date", true);
  plan.has_active = read.value("has_active", false);
  return plan;
}

bool Probe::ok() const {
  return std::all_of(steps.begin(), steps.end(), [](const Step& step) { return step.ok; });
}

}  // namespace dragoman::pipeline
