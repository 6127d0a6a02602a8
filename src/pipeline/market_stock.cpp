#include "pipeline/market_stock.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "store/store.h"

namespace dragoman::pipeline {
namespace {

using store::Param;
using store::Session;

// Numbers in one statement, each a parameter.
constexpr std::size_t kAtOnce = 200;

}  // namespace

void MarketStock::mark(Session& session, std::span<const MarketShop> shops, std::span<const std::int64_t> products,
                       bool all) {
  const std::int64_t now = to_us(session.now());
  const std::string mark =
      "UPDATE market_product SET dirty_us = CASE WHEN dirty_us >= $2 THEN dirty_us + 1 ELSE $2 END WHERE connection_id "
      "= $1 AND state = 'linked' AND odoo_product_id > 0";
  for (const auto& shop : shops) {
    if (all) {
      session.execute(mark, {shop.connection.id, now});
      continue;
    }
    for (std::size_t at = 0; at < products.size(); at += kAtOnce) {
      std::vector<Param> params{shop.connection.id, now};
      std::string places;
      for (std::size_t i = at; i < std::min(products.size(), at + kAtOnce); ++i) {
        params.emplace_back(products[i]);
        places += fmt::format("{}${}", places.empty() ? "" : ", ", params.size());
      }
      session.execute(fmt::format("{} AND odoo_product_id IN ({})", mark, places), params);
    }
  }
}

}  // namespace dragoman::pipeline
