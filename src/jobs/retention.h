#pragma once

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::jobs {

struct RetentionSettings {
  Micros finished = std::chrono::hours(24);   ///< completed and cancelled jobs are kept so long
  Micros nodes = std::chrono::hours(24 * 7);  ///< rows of nodes that ended
};

/// Deletes jobs that ended long ago, with their histories, in small steps from the oldest on. Dead letters wait for a
/// person however old they are.
///
/// Errors  as Store::write.
/// Threads one thread at a time.
class Retention {
 public:
  Retention(store::Store& store, RetentionSettings settings) : store_(store), settings_(settings) {}

  /// Looks at the next thousand jobs. False: all have been looked at; the next step begins at the oldest.
  bool step();
  std::int64_t deleted() const { return deleted_; }

 private:
  store::Store& store_;
  const RetentionSettings settings_;
  std::int64_t after_ = 0;
  std::int64_t deleted_ = 0;
};

}  // namespace dragoman::jobs
