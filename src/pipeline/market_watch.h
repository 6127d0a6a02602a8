#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/guarded.h"
#include "pipeline/connections.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_status.h"
#include "pipeline/market_stock.h"
#include "pipeline/order_book.h"

namespace dragoman::pipeline {

/// The order books of the connections that have one, opened when first needed and again when a connection was changed.
///
/// Threads: safe from any thread.
class OrderBooks {
 public:
  OrderBooks(Connections& connections, const ConnectorList& connectors, Clock& clock)
      : connections_(connections), connectors_(connectors), clock_(clock) {}

  struct Open {
    Connection connection;
    std::shared_ptr<OrderBook> book;
  };
  /// Throws as Connections::usable, and invalid if there is no order book of its kind.
  Open get(std::int64_t connection_id);

 private:
  struct Kept {
    Time changed{};
    std::shared_ptr<OrderBook> book;
  };
  Connections& connections_;
  const ConnectorList& connectors_;
  Clock& clock_;
  Guarded<std::map<std::int64_t, Kept>> kept_;
};

/// Follows in one Odoo what marketplaces want to hear of: orders that changed, by whoever, and products whose stock or
/// price may have. How far it has come is in the store with what it told, so nothing is passed over and a restart goes
/// on where it was. One node of all does it.
///
/// Threads: one thread at a time.
class MarketWatch {
 public:
  MarketWatch(std::int64_t odoo_connection_id, MarketOrders& orders, MarketStatus& status, MarketStock& stock,
              Marketplaces& marketplaces, OrderBooks& books, Clock& clock)
      : odoo_connection_id_(odoo_connection_id),
        orders_(orders),
        status_(status),
        stock_(stock),
        marketplaces_(marketplaces),
        books_(books),
        clock_(clock) {}

  /// One look. How long until the next one makes sense. What is in the way is kept for `trouble`, never thrown, unless
  /// the store fails.
  Micros step(std::stop_token stop);

  /// Why an Odoo can't be followed at the moment; empty: it is, or nobody asked for it.
  static std::string trouble(store::Session& session, std::int64_t odoo_connection_id);

 private:
  void look(std::span<const MarketShop> shops, std::stop_token stop);
  void begin(OrderBook& book, std::span<const MarketShop> shops, std::stop_token stop);
  void say(const std::string& trouble);

  const std::int64_t odoo_connection_id_;
  MarketOrders& orders_;
  MarketStatus& status_;
  MarketStock& stock_;
  Marketplaces& marketplaces_;
  OrderBooks& books_;
  Clock& clock_;
  Micros deleted_due_{0};  ///< when it is looked for deleted orders next, by the steady clock
  int failures_ = 0;       ///< in a row
  std::optional<std::string> said_;
};

}  // namespace dragoman::pipeline
