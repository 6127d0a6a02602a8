#include "jobs/breaker.h"

#include <algorithm>

#include "jobs/queue.h"

namespace dragoman::jobs::breaker {
namespace {

using store::Row;
using store::Session;

constexpr Micros kFirst = std::chrono::seconds(1);
constexpr Micros kMax = std::chrono::minutes(5);
// A lane waits for a person to put something in place: no need to look every second.
constexpr Micros kLaneFirst = std::chrono::seconds(10);
// A probe that ended without an answer (it was put off, or cancelled) says nothing: the next one tries soon.
constexpr Micros kInconclusive = std::chrono::seconds(1);

struct Stored {
  State state = State::closed;
  std::int64_t failures = 0;
  Time until{};
  std::int64_t probe_job = 0;
};

std::optional<Stored> locked(Session& session, std::int64_t connection_id) {
  std::optional<Stored> found;
  session.first(session.engine() == store::Engine::postgres
                    ? "SELECT state, failures, until_us, probe_job FROM breaker WHERE connection_id = $1 FOR UPDATE"
                    : "SELECT state, failures, until_us, probe_job FROM breaker WHERE connection_id = $1",
                {connection_id}, [&](const Row& row) {
                  found = Stored{static_cast<State>(row.int64(0)), row.int64(1), row.time(2), row.int64(3)};
                });
  return found;
}

void open(Session& session, std::int64_t connection_id, State state, std::int64_t failures, Time until,
          const Outcome& outcome) {
  session.execute(
      "UPDATE breaker SET state = $2, failures = $3, until_us = $4, code = $5, message = $6, probe_job = 0, "
      "probe_node = 0 WHERE connection_id = $1",
      {connection_id, static_cast<std::int64_t>(state), failures, to_us(until), outcome.code, outcome.message});
}

}  // namespace

std::optional<Status> status(Session& session, std::int64_t connection_id) {
  std::optional<Status> found;
  session.first("SELECT state, failures, since_us, until_us, code, message FROM breaker WHERE connection_id = $1",
                {connection_id}, [&](const Row& row) {
                  found = Status{.state = static_cast<State>(row.int64(0)),
                                 .failures = static_cast<int>(row.int64(1)),
                                 .since = row.time(2),
                                 .until = row.time(3),
                                 .code = std::string(row.text(4)),
                                 .message = std::string(row.text(5))};
                });
  return found;
}

bool report(Session& session, std::int64_t connection_id, const Report& report, Time now, Random& random) {
  if (!report.outage) {
    if (!report.probe) return false;
    if (report.answered)
      return session.execute("DELETE FROM breaker WHERE connection_id = $1 AND state = 2 AND probe_job = $2",
                             {connection_id, report.job_id}) > 0;
    session.execute(
        "UPDATE breaker SET state = 1, until_us = $3, probe_job = 0, probe_node = 0 "
        "WHERE connection_id = $1 AND state = 2 AND probe_job = $2",
        {connection_id, report.job_id, to_us(now + kInconclusive)});
    return false;
  }

  const auto& outcome = report.outcome;
  const bool refused = outcome.kind == Error::Kind::auth;
  const auto wait = [&](std::int64_t failures) {
    return now + std::max(outcome.delay,
                          backoff(static_cast<int>(std::min<std::int64_t>(failures, 60)), kFirst, kMax, random));
  };
  if (session.execute("INSERT INTO breaker (connection_id, state, failures, since_us, until_us, code, message) "
                      "VALUES ($1, $2, 1, $3, $4, $5, $6) ON CONFLICT (connection_id) DO NOTHING",
                      {connection_id, static_cast<std::int64_t>(refused ? State::held : State::open), to_us(now),
                       to_us(wait(1)), outcome.code, outcome.message}) > 0)
    return false;
  const auto stored = locked(session, connection_id);
  if (!stored || stored->state == State::held) return false;
  if (refused) {
    open(session, connection_id, State::held, stored->failures + 1, now, outcome);
  } else if (stored->state == State::probing) {
    // Others that were under way when it opened say nothing new.
    if (report.probe && stored->probe_job == report.job_id)
      open(session, connection_id, State::open, stored->failures + 1, wait(stored->failures + 1), outcome);
  } else if (now + outcome.delay > stored->until && outcome.delay > Micros::zero()) {
    open(session, connection_id, State::open, stored->failures, now + outcome.delay, outcome);
  }
  return false;
}

bool begin_probe(Session& session, std::int64_t connection_id, std::int64_t node_id, Time now) {
  const auto stored = locked(session, connection_id);
  if (!stored) return true;  // closed meanwhile
  if (stored->state == State::held || (stored->state == State::open && stored->until > now)) return false;
  if (stored->state == State::probing) {
    // Its job may have gone another way: with its node, or by a person's hand.
    bool runs = false;
    session.first("SELECT state FROM job WHERE id = $1", {stored->probe_job},
                  [&](const Row& row) { runs = row.int64(0) == static_cast<std::int64_t>(jobs::State::running); });
    if (runs) return false;
  }
  return session.execute("UPDATE breaker SET state = 2, probe_node = $2, probe_job = 0 WHERE connection_id = $1",
                         {connection_id, node_id}) > 0;
}

void probe_with(Session& session, std::int64_t connection_id, std::int64_t job_id) {
  session.execute("UPDATE breaker SET probe_job = $2 WHERE connection_id = $1 AND state = 2", {connection_id, job_id});
}

void give_probe_back(Session& session, std::int64_t connection_id) {
  session.execute("UPDATE breaker SET state = 1, probe_node = 0, probe_job = 0 WHERE connection_id = $1 AND state = 2",
                  {connection_id});
}

void lane_lacks(Session& session, std::int64_t lane_id, const Outcome& outcome, bool tried, Time now, Random& random) {
  std::int64_t failures = 1;
  session.first("SELECT failures + 1 FROM job_lane_wait WHERE lane_id = $1", {lane_id},
                [&](const Row& row) { failures = row.int64(0); });
  if (failures > 1 && !tried) return;
  const Micros wait = std::max(
      outcome.delay, backoff(static_cast<int>(std::min<std::int64_t>(failures, 60)), kLaneFirst, kMax, random));
  session.execute(
      "INSERT INTO job_lane_wait (lane_id, failures, since_us, until_us, code, message) VALUES ($1, 1, $2, $3, $4, $5) "
      "ON CONFLICT (lane_id) DO UPDATE SET failures = $6, until_us = $3, code = $4, message = $5",
      {lane_id, to_us(now), to_us(now + wait), outcome.code, outcome.message, failures});
}

bool begin_lane_try(Session& session, std::int64_t lane_id, Time now) {
  // Should nothing come of it, the next one may try after a while.
  return session.execute("UPDATE job_lane_wait SET until_us = $3 WHERE lane_id = $1 AND until_us <= $2",
                         {lane_id, to_us(now), to_us(now + kLaneFirst)}) > 0;
}

bool lane_is_well(Session& session, std::int64_t lane_id) {
  return session.execute("DELETE FROM job_lane_wait WHERE lane_id = $1", {lane_id}) > 0;
}

std::optional<Status> lane_status(Session& session, std::int64_t lane_id) {
  std::optional<Status> found;
  session.first("SELECT failures, since_us, until_us, code, message FROM job_lane_wait WHERE lane_id = $1", {lane_id},
                [&](const Row& row) {
                  found = Status{.state = State::open,
                                 .failures = static_cast<int>(row.int64(0)),
                                 .since = row.time(1),
                                 .until = row.time(2),
                                 .code = std::string(row.text(3)),
                                 .message = std::string(row.text(4))};
                });
  return found;
}

bool reset(Session& session, std::int64_t connection_id) {
  auto closed = session.execute("DELETE FROM breaker WHERE connection_id = $1", {connection_id});
  closed += session.execute(
      "DELETE FROM job_lane_wait WHERE lane_id IN (SELECT id FROM job_lane WHERE connection_id = $1)", {connection_id});
  if (closed > 0) session.notify(kJobsChannel);
  return closed > 0;
}

}  // namespace dragoman::jobs::breaker
