#pragma once

#include <map>
#include <stop_token>
#include <thread>

#include "base/clock.h"
#include "jobs/leader.h"
#include "jobs/node.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_watch.h"
#include "store/store.h"

namespace dragoman::app {

/// Lets one of the hubs that share a database do what marketplaces need by the clock, and follow their Odoos: the one
/// that leads.
///
/// Threads: `run` on one thread, and one for each Odoo, so that one that hangs holds up no other; construct and destroy
///          elsewhere.
class Marketing {
 public:
  /// `node` is registered by the Runner that owns it.
  Marketing(store::Store& store, pipeline::MarketOrders& orders, pipeline::Marketplaces& marketplaces,
            pipeline::MarketStatus& status, pipeline::MarketStock& stock, pipeline::OrderBooks& books,
            const jobs::Node& node, Clock& clock)
      : leader_(store, node, "market"),
        poller_(orders, marketplaces, clock),
        orders_(orders),
        marketplaces_(marketplaces),
        status_(status),
        stock_(stock),
        books_(books),
        clock_(clock) {}

  /// One look. How long until the next one makes sense.
  Micros step();
  /// Steps until a stop is asked for; then lets go, so that another node need not wait for the lease.
  void run(std::stop_token stop);

 private:
  void follow();
  void watch(std::int64_t odoo_connection_id, std::stop_token stop);

  jobs::Leader leader_;
  pipeline::MarketPoller poller_;
  pipeline::MarketOrders& orders_;
  pipeline::Marketplaces& marketplaces_;
  pipeline::MarketStatus& status_;
  pipeline::MarketStock& stock_;
  pipeline::OrderBooks& books_;
  Clock& clock_;
  std::map<std::int64_t, std::jthread> watches_;  ///< by the Odoo's connection
};

}  // namespace dragoman::app
