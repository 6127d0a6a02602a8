#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/records.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

const char* const kModelPath = "/connections/{connection}/models/{model}";

std::vector<Field> record_inputs(std::vector<Field> more) {
  std::vector<Field> fields{connection_field(), model_field(), id_field()};
  fields.insert(fields.end(), more.begin(), more.end());
  return fields;
}

json shape(const pipeline::ModelRow& model, bool counts) {
  json left_out = json::array();
  for (const auto& out : model.plan.left_out) left_out.push_back({{"field", out.field}, {"reason", out.reason}});
  json row = {{"connection", model.connection},
              {"model", model.name},
              {"state", model.state},
              {"reason", model.reason},
              {"alarm", model.alarm},
              {"asked", model.asked},
              {"fields", model.plan.fields.size()},
              {"left_out", left_out},
              {"schema", model.schema_number}};
  if (counts) row.update({{"live", model.live}, {"archived", model.archived}, {"deleted", model.deleted}});
  return row;
}

// The two schema versions that are compared: by default the newest and the one before.
std::pair<std::int64_t, std::int64_t> range_of(const std::vector<pipeline::Records::SchemaVersion>& versions,
                                               const json& input) {
  std::int64_t newest = 0;
  for (const auto& version : versions) newest = std::max(newest, version.number);
  const std::int64_t to = maybe_integer(input, "to").value_or(newest);
  return {maybe_integer(input, "from").value_or(to - 1), to};
}

const pipeline::Records::SchemaVersion& pick(const std::vector<pipeline::Records::SchemaVersion>& versions,
                                             const std::string& model, std::int64_t number) {
  for (const auto& version : versions)
    if (version.number == number) return version;
  throw Error(Error::Kind::not_found,
              fmt::format("{} has no schema version {}; it has {} of them, from 1.", model, number, versions.size()));
}

json difference_of(const json& before, const json& after) {
  json added = json::object(), removed = json::object(), changed = json::object();
  for (const auto& [field, attributes] : after.items()) {
    if (!before.contains(field))
      added[field] = attributes;
    else if (before.at(field) != attributes)
      changed[field] = {{"from", before.at(field)}, {"to", attributes}};
  }
  for (const auto& [field, attributes] : before.items())
    if (!after.contains(field)) removed[field] = attributes;
  return {{"added", added}, {"removed", removed}, {"changed", changed}};
}

}  // namespace

std::vector<Operation> record_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "model list",
      .summary = "Lists the captured models, with what is left out of each and why",
      .method = "GET",
      .path = "/models",
      .permission = Role::viewer,
      .inputs = {{.name = "connection", .doc = "name of the connection; left out: all", .positional = true},
                 {.name = "counts",
                  .type = Type::boolean,
                  .doc = "count the records, which takes a while on millions",
                  .fallback = "true"}},
      .output =
          {.rows = "models",
           .columns =
               {{.name = "connection", .required = true},
                {.name = "model", .required = true},
                {.name = "state", .doc = "`pulling`, `following` or `unavailable`", .required = true},
                {.name = "live", .type = Type::integer, .doc = "records that are there"},
                {.name = "archived", .type = Type::integer},
                {.name = "deleted", .type = Type::integer, .doc = "gone there, kept here"},
                {.name = "fields", .type = Type::integer, .doc = "how many are captured", .required = true},
                {.name = "left_out",
                 .type = Type::list,
                 .doc = "fields that are not captured, each with the reason",
                 .required = true},
                {.name = "schema", .type = Type::integer, .doc = "number of its schema version", .required = true},
                {.name = "asked",
                 .type = Type::boolean,
                 .doc = "named by a person, not one of the defaults",
                 .required = true,
                 .hidden = true},
                {.name = "reason", .doc = "why it is unavailable"},
                {.name = "alarm"}}},
      .run =
          [](Context& context, const json& input) {
            const bool counts = input.at("counts");
            json rows = json::array();
            for (const auto& model : context.services.records.models(input.value("connection", ""), counts))
              rows.push_back(shape(model, counts));
            return dump({{"models", rows}});
          },
  });
  all.push_back({
      .name = "model show",
      .summary = "Shows what of a model is captured, and which fields are left out and why",
      .method = "GET",
      .path = kModelPath,
      .permission = Role::viewer,
      .inputs = {connection_field(), model_field()},
      .output = {.fields = {{.name = "connection", .required = true},
                            {.name = "model", .required = true},
                            {.name = "state", .required = true},
                            {.name = "reason", .doc = "why it is unavailable"},
                            {.name = "alarm"},
                            {.name = "schema", .type = Type::integer, .required = true},
                            {.name = "fields", .type = Type::list, .doc = "those that are captured", .required = true},
                            {.name = "binaries",
                             .type = Type::list,
                             .doc = "captured apart, once by content",
                             .required = true}},
                 .rows = "left_out",
                 .columns = {{.name = "field", .required = true}, {.name = "reason", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto model = context.services.records.model(input.at("connection"), input.at("model"));
            json answer = shape(model, false);
            answer.erase("asked");
            answer["fields"] = model.plan.fields;
            answer["binaries"] = model.plan.binaries;
            return dump(answer);
          },
  });
  all.push_back({
      .name = "record list",
      .summary = "Lists the newest version of a model's records, by id",
      .description = "Page with `after`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = std::string(kModelPath) + "/records",
      .permission = Role::viewer,
      .inputs = {connection_field(),
                 model_field(),
                 {.name = "after", .type = Type::integer, .doc = "ids above it"},
                 limit_field(100, 1000),
                 {.name = "archived", .type = Type::boolean, .doc = "archived ones too", .fallback = "true"},
                 {.name = "deleted",
                  .type = Type::boolean,
                  .doc = "those that are gone at the remote too",
                  .fallback = "false"},
                 company_field(),
                 organisation_field(),
                 {.name = "bodies", .type = Type::boolean, .doc = "with the captured values", .fallback = "false"}},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`after` of the next page"}},
                 .rows = "records",
                 .columns = change_fields(true)},
      .run =
          [](Context& context, const json& input) {
            pipeline::Records::Filter filter;
            filter.after = maybe_integer(input, "after");
            filter.limit = input.at("limit");
            filter.archived = input.at("archived");
            filter.deleted = input.at("deleted");
            filter.view = view_of(context, input);
            filter.bodies = input.at("bodies");
            const auto found = context.services.records.list(input.at("connection"), input.at("model"), filter);
            std::vector<std::string> rows;
            for (const auto& record : found) rows.push_back(change_text(record, filter.bodies));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return rows_text("records", rows, {{"next", more ? json(found.back().external_id) : json(nullptr)}});
          },
  });
  all.push_back({
      .name = "record show",
      .summary = "Shows a record, newest or any earlier version, byte for byte",
      .method = "GET",
      .path = std::string(kModelPath) + "/records/{id}",
      .permission = Role::viewer,
      .inputs = record_inputs({{.name = "version", .type = Type::integer, .doc = "left out: the newest", .min = 1},
                               company_field(),
                               organisation_field()}),
      .output = {.fields = change_fields(true)},
      .run =
          [](Context& context, const json& input) {
            return change_text(context.services.records.show(input.at("connection"), input.at("model"), input.at("id"),
                                                             maybe_integer(input, "version"), view_of(context, input)),
                               true);
          },
  });
  all.push_back({
      .name = "record history",
      .summary = "Lists the versions of a record, newest first",
      .method = "GET",
      .path = std::string(kModelPath) + "/records/{id}/history",
      .permission = Role::viewer,
      .inputs = record_inputs({limit_field(100, 1000), company_field(), organisation_field()}),
      .output = {.rows = "versions", .columns = change_fields(false)},
      .run =
          [](Context& context, const json& input) {
            std::vector<std::string> rows;
            for (const auto& version :
                 context.services.records.history(input.at("connection"), input.at("model"), input.at("id"),
                                                  input.at("limit"), view_of(context, input)))
              rows.push_back(change_text(version, false));
            return rows_text("versions", rows, {});
          },
  });
  all.push_back({
      .name = "record diff",
      .summary = "Shows field by field what differs between two versions of a record",
      .method = "GET",
      .path = std::string(kModelPath) + "/records/{id}/diff",
      .permission = Role::viewer,
      .inputs = record_inputs(
          {{.name = "from", .type = Type::integer, .doc = "version; left out: the one before `to`", .min = 1},
           {.name = "to", .type = Type::integer, .doc = "version; left out: the newest", .min = 1},
           company_field(),
           organisation_field()}),
      .output =
          {.fields = {{.name = "model", .required = true},
                      {.name = "id", .type = Type::integer, .required = true},
                      {.name = "from", .type = Type::integer, .doc = "version; 0: before the first", .required = true},
                      {.name = "to", .type = Type::integer, .doc = "version", .required = true},
                      {.name = "kind", .doc = "of the change that made `to`", .required = true},
                      {.name = "fields", .type = Type::object, .doc = "field → `from`, `to`", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            return dump(context.services.records.diff(input.at("connection"), input.at("model"), input.at("id"),
                                                      maybe_integer(input, "from"), maybe_integer(input, "to"),
                                                      view_of(context, input)));
          },
  });
  all.push_back({
      .name = "schema show",
      .summary = "Shows the fields of a model as the remote describes them",
      .method = "GET",
      .path = std::string(kModelPath) + "/schema",
      .permission = Role::viewer,
      .inputs = {connection_field(),
                 model_field(),
                 {.name = "number", .type = Type::integer, .doc = "schema version; left out: the newest", .min = 1}},
      .output = {.fields = {{.name = "number", .type = Type::integer, .required = true},
                            {.name = "versions", .type = Type::integer, .doc = "how many there are", .required = true},
                            {.name = "seen", .type = Type::time, .required = true},
                            {.name = "fields", .type = Type::object, .doc = "name → attributes", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const std::string model = input.at("model");
            const auto versions = context.services.records.schemas(input.at("connection"), model);
            std::int64_t newest = 0;
            for (const auto& version : versions) newest = std::max(newest, version.number);
            const auto& one = pick(versions, model, maybe_integer(input, "number").value_or(newest));
            return dump({{"number", one.number},
                         {"versions", versions.size()},
                         {"seen", format_iso(one.seen)},
                         {"fields", one.fields}});
          },
  });
  all.push_back({
      .name = "schema diff",
      .summary = "Shows which fields came, went or changed between two schema versions",
      .method = "GET",
      .path = std::string(kModelPath) + "/schema/diff",
      .permission = Role::viewer,
      .inputs =
          {connection_field(),
           model_field(),
           {.name = "from", .type = Type::integer, .doc = "schema version; left out: the one before `to`", .min = 1},
           {.name = "to", .type = Type::integer, .doc = "schema version; left out: the newest", .min = 1}},
      .output = {.fields = {{.name = "from", .type = Type::integer, .required = true},
                            {.name = "to", .type = Type::integer, .required = true},
                            {.name = "added", .type = Type::object, .required = true},
                            {.name = "removed", .type = Type::object, .required = true},
                            {.name = "changed", .type = Type::object, .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const std::string model = input.at("model");
            const auto versions = context.services.records.schemas(input.at("connection"), model);
            const auto [from, to] = range_of(versions, input);
            const json empty = json::object();
            // Before the first version there was nothing.
            const json& before = from <= 0 ? empty : pick(versions, model, from).fields;
            json answer = difference_of(before, pick(versions, model, to).fields);
            answer["from"] = from;
            answer["to"] = to;
            return dump(answer);
          },
  });
  return all;
}

}  // namespace dragoman::ops
