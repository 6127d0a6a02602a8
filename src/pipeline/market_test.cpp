#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "audit/audit.h"
#include "base/step.h"
#include "fakes/market_fixture.h"
#include "pipeline/market_day.h"
#include "pipeline/market_products.h"

namespace dragoman::pipeline {
namespace {

using jobs::Outcome;
using nlohmann::json;
using tests::FakeMarketplace;
using tests::FakeOdoo;

class Market : public tests::MarketFixture {
 protected:
  void close(const std::string& id) { orders_->close(order(id), "fake/shop/" + id, "anna", "the shop called it off"); }
  std::string refused_close(const std::string& id) {
    try {
      close(id);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::conflict);
      return error.message;
    }
    return "";
  }
};

TEST_P(Market, ANewOrderAppearsInOdooAndIsThenAcknowledged) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(there("A").state, "sale");
  EXPECT_EQ(there("A").total().str(), "130");
  EXPECT_EQ(there("A").lines.at("1").product, 51);
  EXPECT_EQ(shop_->all["A"].acknowledged, 1);
  const auto row = order("A");
  EXPECT_EQ(row.odoo_id, there("A").id);
  EXPECT_EQ(row.customer, "Shop R-17");
  EXPECT_EQ(row.total, "130");
  EXPECT_EQ(
      rows("SELECT entity, internal_id, external_id FROM integration_mapping ORDER BY id", 3),
      "order|fake/shop/A|odoo:sale.order:1 order_line|fake/shop/A/1|odoo:sale.order.line:101 "
      "customer|fake/shop/customer/R-17|odoo:res.partner:1000 product|fake/shop/product/700|odoo:product.product:51");
  EXPECT_EQ(rows("SELECT external_id, state, CAST(odoo_product_id AS TEXT), how FROM market_product", 4),
            "700|linked|51|default_code");
}

TEST_P(Market, AKnownOrderThatDidNotChangeIsLeftAlone) {
  add_shop();
  shop_->deaf = {"A"};
  shop_->change("A");
  pull();
  const auto before = rows("SELECT CAST(COUNT(*) AS TEXT) FROM change", 1);
  const auto again = rows("SELECT CAST(changed_us AS TEXT), CAST(revision AS TEXT) FROM market_order", 2);
  pull();
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM change", 1), before);
  EXPECT_EQ(rows("SELECT CAST(changed_us AS TEXT), CAST(revision AS TEXT) FROM market_order", 2), again);
  EXPECT_EQ(odoo_->calls, 1);
}

TEST_P(Market, AnOrderIsStoredBeforeAnythingIsDoneWithIt) {
  add_shop();
  shop_->change("A");
  ask_for_pull();
  auto claimed = queue_->claim(node_->id(), {.jobs_max = 1, .room = {}, .idle = true}).jobs;
  ASSERT_EQ(claimed.size(), 1u);
  const auto outcome = claimed[0].lane.kind->handler->run(std::vector{claimed[0].job}, {}).at(0);
  EXPECT_EQ(odoo_->calls, 0);
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM change WHERE body IS NOT NULL", 1), "1");
  EXPECT_EQ(all(), "A|new|no");
  EXPECT_EQ(rows("SELECT order_key FROM job WHERE state = 0", 1), fmt::format("market/{}/1", shop_id_));
}

TEST_P(Market, AnOrderWithoutItsProductIsHeldWithAReasonAndNotAcknowledged) {
  add_shop();
  odoo_->products.clear();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  EXPECT_EQ(all(), "A|held|no");
  EXPECT_EQ(order("A").hold_code, "import_notmatched");
  // A person reads which product it is, and what to do; Odoo's own words stay.
  EXPECT_EQ(order("A").hold_message,
            "`Thing 700` (700) is no product of Odoo's that is found, or it is archived there: `dragoman market link "
            "shop 700 ID` "
            "says which it is. Odoo says: No product.product is found for `fake/shop/product/700`, tried: nothing.");
  EXPECT_TRUE(odoo_->orders.empty());
  EXPECT_TRUE(odoo_->partners.empty());
  EXPECT_EQ(shop_->all["A"].acknowledged, 0);
  EXPECT_EQ(rows("SELECT fingerprint FROM alert", 1), "market:shop:import_notmatched");
  // No dead letter: the order waits, its job does not.
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM job WHERE state = 6", 1), "0");
  EXPECT_EQ(rows("SELECT external_id, state FROM market_product", 2), "700|proposed");
  // It is listed again, and that changes nothing.
  pull();
  EXPECT_EQ(odoo_->calls, 1);

  odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  try_again();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(odoo_->created, 1);
}

TEST_P(Market, WhatIsHeldIsTriedAgainAtRetry) {
  add_shop();
  odoo_->products.clear();
  shop_->change("A");
  shop_->change("B");
  pull();
  const auto groups = orders_->holds("shop");
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].orders, 2);
  EXPECT_EQ(groups[0].code, "import_notmatched");
  odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  EXPECT_EQ(orders_->retry("shop", "import_notmatched", 0, "a person"), 2);
  work();
  EXPECT_EQ(all(), "A|imported|sent B|imported|sent");
}

TEST_P(Market, TwoCandidatesAreAnErrorNeverAGuess) {
  add_shop();
  odoo_->products[52] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  shop_->change("A");
  pull();
  EXPECT_EQ(all(), "A|held|no");
  EXPECT_EQ(order("A").hold_code, "import_ambiguous");
}

TEST_P(Market, ATotalThatIsNotThatOfTheLinesHoldsTheOrder) {
  add_shop();
  shop_->change("A", [](auto& order) { order.total = "130.01"; });
  pull();
  EXPECT_EQ(order("A").hold_code, "total");
  EXPECT_EQ(odoo_->calls, 0);
  shop_->change("A", [](auto& order) { order.total = "130.00"; });
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
}

TEST_P(Market, ABadAmountAndAnUnknownStateHoldTheOrder) {
  add_shop();
  shop_->change("A", [](auto& order) {
    order.lines[0].quantity = "2";
    order.status = "teleported";
  });
  pull();
  EXPECT_EQ(order("A").hold_code, "unknown_state");
  EXPECT_NE(order("A").hold_message.find("teleported"), std::string::npos);
}

TEST_P(Market, AmountsThatNobodyCanReckonWithHoldTheOrder) {
  add_shop();
  shop_->change("A", [](auto& order) {
    order.total = "1";
    order.lines[0].quantity = order.lines[0].price = "999999999999999999999999";
  });
  pull();
  EXPECT_EQ(order("A").hold_code, "decimal");
  EXPECT_EQ(all(), "A|held|no");
}

TEST_P(Market, AChangeMakesItComeBackAndUpdatesTheLines) {
  add_shop();
  shop_->change("A");
  pull();
  EXPECT_EQ(there("A").state, "draft");
  shop_->change("A", [](auto& order) {
    order.status = "approved";
    order.lines[0].quantity = "3";
    order.lines.push_back({.id = 2, .product = "700", .code = "T-1", .quantity = "1", .price = "100"});
  });
  pull();
  EXPECT_EQ(there("A").state, "sale");
  EXPECT_EQ(there("A").total().str(), "295");
  EXPECT_EQ(there("A").lines.size(), 2u);
  EXPECT_EQ(order("A").version, 2);
  EXPECT_EQ(odoo_->created, 1);
  EXPECT_EQ(shop_->all["A"].acknowledged, 2);
}

TEST_P(Market, ANewStateAloneSendsNoLines) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  shop_->change("A", [](auto& order) { order.status = "delivered"; });
  pull();
  EXPECT_TRUE(there("A").delivered);
  EXPECT_FALSE(odoo_->contents.back().contains("children"));
  EXPECT_EQ(odoo_->contents.back()["steps"], json({"confirm", "deliver"}));
}

TEST_P(Market, AnEarlierStateIsRecordedAndNotApplied) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "assigned"; });
  pull();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  const int calls = odoo_->calls;
  pull();
  EXPECT_EQ(odoo_->calls, calls);
  EXPECT_EQ(order("A").version, 2);
  EXPECT_EQ(order("A").status, "approved");
  EXPECT_EQ(order("A").applied_state, "assigned");
  EXPECT_EQ(all(), "A|imported|sent");
}

TEST_P(Market, AnOrderThatTheShopEditsIsLeftAloneUntilItIsPendingAgain) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  shop_->change("A", [](auto& order) { order.status = "editing"; });
  pull();
  EXPECT_EQ(all(), "A|held|no");
  EXPECT_EQ(order("A").hold_code, "editing");
  EXPECT_FALSE(order("A").hold_next);
  shop_->change("A", [](auto& order) {
    order.status = "pending";
    order.lines[0].quantity = "5";
  });
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(there("A").total().str(), "325");
}

TEST_P(Market, ACancelledOrderIsCancelledAndADeliveredOneIsFlagged) {
  add_shop();
  for (const char* id : {"A", "B"}) shop_->change(id, [](auto& order) { order.status = "approved"; });
  pull();
  there("B").delivered = true;
  for (const char* id : {"A", "B"}) shop_->change(id, [](auto& order) { order.status = "cancelled"; });
  pull();
  EXPECT_EQ(there("A").state, "cancel");
  EXPECT_EQ(there("B").state, "sale");
  EXPECT_EQ(order("B").flag, "import_delivered");
  EXPECT_EQ(all(), "A|cancelled|sent B|imported|sent");
}

TEST_P(Market, AnOrderThatIsCancelledThoughItWasInvoicedIsCancelledAndFlagged) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  there("A").invoiced = true;
  shop_->change("A", [](auto& order) { order.status = "cancelled"; });
  pull();
  EXPECT_EQ(there("A").state, "cancel");
  EXPECT_EQ(order("A").flag, "import_invoiced");
  EXPECT_EQ(all(), "A|cancelled|sent");
}

TEST_P(Market, PeopleAreToldOfWhatIsTheirsAndSayThatTheySawToIt) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  shop_->change("A", [](auto& order) { order.status = "returned"; });
  pull();
  EXPECT_EQ(order("A").flag, "returned");
  EXPECT_EQ(rows("SELECT fingerprint FROM alert", 1), "market:shop:flag:returned");
  EXPECT_EQ(rows("SELECT CAST(times AS TEXT) FROM alert", 1), "1");

  const auto seen = order("A");
  orders_->resolve(seen, "anna", "the goods are back on the shelf");
  EXPECT_EQ(order("A").flag, "");
  EXPECT_EQ(orders_->story(seen.id).back().message, "returned by anna: the goods are back on the shelf");
  EXPECT_EQ(orders_->standings().at(0).flagged, 0);
  EXPECT_THROW(orders_->resolve(seen, "ben", ""), Error) << "somebody else saw to it";
  EXPECT_EQ(all(), "A|imported|sent");
}

// The contact in Odoo stays as people keep it, so nothing there would tell who delivers.
TEST_P(Market, AnotherPhoneOfAnOrderThatIsInOdooIsForAPersonToSee) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  const auto contacts = odoo_->partners;
  const auto call = [&](const std::string& phone, const std::string& status = "approved") {
    shop_->change("A", [&](auto& order) {
      order.phone = phone;
      order.status = status;
    });
    pull();
  };
  const auto said = [&] {
    std::string out;
    for (const auto& event : orders_->story(order("A").id))
      if (event.what == "contact") out += event.message + " ";
    return out;
  };
  call("0100");
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(odoo_->partners, contacts);
  EXPECT_EQ(order("A").flag, "contact_changed");
  EXPECT_EQ(order("A").flag_message, "Phone: +200000000000 -> 0100.");
  EXPECT_EQ(said(), "Phone: +200000000000 -> 0100. ");
  EXPECT_EQ(rows("SELECT fingerprint FROM alert", 1), "market:shop:flag:contact_changed");
  EXPECT_EQ(rows("SELECT text FROM alert", 1).find("0100"), std::string::npos) << "it goes to mailboxes and chats";
  call("0200");
  EXPECT_EQ(order("A").flag_message, "Phone: +200000000000 -> 0100. Phone: 0100 -> 0200.");
  orders_->resolve(order("A"), "anna", "told the driver");
  shop_->change("A", [](auto& order) { order.status = "assigned"; });
  pull();
  EXPECT_EQ(order("A").flag, "") << "nothing new";
  call("0300", "delivered");
  EXPECT_EQ(order("A").flag, "") << "nobody goes there any more";
  EXPECT_EQ(said(), "Phone: +200000000000 -> 0100. Phone: 0100 -> 0200. Phone: 0200 -> 0300. ");
}

TEST_P(Market, AnotherPhoneBeforeTheOrderCameToOdooIsNobodysTrouble) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "editing"; });
  pull();
  shop_->change("A", [](auto& order) {
    order.phone = "0100";
    order.status = "pending";
  });
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(order("A").flag, "");
}

TEST_P(Market, AnotherPhoneThatComesWhileTheOrderIsOnItsWayIsFlaggedAsWell) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  odoo_->before_call = [&] {
    odoo_->before_call = nullptr;
    shop_->change("A", [](auto& order) { order.phone = "0100"; });
    pull();
  };
  pull();
  EXPECT_EQ(order("A").flag, "contact_changed");
  EXPECT_EQ(order("A").version, 2);
}

TEST_P(Market, WhatWasCancelledBeforeItCameNeverGetsToOdoo) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "cancelled"; });
  shop_->change("B", [](auto& order) { order.status = "returned"; });
  pull();
  EXPECT_EQ(all(), "A|cancelled|sent B|ignored|sent");
  EXPECT_EQ(order("B").flag, "returned");
  EXPECT_EQ(odoo_->calls, 0);
}

TEST_P(Market, ALostAnswerMakesNoSecondOrder) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  odoo_->after_call = [] { throw Error(Error::Kind::in_doubt, "The answer was lost."); };
  pull();
  EXPECT_EQ(all(), "A|new|no");
  odoo_->after_call = nullptr;
  time_passes();
  work();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(odoo_->created, 1);
  EXPECT_EQ(odoo_->probes, 1);
  EXPECT_EQ(order("A").odoo_id, there("A").id);
}

TEST_P(Market, WhatIsCancelledWhileItsImportIsInDoubtIsCancelledInOdoo) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  odoo_->after_call = [] { throw Error(Error::Kind::in_doubt, "The answer was lost."); };
  pull();
  ASSERT_EQ(all(), "A|new|no");
  odoo_->after_call = nullptr;
  shop_->change("A", [](auto& order) { order.status = "cancelled"; });
  pull();
  time_passes();
  work();
  EXPECT_EQ(all(), "A|cancelled|sent");
  EXPECT_EQ(odoo_->created, 1);
  EXPECT_EQ(there("A").state, "cancel") << "it was there, confirmed, and nobody would have known";
  EXPECT_EQ(order("A").odoo_id, there("A").id);
}

TEST_P(Market, ALostAcknowledgementIsSentAgain) {
  add_shop();
  shop_->change("A");
  shop_->before_ack = [] { throw Error(Error::Kind::in_doubt, "Never arrived."); };
  pull();
  EXPECT_EQ(all(), "A|imported|due");
  shop_->before_ack = nullptr;
  time_passes();
  work();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_TRUE(shop_->all["A"].synced);
}

TEST_P(Market, WhatIsListedThoughAcknowledgedIsAcknowledgedByItself) {
  add_shop();
  shop_->deaf = {"A"};
  shop_->change("A");
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_FALSE(shop_->all["A"].synced);
  time_passes();
  pull();
  EXPECT_TRUE(shop_->all["A"].synced);
  EXPECT_EQ(shop_->single_calls, 1);
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(odoo_->created, 1);
}

TEST_P(Market, AnAcknowledgementWaitsForTheNewestVersion) {
  add_shop();
  shop_->change("A");
  // Between the import and its acknowledgement a newer version comes, which has a product that is not there.
  odoo_->after_call = [&] {
    odoo_->after_call = nullptr;
    shop_->change("A", [](auto& order) { order.lines[0].product = order.lines[0].code = "none"; });
    store_->write([&](store::Session& session) { MarketJobs::enqueue_pull(session, shop_id_, "test"); });
  };
  pull();
  EXPECT_EQ(order("A").version, 2);
  EXPECT_EQ(order("A").state, "held");
  EXPECT_EQ(order("A").ack, "no");
}

TEST_P(Market, APageThatShrinksUnderTheReaderLosesNothing) {
  add_shop({{"batch_size", 5}});
  for (int i = 0; i < 23; ++i) shop_->change(fmt::format("O{:02}", i));
  // Somebody else's acknowledgements move the rest of the list up while it is read.
  int taken = 0;
  shop_->after_page = [&](const auto&) {
    for (auto& [id, order] : shop_->all)
      if (taken < 3 && !order.synced && id.starts_with("O0")) {
        order.synced = true;
        ++taken;
        break;
      }
  };
  pull();
  int imported = 0;
  for (const auto& [id, order] : shop_->all) imported += odoo_->orders.contains("fake/shop/" + id) ? 1 : 0;
  EXPECT_EQ(imported, 23);
}

TEST_P(Market, ARefusedTokenStopsTheConnectionUntilAPersonActs) {
  add_shop();
  shop_->change("A");
  shop_->before_pull = [](const auto&) { throw Error(Error::Kind::auth, "The token is refused."); };
  pull();
  EXPECT_EQ(connections_->get("shop").state, "error");
  const int pulls = shop_->pulls;
  MarketPoller poller(*orders_, *marketplaces_, clock_);
  poller.step();
  time_passes();
  work();
  EXPECT_EQ(shop_->pulls, pulls);
}

TEST_P(Market, A400WithoutAReasonIsARefusedTokenOnlyIfTheTestFailsToo) {
  add_shop();
  shop_->before_pull = [](const auto&) {
    Error error(Error::Kind::invalid, "400 Bad Request");
    error.code = "suspect";
    throw error;
  };
  pull();
  EXPECT_EQ(shop_->tests, 1);
  EXPECT_EQ(connections_->get("shop").state, "active");
  shop_->on_test = shop_->before_pull ? std::function<void()>([] {
    Error error(Error::Kind::invalid, "400 Bad Request");
    error.code = "suspect";
    throw error;
  })
                                      : nullptr;
  time_passes();
  work();
  EXPECT_EQ(connections_->get("shop").state, "error");
  EXPECT_EQ(connections_->get("shop").reason.substr(0, 58),
            "400 Bad Request. The test of the connection fails likewise");
}

TEST_P(Market, AMarketplaceThatIsAwayCostsNoOrderATry) {
  add_shop();
  shop_->change("A");
  shop_->before_pull = [](const auto&) { throw Error(Error::Kind::unavailable, "Not reached."); };
  pull();
  EXPECT_EQ(connections_->get("shop").state, "active");
  shop_->before_pull = nullptr;
  time_passes();
  work();
  EXPECT_EQ(all(), "A|imported|sent");
}

TEST_P(Market, TheNextPullReachesBackToTheLastThatCameToItsEnd) {
  add_shop({{"lookback_hours", 1}});
  std::vector<std::optional<Time>> from;
  shop_->before_pull = [&](const auto& asked) { from.push_back(asked.from); };
  pull();
  store_->write([&](store::Session& session) {
    MarketOrders::set_cursor(session, shop_id_, "orders",
                             std::to_string(to_us(session.now() - std::chrono::hours(100))));
  });
  pull();
  ASSERT_EQ(from.size(), 2u);
  ASSERT_TRUE(from[0] && from[1]);
  EXPECT_LT(*from[1], *from[0] - std::chrono::hours(99));
}

TEST_P(Market, OnceAnHourAPullReachesBackToTheOldestOrderThatIsOpen) {
  add_shop({{"lookback_hours", 1}});
  shop_->change("A");
  shop_->change("B");
  pull();
  const auto made = [&](const char* id, int hours) {
    store_->write([&](store::Session& session) {
      session.execute("UPDATE market_order SET ordered_us = $2 WHERE external_id = $1",
                      {id, to_us(session.now() - std::chrono::hours(hours))});
    });
  };
  made("A", 400);
  made("B", 500);
  store_->write([](store::Session& session) {
    session.execute("UPDATE market_order SET market_state = 'delivered' WHERE external_id = 'B'");
  });
  std::vector<std::int64_t> hours;
  shop_->before_pull = [&](const auto& asked) {
    Time now{};
    store_->read([&](store::Session& session) { now = session.now(); });
    hours.push_back(std::chrono::duration_cast<std::chrono::hours>(now - *asked.from).count());
  };
  pull();
  store_->write([&](store::Session& session) {
    MarketOrders::set_cursor(session, shop_id_, "orders_far",
                             std::to_string(to_us(session.now() - std::chrono::hours(2))));
  });
  pull();
  pull();
  EXPECT_EQ(hours, (std::vector<std::int64_t>{1, 424, 1}))
      << "a day more than the order is old, and not for one that is over";
}

TEST_P(Market, ReachingBackToAnOpenOrderNeverShortensTheRangeThatIsSet) {
  add_shop({{"lookback_hours", 24 * 200}});
  shop_->change("A");
  pull();
  std::vector<std::optional<Time>> from;
  shop_->before_pull = [&](const auto& asked) { from.push_back(asked.from); };
  for (const char* cursor : {"orders", "orders_far"}) {
    store_->write([&](store::Session& session) {
      MarketOrders::set_cursor(session, shop_id_, cursor, std::to_string(to_us(session.now() - std::chrono::hours(2))));
      session.execute("UPDATE market_order SET ordered_us = $1", {to_us(session.now() - std::chrono::hours(24 * 300))});
    });
    pull();
  }
  ASSERT_EQ(from.size(), 2u);
  ASSERT_TRUE(from[0] && from[1]);
  EXPECT_LT(*from[1] - *from[0], std::chrono::hours(3));
}

TEST_P(Market, OrdersWaitForAnOdooThatIsNotThereYet) {
  add_shop({{"odoo", "erp"}});
  shop_->change("A");
  pull();
  EXPECT_EQ(all(), "A|held|no");
  EXPECT_NE(order("A").hold_message.find("`erp`"), std::string::npos);
  connections_->add("erp", "fake", json::object(), Secret());
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
}

TEST_P(Market, ThePollerPullsEveryConnectionWhenItsTimeHasCome) {
  add_shop();
  MarketPoller poller(*orders_, *marketplaces_, clock_);
  poller.step();
  poller.step();
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM job WHERE unique_key LIKE 'market.pull%'", 1), "1");
  connections_->set_state("shop", "paused", "test");
  MarketPoller other(*orders_, *marketplaces_, clock_);
  work();
  other.step();
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM job WHERE unique_key LIKE 'market.pull%'", 1), "1");
}

TEST_P(Market, ABacklogOfOneMarketplaceLetsTheOrdersOfOthersGoFirst) {
  add_shop({{"batch_size", 60}});
  const auto other =
      connections_->add("other", "market", connectors_->check_settings("market", {{"odoo", "main"}}), Secret("token"))
          .id;
  for (int i = 0; i < 240; ++i) shop_->change(fmt::format("A{}", i));
  other_->change("B");
  const auto claimed = [&](std::string_view kind, int most) {
    const auto room = [&](const jobs::Lane& lane) { return lane.kind->name == kind ? most : 0; };
    return queue_->claim(node_->id(), {.jobs_max = 1000, .room = room, .idle = true}).jobs;
  };
  for (const auto connection : {shop_id_, other}) {
    store_->write([&](store::Session& session) { MarketJobs::enqueue_pull(session, connection, "test"); });
    auto pulls = claimed("market.pull", 10);
    ASSERT_EQ(pulls.size(), 1u);
    std::vector<jobs::Finished> finished{
        {pulls[0], pulls[0].lane.kind->handler->run(std::span(&pulls[0].job, 1), {}).at(0)}};
    queue_->finish(finished);
  }
  const auto first = claimed("market.import", 101);
  ASSERT_EQ(first.size(), 101u);
  const auto of_other = fmt::format(R"({{"order":{}}})", orders_->get("other", "B").id);
  EXPECT_EQ(first.back().job.payload, of_other);
  EXPECT_EQ(claimed("market.import", 1000).size(), 140u);
}

TEST_P(Market, ALinkByAPersonComesBeforeTheRulesAndBringsItsFactor) {
  add_shop();
  odoo_->products[60] = {.default_code = "other", .barcode = "", .cartona_id = ""};
  store_->write([&](store::Session& session) {
    session.execute(
        "INSERT INTO market_product (connection_id, external_id, factor, odoo_product_id, how, state, seen_us, "
        "changed_us) VALUES ($1, '700', '12', 60, 'person:anna', 'linked', 0, 0)",
        {shop_id_});
  });
  shop_->change("A", [](auto& order) { order.lines[0].price = "60"; });
  pull();
  EXPECT_EQ(there("A").lines.at("1").product, 60);
  EXPECT_EQ(there("A").lines.at("1").quantity.str(), "24");
  EXPECT_EQ(there("A").lines.at("1").price.str(), "5");
  EXPECT_EQ(there("A").total().str(), "120");
  // One that is archived is none: the order is held.
  odoo_->products[60].active = false;
  shop_->change("B");
  store_->write([](store::Session& session) { session.execute("UPDATE market_product SET odoo_product_id = 61"); });
  pull();
  EXPECT_EQ(order("B").hold_code, "import_notmatched");
}

TEST_P(Market, LinkingAProductLetsHeldOrdersGo) {
  add_shop();
  odoo_->products = {{60, {.default_code = "other", .barcode = "", .cartona_id = ""}}};
  shop_->change("A");
  pull();
  EXPECT_EQ(all(), "A|held|no");
  MarketProducts products(*store_);
  EXPECT_EQ(products.list({}).at(0).state, "proposed");
  products.link(shop_id_, {.product = "700", .odoo_product_id = 60, .factor = 1}, "anna");
  EXPECT_EQ(orders_->retry("shop", "import_notmatched", 0, "linked"), 1);
  work();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(there("A").lines.at("1").product, 60);
  EXPECT_EQ(products.get(shop_id_, "700").how, "person:anna");

  // None of ours: what has it is held.
  products.unlink(shop_id_, "700", true, "anna");
  shop_->change("B");
  pull();
  EXPECT_EQ(order("B").hold_code, "product");
  EXPECT_THROW(products.link(shop_id_, {.product = "700", .odoo_product_id = 60, .factor = 0}, "anna"), Error);
  EXPECT_THROW(products.unlink(shop_id_, "none", false, "anna"), Error);
}

TEST_P(Market, AnOrderHasItsStoryAndAConnectionItsStanding) {
  add_shop();
  odoo_->products.clear();
  shop_->change("A");
  shop_->change("B", [](auto& order) { order.status = "returned"; });
  pull();
  try_again();
  auto standing = orders_->standings().at(0);
  EXPECT_EQ(standing.held, 1);
  EXPECT_EQ(standing.flagged, 1);
  EXPECT_TRUE(standing.pulled);
  odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  orders_->retry("shop", "", order("A").id, "by anna");
  work();
  std::vector<std::string> told;
  for (const auto& event : orders_->story(order("A").id)) told.push_back(event.what);
  EXPECT_EQ(told, (std::vector<std::string>{"version", "held", "retry", "imported", "acknowledged"}));
  standing = orders_->standings().at(0);
  EXPECT_EQ(standing.held, 0);
  EXPECT_EQ(standing.due_acks, 0);
}

TEST_P(Market, AHeldOrderThatAPersonClosesIsDoneWithAndItsMarketplaceKnowsIt) {
  add_shop();
  odoo_->products.clear();
  shop_->change("A");
  pull();
  ASSERT_EQ(all(), "A|held|no");
  close("A");
  work();
  EXPECT_EQ(shop_->all["A"].acknowledged, 1);
  const auto row = order("A");
  EXPECT_EQ(row.state, "closed");
  EXPECT_EQ(row.closed_why, "by anna: the shop called it off");
  EXPECT_EQ(row.ack, "sent");
  EXPECT_TRUE(orders_->holds("").empty());
  const auto standing = orders_->standings().at(0);
  EXPECT_EQ(standing.held + standing.waiting + standing.due_acks, 0);
  EXPECT_EQ(orders_->list({.state = "closed"}).size(), 1u);
  EXPECT_EQ(orders_->list({.state = "ignored"}).size(), 0u);
  EXPECT_EQ(orders_->list({.state = "held"}).size(), 0u);
  // Neither its time, nor a retry of all, nor what it waited for brings it in.
  odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  try_again();
  EXPECT_EQ(orders_->retry("shop", "", 0, "all"), 0);
  work();
  EXPECT_EQ(odoo_->created, 0);
  EXPECT_EQ(rows("SELECT what, message FROM market_event WHERE what = 'closed'", 2),
            "closed|by anna: the shop called it off. It was held: import_notmatched");
}

TEST_P(Market, ANewVersionOfAClosedOrderIsKeptAndAcknowledgedAndDoesNotOpenIt) {
  add_shop();
  odoo_->products.clear();
  shop_->change("A");
  pull();
  close("A");
  work();
  odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  EXPECT_EQ(order("A").state, "closed");
  EXPECT_EQ(order("A").version, 2);
  EXPECT_EQ(order("A").ack, "sent");
  EXPECT_EQ(shop_->all["A"].acknowledged, 2);
  EXPECT_EQ(odoo_->calls, 1) << "the one that was refused";
  EXPECT_NE(orders_->story(order("A").id).at(4).message.find("The order is closed: it is not imported"),
            std::string::npos);
  // A person opens it again, and it is as any other.
  EXPECT_EQ(orders_->retry("shop", "", order("A").id, "by anna"), 1);
  work();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(order("A").state, "imported");
  EXPECT_EQ(there("A").state, "sale");
  EXPECT_EQ(rows("SELECT message FROM market_event WHERE what = 'opened'", 1), "by anna");
}

TEST_P(Market, AnOrderIsClosedBeforeItsJobRunsAndTheJobEnds) {
  add_shop();
  shop_->change("A");
  ask_for_pull();
  auto claimed = queue_->claim(node_->id(), {.jobs_max = 1, .room = {}, .idle = true}).jobs;
  std::vector<jobs::Finished> finished{
      {claimed.at(0), claimed[0].lane.kind->handler->run(std::span(&claimed[0].job, 1), {}).at(0)}};
  queue_->finish(finished);
  ASSERT_EQ(all(), "A|new|no");
  const auto waiting = orders_->unfinished(order("A"));
  ASSERT_EQ(waiting.size(), 1u);
  EXPECT_FALSE(waiting[0].dead);
  close("A");
  work();
  EXPECT_EQ(odoo_->calls, 0);
  EXPECT_TRUE(orders_->unfinished(order("A")).empty());
  EXPECT_EQ(order("A").state, "closed");
  EXPECT_EQ(shop_->all["A"].acknowledged, 1);
}

TEST_P(Market, WhatIsInOdooOrMayBeThereIsNotClosed) {
  add_shop();
  shop_->change("A");
  pull();
  EXPECT_EQ(refused_close("A"),
            "The order A is in Odoo (sale.order:1), and only what is not there can be closed: cancel it in Odoo.");
  odoo_->after_call = [] { throw Error(Error::Kind::in_doubt, "No answer."); };
  shop_->change("B");
  pull();
  odoo_->after_call = {};
  EXPECT_NE(refused_close("B").find("Whether the order B is in Odoo by now is not known"), std::string::npos);
  time_passes();
  work();
  EXPECT_EQ(order("B").state, "imported");
  shop_->change("C", [](auto& order) { order.status = "cancelled"; });
  pull();
  EXPECT_NE(refused_close("C").find("The order C is cancelled, and nothing waits for it"), std::string::npos);
  odoo_->products.clear();
  shop_->change("D", [](auto& order) { order.lines[0].product = "701"; });
  pull();
  close("D");
  EXPECT_NE(refused_close("D").find("closed already, by anna"), std::string::npos);
}

TEST_P(Market, WhatGetsIntoOdooWhileItIsClosedIsSaidAndNotHidden) {
  add_shop();
  shop_->change("A");
  bool once = false;
  // Between the reading of the order and the intent to send it.
  on_step([&](std::string_view name) {
    if (name == "deliver.begun" && !std::exchange(once, true)) close("A");
  });
  pull();
  on_step({});
  const auto said = [&](const std::string& id) {
    const auto row = order(id);
    EXPECT_EQ(row.state, "imported");
    EXPECT_EQ(row.odoo_id, there(id).id);
    EXPECT_EQ(row.flag, "closed");
    EXPECT_NE(row.flag_message.find("cancel it there"), std::string::npos);
  };
  said("A");
  // The same, and the answer is lost as well: it is looked up, since it may be there.
  once = false;
  shop_->change("B");
  on_step([&](std::string_view name) {
    if (name == "deliver.begun" && !std::exchange(once, true)) close("B");
  });
  odoo_->after_call = [] { throw Error(Error::Kind::in_doubt, "No answer."); };
  pull();
  on_step({});
  odoo_->after_call = {};
  EXPECT_EQ(order("B").state, "closed");
  time_passes();
  work();
  said("B");
  EXPECT_EQ(odoo_->created, 2);
}

TEST_P(Market, WhatAPersonSettlesIsLeftAsItIsInOdooAndCountsAsDealtWith) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "delivered"; });
  pull();
  ASSERT_TRUE(there("A").delivered);
  const auto settle = [&](const std::string& id) {
    try {
      orders_->settle(orders_->get("shop", id), "anna", "the driver took five");
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::conflict);
      return error.message;
    }
    return std::string("settled");
  };
  EXPECT_NE(settle("A").find("Only what is held is settled"), std::string::npos);
  shop_->change("A", [](auto& order) { order.lines[0].quantity = "5"; });
  pull();
  ASSERT_EQ(order("A").hold_code, "import_closed");
  EXPECT_NE(order("A").hold_message.find("`dragoman market settle shop A`"), std::string::npos);
  const auto total = there("A").total().str();
  const auto acknowledged = shop_->all["A"].acknowledged;

  // Whatever keeps it from going in at first, what a person has said of this version holds.
  odoo_->before_call = [] { throw Error(Error::Kind::unavailable, "Nobody answers."); };
  EXPECT_EQ(settle("A"), "settled");
  work();
  odoo_->before_call = {};
  time_passes();
  work();
  EXPECT_EQ(order("A").state, "imported");
  EXPECT_EQ(order("A").hold_code, "");
  EXPECT_EQ(there("A").total().str(), total);
  EXPECT_EQ(shop_->all["A"].acknowledged, acknowledged + 1);
  EXPECT_NE(rows("SELECT message FROM market_event WHERE what = 'settled'", 1).find("by anna: the driver took five"),
            std::string::npos);
  // It counts as dealt with: a new state goes in alone, and other lines are tried as ever.
  shop_->change("A", [](auto& order) { order.status = "returned"; });
  pull();
  EXPECT_EQ(order("A").flag, "returned");
  shop_->change("A", [](auto& order) {
    order.status = "delivered";
    order.lines[0].quantity = "6";
  });
  pull();
  EXPECT_EQ(order("A").hold_code, "import_closed");

  odoo_->products.clear();
  shop_->change("B", [](auto& order) { order.lines[0].product = "701"; });
  pull();
  ASSERT_EQ(order("B").state, "held");
  EXPECT_NE(settle("B").find("is not in Odoo"), std::string::npos);
}

TEST_P(Market, ACustomerThatAPersonGaveAnOrderInOdooStaysWhenItsLinesChange) {
  add_shop();
  shop_->change("A");
  pull();
  there("A").partner = 4711;
  shop_->change("A", [](auto& order) { order.lines[0].quantity = "5"; });
  pull();
  EXPECT_EQ(there("A").total().str(), "325");
  EXPECT_EQ(there("A").partner, 4711);
  // Another shop is another customer.
  shop_->change("A", [](auto& order) { order.retailer = "R-99"; });
  pull();
  EXPECT_NE(there("A").partner, 4711);
}

TEST_P(Market, ARefusalThatSaysTheOrderIsThereIsKnownFromThenOn) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "delivered"; });
  pull();
  // As after the connection was removed and added again under its name.
  store_->write([](store::Session& session) {
    session.execute("UPDATE market_order SET odoo_id = 0, applied_body = NULL, applied_state = '', imported_us = NULL");
  });
  shop_->change("A", [](auto& order) { order.lines[0].quantity = "5"; });
  pull();
  EXPECT_EQ(order("A").hold_code, "import_closed");
  EXPECT_EQ(order("A").odoo_id, there("A").id);
  EXPECT_NE(refused_close("A").find("is in Odoo"), std::string::npos);
}

TEST_P(Market, WhatTheMarketplaceLeavesToTheSupplierWhenItIsInOdooIsSaid) {
  add_shop();
  shop_->change("A", [](auto& order) {
    order.status = "approved";
    order.delivered_by = "delivered_by_cartona";
  });
  pull();
  shop_->change("A", [](auto& order) { order.delivered_by = "delivered_by_supplier"; });
  pull();
  EXPECT_EQ(order("A").flag, "delivery_changed");
  EXPECT_EQ(order("A").state, "imported");
}

TEST_P(Market, ADeletedOrderSaysSoAndIsMadeAnewOnceWhenAPersonWantsIt) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  look();
  const auto first = there("A").id;
  book_->remove("fake/shop/A");
  orders_->retry("shop", "", order("A").id, "by anna");
  work();
  EXPECT_EQ(order("A").hold_code, "import_deleted");
  EXPECT_EQ(
      order("A").hold_message,
      "The order was deleted in Odoo (it was sale.order:1). `dragoman market retry shop --order A --anew` makes it "
      "anew there; `dragoman market close shop A` leaves it at that.");
  EXPECT_TRUE(order("A").is_deleted());
  try_again();
  EXPECT_EQ(odoo_->created, 1) << "never by itself";

  EXPECT_EQ(orders_->retry("shop", "", order("A").id, "by anna", true), 1);
  work();
  EXPECT_EQ(odoo_->created, 2);
  EXPECT_NE(there("A").id, first);
  EXPECT_EQ(there("A").state, "sale");
  EXPECT_EQ(there("A").lines.at("1").quantity.str(), "2");
  EXPECT_EQ(order("A").state, "imported");
  EXPECT_EQ(order("A").odoo_id, there("A").id);
  EXPECT_FALSE(order("A").is_deleted());
  look();
  EXPECT_EQ(order("A").odoo_state, "sale");
  // Once: deleted again it is asked again.
  book_->remove("fake/shop/A");
  orders_->retry("shop", "", order("A").id, "by anna");
  work();
  EXPECT_EQ(order("A").hold_code, "import_deleted");
  EXPECT_EQ(odoo_->created, 2);
  // And it may be closed, for it is not there.
  close("A");
  work();
  EXPECT_EQ(order("A").state, "closed");
}

TEST_P(Market, WhatIsToBeMadeAnewIsSoWhateverComesBetween) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  book_->remove("fake/shop/A");
  orders_->retry("shop", "", order("A").id, "by anna", true);
  shop_->change("A", [](auto& order) { order.total = "1"; });
  pull();
  EXPECT_EQ(order("A").hold_code, "total");
  // The answer that it was made is lost.
  odoo_->after_call = [] { throw Error(Error::Kind::in_doubt, "No answer."); };
  shop_->change("A", [](auto& order) {
    order.total = "";
    order.lines[0].quantity = "3";
  });
  pull();
  odoo_->after_call = {};
  time_passes();
  work();
  EXPECT_EQ(odoo_->created, 2);
  EXPECT_EQ(there("A").lines.at("1").quantity.str(), "3");
  EXPECT_EQ(order("A").state, "imported");
  EXPECT_EQ(order("A").odoo_id, there("A").id);
  EXPECT_FALSE(order("A").is_made_anew());
}

TEST_P(Market, WhatIsCancelledByNowIsNotMadeAnew) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  book_->remove("fake/shop/A");
  orders_->retry("shop", "", order("A").id, "by anna");
  work();
  EXPECT_EQ(order("A").hold_code, "import_deleted");
  shop_->change("A", [](auto& order) { order.status = "cancelled"; });
  orders_->retry("shop", "", order("A").id, "by anna", true);
  pull();
  EXPECT_EQ(odoo_->created, 1);
  EXPECT_EQ(all(), "A|cancelled|sent");
}

TEST_P(Market, WhatIsGoneOnBothSidesIsCancelledAndAcknowledged) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  // Nobody has seen yet that it was deleted.
  book_->remove("fake/shop/A");
  shop_->change("A", [](auto& order) { order.status = "cancelled"; });
  pull();
  EXPECT_EQ(all(), "A|cancelled|sent");
  EXPECT_TRUE(order("A").is_deleted());
  EXPECT_EQ(order("A").hold_code, "");
  EXPECT_EQ(orders_->story(order("A").id).back().what, "acknowledged");
  EXPECT_EQ(rows("SELECT fingerprint FROM alert", 1), "");
}

TEST_P(Market, PeopleAreToldOnceOfAnOrderWithoutAnId) {
  add_shop();
  shop_->change("A");
  shop_->unusable = {"An order without a usable `hashed_id`: number `4711`, of `Corner shop`."};
  pull();
  EXPECT_EQ(all(), "A|imported|sent") << "the rest came in";
  const auto alerts = [&] {
    return rows("SELECT fingerprint, CAST(times AS TEXT), text FROM alert WHERE fingerprint LIKE '%unusable'", 3);
  };
  EXPECT_TRUE(alerts().starts_with("market:shop:unusable|1|" + shop_->unusable[0])) << alerts();
  EXPECT_EQ(rows("SELECT outcome, errors FROM sync_log WHERE kind = 'order_pull'", 2),
            "ok|" + nlohmann::json(shop_->unusable).dump());
  pull();
  EXPECT_TRUE(alerts().starts_with("market:shop:unusable|1|")) << "it is listed again and again";
  EXPECT_EQ(rows("SELECT CAST(COUNT(*) AS TEXT) FROM sync_log WHERE kind = 'order_pull'", 1), "1");
  // Of a pull that came to no end nobody knows what is listed still.
  shop_->before_pull = [](const auto&) { throw Error(Error::Kind::unavailable, "Away."); };
  pull();
  shop_->before_pull = {};
  time_passes();
  work();
  EXPECT_TRUE(alerts().starts_with("market:shop:unusable|1|")) << alerts();
  shop_->unusable.push_back("An order without a usable `hashed_id`: number `4712`.");
  pull();
  EXPECT_TRUE(alerts().starts_with("market:shop:unusable|2|" + shop_->unusable[1])) << alerts();
}

TEST_P(Market, TheExampleOfAHoldIsTheOrderThatWaitsLongestWithItsOwnWords) {
  add_shop();
  odoo_->products.clear();
  for (const char* id : {"C", "B", "A"})
    shop_->change(id, [&](auto& order) {
      order.lines[0].product = std::string("7") + id;
      order.total = std::string("1000") + std::to_string(id[0]);
    });
  pull();
  store_->write([](store::Session& session) {
    session.execute("UPDATE market_order SET hold_us = 1000 WHERE external_id = 'B'");
  });
  const auto groups = orders_->holds("shop");
  ASSERT_EQ(groups.size(), 1u);
  EXPECT_EQ(groups[0].orders, 3);
  EXPECT_EQ(groups[0].example, "B");
  EXPECT_EQ(groups[0].message, order("B").hold_message);
  EXPECT_NE(groups[0].message.find("100066"), std::string::npos) << groups[0].message;
  EXPECT_EQ(to_us(*groups[0].oldest), 1000);
  EXPECT_EQ(orders_->holds("").at(0).example, "B");
  EXPECT_TRUE(orders_->holds("other").empty());
}

TEST_P(Market, RemovingTheConnectionForgetsItsOrders) {
  add_shop();
  shop_->change("A");
  pull();
  connections_->remove("shop");
  EXPECT_EQ(rows("SELECT external_id FROM market_order", 1), "");
  EXPECT_EQ(rows("SELECT what FROM market_event", 1), "");
  EXPECT_EQ(rows("SELECT external_id FROM market_product", 1), "");
}

TEST_P(Market, TwoShopsWithOnePhoneAreTwoCustomers) {
  add_shop();
  shop_->change("A", [](auto& order) { order.retailer = "R-1"; });
  shop_->change("B", [](auto& order) { order.retailer = "R-2"; });
  pull();
  EXPECT_NE(there("A").partner, there("B").partner);
  EXPECT_EQ(odoo_->partners.size(), 2u);
}

// The process ends at any of its steps, calls and answers are lost, the marketplace keeps changing: at the end both
// sides agree, and nothing is there twice.
TEST_P(Market, RandomFaultsEndInEveryOrderOnceAsTheMarketplaceHasIt) {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : SystemRandom().next() % 1'000'000;
  std::cout << "seed " << seed << " (DRAGOMAN_SEED=" << seed << " runs it again)\n";
  SeededRandom random(seed);
  const auto chance = [&](int percent) { return random.next() % 100 < static_cast<std::uint64_t>(percent); };
  add_shop({{"batch_size", 4}});
  bool faults = true;
  struct Killed {};
  on_step([&](std::string_view) {
    if (faults && chance(5)) throw Killed{};
  });
  const auto fail = [&](int percent) {
    if (!faults || !chance(percent)) return;
    throw Error(chance(50) ? Error::Kind::in_doubt : Error::Kind::unavailable, "The network.");
  };
  odoo_->before_call = [&] {
    if (faults && chance(10)) throw Error(Error::Kind::unavailable, "Not reached.");
  };
  odoo_->after_call = [&] {
    if (faults && chance(15)) throw Error(Error::Kind::in_doubt, "The answer was lost.");
  };
  shop_->before_ack = [&] { fail(10); };
  shop_->after_ack = [&] {
    if (faults && chance(15)) throw Error(Error::Kind::in_doubt, "The answer was lost.");
  };
  shop_->before_pull = [&](const auto&) { fail(10); };

  const char* states[] = {"pending", "approved", "assigned", "delivered"};
  constexpr int kOrders = 15;
  std::map<std::string, int> state_of;
  for (int round = 0; round < 60; ++round) {
    // Every other round is a quiet one: a job that kills its process again and again would rightly be given up.
    faults = round < 50 && round % 2 == 0;
    if (round == 50) {
      odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
    }
    if (round < 45) {
      const std::string id = fmt::format("O{}", random.next() % kOrders);
      const bool fresh = !shop_->all.contains(id);
      int& state = state_of[id];
      shop_->change(id, [&](auto& order) {
        if (!fresh && chance(50) && state < 3) ++state;
        order.status = states[state];
        if (state < 2) order.lines[0].quantity = std::to_string(1 + random.next() % 9);
      });
      if (chance(10)) odoo_->products.clear();
      if (chance(20)) odoo_->products[51] = {.default_code = "T-1", .barcode = "", .cartona_id = ""};
    }
    try {
      time_passes();
      orders_->try_again(500);
      pull();
    } catch (const Killed&) {
      // As the next process does.
      node_->start();
    }
  }
  for (int more = 0; more < 5; ++more) {
    time_passes();
    orders_->try_again(500);
    pull();
  }
  EXPECT_EQ(rows("SELECT cause, error_message FROM job WHERE state NOT IN (4, 5)", 2), "");
  EXPECT_EQ(odoo_->orders.size(), shop_->all.size());
  EXPECT_EQ(odoo_->created, static_cast<int>(shop_->all.size()));
  for (const auto& [id, order] : shop_->all) {
    SCOPED_TRACE(id);
    EXPECT_TRUE(order.synced);
    ASSERT_TRUE(odoo_->orders.contains("fake/shop/" + id));
    const auto& odoo = there(id);
    EXPECT_EQ(odoo.status, order.status);
    EXPECT_EQ(odoo.lines.at("1").quantity.str(), order.lines[0].quantity);
    EXPECT_EQ(odoo.state, order.status == "pending" ? "draft" : "sale");
    EXPECT_LE(odoo.confirmed, 1);
    EXPECT_EQ(odoo.delivered, order.status == "delivered");
    EXPECT_EQ(this->order(id).state, "imported");
  }
}

TEST_P(Market, WhatChangesInOdooIsNotedWithTheOrder) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  shop_->change("B");
  pull();
  // The first look takes in how everything is.
  look();
  EXPECT_EQ(order("A").odoo_name, "S10001");
  EXPECT_EQ(order("A").odoo_state, "sale");
  EXPECT_EQ(order("B").odoo_state, "draft");
  book_->change("fake/shop/B", [](auto& order) { order.state = "cancel"; });
  look();
  EXPECT_EQ(order("B").odoo_state, "cancel");
  book_->remove("fake/shop/A");
  look();
  EXPECT_EQ(order("A").odoo_state, "deleted");
  EXPECT_EQ(order("A").odoo_name, "S10001");
}

TEST_P(Market, ProductsWhoseStockMayHaveChangedAreMarked) {
  add_shop();
  shop_->change("A");
  pull();
  const auto marked = [&] {
    const auto found = rows("SELECT external_id FROM market_product WHERE dirty_us IS NOT NULL", 1);
    store_->write([](store::Session& session) { session.execute("UPDATE market_product SET dirty_us = NULL"); });
    return found;
  };
  look();
  EXPECT_EQ(marked(), "700") << "at first it is not known what the marketplace was told";
  look();
  EXPECT_EQ(marked(), "");
  book_->set(52, {.free = "3"});
  look();
  EXPECT_EQ(marked(), "") << "a product that the shop does not have";
  book_->set(51, {.free = "3"});
  look();
  EXPECT_EQ(marked(), "700");
  book_->all_products = true;
  look();
  EXPECT_EQ(marked(), "700");
}

TEST_P(Market, AnOdooThatCanNotBeFollowedIsSaidAndLosesNothing) {
  add_shop();
  shop_->change("A");
  pull();
  look();
  const auto trouble = [&] {
    std::string text;
    store_->read([&](store::Session& session) { text = MarketWatch::trouble(session, 1); });
    return text;
  };
  EXPECT_EQ(trouble(), "");
  book_->before_call = [] { throw Error(Error::Kind::unavailable, "Nobody answers."); };
  book_->change("fake/shop/A", [](auto& order) { order.state = "sale"; });
  look();
  EXPECT_EQ(trouble(), "Nobody answers.");
  EXPECT_EQ(order("A").odoo_state, "draft");
  book_->before_call = {};
  look();
  EXPECT_EQ(trouble(), "");
  EXPECT_EQ(order("A").odoo_state, "sale");
}

TEST_P(Market, ADayTellsHowManyCameHowManyAreInAndHowLongItTook) {
  add_shop();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  shop_->change("B", [](auto& order) { order.delivered_by = "delivered_by_cartona"; });
  shop_->change("C", [](auto& order) { order.total = "1"; });  // does not add up
  pull();
  Time now{};
  store_->read([&](store::Session& session) { now = session.now(); });
  auto days = market_days(*store_, now - std::chrono::hours(24));
  ASSERT_EQ(days.size(), 1u);
  EXPECT_EQ(days[0].connection, "shop");
  EXPECT_EQ(days[0].orders, 3);
  EXPECT_EQ(days[0].imported, 2);
  EXPECT_EQ(days[0].by_market, 1);
  ASSERT_TRUE(days[0].median && days[0].p95);
  EXPECT_LE(*days[0].median, *days[0].p95);
  EXPECT_GE(days[0].runs, 1);
  days = market_days(*store_, now + std::chrono::hours(1));
  EXPECT_EQ(days.at(0).orders, 0);
  EXPECT_FALSE(days[0].median);
}

TEST_P(Market, WhereItsOdooCanNotBeFollowedTheStandingSaysSo) {
  add_shop();
  shop_->change("A");
  pull();
  look();
  EXPECT_EQ(orders_->standings().at(0).trouble, "");
  book_->before_call = [] { throw Error(Error::Kind::unavailable, "Nobody answers."); };
  look();
  EXPECT_EQ(orders_->standings().at(0).trouble, "Nobody answers.");
}

INSTANTIATE_TEST_SUITE_P(, Market, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
