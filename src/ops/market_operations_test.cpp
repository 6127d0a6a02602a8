#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cctype>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "base/error.h"
#include "connectors/odoo/procedures.h"
#include "fakes/odoo_hub.h"
#include "jobs/breaker.h"
#include "pipeline/market_orders.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

/// A marketplace's connection, and the stand-in Odoo that its orders go to.
class MarketOperations : public tests::OdooHub {
 protected:
  void SetUp() override {
    OdooHub::SetUp();
    shop_id_ = add_shop();
  }

  std::int64_t product(const std::string& name, bool active = true) {
    return odoo_
        .call("product.product", "create", {json::array({{{"name", name}, {"active", active}}})}, json::object())
        .at(0)
        .get<std::int64_t>();
  }
  /// An order as a pull and what became of it leave it here.
  void order(const std::string& id, const std::string& state, const std::string& hold = {},
             const std::string& odoo_state = {}, std::int64_t odoo_id = 0) {
    const auto main = hub_.connections.get("main").id;
    hub_.store->write([&](store::Session& session) {
      session.execute(
          "INSERT INTO market_order (connection_id, external_id, number, seen_us, changed_us, version, revision, "
          "state, "
          "hold_code, hold_us, odoo_connection_id, odoo_id, odoo_state, ack) VALUES ($1, $2, $2, $3, $3, 1, 1, $4, $5, "
          "$3, $6, $7, $8, 'no')",
          {shop_id_, id, to_us(session.now()), state, hold, main, odoo_id, odoo_state});
      pipeline::MarketOrders::set_cursor(session, shop_id_, "orders", std::to_string(to_us(session.now())));
      std::int64_t number = 0;
      session.first("SELECT MAX(id) FROM market_order", {}, [&](const store::Row& row) { number = row.int64(0); });
      if (state == "new") pipeline::MarketOrders::enqueue_import(session, main, shop_id_, number, "test");
    });
  }
  std::int64_t unfinished_jobs() {
    std::int64_t count = 0;
    hub_.store->read([&](store::Session& session) {
      session.first("SELECT COUNT(*) FROM job WHERE state IN (0, 1, 2, 3, 6) AND order_key <> ''", {},
                    [&](const store::Row& row) { count = row.int64(0); });
    });
    return count;
  }

  std::int64_t shop_id_ = 0;
};

TEST_F(MarketOperations, AnOrderIsClosedWithAReasonByWhoMayAndTheAuditLogHasIt) {
  order("A/7", "held", "import_notmatched");
  EXPECT_EQ(hub_.operation("market close").permission, access::Role::manager);
  EXPECT_NE(refusal("market close", {{"connection", "shop"}, {"order", "A/7"}}, Error::Kind::invalid).find("`reason`"),
            std::string::npos);
  const json closed = ask("market close", {{"connection", "shop"}, {"order", "A/7"}, {"reason", "called off"}});
  EXPECT_EQ(closed["state"], "closed");
  EXPECT_EQ(closed["reason"], "by anna: called off");
  EXPECT_TRUE(closed["closed"].is_string());
  EXPECT_EQ(closed["hold"], "");
  const json status = ask("market status")["connections"][0];
  EXPECT_EQ(status["held"], 0);
  EXPECT_EQ(status["waiting"], 0);
  EXPECT_EQ(status["acknowledgements"], 1) << "it is on its way";
  EXPECT_EQ(ask("market holds")["holds"], json::array());
  EXPECT_EQ(ask("market orders", {{"state", "closed"}})["orders"].size(), 1u);
  const json story = ask("market order", {{"connection", "shop"}, {"order", "A/7"}})["story"];
  EXPECT_EQ(story.back()["what"], "closed");
  EXPECT_EQ(story.back()["message"], "by anna: called off. It was held: import_notmatched");
  const json entry = ask("audit list", {{"action", "market.close"}})["entries"][0];
  EXPECT_EQ(entry["subject"], "shop:A/7");
  EXPECT_EQ(entry["why"], "called off");
  EXPECT_EQ(entry["outcome"], "ok");

  EXPECT_NE(
      refusal("market close", {{"connection", "shop"}, {"order", "A/7"}, {"reason", "again"}}, Error::Kind::conflict)
          .find("`dragoman market retry shop --order A/7` opens it again"),
      std::string::npos);
  EXPECT_EQ(ask("market retry", {{"connection", "shop"}})["orders"], 0) << "a retry of all leaves it";
  EXPECT_EQ(ask("market retry", {{"connection", "shop"}, {"order", "A/7"}})["orders"], 1);
  EXPECT_EQ(ask("market order", {{"connection", "shop"}, {"order", "A/7"}})["state"], "new");
}

TEST_F(MarketOperations, WhateverTheProcedureHoldsOrdersByCanBeAskedFor) {
  const std::string text = connectors::odoo::procedure("import").text;
  // Those that hold no order: flags, and what ends inside the procedure.
  const std::set<std::string> others{"Delivered", "Undelivered", "Invoiced", "Culprits", "Atomic"};
  const std::regex raised(R"((?:problem\('|dragoman\.)([A-Z][A-Za-z]+))");
  std::set<std::string> codes;
  for (std::sregex_iterator at(text.begin(), text.end(), raised), end; at != end; ++at) {
    if (others.contains(at->str(1))) continue;
    std::string code = "import_" + at->str(1);
    for (char& c : code) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    codes.insert(code);
  }
  EXPECT_TRUE(codes.contains("import_stock") && codes.contains("import_notmatched"));
  for (const auto& code : codes) EXPECT_NO_THROW(ask("market orders", {{"hold", code}})) << code;
}

TEST_F(MarketOperations, AnAccountIsConnectedToOnce) {
  const json again = {{"name", "shop2"}, {"kind", "cartona"}, {"url", "https://market.example/api"}, {"odoo", "main"}};
  const auto with = [&](const std::string& secret, json input) {
    input["secret"] = secret;
    return input;
  };
  EXPECT_NE(refusal("connection add", with("a token", again), Error::Kind::conflict).find("`shop`"), std::string::npos);
  EXPECT_NE(refusal("connection add", again, Error::Kind::invalid).find("`secret`"), std::string::npos);
  ask("connection add", with("another token", again));
  // One token may cover several accounts: then each connection says which it is of.
  const json first = {{"name", "shop"}, {"supplier_code", "1"}};
  json second = again;
  second["name"] = "shop3";
  second["supplier_code"] = "2";
  EXPECT_NE(refusal("connection add", with("a token", second), Error::Kind::conflict).find("`supplier_code`"),
            std::string::npos)
      << "the other one is of all of them";
  ask("connection update", first);
  ask("connection add", with("a token", second));
  EXPECT_NE(
      refusal("connection update", {{"name", "shop3"}, {"supplier_code", "1"}}, Error::Kind::conflict).find("`shop`"),
      std::string::npos);
  EXPECT_NE(
      refusal("connection update", {{"name", "shop"}, {"supplier_code", ""}}, Error::Kind::conflict).find("`shop3`"),
      std::string::npos);
  EXPECT_NE(
      refusal("connection update", {{"name", "shop2"}, {"secret", "a token"}}, Error::Kind::conflict).find("`shop`"),
      std::string::npos);
  ask("connection update", {{"name", "shop2"}, {"batch_size", 50}});
  ask("connection update", {{"name", "shop"}, {"secret", "a token"}});
}

TEST_F(MarketOperations, OrdersOfAnotherAccountKeepAConnectionFromBecomingOneAccounts) {
  const std::string body = R"({"hashed_id":"A","supplier_code":"2"})";
  const std::vector<pipeline::Marketplace::RawOrder> page{{"A", body}};
  const pipeline::MarketOrders::Owner owner{.connection_id = shop_id_,
                                            .odoo_connection_id = hub_.connections.get("main").id,
                                            .connection = "shop",
                                            .kind = "cartona",
                                            .odoo = "main",
                                            .currency = "EGP"};
  const auto parse = [](std::string_view) {
    pipeline::MarketOrder order;
    order.id = order.number = "A";
    order.status = "pending";
    order.state = pipeline::MarketState::pending;
    return order;
  };
  hub_.market.store_page(owner, page, parse, hub_.clock.now());
  EXPECT_NE(refusal("connection update", {{"name", "shop"}, {"supplier_code", "1"}}, Error::Kind::conflict)
                .find("such as A (`2`)"),
            std::string::npos);
  ask("connection update", {{"name", "shop"}, {"supplier_code", "2"}});
}

TEST_F(MarketOperations, AnOrderThatIsClosedHasNoJobsLeft) {
  order("A", "new");
  ASSERT_EQ(unfinished_jobs(), 1);
  ask("market close", {{"connection", "shop"}, {"order", "A"}, {"reason", "called off"}});
  EXPECT_EQ(unfinished_jobs(), 0);
}

TEST_F(MarketOperations, AHeldOrderThatIsInOdooIsSettledWithAReasonByWhoMay) {
  order("A", "held", "import_closed", "sale", 7);
  order("B", "imported", "", "sale", 8);
  order("C", "held", "import_deleted", "deleted", 9);
  order("D", "held", "unknown_state", "sale", 10);
  EXPECT_EQ(hub_.operation("market settle").permission, access::Role::manager);
  const auto wish = [](const std::string& id) {
    return json{{"connection", "shop"}, {"order", id}, {"reason", "seen to"}};
  };
  EXPECT_NE(refusal("market settle", {{"connection", "shop"}, {"order", "A"}}, Error::Kind::invalid).find("`reason`"),
            std::string::npos);
  EXPECT_NE(refusal("market settle", wish("B"), Error::Kind::conflict).find("Only what is held"), std::string::npos);
  EXPECT_NE(refusal("market settle", wish("C"), Error::Kind::conflict).find("--anew"), std::string::npos);
  EXPECT_NE(refusal("market settle", wish("D"), Error::Kind::conflict).find("held for its state"), std::string::npos);
  ask("market settle", wish("A"));
  EXPECT_EQ(unfinished_jobs(), 1);
  const json story = ask("market order", {{"connection", "shop"}, {"order", "A"}})["story"];
  EXPECT_EQ(story.back()["message"], "by anna: seen to. It was held: import_closed");
  const json entry = ask("audit list", {{"action", "market.settle"}})["entries"][0];
  EXPECT_EQ(entry["subject"], "shop:A");
  EXPECT_EQ(entry["why"], "seen to");
  EXPECT_EQ(entry["outcome"], "ok");
}

TEST_F(MarketOperations, WhatIsInOdooIsCancelledThereAndNotClosed) {
  order("A", "imported", "", "sale", 7);
  EXPECT_EQ(refusal("market close", {{"connection", "shop"}, {"order", "A"}, {"reason", "x"}}, Error::Kind::conflict),
            "The order A is in Odoo (sale.order:7), and only what is not there can be closed: cancel it in Odoo.");
}

TEST_F(MarketOperations, OnlyAnOrderThatIsKnownToBeDeletedIsMadeAnew) {
  order("A", "imported", "", "sale", 7);
  order("B", "imported", "", "deleted", 8);
  EXPECT_NE(refusal("market retry", {{"connection", "shop"}, {"anew", true}}, Error::Kind::invalid).find("`order`"),
            std::string::npos);
  EXPECT_NE(refusal("market retry", {{"connection", "shop"}, {"order", "A"}, {"anew", true}}, Error::Kind::conflict)
                .find("`dragoman market retry shop --order A` finds out"),
            std::string::npos);
  EXPECT_EQ(ask("market retry", {{"connection", "shop"}, {"order", "B"}, {"anew", true}})["orders"], 1);
  EXPECT_TRUE(hub_.market.get("shop", "B").is_made_anew());
  const json story = ask("market order", {{"connection", "shop"}, {"order", "B"}})["story"];
  EXPECT_EQ(story.back()["message"], "by anna, to be made anew");
}

TEST_F(MarketOperations, AProductIsLinkedOnlyToWhatOdooHas) {
  const auto link = [](std::int64_t to) {
    return json{{"connection", "shop"}, {"product", "700"}, {"odoo_product", to}};
  };
  EXPECT_NE(refusal("market link", link(51), Error::Kind::conflict).find("`dragoman provision apply main`"),
            std::string::npos)
      << "what asks is not in this Odoo yet";
  provision();
  const auto tea = product("Tea"), old = product("Old tea", false);
  EXPECT_EQ(refusal("market link", link(999'999), Error::Kind::invalid),
            "There is no product 999999 in Odoo: give the id of a variant (`product.product`).");
  EXPECT_NE(refusal("market link", link(old), Error::Kind::invalid).find("(Old tea) is archived in Odoo"),
            std::string::npos);
  EXPECT_EQ(ask("market products")["products"], json::array()) << "nothing was written";
  EXPECT_EQ(ask("market link", link(tea))["odoo_product"], tea);
  EXPECT_NE(refusal("market import-csv",
                    {{"connection", "shop"}, {"file", fmt::format("product,odoo_product\n700,{}\n", old)}},
                    Error::Kind::invalid)
                .find("Line 2: The product"),
            std::string::npos);

  hub_.connections.set_state("main", "paused", "stocktaking");
  EXPECT_EQ(refusal("market link", link(tea), Error::Kind::conflict),
            "The connection `main`, to Odoo, is paused: stocktaking. `dragoman connection resume main` goes on.");
  hub_.connections.set_state("main", "active", "");
  odoo_.stop();
  const auto away = refusal("market link", link(tea), Error::Kind::unavailable);
  EXPECT_TRUE(away.starts_with("Nothing was linked, since the Odoo of `main` can't be asked for the product: "))
      << away;
  EXPECT_TRUE(refusal("market import-csv",
                      {{"connection", "shop"}, {"file", fmt::format("product,odoo_product\n700,{}\n", tea + 1)}},
                      Error::Kind::unavailable)
                  .starts_with("Nothing was linked"));
}

TEST_F(MarketOperations, NamesThatAreNoneAreRefused) {
  provision();
  ask("market link", {{"connection", "shop"}, {"product", "700"}, {"odoo_product", product("Tea")}});
  EXPECT_NE(
      refusal("market product", {{"connection", "shop"}, {"product", "700"}, {"clear", {"foo"}}}, Error::Kind::invalid)
          .find("`foo` is no flag"),
      std::string::npos);
  refusal("market stock-retry", {{"connection", "shop"}, {"product", "nope"}}, Error::Kind::not_found);
  EXPECT_EQ(ask("market stock-retry", {{"connection", "shop"}, {"product", "700"}})["products"], 0);
}

TEST_F(MarketOperations, OrdersThatWereDeletedInOdooAreListed) {
  order("A", "imported", "", "sale", 7);
  order("B", "imported", "", "deleted", 8);
  const json found = ask("market orders", {{"odoo_state", "deleted"}})["orders"];
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0]["order"], "B");
  refusal("market orders", {{"odoo_state", "gone"}}, Error::Kind::invalid);
}

TEST_F(MarketOperations, AFilterThatIsNoKnownWordIsRefusedWithTheWordsThatThereAre) {
  EXPECT_EQ(
      refusal("market orders", {{"delivered_by", "supplier"}}, Error::Kind::invalid),
      "`delivered_by` is one of delivered_by_supplier, delivered_by_cartona, and `\"supplier\"` is none of them.");
  EXPECT_NE(refusal("market orders", {{"state", "closd"}}, Error::Kind::invalid).find("closed"), std::string::npos);
  EXPECT_NE(refusal("market orders", {{"waiting_for", "otp"}}, Error::Kind::invalid).find("one of code"),
            std::string::npos);
  EXPECT_NE(refusal("market orders", {{"hold", "import_notmached"}}, Error::Kind::invalid).find("import_notmatched"),
            std::string::npos);
  EXPECT_NE(refusal("market retry", {{"connection", "shop"}, {"hold", "nonsense"}}, Error::Kind::invalid)
                .find("`dragoman market holds`"),
            std::string::npos);
  EXPECT_EQ(ask("market orders", {{"hold", "import_notmatched"}})["orders"], json::array());
  // Odoo's own words, where they hold something.
  order("A", "held", "import_someaddon");
  EXPECT_EQ(ask("market orders", {{"hold", "import_someaddon"}})["orders"].size(), 1u);
  EXPECT_NE(refusal("market orders", {{"hold", "order"}, {"state", "new"}}, Error::Kind::invalid).find("`state`"),
            std::string::npos);
}

TEST_F(MarketOperations, AMarketplaceThatIsAwayIsSaidToBeEvenIfItNeverAnswered) {
  EXPECT_EQ(ask("market status")["connections"][0]["away_since"], nullptr);
  const auto report = [&](Error::Kind kind, const char* message) {
    hub_.store->write([&](store::Session& session) {
      const jobs::breaker::Report what{.job_id = 1, .outage = true, .outcome = jobs::failed(Error(kind, message))};
      jobs::breaker::report(session, shop_id_, what, session.now(), hub_.random);
    });
  };
  report(Error::Kind::unavailable, "Nobody answers at market.example.");
  json row = ask("market status")["connections"][0];
  EXPECT_EQ(row["connection"], "shop");
  EXPECT_EQ(row["state"], "active");
  EXPECT_TRUE(row["away_since"].is_string());
  EXPECT_EQ(row["away_reason"], "Nobody answers at market.example.");
  EXPECT_GT(row["next_call"], row["away_since"]);
  // What refuses our token is not asked again until a person has acted.
  report(Error::Kind::auth, "The token is refused.");
  row = ask("market status")["connections"][0];
  EXPECT_EQ(row["away_reason"], "The token is refused.");
  EXPECT_EQ(row["next_call"], nullptr);
  hub_.jobs.connection_is_well(shop_id_);
  EXPECT_EQ(ask("market status")["connections"][0]["away_reason"], "");
}

}  // namespace
}  // namespace dragoman::ops
