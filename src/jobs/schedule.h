#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/clock.h"
#include "jobs/cron.h"
#include "jobs/job.h"

namespace dragoman::jobs {

/// What happens to ticks that came and went while no hub ran, or its clock was put forward.
enum class CatchUp {
  skip,  ///< nothing: the next tick is the next run
  once,  ///< one run for all of them
  all    ///< a run for each, the newest `catch_up_max` of them
};
/// What happens to a tick while the run before it is not finished.
enum class Overlap {
  skip,   ///< it is passed over
  queue,  ///< it waits for that run; ticks that find one waiting already fold into it (not with CatchUp::all)
  allow   ///< it runs beside it
};
std::string_view name(CatchUp policy);
std::string_view name(Overlap policy);
/// Throws invalid, naming those that there are.
CatchUp catch_up_of(std::string_view name);
Overlap overlap_of(std::string_view name);

/// What a schedule is made of.
struct ScheduleSpec {
  std::string name;
  std::string cron;          ///< empty: by interval
  std::string zone = "UTC";  ///< of the expression
  Micros interval{0};        ///< of those without expression: 1 s to 366 days
  /// Each tick is late by a part of this, always the same for the same tick: that many hubs or schedules don't ask for
  /// the same thing in the same second. At most the interval, or an hour.
  Micros jitter{0};
  std::string kind, flow;          ///< of the job
  std::int64_t connection_id = 0;  ///< of the job; 0: none
  std::string payload = "{}";
  int payload_version = 1;
  Priority priority = Priority::low;
  CatchUp catch_up = CatchUp::once;
  int catch_up_max = 100;
  Overlap overlap = Overlap::skip;
};

/// Checks everything that can be known without the database. Errors: invalid, code `schedule`, `cron` or `time_zone`.
void check(const ScheduleSpec& spec);

/// When a schedule ticks. A *tick* is a moment of the plan; it is *due* a little later, by the jitter.
///
/// Threads: immutable after construction.
class Timing {
 public:
  /// Intervals are counted from `anchor`. Errors: as check().
  Timing(const ScheduleSpec& spec, Time anchor);

  /// The first tick after `after`; nullopt if there is none any more.
  std::optional<Time> next(Time after) const;
  Time due(Time tick) const;

  /// What has come due, where `first` is the earliest tick that was not dealt with.
  struct Due {
    std::vector<Time> run;       ///< oldest first
    std::int64_t missed = 0;     ///< passed over, by the policy; at least so many
    std::optional<Time> newest;  ///< of all that came due; nullopt: none did
    std::optional<Time> next;    ///< the first that is not due yet
  };
  /// A tick counts as in time up to `grace` after it was due: CatchUp::skip still runs it.
  Due due_until(Time now, Time first, CatchUp policy, int catch_up_max, Micros grace) const;

  /// The times at which the next `count` ticks are due, `first` included.
  std::vector<Time> upcoming(std::optional<Time> first, int count) const;

 private:
  struct ByCron {
    Cron cron;
    Zone zone;
  };
  struct ByInterval {
    Micros interval;
    Time anchor;
  };
  std::variant<ByCron, ByInterval> by_;
  Micros jitter_;
  std::uint64_t salt_;
};

}  // namespace dragoman::jobs
