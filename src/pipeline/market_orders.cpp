#include "pipeline/market_orders.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "jobs/queue.h"
#include "json/records.h"
#include "notify/alert.h"
#include "pipeline/market_status.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

// 2020-01-01 in seconds: revisions are seconds from then on, and stay below 2^31 until 2088.
constexpr std::int64_t kRevisionsBegin = 1'577'836'800;
constexpr Micros kHoldMax = std::chrono::hours(1);
// So many new orders of one marketplace wait beside those of others; what comes behind them lets the others go first.
constexpr std::int64_t kBacklog = 100;

// As the index has it. `otp_refused` is kCodeRefused.
constexpr const char* kWantsCode = " AND o.sync_code IN ('otp', 'otp_refused')";

std::string list_of(const std::vector<std::string>& texts) {
  return json(texts).dump(-1, ' ', false, json::error_handler_t::replace);
}

// ` IN (…)` over the texts of a JSON array that is parameter `number`.
std::string in_texts(Session& session, int number) {
  return session.engine() == store::Engine::sqlite
             ? fmt::format(" IN (SELECT value FROM json_each(${}))", number)
             : fmt::format(" IN (SELECT json_array_elements_text(CAST(${} AS json)))", number);
}

dragoman::json::Digest digest_of(std::string_view body) {
  dragoman::json::Digest digest{};
  const std::string text = dragoman::json::canonical(body, {});
  crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                     nullptr, 0);
  return digest;
}

// True where it took a state later than it was read last.
const std::string kTaken =
    "(o.accepted_word <> '' AND o.accepted_status <> '' AND o.accepted_us IS NOT NULL AND (o.read_us IS NULL OR "
    "o.read_us <= o.accepted_us))";
const std::string kMeansNow = "CASE WHEN " + kTaken + " THEN o.accepted_status ELSE o.market_state END";

const std::string kColumns =
    "SELECT o.id, o.connection_id, COALESCE(c.name, ''), o.external_id, o.number, o.customer, o.customer_key, "
    "o.status, "
    "o.market_state, o.delivered_by, o.payment, o.total, o.currency, o.ordered_us, o.seen_us, o.changed_us, o.version, "
    "o.revision, o.applied_revision, o.done_version, o.applied_state, o.applied_body, o.edited, o.state, o.hold_code, "
    "o.hold_message, o.hold_us, o.hold_next_us, o.hold_tries, o.odoo_connection_id, o.odoo_id, o.odoo_name, "
    "o.odoo_state, o.odoo_total, o.imported_us, o.ack, o.ack_tries, o.acked_us, o.sync_status, o.sync_message, "
    "o.synced_us, o.needs_otp, o.flag, o.flag_message, o.sync_code, o.derived_status, o.accepted_status, "
    "o.closed_us, o.closed_why, o.anew_revision, o.settled_version, "
    "o.applied_customer, CASE WHEN " +
    kTaken + " THEN o.accepted_word ELSE o.status END, " + kMeansNow +
    " FROM market_order o LEFT JOIN connection c ON c.id = "
    "o.connection_id ";

MarketOrderRow row_of(const Row& row) {
  MarketOrderRow out;
  int at = 0;
  const auto number = [&] { return row.int64(at++); };
  const auto text = [&] { return std::string(row.text(at++)); };
  const auto maybe = [&] { return row.maybe_time(at++); };
  out.id = number();
  out.connection_id = number();
  for (std::string* each : {&out.connection, &out.external_id, &out.number, &out.customer, &out.customer_key,
                            &out.status, &out.market_state, &out.delivered_by, &out.payment, &out.total, &out.currency})
    *each = text();
  out.ordered = maybe();
  out.seen = row.time(at++);
  out.changed = row.time(at++);
  out.version = number();
  out.revision = number();
  out.applied_revision = number();
  out.done_version = number();
  out.applied_state = text();
  if (!row.is_null(at)) out.applied_body = std::string(row.bytes(at));
  ++at;
  out.edited = number() != 0;
  out.state = text();
  out.hold_code = text();
  out.hold_message = text();
  out.held_since = maybe();
  out.hold_next = maybe();
  out.hold_tries = number();
  out.odoo_connection_id = number();
  out.odoo_id = number();
  out.odoo_name = text();
  out.odoo_state = text();
  out.odoo_total = text();
  out.imported = maybe();
  out.ack = text();
  out.ack_tries = number();
  out.acked = maybe();
  out.sync_status = text();
  out.sync_message = text();
  out.synced = maybe();
  out.needs_otp = number() != 0;
  out.flag = text();
  out.flag_message = text();
  out.sync_code = text();
  out.derived_status = text();
  out.accepted_status = text();
  out.closed = maybe();
  out.closed_why = text();
  out.anew_revision = number();
  out.settled_version = number();
  out.applied_customer = text();
  out.status_now = text();
  out.means_now = text();
  if (out.closed) out.state = "closed";
  return out;
}

// It was sent to Odoo, and no answer has come yet.
bool is_sent(Session& session, std::int64_t odoo_connection_id, const std::string& key) {
  return session.first(
      "SELECT 1 FROM delivery WHERE connection_id = $1 AND model = 'sale.order' AND record_key = $2 AND "
      "intent_job IS NOT NULL",
      {odoo_connection_id, std::string_view(key)}, [](const Row&) {});
}

struct Known {
  std::int64_t id = 0, version = 0, ack_tries = 0;
  std::string ack;
  std::optional<Time> acked;
  MarketState says = MarketState::unknown;
  std::optional<MarketState> accepted;
  std::optional<Time> accepted_at;
  std::int64_t status_tries = 0;
};

void read_known(Session& session, std::int64_t connection_id, const std::string& ids,
                std::map<std::string, Known>& out) {
  out.clear();
  session.query(
      "SELECT external_id, id, version, ack, ack_tries, acked_us, market_state, accepted_status, accepted_us, "
      "status_tries FROM market_order WHERE connection_id = $1 AND external_id" +
          in_texts(session, 2),
      {connection_id, ids}, [&](const Row& row) {
        Known& one = out[std::string(row.text(0))];
        one.id = row.int64(1);
        one.version = row.int64(2);
        one.ack = row.text(3);
        one.ack_tries = row.int64(4);
        one.acked = row.maybe_time(5);
        one.says = market_state(row.text(6)).value_or(MarketState::unknown);
        one.accepted = market_state(row.text(7));
        one.accepted_at = row.maybe_time(8);
        one.status_tries = row.int64(9);
      });
}

// So long it is left alone after each acknowledgement that did nothing.
Micros ack_pause(std::int64_t tries) {
  return std::min<Micros>(kHoldMax, std::chrono::minutes(1) * (std::int64_t{1} << std::min<std::int64_t>(tries, 10)));
}

}  // namespace

MarketOrders::Stored& MarketOrders::Stored::operator+=(const Stored& other) {
  created += other.created;
  changed += other.changed;
  unchanged += other.unchanged;
  acknowledge_again += other.acknowledge_again;
  return *this;
}

std::int64_t MarketOrders::model_of(std::int64_t connection_id) {
  if (const auto known = capture_.find_model(connection_id, kOrderModel); known && known->state == "following")
    return known->id;
  const auto made = capture_.open_model(connection_id, kOrderModel, false, Micros(0));
  capture_.set_state(made.id, "following", "");
  return made.id;
}

std::int64_t MarketOrders::next_revision(Session& session, std::int64_t before) {
  return std::max(before + 1, to_us(session.now()) / 1'000'000 - kRevisionsBegin);
}

MarketOrders::Stored MarketOrders::store_page(const Owner& owner, std::span<const Marketplace::RawOrder> orders,
                                              const std::function<MarketOrder(std::string_view)>& parse, Time begun) {
  Stored stored;
  // Of two of one id on a page the later one counts.
  std::map<std::string, std::string_view> page;
  for (const auto& order : orders) page[order.id] = order.body;
  if (page.empty()) return stored;
  std::vector<std::string> ids;
  for (const auto& [id, body] : page) ids.push_back(id);
  const std::string wanted = list_of(ids);

  std::map<std::string, Known> known;
  store_.read([&](Session& session) { read_known(session, owner.connection_id, wanted, known); });
  if (known.size() < page.size())
    store_.write([&](Session& session) {
      const std::int64_t now = to_us(session.now());
      for (const auto& [id, body] : page)
        if (!known.contains(id))
          session.execute(
              "INSERT INTO market_order (connection_id, external_id, seen_us, changed_us, state, ack) VALUES ($1, $2, "
              "$3, $3, 'new', 'no') ON CONFLICT DO NOTHING",
              {owner.connection_id, id, now});
      read_known(session, owner.connection_id, wanted, known);
    });

  struct One {
    std::string_view body;
    const std::string* external_id = nullptr;
    Known known;
    dragoman::json::Digest digest{};
  };
  std::map<std::int64_t, One> by_id;
  std::vector<std::int64_t> numbers;
  for (const auto& [id, body] : page) by_id[known.at(id).id] = {body, &id, known.at(id), digest_of(body)};
  for (const auto& [id, one] : by_id) numbers.push_back(id);
  const std::int64_t model = model_of(owner.connection_id);
  std::map<std::int64_t, dragoman::json::Digest> held;
  for (const auto& one : capture_.held(model, numbers)) held[one.id] = one.digest;

  std::vector<dragoman::json::Record> records;
  std::vector<const One*> again, not_told;
  for (const auto& [id, one] : by_id) {
    const auto before = held.find(id);
    // A row without a version: the process died before the order itself was stored.
    if (before == held.end() || before->second != one.digest || one.known.version == 0) {
      dragoman::json::Record record;
      record.id = id;
      record.raw = one.body;
      record.digest = one.digest;
      records.push_back(record);
      continue;
    }
    ++stored.unchanged;
    if (one.known.ack == "sent" && one.known.acked && *one.known.acked < begun &&
        *one.known.acked + ack_pause(one.known.ack_tries) <= begun)
      again.push_back(&one);
    // It took a status, and lists the order as if it had not: of many in one call it drops some without a word.
    if (one.known.accepted && one.known.accepted_at && rank(one.known.says) >= 0 &&
        one.known.says != MarketState::editing && rank(*one.known.accepted) > rank(one.known.says) &&
        *one.known.accepted_at < begun && *one.known.accepted_at + ack_pause(one.known.status_tries) / 6 <= begun)
      not_told.push_back(&one);
  }
  if (records.empty() && again.empty() && not_told.empty()) return stored;

  struct Import {
    std::int64_t id;
    std::int64_t version;
    bool fresh, closed;
    MarketOrder order;
    std::string contact;    ///< what it says otherwise of its shop
    bool ours_now = false;  ///< the marketplace was to deliver it, and now the supplier is
  };
  std::int64_t created = 0, changed = 0;
  const auto also = [&](Session& session) {
    created = changed = 0;
    const Time now = session.now();
    std::vector<Import> imports;
    for (const auto& record : records) {
      std::int64_t version = 0, before = 0;
      bool closed = false;
      session.first("SELECT version FROM snapshot WHERE model_id = $1 AND external_id = $2", {model, record.id},
                    [&](const Row& row) { version = row.int64(0); });
      session.first("SELECT version, closed_us FROM market_order WHERE id = $1", {record.id}, [&](const Row& row) {
        before = row.int64(0);
        closed = !row.is_null(1);
      });
      // A later read of it is here already.
      if (version <= before) continue;
      imports.push_back({record.id, version, before == 0, closed, parse(record.raw), ""});
      if (before > 0)
        session.first(
            "SELECT p.body FROM snapshot s JOIN change v ON v.number = s.change_number JOIN change p ON p.number = "
            "v.previous WHERE s.model_id = $1 AND s.external_id = $2 AND p.body IS NOT NULL",
            {model, record.id}, [&](const Row& row) {
              Import& one = imports.back();
              const MarketOrder previous = parse(row.bytes(0));
              one.contact = contact_changes(previous.customer, one.order.customer);
              one.ours_now = previous.delivers_itself && !one.order.delivers_itself;
            });
    }
    // Enqueued before the rows are touched: who ends a job holds its order key, and then writes its row.
    if (owner.odoo_connection_id > 0) {
      std::int64_t ahead = 0;
      session.first(
          "SELECT COUNT(*) FROM (SELECT 1 FROM market_order WHERE connection_id = $1 AND state = 'new' AND version > 0 "
          "LIMIT $2) w",
          {owner.connection_id, kBacklog}, [&](const Row& row) { ahead = row.int64(0); });
      for (const auto& one : imports)
        if (!one.closed)
          enqueue_import(session, owner.odoo_connection_id, owner.connection_id, one.id,
                         fmt::format("version {} of order {}", one.version, by_id.at(one.id).known.id),
                         one.fresh && ++ahead > kBacklog ? jobs::Priority::low : jobs::Priority::normal);
    }
    for (const One* one : not_told)
      MarketStatus::enqueue(session, owner.connection_id, one->known.id, {}, "it is listed as if it had not been told");
    for (const auto& one : imports) {
      ++(one.fresh ? created : changed);
      const MarketOrder& order = one.order;
      std::int64_t revision = 0;
      session.first("SELECT revision FROM market_order WHERE id = $1", {one.id},
                    [&](const Row& row) { revision = row.int64(0); });
      const std::string key = customer_key(order.customer);
      tell(session, one.id, "version",
           fmt::format("Version {}: {}, {} {}{}", one.version, order.status, order.total.str(), owner.currency,
                       one.closed ? ". The order is closed: it is not imported" : ""));
      session.execute(
          "UPDATE market_order SET number = $2, customer = $3, customer_key = $4, status = $5, market_state = $6, "
          "delivered_by = $7, payment = $8, total = $9, currency = $10, ordered_us = COALESCE($11, "
          "ordered_us), changed_us = $12, version = $13, revision = CASE WHEN revision >= $14 THEN revision + 1 "
          "ELSE $14 END, read_us = $18, odoo_connection_id = $15, needs_otp = $16, "
          "edited = CASE WHEN $17 = 1 THEN 1 ELSE edited END, ack = 'no', ack_tries = 0, "
          // Nobody wants the shop's code any more.
          "otp_sealed = CASE WHEN $6 IN ('delivered', 'cancelled') THEN NULL ELSE otp_sealed END WHERE id = $1",
          {one.id, order.number, order.customer.name, key, order.status, name(order.state), order.delivered_by,
           order.payment, order.total.str(), owner.currency,
           order.ordered ? Param(to_us(*order.ordered)) : Param(nullptr), to_us(now), one.version,
           next_revision(session, revision), owner.odoo_connection_id, std::int64_t{order.needs_otp},
           std::int64_t{order.state == MarketState::editing}, to_us(begun)});
      if (!one.contact.empty()) note_contact(session, owner, *by_id.at(one.id).external_id, one.id, order, one.contact);
      if (one.ours_now &&
          session.first("SELECT 1 FROM market_order WHERE id = $1 AND odoo_id > 0 AND closed_us IS NULL", {one.id},
                        [](const Row&) {}))
        raise_flag(
            session, one.id, "delivery_changed",
            "The marketplace was to deliver it, and now it is yours to deliver: where its transfer was cancelled "
            "in Odoo for that, make one there.");
      if (one.closed) {
        // Nothing is to become of it, so nothing has to be waited for until the marketplace may be told.
        session.execute("UPDATE market_order SET done_version = version, ack = 'due' WHERE id = $1", {one.id});
        enqueue_ack(session, owner.connection_id, one.id, false, "it is closed");
      } else if (owner.odoo_connection_id == 0) {
        MarketOrderRow row;
        row.id = one.id;
        row.connection = owner.connection;
        row.number = order.number;
        hold(session, row,
             Error(Error::Kind::conflict,
                   fmt::format("There is no connection `{}`, which the setting `odoo` of `{}` names.", owner.odoo,
                               owner.connection)),
             owner.hold_retry);
      }
    }
    for (const One* one : not_told)
      session.execute(
          "UPDATE market_order SET accepted_status = '', status_tries = status_tries + 1, sync_status = 'syncing' "
          "WHERE "
          "id = $1 AND accepted_status <> ''",
          {one->known.id});
    for (const One* one : again) {
      if (session.execute("UPDATE market_order SET ack = 'due', ack_tries = ack_tries + 1 WHERE "
                          "id = $1 AND ack = 'sent'",
                          {one->known.id}) == 1)
        enqueue_ack(session, owner.connection_id, one->known.id, true, "it is still listed");
    }
  };
  // What nothing changed in is left out of `records`, so each of these is a row.
  capture_.apply(model, 0, records, begun, {}, also);
  stored.created = created;
  stored.changed = changed;
  stored.acknowledge_again = static_cast<std::int64_t>(again.size());
  return stored;
}

void MarketOrders::note_contact(Session& session, const Owner& owner, const std::string& external_id, std::int64_t id,
                                const MarketOrder& order, const std::string& changes) {
  tell(session, id, "contact", changes);
  MarketOrderRow row;
  session.first(kColumns + "WHERE o.id = $1", {id}, [&](const Row& found) { row = row_of(found); });
  const auto status = MarketStatus::find(session, id);
  if (is_final(order.state) || row.is_closed() || (status && status->to_decide().standing == "done")) return;
  // An import that runs may have read the version before.
  const bool in_odoo =
      row.odoo_id > 0 ||
      is_sent(session, row.odoo_connection_id, MarketName{owner.kind, owner.connection}.order_key(external_id)) ||
      session.first("SELECT 1 FROM job WHERE state = 2 AND order_key = $1",
                    {fmt::format("market/{}/{}", row.connection_id, id)}, [](const Row&) {});
  // What else a person is to see to comes first; the story has both.
  if (!in_odoo || (!row.flag.empty() && row.flag != kContactChanged)) return;
  // Those that nobody has seen to yet stay, or who reads the last one would take the rest for what it was.
  session.execute("UPDATE market_order SET flag = $2, flag_message = $3 WHERE id = $1",
                  {id, kContactChanged, row.flag.empty() ? changes : row.flag_message + " " + changes});
  // Messages go to mailboxes and chats: what the shop's data are stays here.
  tell_of_flag(
      session, row, kContactChanged,
      fmt::format("The shop's contact data are others by now, and the contact in Odoo stays as it is. `dragoman "
                  "market order {} {}` shows old and new.",
                  owner.connection, external_id));
}

std::vector<std::optional<MarketOrders::Loaded>> MarketOrders::load(std::span<const std::int64_t> ids) {
  std::vector<std::optional<Loaded>> out;
  store_.read([&](Session& session) {
    out.assign(ids.size(), std::nullopt);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      session.first(kColumns + "WHERE o.id = $1", {ids[i]},
                    [&](const Row& row) { out[i].emplace().row = row_of(row); });
      if (!out[i]) continue;
      session.first(
          "SELECT v.body FROM snapshot s JOIN model m ON m.id = s.model_id JOIN change v ON v.number = s.change_number "
          "WHERE m.connection_id = $1 AND m.name = $2 AND s.external_id = $3",
          {out[i]->row.connection_id, kOrderModel, ids[i]},
          [&](const Row& row) { out[i]->body = row.is_null(0) ? std::string() : std::string(row.bytes(0)); });
    }
  });
  return out;
}

std::map<std::string, MarketLink> MarketOrders::links(std::int64_t connection_id,
                                                      std::span<const std::string> products) {
  std::map<std::string, MarketLink> out;
  if (products.empty()) return out;
  const std::string wanted = list_of({products.begin(), products.end()});
  store_.read([&](Session& session) {
    out.clear();
    session.query(
        "SELECT external_id, odoo_product_id, factor, state, how, proposals, factors FROM market_product WHERE "
        "connection_id = $1 AND external_id" +
            in_texts(session, 2),
        {connection_id, wanted}, [&](const Row& row) {
          MarketLink link;
          link.factor = Decimal::parse(row.text(2)).value_or(Decimal(1));
          link.factors = row.text(6);
          link.ignored = row.text(3) == "ignored";
          link.settled = row.text(3) != "proposed";
          // What a rule found it finds again, or something better by now.
          if (row.text(3) == "linked" && row.text(4).starts_with(kLinkedBy)) link.odoo_product_id = row.int64(1);
          if (!link.settled && !row.text(5).empty()) {
            const json proposals = json::parse(row.text(5), nullptr, false);
            if (proposals.is_array())
              for (const auto& one : proposals)
                link.candidates.push_back(fmt::format("{} {}", one.value("odoo_product", 0), one.value("name", "")));
          }
          out[std::string(row.text(0))] = link;
        });
  });
  return out;
}

void MarketOrders::tell(Session& session, std::int64_t id, std::string_view what, std::string_view message,
                        std::int64_t job_id) {
  session.execute("INSERT INTO market_event (order_id, at_us, what, message, job_id) VALUES ($1, $2, $3, $4, $5)",
                  {id, to_us(session.now()), what, message, job_id});
}

std::vector<MarketOrders::Event> MarketOrders::story(std::int64_t id, std::int64_t limit) {
  std::vector<Event> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query("SELECT at_us, what, message, job_id FROM market_event WHERE order_id = $1 ORDER BY id DESC LIMIT $2",
                  {id, limit}, [&](const Row& row) {
                    out.push_back({row.time(0), std::string(row.text(1)), std::string(row.text(2)), row.int64(3)});
                  });
  });
  std::reverse(out.begin(), out.end());
  return out;
}

void MarketOrders::hold(Session& session, const MarketOrderRow& row, const Error& why, Micros retry,
                        std::int64_t job_id) {
  const Time now = session.now();
  const Micros pause =
      std::min<Micros>(kHoldMax, retry * (std::int64_t{1} << std::min<std::int64_t>(row.hold_tries, 10)));
  const std::string code(why.code.empty() ? policy(why.kind).name : std::string_view(why.code));
  // A person may have closed it while it was tried.
  if (session.execute(
          "UPDATE market_order SET state = 'held', hold_code = $2, hold_message = $3, hold_us = CASE WHEN state = "
          "'held' THEN hold_us ELSE $4 END, hold_tries = hold_tries + 1, hold_next_us = $5 WHERE id = $1 AND closed_us "
          "IS NULL",
          {row.id, code, why.message, to_us(now), retry > Micros(0) ? Param(to_us(now + pause)) : Param(nullptr)}) != 1)
    return;
  // That it is held still, for the same reason, is no news.
  if ((row.state != "held" || row.hold_code != code) && retry > Micros(0) && !row.connection.empty())
    notify::raise(
        session,
        {.fingerprint = fmt::format("market:{}:{}", row.connection, code),
         .severity = notify::Severity::warning,
         .title = fmt::format("Orders of {} are held: {}", row.connection, code),
         .text = fmt::format("Order {}: {}\n\nIt is not in Odoo as it is now, and the marketplace is not told that it "
                             "was taken in. It is tried again by itself once the cause may be gone.",
                             row.number.empty() ? row.external_id : row.number, why.message),
         .subject = row.connection,
         .link = fmt::format("dragoman market holds --connection {}", row.connection)});
  if (row.state != "held" || row.hold_code != code || row.hold_message != why.message)
    tell(session, row.id, "held", fmt::format("{}: {}", code, why.message), job_id);
}

void MarketOrders::enqueue_ack(Session& session, std::int64_t connection_id, std::int64_t id, bool single,
                               const std::string& cause) {
  // Not unique: who is first acknowledges, and those behind find nothing to do.
  jobs::enqueue(session, {.kind = "market.ack",
                          .flow = kOrdersFlow,
                          .connection_id = connection_id,
                          .payload = single ? fmt::format(R"({{"order":{},"single":true}})", id)
                                            : fmt::format(R"({{"order":{}}})", id),
                          .cause = cause});
}

void MarketOrders::enqueue_import(Session& session, std::int64_t odoo_connection_id, std::int64_t connection_id,
                                  std::int64_t id, const std::string& cause, jobs::Priority priority) {
  jobs::enqueue(session, {.kind = "market.import",
                          .flow = kOrdersFlow,
                          .connection_id = odoo_connection_id,
                          .payload = fmt::format(R"({{"order":{}}})", id),
                          .priority = priority,
                          .order_key = fmt::format("market/{}/{}", connection_id, id),
                          .unique_key = fmt::format("market.import/{}/{}", odoo_connection_id, id),
                          .cause = cause});
}

std::optional<Time> MarketOrders::oldest_open(Session& session, std::int64_t connection_id) {
  std::optional<Time> oldest;
  session.first(
      "SELECT min(ordered_us) FROM market_order WHERE connection_id = $1 AND state IN ('new', 'held', 'imported') AND "
      "market_state NOT IN ('delivered', 'cancelled', 'returned') AND closed_us IS NULL",
      {connection_id}, [&](const Row& row) { oldest = row.maybe_time(0); });
  return oldest;
}

std::optional<std::string> MarketOrders::cursor(Session& session, std::int64_t connection_id, const std::string& name) {
  std::optional<std::string> value;
  session.first("SELECT value FROM market_cursor WHERE connection_id = $1 AND name = $2", {connection_id, name},
                [&](const Row& row) { value = std::string(row.text(0)); });
  return value;
}

void MarketOrders::set_cursor(Session& session, std::int64_t connection_id, const std::string& name,
                              const std::string& value) {
  session.execute(
      "INSERT INTO market_cursor (connection_id, name, value, changed_us) VALUES ($1, $2, $3, $4) ON CONFLICT "
      "(connection_id, name) DO UPDATE SET value = EXCLUDED.value, changed_us = EXCLUDED.changed_us",
      {connection_id, name, value, to_us(session.now())});
}

std::vector<MarketOrderRow> MarketOrders::list(const Filter& filter) {
  std::vector<MarketOrderRow> out;
  // A row without a version is an order whose bytes are not stored yet.
  std::string sql = kColumns + "WHERE o.version > 0";
  std::vector<Param> params;
  const auto only = [&](std::string_view condition, Param value) {
    params.push_back(value);
    sql += fmt::format(" AND {} ${}", condition, params.size());
  };
  const auto text = [&](std::string_view column, const std::string& value) {
    if (!value.empty()) only(fmt::format("{} =", column), std::string_view(value));
  };
  text("c.name", filter.connection);
  if (filter.state == "closed") {
    sql += " AND o.closed_us IS NOT NULL";
  } else if (!filter.state.empty()) {
    text("o.state", filter.state);
    // Only there can one be that is closed.
    if (filter.state == "ignored" || filter.state == "cancelled") sql += " AND o.closed_us IS NULL";
  }
  text("o.delivered_by", filter.delivered_by);
  text("o.sync_status", filter.sync_status);
  text(kMeansNow, filter.market_state);
  text("o.hold_code", filter.hold_code);
  text("o.odoo_state", filter.odoo_state);
  if (!filter.text.empty()) {
    params.push_back(std::string_view(filter.text));
    sql += fmt::format(" AND (o.number = ${0} OR o.external_id = ${0} OR o.customer = ${0} OR o.odoo_name = ${0})",
                       params.size());
  }
  if (filter.flagged) sql += " AND o.flag <> ''";
  if (filter.wants_code) sql += kWantsCode;
  if (filter.before > 0) only("o.id <", filter.before);
  params.push_back(filter.limit);
  sql += fmt::format(" ORDER BY o.id DESC LIMIT ${}", params.size());
  store_.read([&](Session& session) {
    out.clear();
    session.query(sql, params, [&](const Row& row) { out.push_back(row_of(row)); });
  });
  return out;
}

MarketOrderRow MarketOrders::get(const std::string& connection, const std::string& which) {
  std::vector<MarketOrderRow> found;
  const auto number = [&]() -> std::int64_t {
    std::int64_t value = 0;
    if (which.empty() || which.size() > 18) return 0;
    for (const char c : which) {
      if (c < '0' || c > '9') return 0;
      value = value * 10 + (c - '0');
    }
    return value;
  }();
  store_.read([&](Session& session) {
    found.clear();
    const auto look = [&](const std::string& where, Param value) {
      if (!found.empty()) return;
      session.query(kColumns + "WHERE o.version > 0 AND c.name = $1 AND " + where + " LIMIT 2",
                    {std::string_view(connection), value}, [&](const Row& row) { found.push_back(row_of(row)); });
    };
    // The marketplace's id first: it is the one that can't be another's.
    look("o.external_id = $2", std::string_view(which));
    look("o.number = $2", std::string_view(which));
    if (number > 0) look("o.id = $2", number);
  });
  if (found.size() == 1) return found.front();
  if (found.empty())
    throw Error(Error::Kind::not_found,
                fmt::format("`{}` has no order `{}`: give the marketplace's id or number of it, or the hub's own "
                            "(`dragoman market orders`).",
                            connection, which));
  throw Error(
      Error::Kind::conflict,
      fmt::format("Several orders of `{}` have the number `{}`: give the marketplace's id.", connection, which));
}

std::vector<MarketOrders::Standing> MarketOrders::standings() {
  std::map<std::int64_t, Standing> all;
  store_.read([&](Session& session) {
    all.clear();
    session.query(
        "SELECT c.id, c.name, c.state, c.reason, k.value FROM market_cursor k JOIN connection c ON c.id = "
        "k.connection_id "
        "WHERE k.name = 'orders' ORDER BY c.name",
        {}, [&](const Row& row) {
          Standing one;
          one.connection_id = row.int64(0);
          one.connection = row.text(1);
          one.connection_state = row.text(2);
          one.reason = row.text(3);
          if (const auto at = Decimal::parse(row.text(4))) one.pulled = from_us(at->floor());
          all[one.connection_id] = one;
        });
    // Each by an index that holds only what is still to be done: the many that are done are not counted.
    session.query(
        "SELECT o.connection_id, c.name, c.state, c.reason, o.state, COUNT(*), MIN(o.changed_us), MIN(o.hold_us) FROM "
        "market_order o JOIN connection c ON c.id = o.connection_id WHERE o.state IN ('new', 'held') AND o.version > 0 "
        "GROUP BY 1, 2, 3, 4, 5",
        {}, [&](const Row& row) {
          Standing& one = all[row.int64(0)];
          one.connection_id = row.int64(0);
          one.connection = row.text(1);
          one.connection_state = row.text(2);
          one.reason = row.text(3);
          if (row.text(4) == "held") {
            one.held = row.int64(5);
            one.oldest_held = row.maybe_time(7);
          } else {
            one.waiting = row.int64(5);
            one.oldest_waiting = row.maybe_time(6);
          }
        });
    session.query("SELECT connection_id, COUNT(*) FROM market_order WHERE ack = 'due' GROUP BY 1", {},
                  [&](const Row& row) {
                    if (const auto one = all.find(row.int64(0)); one != all.end()) one->second.due_acks = row.int64(1);
                  });
    for (auto& [id, one] : all) {
      session.first("SELECT COUNT(*) FROM market_order WHERE connection_id = $1 AND sync_status = 'error'", {id},
                    [&](const Row& row) { one.not_told = row.int64(0); });
      session.first(fmt::format("SELECT COUNT(*) FROM market_order o WHERE o.connection_id = $1{}", kWantsCode), {id},
                    [&](const Row& row) { one.wants_code = row.int64(0); });
      session.first(
          "SELECT k.value FROM market_cursor k WHERE k.name = 'watch_trouble' AND k.connection_id = (SELECT "
          "o.odoo_connection_id FROM market_order o WHERE o.connection_id = $1 AND o.odoo_connection_id > 0 ORDER BY "
          "o.id DESC LIMIT 1)",
          {id}, [&](const Row& row) { one.trouble = row.text(0); });
    }
    session.query("SELECT connection_id, COUNT(*) FROM market_order WHERE flag <> '' GROUP BY 1", {},
                  [&](const Row& row) {
                    if (const auto one = all.find(row.int64(0)); one != all.end()) one->second.flagged = row.int64(1);
                  });
  });
  std::vector<Standing> out;
  for (auto& [id, one] : all) out.push_back(std::move(one));
  return out;
}

std::vector<MarketOrders::HoldGroup> MarketOrders::holds(const std::string& connection) {
  std::vector<HoldGroup> out;
  const auto read = [&](Session& session, std::string_view where, std::initializer_list<Param> params) {
    session.query(
        fmt::format("SELECT COALESCE(c.name, ''), h.hold_code, h.hold_message, h.orders, h.hold_us, h.external_id FROM "
                    "(SELECT o.connection_id, o.hold_code, o.hold_message, o.hold_us, o.external_id, COUNT(*) OVER "
                    "(PARTITION BY o.connection_id, o.hold_code) AS orders, ROW_NUMBER() OVER (PARTITION BY "
                    "o.connection_id, o.hold_code ORDER BY o.hold_us, o.id) AS place FROM market_order o WHERE o.state "
                    "= 'held') h LEFT JOIN connection c ON c.id = h.connection_id WHERE h.place = 1{} ORDER BY 4 DESC, "
                    "1, 2",
                    where),
        params, [&](const Row& row) {
          out.push_back({std::string(row.text(0)), std::string(row.text(1)), std::string(row.text(2)), row.int64(3),
                         row.maybe_time(4), std::string(row.text(5))});
        });
  };
  store_.read([&](Session& session) {
    out.clear();
    if (connection.empty())
      read(session, "", {});
    else
      read(session, " AND c.name = $1", {std::string_view(connection)});
  });
  return out;
}

namespace {

struct Due {
  std::int64_t id, connection_id, odoo_connection_id, revision;
};

// New revisions for these, and jobs that import them. `by`: who wanted it; empty: nobody did.
std::int64_t again(Session& session, const std::vector<Due>& due, const std::string& cause,
                   const std::string& by = {}) {
  for (const auto& one : due)
    MarketOrders::enqueue_import(session, one.odoo_connection_id, one.connection_id, one.id, cause);
  for (const auto& one : due) {
    if (!by.empty()) MarketOrders::tell(session, one.id, "retry", by);
    session.execute(
        "UPDATE market_order SET revision = CASE WHEN revision >= $2 THEN revision + 1 ELSE $2 END, "
        "hold_next_us = NULL WHERE id = $1",
        {one.id, MarketOrders::next_revision(session, one.revision)});
  }
  return static_cast<std::int64_t>(due.size());
}

Due due_of(const Row& row) {
  return {row.int64(0), row.int64(1), row.int64(2), row.int64(3)};
}

}  // namespace

void MarketOrders::tell_of_flag(Session& session, const MarketOrderRow& row, const std::string& flag,
                                const std::string& message) {
  if (flag.empty() || (row.flag == flag && row.flag_message == message) || row.connection.empty()) return;
  notify::raise(
      session,
      {.fingerprint = fmt::format("market:{}:flag:{}", row.connection, flag),
       .severity = notify::Severity::warning,
       .title = fmt::format("Orders of {} need somebody: {}", row.connection, flag),
       .text = fmt::format("Order {}: {}\n\n`dragoman market resolve {} {}` says that it was seen to.",
                           row.number.empty() ? row.external_id : row.number, message, row.connection, row.external_id),
       .subject = row.connection,
       .link = fmt::format("dragoman market orders --connection {} --flagged", row.connection)});
}

void MarketOrders::raise_flag(Session& session, std::int64_t id, const std::string& flag, const std::string& message) {
  tell(session, id, "flagged", message);
  MarketOrderRow row;
  session.first(kColumns + "WHERE o.id = $1", {id}, [&](const Row& found) { row = row_of(found); });
  // What else a person is to see to stays, and what is to be seen of the shop gives way.
  const bool beside = !row.flag.empty() && row.flag != flag && row.flag != kContactChanged;
  session.execute("UPDATE market_order SET flag = $2, flag_message = $3 WHERE id = $1",
                  {id, beside ? row.flag : flag,
                   beside ? row.flag_message + " " + message
                          : (row.flag == kContactChanged ? message + " " + row.flag_message : message)});
  tell_of_flag(session, row, flag, message);
}

void MarketOrders::resolve(const MarketOrderRow& row, const std::string& by, const std::string& note) {
  store_.write([&](Session& session) {
    // Only what was looked at: another flag may have come meanwhile.
    if (row.flag.empty() ||
        session.execute("UPDATE market_order SET flag = '', flag_message = '' WHERE id = $1 AND flag = $2 AND "
                        "flag_message = $3",
                        {row.id, row.flag, row.flag_message}) != 1)
      throw Error(Error::Kind::conflict,
                  fmt::format("The order {} has nothing that a person should see to.", row.external_id));
    tell(session, row.id, "resolved", fmt::format("{} by {}{}{}", row.flag, by, note.empty() ? "" : ": ", note));
  });
}

namespace {

// What a person has closed is on its way again.
bool open_again(Session& session, std::int64_t id, const std::string& by) {
  // The marketplace is told when it is in Odoo, not before.
  if (session.execute("UPDATE market_order SET closed_us = NULL, closed_why = '', state = 'new', ack = CASE WHEN ack = "
                      "'due' THEN 'no' ELSE ack END WHERE id = $1 AND closed_us IS NOT NULL",
                      {id}) != 1)
    return false;
  MarketOrders::tell(session, id, "opened", by);
  return true;
}

}  // namespace

bool MarketOrders::may_be_in_odoo(const MarketOrderRow& row, const std::string& key) {
  bool sent = false;
  store_.read([&](Session& session) { sent = is_sent(session, row.odoo_connection_id, key); });
  return sent;
}

void MarketOrders::close(const MarketOrderRow& row, const std::string& key, const std::string& by,
                         const std::string& why) {
  const auto refuse = [](const std::string& message) { throw Error(Error::Kind::conflict, message); };
  const std::string &id = row.external_id, &connection = row.connection;
  store_.write([&](Session& session) {
    MarketOrderRow now;
    session.first(kColumns + "WHERE o.id = $1", {row.id}, [&](const Row& found) { now = row_of(found); });
    if (now.id == 0) throw Error(Error::Kind::not_found, "The order is not there any more.");
    if (now.is_closed())
      refuse(fmt::format("The order {} is closed already, {}. `dragoman market retry {} --order {}` opens it again.",
                         id, now.closed_why, connection, id));
    if (now.odoo_id > 0 && !now.is_deleted())
      refuse(fmt::format("The order {} is in Odoo ({}), and only what is not there can be closed: cancel it in Odoo.",
                         id, now.odoo_name.empty() ? fmt::format("sale.order:{}", now.odoo_id) : now.odoo_name));
    if (now.state != "new" && now.state != "held" && !now.is_deleted())
      refuse(
          fmt::format("The order {} is {}, and nothing waits for it: what is held, or on its way to Odoo, can be "
                      "closed.",
                      id, now.state));
    if (is_sent(session, now.odoo_connection_id, key))
      refuse(
          fmt::format("Whether the order {} is in Odoo by now is not known: it was sent there, and no answer has come "
                      "yet. `dragoman market order {} {}` shows what becomes of it; then it is closed here, or "
                      "cancelled in Odoo.",
                      id, connection, id));
    const std::string closed_why = fmt::format("by {}: {}", by, why);
    if (session.execute(
            "UPDATE market_order SET state = 'ignored', closed_us = $2, closed_why = $3, hold_code = '', hold_message "
            "= "
            "'', hold_us = NULL, hold_next_us = NULL, hold_tries = 0, done_version = version, ack = CASE WHEN ack = "
            "'no' THEN 'due' ELSE ack END WHERE id = $1 AND closed_us IS NULL AND version = $4 AND applied_revision = "
            "$5",
            {now.id, to_us(session.now()), std::string_view(closed_why), now.version, now.applied_revision}) != 1)
      refuse(fmt::format("The order {} changed at this very moment: look at it again.", id));
    tell(session, now.id, "closed",
         now.hold_code.empty() ? closed_why : fmt::format("{}. It was held: {}", closed_why, now.hold_code));
    if (now.ack == "no") enqueue_ack(session, now.connection_id, now.id, false, "it was closed " + closed_why);
  });
}

void MarketOrders::settle(const MarketOrderRow& row, const std::string& by, const std::string& why) {
  const auto refuse = [](const std::string& message) { throw Error(Error::Kind::conflict, message); };
  const std::string &id = row.external_id, &connection = row.connection;
  store_.write([&](Session& session) {
    MarketOrderRow now;
    session.first(kColumns + "WHERE o.id = $1", {row.id}, [&](const Row& found) { now = row_of(found); });
    if (now.id == 0) throw Error(Error::Kind::not_found, "The order is not there any more.");
    if (now.odoo_id == 0 || now.is_closed())
      refuse(
          fmt::format("The order {} is not in Odoo, so there is nothing to be left as it is: `dragoman market close {} "
                      "{}` closes one that nobody wants there.",
                      id, connection, id));
    if (now.is_deleted())
      refuse(
          fmt::format("The order {0} was deleted in Odoo: `dragoman market close {1} {0}` leaves it at that, and "
                      "`dragoman market retry {1} --order {0} --anew` makes it anew.",
                      id, connection));
    if (now.state != "held")
      refuse(
          fmt::format("The order {} is {}: what the marketplace says of it is in Odoo, or on its way there. Only what "
                      "is held is settled.",
                      id, now.state));
    if (now.hold_code == "unknown_state" || now.hold_code == "editing" || now.hold_code == "reopened")
      refuse(fmt::format("The order {} is held for its state, not for what is in it: {}", id, now.hold_message));
    const std::string settled = fmt::format("by {}: {}", by, why);
    again(session, {{now.id, now.connection_id, now.odoo_connection_id, now.revision}}, "it was settled " + settled);
    session.execute("UPDATE market_order SET settled_version = version WHERE id = $1", {now.id});
    tell(session, now.id, "settled", fmt::format("{}. It was held: {}", settled, now.hold_code));
  });
}

std::vector<MarketOrders::Unfinished> MarketOrders::unfinished(const MarketOrderRow& row) {
  std::vector<Unfinished> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query("SELECT id, state FROM job WHERE order_key = $1 AND state IN (0, 1, 3, 6) ORDER BY id",
                  {fmt::format("market/{}/{}", row.connection_id, row.id)},
                  [&](const Row& found) { out.push_back({found.int64(0), found.int64(1) == 6}); });
  });
  return out;
}

std::int64_t MarketOrders::retry(const std::string& connection, const std::string& code, std::int64_t id,
                                 const std::string& cause, bool anew) {
  std::int64_t count = 0;
  std::int64_t after = 0;
  for (bool more = true; more;) {
    store_.write([&](Session& session) {
      std::vector<Due> due;
      std::string sql =
          "SELECT o.id, o.connection_id, o.odoo_connection_id, o.revision FROM market_order o JOIN connection c ON "
          "c.id "
          "= o.connection_id WHERE o.odoo_connection_id > 0 AND o.version > 0 AND c.name = $1 AND o.id > $2";
      std::vector<Param> params{std::string_view(connection), after};
      if (id > 0) {
        params.emplace_back(id);
        sql += " AND o.id = $3";
      } else {
        sql += " AND o.state = 'held'";
        if (!code.empty()) {
          params.emplace_back(std::string_view(code));
          sql += " AND o.hold_code = $3";
        }
      }
      sql += " ORDER BY o.id LIMIT 500";
      session.query(sql, params, [&](const Row& row) { due.push_back(due_of(row)); });
      more = due.size() == 500;
      again(session, due, cause, cause);
      if (id > 0) {
        const bool opened = open_again(session, id, cause);
        // Of one without an Odoo `adopt` makes the job, when that is there.
        if (due.empty() && opened) ++count;
        if (anew && !due.empty())
          session.execute("UPDATE market_order SET anew_revision = revision WHERE id = $1", {id});
      }
      count += static_cast<std::int64_t>(due.size());
      if (!due.empty()) after = due.back().id;
    });
  }
  return count;
}

std::int64_t MarketOrders::adopt(const Owner& owner) {
  if (owner.odoo_connection_id == 0) return 0;
  std::int64_t count = 0;
  std::vector<Due> due;
  const auto look = [&](Session& session) {
    due.clear();
    session.query(
        "SELECT id, connection_id, odoo_connection_id, revision FROM market_order WHERE connection_id = $1 AND state "
        "IN "
        "('new', 'held') AND odoo_id = 0 AND odoo_connection_id <> $2 AND version > 0 ORDER BY id",
        {owner.connection_id, owner.odoo_connection_id}, [&](const Row& row) { due.push_back(due_of(row)); });
  };
  store_.read(look);
  if (due.empty()) return 0;
  store_.write([&](Session& session) {
    look(session);
    for (auto& one : due) one.odoo_connection_id = owner.odoo_connection_id;
    count = again(session, due, "its Odoo is there now");
    for (const auto& one : due)
      session.execute("UPDATE market_order SET odoo_connection_id = $2 WHERE id = $1",
                      {one.id, one.odoo_connection_id});
  });
  return count;
}

std::vector<std::string> MarketOrders::imported(std::int64_t connection_id) {
  std::vector<std::string> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query("SELECT external_id FROM market_order WHERE connection_id = $1 AND odoo_id > 0 ORDER BY id",
                  {connection_id}, [&](const Row& row) { out.emplace_back(row.text(0)); });
  });
  return out;
}

std::int64_t MarketOrders::try_again(std::int64_t limit) {
  std::int64_t count = 0;
  bool any = false;
  store_.read([&](Session& session) {
    const std::int64_t now = to_us(session.now());
    any = session.first(
        "SELECT 1 FROM market_order WHERE state = 'held' AND hold_next_us <= $1 AND odoo_connection_id > "
        "0 LIMIT 1",
        {now}, [](const Row&) {});
  });
  if (!any) return 0;
  store_.write([&](Session& session) {
    session.lock("market orders that are tried again");
    const Time now = session.now();
    std::vector<Due> due;
    session.query(
        "SELECT id, connection_id, odoo_connection_id, revision FROM market_order WHERE state = 'held' AND "
        "hold_next_us "
        "<= $1 AND odoo_connection_id > 0 ORDER BY hold_next_us LIMIT $2",
        {to_us(now), limit}, [&](const Row& row) { due.push_back(due_of(row)); });
    std::sort(due.begin(), due.end(), [](const Due& a, const Due& b) { return a.id < b.id; });
    count = again(session, due, "held, and tried again by itself");
  });
  return count;
}

}  // namespace dragoman::pipeline
