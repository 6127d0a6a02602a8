// A marketplace's orders in Odoo, and what is told of them: on real servers and the stand-in. The instantiation says
// which.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <future>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "connectors/odoo/import_target.h"
#include "connectors/odoo/market_reader.h"
#include "connectors/odoo/provision.h"
#include "fakes/odoo_servers.h"
#include "pipeline/status_rules.h"
#include "sandbox/odoo/server.h"

namespace dragoman::connectors::odoo {
namespace {

using nlohmann::json;
using pipeline::Delivered;
using pipeline::OrderFacts;
using rpc::Domain;

constexpr auto kArchivedToo = R"({"active_test":false})";

/// A transaction in Odoo's database that writes an order, and commits when it is told to.
class Late {
 public:
  Late(sandbox::odoo::Server* stand_in, const std::string& pg_uri, std::int64_t order) : stand_in_(stand_in) {
    if (stand_in_) {
      transaction_ = stand_in_->control("POST", "/tx/begin", {{"uid", 2}})["tx"];
      stand_in_->control(
          "POST", "/tx/write",
          {{"tx", transaction_}, {"model", "sale.order"}, {"ids", {order}}, {"values", {{"origin", "late"}}}});
      return;
    }
    sql_ = PQconnectdb(pg_uri.c_str());
    run("BEGIN");
    run(fmt::format("UPDATE sale_order SET origin = 'late', write_date = now() AT TIME ZONE 'UTC' WHERE id = {}",
                    order));
  }
  ~Late() {
    if (sql_) PQfinish(sql_);
  }
  Late(const Late&) = delete;
  Late& operator=(const Late&) = delete;

  void commit() {
    if (stand_in_)
      stand_in_->control("POST", "/tx/commit", {{"tx", transaction_}});
    else
      run("COMMIT");
  }

 private:
  void run(const std::string& text) {
    PGresult* result = PQexec(sql_, text.c_str());
    EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK) << PQerrorMessage(sql_);
    PQclear(result);
  }

  sandbox::odoo::Server* const stand_in_;
  std::int64_t transaction_ = 0;
  PGconn* sql_ = nullptr;
};

class LiveMarket : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string which = GetParam();
    if (which.starts_with("StandIn")) {
      stand_in_ = std::make_unique<sandbox::odoo::Server>(
          sandbox::odoo::Options{.series = std::stoi(which.substr(7)), .workers = 4});
      stand_in_->start();
      const auto& options = stand_in_->options();
      server_ = tests::OdooServer{stand_in_->url(),  options.db,      "admin", options.admin_password,
                                  options.admin_key, which.substr(7), ""};
    } else {
      server_ = tests::odoo_server(which);
    }
    DRAGOMAN_NEED_SERVER(server_, which);
    tag_ = "dragoman-" + random_hex(random_, 4);
    settings_.url = server_->url;
    settings_.database = server_->database;
    settings_.login = server_->login;
    // With a key, calls of 19 cost no check of a password each.
    const bool has_key = server_->version.starts_with("19") && !server_->api_key.empty();
    settings_.password = Secret(has_key ? server_->api_key : server_->password);
    outside_ = std::make_shared<rpc::Client>(settings_, clock_);
    state_ = provisioned_once(which);
    target_ = make_target();
    reader_.emplace(std::make_shared<rpc::Client>(settings_, clock_), state_.actions.at("market"),
                    std::vector<std::int64_t>{}, "main");
    const auto places = json::parse(
        outside_->search_read("stock.warehouse", Domain::where("company_id", "=", 1), warehouse(), {}).result());
    location_ = places.at(0).at("lot_stock_id");
    warehouse_ = places.at(0).at("id");
    product_ = product("P", 100);
  }

  void TearDown() override {
    // The stand-in goes with its records. What was delivered can't be deleted: it stays, out of the way.
    if (!outside_ || stand_in_) return;
    for (const auto id : outside_->search("sale.order", Domain::where("client_order_ref", "=", tag_), {}, {})) {
      rpc::CallOptions options;
      options.context = R"({"disable_cancel_warning":true})";
      try {
        outside_->call("sale.order", "action_cancel", fmt::format("[[{}]]", id), "", options);
        outside_->unlink("sale.order", {id}, {});
      } catch (const Error& error) {
        ignore_error("an order that was delivered stays", error);
      }
    }
    for (const auto id : outside_->search("res.partner", Domain::where("x_cartona_id", "=like", tag_ + "%"), {}, {})) {
      try {
        outside_->unlink("res.partner", {id}, {});
      } catch (const Error& error) {
        ignore_error("the customer of such an order stays", error);
      }
    }
    rpc::CallOptions archived;
    archived.context = kArchivedToo;
    const auto products =
        outside_->search("product.product", Domain::where("default_code", "=like", tag_ + "%"), {}, archived);
    if (!products.empty()) outside_->write("product.product", products, json{{"active", false}}, {});
  }

  // A real server keeps what was put there for the test before, unless another test has taken it out.
  Provisioned provisioned_once(const std::string& which) {
    static std::map<std::string, Provisioned> before;
    if (const auto known = before.find(which); known != before.end() && !stand_in_) {
      if (check_provisioned(*outside_, known->second, {}).empty()) return known->second;
    }
    ProvisionOptions options;
    options.market = true;
    Provisioning provisioning(
        *outside_,
        [this](const std::string& login, const Secret& secret) {
          auto settings = settings_;
          settings.login = login;
          settings.password = secret;
          return std::make_unique<rpc::Client>(settings, clock_);
        },
        server_->login, settings_.password, options, clock_, random_);
    return before[which] = provisioning.apply({}, [](const std::string&, const Secret&) {}).state;
  }

  static rpc::ReadOptions warehouse() {
    rpc::ReadOptions read;
    read.fields = {"lot_stock_id"};
    read.order = "id";
    read.limit = 1;
    return read;
  }

  std::shared_ptr<ImportTarget> make_target() {
    return std::make_shared<ImportTarget>(std::make_shared<rpc::Client>(settings_, clock_), state_.actions.at("import"),
                                          std::vector<std::int64_t>{}, "main",
                                          OtherProcedures{state_.actions.at("relink"), state_.actions.at("order")});
  }

  // What nobody could do from outside: a real server's database.
  void sql(const std::string& text) {
    PGconn* connection = PQconnectdb(server_->pg_uri.c_str());
    PGresult* result = PQexec(connection, text.c_str());
    EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK) << PQerrorMessage(connection);
    PQclear(result);
    PQfinish(connection);
  }

  std::int64_t product(const std::string& code, int in_stock) {
    json values{{"name", "Product " + code + " " + tag_}, {"default_code", tag_ + "-" + code}, {"list_price", 9.99}};
    if (std::stoi(server_->version) >= 18) {
      values["type"] = "consu";
      values["is_storable"] = true;
    } else {
      values["type"] = "product";
    }
    const auto id = outside_->create("product.product", json::array({values}), {}).at(0);
    // By the procedure: a quantity is set in it as it is, whatever the version.
    if (in_stock > 0)
      deliver(
          {{.model = "stock.quant",
            .key = tag_ + "/quant/" + code,
            .version = 1,
            .content =
                json{{"values", {{"product_id", id}, {"location_id", location_}, {"quantity", in_stock}}}}.dump()}});
    return id;
  }

  struct Line {
    std::string key, product;
    json quantity = 1, price = 10;
  };
  static json where(const std::string& field, const std::string& value) {
    return json::array({json::array({field, "=", value})});
  }
  json content(const std::string& customer, const std::vector<Line>& lines, const std::vector<std::string>& steps,
               const json& more = json::object()) {
    json partner{{"key", tag_ + "/customer/" + customer}, {"own", true}};
    partner["match"] = json::array({json::array({"cartona_id", where("cartona_id", tag_ + customer)}),
                                    json::array({"phone", where("phone", phone())})});
    partner["values"] = {{"name", "بقالة " + customer + " 🛒"}, {"cartona_id", tag_ + customer}};
    json out;
    out["values"] = {{"client_order_ref", tag_}, {"cartona_id", "h-" + tag_}, {"marketplace_status", "approved"}};
    out["values"]["partner_id"] = partner;
    out["replace"] = json::array({"order_line"});
    out["steps"] = steps;
    out["children"]["order_line"] = json::array();
    for (const Line& line : lines) {
      json product{{"key", tag_ + "/product/" + line.product}};
      product["match"] = json::array({json::array({"default_code", where("default_code", tag_ + "-" + line.product)})});
      product["active"] = true;
      json values{{"product_uom_qty", line.quantity}, {"price_unit", line.price}, {"tax_id", json::array()}};
      values["product_id"] = product;
      out["children"]["order_line"].push_back({{"key", line.key}, {"values", values}});
    }
    out.update(more);
    return out;
  }
  std::string phone() const { return "+999" + tag_; }
  std::string key(const std::string& order) const { return tag_ + "/" + order; }
  pipeline::Outgoing order(const std::string& name, std::int64_t version, const json& content) const {
    return {.model = "sale.order", .key = key(name), .version = version, .content = content.dump()};
  }
  std::vector<Delivered> deliver(const std::vector<pipeline::Outgoing>& records) {
    return (target_ ? target_ : make_target())->deliver(records, {});
  }
  OrderFacts facts(const std::string& order) {
    const std::vector<std::string> keys{key(order)};
    return reader_->orders(keys, {}).at(0);
  }
  std::vector<std::int64_t> partners(const std::string& name) {
    return outside_->search("res.partner", Domain::where("x_cartona_id", "=", tag_ + name), {}, {});
  }
  static std::string code(const Delivered& one) { return one.error ? one.error->code : std::string(name(one.what)); }

  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<sandbox::odoo::Server> stand_in_;
  std::optional<tests::OdooServer> server_;
  rpc::Settings settings_;
  std::shared_ptr<rpc::Client> outside_;
  Provisioned state_;
  std::shared_ptr<ImportTarget> target_;
  std::optional<MarketReader> reader_;
  std::string tag_;
  std::int64_t location_ = 0, warehouse_ = 0, product_ = 0;
};

TEST_P(LiveMarket, AnOrderComesWithItsCustomerAndIsConfirmedOnce) {
  const auto wanted = order("1", 1,
                            content("A", {{"1", "P", "2", "10.50"}, {"2", "P", 1, "0.25"}}, {"confirm"},
                                    {{"expect", {{"amount_total", "21.25"}}}}));
  const auto first = deliver({wanted}).at(0);
  ASSERT_EQ(code(first), "created");
  EXPECT_EQ(first.children.size(), 2u);
  EXPECT_EQ(first.links.at(tag_ + "/customer/A").how, "created");
  EXPECT_EQ(first.links.at(tag_ + "/customer/A").model, "res.partner");
  EXPECT_EQ(first.links.at(tag_ + "/product/P").id, std::to_string(product_));
  const auto again = deliver({wanted}).at(0);
  EXPECT_EQ(code(again), "unchanged");
  EXPECT_EQ(again.id, first.id);
  EXPECT_EQ(again.links.at(tag_ + "/customer/A").id, first.links.at(tag_ + "/customer/A").id);
  const std::vector<pipeline::Target::Key> keys{{"sale.order", key("1")}};
  const auto found = target_->find(keys, {}).at(0);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->links.at(tag_ + "/customer/A").id, first.links.at(tag_ + "/customer/A").id);
  EXPECT_EQ(partners("A").size(), 1u);
  const auto now = facts("1");
  EXPECT_EQ(now.state, "sale");
  EXPECT_EQ(now.total, "21.25");
  ASSERT_EQ(now.lines.size(), 2u);
  EXPECT_EQ(now.lines[0].key, "1");
  EXPECT_EQ(now.lines[0].ordered, "2");
  EXPECT_TRUE(now.lines[0].storable);
  ASSERT_EQ(now.pickings.size(), 1u);
  EXPECT_EQ(now.pickings[0].state, "assigned");
  rpc::ReadOptions read;
  read.fields = {"x_cartona_id", "x_marketplace_status"};
  const auto there = json::parse(
      outside_->search_read("sale.order", Domain::where("id", "=", std::int64_t{std::stoll(first.id)}), read, {})
          .result());
  EXPECT_EQ(there.at(0).at("x_cartona_id"), "h-" + tag_);
  EXPECT_EQ(there.at(0).at("x_marketplace_status"), "approved");
}

TEST_P(LiveMarket, WhatIsWrongWithAnOrderLeavesNothingOfItAndIsSaidInACode) {
  product("T", 0);
  outside_->create("product.product",
                   json::array({{{"name", "Twin " + tag_}, {"default_code", tag_ + "-T"}},
                                {{"name", "Old " + tag_}, {"default_code", tag_ + "-Z"}, {"active", false}}}),
                   {});
  const auto outcomes = deliver(
      {order("unknown", 1, content("N", {{"1", "no-such"}}, {"confirm"})),
       order("twins", 1, content("N", {{"1", "T"}}, {"confirm"})),
       order("archived", 1, content("N", {{"1", "Z"}}, {"confirm"})),
       order("negative", 1, content("N", {{"1", "P", -1}}, {"confirm"})),
       order("total", 1, content("N", {{"1", "P", 1, 5}}, {"confirm"}, {{"expect", {{"amount_total", "5.01"}}}})),
       order("twice", 1, content("N", {{"1", "P"}, {"1", "P"}}, {"confirm"})),
       order("currency", 1, content("N", {{"1", "P"}}, {"confirm"}, {{"currency", "XTS"}})),
       order("stock", 1, content("N", {{"1", "P", 1000}}, {"confirm", "deliver"})),
       order("good", 1, content("G", {{"1", "P"}}, {"confirm"}))});
  const char* const expected[] = {"import_notmatched", "import_ambiguous", "import_notmatched",
                                  "import_quantity",   "import_total",     "import_children",
                                  "import_currency",   "import_stock",     "created"};
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    EXPECT_EQ(code(outcomes[i]), expected[i]) << (outcomes[i].error ? outcomes[i].error->message : "");
  EXPECT_NE(outcomes[0].error->message.find(tag_ + "-no-such"), std::string::npos) << outcomes[0].error->message;
  EXPECT_NE(outcomes[2].error->message.find("Archived: "), std::string::npos) << outcomes[2].error->message;
  EXPECT_NE(outcomes[4].error->message.find("5.00"), std::string::npos) << outcomes[4].error->message;
  EXPECT_NE(outcomes[7].error->message.find(" missing"), std::string::npos) << outcomes[7].error->message;
  EXPECT_EQ(partners("N").size(), 0u);
  EXPECT_EQ(partners("G").size(), 1u);
  EXPECT_EQ(outside_->search_count("sale.order", Domain::where("client_order_ref", "=", tag_), {}), 1);
}

TEST_P(LiveMarket, AProductThatWasArchivedSinceIsForNoNewOrder) {
  const auto first = order("1", 1, content("A", {{"1", "P"}}, {"confirm"}));
  ASSERT_EQ(code(deliver({first}).at(0)), "created");
  outside_->write("product.product", {product_}, json{{"active", false}}, {});
  const auto more = [&](const char* name) { return order(name, 1, content("A", {{"1", "P"}}, {"confirm"})); };
  std::vector<Delivered> refused = deliver({more("2")});
  for (auto& one : deliver({more("3"), more("4")})) refused.push_back(one);
  for (const auto& one : refused) {
    EXPECT_EQ(code(one), "import_notmatched");
    ASSERT_TRUE(one.error);
    EXPECT_NE(one.error->message.find("Archived: "), std::string::npos) << one.error->message;
  }
  // The one that is in Odoo goes on.
  EXPECT_EQ(code(deliver({order("1", 2, content("A", {{"1", "P"}}, {"confirm", "deliver"}))}).at(0)), "updated");
  outside_->write("product.product", {product_}, json{{"active", true}}, {});
  EXPECT_EQ(code(deliver({more("2")}).at(0)), "created");
}

TEST_P(LiveMarket, CallersAtOnceMakeOneOrderAndOneCustomerOfOneKey) {
  const auto wanted = content("A", {{"1", "P"}}, {"confirm"});
  std::vector<std::future<std::vector<Delivered>>> callers;
  for (int i = 0; i < 3; ++i)
    callers.push_back(std::async(std::launch::async, [&, i] {
      // One order of all three, and one of each caller's own for the same new customer.
      const std::vector<pipeline::Outgoing> records{order("all", 1, wanted), order(fmt::format("own{}", i), 1, wanted)};
      const auto target = make_target();
      for (int attempt = 0;; ++attempt) {
        try {
          return target->deliver(records, {});
        } catch (const Error& error) {
          // Nothing was done, and again is right: what the pipeline does with it.
          if (error.kind != Error::Kind::conflict || attempt == 20) throw;
        }
      }
    }));
  int created = 0;
  std::set<std::string> orders, customers;
  for (auto& caller : callers)
    for (const auto& one : caller.get()) {
      ASSERT_FALSE(one.error) << one.error->message;
      created += one.what == Delivered::What::created;
      orders.insert(one.id);
      customers.insert(one.links.at(tag_ + "/customer/A").id);
    }
  EXPECT_EQ(created, 4);
  EXPECT_EQ(orders.size(), 4u);
  EXPECT_EQ(customers.size(), 1u);
  EXPECT_EQ(partners("A").size(), 1u);
}

TEST_P(LiveMarket, TwoShopsThatFindOneContactAtOnceAreTwoCustomers) {
  outside_->create("res.partner", json::array({{{"name", "Known " + tag_}, {"ref", tag_}, {"phone", phone()}}}), {});
  std::vector<std::future<Delivered>> callers;
  for (const char* shop : {"A", "B"})
    callers.push_back(std::async(std::launch::async, [&, shop = std::string(shop)] {
      const std::vector<pipeline::Outgoing> records{order(shop, 1, content(shop, {{"1", "P"}}, {}))};
      const auto target = make_target();
      for (int attempt = 0;; ++attempt) {
        try {
          return target->deliver(records, {}).at(0);
        } catch (const Error& error) {
          if (error.kind != Error::Kind::conflict || attempt == 20) throw;
        }
      }
    }));
  std::multiset<std::string> how;
  std::set<std::string> customers;
  for (auto& caller : callers) {
    const auto one = caller.get();
    ASSERT_FALSE(one.error) << one.error->message;
    for (const auto& [key, link] : one.links)
      if (link.model == "res.partner") {
        how.insert(link.how);
        customers.insert(link.id);
      }
  }
  EXPECT_EQ(how, (std::multiset<std::string>{"created", "phone"}));
  EXPECT_EQ(customers.size(), 2u);
}

TEST_P(LiveMarket, AWrongMatchIsUndoneAndNeverFoundAgain) {
  const auto made = [&](const json& values) {
    return outside_->create("res.partner", json::array({values}), {}).at(0);
  };
  const auto wrong = made({{"name", "Wrong " + tag_}, {"phone", phone()}});
  const auto right = made({{"name", "Right " + tag_}, {"x_cartona_id", tag_ + "right"}});
  const auto gone = made({{"name", "Gone " + tag_}, {"active", false}});
  int orders = 0;
  // The contact of the shop's next order, and what found it.
  const auto next = [&](const std::string& shop) {
    const auto one = deliver({order(fmt::format("{}{}", shop, ++orders), 1, content(shop, {{"1", "P"}}, {}))}).at(0);
    EXPECT_FALSE(one.error) << one.error->message;
    const auto& link = one.links.at(key("customer/" + shop));
    return std::pair(std::stoll(link.id), link.how);
  };
  const auto relink = [&](const std::string& shop, std::int64_t from, std::int64_t to) {
    const auto text = [](std::int64_t id) { return id > 0 ? std::to_string(id) : std::string(); };
    return target_->relink({.model = "res.partner", .key = key("customer/" + shop), .from = text(from), .to = text(to)},
                           {});
  };
  const auto refused = [](const pipeline::Relinked& one) { return one.error ? one.error->code : "done"; };
  ASSERT_EQ(next("A"), std::pair(static_cast<long long>(wrong), std::string("phone")));
  const auto other = next("B").first;

  EXPECT_EQ(refused(relink("A", wrong, 2'000'000'000)), "import_norecord");
  EXPECT_EQ(refused(relink("A", wrong, gone)), "import_archived");
  EXPECT_EQ(refused(relink("A", wrong, other)), "import_taken");
  const auto changed = relink("A", other, right);
  EXPECT_EQ(refused(changed), "import_changed");
  EXPECT_EQ(changed.id, std::to_string(wrong));

  auto done = relink("A", wrong, right);
  ASSERT_FALSE(done.error) << done.error->message;
  EXPECT_TRUE(done.changed);
  EXPECT_EQ(done.id, std::to_string(right));
  EXPECT_EQ(done.name, "Right " + tag_);
  EXPECT_FALSE(relink("A", wrong, right).changed) << "whoever lost the answer asks again";
  EXPECT_EQ(next("A"), std::pair(static_cast<long long>(right), std::string("key")));
  EXPECT_EQ(next("C"), std::pair(static_cast<long long>(wrong), std::string("phone"))) << "free for another shop";

  ASSERT_FALSE(relink("C", wrong, 0).error);
  EXPECT_FALSE(relink("C", wrong, 0).changed);
  ASSERT_FALSE(relink("A", right, 0).error);
  // By its phone it could be found again, and it is another one.
  const auto fresh = next("A");
  EXPECT_EQ(fresh.second, "created");
  EXPECT_EQ(next("A"), std::pair(fresh.first, std::string("key")));
  EXPECT_EQ(next("C").second, "created");
  EXPECT_EQ(next("D"), std::pair(static_cast<long long>(wrong), std::string("phone")));
  outside_->unlink("res.partner", {gone}, {});
}

// An order of the shop at the same moment: both are done, one after the other.
TEST_P(LiveMarket, AMatchIsUndoneWhileOrdersOfTheShopComeIn) {
  const auto wrong =
      outside_->create("res.partner", json::array({{{"name", "Wrong " + tag_}, {"phone", phone()}}}), {}).at(0);
  const auto again = [](const auto& call) {
    for (int attempt = 0;; ++attempt) {
      try {
        return call();
      } catch (const Error& error) {
        if (error.kind != Error::Kind::conflict || attempt == 20) throw;
      }
    }
  };
  const std::string customer = key("customer/A");
  ASSERT_EQ(deliver({order("o", 1, content("A", {{"1", "P"}}, {}))}).at(0).links.at(customer).id,
            std::to_string(wrong));
  std::vector<std::future<std::string>> callers;
  for (int n = 0; n < 3; ++n)
    callers.push_back(std::async(std::launch::async, [&, n] {
      const auto target = make_target();
      const std::vector<pipeline::Outgoing> records{order(fmt::format("o{}", n), 1, content("A", {{"1", "P"}}, {}))};
      const auto one = again([&] { return target->deliver(records, {}).at(0); });
      return one.error ? one.error->message : one.links.at(customer).id;
    }));
  const auto done = again([&] {
    return make_target()->relink(
        {.model = "res.partner", .key = customer, .from = std::to_string(wrong), .to = "", .company = 0}, {});
  });
  EXPECT_FALSE(done.error) << done.error->message;
  std::set<std::string> customers{std::to_string(wrong)};
  for (auto& caller : callers) customers.insert(caller.get());
  const auto after = deliver({order("p", 1, content("A", {{"1", "P"}}, {}))}).at(0).links.at(customer).id;
  EXPECT_NE(after, std::to_string(wrong));
  customers.insert(after);
  EXPECT_EQ(customers.size(), 2u) << "one before and one after";
}

TEST_P(LiveMarket, AnOrderIsDeliveredOnceAndThenNeitherChangedNorCancelled) {
  ASSERT_EQ(code(deliver({order("1", 1, content("A", {{"1", "P", 4}}, {"confirm", "deliver"}))}).at(0)), "created");
  auto now = facts("1");
  EXPECT_TRUE(now.delivered);
  EXPECT_TRUE(now.shipped);
  ASSERT_EQ(now.pickings.size(), 1u);
  EXPECT_EQ(now.pickings[0].state, "done");
  EXPECT_FALSE(now.pickings[0].done_at.empty());
  EXPECT_EQ(code(deliver({order("1", 2, content("A", {{"1", "P", 4}}, {"confirm", "deliver"}))}).at(0)), "unchanged");
  EXPECT_EQ(code(deliver({order("1", 3, content("A", {{"1", "P", 3}}, {"confirm", "deliver"}))}).at(0)),
            "import_closed");
  // What the marketplace says is written down all the same.
  auto cancelled = content("A", {{"1", "P", 4}}, {"cancel"});
  cancelled["values"]["marketplace_status"] = "cancelled";
  const auto last = deliver({order("1", 4, cancelled)}).at(0);
  EXPECT_EQ(code(last), "updated");
  ASSERT_TRUE(last.flag);
  EXPECT_EQ(last.flag->code, "import_delivered");
  now = facts("1");
  EXPECT_EQ(now.state, "sale");
  EXPECT_EQ(now.pickings.size(), 1u);
}

TEST_P(LiveMarket, WhatIsInStockIsDeliveredInPartWhereThatIsWanted) {
  product("S", 3);
  const auto wanted = content("A", {{"1", "S", 5}}, {"confirm", "deliver"}, {{"partial", true}});
  ASSERT_EQ(code(deliver({order("1", 1, wanted)}).at(0)), "created");
  auto now = facts("1");
  EXPECT_TRUE(now.shipped);
  EXPECT_FALSE(now.delivered);
  EXPECT_EQ(now.lines.at(0).delivered, "3");
  EXPECT_EQ(now.pickings.size(), 2u);
  EXPECT_EQ(code(deliver({order("1", 2, wanted)}).at(0)), "unchanged") << "there is nothing more";
}

TEST_P(LiveMarket, CancelledByTheMarketplaceWhileItIsDeliveredEndsAsOneOfTheTwo) {
  for (int i = 0; i < 3; ++i) {
    const std::string name = std::to_string(i);
    ASSERT_EQ(code(deliver({order(name, 1, content("A", {{"1", "P"}}, {"confirm"}))}).at(0)), "created");
    const auto send = [&](std::int64_t version, const char* step) {
      const std::vector<pipeline::Outgoing> records{order(name, version, content("A", {{"1", "P"}}, {step}))};
      const auto target = make_target();
      for (int attempt = 0;; ++attempt) {
        try {
          return target->deliver(records, {}).at(0);
        } catch (const Error& error) {
          if (error.kind != Error::Kind::conflict || attempt == 20) throw;
        }
      }
    };
    auto delivery = std::async(std::launch::async, [&] { return send(2, "deliver"); });
    const auto cancel = send(3, "cancel");
    const auto delivered = delivery.get();
    const auto now = facts(name);
    if (now.state == "cancel") {
      EXPECT_FALSE(now.shipped);
      EXPECT_FALSE(cancel.flag);
      EXPECT_EQ(delivered.what, Delivered::What::skipped);
    } else {
      EXPECT_TRUE(now.delivered);
      EXPECT_TRUE(cancel.flag);
      EXPECT_EQ(delivered.what, Delivered::What::updated);
    }
  }
}

TEST_P(LiveMarket, WhatPeopleDidInOdooStands) {
  ASSERT_EQ(code(deliver({order("cancelled", 1, content("A", {{"1", "P"}}, {"confirm"})),
                          order("deleted", 1, content("A", {{"1", "P"}}, {}))})
                     .at(1)),
            "created");
  rpc::CallOptions options;
  options.context = R"({"disable_cancel_warning":true})";
  outside_->call("sale.order", "action_cancel", fmt::format("[[{}]]", facts("cancelled").id), "", options);
  const auto undelivered = deliver({order("cancelled", 2, content("A", {{"1", "P"}}, {"confirm", "deliver"}))}).at(0);
  EXPECT_EQ(code(undelivered), "unchanged");
  ASSERT_TRUE(undelivered.flag);
  EXPECT_EQ(undelivered.flag->code, "import_undelivered");
  EXPECT_NE(undelivered.flag->message.find("in Odoo it is cancelled: "), std::string::npos)
      << undelivered.flag->message;
  EXPECT_EQ(code(deliver({order("cancelled", 3, content("A", {{"1", "P", 9}}, {"confirm"}))}).at(0)), "import_closed");
  EXPECT_EQ(facts("cancelled").state, "cancel");
  outside_->unlink("sale.order", {facts("deleted").id}, {});
  EXPECT_EQ(code(deliver({order("deleted", 2, content("A", {{"1", "P", 2}}, {"confirm"}))}).at(0)), "import_deleted");
  EXPECT_EQ(facts("deleted").there, OrderFacts::There::deleted);
  // A person wants it anew: all of it is made once more, and it is another record.
  const auto gone = facts("deleted").id;
  json anew = content("A", {{"1", "P", 2}}, {"confirm"});
  anew["recreate"] = true;
  EXPECT_EQ(code(deliver({order("deleted", 3, anew)}).at(0)), "created");
  EXPECT_EQ(code(deliver({order("deleted", 3, anew)}).at(0)), "unchanged") << "once";
  EXPECT_EQ(facts("deleted").state, "sale");
  EXPECT_NE(facts("deleted").id, gone);
  ASSERT_EQ(facts("deleted").lines.size(), 1u);
  EXPECT_EQ(facts("never").there, OrderFacts::There::missing);
}

TEST_P(LiveMarket, HowAnOrderStandsIsSeenWhateverAPersonDidWithIt) {
  using pipeline::odoo_standing;
  const pipeline::StatusRules rules;
  for (const char* name : {"1", "2"})
    ASSERT_EQ(code(deliver({order(name, 1, content("A", {{"1", "P", 4}}, {}))}).at(0)), "created");
  EXPECT_EQ(odoo_standing(facts("1")), "draft");
  const auto press = [&](const char* model, const char* button, std::int64_t id) {
    rpc::CallOptions options;
    options.context = R"({"disable_cancel_warning":true,"skip_backorder":true,"skip_immediate":true,"skip_sms":true})";
    outside_->call(model, button, fmt::format("[[{}]]", id), "", options);
  };
  press("sale.order", "action_confirm", facts("1").id);
  EXPECT_EQ(odoo_standing(facts("1")), "sale");
  EXPECT_EQ(rules.derive("sale"), pipeline::MarketState::approved);
  // What is locked is no more delivered than it was.
  const bool new_lock = std::stoi(server_->version) >= 17;
  if (!stand_in_) {
    press("sale.order", new_lock ? "action_lock" : "action_done", facts("1").id);
    EXPECT_TRUE(facts("1").locked);
    EXPECT_EQ(odoo_standing(facts("1")), "sale");
    press("sale.order", "action_unlock", facts("1").id);
  }
  const auto ship = [&](int quantity) {
    for (const auto& picking : facts("1").pickings) {
      if (picking.state == "done" || picking.state == "cancel") continue;
      const auto moves = outside_->search("stock.move", Domain::where("picking_id", "=", picking.id), {}, {});
      outside_->write("stock.move", moves,
                      new_lock ? json{{"quantity", quantity}, {"picked", true}} : json{{"quantity_done", quantity}},
                      {});
      press("stock.picking", "button_validate", picking.id);
    }
  };
  if (!stand_in_) {
    ship(1);
    EXPECT_EQ(odoo_standing(facts("1")), "sale/shipped");
    EXPECT_EQ(rules.derive("sale/shipped"), pipeline::MarketState::assigned);
    ship(3);
  } else {
    deliver({order("1", 2, content("A", {{"1", "P", 4}}, {"deliver"}))});
  }
  EXPECT_EQ(odoo_standing(facts("1")), "done");
  EXPECT_EQ(rules.derive("done"), pipeline::MarketState::delivered);
  press("sale.order", "action_cancel", facts("2").id);
  EXPECT_EQ(odoo_standing(facts("2")), "cancel");
  // How the marketplace was told is written into an order whatever became of it, and changes nothing else.
  for (const char* name : {"1", "2"}) {
    const auto before = facts(name);
    json told;
    told["steps"] = json::array();
    told["values"] = {{"marketplace_sync_status", "synced"},
                      {"marketplace_sync_date", "2026-11-20 10:05:48"},
                      {"marketplace_error_message", false}};
    EXPECT_EQ(code(deliver({order(name, 7, told)}).at(0)), "updated");
    rpc::ReadOptions read;
    read.fields = {"x_marketplace_sync_status", "x_marketplace_sync_date"};
    const auto there =
        json::parse(outside_->search_read("sale.order", Domain::where("id", "=", before.id), read, {}).result());
    EXPECT_EQ(there.at(0).at("x_marketplace_sync_status"), "synced");
    EXPECT_EQ(there.at(0).at("x_marketplace_sync_date").get<std::string>().substr(0, 10), "2026-11-20");
    auto after = facts(name);
    after.write_date = before.write_date;
    EXPECT_EQ(after, before);
  }
  outside_->unlink("sale.order", {facts("2").id}, {});
  EXPECT_EQ(odoo_standing(facts("2")), "deleted");
}

TEST_P(LiveMarket, TheReaderTellsWhatChangedAlsoWhereItCommitsLate) {
  ASSERT_EQ(code(deliver({order("1", 1, content("A", {{"1", "P", 2}}, {"confirm"}))}).at(0)), "created");
  const auto id = facts("1").id;
  MarketReader::Watch watch;
  watch.prefixes = {tag_ + "/"};
  watch.products = std::vector<std::int64_t>{product_};
  watch.since = reader_->watch(watch, {}).watermark;
  Late late(stand_in_.get(), server_->pg_uri, id);
  // However often it is asked meanwhile: the place stays before the open transaction.
  for (int i = 0; i < 10; ++i) watch.since = reader_->watch(watch, {}).watermark;
  late.commit();
  auto seen = reader_->watch(watch, {});
  ASSERT_EQ(seen.orders.size(), 1u);
  EXPECT_EQ(seen.orders[0].key, key("1"));
  EXPECT_EQ(seen.orders[0].id, id);
  // A delivery changes the order and the stock of its product.
  watch.since = seen.watermark;
  deliver({order("1", 2, content("A", {{"1", "P", 2}}, {"deliver"}))});
  seen = reader_->watch(watch, {});
  ASSERT_EQ(seen.orders.size(), 1u);
  EXPECT_TRUE(seen.orders[0].delivered);
  EXPECT_EQ(seen.products, std::vector<std::int64_t>{product_});
  watch.prefixes = {"somebody else/"};
  EXPECT_TRUE(reader_->watch(watch, {}).orders.empty());
}

TEST_P(LiveMarket, StockAndPriceAreThoseOfTheWarehouseAndThePriceList) {
  json rule{{"applied_on", "0_product_variant"}, {"compute_price", "fixed"}, {"fixed_price", 7.5}};
  rule["product_id"] = product_;
  json prices{{"name", tag_}};
  prices["item_ids"] = json::array({json::array({0, 0, rule})});
  const auto list = outside_->create("product.pricelist", json::array({prices}), {}).at(0);
  MarketReader::Stock wanted;
  wanted.products = {product_, 987'654'321};
  wanted.warehouse = warehouse_;
  auto seen = reader_->stock(wanted, {});
  EXPECT_EQ(seen[0].free, "100");
  EXPECT_EQ(seen[0].price, "9.99");
  EXPECT_EQ(seen[0].digits, 2);
  EXPECT_TRUE(seen[0].counted);
  EXPECT_TRUE(seen[0].active);
  EXPECT_TRUE(seen[0].there);
  EXPECT_FALSE(seen[1].there);
  deliver({order("1", 1, content("A", {{"1", "P", 30}}, {"confirm"}))});
  wanted.pricelist = list;
  seen = reader_->stock(wanted, {});
  EXPECT_EQ(seen[0].free, "70") << "what is reserved is not free";
  EXPECT_EQ(seen[0].price, "7.5");
  outside_->write("product.product", {product_}, json{{"active", false}}, {});
  EXPECT_FALSE(reader_->stock(wanted, {})[0].active);
  outside_->write("product.product", {product_}, json{{"active", true}}, {});
  outside_->unlink("product.pricelist", {list}, {});
}

// A quantity that came to nothing is deleted, and those of one place are merged, by Odoo itself at some later time:
// what is left is the move.
TEST_P(LiveMarket, TheLastUnitSoldAndQuantitiesThatWereMergedAreTold) {
  const auto last = product("L", 1);
  MarketReader::Stock stock;
  stock.products = {last};
  stock.warehouse = warehouse_;
  EXPECT_EQ(reader_->stock(stock, {})[0].free, "1");
  MarketReader::Watch watch;
  watch.prefixes = {tag_ + "/"};
  watch.products = std::vector<std::int64_t>{last};
  watch.since = reader_->watch(watch, {}).watermark;
  ASSERT_EQ(code(deliver({order("1", 1, content("A", {{"1", "L"}}, {"confirm", "deliver"}))}).at(0)), "created");
  // No user may delete them.
  if (stand_in_)
    outside_->unlink("stock.quant", outside_->search("stock.quant", Domain::where("product_id", "=", last), {}, {}),
                     {});
  else
    sql(fmt::format("DELETE FROM stock_quant WHERE product_id = {}", last));
  EXPECT_EQ(reader_->watch(watch, {}).products, std::vector<std::int64_t>{last});
  EXPECT_EQ(reader_->stock(stock, {})[0].free, "0");

  // Two quantities of one place, made one by Odoo: the sum is what counts.
  for (const char* name : {"a", "b"})
    deliver(
        {{.model = "stock.quant",
          .key = tag_ + "/quant/" + name,
          .version = 1,
          .content = json{{"values", {{"product_id", last}, {"location_id", location_}, {"quantity", 2}}}}.dump()}});
  EXPECT_EQ(reader_->watch(watch, {}).products, std::vector<std::int64_t>{last});
  // Looking at them makes one of both, by whatever name a version has for it.
  const bool before_15 = !stand_in_ && server_->version.starts_with("14");
  if (!stand_in_)
    outside_->call("stock.quant", before_15 ? "action_view_quants" : "action_view_inventory", "[]", "{}", {});
  EXPECT_EQ(reader_->stock(stock, {})[0].free, "4");
}

TEST_P(LiveMarket, ARuleOfAPriceListThatBeginsOrEndsIsAChange) {
  if (stand_in_) GTEST_SKIP() << "the stand-in's rules have no dates";
  json rule{{"applied_on", "0_product_variant"}, {"compute_price", "fixed"}, {"fixed_price", 7.5}};
  rule["product_id"] = product_;
  json prices{{"name", tag_}};
  prices["item_ids"] = json::array({json::array({0, 0, rule})});
  const auto list = outside_->create("product.pricelist", json::array({prices}), {}).at(0);
  const std::string old = "'2020-01-01'", soon = "now() AT TIME ZONE 'UTC' + interval '1 day'";
  const std::string items = fmt::format("UPDATE product_pricelist_item SET write_date = {}, ", old);
  const std::string of = fmt::format(" WHERE pricelist_id = {}", list);
  sql(items + "date_start = " + soon + of);
  sql(fmt::format("UPDATE product_pricelist SET write_date = {} WHERE id = {}", old, list));
  sql(fmt::format("UPDATE product_product SET write_date = {} WHERE id = {}", old, product_));
  sql(
      fmt::format("UPDATE product_template SET write_date = {} WHERE id = (SELECT product_tmpl_id FROM product_product "
                  "WHERE id = {})",
                  old, product_));
  for (const char* table : {"stock_quant", "stock_move"})
    sql(fmt::format("UPDATE {} SET write_date = {} WHERE product_id = {}", table, old, product_));
  if (server_->version.starts_with("14"))
    sql(fmt::format("UPDATE ir_property SET write_date = {} WHERE res_id = 'product.product,{}'", old, product_));
  MarketReader::Watch watch;
  watch.products = std::vector<std::int64_t>{product_};
  watch.since = reader_->watch(watch, {}).watermark;
  EXPECT_TRUE(reader_->watch(watch, {}).products.empty()) << "nothing has happened";
  MarketReader::Stock stock;
  stock.products = {product_};
  stock.pricelist = list;
  EXPECT_EQ(reader_->stock(stock, {})[0].price, "9.99");
  const std::string now = "now() AT TIME ZONE 'UTC' - interval '1 second'";
  sql(items + "date_start = " + now + of);
  EXPECT_EQ(reader_->watch(watch, {}).products, std::vector<std::int64_t>{product_}) << "it has begun";
  EXPECT_EQ(reader_->stock(stock, {})[0].price, "7.5");
  sql(items + "date_start = " + old + ", date_end = " + soon + of);
  EXPECT_TRUE(reader_->watch(watch, {}).products.empty());
  sql(items + "date_end = " + now + of);
  EXPECT_EQ(reader_->watch(watch, {}).products, std::vector<std::int64_t>{product_}) << "it has ended";
  EXPECT_EQ(reader_->stock(stock, {})[0].price, "9.99");
  outside_->unlink("product.pricelist", {list}, {});
}

TEST_P(LiveMarket, WhatCanBeChosenAndLinkedIsListed) {
  const auto settings = reader_->choices({});
  ASSERT_FALSE(settings.companies.empty());
  EXPECT_FALSE(settings.companies[0].currency.empty());
  ASSERT_FALSE(settings.warehouses.empty());
  EXPECT_GT(settings.warehouses[0].company_id, 0);
  EXPECT_FALSE(settings.salespeople.empty());
  outside_->write("product.product", {product_}, json{{"x_cartona_id", "SP-1"}}, {});
  const auto found = reader_->products(product_ - 1, 1, "x_cartona_id", {});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].id, product_);
  EXPECT_EQ(found[0].default_code, tag_ + "-P");
  EXPECT_EQ(found[0].market_id, "SP-1");
  EXPECT_TRUE(found[0].storable);
}

TEST_P(LiveMarket, WhatMarketplacesWriteGoesIntoFieldsThatOdooHasForIt) {
  const json own{{"sale.order", {{"cartona_id", "origin"}}}, {"product.product", {{"cartona_id", "barcode"}}}};
  ImportTarget target(std::make_shared<rpc::Client>(settings_, clock_), state_.actions.at("import"), {}, "main",
                      {state_.actions.at("relink"), state_.actions.at("order")}, marketplace_names(own));
  // By the procedure for one, and by the one for many.
  for (const auto& orders : {std::vector{order("1", 1, content("A", {{"1", "P"}}, {"confirm"}))},
                             std::vector{order("2", 1, content("A", {{"1", "P"}}, {"confirm"})),
                                         order("3", 1, content("A", {{"1", "P"}}, {"confirm"}))}})
    for (const auto& done : target.deliver(orders, {})) {
      ASSERT_EQ(code(done), "created");
      rpc::ReadOptions read;
      read.fields = {"origin", "x_cartona_id"};
      const auto there = json::parse(
          outside_->search_read("sale.order", Domain::where("id", "=", std::int64_t{std::stoll(done.id)}), read, {})
              .result());
      EXPECT_EQ(there.at(0).at("origin"), "h-" + tag_);
      EXPECT_EQ(there.at(0).at("x_cartona_id"), false);
    }
  outside_->write("product.product", {product_}, json{{"barcode", tag_}}, {});
  MarketReader reader(std::make_shared<rpc::Client>(settings_, clock_), state_.actions.at("market"), {}, "main", own);
  EXPECT_EQ(reader.products(product_ - 1, 1, "cartona_id", {}).at(0).market_id, tag_);
}

TEST_P(LiveMarket, AReaderWithoutItsProcedureSaysWhatToDo) {
  MarketReader gone(std::make_shared<rpc::Client>(settings_, clock_), 987'654, {}, "main");
  try {
    gone.choices({});
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::unavailable);
    EXPECT_EQ(error.code, pipeline::kNotProvisioned);
    EXPECT_NE(error.message.find("dragoman provision apply main"), std::string::npos) << error.message;
  }
}

INSTANTIATE_TEST_SUITE_P(Odoo19, LiveMarket, ::testing::Values("Odoo19"));
INSTANTIATE_TEST_SUITE_P(Odoo14, LiveMarket, ::testing::Values("Odoo14"));
INSTANTIATE_TEST_SUITE_P(StandIn, LiveMarket, ::testing::Values("StandIn19", "StandIn14"));

}  // namespace
}  // namespace dragoman::connectors::odoo
