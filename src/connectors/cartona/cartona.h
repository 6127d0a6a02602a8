#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/secret.h"
#include "http/client.h"
#include "pipeline/connections.h"
#include "pipeline/marketplace.h"

namespace dragoman::connectors::cartona {

struct CartonaSettings {
  std::string url;  ///< without a slash at its end
  Secret token;
  std::string supplier_code;  ///< which of the token's accounts it is; empty: whatever the token covers
  std::string orders_path = "order/pull-orders", status_path = "order/update-order-status",
              products_path = "supplier-product", update_path = "supplier-product/bulk-update";
  std::map<std::string, pipeline::MarketState> states;
  http::ClientSettings http;

  /// Throws invalid, naming what is wrong: the address has to be https, but for this very machine.
  static CartonaSettings parse(const nlohmann::json& settings, const Secret& token);
};

/// A supplier's account at Cartona.
///
/// Source  docs/reference/marketplace.md; what its API leaves open is taken in every form that is known.
class Cartona final : public pipeline::Marketplace {
 public:
  Cartona(CartonaSettings settings, Clock& clock, std::unique_ptr<http::Client> http = nullptr);

  std::string kind() const override { return "cartona"; }
  std::unique_ptr<OrderPage> orders(const OrdersAsked& asked, std::stop_token stop) override;
  pipeline::MarketOrder parse(std::string_view body) const override;
  void acknowledge(std::span<const std::string> ids, std::stop_token stop) override;
  void acknowledge_one(const std::string& id, std::stop_token stop) override;
  std::string status_word(pipeline::MarketState state) const override;
  std::vector<std::string> cancellation_reasons() const override;
  void set_status(std::span<const StatusChange> changes, std::stop_token stop) override;
  void set_status_one(const StatusChange& change, std::stop_token stop) override;
  std::string status_address(const std::string& id) const override;
  ProductPage products(int page, int per_page, std::stop_token stop) override;
  void update_products(std::span<const pipeline::MarketProduct> changes, std::stop_token stop) override;
  std::string test(std::stop_token stop) override;
  void listen(std::function<void(const pipeline::Exchange&)> listener) override { listener_ = std::move(listener); }

 private:
  http::Response get(const std::string& path, const std::string& query, std::stop_token stop);
  std::string status_path(const std::string& id) const;
  // The query of a page of products.
  std::string of_account(int page, int per_page) const;
  void post(const std::string& path, std::string body, std::stop_token stop);
  http::Response call(http::Request request, std::stop_token stop);

  const CartonaSettings settings_;
  Clock& clock_;
  const std::unique_ptr<http::Client> http_;
  std::function<void(const pipeline::Exchange&)> listener_;
};

pipeline::Connector connector();

}  // namespace dragoman::connectors::cartona
