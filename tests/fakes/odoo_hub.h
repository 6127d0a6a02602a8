#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "connectors/catalog.h"
#include "fakes/fake_hub.h"
#include "ops/catalog.h"
#include "sandbox/odoo/server.h"

namespace dragoman::tests {

/// Operations on a hub with the real connectors, whose connection `main` leads to a stand-in Odoo: as its limited user,
/// who reads orders and may write nothing.
class OdooHub : public testing::Test {
 protected:
  void SetUp() override {
    odoo_.start();
    hub_.connectors = connectors::catalog();
    hub_.operations = ops::catalog(hub_.connectors);
    hub_.connections.add("main", "odoo",
                         hub_.connectors.check_settings(
                             "odoo", {{"url", odoo_.url()}, {"database", odoo_.options().db}, {"login", "limited"}}),
                         Secret(odoo_.options().limited_password));
  }

  /// The connection `shop`, to a marketplace that nobody answers for, whose orders go to `main`. Returns its id.
  std::int64_t add_shop() {
    return hub_.connections
        .add("shop", "cartona",
             hub_.connectors.check_settings("cartona", {{"url", "https://market.example/api"}, {"odoo", "main"}}),
             Secret("a token"))
        .id;
  }
  /// The stand-in's administrator signs in for it.
  void provision() {
    ask("provision apply",
        {{"name", "main"}, {"admin_login", "admin"}, {"admin_password", odoo_.options().admin_password}});
  }

  /// What `anna` is answered.
  nlohmann::json ask(std::string_view name, nlohmann::json input = nlohmann::json::object()) {
    const auto& operation = hub_.operation(name);
    ops::Context context{hub_.services, "anna", {}};
    return nlohmann::json::parse(ops::perform(operation, context, ops::check_input(operation, std::move(input))));
  }
  /// With which words she is refused.
  std::string refusal(std::string_view name, nlohmann::json input, Error::Kind kind) {
    try {
      ask(name, std::move(input));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, kind) << error.message;
      return error.message;
    }
    ADD_FAILURE() << "not refused";
    return "";
  }

  sandbox::odoo::Server odoo_{{.admin_password = "the administrator's own words"}};
  FakeHub hub_;
};

}  // namespace dragoman::tests
