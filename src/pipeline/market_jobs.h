#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/guarded.h"
#include "jobs/job.h"
#include "pipeline/connections.h"
#include "pipeline/deliver.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_settings.h"
#include "pipeline/trace.h"

namespace dragoman::pipeline {

class OrderBooks;

/// A connection to a marketplace, as those who follow its Odoo need it.
struct MarketShop {
  Connection connection;
  MarketplaceSettings settings;
  MarketName name;
  std::shared_ptr<Marketplace> marketplace;
};

/// The connections to marketplaces, opened when first needed and again when one was changed.
///
/// Threads: safe from any thread.
class Marketplaces {
 public:
  /// `traces`: where calls are kept whose connection is traced; may be null.
  Marketplaces(Connections& connections, const ConnectorList& connectors, Clock& clock, Traces* traces = nullptr)
      : connections_(connections), connectors_(connectors), clock_(clock), traces_(traces) {}

  struct Open {
    Connection connection;
    MarketplaceSettings settings;
    std::shared_ptr<Marketplace> marketplace;
    MarketName name() const { return {marketplace->kind(), connection.name}; }
  };
  /// Throws not_found if there is none such; cancelled (code `connection_paused`) and auth (code `connection_error`) if
  /// nothing is to be asked of it now.
  Open get(std::int64_t connection_id);
  /// The same whatever its state: for what asks nothing of the remote.
  Open peek(std::int64_t connection_id);
  /// Those that are active.
  std::vector<Connection> active();
  /// All of them whose Odoo is there, whatever their state, by the number of the Odoo's connection.
  std::map<std::int64_t, std::vector<MarketShop>> shops();
  Connections& connections() { return connections_; }

 private:
  struct Kept {
    Time changed{};
    std::shared_ptr<Marketplace> marketplace;
  };
  Connections& connections_;
  const ConnectorList& connectors_;
  Clock& clock_;
  Traces* const traces_;
  Guarded<std::map<std::int64_t, Kept>> kept_;
};

/// What the failure of a call to a marketplace means for the job that made it, where it says nothing about what was
/// asked: credentials that are refused stop the connection. Asks the marketplace what an error with the code `suspect`
/// was.
jobs::Outcome marketplace_failed(Marketplaces& marketplaces, const Marketplaces::Open& open, const Error& error,
                                 std::stop_token stop);
/// What failed for the last time, by the connection's own setting `tries`, is a dead letter.
void end_tries(const MarketplaceSettings& settings, const jobs::Job& job, jobs::Outcome& outcome);
/// Of a connection that a person has stopped, or that nobody has any more. nullopt: it is something else.
std::optional<jobs::Outcome> marketplace_stopped(const Error& error);

/// What brings orders of marketplaces into Odoo, as jobs:
///
///     market.pull    asks a marketplace for its orders and keeps each version of each; in the marketplace's lane
///     market.import  brings one order as it is now into Odoo, or says why it is held; in Odoo's lane
///     market.ack     tells the marketplace that orders have been taken in for good; in the marketplace's lane
///
/// An order is acknowledged after, and only after, its import is durable. All three may be repeated.
///
/// Threads: safe from any thread.
class MarketJobs {
 public:
  /// `actor`: as DeliveryHandler's.
  MarketJobs(MarketOrders& orders, Marketplaces& marketplaces, OrderBooks& books, DeliveryHandler::Find find,
             std::string actor)
      : pull_(*this),
        import_(*this),
        ack_(*this),
        orders_(orders),
        marketplaces_(marketplaces),
        books_(books),
        find_(std::move(find)),
        actor_(std::move(actor)) {}

  /// They refer to this object, which outlives them.
  std::vector<jobs::Kind> kinds();

  /// Enqueues a pull of a connection, unless one waits or runs already.
  static jobs::Enqueued enqueue_pull(store::Session& session, std::int64_t connection_id, const std::string& cause);

 private:
  struct Pull final : jobs::Handler {
    explicit Pull(MarketJobs& owner) : owner(owner) {}
    std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
    MarketJobs& owner;
  };
  struct Import final : jobs::Handler {
    explicit Import(MarketJobs& owner) : owner(owner) {}
    std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
    MarketJobs& owner;
  };
  struct Ack final : jobs::Handler {
    explicit Ack(MarketJobs& owner) : owner(owner) {}
    std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;
    MarketJobs& owner;
  };

  jobs::Outcome pull(const jobs::Job& job, std::stop_token stop);
  MarketOrders::Owner owner_of(const Marketplaces::Open& open);

  Pull pull_;
  Import import_;
  Ack ack_;
  MarketOrders& orders_;
  Marketplaces& marketplaces_;
  OrderBooks& books_;
  const DeliveryHandler::Find find_;
  const std::string actor_;
};

/// What has to happen by the clock: pulls, looks at all products and readings of them every so often, and what is held
/// once more. One node of all does it.
///
/// Threads: one thread at a time.
class MarketPoller {
 public:
  MarketPoller(MarketOrders& orders, Marketplaces& marketplaces, Clock& clock)
      : orders_(orders), marketplaces_(marketplaces), clock_(clock) {}
  /// Enqueues what is due. How long until the next step makes sense.
  Micros step();

 private:
  void regular(const std::vector<Connection>& active, Micros now);

  MarketOrders& orders_;
  Marketplaces& marketplaces_;
  Clock& clock_;
  std::map<std::int64_t, Micros> due_;  ///< connection → when it is pulled next, by the steady clock
  /// Likewise, with what is done then.
  std::map<std::pair<std::int64_t, std::string>, Micros> regular_;
  Micros look_again_{0};
};

}  // namespace dragoman::pipeline
