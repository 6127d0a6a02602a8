#include "pipeline/market_day.h"

#include <algorithm>
#include <map>

namespace dragoman::pipeline {
namespace {

using store::Row;
using store::Session;

constexpr std::int64_t kTimesMax = 10'000;

}  // namespace

std::vector<MarketDay> market_days(store::Store& store, Time since) {
  std::map<std::int64_t, MarketDay> days;
  store.read([&](Session& session) {
    days.clear();
    session.query(
        "SELECT c.id, c.name FROM connection c WHERE EXISTS (SELECT 1 FROM market_order o WHERE o.connection_id = "
        "c.id)",
        {}, [&](const Row& row) {
          MarketDay& day = days[row.int64(0)];
          day.connection_id = row.int64(0);
          day.connection = row.text(1);
        });
    for (auto& [id, day] : days) {
      session.first(
          "SELECT COUNT(*), SUM(CASE WHEN state IN ('imported', 'cancelled', 'ignored') THEN 1 ELSE 0 END), SUM(CASE "
          "WHEN "
          "delivered_by <> '' AND delivered_by <> 'delivered_by_supplier' THEN 1 ELSE 0 END) FROM market_order WHERE "
          "connection_id = $1 AND seen_us >= $2",
          {id, to_us(since)}, [&](const Row& row) {
            day.orders = row.int64(0);
            day.imported = row.maybe_int64(1).value_or(0);
            day.by_market = row.maybe_int64(2).value_or(0);
          });
      std::vector<std::int64_t> times;
      session.query(
          "SELECT imported_us - seen_us FROM market_order WHERE connection_id = $1 AND seen_us >= $2 AND imported_us "
          "IS "
          "NOT NULL ORDER BY seen_us DESC LIMIT $3",
          {id, to_us(since), kTimesMax},
          [&](const Row& row) { times.push_back(std::max<std::int64_t>(0, row.int64(0))); });
      if (!times.empty()) {
        std::sort(times.begin(), times.end());
        day.median = Micros(times[times.size() / 2]);
        day.p95 = Micros(times[std::min(times.size() - 1, times.size() * 95 / 100)]);
      }
      // `synced_us` would count refusals, too. One that took a status and refused the next did not take the newest.
      session.first(
          "SELECT COUNT(*) FROM market_order WHERE connection_id = $1 AND accepted_us >= $2 AND accepted_status <> '' "
          "AND sync_code NOT IN ('refused', 'otp_refused', 'failed')",
          {id, to_us(since)}, [&](const Row& row) { day.told = row.int64(0); });
      session.first(
          "SELECT COUNT(*), SUM(CASE WHEN outcome IN ('failed', 'errors') THEN 1 ELSE 0 END) FROM sync_log WHERE "
          "connection_id = $1 AND started_us >= $2",
          {id, to_us(since)}, [&](const Row& row) {
            day.runs = row.int64(0);
            day.runs_failed = row.maybe_int64(1).value_or(0);
          });
    }
  });
  std::vector<MarketDay> out;
  for (auto& [id, day] : days) out.push_back(std::move(day));
  std::sort(out.begin(), out.end(), [](const MarketDay& a, const MarketDay& b) { return a.connection < b.connection; });
  return out;
}

}  // namespace dragoman::pipeline
