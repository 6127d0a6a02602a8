#include "ops/market_shapes.h"

#include <fmt/format.h>

#include "base/error.h"
#include "pipeline/market_orders.h"

namespace dragoman::ops {

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
  if (connection.state != "active")
    throw Error(Error::Kind::conflict,
                fmt::format("The connection `{0}` is {1}{2} `dragoman connection resume {0}` goes on.", connection.name,
                            connection.state == "error" ? "in error" : connection.state,
                            connection.reason.empty() ? "." : ": " + connection.reason + "."));
  return connection;
}

std::string who_asks(const Context& context) {
  return context.actor.empty() ? context.caller : context.actor;
}

std::int64_t retry_products(Context& context, const std::string& connection, const std::string& why) {
  std::int64_t count = 0;
  for (const char* code : {"import_notmatched", "import_ambiguous", "import_total", "product"})
    count += context.services.market.retry(connection, code, 0, why);
  return count;
}

}  // namespace dragoman::ops
