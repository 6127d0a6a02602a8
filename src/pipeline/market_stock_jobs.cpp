#include "pipeline/market_stock_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/step.h"
#include "notify/alert.h"
#include "pipeline/capture_store.h"
#include "pipeline/market_content.h"
#include "pipeline/market_factor.h"
#include "pipeline/market_stock.h"
#include "pipeline/target.h"

namespace dragoman::pipeline {
namespace {

using jobs::Job;
using jobs::Outcome;
using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

constexpr Micros kOdooAgain = std::chrono::seconds(5);
// Attempts at what the marketplace broke at before it is found out whether a single row is to blame.
constexpr int kWholeAttempts = 4;
// A batch of which so many parts were refused in a row, and none was taken, is not spoilt by a row.
constexpr int kRefusedMax = 12;
constexpr std::size_t kErrorsShown = 20;

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

json object_of(std::string_view text) {
  json out = json::parse(text, nullptr, false);
  return out.is_object() ? out : json::object();
}

// A product that was marked, what it is to have, and what became of it.
struct Due {
  std::int64_t id = 0, odoo_product_id = 0, dirty = 0;
  std::int64_t since = 0;
  std::string external_id, factor, price_sent, stock_sent, error_code, name, unit_count, factors;
  json flags, flags_sent;
  bool linked = false, in_doubt = false;

  MarketFigures figures;
  MarketProduct change;
  json flags_changed = json::object();
  enum class What {
    same,      ///< the marketplace has it
    taken,     ///< it took what differed
    refused,   ///< it did not, and `error` is its reason
    untouched  ///< nothing was done
  };
  What what = What::same;
  std::string refusal_code, refusal;
  bool differs() const { return change.price || change.stock || !flags_changed.empty(); }
};

std::vector<Due> read_due(Session& session, std::int64_t connection_id, int limit) {
  std::vector<Due> out;
  session.query(
      "SELECT id, external_id, odoo_product_id, factor, price_sent, stock_sent, flags, flags_sent, dirty_us, "
      "COALESCE(dirty_since_us, dirty_us), state, in_doubt, send_error_code, name, unit_count, factors FROM "
      "market_product WHERE connection_id = $1 AND dirty_us IS NOT NULL ORDER BY dirty_us, id LIMIT $2",
      {connection_id, std::int64_t{limit}}, [&](const Row& row) {
        Due due;
        due.id = row.int64(0);
        due.external_id = row.text(1);
        due.odoo_product_id = row.int64(2);
        due.factor = row.text(3);
        due.price_sent = row.text(4);
        due.stock_sent = row.text(5);
        due.flags = object_of(row.text(6));
        due.flags_sent = object_of(row.text(7));
        due.dirty = row.int64(8);
        due.since = row.int64(9);
        due.linked = row.text(10) == "linked" && due.odoo_product_id > 0;
        due.in_doubt = row.int64(11) != 0;
        due.error_code = row.text(12);
        due.name = row.text(13);
        due.unit_count = row.text(14);
        due.factors = row.text(15);
        out.push_back(std::move(due));
      });
  return out;
}

// What of it the marketplace does not have, as far as that is known.
void compare(Due& due) {
  due.change.id = due.external_id;
  const auto& figures = due.figures;
  if (figures.price && (due.in_doubt || figures.price->str() != due.price_sent)) due.change.price = figures.price;
  if (figures.stock && (due.in_doubt || figures.stock->str() != due.stock_sent)) due.change.stock = figures.stock;
  for (const auto& [name, value] : figures.flags.items()) {
    if (!due.in_doubt && due.flags_sent.value(name, json()) == value) continue;
    due.flags_changed[name] = value;
    const auto number = [&] { return Decimal::parse(value.get<std::string>()); };
    if (name == "published")
      due.change.published = value.get<bool>();
    else if (name == "in_stock")
      due.change.in_stock = value.get<bool>();
    else if (name == "min_order")
      due.change.order_min = number();
    else if (name == "max_order")
      due.change.order_max = number();
    else if (name == "code")
      due.change.internal_id = value.get<std::string>();
  }
}

// Sends batches, and finds the rows that spoil one.
class Sender {
 public:
  Sender(Marketplace& marketplace, int attempt, std::stop_token stop)
      : marketplace_(marketplace), attempt_(attempt), stop_(std::move(stop)) {}

  void send(std::span<Due*> some) {
    if (some.empty() || failure_) return;
    if (stop_.stop_requested()) {
      failure_.emplace(Error::Kind::cancelled, "The hub stops.");
      return;
    }
    if (given_up_) {
      for (Due* due : some) refuse(*due, *given_up_);
      return;
    }
    std::vector<MarketProduct> changes;
    for (const Due* due : some) changes.push_back(due->change);
    try {
      ++calls_;
      marketplace_.update_products(changes, stop_);
      step("market.products_sent");
      for (Due* due : some) due->what = Due::What::taken;
      taken_ = true;
      return;
    } catch (const Error& error) {
      if (!about_rows(error)) {
        in_doubt_ = error.kind == Error::Kind::in_doubt;
        failure_ = error;
        return;
      }
      ++refused_;
      if (some.size() == 1) {
        refuse(*some.front(), error);
        return;
      }
      if (!taken_ && refused_ >= kRefusedMax) {
        // Nothing of it is taken, so it is not this row or that.
        if (error.code == kServerFailed)
          failure_ = error;
        else
          given_up_ = error;
        send(some);
        return;
      }
    }
    const std::size_t half = some.size() / 2;
    send(some.first(half));
    send(some.subspan(half));
  }

  const std::optional<Error>& failure() const { return failure_; }
  /// What was in the call that failed may have been taken.
  bool in_doubt() const { return in_doubt_; }
  int calls() const { return calls_; }

 private:
  static void refuse(Due& due, const Error& error) {
    due.what = Due::What::refused;
    due.refusal_code = error.code.empty() ? std::string(policy(error.kind).name) : error.code;
    due.refusal = error.message;
  }

  bool about_rows(const Error& error) {
    if (error.code == kServerFailed) return error.kind == Error::Kind::in_doubt && attempt_ > kWholeAttempts && well();
    if (error.code == "suspect") return well();
    return error.kind == Error::Kind::invalid;
  }
  // Whether the marketplace answers a question that asks for nothing odd.
  bool well() {
    if (!well_) {
      try {
        marketplace_.test(stop_);
        well_ = true;
      } catch (const Error& error) {
        ignore_error("the failure that made us ask is told instead", error);
        well_ = false;
      }
    }
    return *well_;
  }

  Marketplace& marketplace_;
  const int attempt_;
  const std::stop_token stop_;
  std::optional<Error> failure_, given_up_;
  std::optional<bool> well_;
  bool taken_ = false, in_doubt_ = false;
  int refused_ = 0, calls_ = 0;
};

// What a look came to.
struct Ending {
  std::int64_t connection_id = 0;
  std::string connection;
  Time started{};
  std::vector<Due> rows;
  bool more = false;      ///< there may be others that were marked
  bool in_doubt = false;  ///< the rows that are untouched may have been taken all the same
  std::string failure;    ///< why those that are untouched are
  int calls = 0;
};

struct Told {
  std::int64_t sent = 0, refused = 0;
  std::vector<std::string> errors;
  void error(const Due& due, const std::string& message) {
    ++refused;
    note(due, message);
  }
  void note(const Due& due, const std::string& message) {
    if (errors.size() < kErrorsShown) errors.push_back(fmt::format("{}: {}", due.external_id, message));
  }
};

void log(Session& session, const Ending& ending, const char* kind, const Told& told, Time now) {
  if (told.sent == 0 && told.refused == 0) return;
  CaptureStore::Run run;
  run.connection_id = ending.connection_id;
  run.model = "product";
  run.kind = kind;
  run.outcome = told.refused == 0 ? "ok" : "errors";
  run.started = ending.started;
  run.counts = {{"sent", told.sent}};
  if (told.refused > 0) run.counts["refused"] = told.refused;
  run.errors = told.errors;
  CaptureStore::log_run(session, run, now);
}

void tell_people(Session& session, const Ending& ending,
                 const std::map<std::string, std::pair<int, std::string>>& all) {
  for (const auto& [code, what] : all)
    notify::raise(session,
                  {.fingerprint = fmt::format("market:{}:product:{}", ending.connection, code),
                   .severity = notify::Severity::warning,
                   .title = fmt::format("{} does not have the figures of some products: {}", ending.connection, code),
                   .text = fmt::format(
                       "{}\n\nIt is tried again when something of the product changes, at the next full look, and "
                       "at `dragoman market stock-retry {}`.",
                       what.second, ending.connection),
                   .subject = ending.connection,
                   .link = fmt::format("dragoman market stock {} --only refused", ending.connection),
                   .count = what.first});
}

void end(Session& session, const Ending& ending, const std::string& cause) {
  const Time now_time = session.now();
  const std::int64_t now = to_us(now_time);
  Told stock, product;
  std::map<std::string, std::pair<int, std::string>> alerts;
  for (const Due& due : ending.rows) {
    if (due.what == Due::What::untouched) {
      // Nothing is known of what was in a call without an answer; of the others it is known that nothing was done.
      if (!due.in_doubt && !ending.in_doubt)
        session.execute("UPDATE market_product SET in_doubt = 0 WHERE id = $1", {due.id});
      continue;
    }
    const bool taken = due.what == Due::What::taken, refused = due.what == Due::What::refused;
    const std::string& code = refused ? due.refusal_code : due.figures.code;
    const std::string& message = refused ? due.refusal : due.figures.message;
    if (due.change.stock) {
      if (taken) ++stock.sent;
      if (refused) stock.error(due, due.refusal);
    }
    if (due.change.price || !due.flags_changed.empty()) {
      if (taken) ++product.sent;
      if (refused && !due.change.stock) product.error(due, due.refusal);
    }
    // That it is wrong still, for the same reason, is no news.
    if (!code.empty() && code != due.error_code) {
      if (!refused) product.error(due, message);
      auto& alert = alerts[code];
      ++alert.first;
      if (alert.second.empty()) alert.second = fmt::format("Product {}: {}", due.external_id, message);
    }
    if (taken && due.figures.stock && !due.figures.note.empty()) {
      log::info("a product is taken off a marketplace",
                {{"connection", ending.connection}, {"product", due.external_id}, {"why", due.figures.note}});
      stock.note(due, due.figures.note + " Its stock is 0 there.");
    }
    if (taken) {
      // What was in doubt and is not among this is not known any more.
      const std::string price = due.change.price ? due.change.price->str() : due.in_doubt ? "" : due.price_sent;
      const std::string amount = due.change.stock ? due.change.stock->str() : due.in_doubt ? "" : due.stock_sent;
      json flags = due.flags_sent;
      flags.update(due.flags_changed);
      session.execute(
          "UPDATE market_product SET price_sent = $2, stock_sent = $3, flags_sent = $4, sent_us = $5, in_doubt = 0, "
          "price_noticed_us = CASE WHEN $6 = 1 THEN $8 ELSE price_noticed_us END, price_accepted_us = CASE WHEN $6 = 1 "
          "THEN $5 ELSE price_accepted_us END, stock_noticed_us = CASE WHEN $7 = 1 THEN $8 ELSE stock_noticed_us END, "
          "stock_accepted_us = CASE WHEN $7 = 1 THEN $5 ELSE stock_accepted_us END WHERE id = $1",
          {due.id, price, amount, dumped(flags), now, std::int64_t{due.change.price ? 1 : 0},
           std::int64_t{due.change.stock ? 1 : 0}, due.since});
    }
    // Marked again meanwhile: it is looked at again.
    session.execute(
        "UPDATE market_product SET dirty_since_us = CASE WHEN dirty_us = $2 THEN NULL ELSE dirty_us END, dirty_us = "
        "CASE WHEN dirty_us = $2 THEN NULL ELSE dirty_us END WHERE id = $1",
        {due.id, due.dirty});
    session.execute(
        "UPDATE market_product SET send_error_us = CASE WHEN $2 = '' THEN NULL WHEN send_error_code = $2 THEN "
        "send_error_us ELSE $5 END, send_error_code = $2, send_error = $3, send_note = $4 WHERE id = $1 AND "
        "(send_error_code <> $2 OR send_error <> $3 OR send_note <> $4)",
        {due.id, std::string_view(code), std::string_view(message), std::string_view(due.figures.note), now});
  }
  log(session, ending, "stock_sync", stock, now_time);
  log(session, ending, "product_sync", product, now_time);
  tell_people(session, ending, alerts);
  if (ending.more) MarketStock::enqueue(session, ending.connection_id, cause);
}

}  // namespace

Outcome order_book_failed(const Error& error) {
  switch (error.kind) {
    case Error::Kind::unavailable:
    case Error::Kind::busy:
    case Error::Kind::in_doubt:
    case Error::Kind::cancelled:
      if (error.code != kNotProvisioned)
        return jobs::snooze(error.retry_after ? std::max<Micros>(*error.retry_after, Micros(0)) : kOdooAgain);
      break;
    default:
      break;
  }
  // A person has to see to it; `flow list` says why it waits.
  Outcome outcome = jobs::failed(error);
  outcome.what = Outcome::What::outage;
  outcome.lane_only = true;
  return outcome;
}

std::vector<jobs::Kind> MarketStockJobs::kinds() {
  return {{.name = "market.stock",
           .summary = "Tells a marketplace of stock and prices that changed in Odoo",
           .handler = this,
           .attempts_max = 10,
           .time_limit = std::chrono::minutes(10),
           .backoff_max = std::chrono::minutes(1),
           .dead_parks = false,
           .check = [](const jobs::Wanted& wanted) {
             if (wanted.connector.empty())
               throw Error(Error::Kind::invalid, "A marketplace is told through its connection: name one.");
           }}};
}

std::vector<Outcome> MarketStockJobs::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes;
  for (const Job& job : jobs) outcomes.push_back(stop.stop_requested() ? jobs::snooze(Micros(0)) : run(job, stop));
  return outcomes;
}

Outcome MarketStockJobs::run(const Job& job, std::stop_token stop) {
  Marketplaces::Open open;
  try {
    open = marketplaces_.get(job.connection_id);
  } catch (const Error& error) {
    if (const auto outcome = marketplace_stopped(error)) return *outcome;
    return jobs::failed(error);
  }
  auto ending = std::make_shared<Ending>();
  ending->connection_id = open.connection.id;
  ending->connection = open.connection.name;
  store_.read([&](Session& session) {
    ending->started = session.now();
    ending->rows = read_due(session, open.connection.id, open.settings.batch);
  });
  auto& rows = ending->rows;
  ending->more = static_cast<int>(rows.size()) == open.settings.batch;
  const std::string cause = fmt::format("job {}", job.id);
  const auto done = [&] {
    std::int64_t sent = 0, refused = 0;
    for (const Due& due : rows) {
      sent += due.what == Due::What::taken;
      refused += due.what == Due::What::refused;
    }
    return jobs::done(
        [ending, cause](Session& session) { end(session, *ending, cause); },
        dumped({{"looked_at", rows.size()}, {"sent", sent}, {"refused", refused}, {"calls", ending->calls}}));
  };
  if (rows.empty()) return jobs::done({}, dumped({{"looked_at", 0}}));

  std::vector<Due*> linked;
  for (Due& due : rows) {
    if (!due.linked) continue;
    const auto count = Decimal::parse(due.unit_count);
    // Figures of another package would be wrong by as much as that: none go out until a person has said the factor.
    if (count && !due.factors.empty()) {
      const auto said = factor_for(due.factors, *count);
      if (!said) {
        due.figures.code = "factor";
        due.figures.message =
            factor_missing(due.name, due.external_id, due.factors, *count, open.connection.name, false);
        continue;
      }
      due.factor = said->str();
    }
    linked.push_back(&due);
  }
  try {
    const auto odoo = marketplaces_.connections().find(open.settings.odoo);
    if (!odoo)
      throw Error(Error::Kind::conflict, fmt::format("There is no connection `{}`, which the setting `odoo` of `{}` "
                                                     "names.",
                                                     open.settings.odoo, open.connection.name));
    if (!linked.empty()) {
      const auto book = books_.get(odoo->id);
      OrderBook::Stock asked;
      std::set<std::int64_t> ids;
      for (const Due* due : linked) ids.insert(due->odoo_product_id);
      asked.products.assign(ids.begin(), ids.end());
      asked.warehouse = open.settings.warehouse;
      asked.pricelist = open.settings.pricelist;
      asked.company = open.settings.company;
      std::map<std::int64_t, ProductStock> found;
      for (auto& one : book.book->stock(asked, stop)) found[one.id] = std::move(one);
      step("market.stock_read");
      for (Due* due : linked) {
        const auto at = found.find(due->odoo_product_id);
        if (at == found.end())
          throw Error(Error::Kind::protocol,
                      fmt::format("Odoo's answer says nothing of product {}.", due->odoo_product_id));
        due->figures =
            figures_of(at->second, Decimal::parse(due->factor).value_or(1), due->flags, due->flags_sent, open.settings);
        compare(*due);
      }
    }
  } catch (const Error& error) {
    if (stop.stop_requested()) return jobs::snooze(Micros(0));
    if (error.code == "connection_paused") return jobs::snooze(std::chrono::seconds(10));
    return order_book_failed(error);
  }

  std::vector<Due*> changed;
  for (Due* due : linked)
    if (due->differs()) changed.push_back(due);
  if (changed.empty()) return done();
  store_.write([&](Session& session) {
    for (const Due* due : changed)
      session.execute("UPDATE market_product SET in_doubt = 1 WHERE id = $1 AND in_doubt = 0", {due->id});
  });
  step("market.stock_intended");
  for (Due* due : changed) due->what = Due::What::untouched;
  Sender sender(*open.marketplace, job.attempt, stop);
  sender.send(changed);
  ending->calls = sender.calls();
  if (!sender.failure()) return done();

  // What broke on everything says nothing about the rows that it broke on first.
  if (sender.failure()->code == kServerFailed)
    for (Due* due : changed)
      if (due->what == Due::What::refused && due->refusal_code == kServerFailed) due->what = Due::What::untouched;
  ending->in_doubt = sender.in_doubt();
  ending->more = false;  // this job goes on with them
  Outcome outcome;
  if (sender.failure()->kind == Error::Kind::cancelled) {
    outcome = jobs::snooze(Micros(0));
  } else {
    outcome = marketplace_failed(marketplaces_, open, *sender.failure(), stop);
    // It may be sent as often as one likes: only where the marketplace broke at it is it tried a few times, to find out
    // whether that is a row's fault.
    if (outcome.what == Outcome::What::retry &&
        (sender.failure()->code != kServerFailed || job.attempt > kWholeAttempts))
      outcome.what = Outcome::What::outage;
  }
  outcome.commit = [ending, cause](Session& session) { end(session, *ending, cause); };
  return outcome;
}

}  // namespace dragoman::pipeline
