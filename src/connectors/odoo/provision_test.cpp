// What the hub puts into an Odoo and takes out again, and what the procedures do there; on real servers and stand-ins.

#include "connectors/odoo/provision.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "connectors/odoo/procedures.h"
#include "fakes/odoo_servers.h"
#include "sandbox/odoo/server.h"

namespace dragoman::connectors::odoo {
namespace {

using nlohmann::json;
using rpc::Domain;
using Change = ProvisionStep::Change;
using namespace std::chrono_literals;

TEST(Procedures, EachHasAVersionASummaryAndADigestThatWhiteSpaceAtItsEndDoesNotChange) {
  ASSERT_EQ(procedures().size(), 6u);
  for (const Procedure& one : procedures()) {
    EXPECT_GE(one.version, 1) << one.name;
    EXPECT_FALSE(one.summary.empty()) << one.name;
    EXPECT_EQ(one.digest.size(), 16u);
    EXPECT_TRUE(one.text.starts_with("# Dragoman procedure: " + one.name + "\n")) << one.name;
    EXPECT_EQ(one.digest, digest_of(one.text + "\r\n\n"));
    EXPECT_NE(one.digest, digest_of(one.text + "\n# more"));
    EXPECT_NE(one.text.find("VERSION = " + std::to_string(one.version) + "\n"), std::string::npos)
        << one.name << ": its header and its VERSION differ";
  }
  EXPECT_FALSE(procedure("setup").stays());
  EXPECT_THROW(procedure("export"), Error);
}

TEST(CustomFields, AreReadFromOneText) {
  const auto plain = CustomField::parse("sale.order.x_market_ref");
  EXPECT_EQ(plain.model, "sale.order");
  EXPECT_EQ(plain.name, "x_market_ref");
  EXPECT_EQ(plain.type, "char");
  EXPECT_FALSE(plain.unique);
  EXPECT_TRUE(CustomField::parse("sale.order.x_market_ref:char:unique").unique);
  EXPECT_EQ(CustomField::parse("res.partner.x_outlet:many2one=res.partner").target, "res.partner");
  EXPECT_EQ(CustomField::from(plain.json()).name, plain.name);
  for (const char* wrong : {"", "x_a", "sale.order.market_ref", "sale.order.x_a:colour", "sale.order.x_a:text:unique",
                            "sale order.x_a", "sale.order.x_a\"", "sale.order.x_a:many2one=", "Sale.x_a"}) {
    try {
      CustomField::parse(wrong);
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::invalid) << wrong;
    }
  }
}

TEST(Provisioned, IsKeptInWhatIsLearntAndSaysWhatToDoWhereItIsNot) {
  pipeline::Connection connection;
  connection.name = "main";
  connection.learnt = json::object();
  EXPECT_FALSE(provisioned(connection));
  try {
    action_of(connection, "import");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "not_provisioned");
    EXPECT_NE(error.message.find("dragoman provision apply main"), std::string::npos) << error.message;
  }
  Provisioned state;
  state.actions = {{"import", 17}, {"inspect", 18}};
  state.own_user = true;
  state.login = "dragoman";
  state.fields = {CustomField::parse("res.partner.x_a:integer:unique")};
  connection.learnt = {{"workers", 2}, {"provision", state.json()}};
  EXPECT_EQ(action_of(connection, "import"), 17);
  const auto read = provisioned(connection);
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->own_user);
  ASSERT_EQ(read->fields.size(), 1u);
  EXPECT_EQ(read->fields[0].type, "integer");
  EXPECT_TRUE(read->fields[0].unique);
}

// Breaks off before or after the n-th request: the process that asked is as good as dead from there on.
class Cut final : public http::Client {
 public:
  Cut(http::ClientSettings settings, int n, bool after)
      : real_(http::make_client(std::move(settings))), n_(n), after_(after) {}
  http::Response send(const http::Request& request, std::stop_token stop) override {
    if (dead_ || (--n_ < 0 && !after_)) die();
    http::Response response = real_->send(request, stop);
    if (n_ < 0) die();
    return response;
  }

 private:
  [[noreturn]] void die() {
    dead_ = true;
    throw Error(Error::Kind::in_doubt, "cut off by the test");
  }
  std::unique_ptr<http::Client> real_;
  int n_;
  const bool after_;
  bool dead_ = false;
};

class Provision : public ::testing::TestWithParam<const char*> {
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
    new_names_ = server_->version == "19";
    admin_ = open(server_->login, admin_secret());
    tag_ = "dragoman-" + random_hex(random_, 4);
    login_ = tag_;
    secret_ = Secret("no secret " + tag_);
    const json internal = rows(
        "ir.model.data", Domain::where("module", "=", "base") && Domain::where("name", "=", "group_user"), {"res_id"});
    user_ = admin_
                ->create("res.users",
                         json::array({{{"name", "Test " + tag_},
                                       {"login", login_},
                                       {"password", secret_.reveal()},
                                       {groups_field(), {{6, 0, {internal[0]["res_id"]}}}}}}),
                         {})
                .at(0);
    // What a test that was broken off has left would be found here as provisioned.
    provisioning({})->remove({});
  }

  void TearDown() override {
    if (!admin_) return;
    try {
      provisioning({})->remove({});
      for (const char* model : {"sale.order", "product.product", "res.partner"}) {
        const char* field = std::string(model) == "sale.order"        ? "client_order_ref"
                            : std::string(model) == "product.product" ? "default_code"
                                                                      : "ref";
        const auto left = admin_->search(model, Domain::where(field, "=", tag_), {}, archived_too());
        if (left.empty()) continue;
        if (std::string(model) == "sale.order") cancel(left);
        admin_->unlink(model, left, {});
      }
    } catch (const Error& error) {
      std::printf("left behind: %s\n", error.message.c_str());
    }
    admin_->write("res.users", {user_}, {{"active", false}}, {});
  }

  // Confirmed orders are there for good where stock hangs on them; cancelled ones may go.
  void cancel(const std::vector<std::int64_t>& ids) {
    if (stand_in_) {
      admin_->write("sale.order", ids, {{"state", "cancel"}}, {});
      return;
    }
    rpc::CallOptions options;
    options.context = R"({"disable_cancel_warning":true})";
    admin_->call("sale.order", "action_cancel", json::array({ids}).dump(), "", options);
  }

  // With a key, calls of 19 go by JSON-2, and cost no check of a password each.
  Secret admin_secret() const {
    return Secret(new_names_ && !server_->api_key.empty() ? server_->api_key : server_->password);
  }

  const char* groups_field() const { return new_names_ ? "group_ids" : "groups_id"; }

  rpc::Settings settings(const std::string& login, const Secret& secret) const {
    rpc::Settings settings;
    settings.url = server_->url;
    settings.database = server_->database;
    settings.login = login;
    settings.password = secret;
    return settings;
  }
  std::unique_ptr<rpc::Client> open(const std::string& login, const Secret& secret) {
    return std::make_unique<rpc::Client>(settings(login, secret), clock_);
  }
  std::unique_ptr<Provisioning> provisioning(ProvisionOptions options, rpc::Client* admin = nullptr) {
    return std::make_unique<Provisioning>(
        admin ? *admin : *admin_,
        [this](const std::string& login, const Secret& secret) { return open(login, secret); }, login_, secret_,
        std::move(options), clock_, random_);
  }
  Provisioned apply(ProvisionOptions options = {}, rpc::Client* admin = nullptr) {
    auto applied =
        provisioning(std::move(options), admin)->apply({}, [this](const std::string& login, const Secret& secret) {
          login_ = login;
          secret_ = secret;
        });
    steps_ = applied.steps;
    return applied.state;
  }

  rpc::CallOptions archived_too() const {
    rpc::CallOptions options;
    options.context = R"({"active_test":false})";
    return options;
  }
  json rows(const char* model, const Domain& domain, std::vector<std::string> fields) {
    rpc::ReadOptions read;
    read.fields = std::move(fields);
    return json::parse(admin_->search_read(model, domain, read, archived_too()).result());
  }
  json run(rpc::Client& client, const Provisioned& state, const char* name, const json& payload,
           json context = json::object()) {
    rpc::CallOptions options;
    context["dragoman"] = payload;
    options.context = context.dump();
    return json::parse(
        client.call("ir.actions.server", "run", fmt::format("[[{}]]", state.actions.at(name)), "", options).result());
  }
  json import(rpc::Client& client, const Provisioned& state, const json& items) {
    return run(client, state, "import", {{"items", items}}).at("items");
  }
  json partner_item(const std::string& key, const std::string& name) {
    return {{"key", tag_ + key}, {"model", "res.partner"}, {"version", 1}, {"values", {{"name", name}, {"ref", tag_}}}};
  }
  std::int64_t partners() {
    return admin_->search_count("res.partner", Domain::where("ref", "=", tag_), archived_too());
  }

  static std::multiset<std::string> outcomes(const json& items) {
    std::multiset<std::string> out;
    for (const auto& item : items) out.insert(item.at("outcome"));
    return out;
  }
  static int changes(const std::vector<ProvisionStep>& steps) {
    int n = 0;
    for (const auto& step : steps) n += step.change != Change::none;
    return n;
  }
  static std::string shown(const std::vector<ProvisionStep>& steps) {
    std::string out;
    for (const auto& step : steps)
      out += fmt::format("{} {} {}: {} ({})\n", name(step.change), step.object, step.name, step.detail, step.why);
    return out;
  }

  /// One value from the server's database, past Odoo; "" from a stand-in.
  std::string sql(const std::string& statement) {
    if (stand_in_) return "";
    PGconn* connection = PQconnectdb(server_->pg_uri.c_str());
    EXPECT_EQ(PQstatus(connection), CONNECTION_OK) << PQerrorMessage(connection);
    PGresult* result = PQexec(connection, statement.c_str());
    const auto status = PQresultStatus(result);
    EXPECT_TRUE(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) << PQerrorMessage(connection);
    const std::string value = PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "";
    PQclear(result);
    PQfinish(connection);
    return value;
  }

  // Everything in Odoo that could be ours, by reading it there.
  std::vector<std::string> traces() {
    std::vector<std::string> found;
    for (const auto& row : rows("ir.model.data", Domain::where("module", "=", "__dragoman__"), {"name"}))
      found.push_back("external id " + row["name"].get<std::string>());
    for (const auto& row : rows("ir.actions.server", Domain::where("name", "=like", "dragoman: %"), {"name"}))
      found.push_back("action " + row["name"].get<std::string>());
    for (const auto& row : rows("ir.model.access", Domain::where("name", "=like", "dragoman: %"), {"name"}))
      found.push_back("right " + row["name"].get<std::string>());
    for (const auto& row : rows("res.groups", Domain::where("name", "=", "Dragoman hub"), {"name"})) {
      (void)row;
      found.push_back("group");
    }
    for (const auto& row : rows("res.users", Domain::where("login", "=", "dragoman"), {"login"})) {
      (void)row;
      found.push_back("user");
    }
    for (const auto& row : rows("ir.model.fields", Domain::where("name", "=like", "x_dragoman_test%"), {"name"}))
      found.push_back("field " + row["name"].get<std::string>());
    for (const char* statement : {"SELECT string_agg(tablename, ',') FROM pg_tables WHERE tablename LIKE 'dragoman%'",
                                  "SELECT string_agg(indexname, ',') FROM pg_indexes WHERE indexname LIKE 'dragoman%'",
                                  "SELECT string_agg(table_name || '.' || column_name, ',') FROM "
                                  "information_schema.columns WHERE column_name LIKE "
                                  "'x_dragoman_test%'"})
      if (const auto value = sql(statement); !value.empty()) found.push_back("in SQL: " + value);
    return found;
  }

  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<sandbox::odoo::Server> stand_in_;
  std::optional<tests::OdooServer> server_;
  bool new_names_ = true;
  std::unique_ptr<rpc::Client> admin_;
  std::string tag_, login_;
  Secret secret_;
  std::int64_t user_ = 0;
  std::vector<ProvisionStep> steps_;
};

TEST_P(Provision, ThePlanShowsAllThatWillBeMadeAndChangesNothing) {
  ProvisionOptions options;
  options.fields = {CustomField::parse("res.partner.x_dragoman_test:char:unique")};
  const auto before = traces();
  EXPECT_TRUE(before.empty()) << fmt::format("{}", fmt::join(before, ", "));
  const auto plan = provisioning(options)->plan({});
  EXPECT_EQ(changes(plan), static_cast<int>(plan.size())) << shown(plan);
  std::multiset<std::string> objects;
  for (const auto& step : plan) {
    objects.insert(step.object);
    EXPECT_FALSE(step.why.empty()) << step.name;
    EXPECT_FALSE(step.detail.empty()) << step.name;
  }
  EXPECT_EQ(objects, (std::multiset<std::string>{"field", "grant", "group", "index", "procedure", "procedure",
                                                 "procedure", "procedure", "procedure", "table"}));
  EXPECT_TRUE(traces().empty()) << fmt::format("{}", fmt::join(traces(), ", "));
  EXPECT_EQ(shown(provisioning(options)->plan({})), shown(plan));
}

TEST_P(Provision, AppliedTwiceTheSecondTimeChangesNothingAndTheCheckIsContent) {
  ProvisionOptions options;
  options.fields = {CustomField::parse("res.partner.x_dragoman_test:char:unique")};
  const auto first = apply(options);
  EXPECT_GT(changes(steps_), 5);
  const auto again = provisioning(options)->plan({});
  EXPECT_EQ(changes(again), 0) << shown(again);
  const auto second = apply(options);
  EXPECT_EQ(changes(steps_), 0) << shown(steps_);
  EXPECT_EQ(second.actions, first.actions);
  const auto own = open(login_, secret_);
  EXPECT_EQ(check_provisioned(*own, second, {}), std::vector<std::string>{});

  // The field is there, and two records with one value can't be.
  admin_->create("res.partner", json::array({{{"name", "One"}, {"ref", tag_}, {"x_dragoman_test", tag_}}}), {});
  EXPECT_THROW(
      admin_->create("res.partner", json::array({{{"name", "Two"}, {"ref", tag_}, {"x_dragoman_test", tag_}}}), {}),
      Error);
}

TEST_P(Provision, AUserWhoMayNotReadOrdersImportsOneWithItsLinesAndConfirmsIt) {
  const auto state = apply();
  const auto own = open(login_, secret_);
  try {
    own->search_count("sale.order", Domain(), {});
    ADD_FAILURE() << "this user may read orders";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::forbidden);
  }
  const json items = json::array(
      {{{"key", tag_ + "-o"},
        {"model", "sale.order"},
        {"version", 1},
        {"call", "action_confirm"},
        {"values", {{"partner_id", {{"key", tag_ + "-p"}}}, {"client_order_ref", tag_}}},
        {"children",
         {{"order_line",
           {{{"key", tag_ + "-l1"},
             {"values", {{"product_id", {{"key", tag_ + "-g"}}}, {"product_uom_qty", 2}, {"price_unit", 10.5}}}},
            {{"key", tag_ + "-l2"},
             {"values", {{"product_id", {{"key", tag_ + "-g"}}}, {"product_uom_qty", 3}, {"price_unit", 7}}}}}}}}},
       partner_item("-p", "Harbour Goods"),
       {{"key", tag_ + "-g"},
        {"model", "product.product"},
        {"values", {{"name", "Tea Glass"}, {"default_code", tag_}, {"taxes_id", json::array()}}}}});
  const json first = import(*own, state, items);
  EXPECT_EQ(outcomes(first), (std::multiset<std::string>{"created", "created", "created"})) << first.dump(1);
  EXPECT_EQ(first[0]["children"].size(), 2u);
  const json order = rows("sale.order", Domain::where("id", "=", first[0]["id"].get<std::int64_t>()),
                          {"state", "partner_id", "order_line", "amount_untaxed"});
  ASSERT_EQ(order.size(), 1u);
  EXPECT_EQ(order[0]["state"], "sale");
  EXPECT_EQ(order[0]["partner_id"], first[1]["id"]);
  EXPECT_EQ(order[0]["amount_untaxed"], 42.0);
  EXPECT_EQ(order[0]["order_line"],
            json::array({first[0]["children"][tag_ + "-l1"], first[0]["children"][tag_ + "-l2"]}));
  EXPECT_EQ(outcomes(import(*own, state, items)), (std::multiset<std::string>{"unchanged", "unchanged", "unchanged"}));
  EXPECT_EQ(admin_->search_count("sale.order", Domain::where("client_order_ref", "=", tag_), {}), 1);
}

TEST_P(Provision, OfTwoCallersAtOnceWithTheSameKeysOneMakesTheRecordsAndTheOtherFindsThem) {
  const auto state = apply();
  constexpr int kRounds = 5, kItems = 8;
  for (int round = 0; round < kRounds; ++round) {
    json items = json::array();
    for (int i = 0; i < kItems; ++i) items.push_back(partner_item(fmt::format("-{}-{}", round, i), "Twice"));
    json answers[2];
    {
      std::vector<std::jthread> callers;
      for (int caller = 0; caller < 2; ++caller)
        callers.emplace_back([&, caller] {
          const auto own = open(login_, secret_);
          json mine = items;
          if (caller == 1) std::reverse(mine.begin(), mine.end());
          answers[caller] = import(*own, state, mine);
        });
    }
    auto all = outcomes(answers[0]);
    all.merge(outcomes(answers[1]));
    EXPECT_EQ(all.count("created"), static_cast<std::size_t>(kItems)) << answers[0].dump() << answers[1].dump();
    EXPECT_EQ(all.count("unchanged"), static_cast<std::size_t>(kItems));
    std::map<std::string, json> ids;
    for (const json& answer : answers)
      for (const json& item : answer) EXPECT_EQ(ids.emplace(item["key"], item["id"]).first->second, item["id"]);
  }
  EXPECT_EQ(partners(), kRounds * kItems);
}

TEST_P(Provision, AnImportWhoseAnswerWasLostIsFoundByItsKeysAndRepeatedWithoutHarm) {
  const auto state = apply();
  const auto own = open(login_, secret_);
  json items = json::array(), keys = json::array();
  for (int i = 0; i < 40; ++i) {
    items.push_back(partner_item(fmt::format("-{}", i), "Lost"));
    keys.push_back({{"model", "res.partner"}, {"key", tag_ + fmt::format("-{}", i)}});
  }
  if (stand_in_) {
    stand_in_->control("POST", "/faults",
                       {{"match", {{"model", "ir.actions.server"}, {"method", "run"}, {"nth", 1}}},
                        {"action", {{"kind", "reset_after_commit"}}}});
    EXPECT_THROW(import(*own, state, items), Error);
  } else {
    // A client that gives up does not stop the server: it may or may not have come to its end.
    auto impatient_settings = settings(login_, secret_);
    impatient_settings.http.total_timeout = 150ms;
    rpc::Client impatient(impatient_settings, clock_);
    try {
      impatient.user_id();
      import(impatient, state, items);
    } catch (const Error& error) {
      EXPECT_TRUE(error.kind == Error::Kind::in_doubt || error.kind == Error::Kind::unavailable) << error.message;
    }
  }
  const json found = run(*own, state, "import", {{"find", keys}}).at("items");
  const json repeated = import(*own, state, items);
  EXPECT_EQ(outcomes(repeated).count("error"), 0u) << repeated.dump(1);
  for (std::size_t i = 0; i < found.size(); ++i)
    if (found[i]["outcome"] == "found") {
      EXPECT_EQ(found[i]["id"], repeated[i]["id"]);
    }
  if (stand_in_) {
    EXPECT_EQ(outcomes(found).count("found"), 40u);
  }
  EXPECT_EQ(outcomes(import(*own, state, items)).count("unchanged"), 40u);
  EXPECT_EQ(partners(), 40);
}

TEST_P(Provision, OneBadItemOfABatchIsNamedAndTheOthersAreDone) {
  const auto state = apply();
  const auto own = open(login_, secret_);
  json items = json::array();
  for (int i = 0; i < 9; ++i) items.push_back(partner_item(fmt::format("-{}", i), "Fine"));
  items[4]["values"]["no_such_field"] = 1;
  const json answer = import(*own, state, items);
  for (std::size_t i = 0; i < answer.size(); ++i) {
    EXPECT_EQ(answer[i]["key"], items[i]["key"]);
    EXPECT_EQ(answer[i]["outcome"], i == 4 ? "error" : "created") << answer[i].dump();
  }
  EXPECT_EQ(answer[4]["error"]["name"], "builtins.ValueError");
  EXPECT_EQ(partners(), 8);
}

TEST_P(Provision, AnOlderVersionIsNotAppliedAndADeletedRecordIsNotMadeAgainUnasked) {
  const auto state = apply();
  const auto own = open(login_, secret_);
  json item = partner_item("", "Newer");
  item["version"] = 7;
  const auto id = import(*own, state, json::array({item}))[0]["id"].get<std::int64_t>();
  item["version"] = 6;
  item["values"]["name"] = "Older";
  EXPECT_EQ(import(*own, state, json::array({item}))[0]["outcome"], "skipped");
  EXPECT_EQ(rows("res.partner", Domain::where("id", "=", id), {"name"})[0]["name"], "Newer");
  admin_->unlink("res.partner", {id}, {});
  item["version"] = 8;
  const json refused = import(*own, state, json::array({item}))[0];
  EXPECT_EQ(refused["outcome"], "error");
  EXPECT_EQ(refused["error"]["name"], "dragoman.Deleted");
  EXPECT_EQ(partners(), 0);
  item["recreate"] = true;
  EXPECT_EQ(import(*own, state, json::array({item}))[0]["outcome"], "created");
  EXPECT_EQ(partners(), 1);
}

TEST_P(Provision, WhatSomebodyChangedIsFoundByTheCheckAndPutRight) {
  const auto state = apply();
  const auto own = open(login_, secret_);
  const auto action = state.actions.at("import");
  admin_->write("ir.actions.server", {action}, {{"code", procedure("import").text + "\n# one more line\n"}}, {});
  auto differences = check_provisioned(*own, state, {});
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_NE(differences[0].find("`import` was changed"), std::string::npos) << differences[0];
  const auto plan = provisioning({})->plan({});
  EXPECT_EQ(changes(plan), 1) << shown(plan);
  apply();
  EXPECT_EQ(check_provisioned(*own, state, {}), std::vector<std::string>{});

  // Out of the group: the check can't even run, and says so.
  const json group = rows("res.groups", Domain::where("name", "=", "Dragoman hub"), {"id"});
  admin_->write("res.groups", {group[0]["id"].get<std::int64_t>()}, {{new_names_ ? "user_ids" : "users", {{3, user_}}}},
                {});
  differences = check_provisioned(*own, state, {});
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_NE(differences[0].find("may not run"), std::string::npos) << differences[0];
  apply();
  admin_->unlink("ir.actions.server", {action}, {});
  differences = check_provisioned(*own, state, {});
  ASSERT_EQ(differences.size(), 1u);
  EXPECT_NE(differences[0].find("deleted"), std::string::npos) << differences[0];
  EXPECT_NE(apply().actions.at("import"), action);
}

TEST_P(Provision, BrokenOffAnywhereTheNextRunFinishesAndNothingIsThereTwice) {
  ProvisionOptions options;
  options.own_user = true;
  options.readable = {"res.partner", "sale.order"};
  options.fields = {CustomField::parse("res.partner.x_dragoman_test:char:unique")};
  const int stride = stand_in_ ? 1 : 19;
  int cuts = 0;
  for (int n = 2; n < 200; n += stride) {
    const auto s = settings(server_->login, admin_secret());
    rpc::Client admin(s, clock_, std::make_unique<Cut>(s.http, n, n % 2 == 0));
    bool finished = false;
    try {
      apply(options, &admin);
      finished = true;
    } catch (const Error& error) {
      ++cuts;
    }
    if (!finished) apply(options);
    const auto left = provisioning(options)->plan({});
    ASSERT_EQ(changes(left), 0) << "cut at " << n << "\n" << shown(left);
    ASSERT_EQ(rows("res.groups", Domain::where("name", "=", "Dragoman hub"), {"id"}).size(), 1u) << n;
    ASSERT_EQ(rows("ir.actions.server", Domain::where("name", "=like", "dragoman: %"), {"id"}).size(), 5u) << n;
    ASSERT_EQ(rows("ir.model.access", Domain::where("name", "=like", "dragoman: %"), {"id"}).size(), 2u) << n;
    ASSERT_EQ(rows("res.users", Domain::where("login", "=", "dragoman"), {"id"}).size(), 1u) << n;
    provisioning(options)->remove({});
    login_ = tag_;
    secret_ = Secret("no secret " + tag_);
    if (finished) break;
  }
  EXPECT_GT(cuts, stand_in_ ? 20 : 1);
}

TEST_P(Provision, TheHubsOwnUserReadsWhatIsCapturedWritesByProceduresOnlyAndItsPasswordIsNobodyElses) {
  ProvisionOptions options;
  options.own_user = true;
  options.readable = {"res.partner", "res.company", "sale.order"};
  const auto plan = provisioning(options)->plan({});
  const auto state = apply(options);
  EXPECT_EQ(login_, "dragoman");
  EXPECT_GE(secret_.reveal().size(), 32u);
  EXPECT_EQ(shown(steps_).find(secret_.reveal()), std::string::npos);
  EXPECT_EQ(state.json().dump().find(secret_.reveal()), std::string::npos);
  apply(options);
  EXPECT_EQ(changes(steps_), 0) << shown(steps_);
  const auto own = open(login_, secret_);
  EXPECT_GT(own->search_count("res.partner", Domain(), {}), 0);
  EXPECT_GE(own->search_count("sale.order", Domain(), {}), 0);
  EXPECT_THROW(own->create("sale.order", json::array({{{"partner_id", 1}}}), {}), Error);
  EXPECT_EQ(import(*own, state, json::array({partner_item("", "Own")}))[0]["outcome"], "created");
  EXPECT_EQ(check_provisioned(*own, state, {}), std::vector<std::string>{});

  // Its password lost (the key of secrets, say): it gets another.
  const Secret lost = secret_;
  secret_ = Secret("not the password");
  apply(options);
  EXPECT_NE(shown(steps_).find("change user dragoman"), std::string::npos) << shown(steps_);
  EXPECT_EQ(changes(provisioning(options)->plan({})), 0);
  EXPECT_FALSE(secret_.equals(lost.reveal()));
  open(login_, secret_)->user_id();
}

TEST_P(Provision, RemovedNothingOfItIsLeftAndTheImportedRecordsStay) {
  ProvisionOptions options;
  options.own_user = true;
  options.readable = {"res.partner"};
  options.fields = {CustomField::parse("res.partner.x_dragoman_test:char:unique"),
                    CustomField::parse("res.partner.x_dragoman_test_number:integer")};
  const auto state = apply(options);
  EXPECT_FALSE(traces().empty());
  {
    const auto own = open(login_, secret_);
    json item = partner_item("", "Stays");
    item["values"]["x_dragoman_test"] = "a";
    // On 19 a product names its maker for good.
    const json product = {
        {"key", tag_}, {"model", "product.product"}, {"values", {{"name", "Stays too"}, {"default_code", tag_}}}};
    EXPECT_EQ(outcomes(import(*own, state, json::array({item, product}))).count("created"), 2u);
  }
  const auto plan = provisioning(options)->plan_removal({});
  EXPECT_EQ(changes(plan), static_cast<int>(plan.size()));
  EXPECT_FALSE(traces().empty());
  const auto removed = provisioning(options)->remove({});
  EXPECT_EQ(shown(removed), shown(plan));
  auto left = traces();
  EXPECT_TRUE(left.empty()) << fmt::format("{}", fmt::join(left, ", "));
  // Who made a record can't always be deleted; then the user is there, archived, under another login.
  for (const auto& user : rows("res.users", Domain::where("login", "=like", "dragoman-removed%"), {"active"}))
    EXPECT_EQ(user["active"], false);
  EXPECT_EQ(partners(), 1);
  EXPECT_TRUE(provisioning(options)->remove({}).empty());

  // And it may be put there again, under the same names.
  login_ = tag_;
  secret_ = Secret("no secret " + tag_);
  apply(options);
  EXPECT_EQ(login_, "dragoman");
}

TEST_P(Provision, AFieldThatWasThereBeforeStaysWhenAllElseIsRemoved) {
  const json model = rows("ir.model", Domain::where("model", "=", "res.partner"), {"id"});
  const auto field = admin_->create("ir.model.fields",
                                    json::array({{{"model_id", model[0]["id"]},
                                                  {"name", "x_their_own_field"},
                                                  {"field_description", "Theirs"},
                                                  {"ttype", "char"}}}),
                                    {});
  ProvisionOptions options;
  options.fields = {CustomField::parse("res.partner.x_their_own_field:char:unique")};
  apply(options);
  provisioning(options)->remove({});
  // Users have their contact's fields, too; 14 keeps that written down when the field is deleted.
  const auto theirs = Domain::where("model", "=", "res.partner") && Domain::where("name", "=", "x_their_own_field");
  EXPECT_EQ(rows("ir.model.fields", theirs, {"id"}).size(), 1u);
  admin_->unlink("ir.model.fields", field, {});
  EXPECT_TRUE(traces().empty()) << fmt::format("{}", fmt::join(traces(), ", "));
}

TEST_P(Provision, ValuesThatAreNotUniqueAreSaidToBeSo) {
  ProvisionOptions options;
  options.fields = {CustomField::parse("res.partner.x_dragoman_test")};
  apply(options);
  for (int i = 0; i < 2; ++i)
    admin_->create("res.partner", json::array({{{"name", "Same"}, {"ref", tag_}, {"x_dragoman_test", "same"}}}), {});
  options.fields[0].unique = true;
  try {
    apply(options);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "duplicates") << error.message;
    EXPECT_NE(error.message.find("res.partner.x_dragoman_test"), std::string::npos) << error.message;
  }
  EXPECT_EQ(rows("ir.actions.server", Domain::where("name", "=", "dragoman: setup"), {"id"}).size(), 0u);
}

TEST_P(Provision, ALoginThatIsNoAdministratorIsRefusedInWords) {
  const auto someone = open(login_, secret_);
  try {
    provisioning({}, someone.get())->plan({});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "not_administrator") << error.message;
    EXPECT_NE(error.message.find("Administration / Settings"), std::string::npos) << error.message;
  }
}

TEST_P(Provision, WhatMarketplacesNeedIsMadeOnceAndTakenOutAgain) {
  ProvisionOptions options;
  options.market = true;
  const auto state = apply(options);
  EXPECT_TRUE(state.market);
  EXPECT_GT(state.actions.at("market"), 0);
  EXPECT_EQ(changes(provisioning(options)->plan({})), 0) << shown(provisioning(options)->plan({}));
  EXPECT_TRUE(Provisioned(state).json().at("market").get<bool>());
  for (const MarketField& one : marketplace_fields()) {
    const auto there =
        rows("ir.model.fields",
             Domain::where("model", "=", one.field.model) && Domain::where("name", "=", one.field.name), {"ttype"});
    ASSERT_EQ(there.size(), 1u) << one.field.model << "." << one.field.name;
    EXPECT_EQ(there[0].at("ttype"), one.field.type);
  }
  if (!stand_in_) {
    EXPECT_NE(sql("SELECT indexdef FROM pg_indexes WHERE indexname = 'dragoman_sale_order_write_date_idx'"), "");
    // As the version before left it.
    const auto own = open(login_, secret_);
    sql("ALTER TABLE dragoman_key DROP COLUMN refused");
    EXPECT_EQ(check_provisioned(*own, state, {}),
              std::vector<std::string>{"the table dragoman_key is of an earlier version of Dragoman"});
    EXPECT_EQ(changes(provisioning(options)->plan({})), 1) << shown(provisioning(options)->plan({}));
    apply(options);
    EXPECT_EQ(check_provisioned(*own, state, {}), std::vector<std::string>());
  }
  provisioning(options)->remove({});
  EXPECT_EQ(traces(), std::vector<std::string>());
  EXPECT_EQ(rows("ir.model.fields", Domain::where("name", "=", "x_marketplace_status"), {"name"}).size(), 0u);
}

TEST_P(Provision, AFieldThatOdooHasForMarketplacesIsTakenInPlaceOfOneOfOurs) {
  ProvisionOptions options;
  options.market = true;
  const auto fields = [&] {
    std::set<std::string> all;
    for (const auto& step : provisioning(options)->plan({}))
      if (step.object == "field") all.insert(step.name);
    return all;
  };
  EXPECT_TRUE(fields().contains("sale.order.x_cartona_id"));
  options.market_names = {{"sale.order", {{"cartona_id", "client_order_ref"}}}};
  EXPECT_FALSE(fields().contains("sale.order.x_cartona_id"));
  EXPECT_TRUE(fields().contains("res.partner.x_cartona_id"));
  options.market_names = {{"sale.order", {{"cartona_id", "x_nobody_made_it"}}}};
  try {
    fields();
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "no_such_field");
    EXPECT_NE(error.message.find("sale.order.x_nobody_made_it"), std::string::npos) << error.message;
  }
}

INSTANTIATE_TEST_SUITE_P(Odoo19, Provision, ::testing::Values("Odoo19"));
INSTANTIATE_TEST_SUITE_P(Odoo14, Provision, ::testing::Values("Odoo14"));
INSTANTIATE_TEST_SUITE_P(StandIn, Provision, ::testing::Values("StandIn19", "StandIn14"));

}  // namespace
}  // namespace dragoman::connectors::odoo
