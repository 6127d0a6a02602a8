#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "jobs/cron_zone.h"

namespace dragoman::jobs {

/// A cron expression: minute, hour, day of the month, month, day of the week.
///
///     field              takes      names
///     minute             0-59
///     hour               0-23
///     day of the month   1-31
///     month              1-12       jan-dec
///     day of the week    0-7        sun-sat; 0 and 7 are Sunday
///
/// Each is `*`, a value, a range `a-b`, a step over one (`*/5`, `8-18/2`), or a list of those by commas. `@hourly`,
/// `@daily` (`@midnight`), `@weekly`, `@monthly` and `@yearly` (`@annually`) stand for the obvious.
///
/// Days: as in Vixie cron. Where the day of the month or the day of the week begins with `*`, both must fit; where
/// neither does, one of them is enough: `0 0 13 * fri` is every 13th and every Friday.
///
/// Changes of the clock: an expression that takes every hour (`*/15 * * * *`) goes by the wall clock as it runs, minute
/// by minute: in effect by elapsed time. Any other names times of day, and each happens once a day: one that the clock
/// is put forward over (spring) at the first moment after the gap, where several of them fall together; one that the
/// clock shows twice (autumn) the first time.
///
/// Threads: immutable after construction.
class Cron {
 public:
  /// Errors  invalid, code `cron`, saying which field is wrong and what it takes; and of a date that never comes, such
  /// as
  ///         30 February.
  static Cron parse(std::string_view text);

  const std::string& text() const { return text_; }

  /// The first time after `after` at which it is due. nullopt if there is none in the next fifty years, or the year
  /// 9999 is over.
  std::optional<Time> next(Time after, const Zone& zone) const;

  /// Whether a wall clock that shows this fits the five fields.
  bool matches(WallMinute wall) const;
  /// Whether it takes every hour of a day.
  bool every_hour() const { return hours_ == (1u << 24) - 1; }

 private:
  Cron() = default;
  bool matches_day(std::chrono::year_month_day date, std::chrono::weekday weekday) const;
  std::optional<WallMinute> next_wall(WallMinute from) const;

  // A bit for each value; Sunday is 0.
  std::uint64_t minutes_ = 0;
  std::uint32_t hours_ = 0, days_ = 0;
  std::uint32_t months_ = 0, weekdays_ = 0;
  bool both_days_ = true;  // the day of the month and the day of the week must fit, not just one of them
  std::string text_;
};

}  // namespace dragoman::jobs
