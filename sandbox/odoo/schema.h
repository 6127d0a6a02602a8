#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sandbox::odoo {

using Json = nlohmann::ordered_json;
using Id = std::int64_t;

/// How the cells of a field are kept. `none` fields have no cells: they are computed, related, or the
/// other end of a many2one.
enum class Cells { none, boolean, integer, real, text, choice, time, link, ids, blob };

/// How a field is answered and compared.
enum class FieldType {
  boolean,
  integer,
  floating,
  text,
  choice,
  date,
  datetime,
  many2one,
  one2many,
  many2many,
  binary,
  json
};

struct Field {
  std::string name;
  FieldType type = FieldType::text;
  std::string type_name;  // Odoo's word: char, html, monetary, …
  Json attributes;        // what fields_get answers, recorded on a real server
  bool store = true;
  bool readonly = false;
  bool required = false;
  std::string relation;        // comodel of a relation
  std::string relation_field;  // one2many: the many2one at the other end
  std::string related;         // "product_tmpl_id.name": read and written through that record
  std::string mirror;          // many2many kept by the other model: "res.users.group_ids"
  std::string compute;         // name of a computation in Orm
  bool active_only = false;    // a list that never shows archived records, whatever the context says
  std::vector<std::string> choices;
  Cells cells = Cells::none;
  int column = -1;       // index in the table when cells != none
  bool indexed = false;  // a link that some one2many reads backwards
};

struct Model {
  std::string name;
  std::string label;                  // "Contact": how error messages call it
  std::string order;                  // default order
  std::string rec_name;               // field of the display name
  std::string display;                // name of a special display name rule
  Json defaults;                      // literal defaults of create
  Json unique;                        // [{"fields": [...], "constraint": name, "message": text}]
  std::vector<std::string> enforced;  // required fields that have no default
  std::vector<std::string> cascade;   // many2one fields that take this record with their target
  bool company_rule = false;
  bool custom = false;
  std::vector<std::unique_ptr<Field>> fields;
  std::unordered_map<std::string_view, Field*> by_name;
  int columns = 0;

  const Field* find(std::string_view field) const {
    const auto found = by_name.find(field);
    return found == by_name.end() ? nullptr : found->second;
  }
  /// Adds a field from its fields_get attributes. The caller gives the tables their column.
  Field& add_field(const std::string& field, const Json& attributes);
  void remove_field(std::string_view field);
};

/// The models of one Odoo series, from the recorded schema and the hand-written facts beside it.
struct Schema {
  int series = 19;
  std::vector<std::unique_ptr<Model>> models;
  std::unordered_map<std::string_view, Model*> by_name;

  Model* find(std::string_view name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  }
  Model& add_model(const std::string& name, const Json& description);
  /// Settles what needs both ends: indexes of one2many, related fields, mirrors.
  void link();
};

/// Reads the embedded schema of a series (14, 17, 18 or 19). Throws std::runtime_error for another.
std::unique_ptr<Schema> load_schema(int series);

}  // namespace sandbox::odoo
