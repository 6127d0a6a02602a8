#include "ops/market_shapes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_probe.h"
#include "pipeline/market_products.h"
#include "pipeline/order_book.h"

namespace dragoman::ops {
namespace {

void require_active(const pipeline::Connection& connection, const std::string& subject) {
  if (connection.state == "active") return;
  throw Error(Error::Kind::conflict,
              fmt::format("{} is {}{} `dragoman connection resume {}` goes on.", subject,
                          connection.state == "error" ? "in error" : connection.state,
                          connection.reason.empty() ? "." : ": " + sentence(connection.reason), connection.name));
}

}  // namespace

Field market_field() {
  return {
      .name = "connection", .doc = "name of the connection to the marketplace", .required = true, .positional = true};
}

Field market_product_field() {
  return {.name = "product", .doc = "the marketplace's id of it", .required = true, .positional = true};
}

pipeline::Connection market_of(Context& context, const std::string& name) {
  auto connection = context.services.connections.get(name);
  if (!context.services.connectors.get(connection.kind).make_marketplace)
    throw Error(Error::Kind::invalid,
                fmt::format("`{}` is a connection of kind `{}`, which is no marketplace.", name, connection.kind));
  return connection;
}

pipeline::Connection active_market_of(Context& context, const std::string& name) {
  auto connection = market_of(context, name);
  require_active(connection, fmt::format("The connection `{}`", connection.name));
  return connection;
}

std::string who_asks(const Context& context) {
  return context.actor.empty() ? context.caller : context.actor;
}

std::map<std::int64_t, std::string> unusable_products(Context& context, const pipeline::Connection& market,
                                                      const std::set<std::int64_t>& ids) {
  if (ids.empty()) return {};
  auto& services = context.services;
  const auto odoo = pipeline::odoo_of(services.connections, services.connectors, market.settings);
  require_active(odoo, fmt::format("The connection `{}`, to Odoo,", odoo.name));
  try {
    const auto book =
        services.connectors.get(odoo.kind).make_book(odoo, services.connections.secret(odoo), services.clock);
    return pipeline::unusable_products(*book, ids, context.stop);
  } catch (const Error& error) {
    // Only asked, so nothing is in doubt.
    Error said(error.kind == Error::Kind::in_doubt ? Error::Kind::unavailable : error.kind,
               fmt::format("Nothing was linked, since the Odoo of `{}` can't be asked for the product: {}", odoo.name,
                           error.message),
               error.detail);
    said.code = error.code;
    said.retry_after = error.retry_after;
    throw said;
  }
}

std::int64_t retry_products(Context& context, const std::string& connection, const std::string& why) {
  std::int64_t count = 0;
  for (const char* code : {"import_notmatched", "import_ambiguous", "import_total", "product", "factor"})
    count += context.services.market.retry(connection, code, 0, why);
  return count;
}

}  // namespace dragoman::ops
