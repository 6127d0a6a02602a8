#include "pipeline/market_customers.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <utility>

#include "audit/audit.h"
#include "base/step.h"
#include "fakes/market_fixture.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

class ShopsCustomer : public tests::MarketFixture {
 protected:
  // A contact with the phone that all shops have here, which the first order finds.
  void found_by_phone() {
    add_shop();
    odoo_->partners[17] = {{"name", "Wrong"}, {"ref", "old"}, {"phone", "+200000000000"}};
    shop_->change("A", [](auto& order) { order.status = "approved"; });
    pull();
    ASSERT_EQ(there("A").partner, 17);
  }
  MarketCustomers::Asked asked(const std::string& customer, std::int64_t partner) {
    return {connections_->get("shop"), customer, partner, "token anna", "another shop's phone"};
  }
  MarketCustomerRow row(const std::string& customer = "R-17") {
    return customers_->get(connections_->get("shop"), customer);
  }
  std::string mapped() {
    return rows("SELECT external_id FROM integration_mapping WHERE entity = 'customer' ORDER BY id", 1);
  }
  std::string refusal(const MarketCustomers::Asked& what, Error::Kind kind) {
    try {
      customers_->relink(what, {});
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, kind) << error.message;
      return error.message;
    }
    ADD_FAILURE() << "not refused";
    return "";
  }
};

TEST_P(ShopsCustomer, ItIsShownByWhichRuleAShopIsWhichContact) {
  found_by_phone();
  shop_->change("B", [](auto& order) { order.retailer = "R-2"; });
  shop_->change("C", [](auto& order) {
    order.retailer = "R-3";
    order.lines[0].product = order.lines[0].code = "none";
  });
  pull();
  EXPECT_EQ(row().odoo_partner_id, 17);
  EXPECT_EQ(row().how, "phone");
  EXPECT_EQ(row().name, "Shop R-17");
  EXPECT_EQ(row().orders, 1);
  EXPECT_EQ(row("R-3").odoo_partner_id, 0) << "its order is held";
  EXPECT_EQ(row(std::to_string(row().id)).key, "R-17");
  EXPECT_EQ(customers_->list({.connection = "shop"}).size(), 3u);
  EXPECT_EQ(customers_->list({.connection = "shop", .text = "Shop R-2"}).size(), 1u);
  EXPECT_EQ(customers_->list({.connection = "shop", .limit = 1}).size(), 1u);
  EXPECT_THROW(row("R-99"), Error);
  // Told again without its rule, the rule stays.
  shop_->change("A2");
  pull();
  EXPECT_EQ(row().how, "phone");
  EXPECT_EQ(row().orders, 2);
}

TEST_P(ShopsCustomer, UndoneTheNextOrderMakesANewOneAndTheOldOrderKeepsItsOwn) {
  found_by_phone();
  const auto done = customers_->relink(asked("R-17", 0), {});
  EXPECT_EQ(done.before.odoo_partner_id, 17);
  EXPECT_EQ(done.before.how, "phone");
  EXPECT_EQ(done.after.odoo_partner_id, 0);
  EXPECT_EQ(done.after.how, "");
  EXPECT_TRUE(done.after.relinked);
  EXPECT_FALSE(done.after.intent);
  ASSERT_EQ(done.orders.size(), 1u);
  EXPECT_EQ(done.orders[0].external_id, "A");
  EXPECT_EQ(done.orders_kept, 1);
  EXPECT_EQ(mapped(), "");
  EXPECT_NE(orders_->story(order("A").id).back().message.find("keeps odoo:res.partner:17"), std::string::npos);

  shop_->change("B");
  pull();
  EXPECT_NE(there("B").partner, 17);
  EXPECT_EQ(row().odoo_partner_id, there("B").partner);
  EXPECT_EQ(row().how, "created");
  EXPECT_EQ(mapped(), fmt::format("odoo:res.partner:{}", there("B").partner));
  // The contact is free for the shop that it really is.
  shop_->change("C", [](auto& order) { order.retailer = "R-2"; });
  pull();
  EXPECT_EQ(there("C").partner, 17);

  // What is in Odoo keeps the customer that it has, whatever changes in it.
  shop_->change("A", [](auto& order) { order.lines[0].quantity = "5"; });
  shop_->change("B", [](auto& order) { order.lines[0].quantity = "6"; });
  pull();
  EXPECT_EQ(there("A").total().str(), "325");
  EXPECT_EQ(there("A").partner, 17);
  EXPECT_FALSE(odoo_->contents.at(odoo_->contents.size() - 2)["values"].contains("partner_id"));
  EXPECT_FALSE(odoo_->contents.back()["values"].contains("partner_id"));
  EXPECT_EQ(all(), "A|imported|sent B|imported|sent C|imported|sent");
  // Of the new one there is nothing to be mended.
  EXPECT_EQ(customers_->relink(asked("R-17", there("B").partner), {}).orders_kept, 0);
}

TEST_P(ShopsCustomer, LinkedToTheRightOneTheNextOrderHasIt) {
  found_by_phone();
  odoo_->partners[251] = {{"name", "Right"}, {"ref", "x"}};
  const auto done = customers_->relink(asked("R-17", 251), {});
  EXPECT_EQ(done.partner_name, "Right");
  EXPECT_EQ(row().odoo_partner_id, 251);
  EXPECT_EQ(row().how, "person:token anna");
  EXPECT_EQ(mapped(), "odoo:res.partner:251");
  shop_->change("B");
  pull();
  EXPECT_EQ(there("B").partner, 251);
  EXPECT_EQ(row().how, "person:token anna");
  // Once more is no harm, and says of no order that it was another one's.
  EXPECT_EQ(customers_->relink(asked("R-17", 251), {}).orders_kept, 0);
  EXPECT_EQ(orders_->story(order("B").id).back().what, "acknowledged");
  // The job that would have seen to it finds nothing to do.
  time_passes();
  work();
  EXPECT_EQ(odoo_->relinks, 2);
}

TEST_P(ShopsCustomer, WhatCannotBeIsRefusedInWordsAndLeavesAllAsItIs) {
  found_by_phone();
  shop_->change("B", [](auto& order) { order.retailer = "R-2"; });
  pull();
  odoo_->partners[52] = {{"name", "Old"}, {"active", false}};
  EXPECT_NE(refusal(asked("R-99", 17), Error::Kind::not_found).find("market customers"), std::string::npos);
  EXPECT_NE(refusal(asked("R-17", 99), Error::Kind::invalid).find("99"), std::string::npos);
  EXPECT_NE(refusal(asked("R-17", 52), Error::Kind::invalid).find("archived"), std::string::npos);
  const auto taken = refusal(asked("R-17", there("B").partner), Error::Kind::conflict);
  EXPECT_NE(taken.find("`R-2` (Shop R-2) of `shop`"), std::string::npos) << taken;
  connections_->set_state("main", "paused", "stocktaking");
  EXPECT_NE(refusal(asked("R-17", 0), Error::Kind::conflict).find("paused: stocktaking"), std::string::npos);
  connections_->set_state("main", "active", "");
  EXPECT_EQ(row().odoo_partner_id, 17);
  EXPECT_FALSE(row().intent);
  EXPECT_EQ(row().how, "phone");

  // Nothing was sent: it can be said again.
  odoo_->before_relink = [] { throw Error(Error::Kind::unavailable, "Nobody answers."); };
  refusal(asked("R-17", 0), Error::Kind::unavailable);
  EXPECT_FALSE(row().intent);
  odoo_->before_relink = {};
  // At the same moment as an order of the shop: again is right.
  int tries = 0;
  odoo_->before_relink = [&] {
    if (++tries < 3) throw Error(Error::Kind::conflict, "At the same moment.");
  };
  customers_->relink(asked("R-17", 0), {});
  EXPECT_EQ(row().odoo_partner_id, 0);
}

TEST_P(ShopsCustomer, TwoAreOneContactOnceAPersonSaysSoAndLetGoOfOneByOne) {
  found_by_phone();
  shop_->change("B", [](auto& order) { order.retailer = "R-2"; });
  pull();
  const auto second = there("B").partner;
  ASSERT_NE(second, 17);
  EXPECT_NE(
      refusal(asked("R-2", 17), Error::Kind::conflict).find("`dragoman market customer-link shop R-2 17 --shared`"),
      std::string::npos);
  EXPECT_EQ(row("R-2").odoo_partner_id, second);
  auto both = asked("R-2", 17);
  both.shared = true;
  // The answer is lost: the job that asks again says it of both as well.
  odoo_->after_relink = [] { throw Error(Error::Kind::in_doubt, "The answer was lost."); };
  refusal(both, Error::Kind::in_doubt);
  odoo_->after_relink = {};
  EXPECT_NE(refusal(asked("R-2", 17), Error::Kind::conflict).find("under way"), std::string::npos)
      << "it does not become a wish that is refused";
  time_passes();
  work();
  EXPECT_EQ(row("R-2").odoo_partner_id, 17);
  EXPECT_EQ(row("R-2").how, "person:token anna");
  const auto same = customers_->same(row("R-2"));
  ASSERT_EQ(same.size(), 1u);
  EXPECT_EQ(same[0].key, "R-17");
  shop_->change("C", [](auto& order) { order.retailer = "R-2"; });
  shop_->change("D");
  pull();
  EXPECT_EQ(there("C").partner, 17);
  EXPECT_EQ(there("D").partner, 17);
  EXPECT_EQ(customers_->relink(both, {}).orders_kept, 0) << "said already";

  customers_->relink(asked("R-17", 0), {});
  EXPECT_EQ(row("R-2").odoo_partner_id, 17);
  EXPECT_TRUE(customers_->same(row("R-2")).empty());
  shop_->change("E", [](auto& order) { order.retailer = "R-2"; });
  shop_->change("F");
  pull();
  EXPECT_EQ(there("E").partner, 17);
  EXPECT_NE(there("F").partner, 17);
}

TEST_P(ShopsCustomer, WhoseAnswerWasLostIsAskedForAgainByAJob) {
  found_by_phone();
  odoo_->partners[251] = {{"name", "Right"}};
  odoo_->after_relink = [] { throw Error(Error::Kind::in_doubt, "The answer was lost."); };
  refusal(asked("R-17", 251), Error::Kind::in_doubt);
  ASSERT_TRUE(row().intent);
  EXPECT_EQ(row().intent->partner_id, 251);
  EXPECT_EQ(row().odoo_partner_id, 17) << "not known yet";
  // Another wish waits until it is known.
  EXPECT_NE(refusal(asked("R-17", 0), Error::Kind::conflict).find("under way"), std::string::npos);
  odoo_->after_relink = {};
  time_passes();
  work();
  EXPECT_FALSE(row().intent);
  EXPECT_EQ(row().odoo_partner_id, 251);
  EXPECT_EQ(mapped(), "odoo:res.partner:251");
  EXPECT_EQ(rows("SELECT actor, action, subject, outcome FROM audit WHERE action = 'market.relink'", 4),
            "node test|market.relink|shop:R-17|ok");
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM job WHERE state NOT IN (4, 5)", 1), "0");
}

TEST_P(ShopsCustomer, KilledAtAnyStepItIsDoneOnce) {
  found_by_phone();
  odoo_->partners[251] = {{"name", "Right"}};
  struct Killed {};
  for (const char* at : {"market.relink_intended", "market.relinked"}) {
    const std::int64_t to = row().odoo_partner_id == 251 ? 0 : 251;
    on_step([&](std::string_view name) {
      if (name == at) throw Killed{};
    });
    EXPECT_THROW(customers_->relink(asked("R-17", to), {}), Killed);
    on_step({});
    ASSERT_TRUE(row().intent) << at;
    time_passes();
    work();
    EXPECT_FALSE(row().intent) << at;
    EXPECT_EQ(row().odoo_partner_id, to) << at;
  }
  shop_->change("B");
  pull();
  EXPECT_NE(there("B").partner, 17);
  EXPECT_NE(there("B").partner, 251);
}

TEST_P(ShopsCustomer, AnotherOneThanWasThoughtIsSaidAndKnownFromThenOn) {
  found_by_phone();
  // As after the hub's store came back from a backup.
  store_->write([](store::Session& session) { session.execute("UPDATE market_customer SET odoo_partner_id = 16"); });
  const auto message = refusal(asked("R-17", 0), Error::Kind::conflict);
  EXPECT_NE(message.find("odoo:res.partner:17"), std::string::npos) << message;
  EXPECT_EQ(row().odoo_partner_id, 17);
  EXPECT_EQ(row().how, "");
  customers_->relink(asked("R-17", 0), {});
  EXPECT_EQ(row().odoo_partner_id, 0);
}

TEST_P(ShopsCustomer, AnOrderThatWaitsForItsCustomerIsTriedAgain) {
  add_shop();
  odoo_->partners[17] = {{"name", "One"}, {"phone", "+200000000000"}};
  odoo_->partners[18] = {{"name", "Two"}, {"phone", "+200000000000"}};
  shop_->change("A");
  pull();
  EXPECT_EQ(order("A").hold_code, "import_ambiguous");
  const auto done = customers_->relink(asked("R-17", 18), {});
  EXPECT_EQ(done.retried, 1);
  EXPECT_EQ(done.orders_kept, 0);
  work();
  EXPECT_EQ(there("A").partner, 18);
  EXPECT_EQ(all(), "A|imported|sent");
}

TEST_P(ShopsCustomer, AnOrderThatWasOnItsWayMeanwhileDoesNotTurnItBack) {
  found_by_phone();
  odoo_->partners[251] = {{"name", "Right"}};
  // Odoo has answered, and what it said is not written down yet.
  bool said = false;
  odoo_->after_call = [&] {
    if (!std::exchange(said, true)) customers_->relink(asked("R-17", 251), {});
  };
  shop_->change("B");
  pull();
  EXPECT_EQ(there("B").partner, 17);
  EXPECT_EQ(row().odoo_partner_id, 251);
  EXPECT_EQ(mapped(), "odoo:res.partner:251");
}

INSTANTIATE_TEST_SUITE_P(, ShopsCustomer, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
