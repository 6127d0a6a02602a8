#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "jobs/job.h"
#include "pipeline/deliver.h"
#include "pipeline/market_jobs.h"
#include "pipeline/relink.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// A shop that orders at a marketplace, and which customer of Odoo's it is.
struct MarketCustomerRow {
  std::int64_t id = 0, connection_id = 0;
  std::string connection;
  std::string key;  ///< what it is told from others by: the marketplace's code of it, as a rule
  std::string name;
  std::int64_t odoo_connection_id = 0;
  std::int64_t odoo_partner_id = 0;  ///< 0: none yet, or none any more
  std::string how;                   ///< the rule that found it, `created`, `person:` and who said so; empty: not known
  std::optional<Time> relinked;      ///< when a person said so last
  std::int64_t orders = 0;           ///< how many of its orders are in Odoo
  struct Intent {
    std::int64_t partner_id = 0;  ///< 0: none
    std::string by, why;
    Time at{};
    bool shared = false;  ///< other shops may be that contact, too
  };
  std::optional<Intent> intent;  ///< under way, or in doubt
  Time seen{}, changed{};
};

/// Which shop of a marketplace is which customer of Odoo's, and how a person mends that.
///
/// What a shop's key stands for is kept in Odoo, where orders look it up; this is what the hub knows of it. A change is
/// noted here before it is made there, and asked for once more by a job (`market.relink`) where its end was not seen.
///
/// Threads: safe from any thread; functions with a Session as that one.
class MarketCustomers final : public jobs::Handler {
 public:
  /// `actor`: as DeliveryHandler's.
  MarketCustomers(MarketOrders& orders, Marketplaces& marketplaces, DeliveryHandler::Find find, std::string actor)
      : orders_(orders), marketplaces_(marketplaces), find_(std::move(find)), actor_(std::move(actor)) {}

  struct Filter {
    std::string connection, text;  ///< empty: all
    std::int64_t after = 0, limit = 100;
  };
  /// By number.
  std::vector<MarketCustomerRow> list(const Filter& filter);
  /// By its key, else by the hub's own number. Throws not_found.
  MarketCustomerRow get(const Connection& connection, const std::string& which);

  struct Order {
    std::string external_id, number, odoo_name, odoo_state, total;
    std::int64_t odoo_id = 0;
  };
  /// Other shops, of any marketplace, that are the same contact: the first hundred of them.
  std::vector<MarketCustomerRow> same(const MarketCustomerRow& customer);
  /// Its orders that are in Odoo and were imported while it was the customer that it is now, the newest first.
  std::vector<Order> orders(const MarketCustomerRow& customer, std::int64_t limit);

  struct Asked {
    Connection connection;
    std::string customer;      ///< as `get`
    std::int64_t partner = 0;  ///< the right one; 0: none, and the next order is to make a new one
    std::string by, why;
    bool shared = false;  ///< it is that customer also where another shop is; else that is refused
  };
  struct Done {
    MarketCustomerRow before, after;
    std::string partner_name;      ///< of the right one, in Odoo
    std::vector<Order> orders;     ///< that have the former customer, and keep it; of very many the newest
    std::int64_t orders_kept = 0;  ///< all of them
    std::int64_t retried = 0;      ///< orders that were held for want of a customer, and are tried again
  };
  /// Says which customer a shop is. Orders that are in Odoo keep the one they have.
  ///
  /// Errors  not_found: the shop. conflict: its Odoo is not there or not active; another change is under way; that
  ///         customer is another shop's; the shop is another customer in Odoo by now. invalid: the customer is not
  ///         there, archived, or of another company. in_doubt: it may have been done, and a job sees to it. Else as
  ///         Target: nothing was done.
  Done relink(const Asked& asked, std::stop_token stop);

  /// The kind of the job; it refers to this object, which outlives it.
  jobs::Kind kind();
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;

  /// What the import of orders has to know of a customer.
  struct Known {
    std::int64_t odoo_connection_id = 0, partner_id = 0, relinked_us = 0;  ///< 0: never
    std::string how;
  };
  /// By key.
  static std::map<std::string, Known> known(store::Session& session, std::int64_t connection_id,
                                            std::span<const std::string> keys);
  struct Met {
    std::int64_t connection_id = 0, odoo_connection_id = 0;
    std::string key, name;
    std::string target_key;        ///< what it has at the target
    std::optional<Linked> link;    ///< nullopt: the order is held
    std::optional<Known> known{};  ///< as it was when the order was looked at
    std::string cause;
  };
  /// What goes to Odoo of an order that keeps the customer it has, `content` as pipeline::Outgoing.
  static std::string without_customer(const std::string& content);
  /// Keeps what an import tells of a customer, unless a person has said otherwise meanwhile.
  static void met(store::Session& session, const Met& met);

 private:
  struct Place {
    Connection odoo;
    std::int64_t company = 0;
    std::string key;  ///< of the customer at the target
  };
  std::optional<MarketCustomerRow> find(std::int64_t id);
  Place place_of(const MarketCustomerRow& customer);
  MarketCustomerRow intend(const Asked& asked, const MarketCustomerRow& customer, const Place& place);
  Relinked ask(const MarketCustomerRow& customer, const Place& place, std::stop_token stop);
  jobs::Outcome run_one(const jobs::Job& job, std::stop_token stop);

  MarketOrders& orders_;
  Marketplaces& marketplaces_;
  const DeliveryHandler::Find find_;
  const std::string actor_;
};

}  // namespace dragoman::pipeline
