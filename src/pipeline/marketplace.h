#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/decimal.h"
#include "base/secret.h"

namespace dragoman::pipeline {

/// A request and what came of it. Headers are not in it, so no credentials are.
struct Exchange {
  Time at{};
  Micros took{};
  std::string method, target;
  int status = 0;     ///< 0: no answer
  std::string error;  ///< why there is none
  std::string request, response;
};

/// How far an order is, whatever words a marketplace has for it.
enum class MarketState {
  pending,    ///< placed, nobody has said yes yet
  editing,    ///< the shop changes it; hands off until it is pending again
  approved,   ///< accepted
  assigned,   ///< accepted, and on its way
  delivered,  ///< final
  cancelled,  ///< final
  returned,   ///< came back: a person sees to it
  unknown     ///< a word that nobody has explained
};
std::string_view name(MarketState state);
/// nullopt: none is called so.
std::optional<MarketState> market_state(std::string_view name);
/// Of two states the one of the higher rank is the later one. `editing` counts as `pending`.
int rank(MarketState state);

/// Who buys.
struct MarketCustomer {
  std::string code;  ///< the marketplace's own, empty if it has none
  std::string name;
  std::vector<std::string> phones;  ///< as they came, the first one first
  std::string email, address, notes;
};

struct MarketLine {
  std::string id;           ///< unique in its order; one product may be on two lines
  std::string product_id;   ///< the marketplace's id of what this supplier offers
  std::string internal_id;  ///< the supplier's own code
  std::string base_id;      ///< the marketplace's id of the article, whoever offers it
  std::string name, unit, comment;
  std::optional<Decimal> unit_count;           ///< pieces in the unit; nullopt: it does not say
  Decimal quantity;                            ///< in units
  Decimal price;                               ///< of a unit, after the discounts below
  Decimal supplier_discount, market_discount;  ///< of a unit
};

/// An order as a marketplace tells of it. What is wrong with it is in `problems`, in words for a person; it can't be
/// imported before they are gone.
struct MarketOrder {
  std::string id;      ///< opaque, case-sensitive
  std::string number;  ///< what people call it
  std::string status;  ///< the marketplace's own word
  MarketState state = MarketState::unknown;
  std::string cancelled_by;      ///< of one that is cancelled: `retailer`, `supplier`, or empty
  std::string delivered_by;      ///< `delivered_by_supplier`, `delivered_by_cartona`
  bool delivers_itself = false;  ///< the marketplace delivers it, and the supplier's stock does not move
  /// Words for how it is delivered, the most telling first, for the setting `carriers`.
  std::vector<std::string> delivery;
  MarketCustomer customer;
  std::vector<MarketLine> lines;
  Decimal total, credit, installment, wallet, rebate;
  std::string payment;  ///< `standard`, `cartona_credit`, `installment`, `wallet_top_up`
  std::string note, cancellation_reason, delivery_day;  ///< the day is `2026-11-21`, or empty
  std::optional<Time> ordered;
  bool needs_otp = false;  ///< to call it delivered takes a code that the shop has
  std::vector<std::string> problems;
};

/// Something that a marketplace offers of this supplier. Fields that it did not send are empty.
struct MarketProduct {
  std::string id, internal_id, base_id, name, unit;
  std::optional<Decimal> unit_count, price, stock, order_min, order_max;
  std::optional<bool> in_stock, published;
};

/// The code of an error (unavailable or in_doubt) that came as an answer: the remote, or what is in front of it, broke.
inline constexpr std::string_view kServerFailed = "server_failed";

/// The end of a connection that orders come from, and that is told what became of them.
///
/// Errors  auth: the credentials are refused. unavailable, busy (with how long to wait, where the remote says so):
///         nothing was done. in_doubt: sent, and no answer. protocol: an answer that is not understood. invalid:
///         refused, with the remote's words; code `suspect` where it gave none that explain it: credentials are refused
///         like that, too, so ask test() what it was.
/// Threads safe from any thread; calls block.
class Marketplace {
 public:
  virtual ~Marketplace() = default;

  /// What keys begin with: `cartona`.
  virtual std::string kind() const = 0;

  struct RawOrder {
    std::string id;
    std::string_view body;  ///< the object's exact bytes; views the page
  };
  struct OrderPage {
    std::string text;  ///< owns what the orders view
    std::vector<RawOrder> orders;
    std::vector<std::string> unusable;  ///< what could not be taken for an order, in words for a person
    bool last = false;
    OrderPage() = default;
    OrderPage(const OrderPage&) = delete;
    OrderPage& operator=(const OrderPage&) = delete;
  };
  struct OrdersAsked {
    int page = 1;  ///< from 1
    int per_page = 100;
    std::optional<Time> from;  ///< none: whatever the remote still has to tell
  };
  /// What waits to be acknowledged, and what changed since it was.
  virtual std::unique_ptr<OrderPage> orders(const OrdersAsked& asked, std::stop_token stop) = 0;
  /// What the bytes of an order say. Never throws for what a remote may have put into them.
  virtual MarketOrder parse(std::string_view body) const = 0;

  /// That these have been taken in for good. May be repeated.
  virtual void acknowledge(std::span<const std::string> ids, std::stop_token stop) = 0;
  /// Of one order, with an answer about just that one. Throws invalid with the remote's words if it is refused.
  virtual void acknowledge_one(const std::string& id, std::stop_token stop) = 0;

  /// Its own word for a state; empty: nobody can set that one.
  virtual std::string status_word(MarketState state) const = 0;
  /// The reasons that it knows for a cancellation.
  virtual std::vector<std::string> cancellation_reasons() const = 0;

  struct StatusChange {
    std::string id, status;  ///< the marketplace's own word
    Secret otp;
    std::string cancellation_reason;
  };
  /// Many at once; what became of each is not told.
  virtual void set_status(std::span<const StatusChange> changes, std::stop_token stop) = 0;
  /// Throws invalid with the remote's words if it is refused.
  virtual void set_status_one(const StatusChange& change, std::stop_token stop) = 0;
  /// Where that goes, for people: of one order, or of many at once (empty).
  virtual std::string status_address(const std::string& id) const = 0;

  struct ProductPage {
    std::vector<MarketProduct> products;
    bool last = false;
  };
  virtual ProductPage products(int page, int per_page, std::stop_token stop) = 0;
  /// Fields that are not set stay as they are. All of them or none.
  virtual void update_products(std::span<const MarketProduct> changes, std::stop_token stop) = 0;

  /// Throws what is wrong with the connection; changes nothing. What it found, in words.
  virtual std::string test(std::stop_token stop) = 0;

  /// Hears of every call when it is over. Set before the first one.
  virtual void listen(std::function<void(const Exchange&)> listener) { (void)listener; }
};

}  // namespace dragoman::pipeline
