#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/sync.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

Field optional_connection() {
  return {.name = "connection", .doc = "name of the connection; left out: all", .positional = true};
}

Field models_field(std::string doc) {
  return {.name = "models", .type = Type::list, .doc = std::move(doc), .positional = true};
}

double seconds(Micros micros) {
  return std::chrono::duration<double>(micros).count();
}

json shape(const pipeline::ModelStatus& model) {
  return {{"connection", model.connection},
          {"model", model.model},
          {"phase", model.phase},
          {"done", model.done},
          {"total", model.phase == "pulling" ? json(model.total) : json(nullptr)},
          {"records_per_second", std::round(model.rate * 10) / 10},
          {"seconds_left", model.left ? json(std::llround(seconds(*model.left))) : json(nullptr)},
          {"changes", model.changes},
          {"polled", time_or_null(model.polled)},
          {"swept", time_or_null(model.swept)},
          {"state", model.state},
          {"reason", model.reason},
          {"alarm", model.alarm},
          {"error", model.error}};
}

std::vector<Field> status_columns() {
  return {
      {.name = "connection", .required = true},
      {.name = "model", .required = true},
      {.name = "phase", .doc = "`pulling`, `following`, `sweeping`, `waiting` or `unavailable`", .required = true},
      {.name = "done",
       .type = Type::integer,
       .doc = "records pulled by the full pull under way, or held",
       .required = true},
      {.name = "total", .type = Type::integer, .doc = "records that the server counted when the pull under way began"},
      {.name = "records_per_second", .type = Type::text, .doc = "of the pull under way, a number", .hidden = true},
      {.name = "seconds_left", .type = Type::integer, .doc = "of the pull under way, an estimate"},
      {.name = "changes", .type = Type::integer, .doc = "found since this hub started", .required = true},
      {.name = "polled", .type = Type::time, .doc = "when changes were last asked for"},
      {.name = "swept", .type = Type::time, .doc = "when every id was last compared", .hidden = true},
      {.name = "state", .hidden = true},
      {.name = "reason", .doc = "why it is unavailable"},
      {.name = "alarm", .hidden = true},
      {.name = "error", .doc = "the last one, while it stands"}};
}

// All names, or the one that was given (which must exist).
std::vector<std::string> names_of(Context& context, const json& input) {
  std::vector<std::string> names;
  if (input.contains("connection")) {
    names.push_back(context.services.connections.get(input.at("connection")).name);
  } else {
    for (const auto& connection : context.services.connections.list()) names.push_back(connection.name);
  }
  return names;
}

// Sets the state of all connections that are in state `from`, or of the one that was named.
std::string switch_state(Context& context, const json& input, const std::string& from, const std::string& to) {
  auto& services = context.services;
  json rows = json::array();
  for (const auto& name : names_of(context, input)) {
    if (input.contains("connection") || services.connections.get(name).state == from) {
      if (to == "paused")
        services.connections.pause(name, context.caller, input.value("reason", ""));
      else
        services.connections.set_state(name, to, "");
      services.sync.refresh(name);
    }
    const auto now = services.connections.get(name);
    rows.push_back({{"name", now.name}, {"state", now.state}, {"reason", now.reason}});
  }
  return dump({{"connections", rows}});
}

const Output kStates{
    .rows = "connections",
    .columns = {
        {.name = "name", .required = true}, {.name = "state", .required = true}, {.name = "reason", .required = true}}};

}  // namespace

std::vector<Operation> sync_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "sync run",
      .summary = "Brings a connection's records up to date now, and says what was found",
      .description =
          "What is not pulled yet is pulled; then changes and deletions up to now are found. A model that is "
          "named and not captured yet is added. Answers when it is done.",
      .method = "POST",
      .path = "/connections/{connection}/sync",
      .permission = Role::user,
      .inputs = {connection_field(),
                 models_field("only these; left out: all that are captured"),
                 {.name = "full",
                  .type = Type::boolean,
                  .doc = "read every record again, changed or not",
                  .fallback = "false"},
                 {.name = "accept_deletions",
                  .type = Type::boolean,
                  .doc = "record deletions even where a third of a model is gone, which is withheld otherwise",
                  .fallback = "false"}},
      .output = {.fields = {{.name = "connection", .required = true},
                            {.name = "created", .type = Type::integer, .required = true},
                            {.name = "changed", .type = Type::integer, .required = true},
                            {.name = "deleted", .type = Type::integer, .required = true},
                            {.name = "unchanged", .type = Type::integer, .required = true},
                            {.name = "calls", .type = Type::integer, .doc = "to the remote", .required = true},
                            {.name = "bytes", .type = Type::integer, .doc = "received", .required = true},
                            {.name = "milliseconds", .type = Type::integer, .required = true},
                            {.name = "errors",
                             .type = Type::list,
                             .doc = "of models that failed; the rest is done",
                             .required = true}},
                 .verdict = "errors"},
      .run =
          [](Context& context, const json& input) {
            auto& services = context.services;
            const std::string connection = input.at("connection");
            const auto models = texts(input, "models");
            services.connections.get(connection);
            if (!models.empty()) services.sync.add_models(connection, models);
            const auto result = services.sync.run(
                connection, models, {.full = input.at("full"), .accept_deletions = input.at("accept_deletions")},
                context.stop);
            return dump({{"connection", result.connection},
                         {"created", result.created},
                         {"changed", result.changed},
                         {"deleted", result.deleted},
                         {"unchanged", result.unchanged},
                         {"calls", result.calls},
                         {"bytes", result.bytes},
                         {"milliseconds", result.took.count() / 1000},
                         {"errors", result.errors}});
          },
      .slow = true,
  });
  all.push_back({
      .name = "sync status",
      .summary = "Shows how each model stands: pulled how far, followed since when",
      .method = "GET",
      .path = "/sync",
      .permission = Role::viewer,
      .inputs = {optional_connection()},
      .output = {.fields = {{.name = "connections",
                             .type = Type::list,
                             .doc = "each with state, reason, error, retry_at, calls_at_once",
                             .required = true},
                            {.name = "trouble",
                             .type = Type::list,
                             .doc = "connections that don't go on, and why: a sentence each",
                             .required = true}},
                 .rows = "models",
                 .columns = status_columns()},
      .run =
          [](Context& context, const json& input) {
            json connections = json::array(), models = json::array(), trouble = json::array();
            for (const auto& status : context.services.sync.status(input.value("connection", ""))) {
              connections.push_back({{"connection", status.connection},
                                     {"state", status.state},
                                     {"reason", status.reason},
                                     {"error", status.error},
                                     {"retry_at", time_or_null(status.retry_at)},
                                     {"calls_at_once", status.places}});
              if (status.state != "active")
                trouble.push_back(fmt::format("{} is {}{}", status.connection,
                                              status.state == "error" ? "in error" : status.state,
                                              status.reason.empty() ? "" : ": " + status.reason));
              else if (!status.error.empty())
                trouble.push_back(status.connection + ": " + status.error);
              for (const auto& model : status.models) models.push_back(shape(model));
            }
            return dump({{"connections", connections}, {"trouble", trouble}, {"models", models}});
          },
  });
  all.push_back({
      .name = "sync log",
      .summary = "Lists what pulls, deltas, sweeps, certificates, deliveries and marketplaces' flows did, newest first",
      .description = "Page with `before`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = "/sync/log",
      .permission = Role::viewer,
      .inputs = {optional_connection(),
                 {.name = "kind", .doc = "only this, such as `order_pull`"},
                 {.name = "outcome", .doc = "only this, such as `failed`"},
                 {.name = "text", .doc = "only with this in its counts or errors"},
                 {.name = "before", .type = Type::integer, .doc = "numbers below it"},
                 limit_field(100, 10'000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`before` of the next page"}},
                 .rows = "runs",
                 .columns = {{.name = "id", .type = Type::integer, .required = true, .hidden = true},
                             {.name = "started", .type = Type::time, .required = true},
                             {.name = "finished", .type = Type::time, .required = true, .hidden = true},
                             {.name = "connection", .required = true},
                             {.name = "model", .doc = "null: the whole connection"},
                             {.name = "kind",
                              .doc = "`run`, `pull`, `delta`, `sweep`, `full`, `certify`, `deliver`, `order_pull`, "
                                     "`status_sync`, `stock_sync`, `product_sync`",
                              .required = true},
                             {.name = "outcome", .doc = "`ok`, `errors`, `differences`, `failed`, …", .required = true},
                             {.name = "took_ms", .type = Type::integer, .required = true},
                             {.name = "counts", .type = Type::object, .required = true},
                             {.name = "errors", .type = Type::list, .required = true}}},
      .run =
          [](Context& context, const json& input) {
            json rows = json::array();
            pipeline::Records::RunFilter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) context.services.connections.get(filter.connection);
            filter.kind = input.value("kind", "");
            filter.outcome = input.value("outcome", "");
            filter.text = input.value("text", "");
            filter.before = maybe_integer(input, "before").value_or(0);
            filter.limit = input.at("limit");
            const auto found = context.services.records.runs(filter);
            for (const auto& run : found)
              rows.push_back({{"id", run.id},
                              {"started", format_iso(run.started)},
                              {"finished", format_iso(run.finished)},
                              {"connection", run.connection},
                              {"model", run.model.empty() ? json(nullptr) : json(run.model)},
                              {"kind", run.kind},
                              {"outcome", run.outcome},
                              {"took_ms", (run.finished - run.started).count() / 1000},
                              {"counts", run.counts},
                              {"errors", run.errors}});
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"runs", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  all.push_back({
      .name = "sync pause",
      .summary = "Pauses one connection, or all that are active",
      .method = "POST",
      .path = "/sync/pause",
      .permission = Role::user,
      .inputs = {optional_connection()},
      .output = kStates,
      .run = [](Context& context, const json& input) { return switch_state(context, input, "active", "paused"); },
  });
  all.push_back({
      .name = "sync resume",
      .summary = "Goes on with one connection, or all that are paused",
      .method = "POST",
      .path = "/sync/resume",
      .permission = Role::user,
      .inputs = {optional_connection()},
      .output = kStates,
      .run = [](Context& context, const json& input) { return switch_state(context, input, "paused", "active"); },
  });
  all.push_back({
      .name = "certify",
      .summary = "Proves that nothing is missing: compares every record's id and write_date with the remote",
      .description =
          "Right while the remote is being written to: a difference counts only if it survives a catch-up. `bodies` "
          "says how many records are compared value by value besides: `sample` (some hundred a model), `all` (finds "
          "even a change that left write_date alone), `none`. With `heal`, what differs is read again.",
      .method = "POST",
      .path = "/connections/{connection}/certify",
      .permission = Role::user,
      .inputs = {connection_field(),
                 models_field("only these; left out: all that are captured"),
                 {.name = "bodies",
                  .doc = "how many records to compare value by value",
                  .fallback = R"("sample")",
                  .choices = {"none", "sample", "all"}},
                 {.name = "heal", .type = Type::boolean, .doc = "read again what differs", .fallback = "false"}},
      .output = {.fields = {{.name = "differences", .type = Type::integer, .doc = "in all", .required = true}},
                 .rows = "certificates",
                 .columns = {{.name = "model", .required = true},
                             {.name = "at", .type = Type::time, .doc = "by the server's clock", .required = true},
                             {.name = "there", .type = Type::integer, .doc = "records at the remote", .required = true},
                             {.name = "here", .type = Type::integer, .doc = "records here", .required = true},
                             {.name = "bodies_compared", .type = Type::integer, .required = true},
                             {.name = "differences", .type = Type::integer, .required = true},
                             {.name = "records",
                              .type = Type::list,
                              .doc = "which differ: id, what, healed",
                              .required = true,
                              .hidden = true}},
                 .details = "records",
                 .verdict = "differences"},
      .run =
          [](Context& context, const json& input) {
            auto& services = context.services;
            pipeline::CertifyOptions options;
            options.models = texts(input, "models");
            const std::string bodies = input.at("bodies");
            using Bodies = pipeline::CertifyOptions::Bodies;
            options.bodies = bodies == "all" ? Bodies::all : bodies == "none" ? Bodies::none : Bodies::sample;
            options.heal = input.at("heal");
            const std::string connection = services.connections.get(input.at("connection")).name;
            json rows = json::array();
            std::int64_t differences = 0;
            for (const auto& one : services.sync.certify(connection, options, context.stop)) {
              json records = json::array();
              for (const auto& difference : one.differences)
                records.push_back({{"id", difference.id}, {"what", difference.what}, {"healed", difference.healed}});
              differences += static_cast<std::int64_t>(one.differences.size());
              rows.push_back({{"model", one.model},
                              {"at", format_iso(one.at)},
                              {"there", one.there},
                              {"here", one.here},
                              {"bodies_compared", one.bodies_compared},
                              {"differences", one.differences.size()},
                              {"records", records}});
            }
            return dump({{"certificates", rows}, {"differences", differences}});
          },
      .slow = true,
  });
  return all;
}

}  // namespace dragoman::ops
