#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/decimal.h"
#include "jobs/job.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_settings.h"
#include "pipeline/marketplace.h"
#include "pipeline/order_book.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// The flow of what tells marketplaces of stock and prices.
inline constexpr const char* kStockFlow = "stock";

/// Stock and prices of products, told to the marketplaces that offer them.
///
/// Threads: safe from any thread; functions with a Session as that one.
class MarketStock {
 public:
  /// Marks those of the shops' products that are linked to these of Odoo (`all`: to any), as their stock or price may
  /// have changed, and enqueues the jobs that look; in the caller's transaction. The same may be told again and again.
  static void mark(store::Session& session, std::span<const MarketShop> shops, std::span<const std::int64_t> products,
                   bool all);
  /// A product of the marketplace's whose link or flags were changed.
  static void mark_product(store::Session& session, std::int64_t connection_id, const std::string& product,
                           const std::string& cause);
  /// Marks all linked products of a connection. `again`: what it took counts for nothing, all of it is sent anew. How
  /// many.
  static std::int64_t mark_all(store::Session& session, std::int64_t connection_id, bool again,
                               const std::string& cause);
  /// Marks those that the marketplace did not take, or could not be told; `product` empty: all. How many.
  static std::int64_t retry(store::Session& session, std::int64_t connection_id, const std::string& product,
                            const std::string& cause);

  struct Standing {
    std::int64_t linked = 0, unsent = 0, refused = 0;
    std::optional<Time> oldest_unsent;  ///< since when something may be other than what the marketplace has
  };
  /// By the number of the connection.
  static std::map<std::int64_t, Standing> standings(store::Session& session);

  static jobs::Enqueued enqueue(store::Session& session, std::int64_t connection_id, const std::string& cause);
};

/// What a marketplace is to have of a product; what is not set is not told.
struct MarketFigures {
  std::optional<Decimal> price, stock;
  nlohmann::json flags = nlohmann::json::object();  ///< `published`, `in_stock`, `min_order`, `max_order`, `code`
  std::string note;                                 ///< what a person may wonder about
  std::string code, message;                        ///< why something of it can't be told; else empty
};
/// Of one that is linked. `factor`: Odoo's units in one of the marketplace's. `flags`: what the mapping row says,
/// `flags_sent`: what the marketplace took. Stock is rounded down and never below 0, a price as its currency is.
MarketFigures figures_of(const ProductStock& odoo, const Decimal& factor, const nlohmann::json& flags,
                         const nlohmann::json& flags_sent, const MarketplaceSettings& settings);

/// Throws invalid if no flag has this name.
void check_flag(const std::string& name);

/// The flags that a mapping row may have, checked. Throws invalid, naming what is wrong.
nlohmann::json checked_flags(const nlohmann::json& flags);

}  // namespace dragoman::pipeline
