#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "jobs/queue.h"
#include "store/store.h"

namespace dragoman::jobs {

struct NodeSettings {
  std::string name;     ///< the same after a restart, and no other living process has it
  std::string version;  ///< of the program; shown
  Micros beat = std::chrono::seconds(2);
  Micros lease = std::chrono::seconds(10);
};

/// This process among those that share the store. It beats; it watches the others' beats, and takes over the work of
/// one whose beat has stood still for a whole lease while it looked. No wall clock decides: each measures by its own
/// steady clock.
///
/// Errors  as Store::write.
/// Threads `id`, `fresh` from any thread; `start`, `beat` and `stop` on one, `watch` on one.
class Node {
 public:
  Node(Queue& queue, Clock& clock, NodeSettings settings);

  /// Registers, and rescues what earlier nodes of its name left behind: the data folder's lock says that they are dead.
  /// On SQLite, which has one hub, every earlier node.
  void start();
  /// False: others have declared this node dead and taken its work. It has to stop what it runs and `start` anew.
  bool beat();
  /// Looks at the others. How many jobs were rescued.
  std::int64_t watch();
  /// A clean end: nothing of it is left to rescue.
  void stop();

  std::int64_t id() const { return id_; }
  /// While it is not, others may think that it is dead: nothing new begins.
  bool fresh() const;
  const NodeSettings& settings() const { return settings_; }

 private:
  struct Seen {
    std::int64_t beat = 0;
    Micros since{};
  };
  std::int64_t bury(std::int64_t id, std::optional<std::int64_t> beat, std::string_view why);

  Queue& queue_;
  store::Store& store_;
  Clock& clock_;
  const NodeSettings settings_;
  std::atomic<std::int64_t> id_ = 0;
  std::atomic<std::int64_t> beaten_us_ = 0;  // steady, taken before the beat was sent
  std::mutex mutex_;                         // of the two below
  std::map<std::int64_t, Seen> seen_;
  std::optional<Micros> looked_;
};

struct NodeLine {
  std::int64_t id = 0;
  std::string name, version, state;
  Time started{}, beat{};
  std::int64_t running = 0;  ///< jobs
};
/// The nodes that live, and those that ended last.
std::vector<NodeLine> nodes(store::Session& session);

}  // namespace dragoman::jobs
