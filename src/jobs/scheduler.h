#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "jobs/job.h"
#include "jobs/schedules.h"
#include "store/store.h"

namespace dragoman::jobs {

/// Turns ticks of schedules into jobs. A step function without a thread of its own: whoever drives it calls `tick` when
/// the next one is due, and when a schedule was changed (kScheduleChannel).
///
/// Each tick becomes a job once, whoever calls how often and on how many nodes: its row in `schedule_tick` and the job
/// are one transaction. So it is enough, for the load's sake, that the leader calls; it would be right if all did.
///
/// Clocks: `now` is the database's, so nodes agree. Where it jumps ahead, what lies between is what was missed, and the
/// schedule's CatchUp decides. Where it jumps back, ticks that were dealt with do not come again; others do when their
/// time comes.
///
/// Errors  as Store::write.
/// Threads safe from any thread.
class Scheduler {
 public:
  using Enqueue = std::function<Enqueued(store::Session&, const NewJob&)>;

  struct Settings {
    Micros grace = std::chrono::minutes(1);  ///< so much late, a tick still counts as in time
    Micros back = std::chrono::minutes(1);   ///< so far the clock may go back before ticks are counted anew
  };

  /// Into the queue.
  Scheduler(store::Store& store, const Schedules& schedules)
      : Scheduler(store, schedules,
                  [](store::Session& session, const NewJob& job) { return jobs::enqueue(session, job); }) {}
  /// What is given lives longer.
  Scheduler(store::Store& store, const Schedules& schedules, Enqueue enqueue)
      : Scheduler(store, schedules, std::move(enqueue), Settings()) {}
  Scheduler(store::Store& store, const Schedules& schedules, Enqueue enqueue, Settings settings)
      : store_(store), schedules_(schedules), enqueue_(std::move(enqueue)), settings_(settings) {}

  struct Report {
    Time now{};  ///< the database's
    std::int64_t enqueued = 0;
    std::int64_t passed_over = 0;  ///< by overlap, folding or the catch-up policy
    std::optional<Time> next;      ///< when to call again, at the latest; nullopt: when a schedule was changed
  };
  /// Deals with everything that is due. A schedule whose job is refused is set in error, with the reason, and stops;
  /// one whose kind or time zone this node does not know is left to the others. `given`: the time in place of the
  /// database's.
  Report tick(std::optional<Time> given = std::nullopt);

  struct Run {
    std::string outcome;  ///< as Tick::outcome
    std::int64_t job_id = 0;
  };
  /// Runs a schedule now, in the caller's transaction, paused or not; its plan stays as it is. The rule for overlap
  /// holds.
  Run run(store::Session& session, const std::string& name, const std::string& who, Time now);

 private:
  struct Work {
    Schedule schedule;
    Timing::Due due;
    std::optional<Time> next_due;
    bool went_back = false;
  };

  void apply(store::Session& session, const Work& work, Time now, Report& report);
  Run start(store::Session& session, const Schedule& schedule, Time tick, bool manual);
  void forget_old(store::Session& session, std::int64_t schedule_id, Time now);
  void set_in_error(const Schedule& schedule, const std::string& reason, Time now);

  store::Store& store_;
  const Schedules& schedules_;
  const Enqueue enqueue_;
  const Settings settings_;
};

}  // namespace dragoman::jobs
