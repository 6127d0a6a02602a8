#pragma once

#include <functional>
#include <set>
#include <string>
#include <unordered_map>

#include "simulation/world.h"
#include "store/store.h"

namespace dragoman::simulation {

/// What a transaction changed, roughly: for the checks to know where to look.
struct Touched {
  bool jobs = false, nodes = false, deliveries = false, audit = false;
};

/// The shared database as one process sees it: over a network that may fail, and with the process's death at any moment
/// before, in and after a transaction. The database itself is durable and well.
///
/// Threads: one fibre at a time within a transaction; others run between.
class SimStore final : public store::Store {
 public:
  using Committed = std::function<void(const Deed&, const Touched&)>;
  using Notified = std::function<void(const std::string& channel)>;
  SimStore(store::Store& inner, Life& life, Committed committed, Notified notified);

  void read(const std::function<void(store::Session&)>& work) override;
  void write(const std::function<void(store::Session&)>& work) override;
  std::uint64_t wait(std::string_view, std::uint64_t seen, Micros, std::stop_token) override { return seen; }
  void backup(const std::string& path) override { inner_.backup(path); }
  store::Info info() override { return inner_.info(); }

 private:
  class Session;
  const std::string& rewritten(std::string_view sql);

  store::Store& inner_;
  Life& life_;
  World& world_;
  const Committed committed_;
  const Notified notified_;
  std::vector<Plan::Rewrite> rewrites_;
  std::unordered_map<std::string, std::string> known_;
};

}  // namespace dragoman::simulation
