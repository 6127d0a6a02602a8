#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "connectors/odoo/provision.h"
#include "odoo/client.h"
#include "pipeline/connections.h"
#include "pipeline/relink.h"
#include "pipeline/target.h"

namespace dragoman::connectors::odoo {

namespace rpc = dragoman::odoo;

/// One client per connection for all that works on it, so that reading and writing share Odoo's workers and what was
/// learnt of them.
///
/// Threads: safe from any thread.
class ClientPool {
 public:
  /// The one that is open with these settings and this secret, or a new one.
  std::shared_ptr<rpc::Client> get(const pipeline::Connection& connection, const Secret& secret,
                                   const rpc::Settings& settings, Clock& clock);

 private:
  struct Open {
    std::string settings;
    Secret secret;
    std::weak_ptr<rpc::Client> client;
  };
  std::mutex mutex_;
  std::map<std::int64_t, Open> open_;
};

/// Server actions of procedures that do a part of what a target does; 0: it is not there.
struct OtherProcedures {
  std::int64_t relink = 0;
  std::int64_t order = 0;  ///< asked first where a new order comes by itself, which `import` takes longer for
};

/// Puts records into an Odoo by the procedure `import` (addon/procedures/import.py), which creates and updates any
/// model's records with their children, once per key, whoever calls it how often.
///
/// A child's key counts within its record: it is sent as `KEY/CHILD`.
///
/// Errors  as Target. That the procedure is not there, or that this account may not run it, says nothing about the
///         records: unavailable, code `not_provisioned`.
/// Threads safe from any thread.
class ImportTarget final : public pipeline::Target, public pipeline::Relinker {
 public:
  /// `action` is the id of the procedure's server action. `market_names`: what marketplace_names() gives.
  ImportTarget(std::shared_ptr<rpc::Client> client, std::int64_t action, std::vector<std::int64_t> companies,
               std::string connection, OtherProcedures others = {},
               nlohmann::json market_names = marketplace_names(nlohmann::json::object()))
      : client_(std::move(client)),
        action_(action),
        others_(others),
        companies_(std::move(companies)),
        connection_(std::move(connection)),
        market_names_(std::move(market_names)) {}

  std::string system() const override { return "odoo"; }
  std::vector<pipeline::Delivered> deliver(std::span<const pipeline::Outgoing> records, std::stop_token stop) override;
  std::vector<std::optional<pipeline::Found>> find(std::span<const Key> keys, std::stop_token stop) override;
  std::string child_model(const std::string& model, const std::string& field, std::stop_token stop) override;
  std::string entity(const std::string& model) const override;
  /// By the procedure `relink`; customers alone. Codes of refusals: `import_norecord`, `import_archived`,
  /// `import_company`, `import_taken` (another key stands for it), `import_changed` (the key stands for another one
  /// than was thought).
  pipeline::Relinked relink(const pipeline::Relink& what, std::stop_token stop) override;
  bool stale() const override { return stale_; }

 private:
  /// The answer's `items`, as JSON. `may_pass`: null where the procedure leaves it to another one.
  nlohmann::json run(std::int64_t action, const nlohmann::json& payload, std::size_t expected, bool read_only,
                     std::stop_token stop, bool may_pass = false);

  const std::shared_ptr<rpc::Client> client_;
  const std::int64_t action_;
  const OtherProcedures others_;
  const std::vector<std::int64_t> companies_;
  const std::string connection_;
  const nlohmann::json market_names_;
  std::atomic<bool> stale_ = false;
  std::mutex mutex_;                                                     ///< guards relations_
  std::map<std::string, std::map<std::string, std::string>> relations_;  ///< model → one2many field → model
};

/// The kinds of job that deliver to an Odoo.
std::vector<jobs::Kind> delivery_kinds();

}  // namespace dragoman::connectors::odoo
