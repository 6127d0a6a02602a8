#pragma once

#include <condition_variable>
#include <mutex>

#include "base/clock.h"

namespace dragoman::tests {

/// Time that stands still until it is moved.
///
/// Threads: safe from any thread.
class HandClock final : public Clock {
 public:
  explicit HandClock(Time start = from_us(1'790'000'000'000'000)) : now_(start) {}

  Time now() const override {
    std::lock_guard lock(mutex_);
    return now_;
  }
  Micros steady() const override {
    std::lock_guard lock(mutex_);
    return steady_;
  }
  bool wait(Micros duration, std::stop_token stop) override {
    std::unique_lock lock(mutex_);
    const Micros until = steady_ + duration;
    return moved_.wait(lock, stop, [&] { return steady_ >= until; });
  }
  void advance(Micros by) {
    {
      std::lock_guard lock(mutex_);
      now_ += by;
      steady_ += by;
    }
    moved_.notify_all();
  }
  /// As when somebody sets the clock: only the wall time jumps.
  void set_wall(Time now) {
    std::lock_guard lock(mutex_);
    now_ = now;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable_any moved_;
  Time now_;
  Micros steady_{1'000'000};
};

}  // namespace dragoman::tests
