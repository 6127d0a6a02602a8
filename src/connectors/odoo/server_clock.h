#pragma once

#include <algorithm>
#include <mutex>
#include <optional>

#include "base/clock.h"

namespace dragoman::connectors::odoo {

/// Knows the server's time from the `Date` headers of its answers, which are whole seconds: each answer bounds the
/// difference between its clock and our steady one, and a few together bound it to a fraction of a second. Neither
/// our wall clock nor a jump of it plays a part; a jump of the server's clock shows as a contradiction and starts
/// over.
///
/// Threads: safe from any thread.
class ServerClock {
 public:
  /// An answer dated `date` came in between `sent` and `received` (our steady clock).
  void observe(Micros sent, Micros received, Time date) {
    const Micros low = date.time_since_epoch() - received;
    const Micros high = date.time_since_epoch() + std::chrono::seconds(1) - sent;
    std::lock_guard lock(mutex_);
    if (!current_ || high < current_->low || low > current_->high) {
      current_ = Bounds{low, high, received};
      before_.reset();
      return;
    }
    // Two half-minute buckets let old bounds go, as clocks drift apart.
    if (received - current_->since > std::chrono::seconds(30)) {
      before_ = current_;
      current_ = Bounds{low, high, received};
      return;
    }
    current_->low = std::max(current_->low, low);
    current_->high = std::min(current_->high, high);
  }

  /// The server's time at our steady `moment` was at least this; nullopt before the first answer.
  std::optional<Time> at_least(Micros moment) const {
    std::lock_guard lock(mutex_);
    if (!current_) return std::nullopt;
    Micros low = current_->low;
    if (before_ && before_->low <= current_->high) low = std::max(low, before_->low);
    return Time(moment + low);
  }

 private:
  struct Bounds {
    Micros low, high;  ///< of (server's time − our steady time)
    Micros since;
  };
  mutable std::mutex mutex_;
  std::optional<Bounds> current_, before_;
};

}  // namespace dragoman::connectors::odoo
