#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "pipeline/connections.h"
#include "pipeline/marketplace.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Requests and answers in full, kept of connections for which somebody has asked for it, until a time that was said
/// beforehand. Secrets in bodies are masked before anything is stored.
///
/// Threads: safe from any thread.
class Traces {
 public:
  /// Of each body at most so much is kept.
  static constexpr std::size_t kBodyMax = 1 << 20;
  static constexpr Micros kKept = std::chrono::hours(24 * 7);

  Traces(store::Store& store, Connections& connections) : store_(store), connections_(connections) {}

  /// From now on, for so long; 0: no more. Until when.
  std::optional<Time> set(const std::string& connection, Micros duration);
  /// Until when a connection's are kept; nullopt: they are not.
  std::optional<Time> until(const Connection& connection, Time now) const;
  /// Keeps one if the connection's are. Never throws: what is traced must not fail for it.
  void keep(std::int64_t connection_id, const Exchange& exchange);

  struct Row {
    std::int64_t id = 0;
    std::string connection;
    Exchange exchange;
    std::int64_t request_bytes = 0, response_bytes = 0;  ///< of the whole bodies
  };
  struct Filter {
    std::string connection, text;  ///< empty: all; `text` is looked for in target, bodies and error
    bool failed = false;           ///< only those without an answer, or with one of 400 and above
    std::int64_t before = 0;       ///< numbers below it; 0: from the newest
    std::int64_t limit = 100;
  };
  /// Newest first, without bodies.
  std::vector<Row> list(const Filter& filter);
  /// Throws not_found.
  Row get(std::int64_t id);
  /// Forgets those that are older than kKept. True if there may be more.
  bool forget(std::int64_t piece);

 private:
  store::Store& store_;
  Connections& connections_;
};

}  // namespace dragoman::pipeline
