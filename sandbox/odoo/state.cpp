#include "sandbox/odoo/state.h"

#include <cstdio>
#include <fstream>
#include <iterator>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>

namespace sandbox::odoo {

namespace {

Json cell_json(const Cell& cell) {
  return std::visit(
      [](const auto& value) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(value)>, std::monostate>)
          return nullptr;
        else
          return value;
      },
      cell);
}

Cell json_cell(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_float()) return value.get<double>();
  if (value.is_number()) return value.get<std::int64_t>();
  if (value.is_string()) return value.get<std::string>();
  if (value.is_array()) return value.get<std::vector<Id>>();
  return {};
}

Json name_json(const ImportKeyName& name) {
  return Json::array({name.first, name.second});
}

ImportKeyName json_name(const Json& value) {
  return {value.at(0).get<std::string>(), value.at(1).get<std::string>()};
}

// Fields that were added since the start, by model.
Json added_fields(const Database& database, const Schema& fresh) {
  Json added = Json::object();
  for (const auto& model : database.schema().models) {
    const Model* before = fresh.find(model->name);
    if (before == nullptr) throw std::runtime_error("a model was added (" + model->name + "), which is not kept");
    for (const auto& field : model->fields)
      if (before->find(field->name) == nullptr) added[model->name][field->name] = field->attributes;
  }
  return added;
}

Json rows_of(const Table& table) {
  Json rows = Json::array();
  table.each([&](Id id, Slot slot) {
    Json cells = Json::object();
    for (const auto& field : table.model().fields) {
      if (field->cells == Cells::none) continue;
      Json value = cell_json(table.column(field->column).get(slot));
      if (!value.is_null() && value != Json::array()) cells[field->name] = std::move(value);
    }
    rows.push_back(Json::array({id, std::move(cells)}));
    return true;
  });
  return {{"next", table.peek_next_id()}, {"rows", std::move(rows)}};
}

void fill_rows(Table& table, const Json& state) {
  for (const auto& row : state.at("rows")) {
    const Slot slot = table.insert(row.at(0).get<Id>());
    for (const auto& [name, value] : row.at(1).items())
      if (const Field* field = table.model().find(name); field != nullptr && field->cells != Cells::none)
        table.column(field->column).set(slot, json_cell(value));
  }
  table.set_next_id(state.at("next").get<Id>());
}

}  // namespace

void save_state(const Database& database, const std::string& path) {
  const std::shared_lock lock(database.mutex);
  Json tables = Json::object(), keys = Json::array(), children = Json::array(), api_keys = Json::object();
  for (const auto& model : database.schema().models) tables[model->name] = rows_of(database.table(model->name));
  for (const auto& [name, key] : database.import_keys) {
    Json links = Json::array();
    for (const auto& link : key.links) links.push_back(name_json(link));
    Json row = {{"name", name_json(name)}, {"id", key.id},   {"digest", key.digest},
                {"called", key.called},    {"links", links}, {"parent", name_json(key.parent)},
                {"refused", key.refused}};
    if (key.version) row["version"] = *key.version;
    keys.push_back(std::move(row));
  }
  for (const auto& [parent, all] : database.import_children) {
    Json names = Json::array();
    for (const auto& child : all) names.push_back(name_json(child));
    children.push_back(Json::array({name_json(parent), std::move(names)}));
  }
  for (const auto& [key, one] : database.api_keys) api_keys[key] = {{"uid", one.uid}, {"name", one.name}};
  Json external = Json::object(), passwords = Json::array(), reserved = Json::array();
  for (const auto& [name, id] : database.external_ids) external[name] = id;
  for (const auto& [uid, password] : database.passwords) passwords.push_back(Json::array({uid, password}));
  for (const auto& [move, quantity] : database.reserved) reserved.push_back(Json::array({move, quantity}));
  const Json state = {
      {"series", database.series()},         {"fields", added_fields(database, *load_schema(database.series()))},
      {"tables", std::move(tables)},         {"external_ids", std::move(external)},
      {"api_keys", std::move(api_keys)},     {"passwords", std::move(passwords)},
      {"sequences", database.sequences},     {"import_table", database.import_table},
      {"import_keys", std::move(keys)},      {"import_children", std::move(children)},
      {"own_indexes", database.own_indexes}, {"reserved", std::move(reserved)}};
  const std::vector<std::uint8_t> bytes = Json::to_msgpack(state);
  const std::string half = path + ".new";
  std::ofstream out(half, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out || std::rename(half.c_str(), path.c_str()) != 0) throw std::runtime_error("cannot write " + path);
}

void load_state(Database& database, const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  try {
    const Json state = Json::from_msgpack(bytes);
    if (state.at("series") != database.series())
      throw std::runtime_error("it is of series " + state.at("series").dump());
    const std::unique_lock lock(database.mutex);
    for (const auto& [name, fields] : state.at("fields").items()) {
      Table& table = database.table(name);
      auto& model = const_cast<Model&>(table.model());
      for (const auto& [field, attributes] : fields.items()) model.add_field(field, attributes);
      database.schema().link();
      table.add_columns();
    }
    for (const auto& [name, rows] : state.at("tables").items()) fill_rows(database.table(name), rows);
    for (const auto& [name, id] : state.at("external_ids").items()) database.external_ids[name] = id.get<Id>();
    for (const auto& [key, one] : state.at("api_keys").items())
      database.api_keys[key] = {one.at("uid").get<Id>(), one.at("name").get<std::string>()};
    for (const auto& one : state.at("passwords"))
      database.passwords[one.at(0).get<Id>()] = one.at(1).get<std::string>();
    for (const auto& [name, next] : state.at("sequences").items()) database.sequences[name] = next.get<std::int64_t>();
    database.import_table = state.at("import_table").get<bool>();
    for (const auto& one : state.at("import_keys")) {
      ImportKey& key = database.import_keys[json_name(one.at("name"))];
      key.id = one.at("id").get<Id>();
      if (one.contains("version")) key.version = one.at("version").get<std::int64_t>();
      key.digest = one.at("digest").get<std::string>();
      key.called = one.at("called").get<std::string>();
      key.parent = json_name(one.at("parent"));
      for (const auto& link : one.at("links")) key.links.push_back(json_name(link));
      if (one.contains("refused")) key.refused = one.at("refused").get<std::set<Id>>();
    }
    for (const auto& one : state.at("import_children"))
      for (const auto& child : one.at(1)) database.import_children[json_name(one.at(0))].insert(json_name(child));
    for (const auto& name : state.at("own_indexes")) database.own_indexes.insert(name.get<std::string>());
    for (const auto& one : state.at("reserved")) database.reserved[one.at(0).get<Id>()] = one.at(1).get<double>();
    ++database.rights_version;
  } catch (const std::exception& error) {
    throw std::runtime_error(path + " is no state of a stand-in Odoo: " + error.what());
  }
}

}  // namespace sandbox::odoo
