#include "pipeline/market_stock.h"

#include <gtest/gtest.h>

#include <iostream>

#include "base/error.h"
#include "base/step.h"
#include "fakes/market_fixture.h"
#include "notify/alert.h"
#include "pipeline/market_products.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

ProductStock odoo_has(const char* free, const char* price) {
  return {.id = 51, .there = true, .active = true, .free = free, .price = price, .currency = "EGP"};
}

struct Case {
  const char *free, *price, *factor, *stock, *wanted_price;
};

TEST(MarketFigures, StockIsRoundedDownAndPricesAreAsTheCurrencyIs) {
  const Case cases[] = {
      {"10", "65", "1", "10", "65"},
      {"35", "5.417", "12", "2", "65"},
      {"-3", "65", "1", "0", "65"},
      {"0.999999", "65", "1", "0", "65"},
      {"1", "100", "0.5", "2", "50"},
      {"2.999999999999", "1", "1", "2", "1"},
      {"1000000", "0.01", "3", "333333", "0.03"},
      {"7.5", "10.005", "1", "7", "10.01"},
      {"0", "65.10", "1", "0", "65.1"},
      {"11.999999", "65", "12", "0", "780"},
  };
  for (const auto& one : cases) {
    SCOPED_TRACE(std::string(one.free) + " / " + one.factor);
    const auto figures =
        figures_of(odoo_has(one.free, one.price), Decimal::of(one.factor), json::object(), json::object(), {});
    EXPECT_EQ(figures.code, "") << figures.message;
    ASSERT_TRUE(figures.stock && figures.price);
    EXPECT_EQ(figures.stock->str(), one.stock);
    EXPECT_EQ(figures.price->str(), one.wanted_price);
  }
}

TEST(MarketFigures, WhatCanNotBeToldHasAReasonAndTheRestGoes) {
  auto foreign = odoo_has("5", "65");
  foreign.currency = "USD";
  auto figures = figures_of(foreign, 1, json::object(), json::object(), {});
  EXPECT_EQ(figures.code, "currency");
  EXPECT_NE(figures.message.find("USD"), std::string::npos);
  EXPECT_FALSE(figures.price);
  EXPECT_EQ(figures.stock->str(), "5");
  figures = figures_of(odoo_has("5", "0"), 1, json::object(), json::object(), {});
  EXPECT_EQ(figures.code, "price");
  figures = figures_of(odoo_has("five", "65"), 1, json::object(), json::object(), {});
  EXPECT_EQ(figures.code, "figures");
  figures = figures_of(odoo_has("99999999999999999999999", "65"), Decimal::of("0.000001"), json::object(),
                       json::object(), {});
  EXPECT_EQ(figures.code, "figures");
  MarketplaceSettings settings;
  settings.send_prices = false;
  figures = figures_of(foreign, 1, json::object(), json::object(), settings);
  EXPECT_EQ(figures.code, "");
  EXPECT_FALSE(figures.price);
  settings.send_stock = false;
  EXPECT_FALSE(figures_of(foreign, 1, json::object(), json::object(), settings).stock);
}

TEST(MarketFigures, WhatIsNotForSaleIsTakenOffAndComesBack) {
  auto archived = odoo_has("5", "65");
  archived.active = false;
  auto figures = figures_of(archived, 1, {{"max_order", "9"}}, json::object(), {});
  EXPECT_EQ(figures.stock->str(), "0");
  EXPECT_EQ(figures.flags.at("in_stock"), false);
  EXPECT_FALSE(figures.price);
  EXPECT_NE(figures.note, "");
  figures = figures_of({.id = 51, .there = false}, 1, json::object(), json::object(), {});
  EXPECT_EQ(figures.stock->str(), "0");
  figures = figures_of(odoo_has("5", "65"), 1, json::object(), {{"in_stock", false}}, {});
  EXPECT_EQ(figures.flags.at("in_stock"), true) << "likewise where a person's flag was cleared";
  figures = figures_of(odoo_has("5", "65"), 1, json::object(), json::object(), {});
  EXPECT_FALSE(figures.flags.contains("in_stock")) << "what nobody said anything about is left as it is there";
  figures = figures_of(odoo_has("5", "65"), 1, {{"in_stock", false}}, {{"in_stock", false}}, {});
  EXPECT_EQ(figures.flags.at("in_stock"), false) << "a person's word stays";
  auto service = odoo_has("0", "65");
  service.counted = false;
  EXPECT_FALSE(figures_of(service, 1, json::object(), json::object(), {}).stock);
}

TEST(MarketFigures, FlagsAreChecked) {
  EXPECT_EQ(checked_flags({{"published", true}, {"min_order", "01.0"}, {"max_order", "10"}}).dump(),
            R"({"max_order":"10","min_order":"1","published":true})");
  EXPECT_THROW(checked_flags({{"published", "yes"}}), Error);
  EXPECT_THROW(checked_flags({{"min_order", "0"}}), Error);
  EXPECT_THROW(checked_flags({{"min_order", 1}}), Error);
  EXPECT_THROW(checked_flags({{"min_order", "5"}, {"max_order", "4"}}), Error);
  EXPECT_THROW(checked_flags({{"colour", "red"}}), Error);
}

class MarketStockTest : public tests::MarketFixture {
 protected:
  void SetUp() override {
    tests::MarketFixture::SetUp();
    if (store_) products_.emplace(*store_);
  }
  /// The marketplace's product is this one of Odoo's.
  void link(const std::string& product, std::int64_t odoo, const char* factor = "1") {
    products_->link(shop_id_, {.product = product, .odoo_product_id = odoo, .factor = Decimal::of(factor)}, "anna");
  }
  /// Odoo's product, with stock and price.
  void odoo_has(std::int64_t id, const std::string& free, const std::string& price) {
    auto product = book_->goods[id];
    product.free = free;
    product.price = price;
    book_->set(id, product);
  }
  /// One look, and what it leads to.
  void follow() {
    look();
    work();
  }
  /// Everything is known and told.
  void begin() {
    look();
    time_passes();
    follow();
    shop_->updates = shop_->rows_updated = 0;
  }
  std::string errors() {
    return rows("SELECT external_id, send_error_code FROM market_product WHERE send_error_code <> '' ORDER BY id", 2);
  }
  std::string dirty() {
    return rows("SELECT external_id FROM market_product WHERE dirty_us IS NOT NULL ORDER BY id", 1);
  }
  std::string unfinished() { return rows("SELECT cause, error_message FROM job WHERE state NOT IN (4, 5)", 2); }

  std::optional<MarketProducts> products_;
};

TEST_P(MarketStockTest, AChangeInOdooReachesTheMarketplaceAndOnlyWhatDiffers) {
  add_shop();
  link("700", 51);
  link("701", 52, "12");
  odoo_has(51, "10", "65");
  odoo_has(52, "35", "5.5");
  look();
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "10");
  EXPECT_EQ(shop_->offers.at("700").price, "65");
  EXPECT_EQ(shop_->offers.at("701").stock, "2");
  EXPECT_EQ(shop_->offers.at("701").price, "66");
  EXPECT_EQ(dirty(), "");
  begin();
  const int told = shop_->updates;
  follow();
  EXPECT_EQ(shop_->updates, told) << "nothing changed";
  odoo_has(51, "9", "65");
  std::vector<MarketProduct> sent;
  shop_->before_update = [&](auto changes) { sent.assign(changes.begin(), changes.end()); };
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "9");
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(sent[0].price) << "it has that already";
  // A change of the marketplace's unit that makes none of its figures.
  sent.clear();
  odoo_has(52, "30", "5.5");
  follow();
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(dirty(), "");
  EXPECT_EQ(unfinished(), "");
  const auto log = rows("SELECT kind, outcome, counts FROM sync_log ORDER BY id", 3);
  EXPECT_EQ(log, R"(stock_sync|ok|{"sent":2} product_sync|ok|{"sent":2} stock_sync|ok|{"sent":1})");
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM market_product WHERE stock_noticed_us <= stock_accepted_us AND "
                 "price_accepted_us <= stock_accepted_us",
                 1),
            "2");
}

TEST_P(MarketStockTest, ALinkThatIsMadeOrUndoneCountsAtOnce) {
  add_shop();
  odoo_has(51, "10", "65");
  begin();
  link("700", 51);
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "10");
  link("700", 51, "2");
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "5");
  EXPECT_EQ(shop_->offers.at("700").price, "130");
  products_->unlink(shop_id_, "700", false, "anna");
  odoo_has(51, "4", "65");
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "5") << "nobody says what it is";
  EXPECT_EQ(dirty(), "");
}

TEST_P(MarketStockTest, ABadRowDoesNotSinkItsBatch) {
  add_shop();
  for (int i = 0; i < 20; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "10", "65");
  }
  shop_->bad_offers.emplace("704", Error(Error::Kind::invalid, "The price is below the least one."));
  follow();
  EXPECT_EQ(errors(), "704|invalid");
  EXPECT_EQ(shop_->offers.size(), 19u);
  EXPECT_LE(shop_->updates, 12);
  EXPECT_EQ(dirty(), "");
  std::vector<notify::Problem> problems;
  store_->read([&](store::Session& session) { problems = notify::problems(session, 10); });
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_NE(problems[0].alert.text.find("704: The price is below"), std::string::npos) << problems[0].alert.text;
  // It is left until something of it changes, or somebody asks.
  follow();
  shop_->updates = 0;
  follow();
  EXPECT_EQ(shop_->updates, 0);
  shop_->bad_offers.clear();
  store_->write([&](store::Session& session) { EXPECT_EQ(MarketStock::retry(session, shop_id_, "", "test"), 1); });
  work();
  EXPECT_EQ(errors(), "");
  EXPECT_EQ(shop_->offers.at("704").stock, "10");
  EXPECT_EQ(unfinished(), "");
}

TEST_P(MarketStockTest, AMarketplaceThatTakesNothingIsNotAskedRowByRow) {
  add_shop();
  for (int i = 0; i < 64; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "10", "65");
  }
  shop_->before_update = [](auto) { throw Error(Error::Kind::invalid, "No such path."); };
  follow();
  EXPECT_LE(shop_->updates, 14);
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM market_product WHERE send_error = 'No such path.'", 1), "64");
}

TEST_P(MarketStockTest, ARowThatBreaksTheMarketplaceIsFoundAfterAFewTries) {
  add_shop();
  for (int i = 0; i < 8; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "10", "65");
  }
  Error broke(Error::Kind::in_doubt, "The marketplace answered 500.");
  broke.code = kServerFailed;
  shop_->bad_offers.emplace("703", broke);
  follow();
  EXPECT_EQ(errors(), "");
  for (int i = 0; i < 6; ++i) {
    time_passes();
    work();
  }
  EXPECT_EQ(errors(), "703|server_failed");
  EXPECT_EQ(shop_->offers.at("707").stock, "10");
  EXPECT_EQ(unfinished(), "");
  EXPECT_EQ(dirty(), "");
}

TEST_P(MarketStockTest, AMarketplaceThatIsBrokenHasNoBadRows) {
  add_shop();
  for (int i = 0; i < 40; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "10", "65");
  }
  Error broke(Error::Kind::in_doubt, "The marketplace answered 500.");
  broke.code = kServerFailed;
  shop_->before_update = [&](auto) { throw broke; };
  follow();
  for (int i = 0; i < 12; ++i) {
    time_passes();
    work();
  }
  EXPECT_EQ(errors(), "");
  shop_->before_update = {};
  time_passes();
  work();
  EXPECT_EQ(shop_->offers.size(), 40u);
  EXPECT_EQ(unfinished(), "");
}

TEST_P(MarketStockTest, WhatIsArchivedOrDeletedGoesToZeroAndComesBack) {
  add_shop();
  link("700", 51);
  link("701", 52);
  odoo_has(51, "10", "65");
  odoo_has(52, "4", "20");
  begin();
  auto product = book_->goods[51];
  product.active = false;
  book_->set(51, product);
  auto gone = book_->goods[52];
  gone.deleted = true;
  book_->set(52, gone);
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "0");
  EXPECT_FALSE(shop_->offers.at("700").in_stock);
  EXPECT_EQ(shop_->offers.at("701").stock, "0");
  EXPECT_NE(rows("SELECT errors FROM sync_log ORDER BY id", 1).find("archived"), std::string::npos);
  product.active = true;
  book_->set(51, product);
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "10");
  EXPECT_TRUE(shop_->offers.at("700").in_stock);
}

TEST_P(MarketStockTest, APriceInAnotherCurrencyIsNotSentAndPeopleAreTold) {
  add_shop();
  link("700", 51);
  book_->set(51, {.free = "10", .price = "65", .currency = "USD"});
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "10");
  EXPECT_EQ(shop_->offers.at("700").price, "");
  EXPECT_EQ(errors(), "700|currency");
  book_->set(51, {.free = "10", .price = "65", .currency = "EGP"});
  follow();
  EXPECT_EQ(shop_->offers.at("700").price, "65");
  EXPECT_EQ(errors(), "");
}

TEST_P(MarketStockTest, WhatChangesWhileItIsSentIsSentAgain) {
  add_shop();
  link("700", 51);
  odoo_has(51, "10", "65");
  shop_->after_update = [&] {
    shop_->after_update = {};
    odoo_has(51, "9", "65");
    look();
  };
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "9");
  EXPECT_EQ(dirty(), "");
  EXPECT_EQ(unfinished(), "");
}

TEST_P(MarketStockTest, AnUnknownOutcomeIsSentAgainEvenIfOdooWentBack) {
  add_shop();
  link("700", 51);
  odoo_has(51, "10", "65");
  begin();
  odoo_has(51, "3", "65");
  shop_->after_update = [] { throw Error(Error::Kind::in_doubt, "The answer was lost."); };
  follow();
  EXPECT_EQ(shop_->offers.at("700").stock, "3");
  odoo_has(51, "10", "65");
  shop_->after_update = {};
  look();
  time_passes();
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "10");
  EXPECT_EQ(rows("SELECT CAST(in_doubt AS TEXT) FROM market_product", 1), "0");
}

TEST_P(MarketStockTest, KilledAtEveryStepTheMarketplaceEndsWithWhatOdooHas) {
  add_shop();
  link("700", 51);
  odoo_has(51, "10", "65");
  begin();
  struct Killed {};
  for (const char* at : {"market.watched", "market.stock_read", "market.stock_intended", "market.products_sent"}) {
    SCOPED_TRACE(at);
    odoo_has(51, "3", "65");
    bool killed = false;
    on_step([&](std::string_view name) {
      if (name != at || killed) return;
      killed = true;
      throw Killed{};
    });
    try {
      follow();
    } catch (const Killed&) {
    }
    EXPECT_TRUE(killed);
    on_step({});
    // Odoo goes back to what the marketplace took last as far as anybody wrote down.
    odoo_has(51, "10", "65");
    node_->start();
    look();
    time_passes();
    work();
    EXPECT_EQ(shop_->offers.at("700").stock, "10");
    EXPECT_EQ(dirty(), "");
    EXPECT_EQ(unfinished(), "");
  }
}

TEST_P(MarketStockTest, AnOdooThatIsAwayDoesNotStopTheMarketplace) {
  add_shop();
  link("700", 51);
  odoo_has(51, "10", "65");
  look();
  book_->before_call = [] { throw Error(Error::Kind::unavailable, "Nobody answers."); };
  work();
  EXPECT_EQ(rows("SELECT code FROM breaker WHERE connection_id = " + std::to_string(shop_id_), 1), "");
  EXPECT_EQ(dirty(), "700");
  book_->before_call = {};
  time_passes();
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "10");
}

TEST_P(MarketStockTest, AResyncSendsEverythingAgainAndAFullLookOnlyDifferences) {
  add_shop();
  for (int i = 0; i < 7; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "10", "65");
  }
  begin();
  // A price that nothing told of.
  book_->goods[53].price = "66";
  store_->write(
      [&](store::Session& session) { EXPECT_EQ(MarketStock::mark_all(session, shop_id_, false, "test"), 7); });
  work();
  EXPECT_EQ(shop_->rows_updated, 1);
  EXPECT_EQ(shop_->offers.at("702").price, "66");
  shop_->offers.clear();
  store_->write([&](store::Session& session) { MarketStock::mark_all(session, shop_id_, true, "test"); });
  work();
  EXPECT_EQ(shop_->offers.size(), 7u);
}

TEST_P(MarketStockTest, BatchesAreNoLargerThanSet) {
  add_shop({{"batch_size", 10}});
  for (int i = 0; i < 35; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "10", "65");
  }
  std::size_t largest = 0;
  shop_->before_update = [&](auto changes) { largest = std::max(largest, changes.size()); };
  follow();
  EXPECT_EQ(largest, 10u);
  EXPECT_EQ(shop_->offers.size(), 35u);
  EXPECT_EQ(unfinished(), "");
}

// The process ends at any of its steps, calls and answers are lost, figures keep changing, now and then back to what
// they were: at the end the marketplace has what Odoo has.
TEST_P(MarketStockTest, RandomFaultsEndWithWhatOdooHas) {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : SystemRandom().next() % 1'000'000;
  std::cout << "seed " << seed << " (DRAGOMAN_SEED=" << seed << " runs it again)\n";
  SeededRandom random(seed);
  const auto chance = [&](int percent) { return random.next() % 100 < static_cast<std::uint64_t>(percent); };
  add_shop({{"batch_size", 4}});
  constexpr int kProducts = 9;
  for (int i = 0; i < kProducts; ++i) {
    link(std::to_string(700 + i), 51 + i);
    odoo_has(51 + i, "5", "5");
  }
  bool faults = true;
  struct Killed {};
  on_step([&](std::string_view) {
    if (faults && chance(6)) throw Killed{};
  });
  book_->before_call = [&] {
    if (faults && chance(10)) throw Error(Error::Kind::unavailable, "Not reached.");
  };
  shop_->before_update = [&](auto) {
    if (faults && chance(15)) throw Error(chance(50) ? Error::Kind::in_doubt : Error::Kind::busy, "The network.");
    if (faults && chance(10)) throw Error(Error::Kind::invalid, "Something of it is wrong.");
  };
  shop_->after_update = [&] {
    if (faults && chance(20)) throw Error(Error::Kind::in_doubt, "The answer was lost.");
  };
  for (int round = 0; round < 80; ++round) {
    faults = round < 70 && round % 3 != 2;
    if (round < 70) {
      const auto id = static_cast<std::int64_t>(51 + random.next() % kProducts);
      odoo_has(id, std::to_string(random.next() % 3), std::to_string(1 + random.next() % 3));
    }
    try {
      look();
      time_passes();
      work();
    } catch (const Killed&) {
      // As the next process does. What it was told by the watch is told again until it is settled.
      node_->start();
      store_->write([&](store::Session& session) { MarketStock::mark_all(session, shop_id_, false, "told again"); });
    }
  }
  faults = false;
  store_->write([&](store::Session& session) { MarketStock::retry(session, shop_id_, "", "test"); });
  time_passes();
  work();
  EXPECT_EQ(unfinished(), "");
  EXPECT_EQ(dirty(), "");
  EXPECT_EQ(errors(), "");
  for (int i = 0; i < kProducts; ++i) {
    SCOPED_TRACE(700 + i);
    EXPECT_EQ(shop_->offers.at(std::to_string(700 + i)).stock, book_->goods.at(51 + i).free);
    EXPECT_EQ(shop_->offers.at(std::to_string(700 + i)).price, book_->goods.at(51 + i).price);
  }
}

INSTANTIATE_TEST_SUITE_P(, MarketStockTest, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
