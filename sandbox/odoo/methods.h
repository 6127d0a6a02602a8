#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sandbox/odoo/orm.h"

namespace sandbox::odoo {

/// One call of a model method, its arguments bound to their Python names.
struct Call {
  Orm& orm;
  Table& table;
  std::vector<Id> ids = {};
  Json args = Json::object();
  bool scalar_create = false;  // create was given one dict, not a list of them
  /// Set by a method that returns None: JSON-RPC then answers without `result`.
  bool none = false;

  const Json& arg(const std::string& name) const {
    static const Json kNone;
    const auto found = args.find(name);
    return found == args.end() ? kNone : *found;
  }
};

struct Parameter {
  std::string name;
  bool required = false;
};

/// A method that can be called from outside: how Python declares it, and what it does.
struct Method {
  std::string name;
  std::string owner = "BaseModel";  // class in messages: "BaseModel.search() missing 1 …"
  bool on_records = false;          // takes ids; else @api.model
  bool writes = false;              // runs alone in the database
  std::vector<Parameter> parameters = {};
  bool any_keyword = false;  // **kwargs
  int from_series = 14;
  int to_series = 99;
  std::function<void(Call&, Sink&)> run;
};

/// Methods by model; "*" holds those of every model. A later model's procedures are one add() each.
class Methods {
 public:
  Methods();
  void add(const std::string& model, Method method);
  const Method* find(std::string_view model, std::string_view method, int series) const;

 private:
  std::map<std::string, std::map<std::string, std::vector<Method>, std::less<>>, std::less<>> methods_;
};

/// Binds as a JSON-RPC call does: positional arguments (ids first for record methods) and keywords.
/// Throws TypeError with Python's text.
Call bind_positional(Orm& orm, Table& table, const Method& method, const Json& args, const Json& kwargs);
/// Binds as JSON-2 does: names only, with `ids` and `context` apart.
Call bind_named(Orm& orm, Table& table, const Method& method, const Json& body);

}  // namespace sandbox::odoo
