#include "sandbox/cartona/wire.h"

#include <cmath>
#include <cstdlib>

namespace sandbox::cartona {

namespace {

/// Writes the keys of one object.
class Object {
 public:
  Object(std::string& out, const Switches& switches)
      : out_(out), switches_(switches), ascii_(switches.is(Switch::text_escapes, "ascii")) {
    out_ += '{';
  }
  void end() { out_ += '}'; }

  void key(const char* name) {
    if (!first_) out_ += ',';
    first_ = false;
    out_ += '"';
    out_ += name;
    out_ += "\":";
  }
  void text(const char* name, std::string_view value) {
    key(name);
    append_text(out_, value, ascii_);
  }
  /// A text that may not be there.
  void maybe(const char* name, std::string_view value) {
    if (!value.empty()) return text(name, value);
    if (switches_.is(Switch::empty_texts, "absent")) return;
    key(name);
    out_ += switches_.is(Switch::empty_texts, "null") ? "null" : "\"\"";
  }
  void integer(const char* name, std::int64_t value) {
    key(name);
    out_ += std::to_string(value);
  }
  void maybe_integer(const char* name, const std::optional<std::int64_t>& value) {
    key(name);
    out_ += value ? std::to_string(*value) : "null";
  }
  void boolean(const char* name, bool value) {
    key(name);
    out_ += value ? "true" : "false";
  }
  void money(const char* name, Figure value) {
    key(name);
    append_figure(out_, value, form(Switch::numbers));
  }
  void amount(const char* name, Figure value) {
    key(name);
    if (!switches_.is(Switch::amounts, "text")) return append_figure(out_, value, form(Switch::amounts));
    out_ += '"';
    append_figure(out_, value, FigureForm::natural);
    out_ += '"';
  }

 private:
  FigureForm form(Switch which) const {
    if (switches_.is(which, "natural")) return FigureForm::natural;
    return switches_.is(which, "float") ? FigureForm::real : FigureForm::text;
  }

  std::string& out_;
  const Switches& switches_;
  bool ascii_;
  bool first_ = true;
};

void append_line(std::string& out, const Line& line, const Switches& switches) {
  Object object(out, switches);
  object.integer("id", line.id);
  object.text("supplier_product_id", line.supplier_product_id);
  object.text("internal_product_id", line.internal_product_id);
  object.text("base_product_id", line.base_product_id);
  object.text("unit", line.unit);
  object.integer("unit_count", line.unit_count);
  object.text("product_name", line.product_name);
  object.amount("amount", line.amount);
  object.money("selling_price", line.selling_price);
  object.money("applied_supplier_discount", line.supplier_discount);
  object.money("applied_cartona_discount", line.cartona_discount);
  object.maybe("comment", line.comment);
  object.end();
}

std::string_view status_word(const Order& order, const Switches& switches) {
  if (switches.is(Switch::cancel_words, "short")) {
    if (order.status.starts_with("cancelled")) return "cancelled";
    if (order.status == "returned") return "return";
  }
  return order.status;
}

void append_plain_order(std::string& out, const Order& order, const Switches& switches) {
  Object object(out, switches);
  object.text("hashed_id", order.hashed_id);
  if (switches.is(Switch::receipt_id, "text")) object.text("receipt_id", std::to_string(order.receipt));
  if (switches.is(Switch::receipt_id, "number")) object.integer("receipt_id", static_cast<std::int64_t>(order.receipt));
  object.text("supplier_code", order.supplier_code);
  object.text("status", status_word(order, switches));
  const bool ours = order.delivered_by == "delivered_by_supplier";
  if (!order.delivered_by.empty() && !(ours && switches.is(Switch::delivered_by, "cartona_only")))
    object.text("delivered_by", order.delivered_by);
  object.boolean("edited_by_admin", order.edited_by_admin);
  object.maybe("delivery_day", order.delivery_day);
  object.maybe("estimated_delivery_day", order.estimated_delivery_day);
  object.maybe("pickup_date", order.pickup_date);
  object.maybe("retailer_preferred_delivery_date", order.retailer_preferred_delivery_date);
  object.maybe("pickup_otp", order.pickup_otp);
  object.maybe("cancellation_reason", order.cancellation_reason);
  object.maybe("return_reason", order.return_reason);
  object.money("total_price", order.total());
  object.money("cartona_credit", order.cartona_credit);
  object.money("installment_cost", order.installment_cost);
  object.money(switches.is(Switch::wallet_key, "wallet_top_up") ? "wallet_top_up" : "wallet_topup",
               order.wallet_top_up);
  object.money("applied_supplier_rebate", order.applied_supplier_rebate);
  object.maybe("distribution_route_code", order.distribution_route_code);
  object.maybe("note_message", order.note_message);
  if (switches.is(Switch::created_at, "utc")) object.text("created_at", iso_utc(order.created_at));
  if (switches.is(Switch::created_at, "cairo")) object.text("created_at", iso_cairo(order.created_at));
  if (switches.is(Switch::created_at, "seconds")) object.integer("created_at", order.created_at / kSecond);
  object.key("retailer");
  {
    Object retailer(out, switches);
    retailer.text("retailer_name", order.retailer.name);
    if (!order.retailer.code.empty() && switches.is(Switch::retailer_code, "always"))
      retailer.text("retailer_code", order.retailer.code);
    retailer.maybe("retailer_number", order.retailer.number);
    retailer.maybe("retailer_number2", order.retailer.number2);
    retailer.maybe("retailer_address", order.retailer.address);
    retailer.maybe("address_notes", order.retailer.address_notes);
    retailer.end();
  }
  object.key("order_details");
  out += '[';
  for (std::size_t i = 0; i < order.lines.size(); ++i) {
    if (i != 0) out += ',';
    append_line(out, order.lines[i], switches);
  }
  out += ']';
  object.end();
}

std::string text_of(const Json& row, const char* key) {
  const auto found = row.find(key);
  if (found == row.end() || found->is_null()) return {};
  if (!found->is_string()) throw ControlError(std::string(key) + " must be text");
  return found->get<std::string>();
}

Figure figure_at(const Json& row, const char* key, Figure otherwise = 0) {
  const auto found = row.find(key);
  if (found == row.end() || found->is_null()) return otherwise;
  const auto value = figure_of(*found);
  if (!value) throw ControlError(std::string(key) + " must be a number");
  return *value;
}

Moment moment_at(const Json& row, const char* key) {
  const std::string text = text_of(row, key);
  if (text.empty()) return 0;
  const auto parsed = parse_moment(text);
  if (!parsed) throw ControlError(std::string(key) + " must be a time such as 2026-11-20T10:05:48Z");
  return parsed->wall - parsed->offset.value_or(0);
}

Json figure_json(Figure value) {
  if (value % kOne == 0) return value / kOne;
  return static_cast<double>(value) / static_cast<double>(kOne);
}

Json when(Moment at) {
  return at == 0 ? Json(nullptr) : Json(iso_utc(at));
}

}  // namespace

void append_order(std::string& out, const Order& order, const Switches& switches) {
  if (order.raw.is_null()) return append_plain_order(out, order, switches);
  std::string plain;
  append_plain_order(plain, order, switches);
  Json merged = Json::parse(plain);
  for (const auto& [key, value] : order.raw.items()) merged[key] = value;
  out += merged.dump(-1, ' ', switches.is(Switch::text_escapes, "ascii"), Json::error_handler_t::replace);
}

void append_product(std::string& out, const Product& product, const Switches& switches) {
  Object object(out, switches);
  const bool all = switches.is(Switch::product_keys, "all");
  if (all || switches.is(Switch::product_keys, "id")) {
    object.integer("id", std::atoll(product.supplier_product_id.c_str()));
    object.text("name", product.name);
  }
  if (all || switches.is(Switch::product_keys, "misspelt")) {
    object.text("suppler_prodcut_id", product.supplier_product_id);
    object.text("suppler_prodcut_name", product.name);
  }
  if (all || switches.is(Switch::product_keys, "correct")) {
    object.text("supplier_product_id", product.supplier_product_id);
    object.text("supplier_product_name", product.name);
  }
  object.maybe("internal_product_id", product.internal_product_id);
  object.text("base_product_id", product.base_product_id);
  object.text("base_product_name", product.name);
  object.text("unit", product.unit);
  object.integer("unit_count", product.unit_count);
  object.maybe("image_thumbnail", "");
  if (switches.is(Switch::product_barcode, "yes")) object.maybe("barcode", product.barcode);
  object.money("median_price", product.median_price != 0 ? product.median_price : product.selling_price);
  object.money("tax_percentage", product.tax_percentage);
  object.money("selling_price", product.selling_price);
  object.integer("available_stock_quantity", product.stock);
  object.maybe_integer("remind_me_at_stock", product.remind_me_at_stock);
  object.maybe_integer("max_order", product.max_order);
  object.maybe_integer("min_order", product.min_order);
  object.boolean("in_stock", product.in_stock);
  if (switches.is(Switch::unlimited_stock, "known")) object.boolean("is_unlimited_stock", product.is_unlimited_stock);
  object.boolean("is_bundle", false);
  object.boolean("is_published", product.is_published);
  object.integer("sold_amount", product.sold);
  object.money("front_margin", 0);
  object.money("back_margin", 0);
  object.maybe("notes", product.notes);
  object.end();
}

Order order_from(Supplier& supplier, const Json& row) {
  if (!row.is_object()) throw ControlError("an order must be an object");
  Order order;
  order.supplier = &supplier;
  order.hashed_id = id_text(row, "hashed_id");
  order.supplier_code = id_text(row, "supplier_code");
  if (order.supplier_code.empty()) order.supplier_code = supplier.accounts.begin()->first;
  if (const std::string receipt = id_text(row, "receipt_id"); !receipt.empty())
    order.receipt = std::strtoull(receipt.c_str(), nullptr, 10);
  if (row.contains("status")) order.status = text_of(row, "status");
  if (row.contains("delivered_by")) order.delivered_by = text_of(row, "delivered_by");
  order.edited_by_admin = row.value("edited_by_admin", false);
  order.delivery_day = text_of(row, "delivery_day");
  order.estimated_delivery_day = text_of(row, "estimated_delivery_day");
  order.pickup_date = text_of(row, "pickup_date");
  order.retailer_preferred_delivery_date = text_of(row, "retailer_preferred_delivery_date");
  order.pickup_otp = text_of(row, "pickup_otp");
  order.cancellation_reason = text_of(row, "cancellation_reason");
  order.return_reason = text_of(row, "return_reason");
  order.cartona_credit = figure_at(row, "cartona_credit");
  order.installment_cost = figure_at(row, "installment_cost");
  order.wallet_top_up = figure_at(row, "wallet_top_up");
  order.applied_supplier_rebate = figure_at(row, "applied_supplier_rebate");
  order.distribution_route_code = text_of(row, "distribution_route_code");
  order.note_message = text_of(row, "note_message");
  order.retailer_otp = text_of(row, "retailer_otp");
  order.created_at = moment_at(row, "created_at");
  order.visible_at = moment_at(row, "visible_at");
  const Json retailer = row.value("retailer", Json::object());
  order.retailer = {text_of(retailer, "retailer_name"),    id_text(retailer, "retailer_code"),
                    text_of(retailer, "retailer_number"),  text_of(retailer, "retailer_number2"),
                    text_of(retailer, "retailer_address"), text_of(retailer, "address_notes")};
  const Account* account = supplier.account(order.supplier_code);
  for (const auto& given : row.value("order_details", Json::array())) {
    if (!given.is_object()) throw ControlError("a line must be an object");
    Line line;
    line.id = given.value("id", std::int64_t{0});
    line.supplier_product_id = id_text(given, "supplier_product_id");
    line.internal_product_id = id_text(given, "internal_product_id");
    const Product* product = nullptr;
    if (account != nullptr) {
      product = !line.supplier_product_id.empty() ? account->find(line.supplier_product_id)
                                                  : account->find_code(line.internal_product_id);
    }
    if (product != nullptr) {
      line.supplier_product_id = product->supplier_product_id;
      if (!given.contains("internal_product_id")) line.internal_product_id = product->internal_product_id;
      line.base_product_id = product->base_product_id;
      line.unit = product->unit;
      line.unit_count = product->unit_count;
      line.product_name = product->name;
      line.selling_price = product->selling_price;
    }
    if (const std::string base = id_text(given, "base_product_id"); !base.empty()) line.base_product_id = base;
    if (given.contains("unit")) line.unit = text_of(given, "unit");
    line.unit_count = given.value("unit_count", line.unit_count);
    if (given.contains("product_name")) line.product_name = text_of(given, "product_name");
    line.amount = figure_at(given, "amount", kOne);
    line.selling_price = figure_at(given, "selling_price", line.selling_price);
    line.supplier_discount = figure_at(given, "applied_supplier_discount");
    line.cartona_discount = figure_at(given, "applied_cartona_discount");
    line.comment = text_of(given, "comment");
    order.lines.push_back(std::move(line));
  }
  if (row.contains("raw") && row["raw"].is_object() && !row["raw"].empty()) order.raw = row["raw"];
  if (row.contains("total_price") && figure_at(row, "total_price") != order.total()) {
    if (order.raw.is_null()) order.raw = Json::object();
    order.raw["total_price"] = row["total_price"];
  }
  return order;
}

void append_order_state(std::string& out, const Order& order) {
  static const Switches kPlain;
  const Json about = {{"account", order.supplier->name},
                      {"seq", order.seq},
                      {"retailer_otp", order.retailer_otp},
                      {"wrong_otps", order.wrong_otps},
                      {"created_at", iso_utc(order.created_at)},
                      {"changed_at", iso_utc(order.changed_at)},
                      {"visible_at", iso_utc(order.visible_at)},
                      {"version", order.version},
                      {"pulled_version", order.pulled_version},
                      {"pulls", order.pulls},
                      {"first_pulled_at", when(order.first_pulled_at)},
                      {"last_pulled_at", when(order.last_pulled_at)},
                      {"acked", order.acked},
                      {"acks", order.acks},
                      {"acked_at", when(order.acked_at)}};
  out += about.dump();
  out.back() = ',';
  out += "\"order\":";
  append_order(out, order, kPlain);
  out += '}';
}

Json order_state(const Order& order) {
  std::string text;
  append_order_state(text, order);
  return Json::parse(text);
}

Json product_state(const Product& product, const Account& account) {
  return {{"account", account.supplier->name},
          {"supplier_code", account.code},
          {"supplier_product_id", product.supplier_product_id},
          {"internal_product_id", product.internal_product_id},
          {"base_product_id", product.base_product_id},
          {"name", product.name},
          {"unit", product.unit},
          {"unit_count", product.unit_count},
          {"barcode", product.barcode},
          {"selling_price", figure_json(product.selling_price)},
          {"price_set_at", iso_utc(product.price_at)},
          {"price_writes", product.price_writes},
          {"available_stock_quantity", product.stock},
          {"stock_set_at", iso_utc(product.stock_at)},
          {"stock_writes", product.stock_writes},
          {"in_stock", product.in_stock},
          {"is_published", product.is_published},
          {"is_unlimited_stock", product.is_unlimited_stock},
          {"min_order", product.min_order ? Json(*product.min_order) : Json(nullptr)},
          {"max_order", product.max_order ? Json(*product.max_order) : Json(nullptr)},
          {"remind_me_at_stock", product.remind_me_at_stock ? Json(*product.remind_me_at_stock) : Json(nullptr)},
          {"notes", product.notes},
          {"flags_set_at", iso_utc(product.flags_at)},
          {"flags_writes", product.flags_writes}};
}

Json ledger_state(const LedgerEntry& entry) {
  return {{"seq", entry.seq},
          {"at", iso_utc(entry.at)},
          {"account", entry.order->supplier->name},
          {"hashed_id", entry.order->hashed_id},
          {"what", entry.what},
          {"from", entry.from},
          {"to", entry.to},
          {"by", entry.by},
          {"how", entry.how}};
}

Json write_state(const WriteEntry& entry) {
  return {{"seq", entry.seq},
          {"at", iso_utc(entry.at)},
          {"account", entry.account->supplier->name},
          {"supplier_code", entry.account->code},
          {"supplier_product_id", entry.product->supplier_product_id},
          {"internal_product_id", entry.product->internal_product_id},
          {"field", entry.field},
          {"from", entry.from},
          {"to", entry.to}};
}

}  // namespace sandbox::cartona
