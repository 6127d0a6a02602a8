#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace dragoman::jobs {

/// What a wall clock shows, to the minute.
using WallMinute = std::chrono::local_time<std::chrono::minutes>;

/// A time zone of the IANA database that this machine has (Debian's package `tzdata`). `UTC` needs none.
///
/// Changes of the clock are known up to 2037; after that the zone keeps its winter time.
///
/// Threads: immutable after construction; copies share nothing that changes.
class Zone {
 public:
  /// Errors  invalid, code `time_zone`: there is no such zone (with the nearest that there is), or the machine has no
  ///         zones at all, or only some without the years to come.
  static Zone named(std::string_view name);

  const std::string& name() const { return name_; }

  /// A time over which the offset from UTC stays the same: from `begin`, before `end`.
  struct Stretch {
    Time begin, end;
    std::chrono::seconds offset;
  };
  Stretch at(Time time) const;

  /// When the wall clock first shows `wall`. Where it never does, because it is put forward over it, the first moment
  /// after the gap.
  Time first(WallMinute wall) const;

 private:
  Zone(std::string name, const void* zone) : name_(std::move(name)), zone_(zone) {}

  std::string name_;
  const void* zone_;  // of the database, which lives as long as the process; null: UTC
};

}  // namespace dragoman::jobs
