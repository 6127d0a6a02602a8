#include "sandbox/odoo/methods.h"

#include <algorithm>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/procedures.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

bool is_unset(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>());
}

std::vector<std::string> strings(const Json& value) {
  std::vector<std::string> result;
  if (value.is_array()) {
    for (const auto& item : value) {
      if (item.is_string()) result.push_back(item.get<std::string>());
    }
  }
  return result;
}

std::int64_t number(const Json& value, std::int64_t otherwise) {
  return value.is_number_integer() ? value.get<std::int64_t>() : otherwise;
}

std::string text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

void write_ids(Sink& out, const std::vector<Id>& ids) {
  out.begin_array();
  for (const Id id : ids) out.integer(id);
  out.end_array();
}

std::vector<Id> ids_of(const Json& value) {
  std::vector<Id> ids;
  if (value.is_number_integer()) ids.push_back(value.get<Id>());
  if (value.is_array()) {
    for (const auto& item : value) {
      if (item.is_number_integer()) ids.push_back(item.get<Id>());
    }
  }
  return ids;
}

Links links_of(const Json& args) {
  const auto load = args.find("load");
  if (load == args.end()) return Links::pairs;
  return load->is_string() && *load == "_classic_read" ? Links::pairs : Links::ids;
}

const Table& table_of(const Call& call) {
  return call.table;
}

void search(Call& call, Sink& out) {
  const std::string domain = call.orm.series() <= 14 ? "args" : "domain";
  write_ids(out, call.orm.search(table_of(call), call.arg(domain), number(call.arg("offset"), 0),
                                 number(call.arg("limit"), -1), text(call.arg("order"))));
}

void search_read(Call& call, Sink& out) {
  for (const auto& [name, value] : call.args.items()) {
    static const std::vector<std::string> kKnown = {"domain", "fields", "offset", "limit", "order", "load"};
    if (std::find(kKnown.begin(), kKnown.end(), name) == kKnown.end()) {
      throw type_error("BaseModel._read_format() got an unexpected keyword argument '" + name + "'");
    }
  }
  const auto ids = call.orm.search(table_of(call), call.arg("domain"), number(call.arg("offset"), 0),
                                   number(call.arg("limit"), -1), text(call.arg("order")));
  call.orm.read(table_of(call), ids, strings(call.arg("fields")), links_of(call.args), out);
}

void create(Call& call, Sink& out) {
  const Json& values = call.arg("vals_list");
  if (values.is_object()) {
    const Id id = call.orm.create(call.table, values);
    if (call.scalar_create) {
      out.integer(id);
    } else {
      write_ids(out, {id});
    }
    return;
  }
  std::vector<Id> ids;
  for (const auto& item : values) ids.push_back(call.orm.create(call.table, item));
  write_ids(out, ids);
}

}  // namespace

Methods::Methods() {
  const auto model_method = [this](Method method) { add("*", std::move(method)); };
  model_method({.name = "search",
                .parameters = {{"args", true}, {"offset", false}, {"limit", false}, {"order", false}, {"count", false}},
                .to_series = 14,
                .run = [](Call& call, Sink& out) {
                  if (!is_unset(call.arg("count"))) {
                    out.integer(call.orm.count(call.table, call.arg("args"), 0));
                  } else {
                    search(call, out);
                  }
                }});
  model_method({.name = "search",
                .parameters = {{"domain", true}, {"offset", false}, {"limit", false}, {"order", false}},
                .from_series = 15,
                .run = search});
  model_method(
      {.name = "search_count", .parameters = {{"args", true}}, .to_series = 14, .run = [](Call& call, Sink& out) {
         out.integer(call.orm.count(call.table, call.arg("args"), 0));
       }});
  model_method({.name = "search_count",
                .parameters = {{"domain", true}, {"limit", false}},
                .from_series = 15,
                .run = [](Call& call, Sink& out) {
                  out.integer(call.orm.count(call.table, call.arg("domain"), number(call.arg("limit"), 0)));
                }});
  model_method(
      {.name = "search_read",
       .parameters = {{"domain", false}, {"fields", false}, {"offset", false}, {"limit", false}, {"order", false}},
       .to_series = 14,
       .run = search_read});
  model_method(
      {.name = "search_read",
       .parameters = {{"domain", false}, {"fields", false}, {"offset", false}, {"limit", false}, {"order", false}},
       .any_keyword = true,
       .from_series = 15,
       .run = search_read});
  model_method({.name = "read",
                .on_records = true,
                .parameters = {{"fields", false}, {"load", false}},
                .run = [](Call& call, Sink& out) {
                  call.orm.read(call.table, call.ids, strings(call.arg("fields")), links_of(call.args), out);
                }});
  model_method({.name = "fields_get",
                .parameters = {{"allfields", false}, {"attributes", false}},
                .run = [](Call& call, Sink& out) {
                  call.orm.fields_get(call.table, strings(call.arg("allfields")), strings(call.arg("attributes")), out);
                }});
  model_method({.name = "create", .writes = true, .parameters = {{"vals_list", true}}, .run = create});
  model_method({.name = "write",
                .on_records = true,
                .writes = true,
                .parameters = {{"vals", true}},
                .run = [](Call& call, Sink& out) {
                  call.orm.write(call.table, call.ids,
                                 call.arg("vals").is_object() ? call.arg("vals") : Json::object());
                  out.boolean(true);
                }});
  model_method({.name = "unlink", .on_records = true, .writes = true, .run = [](Call& call, Sink& out) {
                  call.orm.unlink(call.table, call.ids);
                  out.boolean(true);
                }});
  model_method({.name = "exists", .on_records = true, .to_series = 18, .run = [](Call& call, Sink& out) {
                  std::vector<Id> ids;
                  for (const Id id : call.ids) {
                    if (call.table.find(id) != kNoSlot) ids.push_back(id);
                  }
                  write_ids(out, ids);
                }});
  model_method({.name = "load",
                .writes = true,
                .parameters = {{"fields", true}, {"data", true}},
                .run = [](Call& call, Sink& out) {
                  write_json(out, call.orm.load(call.table, call.arg("fields"), call.arg("data")));
                }});
  const auto name_search = [](const char* domain) {
    return [domain](Call& call, Sink& out) {
      write_json(out, call.orm.name_search(call.table, text(call.arg("name")), call.arg(domain),
                                           text(call.arg("operator")), number(call.arg("limit"), 100)));
    };
  };
  model_method({.name = "name_search",
                .parameters = {{"name", false}, {"args", false}, {"operator", false}, {"limit", false}},
                .to_series = 18,
                .run = name_search("args")});
  model_method({.name = "name_search",
                .parameters = {{"name", false}, {"domain", false}, {"operator", false}, {"limit", false}},
                .from_series = 19,
                .run = name_search("domain")});
  model_method({.name = "name_get", .on_records = true, .to_series = 17, .run = [](Call& call, Sink& out) {
                  out.begin_array();
                  for (const Id id : call.ids) {
                    call.orm.check_records(call.table, {id}, Access::read);
                    out.begin_array();
                    out.integer(id);
                    out.string(call.orm.display_name(call.table, call.table.find(id)));
                    out.end_array();
                  }
                  out.end_array();
                }});
  model_method({.name = "check_access_rights",
                .parameters = {{"operation", true}, {"raise_exception", false}},
                .to_series = 17,
                .run = [](Call& call, Sink& out) {
                  const std::string operation = text(call.arg("operation"));
                  const Access access = operation == "read"     ? Access::read
                                        : operation == "write"  ? Access::write
                                        : operation == "create" ? Access::create
                                                                : Access::unlink;
                  const bool allowed = call.orm.has_access(call.table.model(), access);
                  const Json& loud = call.arg("raise_exception");
                  if (!allowed && !(loud.is_boolean() && !loud.get<bool>())) call.orm.check_access(call.table, access);
                  out.boolean(allowed);
                }});
  model_method({.name = "has_access",
                .on_records = true,
                .parameters = {{"operation", true}},
                .from_series = 18,
                .run = [](Call& call, Sink& out) {
                  const std::string operation = text(call.arg("operation"));
                  const Access access = operation == "read"     ? Access::read
                                        : operation == "write"  ? Access::write
                                        : operation == "create" ? Access::create
                                                                : Access::unlink;
                  out.boolean(call.orm.has_access(call.table.model(), access));
                }});
  add("res.users", {.name = "context_get", .owner = "ResUsers", .from_series = 19, .run = [](Call& call, Sink& out) {
                      write_json(out, {{"lang", "en_US"}, {"tz", "UTC"}, {"uid", call.orm.env().uid}});
                    }});
  // A public method that returns None, as several of Odoo's actions do. 14 locks with action_done.
  add("sale.order", {.name = "action_lock",
                     .owner = "SaleOrder",
                     .on_records = true,
                     .writes = true,
                     .from_series = 17,
                     .run = [](Call& call, Sink&) {
                       call.orm.write(call.table, call.ids, Json{{"locked", true}});
                       call.none = true;
                     }});
  add("sale.order", {.name = "action_unlock",
                     .owner = "SaleOrder",
                     .on_records = true,
                     .writes = true,
                     .from_series = 17,
                     .run = [](Call& call, Sink&) {
                       call.orm.write(call.table, call.ids, Json{{"locked", false}});
                       call.none = true;
                     }});
  add_procedures(*this);
}

void Methods::add(const std::string& model, Method method) {
  methods_[model][method.name].push_back(std::move(method));
}

const Method* Methods::find(std::string_view model, std::string_view method, int series) const {
  for (const std::string_view owner : {model, std::string_view("*")}) {
    const auto models = methods_.find(owner);
    if (models == methods_.end()) continue;
    const auto named = models->second.find(method);
    if (named == models->second.end()) continue;
    for (const auto& candidate : named->second) {
      if (series >= candidate.from_series && series <= candidate.to_series) return &candidate;
    }
  }
  return nullptr;
}

namespace {

std::string called(const Orm& orm, const Method& method) {
  // Python names the class since 3.10, which 14's server does not have.
  return (orm.series() >= 17 ? method.owner + "." : "") + method.name + "()";
}

std::string quoted_list(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i > 0) out += i + 1 == names.size() ? (names.size() > 2 ? ", and " : " and ") : ", ";
    out += "'" + names[i] + "'";
  }
  return out;
}

}  // namespace

Call bind_positional(Orm& orm, Table& table, const Method& method, const Json& args, const Json& kwargs) {
  Call call{.orm = orm, .table = table};
  std::size_t at = 0;
  if (method.on_records) {
    if (args.empty() && !kwargs.contains("ids"))
      throw type_error(called(orm, method) + " missing 1 required positional argument: 'ids'");
    if (!args.empty()) {
      call.ids = ids_of(args[0]);
      at = 1;
    }
  }
  std::size_t parameter = 0;
  for (; at < args.size(); ++at, ++parameter) {
    if (parameter >= method.parameters.size()) {
      std::size_t most = method.parameters.size() + 1;
      const auto least = 1 + static_cast<std::size_t>(std::count_if(method.parameters.begin(), method.parameters.end(),
                                                                    [](const Parameter& p) { return p.required; }));
      const std::size_t given = args.size() + (method.on_records ? 0 : 1);
      throw type_error(
          called(orm, method) + " takes " +
          (least == most ? std::to_string(most) : "from " + std::to_string(least) + " to " + std::to_string(most)) +
          " positional argument" + (most == 1 ? "" : "s") + " but " + std::to_string(given) + " were given");
    }
    call.args[method.parameters[parameter].name] = args[at];
  }
  for (const auto& [name, value] : kwargs.items()) {
    if (name == "context") continue;
    const bool known = std::any_of(method.parameters.begin(), method.parameters.end(),
                                   [&n = name](const Parameter& p) { return p.name == n; });
    if (!known && !method.any_keyword)
      throw type_error(called(orm, method) + " got an unexpected keyword argument '" + name + "'");
    if (call.args.contains(name))
      throw type_error(called(orm, method) + " got multiple values for argument '" + name + "'");
    call.args[name] = value;
  }
  std::vector<std::string> missing;
  for (const auto& p : method.parameters) {
    if (p.required && !call.args.contains(p.name)) missing.push_back(p.name);
  }
  if (!missing.empty()) {
    throw type_error(called(orm, method) + " missing " + std::to_string(missing.size()) +
                     " required positional argument" + (missing.size() == 1 ? "" : "s") + ": " + quoted_list(missing));
  }
  call.scalar_create = true;
  return call;
}

Call bind_named(Orm& orm, Table& table, const Method& method, const Json& body) {
  const auto unprocessable = [](const std::string& message) {
    OdooError error("builtins.TypeError", message);
    error.json2_name = "werkzeug.exceptions.UnprocessableEntity";
    error.json2_status = 422;
    return error;
  };
  Call call{.orm = orm, .table = table};
  for (const auto& [name, value] : body.items()) {
    if (name == "context") continue;
    if (name == "ids") {
      call.ids = ids_of(value);
      if (!method.on_records && !call.ids.empty()) {
        throw unprocessable("cannot call " + table.model().name + "." + method.name + " with ids");
      }
      continue;
    }
    call.args[name] = value;
  }
  for (const auto& p : method.parameters) {
    if (p.required && !call.args.contains(p.name)) throw unprocessable("missing a required argument: '" + p.name + "'");
  }
  for (const auto& [name, value] : call.args.items()) {
    const bool known = std::any_of(method.parameters.begin(), method.parameters.end(),
                                   [&n = name](const Parameter& p) { return p.name == n; });
    if (!known && !method.any_keyword) throw unprocessable("got an unexpected keyword argument '" + name + "'");
  }
  return call;
}

}  // namespace sandbox::odoo
