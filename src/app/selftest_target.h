#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "http/server.h"
#include "pipeline/connections.h"

namespace dragoman::app {

/// A connector for `selftest` alone: nothing to read, and records go to a SelftestTarget by HTTP. Setting `url`.
pipeline::Connector selftest_connector();
/// The program's own and that one.
pipeline::ConnectorList selftest_connectors();

/// The remote system of a selftest, in the process that is never killed. It keeps each record by its key with its version,
/// as a partner with idempotency keys does, and remembers what it was told and asked.
///
/// Threads: safe from any thread.
class SelftestTarget {
 public:
  SelftestTarget();

  std::string url() const { return server_.url(); }
  /// Called once, when the next delivery has arrived and before anything of it is applied.
  void on_next_delivery(std::function<void()> act);

  struct Record {
    std::int64_t id = 0, version = 0;
    std::string value;
  };
  std::map<std::string, Record> records() const;

  struct Counts {
    std::int64_t calls = 0, looks = 0;
    std::int64_t created = 0, updated = 0;
    /// Repeats that nobody could avoid: it was looked for, and arrived after that from a process that was dead by then.
    std::int64_t late = 0;
    /// Sent again without having been looked for: a target without keys would have it twice.
    std::vector<std::string> repeated;
    /// An older version after a newer one.
    std::vector<std::string> back;
  };
  Counts counts() const;

 private:
  struct Known : Record {
    std::int64_t looked = -1;  ///< the version that the last look found; -1: nobody looked
  };
  http::Reply answer(const http::Request& request);
  nlohmann::json deliver(const nlohmann::json& records);
  nlohmann::json find(const nlohmann::json& keys);

  mutable std::mutex mutex_;  ///< guards what follows
  std::map<std::string, Known> known_;
  Counts counts_;
  std::function<void()> act_;
  http::Server server_;
};

}  // namespace dragoman::app
