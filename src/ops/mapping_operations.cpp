#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/mapping.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

std::vector<Field> mapping_fields() {
  return {{.name = "id", .type = Type::integer, .required = true},
          {.name = "connection", .required = true},
          {.name = "entity",
           .doc = "`order`, `order_line`, `delivery`, `customer`, `product`, or a model's name",
           .required = true},
          {.name = "internal_id", .doc = "ours", .required = true},
          {.name = "external_id", .doc = "theirs: `odoo:sale.order:42`", .required = true},
          {.name = "shared_by", .doc = "who allowed that ours has several of theirs"},
          {.name = "cause", .doc = "what made it: `job 17`", .required = true},
          {.name = "created", .type = Type::time, .required = true}};
}

json shape(const pipeline::Mapped& mapped) {
  return {{"id", mapped.id},
          {"connection", mapped.connection},
          {"entity", mapped.entity},
          {"internal_id", mapped.internal_id},
          {"external_id", mapped.external_id},
          {"shared_by", mapped.shared_by.empty() ? json(nullptr) : json(mapped.shared_by)},
          {"cause", mapped.cause},
          {"created", format_iso(mapped.created)}};
}

std::string page(const std::vector<pipeline::Mapped>& found, std::int64_t limit) {
  json rows = json::array();
  for (const auto& mapped : found) rows.push_back(shape(mapped));
  const bool more = static_cast<std::int64_t>(found.size()) == limit;
  return dump({{"mappings", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
}

Field mapping_id_field() {
  return {.name = "id", .type = Type::integer, .doc = "number of the mapping", .required = true, .positional = true};
}

}  // namespace

std::vector<Operation> mapping_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "mapping list",
      .summary = "Lists which record here is which one at the remote",
      .description = "Page with `after`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = "/mappings",
      .permission = Role::viewer,
      .inputs = {{.name = "connection", .doc = "only of this connection"},
                 {.name = "entity", .doc = "only of this kind, such as `order`"},
                 {.name = "after", .type = Type::integer, .doc = "ids above it"},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`after` of the next page"}},
                 .rows = "mappings",
                 .columns = mapping_fields()},
      .run =
          [](Context& context, const json& input) {
            pipeline::Mapping::Filter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) context.services.connections.get(filter.connection);
            filter.entity = input.value("entity", "");
            filter.after = maybe_integer(input, "after").value_or(0);
            filter.limit = input.at("limit");
            return page(context.services.mapping.list(filter), filter.limit);
          },
  });
  all.push_back({
      .name = "mapping find",
      .summary = "Finds the mappings of one id, ours or theirs",
      .description = "`odoo:sale.order:42` is looked up as theirs, anything else as ours and as theirs.",
      .method = "GET",
      .path = "/mappings/find",
      .permission = Role::viewer,
      .inputs = {{.name = "what", .doc = "the id", .required = true, .positional = true},
                 {.name = "connection", .doc = "only of this connection"},
                 limit_field(100, 1000)},
      .output =
          {.fields = {{.name = "next", .type = Type::integer, .doc = "always null: all that fit the limit are here"}},
           .rows = "mappings",
           .columns = mapping_fields()},
      .run =
          [](Context& context, const json& input) {
            pipeline::Mapping::Filter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) context.services.connections.get(filter.connection);
            filter.limit = input.at("limit");
            filter.external_id = input.at("what");
            auto found = context.services.mapping.list(filter);
            filter.external_id.clear();
            filter.internal_id = input.at("what");
            for (auto& mapped : context.services.mapping.list(filter)) found.push_back(std::move(mapped));
            json rows = json::array();
            for (const auto& mapped : found) rows.push_back(shape(mapped));
            return dump({{"mappings", rows}, {"next", nullptr}});
          },
  });
  all.push_back({
      .name = "mapping show",
      .summary = "Shows one mapping",
      .method = "GET",
      .path = "/mappings/{id}",
      .permission = Role::viewer,
      .inputs = {mapping_id_field()},
      .output = {.fields = mapping_fields()},
      .run = [](Context& context,
                const json& input) { return dump(shape(context.services.mapping.show(input.at("id")))); },
  });
  all.push_back({
      .name = "mapping share",
      .summary = "Says that a second record at the remote is the same customer or product as one here",
      .description =
          "As two branches that a marketplace lists apart and that are one customer of yours. Of every other "
          "kind each record has one of its own. `mapping unlink` takes it back.",
      .method = "POST",
      .path = "/mappings/share",
      .permission = Role::manager,
      .inputs = {connection_field(),
                 {.name = "external_id",
                  .doc = "the second record there: `odoo:res.partner:43`",
                  .required = true,
                  .positional = true},
                 {.name = "internal_id",
                  .doc = "ours, which stands for a record there already",
                  .required = true,
                  .positional = true},
                 {.name = "entity", .doc = "what they are", .required = true, .choices = {"customer", "product"}},
                 {.name = "reason", .doc = "why, for those who wonder later", .required = true}},
      .output = {.fields = mapping_fields()},
      .run =
          [](Context& context, const json& input) {
            pipeline::Mapped mapped;
            mapped.connection = input.at("connection");
            mapped.entity = input.at("entity");
            mapped.internal_id = input.at("internal_id");
            mapped.external_id = input.at("external_id");
            const std::string actor = context.actor.empty() ? context.caller : context.actor;
            mapped.cause = actor;
            return dump(shape(context.services.mapping.share(mapped, input.at("reason"), actor)));
          },
      .audits_itself = true,
  });
  all.push_back({
      .name = "mapping unlink",
      .summary = "Forgets that two records are one, for a reason",
      .description = "Nothing changes at the remote. What is delivered later under the same key still finds the same "
                     "record there, for the key is kept with it.",
      .method = "DELETE",
      .path = "/mappings/{id}",
      .permission = Role::admin,
      .inputs = {mapping_id_field(), {.name = "reason", .doc = "why, for those who wonder later", .required = true}},
      .output = {.fields = mapping_fields()},
      .run =
          [](Context& context, const json& input) {
            return dump(shape(context.services.mapping.unlink(input.at("id"), input.at("reason"),
                                                              context.actor.empty() ? context.caller : context.actor)));
          },
      .audits_itself = true,
  });
  return all;
}

}  // namespace dragoman::ops
