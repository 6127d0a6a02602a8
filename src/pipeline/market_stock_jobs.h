#pragma once

#include <span>
#include <stop_token>
#include <vector>

#include "jobs/job.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_watch.h"

namespace dragoman::pipeline {

/// What it means for a job in a marketplace's lane that Odoo could not be asked: that is not about the marketplace,
/// whose other jobs go on.
jobs::Outcome order_book_failed(const Error& error);

/// What tells marketplaces of stock and prices, as a job in the marketplace's lane:
///
///     market.stock  looks at the products that were marked, the oldest mark first, and sends what differs from what
///     the
///                   marketplace took last
///
/// A batch that is refused is halved until the row that spoils it is alone: that one has an error, the others go. That
/// something is sent is written down before: where the outcome is not known, all of it is sent again.
///
/// Threads: safe from any thread.
class MarketStockJobs final : jobs::Handler {
 public:
  MarketStockJobs(store::Store& store, Marketplaces& marketplaces, OrderBooks& books)
      : store_(store), marketplaces_(marketplaces), books_(books) {}

  /// They refer to this object, which outlives them.
  std::vector<jobs::Kind> kinds();

 private:
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
  jobs::Outcome run(const jobs::Job& job, std::stop_token stop);

  store::Store& store_;
  Marketplaces& marketplaces_;
  OrderBooks& books_;
};

}  // namespace dragoman::pipeline
