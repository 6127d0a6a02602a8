#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "store/store.h"

namespace dragoman::app {

/// The least that a queue can cost on a database: bare statements of sqlite3 or libpq over the hub's own tables and
/// indexes, one connection, no handler, no history, no rule. It does the rows that the hub does, in batches as large.
///
/// Errors  unavailable: whatever the database says.
/// Threads one thread at a time.
class BenchFloor {
 public:
  virtual ~BenchFloor() = default;

  struct Batches {
    std::int64_t turn = 1;  ///< jobs claimed in one commit, together with the end of those claimed before
    std::int64_t call = 0;  ///< records of one delivery; 0: jobs that do nothing
  };
  /// Claims and completes every job that waits. With deliveries: their intents committed before, and delivery, mapping,
  /// sync log and audit rows with the completion.
  virtual void run(const Batches& batches) = 0;
};

/// On the file, or the server and schema, of a store that has been closed.
std::unique_ptr<BenchFloor> make_floor(store::Engine engine, const std::string& location);

/// Runs statements on a PostgreSQL server, outside of any store. Throws unavailable.
void run_on_postgres(const std::string& url, const std::string& sql);

}  // namespace dragoman::app
