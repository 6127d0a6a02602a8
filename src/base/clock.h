#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

namespace dragoman {

using Micros = std::chrono::microseconds;
/// A moment in UTC, to the microsecond. The only form of time that is stored.
using Time = std::chrono::sys_time<Micros>;

inline std::int64_t to_us(Time t) {
  return t.time_since_epoch().count();
}
inline Time from_us(std::int64_t us) {
  return Time(Micros(us));
}

/// The only door to time: tests and the simulator pass one that they move by hand.
///
/// Threads: safe from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Time now() const = 0;
  /// Never goes back; for durations and deadlines.
  virtual Micros steady() const = 0;
  /// Waits until `duration` has passed or a stop is asked for. Returns false if stopped.
  virtual bool wait(Micros duration, std::stop_token stop) = 0;
};

class SystemClock final : public Clock {
 public:
  Time now() const override;
  Micros steady() const override;
  bool wait(Micros duration, std::stop_token stop) override;
};

/// `2026-11-20T10:05:48.113847Z`; microseconds always shown, so that text sorts as time.
std::string format_iso(Time t);
/// `2026-11-20 10:05:48`, the form Odoo reads and writes (UTC, fraction cut off).
std::string format_odoo(Time t);
/// Reads either form, with or without fraction, `T` or space, `Z` or nothing. nullopt if it is neither.
std::optional<Time> parse_time(std::string_view text);

}  // namespace dragoman
