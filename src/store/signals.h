#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace dragoman::store {

/// How often each channel was notified, as far as this process knows, and the threads that wait for more.
///
/// Threads: safe from any thread.
class Signals {
 public:
  void notify(std::string_view channel) {
    {
      std::lock_guard lock(mutex_);
      const auto it = counts_.find(channel);
      if (it == counts_.end())
        counts_.emplace(channel, 1);
      else
        ++it->second;
    }
    changed_.notify_all();
  }

  /// Something may have been notified that we could not see: every waiter looks for itself.
  void notify_all() {
    {
      std::lock_guard lock(mutex_);
      ++everything_;
    }
    changed_.notify_all();
  }

  /// Waits until the count of `channel` is not `seen`, the time is up by `clock`, or a stop. `poll` (if any) is
  /// called about every `interval` without the lock held, and may notify.
  std::uint64_t wait(std::string_view channel, std::uint64_t seen, Clock& clock, Micros timeout, std::stop_token stop,
                     Micros interval, const std::function<void()>& poll) {
    const auto deadline = clock.steady() + timeout;
    std::unique_lock lock(mutex_);
    while (true) {
      if (const auto now = count(channel); now != seen || stop.stop_requested()) return now;
      const auto left = deadline - clock.steady();
      if (left <= Micros::zero()) return seen;
      changed_.wait_for(lock, stop, std::min(left, interval), [&] { return count(channel) != seen; });
      if (count(channel) != seen || !poll) continue;
      lock.unlock();
      poll();
      lock.lock();
    }
  }

 private:
  std::uint64_t count(std::string_view channel) const {
    const auto it = counts_.find(channel);
    return everything_ + (it == counts_.end() ? 0 : it->second);
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, std::uint64_t, std::less<>> counts_;
  std::uint64_t everything_ = 0;
};

}  // namespace dragoman::store
