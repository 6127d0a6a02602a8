#include "pipeline/market_catalog.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/step.h"
#include "jobs/queue.h"
#include "pipeline/market_factor.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_stock.h"
#include "pipeline/market_stock_jobs.h"

namespace dragoman::pipeline {
namespace {

using jobs::Job;
using jobs::Outcome;
using nlohmann::json;
using store::Row;
using store::Session;

constexpr int kPagesMax = 100'000;
constexpr int kOdooPage = 1000;
// What the field of a marketplace's own id is called; where no module brings it, the procedure knows what it is then.
constexpr const char* kMarketField = "cartona_id";

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string text(const std::optional<Decimal>& value) {
  return value ? value->str() : std::string();
}

std::string text(const std::optional<bool>& value) {
  return !value ? "" : *value ? "true" : "false";
}

struct Kept {
  std::int64_t created = 0, differs = 0;
};

// In which package a product that is linked is listed now, where that is not the one that its factor is of.
void note_package(Session& session, const Marketplaces::Open& open, const MarketProduct& product, std::string factors,
                  const Decimal& factor, bool by_person) {
  const Decimal& count = *product.unit_count;
  const auto settle = [&](const Decimal& now) {
    session.execute(
        "UPDATE market_product SET factor = $3, factors = $4 WHERE connection_id = $1 AND external_id = $2 "
        "AND state = 'linked'",
        {open.connection.id, std::string_view(product.id), now.str(), std::string_view(factors)});
  };
  // It was linked before anybody knew: a person's word is of what it was, and a rule's of a piece.
  if (factors.empty()) {
    const bool fits = by_person || open.settings.factor_of(count) == factor;
    factors = with_factor("", fits ? count : Decimal(1), factor);
    settle(factor);
  }
  auto said = factor_for(factors, count);
  if (said == factor) return;
  if (!said && open.settings.follows(factors)) {
    said = open.settings.factor_of(count);
    factors = with_factor(factors, count, *said);
  }
  if (said) {
    settle(*said);
    log::info("a product is sold in another package by now", {{"connection", open.connection.name},
                                                              {"product", product.id},
                                                              {"unit_count", count.str()},
                                                              {"factor", said->str()}});
  }
  MarketStock::mark_product(session, open.connection.id, product.id, "it is sold in another package");
}

// What the marketplace says of its products now.
Kept keep(Session& session, const Marketplaces::Open& open, std::span<const MarketProduct> products, Time begun) {
  Kept kept;
  const std::int64_t connection = open.connection.id, now = to_us(session.now()), read = to_us(begun);
  for (const MarketProduct& product : products) {
    bool there = false, linked = false, by_person = false;
    std::string factors, factor;
    session.first(
        "SELECT state, how, factors, factor FROM market_product WHERE connection_id = $1 AND external_id = $2",
        {connection, std::string_view(product.id)}, [&](const Row& row) {
          there = true;
          linked = row.text(0) == "linked";
          by_person = row.text(1).starts_with(kLinkedBy);
          factors = row.text(2);
          factor = row.text(3);
        });
    kept.created += !there;
    const std::string price = text(product.price), stock = text(product.stock), published = text(product.published),
                      unit_count = text(product.unit_count);
    session.execute(
        "INSERT INTO market_product (connection_id, external_id, internal_code, base_id, name, unit, unit_count, "
        "price_now, stock_now, published, read_us, state, seen_us, changed_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, "
        "$9, $10, $11, 'proposed', $12, $12) ON CONFLICT (connection_id, external_id) DO UPDATE SET internal_code = "
        "EXCLUDED.internal_code, base_id = EXCLUDED.base_id, name = EXCLUDED.name, unit = EXCLUDED.unit, unit_count = "
        "EXCLUDED.unit_count, price_now = EXCLUDED.price_now, stock_now = EXCLUDED.stock_now, published = "
        "EXCLUDED.published, read_us = EXCLUDED.read_us",
        {connection, std::string_view(product.id), std::string_view(product.internal_id),
         std::string_view(product.base_id), std::string_view(product.name), std::string_view(product.unit),
         std::string_view(unit_count), std::string_view(price), std::string_view(stock), std::string_view(published),
         read, now});
    if (linked && product.unit_count)
      note_package(session, open, product, factors, Decimal::parse(factor).value_or(1), by_person);
    // Somebody changed it there, or took it without taking it: what Odoo has is sent again. What was sent while this
    // was read says nothing.
    const bool prices = open.settings.send_prices && !price.empty(),
               stocks = open.settings.send_stock && !stock.empty();
    if (session.execute(
            "UPDATE market_product SET in_doubt = 1 WHERE connection_id = $1 AND external_id = $2 AND state = "
            "'linked' AND sent_us < $3 AND (($4 = 1 AND price_sent <> '' AND price_sent "
            "<> $5) OR ($6 = 1 AND stock_sent <> '' AND stock_sent <> $7))",
            {connection, std::string_view(product.id), read, std::int64_t{prices}, std::string_view(price),
             std::int64_t{stocks}, std::string_view(stock)}) > 0) {
      ++kept.differs;
      MarketStock::mark_product(session, connection, product.id, "the marketplace has something else");
    }
  }
  return kept;
}

}  // namespace

void ProductIndex::add(const ProductFacts& product) {
  by_id_[product.id] = {product.name, product.active};
  if (!product.market_id.empty()) by_market_id_.emplace(product.market_id, product.id);
  if (!product.barcode.empty()) by_barcode_.emplace(product.barcode, product.id);
  if (!product.default_code.empty()) by_code_.emplace(product.default_code, product.id);
}

std::string ProductIndex::name(std::int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? std::string() : found->second.name;
}

std::vector<ProductIndex::Candidate> ProductIndex::candidates(const std::string& external_id,
                                                              const std::string& internal_code,
                                                              std::span<const std::string> rules) const {
  std::vector<Candidate> out;
  const auto add = [&](std::int64_t id, const std::string& rule) {
    const auto known = by_id_.find(id);
    if (known == by_id_.end() || !known->second.active) return;
    auto at = std::find_if(out.begin(), out.end(), [&](const Candidate& one) { return one.id == id; });
    if (at == out.end()) at = out.insert(out.end(), {.id = id, .name = known->second.name, .rules = {}});
    at->rules.push_back(rule);
  };
  const auto all = [&](const std::multimap<std::string, std::int64_t>& index, const std::string& key,
                       const std::string& rule) {
    const auto [begin, end] = index.equal_range(key);
    for (auto at = begin; at != end; ++at) add(at->second, rule);
  };
  for (const std::string& rule : rules) {
    if (rule == "cartona_id") all(by_market_id_, external_id, rule);
    if (internal_code.empty()) continue;
    if (rule == "internal_id")
      if (const auto id = Decimal::parse(internal_code); id && id->str() == internal_code && internal_code.size() < 18)
        add(id->floor(), rule);
    if (rule == "barcode") all(by_barcode_, internal_code, rule);
    if (rule == "default_code") all(by_code_, internal_code, rule);
  }
  return out;
}

jobs::Enqueued MarketCatalogJobs::enqueue(Session& session, std::int64_t connection_id, const std::string& cause) {
  return jobs::enqueue(session, {.kind = "market.catalog",
                                 .flow = kProductsFlow,
                                 .connection_id = connection_id,
                                 .payload = "{}",
                                 // One that has begun may have read the products already that this one is asked for:
                                 // it comes after that one, not instead of it.
                                 .order_key = fmt::format("market.catalog/{}", connection_id),
                                 .unique_key = fmt::format("market.catalog/{}", connection_id),
                                 .cause = cause});
}

std::vector<jobs::Kind> MarketCatalogJobs::kinds() {
  return {{.name = "market.catalog",
           .summary = "Reads the products of a marketplace beside Odoo's and proposes which is which",
           .handler = this,
           .attempts_max = 10,
           .time_limit = std::chrono::minutes(30),
           .dead_parks = false,
           .check = [](const jobs::Wanted& wanted) {
             if (wanted.connector.empty())
               throw Error(Error::Kind::invalid, "A marketplace is asked through its connection: name one.");
           }}};
}

std::vector<Outcome> MarketCatalogJobs::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes;
  for (const Job& job : jobs) outcomes.push_back(stop.stop_requested() ? jobs::snooze(Micros(0)) : run(job, stop));
  return outcomes;
}

Outcome MarketCatalogJobs::run(const Job& job, std::stop_token stop) {
  Marketplaces::Open open;
  try {
    open = marketplaces_.get(job.connection_id);
  } catch (const Error& error) {
    // It is read again when the connection goes on.
    if (error.code == "connection_paused" || error.code == "connection_error") return jobs::cancel(error.message);
    if (const auto outcome = marketplace_stopped(error)) return *outcome;
    return jobs::failed(error);
  }
  const std::int64_t connection = open.connection.id;
  Kept all;
  std::int64_t products = 0;
  std::set<std::string> seen;
  try {
    for (int page = 1; page < kPagesMax; ++page) {
      if (stop.stop_requested()) return jobs::snooze(Micros(0));
      Time begun{};
      store_.read([&](Session& session) { begun = session.now(); });
      const auto read = open.marketplace->products(page, open.settings.batch, stop);
      step("market.products_read");
      // Some lists end with their last page again and again.
      std::vector<MarketProduct> fresh;
      for (const auto& product : read.products)
        if (seen.insert(product.id).second) fresh.push_back(product);
      if (fresh.empty()) break;
      products += static_cast<std::int64_t>(fresh.size());
      Kept kept;
      store_.write([&](Session& session) { kept = keep(session, open, fresh, begun); });
      all.created += kept.created;
      all.differs += kept.differs;
      if (read.last) break;
    }
  } catch (const Error& error) {
    Outcome outcome = marketplace_failed(marketplaces_, open, error, stop);
    end_tries(open.settings, job, outcome);
    return outcome;
  }

  ProductIndex index;
  try {
    const auto odoo = marketplaces_.connections().find(open.settings.odoo);
    if (!odoo)
      throw Error(Error::Kind::conflict,
                  fmt::format("There is no connection `{}`, which the setting `odoo` of `{}` names.",
                              open.settings.odoo, open.connection.name));
    const auto book = books_.get(odoo->id);
    for (std::int64_t after = 0;;) {
      if (stop.stop_requested()) return jobs::snooze(Micros(0));
      const auto some = book.book->products(after, kOdooPage, kMarketField, stop);
      if (some.empty()) break;
      for (const auto& product : some) index.add(product);
      after = some.back().id;
    }
  } catch (const Error& error) {
    if (stop.stop_requested()) return jobs::snooze(Micros(0));
    return order_book_failed(error);
  }

  struct Open {
    std::int64_t id = 0, odoo = 0;
    std::string product, code, proposals, name;
    bool linked = false;
  };
  std::vector<Open> rows;
  store_.read([&](Session& session) {
    rows.clear();
    session.query(
        "SELECT id, external_id, internal_code, proposals, odoo_name, state, odoo_product_id FROM market_product WHERE "
        "connection_id = $1 AND state <> 'ignored' ORDER BY id",
        {connection}, [&](const Row& row) {
          rows.push_back({.id = row.int64(0),
                          .odoo = row.int64(6),
                          .product = std::string(row.text(1)),
                          .code = std::string(row.text(2)),
                          .proposals = std::string(row.text(3)),
                          .name = std::string(row.text(4)),
                          .linked = row.text(5) == "linked"});
        });
  });
  std::int64_t proposed = 0, ambiguous = 0;
  std::vector<Open> changed;
  for (auto& row : rows) {
    json proposals = json::array();
    // Also of one that is linked, for when it is so no more.
    for (const auto& one : index.candidates(row.product, row.code, open.settings.product_rules))
      proposals.push_back({{"odoo_product", one.id}, {"name", one.name}, {"rules", one.rules}});
    proposed += !row.linked && proposals.size() == 1;
    ambiguous += !row.linked && proposals.size() > 1;
    const std::string now = proposals.empty() ? "" : dumped(proposals);
    const std::string name = row.linked ? index.name(row.odoo) : std::string();
    if (now == row.proposals && name == row.name) continue;
    row.proposals = now;
    row.name = name;
    changed.push_back(row);
  }
  step("market.proposed");
  return jobs::done(
      [connection, changed](Session& session) {
        for (const auto& row : changed)
          session.execute(
              "UPDATE market_product SET proposals = $2, odoo_name = $3 WHERE id = $1 AND odoo_product_id = $4",
              {row.id, std::string_view(row.proposals), std::string_view(row.name), row.odoo});
        MarketOrders::set_cursor(session, connection, "catalog", std::to_string(to_us(session.now())));
      },
      dumped({{"products", products},
              {"new", all.created},
              {"differ", all.differs},
              {"proposed", proposed},
              {"ambiguous", ambiguous}}));
}

}  // namespace dragoman::pipeline
