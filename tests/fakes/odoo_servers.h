#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>

namespace dragoman::tests {

/// A real Odoo that `./dev odoo up` has started, as its file of settings describes it. The file's path comes in
/// DRAGOMAN_TEST_ODOO19_ENV or DRAGOMAN_TEST_ODOO14_ENV.
struct OdooServer {
  std::string url, database, login, password, api_key, version, pg_uri;
};

/// `which`: `Odoo19` or `Odoo14`.
inline std::optional<OdooServer> odoo_server(const std::string& which) {
  const char* path = std::getenv(which == "Odoo19" ? "DRAGOMAN_TEST_ODOO19_ENV" : "DRAGOMAN_TEST_ODOO14_ENV");
  if (!path) return std::nullopt;
  std::map<std::string, std::string> values;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);)
    if (const auto at = line.find('='); at != std::string::npos) values[line.substr(0, at)] = line.substr(at + 1);
  return OdooServer{values["ODOO_URL"],     values["ODOO_DB"],      values["ODOO_USERNAME"], values["ODOO_PASSWORD"],
                    values["ODOO_API_KEY"], values["ODOO_VERSION"], values["ODOO_PG_URI"]};
}

}  // namespace dragoman::tests

/// Ends the test where the server is not there: as a failure where CI=true, as a visible skip elsewhere.
#define DRAGOMAN_NEED_SERVER(server, which)                                                                     \
  if (!(server)) {                                                                                              \
    if (const char* ci = std::getenv("CI"); ci && std::string(ci) == "true") FAIL() << (which) << " is not up"; \
    GTEST_SKIP() << (which) << " is not up; `./dev test` starts it";                                            \
  }
