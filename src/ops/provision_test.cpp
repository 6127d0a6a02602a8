#include "ops/provision_operations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "connectors/odoo/procedures.h"
#include "connectors/odoo/provision.h"
#include "fakes/odoo_hub.h"
#include "notify/alert.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

class ProvisionOperations : public tests::OdooHub {
 protected:
  json ask(std::string_view name, json input) {
    input["name"] = "main";
    return OdooHub::ask(name, std::move(input));
  }
  json admin(json more = json::object()) {
    more["admin_login"] = "admin";
    more["admin_password"] = odoo_.options().admin_password;
    return more;
  }
  json connection() { return OdooHub::ask("connection show", {{"name", "main"}}); }
  std::size_t alerts() {
    std::size_t n = 0;
    hub_.store->read([&](store::Session& session) {
      n = 0;
      for (const auto& problem : notify::problems(session, 100)) n += problem.alert.fingerprint == "provision:main";
    });
    return n;
  }
  void spoil_the_import() {
    const auto state = *connectors::odoo::provisioned(hub_.connections.get("main"));
    odoo_.call("ir.actions.server", "write",
               {json::array({state.actions.at("import")}),
                {{"code", connectors::odoo::procedure("import").text + "\n# and more\n"}}},
               json::object());
  }
};

TEST_F(ProvisionOperations, AMarketplaceThatNamesTheOdooBringsItsFieldsIntoThePlan) {
  const auto fields = [&] {
    const json plan = ask("provision plan", admin());
    return std::count_if(plan["steps"].begin(), plan["steps"].end(),
                         [](const json& step) { return step["object"] == "field"; });
  };
  EXPECT_EQ(fields(), 0);
  add_shop();
  EXPECT_EQ(fields(), static_cast<std::ptrdiff_t>(connectors::odoo::marketplace_fields().size()));
  ask("provision apply", admin());
  EXPECT_EQ(ask("provision plan", admin())["changes"], 0);
  EXPECT_TRUE(connectors::odoo::provisioned(hub_.connections.get("main"))->market);
}

TEST_F(ProvisionOperations, PlanApplyCheckAndRemoveLeaveTheAdministratorsPasswordNowhere) {
  EXPECT_EQ(ask("provision plan", admin())["changes"], ask("provision plan", admin())["steps"].size());
  EXPECT_GT(ask("provision apply", admin())["changes"], 3);
  EXPECT_EQ(ask("provision apply", admin())["changes"], 0);
  EXPECT_EQ(ask("provision check", json::object())["ok"], true);
  const auto state = connectors::odoo::provisioned(hub_.connections.get("main"));
  ASSERT_TRUE(state);
  EXPECT_EQ(state->actions.size(), 5u);
  EXPECT_EQ(connectors::odoo::action_of(hub_.connections.get("main"), "import"), state->actions.at("import"));
  try {
    ask("provision remove", admin({{"confirm", "mian"}}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::invalid);
  }
  EXPECT_GT(ask("provision plan", admin({{"removal", true}}))["changes"], 3);
  EXPECT_GT(ask("provision remove", admin({{"confirm", "main"}}))["changes"], 3);
  EXPECT_FALSE(connectors::odoo::provisioned(hub_.connections.get("main")));
  EXPECT_EQ(ask("provision remove", admin({{"confirm", "main"}}))["changes"], 0);

  // Neither as a value nor inside of one.
  hub_.store->read([&](store::Session& session) {
    for (const char* sql : {"SELECT learnt FROM connection", "SELECT settings FROM connection"})
      session.query(sql, std::initializer_list<store::Param>{}, [&](const store::Row& row) {
        EXPECT_EQ(row.text(0).find(odoo_.options().admin_password), std::string::npos);
      });
  });
  Context context{hub_.services, "tester", {}};
  const auto& list = hub_.operation("audit list");
  const std::string audited = list.run(context, check_input(list, json::object()));
  EXPECT_NE(audited.find("provision.apply"), std::string::npos);
  EXPECT_EQ(audited.find(odoo_.options().admin_password), std::string::npos);
}

TEST_F(ProvisionOperations, TheHubsOwnUserBecomesTheConnectionsLogin) {
  ask("provision apply", admin({{"user", "hub"}, {"user_login", "hub-of-the-harbour"}}));
  EXPECT_EQ(connection()["settings"]["login"], "hub-of-the-harbour");
  const auto secret = hub_.connections.secret(hub_.connections.get("main"));
  EXPECT_FALSE(secret.equals(odoo_.options().limited_password));
  EXPECT_EQ(ask("provision check", json::object())["ok"], true);
  // As it was applied before, without being told again.
  EXPECT_EQ(ask("provision apply", admin())["changes"], 0);
  EXPECT_EQ(connection()["settings"]["login"], "hub-of-the-harbour");
}

TEST_F(ProvisionOperations, RemovingWhatAnotherConnectionUsesIsRefusedAndNamesIt) {
  ask("provision apply", admin());
  auto settings = hub_.connections.get("main").settings;
  settings["url"] = odoo_.url() + "/";
  hub_.connections.add("branch", "odoo", hub_.connectors.check_settings("odoo", settings),
                       Secret(odoo_.options().limited_password));
  // That it goes to the same Odoo is no reason yet: it does not use what is there.
  hub_.connections.add(
      "elsewhere", "odoo",
      hub_.connectors.check_settings("odoo", {{"url", odoo_.url()}, {"database", "another"}, {"login", "limited"}}),
      Secret(odoo_.options().limited_password));
  const auto learnt = hub_.connections.get("main").learnt.dump();
  hub_.connections.set_learnt(hub_.connections.get("elsewhere").id, learnt);
  const auto id = hub_.connections.get("branch").id;
  hub_.connections.set_learnt(id, learnt);
  try {
    ask("provision remove", admin({{"confirm", "main"}}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::conflict);
    EXPECT_EQ(error.code, "used_by_others");
    EXPECT_NE(error.message.find("`branch`"), std::string::npos) << error.message;
    EXPECT_EQ(error.message.find("elsewhere"), std::string::npos) << error.message;
  }
  EXPECT_EQ(ask("provision check", json::object())["ok"], true) << "nothing was removed";
  EXPECT_GT(ask("provision remove", admin({{"confirm", "main"}, {"others_too", true}}))["changes"], 3);
  EXPECT_FALSE(connectors::odoo::provisioned(hub_.connections.get("main")));
  EXPECT_FALSE(connectors::odoo::provisioned(hub_.connections.get("branch")));
  EXPECT_EQ(connection()["state"], "active") << "its login is its own";
}

TEST_F(ProvisionOperations, AConnectionWhoseLoginIsRemovedIsStoppedAndSaysWhy) {
  ask("provision apply", admin({{"user", "hub"}}));
  const auto removed = ask("provision remove", admin({{"confirm", "main"}}));
  EXPECT_EQ(removed["stopped"], json({"main"}));
  EXPECT_EQ(connection()["state"], "error");
  const auto reason = connection()["reason"].get<std::string>();
  EXPECT_NE(reason.find("`dragoman` was taken out of Odoo"), std::string::npos) << reason;
  EXPECT_NE(reason.find("dragoman connection update main"), std::string::npos) << reason;
  // What it says is what helps.
  ask("provision apply", admin({{"user", "hub"}}));
  EXPECT_EQ(connection()["state"], "active");
  EXPECT_EQ(connection()["reason"], "");
  EXPECT_EQ(ask("provision check", json::object())["ok"], true);
}

TEST_F(ProvisionOperations, JobsThatWaitedForTheProceduresGoOnAtOnce) {
  const auto id = hub_.connections.get("main").id;
  hub_.store->write([&](store::Session& session) {
    session.execute(
        "INSERT INTO breaker (connection_id, state, failures, since_us, until_us, code, message) "
        "VALUES ($1, 1, 9, 0, 9000000000000000000, 'not_provisioned', 'no procedure')",
        {id});
  });
  ask("provision plan", admin());
  const auto broken = [&] {
    bool any = false;
    hub_.store->read([&](store::Session& session) {
      any = session.first("SELECT 1 FROM breaker WHERE state <> 0", {}, [](const store::Row&) {});
    });
    return any;
  };
  EXPECT_TRUE(broken());
  ask("provision apply", admin());
  EXPECT_FALSE(broken());
}

TEST_F(ProvisionOperations, AtItsStartTheHubFindsWhatSomebodyChangedAndTellsPeopleOnce) {
  ask("provision apply", admin());
  check_provisioned_at_start(hub_.services, {});
  EXPECT_EQ(connection()["alarm"], "");
  EXPECT_EQ(alerts(), 0u);
  spoil_the_import();
  check_provisioned_at_start(hub_.services, {});
  EXPECT_NE(connection()["alarm"].get<std::string>().find("`import` was changed"), std::string::npos);
  EXPECT_EQ(alerts(), 1u);
  EXPECT_EQ(ask("provision check", json::object())["ok"], false);
  // What else is learnt of the server leaves it alone.
  hub_.connections.set_learnt(hub_.connections.get("main").id, R"({"workers":3})");
  EXPECT_TRUE(connectors::odoo::provisioned(hub_.connections.get("main")));
  EXPECT_GT(ask("provision apply", admin())["changes"], 0);
  EXPECT_EQ(connection()["alarm"], "");
}

TEST_F(ProvisionOperations, WithoutAPasswordOrWithTheWrongOneItSaysSo) {
  EXPECT_THROW(ask("provision plan", {{"admin_login", "admin"}}), Error);
  try {
    ask("provision plan", {{"admin_login", "admin"}, {"admin_password", "wrong"}});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::auth);
  }
  try {
    ask("provision check", json::object());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "not_provisioned");
  }
  try {
    ask("provision plan", admin({{"fields", {"sale.order.market_ref"}}}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_NE(error.message.find("x_"), std::string::npos);
  }
}

}  // namespace
}  // namespace dragoman::ops
