#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "jobs/job.h"
#include "pipeline/deliver.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_status.h"

namespace dragoman::pipeline {

/// What tells marketplaces how their orders stand, as jobs:
///
///     market.status  tells a marketplace of orders as they stand when it runs; in the marketplace's lane
///     market.mark    writes into the orders in Odoo how that went; in Odoo's lane
///
/// A code that a shop gave is opened for the call that takes it, and gone with its answer.
///
/// Of an order one runs at a time, so no status overtakes a later one. Both may be repeated.
///
/// Threads: safe from any thread.
class MarketStatusJobs {
 public:
  /// `actor`: as DeliveryHandler's.
  MarketStatusJobs(MarketOrders& orders, Marketplaces& marketplaces, const access::KeyRing& keys,
                   DeliveryHandler::Find find, std::string actor)
      : status_(*this),
        mark_(*this),
        orders_(orders),
        marketplaces_(marketplaces),
        keys_(keys),
        find_(std::move(find)),
        actor_(std::move(actor)) {}

  /// They refer to this object, which outlives them.
  std::vector<jobs::Kind> kinds();

 private:
  struct Status final : jobs::Handler {
    explicit Status(MarketStatusJobs& owner) : owner(owner) {}
    std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
    MarketStatusJobs& owner;
  };
  struct Mark final : jobs::Handler {
    explicit Mark(MarketStatusJobs& owner) : owner(owner) {}
    std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
    MarketStatusJobs& owner;
  };

  Status status_;
  Mark mark_;
  MarketOrders& orders_;
  Marketplaces& marketplaces_;
  const access::KeyRing& keys_;
  const DeliveryHandler::Find find_;
  const std::string actor_;
};

}  // namespace dragoman::pipeline
