#include "connectors/odoo/provision.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "connectors/odoo/procedures.h"

namespace dragoman::connectors::odoo {
namespace {

using nlohmann::json;
using rpc::Domain;
using Change = ProvisionStep::Change;
using Kind = Error::Kind;

constexpr const char* kModule = "__dragoman__";
constexpr const char* kGroup = "provision_group";
constexpr const char* kUser = "provision_user";
constexpr const char* kSetup = "provision_setup";
constexpr const char* kProcedurePrefix = "provision_procedure_";
constexpr const char* kFieldPrefix = "provision_field_";
constexpr const char* kRightPrefix = "provision_right_";

// What Odoo's versions call differently, in one place.
struct Names {
  const char* groups_of_user;
  const char* users_of_group;
  const char* groups_of_action;
};

Names names_of(int major) {
  if (major >= 19) return {"group_ids", "user_ids", "group_ids"};
  return {"groups_id", "users", "groups_id"};
}

// What the procedure `setup` makes besides unique indexes.
constexpr const char* kTable = "dragoman_key";
// Of its indexes the one that came last: where it is, the columns of its time are there, too.
constexpr const char* kTableIndex = "dragoman_key_record";
// Of its columns the one that came last.
constexpr const char* kTableColumn = "refused";

std::string underscored(std::string text) {
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

std::string field_xml_id(const CustomField& field) {
  return fmt::format("{}{}__{}", kFieldPrefix, underscored(field.model), field.name);
}

// PostgreSQL cuts names at 63 bytes, so that two long ones could become one.
std::string unique_index(const CustomField& field) {
  std::string name = fmt::format("dragoman_{}_{}_uniq", underscored(field.model), field.name);
  if (name.size() > 63) name = name.substr(0, 46) + "_" + digest_of(name);
  return name;
}

// What is asked each second by the procedure `market`, and by what a marketplace's customers are looked for.
struct MarketIndex {
  const char *model, *field;
  std::string name() const { return fmt::format("dragoman_{}_{}_idx", underscored(model), field); }
};
constexpr MarketIndex kMarketIndexes[] = {{"sale.order", "write_date"},       {"sale.order.line", "write_date"},
                                          {"stock.move", "write_date"},       {"stock.picking", "write_date"},
                                          {"stock.quant", "write_date"},      {"product.product", "write_date"},
                                          {"product.template", "write_date"}, {"res.partner", "phone"}};

json result_of(const rpc::Answer& answer) {
  return json::parse(answer.result(), nullptr, false);
}

bool is_word(std::string_view text, bool dots) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (dots && c == '.');
  });
}

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  while (true) {
    const auto end = text.find(at);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

const std::vector<MarketField>& marketplace_fields() {
  static const std::vector<MarketField> all = [] {
    std::vector<MarketField> made;
    const auto add = [&](const char* model, const char* source, const char* name, const char* type, const char* label) {
      CustomField field;
      field.model = model;
      field.name = name;
      field.type = type;
      field.label = label;
      field.index = std::string_view(source) == "cartona_id";
      field.why = "what a marketplace says of it";
      made.push_back({source, std::move(field)});
    };
    add("res.partner", "cartona_id", "x_cartona_id", "char", "Cartona ID");
    add("product.product", "cartona_id", "x_cartona_id", "char", "Cartona ID");
    add("sale.order", "cartona_id", "x_cartona_id", "char", "Cartona ID");
    add("sale.order", "is_marketplace_order", "x_is_marketplace_order", "boolean", "Marketplace order");
    add("sale.order", "marketplace_config_id", "x_marketplace_config", "char", "Marketplace");
    add("sale.order", "marketplace_order_number", "x_marketplace_order_number", "char", "Marketplace order number");
    add("sale.order", "marketplace_status", "x_marketplace_status", "char", "Marketplace status");
    add("sale.order", "marketplace_ordered_at", "x_marketplace_ordered_at", "datetime", "Ordered at the marketplace");
    add("sale.order", "delivered_by", "x_delivered_by", "char", "Delivered by");
    add("sale.order", "marketplace_payment_method", "x_marketplace_payment_method", "char",
        "Marketplace payment method");
    add("sale.order", "marketplace_credit", "x_marketplace_credit", "float", "Marketplace credit");
    add("sale.order", "marketplace_installment", "x_marketplace_installment", "float", "Marketplace installment");
    add("sale.order", "marketplace_wallet", "x_marketplace_wallet", "float", "Marketplace wallet");
    add("sale.order", "marketplace_discount_supplier", "x_marketplace_discount_supplier", "float",
        "Discount by the supplier");
    add("sale.order", "marketplace_discount_marketplace", "x_marketplace_discount_marketplace", "float",
        "Discount by the marketplace");
    add("sale.order", "marketplace_sync_status", "x_marketplace_sync_status", "char", "Marketplace sync status");
    add("sale.order", "marketplace_sync_date", "x_marketplace_sync_date", "datetime", "Marketplace sync date");
    add("sale.order", "marketplace_error_message", "x_marketplace_error_message", "text", "Marketplace error message");
    return made;
  }();
  return all;
}

json marketplace_names(const json& own) {
  static const json names = [] {
    json made;
    for (const MarketField& one : marketplace_fields()) made[one.field.model][one.source] = one.field.name;
    return made;
  }();
  json out = names;
  for (const auto& [model, fields] : own.items()) out[model].update(fields);
  return out;
}

namespace {

// What the hub writes into records of these models besides, or Odoo reckons by itself.
const std::map<std::string, std::set<std::string>>& fields_in_use() {
  static const std::map<std::string, std::set<std::string>> all{
      {"sale.order", {"name",           "state",           "locked",       "partner_id",     "company_id",
                      "warehouse_id",   "pricelist_id",    "currency_id",  "user_id",        "client_order_ref",
                      "note",           "carrier_id",      "order_line",   "picking_ids",    "invoice_ids",
                      "invoice_status", "delivery_status", "amount_total", "amount_untaxed", "amount_tax"}},
      {"res.partner",
       {"name", "ref", "phone", "email", "street", "comment", "active", "company_id", "parent_id", "type"}},
      {"product.product", {"name", "active", "product_tmpl_id"}}};
  return all;
}

// Why no field of a marketplace may be this one; empty: it may.
std::string field_in_use(const std::string& model, const std::string& source, const std::string& field) {
  for (const char* kept : {"id", "create_uid", "create_date", "write_uid", "write_date", "display_name"})
    if (field == kept) return "Odoo keeps it itself";
  if (const auto found = fields_in_use().find(model); found != fields_in_use().end() && found->second.contains(field))
    return "the hub or Odoo itself writes something else into it";
  for (const MarketField& one : marketplace_fields())
    if (one.field.model == model && one.source != source && one.field.name == field)
      return fmt::format("it is the hub's own field for `{}`", one.source);
  return {};
}

}  // namespace

void check_marketplace_fields(const json& own) {
  for (const auto& [model, fields] : own.items()) {
    const auto known = marketplace_names(json::object());
    if (!known.contains(model)) {
      std::vector<std::string> models;
      for (const auto& [name, unused] : known.items()) models.push_back(name);
      throw Error(Kind::invalid,
                  fmt::format("The setting `marketplace_fields` names the model `{}`; marketplaces write "
                              "fields of {}.",
                              model, fmt::join(models, ", ")));
    }
    if (!fields.is_object())
      throw Error(
          Kind::invalid,
          fmt::format("In the setting `marketplace_fields`, `{}` is to be an object of names, each with a field "
                      "of that model, such as {{\"cartona_id\": \"x_studio_cartona_id\"}}.",
                      model));
    for (const auto& [source, field] : fields.items()) {
      if (!known[model].contains(source)) {
        std::vector<std::string> sources;
        for (const auto& [name, unused] : known[model].items()) sources.push_back(name);
        throw Error(Kind::invalid, fmt::format("In the setting `marketplace_fields`, `{}` is nothing that marketplaces "
                                               "write into {}; there are {}.",
                                               source, model, fmt::join(sources, ", ")));
      }
      if (!field.is_string() || !is_word(field.get_ref<const std::string&>(), false))
        throw Error(Kind::invalid, fmt::format("In the setting `marketplace_fields`, `{}` of {} is {}; it is to be the "
                                               "name of a field.",
                                               source, model, field.dump()));
      const std::string& name = field.get_ref<const std::string&>();
      if (const std::string why = field_in_use(model, source, name); !why.empty())
        throw Error(Kind::invalid,
                    fmt::format("In the setting `marketplace_fields`, `{}` of {} can't be `{}`: {}. Name a "
                                "field that is there for nothing else.",
                                source, model, name, why));
      for (const auto& [other, same] : fields.items())
        if (other != source && same == field)
          throw Error(Kind::invalid,
                      fmt::format("In the setting `marketplace_fields`, `{}` and `{}` of {} are both `{}`: "
                                  "each would overwrite the other.",
                                  std::min(source, other), std::max(source, other), model, name));
    }
  }
}

std::string_view name(ProvisionStep::Change change) {
  switch (change) {
    case Change::none:
      return "nothing";
    case Change::create:
      return "create";
    case Change::change:
      return "change";
    case Change::remove:
      break;
  }
  return "remove";
}

// ---------------------------------------------------------------- declared things

CustomField CustomField::parse(const std::string& text) {
  const auto wrong = [&](const std::string& what) {
    return Error(Kind::invalid, fmt::format("`{}` is no field: {}. A field is given as MODEL.x_NAME, and behind it "
                                            ":TYPE, :many2one=MODEL or :unique, such as "
                                            "sale.order.x_market_ref:char:unique.",
                                            text, what));
  };
  const auto parts = split(text, ':');
  CustomField field;
  const auto dot = parts[0].rfind('.');
  if (dot == std::string::npos) throw wrong("it names no model");
  field.model = parts[0].substr(0, dot);
  field.name = parts[0].substr(dot + 1);
  if (!is_word(field.model, true)) throw wrong(fmt::format("`{}` is no model", field.model));
  if (!field.name.starts_with("x_") || !is_word(field.name, false) || field.name.size() > 60)
    throw wrong("Odoo wants names of fields without a module to begin with x_, in small letters, digits and _");
  static const std::set<std::string> kTypes = {"char", "text", "integer", "float", "boolean", "date", "datetime"};
  for (std::size_t i = 1; i < parts.size(); ++i) {
    if (parts[i] == "unique") {
      field.unique = true;
    } else if (parts[i].starts_with("many2one=") && is_word(parts[i].substr(9), true)) {
      field.type = "many2one";
      field.target = parts[i].substr(9);
    } else if (kTypes.contains(parts[i])) {
      field.type = parts[i];
    } else {
      throw wrong(fmt::format("`{}` is no type ({}, many2one=MODEL)", parts[i], fmt::join(kTypes, ", ")));
    }
  }
  field.index = field.type != "text" && field.type != "boolean";
  if (field.unique && !field.index) throw wrong(fmt::format("a field of type {} can't be unique", field.type));
  return field;
}

json CustomField::json() const {
  return {{"model", model},   {"name", name},   {"type", type},    {"label", label},
          {"target", target}, {"index", index}, {"unique", unique}};
}

CustomField CustomField::from(const nlohmann::json& json) {
  CustomField field;
  field.model = json.value("model", "");
  field.name = json.value("name", "");
  field.type = json.value("type", "char");
  field.label = json.value("label", "");
  field.target = json.value("target", "");
  field.index = json.value("index", true);
  field.unique = json.value("unique", false);
  return field;
}

json Provisioned::json() const {
  nlohmann::json list = nlohmann::json::array();
  for (const CustomField& field : fields) list.push_back(field.json());
  return {{"actions", actions}, {"digests", digests}, {"own_user", own_user}, {"login", login},
          {"fields", list},     {"market", market},   {"checked", checked},   {"difference", difference}};
}

std::optional<Provisioned> provisioned(const pipeline::Connection& connection) {
  if (!connection.learnt.is_object()) return std::nullopt;
  const auto found = connection.learnt.find("provision");
  if (found == connection.learnt.end() || !found->is_object() || !found->contains("actions")) return std::nullopt;
  Provisioned state;
  state.actions = found->value("actions", std::map<std::string, std::int64_t>{});
  state.digests = found->value("digests", std::map<std::string, std::string>{});
  state.own_user = found->value("own_user", false);
  state.login = found->value("login", "");
  state.market = found->value("market", false);
  state.checked = found->value("checked", "");
  state.difference = found->value("difference", "");
  for (const auto& field : found->value("fields", json::array())) state.fields.push_back(CustomField::from(field));
  return state;
}

std::int64_t action_of(const pipeline::Connection& connection, std::string_view procedure) {
  if (const auto state = provisioned(connection))
    if (const auto found = state->actions.find(std::string(procedure)); found != state->actions.end())
      return found->second;
  Error error(Kind::conflict,
              fmt::format("The procedure `{}` is not in the Odoo of the connection `{}`. An administrator of that Odoo "
                          "puts it there: `dragoman provision plan {}` shows what it would make, `dragoman provision "
                          "apply {}` makes it.",
                          procedure, connection.name, connection.name, connection.name));
  error.code = pipeline::kNotProvisioned;
  throw error;
}

// ---------------------------------------------------------------- the work

namespace {

// What one call of the procedure `inspect` says.
struct Inspected {
  struct Action {
    std::string xml_id, name, digest;
    std::vector<std::int64_t> groups;
  };
  std::map<std::int64_t, Action> actions;
  std::set<std::string> columns, indexes;  // of the table of keys; columns empty: it is not there
};

Inspected inspect(rpc::Client& own, std::int64_t action, const std::vector<CustomField>& fields, std::stop_token stop) {
  json wanted{{"tables", {kTable}}, {"indexes", {kTableIndex}}};
  for (const CustomField& field : fields)
    if (field.unique) wanted["indexes"].push_back(unique_index(field));
  for (const MarketIndex& index : kMarketIndexes) wanted["indexes"].push_back(index.name());
  rpc::CallOptions options;
  options.context = json{{"dragoman", wanted}}.dump();
  options.read_only = true;
  options.stop = stop;
  const json answer = result_of(own.call("ir.actions.server", "run", fmt::format("[[{}]]", action), "", options));
  if (!answer.is_object() || answer.value("procedure", "") != "inspect")
    throw Error(Kind::protocol,
                "The server action `dragoman: inspect` answers something else than it should. dragoman provision apply "
                "puts it right.");
  Inspected seen;
  const json actions = answer.value("actions", json::array()), tables = answer.value("tables", json::object()),
             indexes = answer.value("indexes", json::object());
  for (const json& row : actions)
    seen.actions[row.at("id").get<std::int64_t>()] = {row.value("xml_id", ""), row.value("name", ""),
                                                      digest_of(row.value("code", "")),
                                                      row.value("groups", std::vector<std::int64_t>{})};
  if (const auto table = tables.find(kTable); table != tables.end()) seen.columns = table->get<std::set<std::string>>();
  for (const auto& [index, definition] : indexes.items()) seen.indexes.insert(index);
  return seen;
}

}  // namespace

class Provisioning::Impl {
 public:
  Impl(rpc::Client& admin, Open open, std::string login, Secret secret, ProvisionOptions options, Clock& clock,
       Random& random)
      : admin_(admin),
        open_(std::move(open)),
        login_(std::move(login)),
        secret_(std::move(secret)),
        options_(std::move(options)),
        clock_(clock),
        random_(random) {}

  std::vector<ProvisionStep> plan(std::stop_token stop) {
    look(stop);
    return steps_of(planned());
  }

  Applied apply(std::stop_token stop, const std::function<void(const std::string&, const Secret&)>& keep_user) {
    keep_user_ = keep_user;
    look(stop);
    auto todo = planned();
    Applied applied;
    applied.steps = steps_of(todo);
    for (auto& one : todo) {
      // A new procedure meets the table as it wants it.
      if (one.step.object != "field") make_fields();
      if (one.step.object == "procedure") run_setup();
      if (one.act) one.act();
    }
    make_fields();
    run_setup();
    // What was made is believed when it is read back, through the account that will use it.
    look(stop);
    // Odoo's other workers learn within about two seconds who is in which group.
    for (int i = 0; i < 20 && !seen_; ++i) {
      if (!clock_.wait(std::chrono::milliseconds(250), stop)) throw Error(Kind::cancelled, "Stopped.");
      look(stop);
    }
    for (const ProvisionStep& left : steps_of(planned()))
      if (left.change != Change::none)
        throw Error(Kind::conflict,
                    fmt::format("After all was done, the {} `{}` is still not as it should be. Somebody else may be "
                                "changing it; try again.",
                                left.object, left.name));
    for (const Procedure& one : procedures()) {
      if (!one.stays()) continue;
      applied.state.actions[one.name] = xml_.at(kProcedurePrefix + one.name).id;
      applied.state.digests[one.name] = one.digest;
    }
    if (!seen_)
      throw Error(Kind::forbidden,
                  fmt::format("The procedures are in place, and the login `{}` may not run them. Is it in the group "
                              "`{}`?",
                              login_, kGroupName));
    applied.state.own_user = options_.own_user;
    applied.state.login = login_;
    applied.state.fields = options_.fields;
    applied.state.market = options_.market;
    applied.login = login_;
    if (password_made_) applied.secret = secret_;
    return applied;
  }

  std::vector<ProvisionStep> plan_removal(std::stop_token stop) {
    look(stop, false);
    return steps_of(planned_removal());
  }

  std::vector<ProvisionStep> remove(std::stop_token stop) {
    look(stop, false);
    auto todo = planned_removal();
    if (!todo.empty()) {
      drop_tables({});
      std::vector<std::string> fields;
      for (auto& one : todo) {
        if (one.step.object != "field") delete_fields();
        if (one.act) one.act();
        if (one.step.object == "field") fields.push_back(one.step.name.substr(one.step.name.rfind('.') + 1));
      }
      delete_fields();
      if (!fields.empty()) drop_tables(fields);
    }
    verify_removal();
    return steps_of(todo);
  }

 private:
  static constexpr const char* kGroupName = "Dragoman hub";
  static constexpr const char* kUserName = "Dragoman hub";

  struct Planned {
    ProvisionStep step;
    std::function<void()> act;  // empty: nothing to be done
  };
  struct Known {
    std::string model;
    std::int64_t id = 0;
  };

  static std::vector<ProvisionStep> steps_of(const std::vector<Planned>& planned) {
    std::vector<ProvisionStep> steps;
    for (const Planned& one : planned) steps.push_back(one.step);
    return steps;
  }

  rpc::CallOptions options(bool read_only = true) const {
    rpc::CallOptions options;
    options.context = R"({"active_test":false,"no_reset_password":true,"lang":"en_US"})";
    options.read_only = read_only;
    options.stop = stop_;
    return options;
  }

  json rows(const char* model, const Domain& domain, std::vector<std::string> fields) {
    rpc::ReadOptions read;
    read.fields = std::move(fields);
    return result_of(admin_.search_read(model, domain, read, options()));
  }

  // One record by load, which makes the record and its external id in one transaction, or changes what is there.
  std::int64_t put(const char* model, const std::string& xml_id,
                   std::vector<std::pair<std::string, std::string>> values) {
    std::vector<std::string> fields{"id"};
    json row = json::array({fmt::format("{}.{}", kModule, xml_id)});
    for (auto& [field, value] : values) {
      fields.push_back(std::move(field));
      row.push_back(std::move(value));
    }
    return put_rows(model, fields, json::array({row})).at(0);
  }

  std::vector<std::int64_t> put_rows(const char* model, const std::vector<std::string>& fields, const json& rows) {
    const json answer = result_of(admin_.load(model, fields, rows, options(false)));
    const auto ids = answer.find("ids");
    if (ids == answer.end() || !ids->is_array()) {
      std::string why;
      for (const json& message : answer.value("messages", json::array()))
        why += (why.empty() ? "" : " ") + message.value("message", "");
      throw Error(Kind::invalid, fmt::format("Odoo does not take a row of {}: {}", model, why));
    }
    return ids->get<std::vector<std::int64_t>>();
  }

  // ---------------------------------------------------------------- what is there

  void look(std::stop_token stop, bool with_own = true) {
    stop_ = stop;
    names_ = names_of(admin_.version(stop).major);
    xml_.clear();
    set_up_ = false;
    unique_ = json::array();
    new_fields_ = json::array();
    old_fields_.clear();
    json known;
    try {
      admin_.search_count("ir.actions.server", Domain(), options());
      known =
          rows("ir.model.data", Domain::where("module", "=", kModule) && Domain::where("name", "=like", "provision%"),
               {"name", "model", "res_id"});
    } catch (const Error& error) {
      if (error.kind != Kind::forbidden) throw;
      Error refused(Kind::forbidden,
                    "The login given is no administrator of this Odoo: it has to be in the group Administration / "
                    "Settings. " +
                        error.message,
                    error.detail);
      refused.code = "not_administrator";
      throw refused;
    }
    std::map<std::string, std::vector<std::int64_t>> by_model;
    for (const json& row : known) by_model[row.at("model")].push_back(row.at("res_id"));
    std::map<std::string, std::set<std::int64_t>> there;
    for (const auto& [model, ids] : by_model) {
      const auto found = admin_.search(model, Domain::where("id", "in", ids), {}, options());
      there[model] = {found.begin(), found.end()};
    }
    for (const json& row : known) {
      const Known one{row.at("model"), row.at("res_id")};
      if (there[one.model].contains(one.id)) xml_[row.at("name")] = one;
    }
    seen_.reset();
    if (!with_own) return;
    if (options_.own_user && login_ != options_.own_login) return;
    own_ = open_(login_, secret_);
    const auto action = xml_.find(kProcedurePrefix + std::string("inspect"));
    if (action == xml_.end()) return;
    try {
      seen_ = inspect(*own_, action->second.id, options_.fields, stop_);
    } catch (const Error& error) {
      // Not in the group yet, or the action is not ours any more: then what the database holds is not known, and making
      // it does nothing where it is there.
      if (error.kind == Kind::unavailable || error.kind == Kind::busy || error.kind == Kind::cancelled) throw;
    }
  }

  std::int64_t group() const { return xml_.contains(kGroup) ? xml_.at(kGroup).id : 0; }

  bool in_group(std::int64_t user) {
    if (group() == 0) return false;
    const json found = rows("res.users", Domain::where("id", "=", user), {names_.groups_of_user});
    if (found.empty()) return false;
    const auto groups = found[0].at(names_.groups_of_user).get<std::vector<std::int64_t>>();
    return std::find(groups.begin(), groups.end(), group()) != groups.end();
  }

  // ---------------------------------------------------------------- what is wanted

  std::vector<Planned> planned() {
    std::vector<Planned> all;
    if (const auto left = xml_.find(kSetup); left != xml_.end())
      all.push_back({{"procedure", "dragoman: setup", Change::remove, "it was left by a run that was broken off",
                      "deletes that server action"},
                     [this, id = left->second.id] { admin_.unlink("ir.actions.server", {id}, options(false)); }});
    plan_group(all);
    if (options_.own_user) {
      plan_rights(all);
      plan_user(all);
    } else {
      plan_grant(all);
    }
    for (const CustomField& field : options_.fields) plan_field(all, field);
    if (options_.market) plan_market(all);
    plan_table(all);
    for (const Procedure& one : procedures())
      if (one.stays()) plan_procedure(all, one);
    return all;
  }

  void plan_group(std::vector<Planned>& all) {
    Planned one{
        {"group", kGroupName, Change::none,
         "whoever is in it may run the procedures, which import records of any model but those of users, rights "
         "and technical settings; the group gives no other right",
         ""},
        {}};
    if (group() == 0) {
      one.step.change = Change::create;
      one.step.detail = "makes a group of users that inherits nothing";
      one.act = [this] {
        const auto id = put("res.groups", kGroup,
                            {{"name", kGroupName}, {"comment", "May run the procedures of the Dragoman hub."}});
        xml_[kGroup] = {"res.groups", id};
      };
    }
    all.push_back(std::move(one));
  }

  void plan_grant(std::vector<Planned>& all) {
    const std::int64_t user = own_->user_id(stop_);
    Planned one{{"grant", login_.empty() ? fmt::format("user {}", user) : login_, Change::none,
                 "the connection's login is to run the procedures", ""},
                {}};
    if (!in_group(user)) {
      one.step.change = Change::change;
      one.step.detail =
          fmt::format("puts the user (id {}) into the group `{}`; nothing else of it changes", user, kGroupName);
      one.act = [this, user] {
        admin_.write("res.groups", {group()}, {{names_.users_of_group, {{4, user}}}}, options(false));
      };
    }
    all.push_back(std::move(one));
  }

  void plan_rights(std::vector<Planned>& all) {
    std::vector<std::string> missing;
    for (const std::string& model : options_.readable)
      if (!xml_.contains(kRightPrefix + underscored(model))) missing.push_back(model);
    std::map<std::string, std::int64_t> models;
    if (!missing.empty())
      for (const json& row : rows("ir.model", Domain(), {"model"}))
        models[row.at("model").get<std::string>()] = row.at("id");
    const auto elsewhere = std::erase_if(missing, [&](const std::string& model) { return !models.contains(model); });
    Planned one{{"right", fmt::format("read {} models", options_.readable.size() - elsewhere), Change::none,
                 "the hub's own user reads what the connection captures, and writes by procedures only", ""},
                {}};
    if (!missing.empty()) {
      one.step.change = Change::create;
      one.step.detail =
          fmt::format("lets the group `{}` read, and nothing else: {}", kGroupName, fmt::join(missing, ", "));
      one.act = [this, missing, models] {
        json lines = json::array();
        for (const std::string& model : missing)
          lines.push_back({fmt::format("{}.{}{}", kModule, kRightPrefix, underscored(model)),
                           fmt::format("dragoman: read {}", model), std::to_string(models.at(model)),
                           std::to_string(group()), "1", "0", "0", "0"});
        put_rows(
            "ir.model.access",
            {"id", "name", "model_id/.id", "group_id/.id", "perm_read", "perm_write", "perm_create", "perm_unlink"},
            lines);
      };
    }
    all.push_back(std::move(one));
  }

  void plan_user(std::vector<Planned>& all) {
    const json found = rows("res.users", Domain::where("login", "=", options_.own_login), {"id", "active"});
    const std::int64_t there = found.empty() ? 0 : found[0].at("id").get<std::int64_t>();
    if (there != 0 && (!xml_.contains(kUser) || xml_.at(kUser).id != there)) {
      Error error(Kind::conflict, fmt::format("In Odoo there is a user `{}` already, and it is not the hub's. Name "
                                              "another login for the hub's own user.",
                                              options_.own_login));
      error.code = "login_taken";
      throw error;
    }
    Planned one{{"user", options_.own_login, Change::none,
                 "the hub's own user, so that nobody's password is used and Odoo shows what the hub did", ""},
                {}};
    if (there == 0) {
      one.step.change = Change::create;
      one.step.detail = fmt::format(
          "makes an internal user with the group `{}`, with a password that the hub makes and keeps sealed as the "
          "connection's secret; the connection's login becomes `{}`",
          kGroupName, options_.own_login);
      one.act = [this] { make_user(); };
    } else if (!logs_in()) {
      one.step.change = Change::change;
      one.step.detail = "gives it a new password, which the hub keeps sealed as the connection's secret";
      one.act = [this, there] {
        const Secret made(random_hex(random_, 24));
        admin_.write("res.users", {there}, {{"password", made.reveal()}, {"active", true}}, options(false));
        keep(made);
      };
    } else if (!in_group(there)) {
      one.step.change = Change::change;
      one.step.detail = fmt::format("puts it into the group `{}` again", kGroupName);
      one.act = [this, there] {
        admin_.write("res.groups", {group()}, {{names_.users_of_group, {{4, there}}}}, options(false));
      };
    }
    all.push_back(std::move(one));
  }

  bool logs_in() {
    if (login_ != options_.own_login || !own_) return false;
    try {
      own_->user_id(stop_);
      return true;
    } catch (const Error& error) {
      if (error.kind != Kind::auth) throw;
      return false;
    }
  }

  void make_user() {
    std::vector<std::int64_t> companies = options_.companies;
    const json self = rows("res.users", Domain::where("id", "=", admin_.user_id(stop_)), {"company_ids", "company_id"});
    if (companies.empty()) companies = self.at(0).at("company_ids").get<std::vector<std::int64_t>>();
    const std::int64_t own_company = self.at(0).at("company_id").is_array()
                                         ? self.at(0).at("company_id").at(0).get<std::int64_t>()
                                         : self.at(0).at("company_id").get<std::int64_t>();
    const std::int64_t first =
        std::find(companies.begin(), companies.end(), own_company) != companies.end() ? own_company : companies.at(0);
    const json internal = rows(
        "ir.model.data", Domain::where("module", "=", "base") && Domain::where("name", "=", "group_user"), {"res_id"});
    const Secret made(random_hex(random_, 24));
    // The user exists from here on with a password that only this process knows: a run that is killed before it is kept
    // makes a new one the next time.
    const auto id = put("res.users", kUser,
                        {{"name", kUserName},
                         {"login", options_.own_login},
                         {"password", made.reveal()},
                         {"company_ids/.id", fmt::format("{}", fmt::join(companies, ","))},
                         {"company_id/.id", std::to_string(first)},
                         {fmt::format("{}/.id", names_.groups_of_user),
                          fmt::format("{},{}", internal.at(0).at("res_id").get<std::int64_t>(), group())}});
    xml_[kUser] = {"res.users", id};
    keep(made);
  }

  void keep(const Secret& made) {
    keep_user_(options_.own_login, made);
    login_ = options_.own_login;
    secret_ = made;
    password_made_ = true;
    own_ = open_(login_, secret_);
  }

  void plan_field(std::vector<Planned>& all, const CustomField& field) {
    const std::string shown = fmt::format("{}.{}", field.model, field.name);
    const json there =
        rows("ir.model.fields", Domain::where("model", "=", field.model) && Domain::where("name", "=", field.name),
             {"ttype", "relation"});
    const bool ours = xml_.contains(field_xml_id(field));
    Planned one{{"field", shown, Change::none, field.why.empty() ? "asked for" : field.why, ""}, {}};
    if (there.empty()) {
      const json models = rows("ir.model", Domain::where("model", "=", field.model), {"id"});
      if (models.empty())
        throw Error(Kind::not_found,
                    fmt::format("This Odoo has no model `{}`, so it can't have the field {}.", field.model, shown));
      one.step.change = Change::create;
      one.step.detail = fmt::format("makes a field of type {}{}{}", field.type,
                                    field.target.empty() ? "" : " to " + field.target, field.index ? ", indexed" : "");
      one.act = [this, field, model = models[0].at("id").get<std::int64_t>()] {
        std::string label = field.label.empty() ? field.name.substr(2) : field.label;
        std::replace(label.begin(), label.end(), '_', ' ');
        new_fields_.push_back({fmt::format("{}.{}", kModule, field_xml_id(field)), field.name, std::to_string(model),
                               label, field.type, field.index ? "1" : "0", "0", field.target});
      };
    } else if (there[0].at("ttype") != field.type) {
      throw Error(Kind::conflict, fmt::format("The field {} is there already, of type {} and not {}. Name another.",
                                              shown, there[0].at("ttype").get<std::string>(), field.type));
    } else if (!ours) {
      one.step.detail = "was there before: it stays as it is, also when all of Dragoman's is removed";
    }
    all.push_back(std::move(one));
    if (!field.unique) return;
    Planned index{
        {"index", unique_index(field), Change::none, fmt::format("two records with the same {} can't be", shown), ""},
        {}};
    if (!seen_ || !seen_->indexes.contains(unique_index(field))) {
      index.step.change = Change::create;
      index.step.detail = fmt::format("makes a unique index over {} where it has a value", shown);
      index.act = [this, field] {
        set_up_ = true;
        unique_.push_back({{"index", unique_index(field)}, {"model", field.model}, {"field", field.name}});
      };
    }
    all.push_back(std::move(index));
  }

  // All at once: Odoo loads its models anew after each call that makes some, which takes seconds.
  void make_fields() {
    if (new_fields_.empty()) return;
    put_rows("ir.model.fields",
             {"id", "name", "model_id/.id", "field_description", "ttype", "index", "copied", "relation"}, new_fields_);
    new_fields_ = json::array();
  }

  // Likewise.
  void delete_fields() {
    if (old_fields_.empty()) return;
    admin_.unlink("ir.model.fields", old_fields_, options(false));
    old_fields_.clear();
  }

  void plan_market(std::vector<Planned>& all) {
    const auto there = market_fields_there();
    for (const MarketField& one : marketplace_fields()) {
      const bool asked = std::any_of(options_.fields.begin(), options_.fields.end(), [&](const CustomField& field) {
        return field.model == one.field.model && field.name == one.field.name;
      });
      // A module may have brought the field by its own name.
      if (there.contains({one.field.model, one.source})) continue;
      if (const std::string own = own_name(one); !own.empty()) {
        if (stores(one.field.model, own)) continue;
        Error error(
            Kind::conflict,
            fmt::format("The setting `marketplace_fields` says that {}.{} stands for `{}`, and this Odoo stores "
                        "no such field. Make it there, or take it out of the setting: then one of the hub's own "
                        "is made.",
                        one.field.model, own, one.source));
        error.code = "no_such_field";
        throw error;
      }
      if (!asked) plan_field(all, one.field);
    }
    for (const MarketIndex& index : kMarketIndexes) {
      if (!there.contains({index.model, index.field})) continue;
      Planned one{{"index", index.name(), Change::none,
                   std::string_view(index.field) == "write_date" ? "marketplaces ask each second what was changed"
                                                                 : "customers of marketplaces are looked for by it",
                   ""},
                  {}};
      if (!seen_ || !seen_->indexes.contains(index.name())) {
        one.step.change = Change::create;
        one.step.detail = fmt::format(
            "makes an index over {}.{}; until it is there, which takes about a second for a "
            "million records, Odoo waits with writing them",
            index.model, index.field);
        one.act = [this, &index] {
          set_up_ = true;
          plain_.push_back({{"index", index.name()}, {"model", index.model}, {"field", index.field}});
        };
      }
      all.push_back(std::move(one));
    }
  }

  bool stores(const std::string& model, const std::string& field) {
    const json fields = result_of(admin_.fields_get(model, {"store"}, options()));
    const auto found = fields.find(field);
    return found != fields.end() && found->value("store", false);
  }

  // Empty: none was given.
  std::string own_name(const MarketField& field) const {
    const auto model = options_.market_names.find(field.field.model);
    return model == options_.market_names.end() ? std::string() : model->value(field.source, "");
  }

  // Model and name of the stored fields, of those that marketplaces could use.
  std::set<std::pair<std::string, std::string>> market_fields_there() {
    std::set<std::string> models, names;
    for (const MarketField& one : marketplace_fields()) {
      models.insert(one.field.model);
      names.insert(one.source);
    }
    for (const MarketIndex& index : kMarketIndexes) {
      models.insert(index.model);
      names.insert(index.field);
    }
    const json domain = {{"model", "in", models}, {"name", "in", names}, {"store", "=", true}};
    std::set<std::pair<std::string, std::string>> there;
    for (const json& row : rows("ir.model.fields", Domain::parse(domain.dump()), {"model", "name"}))
      there.emplace(row.at("model"), row.at("name"));
    return there;
  }

  void plan_table(std::vector<Planned>& all) {
    Planned one{{"table", kTable, Change::none,
                 "the external key of each imported record, with the version and digest that were applied", ""},
                {}};
    if (!seen_ || !seen_->columns.contains(kTableColumn) || !seen_->indexes.contains(kTableIndex)) {
      one.step.change = Change::create;
      one.step.detail = "makes that table in Odoo's database, or what it lacks; no user of Odoo can reach it";
      one.act = [this] { set_up_ = true; };
    }
    all.push_back(std::move(one));
  }

  void plan_procedure(std::vector<Planned>& all, const Procedure& procedure) {
    const std::string xml_id = kProcedurePrefix + procedure.name;
    Planned one{{"procedure", procedure.action_name(), Change::none, procedure.summary, ""}, {}};
    if (const auto known = xml_.find(xml_id); known != xml_.end()) {
      const json row = rows("ir.actions.server", Domain::where("id", "=", known->second.id),
                            {"name", "code", "state", names_.groups_of_action})
                           .at(0);
      const json& code = row.at("code");
      const std::string digest = digest_of(code.is_string() ? code.get<std::string>() : "");
      const bool same =
          digest == procedure.digest && row.at("state") == "code" && row.at("name") == procedure.action_name() &&
          row.at(names_.groups_of_action).get<std::vector<std::int64_t>>() == std::vector<std::int64_t>{group()};
      one.step.change = same ? Change::none : Change::change;
      one.step.detail = fmt::format("version {}, {}", procedure.version, procedure.digest);
      if (digest != procedure.digest)
        one.step.detail += fmt::format(" instead of {}", digest);
      else if (!same)
        one.step.detail += ": its text is right, its name or group is not";
    } else {
      one.step.change = Change::create;
      one.step.detail = fmt::format("makes a server action that only the group `{}` may run: version {}, {}",
                                    kGroupName, procedure.version, procedure.digest);
    }
    if (one.step.change != Change::none)
      one.act = [this, &procedure, xml_id] { put_action(xml_id, procedure.action_name(), procedure.text, group()); };
    all.push_back(std::move(one));
  }

  std::int64_t put_action(const std::string& xml_id, const std::string& name, const std::string& code,
                          std::int64_t only) {
    // The model has no part in what the procedures do; a group decides who runs them.
    const json model = rows("ir.model", Domain::where("model", "=", "ir.actions.server"), {"id"});
    std::vector<std::pair<std::string, std::string>> values{
        {"name", name},
        {"model_id/.id", std::to_string(model.at(0).at("id").get<std::int64_t>())},
        {"state", "code"},
        {"code", code}};
    if (only != 0) values.push_back({fmt::format("{}/.id", names_.groups_of_action), std::to_string(only)});
    const auto id = put("ir.actions.server", xml_id, std::move(values));
    xml_[xml_id] = {"ir.actions.server", id};
    return id;
  }

  // ---------------------------------------------------------------- the database below Odoo

  // A server action that is there for the length of one call: the only way to the tables without a module.
  json run_once(const json& payload) {
    const auto id = put_action(kSetup, procedure("setup").action_name(), procedure("setup").text, 0);
    auto with_payload = options(false);
    with_payload.context = json{{"dragoman", payload}}.dump();
    try {
      const json answer =
          result_of(admin_.call("ir.actions.server", "run", fmt::format("[[{}]]", id), "", with_payload));
      admin_.unlink("ir.actions.server", {id}, options(false));
      xml_.erase(kSetup);
      return answer;
    } catch (const Error& error) {
      try {
        admin_.unlink("ir.actions.server", {id}, options(false));
      } catch (const Error& second) {
        ignore_error("the next run deletes the server action `dragoman: setup`", second);
      }
      for (const CustomField& field : options_.fields) {
        if (error.message.find("could not create unique index") == std::string::npos &&
            error.detail.find("could not create unique index") == std::string::npos)
          break;
        if ((error.message + error.detail).find("\"" + unique_index(field) + "\"") == std::string::npos) continue;
        Error duplicates(Kind::conflict,
                         fmt::format("{}.{} can't be made unique: there are records with the same value. Make their "
                                     "values differ, or empty, and apply again.",
                                     field.model, field.name),
                         error.message + "\n" + error.detail);
        duplicates.code = "duplicates";
        throw duplicates;
      }
      throw;
    }
  }

  void run_setup() {
    if (!set_up_) return;
    run_once({{"unique", unique_}, {"indexes", plain_}});
    set_up_ = false;
    unique_ = json::array();
    plain_ = json::array();
  }

  void drop_tables(const std::vector<std::string>& fields) {
    const json answer = run_once({{"remove", true}, {"fields", fields}});
    if (!answer.is_object() || answer.value("left", 1) != 0)
      throw Error(Kind::conflict,
                  "Tables of Dragoman are still in Odoo's database after they were dropped. Try again.");
  }

  // ---------------------------------------------------------------- taking it out

  std::vector<Planned> planned_removal() {
    std::vector<Planned> all;
    if (xml_.empty()) return all;
    const auto each = [&](const char* prefix, const auto& make) {
      for (const auto& [xml_id, known] : xml_)
        if (xml_id.starts_with(prefix)) all.push_back(make(xml_id, known));
    };
    const auto unlinked = [this](const char* object, std::string shown, const Known& known, const char* what) {
      return Planned{{object, std::move(shown), Change::remove, "", what},
                     [this, known] { admin_.unlink(known.model, {known.id}, options(false)); }};
    };
    if (const auto left = xml_.find(kSetup); left != xml_.end())
      all.push_back(unlinked("procedure", "dragoman: setup", left->second, "deletes that server action"));
    each(kProcedurePrefix, [&](const std::string& xml_id, const Known& known) {
      return unlinked("procedure", "dragoman: " + xml_id.substr(std::string_view(kProcedurePrefix).size()), known,
                      "deletes that server action");
    });
    const std::int64_t keys = admin_.search_count(
        "ir.model.data", Domain::where("module", "=", kModule) && Domain::where("name", "like", "/"), options());
    all.push_back({{"table", kTable, Change::remove, "",
                    fmt::format("drops it with every unique index of Dragoman, and forgets the external keys of {} "
                                "records; the records stay. Imported once more, they would be made once more",
                                keys)},
                   {}});
    each(kFieldPrefix, [&](const std::string& xml_id, const Known& known) {
      const json row = rows("ir.model.fields", Domain::where("id", "=", known.id), {"model", "name"});
      (void)xml_id;
      return Planned{
          {"field",
           fmt::format("{}.{}", row.at(0).at("model").get<std::string>(), row.at(0).at("name").get<std::string>()),
           Change::remove, "", "deletes the field with all its values"},
          [this, known] { old_fields_.push_back(known.id); }};
    });
    std::vector<std::int64_t> rights;
    for (const auto& [xml_id, known] : xml_)
      if (xml_id.starts_with(kRightPrefix)) rights.push_back(known.id);
    if (!rights.empty())
      all.push_back(
          {{"right", fmt::format("read {} models", rights.size()), Change::remove, "", "deletes these access rights"},
           [this, rights] { admin_.unlink("ir.model.access", rights, options(false)); }});
    if (const auto user = xml_.find(kUser); user != xml_.end())
      all.push_back({{"user", kUserName, Change::remove, "",
                      "deletes the user and its contact; where Odoo refuses because other records name them, they are "
                      "archived and keep no right"},
                     [this, known = user->second] { remove_user(known.id); }});
    if (const auto group = xml_.find(kGroup); group != xml_.end())
      all.push_back(
          unlinked("group", kGroupName, group->second, "deletes the group; whoever was in it is in it no more"));
    return all;
  }

  void remove_user(std::int64_t id) {
    const json row = rows("res.users", Domain::where("id", "=", id), {"partner_id", "login"});
    const json& partner = row.at(0).at("partner_id");
    const std::int64_t contact = partner.is_array() ? partner.at(0).get<std::int64_t>() : partner.get<std::int64_t>();
    // Without active_test in the context: Odoo asks by it whether the contact's user is archived.
    auto plain = options(false);
    plain.context.clear();
    for (const auto& [model, record] : {std::pair{"res.users", id}, std::pair{"res.partner", contact}}) {
      try {
        admin_.unlink(model, {record}, plain);
      } catch (const Error& error) {
        if (error.kind != Kind::invalid && error.kind != Kind::forbidden && error.kind != Kind::conflict) throw;
        ignore_error("it is archived instead", error);
        json values = {{"active", false}};
        // Its login is free for the next one.
        if (record == id && model == std::string_view("res.users"))
          values["login"] = fmt::format("{}-removed-{}", row.at(0).at("login").get<std::string>(), id);
        admin_.write(model, {record}, values, plain);
      }
    }
  }

  void verify_removal() {
    std::vector<std::string> left;
    const json names = rows("ir.model.data", Domain::where("module", "=", kModule), {"name", "model", "res_id"});
    std::vector<std::int64_t> dangling;
    for (const json& row : names) {
      // An archived user and its contact keep their external ids: the last that names them as ours.
      if (row.at("name").get<std::string>().starts_with(kUser) ||
          admin_.search_count(row.at("model").get<std::string>(),
                              Domain::where("id", "=", row.at("res_id").get<std::int64_t>()), options()) == 0)
        dangling.push_back(row.at("id"));
      else
        left.push_back(row.at("name"));
    }
    if (!dangling.empty()) admin_.unlink("ir.model.data", dangling, options(false));
    for (const json& row : rows("ir.actions.server", Domain::where("name", "=like", "dragoman: %"), {"name"}))
      left.push_back(row.at("name"));
    for (const json& row : rows("ir.model.access", Domain::where("name", "=like", "dragoman: %"), {"name"}))
      left.push_back(row.at("name"));
    if (!left.empty())
      throw Error(Kind::conflict,
                  fmt::format("Not everything could be removed; there is still: {}.", fmt::join(left, ", ")));
    xml_.clear();
  }

  rpc::Client& admin_;
  const Open open_;
  std::string login_;
  Secret secret_;
  const ProvisionOptions options_;
  Clock& clock_;
  Random& random_;
  std::stop_token stop_;
  std::function<void(const std::string&, const Secret&)> keep_user_;

  Names names_{};
  std::map<std::string, Known> xml_;  // name of the external id → what it points to, as far as that is there
  std::unique_ptr<rpc::Client> own_;
  std::optional<Inspected> seen_;    // by the connection's login; none where it may not run the procedure
  bool set_up_ = false;              // run_setup has something to do
  json unique_ = json::array();      // unique indexes for it
  json new_fields_ = json::array();  // rows of make_fields()
  std::vector<std::int64_t> old_fields_;
  json plain_ = json::array();  // indexes of the marketplaces
  bool password_made_ = false;
};

Provisioning::Provisioning(rpc::Client& admin, Open open, std::string login, Secret secret, ProvisionOptions options,
                           Clock& clock, Random& random)
    : impl_(std::make_unique<Impl>(admin, std::move(open), std::move(login), std::move(secret), std::move(options),
                                   clock, random)) {}
Provisioning::~Provisioning() = default;

std::vector<ProvisionStep> Provisioning::plan(std::stop_token stop) {
  return impl_->plan(stop);
}
Provisioning::Applied Provisioning::apply(std::stop_token stop,
                                          const std::function<void(const std::string&, const Secret&)>& keep_user) {
  return impl_->apply(stop, keep_user);
}
std::vector<ProvisionStep> Provisioning::plan_removal(std::stop_token stop) {
  return impl_->plan_removal(stop);
}
std::vector<ProvisionStep> Provisioning::remove(std::stop_token stop) {
  return impl_->remove(stop);
}

// ---------------------------------------------------------------- the check

std::vector<std::string> check_provisioned(rpc::Client& own, const Provisioned& expected, std::stop_token stop) {
  std::vector<std::string> differences;
  const auto action = expected.actions.find("inspect");
  if (action == expected.actions.end()) return {"the procedure `inspect` is not known"};
  Inspected seen;
  try {
    seen = inspect(own, action->second, expected.fields, stop);
  } catch (const Error& error) {
    switch (error.kind) {
      case Kind::forbidden:
        return {
            fmt::format("the login `{}` may not run the procedures: it was taken out of the group, or their group was "
                        "changed ({})",
                        expected.login, error.message)};
      case Kind::not_found:
      case Kind::protocol:
      case Kind::invalid:
        return {fmt::format("the procedure `inspect` does not answer: it was deleted or changed ({})", error.message)};
      default:
        throw;
    }
  }
  for (const auto& [name, id] : expected.actions) {
    const auto found = seen.actions.find(id);
    const auto digest = expected.digests.find(name);
    if (found == seen.actions.end()) {
      differences.push_back(fmt::format("the procedure `{}` was deleted", name));
    } else if (digest == expected.digests.end() || found->second.digest != digest->second) {
      differences.push_back(fmt::format("the text of the procedure `{}` was changed: {} instead of {}", name,
                                        found->second.digest, digest == expected.digests.end() ? "?" : digest->second));
    } else if (found->second.groups.size() != 1) {
      differences.push_back(fmt::format("the procedure `{}` may be run by others than the group", name));
    }
  }
  for (const Procedure& mine : procedures()) {
    if (!mine.stays()) continue;
    const auto digest = expected.digests.find(mine.name);
    if (digest == expected.digests.end())
      differences.push_back(fmt::format("the procedure `{}` of this version of Dragoman is not there yet", mine.name));
    else if (digest->second != mine.digest && differences.empty())
      differences.push_back(fmt::format("the procedure `{}` is of another version of Dragoman", mine.name));
  }
  if (seen.columns.empty())
    differences.push_back(fmt::format("the table {} was dropped", kTable));
  else if (!seen.columns.contains(kTableColumn) && differences.empty())
    differences.push_back(fmt::format("the table {} is of an earlier version of Dragoman", kTable));
  for (const CustomField& field : expected.fields)
    if (field.unique && !seen.indexes.contains(unique_index(field)))
      differences.push_back(fmt::format("the unique index over {}.{} was dropped", field.model, field.name));
  return differences;
}

}  // namespace dragoman::connectors::odoo
