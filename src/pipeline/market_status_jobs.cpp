#include "pipeline/market_status_jobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "audit/audit.h"
#include "base/error.h"
#include "base/step.h"
#include "base/text.h"
#include "json/mask.h"
#include "notify/alert.h"

namespace dragoman::pipeline {
namespace {

using jobs::Job;
using jobs::Outcome;
using nlohmann::json;
using store::Session;

// More would make a row of the sync log that nobody reads.
constexpr std::size_t kErrorsKept = 20;

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

struct Asked {
  std::int64_t order = 0;
  StatusAsked asked;
};

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "payload";
  throw error;
}

Asked payload_of(const std::string& text) {
  const json in = json::parse(text, nullptr, false);
  if (!in.is_object() || !in.contains("order") || !in["order"].is_number_integer() ||
      in["order"].get<std::int64_t>() < 1)
    refuse(R"(The payload is to be {"order": NUMBER}, the hub's number of an order.)");
  const auto text_of = [&](const char* name) -> std::string {
    const auto found = in.find(name);
    if (found == in.end()) return {};
    if (!found->is_string()) refuse(fmt::format("`{}` in the payload is a text.", name));
    return *found;
  };
  Asked out;
  out.order = in["order"];
  out.asked.manual = in.contains("manual") && in["manual"] == true;
  out.asked.reason = text_of("reason");
  if (const auto word = text_of("mapping"); !word.empty()) {
    out.asked.mapping = status_mapping(word);
    if (!out.asked.mapping) refuse(fmt::format("`{}` is no mapping; there are basic and enhanced.", word));
  }
  if (const auto word = text_of("status"); !word.empty()) {
    out.asked.status = market_state(word);
    if (!out.asked.status) refuse(fmt::format("`{}` is no status.", word));
  }
  return out;
}

void check(const jobs::Wanted& wanted) {
  const auto now = payload_of(wanted.payload);
  if (!wanted.before) refuse("Such a job comes from an order: `dragoman market sync` makes one.");
  if (payload_of(*wanted.before).order != now.order)
    refuse("The job is about another order; it can't be made this one's.");
}

// What one run did, for the sync log: a row, written with the outcome of the first order that was sent.
struct Run {
  CaptureStore::Run run;
  std::int64_t first_job = 0;
  std::int64_t told = 0, refused = 0;
};

struct One {
  std::size_t place = 0;
  std::int64_t job_id = 0;
  std::string cause;
  bool last_attempt = false;
  bool single = false;
  StatusRow row;
  StatusDecision decision;
  Marketplace::StatusChange change;
  Time sent{};
  std::optional<std::int64_t> otp;  ///< the number of the code that goes with it
  struct Step {
    MarketState state = MarketState::unknown;
    std::string word;
  };
  std::vector<Step> steps;  ///< that the marketplace took on the way
};

// Odd words may hide a refused code, and each try of one may be the last: only what names where the order stands, and
// no code, is about a state that was left out.
bool is_about_the_state(const Error& error, const std::string& stands) {
  std::string words = error.message;
  std::transform(words.begin(), words.end(), words.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  for (const char* word : {"otp", "code", "pin"})
    if (words.find(word) != std::string::npos) return false;
  return !stands.empty() && words.find(stands) != std::string::npos;
}

// What was taken before the rest was refused, or nobody answered, is taken all the same.
void keep_steps(Session& session, const One& one) {
  for (const auto& step : one.steps)
    MarketOrders::tell(session, one.row.id, "told",
                       fmt::format("`{}`, on the way to `{}`", step.word, one.change.status), one.job_id);
  if (!one.steps.empty())
    session.execute(
        "UPDATE market_order SET accepted_status = $2, accepted_us = $3, accepted_word = $4 WHERE id = $1",
        {one.row.id, name(one.steps.back().state), to_us(one.sent), std::string_view(one.steps.back().word)});
}

// What a marketplace says of a code may name it.
Error without(const Secret& otp, Error error) {
  error.message = dragoman::json::mask_text(std::move(error.message), otp.reveal());
  error.detail = dragoman::json::mask_text(std::move(error.detail), otp.reveal());
  return error;
}

std::string number_of(const StatusRow& row) {
  return row.number.empty() ? row.external_id : row.number;
}

void log(Session& session, const Run& run, std::int64_t job_id) {
  if (run.first_job != job_id) return;
  CaptureStore::Run row = run.run;
  row.counts = {{"told", run.told}, {"refused", run.refused}};
  row.outcome = run.refused > 0 ? "errors" : "ok";
  CaptureStore::log_run(session, row, session.now());
}

void append(Session& session, const std::string& actor, const std::string& connection, const One& one,
            const std::string& outcome) {
  audit::append(session, {.actor = actor,
                          .action = "market.status",
                          .subject = fmt::format("{}:order:{}", connection, one.row.external_id),
                          .why = one.cause.empty() ? fmt::format("job {}", one.job_id) : one.cause,
                          .outcome = outcome,
                          .before = dumped({{"status", one.row.status}}),
                          .after = dumped({{"status", one.change.status}})});
}

}  // namespace

std::vector<jobs::Kind> MarketStatusJobs::kinds() {
  return {{.name = "market.status",
           .summary = "Tells a marketplace what became of its orders in Odoo",
           .handler = &status_,
           .batch_max = 1000,
           .attempts_max = 10,
           .time_limit = std::chrono::minutes(10),
           .backoff_max = std::chrono::minutes(5),
           .dead_parks = false,
           .check = check},
          {.name = "market.mark",
           .summary = "Writes into the orders in Odoo how their marketplaces were told of them",
           .handler = &mark_,
           .batch_max = 50,
           .attempts_max = 5,
           .time_limit = std::chrono::minutes(10),
           // Imports of its order wait behind it.
           .backoff_max = std::chrono::seconds(10),
           .dead_parks = false,
           .check = check}};
}

std::vector<Outcome> MarketStatusJobs::Status::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes(jobs.size());
  Marketplaces::Open open;
  try {
    open = owner.marketplaces_.get(jobs.front().connection_id);
  } catch (const Error& error) {
    const auto outcome = marketplace_stopped(error);
    std::fill(outcomes.begin(), outcomes.end(), outcome ? *outcome : jobs::failed(error));
    return outcomes;
  }
  const std::string& connection = open.connection.name;
  std::vector<std::optional<Asked>> asked(jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    try {
      asked[i] = payload_of(jobs[i].payload);
    } catch (const Error& error) {
      outcomes[i] = jobs::failed(error);
    }
  }
  std::vector<std::optional<StatusRow>> rows(jobs.size());
  Time now{};
  owner.orders_.store().read([&](Session& session) {
    now = session.now();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      rows[i].reset();
      if (asked[i]) rows[i] = MarketStatus::find(session, asked[i]->order);
    }
  });

  const auto run = std::make_shared<Run>();
  run->run.connection_id = open.connection.id;
  run->run.model = kOrderModel;
  run->run.kind = "status_sync";
  run->run.started = now;
  std::vector<One> due;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (!asked[i]) continue;
    if (!rows[i] || rows[i]->connection_id != open.connection.id) {
      outcomes[i] = jobs::cancel("The order is not there any more.");
      continue;
    }
    const StatusRow& row = *rows[i];
    One one;
    asked[i]->asked.heard = row.accepted_at && *row.accepted_at >= jobs[i].enqueued_at;
    one.decision = decide_status(row.to_decide(), open.settings.status, asked[i]->asked, *open.marketplace);
    if (one.decision.what != StatusDecision::What::send) {
      outcomes[i] = jobs::done(
          [row, decision = one.decision, connection, id = jobs[i].id](Session& session) {
            // As it is by now: another decision may have been written meanwhile.
            const auto fresh = MarketStatus::find(session, row.id);
            if (!fresh) return;
            MarketStatus::settle(session, connection, *fresh, decision, id);
            // Nobody will want it any more.
            if (decision.code == "final" || (decision.what == StatusDecision::What::same && is_final(*decision.status)))
              MarketStatus::drop_otp(session, fresh->id, fresh->otp_number);
          },
          dumped({{"outcome", "nothing"},
                  {"code", one.decision.what == StatusDecision::What::same ? "same" : one.decision.code},
                  {"note", one.decision.message}}));
      continue;
    }
    one.place = i;
    one.job_id = jobs[i].id;
    one.cause = jobs[i].cause;
    one.last_attempt = jobs[i].attempt >= std::min(jobs[i].attempts_max, open.settings.tries);
    // Of what may have been taken, or was not though it was said so, the answer has to be known.
    one.single = one.decision.single || jobs[i].in_doubt || row.tries > 0;
    one.row = row;
    one.sent = now;
    one.change = {.id = row.external_id, .status = one.decision.word, .otp = {}, .cancellation_reason = ""};
    if (one.decision.status == MarketState::delivered && !row.otp_sealed.empty()) one.otp = row.otp_number;
    if (one.decision.status == MarketState::cancelled)
      one.change.cancellation_reason =
          asked[i]->asked.reason.empty() ? open.settings.cancellation_reason : asked[i]->asked.reason;
    due.push_back(std::move(one));
  }

  const auto taken = [&](const One& one) {
    ++run->told;
    if (run->first_job == 0) run->first_job = one.job_id;
    return jobs::done(
        [one, run, connection, actor = owner.actor_](Session& session) {
          keep_steps(session, one);
          const std::string status(name(*one.decision.status));
          // What became of it in Odoo meanwhile has a job of its own.
          session.execute(
              "UPDATE market_order SET accepted_status = $2, accepted_us = $3, synced_us = $4, sync_status = 'synced', "
              "sync_code = '', sync_message = '', mark_due = 1, accepted_word = $5 WHERE id = $1",
              {one.row.id, status, to_us(one.sent), to_us(session.now()), std::string_view(one.change.status)});
          if (one.otp) MarketStatus::drop_otp(session, one.row.id, *one.otp);
          MarketOrders::tell(
              session, one.row.id, "told",
              fmt::format("`{}`{}. {}", one.change.status,
                          one.single ? "" : ", in a call that does not say what became of each", one.decision.message),
              one.job_id);
          log(session, *run, one.job_id);
          append(session, actor, connection, one, "ok");
        },
        dumped({{"outcome", "told"}, {"order", one.row.external_id}, {"status", one.change.status}}));
  };
  const auto refused = [&](const One& one, const Error& error) {
    ++run->refused;
    if (run->first_job == 0) run->first_job = one.job_id;
    if (run->run.errors.size() < kErrorsKept) run->run.errors.push_back(one.row.external_id + ": " + error.message);
    return jobs::done(
        [one, run, connection, actor = owner.actor_, message = error.message](Session& session) {
          notify::raise(
              session,
              {.fingerprint = fmt::format("market:{}:status_refused", connection),
               .severity = notify::Severity::warning,
               .title = fmt::format("{} refuses the status of orders", connection),
               .text = fmt::format("Order {}, which is to be `{}`: {}\n\nIt is told again when something "
                                   "changes in Odoo, or by `dragoman market sync {} {}`.",
                                   number_of(one.row), one.change.status, message, connection, one.row.external_id),
               .subject = connection,
               .link = fmt::format("dragoman market orders --connection {} --sync-status error", connection)});
          std::string said = message;
          // A code that did not do is asked for again.
          if (one.otp)
            said = fmt::format("{} Give the shop's code again: `dragoman market otp {} {}`.", sentence(message),
                               connection, one.row.external_id);
          keep_steps(session, one);
          session.execute(
              "UPDATE market_order SET sync_status = 'error', sync_code = $4, sync_message = $2, synced_us = "
              "$3, mark_due = 1 WHERE id = $1",
              {one.row.id, said, to_us(session.now()), one.otp ? kCodeRefused : std::string_view("refused")});
          if (one.otp) MarketStatus::drop_otp(session, one.row.id, *one.otp);
          MarketOrders::tell(session, one.row.id, "not_told",
                             fmt::format("`{}` was refused: {}", one.change.status, said), one.job_id);
          log(session, *run, one.job_id);
          append(session, actor, connection, one, "refused: " + message);
        },
        dumped({{"outcome", "refused"}, {"order", one.row.external_id}, {"note", error.message}}));
  };
  // Nothing is known of these but that it did not work.
  const auto failed = [&](const One& one, const Outcome& outcome) {
    Outcome out = outcome;
    const bool dies = out.what == Outcome::What::dead || (out.what == Outcome::What::retry && one.last_attempt);
    if (!one.steps.empty()) out.commit = [one](Session& session) { keep_steps(session, one); };
    if (dies) {
      out.what = Outcome::What::dead;
      out.commit = [one, message = out.message](Session& session) {
        keep_steps(session, one);
        session.execute(
            "UPDATE market_order SET sync_status = 'error', sync_code = 'failed', sync_message = $2, synced_us = $3, "
            "mark_due = 1 WHERE id = $1",
            {one.row.id, message, to_us(session.now())});
        MarketOrders::tell(session, one.row.id, "not_told", message, one.job_id);
      };
    }
    outcomes[one.place] = std::move(out);
  };
  const auto is_refusal = [](const Error& error) {
    return error.kind == Error::Kind::invalid && error.code != "suspect";
  };
  const auto word_of = [&](MarketState state) {
    const auto own = open.settings.status.words.find(state);
    return own != open.settings.status.words.end() ? own->second : open.marketplace->status_word(state);
  };
  const auto known_state = [](const One& one) {
    return one.row.to_decide().accepted.value_or(market_state(one.row.market_state).value_or(MarketState::unknown));
  };
  // Some take no step over another.
  const auto step_by_step = [&](One& one) {
    for (const MarketState state : steps_between(known_state(one), *one.decision.status)) {
      const std::string word = word_of(state);
      if (word.empty()) continue;
      open.marketplace->set_status_one({.id = one.change.id, .status = word, .otp = {}, .cancellation_reason = ""},
                                       stop);
      one.steps.push_back({state, word});
    }
    open.marketplace->set_status_one(one.change, stop);
  };
  const auto one_by_one = [&](std::span<One> some) {
    for (One& one : some) {
      if (stop.stop_requested()) {
        outcomes[one.place] = jobs::snooze(Micros(0));
        continue;
      }
      one.single = true;
      try {
        step("market.telling");
        if (one.otp) one.change.otp = MarketStatus::otp(owner.keys_, one.row);
        try {
          open.marketplace->set_status_one(one.change, stop);
        } catch (const Error& error) {
          const MarketState from = known_state(one);
          if (!is_refusal(error) || steps_between(from, *one.decision.status).empty()) throw;
          if (one.otp && !is_about_the_state(error, word_of(from))) throw;
          try {
            step_by_step(one);
          } catch (const Error& again) {
            // Without a step taken, the first refusal is the one about what was wanted.
            if (is_refusal(again) && one.steps.empty()) throw error;
            throw;
          }
        }
        step("market.told");
        outcomes[one.place] = taken(one);
      } catch (const Error& caught) {
        const Error error = without(one.change.otp, caught);
        if (is_refusal(error))
          outcomes[one.place] = refused(one, error);
        else if (const Outcome outcome = marketplace_failed(owner.marketplaces_, open, error, stop);
                 error.code == "suspect" && outcome.code == "suspect")
          // Refused without words, and the credentials are well: it is about this order.
          outcomes[one.place] = refused(one, error);
        else
          failed(one, outcome);
      }
    }
  };

  const auto bulk_end = std::stable_partition(due.begin(), due.end(), [](const One& one) { return !one.single; });
  const auto size = static_cast<std::size_t>(open.settings.batch);
  const auto bulk = static_cast<std::size_t>(bulk_end - due.begin());
  for (std::size_t at = 0; at < bulk; at += size) {
    const std::span<One> some(due.data() + at, std::min(size, bulk - at));
    // Of one alone the answer says more.
    if (some.size() == 1) {
      one_by_one(some);
      continue;
    }
    if (stop.stop_requested()) {
      for (const One& one : some) outcomes[one.place] = jobs::snooze(Micros(0));
      continue;
    }
    std::vector<Marketplace::StatusChange> changes;
    for (const One& one : some) changes.push_back(one.change);
    try {
      step("market.telling");
      open.marketplace->set_status(changes, stop);
      step("market.told");
      for (const One& one : some) outcomes[one.place] = taken(one);
    } catch (const Error& error) {
      if (is_refusal(error)) {
        // One of them spoils the rest.
        one_by_one(some);
        continue;
      }
      const Outcome outcome = marketplace_failed(owner.marketplaces_, open, error, stop);
      for (const One& one : some) failed(one, outcome);
    }
  }
  one_by_one(std::span<One>(due.data() + bulk, due.size() - bulk));
  return outcomes;
}

std::vector<Outcome> MarketStatusJobs::Mark::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes(jobs.size());
  struct Due {
    StatusRow row;
    std::int64_t revision = 0;
  };
  std::vector<std::optional<std::int64_t>> ids(jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    try {
      ids[i] = payload_of(jobs[i].payload).order;
    } catch (const Error& error) {
      outcomes[i] = jobs::failed(error);
    }
  }
  std::vector<std::optional<Due>> due(jobs.size());
  std::map<std::int64_t, MarketName> names;
  auto& store = owner.orders_.store();
  // The revision that it goes with is the order's own from here on: only where Odoo has the newest one.
  store.write([&](Session& session) {
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      due[i].reset();
      if (!ids[i]) continue;
      const auto row = MarketStatus::find(session, *ids[i]);
      const auto nothing = [&](const char* why) {
        outcomes[i] = jobs::done({}, dumped({{"outcome", "nothing"}, {"note", why}}));
      };
      if (!row || row->odoo_id == 0 || row->odoo_connection_id != jobs[i].connection_id) {
        outcomes[i] = jobs::cancel("The order is not there any more.");
        continue;
      }
      if (row->to_decide().standing == "deleted" || row->mark() == row->marked) {
        nothing("There is nothing to write.");
        continue;
      }
      const std::int64_t revision = MarketOrders::next_revision(session, row->revision);
      // Until it is known what became of it, nobody knows what stands there.
      if (session.execute(
              "UPDATE market_order SET revision = $2, applied_revision = $2, marked = '' WHERE id = $1 AND revision = "
              "$3 AND applied_revision = $3",
              {row->id, revision, row->revision}) != 1) {
        // The end of the import comes back to it.
        nothing("A newer version is on its way.");
        continue;
      }
      due[i] = Due{*row, revision};
    }
  });
  step("market.marking");
  std::vector<Job> deliveries;
  std::vector<std::size_t> places;
  std::map<std::int64_t, Due> by_job;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (!due[i]) continue;
    try {
      const auto open = owner.marketplaces_.peek(due[i]->row.connection_id);
      json values{{"marketplace_sync_status", due[i]->row.sync_status},
                  {"marketplace_error_message",
                   due[i]->row.sync_message.empty() ? json(false) : json(due[i]->row.sync_message)}};
      if (due[i]->row.synced) values["marketplace_sync_date"] = format_odoo(*due[i]->row.synced);
      // It may never list again what it took, and the order in Odoo would show what was before.
      if (const auto word = due[i]->row.taken_word(); !word.empty()) values["marketplace_status"] = word;
      Job delivery = jobs[i];
      delivery.payload =
          DeliveryOrder{"sale.order", open.name().order_key(due[i]->row.external_id), due[i]->revision,
                        // Steps, though none: as an order of a marketplace, whose fields have other names.
                        dumped({{"values", values}, {"steps", json::array()}}), 0, 0}
              .json();
      deliveries.push_back(std::move(delivery));
      places.push_back(i);
      by_job[jobs[i].id] = *due[i];
    } catch (const Error& error) {
      const auto outcome = marketplace_stopped(error);
      outcomes[i] = outcome ? *outcome : jobs::failed(error);
    }
  }
  if (deliveries.empty()) return outcomes;
  DeliveryHandler handler(
      store, owner.find_, owner.actor_, [by_job](Session& session, std::int64_t job_id, const Delivered& delivered) {
        const Due& one = by_job.at(job_id);
        if (!delivered.error && delivered.what != Delivered::What::skipped)
          session.execute("UPDATE market_order SET marked = $2 WHERE id = $1", {one.row.id, one.row.mark()});
      });
  auto delivered = handler.run(deliveries, stop);
  for (std::size_t n = 0; n < delivered.size(); ++n) {
    Outcome& outcome = delivered[n];
    // It is for people to read, and the hub has it, too: what Odoo refuses here wants nobody's attention.
    if (outcome.what == Outcome::What::dead && outcome.commit) {
      outcome.what = Outcome::What::done;
      outcome.result = dumped({{"outcome", "refused"}, {"code", outcome.code}, {"note", outcome.message}});
    }
    outcomes[places[n]] = std::move(outcome);
  }
  return outcomes;
}

}  // namespace dragoman::pipeline
