#include "sandbox/odoo/procedures.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/market.h"
#include "sandbox/odoo/orders.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

using Key = ImportKeyName;

OdooError problem(const std::string& name, const std::string& message) {
  return {"dragoman." + name, message};
}

std::string text_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Json object_of(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null() || *found == false) return Json::object();
  return *found;
}

std::string cell_text(const Table& table, Slot slot, const char* field) {
  std::string_view text;
  const Field* found = table.model().find(field);
  return found != nullptr && table.column(found->column).text(slot, text) ? std::string(text) : std::string();
}

bool refused(const std::string& model) {
  if (model == "ir.attachment") return false;
  for (const char* prefix :
       {"ir.", "base.", "base_", "res.users", "res.groups", "res.config", "mail.template", "fetchmail.", "auth"}) {
    if (model.starts_with(prefix)) return true;
  }
  return false;
}

const std::set<std::string> kCalls = {"action_confirm",  "action_cancel",    "action_draft",   "action_quotation_sent",
                                      "action_lock",     "action_unlock",    "action_done",    "action_post",
                                      "action_validate", "action_approve",   "action_assign",  "action_apply_inventory",
                                      "action_archive",  "action_unarchive", "button_confirm", "button_approve",
                                      "button_validate", "button_mark_done", "button_plan",    "button_cancel",
                                      "button_draft"};

struct Child {
  std::string list;
  Key key;
  Json values;
};

// A record that is looked for by rules, and made where none is found.
struct Wanted {
  Json match, values;  // values null: not made
  bool own = false;
  std::vector<Key> inner;
  bool active = false;
};

struct Item {
  Key key;  // model, key
  Json values;
  std::vector<Child> children;
  std::optional<std::int64_t> version;
  std::string digest, call;
  bool recreate = false;
  std::vector<Key> own, refs;
  Json names = Json::object(), expect = Json::object(), flag;
  std::map<Key, Wanted> wanted;
  std::vector<Key> top, needs;
  std::set<std::string> replace;
  std::vector<std::string> steps;
  std::string currency;
  bool partial = false, content = false;
  std::string outcome;
  Json answer;
};

class Importer {
 public:
  Importer(Database& database, const Env& env, Transaction& transaction)
      : database_(database), transaction_(transaction), orm_(database, superuser(env), &transaction) {}

  Json import(const Json& payload) {
    std::vector<std::unique_ptr<Item>> items;
    std::vector<Item*> good;
    int bad = 0;
    for (const Json& raw : payload.at("items")) {
      items.push_back(std::make_unique<Item>());
      Item& item = *items.back();
      item.names = payload.value("names", Json::object());
      if (raw.is_object()) item.key = {text_of(raw, "model"), text_of(raw, "key")};
      try {
        read(raw, item);
        good.push_back(&item);
      } catch (const OdooError& error) {
        item.answer = failed(item, error);
        ++bad;
      }
    }
    const bool atomic = payload.value("atomic", false);
    const auto mark = transaction_.mark();
    if (!atomic || bad == 0) bad += in_parts(in_order(good));
    if (atomic && bad > 0) {
      transaction_.roll_back_to(mark);
      for (Item* item : good) {
        if (item->answer.is_null() || item->answer.value("outcome", "") != "error")
          item->answer = failed(*item, problem("Atomic", "Another item of this batch failed, and it is all or none."));
      }
    }
    Json answers = Json::array();
    for (const auto& item : items) {
      answers.push_back(item->answer);
      if (item->answer.value("outcome", "") == "error" && there(item->key)) answers.back()["id"] = row_of(item->key).id;
    }
    return answers;
  }

  Json find(const Json& wanted) {
    Json answers = Json::array();
    for (const Json& one : wanted) {
      const Key key{text_of(one, "model"), text_of(one, "key")};
      const auto found = database_.import_keys.find(key);
      if (found == database_.import_keys.end() || found->second.id == 0) {
        answers.push_back({{"key", key.second}, {"model", key.first}, {"outcome", "missing"}});
        continue;
      }
      Json answer = answer_of(key, there(key) ? "found" : "deleted");
      answer["version"] = found->second.version ? Json(*found->second.version) : Json(false);
      answer["digest"] = found->second.digest;
      answer["called"] = found->second.called;
      answers.push_back(std::move(answer));
    }
    return answers;
  }

  // A single new order, or false: anything is out of the ordinary, and nothing was done.
  Json import_plain(const Json& payload) {
    if (!payload.is_object() || !payload.contains("items") || payload["items"].size() != 1) return false;
    const Json& item = payload["items"][0];
    if (!item.is_object()) return false;
    const Json steps = item.value("steps", Json::array());
    const bool confirms = steps.is_array() && steps.size() == 1 && steps[0] == "confirm";
    if (payload.value("atomic", false) || text_of(item, "model") != "sale.order" || !item.contains("version") ||
        item.contains("call") || item.contains("digest") || item.contains("names") ||
        !(steps == Json::array() || confirms) || !item.contains("children") || item["children"].size() != 1 ||
        !item["children"].contains("order_line") || item["children"]["order_line"].empty())
      return false;
    Item plain;
    plain.names = payload.value("names", Json::object());
    plain.key = {text_of(item, "model"), text_of(item, "key")};
    try {
      read(item, plain);
    } catch (const OdooError&) {
      return false;
    }
    for (const Key& key : plain.own)
      if (database_.import_keys.contains(key)) return false;
    for (const Key& key : plain.refs)
      if (plain.wanted.count(key) == 0 || (database_.import_keys.contains(key) && !there(key))) return false;
    const auto mark = transaction_.mark();
    const Json answers = import(payload);
    if (answers[0].value("outcome", "") == "created") return answers;
    transaction_.roll_back_to(mark);
    return false;
  }

  Json relink(const Json& payload) {
    Json answers = Json::array();
    for (const Json& item : payload.value("items", Json::array())) {
      const auto mark = transaction_.mark();
      try {
        answers.push_back(relink_one(item));
      } catch (const OdooError& error) {
        if (!error.name.starts_with("dragoman.")) throw;
        transaction_.roll_back_to(mark);
        const Key key = item.is_object() ? Key{text_of(item, "model"), text_of(item, "key")} : Key{};
        const Id now = row_of(key).id;
        const auto or_false = [&](const char* name) {
          return item.is_object() && item.contains(name) ? item.at(name) : Json(false);
        };
        answers.push_back({{"key", or_false("key")},
                           {"model", or_false("model")},
                           {"outcome", "error"},
                           {"id", now == 0 ? Json(false) : Json(now)},
                           {"error", {{"name", error.name}, {"message", error.what()}}}});
      }
    }
    return answers;
  }

 private:
  static Id whole(const Json& item, const char* name) {
    const auto found = item.find(name);
    if (found == item.end() || found->is_null() || *found == false) return 0;
    if (!found->is_number_integer() || found->get<Id>() < 1 || found->get<Id>() > 2147483647)
      throw problem("Item",
                    (found->is_string() ? found->get<std::string>() : python_repr(*found)) + " is no id of a record.");
    return found->get<Id>();
  }

  Json relink_one(const Json& item) {
    if (!item.is_object() || text_of(item, "key").empty())
      throw problem("Item", "An item is an object with `model`, `key`, `from` and `to`.");
    const Key key{text_of(item, "model"), text_of(item, "key")};
    if (key.first != "res.partner") throw problem("Item", "Only keys of customers (res.partner) are linked anew.");
    const Id known = whole(item, "from"), to = whole(item, "to"), company = whole(item, "company");
    ImportKey row = row_of(key);
    if (!row.digest.empty() || !row.parent.second.empty())
      throw problem("Item", "The key `" + key.second + "` is that of an imported record, and stands for nothing else.");
    const Id before = row.id;
    if (before != 0 && before != to && known != 0 && before != known)
      throw problem("Changed", "The key `" + key.second + "` stands for res.partner " + std::to_string(before) +
                                   " by now, and not for " + std::to_string(known) + ".");
    Table& own = table(key.first);
    const Slot slot = to == 0 ? kNoSlot : own.find(to);
    const std::string shown = slot == kNoSlot ? "" : orm_.display_name(own, slot) + " (" + std::to_string(to) + ")";
    if (to != 0 && before != to) {
      if (slot == kNoSlot) throw problem("NoRecord", "There is no res.partner " + std::to_string(to) + " in Odoo.");
      bool active = true;
      if (const Field* field = own.model().find("active")) active = own.column(field->column).get(slot) == Cell(true);
      if (!active) throw problem("Archived", shown + " is archived in Odoo: unarchive it, or name another.");
      Orders orders(orm_);
      const Id its = own.model().find("company_id") == nullptr ? 0 : orders.link(own, to, "company_id");
      if (its != 0 && its != (company != 0 ? company : orm_.env().company())) {
        const Table& companies = database_.table("res.company");
        throw problem("Company", shown + " is of the company " + orm_.display_name(companies, companies.find(its)) +
                                     ", and the orders are of another.");
      }
      for (auto at = database_.import_keys.lower_bound({key.first, ""});
           at != database_.import_keys.end() && at->first.first == key.first; ++at) {
        if (at->second.id == to && at->first != key && !item.value("shared", false))
          throw problem("Taken", shown + " is what `" + at->first.second + "` stands for.");
      }
    }
    for (const Id one : {before, known})
      if (one != 0 && one != to) row.refused.insert(one);
    row.refused.erase(to);
    row.id = to;
    put(key, row, to != 0 && before != to);
    if (to == 0 && before != 0) {
      std::string name = key.first + "/";
      for (const char c : key.second) name += c == '%' ? "%25" : c == ' ' ? "%20" : std::string(1, c);
      if (const auto id = database_.external_ids.find("__dragoman__." + name); id != database_.external_ids.end())
        orm_.unlink(database_.table("ir.model.data"), {id->second});
    }
    return {{"key", key.second},
            {"model", key.first},
            {"outcome", before == to ? "unchanged"
                        : to == 0    ? "unlinked"
                                     : "linked"},
            {"id", to == 0 ? Json(false) : Json(to)},
            {"name", slot == kNoSlot ? "" : orm_.display_name(own, slot)},
            {"before", before == 0 ? Json(false) : Json(before)}};
  }

  static Env superuser(Env env) {
    env.su = true;
    env.context.erase("dragoman");
    return env;
  }

  // ---------------------------------------------------------------- reading

  Table& table(const std::string& model) {
    Table* found = database_.find(model);
    if (found == nullptr) throw user_error("Object " + model + " doesn't exist");
    if (refused(model))
      throw problem("Refused", "Records of " + model + " are not imported: they decide who may do what.");
    return *found;
  }

  static void check_key(const Json& raw) {
    const auto found = raw.find("key");
    if (found == raw.end() || !found->is_string() || found->get<std::string>().empty() ||
        found->get<std::string>().size() > 500)
      throw problem("Item", "An external key is a text of 1 to 500 bytes.");
  }

  static bool translated(const Json& names, const Model& model, const std::string& name) {
    const auto of = names.find(model.name);
    return of != names.end() && of->contains(name);
  }

  // The field in this Odoo; empty: left out.
  static std::string field_name(const Json& names, const Model& model, std::string name) {
    const bool optional = name.ends_with('?');
    if (optional) name.pop_back();
    if (model.find(name) == nullptr) {
      static const std::map<std::string, std::string> kOthers = {{"tax_ids", "tax_id"},
                                                                 {"tax_id", "tax_ids"},
                                                                 {"product_uom_id", "product_uom"},
                                                                 {"product_uom", "product_uom_id"}};
      if (translated(names, model, name))
        name = names.at(model.name).at(name);
      else if (const auto other = kOthers.find(name); other != kOthers.end() && model.name == "sale.order.line")
        name = other->second;
    }
    return optional && model.find(name) == nullptr ? "" : name;
  }

  void gather_one(const std::string& comodel, const Json& value, Item& item, std::vector<Key>& top, int depth) {
    if (!value.is_object() || text_of(value, "key").empty()) return;
    const std::string named = text_of(value, "model");
    const Key key{named.empty() ? comodel : named, text_of(value, "key")};
    item.refs.push_back(key);
    if (!value.contains("match") && !value.contains("values")) return;
    const Model& model = table(key.first).model();
    check_key(value);
    const Json match = value.value("match", Json::array());
    if (!match.is_array()) throw problem("Item", "`match` is a list of rules, each its name and its domain.");
    for (const Json& rule : match) {
      if (!rule.is_array() || rule.size() != 2 || !rule[0].is_string() || !rule[1].is_array() || rule[1].empty())
        throw problem("Item", "`match` is a list of rules, each its name and its domain.");
    }
    top.push_back(key);
    if (item.wanted.count(key) > 0) return;
    Wanted wanted{match, value.value("values", Json()), value.value("own", false), {}, value.value("active", false)};
    if (wanted.values.is_object()) gather(model, wanted.values, item, wanted.inner, depth + 1);
    item.wanted.emplace(key, std::move(wanted));
  }

  void gather(const Model& model, const Json& values, Item& item, std::vector<Key>& top, int depth = 0) {
    if (depth > 4) throw problem("Item", "References lie more than four deep in each other.");
    for (const auto& [given, value] : values.items()) {
      const Field* field = model.find(field_name(item.names, model, given));
      if (field == nullptr || field->relation.empty()) continue;
      gather_one(field->relation, value, item, top, depth);
      if (!value.is_array()) continue;
      for (const Json& part : value) {
        if (!part.is_array()) {
          gather_one(field->relation, part, item, top, depth);
        } else if (part.size() > 2 && part[2].is_object()) {
          if (const Model* other = database_.schema().find(field->relation))
            gather(*other, part[2], item, top, depth + 1);
        } else if (part.size() > 2 && part[2].is_array()) {
          for (const Json& one : part[2]) gather_one(field->relation, one, item, top, depth);
        } else if (part.size() > 1) {
          gather_one(field->relation, part[1], item, top, depth);
        }
      }
    }
  }

  static double number_of(const Json& value, const std::string& what) {
    if (value.is_number()) return value.get<double>();
    if (value.is_string()) {
      const std::string text = value.get<std::string>();
      double number = 0;
      const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (code == std::errc() && end == text.data() + text.size()) return number;
    }
    throw problem("Item", "`" + what + "` is no number: " + shown(value) + ".");
  }

  static std::string shown(const Json& value) {
    return value.is_string() ? value.get<std::string>() : python_repr(value);
  }

  // What only orders have.
  void read_order(const Json& raw, Item& item) {
    static const std::vector<std::string> kSteps = {"confirm", "reserve", "deliver", "no_delivery", "cancel"};
    const auto given = [&](const char* name) {
      const auto found = raw.find(name);
      return found != raw.end() && !found->is_null() && !found->empty() && *found != false && *found != "";
    };
    for (const char* name : {"steps", "expect", "currency"}) {
      if (given(name) && item.key.first != "sale.order")
        throw problem("Item", std::string("`") + name + "` is for sale.order, not for " + item.key.first + ".");
    }
    if (given("steps")) {
      for (const Json& step : raw.at("steps")) {
        if (!step.is_string() || std::find(kSteps.begin(), kSteps.end(), step.get<std::string>()) == kSteps.end())
          throw problem("Item",
                        "`" + shown(step) + "` is none of the steps: confirm, reserve, deliver, no_delivery, cancel.");
        item.steps.push_back(step.get<std::string>());
      }
    }
    if (given("expect")) item.expect = raw.at("expect");
    for (const auto& [name, amount] : item.expect.items()) {
      if (name != "amount_total" && name != "amount_untaxed" && name != "amount_tax")
        throw problem("Item", "`" + name + "` is none of the amounts of an order.");
      number_of(amount, name);
    }
    item.currency = text_of(raw, "currency");
    item.partial = raw.value("partial", false);
    if (item.steps.empty() && item.expect.empty()) return;
    for (const Child& child : item.children) {
      const auto quantity = child.values.find("product_uom_qty");
      if (quantity != child.values.end() && number_of(*quantity, "product_uom_qty") < 0)
        throw problem("Quantity", "The line `" + child.key.second + "` has the quantity " + shown(*quantity) + ".");
    }
  }

  void read(const Json& raw, Item& item) {
    if (!raw.is_object()) throw problem("Item", "An item is an object with `key`, `model` and `values`.");
    check_key(raw);
    if (!raw.contains("model") || !raw["model"].is_string())
      throw user_error("Object " + (raw.contains("model") ? python_repr(raw["model"]) : "None") + " doesn't exist");
    const Model& model = table(item.key.first).model();
    item.values = object_of(raw, "values");
    const Json children = object_of(raw, "children");
    if (!item.values.is_object() || !children.is_object())
      throw problem("Item", "`values` and `children` are objects.");
    if (const auto version = raw.find("version"); version != raw.end() && !version->is_null()) {
      if (!version->is_number_integer()) throw problem("Item", "`version` is a whole number.");
      item.version = version->get<std::int64_t>();
    }
    item.call = text_of(raw, "call");
    if (!item.call.empty() && kCalls.count(item.call) == 0) {
      std::string known;
      for (const auto& call : kCalls) known += (known.empty() ? "" : ", ") + call;
      throw problem("Item",
                    "`" + item.call + "` is none of the methods that are called after an import: " + known + ".");
    }
    item.recreate = raw.value("recreate", false);
    if (raw.contains("names")) item.names.update(raw["names"]);
    for (const Json& list : raw.value("replace", Json::array())) {
      if (!list.is_string() || !children.contains(list.get<std::string>()))
        throw problem("Item", "`" + shown(list) + "` is to be replaced, and no children are given for it.");
      item.replace.insert(list.get<std::string>());
    }
    gather(model, item.values, item, item.top);
    item.own.push_back(item.key);
    for (const auto& [list, given] : children.items()) {
      const Field* field = model.find(list);
      if (field == nullptr || field->type != FieldType::one2many)
        throw problem("Children", model.name + "." + list + " is no list of children (one2many).");
      const Model& other = table(field->relation).model();
      if (!given.is_array()) throw problem("Children", "The children of " + list + " are a list.");
      for (const Json& child : given) {
        if (!child.is_object()) throw problem("Children", "A child is an object with `key` and `values`.");
        check_key(child);
        Child one{list, {other.name, text_of(child, "key")}, object_of(child, "values")};
        if (std::find(item.own.begin(), item.own.end(), one.key) != item.own.end())
          throw problem("Children", "The key `" + one.key.second + "` is given to two children.");
        item.own.push_back(one.key);
        gather(other, one.values, item, item.top);
        item.children.push_back(std::move(one));
      }
    }
    read_order(raw, item);
    item.digest = text_of(raw, "digest");
    if (item.digest.empty()) {
      // Any digest will do that is the same for the same content; nlohmann's plain objects sort their keys.
      const nlohmann::json sorted = nlohmann::json::parse(Json::array({item.values, children}).dump());
      char hex[40];
      std::snprintf(hex, sizeof hex, "%016llx%016llx",
                    static_cast<unsigned long long>(std::hash<std::string>()(sorted.dump())),
                    static_cast<unsigned long long>(std::hash<std::string>()(sorted.dump() + "2")));
      item.digest = hex;
    }
  }

  // ---------------------------------------------------------------- order and parts

  static std::vector<Item*> in_order(const std::vector<Item*>& items) {
    std::vector<Item*> placed, pending = items;
    while (!pending.empty()) {
      std::set<Key> waiting, taken;
      for (const Item* item : pending) waiting.insert(item->own.begin(), item->own.end());
      std::vector<Item*> ready, later;
      for (Item* item : pending) {
        const bool free =
            std::none_of(item->own.begin(), item->own.end(), [&](const Key& key) { return taken.count(key) > 0; }) &&
            std::none_of(item->refs.begin(), item->refs.end(), [&](const Key& key) {
              return waiting.count(key) > 0 && std::find(item->own.begin(), item->own.end(), key) == item->own.end();
            });
        taken.insert(item->own.begin(), item->own.end());
        (free ? ready : later).push_back(item);
      }
      if (ready.empty()) {
        ready.push_back(later.front());
        later.erase(later.begin());
      }
      placed.insert(placed.end(), ready.begin(), ready.end());
      pending = std::move(later);
    }
    return placed;
  }

  static Json failed(const Item& item, const OdooError& error) {
    const auto or_false = [](const std::string& text) { return text.empty() ? Json(false) : Json(text); };
    return {{"key", or_false(item.key.second)},
            {"model", or_false(item.key.first)},
            {"outcome", "error"},
            {"error", {{"name", error.name}, {"message", error.what()}}}};
  }

  int in_parts(const std::vector<Item*>& items) {
    if (items.empty()) return 0;
    const auto mark = transaction_.mark();
    std::optional<OdooError> wrong;
    try {
      std::vector<std::pair<Item*, std::string>> calls;
      how_.clear();
      for (Item* item : items) apply(*item, calls);
      for (const auto& [item, call] : calls) this->call(*item, call);
      for (Item* item : items) do_steps(*item);
      for (Item* item : items) {
        item->answer = answer_of(item->key, item->outcome);
        if (!item->flag.is_null()) item->answer["flag"] = item->flag;
      }
      return 0;
    } catch (const OdooError& error) {
      wrong = error;
    } catch (const Json::exception& error) {
      wrong = type_error(error.what());
    }
    transaction_.roll_back_to(mark);
    if (items.size() == 1) {
      items[0]->answer = failed(*items[0], *wrong);
      return 1;
    }
    const auto half = items.begin() + static_cast<std::ptrdiff_t>(items.size() / 2);
    return in_parts({items.begin(), half}) + in_parts({half, items.end()});
  }

  // ---------------------------------------------------------------- keys

  bool there(const Key& key) const {
    const auto found = database_.import_keys.find(key);
    if (found == database_.import_keys.end() || found->second.id == 0) return false;
    const Table* table = database_.find(key.first);
    return table != nullptr && table->find(found->second.id) != kNoSlot;
  }

  ImportKey row_of(const Key& key) const {
    const auto found = database_.import_keys.find(key);
    return found == database_.import_keys.end() ? ImportKey{} : found->second;
  }

  void put(const Key& key, ImportKey row, bool made) {
    const auto found = database_.import_keys.find(key);
    const std::optional<ImportKey> old =
        found == database_.import_keys.end() ? std::nullopt : std::optional(found->second);
    transaction_.on_rollback([this_db = &database_, key, old] {
      if (old) {
        this_db->import_keys[key] = *old;
      } else {
        this_db->import_keys.erase(key);
      }
    });
    database_.import_keys[key] = row;
    if (!row.parent.first.empty()) database_.import_children[row.parent].insert(key);
    if (!made) return;
    std::string name = key.first + "/";
    for (const char c : key.second) name += c == '%' ? "%25" : c == ' ' ? "%20" : std::string(1, c);
    const std::string xml_id = "__dragoman__." + name;
    if (const auto known = database_.external_ids.find(xml_id); known != database_.external_ids.end())
      orm_.unlink(database_.table("ir.model.data"), {known->second});
    orm_.add_external_id(xml_id, key.first, row.id);
  }

  Json answer_of(const Key& key, const std::string& outcome) const {
    const ImportKey row = row_of(key);
    Json answer = {{"key", key.second},
                   {"model", key.first},
                   {"outcome", outcome},
                   {"id", row.id == 0 ? Json(false) : Json(row.id)}};
    Json children = Json::object();
    if (const auto known = database_.import_children.find(key); known != database_.import_children.end()) {
      for (const Key& child : known->second) {
        const ImportKey its = row_of(child);
        if (its.parent == key && there(child)) children[child.second] = its.id;
      }
    }
    if (!children.empty()) answer["children"] = children;
    Json links = Json::object();
    for (const Key& link : row.links) {
      if (!there(link)) continue;
      const auto how = how_.find(link);
      links[link.second] = {
          {"model", link.first}, {"id", row_of(link).id}, {"how", how == how_.end() ? "key" : how->second}};
    }
    if (!links.empty()) answer["links"] = links;
    return answer;
  }

  // ---------------------------------------------------------------- values

  Json resolve(const std::string& model, const Json& value) {
    if (!value.is_object()) return value;
    if (value.contains("key")) {
      std::string of = text_of(value, "model");
      if (of.empty()) of = model;
      const Key key{of, text_of(value, "key")};
      if (there(key)) return row_of(key).id;
      throw problem("Reference", "There is no " + of + " with the key `" +
                                     (value["key"].is_string() ? key.second : python_repr(value["key"])) + "`" +
                                     (row_of(key).id != 0 ? ": it was deleted in Odoo." : "."));
    }
    if (value.contains("ref")) {
      const auto id = orm_.find_external_id(text_of(value, "ref"), model);
      if (id && database_.table(model).find(*id) != kNoSlot) return *id;
      throw problem("Reference", "There is no " + model + " with the external id `" + text_of(value, "ref") + "`.");
    }
    throw problem("Reference", "A reference is an id, {\"key\": …} or {\"ref\": …}.");
  }

  Json convert(const Model& model, const Json& values, const Json& names) {
    Json out = Json::object();
    for (const auto& [given, value] : values.items()) {
      const std::string name = field_name(names, model, given);
      if (name.empty()) continue;
      const Field* field = model.find(name);
      if (field == nullptr && translated(names, model, given))
        throw problem("Field", "The field " + name + " of " + model.name + " is not in this Odoo, where `" + given +
                                   "` belongs.");
      if (field != nullptr && field->type == FieldType::many2one && value.is_object()) {
        out[name] = resolve(field->relation, value);
      } else if (field != nullptr && value.is_array() &&
                 (field->type == FieldType::one2many || field->type == FieldType::many2many)) {
        out[name] = convert_list(*field, value, names);
      } else if (field != nullptr && value.is_string() && field->cells == Cells::real) {
        out[name] = number_of(value, name);
      } else {
        out[name] = value;
      }
    }
    return out;
  }

  Json convert_list(const Field& field, const Json& value, const Json& names) {
    Json commands = Json::array(), plain = Json::array();
    for (const Json& part : value) {
      if (!part.is_array()) {
        plain.push_back(resolve(field.relation, part));
        continue;
      }
      Json command = part;
      const bool writes = !part.empty() && part[0].is_number_integer() && part[0].get<int>() <= 2;
      if (field.type == FieldType::one2many || writes) table(field.relation);
      if (command.size() > 2 && command[2].is_object()) {
        command[2] = convert(table(field.relation).model(), command[2], names);
      } else if (command.size() > 2 && command[2].is_array()) {
        for (Json& one : command[2]) one = resolve(field.relation, one);
      } else if (command.size() > 1) {
        command[1] = resolve(field.relation, command[1]);
      }
      commands.push_back(std::move(command));
    }
    if (!plain.empty() || value.empty()) {
      if (field.type == FieldType::one2many) table(field.relation);
      commands.insert(commands.begin(), Json::array({6, 0, plain}));
    }
    return commands;
  }

  // ---------------------------------------------------------------- records that are looked for

  Id company_of(const Item& item) const {
    const auto company = item.values.find("company_id");
    return company != item.values.end() && company->is_number_integer() && company->get<Id>() != 0
               ? company->get<Id>()
               : orm_.env().company();
  }

  static Json translate(const Json& names, const Model& model, const Json& domain) {
    Json out = Json::array();
    for (const Json& leaf : domain) {
      if (!leaf.is_array() || leaf.size() != 3 || !leaf[0].is_string()) {
        out.push_back(leaf);
        continue;
      }
      std::string path = leaf[0].get<std::string>(), rest;
      bool optional = path.ends_with('?');
      if (optional) path.pop_back();
      if (const auto dot = path.find('.'); dot != std::string::npos) {
        rest = path.substr(dot);
        path.resize(dot);
      }
      optional = optional || translated(names, model, path);
      const std::string name = field_name(names, model, path + (optional ? "?" : ""));
      if (name.empty())
        out.push_back({0, "=", 1});
      else
        out.push_back({name + rest, leaf[1], leaf[2]});
    }
    return out;
  }

  static std::string shown_domain(const Json& domain) {
    std::string out;
    for (const Json& leaf : domain) {
      if (!leaf.is_array() || leaf.size() != 3 || !leaf[0].is_string()) continue;
      std::string value;
      if (leaf[2].is_array()) {
        for (const Json& one : leaf[2]) value += (value.empty() ? "" : " or ") + shown(one);
      } else {
        value = shown(leaf[2]);
      }
      out += (out.empty() ? "" : ", ") + leaf[0].get<std::string>() + " " + value;
    }
    return out;
  }

  std::string titles(const Table& table, const std::vector<Id>& ids) {
    std::string out;
    for (const Id id : ids)
      out += (out.empty() ? "" : " and ") + orm_.display_name(table, table.find(id)) + " (" + std::to_string(id) + ")";
    return out;
  }

  bool has_other_key(const Key& key, Id id) const {
    for (auto at = database_.import_keys.lower_bound({key.first, ""});
         at != database_.import_keys.end() && at->first.first == key.first; ++at) {
      if (at->second.id == id && at->first != key) return true;
    }
    return false;
  }

  void bind(const Key& key, Id id, const std::string& how) {
    ImportKey row;
    row.id = id;
    row.refused = row_of(key).refused;
    put(key, row, true);
    how_[key] = how;
  }

  void look_for(const Key& key, Item& item) {
    if (std::find(item.needs.begin(), item.needs.end(), key) != item.needs.end()) return;
    item.needs.push_back(key);
    const Wanted& wanted = item.wanted.at(key);
    Table& own = table(key.first);
    if (there(key)) {
      // A new record wants what is active; one that is in Odoo goes on with what it has.
      const Field* field = own.model().find("active");
      if (!wanted.active || field == nullptr || there(item.key)) return;
      const Id id = row_of(key).id;
      const Cell active = orm_.value(own, *field, own.find(id));
      if (const auto* is = std::get_if<bool>(&active); is != nullptr && *is) return;
      throw problem("NotMatched",
                    "No " + key.first + " is found for `" + key.second + "`. Archived: " + titles(own, {id}) + ".");
    }
    Json tail = Json::array();
    if (own.model().find("company_id") != nullptr)
      tail.push_back({"company_id", "in", Json::array({false, company_of(item)})});
    const auto search = [&](const Json& domain, int limit, bool archived) {
      Json whole = domain;
      for (const Json& leaf : tail) whole.push_back(leaf);
      Env env = orm_.env();
      env.active_test = !archived;
      return Orm(database_, env, &transaction_).search(own, whole, 0, limit, "id");
    };
    std::vector<std::pair<std::string, Json>> tried;
    for (const Json& rule : wanted.match) {
      const Json domain = translate(item.names, own.model(), rule[1]);
      const std::string name = rule[0].get<std::string>();
      const std::set<Id> refused = row_of(key).refused;
      std::vector<Id> hits = search(domain, wanted.own || !refused.empty() ? 20 : 2, false);
      hits.erase(std::remove_if(hits.begin(), hits.end(), [&](Id id) { return refused.contains(id); }), hits.end());
      if (wanted.own)
        hits.erase(std::remove_if(hits.begin(), hits.end(), [&](Id id) { return has_other_key(key, id); }), hits.end());
      if (hits.size() > 1) {
        hits.resize(2);
        throw problem("Ambiguous", "More than one " + key.first + " is found by " + name + " (" + shown_domain(domain) +
                                       "): " + titles(own, hits) + ".");
      }
      if (hits.size() == 1) return bind(key, hits[0], name);
      tried.emplace_back(name, domain);
    }
    if (wanted.values.is_object()) {
      for (const Key& inner : wanted.inner) look_for(inner, item);
      return bind(key, orm_.create(own, convert(own.model(), wanted.values, item.names)), "created");
    }
    std::string rules, archived;
    for (const auto& [name, domain] : tried) {
      rules += (rules.empty() ? "" : "; ") + name + " (" + shown_domain(domain) + ")";
      if (archived.empty() && own.model().find("active") != nullptr) {
        const auto hits = search(domain, 2, true);
        if (!hits.empty()) archived = " Archived: " + titles(own, hits) + ".";
      }
    }
    throw problem("NotMatched", "No " + key.first + " is found for `" + key.second +
                                    "`, tried: " + (rules.empty() ? "nothing" : rules) + "." + archived);
  }

  // ---------------------------------------------------------------- orders

  bool same(const Table& of, Id id, const std::string& name, const Json& value) {
    const Field* field = of.model().find(name);
    if (field == nullptr) return false;
    Json wanted = value;
    if (field->type == FieldType::many2many) {
      std::set<Id> ids;
      for (const Json& command : value) {
        if (!command.is_array() || command.size() < 3 || command[0] != 6) return false;
        for (const Json& one : command[2]) ids.insert(one.get<Id>());
      }
      const auto& there = of.column(field->column).ids(of.find(id));
      return ids == std::set<Id>(there.begin(), there.end());
    }
    if (field->type == FieldType::one2many) return false;
    const Cell new_cell = to_cell(of.model(), *field, value), old_cell = orm_.value(of, *field, of.find(id));
    if (const auto* number = std::get_if<double>(&new_cell)) {
      const auto* before = std::get_if<double>(&old_cell);
      return std::abs(*number - (before == nullptr ? 0 : *before)) < 5e-7;
    }
    return new_cell == old_cell;
  }

  Json changes(const Table& of, Id id, const Json& values) {
    Json out = Json::object();
    for (const auto& [name, value] : values.items()) {
      if (!same(of, id, name, value)) out[name] = value;
    }
    return out;
  }

  Json only_changes(Item& item, Id id, const Json& values) {
    Orders orders(orm_);
    Table& own = table("sale.order");
    Json out = Json::object();
    std::string content;
    const auto counts = [&](const std::string& name) { content += (content.empty() ? "" : ", ") + name; };
    std::set<std::string> lists;
    for (const Child& child : item.children) lists.insert(child.list);
    for (const std::string& list : item.replace) lists.insert(list);
    for (const auto& [name, value] : values.items()) {
      if (lists.count(name) > 0) {
        const Table& lines = table(own.model().find(name)->relation);
        Json commands = Json::array();
        for (const Json& command : value) {
          if (command[0] != 1) {
            commands.push_back(command);
          } else if (Json theirs = changes(lines, command[1].get<Id>(), command[2]); !theirs.empty()) {
            commands.push_back({1, command[1], theirs});
          }
        }
        if (commands.empty()) continue;
        out[name] = commands;
        counts(name);
      } else if (name == "company_id" ||
                 (name == "date_order" && orders.state(id) != "draft" && orders.state(id) != "sent")) {
        continue;
      } else if (!same(own, id, name, value)) {
        out[name] = value;
        const bool note = name.starts_with("x_") || name.starts_with("marketplace_") || name == "cartona_id" ||
                          name == "delivered_by" || name == "is_marketplace_order";
        if (!note) counts(name);
      }
    }
    item.content = !content.empty();
    const std::string closed = item.content ? orders.why_closed(id) : "";
    if (!closed.empty())
      throw problem("Closed", orders.name(id) + " " + closed +
                                  " in Odoo, and what changed is left as it is there: " + content + ".");
    return out;
  }

  // Of what was written every line has what was given, or Odoo has rounded it.
  void check_quantities(const Item& item) {
    if (std::find(item.steps.begin(), item.steps.end(), "cancel") != item.steps.end()) return;
    const Table& lines = database_.table("sale.order.line");
    const Table& products = database_.table("product.product");
    Orders orders(orm_);
    for (const Child& child : item.children) {
      const auto given = child.values.find("product_uom_qty");
      if (child.key.first != "sale.order.line" || given == child.values.end() || given->is_null() || *given == false)
        continue;
      const Id id = row_of(child.key).id;
      const double wanted = number_of(*given, "product_uom_qty"), kept = orders.real(lines, id, "product_uom_qty");
      if (std::abs(wanted - kept) <= 1e-6 * std::abs(wanted)) continue;
      char text[40];
      std::snprintf(text, sizeof text, "%.10g", kept);
      const bool newer = orm_.series() >= 19;
      throw problem("Quantity",
                    "The line `" + child.key.second + "` (" +
                        orm_.display_name(products, products.find(orders.link(lines, id, "product_id"))) +
                        ") has the quantity " + shown(*given) + ", and Odoo keeps " + text + " " +
                        orders.text(database_.table("uom.uom"),
                                    orders.link(lines, id, newer ? "product_uom_id" : "product_uom"), "name") +
                        " of it: the decimal accuracy of `" + (newer ? "Product Unit" : "Product Unit of Measure") +
                        "` in Odoo is 2 digits.");
    }
  }

  void check_amounts(const Item& item, Id id) {
    if (!item.content || std::find(item.steps.begin(), item.steps.end(), "cancel") != item.steps.end()) return;
    const Table& own = database_.table("sale.order");
    Orders orders(orm_);
    const Table& currencies = database_.table("res.currency");
    const std::string currency = orders.text(currencies, orders.link(own, id, "currency_id"), "name");
    if (!item.currency.empty() && currency != item.currency)
      throw problem("Currency",
                    "The order would be in " + currency + ", and its amounts are in " + item.currency + ".");
    // Lines that people added to it are left out.
    const Table& lines = database_.table("sale.order.line");
    const Table& products = database_.table("product.product");
    std::set<Id> ours;
    if (const auto known = database_.import_children.find(item.key); known != database_.import_children.end())
      for (const Key& child : known->second)
        if (const ImportKey row = row_of(child); row.parent == item.key) ours.insert(row.id);
    double untaxed = 0, tax = 0;
    std::string others;
    int count = 0;
    for (const Id line : orders.lines(id)) {
      if (!orders.text(lines, line, "display_type").empty()) continue;
      if (ours.contains(line)) {
        untaxed += orders.real(lines, line, "price_subtotal");
        tax += orders.real(lines, line, "price_tax");
        continue;
      }
      const Id product = orders.link(lines, line, "product_id");
      if (++count <= 5)
        others += (count == 1 ? "" : ", ") + (product == 0 ? orders.text(lines, line, "name")
                                                           : orm_.display_name(products, products.find(product)));
    }
    if (count > 5) others += " and " + std::to_string(count - 5) + " more";
    const bool fresh = item.outcome == "created";
    for (const auto& [name, amount] : item.expect.items()) {
      double there = orders.real(own, id, name.c_str());
      if (!fresh && count > 0) there = (name == "amount_tax" ? 0 : untaxed) + (name == "amount_untaxed" ? 0 : tax);
      if (std::llround(number_of(amount, name) * 100) == std::llround(there * 100)) continue;
      char text[40];
      std::snprintf(text, sizeof text, "%.2f", there);
      const std::string is = name + " is " + shown(amount) + ", and the ";
      if (count == 0) throw problem("Total", is + "order adds up to " + text + " in Odoo.");
      if (fresh)
        throw problem("Total",
                      is + "order adds up to " + text + " in Odoo, with lines that were not imported: " + others + ".");
      throw problem("Total", is + "imported lines of the order add up to " + text +
                                 " in Odoo. Lines that were added there are left out of that: " + others + ".");
    }
  }

  void do_steps(Item& item) {
    item.flag = Json();
    if (item.steps.empty() || item.outcome == "skipped") return;
    Orders orders(orm_);
    const Id id = row_of(item.key).id;
    bool did = false;
    for (const std::string& step : item.steps) {
      const std::string state = orders.state(id);
      if (step == "confirm") {
        if (state != "draft" && state != "sent") continue;
        orders.confirm({id});
        did = true;
      } else if (step == "cancel") {
        if (state == "cancel") continue;
        if (orders.delivered_from(id)) {
          item.flag = {
              {"name", "dragoman.Delivered"},
              {"message", orders.name(id) + " was to be cancelled, and has been delivered from: it is left as it is."}};
          continue;
        }
        orders.cancel(id);
        did = true;
      } else if (state == "sale" || state == "done") {
        if (step == "reserve") did = orders.reserve(id) || did;
        if (step == "deliver") did = orders.deliver(id, item.partial) || did;
        if (step == "no_delivery") did = orders.drop_deliveries(id) || did;
      }
      if (step != "deliver") continue;
      if (const std::string short_of = orders.undelivered(id, item.partial); !short_of.empty())
        item.flag = {
            {"name", "dragoman.Undelivered"},
            {"message", "The marketplace says that " + orders.name(id) + " is delivered, and in Odoo it is " +
                            (state == "cancel" ? "cancelled" : "not, or not all of it") + ": " + short_of + "."}};
    }
    if (did && item.outcome == "unchanged") item.outcome = "updated";
    check_amounts(item, id);
  }

  // ---------------------------------------------------------------- doing it

  OdooError deleted(const Key& key) {
    return problem("Deleted", key.first + " `" + key.second + "` was imported as " + std::to_string(row_of(key).id) +
                                  " and has been deleted in Odoo since.");
  }

  std::set<Id> list_of(const Item& item, const std::string& list, Id id) {
    const Field& field = *database_.table(item.key.first).model().find(list);
    Env env = orm_.env();
    env.active_test = false;
    Orm all(database_, env, &transaction_);
    const auto ids = all.search(database_.table(field.relation),
                                Json::array({Json::array({field.relation_field, "=", id})}), 0, -1, "id");
    return {ids.begin(), ids.end()};
  }

  // Children of ours that the item has no more.
  void remove_others(const Item& item, Json& values, std::vector<Key>& removed) {
    const auto known = database_.import_children.find(item.key);
    if (known == database_.import_children.end()) return;
    for (const std::string& list : item.replace) {
      const std::string& model = database_.table(item.key.first).model().find(list)->relation;
      for (const Key& child : known->second) {
        const ImportKey row = row_of(child);
        if (child.first != model || row.parent != item.key || !there(child) ||
            std::find(item.own.begin(), item.own.end(), child) != item.own.end())
          continue;
        Json& commands = values[list];
        if (!commands.is_array()) commands = Json::array();
        Orders orders(orm_);
        const Table& lines = database_.table("sale.order.line");
        const std::string state =
            model == "sale.order.line" ? orders.state(orders.link(lines, row.id, "order_id")) : "";
        if (state.empty() || state == "draft" || state == "sent") {
          commands.push_back({2, row.id, 0});
          removed.push_back(child);
        } else
          commands.push_back({1, row.id, Json{{"product_uom_qty", 0}}});
      }
    }
  }

  void apply(Item& item, std::vector<std::pair<Item*, std::string>>& calls) {
    Table& own = table(item.key.first);
    ImportKey row = row_of(item.key);
    item.outcome = "created";
    if (row.id != 0) {
      if (item.version && row.version && *item.version < *row.version) {
        item.outcome = "skipped";
        return;
      }
      if (there(item.key)) {
        item.outcome = row.digest == item.digest ? "unchanged" : "updated";
      } else if (!item.recreate) {
        throw deleted(item.key);
      }
    }
    const bool fresh = item.outcome == "created";
    bool made = false;
    item.content = fresh;
    item.needs.clear();
    if (fresh || item.outcome == "updated") {
      for (const Key& key : item.top) look_for(key, item);
      Json values = convert(own.model(), item.values, item.names);
      std::map<std::string, std::vector<Key>> new_children;
      std::map<std::string, std::set<Id>> before;
      for (const Child& child : item.children) {
        const ImportKey its = row_of(child.key);
        Json theirs = convert(table(child.key.first).model(), child.values, item.names);
        if (its.id != 0 && its.parent != item.key)
          throw problem("Children", "The key `" + child.key.second + "` belongs to a child of another record (" +
                                        its.parent.first + " `" + its.parent.second + "`).");
        if (!values.contains(child.list) || !values[child.list].is_array()) values[child.list] = Json::array();
        if (there(child.key) && !fresh) {
          values[child.list].push_back({1, its.id, theirs});
          continue;
        }
        if (its.id != 0 && !item.recreate) throw deleted(child.key);
        values[child.list].push_back({0, 0, theirs});
        new_children[child.list].push_back(child.key);
        if (!fresh) before[child.list] = list_of(item, child.list, row.id);
      }
      std::vector<Key> removed;
      if (!fresh) remove_others(item, values, removed);
      if (!fresh && item.key.first == "sale.order") values = only_changes(item, row.id, values);
      if (fresh) {
        row = ImportKey{};
        row.id = orm_.create(own, values);
        made = true;
      } else if (!values.empty()) {
        orm_.write(own, {row.id}, values);
      }
      for (const Key& gone : removed) put(gone, ImportKey{}, false);
      row.digest = item.digest;
      if (!item.wanted.empty()) row.links = item.needs;
      for (const auto& [list, keys] : new_children) {
        std::vector<Id> ids;
        for (const Id id : list_of(item, list, row.id)) {
          if (before[list].count(id) == 0) ids.push_back(id);
        }
        if (ids.size() < keys.size())
          throw problem("Children", item.key.first + "." + list + " holds fewer records than were given.");
        for (std::size_t i = 0; i < keys.size(); ++i) {
          ImportKey child;
          child.id = ids[i];
          child.parent = item.key;
          put(keys[i], child, true);
        }
      }
    }
    if (item.key.first == "sale.order" && item.content) {
      if (Orders orders(orm_); !fresh && orders.state(row.id) == "sale") orders.adjust(row.id);
      check_quantities(item);
      check_amounts(item, row.id);
    }
    if (item.version) row.version = item.version;
    const std::string done = "," + row.called + ",";
    if (!item.call.empty() && done.find("," + item.call + ",") == std::string::npos) {
      row.called += (row.called.empty() ? "" : ",") + item.call;
      calls.emplace_back(&item, item.call);
      if (item.outcome == "unchanged") item.outcome = "updated";
    }
    put(item.key, row, made);
  }

  void call(const Item& item, const std::string& name) {
    static const Methods kMethods;
    Table& own = table(item.key.first);
    const Method* method = kMethods.find(item.key.first, name, database_.series());
    if (method == nullptr)
      throw OdooError("builtins.AttributeError", "'" + item.key.first + "' object has no attribute '" + name + "'");
    std::string unused;
    PythonJsonSink sink(unused, Spelling::utf8);
    Call call{.orm = orm_, .table = own};
    call.ids = {row_of(item.key).id};
    method->run(call, sink);
  }

  Database& database_;
  Transaction& transaction_;
  Orm orm_;
  std::map<Key, std::string> how_;  // what the keys of this attempt came to stand for
};

// ---------------------------------------------------------------- the other procedures

Json inspect(Database& database, const Json& payload) {
  const Table& external = database.table("ir.model.data");
  const Table& table = database.table("ir.actions.server");
  const char* const groups = database.series() >= 19 ? "group_ids" : "groups_id";
  std::map<std::string, Id> named;
  external.each([&](Id, Slot slot) {
    if (cell_text(external, slot, "module") == "__dragoman__" &&
        cell_text(external, slot, "model") == "ir.actions.server")
      named[cell_text(external, slot, "name")] = external.column(external.model().find("res_id")->column).integer(slot);
    return true;
  });
  Json actions = Json::array();
  for (const auto& [name, id] : named) {
    const Slot slot = table.find(id);
    if (slot == kNoSlot) continue;
    auto ids = table.column(table.model().find(groups)->column).ids(slot);
    std::sort(ids.begin(), ids.end());
    actions.push_back({{"id", id},
                       {"xml_id", name},
                       {"name", cell_text(table, slot, "name")},
                       {"code", cell_text(table, slot, "code")},
                       {"groups", ids}});
  }
  Json tables = Json::object(), indexes = Json::object();
  for (const Json& name : payload.value("tables", Json::array())) {
    if (name == "dragoman_key" && database.import_table)
      tables["dragoman_key"] = {"model",        "key",        "res_id",  "version", "digest", "called",
                                "parent_model", "parent_key", "applied", "links",   "refused"};
  }
  for (const Json& name : payload.value("indexes", Json::array())) {
    if (database.own_indexes.count(name.get<std::string>()) > 0)
      indexes[name.get<std::string>()] = "CREATE INDEX " + name.get<std::string>() + " ON …";
  }
  return {{"procedure", "inspect"}, {"version", 1}, {"actions", actions}, {"tables", tables}, {"indexes", indexes}};
}

Json setup(Orm& orm, const Json& payload) {
  Database& database = orm.database();
  if (payload.value("remove", false)) {
    database.import_table = false;
    database.import_keys.clear();
    database.import_children.clear();
    for (const auto& index : database.own_indexes) {
      for (const auto& model : database.schema().models) {
        Json kept = Json::array();
        for (const auto& rule : model->unique) {
          if (rule.at("constraint") != index) kept.push_back(rule);
        }
        model->unique = kept;
      }
    }
    database.own_indexes.clear();
    Table& external = database.table("ir.model.data");
    std::vector<Id> rows;
    external.each([&](Id id, Slot slot) {
      if (cell_text(external, slot, "module") == "__dragoman__" &&
          cell_text(external, slot, "name").find('/') != std::string::npos)
        rows.push_back(id);
      return true;
    });
    Env env = orm.env();
    env.su = true;
    Orm(database, env, orm.transaction()).unlink(external, rows);
  } else {
    database.import_table = true;
    database.own_indexes.insert("dragoman_key_parent");
    database.own_indexes.insert("dragoman_key_record");
    database.own_indexes.insert("dragoman_key_pkey");
    for (const Json& one : payload.value("indexes", Json::array())) database.own_indexes.insert(text_of(one, "index"));
    for (const Json& one : payload.value("unique", Json::array())) {
      const std::string index = text_of(one, "index"), field = text_of(one, "field");
      if (database.own_indexes.count(index) > 0) continue;
      Table* table = database.find(text_of(one, "model"));
      const Field* found = table == nullptr ? nullptr : table->model().find(field);
      if (found == nullptr) throw value_error("UndefinedColumn('column \"" + field + "\" does not exist')");
      std::set<Cell> seen;
      table->each([&](Id, Slot slot) {
        const Cell cell = table->column(found->column).get(slot);
        if (!std::holds_alternative<std::monostate>(cell) && !seen.insert(cell).second)
          throw value_error("UniqueViolation('could not create unique index \"" + index + "\"\\nDETAIL:  Key (" +
                            field + ") is duplicated.\\n') while evaluating\n'…'");
        return true;
      });
      auto& model = const_cast<Model&>(table->model());
      model.unique.push_back({{"fields", {field}},
                              {"constraint", index},
                              {"message", "duplicate key value violates unique constraint \"" + index + "\""}});
      database.own_indexes.insert(index);
    }
  }
  const auto left = database.own_indexes.size() + (database.import_table ? 1 : 0);
  return {{"procedure", "setup"}, {"version", 3}, {"left", left}};
}

void run(Call& call, Sink& out) {
  Orm& orm = call.orm;
  Database& database = orm.database();
  Json answer = false;
  for (const Id id : call.ids) {
    const Slot slot = call.table.find(id);
    if (slot == kNoSlot) throw missing_error(orm.missing_text(call.table, id));
    const char* const groups = database.series() >= 19 ? "group_ids" : "groups_id";
    const auto& allowed = call.table.column(call.table.model().find(groups)->column).ids(slot);
    if (!allowed.empty()) {
      if (!orm.in_any_group(allowed)) throw access_error("You don't have enough access rights to run this action.");
    } else {
      const Table& models = database.table("ir.model");
      const Slot model = models.find(call.table.column(call.table.model().find("model_id")->column).integer(slot));
      if (const Table* of = database.find(cell_text(models, model, "model"))) orm.check_access(*of, Access::write);
    }
    const std::string code = cell_text(call.table, slot, "code");
    constexpr std::string_view kHeader = "# Dragoman procedure: ";
    std::string name;
    if (code.starts_with(kHeader)) name = code.substr(kHeader.size(), code.find('\n') - kHeader.size());
    const Json context = orm.env().context;
    const auto given = context.find("dragoman");
    const Json payload = given == context.end() ? Json::object() : *given;
    if (name == "import") {
      if (given == context.end() || !payload.is_object()) throw user_error("The context has no `dragoman` object.");
      if (!database.import_table && (payload.contains("items") || payload.contains("find")))
        throw value_error("UndefinedTable('relation \"dragoman_key\" does not exist')");
      Importer importer(database, orm.env(), *orm.transaction());
      answer = {{"procedure", "import"}, {"version", 3}, {"items", Json::array()}};
      if (payload.contains("find")) {
        answer["items"] = importer.find(payload["find"]);
      } else if (payload.contains("items")) {
        answer["items"] = importer.import(payload);
      }
    } else if (name == "market") {
      if (given == context.end() || !payload.is_object()) throw user_error("The context has no `dragoman` object.");
      Env env = orm.env();
      env.su = true;
      Orm all(database, env, orm.transaction());
      answer = market(all, payload);
    } else if (name == "order") {
      if (!database.import_table) throw value_error("UndefinedTable('relation \"dragoman_key\" does not exist')");
      Importer importer(database, orm.env(), *orm.transaction());
      answer = {{"procedure", "order"}, {"version", 1}, {"items", importer.import_plain(payload)}};
    } else if (name == "relink") {
      if (given == context.end() || !payload.is_object()) throw user_error("The context has no `dragoman` object.");
      if (!database.import_table) throw value_error("UndefinedTable('relation \"dragoman_key\" does not exist')");
      Importer importer(database, orm.env(), *orm.transaction());
      answer = {{"procedure", "relink"}, {"version", 2}, {"items", importer.relink(payload)}};
    } else if (name == "inspect") {
      answer = inspect(database, payload);
    } else if (name == "setup") {
      answer = setup(orm, payload);
    } else {
      throw value_error("NotImplementedError('the stand-in runs the procedures of Dragoman, and no other code')");
    }
  }
  write_json(out, answer);
}

// A button of whoever may write the records; what it does beside is done with all rights.
template <void (*Press)(Orders&, const std::vector<Id>&)>
void button(Call& call, Sink& out) {
  call.orm.check_records(call.table, call.ids, Access::write);
  Env env = call.orm.env();
  env.su = true;
  Orm orm(call.orm.database(), env, call.orm.transaction());
  Orders orders(orm);
  Press(orders, call.ids);
  out.boolean(true);
}

void confirm(Orders& orders, const std::vector<Id>& ids) {
  orders.confirm(ids);
}

void cancel(Orders& orders, const std::vector<Id>& ids) {
  for (const Id id : ids) orders.cancel(id);
}

void cancel_pickings(Orders& orders, const std::vector<Id>& ids) {
  for (const Id id : ids) orders.cancel_picking(id);
}

}  // namespace

void add_procedures(Methods& methods) {
  methods.add("ir.actions.server",
              {.name = "run", .owner = "IrActionsServer", .on_records = true, .writes = true, .run = run});
  methods.add(
      "sale.order",
      {.name = "action_confirm", .owner = "SaleOrder", .on_records = true, .writes = true, .run = button<confirm>});
  methods.add(
      "sale.order",
      {.name = "action_cancel", .owner = "SaleOrder", .on_records = true, .writes = true, .run = button<cancel>});
  methods.add("stock.picking", {.name = "action_cancel",
                                .owner = "Picking",
                                .on_records = true,
                                .writes = true,
                                .run = button<cancel_pickings>});
}

void add_manual_field(Orm& orm, Id row) {
  Database& database = orm.database();
  const Table& fields = database.table("ir.model.fields");
  const Slot slot = fields.find(row);
  const Table& models = database.table("ir.model");
  const Slot model_row = models.find(fields.column(fields.model().find("model_id")->column).integer(slot));
  const std::string name = cell_text(fields, slot, "name"), type = cell_text(fields, slot, "ttype");
  Table* table = model_row == kNoSlot ? nullptr : database.find(cell_text(models, model_row, "model"));
  if (table == nullptr) return;
  if (!name.starts_with("x_")) throw validation_error("Custom fields must have a name that starts with 'x_'!");
  auto& model = const_cast<Model&>(table->model());
  if (model.find(name) != nullptr)
    throw validation_error("Field names must be unique per model: " + name + " is there already.");
  Json attributes = {{"name", name},
                     {"readonly", false},
                     {"required", false},
                     {"searchable", true},
                     {"sortable", true},
                     {"store", true},
                     {"string", cell_text(fields, slot, "field_description")},
                     {"type", type},
                     {"manual", true}};
  if (const std::string relation = cell_text(fields, slot, "relation"); !relation.empty())
    attributes["relation"] = relation;
  model.add_field(name, attributes);
  database.schema().link();
  table->add_columns();
  orm.set_cell(database.table("ir.model.fields"), row, "model", model.name);
  if (orm.transaction() != nullptr) orm.transaction()->on_rollback([&model, name] { model.remove_field(name); });
}

void remove_manual_field(Orm& orm, Id row) {
  Database& database = orm.database();
  const Table& fields = database.table("ir.model.fields");
  const Slot slot = fields.find(row);
  Table* table = database.find(cell_text(fields, slot, "model"));
  if (table == nullptr) return;
  const_cast<Model&>(table->model()).remove_field(cell_text(fields, slot, "name"));
}

}  // namespace sandbox::odoo
