#include "pipeline/market_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/step.h"
#include "base/text.h"
#include "jobs/queue.h"
#include "notify/alert.h"
#include "pipeline/market_catalog.h"
#include "pipeline/market_customers.h"
#include "pipeline/market_factor.h"
#include "pipeline/market_status.h"
#include "pipeline/market_stock.h"
#include "pipeline/market_stock_jobs.h"
#include "pipeline/market_watch.h"

namespace dragoman::pipeline {
namespace {

using jobs::Job;
using jobs::Outcome;
using nlohmann::json;
using store::Bytes;
using store::Param;
using store::Session;

// A list that changes while it is walked is walked again; so often it is only where somebody keeps adding.
constexpr int kWalksMax = 20;
constexpr int kPagesMax = 100'000;
constexpr Micros kPollMax = std::chrono::seconds(1);
constexpr Micros kHeldLook = std::chrono::seconds(5);

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

struct OrderPayload {
  std::int64_t order = 0;
  bool single = false;
};

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "payload";
  throw error;
}

OrderPayload payload_of(const std::string& text) {
  const json payload = json::parse(text, nullptr, false);
  if (!payload.is_object() || !payload.contains("order") || !payload["order"].is_number_integer() ||
      payload["order"].get<std::int64_t>() < 1)
    refuse(R"(The payload is to be {"order": NUMBER}, the hub's number of an order.)");
  return {payload["order"].get<std::int64_t>(), payload.contains("single") && payload["single"] == true};
}

// The jobs of an order keep to it: their order key, and what is written with their end, hang on it.
void check_order(const jobs::Wanted& wanted) {
  const auto now = payload_of(wanted.payload);
  if (!wanted.before)
    refuse("Such a job comes from an order: `dragoman market retry` makes one for an order that is held.");
  if (payload_of(*wanted.before).order != now.order)
    refuse("The job is about another order; it can't be made this one's.");
}

void check_pull(const jobs::Wanted& wanted) {
  if (wanted.connector.empty()) refuse("A marketplace is asked through its connection: name one.");
}

Outcome nothing(std::string why) {
  return jobs::done({}, dumped({{"outcome", "nothing"}, {"note", why}}));
}

}  // namespace

std::optional<Outcome> marketplace_stopped(const Error& error) {
  if (error.code == "connection_paused") return jobs::snooze(std::chrono::seconds(10));
  if (error.kind == Error::Kind::not_found) return jobs::cancel("Its connection was removed.");
  return std::nullopt;
}

Marketplaces::Open Marketplaces::peek(std::int64_t connection_id) {
  const auto connection = connections_.find(connection_id);
  if (!connection)
    throw Error(Error::Kind::not_found, fmt::format("The connection {} is not there any more.", connection_id));
  Open open;
  open.connection = *connection;
  open.settings = MarketplaceSettings::parse(connection->settings);
  {
    auto kept = kept_.lock();
    const auto found = kept->find(connection_id);
    if (found != kept->end() && found->second.changed == connection->changed) {
      open.marketplace = found->second.marketplace;
      return open;
    }
  }
  const Connector& connector = connectors_.get(connection->kind);
  if (!connector.make_marketplace)
    throw Error(Error::Kind::invalid, fmt::format("`{}` is no connection to a marketplace.", connection->name));
  open.marketplace = connector.make_marketplace(*connection, connections_.secret(*connection), clock_);
  if (traces_)
    open.marketplace->listen(
        [this, connection_id](const Exchange& exchange) { traces_->keep(connection_id, exchange); });
  auto kept = kept_.lock();
  (*kept)[connection_id] = {connection->changed, open.marketplace};
  return open;
}

Marketplaces::Open Marketplaces::get(std::int64_t connection_id) {
  connections_.usable(connection_id);
  return peek(connection_id);
}

std::vector<Connection> Marketplaces::active() {
  std::vector<Connection> out;
  for (auto& connection : connections_.list())
    if (connection.state == "active" && connectors_.get(connection.kind).make_marketplace)
      out.push_back(std::move(connection));
  return out;
}

std::map<std::int64_t, std::vector<MarketShop>> Marketplaces::shops() {
  std::map<std::int64_t, std::vector<MarketShop>> out;
  const auto all = connections_.list();
  for (const auto& connection : all) {
    if (!connectors_.get(connection.kind).make_marketplace) continue;
    const std::string odoo = connection.settings.value("odoo", "");
    const auto found = std::find_if(all.begin(), all.end(), [&](const Connection& one) { return one.name == odoo; });
    if (found == all.end()) continue;
    try {
      Open open = peek(connection.id);
      out[found->id].push_back({open.connection, open.settings, open.name(), open.marketplace});
    } catch (const Error& error) {
      ignore_error("its pull says what is wrong with the connection", error);
    }
  }
  return out;
}

std::vector<jobs::Kind> MarketJobs::kinds() {
  return {{.name = "market.pull",
           .summary = "Asks a marketplace for its orders and keeps every version of each",
           .handler = &pull_,
           .attempts_max = 10,
           .time_limit = std::chrono::minutes(30),
           .dead_parks = false,
           .check = check_pull},
          {.name = "market.import",
           .summary = "Brings an order of a marketplace into Odoo as it is now, or holds it and says why",
           .handler = &import_,
           // As the import of other records.
           .batch_max = 50,
           .attempts_max = 10,
           .time_limit = std::chrono::minutes(10),
           .check = check_order},
          {.name = "market.ack",
           .summary = "Tells a marketplace that orders have been taken in for good",
           .handler = &ack_,
           .batch_max = 100,
           .attempts_max = 10,
           .dead_parks = false,
           .check = check_order}};
}

jobs::Enqueued MarketJobs::enqueue_pull(Session& session, std::int64_t connection_id, const std::string& cause) {
  return jobs::enqueue(session, {.kind = "market.pull",
                                 .flow = kOrdersFlow,
                                 .connection_id = connection_id,
                                 .payload = "{}",
                                 .unique_key = fmt::format("market.pull/{}", connection_id),
                                 .unique = jobs::Unique::unfinished,
                                 .cause = cause});
}

MarketOrders::Owner MarketJobs::owner_of(const Marketplaces::Open& open) {
  MarketOrders::Owner owner;
  owner.connection_id = open.connection.id;
  owner.connection = open.connection.name;
  owner.kind = open.marketplace->kind();
  owner.odoo = open.settings.odoo;
  owner.currency = open.settings.currency;
  owner.hold_retry = open.settings.hold_retry;
  if (const auto odoo = marketplaces_.connections().find(open.settings.odoo)) owner.odoo_connection_id = odoo->id;
  return owner;
}

Outcome marketplace_failed(Marketplaces& marketplaces, const Marketplaces::Open& open, const Error& error,
                           std::stop_token stop) {
  Error meant = error;
  if (error.kind == Error::Kind::invalid && error.code == "suspect") {
    // Credentials that are refused may look like any other refusal: the test, which asks for nothing odd, tells.
    try {
      open.marketplace->test(stop);
    } catch (const Error& test) {
      if (test.kind == Error::Kind::auth || test.kind == Error::Kind::invalid)
        meant = Error(Error::Kind::auth,
                      fmt::format("{} The test of the connection fails likewise, so it is taken for a refusal of the "
                                  "token.",
                                  sentence(error.message)),
                      error.detail);
      else
        meant = test;
    }
  }
  if (meant.kind == Error::Kind::auth && meant.code != "connection_error") {
    // Nothing is asked any more until a person has looked. The breaker tells people of it.
    try {
      marketplaces.connections().set_state(open.connection.name, "error", meant.message);
    } catch (const Error& gone) {
      ignore_error("the connection was removed meanwhile", gone);
    }
  }
  Outcome outcome = jobs::failed(meant);
  if (outcome.what == Outcome::What::dead && meant.kind != Error::Kind::bug) outcome.what = Outcome::What::outage;
  return outcome;
}

void end_tries(const MarketplaceSettings& settings, const Job& job, Outcome& outcome) {
  if (outcome.what == Outcome::What::retry && job.attempt >= settings.tries) outcome.what = Outcome::What::dead;
}

std::vector<Outcome> MarketJobs::Pull::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes;
  for (const Job& job : jobs)
    outcomes.push_back(stop.stop_requested() ? jobs::snooze(Micros(0)) : owner.pull(job, stop));
  return outcomes;
}

namespace {

// Tells people of what was listed and is no order, once of each: it is listed again and again. Those that are news.
// `partly`: not all was read, so what is not among them may be listed still.
std::vector<std::string> tell_of_unusable(store::Store& store, const MarketOrders::Owner& owner,
                                          const std::vector<std::string>& unusable, bool partly) {
  // So many are kept; a list of more is no list of orders.
  constexpr std::size_t kMax = 100;
  std::set<std::string> before, now(unusable.begin(), unusable.end());
  const auto read = [&](Session& session) {
    before.clear();
    const json kept =
        json::parse(MarketOrders::cursor(session, owner.connection_id, "unusable").value_or("[]"), nullptr, false);
    if (kept.is_array())
      for (const auto& one : kept) before.insert(one.get<std::string>());
  };
  store.read(read);
  if (partly) now.insert(before.begin(), before.end());
  while (now.size() > kMax) now.erase(std::prev(now.end()));
  if (now == before) return {};
  std::vector<std::string> news;
  std::set_difference(now.begin(), now.end(), before.begin(), before.end(), std::back_inserter(news));
  store.write([&](Session& session) {
    MarketOrders::set_cursor(session, owner.connection_id, "unusable", dumped(now));
    if (news.empty()) return;
    std::string text;
    for (const auto& one : news) text += one + "\n";
    notify::raise(session, {.fingerprint = fmt::format("market:{}:unusable", owner.connection),
                            .severity = notify::Severity::warning,
                            .title = fmt::format("{} lists orders that can't be taken in", owner.connection),
                            .text = text + "\nThe marketplace gives no id by which it could be told from others, so it "
                                           "does not come to Odoo: ask the marketplace.",
                            .subject = owner.connection,
                            .link = fmt::format("dragoman sync log {} --kind order_pull", owner.connection),
                            .count = static_cast<std::int64_t>(news.size())});
  });
  return news;
}

// Where a range of times means when orders were made, what becomes of older ones is never listed. Now and then a pull
// begins where the oldest order does that is still open.
constexpr const char* kFarCursor = "orders_far";
constexpr Micros kFarEvery = std::chrono::hours(1);
constexpr Micros kFarMax = std::chrono::hours(24 * 90);
// Of the marketplace's times, which may lack a zone, and ours.
constexpr Micros kClocksApart = std::chrono::hours(24);

std::optional<Time> pulled_at(Session& session, std::int64_t connection_id, const char* cursor) {
  const auto kept = MarketOrders::cursor(session, connection_id, cursor);
  const auto at = kept ? Decimal::parse(*kept) : std::nullopt;
  return at ? std::optional(from_us(at->floor())) : std::nullopt;
}

bool is_far_due(Session& session, std::int64_t connection_id, Time now) {
  const auto last = pulled_at(session, connection_id, kFarCursor);
  return !last || now - *last >= kFarEvery || now < *last;
}

}  // namespace

Outcome MarketJobs::pull(const Job& job, std::stop_token stop) {
  Marketplaces::Open open;
  try {
    open = marketplaces_.get(job.connection_id);
  } catch (const Error& error) {
    // It is asked for again when the connection goes on.
    if (error.code == "connection_paused" || error.code == "connection_error") return jobs::cancel(error.message);
    if (const auto outcome = marketplace_stopped(error)) return *outcome;
    return jobs::failed(error);
  }
  const MarketOrders::Owner owner = owner_of(open);
  orders_.adopt(owner);
  auto& store = orders_.store();
  Time started{};
  bool far = false;
  Marketplace::OrdersAsked asked{.page = 1, .per_page = open.settings.batch, .from = std::nullopt};
  store.read([&](Session& session) {
    started = session.now();
    if (open.settings.lookback == Micros(0)) return;
    // From before the last pull that came to its end: what came while this hub was away is older than the range.
    Time reached = started;
    if (const auto last = pulled_at(session, owner.connection_id, "orders")) reached = std::min(reached, *last);
    asked.from = reached - open.settings.lookback;
    if (!(far = is_far_due(session, owner.connection_id, started))) return;
    if (const auto oldest = MarketOrders::oldest_open(session, owner.connection_id))
      asked.from = std::min(*asked.from, std::max(*oldest - kClocksApart, started - kFarMax));
  });

  MarketOrders::Stored all;
  std::int64_t pages = 0, walks = 0;
  std::vector<std::string> unusable;
  std::string failure;
  std::optional<Outcome> outcome;
  try {
    for (bool again = true; again && walks < kWalksMax;) {
      ++walks;
      MarketOrders::Stored walk;
      std::set<std::string> seen;
      int full_pages = 0;
      unusable.clear();
      for (asked.page = 1; asked.page < kPagesMax; ++asked.page) {
        if (stop.stop_requested()) return jobs::snooze(Micros(0));
        Time begun{};
        store.read([&](Session& session) { begun = session.now(); });
        const auto page = open.marketplace->orders(asked, stop);
        step("market.pulled");
        ++pages;
        unusable.insert(unusable.end(), page->unusable.begin(), page->unusable.end());
        // Some lists end with their last page again and again.
        bool unseen = false;
        for (const auto& order : page->orders) unseen |= seen.insert(order.id).second;
        if (!unseen) break;
        ++full_pages;
        walk += orders_.store_page(
            owner, page->orders, [&](std::string_view body) { return open.marketplace->parse(body); }, begun);
        step("market.stored");
        if (page->last) break;
      }
      all.created += walk.created;
      all.changed += walk.changed;
      all.acknowledge_again += walk.acknowledge_again;
      all.unchanged = walk.unchanged;
      // What is acknowledged leaves the list, and what was on the next page moves up past the reader.
      again = full_pages > 1 && walk.created + walk.changed > 0;
    }
  } catch (const Error& error) {
    failure = error.message;
    outcome = marketplace_failed(marketplaces_, open, error, stop);
    end_tries(open.settings, job, *outcome);
  }
  const auto told = tell_of_unusable(store, owner, unusable, !failure.empty());
  if (all.created + all.changed > 0 || !told.empty() || !failure.empty()) {
    CaptureStore::Run run;
    run.connection_id = owner.connection_id;
    run.model = kOrderModel;
    run.kind = "order_pull";
    // What came in is in, whatever stood beside it.
    run.outcome = !failure.empty() ? "failed" : "ok";
    run.started = started;
    run.counts = {{"created", all.created}, {"changed", all.changed}, {"unchanged", all.unchanged}, {"pages", pages}};
    run.errors = told;
    if (!failure.empty()) run.errors.push_back(failure);
    orders_.capture().log_run(run);
  }
  for (const auto& one : told)
    log::warning("a marketplace listed what is no order", {{"connection", owner.connection}, {"order", one}});
  if (outcome) return *outcome;
  const std::int64_t id = owner.connection_id;
  const std::string reached = std::to_string(to_us(started));
  return jobs::done(
      [id, reached, far](Session& session) {
        MarketOrders::set_cursor(session, id, "orders", reached);
        if (far) MarketOrders::set_cursor(session, id, kFarCursor, reached);
      },
      dumped({{"created", all.created},
              {"changed", all.changed},
              {"unchanged", all.unchanged},
              {"acknowledged_again", all.acknowledge_again},
              {"pages", pages},
              {"walks", walks}}));
}

namespace {

// What ends the import of one order, in the transaction of its job's completion.
struct Ending {
  MarketOrderRow row;
  MarketPlan plan;
  std::vector<MarketLine> lines;
  MarketState market_state = MarketState::unknown;
  Micros hold_retry{};
  std::shared_ptr<const std::map<std::string, MarketLink>> links;  // products of its marketplace that were known before
  std::optional<MarketCustomers::Known> customer;                  // likewise
  MarketShop shop;
};

// Products that were met, so that a person finds them; what is known of them stays.
void note_products(Session& session, const Ending& ending) {
  const std::int64_t now = to_us(session.now());
  for (const MarketLine& line : ending.lines) {
    // Nearly always known: an order then costs no statement here.
    if (ending.links && ending.links->contains(line.product_id)) continue;
    session.execute(
        "INSERT INTO market_product (connection_id, external_id, internal_code, base_id, name, unit, unit_count, "
        "state, "
        "seen_us, changed_us) VALUES ($1, $2, $3, $4, $5, $6, $7, 'proposed', $8, $8) ON CONFLICT DO NOTHING",
        {ending.row.connection_id, line.product_id, line.internal_id, line.base_id, line.name, line.unit,
         line.unit_count ? line.unit_count->str() : std::string(), now});
  }
}

// The shop, and which customer it was found to be; `delivered` null: the order is held.
void note_customer(Session& session, const Ending& ending, const Delivered* delivered, std::int64_t job_id) {
  MarketCustomers::Met met{.connection_id = ending.row.connection_id,
                           .odoo_connection_id = ending.row.odoo_connection_id,
                           .key = ending.row.customer_key,
                           .name = ending.row.customer,
                           .target_key = ending.plan.customer_key,
                           .link = {},
                           .known = ending.customer,
                           .cause = fmt::format("job {}", job_id)};
  if (delivered) {
    const auto link = delivered->links.find(ending.plan.customer_key);
    if (link == delivered->links.end()) return;
    met.link = link->second;
  }
  MarketCustomers::met(session, met);
}

// Odoo's words for what is not there any more, and what a person can do about it.
Error said_deleted(const Ending& ending, Error why) {
  const auto& row = ending.row;
  const std::string anew =
      fmt::format("`dragoman market retry {} --order {} --anew` makes", row.connection, row.external_id);
  if (why.message.find(fmt::format("`{}`", ending.shop.name.order_key(row.external_id))) == std::string::npos)
    why.message =
        fmt::format("{} {} anew what is missing; `dragoman market settle {} {}` leaves the order as it is there.",
                    sentence(why.message), anew, row.connection, row.external_id);
  else
    why.message = fmt::format(
        "The order was deleted in Odoo{}. {} it anew there; `dragoman market close {} {}` leaves it "
        "at that.",
        row.odoo_id > 0 ? fmt::format(" (it was sale.order:{})", row.odoo_id) : "", anew, row.connection,
        row.external_id);
  return why;
}

// Odoo names what it does not find by the key; a person knows the product by its name, and links it by its id.
Error said_not_found(const Ending& ending, Error why) {
  for (const auto& [key, id] : ending.plan.products) {
    if (why.message.find(fmt::format("`{}`", key)) == std::string::npos) continue;
    const auto line =
        std::find_if(ending.lines.begin(), ending.lines.end(),
                     [&, product = std::string_view(id)](const auto& one) { return one.product_id == product; });
    why.message = fmt::format(
        "`{}` ({}) is no product of Odoo's that is found, or it is archived there: `dragoman market link {} {} ID` "
        "says which it is. Odoo says: {}",
        line == ending.lines.end() ? "" : line->name, id, ending.row.connection, id, why.message);
    break;
  }
  return why;
}

// Cancelled at the marketplace, and not in Odoo any more: both agree.
bool is_gone_on_both_sides(const Ending& ending, const Delivered& delivered) {
  return delivered.error && delivered.error->code == "import_deleted" && ending.market_state == MarketState::cancelled;
}

// `there`: id of the order in Odoo, where it said so with the refusal.
void end_held(Session& session, const Ending& ending, Error why, std::int64_t job_id, const std::string& there = {}) {
  if (const auto id = Decimal::parse(there); id && ending.row.odoo_id == 0 && why.code != "import_deleted")
    session.execute("UPDATE market_order SET odoo_id = $2 WHERE id = $1 AND odoo_id = 0", {ending.row.id, id->floor()});
  if (why.code == "import_deleted") {
    why = said_deleted(ending, std::move(why));
    if (why.message.starts_with("The order was deleted"))
      session.execute("UPDATE market_order SET odoo_state = $2 WHERE id = $1", {ending.row.id, kDeletedInOdoo});
  }
  if (why.code == "import_notmatched") why = said_not_found(ending, std::move(why));
  if (why.code == "import_closed")
    why.message = fmt::format(
        "{} What of it is right is settled in Odoo by hand; `dragoman market settle {} {}` then leaves the order as it "
        "is there.",
        sentence(why.message), ending.row.connection, ending.row.external_id);
  // Whether a product that is linked is listed in that package by now decides what goes out of it: the list says.
  const auto other_package = [&](const MarketLine& line) {
    const auto link = ending.links->find(line.product_id);
    return link != ending.links->end() && link->second.settled && line.unit_count && !link->second.factors.empty() &&
           !factor_for(link->second.factors, *line.unit_count);
  };
  if (why.code == "factor" && ending.row.hold_code != why.code &&
      std::any_of(ending.lines.begin(), ending.lines.end(), other_package))
    MarketCatalogJobs::enqueue(session, ending.row.connection_id, "an order has another package");
  MarketOrders::hold(session, ending.row, why, ending.hold_retry, job_id);
  note_products(session, ending);
  note_customer(session, ending, nullptr, job_id);
  // Nothing changes in Odoo by which it would be written down that nobody is told.
  if (why.code != "reopened") return;
  const auto row = MarketStatus::find(session, ending.row.id);
  if (!row) return;
  const auto decision = decide_status(row->to_decide(), ending.shop.settings.status, {}, *ending.shop.marketplace);
  if (decision.code == why.code) MarketStatus::settle(session, ending.row.connection, *row, decision, job_id);
}

// Dealt with in the version that was read: the marketplace may be told, unless a newer one came meanwhile.
void acknowledge(Session& session, const MarketOrderRow& row, const std::string& cause) {
  if (session.execute("UPDATE market_order SET ack = 'due' WHERE id = $1 AND version = $2", {row.id, row.version}) == 1)
    MarketOrders::enqueue_ack(session, row.connection_id, row.id, false, cause);
}

void end_recorded(Session& session, const Ending& ending, std::int64_t job_id) {
  const auto& row = ending.row;
  const std::string_view state = ending.plan.code == "cancelled" ? "cancelled"
                                 : row.odoo_id > 0               ? "imported"
                                                                 : "ignored";
  session.execute(
      "UPDATE market_order SET state = $2, hold_code = '', hold_message = '', hold_us = NULL, hold_next_us = NULL, "
      "hold_tries = 0, applied_revision = $3, done_version = $4, flag = CASE WHEN $5 <> '' THEN $5 ELSE flag END, "
      "flag_message = CASE WHEN $5 <> '' THEN $6 ELSE flag_message END WHERE id = $1",
      {row.id, state, row.revision, row.version, ending.plan.flag, ending.plan.message});
  MarketOrders::tell(session, row.id, "recorded", ending.plan.message, job_id);
  MarketOrders::tell_of_flag(session, row, ending.plan.flag, ending.plan.message);
  acknowledge(session, row, ending.plan.code);
  MarketStatus::imported(session, ending.shop, row.id);
}

void end_gone(Session& session, Ending ending, std::int64_t job_id) {
  ending.plan.code = "cancelled";
  ending.plan.message = "It was deleted in Odoo, and is cancelled at the marketplace by now: both agree.";
  session.execute("UPDATE market_order SET odoo_state = $2 WHERE id = $1", {ending.row.id, kDeletedInOdoo});
  end_recorded(session, ending, job_id);
}

void end_imported(Session& session, const Ending& ending, const Delivered& delivered, std::int64_t job_id) {
  const auto& row = ending.row;
  const std::string flag = delivered.flag ? delivered.flag->code : "";
  const bool cancelled = ending.market_state == MarketState::cancelled && flag != "import_delivered";
  const std::string message = delivered.flag ? delivered.flag->message : "";
  const std::string digest = ending.plan.body;
  // One that was left as it is, for it was delivered, is not cancelled: what was applied before still is.
  std::string_view applied = name(ending.market_state);
  if (ending.market_state == MarketState::cancelled && !cancelled)
    applied = row.applied_state == kCancelling ? std::string_view() : std::string_view(row.applied_state);
  const std::int64_t now = to_us(session.now());
  bool closed = false;
  // What was known of an order that had been deleted in Odoo is not about this one.
  session.query(
      "UPDATE market_order SET state = $2, hold_code = '', hold_message = '', hold_us = NULL, hold_next_us = NULL, "
      "hold_tries = 0, applied_revision = $3, done_version = $4, applied_state = $5, applied_body = $6, odoo_id = "
      "CASE WHEN $7 > 0 THEN $7 ELSE odoo_id END, imported_us = COALESCE(imported_us, $8), edited = CASE WHEN version "
      "= $4 THEN 0 ELSE edited END, flag = CASE WHEN $9 <> '' THEN $9 ELSE flag END, flag_message = CASE WHEN $9 <> '' "
      "THEN $10 ELSE flag_message END, applied_customer = customer_key, odoo_name = CASE WHEN odoo_state = 'deleted' "
      "THEN '' ELSE odoo_name END, "
      "odoo_facts = CASE WHEN odoo_state = 'deleted' THEN '' ELSE odoo_facts END, odoo_state = CASE WHEN odoo_state = "
      "'deleted' THEN '' ELSE odoo_state END WHERE id = $1 AND applied_revision < $3 RETURNING closed_us",
      {row.id, cancelled ? std::string_view("cancelled") : std::string_view("imported"), row.revision, row.version,
       applied, Bytes{digest}, Decimal::parse(delivered.id).value_or(Decimal()).floor(), now, flag, message},
      [&](const store::Row& found) { closed = !found.is_null(0); });
  if (!row.imported && delivered.what != Delivered::What::created)
    session.execute("UPDATE market_order SET met = 1 WHERE id = $1", {row.id});
  note_products(session, ending);
  note_customer(session, ending, &delivered, job_id);
  for (const auto& [key, link] : delivered.links) {
    const auto product = ending.plan.products.find(key);
    if (product == ending.plan.products.end()) continue;
    const auto known = ending.links->find(product->second);
    if (known != ending.links->end() && known->second.settled) continue;
    Decimal factor = 1;
    std::string count;
    for (const MarketLine& line : ending.lines)
      if (line.product_id == product->second && line.unit_count) {
        factor = ending.shop.settings.factor_of(*line.unit_count).value_or(factor);
        count = with_factor("", *line.unit_count, factor);
      }
    // What a person has said about it stays.
    session.execute(
        "UPDATE market_product SET odoo_product_id = $3, how = $4, state = 'linked', changed_us = $5, factor = $6, "
        "factors = CASE WHEN $7 <> '' THEN $7 WHEN unit_count <> '' THEN unit_count || ':' || $6 ELSE '' END WHERE "
        "connection_id = $1 AND external_id = $2 "
        "AND state = 'proposed'",
        {row.connection_id, product->second, Decimal::parse(link.id).value_or(Decimal()).floor(), link.how, now,
         factor.str(), std::string_view(count)});
  }
  MarketOrders::tell(session, row.id, "imported",
                     fmt::format("{} as odoo:sale.order:{}, version {}: {}{}", name(delivered.what), delivered.id,
                                 row.version, row.status, message.empty() ? "" : ". " + message),
                     job_id);
  MarketOrders::tell_of_flag(session, row, flag, message);
  if (closed) {
    // This was under way when a person closed it.
    const std::string late = "It was closed while it was on its way, and is in Odoo all the same: cancel it there.";
    session.execute(
        "UPDATE market_order SET closed_us = NULL, closed_why = '', flag = 'closed', flag_message = $2 WHERE id = $1",
        {row.id, late});
    MarketOrders::tell_of_flag(session, row, "closed", late);
  }
  acknowledge(session, row, fmt::format("job {}", job_id));
  MarketStatus::imported(session, ending.shop, row.id);
}

// A state that an order goes on in.
bool goes_on(MarketState state) {
  return rank(state) >= 0 && state != MarketState::editing && state != MarketState::cancelled &&
         state != MarketState::returned;
}

std::string result_of(const char* outcome, const MarketPlan& plan) {
  return dumped({{"outcome", outcome}, {"code", plan.code}, {"note", plan.message}});
}

}  // namespace

std::vector<Outcome> MarketJobs::Import::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes(jobs.size());
  std::vector<std::int64_t> ids;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    try {
      ids.push_back(payload_of(jobs[i].payload).order);
      places.push_back(i);
    } catch (const Error& error) {
      outcomes[i] = jobs::failed(error);
    }
  }
  auto& orders = owner.orders_;
  const auto loaded = orders.load(ids);
  std::map<std::int64_t, std::optional<Marketplaces::Open>> opened;
  std::map<std::int64_t, std::shared_ptr<Ending>> endings;  // by job
  std::vector<Job> deliveries;
  std::vector<std::size_t> delivery_places;
  struct Known {
    std::set<std::string> products, shops;
    std::shared_ptr<const std::map<std::string, MarketLink>> links;
    std::map<std::string, MarketCustomers::Known> customers;
  };
  std::map<std::int64_t, Known> known;  // by marketplace
  std::vector<std::optional<MarketOrder>> parsed(ids.size());
  const auto failed = [&](std::size_t n, const Error& error) {
    Outcome& outcome = outcomes[places[n]];
    if (const auto stop_outcome = marketplace_stopped(error)) {
      outcome = *stop_outcome;
    } else if (error.code == "decimal") {
      // Amounts that nobody can have meant.
      auto ending = std::make_shared<Ending>();
      ending->row = loaded[n]->row;
      outcome = jobs::done(
          [ending, error, id = jobs[places[n]].id](Session& session) { end_held(session, *ending, error, id); },
          dumped({{"outcome", "held"}, {"code", error.code}, {"note", error.message}}));
    } else {
      outcome = jobs::failed(error);
    }
  };
  for (std::size_t n = 0; n < ids.size(); ++n) {
    const Job& job = jobs[places[n]];
    Outcome& outcome = outcomes[places[n]];
    if (!loaded[n] || loaded[n]->row.version == 0) {
      outcome = jobs::cancel("The order is not there any more.");
      continue;
    }
    const MarketOrderRow& row = loaded[n]->row;
    if (row.applied_revision >= row.revision) {
      outcome = nothing("It is in Odoo as it is now.");
      continue;
    }
    if (row.odoo_connection_id != job.connection_id) {
      outcome = jobs::cancel("The order goes to another Odoo by now.");
      continue;
    }
    try {
      auto& open = opened[row.connection_id];
      if (!open) open = owner.marketplaces_.peek(row.connection_id);
      // One that was sent when it was closed is seen to its end, so that it is known whether it is there.
      if (row.is_closed() && !orders.may_be_in_odoo(row, open->name().order_key(row.external_id))) {
        outcome = jobs::cancel("A person has closed the order: it is not imported any more.");
        continue;
      }
      parsed[n] = open->marketplace->parse(loaded[n]->body);
      for (const auto& line : parsed[n]->lines) known[row.connection_id].products.insert(line.product_id);
      if (!row.customer_key.empty()) known[row.connection_id].shops.insert(row.customer_key);
    } catch (const Error& error) {
      failed(n, error);
    }
  }
  for (auto& [connection, one] : known) {
    const std::vector<std::string> products(one.products.begin(), one.products.end());
    one.links = std::make_shared<const std::map<std::string, MarketLink>>(orders.links(connection, products));
    const std::vector<std::string> shops(one.shops.begin(), one.shops.end());
    orders.store().read([&, connection = connection](Session& session) {
      one.customers = MarketCustomers::known(session, connection, shops);
    });
  }
  // What was cancelled for the marketplace and is open there again: whether it is still so in Odoo is asked now, since
  // what was noted of it may be older than that.
  std::vector<std::string> reopened;
  std::vector<std::size_t> reopened_places;
  for (std::size_t n = 0; n < ids.size(); ++n) {
    if (!parsed[n] || !goes_on(parsed[n]->state)) continue;
    const MarketOrderRow& row = loaded[n]->row;
    if (row.is_made_anew() || (row.applied_state != name(MarketState::cancelled) && row.applied_state != kCancelling))
      continue;
    reopened.push_back(opened[row.connection_id]->name().order_key(row.external_id));
    reopened_places.push_back(n);
  }
  std::map<std::size_t, bool> still_cancelled;  // of those that were asked about
  if (!reopened.empty()) {
    try {
      const auto facts = owner.books_.get(jobs.front().connection_id).book->orders(reopened, stop);
      for (std::size_t i = 0; i < reopened.size(); ++i)
        still_cancelled[reopened_places[i]] = facts.at(i).there == OrderFacts::There::yes && facts[i].state == "cancel";
    } catch (const Error& error) {
      const auto stopped = marketplace_stopped(error);
      for (const std::size_t n : reopened_places) {
        outcomes[places[n]] = stopped ? *stopped : order_book_failed(error);
        parsed[n].reset();
      }
    }
  }
  for (std::size_t n = 0; n < ids.size(); ++n) {
    if (!parsed[n]) continue;
    const Job& job = jobs[places[n]];
    Outcome& outcome = outcomes[places[n]];
    const MarketOrderRow& row = loaded[n]->row;
    const MarketOrder& order = *parsed[n];
    try {
      const auto& open = opened[row.connection_id];
      MarketApplied applied;
      applied.anew = row.is_made_anew();
      applied.settled = row.is_settled();
      applied.imported = row.odoo_id > 0;
      applied.in_doubt = !applied.imported && order.state == MarketState::cancelled &&
                         orders.may_be_in_odoo(row, open->name().order_key(row.external_id));
      // Of what is not cancelled in Odoo any more no state counts as applied.
      const auto asked = still_cancelled.find(n);
      if (asked == still_cancelled.end()) applied.state = market_state(row.applied_state);
      applied.cancelled = asked != still_cancelled.end() && asked->second;
      applied.body = row.applied_body;
      applied.edited = row.edited;
      const auto& customers = known[row.connection_id].customers;
      const auto customer = customers.find(row.customer_key);
      auto ending = std::make_shared<Ending>();
      ending->row = row;
      ending->lines = order.lines;
      ending->market_state = order.state;
      ending->hold_retry = open->settings.hold_retry;
      ending->links = known[row.connection_id].links;
      if (customer != customers.end()) ending->customer = customer->second;
      if (!ending->links) ending->links = std::make_shared<const std::map<std::string, MarketLink>>();
      ending->shop = {open->connection, open->settings, open->name(), open->marketplace};
      ending->plan = plan_order(order, open->settings, open->name(), *ending->links, applied);
      // What is in Odoo keeps the customer it has, whom a person may have changed there: unless the marketplace says
      // that it is another shop's now, and no person has said since who that is.
      // One without a code has only mended its name.
      const bool same_shop = row.applied_customer == row.customer_key || order.customer.code.empty();
      const bool relinked = ending->customer && row.imported && to_us(*row.imported) < ending->customer->relinked_us;
      if (row.odoo_id > 0 && !applied.anew && (same_shop || relinked) && ending->plan.what == MarketPlan::What::deliver)
        ending->plan.content = MarketCustomers::without_customer(ending->plan.content);
      const MarketPlan& plan = ending->plan;
      switch (plan.what) {
        case MarketPlan::What::deliver: {
          Job delivery = job;
          delivery.payload =
              DeliveryOrder{"sale.order", open->name().order_key(row.external_id), row.revision, plan.content, 0, 0}
                  .json();
          deliveries.push_back(std::move(delivery));
          delivery_places.push_back(places[n]);
          endings[job.id] = std::move(ending);
          break;
        }
        case MarketPlan::What::wait:
          ending->hold_retry = Micros(0);
          [[fallthrough]];
        case MarketPlan::What::hold: {
          Error why(Error::Kind::invalid, plan.message);
          why.code = plan.code;
          outcome = jobs::done([ending, why, id = job.id](Session& session) { end_held(session, *ending, why, id); },
                               result_of("held", plan));
          break;
        }
        case MarketPlan::What::record:
          outcome = jobs::done([ending, id = job.id](Session& session) { end_recorded(session, *ending, id); },
                               result_of("recorded", plan));
          break;
      }
    } catch (const Error& error) {
      failed(n, error);
    }
  }
  if (deliveries.empty()) return outcomes;

  // Whose cancellation it is has to be known before Odoo has it: the answer may be lost, and the marketplace think
  // better of it meanwhile.
  std::vector<std::int64_t> cancelling;
  for (const Job& delivery : deliveries)
    if (const Ending& ending = *endings.at(delivery.id);
        ending.market_state == MarketState::cancelled && ending.row.applied_state != name(MarketState::cancelled))
      cancelling.push_back(ending.row.id);
  std::sort(cancelling.begin(), cancelling.end());
  if (!cancelling.empty())
    orders.store().write([&](Session& session) {
      for (const std::int64_t id : cancelling)
        session.execute("UPDATE market_order SET applied_state = $2 WHERE id = $1", {id, kCancelling});
    });

  // What becomes of each is written with its outcome, before the entry of the audit log that ends it.
  DeliveryHandler handler(orders.store(), owner.find_, owner.actor_,
                          [endings](Session& session, std::int64_t job_id, const Delivered& delivered) {
                            const Ending& ending = *endings.at(job_id);
                            if (is_gone_on_both_sides(ending, delivered))
                              end_gone(session, ending, job_id);
                            else if (delivered.error)
                              end_held(session, ending, *delivered.error, job_id, delivered.id);
                            else
                              end_imported(session, ending, delivered, job_id);
                          });
  auto delivered = handler.run(deliveries, stop);
  for (std::size_t n = 0; n < delivered.size(); ++n) {
    Outcome& outcome = delivered[n];
    // What Odoo refuses is held, with the reason, and tried again when that may be gone: no dead letter.
    if (outcome.what == Outcome::What::dead && outcome.commit) {
      const bool gone =
          outcome.code == "import_deleted" && endings.at(deliveries[n].id)->market_state == MarketState::cancelled;
      outcome.what = Outcome::What::done;
      outcome.result =
          dumped({{"outcome", gone ? "recorded" : "held"}, {"code", outcome.code}, {"note", outcome.message}});
    }
    outcomes[delivery_places[n]] = std::move(outcome);
  }
  return outcomes;
}

std::vector<Outcome> MarketJobs::Ack::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes(jobs.size());
  Marketplaces::Open open;
  try {
    open = owner.marketplaces_.get(jobs.front().connection_id);
  } catch (const Error& error) {
    const auto outcome = marketplace_stopped(error);
    std::fill(outcomes.begin(), outcomes.end(), outcome ? *outcome : jobs::failed(error));
    return outcomes;
  }
  struct One {
    std::size_t place = 0;
    MarketOrderRow row;
    bool single = false;
  };
  std::vector<One> due;
  {
    std::vector<std::int64_t> ids;
    std::vector<std::pair<std::size_t, bool>> places;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      try {
        const auto payload = payload_of(jobs[i].payload);
        ids.push_back(payload.order);
        places.emplace_back(i, payload.single);
      } catch (const Error& error) {
        outcomes[i] = jobs::failed(error);
      }
    }
    const auto loaded = owner.orders_.load(ids);
    for (std::size_t n = 0; n < ids.size(); ++n) {
      if (!loaded[n] || loaded[n]->row.ack != "due")
        outcomes[places[n].first] = nothing("It has been acknowledged.");
      else if (loaded[n]->row.done_version != loaded[n]->row.version)
        // With the newer version's import comes another acknowledgement.
        outcomes[places[n].first] = nothing("A newer version has come, which is not in Odoo yet.");
      else
        due.push_back({places[n].first, loaded[n]->row, places[n].second});
    }
  }
  const auto sent = [](const MarketOrderRow& row) {
    return jobs::done(
        [id = row.id, version = row.done_version](Session& session) {
          if (session.execute("UPDATE market_order SET ack = 'sent', acked_us = $2 WHERE id = $1 AND ack = 'due' AND "
                              "done_version = $3",
                              {id, to_us(session.now()), version}) == 1)
            MarketOrders::tell(session, id, "acknowledged", fmt::format("version {}", version));
        },
        dumped({{"outcome", "acknowledged"}, {"order", row.external_id}}));
  };
  const auto one_by_one = [&](std::span<const One> some) {
    for (const One& one : some) {
      if (stop.stop_requested()) {
        outcomes[one.place] = jobs::snooze(Micros(0));
        continue;
      }
      try {
        open.marketplace->acknowledge_one(one.row.external_id, stop);
        step("market.acknowledged");
        outcomes[one.place] = sent(one.row);
      } catch (const Error& error) {
        // Refused with a reason: that is about this order, and a person's.
        outcomes[one.place] = error.kind == Error::Kind::invalid && error.code != "suspect"
                                  ? jobs::failed(error)
                                  : marketplace_failed(owner.marketplaces_, open, error, stop);
      }
    }
  };
  const auto bulk_end = std::stable_partition(due.begin(), due.end(), [](const One& one) { return !one.single; });
  const auto size = static_cast<std::size_t>(open.settings.batch);
  const std::size_t bulk = static_cast<std::size_t>(bulk_end - due.begin());
  for (std::size_t at = 0; at < bulk; at += size) {
    const std::span<const One> some(due.data() + at, std::min(size, bulk - at));
    std::vector<std::string> ids;
    for (const One& one : some) ids.push_back(one.row.external_id);
    Outcome failed;
    try {
      if (stop.stop_requested()) {
        for (const One& one : some) outcomes[one.place] = jobs::snooze(Micros(0));
        continue;
      }
      open.marketplace->acknowledge(ids, stop);
      step("market.acknowledged");
      for (const One& one : some) outcomes[one.place] = sent(one.row);
      continue;
    } catch (const Error& error) {
      if (error.kind == Error::Kind::invalid && error.code != "suspect") {
        // One of them spoils the rest.
        one_by_one(some);
        continue;
      }
      failed = marketplace_failed(owner.marketplaces_, open, error, stop);
    }
    for (const One& one : some) outcomes[one.place] = failed;
  }
  one_by_one({due.data() + bulk, due.size() - bulk});
  for (std::size_t i = 0; i < jobs.size(); ++i) end_tries(open.settings, jobs[i], outcomes[i]);
  return outcomes;
}

// What is done ever so often, whichever hub did it last: when that was is in the store.
void MarketPoller::regular(const std::vector<Connection>& active, Micros now) {
  const auto each = [&](const Connection& connection, const char* what, Micros every,
                        const std::function<void(Session&)>& enqueue) {
    if (every == Micros(0)) return;
    const auto [due, fresh] = regular_.try_emplace({connection.id, what}, now);
    if (fresh)
      orders_.store().read([&](Session& session) {
        const auto kept = MarketOrders::cursor(session, connection.id, what);
        const auto last = kept ? Decimal::parse(*kept) : std::nullopt;
        if (last) due->second = now + std::clamp(every - (session.now() - from_us(last->floor())), Micros(0), every);
      });
    due->second = std::min(due->second, now + every);
    if (due->second > now) return;
    orders_.store().write([&](Session& session) {
      enqueue(session);
      MarketOrders::set_cursor(session, connection.id, what, std::to_string(to_us(session.now())));
    });
    due->second = now + every;
  };
  std::set<std::int64_t> ids;
  for (const auto& connection : active) {
    ids.insert(connection.id);
    try {
      const auto settings = MarketplaceSettings::parse(connection.settings);
      each(connection, "full_look", settings.full_look, [&](Session& session) {
        MarketStock::mark_all(session, connection.id, false, "all are looked at now and then");
      });
      each(connection, "catalog_due", settings.catalog,
           [&](Session& session) { MarketCatalogJobs::enqueue(session, connection.id, "its time has come"); });
    } catch (const Error& error) {
      if (error.kind != Error::Kind::invalid) throw;
      ignore_error("its pull says what is wrong with the settings", error);
    }
  }
  std::erase_if(regular_, [&](const auto& one) { return !ids.contains(one.first.first); });
}

Micros MarketPoller::step() {
  const Micros now = clock_.steady();
  const auto active = marketplaces_.active();
  std::map<std::int64_t, Micros> due;
  std::vector<const Connection*> pulls;
  for (const auto& connection : active) {
    const auto known = due_.find(connection.id);
    Micros next = known == due_.end() ? now : known->second;
    if (next <= now) {
      pulls.push_back(&connection);
      try {
        next = now + MarketplaceSettings::parse(connection.settings).poll;
      } catch (const Error& error) {
        ignore_error("its pull says what is wrong with the settings", error);
        next = now + std::chrono::minutes(1);
      }
    }
    due[connection.id] = next;
  }
  if (!pulls.empty())
    orders_.store().write([&](Session& session) {
      for (const auto* connection : pulls) MarketJobs::enqueue_pull(session, connection->id, "its time has come");
    });
  due_ = std::move(due);
  if (now >= look_again_) {
    look_again_ = now + kHeldLook;
    regular(active, now);
    orders_.try_again(500);
  }
  MarketStatus::enqueue_marks(orders_.store(), 500);
  Micros wait = kPollMax;
  for (const auto& [id, next] : due_) wait = std::min(wait, next - now);
  return std::max(wait, Micros(10'000));
}

}  // namespace dragoman::pipeline
