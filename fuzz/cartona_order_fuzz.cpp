#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "connectors/cartona/wire.h"
#include "pipeline/market_content.h"

// Whatever a marketplace answers: a page of orders is cut or refused as a whole, and an order that was cut out of it is
// read without a throw and planned without one.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace dragoman;
  pipeline::Marketplace::OrderPage page;
  page.text.assign(reinterpret_cast<const char*>(data), size);
  const std::string alone = page.text;
  const auto plan = [](std::string_view body) {
    const auto order = connectors::cartona::parse_order(body, {});
    try {
      pipeline::plan_order(order, {}, {"cartona", "shop"}, {}, {});
    } catch (const Error& error) {
      // Amounts that are too large to reckon with.
      if (error.code != "decimal") throw;
    }
  };
  plan(alone);
  try {
    connectors::cartona::cut_orders(page, size % 2 == 0 ? "" : "1");
    for (const auto& order : page.orders) plan(order.body);
  } catch (const Error& error) {
    if (error.kind != Error::Kind::protocol) throw;
  }
  try {
    connectors::cartona::parse_products(alone);
  } catch (const Error& error) {
    if (error.kind != Error::Kind::protocol) throw;
  }
  return 0;
}
