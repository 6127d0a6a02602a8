// Capture from real servers, through the service that the hub runs. The instantiation says which server.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/random.h"
#include "connectors/catalog.h"
#include "connectors/odoo/odoo_source.h"
#include "fakes/odoo_servers.h"
#include "pipeline/connections.h"
#include "pipeline/sync.h"
#include "store/store.h"

namespace dragoman::connectors {
namespace {

namespace rpc = dragoman::odoo;
using nlohmann::json;
using pipeline::CertifyOptions;
using namespace std::chrono_literals;

class Live : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    server_ = tests::odoo_server(GetParam());
    DRAGOMAN_NEED_SERVER(server_, GetParam());
    store_ = store::open({.url = "sqlite::memory:"}, clock_);
    keys_.emplace(access::KeyRing::open_file(::testing::TempDir() + "live-" + random_hex(random_, 6), random_));
    connections_.emplace(*store_, *keys_, clock_);
    connect("main", server_->login, server_->password, json::object());
    sync_.emplace(*store_, *connections_, connectors_, clock_, random_, pipeline::SyncSettings{});
    records_.emplace(*store_);
    rpc::Settings settings;
    settings.url = server_->url;
    settings.database = server_->database;
    settings.login = server_->login;
    settings.password = Secret(server_->password);
    outside_ = std::make_unique<rpc::Client>(settings, clock_);
    tag_ = "dragoman-" + random_hex(random_, 4);
  }

  void TearDown() override {
    if (!outside_) return;
    sync_.reset();
    const auto left = outside_->search("res.partner", rpc::Domain::where("ref", "=", tag_), {}, archived_too());
    if (!left.empty()) outside_->unlink("res.partner", left, {});
  }

  void connect(const std::string& name, const std::string& login, const std::string& secret, json more) {
    json settings{{"url", server_->url}, {"database", server_->database}, {"login", login}};
    settings.update(more);
    connections_->add(name, "odoo", connectors_.check_settings("odoo", settings), Secret(secret));
  }

  rpc::CallOptions archived_too() const {
    rpc::CallOptions options;
    options.context = R"({"active_test":false})";
    return options;
  }

  std::int64_t partner(const std::string& name) {
    return outside_->create("res.partner", json::array({{{"name", name}, {"ref", tag_}}}), {}).at(0);
  }

  SystemClock clock_;
  SystemRandom random_;
  std::optional<tests::OdooServer> server_;
  const pipeline::ConnectorList connectors_ = catalog();
  std::unique_ptr<store::Store> store_;
  std::optional<access::KeyRing> keys_;
  std::optional<pipeline::Connections> connections_;
  std::optional<pipeline::SyncService> sync_;
  std::optional<pipeline::Records> records_;
  std::unique_ptr<rpc::Client> outside_;
  std::string tag_;
};

TEST_P(Live, AllDefaultModelsArePulledAndCertifiedAndFollowChangesFromOutside) {
  const auto changed = partner("Changed Trading"), archived = partner("Archived Trading"),
             gone = partner("Gone Trading");
  const auto first = sync_->run("main", {}, false, {});
  EXPECT_TRUE(first.errors.empty()) << first.errors.front();
  EXPECT_GT(first.created, 500);
  std::set<std::string> following;
  for (const auto& model : records_->models("main", true))
    if (model.state == "following") following.insert(model.name);
  for (const char* model :
       {"res.partner", "product.template", "product.product", "sale.order", "sale.order.line", "stock.picking",
        "stock.move", "stock.quant", "account.move", "account.tax", "product.pricelist", "delivery.carrier", "uom.uom"})
    EXPECT_TRUE(following.contains(model)) << model;
  EXPECT_TRUE(following.contains(server_->version == "14" ? "payment.acquirer" : "payment.provider"));
  EXPECT_TRUE(following.contains(server_->version == "14" ? "coupon.program" : "loyalty.program"));

  outside_->write("res.partner", {changed}, {{"phone", "+999 555 0100"}}, {});
  outside_->write("res.partner", {archived}, {{"active", false}}, {});
  outside_->unlink("res.partner", {gone}, {});
  const auto created = partner("Created \xf0\x9f\x9a\x80 \xd9\x85\xd8\xaa\xd8\xac\xd8\xb1 Trading");
  const auto second = sync_->run("main", {}, false, {});
  EXPECT_TRUE(second.errors.empty());
  const auto kinds = [&](std::int64_t id) {
    std::string out;
    for (const auto& change : records_->history("main", "res.partner", id, 10))
      out = std::string(name(change.kind)) + " " + out;
    return out;
  };
  EXPECT_EQ(kinds(changed), "create change ");
  EXPECT_EQ(kinds(archived), "create archive ");
  EXPECT_EQ(kinds(gone), "create delete ");
  EXPECT_EQ(kinds(created), "create ");

  // The bytes here are the bytes of Odoo's answer.
  const auto row = records_->model("main", "res.partner");
  rpc::ReadOptions read;
  read.fields = row.plan.fields;
  const auto answer = outside_->search_read("res.partner", rpc::Domain::where("id", "=", created), read, {});
  const auto body = *records_->show("main", "res.partner", created, std::nullopt).body;
  EXPECT_EQ("[" + body + "]", answer.result());

  for (const auto& certificate : sync_->certify("main", {.bodies = CertifyOptions::Bodies::all}, {})) {
    EXPECT_EQ(certificate.differences.size(), 0u)
        << certificate.model << " " << certificate.differences.at(0).id << " " << certificate.differences.at(0).what;
    EXPECT_EQ(certificate.there, certificate.here);
  }
  const auto third = sync_->run("main", {}, false, {});
  EXPECT_EQ(third.created + third.changed + third.deleted, 0);
}

TEST_P(Live, ATransactionThatStartsFirstAndCommitsLastIsFound) {
  sync_->run("main", {"res.partner"}, false, {});
  PGconn* late = PQconnectdb(server_->pg_uri.c_str());
  ASSERT_EQ(PQstatus(late), CONNECTION_OK) << PQerrorMessage(late);
  PQclear(PQexec(late, "BEGIN"));
  const auto id = partner("Late Trading");
  const auto early = partner("Early Trading");
  PGresult* touched = PQexec(
      late, fmt::format(
                "UPDATE res_partner SET name = 'Late indeed', write_date = now() AT TIME ZONE 'UTC' WHERE id = {}", id)
                .c_str());
  EXPECT_EQ(PQresultStatus(touched), PGRES_COMMAND_OK) << PQerrorMessage(late);
  PQclear(touched);
  outside_->write("res.partner", {early}, {{"phone", "1"}}, {});
  sync_->run("main", {"res.partner"}, false, {});
  EXPECT_EQ(records_->show("main", "res.partner", id, std::nullopt).body->find("Late indeed"), std::string::npos);
  PQclear(PQexec(late, "COMMIT"));
  PQfinish(late);
  sync_->run("main", {"res.partner"}, false, {});
  EXPECT_NE(records_->show("main", "res.partner", id, std::nullopt).body->find("Late indeed"), std::string::npos);
}

TEST_P(Live, CertifyByBodiesFindsWhatSqlChangedWithItsTimeUntouched) {
  const auto id = partner("Before Trading");
  const auto run_sql = [&](const std::string& statement) {
    PGconn* sql = PQconnectdb(server_->pg_uri.c_str());
    ASSERT_EQ(PQstatus(sql), CONNECTION_OK) << PQerrorMessage(sql);
    PGresult* result = PQexec(sql, statement.c_str());
    EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK) << PQerrorMessage(sql);
    PQclear(result);
    PQfinish(sql);
  };
  // Long ago, or the polls would read the record once more by themselves.
  run_sql(fmt::format("UPDATE res_partner SET write_date = write_date - interval '2 hours' WHERE id = {}", id));
  sync_->run("main", {"res.partner"}, false, {});
  run_sql(fmt::format("UPDATE res_partner SET phone = 'by SQL' WHERE id = {}", id));
  auto certificate =
      sync_->certify("main", {.models = {"res.partner"}, .bodies = CertifyOptions::Bodies::all}, {}).at(0);
  ASSERT_EQ(certificate.differences.size(), 1u);
  EXPECT_EQ(certificate.differences[0].id, id);
  certificate =
      sync_->certify("main", {.models = {"res.partner"}, .bodies = CertifyOptions::Bodies::all, .heal = true}, {})
          .at(0);
  EXPECT_TRUE(certificate.differences.at(0).healed);
  EXPECT_EQ(sync_->certify("main", {.models = {"res.partner"}, .bodies = CertifyOptions::Bodies::all}, {})
                .at(0)
                .differences.size(),
            0u);
}

TEST_P(Live, TestOfAConnectionSaysWhatItFinds) {
  const auto probe = sync_->test("main", {});
  for (const auto& step : probe.steps) EXPECT_TRUE(step.ok) << step.name << ": " << step.result;
  EXPECT_EQ(probe.steps.size(), 3u);
  connect("wrong", server_->login, "not the password", json::object());
  const auto refused = sync_->test("wrong", {});
  EXPECT_FALSE(refused.ok());
  EXPECT_EQ(refused.steps.back().name, "log in");
}

INSTANTIATE_TEST_SUITE_P(Odoo19, Live, ::testing::Values("Odoo19"));
INSTANTIATE_TEST_SUITE_P(Odoo14, Live, ::testing::Values("Odoo14"));

}  // namespace
}  // namespace dragoman::connectors
