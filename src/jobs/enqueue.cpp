#include <map>
#include <tuple>
#include <utility>

#include "jobs/queue.h"
#include "jobs/rows.h"

namespace dragoman::jobs {
namespace {

using store::Bytes;
using store::Engine;
using store::Param;
using store::Row;
using store::Session;

// A key that is folded into thousands of times (every change of one record) says so by its count; the first causes are
// told one by one.
constexpr std::int64_t kFoldsTold = 100;

constexpr std::string_view kColumns[] = {"id",         "lane_id",     "state",           "hold",         "priority",
                                         "run_at_us",  "enqueued_us", "payload_version", "unique_scope", "order_key",
                                         "unique_key", "cause",       "payload"};

std::int64_t lane_of(Session& session, const NewJob& job) {
  std::int64_t id = 0;
  const auto look = [&] {
    return session.first("SELECT id FROM job_lane WHERE connection_id = $1 AND flow = $2 AND kind = $3",
                         {job.connection_id, job.flow, job.kind}, [&](const Row& row) { id = row.int64(0); });
  };
  if (look()) return id;
  session.execute(
      "INSERT INTO job_lane (connection_id, flow, kind) VALUES ($1, $2, $3) "
      "ON CONFLICT (connection_id, flow, kind) DO NOTHING",
      {job.connection_id, job.flow, job.kind});
  look();
  return id;
}

// The numbers that the jobs may take, and the time.
std::vector<std::int64_t> reserve(Session& session, std::size_t count, Time& now) {
  std::vector<std::int64_t> ids;
  ids.reserve(count);
  if (session.engine() == Engine::postgres) {
    session.query(
        "SELECT nextval(pg_get_serial_sequence('job', 'id')), "
        "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) FROM generate_series(1, $1)",
        {static_cast<std::int64_t>(count)}, [&](const Row& row) {
          ids.push_back(row.int64(0));
          now = row.time(1);
        });
    return ids;
  }
  // One writer: nobody else takes numbers meanwhile. The newest row is never deleted, so none comes twice.
  std::int64_t last = 0;
  session.first("SELECT COALESCE(max(id), 0) FROM job", {}, [&](const Row& row) { last = row.int64(0); });
  for (std::size_t i = 0; i < count; ++i) ids.push_back(++last);
  now = session.now();
  return ids;
}

// Folds the job into the one that has its unique key. False if there is none: then the key is `id`'s now.
bool fold(Session& session, const NewJob& job, std::int64_t id, Time now, std::int64_t& into) {
  session.first(
      "INSERT INTO job_unique (key, job_id) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET key = excluded.key "
      "RETURNING job_id",
      {job.unique_key, id}, [&](const Row& row) { into = row.int64(0); });
  if (into == id) return false;

  const auto priority = static_cast<std::int64_t>(job.priority);
  std::int64_t folded = 0;
  const auto seen = [&](const Row& row) { folded = row.int64(0); };
  bool there = false;
  if (job.fold == Fold::keep)
    // One that was cancelled while it runs is wanted after all.
    there = session.first(
        "UPDATE job SET folded = folded + 1, priority = CASE WHEN priority > $2 THEN $2 ELSE priority END, "
        "again = CASE WHEN again = 2 THEN 0 ELSE again END WHERE id = $1 AND state IN (0, 1, 2, 3) RETURNING folded",
        {into, priority}, seen);
  else
    // One that runs works on the payload that it was given: it has to run once more.
    there = session.first(
        "UPDATE job SET folded = folded + 1, priority = CASE WHEN priority > $2 THEN $2 ELSE priority END, "
        "payload = $3, payload_version = $4, again = CASE WHEN state = 2 THEN 1 ELSE 0 END "
        "WHERE id = $1 AND state IN (0, 1, 2, 3) RETURNING folded",
        {into, priority, Bytes(job.payload), std::int64_t{job.payload_version}}, seen);
  if (!there) {
    session.execute("UPDATE job_unique SET job_id = $2 WHERE key = $1", {job.unique_key, id});
    return false;
  }
  if (folded <= kFoldsTold) add_history(session, now, {{.job_id = into, .what = "folded", .message = job.cause}});
  return true;
}

}  // namespace

Enqueued enqueue(Session& session, const NewJob& job) {
  return enqueue(session, std::span(&job, 1)).front();
}

std::vector<Enqueued> enqueue(Session& session, std::span<const NewJob> jobs) {
  if (jobs.empty()) return {};
  std::vector<Enqueued> answers(jobs.size());

  std::map<std::tuple<std::int64_t, std::string_view, std::string_view>, std::int64_t> lanes;
  for (const auto& job : jobs) {
    auto& lane = lanes[{job.connection_id, job.flow, job.kind}];
    if (lane == 0) lane = lane_of(session, job);
  }

  Time now;
  const auto ids = reserve(session, jobs.size(), now);
  std::size_t next = 0;
  std::vector<std::size_t> fresh, twins;
  std::map<std::string_view, std::size_t> by_unique_key;
  fresh.reserve(jobs.size());
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const auto id = ids[next];
    // Within this call the row is not there yet, so a later job of the same key has to look here first.
    if (!jobs[i].unique_key.empty()) {
      if (const auto twin = by_unique_key.find(jobs[i].unique_key); twin != by_unique_key.end()) {
        answers[i] = {answers[twin->second].id, true};
        twins.push_back(i);
        continue;
      }
      std::int64_t into = 0;
      if (fold(session, jobs[i], id, now, into)) {
        answers[i] = {into, true};
        continue;
      }
      by_unique_key.emplace(jobs[i].unique_key, i);
    }
    answers[i] = {id, false};
    fresh.push_back(i);
    ++next;
  }
  if (fresh.empty()) return answers;

  // Keys in their order, so that who locks several never waits for one who waits for him.
  std::map<std::string_view, std::int64_t> entering;
  for (const auto i : fresh)
    if (!jobs[i].order_key.empty()) ++entering[jobs[i].order_key];
  std::map<std::string_view, bool> taken;
  for (const auto& [key, count] : entering) taken[key] = enter_order(session, key, count) > 0;

  std::vector<Param> values;
  values.reserve(fresh.size() * std::size(kColumns));
  for (const auto i : fresh) {
    const auto& job = jobs[i];
    bool behind = false;
    if (!job.order_key.empty()) behind = std::exchange(taken[job.order_key], true);
    const auto run_at = job.run_at ? *job.run_at : now;
    values.emplace_back(answers[i].id);
    values.emplace_back(lanes[{job.connection_id, job.flow, job.kind}]);
    values.emplace_back(std::int64_t{run_at > now ? 1 : 0});
    values.emplace_back(std::int64_t{behind ? 1 : 0});
    values.emplace_back(static_cast<std::int64_t>(job.priority));
    values.emplace_back(to_us(run_at));
    values.emplace_back(to_us(now));
    values.emplace_back(std::int64_t{job.payload_version});
    values.emplace_back(static_cast<std::int64_t>(job.unique));
    values.emplace_back(job.order_key);
    values.emplace_back(job.unique_key);
    values.emplace_back(job.cause);
    values.emplace_back(Bytes(job.payload));
  }
  if (fresh.size() == 1)
    session.execute(
        "INSERT INTO job (id, lane_id, state, hold, priority, run_at_us, enqueued_us, payload_version, unique_scope, "
        "order_key, unique_key, cause, payload) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        values);
  else
    session.insert_many("job", kColumns, values);

  for (const auto i : twins) {
    std::int64_t into = 0;
    fold(session, jobs[i], 0, now, into);
  }
  session.notify(kJobsChannel);
  return answers;
}

}  // namespace dragoman::jobs
