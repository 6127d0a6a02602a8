#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "access/sealed.h"
#include "base/clock.h"
#include "base/secret.h"
#include "jobs/job.h"
#include "notify/alert.h"
#include "pipeline/marketplace.h"
#include "pipeline/order_book.h"
#include "pipeline/source.h"
#include "pipeline/target.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// An account at a remote system.
struct Connection {
  std::int64_t id = 0;
  std::string name;         ///< `main`: a letter, then letters, digits, `-`, `_`; at most 40
  std::string kind;         ///< `odoo`
  nlohmann::json settings;  ///< as the connector's schema has it, without secrets
  std::string state;        ///< `active`, `paused`, `error`
  std::string reason;
  nlohmann::json learnt;
  Time created{}, changed{};
};

/// The connections in the store. Secrets go in and come out through the key ring only.
///
/// Threads: safe from any thread.
class Connections {
 public:
  Connections(store::Store& store, access::KeyRing& keys, Clock& clock) : store_(store), keys_(keys), clock_(clock) {}

  /// Throws conflict if the name is taken, invalid if the name or kind is not acceptable.
  Connection add(const std::string& name, const std::string& kind, const nlohmann::json& settings,
                 const Secret& secret);
  /// Replaces settings and secret (an empty secret keeps the old one), and makes an `error` one active again.
  /// Throws conflict (code `other_database`) if it would point records that are held at another address or database,
  /// unless `same_records` says that those are the same records: every one that is not there would count as deleted.
  Connection update(const std::string& name, const nlohmann::json& settings, const Secret& secret,
                    bool same_records = false);
  std::vector<Connection> list();
  /// Throws not_found, naming those that there are.
  Connection get(const std::string& name);
  std::optional<Connection> find(const std::string& name);
  std::optional<Connection> find(std::int64_t id);
  /// One that may be asked now. Throws not_found if there is none such; cancelled (code `connection_paused`) if it is
  /// paused, auth (code `connection_error`) if it is in error.
  Connection usable(std::int64_t id);
  Secret secret(const Connection& connection);
  /// The companies of an organisation, from the connection's setting `organisations` (`{"north": [1, 3]}`). Throws
  /// not_found, naming those that there are.
  std::vector<std::int64_t> companies_of(const std::string& connection, const std::string& organisation);
  /// `alert`: what people are told of it, in the same transaction.
  void set_state(const std::string& name, const std::string& state, const std::string& reason,
                 const notify::Alert* alert = nullptr);
  /// One that is paused already keeps its reason, and gets this one in addition (joined_reason).
  void pause(const std::string& name, const std::string& who, const std::string& why);
  /// Sets the members that `learnt`, a JSON object's text, names; null takes one away, the others stay as they are.
  void set_learnt(std::int64_t id, const std::string& learnt);
  /// What `remove` would delete.
  struct Holdings {
    std::int64_t records = 0, versions = 0;  ///< captured
    std::int64_t mappings = 0;               ///< which record here is which there
    std::int64_t requests = 0;               ///< taken in by the inbox for it
    std::int64_t orders = 0, products = 0;   ///< of a marketplace
    std::vector<std::string> marketplaces;   ///< connections whose orders go to it: kept, but left without an Odoo
  };
  Holdings holdings(const Connection& connection);
  /// Forgets the connection with everything captured through it. What may be millions of rows goes in pieces, so that
  /// nobody else's writing waits for all of it. If it is cut off (`stop`: cancelled), the connection is still there,
  /// with less: removed again it goes on, and followed again it is read in full.
  void remove(const std::string& name, const std::stop_token& stop = {});

 private:
  std::int64_t delete_captured(const Connection& connection, const std::stop_token& stop);
  void delete_orphaned_blobs(const Connection& connection, const std::stop_token& stop);

  store::Store& store_;
  access::KeyRing& keys_;
  Clock& clock_;
};

/// What a connector brings. The catalog (connectors/catalog.h) lists them.
struct Connector {
  std::string kind;
  std::string summary;
  /// Settings it takes: name, type (`text`, `number`, `boolean`, `list`), required, default, what it is.
  struct Setting {
    std::string name, type;
    bool required = false;
    nlohmann::json fallback;
    std::string doc;
  };
  std::vector<Setting> settings;
  std::string secret_doc;  ///< what the secret is: `API key or password`
  /// Throws invalid if the settings can't be right, whatever the remote says. May be empty.
  std::function<void(const nlohmann::json&)> check;
  /// Where records are captured from it by SyncService. May be empty.
  std::function<std::unique_ptr<Source>(const Connection&, const Secret&, Clock&)> make_source;
  std::function<Probe(const Connection&, const Secret&, Clock&, std::stop_token)> test;
  /// Where records can be delivered to it. May be empty.
  std::function<std::unique_ptr<Target>(const Connection&, const Secret&, Clock&)> make_target{};
  /// The kinds of jobs that deliver to it; who runs them puts in the handler.
  std::vector<jobs::Kind> kinds{};
  /// Which of them takes what comes into the inbox; empty: the inbox takes nothing for it.
  std::string intake{};
  /// Of a marketplace. May be empty, as may then be `make_source`.
  std::function<std::shared_ptr<Marketplace>(const Connection&, const Secret&, Clock&)> make_marketplace{};
  /// Where orders of marketplaces can go to it. May be empty.
  std::function<std::shared_ptr<OrderBook>(const Connection&, const Secret&, Clock&)> make_book{};
};

/// The connector of a kind, checked settings with defaults filled in. Throws invalid, naming what is wrong.
class ConnectorList {
 public:
  explicit ConnectorList(std::vector<Connector> connectors) : connectors_(std::move(connectors)) {}
  const Connector& get(const std::string& kind) const;
  nlohmann::json check_settings(const std::string& kind, const nlohmann::json& settings) const;
  const std::vector<Connector>& all() const { return connectors_; }

 private:
  std::vector<Connector> connectors_;
};

}  // namespace dragoman::pipeline
