#include "sandbox/cartona/world.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>

namespace sandbox::cartona {

namespace {

constexpr std::size_t kLedgerMax = 2'000'000;

constexpr std::array kReasons = {"out_of_stock",
                                 "cannot_deliver_the_order",
                                 "supplier_asked_me_to_cancel",
                                 "delayed_order",
                                 "pending_order_without_action",
                                 "removed_items",
                                 "supplier_attitude",
                                 "missing_items",
                                 "expired_products",
                                 "different_prices",
                                 "different_products"};

template <class List>
bool holds(const List& list, std::string_view word) {
  return std::find(std::begin(list), std::end(list), word) != std::end(list);
}

/// How far an order has come; -1: on no such way.
int rank(std::string_view status) {
  if (status == "pending") return 0;
  if (status == "approved") return 1;
  if (status == "assigned_to_salesman") return 2;
  if (status == "delivered") return 3;
  return -1;
}

std::string text_at(const Json& row, const char* key) {
  const auto found = row.find(key);
  return found != row.end() && found->is_string() ? found->get<std::string>() : std::string();
}

bool is_date(const Json& value) {
  return value.is_string() && value.get_ref<const std::string&>().size() == 10 &&
         parse_moment(value.get<std::string>());
}

double share(std::uint64_t seed, std::uint64_t order, std::uint64_t walk) {
  return dice_for(seed, order, walk).unit();
}

std::string shown(Figure value) {
  std::string text;
  append_figure(text, value, FigureForm::natural);
  return text;
}

std::optional<std::int64_t> whole_at(const Json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || !found->is_number()) return std::nullopt;
  const double value = found->get<double>();
  if (!(value > -1e12 && value < 1e12)) return std::nullopt;
  return static_cast<std::int64_t>(value);
}

}  // namespace

std::string id_text(const Json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return std::to_string(found->get<std::int64_t>());
  return {};
}

bool is_final(std::string_view status) {
  return status == "delivered" || status == "returned" || status.starts_with("cancelled");
}

Product* Account::find(const std::string& supplier_product_id) const {
  const auto found = by_id.find(supplier_product_id);
  return found == by_id.end() ? nullptr : found->second;
}

Product* Account::find_code(const std::string& internal_product_id) const {
  const auto found = by_code.find(internal_product_id);
  return found == by_code.end() || found->second.empty() ? nullptr : found->second.front();
}

Figure Order::total() const {
  Figure sum = 0;
  for (const auto& line : lines) sum += times(line.selling_price, line.amount);
  return sum;
}

Account* Supplier::account(const std::string& code) const {
  const auto found = accounts.find(code);
  return found == accounts.end() ? nullptr : found->second.get();
}

// ---------------------------------------------------------------- suppliers and products

Supplier& World::add_supplier(const std::string& name, const std::vector<std::string>& tokens,
                              const std::vector<std::string>& codes) {
  if (name.empty() || codes.empty()) throw ControlError("an account needs a name and at least one supplier_code");
  if (supplier(name) != nullptr) throw ControlError("there is an account '" + name + "' already");
  for (const auto& token : tokens)
    if (supplier_of_token(token) != nullptr) throw ControlError("another account has the token of '" + name + "'");
  auto& made = *suppliers_.emplace_back(std::make_unique<Supplier>());
  made.name = name;
  made.tokens = {tokens.begin(), tokens.end()};
  for (const auto& code : codes) {
    auto account = std::make_unique<Account>();
    account->supplier = &made;
    account->code = code;
    made.accounts[code] = std::move(account);
  }
  return made;
}

Supplier* World::supplier(std::string_view name) {
  for (const auto& each : suppliers_)
    if (each->name == name) return each.get();
  return nullptr;
}

Supplier* World::supplier_of_token(const std::string& token) {
  if (token.empty()) return nullptr;
  for (const auto& each : suppliers_)
    if (each->tokens.contains(token)) return each.get();
  return nullptr;
}

Product& World::put_product(Account& account, const Json& row) {
  if (!row.is_object()) throw ControlError("a product must be an object");
  const auto text = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys)
      if (std::string value = id_text(row, key); !value.empty()) return value;
    return std::string();
  };
  const auto figure = [&](std::initializer_list<const char*> keys) -> std::optional<Figure> {
    for (const char* key : keys)
      if (const auto found = row.find(key); found != row.end())
        if (const auto value = figure_of(*found)) return value;
    return std::nullopt;
  };
  std::string id = text({"supplier_product_id"});
  Product* product = id.empty() ? nullptr : account.find(id);
  if (product == nullptr) {
    if (id.empty()) id = std::to_string(next_product_++);
    account.products.push_back(std::make_unique<Product>());
    product = account.products.back().get();
    product->supplier_product_id = id;
    product->base_product_id = std::to_string(8000 + account.products.size());
    product->price_at = product->stock_at = product->flags_at = now();
    account.by_id[id] = product;
  }
  // Odoo's rows say false for a text that is not there; its own id is the last resort for a code.
  std::string code = text({"internal_product_id", "default_code"});
  if (code.empty() && !row.contains("internal_product_id") && product->internal_product_id.empty()) code = text({"id"});
  if (!code.empty() && code != product->internal_product_id) {
    auto& before = account.by_code[product->internal_product_id];
    before.erase(std::remove(before.begin(), before.end(), product), before.end());
    product->internal_product_id = code;
    account.by_code[code].push_back(product);
  }
  if (const auto value = text({"base_product_id"}); !value.empty()) product->base_product_id = value;
  if (const auto value = text({"product_name", "name", "display_name"}); !value.empty()) product->name = value;
  if (const auto value = text({"unit"}); !value.empty()) product->unit = value;
  if (const auto value = text({"barcode"}); !value.empty()) product->barcode = value;
  if (const auto value = text({"notes"}); !value.empty()) product->notes = value;
  if (const auto value = whole_at(row, "unit_count")) product->unit_count = std::max<std::int64_t>(1, *value);
  if (const auto value = figure({"selling_price", "list_price", "lst_price"})) product->selling_price = *value;
  if (const auto value = figure({"median_price"})) product->median_price = *value;
  if (const auto value = figure({"tax_percentage"})) product->tax_percentage = *value;
  if (const auto value = figure({"available_stock_quantity", "free_qty", "qty_available"}))
    product->stock = *value / kOne;
  if (const auto value = whole_at(row, "min_order")) product->min_order = value;
  if (const auto value = whole_at(row, "max_order")) product->max_order = value;
  if (const auto value = whole_at(row, "remind_me_at_stock")) product->remind_me_at_stock = value;
  const auto flag = [&](const char* key, bool& value) {
    if (const auto found = row.find(key); found != row.end() && found->is_boolean()) value = found->get<bool>();
  };
  flag("in_stock", product->in_stock);
  flag("is_published", product->is_published);
  flag("is_unlimited_stock", product->is_unlimited_stock);
  return *product;
}

// ---------------------------------------------------------------- orders come to be

std::string World::new_hashed_id() {
  static constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  for (;;) {
    Dice dice = dice_for(seed_, 0x1d, ++ids_made_);
    std::string id;
    if (switches.is(Switch::hashed_id, "digits")) {
      id = std::to_string(10'000'000'000ULL + dice.next() % 90'000'000'000ULL);
    } else if (ids_made_ % 40 == 0 && !orders_.empty()) {
      // The same letters as an earlier one in the other case: who folds case merges two orders.
      id = orders_.back()->hashed_id;
      for (char& c : id)
        if (std::isalpha(static_cast<unsigned char>(c)) != 0) c = static_cast<char>(c ^ 0x20);
    } else {
      for (int i = 0; i < 8; ++i) id += kLetters[dice.below(62)];
    }
    if (!by_hashed_id_.contains(id)) return id;
  }
}

Order& World::add_order(Order order, Actor actor) {
  if (order.supplier == nullptr) throw ControlError("an order needs an account");
  if (order.hashed_id.empty()) order.hashed_id = new_hashed_id();
  if (by_hashed_id_.contains(order.hashed_id)) {
    throw ControlError("there is an order '" + order.hashed_id + "' already");
  }
  order.seq = orders_.size() + 1;
  if (order.receipt == 0) order.receipt = next_receipt_++;
  if (order.created_at == 0) order.created_at = now();
  order.changed_at = std::max(order.changed_at, order.created_at);
  order.visible_at = std::max(order.visible_at, order.created_at);
  for (auto& line : order.lines) {
    if (line.id == 0) line.id = next_line_++;
  }
  if (order.needs_otp() && order.retailer_otp.empty()) {
    char otp[8];
    std::snprintf(otp, sizeof otp, "%06u", static_cast<unsigned>(dice_for(seed_, 0x07, order.seq).below(1'000'000)));
    order.retailer_otp = otp;
  }
  if (switches.is(Switch::orders_take_stock, "yes")) {
    if (Account* account = order.supplier->account(order.supplier_code)) {
      for (const auto& line : order.lines) {
        if (Product* product = account->find(line.supplier_product_id)) {
          product->stock = std::max<std::int64_t>(0, product->stock - line.amount / kOne);
          product->sold += line.amount / kOne;
        }
      }
    }
  }
  auto& made = *orders_.emplace_back(std::make_unique<Order>(std::move(order)));
  by_hashed_id_[made.hashed_id] = &made;
  made.supplier->orders.push_back(&made);
  note(made, "created", "", made.status, actor);
  return made;
}

Order* World::find_order(const std::string& hashed_id) {
  const auto found = by_hashed_id_.find(hashed_id);
  return found == by_hashed_id_.end() ? nullptr : found->second;
}

// ---------------------------------------------------------------- what happens to them

void World::note(const Order& order, std::string what, std::string from, std::string to, Actor actor) {
  ledger_.push_back({next_ledger_++, now(), &order, std::move(what), std::move(from), std::move(to),
                     std::string(actor.by), std::string(actor.how)});
  if (ledger_.size() > kLedgerMax) ledger_.pop_front();
}

void World::touched(Order& order, bool status_changed, Actor actor) {
  const bool own = actor.by == "supplier";
  const bool seen = order.pulled_version == order.version;
  ++order.version;
  order.changed_at = now();
  bool returns;
  if (own) {
    returns = switches.is(Switch::own_changes_return, "yes");
    if (!returns && seen) order.pulled_version = order.version;
  } else {
    returns =
        switches.is(Switch::acked_return, "changed") || (switches.is(Switch::acked_return, "status") && status_changed);
  }
  if (returns) order.acked = false;
}

void World::set_status(Order& order, const std::string& status, Actor actor) {
  if (order.status == status) return;
  note(order, "status", order.status, status, actor);
  order.status = status;
  touched(order, true, actor);
}

Line World::line_from(Supplier& supplier, const Order& order, const Json& row) const {
  Line line;
  line.supplier_product_id = id_text(row, "supplier_product_id");
  line.internal_product_id = id_text(row, "internal_product_id");
  const Account* account = supplier.account(order.supplier_code);
  const Product* product = nullptr;
  if (account != nullptr) {
    product = !line.supplier_product_id.empty() ? account->find(line.supplier_product_id)
                                                : account->find_code(line.internal_product_id);
  }
  if (product != nullptr) {
    line.supplier_product_id = product->supplier_product_id;
    line.internal_product_id = product->internal_product_id;
    line.base_product_id = product->base_product_id;
    line.unit = product->unit;
    line.unit_count = product->unit_count;
    line.product_name = product->name;
    line.selling_price = product->selling_price;
  }
  return line;
}

std::optional<std::string> World::apply_changes(Order& order, const Json& changes, std::vector<Line>& lines,
                                                bool control) {
  if (!changes.is_array() || changes.empty()) return "order_details must be a list of lines";
  for (const auto& change : changes) {
    if (!change.is_object()) return "a line must be an object";
    const auto price = change.contains("price") ? figure_of(change["price"]) : std::nullopt;
    const auto amount = change.contains("amount") ? figure_of(change["amount"]) : std::nullopt;
    if (change.contains("price") && (!price || *price < 0)) return "price must be a number of 0 or more";
    if (change.contains("amount") && (!amount || (!control && *amount <= 0))) return "amount must be above 0";
    if (change.contains("id")) {
      const std::string id = id_text(change, "id");
      const auto line =
          std::find_if(lines.begin(), lines.end(), [&](const Line& each) { return std::to_string(each.id) == id; });
      if (line == lines.end()) return "the order has no line " + id;
      if (change.value("cancelled", Json(false)) == true) {
        if (switches.is(Switch::cancelled_lines, "zero")) {
          line->amount = 0;
        } else {
          lines.erase(line);
        }
        continue;
      }
      if (!amount && !price && !change.contains("comment")) return "line " + id + " is changed in nothing";
      if (amount) line->amount = *amount;
      if (price) line->selling_price = *price;
      if (change.contains("comment")) line->comment = text_at(change, "comment");
    } else {
      Line line = line_from(*order.supplier, order, change);
      if (line.product_name.empty() && !control) return "a new line names no product of yours";
      if (!amount) return "a new line needs an amount";
      if (!price && !control) return "a new line needs a price";
      line.amount = *amount;
      if (price) line.selling_price = *price;
      line.comment = text_at(change, "comment");
      line.id = 0;
      lines.push_back(line);
    }
  }
  if (!control && std::none_of(lines.begin(), lines.end(), [](const Line& line) { return line.amount > 0; }))
    return "nothing is left of the order: cancel it instead";
  return std::nullopt;
}

void World::change_lines(Order& order, const Json& changes, Actor actor) {
  std::vector<Line> lines = order.lines;
  if (const auto why = apply_changes(order, changes, lines, true)) throw ControlError(*why);
  for (auto& line : lines) {
    if (line.id == 0 || switches.is(Switch::line_ids, "new")) line.id = next_line_++;
  }
  const std::string before = shown(order.total());
  order.lines = std::move(lines);
  note(order, "lines", before, shown(order.total()), actor);
  touched(order, false, actor);
}

// ---------------------------------------------------------------- what the supplier may do

std::optional<Refusal> World::supplier_status(Supplier& supplier, const Json& row, const std::string& id_in_path,
                                              bool check, Actor actor) {
  if (!row.is_object()) return Refusal{"a row must be an object with hashed_id and status", 0};
  std::string id = text_at(row, "hashed_id");
  if (id.empty()) id = id_in_path;
  if (id.empty()) return Refusal{"hashed_id is missing", 0};
  if (!id_in_path.empty() && id != id_in_path) return Refusal{"hashed_id is not the order in the path", 0};
  Order* const found = find_order(id);
  if (found == nullptr || found->supplier != &supplier) {
    return Refusal{"there is no order " + id, switches.is(Switch::unknown_order, "404") ? 404 : 400};
  }
  Order& order = *found;
  const std::string status = text_at(row, "status");
  const auto refuse = [&](const std::string& why) {
    if (!check) note(order, "refused", order.status, status, actor);
    return Refusal{why, 0};
  };
  if (status == "synced") {
    if (check) return std::nullopt;
    ++order.acks;
    const bool covered = switches.is(Switch::ack_covers, "current") || order.pulled_version == order.version;
    note(order, covered ? "acked" : "ack_of_an_older_version", "", "", actor);
    if (covered) {
      order.acked = true;
      order.acked_at = now();
    }
    return std::nullopt;
  }
  static constexpr std::array kSettable = {"pending", "approved", "assigned_to_salesman", "delivered",
                                           "cancelled_by_supplier"};
  const bool may_return = status == "returned" && switches.is(Switch::returned, "yes");
  if (!holds(kSettable, status) && !may_return) return refuse("status '" + status + "' cannot be set");
  for (const char* key : {"estimated_delivery_day", "delivery_day"}) {
    if (row.contains(key) && !row[key].is_null() && !is_date(row[key]))
      return refuse(std::string(key) + " must be a date as 2026-11-21");
  }
  const auto take_dates = [&] {
    if (row.contains("estimated_delivery_day")) order.estimated_delivery_day = text_at(row, "estimated_delivery_day");
    if (row.contains("delivery_day")) order.delivery_day = text_at(row, "delivery_day");
  };
  if (order.status == status) {
    if (switches.is(Switch::same_status, "refused")) return refuse("the order is " + status + " already");
    if (!check) {
      take_dates();
      note(order, "same_status", order.status, status, actor);
    }
    return std::nullopt;
  }
  if (is_final(order.status)) return refuse("the order is " + order.status + ": nothing can be changed");
  if (order.status == "editing" && switches.is(Switch::editing_writes, "refused"))
    return refuse("the shop is editing the order");
  const int now_at = order.status == "editing" ? 0 : rank(order.status);
  if (status == "returned") {
    if (order.status != "assigned_to_salesman") return refuse("only an order under way can be returned");
  } else if (status == "cancelled_by_supplier") {
    const std::string reason = text_at(row, "cancellation_reason");
    if (reason.empty() && switches.is(Switch::cancel_reason, "required"))
      return refuse("cancellation_reason is missing");
    if (!reason.empty() && !holds(kReasons, reason) && !switches.is(Switch::cancel_reason, "any"))
      return refuse("there is no cancellation_reason '" + reason + "'");
  } else {
    const int wanted = rank(status);
    if (wanted < now_at && switches.is(Switch::step_back, "no"))
      return refuse("the order is " + order.status + " already");
    if (wanted > now_at + 1 && switches.is(Switch::skip_steps, "no"))
      return refuse("an order that is " + order.status + " cannot become " + status);
    if (wanted >= 2 && order.delivered_by == "delivered_by_cartona" && switches.is(Switch::cartona_delivers, "guarded"))
      return refuse("the order is delivered by Cartona");
    if (status == "delivered" && order.needs_otp()) {
      const auto tries = static_cast<int>(switches.number(Switch::otp_tries));
      if (tries > 0 && order.wrong_otps >= tries) return refuse("too many wrong codes: ask support");
      const std::string otp = text_at(row, "retailer_otp");
      if (otp.empty()) return refuse("retailer_otp is missing: the order has an instalment or a wallet top-up");
      if (otp != order.retailer_otp) {
        if (!check) ++order.wrong_otps;
        return refuse("retailer_otp is wrong");
      }
    }
  }
  if (check) return std::nullopt;
  take_dates();
  if (status == "cancelled_by_supplier") order.cancellation_reason = text_at(row, "cancellation_reason");
  if (status == "delivered" && order.delivery_day.empty()) order.delivery_day = date_of(now());
  set_status(order, status, actor);
  return std::nullopt;
}

std::optional<Refusal> World::supplier_details(Supplier& supplier, const Json& row, bool check, Actor actor) {
  if (!row.is_object()) return Refusal{"a row must be an object with hashed_id and order_details", 0};
  const std::string id = text_at(row, "hashed_id");
  Order* const order = find_order(id);
  if (order == nullptr || order->supplier != &supplier) {
    return Refusal{"there is no order " + id, switches.is(Switch::unknown_order, "404") ? 404 : 400};
  }
  std::string why;
  if (rank(order->status) < 0 || rank(order->status) > 2) {
    if (order->status != "editing" || switches.is(Switch::editing_writes, "refused"))
      why = "the lines of an order that is " + order->status + " cannot be changed";
  }
  std::vector<Line> lines = order->lines;
  if (why.empty()) {
    const auto wrong = apply_changes(*order, row.value("order_details", Json()), lines, false);
    if (wrong) why = *wrong;
  }
  if (!why.empty()) {
    if (!check) note(*order, "refused", "", "lines", actor);
    return Refusal{why, 0};
  }
  if (check) return std::nullopt;
  for (auto& line : lines) {
    if (line.id == 0 || switches.is(Switch::line_ids, "new")) line.id = next_line_++;
  }
  const std::string before = shown(order->total());
  order->lines = std::move(lines);
  note(*order, "lines", before, shown(order->total()), actor);
  touched(*order, false, actor);
  return std::nullopt;
}

std::vector<Product*> World::products_of(Supplier& supplier, const Json& row, std::string& why) const {
  std::string code;
  if (!switches.is(Switch::account_field, "internal_supplier_code")) code = id_text(row, "supplier_code");
  if (code.empty() && !switches.is(Switch::account_field, "supplier_code")) {
    code = id_text(row, "internal_supplier_code");
  }
  if (!code.empty() && supplier.account(code) == nullptr) {
    why = "there is no supplier_code " + code;
    return {};
  }
  const std::string id = id_text(row, "supplier_product_id");
  const std::string internal = id_text(row, "internal_product_id");
  const std::string base = id_text(row, "base_product_id");
  const auto unit_count = whole_at(row, "unit_count");
  std::vector<Product*> found;
  for (const auto& [name, account] : supplier.accounts) {
    if (!code.empty() && name != code) continue;
    if (!id.empty()) {
      if (Product* product = account->find(id)) found.push_back(product);
    } else if (!internal.empty()) {
      const auto same = account->by_code.find(internal);
      if (same != account->by_code.end()) found.insert(found.end(), same->second.begin(), same->second.end());
    } else if (!base.empty()) {
      for (const auto& product : account->products) {
        if (product->base_product_id == base && product->unit == text_at(row, "unit") && unit_count &&
            product->unit_count == *unit_count)
          found.push_back(product.get());
      }
    }
  }
  if (found.empty()) why = "no product of yours is meant by the row";
  return found;
}

Account& World::account_of(Product& product) {
  for (const auto& supplier : suppliers_)
    for (const auto& [code, account] : supplier->accounts)
      if (account->find(product.supplier_product_id) == &product) return *account;
  throw std::logic_error("a product of no account");
}

void World::record_write(Account& account, Product& product, const char* field, std::string from, std::string to) {
  writes_.push_back({next_write_++, now(), &account, &product, field, std::move(from), std::move(to)});
  if (writes_.size() > kLedgerMax) writes_.pop_front();
}

std::optional<Refusal> World::supplier_product(Supplier& supplier, const Json& row, bool check) {
  if (!row.is_object()) return Refusal{"a row must be an object", 0};
  std::string why;
  const auto products = products_of(supplier, row, why);
  if (products.empty()) return Refusal{why, 0};
  const auto has = [&](const char* key) { return row.contains(key) && !row[key].is_null(); };
  std::optional<Figure> price;
  if (has("selling_price")) {
    price = figure_of(row["selling_price"], switches.is(Switch::price_text, "accepted"));
    if (!price || *price < 0) return Refusal{"selling_price must be a number of 0 or more", 0};
  }
  std::optional<std::int64_t> stock;
  if (has("available_stock_quantity")) {
    const auto figure = figure_of(row["available_stock_quantity"], false);
    if (!figure || *figure < 0) return Refusal{"available_stock_quantity must be a whole number of 0 or more", 0};
    if (*figure % kOne != 0 && switches.is(Switch::stock_fraction, "refused"))
      return Refusal{"available_stock_quantity must be a whole number", 0};
    stock = *figure / kOne;
  }
  for (const char* key : {"min_order", "max_order", "remind_me_at_stock"}) {
    if (has(key) && (!whole_at(row, key) || *whole_at(row, key) < 0))
      return Refusal{std::string(key) + " must be a whole number of 0 or more", 0};
  }
  if (has("min_order") && has("max_order") && *whole_at(row, "min_order") > *whole_at(row, "max_order"))
    return Refusal{"min_order is above max_order", 0};
  for (const char* key : {"in_stock", "is_published", "is_unlimited_stock"}) {
    if (has(key) && !row[key].is_boolean()) return Refusal{std::string(key) + " must be true or false", 0};
  }
  if (has("is_unlimited_stock") && switches.is(Switch::unlimited_stock, "refused"))
    return Refusal{"is_unlimited_stock is not known", 0};
  if (check) return std::nullopt;

  const Moment at = now();
  for (Product* product : products) {
    Account& account = account_of(*product);
    if (price) {
      record_write(account, *product, "selling_price", shown(product->selling_price), shown(*price));
      product->selling_price = *price;
      product->price_at = at;
      ++product->price_writes;
    }
    if (stock) {
      record_write(account, *product, "available_stock_quantity", std::to_string(product->stock),
                   std::to_string(*stock));
      product->stock = *stock;
      product->stock_at = at;
      ++product->stock_writes;
    }
    bool flags = false;
    const auto flag = [&](const char* key, bool& value) {
      if (!has(key)) return;
      const bool wanted = row[key].get<bool>();
      record_write(account, *product, key, value ? "true" : "false", wanted ? "true" : "false");
      value = wanted;
      flags = true;
    };
    flag("in_stock", product->in_stock);
    flag("is_published", product->is_published);
    if (switches.is(Switch::unlimited_stock, "known")) flag("is_unlimited_stock", product->is_unlimited_stock);
    const auto limit = [&](const char* key, std::optional<std::int64_t>& value) {
      if (!row.contains(key)) return;
      const auto wanted = row[key].is_null() ? std::nullopt : whole_at(row, key);
      record_write(account, *product, key, value ? std::to_string(*value) : "null",
                   wanted ? std::to_string(*wanted) : "null");
      value = wanted;
      flags = true;
    };
    limit("min_order", product->min_order);
    limit("max_order", product->max_order);
    limit("remind_me_at_stock", product->remind_me_at_stock);
    if (row.contains("notes")) {
      product->notes = text_at(row, "notes");
      flags = true;
    }
    if (flags) {
      product->flags_at = at;
      ++product->flags_writes;
    }
    // With both names the row links: the supplier's own code becomes the product's.
    if (has("supplier_product_id") && has("internal_product_id")) {
      const std::string code = id_text(row, "internal_product_id");
      if (code != product->internal_product_id) {
        auto& before = account.by_code[product->internal_product_id];
        before.erase(std::remove(before.begin(), before.end(), product), before.end());
        record_write(account, *product, "internal_product_id", product->internal_product_id, code);
        product->internal_product_id = code;
        account.by_code[code].push_back(product);
      }
    }
  }
  return std::nullopt;
}

std::optional<Refusal> World::supplier_base_stock(Supplier& supplier, const Json& row, bool check) {
  if (!row.is_object()) return Refusal{"a row must be an object", 0};
  const std::string base = id_text(row, "base_product_id");
  const auto quantity =
      row.contains("available_stock_quantity") ? figure_of(row["available_stock_quantity"], false) : std::nullopt;
  if (base.empty()) return Refusal{"base_product_id is missing", 0};
  if (!quantity || *quantity < 0 || (*quantity % kOne != 0 && switches.is(Switch::stock_fraction, "refused")))
    return Refusal{"available_stock_quantity must be a whole number of 0 or more", 0};
  std::vector<std::pair<Account*, Product*>> found;
  for (const auto& [name, account] : supplier.accounts) {
    const std::string code = id_text(row, "supplier_code");
    if (!code.empty() && code != name) continue;
    for (const auto& product : account->products)
      if (product->base_product_id == base) found.emplace_back(account.get(), product.get());
  }
  if (found.empty()) return Refusal{"there is no base product " + base, 0};
  if (check) return std::nullopt;
  for (const auto& [account, product] : found) {
    const std::int64_t stock = *quantity / kOne / product->unit_count;
    record_write(*account, *product, "available_stock_quantity", std::to_string(product->stock), std::to_string(stock));
    product->stock = stock;
    product->stock_at = now();
    ++product->stock_writes;
  }
  return std::nullopt;
}

// ---------------------------------------------------------------- pulling

std::optional<std::vector<Order*>> World::pull(Supplier& supplier, const Pull& asked) {
  const Moment at = now();
  const auto late = static_cast<Moment>(switches.number(Switch::visible_after) * 1e6);
  const double again = switches.number(Switch::return_after_ack);
  const bool by_change = switches.is(Switch::from_to, "modified");
  const bool bounds = !switches.is(Switch::from_to, "ignored");
  const bool exclusive = switches.is(Switch::to_end, "exclusive");
  if (asked.page <= 1) ++supplier.walks;

  const auto in_range = [&](const Order& order) {
    if (order.visible_at + late > at) return false;
    if (!bounds) return true;
    const Moment moment = by_change ? order.changed_at : order.created_at;
    if (asked.from && moment < *asked.from) return false;
    if (asked.to && (exclusive ? moment >= *asked.to : moment > *asked.to)) return false;
    return true;
  };
  const auto lag = static_cast<Moment>(switches.number(Switch::ack_after) * 1e6);
  const bool open_only = switches.is(Switch::pull_states, "open");
  const bool not_editing = switches.is(Switch::pull_states, "not_editing");
  const auto wanted = [&](const Order& order) {
    if ((open_only && is_final(order.status)) || (not_editing && order.status == "editing")) return false;
    return !order.acked || order.acked_at + lag > at || (again > 0 && share(seed_, order.seq, supplier.walks) < again);
  };
  // Mostly they stand in order already: made one after the other.
  const auto sort = [&](std::vector<Order*>& list) {
    const auto newer = [](const Order* a, const Order* b) {
      return a->created_at != b->created_at ? a->created_at > b->created_at : a->seq > b->seq;
    };
    const auto older = [](const Order* a, const Order* b) {
      return a->created_at != b->created_at ? a->created_at < b->created_at : a->seq < b->seq;
    };
    const auto changed = [](const Order* a, const Order* b) {
      return a->changed_at != b->changed_at ? a->changed_at > b->changed_at : a->seq > b->seq;
    };
    using Before = bool (*)(const Order*, const Order*);
    const Before before = switches.is(Switch::order_sort, "newest")   ? Before(newer)
                          : switches.is(Switch::order_sort, "oldest") ? Before(older)
                                                                      : Before(changed);
    if (before != Before(older)) std::reverse(list.begin(), list.end());
    if (!std::is_sorted(list.begin(), list.end(), before)) std::sort(list.begin(), list.end(), before);
  };

  const bool stable = switches.is(Switch::walk, "stable");
  const bool sparse = switches.is(Switch::paging_end, "sparse");
  std::vector<Order*> list;
  const auto fixed = supplier.fixed_lists.find(asked.what);
  if (stable && asked.page > 1 && fixed != supplier.fixed_lists.end()) {
    list = fixed->second;
  } else {
    for (Order* order : supplier.orders)
      if (in_range(*order) && (sparse || wanted(*order))) list.push_back(order);
    sort(list);
    // The repeated ones are put in last to first, so that each stands where it would without the others.
    const double in_page = switches.number(Switch::repeat_in_page), in_walk = switches.number(Switch::repeat_in_walk);
    if (in_page > 0 || in_walk > 0) {
      for (std::size_t i = list.size(); i-- > 0;) {
        Order* const order = list[i];
        const auto put = [&](std::size_t where) {
          list.insert(list.begin() + static_cast<std::ptrdiff_t>(where), order);
        };
        if (i + asked.per_page <= list.size() && share(seed_ + 1, order->seq, supplier.walks) < in_walk)
          put(i + asked.per_page);
        if (share(seed_ + 2, order->seq, supplier.walks) < in_page) put(i + 1);
      }
    }
    if (stable) {
      if (supplier.fixed_lists.size() > 64) supplier.fixed_lists.clear();
      supplier.fixed_lists[asked.what] = list;
    }
  }

  std::vector<Order*> page;
  const std::size_t per_page = asked.per_page;
  const std::size_t pages = (list.size() + per_page - 1) / per_page;
  std::size_t number = std::max<std::size_t>(1, asked.page);
  if (sparse) {
    // Cut first, filtered then: what is acknowledged leaves holes. A page of nothing but holes is left out.
    std::size_t filled = 0;
    for (std::size_t i = 0; i < pages && filled < number; ++i) {
      page.clear();
      for (std::size_t k = i * per_page; k < std::min(list.size(), (i + 1) * per_page); ++k)
        if (wanted(*list[k])) page.push_back(list[k]);
      if (!page.empty()) ++filled;
    }
    if (filled < number) page.clear();
  } else {
    if (number > pages && number > 1) {
      if (switches.is(Switch::paging_end, "error")) return std::nullopt;
      if (switches.is(Switch::paging_end, "repeat")) number = std::max<std::size_t>(1, pages);
    }
    if (number <= pages) {
      const std::size_t begin = (number - 1) * per_page;
      page.assign(list.begin() + static_cast<std::ptrdiff_t>(begin),
                  list.begin() + static_cast<std::ptrdiff_t>(std::min(list.size(), begin + per_page)));
    }
  }
  for (Order* order : page) {
    if (order->pulls++ == 0) order->first_pulled_at = at;
    order->last_pulled_at = at;
    order->pulled_version = order->version;
  }
  return page;
}

// ---------------------------------------------------------------- forgetting

void World::clear_orders() {
  ledger_.clear();
  for (const auto& supplier : suppliers_) {
    supplier->orders.clear();
    supplier->fixed_lists.clear();
  }
  orders_.clear();
  by_hashed_id_.clear();
  ids_made_ = 0;
  next_ledger_ = 1;
  next_receipt_ = 1'000'001;
  next_line_ = 9'001;
}

void World::clear_products() {
  writes_.clear();
  for (const auto& supplier : suppliers_) {
    for (const auto& [code, account] : supplier->accounts) {
      account->products.clear();
      account->by_id.clear();
      account->by_code.clear();
    }
  }
  next_product_ = 70'001;
  next_write_ = 1;
}

void World::clear_suppliers() {
  clear_orders();
  clear_products();
  suppliers_.clear();
}

}  // namespace sandbox::cartona
