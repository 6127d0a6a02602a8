#include "pipeline/market_stock.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "jobs/queue.h"
#include "pipeline/market_orders.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

// Numbers in one statement, each a parameter.
constexpr std::size_t kAtOnce = 200;

constexpr const char* kMark =
    "UPDATE market_product SET dirty_since_us = COALESCE(dirty_since_us, $2), dirty_us = CASE WHEN dirty_us >= $2 THEN "
    "dirty_us + 1 ELSE $2 END WHERE connection_id = $1 AND state = 'linked' AND odoo_product_id > 0";

}  // namespace

jobs::Enqueued MarketStock::enqueue(Session& session, std::int64_t connection_id, const std::string& cause) {
  const std::string key = fmt::format("market.stock/{}", connection_id);
  // One that runs may have read an older state: another follows it, and not beside it.
  return jobs::enqueue(session, {.kind = "market.stock",
                                 .flow = kStockFlow,
                                 .connection_id = connection_id,
                                 .payload = "{}",
                                 .priority = jobs::Priority::high,
                                 .order_key = key,
                                 .unique_key = key,
                                 .cause = cause});
}

void MarketStock::mark(Session& session, std::span<const MarketShop> shops, std::span<const std::int64_t> products,
                       bool all) {
  if (!all && products.empty()) return;
  const std::int64_t now = to_us(session.now());
  for (const auto& shop : shops) {
    std::int64_t marked = 0;
    if (all) marked += session.execute(kMark, {shop.connection.id, now});
    for (std::size_t at = 0; !all && at < products.size(); at += kAtOnce) {
      std::vector<Param> params{shop.connection.id, now};
      std::string places;
      for (std::size_t i = at; i < std::min(products.size(), at + kAtOnce); ++i) {
        params.emplace_back(products[i]);
        places += fmt::format("{}${}", places.empty() ? "" : ", ", params.size());
      }
      marked += session.execute(fmt::format("{} AND odoo_product_id IN ({})", kMark, places), params);
    }
    if (marked > 0) enqueue(session, shop.connection.id, "changed in Odoo");
  }
}

void MarketStock::mark_product(Session& session, std::int64_t connection_id, const std::string& product,
                               const std::string& cause) {
  if (session.execute(std::string(kMark) + " AND external_id = $3",
                      {connection_id, to_us(session.now()), std::string_view(product)}) > 0)
    enqueue(session, connection_id, cause);
}

std::int64_t MarketStock::mark_all(Session& session, std::int64_t connection_id, bool again, const std::string& cause) {
  if (again)
    session.execute("UPDATE market_product SET in_doubt = 1 WHERE connection_id = $1 AND state = 'linked'",
                    {connection_id});
  const auto count = session.execute(kMark, {connection_id, to_us(session.now())});
  if (count > 0) enqueue(session, connection_id, cause);
  return count;
}

std::int64_t MarketStock::retry(Session& session, std::int64_t connection_id, const std::string& product,
                                const std::string& cause) {
  const auto count =
      session.execute(std::string(kMark) + " AND send_error_code <> '' AND ($3 = '' OR external_id = $3)",
                      {connection_id, to_us(session.now()), std::string_view(product)});
  if (count > 0) enqueue(session, connection_id, cause);
  return count;
}

std::map<std::int64_t, MarketStock::Standing> MarketStock::standings(Session& session) {
  std::map<std::int64_t, Standing> out;
  session.query(
      "SELECT connection_id, sum(CASE WHEN state = 'linked' THEN 1 ELSE 0 END), sum(CASE WHEN dirty_us IS NULL THEN 0 "
      "ELSE 1 END), sum(CASE WHEN send_error_code <> '' THEN 1 ELSE 0 END), min(dirty_since_us) FROM market_product "
      "GROUP BY connection_id",
      {}, [&](const Row& row) { out[row.int64(0)] = {row.int64(1), row.int64(2), row.int64(3), row.maybe_time(4)}; });
  return out;
}

MarketFigures figures_of(const ProductStock& odoo, const Decimal& factor, const json& flags, const json& flags_sent,
                         const MarketplaceSettings& settings) {
  MarketFigures out;
  out.flags = flags.is_object() ? flags : json::object();
  if (!odoo.there || !odoo.active) {
    out.note = odoo.there ? "It is archived in Odoo, or not for sale." : "It was deleted in Odoo.";
    if (settings.send_stock) {
      out.stock = Decimal(0);
      out.flags["in_stock"] = false;
    }
    return out;
  }
  // Taken off when it was archived, or by a flag that was cleared since: nobody else would put it back, so it comes
  // back when nothing says so any more.
  if (!out.flags.contains("in_stock") && flags_sent.is_object() && flags_sent.value("in_stock", json()) == false)
    out.flags["in_stock"] = true;
  const auto problem = [&](const char* code, std::string message) {
    if (!out.code.empty()) return;
    out.code = code;
    out.message = std::move(message);
  };
  try {
    if (settings.send_stock) {
      const Decimal free = Decimal::of(odoo.free);
      if (!odoo.counted && free.is_zero()) {
        out.note = "Odoo keeps no count of its stock, so the marketplace is not told any.";
      } else {
        std::int64_t whole = free.is_negative() ? 0 : free.divided(factor, 12).floor();
        // Twelve places may have rounded it up.
        if (Decimal(whole) * factor > free) --whole;
        out.stock = Decimal(std::max<std::int64_t>(whole, 0));
      }
    }
    if (settings.send_prices) {
      const Decimal price = (Decimal::of(odoo.price) * factor).rounded(odoo.digits);
      if (odoo.currency != settings.currency)
        problem("currency", fmt::format("Its price in Odoo is in {}, and amounts of this connection are in {}: set a "
                                        "price list in {}. The price is not sent.",
                                        odoo.currency.empty() ? "no currency" : odoo.currency, settings.currency,
                                        settings.currency));
      else if (price <= Decimal(0))
        problem("price", fmt::format("Its price in Odoo is {}: nothing is offered for that, so the price is not sent. "
                                     "Set it in the price list, or take the product off.",
                                     odoo.price));
      else
        out.price = price;
    }
  } catch (const Error& error) {
    problem("figures", fmt::format("What Odoo says of it can't be used: {}", error.message));
  }
  return out;
}

void check_flag(const std::string& name) {
  for (const char* flag : {"published", "in_stock", "min_order", "max_order", "code"})
    if (name == flag) return;
  throw Error(Error::Kind::invalid,
              fmt::format("`{}` is no flag; there are published, in_stock, min_order, max_order and code.", name));
}

json checked_flags(const json& flags) {
  json out = json::object();
  for (const auto& [name, value] : flags.items()) {
    if (name == "published" || name == "in_stock") {
      if (!value.is_boolean()) throw Error(Error::Kind::invalid, fmt::format("The flag `{}` is true or false.", name));
      out[name] = value;
    } else if (name == "min_order" || name == "max_order") {
      const auto number = value.is_string() ? Decimal::parse(value.get<std::string>()) : std::nullopt;
      if (!number || *number <= Decimal(0))
        throw Error(Error::Kind::invalid, fmt::format("The limit `{}` is a number above 0, as text.", name));
      out[name] = number->str();
    } else if (name == "code") {
      if (!value.is_string() || value.get_ref<const std::string&>().empty() ||
          value.get_ref<const std::string&>().size() > 100)
        throw Error(Error::Kind::invalid, "The code has 1 to 100 bytes.");
      out[name] = value;
    } else {
      check_flag(name);
    }
  }
  if (out.contains("min_order") && out.contains("max_order") &&
      Decimal::of(out["min_order"].get<std::string>()) > Decimal::of(out["max_order"].get<std::string>()))
    throw Error(Error::Kind::invalid,
                fmt::format("The least order, {}, is above the largest, {}.", out["min_order"].get<std::string>(),
                            out["max_order"].get<std::string>()));
  return out;
}

}  // namespace dragoman::pipeline
