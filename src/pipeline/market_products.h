#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/decimal.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Something that a marketplace offers of this supplier, and which product of Odoo it is.
struct MarketProductRow {
  std::int64_t id = 0, connection_id = 0;
  std::string connection, external_id, internal_code, base_id, name, unit, unit_count, factor;
  std::int64_t odoo_product_id = 0;  ///< 0: none yet
  std::string how, state;
  Time changed{};
};

/// Which product of a marketplace is which of Odoo's.
///
/// Threads: safe from any thread.
class MarketProducts {
 public:
  explicit MarketProducts(store::Store& store) : store_(store) {}

  struct Filter {
    std::string connection, state, text;  ///< empty: all
    std::int64_t after = 0, limit = 100;
  };
  /// By number.
  std::vector<MarketProductRow> list(const Filter& filter);
  /// Throws not_found.
  MarketProductRow get(std::int64_t connection_id, const std::string& product);

  struct Link {
    std::string product;               ///< the marketplace's id
    std::int64_t odoo_product_id = 0;  ///< of the variant
    Decimal factor = 1;                ///< Odoo's units in one of the marketplace's
  };
  /// What a person says; it goes before every rule. The product need not have been seen yet. Throws invalid if the
  /// factor is not above zero, or an id is none.
  MarketProductRow link(std::int64_t connection_id, const Link& link, const std::string& who);
  /// Back to the rules. `ignored`: it is none of ours, and an order that has it is held. Throws not_found.
  MarketProductRow unlink(std::int64_t connection_id, const std::string& product, bool ignored, const std::string& who);

 private:
  store::Store& store_;
};

}  // namespace dragoman::pipeline
