#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "jobs/leader.h"
#include "jobs/node.h"
#include "jobs/queue.h"
#include "jobs/retention.h"
#include "jobs/scheduler.h"
#include "jobs/schedules.h"
#include "pipeline/connections.h"
#include "pipeline/deliver.h"
#include "pipeline/inbox.h"
#include "simulation/checks.h"
#include "simulation/remotes.h"
#include "simulation/sim_store.h"
#include "simulation/world.h"

namespace dragoman::simulation {

/// What all processes of a simulation have in common.
struct Surroundings {
  World& world;
  store::Store& store;  ///< the durable one
  Checks& checks;
  Network& network;
  std::vector<Remote*> remotes;
  const pipeline::ConnectorList& connectors;
  /// A commit woke those who wait on a channel.
  std::function<void(const std::string& channel)> notified;
  /// A job of the kind `refresh` begins to look at what it is about.
  std::function<void(const jobs::Job&)> refreshes;
  /// All that live.
  std::function<std::vector<class Process*>()> processes;
};

/// A hub process in one of its lives: the program's own queue, node, leader, scheduler, handlers and intake, and fibres
/// in place of the threads that jobs::Runner would have: the same steps in the same order, a run of jobs to a fibre.
class Process {
 public:
  Process(Surroundings& around, std::string name, Fibres::Group group, std::uint64_t seed, Micros wall);

  void boot();
  Life& life() { return *life_; }
  SimClock& clock() { return clock_; }
  void wake();

  /// Has the intake take it in, in a fibre of this process; `then` gets the receipt or the error, unless the process
  /// dies before.
  void put(const pipeline::InboxPut& put, std::function<void(const pipeline::InboxReceipt*, const Error*)> then);
  /// Enqueues, in a fibre of this process; `then` is called in it if that succeeded.
  void enqueue(const jobs::NewJob& job, std::function<void(const jobs::Enqueued&, Micros committed)> then);
  /// Whether this process may still believe that it has this job.
  bool holds(std::int64_t job_id) const;
  bool busy() const { return !runs_.empty(); }
  std::set<std::pair<std::int64_t, std::int64_t>> in_hand() const;  ///< job, fence

 private:
  struct Run {
    std::vector<jobs::Claimed> claimed;
    std::stop_source stop;
    Micros deadline{};
    bool alone = false, asked = false, abandoned = false;
  };

  jobs::Kinds make_kinds();
  pipeline::Destination destination(std::int64_t connection_id);
  void pump();
  void beat();
  void keep();
  void watchdog();
  void begin_runs();
  void work_on(const std::shared_ptr<Run>& run);
  std::vector<jobs::Outcome> attempt(const std::vector<jobs::Job>& jobs, const jobs::Kind& kind, std::stop_token stop);
  /// True if it is one of those that a store may answer with.
  bool expected(const Error& error, std::string_view where);
  /// Runs something that the store may refuse for a while.
  template <typename F>
  bool tried(std::string_view what, F&& run);

  Surroundings& around_;
  World& world_;
  const std::shared_ptr<Life> life_;
  SimClock clock_;
  SeededRandom random_;
  SimStore store_;
  std::vector<std::shared_ptr<pipeline::Target>> targets_;
  pipeline::DeliveryHandler deliver_;
  std::unique_ptr<jobs::Handler> effect_first_, tick_, refresh_;
  const jobs::Kinds kinds_;
  jobs::Queue queue_;
  jobs::Node node_;
  jobs::Leader leader_;
  jobs::Retention retention_;
  const jobs::Schedules schedules_;
  jobs::Scheduler scheduler_;
  pipeline::Inbox inbox_;
  Gate node_gate_, inbox_gate_;

  std::deque<jobs::Claimed> waiting_;
  std::vector<jobs::Finished> finished_;
  std::list<std::shared_ptr<Run>> runs_;
  int pump_ = 0;
  bool woken_ = true, may_begin_ = true, alone_ = false, unsure_ = false;
};

}  // namespace dragoman::simulation
