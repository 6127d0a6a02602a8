#include "jobs/queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <set>
#include <tuple>
#include <unordered_map>

#include "base/log.h"
#include "base/step.h"
#include "base/text.h"
#include "jobs/breaker.h"
#include "jobs/fingerprint.h"
#include "jobs/rows.h"

namespace dragoman::jobs {
namespace {

using store::Engine;
using store::Param;
using store::Row;
using store::Session;
using What = Outcome::What;

// How many jobs become available in one go; the rest follow in the next turn.
constexpr std::int64_t kPromoteMax = 1000;
// After so many deaths of the process a job runs alone, so that it is the only one to blame for the next.
constexpr std::int64_t kInterruptionsMax = 3;
// Of a job that belongs to no connection, which has no breaker that could wait for it.
constexpr Micros kOutageWait = std::chrono::seconds(10);
constexpr int kCommitsMax = 3;
constexpr std::size_t kMessageMax = 2000, kResultMax = std::size_t{1} << 20;

// Of job.again, while a job runs.
constexpr std::int64_t kOnceMore = 1;  // its payload was replaced
constexpr std::int64_t kUnwanted = 2;  // somebody cancelled it
constexpr std::string_view kCancelledUndone = "it was cancelled while it ran, and had not been applied";
constexpr std::string_view kCancelledInDoubt =
    "it was cancelled while it ran, and may have been applied all the same: look at the target";

#define DRAGOMAN_CLAIMED                                                                                          \
  "id, priority, attempt, interruptions, in_doubt, fence, payload_version, unique_scope, order_key, unique_key, " \
  "cause, payload, enqueued_us"

// A node claims ahead, so what was claimed when it died need not have begun. A job's first claim counts as its
// beginning, which costs no write; of one that was there when a process died the beginning is written down:
// Queue::begin.
#define DRAGOMAN_STARTED(now) "started_us = CASE WHEN interruptions = 0 THEN " now " END"

constexpr std::string_view kClaimPostgres =
    "UPDATE job SET state = 2, attempt = attempt + 1, fence = fence + 1, node_id = $3, " DRAGOMAN_STARTED(
        "CAST($4 AS bigint)") " "
    // An array and not a join, which might run the sub-select more than once and lock more than is taken.
    "WHERE id = ANY(ARRAY(SELECT id FROM job WHERE lane_id = $1 AND state = 0 AND hold = 0 ORDER BY priority, id "
    "LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING " DRAGOMAN_CLAIMED;
constexpr std::string_view kReadySqlite =
    "SELECT " DRAGOMAN_CLAIMED " FROM job WHERE lane_id = $1 AND state = 0 AND hold = 0 ORDER BY priority, id LIMIT $2";
// One statement for all: a third faster than one for each.
constexpr std::string_view kBeginSqlite =
    "UPDATE job SET state = 2, attempt = attempt + 1, fence = fence + 1, node_id = $2, " DRAGOMAN_STARTED("$3") " "
    "WHERE id IN (SELECT value FROM json_each($1))";
constexpr std::string_view kClaimAlone =
    "UPDATE job SET state = 2, attempt = attempt + 1, fence = fence + 1, node_id = $2, started_us = NULL "
    "WHERE id = $1 AND state = 0 AND hold = 2 RETURNING " DRAGOMAN_CLAIMED;

constexpr std::string_view kLanes =
    "SELECT l.id, l.connection_id, l.flow, l.kind, "
    "(SELECT j.priority FROM job j WHERE j.lane_id = l.id AND j.state = 0 AND j.hold = 0 "
    "ORDER BY j.priority, j.id LIMIT 1), "
    "(SELECT min(j.id) FROM job j WHERE j.lane_id = l.id AND j.state = 0 AND j.hold = 2), "
    "COALESCE(b.state, 0), COALESCE(b.until_us, 0), w.until_us "
    "FROM job_lane l LEFT JOIN breaker b ON b.connection_id = l.connection_id "
    "LEFT JOIN job_lane_wait w ON w.lane_id = l.id "
    "LEFT JOIN connection c ON c.id = l.connection_id "
    "WHERE COALESCE(c.state, '') <> 'paused' AND NOT EXISTS (SELECT 1 FROM job_pause p WHERE "
    "(p.what = 'kind' AND p.name = l.kind) OR (p.what = 'flow' AND p.name = l.flow) OR "
    "(p.what = 'connection' AND p.name = CAST(l.connection_id AS TEXT)))";

struct OpenLane {
  Lane lane;
  std::string flow;
  std::optional<std::int64_t> first_priority, alone;
  bool probes = false;
  bool tries = false;  ///< one job may find out whether what the lane lacked is there
};

// A message may quote what a remote sent.
std::string clean(std::string_view text, std::size_t max = kMessageMax) {
  std::string out;
  if (is_utf8(text) && text.find('\0') == std::string_view::npos) {
    out = text;
  } else {
    for (const char c : text) out += c == '\0' || static_cast<unsigned char>(c) >= 0x80 ? '?' : c;
  }
  if (out.size() > max) {
    while (max > 0 && (static_cast<unsigned char>(out[max]) & 0xc0) == 0x80) --max;
    out.resize(max);
  }
  return out;
}

bool of_the_store(const Error& error) {
  return error.kind == Error::Kind::unavailable || error.kind == Error::Kind::busy ||
         error.kind == Error::Kind::in_doubt || error.kind == Error::Kind::cancelled;
}

Claimed read_claimed(const Row& row, const OpenLane& open, std::int64_t node_id, bool updated) {
  const int once_more = updated ? 0 : 1;  // read before the claim, or after
  Claimed claimed;
  claimed.lane = open.lane;
  claimed.node_id = node_id;
  claimed.priority = static_cast<Priority>(row.int64(1));
  auto& job = claimed.job;
  job.id = row.int64(0);
  job.kind = open.lane.kind->name;
  job.flow = open.flow;
  job.connection_id = open.lane.connection_id;
  job.attempt = static_cast<int>(row.int64(2)) + once_more;
  job.attempts_max = open.lane.kind->attempts_max;
  job.interruptions = static_cast<int>(row.int64(3));
  job.in_doubt = row.int64(4) != 0;
  job.fence = row.int64(5) + once_more;
  job.payload_version = static_cast<int>(row.int64(6));
  claimed.unique_waiting = row.int64(7) == static_cast<std::int64_t>(Unique::waiting) && !row.text(9).empty();
  job.order_key = row.text(8);
  job.unique_key = row.text(9);
  job.cause = row.text(10);
  job.payload = row.bytes(11);
  job.enqueued_at = row.time(12);
  return claimed;
}

// The jobs that begin let their unique keys go. Somebody may be folding another job into one of them at this moment,
// with the key locked: that job is left for the next claim, because to wait here is to stand in his way as well.
void release_unique_keys(Session& session, std::vector<Claimed>& claimed, std::size_t from) {
  std::vector<std::string_view> keys;
  std::vector<std::int64_t> ids;
  for (std::size_t i = from; i < claimed.size(); ++i) {
    if (!claimed[i].unique_waiting) continue;
    keys.push_back(claimed[i].job.unique_key);
    ids.push_back(claimed[i].job.id);
  }
  if (keys.empty()) return;
  if (session.engine() == Engine::sqlite) {
    for (std::size_t i = 0; i < keys.size(); ++i) release_unique(session, keys[i], ids[i]);
    return;
  }
  const auto key_array = text_array(keys);
  const auto all = id_array(ids);
  session.execute(
      "DELETE FROM job_unique WHERE key = ANY(ARRAY(SELECT key FROM job_unique WHERE key = ANY(CAST($1 AS text[])) AND "
      "job_id = ANY(CAST($2 AS bigint[])) FOR UPDATE SKIP LOCKED))",
      {key_array, all});
  std::vector<std::int64_t> kept;
  session.query(
      "SELECT job_id FROM job_unique WHERE key = ANY(CAST($1 AS text[])) AND job_id = ANY(CAST($2 AS bigint[]))",
      {key_array, all}, [&](const Row& row) { kept.push_back(row.int64(0)); });
  if (kept.empty()) return;
  const auto kept_array = id_array(kept);
  session.execute("UPDATE job SET state = 0, attempt = attempt - 1, node_id = 0 WHERE id = ANY(CAST($1 AS bigint[]))",
                  {kept_array});
  std::erase_if(claimed,
                [&](const Claimed& one) { return std::find(kept.begin(), kept.end(), one.job.id) != kept.end(); });
}

void claim_lane(Session& session, const OpenLane& open, std::int64_t node_id, std::int64_t limit, Time now,
                std::vector<Claimed>& claimed) {
  const auto from = claimed.size();
  if (session.engine() == Engine::postgres) {
    session.query(kClaimPostgres, {open.lane.id, limit, node_id, to_us(now)},
                  [&](const Row& row) { claimed.push_back(read_claimed(row, open, node_id, true)); });
    std::sort(claimed.begin() + static_cast<std::ptrdiff_t>(from), claimed.end(),
              [](const Claimed& a, const Claimed& b) {
                return std::tuple(a.priority, a.job.id) < std::tuple(b.priority, b.job.id);
              });
  } else {
    session.query(kReadySqlite, {open.lane.id, limit},
                  [&](const Row& row) { claimed.push_back(read_claimed(row, open, node_id, false)); });
    std::string ids;
    for (auto i = from; i < claimed.size(); ++i) ids += fmt::format("{}{}", ids.empty() ? "[" : ",", claimed[i].job.id);
    if (!ids.empty()) session.execute(kBeginSqlite, {ids + "]", node_id, to_us(now)});
  }
  release_unique_keys(session, claimed, from);
}

std::optional<Time> next_due(Session& session) {
  std::optional<Time> next;
  session.first("SELECT min(run_at_us) FROM job WHERE state IN (1, 3) AND hold <> 1", {},
                [&](const Row& row) { next = row.maybe_time(0); });
  return next;
}

// What is due becomes available. When the next will be.
std::optional<Time> promote(Session& session, std::optional<Time> first, Time now) {
  if (!first || *first > now) return first;
  const bool postgres = session.engine() == Engine::postgres;
  session.execute(postgres ? "UPDATE job SET state = 0 WHERE id = ANY(ARRAY(SELECT id FROM job WHERE state IN (1, 3) "
                             "AND hold <> 1 AND run_at_us <= $1 ORDER BY run_at_us LIMIT $2 FOR UPDATE SKIP LOCKED))"
                           : "UPDATE job SET state = 0 WHERE id IN (SELECT id FROM job WHERE state IN (1, 3) "
                             "AND hold <> 1 AND run_at_us <= $1 ORDER BY run_at_us LIMIT $2)",
                  {to_us(now), kPromoteMax});
  return next_due(session);
}

}  // namespace

Kinds::Kinds(std::vector<Kind> kinds, OnDead on_dead) : kinds_(std::move(kinds)), on_dead_(std::move(on_dead)) {
  std::set<std::string> names;
  for (const auto& kind : kinds_) {
    DRAGOMAN_ASSERT(kind.handler && kind.batch_max > 0 && kind.attempts_max > 0, "a kind of job is whole");
    DRAGOMAN_ASSERT(names.insert(kind.name).second, "kinds of jobs have names of their own");
  }
}

const Kind* Kinds::find(std::string_view name) const {
  for (const auto& kind : kinds_)
    if (kind.name == name) return &kind;
  return nullptr;
}

Micros backoff(int attempt, Micros first, Micros max, Random& random) {
  double wait = static_cast<double>(first.count());
  for (int i = 1; i < attempt && wait < static_cast<double>(max.count()); ++i) wait *= 2;
  wait = std::min(wait, static_cast<double>(max.count()));
  return Micros(static_cast<std::int64_t>(wait * (0.8 + 0.4 * random.unit())));
}

// What a claim has to know first, and what time it is, in one question.
struct Queue::Head {
  Time now;
  std::optional<Time> due;  // when the next job becomes available by itself
  bool alive = false;
};

Queue::Head Queue::head(Session& session, std::int64_t node_id) {
  Head head;
  const bool postgres = session.engine() == Engine::postgres;
  if (!postgres) head.now = session.now();
  // The node's row is held until we commit: who declares it dead waits, and then sees what is claimed here.
  session.query(postgres ? "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT), "
                           "(SELECT min(run_at_us) FROM job WHERE state IN (1, 3) AND hold <> 1) "
                           "FROM node n WHERE n.id = $1 AND n.state = 'running' FOR SHARE OF n"
                         : "SELECT 0, (SELECT min(run_at_us) FROM job WHERE state IN (1, 3) AND hold <> 1) "
                           "FROM node n WHERE n.id = $1 AND n.state = 'running'",
                {node_id}, [&](const Row& row) {
                  head.alive = true;
                  if (postgres) head.now = row.time(0);
                  head.due = row.maybe_time(1);
                });
  return head;
}

Claims Queue::claim(std::int64_t node_id, const ClaimLimits& limits) {
  Claims claims;
  store_.write([&](Session& session) { claims = claim_in(session, node_id, limits, head(session, node_id)); });
  return claims;
}

Claims Queue::claim_in(Session& session, std::int64_t node_id, const ClaimLimits& limits, const Head& head) {
  Claims claims;
  if (!head.alive) {
    claims.node_lost = true;
    return claims;
  }
  const Time now = head.now;
  auto due = head.due;
  due = promote(session, due, now);
  const auto wake_at = [&](Time at) {
    const auto in = std::max(Micros::zero(), std::chrono::duration_cast<Micros>(at - now));
    if (!claims.next || in < *claims.next) claims.next = in;
  };
  if (due) wake_at(*due);

  std::vector<OpenLane> lanes;
  session.query(kLanes, {}, [&](const Row& row) {
    OpenLane open;
    open.first_priority = row.maybe_int64(4);
    open.alone = row.maybe_int64(5);
    if (!open.first_priority && !open.alone) return;
    open.lane = {row.int64(0), row.int64(1), kinds_.find(row.text(3))};
    if (!open.lane.kind) return;
    switch (static_cast<breaker::State>(row.int64(6))) {
      case breaker::State::closed:
        break;
      case breaker::State::open:
        if (row.time(7) > now) return wake_at(row.time(7));
        open.probes = true;
        break;
      case breaker::State::probing:
        open.probes = true;  // if its probe came to nothing
        break;
      case breaker::State::held:
        return;
    }
    if (const auto until = row.maybe_time(8)) {
      if (*until > now) return wake_at(*until);
      open.tries = true;
    }
    open.flow = row.text(2);
    lanes.push_back(std::move(open));
  });
  if (lanes.empty()) return claims;

  const auto begin_probe = [&](const OpenLane& open) {
    return !open.probes || breaker::begin_probe(session, open.lane.connection_id, node_id, now);
  };
  const auto begin_try = [&](const OpenLane& open) {
    return !open.tries || breaker::begin_lane_try(session, open.lane.id, now);
  };
  const auto begun = [&](const OpenLane& open, std::size_t from) {
    if (!open.probes) return;
    if (claims.jobs.size() == from) return breaker::give_probe_back(session, open.lane.connection_id);
    claims.jobs.back().probe = true;
    breaker::probe_with(session, open.lane.connection_id, claims.jobs.back().job.id);
  };

  for (const auto& open : lanes) {
    if (!open.alone) continue;
    if (!limits.idle) {
      // What runs here may end first; nothing new begins beside it.
      claims.alone_waits = true;
      return claims;
    }
    if (!begin_try(open) || !begin_probe(open)) continue;
    session.query(kClaimAlone, {*open.alone, node_id}, [&](const Row& row) {
      claims.jobs.push_back(read_claimed(row, open, node_id, true));
      claims.jobs.back().alone = true;
      claims.jobs.back().tries_lane = open.tries;
    });
    release_unique_keys(session, claims.jobs, 0);
    begun(open, 0);
    if (claims.jobs.empty()) continue;
    claims.more = true;
    return claims;
  }

  // Lanes of the same urgency take turns in being first.
  std::erase_if(lanes, [](const OpenLane& open) { return !open.first_priority; });
  if (lanes.size() > 1) {
    std::rotate(lanes.begin(), lanes.begin() + static_cast<std::ptrdiff_t>(random_.next() % lanes.size()), lanes.end());
    std::stable_sort(lanes.begin(), lanes.end(),
                     [](const OpenLane& a, const OpenLane& b) { return *a.first_priority < *b.first_priority; });
  }
  std::set<std::int64_t> probed;
  for (const auto& open : lanes) {
    auto limit = static_cast<std::int64_t>(limits.jobs_max) - static_cast<std::int64_t>(claims.jobs.size());
    if (limit > 0 && limits.room) limit = std::min<std::int64_t>(limit, limits.room(open.lane));
    if (limit <= 0) {
      claims.more = true;
      continue;
    }
    if (open.tries) {
      if (!begin_try(open)) continue;
      limit = 1;
    }
    if (open.probes) {
      if (!probed.insert(open.lane.connection_id).second || !begin_probe(open)) continue;
      limit = 1;
    }
    const auto from = claims.jobs.size();
    claim_lane(session, open, node_id, limit, now, claims.jobs);
    begun(open, from);
    for (auto i = from; i < claims.jobs.size(); ++i) claims.jobs[i].tries_lane = open.tries;
    if (static_cast<std::int64_t>(claims.jobs.size() - from) == limit && !open.probes && !open.tries)
      claims.more = true;
  }
  return claims;
}

std::vector<Ending> Queue::finish(std::span<Finished> finished) {
  if (finished.empty()) return {};
  std::vector<Ending> endings;
  try {
    store_.write([&](Session& session) {
      endings = finish_in(session, finished, session.now());
      step("finish.before_commit");
    });
    step("finish.committed");
    return endings;
  } catch (const Error& error) {
    if (of_the_store(error)) throw;
  } catch (const std::exception&) {
    // an effect's; below it is told apart
  }
  return finish_one_by_one(finished);
}

Queue::Turn Queue::turn(std::span<Finished> finished, std::int64_t node_id, const ClaimLimits& limits) {
  Turn turn;
  try {
    store_.write([&](Session& session) {
      auto first = head(session, node_id);
      turn.endings = finish_in(session, finished, first.alive ? first.now : session.now(), &first.due);
      turn.claims = claim_in(session, node_id, limits, first);
      if (!finished.empty()) step("finish.before_commit");
    });
    if (!finished.empty()) step("finish.committed");
    if (!turn.claims.jobs.empty()) step("queue.claimed");
    return turn;
  } catch (const Error& error) {
    if (finished.empty() || of_the_store(error)) throw;
  } catch (const std::exception&) {
    if (finished.empty()) throw;
  }
  turn.endings = finish_one_by_one(finished);
  turn.claims = {};
  turn.claims.more = true;
  return turn;
}

std::vector<Ending> Queue::finish_one_by_one(std::span<Finished> finished) {
  std::vector<Ending> endings(finished.size(), Ending::later);
  for (std::size_t i = 0; i < finished.size(); ++i) {
    auto& one = finished[i];
    const auto write = [&] {
      store_.write(
          [&](Session& session) { endings[i] = finish_in(session, std::span(&one, 1), session.now()).front(); });
    };
    try {
      write();
      continue;
    } catch (const Error& error) {
      endings[i] = Ending::later;
      if (of_the_store(error) && ++one.commits_failed < kCommitsMax) return endings;
      log::error("what a job did could not be recorded as its handler wanted", {{"job", one.claimed.job.id},
                                                                                {"kind", one.claimed.job.kind},
                                                                                {"error", error.message},
                                                                                {"detail", error.detail}});
      one.outcome = failed(error);
      // The effect itself was done: only its record is missing.
      if (one.outcome.what == What::outage) one.outcome.what = What::retry;
    } catch (const std::exception& error) {
      endings[i] = Ending::later;
      one.outcome = failed(Error(Error::Kind::bug, "the job's effects could not be recorded", error.what()));
    }
    one.outcome.commit = {};
    if (one.outcome.what == What::retry) one.outcome.kind = Error::Kind::in_doubt;
    try {
      write();
    } catch (const std::exception& error) {
      endings[i] = Ending::later;
      log::warning("the end of a job could not be recorded yet",
                   {{"job", one.claimed.job.id}, {"error", error.what()}});
      return endings;
    }
  }
  return endings;
}

namespace {

/// Everything that ending some attempts brings with it, gathered so that it is written in few statements and always in
/// the same order.
struct Consequences {
  struct Tally {
    std::int64_t done = 0, cancelled = 0;
  };
  std::map<std::int64_t, Tally> tallies;  // by lane
  std::vector<std::string_view> keys;     // of jobs that leave their order
  std::vector<HistoryLine> history;
  std::deque<std::string> texts;  // that the lines refer to
  std::vector<DeadLetter> dead;
  bool available = false;

  std::string_view keep(std::string text) {
    texts.push_back(std::move(text));
    return texts.back();
  }
};

struct Stored {
  State state = State::available;
  std::int64_t fence = 0, hold = 0, attempt = 0, interruptions = 0, in_doubt = 0;
  bool again = false, unwanted = false;
};

std::optional<Stored> read_locked(Session& session, std::int64_t job_id) {
  std::optional<Stored> stored;
  session.first(session.engine() == Engine::postgres
                    ? "SELECT state, fence, hold, attempt, interruptions, in_doubt, again FROM job WHERE id = $1 FOR "
                      "UPDATE"
                    : "SELECT state, fence, hold, attempt, interruptions, in_doubt, again FROM job WHERE id = $1",
                {job_id}, [&](const Row& row) {
                  stored = Stored{static_cast<State>(row.int64(0)),
                                  row.int64(1),
                                  row.int64(2),
                                  row.int64(3),
                                  row.int64(4),
                                  row.int64(5),
                                  row.int64(6) == kOnceMore,
                                  row.int64(6) == kUnwanted};
                });
  return stored;
}

// Whether the job stands as this outcome would have left it.
bool stands_so(State state, What what) {
  switch (what) {
    case What::done:
      return state == State::completed;
    case What::retry:
      return state == State::retryable || state == State::discarded;
    case What::outage:
    case What::snooze:
      return state == State::available || state == State::scheduled || state == State::retryable;
    case What::dead:
      return state == State::discarded;
    case What::cancel:
      return state == State::cancelled;
  }
  return false;
}

void leave(Session& session, const Claimed& claimed, Consequences& out) {
  if (!claimed.job.order_key.empty()) out.keys.push_back(claimed.job.order_key);
  if (!claimed.job.unique_key.empty() && !claimed.unique_waiting)
    release_unique(session, claimed.job.unique_key, claimed.job.id);
}

Ending settle(Session& session, const Finished& finished, Time now, Random& random, std::string_view node,
              Consequences& out) {
  const auto& claimed = finished.claimed;
  const auto& job = claimed.job;
  const auto& outcome = finished.outcome;
  const auto& kind = *claimed.lane.kind;
  const auto stored = read_locked(session, job.id);
  if (!stored) return Ending::refused;
  if (stored->state != State::running || stored->fence != job.fence) {
    if (stored->fence == job.fence && stands_so(stored->state, outcome.what)) return Ending::repeated;
    out.history.push_back(
        {job.id, "late", job.attempt, {}, "an answer came after the lease was lost; it was not used", node});
    return Ending::refused;
  }

  auto state = State::available;
  auto what = outcome.what;
  std::int64_t hold = stored->hold, attempt = stored->attempt, interruptions = stored->interruptions,
               in_doubt = stored->in_doubt;
  Time run_at = now;
  bool ended = false, failure = false;
  std::string_view told;
  std::string print;
  const auto code = out.keep(clean(outcome.code, 100));
  auto message = out.keep(clean(outcome.message));

  if (stored->unwanted) {
    if (what == What::retry || what == What::outage || what == What::snooze) {
      const bool maybe = in_doubt != 0 || outcome.kind == Error::Kind::in_doubt;
      message = out.keep(std::string(maybe ? kCancelledInDoubt : kCancelledUndone));
      what = What::cancel;
    } else if (what == What::done) {
      told = "completed";
      message = "it was done before it could be stopped";
    }
  }
  if (what == What::retry && attempt >= kind.attempts_max) what = What::dead;
  if (stored->again && (what == What::done || what == What::dead || what == What::cancel)) {
    told = "again";
    message = "its payload was replaced while it ran: it runs once more";
    attempt = interruptions = in_doubt = hold = 0;
    what = What::snooze;
  } else if (what == What::snooze) {
    attempt = std::max<std::int64_t>(0, attempt - 1);
    if (outcome.delay > Micros::zero()) {
      state = State::scheduled;
      run_at = now + outcome.delay;
      if (!message.empty()) told = "snooze";
    }
  } else {
    failure = what != What::done && what != What::cancel && outcome.kind != Error::Kind::cancelled;
    switch (what) {
      case What::done:
        state = State::completed;
        ended = true;
        break;
      case What::retry:
        state = State::retryable;
        run_at = now + std::max(outcome.delay,
                                backoff(static_cast<int>(attempt), kind.backoff_first, kind.backoff_max, random));
        // It ran to its end, so it is not what killed the process.
        interruptions = hold = 0;
        if (outcome.kind == Error::Kind::in_doubt) in_doubt = 1;
        told = outcome.code == "timeout" ? "timeout" : "retry";
        break;
      case What::outage:
        attempt = std::max<std::int64_t>(0, attempt - 1);
        if (failure) told = "outage";
        if (failure && job.connection_id == 0) {
          state = State::retryable;
          run_at = now + std::max(outcome.delay, backoff(1, kOutageWait, kOutageWait, random));
        }
        break;
      case What::dead:
        state = State::discarded;
        ended = true;
        told = "dead";
        hold = 0;
        print = fingerprint(kind.name, outcome.code, outcome.message);
        break;
      case What::cancel:
        state = State::cancelled;
        ended = true;
        told = "cancelled";
        break;
      case What::snooze:
        break;
    }
  }

  if (state == State::discarded && !job.order_key.empty() && !kind.dead_parks) hold = 3;
  const std::string result = clean(outcome.result, kResultMax);
  const Param finished_at = ended ? Param(to_us(now)) : Param(nullptr);
  session.execute(
      "UPDATE job SET state = $2, hold = $3, attempt = $4, interruptions = $5, in_doubt = $6, again = 0, "
      "run_at_us = $7, finished_us = $8, fingerprint = $9, result = $10 WHERE id = $1",
      {job.id, static_cast<std::int64_t>(state), hold, attempt, interruptions, in_doubt, to_us(run_at), finished_at,
       print, result});
  if (failure)
    session.execute("UPDATE job SET error_kind = $2, error_code = $3, error_message = $4 WHERE id = $1",
                    {job.id, policy(outcome.kind).name, code, message});
  if (!told.empty()) out.history.push_back({job.id, told, job.attempt, code, message, node});

  if (!ended) {
    if (claimed.unique_waiting) retake_unique(session, job.unique_key, job.id);
    out.available = true;
  } else if (state == State::discarded) {
    out.dead.push_back({job.id, kind.name, print, job.connection_id, std::string(code), std::string(message)});
    if (hold == 3) out.keys.push_back(job.order_key);
    if (!job.unique_key.empty() && !claimed.unique_waiting) release_unique(session, job.unique_key, job.id);
  } else {
    leave(session, claimed, out);
    auto& tally = out.tallies[claimed.lane.id];
    ++(state == State::completed ? tally.done : tally.cancelled);
  }
  return Ending::recorded;
}

// Those of the happy path, in one statement where the engine can. Marks which of them were.
void complete(Session& session, std::span<Finished> finished, Time now, std::int64_t slot, std::vector<Ending>& endings,
              Consequences& out) {
  std::vector<std::size_t> done;
  for (std::size_t i = 0; i < finished.size(); ++i)
    if (finished[i].outcome.what == What::done) done.push_back(i);
  if (done.size() == 1) {
    const auto i = done.front();
    const auto& job = finished[i].claimed.job;
    const auto result = clean(finished[i].outcome.result, kResultMax);
    if (session.execute("UPDATE job SET state = 4, finished_us = $3, result = $4 "
                        "WHERE id = $1 AND fence = $2 AND state = 2 AND again = 0",
                        {job.id, job.fence, to_us(now), result}) > 0) {
      endings[i] = Ending::recorded;
      ++out.tallies[finished[i].claimed.lane.id].done;
    }
    return;
  }
  if (done.empty()) return;
  std::vector<std::int64_t> ids, fences;
  std::vector<std::string> results;
  std::unordered_map<std::int64_t, std::size_t> by_id;
  bool with_results = false;
  for (const auto i : done) {
    const auto& job = finished[i].claimed.job;
    // Of a job that is named twice the second is told apart below.
    if (!by_id.emplace(job.id, i).second) continue;
    ids.push_back(job.id);
    fences.push_back(job.fence);
    results.push_back(clean(finished[i].outcome.result, kResultMax));
    with_results |= !results.back().empty();
  }
  const auto mark = [&](const Row& row) { endings[by_id.at(row.int64(0))] = Ending::recorded; };

  if (session.engine() == Engine::sqlite) {
    // {"17":3,…}: a fence by each number, and with it the result where there are any.
    std::string fence_of;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      fence_of += fmt::format("{}\"{}\":", i == 0 ? "{" : ",", ids[i]);
      if (with_results) {
        fence_of += fmt::format("[{},", fences[i]);
        append_json_string(fence_of, results[i]);
        fence_of += ']';
      } else {
        fence_of += std::to_string(fences[i]);
      }
    }
    fence_of += '}';
    if (with_results)
      session.query(
          "UPDATE job SET state = 4, finished_us = $2, result = json_extract(d.value, '$[1]') FROM json_each($1) d "
          "WHERE job.id = CAST(d.key AS INTEGER) AND job.fence = json_extract(d.value, '$[0]') AND job.state = 2 AND "
          "job.again = 0 RETURNING id",
          {fence_of, to_us(now)}, mark);
    else
      session.query(
          "UPDATE job SET state = 4, finished_us = $2 FROM json_each($1) d WHERE job.id = CAST(d.key AS INTEGER) AND "
          "job.fence = d.value AND job.state = 2 AND job.again = 0 RETURNING id",
          {fence_of, to_us(now)}, mark);
    for (const auto i : done)
      if (endings[i] == Ending::recorded) ++out.tallies[finished[i].claimed.lane.id].done;
    return;
  }

  const auto id_text = id_array(ids), fence_text = id_array(fences);
  // Counted in the same statement, which saves one on the way to the server.
  const auto counted = [](std::string_view set, std::string_view columns) {
    return fmt::format(
        "WITH ended AS (UPDATE job SET state = 4, finished_us = $3{} FROM (SELECT unnest(CAST($1 AS bigint[])) AS id, "
        "unnest(CAST($2 AS bigint[])) AS fence{}) d WHERE job.id = d.id AND job.fence = d.fence AND job.state = 2 AND "
        "job.again = 0 RETURNING job.id, job.lane_id), tally AS (INSERT INTO job_tally (lane_id, slot, done, "
        "cancelled) "
        "SELECT lane_id, $4, count(*), 0 FROM ended GROUP BY lane_id ORDER BY lane_id ON CONFLICT (lane_id, slot) "
        "DO UPDATE SET done = job_tally.done + excluded.done) SELECT id FROM ended",
        set, columns);
  };
  static const std::string kPlain = counted("", "");
  static const std::string kWithResults = counted(", result = d.result", ", unnest(CAST($5 AS text[])) AS result");
  if (with_results)
    session.query(kWithResults, {id_text, fence_text, to_us(now), slot, text_array({results.begin(), results.end()})},
                  mark);
  else
    session.query(kPlain, {id_text, fence_text, to_us(now), slot}, mark);
}

// What a connection's breaker has to know: the worst that was seen, a probe before others.
void tell_breakers(Session& session, std::span<Finished> finished, const std::vector<Ending>& endings, Time now,
                   Random& random, Consequences& out) {
  std::map<std::int64_t, const Finished*> outages;
  std::map<std::int64_t, const Finished*> probes;
  std::map<std::int64_t, const Finished*> lacking;  // by lane; null: one got through
  for (std::size_t i = 0; i < finished.size(); ++i) {
    const auto& one = finished[i];
    const auto connection = one.claimed.lane.connection_id;
    if (connection == 0 || endings[i] != Ending::recorded) continue;
    if (one.claimed.probe) probes[connection] = &one;
    if (one.outcome.what == What::outage && one.outcome.lane_only) {
      const auto [at, fresh] = lacking.try_emplace(one.claimed.lane.id, &one);
      if (!fresh && at->second && one.claimed.tries_lane) at->second = &one;
      continue;
    }
    if (one.claimed.tries_lane && (one.outcome.what == What::done || one.outcome.what == What::dead ||
                                   (one.outcome.what == What::retry && one.outcome.code != "timeout")))
      lacking[one.claimed.lane.id] = nullptr;
    if (one.outcome.what != What::outage || one.outcome.kind == Error::Kind::cancelled) continue;
    auto& worst = outages[connection];
    const auto rank = [](const Finished& f) {
      return std::tuple(f.outcome.kind == Error::Kind::auth, f.claimed.probe, f.outcome.delay);
    };
    if (!worst || rank(*worst) < rank(one)) worst = &one;
  }
  for (const auto& [connection, one] : outages) {
    auto outcome = one->outcome;
    outcome.code = clean(outcome.code, 100);
    outcome.message = clean(outcome.message);
    outcome.commit = {};
    breaker::report(session, connection,
                    {.job_id = one->claimed.job.id, .probe = one->claimed.probe, .outage = true, .outcome = outcome},
                    now, random);
  }
  for (const auto& [connection, one] : probes) {
    if (outages.count(connection)) continue;
    const bool answered = one->outcome.what == What::done || one->outcome.what == What::dead ||
                          (one->outcome.what == What::retry && one->outcome.code != "timeout");
    out.available |= breaker::report(session, connection,
                                     {.job_id = one->claimed.job.id, .probe = true, .answered = answered}, now, random);
  }
  for (const auto& [lane, one] : lacking) {
    if (!one) {
      out.available |= breaker::lane_is_well(session, lane);
      continue;
    }
    auto outcome = one->outcome;
    outcome.code = clean(outcome.code, 100);
    outcome.message = clean(outcome.message);
    outcome.commit = {};
    breaker::lane_lacks(session, lane, outcome, one->claimed.tries_lane, now, random);
  }
}

}  // namespace

std::vector<Ending> Queue::finish_in(Session& session, std::span<Finished> finished, Time now,
                                     std::optional<Time>* due) {
  std::vector<Ending> endings(finished.size(), Ending::later);
  if (finished.empty()) return endings;
  const auto slot = slot_of(finished.front().claimed.node_id);
  Consequences out;
  complete(session, finished, now, slot, endings, out);
  for (std::size_t i = 0; i < finished.size(); ++i) {
    const auto& claimed = finished[i].claimed;
    if (endings[i] == Ending::recorded)
      leave(session, claimed, out);
    else
      endings[i] = settle(session, finished[i], now, random_, who_, out);
  }

  std::sort(out.keys.begin(), out.keys.end());
  out.available |= leave_orders(session, out.keys, now);
  add_history(session, now, out.history);
  for (const auto& [lane, tally] : out.tallies) add_tally(session, lane, slot, tally.done, tally.cancelled);
  tell_breakers(session, finished, endings, now, random_, out);
  if (out.available) {
    session.notify(kJobsChannel);
    if (due) *due = next_due(session);
  }
  if (!out.dead.empty()) {
    session.notify(kDeadChannel);
    if (kinds_.on_dead()) kinds_.on_dead()(session, out.dead);
  }

  // Last, because what they write may end with locks that are held to the commit.
  for (std::size_t i = 0; i < finished.size(); ++i)
    if (endings[i] == Ending::recorded && finished[i].outcome.commit) finished[i].outcome.commit(session);
  return endings;
}

std::int64_t Queue::put_back_unknown(std::int64_t node_id,
                                     const std::set<std::pair<std::int64_t, std::int64_t>>& known) {
  struct Lost {
    std::int64_t id, attempt, scope;
    std::string unique_key;
  };
  std::vector<Lost> lost;
  store_.write([&](Session& session) {
    lost.clear();
    // A claim holds the node's row until it has committed: one that is still under way is waited for.
    if (session.engine() == Engine::postgres)
      session.first("SELECT id FROM node WHERE id = $1 FOR UPDATE", {node_id}, [](const Row&) {});
    session.query(
        "SELECT id, attempt, unique_scope, unique_key, fence FROM job WHERE node_id = $1 AND state = 2 ORDER BY id",
        {node_id}, [&](const Row& row) {
          if (!known.count({row.int64(0), row.int64(4)}))
            lost.push_back({row.int64(0), row.int64(1), row.int64(2), std::string(row.text(3))});
        });
    if (lost.empty()) return;
    const Time now = session.now();
    std::vector<HistoryLine> history;
    for (const auto& one : lost) {
      session.execute(
          "UPDATE job SET state = 0, fence = fence + 1, attempt = attempt - 1, again = 0, node_id = 0 "
          "WHERE id = $1 AND node_id = $2 AND state = 2",
          {one.id, node_id});
      if (!one.unique_key.empty() && one.scope == 0) retake_unique(session, one.unique_key, one.id);
      history.push_back({one.id,
                         "put back",
                         static_cast<int>(one.attempt),
                         {},
                         "the database's answer to its claim was lost, so it never began",
                         who_});
    }
    add_history(session, now, history);
    session.notify(kJobsChannel);
  });
  return static_cast<std::int64_t>(lost.size());
}

std::set<std::int64_t> Queue::begin(store::Store& store, std::span<const Claimed> claimed) {
  std::set<std::int64_t> begun;
  store.write([&](Session& session) {
    begun.clear();
    const auto now = to_us(session.now());
    for (const auto& one : claimed)
      if (one.job.interruptions > 0 &&
          session.execute("UPDATE job SET started_us = $3 WHERE id = $1 AND fence = $2 AND state = 2",
                          {one.job.id, one.job.fence, now}) > 0)
        begun.insert(one.job.id);
  });
  return begun;
}

std::set<std::int64_t> Queue::unwanted(std::int64_t node_id) {
  std::set<std::int64_t> ids;
  store_.read([&](Session& session) {
    ids.clear();
    session.query("SELECT id FROM job WHERE node_id = $1 AND state = 2 AND again = 2", {node_id},
                  [&](const Row& row) { ids.insert(row.int64(0)); });
  });
  return ids;
}

std::int64_t Queue::rescue(Session& session, std::int64_t node_id, std::string_view who) {
  struct Orphan {
    std::int64_t id, lane_id, interruptions, hold, attempt, scope;
    std::string order_key, unique_key;
    bool begun, unwanted, in_doubt;
  };
  std::vector<Orphan> orphans;
  session.query(
      "UPDATE job SET state = 0, fence = fence + 1, attempt = attempt - 1, interruptions = interruptions + CASE WHEN "
      "started_us IS NULL THEN 0 ELSE 1 END, in_doubt = CASE WHEN started_us IS NULL THEN in_doubt ELSE 1 END, again = "
      "CASE WHEN again = 2 THEN 2 ELSE 0 END, node_id = 0 WHERE node_id = $1 AND state = 2 "
      "RETURNING id, lane_id, interruptions, hold, attempt, unique_scope, order_key, unique_key, started_us, again, "
      "in_doubt",
      {node_id}, [&](const Row& row) {
        orphans.push_back({row.int64(0), row.int64(1), row.int64(2), row.int64(3), row.int64(4) + 1, row.int64(5),
                           std::string(row.text(6)), std::string(row.text(7)), !row.is_null(8),
                           row.int64(9) == kUnwanted, row.int64(10) != 0});
      });
  if (orphans.empty()) return 0;
  std::sort(orphans.begin(), orphans.end(), [](const Orphan& a, const Orphan& b) { return a.id < b.id; });

  const Time now = session.now();
  std::vector<HistoryLine> history;
  std::deque<std::string> texts;
  std::map<std::int64_t, std::string> kind_of;
  std::vector<std::string_view> released;
  std::map<std::int64_t, std::int64_t> connection_of;
  std::vector<DeadLetter> dead;
  for (const auto& orphan : orphans) {
    if (orphan.unwanted) {
      session.execute("UPDATE job SET state = 5, hold = 0, again = 0, finished_us = $2 WHERE id = $1",
                      {orphan.id, to_us(now)});
      if (!orphan.order_key.empty()) released.push_back(orphan.order_key);
      if (!orphan.unique_key.empty() && orphan.scope != 0) release_unique(session, orphan.unique_key, orphan.id);
      add_tally(session, orphan.lane_id, slot_of(node_id), 0, 1);
      history.push_back({orphan.id,
                         "cancelled",
                         static_cast<int>(orphan.attempt),
                         {},
                         orphan.in_doubt ? kCancelledInDoubt : kCancelledUndone,
                         who});
      continue;
    }
    if (orphan.hold == 2 && orphan.begun) {
      auto& kind_name = kind_of[orphan.lane_id];
      if (kind_name.empty())
        session.first("SELECT kind, connection_id FROM job_lane WHERE id = $1", {orphan.lane_id}, [&](const Row& row) {
          kind_name = row.text(0);
          connection_of[orphan.lane_id] = row.int64(1);
        });
      const Kind* kind = kinds_.find(kind_name);
      const bool lets_go = !orphan.order_key.empty() && kind && !kind->dead_parks;
      texts.push_back(
          fmt::format("the process died {} times while it ran this job, the last time with nothing else "
                      "running",
                      orphan.interruptions));
      const std::string print = fingerprint(kind_name, "poison", texts.back());
      session.execute(
          "UPDATE job SET state = 6, hold = $2, finished_us = $3, fingerprint = $4, error_kind = 'bug', error_code = "
          "'poison', error_message = $5 WHERE id = $1",
          {orphan.id, std::int64_t{lets_go ? 3 : 0}, to_us(now), print, texts.back()});
      history.push_back({orphan.id, "dead", static_cast<int>(orphan.attempt), "poison", texts.back(), who});
      if (lets_go) released.push_back(orphan.order_key);
      if (!orphan.unique_key.empty() && orphan.scope != 0) release_unique(session, orphan.unique_key, orphan.id);
      dead.push_back({orphan.id, kind_name, print, connection_of[orphan.lane_id], "poison", texts.back()});
      continue;
    }
    if (orphan.interruptions >= kInterruptionsMax && orphan.hold != 2)
      session.execute("UPDATE job SET hold = 2 WHERE id = $1", {orphan.id});
    history.push_back({orphan.id,
                       "interrupted",
                       static_cast<int>(orphan.attempt),
                       {},
                       !orphan.begun ? "the process that had claimed it died before it began: that does not count"
                       : orphan.interruptions >= kInterruptionsMax
                           ? "the process that ran it died, once more: it runs alone from now on"
                           : "the process that ran it died",
                       who});
    if (!orphan.unique_key.empty() && orphan.scope == 0) retake_unique(session, orphan.unique_key, orphan.id);
  }
  std::sort(released.begin(), released.end());
  leave_orders(session, released, now);
  add_history(session, now, history);
  session.notify(kJobsChannel);
  if (!dead.empty()) {
    session.notify(kDeadChannel);
    if (kinds_.on_dead()) kinds_.on_dead()(session, dead);
  }
  return static_cast<std::int64_t>(orphans.size());
}

}  // namespace dragoman::jobs
