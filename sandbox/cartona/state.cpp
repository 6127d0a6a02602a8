// What a stand-in takes along from one start to the next: accounts, products and orders as they are. What the client
// sent, the ledger and the writes are not in it: they begin anew.
#include <type_traits>

#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

namespace {

struct Keep {
  Json& out;
  template <class T>
  void operator()(const char* name, const T& value) const {
    out[name] = value;
  }
  template <class T>
  void operator()(const char* name, const std::optional<T>& value) const {
    if (value) out[name] = *value;
  }
};

struct TakeUp {
  const Json& in;
  template <class T>
  void operator()(const char* name, T& value) const {
    if constexpr (std::is_same_v<T, Json>)
      value = in.at(name);
    else
      in.at(name).get_to(value);
  }
  template <class T>
  void operator()(const char* name, std::optional<T>& value) const {
    if (in.contains(name)) value = in.at(name).get<T>();
  }
};

template <class P, class F>
void product_fields(P& product, F&& each) {
  each("supplier_product_id", product.supplier_product_id);
  each("internal_product_id", product.internal_product_id);
  each("base_product_id", product.base_product_id);
  each("name", product.name);
  each("unit", product.unit);
  each("unit_count", product.unit_count);
  each("barcode", product.barcode);
  each("selling_price", product.selling_price);
  each("median_price", product.median_price);
  each("tax_percentage", product.tax_percentage);
  each("stock", product.stock);
  each("sold", product.sold);
  each("min_order", product.min_order);
  each("max_order", product.max_order);
  each("remind_me_at_stock", product.remind_me_at_stock);
  each("in_stock", product.in_stock);
  each("is_published", product.is_published);
  each("is_unlimited_stock", product.is_unlimited_stock);
  each("notes", product.notes);
  each("price_at", product.price_at);
  each("stock_at", product.stock_at);
  each("flags_at", product.flags_at);
  each("price_writes", product.price_writes);
  each("stock_writes", product.stock_writes);
  each("flags_writes", product.flags_writes);
}

template <class L, class F>
void line_fields(L& line, F&& each) {
  each("id", line.id);
  each("supplier_product_id", line.supplier_product_id);
  each("internal_product_id", line.internal_product_id);
  each("base_product_id", line.base_product_id);
  each("unit", line.unit);
  each("unit_count", line.unit_count);
  each("product_name", line.product_name);
  each("amount", line.amount);
  each("selling_price", line.selling_price);
  each("supplier_discount", line.supplier_discount);
  each("cartona_discount", line.cartona_discount);
  each("comment", line.comment);
}

template <class O, class F>
void order_fields(O& order, F&& each) {
  each("seq", order.seq);
  each("hashed_id", order.hashed_id);
  each("receipt", order.receipt);
  each("supplier_code", order.supplier_code);
  each("status", order.status);
  each("delivered_by", order.delivered_by);
  each("edited_by_admin", order.edited_by_admin);
  each("delivery_day", order.delivery_day);
  each("estimated_delivery_day", order.estimated_delivery_day);
  each("pickup_date", order.pickup_date);
  each("retailer_preferred_delivery_date", order.retailer_preferred_delivery_date);
  each("pickup_otp", order.pickup_otp);
  each("cancellation_reason", order.cancellation_reason);
  each("return_reason", order.return_reason);
  each("cartona_credit", order.cartona_credit);
  each("installment_cost", order.installment_cost);
  each("wallet_top_up", order.wallet_top_up);
  each("applied_supplier_rebate", order.applied_supplier_rebate);
  each("distribution_route_code", order.distribution_route_code);
  each("note_message", order.note_message);
  each("retailer_name", order.retailer.name);
  each("retailer_code", order.retailer.code);
  each("retailer_number", order.retailer.number);
  each("retailer_number2", order.retailer.number2);
  each("retailer_address", order.retailer.address);
  each("retailer_address_notes", order.retailer.address_notes);
  each("raw", order.raw);
  each("retailer_otp", order.retailer_otp);
  each("wrong_otps", order.wrong_otps);
  each("created_at", order.created_at);
  each("changed_at", order.changed_at);
  each("visible_at", order.visible_at);
  each("version", order.version);
  each("pulled_version", order.pulled_version);
  each("acked", order.acked);
  each("pulls", order.pulls);
  each("acks", order.acks);
  each("first_pulled_at", order.first_pulled_at);
  each("last_pulled_at", order.last_pulled_at);
  each("acked_at", order.acked_at);
}

}  // namespace

Json World::state() const {
  Json suppliers = Json::array(), orders = Json::array();
  for (const auto& supplier : suppliers_) {
    Json accounts = Json::array();
    for (const auto& [code, account] : supplier->accounts) {
      Json products = Json::array();
      for (const auto& product : account->products) {
        Json row = Json::object();
        product_fields(*product, Keep{row});
        products.push_back(std::move(row));
      }
      accounts.push_back({{"code", code}, {"products", std::move(products)}});
    }
    suppliers.push_back({{"name", supplier->name}, {"tokens", supplier->tokens}, {"accounts", std::move(accounts)}});
  }
  for (const auto& order : orders_) {
    Json row = {{"account", order->supplier->name}};
    order_fields(*order, Keep{row});
    Json& lines = row["lines"] = Json::array();
    for (const auto& line : order->lines) {
      lines.push_back(Json::object());
      line_fields(line, Keep{lines.back()});
    }
    orders.push_back(std::move(row));
  }
  return {{"ids_made", ids_made_},         {"next_receipt", next_receipt_}, {"next_line", next_line_},
          {"next_product", next_product_}, {"suppliers", suppliers},        {"orders", orders}};
}

void World::take_up(const Json& state) {
  clear_suppliers();
  for (const auto& each : state.at("suppliers")) {
    std::vector<std::string> codes;
    for (const auto& account : each.at("accounts")) codes.push_back(account.at("code"));
    Supplier& supplier = add_supplier(each.at("name"), each.at("tokens").get<std::vector<std::string>>(), codes);
    for (const auto& given : each.at("accounts")) {
      Account& account = *supplier.account(given.at("code"));
      for (const auto& row : given.at("products")) {
        Product& product = *account.products.emplace_back(std::make_unique<Product>());
        product_fields(product, TakeUp{row});
        account.by_id[product.supplier_product_id] = &product;
        if (!product.internal_product_id.empty()) account.by_code[product.internal_product_id].push_back(&product);
      }
    }
  }
  for (const auto& row : state.at("orders")) {
    Order& order = *orders_.emplace_back(std::make_unique<Order>());
    order_fields(order, TakeUp{row});
    for (const auto& given : row.at("lines")) line_fields(order.lines.emplace_back(), TakeUp{given});
    order.supplier = supplier(row.at("account").get<std::string>());
    if (order.supplier == nullptr) throw std::runtime_error("an order of an account that is not there");
    order.supplier->orders.push_back(&order);
    by_hashed_id_[order.hashed_id] = &order;
  }
  state.at("ids_made").get_to(ids_made_);
  state.at("next_receipt").get_to(next_receipt_);
  state.at("next_line").get_to(next_line_);
  state.at("next_product").get_to(next_product_);
  // Nobody is left who would finish them.
  for (const auto& order : orders_)
    if (order->status == "editing") set_status(*order, "pending", {"shop", "scenario"});
}

}  // namespace sandbox::cartona
