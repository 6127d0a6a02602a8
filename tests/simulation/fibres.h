#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <semaphore>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/clock.h"
#include "base/random.h"

namespace dragoman::simulation {

/// Thrown in what belongs to a process that was killed. No std::exception, so that nothing that handles errors takes it
/// for one: the destructors run, and nothing else of that process.
struct Killed {};

/// Threads that wait for something to do. They are kept from one simulation to the next, since making one costs more
/// than most of what runs on it.
///
/// Threads: safe from any thread.
class Threads {
 public:
  ~Threads();
  void run(std::function<void()> task);

 private:
  struct Worker {
    std::binary_semaphore go{0};
    std::function<void()> task;
    std::thread thread;
  };
  void work(Worker& worker);

  std::mutex mutex_;
  std::condition_variable ended_;
  bool stopping_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Worker*> idle_;
};

/// Strands of work of which exactly one runs at any moment, on a virtual clock that stands still while it runs and
/// jumps to whoever wakes next when it sleeps. Each has a thread, so that any code can be interrupted at a call; a
/// baton makes them one. Who is first of those that wake at the same moment is up to the seed.
///
/// A strand belongs to a group: a process. A group can be killed (Killed comes out of every sleep of it) and frozen.
///
/// Threads: `run` on the caller's; everything else from within a fibre.
class Fibres {
 public:
  using Group = int;

  Fibres(Threads& threads, std::uint64_t seed) : threads_(threads), dice_(seed) {}

  /// From within a fibre, or before `run`. The number of the fibre.
  int start(Group group, std::string name, std::function<void()> body, Micros after = Micros::zero());
  /// Until none is left.
  void run();

  void sleep(Micros duration);
  /// Sleeps until then, or until woken.
  void wait(Micros duration) { sleep(duration); }
  void wake(int fibre, Micros after = Micros::zero());

  /// Killed comes out of what all of them wait for now or later. The caller, if it is one of them, throws it itself.
  void kill(Group group);
  void freeze(Group group, Micros until) { frozen_[group] = until; }
  /// Before its time.
  void thaw(Group group);
  bool frozen(Group group) const;
  bool killed(Group group) const { return killed_.count(group) > 0; }
  /// How many of the group have not ended.
  int count(Group group) const;

  Micros now() const { return now_; }
  int current() const { return current_ ? current_->id : 0; }
  Group current_group() const { return current_ ? current_->group : -1; }
  const std::string& current_name() const { return current_->name; }
  /// What came out of a fibre besides Killed.
  const std::vector<std::string>& failures() const { return failures_; }

 private:
  struct Fibre {
    int id = 0;
    Group group = 0;
    std::string name;
    std::function<void()> body;
    std::binary_semaphore turn{0};
    Micros wake{};
    std::uint64_t tie = 0;
    bool queued = false;
  };
  void live(Fibre& fibre);
  void enqueue(Fibre& fibre, Micros at);
  Fibre* next();

  Threads& threads_;
  SeededRandom dice_;
  std::map<int, std::unique_ptr<Fibre>> fibres_;
  std::set<std::tuple<Micros, std::uint64_t, int>> queue_;
  std::map<Group, Micros> frozen_;
  std::map<Group, std::set<int>> held_up_;  ///< would have woken while frozen
  std::set<Group> killed_;
  std::vector<std::string> failures_;
  Fibre* current_ = nullptr;
  std::binary_semaphore main_{0};
  Micros now_{};
  int last_ = 0;
};

}  // namespace dragoman::simulation
