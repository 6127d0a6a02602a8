#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "jobs/queue.h"
#include "jobs/schedule.h"
#include "store/store.h"

namespace dragoman::jobs {

/// A schedule as it stands in the database.
struct Schedule {
  std::int64_t id = 0;
  ScheduleSpec spec;
  bool built_in = false;   ///< declared by the program: may be changed and paused, not removed
  std::string connection;  ///< name of spec.connection_id; empty: none, or it was removed
  std::string state;       ///< `active`, `paused`, `error`
  std::string reason;
  Time anchor{};
  std::optional<Time> next;  ///< the next tick, without its jitter
  Time seen{};               ///< ticks up to here were dealt with
  std::int64_t version = 0;
  struct Last {
    Time tick{};
    std::string outcome;
    std::int64_t job_id = 0;
  };
  std::optional<Last> last;
  Time created{}, changed{};
};

/// What became of a tick.
struct Tick {
  Time tick{}, at{};
  bool manual = false;
  std::string outcome;      ///< `enqueued`, `overlap` (passed over), `folded` (into one that waits), `missed`
  std::int64_t job_id = 0;  ///< that was enqueued or in the way
  std::int64_t missed = 0;  ///< earlier ones that were passed over with it
  std::string cause;
};

/// The schedules in the store. Works in the caller's transaction, so that an audit entry can be part of it; `now` is
/// the database's time.
///
/// Errors  invalid (code `schedule`, `cron`, `time_zone`, or what the kind's check says of the payload: what is wrong
/// and
///         what it takes), not_found, conflict.
/// Threads immutable after construction; calls as the Session.
class Schedules {
 public:
  /// `kinds` lives longer.
  explicit Schedules(const Kinds& kinds) : kinds_(kinds) {}

  /// Null: this program does not know it.
  const Kind* kind(std::string_view name) const { return kinds_.find(name); }

  std::vector<Schedule> list(store::Session& session) const;
  Schedule get(store::Session& session, const std::string& name) const;
  std::optional<Schedule> find(store::Session& session, const std::string& name) const;
  /// The newest first.
  std::vector<Tick> ticks(store::Session& session, std::int64_t schedule_id, std::int64_t limit) const;

  /// Throws conflict (code `name_taken`) if there is one of that name.
  Schedule add(store::Session& session, const ScheduleSpec& spec, Time now) const;
  /// `change` gets what it is now. The next tick is counted anew where the times were changed; one in error is active
  /// again.
  Schedule update(store::Session& session, const std::string& name, const std::function<void(ScheduleSpec&)>& change,
                  Time now) const;
  /// With the record of its ticks; jobs that it enqueued stay. Throws conflict (code `built_in`).
  void remove(store::Session& session, const std::string& name) const;
  /// The active ones of a connection that is being removed are in error from now on. Their names.
  std::vector<std::string> connection_is_gone(store::Session& session, std::int64_t connection_id, Time now) const;
  /// One that is paused already keeps its reason, and gets this one in addition (joined_reason).
  Schedule pause(store::Session& session, const std::string& name, const Act& act, Time now) const;
  /// Ticks that passed meanwhile are not caught up with: they were not wanted.
  Schedule resume(store::Session& session, const std::string& name, Time now) const;

  /// Makes the program's own schedules what it says, at every start. What a person changed of one (its times, its
  /// policies, its payload, its state) stays.
  void declare(store::Session& session, const std::vector<ScheduleSpec>& specs, Time now) const;

  /// Those that have a tick to deal with, or whose clock went back by more than `back`.
  std::vector<Schedule> due(store::Session& session, Time now, Micros back) const;
  /// When the next one is due.
  std::optional<Time> next_due(store::Session& session) const;

  /// The times at which it is due next; empty if it is not active, or this machine does not know its time zone.
  std::vector<Time> upcoming(const Schedule& schedule, int count) const;

 private:
  void check_kind(store::Session& session, ScheduleSpec& spec) const;

  const Kinds& kinds_;
};

/// The reason of a schedule in error.
inline constexpr std::string_view kConnectionRemoved = "its connection was removed";

/// Woken when a schedule was changed.
inline constexpr std::string_view kScheduleChannel = "schedules";

}  // namespace dragoman::jobs
