#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "jobs/job.h"
#include "pipeline/capture_store.h"
#include "pipeline/market_content.h"
#include "pipeline/marketplace.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// The model under which every version of a marketplace's orders is captured.
inline constexpr const char* kOrderModel = "order";
/// What `market_product.how` begins with where a person has linked it; behind it who.
inline constexpr std::string_view kLinkedBy = "person:";
/// The flow of what brings orders in.
inline constexpr const char* kOrdersFlow = "orders";

/// `applied_state` from before a cancellation is sent to Odoo until it is known how that ended.
inline constexpr std::string_view kCancelling = "cancelling";
/// The flag of an order whose shop has another address or phone since it went to Odoo, where contacts stay as they are.
inline constexpr const char* kContactChanged = "contact_changed";
/// The flag of an order that is delivered in Odoo for another total than the marketplace's.
inline constexpr const char* kTotalDiffers = "total_differs";
/// `odoo_state` of an order that somebody has deleted in Odoo.
inline constexpr std::string_view kDeletedInOdoo = "deleted";

/// An order as the hub knows it: what the marketplace says, how far it is, and what Odoo made of it.
struct MarketOrderRow {
  std::int64_t id = 0;
  std::int64_t connection_id = 0;
  std::string connection, external_id, number, customer, customer_key, status, market_state, delivered_by, payment;
  std::string total, currency;
  std::optional<Time> ordered;
  Time seen{}, changed{};
  std::int64_t version = 0, revision = 0, applied_revision = 0, done_version = 0;
  std::string applied_state, applied_body;
  bool edited = false;
  std::string state;  ///< as stored, and `closed` where a person has closed it
  std::string hold_code, hold_message;
  std::optional<Time> held_since, hold_next;
  std::int64_t hold_tries = 0;
  std::int64_t odoo_connection_id = 0, odoo_id = 0;
  std::string odoo_name, odoo_state, odoo_total;
  std::optional<Time> imported;
  std::string ack;
  std::int64_t ack_tries = 0;
  std::optional<Time> acked;
  std::string sync_status, sync_message;
  std::optional<Time> synced;
  bool needs_otp = false;
  std::string flag, flag_message;
  std::string sync_code;                        ///< why the marketplace is not told, in a word
  std::string derived_status, accepted_status;  ///< what it should be told, and what it took last
  std::optional<Time> closed;
  std::string closed_why;             ///< by whom, and why
  std::int64_t anew_revision = 0;     ///< above `applied_revision`: it is made anew if it was deleted in Odoo
  std::string status_now, means_now;  ///< `status` and `market_state`, or what it took later than it was read last
  std::string applied_customer;       ///< `customer_key` of the version that went in last; empty: not known
  std::int64_t settled_version = 0;   ///< of this one Odoo's order is left as it is, but for what the state does

  bool is_closed() const { return closed.has_value(); }
  bool is_made_anew() const { return anew_revision > applied_revision; }
  bool is_settled() const { return settled_version == version; }
  /// It was there, and somebody has deleted it in Odoo since.
  bool is_deleted() const { return odoo_state == kDeletedInOdoo; }
};

/// Orders of marketplaces in the store.
///
/// Threads: safe from any thread; functions with a Session as that one.
class MarketOrders {
 public:
  MarketOrders(store::Store& store, Clock& clock) : store_(store), capture_(store, clock) {}

  struct Owner {
    std::int64_t connection_id = 0;
    std::int64_t odoo_connection_id = 0;  ///< 0: there is none such; its orders are held
    std::string connection, kind, odoo, currency;
    Micros hold_retry = std::chrono::minutes(5);
  };
  struct Stored {
    std::int64_t created = 0, changed = 0, unchanged = 0, acknowledge_again = 0;
    Stored& operator+=(const Stored& other);
  };
  /// Keeps what is new or different of a page whose reading began at `begun` by the database's clock, each version byte
  /// for byte, and in the same transaction enqueues the jobs that import it. What was acknowledged and is listed all
  /// the same is acknowledged once more, by itself. Writes nothing for what is known and unchanged.
  Stored store_page(const Owner& owner, std::span<const Marketplace::RawOrder> orders,
                    const std::function<MarketOrder(std::string_view)>& parse, Time begun);

  struct Loaded {
    MarketOrderRow row;
    std::string body;
  };
  /// nullopt: it is gone. The newest version.
  std::vector<std::optional<Loaded>> load(std::span<const std::int64_t> ids);
  /// By the marketplace's ids.
  std::map<std::string, MarketLink> links(std::int64_t connection_id, std::span<const std::string> products);

  struct Filter {
    std::string connection, state, delivered_by, sync_status, market_state, hold_code, odoo_state,
        text;                 ///< empty: all
    bool flagged = false;     ///< only those with something that a person should see to
    bool wants_code = false;  ///< only those that wait for the code that a shop has
    std::int64_t before = 0;  ///< ids below it; 0: from the newest
    std::int64_t limit = 100;
  };
  /// Newest first.
  std::vector<MarketOrderRow> list(const Filter& filter);
  /// By the hub's own number, the marketplace's id or its number. Throws not_found, or conflict if several are meant.
  MarketOrderRow get(const std::string& connection, const std::string& which);

  /// How a connection's orders stand.
  struct Standing {
    std::int64_t connection_id = 0;
    std::string connection, connection_state, reason;
    std::int64_t waiting = 0, held = 0, due_acks = 0, flagged = 0;
    std::int64_t not_told = 0;    ///< whose status the marketplace did not take, or could not be told
    std::int64_t wants_code = 0;  ///< that wait for the code that a shop has
    std::string trouble;          ///< why what changes in its Odoo can't be seen at the moment; empty: it is seen
    std::optional<Time> oldest_waiting, oldest_held;
    std::optional<Time> pulled;  ///< when the last pull that came to its end began
  };
  /// Of the connections that have orders or were pulled.
  std::vector<Standing> standings();

  struct HoldGroup {
    std::string connection, code, message;
    std::int64_t orders = 0;
    std::optional<Time> oldest;
    std::string example;  ///< the one that waits longest; `message` is about it
  };
  /// Orders that are held, by what holds them; the most first.
  std::vector<HoldGroup> holds(const std::string& connection);
  /// Lets these be tried again now: `id`, held or not, which opens it if a person has closed it, or all that are held
  /// (by `code`). `anew`: the order `id` is made anew, once, if somebody has deleted it in Odoo. How many.
  std::int64_t retry(const std::string& connection, const std::string& code, std::int64_t id, const std::string& cause,
                     bool anew = false);
  /// A person does not want the order in Odoo: it is not imported any more, nothing waits for it, and the marketplace
  /// is told that it was dealt with. `key`: of the order in Odoo. Throws conflict if it is in Odoo, may be there by
  /// now, or is closed already.
  void close(const MarketOrderRow& row, const std::string& key, const std::string& by, const std::string& why);
  /// A person leaves the order in Odoo as it is there, though the marketplace says otherwise of its lines or amounts:
  /// its newest version is tried again with its state alone, and counts as dealt with. Throws conflict if it is not
  /// held, not in Odoo, or held for its state.
  void settle(const MarketOrderRow& row, const std::string& by, const std::string& why);
  /// It was sent to Odoo under this key, and no answer has come yet.
  bool may_be_in_odoo(const MarketOrderRow& row, const std::string& key);
  struct Unfinished {
    std::int64_t job_id = 0;
    bool dead = false;  ///< a dead letter
  };
  /// The jobs of an order that have not begun.
  std::vector<Unfinished> unfinished(const MarketOrderRow& row);
  /// Enqueues the orders that came while the Odoo they go to was not there, or another one. How many.
  std::int64_t adopt(const Owner& owner);
  /// Enqueues what is held and whose time has come. How many.
  std::int64_t try_again(std::int64_t limit);

  /// The marketplace's ids of a connection's orders that are in an Odoo.
  std::vector<std::string> imported(std::int64_t connection_id);

  struct Event {
    Time at{};
    std::string what, message;
    std::int64_t job_id = 0;  ///< 0: none
  };
  /// What happened to it, oldest first; of very many the newest.
  std::vector<Event> story(std::int64_t id, std::int64_t limit = 500);
  static void tell(store::Session& session, std::int64_t id, std::string_view what, std::string_view message,
                   std::int64_t job_id = 0);

  /// Why an order is not imported, in the transaction that ends its job. `retry`: how soon it is tried again by itself,
  /// twice as long with each time; 0: not before something happens.
  static void hold(store::Session& session, const MarketOrderRow& row, const Error& why, Micros retry,
                   std::int64_t job_id = 0);
  /// Tells people, in the transaction that sets it, of a flag that the order did not have.
  static void tell_of_flag(store::Session& session, const MarketOrderRow& row, const std::string& flag,
                           const std::string& message);
  /// Flags an order that has no flag yet, and tells people; the story has it in any case.
  static void raise_flag(store::Session& session, std::int64_t id, const std::string& flag, const std::string& message);
  /// Takes the flag off an order, for a person who saw to it; the story keeps it. Throws conflict if there is none.
  void resolve(const MarketOrderRow& row, const std::string& by, const std::string& note);
  /// Enqueues the acknowledgement of an order whose newest version has been dealt with.
  static void enqueue_ack(store::Session& session, std::int64_t connection_id, std::int64_t id, bool single,
                          const std::string& cause);
  static void enqueue_import(store::Session& session, std::int64_t odoo_connection_id, std::int64_t connection_id,
                             std::int64_t id, const std::string& cause,
                             jobs::Priority priority = jobs::Priority::normal);
  /// When the oldest order was made that may still change at the marketplace: it is neither delivered, cancelled nor
  /// returned there, and no person has closed it. Of those whose time is known.
  static std::optional<Time> oldest_open(store::Session& session, std::int64_t connection_id);
  /// The revision after `before`, by the clock of the database.
  static std::int64_t next_revision(store::Session& session, std::int64_t before);

  static std::optional<std::string> cursor(store::Session& session, std::int64_t connection_id,
                                           const std::string& name);
  static void set_cursor(store::Session& session, std::int64_t connection_id, const std::string& name,
                         const std::string& value);

  store::Store& store() { return store_; }
  CaptureStore& capture() { return capture_; }

 private:
  std::int64_t model_of(std::int64_t connection_id);
  /// That a version says otherwise of its shop (as contact_changes), for the story and, while that matters to who
  /// delivers, for people. The contact in Odoo stays as people keep it.
  static void note_contact(store::Session& session, const Owner& owner, const std::string& external_id, std::int64_t id,
                           const MarketOrder& order, const std::string& changes);

  store::Store& store_;
  CaptureStore capture_;
};

}  // namespace dragoman::pipeline
