#pragma once

#include <map>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "jobs/job.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_watch.h"

namespace dragoman::pipeline {

/// The flow of what reads products.
inline constexpr const char* kProductsFlow = "products";

/// Odoo's products by what a marketplace may know them by.
///
/// Threads: immutable once filled.
class ProductIndex {
 public:
  void add(const ProductFacts& product);

  struct Candidate {
    std::int64_t id = 0;
    std::string name;
    std::vector<std::string> rules;  ///< that found it
  };
  /// Active products that the rules find for a marketplace's product, in the order of the rules. More than one: nobody
  /// can tell which but a person.
  std::vector<Candidate> candidates(const std::string& external_id, const std::string& internal_code,
                                    std::span<const std::string> rules) const;
  /// Empty: there is none such.
  std::string name(std::int64_t id) const;

 private:
  struct Known {
    std::string name;
    bool active = false;
  };
  std::map<std::int64_t, Known> by_id_;
  std::multimap<std::string, std::int64_t> by_market_id_, by_barcode_, by_code_;
};

/// What reads the products of a marketplace beside Odoo's, as a job in the marketplace's lane:
///
///     market.catalog  keeps what the marketplace has of each product, notes what differs from what it took (so that it
///                     is sent again), and proposes links for those that have none
///
/// Threads: safe from any thread.
class MarketCatalogJobs final : jobs::Handler {
 public:
  MarketCatalogJobs(store::Store& store, Marketplaces& marketplaces, OrderBooks& books)
      : store_(store), marketplaces_(marketplaces), books_(books) {}

  /// They refer to this object, which outlives them.
  std::vector<jobs::Kind> kinds();

  /// Enqueues a reading of a connection's products, unless one waits or runs already.
  static jobs::Enqueued enqueue(store::Session& session, std::int64_t connection_id, const std::string& cause);

 private:
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
  jobs::Outcome run(const jobs::Job& job, std::stop_token stop);

  store::Store& store_;
  Marketplaces& marketplaces_;
  OrderBooks& books_;
};

}  // namespace dragoman::pipeline
