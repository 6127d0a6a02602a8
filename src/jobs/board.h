#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "jobs/queue.h"

namespace dragoman::jobs {

/// A job as people see it.
struct JobView {
  std::int64_t id = 0;
  std::string kind, flow, connection;  ///< connection: its name; empty: none
  std::int64_t connection_id = 0;
  State state = State::available;
  int hold = 0;
  Priority priority = Priority::normal;
  int attempt = 0, interruptions = 0;
  std::int64_t folded = 0;
  bool in_doubt = false;
  std::string order_key, unique_key, cause, result;
  std::string error_kind, error_code, error_message;  ///< of the last failure; empty once it is completed
  std::string fingerprint;
  Time enqueued{}, run_at{};
  std::optional<Time> started, finished;
  std::string payload;  ///< of `show` only
  int payload_version = 1;
  std::int64_t node_id = 0;
};

struct HistoryView {
  Time at{};
  std::string what;
  int attempt = 0;
  std::string code, message, who;
};

struct JobFilter {
  /// A state's name, or `waiting` for all that have not begun; empty: any.
  std::string state;
  std::string kind, flow, fingerprint;
  std::optional<std::int64_t> connection_id;
  std::optional<std::int64_t> before;  ///< only with smaller numbers: the next page
  int limit = 50;
};

/// Dead letters of one kind of error.
struct DeadGroup {
  std::string fingerprint, kind, code, message;
  std::int64_t jobs = 0, first = 0, last = 0;  ///< first, last: numbers of jobs
  std::optional<Time> latest;
};

struct LaneView {
  std::int64_t id = 0, connection_id = 0;
  std::string connection, flow, kind;
  std::int64_t ready = 0, behind = 0, later = 0, running = 0, dead = 0, done = 0, cancelled = 0;
  std::string closed;  ///< why nothing of it begins, or empty
  std::int64_t waiting() const { return ready + behind + later; }
};

/// All jobs there ever were: `accepted` = waiting + running + done + cancelled + dead.
struct JobCounts {
  std::int64_t waiting = 0, running = 0, done = 0, cancelled = 0, dead = 0;
  std::int64_t accepted() const { return waiting + running + done + cancelled + dead; }
};

/// What people see of jobs and do to them.
///
/// Errors  as Store; not_found for a job that is not there (it may have been deleted after its time), conflict where
/// its
///         state does not allow what is asked, with what does.
/// Threads safe from any thread.
class Board {
 public:
  Board(store::Store& store, const Kinds& kinds) : store_(store), kinds_(kinds) {}
  const Kinds& kinds() const { return kinds_; }

  std::vector<JobView> list(const JobFilter& filter);
  JobView show(std::int64_t id);
  /// The newest first come last.
  std::vector<HistoryView> history(std::int64_t id);
  /// One sentence or two: why it is where it is, what happens next and when.
  std::string explain(std::int64_t id);

  /// A dead letter gets all its tries anew; one that waits for its time runs now.
  void retry(std::int64_t id, const Act& act);
  /// Another payload, for a job that does not run. The difference goes into its history, and is returned. Throws
  /// invalid where the kind's check refuses it.
  std::string edit(std::int64_t id, const std::string& payload, const Act& act);
  /// A dead letter that nobody wants any more.
  void discard(std::int64_t id, const Act& act);
  /// A job that has not begun ends at once; one that runs is asked to stop by its node (Queue::unwanted).
  void cancel(std::int64_t id, const Act& act);

  std::vector<DeadGroup> groups(int limit = 100);
  /// The whole group, in many small commits. How many jobs. `go_on` is asked between them.
  std::int64_t retry_group(const std::string& fingerprint, const Act& act, const std::function<bool()>& go_on = {});
  std::int64_t discard_group(const std::string& fingerprint, const Act& act, const std::function<bool()>& go_on = {});

  std::vector<LaneView> lanes();
  JobCounts counts();
  /// `what` is `connection`, `flow` or `kind`; of a connection `name` is its id. What waits because of it from now on.
  /// One that is paused already keeps its reason, and gets this one in addition.
  std::int64_t pause(const std::string& what, const std::string& name, const Act& act);
  /// The connection is removed: its jobs that wait, and its dead letters, end as cancelled. What runs ends by itself. How
  /// many; in many small commits.
  std::int64_t connection_is_gone(std::int64_t connection_id, const Act& act);
  /// A connection was changed or resumed by a person: what its breaker holds back goes on.
  void connection_is_well(std::int64_t connection_id);
  /// False: it was not paused. A connection's breaker is closed as well.
  bool resume(const std::string& what, const std::string& name);

 private:
  std::int64_t each_of_group(const std::string& fingerprint, const std::function<bool()>& go_on,
                             const std::function<void(store::Session&, std::int64_t after, std::int64_t last)>& step);

  store::Store& store_;
  const Kinds& kinds_;
};

/// The difference between two payloads for people: a line per changed place of two JSON texts, else their lengths.
std::string payload_difference(const std::string& before, const std::string& after);

}  // namespace dragoman::jobs
