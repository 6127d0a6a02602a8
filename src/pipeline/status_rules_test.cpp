#include "pipeline/status_rules.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "fakes/market_fakes.h"
#include "pipeline/market_settings.h"

namespace dragoman::pipeline {
namespace {

using enum MarketState;

TEST(StatusRules, HowAnOrderStandsIsReadFromItsQuantitiesAndNeverFromALock) {
  const struct {
    const char* state;
    bool delivered, shipped;
    const char* standing;
  } cases[] = {
      {"draft", false, false, "draft"},      {"sent", false, false, "sent"},        {"sale", false, false, "sale"},
      {"sale", false, true, "sale/shipped"}, {"sale", true, true, "done"},          {"sale", true, false, "done"},
      {"done", false, false, "sale"},        {"done", false, true, "sale/shipped"}, {"done", true, true, "done"},
      {"cancel", false, false, "cancel"},    {"cancel", true, true, "cancel"},      {"draft", true, true, "draft"},
      {"teleported", false, false, ""}};
  for (const auto& one : cases) {
    OrderFacts facts;
    facts.state = one.state;
    facts.delivered = one.delivered;
    facts.shipped = one.shipped;
    EXPECT_EQ(odoo_standing(facts), one.standing) << one.state << one.delivered << one.shipped;
  }
  OrderFacts gone;
  gone.there = OrderFacts::There::deleted;
  EXPECT_EQ(odoo_standing(gone), "deleted");
}

TEST(StatusRules, TheTables) {
  const struct {
    const char* standing;
    std::optional<MarketState> basic, enhanced;
  } cases[] = {{"draft", pending, pending},
               {"sent", pending, pending},
               {"sale", approved, approved},
               {"sale/shipped", approved, assigned},
               {"done", delivered, delivered},
               {"cancel", cancelled, cancelled},
               {"deleted", std::nullopt, std::nullopt},
               {"", std::nullopt, std::nullopt}};
  for (const auto& one : cases) {
    const StatusRules rules;
    EXPECT_EQ(rules.derive(one.standing, StatusMapping::basic), one.basic) << one.standing;
    EXPECT_EQ(rules.derive(one.standing, StatusMapping::enhanced), one.enhanced) << one.standing;
    EXPECT_EQ(rules.derive(one.standing), one.enhanced) << "the usual one";
  }
}

nlohmann::json base() {
  return {{"odoo", "main"}};
}

TEST(StatusRules, AConnectionHasItsOwnTableAndWords) {
  auto settings = base();
  settings["status_mapping"] = "basic";
  settings["status_table"] = {{"sale", "assigned"}, {"draft", "none"}};
  settings["status_words"] = {{"assigned", "on_the_way"}};
  const auto rules = MarketplaceSettings::parse(settings).status;
  EXPECT_EQ(rules.derive("sale"), assigned);
  EXPECT_EQ(rules.derive("draft"), std::nullopt);
  EXPECT_EQ(rules.derive("sale/shipped"), approved);
  const tests::FakeMarketplace shop;
  StatusCase order;
  order.imported = true;
  order.standing = "sale";
  order.says = pending;
  EXPECT_EQ(decide_status(order, rules, {}, shop).word, "on_the_way");
  order.standing = "draft";
  EXPECT_EQ(decide_status(order, rules, {}, shop).code, "unmapped");
}

TEST(StatusRules, SettingsThatCanNotBeMeantAreRefused) {
  const std::pair<const char*, nlohmann::json> wrong[] = {{"status_mapping", "clever"},
                                                          {"status_table", {{"sold", "approved"}}},
                                                          {"status_table", {{"sale", "editing"}}},
                                                          {"status_table", {{"sale", 3}}},
                                                          // It is final: never on a guess.
                                                          {"status_table", {{"sale/shipped", "delivered"}}},
                                                          {"status_words", {{"returned", "back"}}},
                                                          {"status_words", {{"approved", ""}}}};
  for (const auto& [name, value] : wrong) {
    auto settings = base();
    settings[name] = value;
    try {
      MarketplaceSettings::parse(settings);
      ADD_FAILURE() << name << value;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::invalid);
      EXPECT_NE(error.message.find(name), std::string::npos) << error.message;
    }
  }
}

struct Decided {
  const char* what;
  StatusCase order;
  StatusAsked asked;
  std::string expected;  // `send WORD`, `same`, or the code
  bool single = false;
};

StatusCase order_of(const char* standing, MarketState says, std::optional<MarketState> accepted = {}) {
  StatusCase order;
  order.imported = true;
  order.standing = standing;
  order.says = says;
  order.status = name(says);
  order.accepted = accepted;
  order.delivered_by = "delivered_by_supplier";
  return order;
}

StatusCase with(StatusCase order, const std::function<void(StatusCase&)>& how) {
  how(order);
  return order;
}

TEST(StatusRules, WhatIsToldAndWhyNot) {
  const auto theirs = [](StatusCase& order) { order.delivered_by = "delivered_by_cartona"; };
  const auto otp = [](StatusCase& order) { order.needs_otp = true; };
  const auto behind = [](StatusCase& order) { order.current = false; };
  StatusAsked manual, basic, by_hand;
  manual.manual = basic.manual = by_hand.manual = true;
  StatusAsked heard = manual;
  heard.heard = true;
  basic.mapping = StatusMapping::basic;
  by_hand.status = delivered;
  const Decided cases[] = {
      {"a step", order_of("sale", pending), {}, "send approved"},
      {"no step between", order_of("sale/shipped", pending), {}, "send assigned"},
      {"final, so the answer counts", order_of("done", assigned), {}, "send delivered", true},
      {"cancelled", order_of("cancel", approved), {}, "send cancelled", true},
      {"no echo", order_of("sale", approved), {}, "same"},
      {"no echo of what was told", order_of("sale", pending, approved), {}, "same"},
      {"the marketplace is further", order_of("sale", assigned), {}, "behind"},
      {"it was told more", order_of("sale", pending, assigned), {}, "behind"},
      {"back to a quotation", order_of("draft", approved), {}, "behind"},
      {"delivered is final", order_of("cancel", delivered), {}, "final"},
      {"and was told", order_of("cancel", assigned, delivered), {}, "final"},
      {"cancelled there", order_of("sale", cancelled), {}, "final"},
      {"cancelled on both sides", order_of("cancel", cancelled), {}, "same"},
      {"returned", order_of("done", returned), {}, "final"},
      {"hands off", order_of("sale", editing), {}, "editing"},
      {"hands off whatever was told", order_of("sale/shipped", editing, approved), {}, "editing"},
      {"nobody knows what it says", order_of("sale", unknown), {}, "unknown_state"},
      {"theirs to deliver", with(order_of("sale", pending), theirs), {}, "rule"},
      {"theirs, delivered", with(order_of("done", assigned), theirs), {}, "rule"},
      {"theirs, cancelled", with(order_of("cancel", approved), theirs), {}, "send cancelled", true},
      {"who delivers is not said",
       with(order_of("sale", pending), [](auto& one) { one.delivered_by.clear(); }),
       {},
       "send approved"},
      {"without its code", with(order_of("done", assigned), otp), {}, "otp"},
      {"its code is for delivered alone", with(order_of("sale", pending), otp), {}, "send approved"},
      {"with its code",
       with(order_of("done", assigned), [](auto& one) { one.needs_otp = one.has_otp = true; }),
       {},
       "send delivered",
       true},
      {"a newer version is on its way", with(order_of("sale/shipped", approved), behind), {}, "not_current"},
      {"which is nothing to a cancelled one", with(order_of("cancel", approved), behind), {}, "send cancelled", true},
      {"deleted in Odoo", order_of("deleted", approved), {}, "deleted"},
      {"an unknown word in Odoo", order_of("", approved), {}, "unmapped"},
      {"no id", with(order_of("sale", pending), [](auto& one) { one.has_id = false; }), {}, "no_id"},
      {"never imported", with(order_of("sale", pending), [](auto& one) { one.imported = false; }), {}, "not_imported"},
      {"a person says it again", order_of("sale", pending, approved), manual, "send approved", true},
      {"a person says it again, and it was told meanwhile", order_of("sale", pending, approved), heard, "same"},
      {"a person, and it says so itself", order_of("sale", approved), manual, "same"},
      {"a person says what it is past", order_of("sale", approved, delivered), manual, "final"},
      {"a person, by the other table", order_of("sale/shipped", pending), basic, "send approved", true},
      {"a person says delivered", order_of("sale/shipped", assigned), by_hand, "send delivered", true},
      {"a person, while the shop edits", order_of("sale", editing), by_hand, "editing"},
      {"a person, and it is over", order_of("sale", cancelled), by_hand, "final"},
      {"a person, and it was said to be over", order_of("sale", assigned, delivered), manual, "final"},
      {"a person, and it is theirs", with(order_of("sale", assigned), theirs), by_hand, "rule"},
      {"a person, and it wants a code", with(order_of("sale", assigned), otp), by_hand, "otp"},
  };
  const tests::FakeMarketplace shop;
  for (const auto& one : cases) {
    SCOPED_TRACE(one.what);
    const auto decision = decide_status(one.order, {}, one.asked, shop);
    const std::string got = decision.what == StatusDecision::What::send   ? "send " + decision.word
                            : decision.what == StatusDecision::What::same ? "same"
                                                                          : decision.code;
    EXPECT_EQ(got, one.expected) << decision.message;
    EXPECT_EQ(decision.single, one.single);
    EXPECT_FALSE(decision.message.empty()) << "it says by which rule";
  }
}

TEST(StatusRules, TheStepsBetween) {
  EXPECT_EQ(steps_between(pending, delivered), (std::vector{approved, assigned}));
  EXPECT_EQ(steps_between(approved, delivered), (std::vector{assigned}));
  EXPECT_TRUE(steps_between(assigned, delivered).empty());
  EXPECT_TRUE(steps_between(pending, cancelled).empty());
  EXPECT_TRUE(steps_between(delivered, approved).empty());
}

}  // namespace
}  // namespace dragoman::pipeline
