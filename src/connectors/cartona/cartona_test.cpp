#include "connectors/cartona/cartona.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "connectors/cartona/wire.h"
#include "fakes/fake_http.h"
#include "fakes/hand_clock.h"

namespace dragoman::connectors::cartona {
namespace {

using fakes::FakeHttp;
using nlohmann::json;
using pipeline::MarketState;

constexpr const char* kOrder =
    R"({"hashed_id":"Qx7LmA2b","receipt_id":4711,"status":"pending","delivered_by":"delivered_by_supplier",
"estimated_delivery_day":"2026-11-21","total_price":530,"cartona_credit":30,"installment_cost":0,"wallet_top_up":50,
"created_at":"2026-11-20T08:00:00","note_message":"ring twice",
"retailer":{"retailer_name":"Demo Market","retailer_code":"R-17","retailer_number":"+200000000000",
"retailer_number2":"","retailer_address":"1 Demo St","address_notes":"blue door"},
"order_details":[
{"id":9001,"supplier_product_id":"700","internal_product_id":"51","base_product_id":"80","unit":"box","unit_count":12,
"product_name":"Demo tea","amount":2,"selling_price":65,"applied_supplier_discount":3,"applied_cartona_discount":2,"comment":null},
{"id":9002,"supplier_product_id":"700","internal_product_id":"51","base_product_id":"80","unit":"box","unit_count":12,
"product_name":"Demo tea","amount":4.0,"selling_price":"100.00","applied_supplier_discount":0,"applied_cartona_discount":0}]})";

TEST(CartonaOrder, IsReadWithEveryAmountAsItIs) {
  const auto order = parse_order(kOrder, {});
  EXPECT_TRUE(order.problems.empty()) << order.problems.front();
  EXPECT_EQ(order.id, "Qx7LmA2b");
  EXPECT_EQ(order.number, "4711");
  EXPECT_EQ(order.state, MarketState::pending);
  EXPECT_FALSE(order.delivers_itself);
  EXPECT_EQ(order.total.str(), "530");
  EXPECT_EQ(order.credit.str(), "30");
  EXPECT_EQ(order.payment, "wallet_top_up");
  EXPECT_TRUE(order.needs_otp);
  EXPECT_EQ(order.customer.code, "R-17");
  EXPECT_EQ(order.customer.phones, std::vector<std::string>{"+200000000000"});
  EXPECT_EQ(order.delivery_day, "2026-11-21");
  EXPECT_EQ(order.delivery, std::vector<std::string>{"delivered_by_supplier"});
  ASSERT_TRUE(order.ordered);
  EXPECT_EQ(format_odoo(*order.ordered), "2026-11-20 08:00:00");
  ASSERT_EQ(order.lines.size(), 2u);
  EXPECT_EQ(order.lines[0].id, "9001");
  EXPECT_EQ(order.lines[0].unit_count.value().str(), "12");
  EXPECT_EQ(order.lines[0].market_discount.str(), "2");
  EXPECT_EQ(order.lines[1].quantity.str(), "4");
  EXPECT_EQ(order.lines[1].price.str(), "100");
}

TEST(CartonaOrder, IsDeliveredByItsRouteThenByWhoDelivers) {
  const auto order = parse_order(
      R"({"hashed_id":"A","status":"pending","delivered_by":"delivered_by_cartona","distribution_route_code":"RT-07"})",
      {});
  EXPECT_EQ(order.delivery, (std::vector<std::string>{"RT-07", "delivered_by_cartona"}));
}

TEST(CartonaOrder, KeepsDigitsThatADoubleWouldLose) {
  const auto order =
      parse_order(R"({"hashed_id":"A","status":"pending","total_price":90071992547409.931,"order_details":[]})", {});
  EXPECT_EQ(order.total.str(), "90071992547409.931");
}

TEST(CartonaOrder, MaySayTheSameInOtherForms) {
  const auto order = parse_order(
      R"({"hashed_id":12345678901,"status":"assigned_to_salesman","total_price":"12.50","wallet_topup":null,
      "retailer":{"retailer_name":"A","retailer_id":9,"retailer_number":200000000001},
      "order_details":[{"id":"1","suppler_prodcut_id":700,"amount":"2","selling_price":6.25},
      {"id":2,"supplier_product_id":"701","amount":5,"selling_price":1,"cancelled":true},
      {"id":3,"supplier_product_id":"702","amount":0.0,"selling_price":1},
      {"id":4,"supplier_product_id":null,"internal_product_id":"51","amount":0.5,"selling_price":0}]})",
      {});
  EXPECT_TRUE(order.problems.empty()) << order.problems.front();
  EXPECT_EQ(order.id, "12345678901");
  EXPECT_EQ(order.number, "12345678901");
  EXPECT_EQ(order.state, MarketState::assigned);
  EXPECT_EQ(order.delivered_by, "delivered_by_supplier");
  EXPECT_EQ(order.customer.code, "9");
  EXPECT_EQ(order.customer.phones.at(0), "200000000001");
  ASSERT_EQ(order.lines.size(), 2u);
  EXPECT_EQ(order.lines[0].product_id, "700");
  EXPECT_EQ(order.lines[1].product_id, "code/51");
}

TEST(CartonaOrder, SaysWhatIsWrongWithItInWords) {
  const auto order = parse_order(
      R"({"hashed_id":"A","status":"pending","total_price":"a lot","cartona_credit":-1,
      "order_details":[{"id":1,"supplier_product_id":"7","selling_price":1},{"amount":1,"selling_price":[]},8]})",
      {});
  EXPECT_EQ(order.problems,
            (std::vector<std::string>{"`total_price` of the order is no number: \"a lot\".",
                                      "`cartona_credit` of the order is below zero: -1.", "line 1 has no `amount`.",
                                      "Line 2 has no `id` to tell it by.", "line 2 names no product.",
                                      "`selling_price` of line 2 is no number: [].", "Line 3 is no JSON object."}));
  EXPECT_FALSE(parse_order("[]", {}).problems.empty());
  EXPECT_FALSE(parse_order("{", {}).problems.empty());
  EXPECT_FALSE(parse_order("{\"hashed_id\":\"\xff\"}", {}).problems.empty());
  EXPECT_FALSE(parse_order(std::string(100'000, '['), {}).problems.empty());
}

TEST(CartonaOrder, HasTheStatesOfItsApiAndThoseOfTheSettings) {
  const auto state = [](const std::string& word, const std::map<std::string, MarketState>& states = {}) {
    return parse_order(fmt::format(R"({{"hashed_id":"A","status":"{}"}})", word), states).state;
  };
  EXPECT_EQ(state("editing"), MarketState::editing);
  EXPECT_EQ(state("approved"), MarketState::approved);
  EXPECT_EQ(state("delivered"), MarketState::delivered);
  EXPECT_EQ(state("cancelled"), MarketState::cancelled);
  EXPECT_EQ(state("cancelled_by_retailer"), MarketState::cancelled);
  EXPECT_EQ(state("return"), MarketState::returned);
  EXPECT_EQ(state("synced"), MarketState::unknown);
  EXPECT_EQ(state("teleported"), MarketState::unknown);
  EXPECT_EQ(state("teleported", {{"teleported", MarketState::delivered}}), MarketState::delivered);
}

class CartonaCalls : public testing::Test {
 protected:
  void make(FakeHttp::Handler handler, json settings = json::object()) {
    settings["url"] = "https://shop.example.com/api/v1/";
    settings["odoo"] = "main";
    cartona_ = std::make_unique<Cartona>(CartonaSettings::parse(settings, Secret("the token")), clock_,
                                         std::make_unique<FakeHttp>(std::move(handler), log_));
  }
  void answers(int status, const std::string& body, http::Headers headers = {}) {
    make([=](const http::Request&) { return http::Response{status, headers, body}; }, settings_);
  }
  template <typename F>
  static Error error_of(F&& run) {
    try {
      run();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(Error::Kind::bug, "");
  }
  Error of_orders() {
    return error_of([&] { cartona_->orders({}, {}); });
  }
  Error of_ack() {
    return error_of([&] { cartona_->acknowledge_one("A", {}); });
  }

  json settings_ = json::object();
  tests::HandClock clock_;
  std::shared_ptr<FakeHttp::Log> log_ = std::make_shared<FakeHttp::Log>();
  std::unique_ptr<Cartona> cartona_;
};

TEST_F(CartonaCalls, CarryTheTokenInItsOwnHeader) {
  make([](const http::Request&) { return FakeHttp::json("[" + std::string(kOrder) + "]"); });
  const auto page = cartona_->orders({.page = 2, .per_page = 50, .from = *parse_time("2026-11-20 08:00:00")}, {});
  ASSERT_EQ(page->orders.size(), 1u);
  EXPECT_EQ(page->orders[0].id, "Qx7LmA2b");
  EXPECT_EQ(page->orders[0].body, kOrder);
  EXPECT_FALSE(page->last);
  const auto request = log_->last();
  EXPECT_EQ(request.method, "GET");
  EXPECT_TRUE(
      request.target.starts_with("https://shop.example.com/api/v1/order/pull-orders?page=2&per_page=50&"
                                 "from=2026-11-20T08%3A00%3A00&to="))
      << request.target;
  EXPECT_EQ(request.headers.find("AuthorizationToken"), "the token");
}

TEST_F(CartonaCalls, EndAtAnEmptyPageHoweverThatLooks) {
  for (const char* body : {"[]", " [ ] ", "{}", R"({"orders":[]})"}) {
    answers(200, body);
    EXPECT_TRUE(cartona_->orders({}, {})->last) << body;
  }
  answers(204, "");
  EXPECT_TRUE(cartona_->orders({}, {})->last);
  answers(404, R"({"error":"not_found"})");
  EXPECT_TRUE(cartona_->orders({.page = 3}, {})->last);
  EXPECT_EQ(of_orders().kind, Error::Kind::not_found);
}

TEST_F(CartonaCalls, TakeNoPageForAListThatIsNone) {
  for (const char* body : {"", "<html></html>", R"({"message":"hello"})", "[1,", "[{\"hashed_id\":\"\xff\"}]"}) {
    answers(200, body);
    EXPECT_EQ(of_orders().kind, Error::Kind::protocol) << body;
  }
}

TEST_F(CartonaCalls, NameTheOrdersOfAPageThatAreNone) {
  answers(200, R"([{"hashed_id":"A"},{"status":"pending"},7,{"hashed_id":null,"receipt_id":4711,
    "retailer":{"retailer_name":"Corner shop"}},{"hashed_id":"a b","receipt_id":"4712"},{"hashed_id":12}])");
  const auto page = cartona_->orders({}, {});
  ASSERT_EQ(page->orders.size(), 2u);
  EXPECT_EQ(page->orders[1].id, "12");
  ASSERT_EQ(page->unusable.size(), 4u);
  EXPECT_EQ(page->unusable[1], "An order without a usable `hashed_id`: no number.");
  EXPECT_EQ(page->unusable[2], "An order without a usable `hashed_id`: number `4711`, of `Corner shop`.");
  EXPECT_EQ(page->unusable[3], "An order without a usable `hashed_id`: number `4712`.");
}

TEST(CartonaAccount, OfATokenForSeveralTakesAndWritesItsOwn) {
  pipeline::Marketplace::OrderPage page;
  page.text = R"([{"hashed_id":"A","supplier_code":"1"},{"hashed_id":"B","supplier_code":2},{"hashed_id":"C"},
    {"hashed_id":"D","supplier_code":1},{"status":"pending"},{"receipt_id":7,"supplier_code":"2"}])";
  EXPECT_EQ(cut_orders(page, "1"), 6u);
  ASSERT_EQ(page.orders.size(), 2u);
  EXPECT_EQ(page.orders[0].id, "A");
  EXPECT_EQ(page.orders[1].id, "D");
  EXPECT_EQ(page.unusable, (std::vector<std::string>{"The order C has no supplier_code.",
                                                     "An order without a usable `hashed_id`: no number."}));
  page.orders.clear();
  page.unusable.clear();
  EXPECT_EQ(cut_orders(page), 6u);
  EXPECT_EQ(page.orders.size(), 4u) << "all that the token covers";

  const auto listed =
      parse_products(R"([{"supplier_product_id":1,"supplier_code":"2"},{"supplier_product_id":2}])", "1");
  EXPECT_EQ(listed.listed, 2u);
  ASSERT_EQ(listed.products.size(), 1u);
  EXPECT_EQ(listed.products[0].id, "2");

  pipeline::MarketProduct change;
  change.id = "700";
  change.price = 3;
  EXPECT_EQ(product_rows(std::vector{change}, "2"),
            R"([{"supplier_product_id":"700","selling_price":3,"supplier_code":"2","internal_supplier_code":"2"}])");
}

TEST_F(CartonaCalls, EndNotAtAPageOfAnotherAccountsOrders) {
  settings_ = {{"supplier_code", "1"}};
  answers(200, R"([{"hashed_id":"A","supplier_code":"2"}])");
  EXPECT_FALSE(cartona_->orders({}, {})->last);
  answers(200, R"([{"supplier_product_id":"700","supplier_code":"2"}])");
  const auto page = cartona_->products(1, 100, {});
  EXPECT_TRUE(page.products.empty());
  EXPECT_FALSE(page.last);
  EXPECT_TRUE(log_->last().target.ends_with("&supplier_code=1")) << log_->last().target;
  answers(200, "[]");
  EXPECT_TRUE(cartona_->products(2, 100, {}).last);
}

TEST_F(CartonaCalls, AcknowledgeManyAtOnceAndOneAlone) {
  answers(200, "OK");
  cartona_->acknowledge(std::vector<std::string>{"A", "b\"c"}, {});
  EXPECT_EQ(log_->last().target, "https://shop.example.com/api/v1/order/update-order-status");
  EXPECT_EQ(json::parse(log_->last().body), json::parse(R"([{"hashed_id":"A","status":"synced"},
    {"hashed_id":"b\"c","status":"synced"}])"));
  cartona_->acknowledge_one("a/b", {});
  EXPECT_EQ(log_->last().target, "https://shop.example.com/api/v1/order/update-order-status/a%2Fb");
  EXPECT_EQ(log_->last().body, R"({"hashed_id":"a/b","status":"synced"})");
}

TEST_F(CartonaCalls, SayWhereAStatusGoes) {
  answers(200, "{}");
  EXPECT_EQ(cartona_->status_address(""), "https://shop.example.com/api/v1/order/update-order-status");
  EXPECT_EQ(cartona_->status_address("a/b"), "https://shop.example.com/api/v1/order/update-order-status/a%2Fb");
  cartona_->acknowledge_one("a/b", {});
  EXPECT_EQ(log_->last().target, cartona_->status_address("a/b"));
}

TEST_F(CartonaCalls, AreToldToWhoeverListensWithoutTheToken) {
  std::vector<pipeline::Exchange> heard;
  const auto listen = [&] { cartona_->listen([&](const pipeline::Exchange& exchange) { heard.push_back(exchange); }); };
  answers(200, "OK");
  listen();
  cartona_->acknowledge_one("A", {});
  answers(422, R"({"error":"no"})");
  listen();
  EXPECT_EQ(of_ack().kind, Error::Kind::invalid);
  ASSERT_EQ(heard.size(), 2u);
  EXPECT_EQ(heard[0].method, "POST");
  EXPECT_EQ(heard[0].target, "https://shop.example.com/api/v1/order/update-order-status/A");
  EXPECT_EQ(heard[0].request, R"({"hashed_id":"A","status":"synced"})");
  EXPECT_EQ(heard[0].status, 200);
  EXPECT_EQ(heard[1].status, 422);
  EXPECT_EQ(heard[1].response, R"({"error":"no"})");
}

TEST_F(CartonaCalls, MeanWhatTheirStatusSays) {
  answers(401, "");
  EXPECT_EQ(of_orders().kind, Error::Kind::auth);
  // Without a reason, or with one that is about who asks: the caller finds out which it is.
  answers(400, "");
  EXPECT_EQ(of_orders().code, "suspect");
  answers(400, R"({"error":"unauthorized","details":"the token is not known"})");
  EXPECT_EQ(of_orders().code, "suspect");
  answers(422, R"({"errors":{"invalid":["there is no such order"]}})");
  EXPECT_EQ(of_ack().kind, Error::Kind::invalid);
  EXPECT_NE(of_ack().message.find("there is no such order"), std::string::npos);
  answers(429, "", {{"Retry-After", "7"}});
  EXPECT_EQ(of_orders().kind, Error::Kind::busy);
  EXPECT_EQ(of_orders().retry_after, std::chrono::seconds(7));
  answers(503, "");
  EXPECT_EQ(of_ack().kind, Error::Kind::unavailable);
  answers(502, "");
  EXPECT_EQ(of_orders().kind, Error::Kind::unavailable);
  EXPECT_EQ(of_ack().kind, Error::Kind::in_doubt);
  answers(302, "");
  EXPECT_EQ(of_orders().kind, Error::Kind::protocol);
}

TEST_F(CartonaCalls, LeaveAChangeInDoubtAndAskAQuestionAgain) {
  make([](const http::Request&) -> http::Response {
    Error error(Error::Kind::in_doubt, "The connection was cut.");
    error.code = "cut";
    throw error;
  });
  EXPECT_EQ(of_orders().kind, Error::Kind::unavailable);
  EXPECT_EQ(of_ack().kind, Error::Kind::in_doubt);
}

TEST_F(CartonaCalls, ReadProductsInEverySpelling) {
  answers(200, R"([{"suppler_prodcut_id":"700","suppler_prodcut_name":"Tea","internal_product_id":"51","unit":"box",
    "unit_count":12,"selling_price":"9.990","available_stock_quantity":5,"in_stock":true,"is_published":false,
    "max_order":null},{"id":701,"name":"Milk"},{"name":"nothing"}])");
  const auto page = cartona_->products(1, 100, {});
  ASSERT_EQ(page.products.size(), 2u);
  EXPECT_EQ(page.products[0].id, "700");
  EXPECT_EQ(page.products[0].price->str(), "9.99");
  EXPECT_EQ(page.products[0].published, false);
  EXPECT_FALSE(page.products[0].order_max);
  EXPECT_EQ(page.products[1].name, "Milk");
}

TEST_F(CartonaCalls, WriteOnlyTheFieldsThatAreSet) {
  answers(200, "{}");
  pipeline::MarketProduct change;
  change.id = "700";
  change.price = Decimal::of("9.990");
  change.stock = Decimal::of("4.9");
  change.published = true;
  cartona_->update_products(std::vector{change}, {});
  EXPECT_EQ(log_->last().body,
            R"([{"supplier_product_id":"700","selling_price":9.99,"available_stock_quantity":4,"is_published":true}])");
}

TEST(CartonaConnection, TakesNoAddressThatWouldShowTheToken) {
  const auto connect = [](const std::string& url) {
    CartonaSettings::parse({{"url", url}, {"odoo", "main"}}, Secret("t"));
  };
  EXPECT_NO_THROW(connect("https://shop.example.com/api/v1"));
  EXPECT_NO_THROW(connect("http://127.0.0.1:8080/api/v1"));
  EXPECT_NO_THROW(connect("http://localhost/api"));
  EXPECT_NO_THROW(connect("http://[::1]:8080"));
  for (const char* url : {"http://shop.example.com", "http://127.0.0.1.example.com", "http://127.evil", "ftp://shop",
                          "https://user:secret@shop.example.com", "https://shop.example.com/?a=b", "https://", ""})
    EXPECT_THROW(connect(url), Error) << url;
}

TEST(CartonaConnection, ChecksItsSettings) {
  const auto check = [](json settings) {
    settings["url"] = "https://shop.example.com";
    settings["odoo"] = "main";
    return pipeline::ConnectorList({connector()}).check_settings("cartona", settings);
  };
  EXPECT_EQ(check({}).at("batch_size"), 100);
  EXPECT_EQ(check({{"tell", {"ann@example.com"}}, {"tries", 3}}).at("tries"), 3);
  for (const char* bad : {R"({"batch_size":1001})",
                          R"({"batch_size":0})",
                          R"({"poll_seconds":0})",
                          R"({"states":{"x":"unknown"}})",
                          R"({"product_rules":["guess"]})",
                          R"({"customer_rules":["phone","phone"]})",
                          R"({"line_taxes":"some"})",
                          R"({"paths":{"orders":"/absolute"}})",
                          R"({"paths":{"somewhere":"x"}})",
                          R"({"currency":"egp"})",
                          R"({"timeout_seconds":0})",
                          R"({"carriers":{"RT-01":0}})",
                          R"({"carriers":{"RT-01":"DHL"}})",
                          R"({"carriers":{"RT-01":4294967296}})",
                          R"({"tries":0})",
                          R"({"tries":11})",
                          R"({"tell":["ann"]})",
                          R"({"tell":["ann@example.com, bob@example.com"]})",
                          R"({"tell":["@example.com"]})",
                          R"({"tell":"ann@example.com"})"})
    EXPECT_THROW(check(json::parse(bad)), Error) << bad;
}

TEST(CartonaConnection, TakesOnlyPathsBelowItsAddress) {
  const auto check = [](const std::string& path) {
    const json settings{{"url", "https://shop.example.com"}, {"odoo", "main"}, {"paths", {{"orders", path}}}};
    return pipeline::ConnectorList({connector()}).check_settings("cartona", settings);
  };
  for (const char* fine : {"orders", "order/pull-orders", "v2/order/pull_orders.json", "a..b/c"})
    EXPECT_NO_THROW(check(fine)) << fine;
  for (const char* bad :
       {"", "/orders", "//evil.example.com/orders", "https://evil.example.com/orders", "evil:80/orders",
        "me@evil/orders", "../orders", "order/../../orders", "order/..", "./orders", "order//orders", "order/",
        "..\\orders", "%2e%2e/orders", "orders?all=1", "orders#x", "my orders"})
    EXPECT_THROW(check(bad), Error) << bad;
  try {
    check("../orders");
    ADD_FAILURE() << "it was taken";
  } catch (const Error& error) {
    EXPECT_EQ(
        error.message,
        "The path `orders` is \"../orders\"; it is to be like order/pull-orders, behind the setting `url`: without "
        "a scheme, a host or `..`.");
  }
}

}  // namespace
}  // namespace dragoman::connectors::cartona
