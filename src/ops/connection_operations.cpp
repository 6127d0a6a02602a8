#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "connectors/odoo/provision.h"
#include "jobs/board.h"
#include "jobs/schedules.h"
#include "json/records.h"
#include "json/scan.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_probe.h"
#include "pipeline/sync.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

Field name_field() {
  return {.name = "name", .doc = "name of the connection", .required = true, .positional = true};
}

std::vector<Field> connection_columns() {
  return {{.name = "name", .doc = "its name", .required = true},
          {.name = "kind", .doc = "the connector", .required = true},
          {.name = "state", .doc = "`active`, `paused` or `error`", .required = true},
          {.name = "reason", .doc = "why it is paused or in error"},
          {.name = "error", .doc = "of `list`: why it waits, with when it tries again"},
          {.name = "alarm", .doc = "what somebody changed of what `provision apply` made in Odoo"},
          {.name = "settings", .type = Type::object, .doc = "without secrets", .hidden = true},
          {.name = "learnt", .type = Type::object, .doc = "what is known of the server", .hidden = true},
          {.name = "created", .type = Type::time, .hidden = true},
          {.name = "changed", .type = Type::time}};
}

std::string alarm_of(const pipeline::Connection& connection) {
  const auto state = connectors::odoo::provisioned(connection);
  return state ? state->difference : std::string();
}

json shape(const pipeline::Connection& connection) {
  return {{"name", connection.name},
          {"kind", connection.kind},
          {"state", connection.state},
          {"reason", connection.reason},
          {"alarm", alarm_of(connection)},
          {"settings", connection.settings},
          {"learnt", connection.learnt.is_object() ? connection.learnt : json::object()},
          {"created", format_iso(connection.created)},
          {"changed", format_iso(connection.changed)}};
}

Type type_of(const std::string& setting_type) {
  return setting_type == "number"    ? Type::integer
         : setting_type == "boolean" ? Type::boolean
         : setting_type == "list"    ? Type::list
         : setting_type == "object"  ? Type::object
                                     : Type::text;
}

// The settings of all connectors as inputs: the connector's own check says which of them it takes.
std::vector<Field> setting_fields(const pipeline::ConnectorList& connectors) {
  std::vector<Field> fields;
  for (const auto& connector : connectors.all()) {
    for (const auto& setting : connector.settings) {
      if (std::any_of(fields.begin(), fields.end(), [&](const Field& known) { return known.name == setting.name; }))
        continue;
      std::string doc = setting.doc;
      if (setting.required) doc += " (needed)";
      fields.push_back({.name = setting.name, .type = type_of(setting.type), .doc = doc});
    }
  }
  return fields;
}

json settings_of(const json& input, const pipeline::ConnectorList& connectors) {
  json settings = json::object();
  for (const Field& field : setting_fields(connectors))
    if (const auto found = input.find(field.name); found != input.end()) settings[field.name] = *found;
  // Ids given as text on the command line are numbers in the connectors' settings.
  if (const auto companies = settings.find("companies"); companies != settings.end())
    for (auto& company : *companies)
      if (company.is_string())
        company = value_of({.name = "companies", .type = Type::integer}, company.get_ref<const std::string&>());
  return settings;
}

json state_of(const pipeline::Connection& connection) {
  return {{"state", connection.state}, {"reason", connection.reason}};
}

// Sets a connection's state, acts on it, and answers the connection as it is now.
std::string change_state(Context& context, const std::string& name, const std::function<void()>& change) {
  auto& services = context.services;
  const auto before = services.connections.get(name);
  context.note.before = dump(state_of(before));
  change();
  services.sync.refresh(name);
  const auto now = services.connections.get(name);
  context.note.after = dump(state_of(now));
  return dump(shape(now));
}

Secret secret_of(const json& input) {
  return Secret(input.value("secret", std::string()));
}

// What goes to an Odoo needs one that orders can go to; found out later, it would be orders that are stuck.
void check_odoo(Services& services, const std::string& kind, const json& settings) {
  if (services.connectors.get(kind).make_marketplace)
    pipeline::odoo_of(services.connections, services.connectors, settings);
}

// Orders are known by their connection: one account under two names would put each of them into Odoo twice.
void refuse_same_account(Services& services, const std::string& name, const std::string& kind, const json& settings,
                         const Secret& secret) {
  if (!services.connectors.get(kind).make_marketplace) return;
  for (const auto& other : services.connections.list()) {
    if (other.name == name || other.kind != kind || other.settings.value("url", "") != settings.value("url", ""))
      continue;
    // Several accounts of one token are told apart by it.
    const std::string code = settings.value("supplier_code", ""), theirs = other.settings.value("supplier_code", "");
    if (!code.empty() && !theirs.empty() && code != theirs) continue;
    try {
      if (!services.connections.secret(other).equals(secret.reveal())) continue;
    } catch (const Error& error) {
      ignore_error("sealed with another key, it can't be compared", error);
      continue;
    }
    Error error(Error::Kind::conflict,
                fmt::format("The connection `{0}` is to the same account already (the same address and token): each "
                            "order would come into Odoo twice. Change it with `dragoman connection update {0}`, or "
                            "give the other account's token. Where one token covers several accounts, each connection "
                            "says which it is of by its setting `supplier_code`.",
                            other.name));
    error.code = "same_account";
    throw error;
  }
}

// Orders of another account would come in a second time by the connection that is made for that one, and nothing more
// would be heard of those that are here.
void refuse_other_orders(Services& services, const pipeline::Connection& connection, const std::string& code) {
  if (code.empty()) return;
  std::int64_t others = 0;
  std::string first;
  services.store.read([&](store::Session& session) {
    others = 0;
    session.query(
        "SELECT o.external_id, v.body FROM market_order o JOIN model m ON m.connection_id = o.connection_id AND m.name "
        "= "
        "$2 JOIN snapshot s ON s.model_id = m.id AND s.external_id = o.id JOIN change v ON v.number = s.change_number "
        "WHERE o.connection_id = $1 ORDER BY o.id",
        {connection.id, std::string_view(pipeline::kOrderModel)}, [&](const store::Row& row) {
          if (row.is_null(1)) return;
          const auto said = dragoman::json::field(row.bytes(1), "supplier_code");
          if (!said) return;
          const std::string theirs = said->front() == '"' ? dragoman::json::unquote(*said) : std::string(*said);
          if (theirs.empty() || theirs == "null" || theirs == code) return;
          if (++others == 1) first = fmt::format("{} (`{}`)", row.text(0), theirs);
        });
  });
  if (others == 0) return;
  Error error(
      Error::Kind::conflict,
      fmt::format("{} orders of other accounts of the token came in through `{}`, such as {}: by a connection of "
                  "their own they would come into Odoo a second time. `supplier_code` is said before the first "
                  "order comes in; this connection stays the one for all of them.",
                  others, connection.name, first));
  error.code = "other_account";
  throw error;
}

std::vector<Field> removal_fields() {
  const auto count = [](const char* name, const char* doc) {
    return Field{.name = name, .type = Type::integer, .doc = doc, .required = true};
  };
  return {{.name = "connection", .doc = "its name", .required = true},
          {.name = "removed", .doc = "its name as well; null: this was a dry run"},
          count("records", "captured records"),
          count("versions", "their versions, which are entries of the change feed"),
          count("jobs", "jobs that have not begun, and dead letters: cancelled"),
          count("mappings", "which record here is which there"),
          count("requests", "requests that the inbox took in for it"),
          count("orders", "of a marketplace"),
          count("products", "of a marketplace, with their links"),
          {.name = "schedules",
           .type = Type::list,
           .doc = "its schedules that were active: in error from then on",
           .required = true},
          {.name = "marketplaces",
           .type = Type::list,
           .doc = "connections whose orders go to it: they have no Odoo then",
           .required = true}};
}

// What removing a connection deletes, and stops.
json removal_of(Services& services, const pipeline::Connection& connection) {
  const auto held = services.connections.holdings(connection);
  std::int64_t jobs = 0;
  for (const auto& lane : services.jobs.lanes())
    if (lane.connection_id == connection.id) jobs += lane.waiting() + lane.dead;
  json schedules = json::array();
  services.store.read([&](store::Session& session) {
    schedules = json::array();
    for (const auto& one : services.schedules.list(session))
      if (one.spec.connection_id == connection.id && one.state == "active") schedules.push_back(one.spec.name);
  });
  return {{"connection", connection.name},
          {"removed", nullptr},
          {"records", held.records},
          {"versions", held.versions},
          {"jobs", jobs},
          {"mappings", held.mappings},
          {"requests", held.requests},
          {"orders", held.orders},
          {"products", held.products},
          {"schedules", schedules},
          {"marketplaces", held.marketplaces}};
}

// `3 records, 5 versions and 1 schedule`; empty: nothing.
std::string removal_in_words(const json& removal) {
  std::vector<std::string> parts;
  for (const auto& [name, word] : {std::pair{"records", "record"},
                                   {"versions", "version"},
                                   {"jobs", "job"},
                                   {"mappings", "mapping"},
                                   {"requests", "request"},
                                   {"orders", "order"},
                                   {"products", "product"}})
    if (const auto count = removal.at(name).get<std::int64_t>(); count > 0)
      parts.push_back(fmt::format("{} {}{}", count, word, count == 1 ? "" : "s"));
  if (parts.empty()) return {};
  const std::string last = std::move(parts.back());
  parts.pop_back();
  return parts.empty() ? last : fmt::format("{} and {}", fmt::join(parts, ", "), last);
}

std::string remove_connection(Context& context, const json& input) {
  auto& services = context.services;
  const auto connection = services.connections.get(input.at("name"));
  json removal = removal_of(services, connection);
  if (input.at("dry_run").get<bool>()) return dump(removal);
  if (input.value("confirm", "") != connection.name) {
    const std::string what = removal_in_words(removal);
    throw Error(Error::Kind::invalid,
                fmt::format("Removing `{0}` deletes {1}, and there is no way back. If that is meant, `confirm` must be "
                            "`{0}` (on the command line: `--yes`).",
                            connection.name, what.empty() ? "its settings and its secret" : what));
  }
  context.note.before = dump(shape(connection));
  // Paused first, so that nothing is written for it any more.
  services.connections.set_state(connection.name, "paused", "being removed");
  services.sync.refresh(connection.name);
  std::vector<std::string> schedules;
  services.store.write([&](store::Session& session) {
    schedules = services.schedules.connection_is_gone(session, connection.id, session.now());
  });
  removal = removal_of(services, connection);  // what came in meanwhile goes as well
  services.connections.remove(connection.name, context.stop);
  services.sync.refresh(connection.name);
  services.jobs.connection_is_gone(connection.id, {.who = context.caller, .why = "its connection was removed"});
  removal["removed"] = connection.name;
  removal["schedules"] = schedules;
  context.note.after = dump(removal);
  return dump(removal);
}

json probe_shape(const pipeline::Probe& probe) {
  json steps = json::array();
  for (const auto& step : probe.steps) steps.push_back({{"step", step.name}, {"ok", step.ok}, {"result", step.result}});
  return {{"ok", probe.ok()}, {"steps", steps}};
}

}  // namespace

std::vector<Operation> connection_operations(const pipeline::ConnectorList& connectors) {
  std::vector<std::string> kinds;
  std::string secret_doc;
  for (const auto& connector : connectors.all()) {
    kinds.push_back(connector.kind);
    secret_doc += (secret_doc.empty() ? "" : "; ") + connector.kind + ": " + connector.secret_doc;
  }
  const Field secret{.name = "secret", .doc = secret_doc + "; kept encrypted, never shown", .secret = true};
  Field first_secret = secret;
  first_secret.required = true;

  std::vector<Field> add_inputs{name_field(),
                                {.name = "kind",
                                 .doc = "the connector",
                                 .fallback = json(kinds.empty() ? "" : kinds.front()).dump(),
                                 .choices = kinds},
                                first_secret};
  std::vector<Field> update_inputs{name_field(), secret};
  for (const Field& field : setting_fields(connectors)) {
    add_inputs.push_back(field);
    update_inputs.push_back(field);
  }
  update_inputs.push_back({.name = "same_records",
                           .type = Type::boolean,
                           .doc = "the new address or database holds the same records: it moved",
                           .fallback = "false"});

  std::vector<Operation> all;
  all.push_back({
      .name = "connection add",
      .summary = "Connects the hub to an account at a remote system",
      .description = "The connection is active at once: a running hub begins to pull. `connection test` tells whether "
                     "the account works.",
      .method = "POST",
      .path = "/connections",
      .permission = Role::manager,
      .inputs = add_inputs,
      .output = {.fields = connection_columns()},
      .run =
          [](Context& context, const json& input) {
            auto& services = context.services;
            const std::string kind = input.at("kind");
            const json settings = services.connectors.check_settings(kind, settings_of(input, services.connectors));
            check_odoo(services, kind, settings);
            refuse_same_account(services, input.at("name"), kind, settings, secret_of(input));
            const auto added = services.connections.add(input.at("name"), kind, settings, secret_of(input));
            services.sync.refresh(added.name);
            return dump(shape(added));
          },
  });
  all.push_back({
      .name = "connection update",
      .summary = "Changes settings or the secret of a connection",
      .description = "Settings that are not given stay as they are. A connection in error becomes active again.",
      .method = "PATCH",
      .path = "/connections/{name}",
      .permission = Role::manager,
      .inputs = update_inputs,
      .output = {.fields = connection_columns()},
      .run =
          [](Context& context, const json& input) {
            auto& services = context.services;
            const auto before = services.connections.get(input.at("name"));
            json settings = before.settings;
            settings.update(settings_of(input, services.connectors));
            settings = services.connectors.check_settings(before.kind, settings);
            check_odoo(services, before.kind, settings);
            const Secret given = secret_of(input);
            if (!given.empty() || settings.value("url", "") != before.settings.value("url", "") ||
                settings.value("supplier_code", "") != before.settings.value("supplier_code", ""))
              refuse_same_account(services, before.name, before.kind, settings,
                                  given.empty() ? services.connections.secret(before) : given);
            if (settings.value("supplier_code", "") != before.settings.value("supplier_code", ""))
              refuse_other_orders(services, before, settings.value("supplier_code", ""));
            const auto updated =
                services.connections.update(before.name, settings, secret_of(input), input.at("same_records"));
            services.sync.refresh(updated.name);
            services.jobs.connection_is_well(updated.id);
            const bool resealed = !input.value("secret", std::string()).empty();
            context.note.before = dump({{"settings", before.settings}});
            context.note.after = dump({{"settings", updated.settings}, {"new_secret", resealed}});
            return dump(shape(updated));
          },
  });
  all.push_back({
      .name = "connection list",
      .summary = "Lists the connections",
      .method = "GET",
      .path = "/connections",
      .permission = Role::viewer,
      .output = {.rows = "connections", .columns = connection_columns()},
      .run =
          [](Context& context, const json&) {
            json rows = json::array();
            std::map<std::string, std::string> errors;
            for (const auto& status : context.services.sync.status("")) errors[status.connection] = status.error;
            for (const auto& connection : context.services.connections.list()) {
              rows.push_back(shape(connection));
              rows.back()["error"] = errors[connection.name];
            }
            return dump({{"connections", rows}});
          },
  });
  all.push_back({
      .name = "connection show",
      .summary = "Shows a connection's settings and state",
      .method = "GET",
      .path = "/connections/{name}",
      .permission = Role::viewer,
      .inputs = {name_field()},
      .output = {.fields = connection_columns()},
      .run = [](Context& context,
                const json& input) { return dump(shape(context.services.connections.get(input.at("name")))); },
  });
  all.push_back({
      .name = "connection test",
      .summary = "Tries a connection step by step and says what is wrong",
      .description = "Changes nothing, here or there.",
      .method = "POST",
      .path = "/connections/{name}/test",
      .permission = Role::user,
      .inputs = {name_field()},
      .output = {.fields = {{.name = "ok", .type = Type::boolean, .doc = "every step went well", .required = true}},
                 .rows = "steps",
                 .columns = {{.name = "step", .doc = "what was tried", .required = true},
                             {.name = "ok", .type = Type::boolean, .required = true},
                             {.name = "result", .doc = "what came of it, and what to do", .required = true}},
                 .verdict = "ok"},
      .run =
          [](Context& context, const json& input) {
            return dump(probe_shape(context.services.sync.test(input.at("name"), context.stop)));
          },
      .slow = true,
  });
  all.push_back({
      .name = "connection pause",
      .summary = "Stops reading and delivering through a connection until it is resumed",
      .description =
          "Its jobs wait. `flow pause connection NAME` holds back the jobs alone. A reason given for one that is "
          "paused already joins the first.",
      .method = "POST",
      .path = "/connections/{name}/pause",
      .permission = Role::user,
      .inputs = {name_field(), {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"}},
      .output = {.fields = connection_columns()},
      .run =
          [](Context& context, const json& input) {
            const std::string name = input.at("name");
            return change_state(context, name, [&] {
              context.services.connections.pause(name, context.caller, input.value("reason", ""));
            });
          },
  });
  all.push_back({
      .name = "connection resume",
      .summary = "Goes on with a connection that is paused or in error",
      .method = "POST",
      .path = "/connections/{name}/resume",
      .permission = Role::user,
      .inputs = {name_field()},
      .output = {.fields = connection_columns()},
      .run =
          [](Context& context, const json& input) {
            const std::string name = input.at("name");
            auto answer =
                change_state(context, name, [&] { context.services.connections.set_state(name, "active", ""); });
            context.services.jobs.connection_is_well(context.services.connections.get(name).id);
            return answer;
          },
  });
  all.push_back({
      .name = "connection remove",
      .summary = "Forgets a connection with everything captured through it",
      .description =
          "All records, their history and their place in the change feed are deleted here, and its jobs "
          "are cancelled; its schedules are in error until they are given another or removed. Nothing "
          "changes at the remote system; of its open orders a marketplace is told nothing any more. There is "
          "no way back, except from a backup. `dry_run` shows how much it is, and changes nothing. If it "
          "is cut off, the connection stays paused with what is left: remove it again.",
      .method = "DELETE",
      .path = "/connections/{name}",
      .permission = Role::manager,
      .inputs =
          {name_field(),
           {.name = "confirm",
            .doc = "the connection's name once more, to be sure; not needed for a dry run",
            .repeats = "name"},
           {.name = "dry_run", .type = Type::boolean, .doc = "only say what would be deleted", .fallback = "false"}},
      .output = {.fields = removal_fields()},
      .run = remove_connection,
      .slow = true,
  });
  return all;
}

}  // namespace dragoman::ops
