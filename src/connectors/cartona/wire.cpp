#include "connectors/cartona/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "json/records.h"
#include "json/scan.h"

namespace dragoman::connectors::cartona {
namespace {

using nlohmann::json;
using pipeline::MarketLine;
using pipeline::MarketOrder;
using pipeline::MarketProduct;
using pipeline::MarketState;

// Longer ones are no ids of anybody's, and would not fit into the keys that are made of them.
constexpr std::size_t kIdBytesMax = 100;
constexpr int kDepthMax = 32;

// Numbers with a point or an exponent stay the text that they are: as a double they would lose digits.
class Exact : public nlohmann::detail::json_sax_dom_parser<json> {
 public:
  using nlohmann::detail::json_sax_dom_parser<json>::json_sax_dom_parser;
  bool number_float(double, const std::string& text) {
    std::string kept = text;
    return string(kept);
  }
};

// Checked before it is built: what is nested without end, or is no UTF-8, never gets as far.
json exact(std::string_view text) {
  try {
    dragoman::json::check(text, kDepthMax);
  } catch (const Error& error) {
    ignore_error("it is taken for no JSON", error);
    return json(json::value_t::discarded);
  }
  json value;
  Exact builder(value, false);
  if (!json::sax_parse(text, &builder)) return json(json::value_t::discarded);
  return value;
}

const json& at(const json& object, const char* name) {
  static const json none;
  if (!object.is_object()) return none;
  const auto found = object.find(name);
  return found == object.end() ? none : *found;
}

// Of a text or a number; anything else counts as not there.
std::string text_of(const json& value) {
  std::string text;
  if (value.is_string())
    text = value.get<std::string>();
  else if (value.is_number())
    text = value.dump();
  // What a terminal, a log or a database would stumble over.
  std::erase_if(text, [](char c) { return static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\t'; });
  return text;
}
std::string text(const json& object, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (std::string found = text_of(at(object, name)); !found.empty()) return found;
  return {};
}

bool is_there(const json& value) {
  return !value.is_null() && !(value.is_string() && value.get_ref<const std::string&>().empty());
}

std::optional<Decimal> decimal_of(const json& value) {
  if (value.is_number() || value.is_string()) return Decimal::parse(text_of(value));
  return std::nullopt;
}

std::optional<bool> flag_of(const json& value) {
  if (value.is_boolean()) return value.get<bool>();
  const std::string word = text_of(value);
  if (word == "true" || word == "1") return true;
  if (word == "false" || word == "0") return false;
  return std::nullopt;
}

// An amount of the order or a line; what is not there is 0, unless it is `needed`.
Decimal amount(const json& object, std::initializer_list<const char*> names, bool needed, const std::string& where,
               MarketOrder& order) {
  for (const char* name : names) {
    const json& value = at(object, name);
    if (!is_there(value)) continue;
    if (const auto number = decimal_of(value)) {
      if (!number->is_negative()) return *number;
      order.problems.push_back(fmt::format("`{}` of {} is below zero: {}.", name, where, number->str()));
      return {};
    }
    order.problems.push_back(fmt::format("`{}` of {} is no number: {}.", name, where,
                                         value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 60)));
    return {};
  }
  if (needed) order.problems.push_back(fmt::format("{} has no `{}`.", where, *names.begin()));
  return {};
}

MarketState state_of(const std::string& word, const std::map<std::string, MarketState>& states) {
  if (const auto found = states.find(word); found != states.end()) return found->second;
  static const std::map<std::string, MarketState, std::less<>> kWords{{"pending", MarketState::pending},
                                                                      {"editing", MarketState::editing},
                                                                      {"approved", MarketState::approved},
                                                                      {"assigned_to_salesman", MarketState::assigned},
                                                                      {"delivered", MarketState::delivered},
                                                                      {"cancelled", MarketState::cancelled},
                                                                      {"cancelled_by_retailer", MarketState::cancelled},
                                                                      {"cancelled_by_supplier", MarketState::cancelled},
                                                                      {"returned", MarketState::returned},
                                                                      {"return", MarketState::returned}};
  const auto found = kWords.find(word);
  return found == kWords.end() ? MarketState::unknown : found->second;
}

std::optional<Time> time_of(const json& value) {
  if (value.is_number_integer()) {
    const auto seconds = value.get<std::int64_t>();
    // 2001 to 2286.
    if (seconds > 1'000'000'000 && seconds < 10'000'000'000) return from_us(seconds * 1'000'000);
    return std::nullopt;
  }
  const std::string text = text_of(value);
  // With an offset it is another text; which zone one without means is not known, and nothing depends on it.
  return parse_time(text);
}

bool usable_id(const std::string& id) {
  return !id.empty() && id.size() <= kIdBytesMax &&
         std::none_of(id.begin(), id.end(), [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == '\x7f'; });
}

MarketLine line_of(const json& in, std::size_t number, MarketOrder& order) {
  MarketLine line;
  line.id = text(in, {"id"});
  const std::string where = line.id.empty() ? fmt::format("line {}", number) : fmt::format("line {}", line.id);
  if (!usable_id(line.id)) order.problems.push_back(fmt::format("Line {} has no `id` to tell it by.", number));
  line.product_id = text(in, {"supplier_product_id", "suppler_prodcut_id"});
  line.internal_id = text(in, {"internal_product_id"});
  line.base_id = text(in, {"base_product_id"});
  line.name = text(in, {"product_name", "supplier_product_name", "suppler_prodcut_name"});
  line.unit = text(in, {"unit"});
  line.comment = text(in, {"comment"});
  // Without the offer's own id the supplier's code stands for it, which is as good where it is one article's.
  if (line.product_id.empty() && !line.internal_id.empty()) line.product_id = "code/" + line.internal_id;
  if (!usable_id(line.product_id)) order.problems.push_back(fmt::format("{} names no product.", where));
  if (const auto count = decimal_of(at(in, "unit_count")); count && !count->is_negative() && !count->is_zero())
    line.unit_count = *count;
  line.quantity = amount(in, {"amount"}, true, where, order);
  line.price = amount(in, {"selling_price", "price"}, true, where, order);
  line.supplier_discount = amount(in, {"applied_supplier_discount"}, false, where, order);
  line.market_discount = amount(in, {"applied_cartona_discount"}, false, where, order);
  return line;
}

// The elements of the list that an answer is, or has under the one name that its kind uses.
template <typename Each>
void each_element(std::string_view text, Each each) {
  dragoman::json::check(text, kDepthMax + 2);
  dragoman::json::Scanner scanner(text);
  if (scanner.peek() == '{') {
    std::optional<std::string_view> list;
    bool escaped = false, any = false;
    scanner.expect('{');
    if (!scanner.take('}')) {
      do {
        any = true;
        scanner.string(escaped);
        scanner.expect(':');
        const auto value = scanner.value();
        if (!list && !value.empty() && value.front() == '[') list = value;
      } while (scanner.take(','));
      scanner.expect('}');
    }
    if (!any) return;  // `{}`: nothing
    if (!list) {
      Error error(Error::Kind::protocol, "The marketplace answered an object where a list is expected.",
                  std::string(text.substr(0, 500)));
      error.code = "not_a_list";
      throw error;
    }
    return each_element(*list, each);
  }
  scanner.expect('[');
  if (scanner.take(']')) return;
  do each(scanner.value());
  while (scanner.take(','));
  scanner.expect(']');
}

// A text or a number of an element, as text; empty: it has none.
std::string plain_field(std::string_view element, std::string_view name) {
  std::string out;
  if (!element.empty() && element.front() == '{')
    if (const auto value = dragoman::json::field(element, name))
      out = value->front() == '"' ? dragoman::json::unquote(*value) : std::string(*value);
  // A word that is no text and no number is none.
  if (out == "null" || out == "true" || out == "false" || out.starts_with('{') || out.starts_with('[')) out.clear();
  return out;
}

// What a person could find it by at the marketplace. Not where it stood on the page: that changes from pull to pull,
// and the same order is to have the same words.
std::string unusable_order(std::string_view element) {
  const json in = exact(element);
  const auto part = [](std::string text) {
    while (text.size() > kIdBytesMax || !is_utf8(text)) text.pop_back();
    return text;
  };
  const std::string number = part(text(in, {"receipt_id"})),
                    customer = part(text(at(in, "retailer"), {"retailer_name", "retailer_code", "retailer_id", "id"}));
  std::string which = number.empty() ? std::string("no number") : fmt::format("number `{}`", number);
  if (!customer.empty()) which += fmt::format(", of `{}`", customer);
  return fmt::format("An order without a usable `hashed_id`: {}.", which);
}

}  // namespace

MarketOrder parse_order(std::string_view body, const std::map<std::string, MarketState>& states) {
  MarketOrder order;
  const json in = exact(body);
  if (!in.is_object()) {
    order.problems.push_back("It is no JSON object.");
    return order;
  }
  order.id = text(in, {"hashed_id"});
  order.number = text(in, {"receipt_id", "hashed_id"});
  order.status = text(in, {"status"});
  order.state = state_of(order.status, states);
  if (order.status.starts_with("cancelled_by_")) order.cancelled_by = order.status.substr(13);
  order.delivered_by = text(in, {"delivered_by"});
  order.delivers_itself = order.delivered_by == "delivered_by_cartona";
  if (!order.delivers_itself) order.delivered_by = "delivered_by_supplier";
  // The route is the more telling of the two.
  if (std::string route = text(in, {"distribution_route_code"}); !route.empty())
    order.delivery.push_back(std::move(route));
  order.delivery.push_back(order.delivered_by);
  const std::string whole = "the order";
  order.total = amount(in, {"total_price"}, true, whole, order);
  order.credit = amount(in, {"cartona_credit"}, false, whole, order);
  order.installment = amount(in, {"installment_cost"}, false, whole, order);
  order.wallet = amount(in, {"wallet_top_up", "wallet_topup"}, false, whole, order);
  order.rebate = amount(in, {"applied_supplier_rebate"}, false, whole, order);
  const auto some = [](const Decimal& value) { return !value.is_zero(); };
  order.payment = some(order.installment) ? "installment"
                  : some(order.wallet)    ? "wallet_top_up"
                  : some(order.credit)    ? "cartona_credit"
                                          : "standard";
  order.needs_otp = some(order.installment) || some(order.wallet);
  order.note = text(in, {"note_message"});
  order.cancellation_reason = text(in, {"cancellation_reason"});
  order.delivery_day = text(in, {"estimated_delivery_day", "delivery_day"});
  order.ordered = time_of(at(in, "created_at"));

  const json& retailer = at(in, "retailer");
  order.customer.code = text(retailer, {"retailer_code", "retailer_id", "id"});
  order.customer.name = text(retailer, {"retailer_name"});
  for (const char* name : {"retailer_number", "retailer_number2"})
    if (std::string phone = text(retailer, {name}); !phone.empty()) order.customer.phones.push_back(std::move(phone));
  order.customer.email = text(retailer, {"retailer_email"});
  order.customer.address = text(retailer, {"retailer_address"});
  order.customer.notes = text(retailer, {"address_notes"});
  if (order.customer.code.size() > kIdBytesMax) order.problems.push_back("The retailer's code is too long to be one.");

  const json& details = at(in, "order_details");
  if (!details.is_array()) {
    order.problems.push_back("The order has no list `order_details`.");
    return order;
  }
  for (std::size_t i = 0; i < details.size(); ++i) {
    if (!details[i].is_object()) {
      order.problems.push_back(fmt::format("Line {} is no JSON object.", i + 1));
      continue;
    }
    // A line that was taken out is none, however that is told.
    const auto quantity = decimal_of(at(details[i], "amount"));
    if (flag_of(at(details[i], "cancelled")).value_or(false) || (quantity && quantity->is_zero())) continue;
    order.lines.push_back(line_of(details[i], i + 1, order));
  }
  return order;
}

std::size_t cut_orders(pipeline::Marketplace::OrderPage& page, const std::string& supplier_code) {
  std::size_t count = 0;
  each_element(page.text, [&](std::string_view element) {
    ++count;
    const std::string id = plain_field(element, "hashed_id");
    if (!supplier_code.empty()) {
      const std::string code = plain_field(element, "supplier_code");
      // Of two accounts of one token both would take in an order that says of none, each once.
      if (code.empty() && usable_id(id)) page.unusable.push_back(fmt::format("The order {} has no supplier_code.", id));
      if (code != supplier_code && (!code.empty() || usable_id(id))) return;
    }
    if (usable_id(id))
      page.orders.push_back({id, element});
    else
      page.unusable.push_back(unusable_order(element));
  });
  return count;
}

ListedProducts parse_products(std::string_view text, const std::string& supplier_code) {
  ListedProducts out;
  auto& products = out.products;
  each_element(text, [&](std::string_view element) {
    ++out.listed;
    const json in = exact(element);
    if (const std::string code = cartona::text(in, {"supplier_code", "internal_supplier_code"});
        !supplier_code.empty() && !code.empty() && code != supplier_code)
      return;
    MarketProduct product;
    product.id = cartona::text(in, {"supplier_product_id", "suppler_prodcut_id", "id"});
    if (!usable_id(product.id)) return;
    product.internal_id = cartona::text(in, {"internal_product_id"});
    product.base_id = cartona::text(in, {"base_product_id"});
    product.name = cartona::text(
        in, {"supplier_product_name", "suppler_prodcut_name", "name", "base_product_name", "product_name"});
    product.unit = cartona::text(in, {"unit"});
    product.unit_count = decimal_of(at(in, "unit_count"));
    product.price = decimal_of(at(in, "selling_price"));
    product.stock = decimal_of(at(in, "available_stock_quantity"));
    product.order_min = decimal_of(at(in, "min_order"));
    product.order_max = decimal_of(at(in, "max_order"));
    product.in_stock = flag_of(at(in, "in_stock"));
    product.published = flag_of(at(in, "is_published"));
    products.push_back(std::move(product));
  });
  return out;
}

std::string product_rows(std::span<const MarketProduct> changes, const std::string& supplier_code) {
  std::string out = "[";
  for (const auto& change : changes) {
    if (out.size() > 1) out += ',';
    out += "{\"supplier_product_id\":";
    append_json_string(out, change.id);
    const auto number = [&](const char* name, const std::optional<Decimal>& value) {
      if (value) out += fmt::format(",\"{}\":{}", name, value->str());
    };
    const auto flag = [&](const char* name, const std::optional<bool>& value) {
      if (value) out += fmt::format(",\"{}\":{}", name, *value);
    };
    if (!change.internal_id.empty()) {
      out += ",\"internal_product_id\":";
      append_json_string(out, change.internal_id);
    }
    number("selling_price", change.price);
    if (change.stock) out += fmt::format(",\"available_stock_quantity\":{}", change.stock->floor());
    number("min_order", change.order_min);
    number("max_order", change.order_max);
    flag("in_stock", change.in_stock);
    flag("is_published", change.published);
    if (!supplier_code.empty())
      for (const char* name : {"supplier_code", "internal_supplier_code"}) {
        out += fmt::format(",\"{}\":", name);
        append_json_string(out, supplier_code);
      }
    out += '}';
  }
  return out + "]";
}

std::string status_row(const pipeline::Marketplace::StatusChange& change) {
  std::string out = "{\"hashed_id\":";
  append_json_string(out, change.id);
  out += ",\"status\":";
  append_json_string(out, change.status);
  const auto maybe = [&](const char* name, const std::string& value) {
    if (value.empty()) return;
    out += fmt::format(",\"{}\":", name);
    append_json_string(out, value);
  };
  maybe("retailer_otp", change.otp.reveal());
  maybe("cancellation_reason", change.cancellation_reason);
  return out + "}";
}

}  // namespace dragoman::connectors::cartona
