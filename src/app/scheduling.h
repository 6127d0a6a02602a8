#pragma once

#include <cstdint>
#include <stop_token>
#include <vector>

#include "base/clock.h"
#include "jobs/leader.h"
#include "jobs/scheduler.h"

namespace dragoman::app {

/// Drives the scheduler while the hub runs: at once when a tick is due or a schedule was changed, where this node
/// leads. The others look now and then, for what the leader can't do (a kind of job or a time zone it does not know).
///
/// Threads: one thread at a time.
class Scheduling {
 public:
  Scheduling(store::Store& store, const jobs::Schedules& schedules, jobs::Scheduler& scheduler, const jobs::Node& node,
             Clock& clock);

  /// Makes the program's own schedules what it says.
  void begin(const std::vector<jobs::ScheduleSpec>& built_in);
  /// Until a stop is asked for.
  void run(std::stop_token stop);

 private:
  Micros step();

  store::Store& store_;
  const jobs::Schedules& schedules_;
  jobs::Scheduler& scheduler_;
  jobs::Leader leader_;
  Clock& clock_;
  Micros look_again_{0};  // steady, of a node that does not lead
};

}  // namespace dragoman::app
