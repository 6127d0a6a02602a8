#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "pipeline/connections.h"
#include "pipeline/records.h"
#include "store/store.h"

namespace dragoman::pipeline {

struct SyncSettings {
  Micros poll_interval = std::chrono::seconds(1);
  Micros sweep_interval = std::chrono::minutes(10);
  Micros overlap = std::chrono::minutes(5);
  Micros schema_interval = std::chrono::minutes(5);
  std::int64_t page_records_max = 1000;
};

/// How a model stands, as of now.
struct ModelStatus {
  std::string connection, model, state, reason, alarm;
  std::string phase;                  ///< `pulling`, `following`, `sweeping`, `waiting`, `unavailable`
  std::int64_t done = 0;              ///< records pulled by the full pull under way, or held
  std::int64_t total = 0;             ///< records that the server counted when the pull began
  double rate = 0;                    ///< records a second, of the pull under way
  std::optional<Micros> left;         ///< estimate
  std::optional<Time> polled, swept;  ///< by our clock
  std::int64_t changes = 0;           ///< since the start of this process
  std::string error;                  ///< the last one, if it still stands
};

struct ConnectionStatus {
  std::string connection, state, reason;
  std::string error;  ///< why it waits, with when it tries again
  std::optional<Time> retry_at;
  int places = 0;  ///< calls at once
  std::vector<ModelStatus> models;
  bool captures = true;  ///< false: nothing is, as of a marketplace
};

struct RunOptions {
  bool full = false;              ///< read every record again, changed or not
  bool accept_deletions = false;  ///< record deletions however many there are
};

struct RunResult {
  std::string connection;
  std::int64_t created = 0, changed = 0, deleted = 0, unchanged = 0;
  std::int64_t calls = 0, bytes = 0;
  Micros took{};
  std::vector<std::string> errors;  ///< per model that failed; the rest is done
};

/// Certificate of one model.
struct Certificate {
  std::string connection, model;
  Time at{};  ///< by the server's clock
  std::int64_t there = 0, here = 0;
  std::int64_t bodies_compared = 0;
  struct Difference {
    std::int64_t id = 0;
    std::string what;  ///< `missing here`, `missing there`, `older here`, `later here`, `other content`
    bool healed = false;
  };
  std::vector<Difference> differences;
  std::int64_t survived_rounds = 0;
};

struct CertifyOptions {
  std::vector<std::string> models;  ///< empty: all that are captured
  enum class Bodies { none, sample, all } bodies = Bodies::sample;
  bool heal = false;
};

/// Keeps every active connection captured: full pull, then polls and sweeps, for as long as it lives.
///
/// Threads: safe from any thread. Each connection has a thread of its own and a few that fetch.
class SyncService {
 public:
  SyncService(store::Store& store, Connections& connections, const ConnectorList& connectors, Clock& clock,
              Random& random, SyncSettings settings);
  ~SyncService();  ///< stops

  /// Begins to follow all active connections. Without it, `run` and `certify` still work.
  void start();
  /// Stops after the calls under way, or breaks them off; everything durable stays.
  void stop();
  /// A connection was added, changed, paused, resumed or removed: act on it now.
  void refresh(const std::string& connection);

  /// False: nothing is captured from connections of this kind, and nothing of what follows is for them.
  bool captures(const Connection& connection) const;
  /// Adds models to those that are captured. Throws not_found if the server lacks one.
  void add_models(const std::string& connection, const std::vector<std::string>& models);
  /// One pass over the models (empty: all): what is not pulled yet is pulled, then changes and deletions up to now
  /// are found. Throws conflict if the connection is paused. Runs on the calling thread.
  RunResult run(const std::string& connection, const std::vector<std::string>& models, const RunOptions& options,
                std::stop_token stop);
  std::vector<ConnectionStatus> status(const std::string& connection);
  std::vector<Certificate> certify(const std::string& connection, const CertifyOptions& options, std::stop_token stop);
  Probe test(const std::string& connection, std::stop_token stop);

 private:
  void refuse_paused(const std::string& connection);

  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dragoman::pipeline
