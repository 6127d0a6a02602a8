#include "pipeline/market_settings.h"
#include "pipeline/market_factor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "pipeline/job_alerts.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

const std::vector<std::string> kProductRules{"mapping", "cartona_id", "internal_id", "barcode", "default_code"};
const std::vector<std::string> kCustomerRules{"retailer_code", "phone"};

[[noreturn]] void wrong(std::string message) {
  throw Error(Error::Kind::invalid, std::move(message));
}

std::int64_t number(const json& settings, const char* name, std::int64_t fallback, std::int64_t low,
                    std::int64_t high) {
  const auto found = settings.find(name);
  if (found == settings.end() || found->is_null()) return fallback;
  const auto value = found->get<std::int64_t>();
  if (value < low || value > high)
    wrong(fmt::format("The setting `{}` is from {} to {}, and this is {}.", name, low, high, value));
  return value;
}

std::vector<std::string> rules(const json& settings, const char* name, const std::vector<std::string>& known) {
  const auto found = settings.find(name);
  if (found == settings.end() || !found->is_array()) return known;
  std::vector<std::string> out;
  for (const auto& rule : *found) {
    const std::string word = rule.is_string() ? rule.get<std::string>() : rule.dump();
    if (std::find(known.begin(), known.end(), word) == known.end())
      wrong(fmt::format("`{}` is no rule of the setting `{}`; there are {}.", word, name, fmt::join(known, ", ")));
    if (std::find(out.begin(), out.end(), word) != out.end())
      wrong(fmt::format("The rule `{}` is there twice in the setting `{}`.", word, name));
    out.push_back(word);
  }
  return out;
}

constexpr std::string_view kSettable = "pending, approved, assigned, delivered and cancelled";

std::optional<MarketState> settable(std::string_view word) {
  const auto state = market_state(word);
  if (!state || *state == MarketState::unknown || *state == MarketState::editing || *state == MarketState::returned)
    return std::nullopt;
  return state;
}

StatusRules status_rules(const json& settings) {
  StatusRules out;
  const std::string word = settings.value("status_mapping", "enhanced");
  const auto mapping = status_mapping(word);
  if (!mapping) wrong(fmt::format("`{}` is no status_mapping; there are basic and enhanced.", word));
  out.mapping = *mapping;
  const json table = settings.value("status_table", json::object());
  for (const auto& [standing, meaning] : table.items()) {
    if (!status_table(StatusMapping::enhanced).contains(standing))
      wrong(
          fmt::format("`{}` in the setting `status_table` is no standing of an order in Odoo; there are draft, sent, "
                      "sale, sale/shipped, done and cancel.",
                      standing));
    const std::string text = meaning.is_string() ? meaning.get<std::string>() : meaning.dump();
    const auto state = settable(text);
    if (!state && text != "none")
      wrong(fmt::format("In the setting `status_table`, `{}` is to be {}; there are {}, and none for what is not told.",
                        standing, meaning.dump(), kSettable));
    // It can't be taken back, and goods that are not delivered are not delivered by another name.
    if (state == MarketState::delivered && standing != "done")
      wrong(
          fmt::format("In the setting `status_table`, `{}` is to be delivered: that is final at the marketplace, so "
                      "it is only ever told of `done`, an order that is delivered in full.",
                      standing));
    out.table[standing] = state;
  }
  const json words = settings.value("status_words", json::object());
  for (const auto& [status, own] : words.items()) {
    const auto state = settable(status);
    if (!state) wrong(fmt::format("`{}` in the setting `status_words` is no status; there are {}.", status, kSettable));
    if (!own.is_string() || own.get_ref<const std::string&>().empty())
      wrong(fmt::format("In the setting `status_words`, `{}` is {}; it is to be the marketplace's word, a text.",
                        status, own.dump()));
    out.words[*state] = own;
  }
  return out;
}

}  // namespace

MarketplaceSettings MarketplaceSettings::parse(const json& settings) {
  constexpr std::int64_t kId = std::int64_t{1} << 31;
  MarketplaceSettings out;
  out.odoo = settings.value("odoo", "");
  out.company = number(settings, "company", 0, 0, kId);
  out.warehouse = number(settings, "warehouse", 0, 0, kId);
  out.pricelist = number(settings, "pricelist", 0, 0, kId);
  out.salesperson = number(settings, "salesperson", 0, 0, kId);
  out.currency = settings.value("currency", out.currency);
  if (out.currency.size() != 3 ||
      !std::all_of(out.currency.begin(), out.currency.end(), [](char c) { return c >= 'A' && c <= 'Z'; }))
    wrong(fmt::format("`{}` is no currency: it has three letters, such as EGP.", out.currency));
  out.poll = std::chrono::seconds(number(settings, "poll_seconds", 60, 1, 86'400));
  out.lookback = std::chrono::hours(number(settings, "lookback_hours", 168, 0, 24 * 365));
  out.batch = static_cast<int>(number(settings, "batch_size", 100, 1, 1000));
  out.product_rules = rules(settings, "product_rules", kProductRules);
  out.customer_rules = rules(settings, "customer_rules", kCustomerRules);
  const std::string taxes = settings.value("line_taxes", "none");
  if (taxes != "none" && taxes != "product")
    wrong(fmt::format("`{}` is no line_taxes; there are none and product.", taxes));
  out.product_taxes = taxes == "product";
  const std::string factor = settings.value("unit_factor", "ask");
  if (factor != "ask" && factor != "one" && factor != "unit_count")
    wrong(fmt::format("`{}` is no unit_factor; there are ask, one and unit_count.", factor));
  out.unit_factor = factor == "ask" ? UnitFactor::ask : factor == "one" ? UnitFactor::one : UnitFactor::unit_count;
  out.keep_pickings = settings.value("keep_pickings", false);
  out.partial = settings.value("partial_deliveries", false);
  out.hold_retry = std::chrono::seconds(number(settings, "hold_retry_seconds", 300, 1, 86'400));
  out.send_stock = settings.value("send_stock", true);
  out.send_prices = settings.value("send_prices", true);
  out.full_look = std::chrono::minutes(number(settings, "full_look_minutes", 60, 0, 60 * 24 * 7));
  out.catalog = std::chrono::hours(number(settings, "catalog_hours", 24, 0, 24 * 31));
  const json states = settings.value("states", json::object());
  for (const auto& [word, meaning] : states.items()) {
    const auto state = market_state(meaning.is_string() ? meaning.get_ref<const std::string&>() : std::string());
    if (!state || *state == MarketState::unknown)
      wrong(
          fmt::format("In the setting `states`, `{}` is to mean {}; there are pending, editing, approved, assigned, "
                      "delivered, cancelled and returned.",
                      word, meaning.dump()));
    out.states[word] = *state;
  }
  const json carriers = settings.value("carriers", json::object());
  for (const auto& [word, carrier] : carriers.items()) {
    if (word.empty() || !carrier.is_number_integer() || carrier.get<std::int64_t>() < 1 ||
        carrier.get<std::int64_t>() >= kId)
      wrong(fmt::format("In the setting `carriers`, `{}` is to be {}; it is the id of a delivery method in Odoo.", word,
                        carrier.dump()));
    out.carriers[word] = carrier.get<std::int64_t>();
  }
  out.status = status_rules(settings);
  out.cancellation_reason = settings.value("cancellation_reason", "");
  out.tries = static_cast<int>(number(settings, "tries", 10, 1, 10));
  check_told(settings);
  return out;
}

std::optional<Decimal> MarketplaceSettings::factor_of(const Decimal& unit_count) const {
  if (unit_count == Decimal(1) || unit_count <= Decimal(0) || unit_factor == UnitFactor::one) return Decimal(1);
  if (unit_factor == UnitFactor::unit_count) return unit_count;
  return std::nullopt;
}

bool MarketplaceSettings::follows(const std::string& factors) const {
  if (unit_factor == UnitFactor::ask) return false;
  const auto all = factors_of(factors);
  for (const auto& [count, factor] : all)
    if (factor_of(count) != factor) return false;
  return !all.empty();
}

std::vector<Connector::Setting> marketplace_settings() {
  return {
      {"odoo", "text", true, nullptr, "name of the connection to the Odoo that its orders go to"},
      {"company", "number", false, 0, "id of the company in Odoo; 0: Odoo's own choice"},
      {"warehouse", "number", false, 0,
       "id of the warehouse; 0: Odoo chooses that of orders, and the stock of all the company's is published"},
      {"pricelist", "number", false, 0, "id of the price list; 0: the customer's"},
      {"salesperson", "number", false, 0, "id of the user that orders belong to; 0: nobody"},
      {"currency", "text", false, "EGP", "what amounts are in; an order that Odoo would make in another is held"},
      {"poll_seconds", "number", false, 60, "how often new orders are asked for"},
      {"lookback_hours", "number", false, 168,
       "orders are asked for from so long before the last complete pull; 0: without any range"},
      {"batch_size", "number", false, 100, "orders, acknowledgements or products in one call, up to 1000"},
      {"product_rules", "list", false, json(kProductRules),
       "how a product is found, in order: mapping, cartona_id, internal_id, barcode, default_code"},
      {"customer_rules", "list", false, json(kCustomerRules),
       "how a customer is found that was never seen before, in order: retailer_code, phone"},
      {"unit_factor", "text", false, "ask",
       "how many of Odoo's units are in one of a product that is sold in boxes (its unit_count is not 1), where nobody "
       "has said it: ask (its orders are held, and nothing of it is sent, until somebody says it), one (Odoo counts "
       "the boxes, too), or unit_count (Odoo counts the pieces)"},
      {"line_taxes", "text", false, "none", "taxes of order lines: none, or product for those of the product"},
      {"keep_pickings", "boolean", false, false,
       "true: orders that the marketplace delivers keep their deliveries in Odoo"},
      {"partial_deliveries", "boolean", false, false,
       "true: where stock is short, an order that was delivered leaves a backorder; else it is held"},
      {"states", "object", false, json::object(),
       "words of the marketplace for the state of an order, each with what it means: pending, editing, approved, "
       "assigned, delivered, cancelled or returned"},
      {"status_mapping", "text", false, "enhanced",
       "what the marketplace is told of an order by: enhanced (the order and its delivery), or basic (the order)"},
      {"status_table", "object", false, json::object(),
       "what is told otherwise than by that mapping: how Odoo has the order (draft, sent, sale, sale/shipped, done, "
       "cancel), each with pending, approved, assigned, delivered, cancelled, or none"},
      {"status_words", "object", false, json::object(),
       "the marketplace's own words where they are not the usual ones: pending, approved, assigned, delivered, "
       "cancelled, each with its word"},
      {"carriers", "object", false, json::object(),
       "words of the marketplace for how an order is delivered, each with the id of a delivery method in Odoo; "
       "others leave it to Odoo"},
      {"hold_retry_seconds", "number", false, 300,
       "how soon an order that is held is tried again by itself; the pause doubles up to an hour"},
      {"send_stock", "boolean", false, true, "the marketplace is told of stock"},
      {"send_prices", "boolean", false, true, "the marketplace is told of prices"},
      {"full_look_minutes", "number", false, 60,
       "so often all products are looked at for differences that nothing told of; 0: never"},
      {"catalog_hours", "number", false, 24, "how often the marketplace's products are read; 0: when asked for"},
      {"tries", "number", false, 10,
       "1 to 10: how often a call about an order or for the products is made that fails, until it is a dead letter; "
       "the "
       "time that the marketplace is down does not count"},
      {"tell", "list", false, json::array(),
       "e-mail addresses of those who are told of this connection's errors, in place of `notify.email_to`"}};
}

}  // namespace dragoman::pipeline
