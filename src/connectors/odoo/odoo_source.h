#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "connectors/odoo/field_plan.h"
#include "connectors/odoo/server_clock.h"
#include "odoo/client.h"
#include "pipeline/connections.h"
#include "pipeline/source.h"

namespace dragoman::connectors::odoo {

namespace rpc = dragoman::odoo;

/// A connection's settings as the Odoo connector reads them.
struct OdooSettings {
  rpc::Settings client;
  std::vector<std::int64_t> companies;
  std::vector<std::string> models;  ///< besides the defaults
  bool default_models = true;
  std::map<std::string, ModelSettings> per_model;
  ModelSettings all_models;
  nlohmann::json market_names = nlohmann::json::object();  ///< its own fields for what marketplaces write

  static OdooSettings parse(const nlohmann::json& settings, const Secret& secret);
};

/// Captures from an Odoo.
class OdooSource final : public pipeline::Source {
 public:
  OdooSource(OdooSettings settings, Clock& clock);
  OdooSource(OdooSettings settings, Clock& clock, std::unique_ptr<http::Client> http);
  /// With a client that others use, too.
  OdooSource(OdooSettings settings, Clock& clock, std::shared_ptr<rpc::Client> client);

  std::vector<std::string> default_models(std::stop_token stop) override;
  std::optional<pipeline::Description> describe(const std::string& model, std::optional<pipeline::Range> failing,
                                                std::stop_token stop) override;
  std::int64_t count(const std::string& model, const pipeline::Plan& plan, std::stop_token stop) override;
  std::int64_t last_id(const std::string& model, const pipeline::Plan& plan, std::stop_token stop) override;
  std::unique_ptr<pipeline::Page> page(const std::string& model, const pipeline::Plan& plan, pipeline::Range range,
                                       std::int64_t limit, std::stop_token stop) override;
  std::unique_ptr<pipeline::Page> read(const std::string& model, const pipeline::Plan& plan,
                                       const std::vector<std::int64_t>& ids, std::stop_token stop) override;
  Stamps stamps(const std::string& model, const pipeline::Plan& plan, std::optional<Time> since, pipeline::Range range,
                std::int64_t limit, std::stop_token stop) override;
  std::vector<std::int64_t> existing(const std::string& model, const std::vector<std::int64_t>& ids,
                                     std::stop_token stop) override;
  std::optional<std::string> binary(const std::string& model, std::int64_t id, const std::string& field,
                                    std::stop_token stop) override;
  std::string learnt() const override;
  int places() const override;
  std::int64_t calls() const override { return client_->stats().calls; }

  rpc::Client& client() { return *client_; }

 private:
  rpc::CallOptions options(std::stop_token stop, rpc::Lane lane = rpc::Lane::bulk) const;
  std::unique_ptr<pipeline::Page> records(const std::string& model, const pipeline::Plan& plan,
                                          const rpc::Domain& domain, std::int64_t limit, rpc::Lane lane,
                                          std::stop_token stop);
  Time observe(const rpc::Answer& answer);
  /// As stamps, of a range with both ends: two lists, made by Odoo's database. nullopt where this Odoo can't do that.
  std::optional<Stamps> listed_stamps(const std::string& model, pipeline::Range range, std::int64_t limit,
                                      std::stop_token stop);
  /// Takes out of `plan` the fields that this account may not read, with the reason.
  void drop_unreadable(const std::string& model, pipeline::Plan& plan, std::optional<pipeline::Range> failing,
                       std::stop_token stop);

  const OdooSettings settings_;
  Clock& clock_;
  const std::shared_ptr<rpc::Client> client_;
  ServerClock server_clock_;
  std::mutex mutex_;  ///< guards what follows
  std::set<std::string> captured_;
  std::set<std::string> unlisted_;  ///< models of which listed_stamps was refused; `*`: of all
};

/// The catalog's entry.
pipeline::Connector connector();

}  // namespace dragoman::connectors::odoo
