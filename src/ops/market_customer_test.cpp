#include <fmt/format.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "fakes/odoo_hub.h"
#include "pipeline/market_customers.h"
#include "pipeline/target.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

/// A marketplace's connection, and the stand-in Odoo that its orders go to, with the procedures in place.
class CustomerOperations : public tests::OdooHub {
 protected:
  void SetUp() override {
    OdooHub::SetUp();
    add_shop();
    provision();
  }

  std::int64_t partner(const std::string& name, const std::string& phone) {
    return odoo_.call("res.partner", "create", {json::array({{{"name", name}, {"phone", phone}}})}, json::object())
        .at(0)
        .get<std::int64_t>();
  }
  // An order of a shop, as its import leaves it in Odoo and in the hub.
  std::int64_t order(const std::string& id, const std::string& shop) {
    const auto main = hub_.connections.get("main");
    const auto target = hub_.connectors.get("odoo").make_target(main, hub_.connections.secret(main), hub_.clock);
    const std::string key = "cartona/shop/customer/" + shop;
    json reference = {{"key", key}, {"model", "res.partner"}, {"own", true}, {"values", {{"name", shop}}}};
    reference["match"] = json::array({json::array({"phone", json::array({json::array({"phone", "=", "+2000"})})})});
    const json content = {{"values", {{"partner_id", reference}}}, {"steps", json::array()}};
    const std::vector<pipeline::Outgoing> records{
        {.model = "sale.order", .key = "cartona/shop/" + id, .version = 1, .content = content.dump()}};
    const auto one = target->deliver(records, {}).at(0);
    EXPECT_FALSE(one.error) << one.error->message;
    const auto shop_id = hub_.connections.get("shop").id;
    hub_.store->write([&](store::Session& session) {
      session.execute(
          "INSERT INTO market_order (connection_id, external_id, number, customer, customer_key, seen_us, changed_us, "
          "version, state, odoo_connection_id, odoo_id, imported_us, ack) VALUES ($1, $2, $2, $3, $3, $4, $4, 1, "
          "'imported', $5, $6, $4, 'sent')",
          {shop_id, id, shop, to_us(session.now()), main.id, std::stoll(one.id)});
      pipeline::MarketCustomers::met(session, {.connection_id = shop_id,
                                               .odoo_connection_id = main.id,
                                               .key = shop,
                                               .name = "Shop " + shop,
                                               .target_key = key,
                                               .link = one.links.at(key),
                                               .cause = "test"});
    });
    return std::stoll(one.links.at(key).id);
  }
};

TEST_F(CustomerOperations, AWrongMatchIsShownUndoneAndNoted) {
  const auto wrong = partner("Wrong", "+2000"), right = partner("Right", "");
  ASSERT_EQ(order("A", "R-1"), wrong);
  const json listed = ask("market customers", {{"connection", "shop"}});
  ASSERT_EQ(listed["customers"].size(), 1u);
  EXPECT_EQ(listed["customers"][0]["customer"], "R-1");
  EXPECT_EQ(listed["customers"][0]["odoo_partner"], wrong);
  EXPECT_EQ(listed["customers"][0]["how"], "phone");
  EXPECT_EQ(ask("market customer", {{"connection", "shop"}, {"customer", "R-1"}})["with_it"][0]["order"], "A");

  const json linked = ask("market customer-link", {{"connection", "shop"},
                                                   {"customer", "R-1"},
                                                   {"odoo_partner", right},
                                                   {"reason", "the phone is another shop's"}});
  EXPECT_EQ(linked["odoo_partner"], right);
  EXPECT_EQ(linked["odoo_partner_name"], "Right");
  EXPECT_EQ(linked["partner_before"], wrong);
  EXPECT_EQ(linked["how_before"], "phone");
  EXPECT_EQ(linked["how"], "person:anna");
  EXPECT_EQ(linked["orders_kept"], 1);
  EXPECT_EQ(linked["kept"][0]["order"], "A");
  EXPECT_EQ(order("B", "R-1"), right);
  EXPECT_EQ(order("C", "R-2"), wrong) << "free for the shop that it is";

  const json undone =
      ask("market customer-unlink", {{"connection", "shop"}, {"customer", "R-2"}, {"reason", "nor that one"}});
  EXPECT_EQ(undone["odoo_partner"], nullptr);
  EXPECT_EQ(undone["kept"][0]["order"], "C");
  const auto made = order("D", "R-2");
  EXPECT_NE(made, wrong);
  EXPECT_NE(made, right);

  const json entries = ask("audit list", {{"action", "market.customer-*"}})["entries"];
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1]["subject"], "shop:R-1");
  EXPECT_EQ(entries[1]["why"], "the phone is another shop's");
  EXPECT_EQ(entries[1]["outcome"], "ok");
  const json before = json::parse(entries[1]["before"].get<std::string>());
  EXPECT_EQ(before["odoo_partner"], wrong);
  EXPECT_EQ(before["how"], "phone");
  EXPECT_EQ(json::parse(entries[1]["after"].get<std::string>())["odoo_partner"], right);
}

TEST_F(CustomerOperations, TwoShopsAreSaidToBeOneContactAndShownSo) {
  const auto first = order("A", "R-1"), second = order("B", "R-2");
  ASSERT_NE(first, second);
  json wish = {{"connection", "shop"}, {"customer", "R-2"}, {"odoo_partner", first}, {"reason", "two branches"}};
  EXPECT_NE(refusal("market customer-link", wish, Error::Kind::conflict).find("--shared"), std::string::npos);
  wish["shared"] = true;
  const json linked = ask("market customer-link", wish);
  EXPECT_EQ(linked["odoo_partner"], first);
  EXPECT_EQ(linked["same"], "R-1 of shop");
  EXPECT_EQ(ask("market customer", {{"connection", "shop"}, {"customer", "R-1"}})["same"], "R-2 of shop");
  EXPECT_EQ(order("C", "R-2"), first);
  EXPECT_EQ(order("D", "R-1"), first);
  const json alone = ask("market customer-unlink", {{"connection", "shop"}, {"customer", "R-2"}, {"reason", "no"}});
  EXPECT_EQ(alone["same"], "");
  EXPECT_NE(order("E", "R-2"), first);
  EXPECT_EQ(order("F", "R-1"), first);
}

TEST_F(CustomerOperations, WhatCannotBeIsRefusedInWords) {
  const auto wrong = partner("Wrong", "+2000");
  ASSERT_EQ(order("A", "R-1"), wrong);
  const auto other = order("B", "R-2");
  const auto link = [](const std::string& customer, std::int64_t to) {
    return json{{"connection", "shop"}, {"customer", customer}, {"odoo_partner", to}};
  };
  EXPECT_NE(refusal("market customer-link", link("R-9", wrong), Error::Kind::not_found).find("`R-9`"),
            std::string::npos);
  EXPECT_EQ(refusal("market customer-link", link("R-1", 999'999), Error::Kind::invalid),
            "There is no res.partner 999999 in Odoo.");
  EXPECT_NE(
      refusal("market customer-link", link("R-1", other), Error::Kind::conflict).find("`R-2` (Shop R-2) of `shop`"),
      std::string::npos);
  odoo_.call("res.partner", "write", {json::array({wrong}), {{"active", false}}}, json::object());
  ask("market customer-unlink", {{"connection", "shop"}, {"customer", "R-1"}});
  EXPECT_NE(refusal("market customer-link", link("R-1", wrong), Error::Kind::invalid).find("is archived in Odoo"),
            std::string::npos);
  EXPECT_NE(refusal("market customers", {{"connection", "main"}}, Error::Kind::invalid).find("no marketplace"),
            std::string::npos);
  hub_.connections.set_state("main", "paused", "stocktaking");
  EXPECT_EQ(refusal("market customer-link", link("R-1", other), Error::Kind::conflict),
            "The connection `main`, to Odoo, is paused: stocktaking. `dragoman connection resume main` goes on.");
}

TEST_F(CustomerOperations, AnOdooThatAnEarlierVersionProvisionedIsSaidToNeedIt) {
  ASSERT_GT(order("A", "R-1"), 0);
  const auto main = hub_.connections.get("main");
  json learnt = main.learnt["provision"];
  learnt["actions"].erase("relink");
  hub_.connections.set_learnt(main.id, json{{"provision", learnt}}.dump());
  EXPECT_EQ(refusal("market customer-unlink", {{"connection", "shop"}, {"customer", "R-1"}}, Error::Kind::unavailable),
            "The procedure `relink` is not in this Odoo: an administrator of it puts it there with `dragoman provision "
            "apply main`.");
  EXPECT_EQ(ask("market customer", {{"connection", "shop"}, {"customer", "R-1"}})["under_way"], "");
}

}  // namespace
}  // namespace dragoman::ops
