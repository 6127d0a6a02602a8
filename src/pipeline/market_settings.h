#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "pipeline/connections.h"
#include "pipeline/marketplace.h"
#include "pipeline/status_rules.h"

namespace dragoman::pipeline {

/// What every connection to a marketplace is set up with, whichever marketplace it is.
struct MarketplaceSettings {
  std::string odoo;                                                         ///< name of the connection its orders go to
  std::int64_t company = 0, warehouse = 0, pricelist = 0, salesperson = 0;  ///< ids in Odoo; 0: Odoo's own choice
  std::string currency = "EGP";
  Micros poll = std::chrono::seconds(60);
  Micros lookback = std::chrono::hours(168);  ///< 0: no range is asked for
  int batch = 100;
  std::vector<std::string>
      product_rules;  ///< in order: `mapping`, `cartona_id`, `internal_id`, `barcode`, `default_code`
  std::vector<std::string> customer_rules;  ///< in order: `retailer_code`, `phone`
  /// Of what is sold by more than one (its `unit_count`), where nobody has said what that is in Odoo.
  enum class UnitFactor { ask, one, unit_count } unit_factor = UnitFactor::ask;
  bool product_taxes = false;                 ///< lines get the product's taxes; else none
  bool keep_pickings = false;                 ///< of orders that the marketplace delivers
  bool partial = false;                       ///< what is not in stock becomes a backorder when an order is delivered
  std::map<std::string, MarketState> states;  ///< the marketplace's words that mean something else here
  std::map<std::string, std::int64_t>
      carriers;  ///< the marketplace's words for how it is delivered -> delivery.carrier
  Micros hold_retry = std::chrono::minutes(5);
  bool send_stock = true, send_prices = true;
  Micros catalog = std::chrono::hours(24);   ///< its products are read so often; 0: never
  Micros full_look = std::chrono::hours(1);  ///< all products are looked at so often; 0: never
  StatusRules status;                        ///< by what the marketplace is told of an order
  std::string cancellation_reason;           ///< in the marketplace's word; empty: none is told
  int tries = 10;  ///< of a call whose failure says nothing of an outage, until it is a dead letter

  /// How many of Odoo's units are in one of the marketplace's where no person has said it; nullopt: one has to.
  std::optional<Decimal> factor_of(const Decimal& unit_count) const;
  /// Whether all that was said of a product's packages (`factors`, as factor_for) is what `unit_factor` says of them:
  /// then that of another package follows it.
  bool follows(const std::string& factors) const;

  /// Throws invalid, naming what is wrong.
  static MarketplaceSettings parse(const nlohmann::json& settings);
};

/// The settings that a marketplace's connector has beside its own.
std::vector<Connector::Setting> marketplace_settings();

}  // namespace dragoman::pipeline
