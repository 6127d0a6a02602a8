#include "sandbox/odoo/schema.h"

#include <algorithm>
#include <map>
#include <stdexcept>

#include "sandbox/odoo/embedded.h"

namespace sandbox::odoo {

namespace {

struct TypeRow {
  FieldType type;
  Cells cells;
};

const std::map<std::string, TypeRow, std::less<>> kTypes = {
    {"boolean", {FieldType::boolean, Cells::boolean}},
    {"integer", {FieldType::integer, Cells::integer}},
    {"many2one_reference", {FieldType::integer, Cells::integer}},
    {"float", {FieldType::floating, Cells::real}},
    {"monetary", {FieldType::floating, Cells::real}},
    {"char", {FieldType::text, Cells::text}},
    {"text", {FieldType::text, Cells::text}},
    {"html", {FieldType::text, Cells::text}},
    {"reference", {FieldType::text, Cells::text}},
    {"selection", {FieldType::choice, Cells::choice}},
    {"date", {FieldType::date, Cells::time}},
    {"datetime", {FieldType::datetime, Cells::time}},
    {"many2one", {FieldType::many2one, Cells::link}},
    {"one2many", {FieldType::one2many, Cells::none}},
    {"many2many", {FieldType::many2many, Cells::ids}},
    {"binary", {FieldType::binary, Cells::blob}},
    {"json", {FieldType::json, Cells::text}},
    {"properties", {FieldType::json, Cells::text}},
    {"properties_definition", {FieldType::json, Cells::text}},
};

std::string text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool flag(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_boolean() && found->get<bool>();
}

std::vector<std::string> strings(const Json& object, const char* key) {
  std::vector<std::string> result;
  if (const auto found = object.find(key); found != object.end() && found->is_array()) {
    for (const auto& item : *found) result.push_back(item.get<std::string>());
  }
  return result;
}

/// Lays `over` on `base`, object by object; null takes a key away.
void merge(Json& base, const Json& over) {
  for (const auto& [key, value] : over.items()) {
    if (value.is_null()) {
      base.erase(key);
    } else if (value.is_object() && base.contains(key) && base[key].is_object()) {
      merge(base[key], value);
    } else {
      base[key] = value;
    }
  }
}

/// Gives every field what "types" says of its type, where the field itself says nothing else.
void unfold(Json& models, const Json& types) {
  for (auto& [name, model] : models.items()) {
    for (auto& [field, own] : model["fields"].items()) {
      // Odoo answers the keys in alphabetical order.
      std::map<std::string, Json> full;
      for (const auto& [key, value] : types.at(own.at("type").get<std::string>()).items()) full[key] = value;
      for (const auto& [key, value] : own.items()) full[key] = value;
      own = Json::object();
      for (const auto& [key, value] : full) {
        if (!value.is_null()) own[key] = value;
      }
    }
  }
}

}  // namespace

Field& Model::add_field(const std::string& field, const Json& attributes) {
  auto made = std::make_unique<Field>();
  made->name = field;
  made->attributes = attributes;
  // Keys with an underscore are ours, beside what the server said.
  for (const char* own : {"_compute", "_mirror", "_free", "_cells", "_active_only"}) made->attributes.erase(own);
  made->type_name = text(attributes, "type");
  const auto row = kTypes.find(made->type_name);
  if (row == kTypes.end())
    throw std::runtime_error("field " + name + "." + field + ": unknown type " + made->type_name);
  made->type = row->second.type;
  made->store = flag(attributes, "store");
  made->readonly = flag(attributes, "readonly");
  made->required = flag(attributes, "required");
  made->relation = text(attributes, "relation");
  made->relation_field = text(attributes, "relation_field");
  made->related = text(attributes, "related");
  if (const auto path = strings(attributes, "related"); !path.empty()) {  // 14 answers the path as a list
    for (const auto& step : path) made->related += (made->related.empty() ? "" : ".") + step;
  }
  made->compute = text(attributes, "_compute");
  made->mirror = text(attributes, "_mirror");
  made->active_only = flag(attributes, "_active_only");
  if (const auto found = attributes.find("selection"); found != attributes.end() && !flag(attributes, "_free")) {
    for (const auto& choice : *found) {
      made->choices.push_back(choice[0].is_string() ? choice[0].get<std::string>() : choice[0].dump());
    }
  }
  const bool kept = (made->store || flag(attributes, "_cells")) && made->mirror.empty() && field != "id";
  if (kept) {
    made->cells = row->second.cells;
    if (made->cells != Cells::none) made->column = columns++;
    made->related.clear();
    if (made->cells != Cells::none) made->compute.clear();
  }
  fields.push_back(std::move(made));
  Field& result = *fields.back();
  by_name[result.name] = &result;
  return result;
}

void Model::remove_field(std::string_view field) {
  by_name.erase(field);
  fields.erase(std::remove_if(fields.begin(), fields.end(), [&](const auto& f) { return f->name == field; }),
               fields.end());
}

Model& Schema::add_model(const std::string& name, const Json& description) {
  auto made = std::make_unique<Model>();
  made->name = name;
  made->label = text(description, "name");
  made->order = text(description, "order");
  if (made->order.empty()) made->order = "id";
  made->rec_name = text(description, "rec_name");
  made->display = text(description, "display");
  made->defaults = description.value("defaults", Json::object());
  made->unique = description.value("unique", Json::array());
  made->enforced = strings(description, "enforced");
  made->cascade = strings(description, "cascade");
  made->custom = name.starts_with("x_");
  if (const auto found = description.find("fields"); found != description.end()) {
    for (const auto& [field, attributes] : found->items()) made->add_field(field, attributes);
  }
  if (made->rec_name.empty() && made->find("name") != nullptr) made->rec_name = "name";
  if (made->rec_name.empty() && made->find("x_name") != nullptr) made->rec_name = "x_name";
  const Field* company = made->find("company_id");
  made->company_rule = company != nullptr && company->cells == Cells::link && company->relation == "res.company" &&
                       name != "res.users" && !flag(description, "no_company_rule");
  models.push_back(std::move(made));
  Model& result = *models.back();
  by_name[result.name] = &result;
  return result;
}

namespace {

/// The default order may name fields that were not kept.
void prune_order(Model& model) {
  std::string kept;
  std::size_t at = 0;
  while (at < model.order.size()) {
    auto end = model.order.find(',', at);
    if (end == std::string::npos) end = model.order.size();
    const std::string part = model.order.substr(at, end - at);
    at = end + 1;
    const auto first = part.find_first_not_of(' ');
    if (first == std::string::npos) continue;
    const std::string name = part.substr(first, part.find(' ', first) - first);
    if (model.find(name) == nullptr) continue;
    kept += (kept.empty() ? "" : ",") + part;
  }
  model.order = kept.empty() ? "id" : kept;
}

}  // namespace

void Schema::link() {
  for (const auto& model : models) {
    prune_order(*model);
    for (const auto& field : model->fields) {
      if (field->type == FieldType::one2many) {
        Model* other = find(field->relation);
        const Field* inverse = other == nullptr ? nullptr : other->find(field->relation_field);
        if (inverse != nullptr && inverse->cells == Cells::link) const_cast<Field*>(inverse)->indexed = true;
      }
    }
  }
}

std::unique_ptr<Schema> load_schema(int series) {
  const std::string_view recorded = series == 14 ? embedded_schema_14() : embedded_schema_19();
  const Json whole = Json::parse(recorded);
  Json models = whole.at("models");
  unfold(models, whole.at("types"));
  const Json facts = Json::parse(embedded_models());
  // The hand-written page: first what holds everywhere, then per series, oldest layer last.
  merge(models, facts.at("all"));
  for (const char* layer : {"19", "18", "17", "14"}) {
    if (std::to_string(series) == layer && facts.contains(layer)) merge(models, facts.at(layer));
  }
  if (series != 14 && series != 17 && series != 18 && series != 19) {
    throw std::runtime_error("unknown series " + std::to_string(series) + ": 14, 17, 18 or 19");
  }
  auto schema = std::make_unique<Schema>();
  schema->series = series;
  for (const auto& [name, description] : models.items()) {
    // The page of facts speaks of models and fields that this series may not have.
    Json known = description;
    Json fields = Json::object();
    const Json described = description.value("fields", Json::object());
    for (const auto& [field, attributes] : described.items()) {
      if (attributes.contains("type")) fields[field] = attributes;
    }
    if (fields.empty()) continue;
    known["fields"] = std::move(fields);
    schema->add_model(name, known);
  }
  schema->link();
  return schema;
}

}  // namespace sandbox::odoo
