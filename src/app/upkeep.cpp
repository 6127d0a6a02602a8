#include "app/upkeep.h"

#include "audit/audit.h"
#include "base/error.h"
#include "base/log.h"
#include "notify/alert.h"
#include "ops/alerts.h"
#include "pipeline/job_alerts.h"
#include "pipeline/records.h"

namespace dragoman::app {
namespace {

constexpr Micros kInterval = std::chrono::minutes(1);
// Rows in one transaction, so that those who write are not held up.
constexpr std::int64_t kPiece = 500;

}  // namespace

Upkeep::Upkeep(store::Store& store, Clock& clock, UpkeepSettings settings)
    : store_(store), clock_(clock), settings_(settings) {}

void Upkeep::begin() {
  const bool alone = store_.info().engine == store::Engine::sqlite;
  if (const auto count = audit::settle(store_, alone ? Micros(0) : kCutOffAfter); count > 0)
    log::warning("operations were cut off when the hub ended; the audit log says which", {{"count", count}});
}

bool Upkeep::step(std::stop_token stop) {
  audit::settle(store_, kCutOffAfter);
  pipeline::tell_of_outages(store_, settings_.outage_patience);
  for (const auto& task : tasks_) task(stop);
  if (settings_.sync_log_kept > Micros(0))
    for (bool more = true; more && !stop.stop_requested();)
      more = pipeline::forget_sync_log(store_, settings_.sync_log_kept, kPiece);
  if (settings_.verify_every <= Micros(0)) return false;
  bool ours = false;
  store_.write([&](store::Session& session) {
    const Time now = session.now();
    ours = session.execute("UPDATE audit_head SET verified_us = $1 WHERE id = 1 AND verified_us <= $2",
                           {to_us(now), to_us(now - settings_.verify_every)}) == 1;
    // Without its end the chain is broken, and the look through it says so.
    if (!ours) ours = !session.first("SELECT 1 FROM audit_head WHERE id = 1", {}, [](const store::Row&) {});
  });
  if (!ours) return false;
  const auto verdict = audit::verify(store_, std::nullopt, stop);
  if (!verdict.broken) {
    log::info("the audit log is unbroken", {{"entries", verdict.end.number}, {"hash", verdict.end.hash}});
    return true;
  }
  log::error("the audit log is broken", {{"entry", verdict.broken->number}, {"what", verdict.broken->what}});
  store_.write([&](store::Session& session) { notify::raise(session, ops::broken_audit(*verdict.broken)); });
  return true;
}

void Upkeep::run(std::stop_token stop) {
  while (clock_.wait(kInterval, stop)) {
    try {
      step(stop);
    } catch (const Error& error) {
      if (error.kind != Error::Kind::cancelled)
        log::warning("the hub's upkeep has to wait", {{"error", error.message}, {"detail", error.detail}});
    } catch (const std::exception& error) {
      log::error("the hub's upkeep failed in a way that was not foreseen", {{"error", error.what()}});
    }
  }
}

}  // namespace dragoman::app
