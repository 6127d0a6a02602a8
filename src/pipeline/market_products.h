#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/decimal.h"
#include "pipeline/market_settings.h"
#include "pipeline/order_book.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Something that a marketplace offers of this supplier, and which product of Odoo it is.
struct MarketProductRow {
  std::int64_t id = 0, connection_id = 0;
  std::string connection, external_id, internal_code, base_id, name, unit, unit_count, factor;
  std::string factors;               ///< what was said of which package, as factor_for
  std::int64_t odoo_product_id = 0;  ///< 0: none yet
  std::string how, state;
  Time changed{};
  std::string odoo_name;                        ///< when the products were read last
  std::string price_now, stock_now, published;  ///< as the marketplace has it, when it was read last
  std::optional<Time> read;
  std::string price_sent, stock_sent;  ///< what it took last
  nlohmann::json flags, flags_sent;    ///< objects
  nlohmann::json proposals;            ///< array of {"odoo_product", "name", "rules"}; of one that is linked for later
  std::optional<Time> sent, waits_since, price_noticed, price_accepted, stock_noticed, stock_accepted;
  std::string error_code, error, note;
  std::optional<Time> error_since;
};

/// Which of these ids of variants nothing can be linked to, and why: they are not in Odoo, or archived there.
///
/// Errors  as OrderBook.
std::map<std::int64_t, std::string> unusable_products(OrderBook& book, const std::set<std::int64_t>& ids,
                                                      std::stop_token stop);

/// Which product of a marketplace is which of Odoo's.
///
/// Threads: safe from any thread.
class MarketProducts {
 public:
  explicit MarketProducts(store::Store& store) : store_(store) {}

  struct Filter {
    std::string connection, state, text;  ///< empty: all
    std::string only;                     ///< `unsent`, `refused` or `proposed`; empty: all
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
    /// Of which package that is said; nullopt: of the one that the marketplace lists it in.
    std::optional<Decimal> unit_count{};
  };
  /// What a person says; it goes before every rule. Before the marketplace's products were read for the first time,
  /// the product need not have been seen yet. Whoever calls has asked Odoo for the variant. Throws invalid if the
  /// factor is not above zero, or an id is none; not_found if the marketplace has no such product.
  MarketProductRow link(std::int64_t connection_id, const Link& link, const std::string& who);
  /// Back to the rules. `ignored`: it is none of ours, and an order that has it is held. Throws not_found.
  MarketProductRow unlink(std::int64_t connection_id, const std::string& product, bool ignored, const std::string& who);
  /// Changes flags (`published`, `in_stock`, `min_order`, `max_order`, `code`; null takes one away, those not named
  /// stay), which go to the marketplace with stock and price. `write_code`: the code becomes the id of the variant it
  /// is linked to. Throws not_found, and invalid as checked_flags, or if there is no link.
  MarketProductRow set_flags(std::int64_t connection_id, const std::string& product, const nlohmann::json& changes,
                             bool write_code = false);

  struct Confirmed {
    std::vector<MarketProductRow> linked;
    std::int64_t ambiguous = 0, without = 0;  ///< of all: left, since several fit, or none
    std::int64_t factor_unknown = 0;          ///< of all: left, since they are boxes and nobody has said of how many
  };
  /// Links what is proposed, as a person says. `product` empty: all that have a single proposal. Throws not_found, and
  /// conflict if the product has none or several, or is a box of nobody has said how many of Odoo's units.
  Confirmed confirm(std::int64_t connection_id, const std::string& product, const std::string& who,
                    const MarketplaceSettings& settings = {});

  /// The links of a connection as a table for a spreadsheet.
  std::string export_csv(const std::string& connection);
  struct Imported {
    std::int64_t rows = 0, linked = 0, ignored = 0, flagged = 0;
  };
  /// Takes in such a table, changed by a person: by the column `product`; an empty cell leaves things as they are. All
  /// of it or nothing: throws invalid, code `csv`, naming every line that is wrong (the first fifty). `unusable` is
  /// asked once about the variants that links would be made to, as unusable_products; what it throws is thrown.
  using Unusable = std::function<std::map<std::int64_t, std::string>(const std::set<std::int64_t>&)>;
  Imported import_csv(std::int64_t connection_id, const std::string& text, const std::string& who,
                      const Unusable& unusable = {}, const MarketplaceSettings& settings = {});

 private:
  store::Store& store_;
};

}  // namespace dragoman::pipeline
