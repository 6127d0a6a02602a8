#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "ops/catalog.h"
#include "ops/market_shapes.h"
#include "ops/shapes.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_status.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;
using pipeline::MarketStatus;
using pipeline::StatusAsked;
using pipeline::StatusDecision;
using pipeline::StatusRow;

std::vector<Field> order_fields() {
  return {
      {.name = "connection", .doc = "name of the connection to the marketplace", .required = true, .positional = true},
      {.name = "order",
       .doc = "the marketplace's id or number of it, or the hub's own",
       .required = true,
       .positional = true}};
}

std::vector<Field> asked_fields() {
  auto fields = order_fields();
  fields.push_back({.name = "enhanced",
                    .type = Type::boolean,
                    .doc = "by the order and its delivery, whatever the connection is set to",
                    .fallback = "false"});
  fields.push_back({.name = "basic",
                    .type = Type::boolean,
                    .doc = "by the order alone, whatever the connection is set to",
                    .fallback = "false"});
  fields.push_back({.name = "status",
                    .doc = "this one, whatever Odoo says",
                    .choices = {"pending", "approved", "assigned", "delivered", "cancelled"}});
  fields.push_back({.name = "cancellation_reason",
                    .doc = "of a cancellation, in the marketplace's word; the connection's if it is left out"});
  return fields;
}

// An order and all that is known of what its marketplace is to be told.
struct Asked {
  pipeline::Marketplaces::Open open;
  StatusRow row;
  StatusAsked asked;
};

Asked look_up(Context& context, const json& input) {
  auto& services = context.services;
  const auto connection = services.connections.get(input.at("connection"));
  Asked out;
  out.open = services.marketplaces.peek(connection.id);
  const auto order = services.market.get(connection.name, input.at("order"));
  services.store.read([&](store::Session& session) {
    const auto row = MarketStatus::find(session, order.id);
    if (!row) throw Error(Error::Kind::not_found, "The order is not there any more.");
    out.row = *row;
  });
  out.asked.manual = true;
  const bool enhanced = input.value("enhanced", false), basic = input.value("basic", false);
  if (enhanced && basic) throw Error(Error::Kind::invalid, "Give `enhanced` or `basic`, not both.");
  if (enhanced) out.asked.mapping = pipeline::StatusMapping::enhanced;
  if (basic) out.asked.mapping = pipeline::StatusMapping::basic;
  if (const std::string status = input.value("status", ""); !status.empty())
    out.asked.status = pipeline::market_state(status);
  out.asked.reason = input.value("cancellation_reason", "");
  const auto reasons = out.open.marketplace->cancellation_reasons();
  if (!out.asked.reason.empty() && std::find(reasons.begin(), reasons.end(), out.asked.reason) == reasons.end())
    throw Error(Error::Kind::invalid, fmt::format("`{}` is no reason of a cancellation; there are {}.",
                                                  out.asked.reason, fmt::join(reasons, ", ")));
  return out;
}

void check_active(const pipeline::Connection& connection) {
  if (connection.state != "active")
    throw Error(Error::Kind::conflict,
                fmt::format("The connection `{0}` is {1}{2} `dragoman connection resume {0}` goes on.", connection.name,
                            connection.state == "error" ? "in error" : connection.state,
                            connection.reason.empty() ? "." : ": " + sentence(connection.reason)));
}

StatusDecision decide(const Asked& asked, const pipeline::StatusCase& order) {
  return pipeline::decide_status(order, asked.open.settings.status, asked.asked, *asked.open.marketplace);
}

const char* word(const StatusDecision& decision) {
  return decision.what == StatusDecision::What::send   ? "send"
         : decision.what == StatusDecision::What::same ? "same"
                                                       : "nothing";
}

}  // namespace

std::vector<Operation> market_status_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "market sync",
      .summary = "Tells a marketplace how one of its orders stands, now",
      .description =
          "As the hub does by itself whenever something changes in Odoo, and by the same rules: an order that the shop "
          "is changing is left alone, and what is final at the marketplace stays so. Says it again, too, where the "
          "marketplace took it and shows otherwise. Enqueues the job that does it, and answers at once.",
      .method = "POST",
      .path = "/connections/{connection}/orders/{order}/sync",
      .permission = Role::user,
      .inputs = asked_fields(),
      .output = {.fields = {{.name = "would", .doc = "`send`, or `same`: it says so already", .required = true},
                            {.name = "status", .doc = "what it is told"},
                            {.name = "word", .doc = "in the marketplace's own word"},
                            {.name = "job", .type = Type::integer, .doc = "number of the job"},
                            {.name = "why", .doc = "by which rule", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const Asked asked = look_up(context, input);
            check_active(asked.open.connection);
            const auto decision = decide(asked, asked.row.to_decide());
            if (decision.what == StatusDecision::What::nothing) {
              Error error(Error::Kind::conflict, decision.message);
              error.code = decision.code;
              throw error;
            }
            json job;
            if (decision.what == StatusDecision::What::send)
              context.services.store.write([&](store::Session& session) {
                job = MarketStatus::enqueue(session, asked.row.connection_id, asked.row.id, asked.asked,
                                            "asked for by " + who_asks(context))
                          .id;
                session.execute(
                    "UPDATE market_order SET sync_status = 'syncing', sync_code = '', sync_message = '' WHERE id = $1",
                    {asked.row.id});
              });
            return dump({{"would", word(decision)},
                         {"status", decision.status ? json(pipeline::name(*decision.status)) : json(nullptr)},
                         {"word", decision.word},
                         {"job", job},
                         {"why", decision.message}});
          },
      .status = 202,
  });
  all.push_back({
      .name = "market test-sync",
      .summary = "Says what a marketplace would be told of an order, to where, and by which rule, or why nothing would",
      .description = "Sends nothing, and changes nothing.",
      .method = "GET",
      .path = "/connections/{connection}/orders/{order}/sync",
      .permission = Role::viewer,
      .inputs = asked_fields(),
      .output =
          {.fields = {{.name = "would", .doc = "`send`, `same` (it says so already) or `nothing`", .required = true},
                      {.name = "status", .doc = "what would be told"},
                      {.name = "word", .doc = "in the marketplace's own word"},
                      {.name = "to", .doc = "the address that it would be sent to"},
                      {.name = "call",
                       .doc = "`single`, whose answer is about this order, or `many`, with what else is to be told; an "
                              "order that is alone goes as `single` then, too"},
                      {.name = "cancellation_reason"},
                      {.name = "code", .doc = "why nothing would be sent, in a word"},
                      {.name = "why", .doc = "by which rule", .required = true},
                      {.name = "in_odoo",
                       .doc = "`draft`, `sent`, `sale`, `sale/shipped`, `done`, `cancel`, `deleted`"},
                      {.name = "marketplace_says", .doc = "when it was read last, in its own word"},
                      {.name = "told", .doc = "what it was told since, and took"},
                      {.name = "mapping", .required = true},
                      {.name = "connection_state", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            Asked asked = look_up(context, input);
            // Without any wish of a person's: what the hub would do by itself.
            asked.asked.manual = asked.asked.mapping || asked.asked.status;
            const auto order = asked.row.to_decide();
            const auto decision = decide(asked, order);
            const bool sends = decision.what == StatusDecision::What::send;
            const bool single = decision.single || asked.row.tries > 0;
            const bool cancels = sends && decision.status == pipeline::MarketState::cancelled;
            return dump(
                {{"would", word(decision)},
                 {"status", decision.status ? json(pipeline::name(*decision.status)) : json(nullptr)},
                 {"word", decision.word},
                 {"to", sends ? json(asked.open.marketplace->status_address(single ? asked.row.external_id : ""))
                              : json(nullptr)},
                 {"call", sends ? json(single ? "single" : "many") : json(nullptr)},
                 {"cancellation_reason", !cancels                     ? json(nullptr)
                                         : asked.asked.reason.empty() ? json(asked.open.settings.cancellation_reason)
                                                                      : json(asked.asked.reason)},
                 {"code", decision.code},
                 {"why", decision.message},
                 {"in_odoo", order.standing},
                 {"marketplace_says", order.status},
                 {"told", order.accepted ? json(pipeline::name(*order.accepted)) : json(nullptr)},
                 {"mapping", pipeline::name(asked.asked.mapping.value_or(asked.open.settings.status.mapping))},
                 {"connection_state", asked.open.connection.state}});
          },
  });
  auto otp_inputs = order_fields();
  otp_inputs.push_back({.name = "code", .doc = "the code that the shop has", .required = true, .secret = true});
  all.push_back({
      .name = "market otp",
      .summary = "Gives the code that a marketplace wants before it calls an order delivered",
      .description = "It is kept sealed until it was used or refused, and never shown. Where the order is delivered in "
                     "Odoo already, the "
                     "marketplace is told at once.",
      .method = "POST",
      .path = "/connections/{connection}/orders/{order}/otp",
      .permission = Role::user,
      .inputs = otp_inputs,
      .output = {.fields = {{.name = "job", .type = Type::integer, .doc = "number of the job", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const Asked asked = look_up(context, input);
            const std::string code = input.at("code");
            if (code.empty() || code.size() > 40 ||
                std::any_of(code.begin(), code.end(), [](unsigned char c) { return c <= ' ' || c >= 0x7f; }))
              throw Error(Error::Kind::invalid, "The code has 1 to 40 letters or digits, and no spaces.");
            if (!asked.row.needs_otp)
              throw Error(Error::Kind::conflict,
                          fmt::format("The order `{}` wants no code: it has neither instalment nor wallet money.",
                                      asked.row.external_id));
            const auto order = asked.row.to_decide();
            const auto known = order.accepted.value_or(order.says);
            if (pipeline::is_final(known))
              throw Error(Error::Kind::conflict,
                          fmt::format("The order `{}` wants no code any more: at the marketplace it is {}.",
                                      asked.row.external_id, pipeline::name(known)));
            jobs::Enqueued enqueued;
            context.services.store.write([&](store::Session& session) {
              enqueued = MarketStatus::give_otp(session, context.services.keys, asked.row, Secret(code),
                                                "by " + who_asks(context));
            });
            return dump({{"job", enqueued.id}});
          },
      .status = 202,
  });
  return all;
}

}  // namespace dragoman::ops
