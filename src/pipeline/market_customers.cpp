#include "pipeline/market_customers.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "audit/audit.h"
#include "base/decimal.h"
#include "base/error.h"
#include "base/step.h"
#include "base/text.h"
#include "jobs/queue.h"
#include "pipeline/mapping.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

constexpr const char* kModel = "res.partner";
constexpr const char* kEntity = "customer";
// So long the one who asked has to see its end; then a job sees to it.
constexpr Micros kPatience = std::chrono::minutes(1);
constexpr int kTriesAtOnce = 5;
constexpr std::int64_t kOrdersShown = 1000;

const std::string kColumns =
    "SELECT u.id, u.connection_id, COALESCE(c.name, ''), u.customer_key, u.name, u.odoo_connection_id, "
    "u.odoo_partner_id, u.how, u.relinked_us, u.intent, u.intent_partner_id, u.intent_by, u.intent_why, u.intent_us, "
    "u.intent_shared, u.seen_us, u.changed_us, (SELECT COUNT(*) FROM market_order o WHERE o.connection_id = "
    "u.connection_id AND "
    "o.customer_key = u.customer_key AND o.odoo_id > 0) FROM market_customer u LEFT JOIN connection c ON c.id = "
    "u.connection_id ";

MarketCustomerRow row_of(const Row& row) {
  MarketCustomerRow out;
  out.id = row.int64(0);
  out.connection_id = row.int64(1);
  out.connection = row.text(2);
  out.key = row.text(3);
  out.name = row.text(4);
  out.odoo_connection_id = row.int64(5);
  out.odoo_partner_id = row.int64(6);
  out.how = row.text(7);
  out.relinked = row.maybe_time(8);
  if (row.int64(9) != 0)
    out.intent = {row.int64(10), std::string(row.text(11)), std::string(row.text(12)),
                  row.maybe_time(13).value_or(Time{}), row.int64(14) == 1};
  out.seen = row.time(15);
  out.changed = row.time(16);
  out.orders = row.int64(17);
  return out;
}

std::string in_texts(Session& session, int number) {
  return session.engine() == store::Engine::sqlite
             ? fmt::format(" IN (SELECT value FROM json_each(${}))", number)
             : fmt::format(" IN (SELECT json_array_elements_text(CAST(${} AS json)))", number);
}

std::string id_text(std::int64_t id) {
  return id > 0 ? std::to_string(id) : std::string();
}

std::string external(std::int64_t partner) {
  return fmt::format("odoo:{}:{}", kModel, partner);
}

std::int64_t number_of(const std::string& text) {
  const auto value = Decimal::parse(text);
  return value ? value->floor() : 0;
}

// Orders in Odoo that were imported while it was this customer.
const std::string kKept =
    " FROM market_order WHERE connection_id = $1 AND customer_key = $2 AND odoo_connection_id = $3 AND odoo_id > 0 AND "
    "imported_us >= $4";

std::vector<Param> kept_of(const MarketCustomerRow& customer) {
  return {customer.connection_id, std::string_view(customer.key), customer.odoo_connection_id,
          customer.relinked ? to_us(*customer.relinked) : std::int64_t{0}};
}

std::string said(std::int64_t partner) {
  return partner > 0 ? external(partner) : std::string("none, and a new one is made");
}

// Ends what was under way; false: it is under way no more, or another one is.
bool close_intent(Session& session, const MarketCustomerRow& customer) {
  return session.execute(
             "UPDATE market_customer SET intent = 0, intent_partner_id = 0, intent_by = '', intent_why = '', intent_us "
             "= NULL WHERE id = $1 AND intent = 1 AND intent_us = $2",
             {customer.id, to_us(customer.intent->at)}) == 1;
}

void finish(Session& session, const MarketCustomerRow& customer, const Connection& odoo, const std::string& key) {
  if (!close_intent(session, customer)) return;
  const std::int64_t partner = customer.intent->partner_id, now = to_us(session.now());
  const bool same = customer.odoo_partner_id == partner && customer.odoo_connection_id == odoo.id;
  const std::string how = partner > 0 ? std::string(kLinkedBy) + customer.intent->by : std::string();
  session.execute(
      "UPDATE market_customer SET odoo_connection_id = $2, odoo_partner_id = $3, how = $4, relinked_us = CASE WHEN $5 "
      "= 1 THEN relinked_us ELSE $6 END, changed_us = $6 WHERE id = $1",
      {customer.id, odoo.id, partner, std::string_view(how), std::int64_t{same}, now});
  session.execute(
      "DELETE FROM integration_mapping WHERE connection_id = $1 AND entity = $2 AND internal_id = $3 AND shared_by = "
      "''",
      {odoo.id, std::string_view(kEntity), std::string_view(key)});
  if (partner > 0)
    Mapping::put(session, {.connection_id = odoo.id,
                           .entity = kEntity,
                           .internal_id = key,
                           .external_id = external(partner),
                           .cause = customer.intent->by,
                           .created = session.now()});
  if (same) return;
  auto params = kept_of(customer);
  const std::string message =
      fmt::format("Its customer is {} from now on, said {}{}{}. This order keeps {}.", said(partner),
                  customer.intent->by, customer.intent->why.empty() ? "" : ": ", customer.intent->why,
                  customer.odoo_partner_id > 0 ? external(customer.odoo_partner_id) : "the one it has");
  params.emplace_back(now);
  params.emplace_back(std::string_view(message));
  session.execute(
      "INSERT INTO market_event (order_id, at_us, what, message, job_id) SELECT id, $5, 'customer', $6, 0" + kKept,
      params);
}

// Nothing was done: what was under way is no more. Where the shop is another customer in Odoo than was thought, that is
// known now.
void give_up(Session& session, const MarketCustomerRow& customer, const Relinked* answer, const Connection& odoo) {
  if (!close_intent(session, customer) || answer == nullptr || !answer->error ||
      answer->error->code != "import_changed")
    return;
  session.execute(
      "UPDATE market_customer SET odoo_connection_id = $2, odoo_partner_id = $3, how = '', changed_us = $4 WHERE id = "
      "$1",
      {customer.id, odoo.id, number_of(answer->id), to_us(session.now())});
}

Error refusal(store::Store& store, const MarketCustomerRow& customer, const Relinked& answer, const Connection& odoo) {
  Error error = *answer.error;
  if (error.code == "import_taken") {
    error.kind = Error::Kind::conflict;
    store.read([&](Session& session) {
      session.first(
          "SELECT c.name, u.customer_key, u.name FROM market_customer u JOIN connection c ON c.id = u.connection_id "
          "WHERE u.odoo_connection_id = $1 AND u.odoo_partner_id = $2 AND u.id <> $3",
          {odoo.id, customer.intent->partner_id, customer.id}, [&](const Row& row) {
            error.message = fmt::format(
                "{0} is the customer of another shop: `{1}` ({2}) of `{3}`. Where both are one customer, say it with "
                "`shared`: `dragoman market customer-link {4} {5} {6} --shared`. Where the other one is the mistake, "
                "`dragoman market customer-unlink {3} {1}` comes first.",
                external(customer.intent->partner_id), row.text(1), row.text(2), row.text(0), customer.connection,
                customer.key, customer.intent->partner_id);
          });
    });
  } else if (error.code == "import_changed") {
    error.kind = Error::Kind::conflict;
    error.message = fmt::format(
        "In Odoo the shop is {} by now, which the hub did not know. Look whether that is right; if not, say it again.",
        external(number_of(answer.id)));
  }
  return error;
}

}  // namespace

std::vector<MarketCustomerRow> MarketCustomers::list(const Filter& filter) {
  std::vector<MarketCustomerRow> out;
  std::string sql = kColumns + "WHERE u.id > $1";
  std::vector<Param> params{filter.after};
  if (!filter.connection.empty()) {
    params.emplace_back(std::string_view(filter.connection));
    sql += fmt::format(" AND c.name = ${}", params.size());
  }
  if (!filter.text.empty()) {
    params.emplace_back(std::string_view(filter.text));
    sql += fmt::format(" AND (u.customer_key = ${0} OR u.name = ${0})", params.size());
  }
  params.emplace_back(filter.limit);
  sql += fmt::format(" ORDER BY u.id LIMIT ${}", params.size());
  orders_.store().read([&](Session& session) {
    out.clear();
    session.query(sql, params, [&](const Row& row) { out.push_back(row_of(row)); });
  });
  return out;
}

std::optional<MarketCustomerRow> MarketCustomers::find(std::int64_t id) {
  std::optional<MarketCustomerRow> found;
  orders_.store().read([&](Session& session) {
    found.reset();
    session.first(kColumns + "WHERE u.id = $1", {id}, [&](const Row& row) { found = row_of(row); });
  });
  return found;
}

MarketCustomerRow MarketCustomers::get(const Connection& connection, const std::string& which) {
  std::optional<MarketCustomerRow> found;
  orders_.store().read([&](Session& session) {
    found.reset();
    const auto look = [&](const char* where, Param value) {
      if (!found)
        session.first(kColumns + "WHERE u.connection_id = $1 AND " + where, {connection.id, value},
                      [&](const Row& row) { found = row_of(row); });
    };
    look("u.customer_key = $2", std::string_view(which));
    if (!which.empty() && which.size() <= 18 && which.find_first_not_of("0123456789") == std::string::npos)
      look("u.id = $2", std::int64_t{std::stoll(which)});
  });
  if (!found)
    throw Error(Error::Kind::not_found,
                fmt::format("No shop `{}` has ordered at `{}` yet: give the marketplace's code of it, or the hub's own "
                            "number (`dragoman market customers --connection {}`).",
                            which, connection.name, connection.name));
  return *found;
}

std::vector<MarketCustomers::Order> MarketCustomers::orders(const MarketCustomerRow& customer, std::int64_t limit) {
  std::vector<Order> out;
  auto params = kept_of(customer);
  params.emplace_back(limit);
  orders_.store().read([&](Session& session) {
    out.clear();
    session.query(
        "SELECT external_id, number, odoo_name, odoo_state, total, odoo_id" + kKept + " ORDER BY id DESC LIMIT $5",
        params, [&](const Row& row) {
          out.push_back({std::string(row.text(0)), std::string(row.text(1)), std::string(row.text(2)),
                         std::string(row.text(3)), std::string(row.text(4)), row.int64(5)});
        });
  });
  return out;
}

std::vector<MarketCustomerRow> MarketCustomers::same(const MarketCustomerRow& customer) {
  std::vector<MarketCustomerRow> out;
  if (customer.odoo_partner_id == 0) return out;
  orders_.store().read([&](Session& session) {
    out.clear();
    session.query(
        kColumns + "WHERE u.odoo_connection_id = $1 AND u.odoo_partner_id = $2 AND u.id <> $3 ORDER BY u.id LIMIT 100",
        {customer.odoo_connection_id, customer.odoo_partner_id, customer.id},
        [&](const Row& row) { out.push_back(row_of(row)); });
  });
  return out;
}

MarketCustomers::Place MarketCustomers::place_of(const MarketCustomerRow& customer) {
  const auto open = marketplaces_.peek(customer.connection_id);
  const auto odoo = marketplaces_.connections().find(open.settings.odoo);
  if (!odoo)
    throw Error(Error::Kind::conflict,
                fmt::format("There is no connection `{}`, which the setting `odoo` of `{}` names.", open.settings.odoo,
                            open.connection.name));
  return {*odoo, open.settings.company, open.name().prefix() + "customer/" + customer.key};
}

MarketCustomerRow MarketCustomers::intend(const Asked& asked, const MarketCustomerRow& customer, const Place& place) {
  MarketCustomerRow row;
  orders_.store().write([&](Session& session) {
    const Time now = session.now();
    if (session.execute(
            "UPDATE market_customer SET intent = 1, intent_partner_id = $2, intent_by = $3, intent_why = $4, intent_us "
            "= $5, intent_shared = $6 WHERE id = $1 AND (intent = 0 OR (intent_partner_id = $2 AND intent_shared <= "
            "$6))",
            {customer.id, asked.partner, std::string_view(asked.by), std::string_view(asked.why), to_us(now),
             std::int64_t{asked.shared}}) != 1) {
      std::string what = "another change of it";
      session.first("SELECT intent_partner_id, intent_by FROM market_customer WHERE id = $1", {customer.id},
                    [&](const Row& row) {
                      what = fmt::format("that its customer is {}, as {} says,", said(row.int64(0)), row.text(1));
                    });
      throw Error(
          Error::Kind::conflict,
          fmt::format("The shop `{}` is being changed: {} is under way, or nobody knows yet whether it was done. "
                      "`dragoman market customer {} {}` shows how it stands.",
                      customer.key, what, asked.connection.name, customer.id));
    }
    jobs::enqueue(session, {.kind = "market.relink",
                            .flow = kOrdersFlow,
                            .connection_id = place.odoo.id,
                            .payload = fmt::format(R"({{"customer":{}}})", customer.id),
                            .run_at = now + kPatience,
                            .unique_key = fmt::format("market.relink/{}", customer.id),
                            .unique = jobs::Unique::unfinished,
                            .cause = "by " + asked.by + (asked.why.empty() ? "" : ": " + asked.why)});
    session.first(kColumns + "WHERE u.id = $1", {customer.id}, [&](const Row& found) { row = row_of(found); });
  });
  return row;
}

Relinked MarketCustomers::ask(const MarketCustomerRow& customer, const Place& place, std::stop_token stop) {
  const auto to = find_(place.odoo.id);
  const auto relinker = std::dynamic_pointer_cast<Relinker>(to.target);
  if (!relinker)
    throw Error(Error::Kind::invalid,
                fmt::format("At `{}` it can't be said which customer a shop is.", place.odoo.name));
  const bool known = customer.odoo_connection_id == place.odoo.id;
  const Relink what{.model = kModel,
                    .key = place.key,
                    .from = known ? id_text(customer.odoo_partner_id) : std::string(),
                    .to = id_text(customer.intent->partner_id),
                    .company = place.company,
                    .shared = customer.intent->shared};
  for (int attempt = 1;; ++attempt) {
    try {
      auto answer = relinker->relink(what, stop);
      step("market.relinked");
      return answer;
    } catch (const Error& error) {
      // An order of the shop came at the same moment: nothing was done, and again is right.
      if (error.kind != Error::Kind::conflict || attempt == kTriesAtOnce) throw;
    }
  }
}

MarketCustomers::Done MarketCustomers::relink(const Asked& asked, std::stop_token stop) {
  Done done;
  const auto customer = get(asked.connection, asked.customer);
  const Place place = place_of(customer);
  if (place.odoo.state != "active")
    throw Error(Error::Kind::conflict,
                fmt::format("The connection `{0}`, to Odoo, is {1}{2} `dragoman connection resume {0}` goes on.",
                            place.odoo.name, place.odoo.state == "error" ? "in error" : place.odoo.state,
                            place.odoo.reason.empty() ? "." : ": " + sentence(place.odoo.reason)));
  done.before = intend(asked, customer, place);
  step("market.relink_intended");
  auto& store = orders_.store();
  Relinked answer;
  try {
    answer = ask(done.before, place, stop);
  } catch (const Error& error) {
    if (error.kind == Error::Kind::in_doubt || error.kind == Error::Kind::protocol) {
      Error doubt(
          Error::Kind::in_doubt,
          fmt::format("{} Whether it was done in Odoo is not known: the hub asks again by itself within a minute "
                      "or two, and `dragoman market customer {} {}` shows what came of it.",
                      error.message, asked.connection.name, customer.id),
          error.detail);
      doubt.code = error.code;
      throw doubt;
    }
    store.write([&](Session& session) { give_up(session, done.before, nullptr, place.odoo); });
    throw;
  }
  if (answer.error) {
    store.write([&](Session& session) { give_up(session, done.before, &answer, place.odoo); });
    throw refusal(store, done.before, answer, place.odoo);
  }
  const bool same = done.before.odoo_partner_id == asked.partner && done.before.odoo_connection_id == place.odoo.id;
  if (!same) {
    done.orders = orders(done.before, kOrdersShown);
    done.orders_kept = static_cast<std::int64_t>(done.orders.size());
    if (done.orders_kept == kOrdersShown)
      store.read([&](Session& session) {
        session.query("SELECT COUNT(*)" + kKept, kept_of(done.before),
                      [&](const Row& row) { done.orders_kept = row.int64(0); });
      });
  }
  std::vector<std::int64_t> held;
  store.write([&](Session& session) {
    finish(session, done.before, place.odoo, place.key);
    held.clear();
    session.query(
        "SELECT id FROM market_order WHERE connection_id = $1 AND customer_key = $2 AND state = 'held' AND hold_code "
        "IN ('import_ambiguous', 'import_notmatched') ORDER BY id LIMIT 1000",
        {customer.connection_id, std::string_view(customer.key)},
        [&](const Row& row) { held.push_back(row.int64(0)); });
  });
  for (const std::int64_t id : held)
    done.retried += orders_.retry(asked.connection.name, "", id,
                                  fmt::format("the customer `{}` was linked by {}", customer.key, asked.by));
  done.partner_name = answer.name;
  done.after = find(customer.id).value_or(done.before);
  return done;
}

jobs::Kind MarketCustomers::kind() {
  jobs::Kind kind;
  kind.name = "market.relink";
  kind.summary = "Sees to the end of what a person said about a shop's customer, where that was not seen";
  kind.handler = this;
  kind.attempts_max = 10;
  kind.dead_parks = false;
  kind.check = [](const jobs::Wanted&) {
    throw Error(Error::Kind::invalid,
                "Such a job comes from `dragoman market customer-link` and `customer-unlink`, and is not made or "
                "changed by hand.");
  };
  return kind;
}

std::vector<jobs::Outcome> MarketCustomers::run(std::span<const jobs::Job> jobs, std::stop_token stop) {
  std::vector<jobs::Outcome> outcomes;
  for (const auto& job : jobs) outcomes.push_back(stop.stop_requested() ? jobs::snooze(Micros(0)) : run_one(job, stop));
  return outcomes;
}

jobs::Outcome MarketCustomers::run_one(const jobs::Job& job, std::stop_token stop) {
  const json payload = json::parse(job.payload, nullptr, false);
  const std::int64_t id = payload.is_object() && payload.contains("customer") && payload["customer"].is_number_integer()
                              ? payload["customer"].get<std::int64_t>()
                              : 0;
  const auto customer = find(id);
  if (!customer) return jobs::cancel("The shop is not known any more.");
  if (!customer->intent) return jobs::done({}, R"({"outcome":"nothing","note":"Its end was seen."})");
  Place place;
  Relinked answer;
  try {
    place = place_of(*customer);
    answer = ask(*customer, place, stop);
  } catch (const Error& error) {
    return jobs::failed(error);
  }
  std::string outcome = "ok";
  if (answer.error) outcome = "refused: " + refusal(orders_.store(), *customer, answer, place.odoo).message;
  return jobs::done(
      [this, customer = *customer, place, answer, outcome, id = job.id](Session& session) {
        if (answer.error)
          give_up(session, customer, &answer, place.odoo);
        else
          finish(session, customer, place.odoo, place.key);
        audit::append(session,
                      {.actor = actor_,
                       .action = "market.relink",
                       .subject = customer.connection + ":" + customer.key,
                       .why = fmt::format("{}{}{} (job {})", customer.intent->by,
                                          customer.intent->why.empty() ? "" : ": ", customer.intent->why, id),
                       .outcome = outcome,
                       .before = json{{"odoo_partner", customer.odoo_partner_id}, {"how", customer.how}}.dump(),
                       .after = answer.error ? "" : json{{"odoo_partner", customer.intent->partner_id}}.dump()});
      },
      json{{"outcome", outcome}}.dump());
}

std::map<std::string, MarketCustomers::Known> MarketCustomers::known(Session& session, std::int64_t connection_id,
                                                                     std::span<const std::string> keys) {
  std::map<std::string, Known> out;
  if (keys.empty()) return out;
  const std::string wanted =
      json(std::vector<std::string>(keys.begin(), keys.end())).dump(-1, ' ', false, json::error_handler_t::replace);
  session.query(
      "SELECT customer_key, odoo_connection_id, odoo_partner_id, COALESCE(relinked_us, 0), how FROM market_customer "
      "WHERE connection_id = $1 AND customer_key" +
          in_texts(session, 2),
      {connection_id, std::string_view(wanted)}, [&](const Row& row) {
        out[std::string(row.text(0))] = {row.int64(1), row.int64(2), row.int64(3), std::string(row.text(4))};
      });
  return out;
}

std::string MarketCustomers::without_customer(const std::string& content) {
  json out = json::parse(content);
  if (out.contains("values")) out["values"].erase("partner_id");
  return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

void MarketCustomers::met(Session& session, const Met& met) {
  if (met.key.empty()) return;
  const std::int64_t now = to_us(session.now());
  if (!met.link) {
    if (met.known) return;
    session.execute(
        "INSERT INTO market_customer (connection_id, customer_key, name, odoo_connection_id, seen_us, changed_us) "
        "VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT DO NOTHING",
        {met.connection_id, std::string_view(met.key), std::string_view(met.name), met.odoo_connection_id, now});
    return;
  }
  const std::int64_t partner = number_of(met.link->id), relinked = met.known ? met.known->relinked_us : 0;
  std::optional<std::int64_t> right;
  session.first(
      "SELECT odoo_partner_id FROM market_customer WHERE connection_id = $1 AND customer_key = $2 AND "
      "COALESCE(relinked_us, 0) <> $3",
      {met.connection_id, std::string_view(met.key), relinked}, [&](const Row& row) { right = row.int64(0); });
  if (right) {
    // A person said otherwise after Odoo had answered this: the mapping that came with the answer is not the last word.
    if (*right > 0 && *right != partner)
      Mapping::put(session, {.connection_id = met.odoo_connection_id,
                             .entity = kEntity,
                             .internal_id = met.target_key,
                             .external_id = external(*right),
                             .cause = met.cause,
                             .created = from_us(now)});
    return;
  }
  // What an answer that tells of it once more does not say is kept: by which rule it was found.
  const std::string how = met.link->how == "key" ? "" : met.link->how;
  if (met.known && met.known->odoo_connection_id == met.odoo_connection_id && met.known->partner_id == partner &&
      how.empty())
    return;
  session.execute(
      "INSERT INTO market_customer (connection_id, customer_key, name, odoo_connection_id, odoo_partner_id, how, "
      "seen_us, changed_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (connection_id, customer_key) DO "
      "UPDATE SET name = EXCLUDED.name, odoo_connection_id = EXCLUDED.odoo_connection_id, odoo_partner_id = "
      "EXCLUDED.odoo_partner_id, how = CASE WHEN EXCLUDED.how <> '' THEN EXCLUDED.how WHEN "
      "market_customer.odoo_partner_id = EXCLUDED.odoo_partner_id AND market_customer.odoo_connection_id = "
      "EXCLUDED.odoo_connection_id THEN market_customer.how ELSE '' END, changed_us = EXCLUDED.changed_us WHERE "
      "COALESCE(market_customer.relinked_us, 0) = $8",
      {met.connection_id, std::string_view(met.key), std::string_view(met.name), met.odoo_connection_id, partner,
       std::string_view(how), now, relinked});
}

}  // namespace dragoman::pipeline
