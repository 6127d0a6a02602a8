#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "odoo/client.h"
#include "pipeline/order_book.h"

namespace dragoman::connectors::odoo {

namespace rpc = dragoman::odoo;

/// Reads by the procedure `market` (addon/procedures/market.py) what a marketplace needs to know of an Odoo, as a user
/// without any right on its models.
///
/// Errors  as OrderBook, else as the Client's. protocol has the code `procedure_answer`.
/// Threads safe from any thread; calls block.
class MarketReader final : public pipeline::OrderBook {
 public:
  /// `action` is the id of the procedure's server action: action_of(connection, "market"). `connection` is named in
  /// messages. `market_names`: the fields that this Odoo has for what marketplaces write, where they are its own.
  MarketReader(std::shared_ptr<rpc::Client> client, std::int64_t action, std::vector<std::int64_t> companies,
               std::string connection, nlohmann::json market_names = nlohmann::json::object());

  Watched watch(const Watch& what, std::stop_token stop) override;
  std::vector<pipeline::OrderFacts> orders(std::span<const std::string> keys, std::stop_token stop) override;
  std::vector<pipeline::ProductStock> stock(const Stock& what, std::stop_token stop) override;
  pipeline::MarketChoices choices(std::stop_token stop) override;
  std::vector<pipeline::ProductFacts> products(std::int64_t after, int limit, const std::string& market_field,
                                               std::stop_token stop) override;

 private:
  nlohmann::json run(const nlohmann::json& payload, std::stop_token stop);

  const std::shared_ptr<rpc::Client> client_;
  const std::int64_t action_;
  const std::vector<std::int64_t> companies_;
  const std::string connection_;
  const nlohmann::json market_names_;
};

}  // namespace dragoman::connectors::odoo
