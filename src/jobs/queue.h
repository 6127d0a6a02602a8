#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/random.h"
#include "jobs/job.h"

namespace dragoman::jobs {

/// Enqueues in the caller's transaction. Who waits for work is woken when it commits.
///
/// Errors  as Store::write.
/// Threads as the Session.
Enqueued enqueue(store::Session& session, const NewJob& job);
/// Many at once: cheaper than one by one. The answers are in the order of `jobs`.
std::vector<Enqueued> enqueue(store::Session& session, std::span<const NewJob> jobs);

/// Where Store::wait hears that there may be work.
inline constexpr std::string_view kJobsChannel = "jobs";
/// Where Store::wait hears that a job has become a dead letter.
inline constexpr std::string_view kDeadChannel = "jobs_dead";

/// A job that has just become a dead letter.
struct DeadLetter {
  std::int64_t id = 0;
  std::string kind, fingerprint;
  std::int64_t connection_id = 0;
  std::string code, message;
};
/// Told of them in the transaction that makes them so, before the effects of other jobs.
using OnDead = std::function<void(store::Session&, std::span<const DeadLetter>)>;

/// The kinds of job that this program can do, and who wants to know when one fails for good.
///
/// Threads: immutable after construction.
class Kinds {
 public:
  Kinds() = default;
  explicit Kinds(std::vector<Kind> kinds, OnDead on_dead = {});
  const Kind* find(std::string_view name) const;
  const std::vector<Kind>& all() const { return kinds_; }
  const OnDead& on_dead() const { return on_dead_; }

 private:
  std::vector<Kind> kinds_;
  OnDead on_dead_;
};

/// What is limited, paused and broken together.
struct Lane {
  std::int64_t id = 0;
  std::int64_t connection_id = 0;
  const Kind* kind = nullptr;
};

/// A job that this node runs until it hands it back through Queue::finish.
struct Claimed {
  Job job;
  Lane lane;
  std::int64_t node_id = 0;
  bool alone = false;       ///< it was there when the process died, again and again: nothing else may run beside it
  bool probe = false;       ///< whether its connection's remote answers again
  bool tries_lane = false;  ///< whether what its lane lacked is there now
  Priority priority = Priority::normal;
  bool unique_waiting = false;  ///< its unique key was let go when it began
};

struct Finished {
  Claimed claimed;
  Outcome outcome;
  int commits_failed = 0;  ///< Queue's own
};

enum class Ending {
  recorded,  ///< the outcome and its effects are durable
  refused,   ///< the lease was lost: nothing was written but a line of history
  repeated,  ///< recorded by an earlier call whose answer was lost
  later      ///< not now, the store could not take it: call again
};

struct ClaimLimits {
  int jobs_max = 100;
  /// How many more jobs of a lane this node can take now; missing: any number.
  std::function<int(const Lane&)> room{};
  /// Nothing runs here: a job that has to run alone may be claimed.
  bool idle = false;
};

struct Claims {
  std::vector<Claimed> jobs;
  /// A job waits to run alone: as soon as nothing runs here, claim with `idle`.
  bool alone_waits = false;
  bool more = false;  ///< a limit kept ready jobs back
  /// When something becomes ready by itself, from now; missing: never, as it looks now.
  std::optional<Micros> next{};
  /// This node was declared dead. It has to register anew; nothing was claimed.
  bool node_lost = false;
};

/// The durable queue: claims, outcomes, rescue. All of it is in the database; this class is rules without state, and
/// any number of them, in any number of processes, work on one store.
///
/// Errors  as Store::write. What was to be written may then be there or not; each call may be repeated.
/// Threads safe from any thread (as far as `random` is).
class Queue {
 public:
  /// `node` names this process in the histories of jobs.
  Queue(store::Store& store, const Kinds& kinds, Random& random, std::string node = {})
      : store_(store), kinds_(kinds), random_(random), who_(node.empty() ? "" : "node " + std::move(node)) {}

  /// Makes what is due available, then claims for the registered node `node_id`: lanes with the most urgent job first,
  /// within a lane by priority and age. Lanes that are paused or broken, and kinds that this program does not know, are
  /// left alone.
  Claims claim(std::int64_t node_id, const ClaimLimits& limits);
  /// Ends attempts, in one commit. If one's effects throw, each gets a commit of its own, and for the one whose effects
  /// failed that failure becomes its outcome. The answers are in the order of `finished`.
  std::vector<Ending> finish(std::span<Finished> finished);
  /// Both in one commit, which is what a busy node does all day.
  struct Turn {
    std::vector<Ending> endings;
    Claims claims;
  };
  Turn turn(std::span<Finished> finished, std::int64_t node_id, const ClaimLimits& limits);

  /// Writes down that those of the claimed jobs begin which were there when a process died: only what had begun is to
  /// blame for the next death. Which of them may begin; the lease of the others was lost. For a batch that has such a
  /// job, before its handler is called.
  static std::set<std::int64_t> begin(store::Store& store, std::span<const Claimed> claimed);

  /// Puts back, uncounted, what the database says this node runs and what is not among `known` (job and fence, since
  /// one call may end an attempt at a job and claim it again): its claims whose answer was lost. How many. For the one
  /// who claims, after a call that failed: otherwise nobody would ever run them, since the node lives.
  std::int64_t put_back_unknown(std::int64_t node_id, const std::set<std::pair<std::int64_t, std::int64_t>>& known);

  /// Those that this node runs and somebody has cancelled meanwhile: whoever runs them stops what can be stopped. One
  /// that is not done then ends as cancelled, whatever its outcome says of another try; its history tells whether it may
  /// have been applied.
  std::set<std::int64_t> unwanted(std::int64_t node_id);

  /// Takes the running jobs of a node that is dead (or was) back to where others find them. In the caller's
  /// transaction, which has made sure of that. How many.
  std::int64_t rescue(store::Session& session, std::int64_t node_id, std::string_view who);

  const Kinds& kinds() const { return kinds_; }
  store::Store& store() { return store_; }

 private:
  struct Head;
  Head head(store::Session& session, std::int64_t node_id);
  Claims claim_in(store::Session& session, std::int64_t node_id, const ClaimLimits& limits, const Head& head);
  std::vector<Ending> finish_in(store::Session& session, std::span<Finished> finished, Time now,
                                std::optional<Time>* due = nullptr);
  std::vector<Ending> finish_one_by_one(std::span<Finished> finished);

  store::Store& store_;
  const Kinds& kinds_;
  Random& random_;
  const std::string who_;
};

/// How long a job waits before its next attempt: `first` doubled with every attempt up to `max`, a fifth more or less
/// by chance so that what failed together does not come back together.
Micros backoff(int attempt, Micros first, Micros max, Random& random);

}  // namespace dragoman::jobs
