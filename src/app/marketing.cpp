#include "app/marketing.h"

#include <pthread.h>

#include "base/error.h"
#include "base/log.h"

namespace dragoman::app {
namespace {

constexpr Micros kPause = std::chrono::seconds(1);

}  // namespace

Micros Marketing::step() {
  if (!leader_.campaign()) {
    watches_.clear();
    return kPause;
  }
  follow();
  return poller_.step();
}

// A thread for each Odoo that marketplaces send to, and none for those that none does any more.
void Marketing::follow() {
  const auto shops = marketplaces_.shops();
  std::erase_if(watches_, [&](const auto& one) { return !shops.contains(one.first); });
  for (const auto& [odoo, of] : shops)
    if (!watches_.contains(odoo))
      watches_.emplace(odoo, std::jthread([this, odoo = odoo](std::stop_token stop) { watch(odoo, stop); }));
}

void Marketing::watch(std::int64_t odoo_connection_id, std::stop_token stop) {
  pthread_setname_np(pthread_self(), "market-watch");
  pipeline::MarketWatch watch(odoo_connection_id, orders_, status_, stock_, marketplaces_, books_, clock_);
  bool failed = false;
  Micros pause = kPause;
  do {
    try {
      pause = watch.step(stop);
      failed = false;
    } catch (const std::exception& error) {
      pause = kPause;
      if (!failed) log::warning("what changes in an Odoo has to wait", {{"error", error.what()}});
      failed = true;
    }
  } while (clock_.wait(pause, stop));
}

void Marketing::run(std::stop_token stop) {
  pthread_setname_np(pthread_self(), "market");
  bool failed = false;
  Micros pause = kPause;
  do {
    try {
      pause = step();
      if (failed) log::info("marketplaces are asked again");
      failed = false;
    } catch (const std::exception& error) {
      pause = kPause;
      // Said once, not every second.
      if (!failed) log::warning("marketplaces have to wait", {{"error", error.what()}});
      failed = true;
    }
  } while (clock_.wait(pause, stop));
  watches_.clear();
  try {
    leader_.resign();
  } catch (const Error& error) {
    ignore_error("others find out when this node's beat stands still", error);
  }
}

}  // namespace dragoman::app
