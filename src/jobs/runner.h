#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "jobs/leader.h"
#include "jobs/node.h"
#include "jobs/queue.h"
#include "jobs/retention.h"

namespace dragoman::jobs {

struct RunnerSettings {
  int threads = 16;            ///< handlers that run at once, and two more of each connection that has fewer
  int per_connection_max = 8;  ///< of them for one connection; how many really, is learnt from its remote
  Micros stop_grace = std::chrono::seconds(10);   ///< what is under way gets so long when the hub stops
  Micros stuck_grace = std::chrono::seconds(30);  ///< past its time limit a handler gets so long to come back
  int stuck_max = 4;  ///< threads that never came back, before the hub says that it is not well
  NodeSettings node{};
  RetentionSettings retention{};
};

/// Runs jobs: a pool of threads that call handlers, one that claims and records (both in one commit while there is
/// work), and those that beat, watch other nodes, wait for notifications, and look after handlers that do not come
/// back. What they do is in Queue, Node, Concurrency and Retention; here are only the threads.
///
/// Threads: `status` from any thread; start and stop one thread at a time.
class Runner {
 public:
  /// What is given lives longer than the Runner, and than threads of handlers that never came back (see stop).
  Runner(store::Store& store, const Kinds& kinds, Clock& clock, Random& random, RunnerSettings settings);
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  /// Registers the node, rescues what an earlier one of its name left, and begins.
  void start();
  /// What has not begun goes back uncounted; what is under way is asked to stop, and gets `stop_grace`. How many
  /// handlers did not come back: their threads still run, so the process should end without tearing down what they use.
  int stop();

  struct Status {
    std::int64_t node_id = 0;
    std::string node;
    int running = 0;                    ///< jobs whose handler runs
    int claimed = 0;                    ///< jobs that are claimed and wait for a thread
    int stuck = 0;                      ///< handlers that never came back
    std::int64_t done = 0, failed = 0;  ///< attempts since start
    bool fresh = true;
    std::map<std::int64_t, int> limits;  ///< by connection: runs at once
    /// Why this hub should not get more work, or empty.
    std::string trouble;
  };
  Status status();

  Queue& queue();
  Node& node();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dragoman::jobs
