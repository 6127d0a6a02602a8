#include "jobs/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"

namespace dragoman::jobs {
namespace {

using namespace std::chrono_literals;
using store::Param;
using store::Row;
using store::Session;

constexpr std::size_t kBatch = 50;
// Records of ticks are kept this long, so that a clock that is set back by a day repeats nothing, and the newest of
// each schedule for people to look at.
constexpr Micros kKeep = 25h;
constexpr std::int64_t kKeepNewest = 100;

// Not about the schedule: the same will go well later.
bool passing(const Error& error) {
  return policy(error.kind).retry;
}

Param param(const std::optional<Time>& time) {
  return time ? Param(to_us(*time)) : Param(nullptr);
}

}  // namespace

Scheduler::Report Scheduler::tick(std::optional<Time> given) {
  std::vector<Schedule> rows;
  Time now;
  store_.read([&](Session& session) {
    now = given ? *given : session.now();
    rows = schedules_.due(session, now, settings_.back);
  });

  std::vector<Work> works;
  for (auto& schedule : rows) {
    const auto& spec = schedule.spec;
    if (!schedules_.kind(spec.kind)) continue;
    if (spec.connection_id != 0 && schedule.connection.empty()) {
      set_in_error(schedule, std::string(kConnectionRemoved), now);
      continue;
    }
    try {
      const Timing timing(spec, schedule.anchor);
      Work work;
      if (schedule.seen > now + settings_.back) {
        work.went_back = true;
        work.due.next = timing.next(now);
      } else if (schedule.next) {
        work.due = timing.due_until(now, *schedule.next, spec.catch_up, spec.catch_up_max, settings_.grace);
      }
      if (work.due.next) work.next_due = timing.due(*work.due.next);
      work.schedule = std::move(schedule);
      works.push_back(std::move(work));
    } catch (const Error& error) {
      log::warning("a schedule can't be planned on this node", {{"schedule", spec.name}, {"error", error.message}});
    }
  }

  const auto back = std::count_if(works.begin(), works.end(), [](const Work& work) { return work.went_back; });
  if (back > 0)
    log::warning("the clock went back; schedules are counted anew", {{"schedules", back}, {"now", format_iso(now)}});

  Report report;
  report.now = now;
  const auto write = [&](std::span<const Work> some) {
    Report sum;
    store_.write([&](Session& session) {
      sum = report;
      for (const auto& work : some) apply(session, work, now, sum);
    });
    report = sum;
  };
  for (std::size_t begin = 0; begin < works.size(); begin += kBatch) {
    const auto some = std::span(works).subspan(begin, std::min(kBatch, works.size() - begin));
    try {
      write(some);
      continue;
    } catch (const Error& error) {
      if (passing(error)) throw;
    }
    // One of them is refused: the others shall not suffer.
    for (const auto& work : some) {
      try {
        write(std::span(&work, 1));
      } catch (const Error& error) {
        if (passing(error)) throw;
        set_in_error(work.schedule, error.message, now);
      }
    }
  }
  store_.read([&](Session& session) { report.next = schedules_.next_due(session); });
  return report;
}

void Scheduler::apply(Session& session, const Work& work, Time now, Report& report) {
  const Schedule& schedule = work.schedule;
  const Timing::Due& due = work.due;
  const auto changed = session.execute(
      "UPDATE schedule SET next_us = $3, due_us = $4, seen_us = $5, version = version + 1 "
      "WHERE id = $1 AND version = $2 AND state = 'active'",
      {schedule.id, schedule.version, param(due.next), param(work.next_due), to_us(now)});
  if (changed == 0) return;  // another node, or a person, was faster
  if (work.went_back) {
    // What was passed over in a future that is not there any more has its time still to come.
    session.execute("DELETE FROM schedule_tick WHERE schedule_id = $1 AND tick_us > $2 AND outcome = 'missed'",
                    {schedule.id, to_us(now)});
  }
  if (!due.newest) return;

  const auto insert = [&](Time tick, std::string_view outcome, std::int64_t missed) {
    return session.execute(
               "INSERT INTO schedule_tick (schedule_id, tick_us, manual, at_us, outcome, job_id, missed, cause) "
               "VALUES ($1, $2, 0, $3, $4, 0, $5, '') ON CONFLICT (schedule_id, tick_us, manual) DO NOTHING",
               {schedule.id, to_us(tick), to_us(now), outcome, missed}) == 1;
  };
  std::int64_t missed = due.missed;
  report.passed_over += missed;
  if (due.run.empty()) {
    insert(*due.newest, "missed", missed - 1);
    session.execute("UPDATE schedule SET last_us = $2, last_outcome = 'missed', last_job_id = 0 WHERE id = $1",
                    {schedule.id, to_us(*due.newest)});
  }
  for (const Time tick : due.run) {
    if (!insert(tick, "enqueued", std::exchange(missed, 0))) continue;
    const Run run = start(session, schedule, tick, false);
    if (run.outcome == "enqueued")
      ++report.enqueued;
    else
      ++report.passed_over;
  }
  forget_old(session, schedule.id, now);
}

// The tick's row is there; makes the job, and says in the row what came of it.
Scheduler::Run Scheduler::start(Session& session, const Schedule& schedule, Time tick, bool manual) {
  const auto& spec = schedule.spec;
  const std::string key = fmt::format("schedule:{}", schedule.id);
  NewJob job{.kind = spec.kind,
             .flow = spec.flow,
             .connection_id = spec.connection_id,
             .payload = spec.payload,
             .payload_version = spec.payload_version,
             .priority = spec.priority,
             .cause = fmt::format("schedule {} {}", spec.name, format_iso(tick))};
  switch (spec.overlap) {
    case Overlap::skip:
      job.unique_key = key;
      job.unique = Unique::unfinished;
      break;
    case Overlap::queue:
      job.order_key = key;
      if (spec.catch_up != CatchUp::all) {
        job.unique_key = key;
        job.unique = Unique::waiting;
      }
      break;
    case Overlap::allow:
      break;
  }
  const Enqueued enqueued = enqueue_(session, job);
  const Run run{!enqueued.folded ? "enqueued" : spec.overlap == Overlap::skip ? "overlap" : "folded", enqueued.id};
  session.execute(
      "UPDATE schedule_tick SET outcome = $4, job_id = $5 WHERE schedule_id = $1 AND tick_us = $2 AND manual = $3",
      {schedule.id, to_us(tick), std::int64_t{manual}, run.outcome, run.job_id});
  session.execute("UPDATE schedule SET last_us = $2, last_outcome = $3, last_job_id = $4 WHERE id = $1",
                  {schedule.id, to_us(tick), run.outcome, run.job_id});
  return run;
}

Scheduler::Run Scheduler::run(Session& session, const std::string& name, const std::string& who, Time now) {
  const Schedule schedule = schedules_.get(session, name);
  if (!schedules_.kind(schedule.spec.kind)) {
    Error error(Error::Kind::conflict,
                fmt::format("The schedule `{}` makes jobs of the kind `{}`, which this program does not know.", name,
                            schedule.spec.kind));
    error.code = "schedule";
    throw error;
  }
  if (schedule.spec.connection_id != 0 && schedule.connection.empty()) {
    Error error(
        Error::Kind::conflict,
        fmt::format("The connection of the schedule `{0}` was removed. Give it another with `schedule update {0} "
                    "--connection NAME`, or remove it.",
                    name));
    error.code = "schedule";
    throw error;
  }
  // Two people in one microsecond are two runs.
  Time tick = now;
  while (session.execute(
             "INSERT INTO schedule_tick (schedule_id, tick_us, manual, at_us, outcome, job_id, missed, cause) "
             "VALUES ($1, $2, 1, $3, 'enqueued', 0, 0, $4) ON CONFLICT (schedule_id, tick_us, manual) DO NOTHING",
             {schedule.id, to_us(tick), to_us(now), who}) == 0)
    tick += Micros(1);
  return start(session, schedule, tick, true);
}

void Scheduler::forget_old(Session& session, std::int64_t schedule_id, Time now) {
  std::optional<std::int64_t> newest;
  session.first("SELECT tick_us FROM schedule_tick WHERE schedule_id = $1 ORDER BY tick_us DESC LIMIT 1 OFFSET $2",
                {schedule_id, kKeepNewest}, [&](const Row& row) { newest = row.int64(0); });
  if (!newest) return;
  session.execute("DELETE FROM schedule_tick WHERE schedule_id = $1 AND tick_us < $2",
                  {schedule_id, std::min(*newest, to_us(now - kKeep))});
}

void Scheduler::set_in_error(const Schedule& schedule, const std::string& reason, Time now) {
  bool done = false;
  store_.write([&](Session& session) {
    done =
        session.execute(
            "UPDATE schedule SET state = 'error', reason = $3, next_us = NULL, due_us = NULL, version = version + 1, "
            "changed_us = $4 WHERE id = $1 AND version = $2 AND state = 'active'",
            {schedule.id, schedule.version, reason, to_us(now)}) == 1;
  });
  if (done) log::error("a schedule stopped", {{"schedule", schedule.spec.name}, {"reason", reason}});
}

}  // namespace dragoman::jobs
