#include "pipeline/market_status.h"

#include <nlohmann/json.hpp>

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Session;

}  // namespace

std::string facts_json(const OrderFacts& facts) {
  if (facts.there != OrderFacts::There::yes) return R"({"deleted":true})";
  json lines = json::array(), pickings = json::array();
  for (const auto& line : facts.lines)
    lines.push_back({{"id", line.id},
                     {"key", line.key},
                     {"product_id", line.product_id},
                     {"ordered", line.ordered},
                     {"delivered", line.delivered},
                     {"storable", line.storable}});
  for (const auto& picking : facts.pickings)
    pickings.push_back({{"id", picking.id},
                        {"name", picking.name},
                        {"state", picking.state},
                        {"kind", picking.kind},
                        {"done_at", picking.done_at}});
  return json{{"state", facts.state},          {"locked", facts.locked}, {"delivered", facts.delivered},
              {"shipped", facts.shipped},      {"lines", lines},         {"pickings", pickings},
              {"write_date", facts.write_date}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

void MarketStatus::note(Session& session, std::span<const MarketShop> shops, std::span<const OrderFacts> orders) {
  for (const auto& facts : orders) {
    if (facts.there == OrderFacts::There::missing) continue;
    const MarketShop* shop = nullptr;
    for (const auto& one : shops)
      if (facts.key.starts_with(one.name.prefix())) shop = &one;
    if (!shop) continue;
    const std::string order = facts.key.substr(shop->name.prefix().size());
    const bool there = facts.there == OrderFacts::There::yes;
    session.execute(
        "UPDATE market_order SET odoo_name = CASE WHEN $3 <> '' THEN $3 ELSE odoo_name END, odoo_state = $4, "
        "odoo_total "
        "= CASE WHEN $5 <> '' THEN $5 ELSE odoo_total END, odoo_facts = $6 WHERE connection_id = $1 AND external_id = "
        "$2 "
        "AND odoo_facts <> $6",
        {shop->connection.id, order, facts.name, there ? facts.state : std::string("deleted"), facts.total,
         facts_json(facts)});
  }
}

}  // namespace dragoman::pipeline
