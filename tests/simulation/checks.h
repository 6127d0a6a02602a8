#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "simulation/remotes.h"
#include "simulation/sim_store.h"
#include "simulation/world.h"
#include "store/store.h"

namespace dragoman::simulation {

/// The judge: looks into the database after every commit, with SQL of its own, and holds what changed to the
/// invariants.
class Checks {
 public:
  static constexpr Micros kLease = std::chrono::seconds(10);

  Checks(World& world, store::Store& store) : world_(world), store_(store) {}

  void add_remote(const Remote& remote) { remotes_[remote.connection_id] = &remote; }
  /// A process registers as a node from now on.
  void committed(const Deed& deed, const Touched& touched, const std::shared_ptr<Life>& life);
  /// Called when an attempt was recorded as done.
  std::function<void(std::int64_t job_id, std::int64_t fence)> on_done;
  /// A claim's answer has arrived at a process.
  void claimed(const jobs::Claimed& claimed);
  /// A process is about to begin it, or to write down that it does.
  void begins(const jobs::Claimed& claimed) { begun_.emplace(claimed.job.id, claimed.job.fence); }
  /// A process is about to send these.
  void about_to_send(const Remote& remote, std::span<const pipeline::Outgoing> records);
  /// A process was told that it ended this attempt.
  void recorded(const jobs::Claimed& claimed);
  /// A person paused it, or nothing.
  void paused(std::string what, std::string name);
  /// A sender has got its acknowledgement.
  void acknowledged(std::int64_t inbox_id, std::size_t records);

  /// Whether one of these runs at another process.
  bool run_elsewhere(const std::set<std::pair<std::int64_t, std::int64_t>>& jobs, const Life& than) const;
  /// Nothing waits or runs any more, and there is no dead letter.
  bool quiet() const;
  struct Dead {
    std::int64_t id = 0;
    std::string code;
  };
  std::vector<Dead> dead() const;
  /// Those that wait, run or are dead.
  std::string unfinished() const;
  /// The whole audit chain, and that the stores agree, at the end.
  void at_the_end();
  /// A text of all that matters in the database, to compare two runs.
  std::string picture();

 private:
  struct JobRow {
    std::int64_t state = 0, hold = 0, fence = 0, node_id = 0, attempt = 0, interruptions = 0;
    std::string order_key, error_code, kind, flow, connection;
    bool started = false;
  };
  struct NodeRow {
    std::string name, state;
    std::int64_t beat = 0;
    Micros beaten{};
    std::weak_ptr<Life> life;
  };
  struct DeliveryRow {
    std::int64_t intent_version = 0, version = 0;
    bool intended = false;
  };

  void look_at_nodes(const Deed& deed, const std::shared_ptr<Life>& life);
  void look_at_jobs(const Deed& deed, const std::shared_ptr<Life>& life);
  void look_at_job(const Deed& deed, const std::shared_ptr<Life>& life, std::int64_t id, const JobRow& before,
                   const JobRow& now);
  void look_at_deliveries();
  void look_at_audit();

  World& world_;
  store::Store& store_;
  std::map<std::int64_t, const Remote*> remotes_;
  std::map<std::int64_t, JobRow> jobs_;
  std::map<std::int64_t, NodeRow> nodes_;
  std::map<std::tuple<std::int64_t, std::string, std::string>, DeliveryRow> deliveries_;
  std::map<std::pair<std::int64_t, std::string>, std::string> means_;  ///< connection, external id -> entity and ours
  std::map<std::pair<std::string, std::int64_t>, std::int64_t> leaders_;  ///< name, term -> node
  std::map<std::string, std::int64_t> terms_;
  std::set<std::pair<std::int64_t, std::int64_t>> claims_, begun_, ended_;  ///< job, fence
  std::string paused_what_, paused_name_;
  std::int64_t accepted_ = 0;
  std::int64_t audited_ = 0;
  std::string audit_hash_ = std::string(64, '0');
};

}  // namespace dragoman::simulation
