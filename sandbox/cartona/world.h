#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sandbox/cartona/switches.h"
#include "sandbox/cartona/values.h"

namespace sandbox::cartona {

/// Why something asked for was not done, with the status it is answered with (0: as the switch refused_status says).
struct Refusal {
  std::string why;
  int status = 0;
};

/// What the control surface was asked for and cannot do; the text is for the caller.
struct ControlError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Product {
  std::string supplier_product_id;
  std::string internal_product_id;
  std::string base_product_id;
  std::string name;
  std::string unit = "piece";
  std::int64_t unit_count = 1;
  std::string barcode;
  Figure selling_price = 0;
  Figure median_price = 0;
  Figure tax_percentage = 0;
  std::int64_t stock = 0;
  std::int64_t sold = 0;
  std::optional<std::int64_t> min_order, max_order, remind_me_at_stock;
  bool in_stock = true;
  bool is_published = true;
  bool is_unlimited_stock = false;
  std::string notes;
  /// When each figure was set to what it is, and by how many writes of the client.
  Moment price_at = 0, stock_at = 0, flags_at = 0;
  std::int64_t price_writes = 0, stock_writes = 0, flags_writes = 0;
};

struct Supplier;

/// What one supplier_code of a supplier sells.
struct Account {
  Supplier* supplier = nullptr;
  std::string code;
  std::vector<std::unique_ptr<Product>> products;
  std::unordered_map<std::string, Product*> by_id;
  std::unordered_map<std::string, std::vector<Product*>> by_code;

  Product* find(const std::string& supplier_product_id) const;
  Product* find_code(const std::string& internal_product_id) const;
};

struct Line {
  std::int64_t id = 0;
  std::string supplier_product_id, internal_product_id, base_product_id;
  std::string unit;
  std::int64_t unit_count = 1;
  std::string product_name;
  Figure amount = 0;
  Figure selling_price = 0;
  Figure supplier_discount = 0, cartona_discount = 0;
  std::string comment;
};

struct Retailer {
  std::string name, code, number, number2, address, address_notes;
};

struct Order {
  std::uint64_t seq = 0;
  std::string hashed_id;
  std::uint64_t receipt = 0;
  Supplier* supplier = nullptr;
  std::string supplier_code;
  std::string status = "pending";
  std::string delivered_by = "delivered_by_supplier";
  bool edited_by_admin = false;
  std::string delivery_day, estimated_delivery_day, pickup_date, retailer_preferred_delivery_date;
  std::string pickup_otp;
  std::string cancellation_reason, return_reason;
  Figure cartona_credit = 0, installment_cost = 0, wallet_top_up = 0, applied_supplier_rebate = 0;
  std::string distribution_route_code, note_message;
  Retailer retailer;
  std::vector<Line> lines;
  Json raw = nullptr;  ///< keys that are written as they stand here, whatever the order is

  std::string retailer_otp;  ///< what the shop would say
  int wrong_otps = 0;

  Moment created_at = 0, changed_at = 0, visible_at = 0;
  std::uint64_t version = 1;         ///< of what the supplier sees
  std::uint64_t pulled_version = 0;  ///< last answered
  bool acked = false;
  std::int64_t pulls = 0, acks = 0;
  Moment first_pulled_at = 0, last_pulled_at = 0, acked_at = 0;

  bool needs_otp() const { return installment_cost > 0 || wallet_top_up > 0; }
  Figure total() const;
};

/// What an account does when it is dead.
enum class Dead { no, closed, reset, hang, error };

/// One who has a token: one or several accounts.
struct Supplier {
  std::string name;
  std::set<std::string> tokens;
  std::map<std::string, std::unique_ptr<Account>> accounts;  // by supplier_code
  Dead dead = Dead::no;
  std::vector<Order*> orders;  // in order of creation
  std::uint64_t walks = 0;
  std::map<std::string, std::vector<Order*>> fixed_lists;  // of the walks, by what was asked
  Moment minute = 0;
  std::int64_t in_minute = 0;

  Account* account(const std::string& code) const;
};

/// Something that happened to an order.
struct LedgerEntry {
  std::uint64_t seq = 0;
  Moment at = 0;
  const Order* order = nullptr;
  std::string what;  // created, status, lines, acked, refused
  std::string from, to;
  std::string by;   // supplier, shop, driver, cartona, admin
  std::string how;  // single, bulk, control, scenario
};

/// A figure of a product that the client set.
struct WriteEntry {
  std::uint64_t seq = 0;
  Moment at = 0;
  const Account* account = nullptr;
  const Product* product = nullptr;
  std::string field, from, to;
};

/// Who does something, and by which way it came.
struct Actor {
  std::string_view by;
  std::string_view how;
};

/// Suppliers, products, orders, and what may become of them. Threads: one at a time.
class World {
 public:
  explicit World(std::uint64_t seed) : seed_(seed) {}

  Switches switches;

  Moment now() const { return frozen_ ? *frozen_ : now_of_machine() + offset_; }
  void set_clock(Moment offset) {
    offset_ = offset;
    frozen_.reset();
  }
  void freeze_clock(Moment at) { frozen_ = at; }
  std::optional<Moment> frozen() const { return frozen_; }
  std::uint64_t seed() const { return seed_; }

  Supplier& add_supplier(const std::string& name, const std::vector<std::string>& tokens,
                         const std::vector<std::string>& codes);
  Supplier* supplier(std::string_view name);
  Supplier* supplier_of_token(const std::string& token);
  const std::vector<std::unique_ptr<Supplier>>& suppliers() const { return suppliers_; }

  /// Adds a product, or changes the one with the same supplier_product_id. Keys as on the wire, and Odoo's own
  /// (default_code, list_price, qty_available, name, id). An id is made if none is given.
  Product& put_product(Account& account, const Json& row);

  /// Takes an order in, with an id if it has none, and the supplier's ids for its lines.
  Order& add_order(Order order, Actor actor);
  Order* find_order(const std::string& hashed_id);
  const std::vector<std::unique_ptr<Order>>& orders() const { return orders_; }

  // What the supplier may do. nullopt: done.
  std::optional<Refusal> supplier_status(Supplier& supplier, const Json& row, const std::string& id_in_path, bool check,
                                         Actor actor);
  std::optional<Refusal> supplier_details(Supplier& supplier, const Json& row, bool check, Actor actor);
  std::optional<Refusal> supplier_product(Supplier& supplier, const Json& row, bool check);
  std::optional<Refusal> supplier_base_stock(Supplier& supplier, const Json& row, bool check);

  // What others do; they ask nobody.
  void set_status(Order& order, const std::string& status, Actor actor);
  /// `changes` as the supplier's own: change, add, cancel lines. Throws ControlError.
  void change_lines(Order& order, const Json& changes, Actor actor);
  /// Counts as a change that the supplier has to see.
  void touched(Order& order, bool status_changed, Actor actor);
  void note(const Order& order, std::string what, std::string from, std::string to, Actor actor);

  /// The orders of one page of a pull, in their order; some may stand there twice. nullopt: a page past the end
  /// that is an error.
  struct Pull {
    std::optional<Moment> from, to;
    std::size_t page = 1, per_page = 25;
    std::string what;  ///< the query without the page, by which a walk is known
  };
  std::optional<std::vector<Order*>> pull(Supplier& supplier, const Pull& asked);

  /// All that a later start goes on from; and goes on from it, in place of what is there. Throws what is wrong with it.
  Json state() const;
  void take_up(const Json& state);

  void clear_orders();
  void clear_products();
  void clear_suppliers();
  void forget_writes() { writes_.clear(); }

  const std::deque<LedgerEntry>& ledger() const { return ledger_; }
  const std::deque<WriteEntry>& writes() const { return writes_; }

 private:
  std::string new_hashed_id();
  Line line_from(Supplier& supplier, const Order& order, const Json& row) const;
  std::optional<std::string> apply_changes(Order& order, const Json& changes, std::vector<Line>& lines, bool control);
  std::vector<Product*> products_of(Supplier& supplier, const Json& row, std::string& why) const;
  void record_write(Account& account, Product& product, const char* field, std::string from, std::string to);
  Account& account_of(Product& product);

  std::uint64_t seed_;
  Moment offset_ = 0;
  std::optional<Moment> frozen_;
  std::vector<std::unique_ptr<Supplier>> suppliers_;
  std::vector<std::unique_ptr<Order>> orders_;
  std::unordered_map<std::string, Order*> by_hashed_id_;
  std::deque<LedgerEntry> ledger_;
  std::deque<WriteEntry> writes_;
  std::uint64_t next_ledger_ = 1;
  std::uint64_t next_write_ = 1;
  std::uint64_t ids_made_ = 0;
  std::uint64_t next_receipt_ = 1'000'001;
  std::int64_t next_line_ = 9'001;
  std::int64_t next_product_ = 70'001;
};

/// Both spellings of a JSON value that names something: "700" and 700.
std::string id_text(const Json& row, const char* key);

bool is_final(std::string_view status);

}  // namespace sandbox::cartona
