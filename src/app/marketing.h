#pragma once

#include <stop_token>

#include "base/clock.h"
#include "jobs/leader.h"
#include "jobs/node.h"
#include "pipeline/market_jobs.h"
#include "store/store.h"

namespace dragoman::app {

/// Lets one of the hubs that share a database do what marketplaces need by the clock: the one that leads.
///
/// Threads: `run` on one thread; construct and destroy elsewhere.
class Marketing {
 public:
  /// `node` is registered by the Runner that owns it.
  Marketing(store::Store& store, pipeline::MarketOrders& orders, pipeline::Marketplaces& marketplaces,
            const jobs::Node& node, Clock& clock)
      : leader_(store, node, "market"), poller_(orders, marketplaces, clock), clock_(clock) {}

  /// One look. How long until the next one makes sense.
  Micros step();
  /// Steps until a stop is asked for; then lets go, so that another node need not wait for the lease.
  void run(std::stop_token stop);

 private:
  jobs::Leader leader_;
  pipeline::MarketPoller poller_;
  Clock& clock_;
};

}  // namespace dragoman::app
