#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "base/clock.h"
#include "base/random.h"

namespace dragoman::app {

struct BenchQueueSettings {
  /// `postgres://…`, where a schema of its own is made and dropped; empty: SQLite in a folder of its own within `folder`.
  std::string postgres_url;
  std::string folder;
  std::int64_t pairs = 9;
  std::int64_t jobs = 20'000;   ///< of each run
  std::int64_t seconds = 20;    ///< of the pickup
  bool json = false;
};

/// `dragoman bench queue`: what the queue does on this machine and store, beside a bare floor that does the same rows in
/// batches as large, in the same run. Nothing of the hub's own data is touched.
///
/// Errors  as store::open. Returns the exit code: 0; 1 if a figure missed its goal.
/// Threads runs on the calling thread, and on the queue's own.
int bench_queue(const BenchQueueSettings& settings, Clock& clock, Random& random, std::stop_token stop);

}  // namespace dragoman::app
