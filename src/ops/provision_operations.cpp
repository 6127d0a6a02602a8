#include "ops/provision_operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "connectors/odoo/models.h"
#include "connectors/odoo/odoo_source.h"
#include "connectors/odoo/provision.h"
#include "jobs/board.h"
#include "notify/alert.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/sync.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

namespace odoo = connectors::odoo;
using access::Role;
using nlohmann::json;

Field name_field() {
  return {.name = "name", .doc = "name of the connection", .required = true, .positional = true};
}

std::vector<Field> admin_fields() {
  return {
      {.name = "admin_login", .doc = "login of an administrator of that Odoo, used for this once", .required = true},
      {.name = "admin_password",
       .doc = "that administrator's password or API key; neither stored nor logged",
       .secret = true}};
}

std::vector<Field> wanted_fields() {
  auto fields = admin_fields();
  fields.insert(fields.begin(), name_field());
  fields.push_back({.name = "user",
                    .doc =
                        "`existing`: the connection's login gets the group; `hub`: the hub makes a limited user of its "
                        "own, whose password it keeps sealed, and the connection uses that; left out: as it was "
                        "applied before, else existing",
                    .choices = {"existing", "hub"}});
  fields.push_back({.name = "user_login", .doc = "of `--user hub`: its login", .fallback = R"("dragoman")"});
  fields.push_back({.name = "fields",
                    .type = Type::list,
                    .doc = "fields to make besides, as sale.order.x_market_ref, with :TYPE, :many2one=MODEL or :unique "
                           "behind; those that were applied before stay"});
  fields.push_back({.name = "market",
                    .type = Type::boolean,
                    .doc =
                        "also the fields and indexes that marketplaces need; so it is anyway where a connection of a "
                        "marketplace names this one",
                    .fallback = "false"});
  return fields;
}

Output step_output(bool applied) {
  Output output;
  output.fields = {{.name = "connection", .required = true},
                   {.name = "changes",
                    .type = Type::integer,
                    .doc = applied ? "how many things were made, changed or removed"
                                   : "how many things would be made, changed or removed",
                    .required = true}};
  output.rows = "steps";
  output.columns = {
      {.name = "change", .doc = "nothing, create, change or remove", .required = true},
      {.name = "object", .doc = "group, user, grant, right, field, index, table or procedure", .required = true},
      {.name = "name", .required = true},
      {.name = "detail", .doc = "what exactly is made or changed"},
      {.name = "why", .doc = "what it is for"}};
  return output;
}

std::string steps_text(const std::string& connection, const std::vector<odoo::ProvisionStep>& steps,
                       json answer = json::object()) {
  json rows = json::array();
  int changes = 0;
  for (const auto& step : steps) {
    rows.push_back({{"change", odoo::name(step.change)},
                    {"object", step.object},
                    {"name", step.name},
                    {"detail", step.detail},
                    {"why", step.why}});
    if (step.change != odoo::ProvisionStep::Change::none) ++changes;
  }
  answer.update({{"connection", connection}, {"changes", changes}, {"steps", rows}});
  return dump(answer);
}

// One Odoo, by an administrator's hand. What a person waits for runs on the clock of people.
struct Work {
  pipeline::Connection connection;
  SystemClock clock;
  SystemRandom random;
  std::unique_ptr<odoo::rpc::Client> admin;
  std::unique_ptr<odoo::Provisioning> provisioning;
};

std::unique_ptr<odoo::rpc::Client> open(const pipeline::Connection& connection, const std::string& login,
                                        const Secret& secret, bool own, Clock& clock) {
  auto settings = odoo::OdooSettings::parse(connection.settings, secret).client;
  settings.login = login;
  if (!own) settings.transport.reset();  // the connection's own may not take a password
  return std::make_unique<odoo::rpc::Client>(std::move(settings), clock);
}

pipeline::Connection odoo_connection(Services& services, const std::string& name) {
  auto connection = services.connections.get(name);
  if (connection.kind != "odoo")
    throw Error(Error::Kind::invalid, fmt::format("The connection `{}` is one of kind {}: only an Odoo is provisioned.",
                                                  name, connection.kind));
  return connection;
}

// Whether a marketplace's orders go into this Odoo.
bool has_marketplace(Services& services, const pipeline::Connection& odoo) {
  for (const auto& one : services.connections.list()) {
    const auto& settings = one.settings;
    if (settings.is_object() && settings.value("odoo", json()) == odoo.name &&
        services.connectors.get(one.kind).make_marketplace)
      return true;
  }
  return false;
}

std::unique_ptr<Work> begin(Context& context, const json& input, bool wanting) {
  auto work = std::make_unique<Work>();
  work->connection = odoo_connection(context.services, input.at("name"));
  const auto& connection = work->connection;
  const Secret password(input.value("admin_password", std::string()));
  if (password.empty())
    throw Error(Error::Kind::invalid,
                "An administrator's password is needed: on a terminal it is asked for, else give it by "
                "--admin-password-file.");
  const std::string login = connection.settings.value("login", "");
  const Secret secret = context.services.connections.secret(connection);
  work->admin = open(connection, input.at("admin_login"), password, false, work->clock);
  odoo::ProvisionOptions options;
  const auto before = odoo::provisioned(connection);
  if (before) {
    options.own_user = before->own_user;
    options.fields = before->fields;
    options.market = before->market;
    if (before->own_user) options.own_login = before->login;
  }
  if (wanting) {
    if (input.contains("user")) options.own_user = input.at("user") == "hub";
    if (!before || !before->own_user) options.own_login = input.value("user_login", "dragoman");
    options.market = options.market || input.value("market", false) || has_marketplace(context.services, connection);
    options.market_names = connection.settings.value("marketplace_fields", json::object());
    for (const std::string& text : texts(input, "fields")) {
      auto field = odoo::CustomField::parse(text);
      std::erase_if(options.fields,
                    [&](const auto& known) { return known.model == field.model && known.name == field.name; });
      options.fields.push_back(std::move(field));
    }
    if (options.own_user) {
      odoo::OdooSource source(odoo::OdooSettings::parse(connection.settings, password), work->clock);
      // The version is asked without a login.
      options.readable = source.default_models(context.stop);
      for (const char* model : {"res.company", "res.currency", "res.users", "res.groups"})
        if (std::find(options.readable.begin(), options.readable.end(), model) == options.readable.end())
          options.readable.push_back(model);
      options.companies = odoo::OdooSettings::parse(connection.settings, password).companies;
    }
  }
  work->provisioning = std::make_unique<odoo::Provisioning>(
      *work->admin,
      [work = work.get(), login](const std::string& user, const Secret& own) {
        return open(work->connection, user, own, user == login, work->clock);
      },
      login, secret, std::move(options), work->clock, work->random);
  return work;
}

void remember(Services& services, const pipeline::Connection& connection, const json& state) {
  services.connections.set_learnt(connection.id, json{{"provision", state}}.dump());
}

// Checks one connection and keeps what it found. Throws where Odoo does not answer.
std::vector<std::string> check(Services& services, const pipeline::Connection& connection, Clock& clock,
                               std::stop_token stop) {
  auto state = odoo::provisioned(connection);
  if (!state) odoo::action_of(connection, "inspect");  // says what to do
  const auto own =
      open(connection, connection.settings.value("login", ""), services.connections.secret(connection), true, clock);
  const auto differences = odoo::check_provisioned(*own, *state, stop);
  state->checked = format_iso(services.clock.now());
  const std::string before = state->difference;
  state->difference = fmt::format("{}", fmt::join(differences, "; "));
  remember(services, connection, state->json());
  if (differences.empty()) return differences;
  log::warning("what was provisioned was changed",
               {{"connection", connection.name}, {"difference", state->difference}});
  if (state->difference != before)
    services.store.write([&](store::Session& session) {
      notify::raise(session,
                    {.fingerprint = "provision:" + connection.name,
                     .severity = notify::Severity::critical,
                     .title = fmt::format("What the hub has in the Odoo of `{}` was changed", connection.name),
                     .text = fmt::format("{}. If nobody of yours did it, look who may edit server actions there. "
                                         "`dragoman provision apply {}` puts it right.",
                                         state->difference, connection.name),
                     .subject = connection.name,
                     .link = "dragoman provision check " + connection.name});
    });
  return differences;
}

// What a URL says of which server it is.
std::string server_of(const pipeline::Connection& connection) {
  std::string url = connection.settings.value("url", "");
  while (url.ends_with('/')) url.pop_back();
  for (char& c : url)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return url;
}

bool same_odoo(const pipeline::Connection& one, const pipeline::Connection& other) {
  const std::string here = one.settings.value("database", ""), there = other.settings.value("database", "");
  // Without a name it is the only one there.
  return server_of(one) == server_of(other) && (here == there || here.empty() || there.empty());
}

// The other connections to whose Odoo the same things were applied, or whose login is the hub's own user there.
std::vector<pipeline::Connection> also_using(Services& services, const pipeline::Connection& connection,
                                             const std::string& own_login) {
  std::vector<pipeline::Connection> others;
  for (auto& other : services.connections.list())
    if (other.id != connection.id && other.kind == "odoo" && same_odoo(connection, other) &&
        (odoo::provisioned(other) || (!own_login.empty() && other.settings.value("login", "") == own_login)))
      others.push_back(std::move(other));
  return others;
}

// Stops the connections whose login goes, so that nobody asks Odoo with it again and again. Those that it stopped, with
// the state before, to be put back where the login stays after all.
std::vector<pipeline::Connection> stop_without_login(Services& services, std::vector<pipeline::Connection> connections,
                                                     const std::string& own_login) {
  std::erase_if(connections, [&](const auto& one) {
    return own_login.empty() || one.settings.value("login", "") != own_login || one.state == "paused";
  });
  for (const auto& one : connections) {
    services.connections.set_state(
        one.name, "error",
        fmt::format("Its login `{0}` was taken out of Odoo by `provision remove`. Give it another (`dragoman "
                    "connection update {1} --login LOGIN --secret-file FILE`), or let the hub make its own again "
                    "(`dragoman provision apply {1} --user hub`).",
                    own_login, one.name));
    services.sync.refresh(one.name);
  }
  return connections;
}

}  // namespace

void check_provisioned_at_start(Services& services, std::stop_token stop) {
  SystemClock clock;
  std::set<std::string> open;
  for (const auto& connection : services.connections.list())
    if (connection.state != "paused" && odoo::provisioned(connection)) open.insert(connection.name);
  Micros pause = std::chrono::seconds(5);
  while (!open.empty() && !stop.stop_requested()) {
    for (auto at = open.begin(); at != open.end();) {
      bool again = false;
      try {
        const auto connection = services.connections.find(*at);
        if (connection && connection->state != "paused" && odoo::provisioned(*connection))
          check(services, *connection, clock, stop);
      } catch (const Error& error) {
        again = true;
        ignore_error("the procedures are checked again later", error);
      }
      at = again ? std::next(at) : open.erase(at);
    }
    if (open.empty() || !clock.wait(pause, stop)) return;
    pause = std::min<Micros>(pause * 2, std::chrono::minutes(10));
  }
}

std::vector<Operation> provision_operations() {
  std::vector<Operation> all;
  auto plan_inputs = wanted_fields();
  plan_inputs.push_back({.name = "removal",
                         .type = Type::boolean,
                         .doc = "show what `provision remove` would take away instead",
                         .fallback = "false"});
  all.push_back({
      .name = "provision plan",
      .summary = "Shows what `provision apply` would make in Odoo, and why",
      .description =
          "Reads and changes nothing. The administrator's login and password are used for this once; they are "
          "neither stored nor logged.",
      .method = "POST",
      .path = "/connections/{name}/provision/plan",
      .permission = Role::manager,
      .inputs = plan_inputs,
      .output = step_output(false),
      .run =
          [](Context& context, const json& input) {
            const auto work = begin(context, input, true);
            return steps_text(work->connection.name, input.at("removal").get<bool>()
                                                         ? work->provisioning->plan_removal(context.stop)
                                                         : work->provisioning->plan(context.stop));
          },
      .slow = true,
  });
  all.push_back({
      .name = "provision apply",
      .summary = "Makes in Odoo what the hub needs there: the group, the user, the procedures",
      .description = "May be repeated: what is as it should be stays, what somebody changed or an older version made "
                     "is put right, "
                     "and what a broken-off run left is finished. `provision plan` shows all of it beforehand. The "
                     "administrator's "
                     "login and password are used for this once; they are neither stored nor logged.",
      .method = "POST",
      .path = "/connections/{name}/provision/apply",
      .permission = Role::manager,
      .inputs = wanted_fields(),
      .output = step_output(true),
      .run =
          [](Context& context, const json& input) {
            auto& services = context.services;
            const auto work = begin(context, input, true);
            const auto& name = work->connection.name;
            auto applied = work->provisioning->apply(context.stop, [&](const std::string& login, const Secret& secret) {
              // Before anything else: nobody else knows this password.
              json settings = work->connection.settings;
              settings["login"] = login;
              settings.erase("transport");  // a password is not for JSON-2
              services.connections.update(name, services.connectors.check_settings("odoo", settings), secret);
            });
            applied.state.checked = format_iso(services.clock.now());
            remember(services, work->connection, applied.state.json());
            services.sync.refresh(name);
            // What waited for the procedures need not wait for the next probe.
            services.jobs.connection_is_well(work->connection.id);
            return steps_text(name, applied.steps);
          },
      .slow = true,
  });
  all.push_back({
      .name = "provision check",
      .summary = "Compares what is in Odoo with what `provision apply` put there",
      .description = "By the connection's own login. The hub does it by itself when it starts; what differs stands at "
                     "the connection as its alarm until a check finds all as it was.",
      .method = "POST",
      .path = "/connections/{name}/provision/check",
      .permission = Role::user,
      .inputs = {name_field()},
      .output =
          {.fields = {{.name = "connection", .required = true},
                      {.name = "ok", .type = Type::boolean, .doc = "all is as it was put there", .required = true}},
           .rows = "differences",
           .columns = {{.name = "difference", .doc = "what somebody changed", .required = true}},
           .verdict = "ok"},
      .run =
          [](Context& context, const json& input) {
            SystemClock clock;
            const auto connection = odoo_connection(context.services, input.at("name"));
            json rows = json::array();
            for (const auto& line : check(context.services, connection, clock, context.stop))
              rows.push_back({{"difference", line}});
            return dump({{"connection", connection.name}, {"ok", rows.empty()}, {"differences", rows}});
          },
      .slow = true,
  });
  std::vector<Field> remove_inputs = admin_fields();
  remove_inputs.insert(remove_inputs.begin(), name_field());
  remove_inputs.push_back({.name = "confirm",
                           .doc = "the connection's name once more, to be sure (on the command line: `--yes`)",
                           .required = true,
                           .repeats = "name"});
  remove_inputs.push_back({.name = "others_too",
                           .type = Type::boolean,
                           .doc = "although other connections to the same Odoo use it: they can't deliver any more",
                           .fallback = "false"});
  Output remove_output = step_output(true);
  remove_output.fields.push_back(
      {.name = "stopped",
       .type = Type::list,
       .doc = "connections that are in error now: their login was the hub's own user, which is gone",
       .required = true});
  all.push_back({
      .name = "provision remove",
      .summary = "Takes out of Odoo all that `provision apply` made there, and nothing else",
      .description = "Records that were imported stay, but their external keys are forgotten: imported once more, they "
                     "would be made once more. Fields go with their values. Afterwards it is read back that nothing is "
                     "left. `provision plan --removal` shows all of it beforehand. Refused while another connection to "
                     "the same Odoo uses it. A connection whose login was the hub's own user is stopped: that login is "
                     "gone.",
      .method = "POST",
      .path = "/connections/{name}/provision/remove",
      .permission = Role::manager,
      .inputs = remove_inputs,
      .output = remove_output,
      .run =
          [](Context& context, const json& input) {
            auto& services = context.services;
            if (input.at("confirm") != input.at("name"))
              throw Error(
                  Error::Kind::invalid,
                  fmt::format("Removing forgets which records were imported. If that is meant, `confirm` must be "
                              "`{}`.",
                              input.at("name").get<std::string>()));
            const auto connection = odoo_connection(services, input.at("name"));
            const auto before = odoo::provisioned(connection);
            const std::string own_login = before && before->own_user ? before->login : "";
            auto all_of_it = also_using(services, connection, own_login);
            if (!all_of_it.empty() && !input.at("others_too").get<bool>()) {
              std::vector<std::string> names;
              for (const auto& other : all_of_it) names.push_back("`" + other.name + "`");
              Error error(Error::Kind::conflict,
                          fmt::format("What is in the Odoo of `{}` is also used by {}, which could not deliver any "
                                      "more. Remove that connection first, or say `--others-too` if that is meant.",
                                      connection.name, fmt::join(names, ", ")));
              error.code = "used_by_others";
              throw error;
            }
            const auto work = begin(context, input, false);
            all_of_it.push_back(connection);
            const auto stopped = stop_without_login(services, all_of_it, own_login);
            std::vector<odoo::ProvisionStep> steps;
            try {
              steps = work->provisioning->remove(context.stop);
            } catch (const Error&) {
              // If the login is gone all the same, they find that out by themselves.
              for (const auto& one : stopped) {
                services.connections.set_state(one.name, one.state, one.reason);
                services.sync.refresh(one.name);
              }
              throw;
            }
            for (const auto& one : all_of_it) remember(services, one, nullptr);
            json names = json::array();
            for (const auto& one : stopped) names.push_back(one.name);
            return steps_text(connection.name, steps, {{"stopped", names}});
          },
      .slow = true,
  });
  return all;
}

}  // namespace dragoman::ops
