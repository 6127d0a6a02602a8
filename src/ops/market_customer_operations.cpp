#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/market_shapes.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/market_customers.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;
using pipeline::MarketCustomerRow;
using pipeline::MarketCustomers;

// What a person waits for goes to Odoo at once, by a target of its own. That target's client is shared with all others
// of the connection and may outlive this call, so the clock does as well.
MarketCustomers customers_of(Context& context) {
  static SystemClock clock;
  auto& services = context.services;
  const auto find = [&services](std::int64_t id) {
    const auto connection = services.connections.usable(id);
    const auto& connector = services.connectors.get(connection.kind);
    if (!connector.make_target)
      throw Error(Error::Kind::invalid,
                  fmt::format("Nothing can be delivered to a connection of kind `{}`.", connection.kind));
    return pipeline::Destination{id, connection.name,
                                 connector.make_target(connection, services.connections.secret(connection), clock)};
  };
  return {services.market, services.marketplaces, find, who_asks(context)};
}

std::vector<Field> customer_columns() {
  return {
      {.name = "id", .type = Type::integer, .doc = "the hub's number of it", .required = true},
      {.name = "connection", .required = true},
      {.name = "customer",
       .doc = "what the shop is told from others by: the marketplace's code of it, as a rule",
       .required = true},
      {.name = "name"},
      {.name = "odoo_partner",
       .type = Type::integer,
       .doc = "id of the contact in Odoo; null: none yet, or none any more"},
      {.name = "how",
       .doc = "the rule that found it (`cartona_id`, `retailer_code`, `phone`), `created`, `merged` (its contact was "
              "merged into this one in Odoo), or `person:` and who said so; empty: not known"},
      {.name = "orders", .type = Type::integer, .doc = "how many of its orders are in Odoo", .required = true},
      {.name = "relinked", .type = Type::time, .doc = "when a person said last which contact it is, or is not"},
      {.name = "under_way", .doc = "a change of it that is under way, or in doubt", .hidden = true},
      {.name = "seen", .type = Type::time, .doc = "first", .required = true, .hidden = true},
      {.name = "changed", .type = Type::time, .hidden = true}};
}

json partner_or_null(std::int64_t id) {
  return id > 0 ? json(id) : json(nullptr);
}

json shape(const MarketCustomerRow& row) {
  return {{"id", row.id},
          {"connection", row.connection},
          {"customer", row.key},
          {"name", row.name},
          {"odoo_partner", partner_or_null(row.odoo_partner_id)},
          {"how", row.how},
          {"orders", row.orders},
          {"relinked", time_or_null(row.relinked)},
          {"under_way",
           !row.intent
               ? std::string()
               : fmt::format("{} by {}, since {}",
                             row.intent->partner_id > 0 ? fmt::format("contact {}", row.intent->partner_id) : "unlink",
                             row.intent->by, format_iso(row.intent->at))},
          {"seen", format_iso(row.seen)},
          {"changed", format_iso(row.changed)}};
}

Field customer_field() {
  return {.name = "customer",
          .doc = "the marketplace's code of the shop, or the hub's own number of it",
          .required = true,
          .positional = true};
}

Field reason_field() {
  return {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"};
}

std::vector<Field> order_columns() {
  return {{.name = "order", .doc = "the marketplace's own id", .required = true},
          {.name = "number", .doc = "what people call it"},
          {.name = "odoo", .doc = "Odoo's name or id of it", .required = true},
          {.name = "odoo_state", .doc = "what Odoo says, where that is known"},
          {.name = "total", .doc = "decimal, as text"},
          {.name = "odoo_id", .type = Type::integer, .required = true, .hidden = true}};
}

json shape(const std::vector<MarketCustomers::Order>& orders) {
  json rows = json::array();
  for (const auto& order : orders)
    rows.push_back({{"order", order.external_id},
                    {"number", order.number},
                    {"odoo", order.odoo_name.empty() ? fmt::format("sale.order:{}", order.odoo_id) : order.odoo_name},
                    {"odoo_state", order.odoo_state},
                    {"total", order.total},
                    {"odoo_id", order.odoo_id}});
  return rows;
}

// `R-9 of shop1`, one after the other.
std::string shape_same(const std::vector<MarketCustomerRow>& others) {
  std::string out;
  for (const auto& other : others)
    out += fmt::format("{}{} of {}", out.empty() ? "" : ", ", other.key, other.connection);
  return out;
}

Field same_field() {
  return {.name = "same", .doc = "other shops that are this contact, too"};
}

Output done_output() {
  auto fields = customer_columns();
  for (auto& field : fields) field.hidden = false;
  fields.push_back({.name = "odoo_partner_name", .doc = "of the contact in Odoo"});
  fields.push_back(same_field());
  fields.push_back({.name = "partner_before", .type = Type::integer, .doc = "the contact that it was"});
  fields.push_back({.name = "how_before", .doc = "what had found that"});
  fields.push_back({.name = "orders_kept",
                    .type = Type::integer,
                    .doc = "orders in Odoo that have the former contact and keep it; mend those in Odoo that need it",
                    .required = true});
  fields.push_back({.name = "retried",
                    .type = Type::integer,
                    .doc = "orders that were held for want of a customer, and are tried again",
                    .required = true});
  return {.fields = fields, .rows = "kept", .columns = order_columns()};
}

std::string relink(Context& context, const json& input, std::int64_t partner) {
  MarketCustomers::Asked asked;
  asked.connection = market_of(context, input.at("connection"));
  asked.customer = input.at("customer");
  asked.partner = partner;
  asked.by = who_asks(context);
  asked.why = input.value("reason", "");
  asked.shared = input.value("shared", false);
  auto customers = customers_of(context);
  const auto done = customers.relink(asked, context.stop);
  const auto note = [](const MarketCustomerRow& row) {
    return dump({{"customer", row.key}, {"odoo_partner", partner_or_null(row.odoo_partner_id)}, {"how", row.how}});
  };
  context.note.subject = done.after.connection + ":" + done.after.key;
  context.note.before = note(done.before);
  context.note.after = note(done.after);
  json answer = shape(done.after);
  answer["odoo_partner_name"] = done.partner_name;
  answer["same"] = shape_same(customers.same(done.after));
  answer["partner_before"] = partner_or_null(done.before.odoo_partner_id);
  answer["how_before"] = done.before.how;
  answer["orders_kept"] = done.orders_kept;
  answer["retried"] = done.retried;
  answer["kept"] = shape(done.orders);
  return dump(answer);
}

}  // namespace

std::vector<Operation> market_customer_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "market customers",
      .summary = "Lists the shops of marketplaces, which contact of Odoo each is, and what found it",
      .description = "Those that have ordered. Page with `after`: the `next` of the answer before. `next` is null on "
                     "the last page.",
      .method = "GET",
      .path = "/market/customers",
      .permission = Role::viewer,
      .inputs = {{.name = "connection", .doc = "only of this connection"},
                 {.name = "text", .doc = "only with this code or name, exactly"},
                 {.name = "after", .type = Type::integer, .doc = "numbers above it"},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`after` of the next page"}},
                 .rows = "customers",
                 .columns = customer_columns()},
      .run =
          [](Context& context, const json& input) {
            MarketCustomers::Filter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) market_of(context, filter.connection);
            filter.text = input.value("text", "");
            filter.after = maybe_integer(input, "after").value_or(0);
            filter.limit = input.at("limit");
            const auto found = customers_of(context).list(filter);
            json rows = json::array();
            for (const auto& row : found) rows.push_back(shape(row));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"customers", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  auto fields = customer_columns();
  for (auto& field : fields) field.hidden = false;
  fields.push_back(same_field());
  all.push_back({
      .name = "market customer",
      .summary =
          "Shows a shop of a marketplace: which contact of Odoo it is, what found it, and its newest orders there",
      .method = "GET",
      .path = "/connections/{connection}/market/customers/{customer}",
      .permission = Role::viewer,
      .inputs = {market_field(), customer_field(), limit_field(20, 1000)},
      .output = {.fields = fields, .rows = "with_it", .columns = order_columns()},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            auto customers = customers_of(context);
            const auto row = customers.get(connection, input.at("customer"));
            json answer = shape(row);
            answer["same"] = shape_same(customers.same(row));
            answer["with_it"] = shape(customers.orders(row, input.at("limit")));
            return dump(answer);
          },
  });
  all.push_back({
      .name = "market customer-link",
      .summary = "Says which contact of Odoo a shop is, where the rules found a wrong one or several",
      .description =
          "Its next order has that contact. Orders that are in Odoo stay as they are: the answer names them. A contact "
          "that is another shop's is refused, unless `shared` says that both are one customer. What the shop was until "
          "now is not found for it by a rule any more.",
      .method = "POST",
      .path = "/connections/{connection}/market/customers/{customer}/link",
      .permission = Role::user,
      .inputs = {market_field(),
                 customer_field(),
                 {.name = "odoo_partner",
                  .type = Type::integer,
                  .doc = "id of the contact in Odoo",
                  .required = true,
                  .min = 1,
                  .max = 2'147'483'647,
                  .positional = true},
                 {.name = "shared",
                  .type = Type::boolean,
                  .doc = "both shops are this customer, where another one is it already",
                  .fallback = "false"},
                 reason_field()},
      .output = done_output(),
      .run = [](Context& context,
                const json& input) { return relink(context, input, input.at("odoo_partner").get<std::int64_t>()); },
      .slow = true,
  });
  all.push_back({
      .name = "market customer-unlink",
      .summary = "Says that a shop is not the contact of Odoo that was found for it",
      .description =
          "Its next order looks for another one by the rules, and makes a new one where they find none; never again is "
          "it this one. Orders that are in Odoo stay as they are: the answer names them.",
      .method = "POST",
      .path = "/connections/{connection}/market/customers/{customer}/unlink",
      .permission = Role::user,
      .inputs = {market_field(), customer_field(), reason_field()},
      .output = done_output(),
      .run = [](Context& context, const json& input) { return relink(context, input, 0); },
      .slow = true,
  });
  return all;
}

}  // namespace dragoman::ops
