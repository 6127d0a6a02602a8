#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "access/sealed.h"
#include "base/secret.h"
#include "jobs/job.h"
#include "pipeline/market_jobs.h"
#include "pipeline/order_book.h"
#include "pipeline/status_rules.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// The flow of what tells marketplaces how their orders stand.
inline constexpr const char* kStatusFlow = "status";

/// An order, as far as it matters for what its marketplace is told of it.
struct StatusRow {
  std::int64_t id = 0, connection_id = 0, odoo_connection_id = 0, odoo_id = 0, revision = 0, applied_revision = 0;
  std::string external_id, number, status, market_state, delivered_by, state;
  std::string applied_state;  ///< as MarketOrderRow
  bool needs_otp = false;
  std::string otp_sealed;       ///< the code that a person gave; empty: none
  std::int64_t otp_number = 0;  ///< which one it is
  std::string facts;            ///< as facts_json; empty: nothing is known yet
  std::string derived, accepted;
  std::optional<Time> accepted_at, read;
  std::string sync_status, sync_code, sync_message;
  std::int64_t tries = 0;
  std::string marked;
  std::optional<Time> synced;  ///< when the marketplace answered last
  std::string total;           ///< the marketplace's
  std::string accepted_word;   ///< `accepted` in its own word
  bool met = false;            ///< it was in Odoo before it came in first: who cancelled it there is not known

  StatusCase to_decide() const;
  /// What it took later than it was read last, in its own word; empty: nothing.
  std::string taken_word() const {
    return !accepted.empty() && accepted_at && (!read || *read <= *accepted_at) ? accepted_word : std::string();
  }
  /// What Odoo is to show, in one text to compare.
  std::string mark() const { return sync_status + "\n" + (synced ? format_odoo(*synced) : "") + "\n" + sync_message; }
};

/// `sync_code` of an order whose code the marketplace refused.
inline constexpr std::string_view kCodeRefused = "otp_refused";

/// What becomes of orders in Odoo, told to the marketplaces that they came from.
///
/// Threads: safe from any thread; functions with a Session as that one.
class MarketStatus {
 public:
  /// Keeps how these orders stand in Odoo now, and enqueues what their marketplaces are to be told, in the caller's
  /// transaction. The same may be told again and again. Orders that the hub does not know are passed over.
  void note(store::Session& session, std::span<const MarketShop> shops, std::span<const OrderFacts> orders);

  /// Enqueues what is to be told of an order whose import has just ended, in the transaction that ended it and after
  /// its row was written: how it stands in Odoo may have been noted before that.
  static void imported(store::Session& session, const MarketShop& shop, std::int64_t order_id);

  static std::optional<StatusRow> find(store::Session& session, std::int64_t order_id);
  static jobs::Enqueued enqueue(store::Session& session, std::int64_t connection_id, std::int64_t order_id,
                                const StatusAsked& asked, const std::string& cause);
  /// Keeps the code that the marketplace wants with `delivered`, sealed, and lets it be told.
  static jobs::Enqueued give_otp(store::Session& session, const access::KeyRing& keys, const StatusRow& row,
                                 const Secret& otp, const std::string& cause);
  /// The code that a person gave. Errors: as KeyRing::open.
  static Secret otp(const access::KeyRing& keys, const StatusRow& row);
  /// The order's code is gone if it is still this one (`StatusRow::otp_number`).
  static void drop_otp(store::Session& session, std::int64_t order_id, std::int64_t number);
  /// Seals the codes anew that are not sealed with the newest key; for KeyRing::rotate, whose lock the caller holds.
  /// How many. Errors: as KeyRing::open.
  static std::int64_t reseal_otps(store::Session& session, const access::KeyRing& keys);
  /// Seals the codes that an earlier version kept as text. How many.
  static std::int64_t seal_plain_otps(store::Store& store, const access::KeyRing& keys);
  /// Writes down what was decided about an order, where that is news: for the order's page, its story, people, and the
  /// order in Odoo.
  static void settle(store::Session& session, const std::string& connection, const StatusRow& row,
                     const StatusDecision& decision, std::int64_t job_id = 0);
  /// Enqueues the jobs that write into Odoo how marketplaces were told of its orders. How many.
  static std::int64_t enqueue_marks(store::Store& store, std::int64_t limit);
};

/// As it is kept with the order: JSON with `state`, `locked`, `delivered`, `shipped`, `lines` and `pickings`, or
/// `{"deleted":true}`.
std::string facts_json(const OrderFacts& facts);

}  // namespace dragoman::pipeline
