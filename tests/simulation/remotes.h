#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "pipeline/target.h"
#include "simulation/world.h"

namespace dragoman::simulation {

/// A system at the other end, of one of two sorts.
///
/// By key: Odoo with the import procedure. A key is a record, once; a version never goes back; a call is one
/// transaction; of two with the same key the later waits for the earlier, and then either fails with a serialization
/// failure or goes on with the other's rows in sight.
///
/// Without: a partner that makes a record with every create, whatever key it carries, and takes every version.
class Remote {
 public:
  using Key = std::pair<std::string, std::string>;  ///< model, key
  struct Record {
    std::string id;
    std::int64_t version = 0;
    std::string content;
    std::map<std::string, std::string> children;
  };

  Remote(World& world, std::int64_t its_connection, std::string its_system, bool its_by_key)
      : connection_id(its_connection), system(std::move(its_system)), by_key(its_by_key), world_(world) {}

  const std::int64_t connection_id;
  const std::string system;
  const bool by_key;
  bool down = false;
  std::set<Key> locked;

  /// In one transaction.
  std::vector<pipeline::Delivered> import(std::span<const pipeline::Outgoing> records);
  std::vector<std::optional<pipeline::Found>> find(std::span<const pipeline::Target::Key> keys) const;
  /// Several of one key are several records; by key there is never more than one.
  const std::map<Key, std::vector<Record>>& records() const { return records_; }

 private:
  pipeline::Delivered apply(const pipeline::Outgoing& record);

  World& world_;
  std::map<Key, std::vector<Record>> records_;
  std::int64_t last_id_ = 0;
};

/// The network between the processes and the remotes.
class Network {
 public:
  explicit Network(World& world) : world_(world) {}

  /// Has `serve` run at the remote, as one call of this process. Throws what an adapter does where something went
  /// wrong. `keys`: what the call writes; empty: it only reads.
  void call(Life& life, Remote& remote, const std::string& what, std::set<Remote::Key> keys,
            std::function<void()> serve);

  /// When a call is about to be sent: what the checks have to say about it.
  std::function<void(const Remote&, std::span<const pipeline::Outgoing>)> on_send;

 private:
  struct Call;
  void deliver_call(Remote& remote, const std::shared_ptr<Call>& call, Micros latency);

  World& world_;
  std::int64_t sent_ = 0, served_upto_ = 0;
};

/// A remote as a process's connector has it.
class RemoteTarget final : public pipeline::Target {
 public:
  RemoteTarget(Life& life, Network& network, Remote& remote) : life_(life), network_(network), remote_(remote) {}

  std::string system() const override { return remote_.system; }
  std::vector<pipeline::Delivered> deliver(std::span<const pipeline::Outgoing> records, std::stop_token) override;
  std::vector<std::optional<pipeline::Found>> find(std::span<const Key> keys, std::stop_token) override;
  std::string child_model(const std::string& model, const std::string& field, std::stop_token) override {
    return field == "lines" ? model + ".line" : "";
  }
  std::string entity(const std::string& model) const override { return model == "order.line" ? "order_line" : model; }

 private:
  Life& life_;
  Network& network_;
  Remote& remote_;
};

}  // namespace dragoman::simulation
