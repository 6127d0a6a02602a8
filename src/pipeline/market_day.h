#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// How a marketplace's connection did over some time.
struct MarketDay {
  std::int64_t connection_id = 0;
  std::string connection;
  std::int64_t orders = 0;                 ///< seen for the first time
  std::int64_t imported = 0;               ///< of them: in Odoo by now, or found to need nothing there
  std::int64_t by_market = 0;              ///< of them: the marketplace delivers them
  std::optional<Micros> median, p95;       ///< from first seen to in Odoo, of those that are there
  std::int64_t told = 0;                   ///< orders whose newest status the marketplace took, within the time
  std::int64_t runs = 0, runs_failed = 0;  ///< pulls, and what was sent, as the sync log has them
};

/// Of every connection that has orders, since `since`. Times are of the newest 10,000 orders.
///
/// Threads: safe from any thread.
std::vector<MarketDay> market_days(store::Store& store, Time since);

}  // namespace dragoman::pipeline
