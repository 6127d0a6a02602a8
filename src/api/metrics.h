#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "http/router.h"
#include "http/server.h"

namespace dragoman::api {

/// What the hub measures of itself, in Prometheus' text form. Labels are closed sets: a route is its pattern, a status
/// its hundreds; never an id or an address.
///
/// Threads: safe from any thread.
class Metrics {
 public:
  explicit Metrics(const std::string& version);
  ~Metrics();

  void served(const http::Served& served);

  /// What is measured when somebody asks.
  struct Snapshot {
    http::Server::Stats server;
    struct Phase {
      std::string phase;
      std::int64_t models = 0;
    };
    std::vector<Phase> phases;  ///< every phase, also with 0
    std::int64_t records = 0;   ///< held
    std::int64_t changes = 0;   ///< the newest number of the feed
    std::int64_t connections_active = 0, connections_paused = 0, connections_error = 0;
    std::int64_t store_bytes = 0;
    std::int64_t jobs_waiting = 0, jobs_running = 0, jobs_done = 0, jobs_cancelled = 0, jobs_dead = 0;
    std::int64_t handlers_stuck = 0;
    std::int64_t messages_waiting = 0, messages_failed = 0;  ///< to people; given up within the last day
    std::int64_t audit_entries = 0;
    /// Of all marketplaces together.
    struct Market {
      std::int64_t waiting = 0, held = 0, unacknowledged = 0, flagged = 0, not_told = 0;  ///< orders
      std::int64_t unsent = 0, refused = 0;                                               ///< products
      double oldest_waiting_seconds = 0, oldest_unsent_seconds = 0;                       ///< 0: none waits
    } market;
  };
  void on_scrape(std::function<Snapshot()> collect);

  std::string text();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dragoman::api
