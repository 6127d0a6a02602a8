#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>

namespace dragoman::store {

/// A lock that is handed over in the order of arrival. A std::mutex may let one busy thread pass again and again
/// while the others starve, which is what a pull at full speed would do to a person's small change.
///
/// Threads: safe from any thread.
class Turnstile {
 public:
  void enter() {
    std::unique_lock lock(mutex_);
    if (!taken_ && queue_.empty()) {
      taken_ = true;
      return;
    }
    Waiter self;
    queue_.push_back(&self);
    self.ready.wait(lock, [&] { return self.admitted; });
  }

  bool try_enter() {
    std::lock_guard lock(mutex_);
    if (taken_ || !queue_.empty()) return false;
    return taken_ = true;
  }

  void leave() {
    std::lock_guard lock(mutex_);
    if (queue_.empty()) {
      taken_ = false;
      return;
    }
    // The lock stays taken and changes hands; notified under the mutex because the waiter lives on its own stack.
    Waiter* next = queue_.front();
    queue_.pop_front();
    next->admitted = true;
    next->ready.notify_one();
  }

  std::size_t waiting() {
    std::lock_guard lock(mutex_);
    return queue_.size();
  }

  /// Holds a turn for a scope.
  class Turn {
   public:
    explicit Turn(Turnstile& turnstile) : turnstile_(&turnstile) { turnstile.enter(); }
    Turn(Turnstile& turnstile, std::try_to_lock_t) : turnstile_(turnstile.try_enter() ? &turnstile : nullptr) {}
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      if (turnstile_) turnstile_->leave();
    }
    explicit operator bool() const { return turnstile_ != nullptr; }

   private:
    Turnstile* turnstile_;
  };

 private:
  struct Waiter {
    std::condition_variable ready;
    bool admitted = false;
  };

  std::mutex mutex_;
  std::deque<Waiter*> queue_;
  bool taken_ = false;
};

}  // namespace dragoman::store
