#pragma once

#include <stop_token>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::app {

/// What the hub does for its own good now and then: looks through the audit log, and gives operations that were cut off
/// their audit entries.
///
/// Threads: one thread at a time.
class Upkeep {
 public:
  /// An operation of another node is counted out when it began so long ago.
  static constexpr Micros kCutOffAfter = std::chrono::hours(24);

  /// `verify_every` 0: never.
  Upkeep(store::Store& store, Clock& clock, Micros verify_every);

  /// Before anything is served: a store of one process alone has no operations under way.
  void begin();
  /// Does what is due: nodes that share a store share this too. True if the audit log was looked through.
  bool step(std::stop_token stop);
  /// Steps every few minutes until a stop is asked for.
  void run(std::stop_token stop);

 private:
  store::Store& store_;
  Clock& clock_;
  const Micros verify_every_;
};

}  // namespace dragoman::app
