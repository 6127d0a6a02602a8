#include "pipeline/market_watch.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/step.h"

namespace dragoman::pipeline {
namespace {

using store::Session;

constexpr const char* kCursor = "watch";
constexpr const char* kTrouble = "watch_trouble";
constexpr Micros kLook = std::chrono::seconds(1);
// Deleted orders leave nothing behind that a look could see, and to find them is a join over all keys.
constexpr Micros kDeletedLook = std::chrono::seconds(60);
constexpr std::size_t kOrdersAtOnce = 200;

Micros pause_after(int failures) {
  return std::min<Micros>(kLook * (1 << std::min(failures, 6)), std::chrono::seconds(30));
}

}  // namespace

OrderBooks::Open OrderBooks::get(std::int64_t connection_id) {
  Open open;
  open.connection = connections_.usable(connection_id);
  {
    auto kept = kept_.lock();
    const auto found = kept->find(connection_id);
    if (found != kept->end() && found->second.changed == open.connection.changed) {
      open.book = found->second.book;
      return open;
    }
  }
  const Connector& connector = connectors_.get(open.connection.kind);
  if (!connector.make_book)
    throw Error(Error::Kind::invalid,
                fmt::format("Orders of marketplaces can't go to a connection of kind `{}`.", open.connection.kind));
  open.book = connector.make_book(open.connection, connections_.secret(open.connection), clock_);
  auto kept = kept_.lock();
  (*kept)[connection_id] = {open.connection.changed, open.book};
  return open;
}

Micros MarketWatch::step(std::stop_token stop) {
  const auto all = marketplaces_.shops();
  const auto found = all.find(odoo_connection_id_);
  if (found == all.end()) return kLook;
  const auto& shops = found->second;
  const Micros begun = clock_.steady();
  try {
    look(shops, stop);
    failures_ = 0;
    say("");
    return std::max<Micros>(kLook - (clock_.steady() - begun), Micros(10'000));
  } catch (const Error& error) {
    if (stop.stop_requested()) return kLook;
    // A person has paused it, and knows.
    say(error.code == "connection_paused" ? "" : error.message);
    return pause_after(++failures_);
  }
}

void MarketWatch::look(std::span<const MarketShop> shops, std::stop_token stop) {
  const auto open = books_.get(odoo_connection_id_);
  OrderBook::Watch wanted;
  orders_.store().read([&](Session& session) {
    wanted.since = MarketOrders::cursor(session, odoo_connection_id_, kCursor).value_or("");
  });
  if (wanted.since.empty()) {
    begin(*open.book, shops, stop);
    return;
  }
  for (const auto& shop : shops) wanted.prefixes.push_back(shop.name.prefix());
  const Micros now = clock_.steady();
  wanted.deleted = now >= deleted_due_;
  const auto watched = open.book->watch(wanted, stop);
  if (wanted.deleted) deleted_due_ = now + kDeletedLook;
  orders_.store().write([&](Session& session) {
    status_.note(session, shops, watched.orders);
    stock_.mark(session, shops, watched.products, watched.all_products);
    MarketOrders::set_cursor(session, odoo_connection_id_, kCursor, watched.watermark);
  });
  dragoman::step("market.watched");
}

// The first time, or the first since a marketplace was added by an older version: how everything is now, and what
// changes from before that on.
void MarketWatch::begin(OrderBook& book, std::span<const MarketShop> shops, std::stop_token stop) {
  OrderBook::Watch wanted;
  for (const auto& shop : shops) wanted.prefixes.push_back(shop.name.prefix());
  const auto watched = book.watch(wanted, stop);
  for (const auto& shop : shops) {
    // Also what went in while this Odoo was another connection: removed and added again it is the same Odoo, and what
    // is not there is not told of.
    const auto imported = orders_.imported(shop.connection.id);
    for (std::size_t at = 0; at < imported.size(); at += kOrdersAtOnce) {
      if (stop.stop_requested()) return;
      std::vector<std::string> keys;
      for (std::size_t i = at; i < std::min(imported.size(), at + kOrdersAtOnce); ++i)
        keys.push_back(shop.name.order_key(imported[i]));
      const auto facts = book.orders(keys, stop);
      orders_.store().write([&](Session& session) {
        for (const auto& one : facts)
          if (one.there == OrderFacts::There::yes && one.key.starts_with(shop.name.prefix()))
            session.execute(
                "UPDATE market_order SET odoo_connection_id = $3 WHERE connection_id = $1 AND external_id = $2 AND "
                "odoo_connection_id <> $3",
                {shop.connection.id, one.key.substr(shop.name.prefix().size()), odoo_connection_id_});
        status_.note(session, shops, facts);
      });
    }
  }
  orders_.store().write([&](Session& session) {
    stock_.mark(session, shops, {}, true);
    MarketOrders::set_cursor(session, odoo_connection_id_, kCursor, watched.watermark);
  });
  log::info("an Odoo is followed for its marketplaces",
            {{"connection", odoo_connection_id_}, {"marketplaces", shops.size()}});
}

void MarketWatch::say(const std::string& trouble) {
  if (said_ == trouble) return;
  orders_.store().write(
      [&](Session& session) { MarketOrders::set_cursor(session, odoo_connection_id_, kTrouble, trouble); });
  if (!trouble.empty())
    log::warning("an Odoo can't be followed for its marketplaces",
                 {{"connection", odoo_connection_id_}, {"error", trouble}});
  else if (said_)
    log::info("an Odoo is followed again for its marketplaces", {{"connection", odoo_connection_id_}});
  said_ = trouble;
}

std::string MarketWatch::trouble(Session& session, std::int64_t odoo_connection_id) {
  return MarketOrders::cursor(session, odoo_connection_id, kTrouble).value_or("");
}

}  // namespace dragoman::pipeline
