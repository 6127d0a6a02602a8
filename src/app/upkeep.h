#pragma once

#include <functional>
#include <stop_token>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::app {

struct UpkeepSettings {
  Micros verify_every = std::chrono::hours(24);  ///< between two looks through the audit log; 0: never
  Micros outage_patience =
      std::chrono::minutes(15);  ///< before people are told of a remote that does not answer; 0: never
  Micros sync_log_kept = std::chrono::hours(24 * 90);  ///< 0: for ever
};

/// What the hub does for its own good now and then: looks through the audit log, gives operations that were cut off
/// their audit entries, tells people of remotes that do not answer, and forgets old rows of the sync log.
///
/// Threads: one thread at a time.
class Upkeep {
 public:
  /// An operation of another node is counted out when it began so long ago.
  static constexpr Micros kCutOffAfter = std::chrono::hours(24);

  Upkeep(store::Store& store, Clock& clock, UpkeepSettings settings);

  /// Before anything is served: a store of one process alone has no operations under way.
  void begin();
  /// Does what is due: nodes that share a store share this too. True if the audit log was looked through.
  bool step(std::stop_token stop);
  /// Steps every minute until a stop is asked for.
  void run(std::stop_token stop);
  /// Something that is done with every step. Before `run`.
  void add(std::function<void(std::stop_token)> task) { tasks_.push_back(std::move(task)); }

 private:
  store::Store& store_;
  Clock& clock_;
  const UpkeepSettings settings_;
  std::vector<std::function<void(std::stop_token)>> tasks_;
};

}  // namespace dragoman::app
