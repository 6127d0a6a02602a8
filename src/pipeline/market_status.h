#pragma once

#include <span>
#include <string>

#include "pipeline/market_jobs.h"
#include "pipeline/order_book.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// What becomes of orders in Odoo, told to the marketplaces that they came from.
///
/// Threads: safe from any thread; functions with a Session as that one.
class MarketStatus {
 public:
  /// Keeps how these orders stand in Odoo now, in the caller's transaction. The same may be told again and again.
  /// Orders that the hub does not know are passed over.
  void note(store::Session& session, std::span<const MarketShop> shops, std::span<const OrderFacts> orders);
};

/// As it is kept with the order: JSON with `state`, `locked`, `delivered`, `shipped`, `lines` and `pickings`, or
/// `{"deleted":true}`.
std::string facts_json(const OrderFacts& facts);

}  // namespace dragoman::pipeline
