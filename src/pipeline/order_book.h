#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

namespace dragoman::pipeline {

/// An imported order as Odoo has it now. Amounts and quantities are decimal text.
struct OrderFacts {
  std::string key;
  enum class There {
    yes,
    missing,  ///< nothing was ever imported under this key
    deleted   ///< was imported, and somebody has deleted it in Odoo since
  };
  There there = There::yes;
  std::int64_t id = 0;   ///< also of one that was deleted
  std::string name;      ///< `S00042`
  std::string state;     ///< Odoo's own word: draft, sent, sale, done (before 17: locked), cancel
  bool locked = false;   ///< in every version
  std::string total;     ///< `530.00`, rounded to the currency
  std::string currency;  ///< `EGP`
  struct Line {
    std::int64_t id = 0, product_id = 0;
    std::string key;  ///< as it was sent, within its order; empty: not imported, somebody added it in Odoo
    std::string ordered, delivered;
    bool storable = false;  ///< of a product whose stock is counted
    bool operator==(const Line&) const = default;
  };
  std::vector<Line> lines;  ///< without sections and notes
  struct Picking {
    std::int64_t id = 0;
    std::string name, state;
    std::string kind;     ///< `outgoing`, `internal`, `incoming` (what came back)
    std::string done_at;  ///< UTC, `2026-11-20 10:05:48`; empty: not done
    bool operator==(const Picking&) const = default;
  };
  std::vector<Picking> pickings;
  bool delivered = false;  ///< there are goods, and of each line of them at least what was ordered is delivered
  bool shipped = false;    ///< some outgoing picking is done, in full or in part
  std::string write_date;  ///< UTC, microseconds

  bool operator==(const OrderFacts&) const = default;
};

/// What a marketplace is told of a product.
struct ProductStock {
  std::int64_t id = 0;
  bool there = true;    ///< false: deleted in Odoo
  bool active = false;  ///< not archived, and for sale
  std::string free;     ///< in hand and not reserved, in the warehouse that was asked about; may be negative
  std::string price;    ///< of one, by the price list; without one the product's own sales price
  std::string currency;
  int digits = 2;       ///< of amounts in that currency
  bool counted = true;  ///< Odoo keeps count of its stock, or of that of its parts
};

/// What can be chosen in an Odoo when a marketplace is set up.
struct MarketChoices {
  struct Named {
    std::int64_t id = 0;
    std::string name;
    std::int64_t company_id = 0;  ///< 0: of every company
    std::string currency;         ///< of companies and price lists
  };
  std::vector<Named> companies, warehouses, pricelists, salespeople, carriers;
};

struct ProductFacts {
  std::int64_t id = 0;
  std::string name, default_code, barcode, unit;
  bool active = false, storable = false;
  std::string market_id;  ///< what the field of the marketplace's own id holds
};

/// What a marketplace needs to know of the Odoo that its orders go to. A connector brings it.
///
/// Errors  unavailable, busy: ask again. Code kNotProvisioned (target.h): what it asks by is not in that Odoo, or this
///         account may not run it: somebody has to provision it. auth: the credentials are refused. protocol: an answer
///         that is not understood.
/// Threads safe from any thread; calls block.
class OrderBook {
 public:
  virtual ~OrderBook() = default;

  struct Watch {
    std::string since;                                  ///< `watermark` of the answer before; empty: from now on
    std::vector<std::string> prefixes;                  ///< of the keys of orders: `cartona/shop1/`
    std::optional<std::vector<std::int64_t>> products;  ///< only these are told of; nullopt: all
    bool deleted = false;  ///< look for orders that were deleted, too; costs more, so not each time
  };
  struct Watched {
    std::string watermark;               ///< opaque
    std::string now;                     ///< the server's clock, UTC, microseconds
    std::vector<OrderFacts> orders;      ///< that changed, or have a line, picking or move that did
    std::vector<std::int64_t> products;  ///< whose stock or price may have changed
    bool all_products = false;           ///< any price may have changed: look at every one
  };
  /// What changed since, and what may have: the same change is told by several answers in a row, until no transaction
  /// that was open at its time is open any more, so that no change is ever passed over.
  virtual Watched watch(const Watch& what, std::stop_token stop) = 0;

  /// In the order of the keys.
  virtual std::vector<OrderFacts> orders(std::span<const std::string> keys, std::stop_token stop) = 0;

  struct Stock {
    std::vector<std::int64_t> products;
    std::int64_t warehouse = 0;  ///< 0: all of the company's
    std::int64_t pricelist = 0;  ///< 0: none
    std::int64_t company = 0;    ///< 0: the account's own
  };
  /// In the order of the products.
  virtual std::vector<ProductStock> stock(const Stock& what, std::stop_token stop) = 0;

  virtual MarketChoices choices(std::stop_token stop) = 0;

  /// Products with an id above `after`, by id, archived ones too; at most `limit` (1 to 1000). `market_field` is the
  /// name of the field that holds the marketplace's own id, empty: none.
  virtual std::vector<ProductFacts> products(std::int64_t after, int limit, const std::string& market_field,
                                             std::stop_token stop) = 0;
};

}  // namespace dragoman::pipeline
