#include "app/following.h"

#include "base/error.h"
#include "base/log.h"

namespace dragoman::app {

Following::Following(store::Store& store, const jobs::Node& node, pipeline::Connections& connections,
                     pipeline::SyncService& sync, Clock& clock)
    : shared_(store.info().engine == store::Engine::postgres),
      node_(node),
      leader_(store, node, "capture"),
      connections_(connections),
      sync_(sync),
      clock_(clock) {}

void Following::step() {
  bool leads = follows_;
  try {
    leads = leader_.campaign().has_value();
  } catch (const Error& error) {
    ignore_error("whether this node still leads is asked again", error);
  }
  // Out of touch for a lease, others may lead already.
  leads = leads && (node_.fresh() || !shared_);
  if (leads && !follows_) {
    look_at_connections(false);
    sync_.start();
    follows_ = true;
  } else if (!leads && follows_) {
    log::info("this node no longer leads: it stops following the connections");
    follows_ = false;
    sync_.stop();
  } else if (follows_ && shared_) {
    look_at_connections(true);
  }
}

void Following::look_at_connections(bool act) {
  try {
    std::map<std::string, std::pair<Time, std::string>> now;
    for (const auto& connection : connections_.list()) now[connection.name] = {connection.changed, connection.state};
    const auto before = std::exchange(seen_, now);
    if (!act) return;
    for (const auto& [name, known] : now)
      if (const auto old = before.find(name); old == before.end() || old->second != known) sync_.refresh(name);
    for (const auto& [name, known] : before)
      if (!now.contains(name)) sync_.refresh(name);
  } catch (const Error& error) {
    ignore_error("the connections are looked at again", error);
  }
}

void Following::run(std::stop_token stop) {
  do step();
  while (clock_.wait(node_.settings().beat, stop));
  try {
    leader_.resign();
  } catch (const Error& error) {
    ignore_error("another node takes over after the lease", error);
  }
}

}  // namespace dragoman::app
