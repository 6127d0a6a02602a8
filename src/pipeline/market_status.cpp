#include "pipeline/market_status.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "jobs/queue.h"
#include "notify/alert.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kColumns =
    "SELECT id, connection_id, odoo_connection_id, odoo_id, revision, applied_revision, external_id, number, status, "
    "market_state, delivered_by, state, applied_state, needs_otp, otp_sealed, otp_number, odoo_facts, derived_status, "
    "accepted_status, accepted_us, "
    "read_us, sync_status, sync_code, sync_message, status_tries, marked, synced_us, total, "
    "accepted_word, met FROM market_order ";

StatusRow row_of(const Row& row) {
  StatusRow out;
  int at = 0;
  for (std::int64_t* each :
       {&out.id, &out.connection_id, &out.odoo_connection_id, &out.odoo_id, &out.revision, &out.applied_revision})
    *each = row.int64(at++);
  for (std::string* each : {&out.external_id, &out.number, &out.status, &out.market_state, &out.delivered_by,
                            &out.state, &out.applied_state})
    *each = row.text(at++);
  out.needs_otp = row.int64(at++) != 0;
  if (!row.is_null(at)) out.otp_sealed = row.bytes(at);
  out.otp_number = row.int64(++at);
  ++at;
  for (std::string* each : {&out.facts, &out.derived, &out.accepted}) *each = row.text(at++);
  out.accepted_at = row.maybe_time(at++);
  out.read = row.maybe_time(at++);
  for (std::string* each : {&out.sync_status, &out.sync_code, &out.sync_message}) *each = row.text(at++);
  out.tries = row.int64(at++);
  out.marked = row.text(at++);
  out.synced = row.maybe_time(at++);
  out.total = row.text(at++);
  out.accepted_word = row.text(at++);
  out.met = row.int64(at++) != 0;
  return out;
}

std::string standing_of(const std::string& facts) {
  const json in = json::parse(facts, nullptr, false);
  if (!in.is_object()) return {};
  if (in.value("deleted", false)) return "deleted";
  return odoo_standing(in.value("state", ""), in.value("delivered", false), in.value("shipped", false));
}

std::string otp_context(std::int64_t order_id) {
  return fmt::format("order:{}:code", order_id);
}

void keep_otp(Session& session, std::int64_t order_id, const std::string& sealed) {
  session.execute("UPDATE market_order SET otp_sealed = $2, otp_number = otp_number + 1, otp = '' WHERE id = $1",
                  {order_id, Bytes{sealed}});
}

bool same_facts(const std::string& a, const std::string& b) {
  if (a == b) return true;
  json one = json::parse(a, nullptr, false), other = json::parse(b, nullptr, false);
  if (!one.is_object() || !other.is_object()) return false;
  one.erase("write_date");
  other.erase("write_date");
  return one == other;
}

jobs::NewJob job_of(std::int64_t connection_id, std::int64_t order_id, const StatusAsked& asked,
                    const std::string& cause) {
  json payload{{"order", order_id}};
  if (asked.manual) payload["manual"] = true;
  if (asked.mapping) payload["mapping"] = name(*asked.mapping);
  if (asked.status) payload["status"] = name(*asked.status);
  if (!asked.reason.empty()) payload["reason"] = asked.reason;
  const std::string key = fmt::format("market.status/{}", order_id);
  // What a person asks for is no other's job, and keeps its place among those of the order.
  return {.kind = "market.status",
          .flow = kStatusFlow,
          .connection_id = connection_id,
          .payload = payload.dump(-1, ' ', false, json::error_handler_t::replace),
          .priority = asked.manual ? jobs::Priority::high : jobs::Priority::normal,
          .order_key = key,
          .unique_key = asked.manual ? std::string() : key,
          .cause = cause};
}

// A person has closed it, when nobody here knew yet that it is in Odoo.
void say_closed(Session& session, std::int64_t id) {
  if (session.execute(
          "UPDATE market_order SET closed_us = NULL, closed_why = '', state = 'imported', applied_revision = "
          "revision, imported_us = COALESCE(imported_us, $2) WHERE id = $1 AND closed_us IS NOT NULL",
          {id, to_us(session.now())}) == 1)
    MarketOrders::raise_flag(session, id, "closed",
                             "It was closed, and is in Odoo all the same: cancel it there, or let it go on.");
}

// The last moment at which anybody looks: what the marketplace collects is not what Odoo will invoice.
void say_total(Session& session, const StatusRow& row, const std::string& odoo) {
  const auto ours = Decimal::parse(odoo), theirs = Decimal::parse(row.total);
  if (!ours || !theirs || ours->rounded(2) == theirs->rounded(2)) return;
  MarketOrders::raise_flag(session, row.id, kTotalDiffers,
                           fmt::format("It is delivered in Odoo and comes to {} there, and the marketplace's total is "
                                       "{}: what is collected and what is invoiced differ.",
                                       ours->fixed(2), theirs->fixed(2)));
}

}  // namespace

std::string facts_json(const OrderFacts& facts) {
  if (facts.there != OrderFacts::There::yes) return R"({"deleted":true})";
  json lines = json::array(), pickings = json::array();
  for (const auto& line : facts.lines)
    lines.push_back({{"id", line.id},
                     {"key", line.key},
                     {"product_id", line.product_id},
                     {"ordered", line.ordered},
                     {"delivered", line.delivered},
                     {"storable", line.storable}});
  for (const auto& picking : facts.pickings)
    pickings.push_back({{"id", picking.id},
                        {"name", picking.name},
                        {"state", picking.state},
                        {"kind", picking.kind},
                        {"done_at", picking.done_at}});
  return json{{"state", facts.state},          {"locked", facts.locked}, {"delivered", facts.delivered},
              {"shipped", facts.shipped},      {"lines", lines},         {"pickings", pickings},
              {"write_date", facts.write_date}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

StatusCase StatusRow::to_decide() const {
  StatusCase out;
  out.has_id = !external_id.empty();
  out.imported = odoo_id > 0;
  out.current = applied_revision >= revision && state != "held";
  out.standing = standing_of(facts);
  out.cancelled_for_it = applied_state == name(MarketState::cancelled) || applied_state == kCancelling || met;
  out.says = pipeline::market_state(market_state).value_or(MarketState::unknown);
  out.status = status;
  // What it said in a pull that began after it was told is newer than what it took.
  if (!accepted.empty() && accepted_at && (!read || *read <= *accepted_at))
    out.accepted = pipeline::market_state(accepted);
  out.delivered_by = delivered_by;
  out.needs_otp = needs_otp;
  out.has_otp = !otp_sealed.empty();
  return out;
}

std::optional<StatusRow> MarketStatus::find(Session& session, std::int64_t order_id) {
  std::optional<StatusRow> out;
  session.first(std::string(kColumns) + "WHERE id = $1 AND version > 0", {order_id},
                [&](const Row& row) { out = row_of(row); });
  return out;
}

jobs::Enqueued MarketStatus::enqueue(Session& session, std::int64_t connection_id, std::int64_t order_id,
                                     const StatusAsked& asked, const std::string& cause) {
  return jobs::enqueue(session, job_of(connection_id, order_id, asked, cause));
}

void MarketStatus::note(Session& session, std::span<const MarketShop> shops, std::span<const OrderFacts> orders) {
  struct Noted {
    const MarketShop* shop = nullptr;
    const OrderFacts* facts = nullptr;
    std::string json;
    StatusRow row;
    bool enqueued = false;
    bool taken_back = false;  ///< it was cancelled in Odoo, and is not any more
  };
  std::vector<Noted> all;
  for (const auto& facts : orders) {
    if (facts.there == OrderFacts::There::missing) continue;
    const MarketShop* shop = nullptr;
    for (const auto& one : shops)
      if (facts.key.starts_with(one.name.prefix())) shop = &one;
    if (!shop) continue;
    Noted noted{shop, &facts, facts_json(facts), {}, false, false};
    session.first(std::string(kColumns) + "WHERE connection_id = $1 AND external_id = $2 AND version > 0",
                  {shop->connection.id, facts.key.substr(shop->name.prefix().size())},
                  [&](const Row& row) { noted.row = row_of(row); });
    // That it was written says nothing of it: our own mark is such a write.
    if (noted.row.id > 0 && !same_facts(noted.row.facts, noted.json)) all.push_back(std::move(noted));
  }
  if (all.empty()) return;
  std::sort(all.begin(), all.end(), [](const Noted& a, const Noted& b) { return a.row.id < b.row.id; });
  const auto decide = [](const Noted& one) {
    return decide_status(one.row.to_decide(), one.shop->settings.status, {}, *one.shop->marketplace);
  };
  const std::string cause = "what became of it in Odoo";
  // Enqueued before the rows are touched: who ends such a job holds its order key, and then writes its row.
  std::vector<jobs::NewJob> wanted;
  for (Noted& one : all) {
    one.taken_back = standing_of(one.row.facts) == "cancel" && standing_of(one.json) != "cancel";
    one.row.facts = one.json;
    one.enqueued = decide(one).what == StatusDecision::What::send;
    if (one.enqueued) wanted.push_back(job_of(one.row.connection_id, one.row.id, {}, cause));
  }
  jobs::enqueue(session, wanted);
  for (Noted& one : all) {
    const OrderFacts& facts = *one.facts;
    const auto derived = one.shop->settings.status.derive(odoo_standing(facts));
    session.execute(
        "UPDATE market_order SET odoo_name = CASE WHEN $2 <> '' THEN $2 ELSE odoo_name END, odoo_state = $3, "
        "odoo_total = CASE WHEN $4 <> '' THEN $4 ELSE odoo_total END, odoo_facts = $5, derived_us = CASE WHEN "
        "derived_status <> $6 THEN $7 ELSE derived_us END, status_tries = CASE WHEN derived_status <> $6 THEN 0 ELSE "
        "status_tries END, derived_status = $6, odoo_id = CASE WHEN odoo_id = 0 THEN $8 ELSE odoo_id END, "
        // The cancellation that comes next is somebody's own, and what waited for this goes on.
        "applied_state = CASE WHEN $9 = 1 AND applied_state IN ('cancelled', 'cancelling') THEN '' ELSE applied_state "
        "END, hold_next_us = CASE WHEN $9 = 1 AND state = 'held' AND hold_code = 'reopened' THEN $7 ELSE hold_next_us "
        "END, met = CASE WHEN $10 = 1 THEN 0 ELSE met END WHERE id = $1",
        {one.row.id, facts.name, facts.there == OrderFacts::There::yes ? facts.state : std::string(kDeletedInOdoo),
         facts.total, one.json, derived ? name(*derived) : std::string_view(), to_us(session.now()),
         // Also where the answer of the import that made it was lost.
         facts.there == OrderFacts::There::yes ? facts.id : std::int64_t{0}, std::int64_t{one.taken_back},
         // From here on it is seen who does what to it.
         std::int64_t{facts.there == OrderFacts::There::yes && standing_of(one.json) != "cancel"}});
    if (facts.there == OrderFacts::There::yes && one.row.odoo_id == 0) say_closed(session, one.row.id);
    if (derived == MarketState::delivered && one.row.derived != name(*derived))
      say_total(session, one.row, facts.total);
    // Where it is cancelled at the marketplace as well, both say the same.
    if (facts.there != OrderFacts::There::yes && one.row.market_state != name(MarketState::cancelled)) {
      const std::string& connection = one.shop->connection.name;
      notify::raise(
          session,
          {.fingerprint = fmt::format("market:{}:deleted", connection),
           .severity = notify::Severity::warning,
           .title = fmt::format("Orders of {} were deleted in Odoo", connection),
           .text = fmt::format("Order {} was deleted in Odoo, and goes on at the marketplace. `dragoman market retry "
                               "{} --order {} --anew` makes it anew in Odoo, `dragoman market sync {} {} --status "
                               "cancelled` cancels it at the marketplace.",
                               one.row.number.empty() ? one.row.external_id : one.row.number, connection,
                               one.row.external_id, connection, one.row.external_id),
           .subject = connection,
           .link = fmt::format("dragoman market orders --connection {} --odoo-state deleted", connection)});
    }
    // Its import may have ended while this waited for the row.
    one.row = *find(session, one.row.id);
    const auto decision = decide(one);
    if (decision.what == StatusDecision::What::send && !one.enqueued)
      enqueue(session, one.row.connection_id, one.row.id, {}, cause);
    settle(session, one.shop->connection.name, one.row, decision);
  }
}

void MarketStatus::imported(Session& session, const MarketShop& shop, std::int64_t order_id) {
  auto row = find(session, order_id);
  if (!row || row->facts.empty()) return;
  if (row->met && standing_of(row->facts) != "cancel") {
    session.execute("UPDATE market_order SET met = 0 WHERE id = $1", {order_id});
    row->met = false;
  }
  const auto decision = decide_status(row->to_decide(), shop.settings.status, {}, *shop.marketplace);
  if (decision.what == StatusDecision::What::send)
    enqueue(session, row->connection_id, row->id, {}, "its import ended");
  // What Odoo says now is noted next; until then only what waited for this is news.
  if (decision.what == StatusDecision::What::send || !row->sync_code.empty())
    settle(session, shop.connection.name, *row, decision);
  // One that nobody ever spoke of has no mark. A mark that waited for the import gave way to it.
  if ((row->sync_status != "not_synced" || !row->sync_code.empty()) && row->marked != row->mark())
    session.execute("UPDATE market_order SET mark_due = 1 WHERE id = $1", {row->id});
}

void MarketStatus::settle(Session& session, const std::string& connection, const StatusRow& row,
                          const StatusDecision& decision, std::int64_t job_id) {
  std::string status = row.sync_status, code, message;
  switch (decision.what) {
    case StatusDecision::What::send:
      status = "syncing";
      break;
    case StatusDecision::What::same:
      // Where it never was to be told anything, that stays so.
      if (status != "not_synced" || !row.sync_code.empty()) status = "synced";
      break;
    case StatusDecision::What::nothing:
      if (decision.code == "behind" || decision.code == "not_imported") {
        // It knows more than Odoo has to tell.
        if (status == "syncing" || !row.sync_code.empty()) status = "synced";
        break;
      }
      // What was wrong with the code says more than that one is wanted; our own mark in Odoo leads here, too.
      if (decision.code == "otp" && row.sync_code == kCodeRefused) return;
      status = "not_synced";
      code = decision.code;
      message = decision.message;
      break;
  }
  if (status == row.sync_status && code == row.sync_code && message == row.sync_message) return;
  if (!code.empty() && code != row.sync_code) {
    if (code == "rule" || code == "otp" || code == "no_word")
      notify::raise(session,
                    {.fingerprint = fmt::format("market:{}:status_{}", connection, code),
                     .severity = notify::Severity::warning,
                     .title = code == "otp" ? fmt::format("{} wants a code for orders that were delivered", connection)
                                            : fmt::format("A status is held back from {}", connection),
                     .text = fmt::format("Order {}: {}", row.number.empty() ? row.external_id : row.number, message),
                     .subject = connection,
                     .link = fmt::format("dragoman market order {} {}", connection, row.external_id)});
    MarketOrders::tell(session, row.id, "not_told", message, job_id);
  }
  session.execute(
      "UPDATE market_order SET sync_status = $2, sync_code = $3, sync_message = $4, mark_due = CASE WHEN odoo_id > 0 "
      "AND "
      "$2 <> 'syncing' THEN 1 ELSE mark_due END WHERE id = $1",
      {row.id, status, code, message});
}

jobs::Enqueued MarketStatus::give_otp(Session& session, const access::KeyRing& keys, const StatusRow& row,
                                      const Secret& otp, const std::string& cause) {
  const auto enqueued = enqueue(session, row.connection_id, row.id, {}, cause);
  session.lock(access::kSecretsLock);
  keep_otp(session, row.id, keys.seal(otp, otp_context(row.id)));
  MarketOrders::tell(session, row.id, "code", "The shop's code was given: " + cause);
  return enqueued;
}

Secret MarketStatus::otp(const access::KeyRing& keys, const StatusRow& row) {
  return keys.open(row.otp_sealed, otp_context(row.id));
}

void MarketStatus::drop_otp(Session& session, std::int64_t order_id, std::int64_t number) {
  session.execute("UPDATE market_order SET otp_sealed = NULL WHERE id = $1 AND otp_number = $2", {order_id, number});
}

std::int64_t MarketStatus::reseal_otps(Session& session, const access::KeyRing& keys) {
  std::vector<std::pair<std::int64_t, std::string>> old;
  session.query("SELECT id, otp_sealed FROM market_order WHERE otp_sealed IS NOT NULL ORDER BY id", {},
                [&](const Row& row) {
                  if (!keys.is_current(row.bytes(1))) old.emplace_back(row.int64(0), row.bytes(1));
                });
  // The same code as before: its number stays.
  for (const auto& [id, sealed] : old) {
    const std::string anew = keys.seal(keys.open(sealed, otp_context(id)), otp_context(id));
    session.execute("UPDATE market_order SET otp_sealed = $2 WHERE id = $1", {id, Bytes{anew}});
  }
  return static_cast<std::int64_t>(old.size());
}

std::int64_t MarketStatus::seal_plain_otps(store::Store& store, const access::KeyRing& keys) {
  std::vector<std::pair<std::int64_t, Secret>> plain;
  const auto look = [&](Session& session) {
    plain.clear();
    session.query("SELECT id, otp FROM market_order WHERE otp <> '' ORDER BY id", {},
                  [&](const Row& row) { plain.emplace_back(row.int64(0), Secret(std::string(row.text(1)))); });
  };
  store.read(look);
  if (plain.empty()) return 0;
  store.write([&](Session& session) {
    session.lock(access::kSecretsLock);
    look(session);
    for (const auto& [id, code] : plain) keep_otp(session, id, keys.seal(code, otp_context(id)));
  });
  return static_cast<std::int64_t>(plain.size());
}

std::int64_t MarketStatus::enqueue_marks(store::Store& store, std::int64_t limit) {
  bool any = false;
  store.read([&](Session& session) {
    any = session.first("SELECT 1 FROM market_order WHERE mark_due = 1 LIMIT 1", {}, [](const Row&) {});
  });
  if (!any) return 0;
  std::int64_t count = 0;
  store.write([&](Session& session) {
    std::vector<jobs::NewJob> wanted;
    std::vector<std::int64_t> ids;
    session.query(
        "SELECT id, connection_id, odoo_connection_id FROM market_order WHERE mark_due = 1 ORDER BY id LIMIT $1",
        {limit}, [&](const Row& row) {
          ids.push_back(row.int64(0));
          // Among its imports, whose revisions it goes on with; of their flow, so that no pause leaves them behind it.
          wanted.push_back({.kind = "market.mark",
                            .flow = kOrdersFlow,
                            .connection_id = row.int64(2),
                            .payload = fmt::format(R"({{"order":{}}})", row.int64(0)),
                            .priority = jobs::Priority::low,
                            .order_key = fmt::format("market/{}/{}", row.int64(1), row.int64(0)),
                            .unique_key = fmt::format("market.mark/{}", row.int64(0)),
                            .cause = "what its marketplace was told"});
        });
    jobs::enqueue(session, wanted);
    for (const auto id : ids) session.execute("UPDATE market_order SET mark_due = 0 WHERE id = $1", {id});
    count = static_cast<std::int64_t>(ids.size());
  });
  return count;
}

}  // namespace dragoman::pipeline
