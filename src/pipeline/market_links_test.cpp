#include <fmt/format.h>
#include <gtest/gtest.h>

#include <utility>

#include "base/error.h"
#include "fakes/market_fixture.h"
#include "pipeline/market_catalog.h"
#include "pipeline/market_factor.h"
#include "pipeline/market_probe.h"
#include "pipeline/market_products.h"
#include "pipeline/market_stock.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

ProductFacts product(std::int64_t id, const char* code, const char* barcode, const char* market_id = "",
                     bool active = true) {
  return {.id = id,
          .name = "Product " + std::to_string(id),
          .default_code = code,
          .barcode = barcode,
          .unit = "Units",
          .active = active,
          .storable = true,
          .market_id = market_id};
}

TEST(ProductIndex, FindsByTheRulesAndNeverGuesses) {
  ProductIndex index;
  index.add(product(51, "T-1", "6220000000007"));
  index.add(product(52, "T-2", "6220000000014", "700"));
  index.add(product(53, "T-2", ""));
  index.add(product(54, "T-4", "", "", false));
  const std::vector<std::string> rules{"mapping", "cartona_id", "internal_id", "barcode", "default_code"};
  const auto found = [&](const char* id, const char* code, std::span<const std::string> by) {
    std::string out;
    for (const auto& one : index.candidates(id, code, by)) {
      out += std::to_string(one.id) + ":";
      for (const auto& rule : one.rules) out += rule + ",";
    }
    return out;
  };
  EXPECT_EQ(found("1", "51", rules), "51:internal_id,");
  EXPECT_EQ(found("1", "6220000000007", rules), "51:barcode,");
  EXPECT_EQ(found("1", "T-1", rules), "51:default_code,");
  EXPECT_EQ(found("700", "", rules), "52:cartona_id,");
  EXPECT_EQ(found("700", "52", rules), "52:cartona_id,internal_id,");
  EXPECT_EQ(found("700", "51", rules), "52:cartona_id,51:internal_id,") << "both are said";
  EXPECT_EQ(found("1", "T-2", rules), "52:default_code,53:default_code,");
  EXPECT_EQ(found("1", "T-4", rules), "") << "archived";
  EXPECT_EQ(found("1", "051", rules), "") << "a code is text";
  EXPECT_EQ(found("1", "999", rules), "");
  EXPECT_EQ(found("1", "99999999999999999999999999", rules), "");
  EXPECT_EQ(found("1", "T-1", std::vector<std::string>{"barcode"}), "");
}

TEST(MarketProbe, SaysWhatTheSettingsNameAndRefusesAnotherCurrency) {
  MarketChoices choices;
  choices.companies = {{.id = 1, .name = "North", .currency = "EGP"}, {.id = 2, .name = "South", .currency = "USD"}};
  choices.warehouses = {{.id = 5, .name = "Main", .company_id = 1}, {.id = 6, .name = "Other", .company_id = 2}};
  choices.pricelists = {{.id = 7, .name = "Shops", .company_id = 0, .currency = "EGP"},
                        {.id = 8, .name = "Export", .company_id = 0, .currency = "USD"}};
  choices.salespeople = {{.id = 9, .name = "Anna"}};
  const auto said = [&](const json& settings) {
    Probe probe;
    probe_choices(probe, settings, choices);
    std::string out;
    for (const auto& step : probe.steps) out += step.name + (step.ok ? "+ " : "- ");
    return out;
  };
  EXPECT_EQ(said({{"company", 1}, {"warehouse", 5}, {"pricelist", 7}, {"salesperson", 9}}),
            "company+ warehouse+ pricelist+ salesperson+ currency+ ");
  EXPECT_EQ(said(json::object()), "currency+ ");
  EXPECT_EQ(said({{"pricelist", 8}}), "pricelist+ currency- ");
  EXPECT_EQ(said({{"pricelist", 8}, {"currency", "USD"}}), "pricelist+ currency+ ");
  EXPECT_EQ(said({{"company", 2}}), "company+ currency- ");
  EXPECT_EQ(said({{"company", 3}}), "company- ");
  EXPECT_EQ(said({{"company", 1}, {"warehouse", 6}}), "company+ warehouse- currency+ ");
  EXPECT_EQ(said({{"warehouse", 77}, {"pricelist", 78}}), "warehouse- pricelist- ");
}

TEST(MarketProbe, SaysWhichWarehousesCountTogetherWhereNoneIsSet) {
  MarketChoices choices;
  choices.companies = {{.id = 1, .name = "North", .currency = "EGP"}, {.id = 2, .name = "South", .currency = "EGP"}};
  choices.warehouses = {{.id = 5, .name = "Main", .company_id = 1},
                        {.id = 6, .name = "Other", .company_id = 2},
                        {.id = 7, .name = "Shop", .company_id = 1}};
  const auto of_warehouses = [&](const json& settings) {
    Probe probe;
    probe_choices(probe, settings, choices);
    std::string out;
    for (const auto& step : probe.steps)
      if (step.name == "warehouse") out += step.result + (step.ok ? "" : " (wrong)");
    return out;
  };
  const std::string together =
      "none is set: the stock of all 2 of the company's is published together (5 Main, 7 Shop), and orders go to the "
      "one "
      "that Odoo chooses; with the setting `warehouse` both are of one";
  EXPECT_EQ(of_warehouses({{"company", 1}}), together);
  EXPECT_EQ(of_warehouses(json::object()), together);
  EXPECT_EQ(of_warehouses({{"company", 2}}), "") << "it has one alone";
  EXPECT_EQ(of_warehouses({{"company", 1}, {"send_stock", false}}), "") << "nothing of it is published";
  EXPECT_EQ(of_warehouses({{"company", 1}, {"warehouse", 7}}), "Shop");
}

class MarketLinks : public tests::MarketFixture {
 protected:
  void SetUp() override {
    tests::MarketFixture::SetUp();
    if (!store_) return;
    products_.emplace(*store_);
    add_shop();
  }
  void offer(const std::string& id, const char* code, const char* price = "1", const char* stock = "1") {
    auto& offer = shop_->offers[id];
    offer.code = code;
    offer.name = "Thing " + id;
    offer.price = price;
    offer.stock = stock;
  }
  void read_catalog() {
    store_->write([&](store::Session& session) { MarketCatalogJobs::enqueue(session, shop_id_, "test"); });
    work();
  }
  std::string links() {
    return rows("SELECT external_id, state, CAST(odoo_product_id AS TEXT) FROM market_product ORDER BY external_id", 3);
  }
  std::string import_error(const std::string& text) {
    try {
      products_->import_csv(shop_id_, text, "anna");
    } catch (const Error& error) {
      return error.message;
    }
    return "";
  }

  std::optional<MarketProducts> products_;
};

TEST_P(MarketLinks, WhatIsAskedForWhileTheProductsAreReadIsReadAfterwards) {
  offer("700", "T-0");
  bool once = false;
  on_step([&](std::string_view name) {
    if (name != "market.products_read" || std::exchange(once, true)) return;
    // Too late for what reads just now.
    offer("701", "T-1");
    store_->write([&](store::Session& session) {
      EXPECT_FALSE(MarketCatalogJobs::enqueue(session, shop_id_, "test").folded);
      EXPECT_TRUE(MarketCatalogJobs::enqueue(session, shop_id_, "test").folded) << "one that waits is enough";
    });
  });
  read_catalog();
  on_step({});
  EXPECT_EQ(links(), "700|proposed|0 701|proposed|0");
}

TEST_P(MarketLinks, TheMarketplacesProductsAreListedBesideOdoosAndAPersonConfirms) {
  for (int i = 0; i < 7; ++i) offer(std::to_string(700 + i), ("T-" + std::to_string(i)).c_str());
  for (int i = 0; i < 5; ++i)
    book_->goods[51 + i] = {.free = "4", .price = "20", .default_code = "T-" + std::to_string(i), .name = "Tea"};
  book_->goods[60] = {.default_code = "T-4", .name = "Another tea"};
  book_->goods[61] = {.default_code = "T-5", .name = "Archived", .active = false};
  read_catalog();
  EXPECT_EQ(products_->list({.connection = "shop"}).size(), 7u);
  const auto row = products_->get(shop_id_, "700");
  EXPECT_EQ(row.name, "Thing 700");
  EXPECT_EQ(row.price_now, "1");
  ASSERT_EQ(row.proposals.size(), 1u);
  EXPECT_EQ(row.proposals[0].at("odoo_product"), 51);
  EXPECT_EQ(row.proposals[0].at("name"), "Tea");
  EXPECT_EQ(products_->get(shop_id_, "704").proposals.size(), 2u);
  EXPECT_EQ(products_->get(shop_id_, "705").proposals.size(), 0u);
  EXPECT_EQ(shop_->updates, 0) << "nothing is linked by itself";

  products_->confirm(shop_id_, "700", "anna");
  EXPECT_THROW(products_->confirm(shop_id_, "700", "anna"), Error) << "it is linked";
  EXPECT_THROW(products_->confirm(shop_id_, "704", "anna"), Error) << "two fit";
  EXPECT_THROW(products_->confirm(shop_id_, "705", "anna"), Error) << "none fits";
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "4");
  EXPECT_EQ(shop_->offers.at("700").price, "20");
  EXPECT_EQ(shop_->offers.at("701").price, "1");
  const auto all = products_->confirm(shop_id_, "", "anna");
  EXPECT_EQ(all.linked.size(), 3u);
  EXPECT_EQ(all.ambiguous, 1);
  EXPECT_EQ(all.without, 2);
  work();
  EXPECT_EQ(shop_->offers.at("703").price, "20");
  read_catalog();
  EXPECT_EQ(products_->get(shop_id_, "700").odoo_name, "Tea");
}

TEST_P(MarketLinks, WhatIsSoldInAnotherPackageWaitsForItsFactor) {
  offer("700", "T-1");
  shop_->offers["700"].count = "12";
  book_->goods[51] = {.free = "48", .price = "2", .default_code = "T-1", .name = "Tea"};
  odoo_->products[51] = {.default_code = "T-1"};
  read_catalog();
  const auto link = [&](const char* factor) {
    products_->link(shop_id_, {.product = "700", .odoo_product_id = 51, .factor = Decimal::of(factor)}, "anna");
    work();
  };
  const auto errors = [&] {
    return rows("SELECT external_id, send_error_code FROM market_product WHERE send_error_code <> ''", 2);
  };
  link("12");
  EXPECT_EQ(shop_->offers.at("700").stock, "4");
  EXPECT_EQ(shop_->offers.at("700").price, "24");

  shop_->offers["700"].count = "24";
  book_->set(51, {.free = "96", .price = "2", .default_code = "T-1", .name = "Tea"});
  read_catalog();
  look();
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "4") << "nothing goes out by the old factor";
  EXPECT_EQ(errors(), "700|factor");
  EXPECT_NE(rows("SELECT send_error FROM market_product", 1).find("is sold in a package of 24"), std::string::npos);
  shop_->change("A", [](auto& order) { order.lines[0].count = "24"; });
  pull();
  EXPECT_EQ(order("A").hold_code, "factor");
  link("24");
  orders_->retry("shop", "factor", 0, "test");
  work();
  EXPECT_EQ(errors(), "");
  EXPECT_EQ(shop_->offers.at("700").stock, "4") << "96 pieces are four boxes of 24";
  EXPECT_EQ(shop_->offers.at("700").price, "48");
  EXPECT_EQ(there("A").lines.begin()->second.quantity.str(), "48");

  // An order in the package from before goes by what was said of that one, and changes nothing of what goes out.
  shop_->change("B", [](auto& order) { order.lines[0].count = "12"; });
  pull();
  EXPECT_EQ(there("B").lines.begin()->second.quantity.str(), "24");
  // One that nobody has spoken of is said beside the others.
  shop_->change("C", [](auto& order) { order.lines[0].count = "6"; });
  pull();
  EXPECT_EQ(order("C").hold_code, "factor");
  EXPECT_NE(order("C").hold_message.find("--unit-count 6"), std::string::npos);
  EXPECT_EQ(errors(), "");
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 51, .factor = 6, .unit_count = Decimal(6)}, "anna");
  orders_->retry("shop", "factor", 0, "test");
  read_catalog();
  look();
  work();
  EXPECT_EQ(there("C").lines.begin()->second.quantity.str(), "12");
  EXPECT_EQ(errors(), "");
  EXPECT_EQ(shop_->offers.at("700").stock, "4");
  EXPECT_EQ(shop_->offers.at("700").price, "48");
  EXPECT_EQ(products_->get(shop_id_, "700").factor, "24");
  // Listed in the first one again, it is known what that is.
  shop_->offers["700"].count = "12";
  read_catalog();
  work();
  EXPECT_EQ(shop_->offers.at("700").price, "24");
  EXPECT_EQ(errors(), "");
}

TEST_P(MarketLinks, AFactorOfTheSettingFollowsThePackage) {
  auto settings = connections_->get("shop").settings;
  settings["unit_factor"] = "unit_count";
  connections_->update("shop", settings, Secret());
  offer("700", "T-1");
  shop_->offers["700"].count = "12";
  book_->goods[51] = {.free = "48", .price = "2", .default_code = "T-1", .name = "Tea"};
  read_catalog();
  products_->confirm(shop_id_, "700", "anna", MarketplaceSettings::parse(settings));
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "4");
  shop_->offers["700"].count = "24";
  read_catalog();
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "2");
  EXPECT_EQ(shop_->offers.at("700").price, "48");
  EXPECT_EQ(products_->get(shop_id_, "700").factor, "24");
}

TEST_P(MarketLinks, AnOrderWaitsWhileSeveralProductsFit) {
  offer("700", "T-1");
  book_->goods[51] = {.free = "4", .price = "20", .default_code = "T-1", .name = "Tea"};
  book_->goods[60] = {.free = "9", .price = "90", .barcode = "T-1", .name = "Another tea"};
  odoo_->products[60] = {.default_code = "", .barcode = "T-1", .cartona_id = ""};
  read_catalog();
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  EXPECT_EQ(all(), "A|held|no");
  EXPECT_EQ(order("A").hold_code, "import_ambiguous");
  EXPECT_EQ(
      order("A").hold_message,
      "Several products of Odoo may be `Thing 700` (700): 60 Another tea, 51 Tea. Say which with `dragoman market "
      "link shop 700 PRODUCT`.");
  EXPECT_EQ(links(), "700|proposed|0");
  EXPECT_EQ(shop_->updates, 0) << "nothing is sent for a guess";
  try_again();
  EXPECT_EQ(all(), "A|held|no");
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 51}, "anna");
  try_again();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(there("A").lines.at("1").product, 51);
  EXPECT_EQ(shop_->offers.at("700").price, "20");
}

TEST_P(MarketLinks, AnOrderWaitsNoMoreOnceTheDataIsMended) {
  offer("700", "T-1");
  book_->goods[51] = {.default_code = "T-1", .name = "Tea"};
  book_->goods[60] = {.barcode = "T-1", .name = "Another tea"};
  read_catalog();
  shop_->change("A");
  pull();
  EXPECT_EQ(order("A").hold_code, "import_ambiguous");
  book_->goods[60].barcode = "";
  read_catalog();
  try_again();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(links(), "700|linked|51");
}

TEST_P(MarketLinks, WhereTheProductsWereNotReadTheFirstRuleThatFindsOneWins) {
  odoo_->products[60] = {.default_code = "", .barcode = "T-1", .cartona_id = ""};
  shop_->change("A");
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_EQ(there("A").lines.at("1").product, 60);
}

TEST_P(MarketLinks, ANewStateOfAnOrderThatIsInOdooWaitsForNoProduct) {
  shop_->change("A", [](auto& order) { order.status = "approved"; });
  pull();
  offer("700", "T-1");
  book_->goods[51] = {.default_code = "T-1", .name = "Tea"};
  book_->goods[60] = {.barcode = "T-1", .name = "Another tea"};
  products_->unlink(shop_id_, "700", false, "anna");
  read_catalog();
  shop_->change("A", [](auto& order) { order.status = "delivered"; });
  pull();
  EXPECT_EQ(all(), "A|imported|sent");
  EXPECT_TRUE(there("A").delivered);
  shop_->change("B");
  pull();
  EXPECT_EQ(order("B").hold_code, "import_ambiguous");
  shop_->change("B", [](auto& order) { order.status = "cancelled"; });
  pull();
  EXPECT_EQ(order("B").state, "cancelled");
}

TEST_P(MarketLinks, WhatWasProposedShowsAgainWhenTheLinkIsGone) {
  offer("700", "T-1");
  book_->goods[51] = {.default_code = "T-1", .name = "Tea"};
  read_catalog();
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 60}, "anna");
  EXPECT_EQ(products_->export_csv("shop").find("51 Tea"), std::string::npos) << "it is linked";
  EXPECT_EQ(products_->unlink(shop_id_, "700", false, "anna").proposals.size(), 1u);
  EXPECT_NE(products_->export_csv("shop").find("51 Tea"), std::string::npos);
  // And as it was found when the products were read last, linked or not.
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 60}, "anna");
  book_->goods[61] = {.barcode = "T-1", .name = "Another tea"};
  read_catalog();
  EXPECT_EQ(products_->unlink(shop_id_, "700", false, "anna").proposals.size(), 2u);
}

TEST_P(MarketLinks, WhatTheMarketplaceNeverHadIsNotLinkedOnceItsProductsWereRead) {
  products_->link(shop_id_, {.product = "600", .odoo_product_id = 51}, "anna");
  offer("700", "T-1");
  read_catalog();
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 51}, "anna");
  try {
    products_->link(shop_id_, {.product = "7000", .odoo_product_id = 51}, "anna");
    ADD_FAILURE() << "it was linked";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::not_found);
    EXPECT_EQ(error.message,
              "No product `7000` has been seen at the marketplace: `dragoman market catalog` reads them.");
  }
  EXPECT_EQ(links(), "600|linked|51 700|linked|51");
  // On an order it was seen, too.
  shop_->change("A", [](auto& order) { order.lines[0].product = "800"; });
  pull();
  EXPECT_EQ(products_->link(shop_id_, {.product = "800", .odoo_product_id = 51}, "anna").state, "linked");
}

TEST_P(MarketLinks, WhatSomebodyChangedAtTheMarketplaceIsSentAgain) {
  offer("700", "51");
  offer("701", "52");
  book_->goods[51] = book_->goods[52] = {.free = "4", .price = "20"};
  read_catalog();
  products_->confirm(shop_id_, "", "anna");
  work();
  read_catalog();
  const int told = shop_->rows_updated;
  read_catalog();
  EXPECT_EQ(shop_->rows_updated, told) << "it has what it took";
  shop_->offers.at("700").price = "19";
  read_catalog();
  EXPECT_EQ(shop_->offers.at("700").price, "20");
  EXPECT_EQ(shop_->rows_updated, told + 1);
}

TEST_P(MarketLinks, FlagsGoOutWithTheNextUpdateAndOnlyWhatDiffers) {
  offer("700", "T-1");
  book_->goods[51] = {.free = "4", .price = "20", .default_code = "T-1"};
  read_catalog();
  EXPECT_THROW(products_->set_flags(shop_id_, "700", json::object(), true), Error) << "it has no link";
  products_->confirm(shop_id_, "700", "anna");
  work();
  std::vector<MarketProduct> sent;
  shop_->before_update = [&](auto changes) { sent.assign(changes.begin(), changes.end()); };
  products_->set_flags(shop_id_, "700", {{"published", false}, {"min_order", "2"}, {"max_order", "10"}}, true);
  work();
  EXPECT_FALSE(shop_->offers.at("700").published);
  EXPECT_EQ(shop_->offers.at("700").max, "10");
  EXPECT_EQ(shop_->offers.at("700").code, "51");
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(sent[0].price || sent[0].stock) << "it has these";
  products_->set_flags(shop_id_, "700", {{"max_order", "12"}, {"min_order", nullptr}});
  work();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_FALSE(sent[0].published || sent[0].order_min);
  EXPECT_EQ(sent[0].order_max->str(), "12");
  EXPECT_THROW(products_->set_flags(shop_id_, "700", {{"min_order", "13"}}), Error);
}

TEST_P(MarketLinks, ATableGoesOutAndComesBackChanged) {
  offer("700", "T-1");
  offer("701", "=cmd");
  offer("702", "T-3");
  shop_->offers.at("701").name = "Tea, \"green\"\nشاي";
  book_->goods[51] = {.free = "24", .price = "20", .default_code = "T-1", .name = "Tea"};
  read_catalog();
  const auto text = products_->export_csv("shop");
  EXPECT_NE(text.find("'=cmd"), std::string::npos);
  EXPECT_NE(text.find("51 Tea"), std::string::npos) << "what is proposed stands in it";
  // Taken in as it is, it changes nothing.
  const auto same = products_->import_csv(shop_id_, text, "anna");
  EXPECT_EQ(same.rows, 3);
  EXPECT_EQ(same.linked + same.flagged + same.ignored, 0);
  const auto done = products_->import_csv(shop_id_,
                                          "Product;ODOO_PRODUCT;factor;state;published;max_order\r\n"
                                          "700;51;12;;yes;10\r\n701;;;ignored;;\r\n",
                                          "anna");
  EXPECT_EQ(done.linked, 1);
  EXPECT_EQ(done.flagged, 1);
  EXPECT_EQ(done.ignored, 1);
  EXPECT_EQ(links(), "700|linked|51 701|ignored|0 702|proposed|0");
  work();
  EXPECT_EQ(shop_->offers.at("700").stock, "2");
  EXPECT_EQ(shop_->offers.at("700").price, "240");
  EXPECT_EQ(shop_->offers.at("700").max, "10");
  const auto again = products_->import_csv(shop_id_, products_->export_csv("shop"), "anna");
  EXPECT_EQ(again.linked + again.flagged + again.ignored, 0);
}

TEST_P(MarketLinks, ATableWithAWrongLineIsTakenInNotAtAllAndEveryWrongLineIsNamed) {
  offer("700", "T-1");
  offer("701", "T-2");
  read_catalog();
  const auto error = import_error(
      "product,odoo_product,factor,published,min_order\n"
      "700,51,1,true,1\n"
      "nowhere,51,1,,\n"
      "701,x,1,,\n"
      "700,52,1,,\n"
      ",1,,,\n"
      "701,52,0,,\n"
      "701,52,1,maybe,\n"
      "701,52,1,,-1\n"
      "701,52,1,,,,\n");
  EXPECT_NE(error.find("8 of the lines are wrong"), std::string::npos) << error;
  for (const char* line :
       {"Line 3: ", "Line 4: ", "Line 5: ", "Line 6: ", "Line 7: ", "Line 8: ", "Line 9: ", "Line 10: "})
    EXPECT_NE(error.find(line), std::string::npos) << line << error;
  EXPECT_EQ(links(), "700|proposed|0 701|proposed|0");
  EXPECT_NE(import_error(""), "");
  EXPECT_NE(import_error("odoo_product\n1\n").find("`product` is missing"), std::string::npos);
  EXPECT_NE(import_error("product,colour\n").find("`colour`"), std::string::npos);
  EXPECT_NE(import_error("product,product\n").find("twice"), std::string::npos);
  EXPECT_NE(import_error("product\n\"700\n").find("Line 2"), std::string::npos);
}

TEST_P(MarketLinks, ATableSaysNothingThatIsPassedOverInSilence) {
  offer("700", "T-1");
  offer("701", "T-2");
  read_catalog();
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 51}, "anna");
  EXPECT_NE(import_error("product,state\n700,proposed\n").find("Line 2: `700` is linked to 51"), std::string::npos);
  EXPECT_NE(import_error("product,odoo_product\n701,1e1\n").find("`1e1` is no id of a product in Odoo"),
            std::string::npos);
  EXPECT_EQ(links(), "700|linked|51 701|proposed|0");
  EXPECT_EQ(products_->import_csv(shop_id_, "product,odoo_product,state\n700,60,proposed\n", "anna").linked, 1)
      << "it was linked after the table was written";
  EXPECT_EQ(products_->import_csv(shop_id_, "product,odoo_product\n701,52.0\n", "anna").linked, 1);
  EXPECT_EQ(links(), "700|linked|60 701|linked|52");
  EXPECT_THROW(products_->set_flags(shop_id_, "700", {{"foo", nullptr}}), Error);
}

TEST(MarketFactor, IsWithinWhatLeavesDigitsAndHasNoExponent) {
  for (const char* good : {"1", "12", "0.5", "0.0001", "1000000", " 2.50 "})
    EXPECT_EQ(market_factor(good), Decimal::of(good)) << good;
  for (const char* bad : {"1e-9", "1E2", "0.00009", "1000000.1", "0", "-1", "", "twelve", "1,5"}) {
    try {
      market_factor(bad);
      ADD_FAILURE() << bad << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::invalid);
      EXPECT_NE(error.message.find(
                    fmt::format("from 0.0001 to 1000000, written without an exponent, and this is `{}`.", bad)),
                std::string::npos)
          << error.message;
    }
  }
}

TEST_P(MarketLinks, AFactorIsWithinItsLimitsWhereverItIsGiven) {
  offer("700", "T-1");
  offer("701", "T-2");
  read_catalog();
  for (const char* bad : {"0.00001", "1000001"})
    EXPECT_THROW(
        products_->link(shop_id_, {.product = "700", .odoo_product_id = 51, .factor = Decimal::of(bad)}, "anna"),
        Error);
  EXPECT_NE(import_error("product,odoo_product,factor\n700,51,1e-9\n").find("Line 2: The factor says"),
            std::string::npos);
  EXPECT_EQ(links(), "700|proposed|0 701|proposed|0");
  // What was linked before there were limits stands in the way of nothing else.
  products_->link(shop_id_, {.product = "700", .odoo_product_id = 51}, "anna");
  store_->write([](store::Session& session) {
    session.execute("UPDATE market_product SET factor = '0.000001' WHERE external_id = '700'");
  });
  const auto done =
      products_->import_csv(shop_id_, "product,odoo_product,factor,published\n700,51,0.000001,yes\n701,52,,\n", "anna");
  EXPECT_EQ(done.flagged, 1);
  EXPECT_EQ(done.linked, 1);
}

TEST_P(MarketLinks, WhatIsNotInOdooOrArchivedThereCanNotBeLinkedTo) {
  book_->goods[51] = {.name = "Tea"};
  book_->goods[52] = {.name = "Coffee", .active = false};
  book_->goods[53] = {.name = "Sugar", .deleted = true};
  for (int id = 2000; id < 3200; ++id) book_->goods[id] = {.name = "Thing"};
  const auto wrong = unusable_products(*book_, {7, 51, 52, 53, 2000, 3100, 9000}, {});
  std::vector<std::int64_t> ids;
  for (const auto& [id, why] : wrong) ids.push_back(id);
  EXPECT_EQ(ids, (std::vector<std::int64_t>{7, 52, 53, 9000}));
  EXPECT_EQ(wrong.at(52),
            "The product 52 (Coffee) is archived in Odoo: take it out of the archive there, or give another one.");
  EXPECT_NE(wrong.at(7).find("There is no product 7 in Odoo"), std::string::npos);
  EXPECT_LE(book_->product_calls, 3);
  EXPECT_TRUE(unusable_products(*book_, {}, {}).empty());
}

TEST_P(MarketLinks, ATableThatLinksToWhatIsNotInOdooIsTakenInNotAtAll) {
  offer("700", "T-1");
  offer("701", "T-2");
  offer("702", "T-3");
  read_catalog();
  book_->goods[51] = {.name = "Tea"};
  book_->goods[52] = {.name = "Coffee", .active = false};
  const auto ask = [&](const std::set<std::int64_t>& ids) { return unusable_products(*book_, ids, {}); };
  try {
    products_->import_csv(shop_id_, "product,odoo_product\n700,51\n701,52\n702,60\n", "anna", ask);
    ADD_FAILURE() << "it was taken in";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "csv");
    EXPECT_NE(error.message.find("since 2 of the lines are wrong"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find("Line 3: The product 52 (Coffee) is archived"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find("Line 4: There is no product 60"), std::string::npos) << error.message;
  }
  EXPECT_EQ(links(), "700|proposed|0 701|proposed|0 702|proposed|0");
  book_->before_products = [] { throw Error(Error::Kind::unavailable, "Nobody answers."); };
  EXPECT_THROW(products_->import_csv(shop_id_, "product,odoo_product\n700,51\n", "anna", ask), Error);
  EXPECT_EQ(links(), "700|proposed|0 701|proposed|0 702|proposed|0");
  book_->before_products = {};
  EXPECT_EQ(products_->import_csv(shop_id_, "product,odoo_product\n700,51\n", "anna", ask).linked, 1);
  // What is not changed is not asked about: one that was archived since keeps its link, and says so elsewhere.
  book_->goods[51].active = false;
  EXPECT_EQ(products_->import_csv(shop_id_, "product,odoo_product,max_order\n700,51,9\n", "anna", ask).flagged, 1);
}

TEST_P(MarketLinks, AllAreLookedAtAndTheProductsAreReadByTheClock) {
  offer("700", "51");
  book_->goods[51] = {.free = "4", .price = "20"};
  // Each is another process, which reads when it was done last.
  const auto step = [&](Micros ago) {
    store_->write([&](store::Session& session) {
      for (const char* what : {"full_look", "catalog_due"})
        MarketOrders::set_cursor(session, shop_id_, what, std::to_string(to_us(session.now() - ago)));
    });
    MarketPoller(*orders_, *marketplaces_, clock_).step();
    work();
  };
  MarketPoller(*orders_, *marketplaces_, clock_).step();
  work();
  EXPECT_EQ(products_->get(shop_id_, "700").proposals.size(), 1u);
  products_->confirm(shop_id_, "700", "anna");
  work();
  // A rate that changed: nothing tells of it.
  book_->goods[51].price = "21";
  step(std::chrono::minutes(59));
  EXPECT_EQ(shop_->offers.at("700").price, "20");
  step(std::chrono::minutes(61));
  EXPECT_EQ(shop_->offers.at("700").price, "21");
  shop_->offers.at("700").stock = "99";
  step(std::chrono::hours(25));
  EXPECT_EQ(shop_->offers.at("700").stock, "4");
}

INSTANTIATE_TEST_SUITE_P(, MarketLinks, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
