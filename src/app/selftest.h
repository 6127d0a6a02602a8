#pragma once

#include <cstdint>
#include <stop_token>
#include <string>

#include "base/clock.h"
#include "base/random.h"

namespace dragoman::app {

struct SelftestSettings {
  /// `postgres://…`, where a schema of its own is made and dropped; empty: SQLite in a folder of its own within `folder`.
  std::string postgres_url;
  std::string folder;
  std::int64_t kills = 50;
  std::int64_t seed = 0;  ///< of the load and the moments; 0: any
  bool json = false;
};

/// `dragoman selftest crash`: starts hubs of its own on a store of its own, hands records in, kills the hub with SIGKILL at
/// every named step and at any moment, starts it again each time, and compares what was acknowledged with what its own
/// target holds. Nothing of the hub's data is touched.
///
/// Errors  as store::open. Returns the exit code: 0; 1 if anything was lost, repeated, or out of its order, if a step was
///         never reached, or the audit chain is broken.
/// Threads runs on the calling thread, and on clients' of its own.
int selftest_crash(const SelftestSettings& settings, Clock& clock, Random& random, std::stop_token stop);

}  // namespace dragoman::app
