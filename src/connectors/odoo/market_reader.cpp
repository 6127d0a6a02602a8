#include "connectors/odoo/market_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "pipeline/target.h"

namespace dragoman::connectors::odoo {
namespace {

using nlohmann::json;
using pipeline::MarketChoices;
using pipeline::OrderFacts;
using pipeline::ProductFacts;
using pipeline::ProductStock;

Error not_understood(const std::string& what, const json& answer) {
  Error error(Error::Kind::protocol, "The answer of the procedure `market` is not understood: " + what + ".",
              answer.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 2000));
  error.code = "procedure_answer";
  return error;
}

const json& list(const json& answer, const char* name) {
  const auto found = answer.find(name);
  if (found == answer.end() || !found->is_array()) throw not_understood(fmt::format("it has no `{}`", name), answer);
  return *found;
}

// Odoo's false is nothing.
std::string text(const json& row, const char* name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::int64_t number(const json& row, const char* name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_number_integer() ? found->get<std::int64_t>() : 0;
}

bool flag(const json& row, const char* name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_boolean() && found->get<bool>();
}

OrderFacts order_of(const json& row) {
  if (!row.is_object() || text(row, "key").empty()) throw not_understood("an order has no key", row);
  OrderFacts facts;
  facts.key = text(row, "key");
  facts.id = number(row, "id");
  if (flag(row, "missing") || flag(row, "deleted")) {
    facts.there = flag(row, "deleted") ? OrderFacts::There::deleted : OrderFacts::There::missing;
    return facts;
  }
  facts.name = text(row, "name");
  facts.state = text(row, "state");
  if (facts.id == 0 || facts.state.empty()) throw not_understood("an order has no id or no state", row);
  facts.locked = flag(row, "locked");
  facts.total = text(row, "amount_total");
  facts.currency = text(row, "currency");
  for (const json& line : list(row, "lines"))
    facts.lines.push_back({.id = number(line, "id"),
                           .product_id = number(line, "product_id"),
                           .key = text(line, "key"),
                           .ordered = text(line, "ordered"),
                           .delivered = text(line, "delivered"),
                           .storable = flag(line, "storable")});
  for (const json& picking : list(row, "pickings"))
    facts.pickings.push_back({.id = number(picking, "id"),
                              .name = text(picking, "name"),
                              .state = text(picking, "state"),
                              .kind = text(picking, "kind"),
                              .done_at = text(picking, "done_at")});
  facts.delivered = flag(row, "delivered");
  facts.shipped = flag(row, "shipped");
  facts.write_date = text(row, "write_date");
  return facts;
}

// Before version 2 the price had as many places as its currency.
int digits_of(const json& row) {
  const json given = row.value("digits", json());
  if (given.is_number_integer()) return std::clamp(given.get<int>(), 0, 6);
  const std::string price = text(row, "price");
  const auto point = price.find('.');
  return point == std::string::npos ? 0 : static_cast<int>(price.size() - point - 1);
}

std::vector<MarketChoices::Named> named(const json& answer, const char* name) {
  std::vector<MarketChoices::Named> out;
  for (const json& row : list(answer, name))
    out.push_back({.id = number(row, "id"),
                   .name = text(row, "name"),
                   .company_id = number(row, "company_id"),
                   .currency = text(row, "currency")});
  return out;
}

json id_or_null(std::int64_t id) {
  return id == 0 ? json() : json(id);
}

}  // namespace

MarketReader::MarketReader(std::shared_ptr<rpc::Client> client, std::int64_t action,
                           std::vector<std::int64_t> companies, std::string connection, json market_names)
    : client_(std::move(client)),
      action_(action),
      companies_(std::move(companies)),
      connection_(std::move(connection)),
      market_names_(std::move(market_names)) {}

json MarketReader::run(const json& payload, std::stop_token stop) {
  rpc::CallOptions options;
  options.lane = rpc::Lane::order;
  options.companies = companies_;
  options.context = json{{"dragoman", payload}}.dump(-1, ' ', false, json::error_handler_t::replace);
  options.read_only = true;
  options.stop = std::move(stop);
  json answer;
  try {
    answer =
        json::parse(client_->call("ir.actions.server", "run", fmt::format("[[{}]]", action_), "{}", options).result(),
                    nullptr, false);
  } catch (const Error& error) {
    if (error.kind != Error::Kind::not_found && error.kind != Error::Kind::forbidden) throw;
    Error better(Error::Kind::unavailable,
                 fmt::format("The procedure `market` can't be run: {}. `dragoman provision check {}` tells what is "
                             "missing in Odoo, and `dragoman provision apply {}` puts it in place.",
                             error.message, connection_, connection_),
                 error.detail);
    better.code = pipeline::kNotProvisioned;
    throw better;
  }
  if (!answer.is_object() || answer.value("procedure", json()) != "market")
    throw not_understood("it is somebody else's", answer);
  return answer;
}

MarketReader::Watched MarketReader::watch(const Watch& what, std::stop_token stop) {
  json wanted{{"since", what.since.empty() ? json() : json(what.since)},
              {"prefixes", what.prefixes},
              {"products", what.products ? json(*what.products) : json()},
              {"deleted", what.deleted}};
  const json answer = run({{"watch", std::move(wanted)}}, std::move(stop));
  Watched out;
  out.watermark = text(answer, "watermark");
  if (out.watermark.empty()) throw not_understood("it has no watermark", answer);
  out.now = text(answer, "now");
  for (const json& row : list(answer, "orders")) out.orders.push_back(order_of(row));
  for (const json& id : list(answer, "products")) {
    if (!id.is_number_integer()) throw not_understood("the id of a product is no number", answer);
    out.products.push_back(id.get<std::int64_t>());
  }
  out.all_products = flag(answer, "all");
  return out;
}

std::vector<OrderFacts> MarketReader::orders(std::span<const std::string> keys, std::stop_token stop) {
  json wanted = json::array();
  for (const auto& key : keys) wanted.push_back(key);
  const json answer = run({{"orders", std::move(wanted)}}, std::move(stop));
  std::vector<OrderFacts> out;
  for (const json& row : list(answer, "orders")) out.push_back(order_of(row));
  bool right = out.size() == keys.size();
  for (std::size_t i = 0; right && i < keys.size(); ++i) right = out[i].key == keys[i];
  if (!right) throw not_understood("its orders are not those that were asked for", answer);
  return out;
}

std::vector<ProductStock> MarketReader::stock(const Stock& what, std::stop_token stop) {
  const json answer = run({{"stock",
                            {{"products", what.products},
                             {"warehouse", id_or_null(what.warehouse)},
                             {"pricelist", id_or_null(what.pricelist)},
                             {"company", id_or_null(what.company)}}}},
                          std::move(stop));
  std::vector<ProductStock> out;
  for (const json& row : list(answer, "products"))
    out.push_back({.id = number(row, "id"),
                   .there = !flag(row, "missing"),
                   .active = flag(row, "active"),
                   .free = text(row, "free"),
                   .price = text(row, "price"),
                   .currency = text(row, "currency"),
                   .digits = digits_of(row),
                   .counted = row.value("counted", json(true)) != json(false)});
  bool right = out.size() == what.products.size();
  for (std::size_t i = 0; right && i < out.size(); ++i) right = out[i].id == what.products[i];
  if (!right) throw not_understood("its products are not those that were asked for", answer);
  return out;
}

MarketChoices MarketReader::choices(std::stop_token stop) {
  const json answer = run({{"settings", json::object()}}, std::move(stop));
  return {.companies = named(answer, "companies"),
          .warehouses = named(answer, "warehouses"),
          .pricelists = named(answer, "pricelists"),
          .salespeople = named(answer, "salespeople"),
          .carriers = named(answer, "carriers")};
}

std::vector<ProductFacts> MarketReader::products(std::int64_t after, int limit, const std::string& market_field,
                                                 std::stop_token stop) {
  const auto own = market_names_.find("product.product");
  const std::string field = own == market_names_.end() ? market_field : own->value(market_field, market_field);
  const json answer =
      run({{"products", {{"after", after}, {"limit", limit}, {"field", field.empty() ? json() : json(field)}}}},
          std::move(stop));
  std::vector<ProductFacts> out;
  for (const json& row : list(answer, "products")) {
    out.push_back({.id = number(row, "id"),
                   .name = text(row, "name"),
                   .default_code = text(row, "default_code"),
                   .barcode = text(row, "barcode"),
                   .unit = text(row, "unit"),
                   .active = flag(row, "active"),
                   .storable = flag(row, "storable"),
                   .market_id = text(row, "market_id")});
    if (out.back().id <= after) throw not_understood("its products are not in their order", answer);
  }
  return out;
}

}  // namespace dragoman::connectors::odoo
