#include "pipeline/market_content.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using What = MarketPlan::What;

// The example of the marketplace's own text: one product on two lines, at two prices.
MarketOrder example() {
  MarketOrder order;
  order.id = "Qx7LmA2b";
  order.number = "4711";
  order.status = "approved";
  order.state = MarketState::approved;
  order.delivered_by = "delivered_by_supplier";
  order.payment = "wallet_top_up";
  order.customer = {.code = "R-17",
                    .name = "Demo Market",
                    .phones = {"+20 100-000 0000", "0200"},
                    .email = "",
                    .address = "1 Demo St",
                    .notes = "blue door"};
  MarketLine line;
  line.id = "9001";
  line.product_id = "700";
  line.internal_id = "51";
  line.name = "Demo tea";
  line.quantity = 2;
  line.price = 65;
  line.supplier_discount = 3;
  line.market_discount = 2;
  order.lines.push_back(line);
  line.id = "9002";
  line.quantity = 4;
  line.price = 100;
  line.supplier_discount = line.market_discount = 0;
  order.lines.push_back(line);
  order.total = 530;
  order.credit = 30;
  order.wallet = 50;
  return order;
}

class MarketContent : public testing::Test {
 protected:
  MarketPlan plan() { return plan_order(order_, settings_, {"cartona", "shop1"}, links_, applied_); }
  json content() {
    const auto made = plan();
    EXPECT_EQ(made.what, What::deliver) << made.code << ": " << made.message;
    return json::parse(made.content);
  }
  MarketOrder order_ = example();
  MarketplaceSettings settings_ =
      MarketplaceSettings::parse({{"odoo", "main"}, {"company", 1}, {"warehouse", 2}, {"pricelist", 3}});
  std::map<std::string, MarketLink> links_;
  MarketApplied applied_;
};

TEST_F(MarketContent, IsTheOrderAsOdooTakesIt) {
  const json in = content();
  const json& values = in["values"];
  EXPECT_EQ(values["cartona_id"], "Qx7LmA2b");
  EXPECT_EQ(values["marketplace_order_number"], "4711");
  EXPECT_EQ(values["marketplace_status"], "approved");
  EXPECT_EQ(values["warehouse_id"], 2);
  EXPECT_EQ(values["marketplace_credit"], 30);
  EXPECT_EQ(values["marketplace_discount_supplier"], 6);
  EXPECT_EQ(values["marketplace_discount_marketplace"], 4);
  EXPECT_EQ(in["currency"], "EGP");
  EXPECT_EQ(in["expect"]["amount_total"], "530.00");
  EXPECT_EQ(in["steps"], json({"confirm"}));
  const json& lines = in["children"]["order_line"];
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0]["key"], "9001");
  EXPECT_EQ(lines[1]["values"]["price_unit"], 100);
  EXPECT_EQ(lines[1]["values"]["tax_id"], json::array());
  EXPECT_EQ(lines[0]["values"]["product_id"],
            json::parse(R"({"key":"cartona/shop1/product/700","model":"product.product","match":[
              ["cartona_id",[["cartona_id","=","700"]]],["internal_id",[["id","=",51]]],
              ["barcode",[["barcode","=","51"]]],["default_code",[["default_code","=","51"]]]],"active":true})"));
}

TEST_F(MarketContent, FindsTheCustomerByItsCodeThenByPhoneAndNeverByName) {
  const json who = content()["values"]["partner_id"];
  EXPECT_EQ(who["key"], "cartona/shop1/customer/R-17");
  EXPECT_EQ(who["own"], true);
  EXPECT_EQ(who["match"], json::parse(R"([["cartona_id",[["cartona_id","=","R-17"]]],
    ["retailer_code",[["ref","=","R-17"]]],
    ["phone",[["phone","in",["+20 100-000 0000","+201000000000","0200"]],["cartona_id","in",[false,"R-17"]]]]])"))
      << "who is marked as another shop is not this one";
  EXPECT_EQ(who["values"]["phone"], "+20 100-000 0000");
  EXPECT_EQ(who["values"]["comment"], "blue door\nAnother phone: 0200");
  order_.customer = {.code = "", .name = "A", .phones = {"0100 200 300"}, .email = "", .address = "", .notes = ""};
  EXPECT_TRUE(content()["values"]["partner_id"]["key"].get<std::string>().starts_with(
      "cartona/shop1/customer/phone/0100200300/"));
  order_.customer.phones.clear();
  EXPECT_TRUE(content()["values"]["partner_id"]["match"].empty());
  order_.customer.name.clear();
  EXPECT_EQ(plan().code, "customer");
}

TEST_F(MarketContent, TakesTheRulesInTheOrderOfTheSettings) {
  settings_.product_rules = {"default_code", "mapping"};
  settings_.customer_rules = {"phone"};
  const json in = content();
  const json match = in["children"]["order_line"][0]["values"]["product_id"]["match"];
  ASSERT_EQ(match.size(), 1u);
  EXPECT_EQ(match[0][0], "default_code");
  EXPECT_EQ(in["values"]["partner_id"]["match"].size(), 2u);
  settings_.product_rules = {"mapping"};
  EXPECT_EQ(plan().code, "product");
}

TEST_F(MarketContent, MovesNoStockForWhatTheMarketplaceDelivers) {
  order_.delivered_by = "delivered_by_cartona";
  order_.delivers_itself = true;
  for (const auto state : {MarketState::approved, MarketState::assigned, MarketState::delivered}) {
    order_.state = state;
    EXPECT_EQ(content()["steps"], json({"confirm", "no_delivery"}));
  }
  settings_.keep_pickings = true;
  EXPECT_EQ(content()["steps"], json({"confirm", "deliver"}));
}

TEST_F(MarketContent, HasTheStepsOfItsState) {
  order_.state = MarketState::pending;
  EXPECT_EQ(content()["steps"], json::array());
  order_.state = MarketState::assigned;
  EXPECT_EQ(content()["steps"], json({"confirm", "reserve"}));
  order_.state = MarketState::delivered;
  EXPECT_EQ(content()["steps"], json({"confirm", "deliver"}));
}

TEST_F(MarketContent, KeepsTheTaxesOfTheProductWhereThatIsSet) {
  settings_.product_taxes = true;
  EXPECT_FALSE(content()["children"]["order_line"][0]["values"].contains("tax_id"));
}

TEST_F(MarketContent, NamesTheDeliveryMethodOfTheFirstWordThatIsInTheTable) {
  order_.delivery = {"RT-07", "delivered_by_supplier"};
  EXPECT_FALSE(content()["values"].contains("carrier_id?")) << "without a table it is left to Odoo";
  const auto before = plan().body;
  settings_.carriers = {{"delivered_by_supplier", 4}, {"RT-09", 6}};
  EXPECT_EQ(
      content()["values"]["carrier_id?"],
      json::parse(
          R"({"key":"cartona/shop1/carrier/4","model":"delivery.carrier","match":[["carriers",[["id","=",4]]]]})"));
  EXPECT_EQ(plan().body, before) << "another table does not write orders anew";
  settings_.carriers["RT-07"] = 5;
  EXPECT_EQ(content()["values"]["carrier_id?"]["key"], "cartona/shop1/carrier/5");
  order_.delivery = {"RT-08"};
  EXPECT_FALSE(content()["values"].contains("carrier_id?")) << "a word that is not in it is no error";
}

TEST_F(MarketContent, IsTheStateAloneWhereNothingElseChanged) {
  applied_.imported = true;
  applied_.state = MarketState::pending;
  applied_.body = plan().body;
  const json in = content();
  EXPECT_EQ(in["values"], json({{"marketplace_status", "approved"}}));
  EXPECT_FALSE(in.contains("children"));
  order_.lines[0].quantity = 3;
  order_.total = 595;
  EXPECT_TRUE(content().contains("children"));
}

TEST_F(MarketContent, AnotherSettingOrLinkChangesNoOrderThatIsThere) {
  applied_.imported = true;
  applied_.state = MarketState::pending;
  applied_.body = plan().body;
  settings_ = MarketplaceSettings::parse({{"odoo", "main"},
                                          {"company", 5},
                                          {"warehouse", 6},
                                          {"pricelist", 7},
                                          {"salesperson", 8},
                                          {"line_taxes", "product"}});
  links_["700"] = {.odoo_product_id = 9, .factor = 12, .ignored = false, .settled = true, .candidates = {}};
  json in = content();
  EXPECT_EQ(in["values"], json({{"marketplace_status", "approved"}}));
  EXPECT_FALSE(in.contains("children"));
  // What the marketplace changed goes as it is said by now; how the order was made stays.
  order_.lines[0].quantity = 3;
  order_.total = 595;
  in = content();
  EXPECT_EQ(in["children"]["order_line"][0]["values"]["product_uom_qty"], 36);
  for (const char* once : {"warehouse_id", "pricelist_id", "user_id"})
    EXPECT_FALSE(in["values"].contains(once)) << once;
}

TEST_F(MarketContent, WhatIsCancelledThoughItMayBeInOdooIsCancelledThere) {
  order_.state = MarketState::cancelled;
  EXPECT_EQ(plan().what, What::record);
  applied_.in_doubt = true;
  const json in = content();
  EXPECT_EQ(in["steps"], json({"cancel"}));
  EXPECT_EQ(in["children"]["order_line"].size(), 2u) << "should it not be there, it is made, and cancelled";
}

TEST_F(MarketContent, BoxesWaitUntilSomebodySaysWhatOneIsInOdoo) {
  order_.lines[0].unit = "box";
  order_.lines[0].unit_count = 24;
  EXPECT_EQ(plan().code, "factor");
  EXPECT_NE(plan().message.find("dragoman market link shop1 700 PRODUCT --factor 24"), std::string::npos)
      << plan().message;
  const auto quantity = [&] { return content()["children"]["order_line"][0]["values"]["product_uom_qty"]; };
  settings_.unit_factor = MarketplaceSettings::UnitFactor::one;
  EXPECT_EQ(quantity(), 2);
  settings_.unit_factor = MarketplaceSettings::UnitFactor::unit_count;
  EXPECT_EQ(quantity(), 48);
  settings_.unit_factor = MarketplaceSettings::UnitFactor::ask;
  links_["700"] = {.odoo_product_id = 9, .factor = 6, .ignored = false, .settled = true, .candidates = {}};
  EXPECT_EQ(quantity(), 12) << "what a person says goes before the setting";
}

TEST_F(MarketContent, AnotherPackageThanTheFactorWasSaidForWaits) {
  links_["700"] = {.odoo_product_id = 9, .factor = 12, .factors = "12:12", .settled = true};
  const auto quantity = [&] { return content()["children"]["order_line"][0]["values"]["product_uom_qty"]; };
  order_.lines[0].unit_count = 12;
  EXPECT_EQ(quantity(), 24);
  order_.lines[0].unit_count = std::nullopt;
  EXPECT_EQ(quantity(), 24) << "a line need not say it";
  order_.lines[0].unit_count = 24;
  EXPECT_EQ(plan().code, "factor");
  EXPECT_NE(plan().message.find("the factor is 12 for a package of 12): `dragoman market link shop1 700 PRODUCT "
                                "--factor … --unit-count 24`"),
            std::string::npos)
      << plan().message;
  links_["700"].factors = "12:12 24:20";
  EXPECT_EQ(quantity(), 40);
  order_.lines[0].unit_count = 12;
  EXPECT_EQ(quantity(), 24) << "each package has its own";
  order_.lines[0].unit_count = 24;
  // What the setting says of packages follows them.
  links_["700"].factors = "12:12";
  settings_.unit_factor = MarketplaceSettings::UnitFactor::unit_count;
  EXPECT_EQ(quantity(), 48);
  links_["700"].factors = "12:6";
  EXPECT_EQ(plan().code, "factor") << "that was a person's word";
  links_["700"] = {.odoo_product_id = 0, .factor = 1, .factors = "1:1", .settled = true};
  settings_.unit_factor = MarketplaceSettings::UnitFactor::ask;
  EXPECT_EQ(plan().code, "factor") << "a piece that has become a box";
}

TEST_F(MarketContent, TwoShopsWithoutACodeAndWithOnePhoneAreTwo) {
  MarketCustomer one{.code = "", .name = "Corner", .phones = {"+200000000001"}};
  MarketCustomer other = one;
  EXPECT_EQ(customer_key(one), customer_key(other));
  other.name = "Another";
  EXPECT_NE(customer_key(one), customer_key(other));
  EXPECT_TRUE(customer_key(one).starts_with("phone/+200000000001/"));
  one.name = "";
  EXPECT_EQ(customer_key(one), "phone/+200000000001");
}

TEST_F(MarketContent, GoesNoStepBackExceptAfterTheShopEditedIt) {
  applied_.imported = true;
  applied_.state = MarketState::delivered;
  EXPECT_EQ(plan().what, What::record);
  EXPECT_EQ(plan().code, "older");
  applied_.edited = true;
  EXPECT_EQ(plan().what, What::deliver);
  // Cancelled is later than anything, whatever is wrong with the rest of the order.
  applied_.edited = false;
  order_.state = MarketState::cancelled;
  order_.problems = {"The lines are gone."};
  order_.lines.clear();
  EXPECT_EQ(content()["steps"], json({"cancel"}));
}

TEST_F(MarketContent, WhatIsMadeAnewGoesAsAWholeWhateverWasApplied) {
  applied_ = {.imported = true, .state = MarketState::delivered, .body = plan().body, .edited = false, .anew = true};
  EXPECT_EQ(plan().what, What::deliver) << "though the marketplace's state is an earlier one";
  const json all = content();
  EXPECT_EQ(all["recreate"], true);
  EXPECT_EQ(all["children"]["order_line"].size(), order_.lines.size());
  EXPECT_TRUE(all["values"].contains("partner_id"));
  order_.state = MarketState::cancelled;
  EXPECT_EQ(plan().what, What::record);
  EXPECT_EQ(plan().code, "cancelled");
  applied_.anew = false;
  EXPECT_FALSE(content().contains("recreate"));
}

TEST_F(MarketContent, SaysWhatIsOtherwiseOfTheSameShop) {
  MarketCustomer now = order_.customer;
  EXPECT_EQ(contact_changes(order_.customer, now), "");
  now.address = "9 Hill Rd";
  now.phones = {"0300", "0200"};
  now.email = "shop@example.com";
  now.notes = "";
  EXPECT_EQ(contact_changes(order_.customer, now),
            "Address: 1 Demo St -> 9 Hill Rd. Phone: +20 100-000 0000, 0200 -> 0300, 0200. E-mail: none -> "
            "shop@example.com.")
      << "what is not said any more is no news";
  now.code = "R-18";
  EXPECT_EQ(contact_changes(order_.customer, now), "") << "another shop, which Odoo's order goes to";
}

TEST_F(MarketContent, IsHeldWhileItIsCancelledInOdooAndOpenAtTheMarketplaceAgain) {
  applied_ = {.imported = true, .state = MarketState::cancelled, .body = plan().body, .cancelled = true};
  for (const auto state : {MarketState::pending, MarketState::approved, MarketState::delivered}) {
    order_.state = state;
    EXPECT_EQ(plan().code, "reopened");
  }
  EXPECT_NE(plan().message.find("dragoman market retry shop1 --order Qx7LmA2b"), std::string::npos) << plan().message;
  applied_.anew = true;
  EXPECT_EQ(plan().what, What::deliver);
  applied_.anew = false;
  order_.state = MarketState::cancelled;
  EXPECT_EQ(content()["steps"], json({"cancel"}));
}

TEST_F(MarketContent, BringsUnitsTogetherByTheFactorOfALink) {
  links_["700"] = {.odoo_product_id = 9, .factor = Decimal::of("12"), .ignored = false, .settled = true};
  const json line = content()["children"]["order_line"][1]["values"];
  EXPECT_EQ(line["product_uom_qty"], 48);
  EXPECT_EQ(line["price_unit"].dump(), "8.333333");
  EXPECT_EQ(line["product_id"]["key"], "cartona/shop1/product/700/is/9");
  EXPECT_EQ(line["product_id"]["match"], json::parse(R"([["mapping",[["id","=",9]]]])"));
  links_["700"].ignored = true;
  EXPECT_EQ(plan().code, "product");
}

TEST_F(MarketContent, IsHeldWhereItCantBeRight) {
  order_.total = Decimal::of("530.01");
  EXPECT_EQ(plan().code, "total");
  order_ = example();
  order_.lines[1].id = "9001";
  EXPECT_EQ(plan().code, "lines");
  order_ = example();
  order_.lines.clear();
  EXPECT_EQ(plan().code, "lines");
  order_ = example();
  order_.problems = {"`amount` of line 9001 is no number: \"x\"."};
  EXPECT_EQ(plan().code, "order");
  EXPECT_EQ(plan().message, order_.problems[0]);
}

TEST_F(MarketContent, WhatAPersonLeavesAsItIsInOdooGoesAsItsStateAloneWhateverIsWrongWithIt) {
  applied_.settled = true;
  order_.total = Decimal::of("530.01");
  EXPECT_EQ(plan().code, "total") << "it is not in Odoo: there is nothing to be left";
  applied_.imported = true;
  applied_.body = "another";
  order_.lines[1].id = "9001";
  order_.problems = {"`amount` of line 9001 is no number: \"x\"."};
  const auto alone = plan();
  ASSERT_EQ(alone.what, What::deliver) << alone.message;
  const json content = json::parse(alone.content);
  EXPECT_FALSE(content.contains("children"));
  EXPECT_EQ(content["values"], (json{{"marketplace_status", order_.status}}));
  EXPECT_NE(alone.body, applied_.body) << "what the marketplace says counts as dealt with";
  // It lasts: a later state of the same goes in as well, and so it does of what was marked as none of ours since.
  applied_ = {.imported = true, .state = MarketState::approved, .body = alone.body};
  links_["700"].ignored = true;
  order_.state = MarketState::delivered;
  EXPECT_EQ(plan().what, What::deliver) << plan().message;
  order_.lines.clear();
  EXPECT_EQ(plan().code, "order");
  applied_.settled = true;
  EXPECT_EQ(plan().what, What::deliver);
}

TEST_F(MarketContent, RoundsAsOdooDoesBeforeTotalsAreCompared) {
  order_.lines.resize(1);
  order_.lines[0].quantity = Decimal::of("0.333");
  order_.lines[0].price = Decimal::of("9.99");
  order_.total = Decimal::of("3.33");
  EXPECT_EQ(plan().what, What::deliver);
}

}  // namespace
}  // namespace dragoman::pipeline
