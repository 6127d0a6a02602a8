#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/guarded.h"
#include "jobs/board.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

std::vector<Field> token_columns() {
  return {{.name = "id", .type = Type::integer, .required = true},
          {.name = "name", .doc = "what it is for", .required = true},
          {.name = "prefix", .doc = "its first characters", .required = true},
          {.name = "role", .required = true, .choices = {"viewer", "user", "manager", "admin"}},
          {.name = "state", .doc = "`active`, `expired` or `revoked`", .required = true},
          {.name = "created", .type = Type::time, .required = true},
          {.name = "used", .type = Type::time, .doc = "to the minute; null: never"},
          {.name = "expires", .type = Type::time, .doc = "null: never"},
          {.name = "revoked", .type = Type::time, .hidden = true}};
}

json shape(const access::Token& token, Time now) {
  return {{"id", token.id},
          {"name", token.name},
          {"prefix", token.prefix},
          {"role", access::name(token.role)},
          {"state", token.state(now)},
          {"created", format_iso(token.created)},
          {"used", time_or_null(token.used)},
          {"expires", time_or_null(token.expires)},
          {"revoked", time_or_null(token.revoked)}};
}

// Whole, since the hub's working folder is nobody's business; a folder is not made, for it is most likely mistyped.
std::string backup_path(const std::string& given) {
  const auto path = std::filesystem::absolute(given).lexically_normal();
  std::error_code ignored;
  if (!std::filesystem::is_directory(path.parent_path(), ignored)) {
    Error error(Error::Kind::invalid,
                fmt::format("There is no folder {} on the hub's machine: make it first, or name another.",
                            path.parent_path().string()));
    error.code = "no_folder";
    throw error;
  }
  return path.string();
}

std::vector<Operation> store_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "store info",
      .summary = "Shows which database holds everything, its size and version",
      .method = "GET",
      .path = "/store",
      .permission = Role::viewer,
      .output = {.fields = {{.name = "engine", .required = true, .choices = {"sqlite", "postgres"}},
                            {.name = "location", .doc = "without password", .required = true},
                            {.name = "server_version", .required = true},
                            {.name = "schema_version", .type = Type::integer, .required = true},
                            {.name = "bytes", .type = Type::integer, .required = true},
                            {.name = "sync_mode", .doc = "how it makes commits durable", .required = true}}},
      .run =
          [](Context& context, const json&) {
            const auto info = context.services.store.info();
            return dump({{"engine", info.engine == store::Engine::sqlite ? "sqlite" : "postgres"},
                         {"location", info.location},
                         {"server_version", info.server_version},
                         {"schema_version", info.schema_version},
                         {"bytes", info.bytes},
                         {"sync_mode", info.sync_mode}});
          },
  });
  all.push_back({
      .name = "store backup",
      .summary = "Writes a consistent copy of the database to a file, while the hub goes on",
      .description = "The path is on the hub's machine. The file must not exist, and its folder must. The key of the "
                     "secrets is not in it: keep "
                     "the key file as well, elsewhere.",
      .method = "POST",
      .path = "/store/backup",
      .permission = Role::admin,
      .inputs = {{.name = "path", .doc = "where to", .required = true, .positional = true}},
      .output = {.fields = {{.name = "path", .doc = "the whole of it", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto path = backup_path(input.at("path"));
            context.services.store.backup(path);
            return dump({{"path", path}});
          },
      .slow = true,
  });
  all.push_back({
      .name = "store rotate-key",
      .summary = "Makes a new key for the secrets and seals all of them anew",
      .method = "POST",
      .path = "/store/rotate-key",
      .permission = Role::admin,
      .output = {.fields = {{.name = "secrets",
                             .type = Type::integer,
                             .doc = "how many were sealed anew",
                             .required = true}}},
      .run = [](Context& context, const json&) { return dump({{"secrets", context.services.rotate_key()}}); },
      .slow = true,
  });
  return all;
}

std::vector<Operation> token_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "token create",
      .summary = "Makes an API token, and shows it this once",
      .method = "POST",
      .path = "/tokens",
      .permission = Role::admin,
      .inputs = {{.name = "name", .doc = "who or what it is for", .required = true, .positional = true},
                 {.name = "role",
                  .doc = "what it may do",
                  .fallback = R"("viewer")",
                  .choices = {"viewer", "user", "manager", "admin"}},
                 {.name = "expires", .type = Type::time, .doc = "when it ends; left out: never"}},
      .output = {.fields =
                     [] {
                       auto fields = token_columns();
                       fields.push_back(
                           {.name = "token", .doc = "the token itself: it can't be shown again", .required = true});
                       return fields;
                     }()},
      .run =
          [](Context& context, const json& input) {
            std::optional<Time> expires;
            if (input.contains("expires")) expires = parse_time(input.at("expires").get<std::string>());
            const auto role = access::role(input.at("role").get<std::string>());
            const auto issued = context.services.tokens.create(input.at("name"), role.value_or(Role::viewer), expires);
            json answer = shape(issued.token, context.services.clock.now());
            answer["token"] = issued.secret.reveal();
            return dump(answer);
          },
  });
  all.push_back({
      .name = "token list",
      .summary = "Lists the API tokens, without the tokens themselves",
      .method = "GET",
      .path = "/tokens",
      .permission = Role::admin,
      .output = {.rows = "tokens", .columns = token_columns()},
      .run =
          [](Context& context, const json&) {
            json rows = json::array();
            for (const auto& token : context.services.tokens.list())
              rows.push_back(shape(token, context.services.clock.now()));
            return dump({{"tokens", rows}});
          },
  });
  all.push_back({
      .name = "token revoke",
      .summary = "Ends an API token",
      .description = "Other hubs on the same database refuse it within two seconds.",
      .method = "DELETE",
      .path = "/tokens/{token}",
      .permission = Role::admin,
      .inputs = {{.name = "token", .doc = "its id or prefix", .required = true, .positional = true}},
      .output = {.fields = token_columns()},
      .run =
          [](Context& context, const json& input) {
            return dump(shape(context.services.tokens.revoke(input.at("token")), context.services.clock.now()));
          },
  });
  return all;
}

// Who watches asks often, and many do; counting reads every lane.
constexpr Micros kStatusAge = std::chrono::milliseconds(250);

// What of the status costs something.
struct Recent {
  std::optional<Time> at;
  jobs::JobCounts counts;
  std::string trouble;
};

std::optional<Recent> recent_if_young(Guarded<Recent>& recent, Time now) {
  auto held = recent.lock();
  if (!held->at || *held->at > now || now - *held->at >= kStatusAge) return std::nullopt;
  return *held;
}

Recent recent_or_new(Guarded<Recent>& recent, Context& context) {
  const Time now = context.services.clock.now();
  if (auto known = recent_if_young(recent, now)) return *std::move(known);
  const Recent fresh{now, context.services.jobs.counts(), context.services.trouble ? context.services.trouble() : ""};
  *recent.lock() = fresh;
  return fresh;
}

std::string status_of(Context& context, const Recent& recent) {
  const auto& jobs = recent.counts;
  return dump({{"version", context.services.version},
               {"started", format_iso(context.services.started)},
               {"now", format_iso(context.services.clock.now())},
               {"jobs_accepted", jobs.accepted()},
               {"jobs_waiting", jobs.waiting},
               {"jobs_running", jobs.running},
               {"jobs_done", jobs.done},
               {"jobs_cancelled", jobs.cancelled},
               {"jobs_dead", jobs.dead},
               {"trouble", recent.trouble}});
}

}  // namespace

std::vector<Operation> hub_operations() {
  std::vector<Operation> all = store_operations();
  all.push_back({
      .name = "config show",
      .summary = "Shows every setting with its value and where it comes from",
      .method = "GET",
      .path = "/config",
      .permission = Role::manager,
      .output = {.rows = "settings",
                 .columns = {{.name = "key", .required = true},
                             {.name = "value", .doc = "masked where it is secret", .required = true},
                             {.name = "origin",
                              .doc = "`default`, the file and line, the environment variable, or the flag",
                              .required = true},
                             {.name = "doc", .hidden = true}}},
      .run =
          [](Context& context, const json&) {
            json rows = json::array();
            for (const auto& line : context.services.config())
              rows.push_back({{"key", line.key}, {"value", line.value}, {"origin", line.origin}, {"doc", line.doc}});
            return dump({{"settings", rows}});
          },
  });
  for (auto& operation : token_operations()) all.push_back(std::move(operation));
  const auto recent = std::make_shared<Guarded<Recent>>();
  all.push_back({
      .name = "status",
      .summary = "Shows that the hub runs, since when, and in which version",
      .method = "GET",
      .path = "/status",
      .permission = Role::viewer,
      .output = {.fields = {{.name = "version", .required = true},
                            {.name = "started", .type = Type::time, .required = true},
                            {.name = "now", .type = Type::time, .doc = "by the hub's clock", .required = true},
                            {.name = "jobs_accepted",
                             .type = Type::integer,
                             .doc = "ever: the sum of the five below; counted at most a quarter of a second ago",
                             .required = true},
                            {.name = "jobs_waiting", .type = Type::integer, .required = true},
                            {.name = "jobs_running", .type = Type::integer, .required = true},
                            {.name = "jobs_done", .type = Type::integer, .required = true},
                            {.name = "jobs_cancelled", .type = Type::integer, .required = true},
                            {.name = "jobs_dead",
                             .type = Type::integer,
                             .doc = "dead letters, which wait for a person",
                             .required = true},
                            {.name = "trouble", .doc = "why this hub should not be given work; empty: all is well"}}},
      .run = [recent](Context& context, const json&) { return status_of(context, recent_or_new(*recent, context)); },
      .at_once = [recent](Context& context) -> std::optional<std::string> {
        const auto known = recent_if_young(*recent, context.services.clock.now());
        if (!known) return std::nullopt;
        return status_of(context, *known);
      },
  });
  return all;
}

}  // namespace dragoman::ops
