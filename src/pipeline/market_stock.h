#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "pipeline/market_jobs.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Stock and prices of products, told to the marketplaces that offer them.
///
/// Threads: safe from any thread; functions with a Session as that one.
class MarketStock {
 public:
  /// Marks those of the shops' products that are linked to these of Odoo (`all`: to any), as their stock or price may
  /// have changed; in the caller's transaction. The same may be told again and again.
  void mark(store::Session& session, std::span<const MarketShop> shops, std::span<const std::int64_t> products,
            bool all);
};

}  // namespace dragoman::pipeline
