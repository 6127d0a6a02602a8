#pragma once

#include <map>
#include <stop_token>
#include <string>

#include "base/clock.h"
#include "jobs/leader.h"
#include "jobs/node.h"
#include "pipeline/connections.h"
#include "pipeline/sync.h"
#include "store/store.h"

namespace dragoman::app {

/// Lets one of the hubs that share a database follow the connections: the one that leads. The others do their share of the
/// jobs, and one of them takes over when the leader's node is dead or has left.
///
/// What a leader that was deposed without knowing it still stores does no harm: of two reads of a record the later one by
/// the remote's clock is kept, whoever stores it first.
///
/// Threads: `run` on one thread; construct and destroy elsewhere.
class Following {
 public:
  /// `node` is registered by the Runner that owns it.
  Following(store::Store& store, const jobs::Node& node, pipeline::Connections& connections,
            pipeline::SyncService& sync, Clock& clock);

  /// One look: leads, follows, lets go, and acts on connections that were changed through another node.
  void step();
  /// Steps with every beat until a stop is asked for; then lets go, so that another node need not wait for the lease.
  void run(std::stop_token stop);

  bool follows() const { return follows_; }

 private:
  void look_at_connections(bool act);

  const bool shared_;  ///< a database that other nodes may share
  const jobs::Node& node_;
  jobs::Leader leader_;
  pipeline::Connections& connections_;
  pipeline::SyncService& sync_;
  Clock& clock_;
  bool follows_ = false;
  std::map<std::string, std::pair<Time, std::string>> seen_;  ///< connection → when it was changed, its state
};

}  // namespace dragoman::app
