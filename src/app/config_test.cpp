#include "app/config.h"

#include <gtest/gtest.h>

#include <fstream>

#include "app/reference.h"
#include "base/error.h"
#include "connectors/catalog.h"
#include "fakes/golden.h"
#include "ops/operation.h"
#include "store/test_store.h"

namespace dragoman::app {
namespace {

using Texts = std::map<std::string, std::string>;

std::string refusal(const std::string& file, const Texts& environment, const Texts& flags = {}) {
  try {
    load_config(file, environment, flags);
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "config") << error.message;
    return error.message;
  }
  return "(accepted)";
}

const ops::ConfigLine& line(const Config& config, const std::string& key) {
  for (const auto& one : config.lines)
    if (one.key == key) return one;
  throw std::runtime_error(key);
}

class ConfigTest : public testing::Test {
 protected:
  std::string file(const std::string& text) {
    const std::string path = folder_ / "hub.toml";
    std::ofstream(path) << text;
    return path;
  }
  store::TemporaryFolder folder_;
};

TEST_F(ConfigTest, EveryLayerWinsOverTheOneBefore) {
  const auto path = file("[http]\nlisten = \"127.0.0.1:1111\"\nrequest_threads = 3\nwaiting_max = 5\n");
  const Config config = load_config(
      path, {{"DRAGOMAN_HTTP_LISTEN", "127.0.0.1:2222"}, {"DRAGOMAN_HTTP_REQUEST_THREADS", "4"}, {"HOME", "/home/a"}},
      {{"http.listen", "[::1]:3333"}});
  EXPECT_EQ(config.http.address, "::1");
  EXPECT_EQ(config.http.port, 3333);
  EXPECT_EQ(config.http.request_threads, 4);
  EXPECT_EQ(config.http.waiting_max, 5u);
  EXPECT_EQ(config.http.connections_max, 1024u);
  EXPECT_EQ(line(config, "http.listen").origin, "--listen");
  EXPECT_EQ(line(config, "http.request_threads").origin, "DRAGOMAN_HTTP_REQUEST_THREADS");
  EXPECT_EQ(line(config, "http.waiting_max").origin, path + ":4");
  EXPECT_EQ(line(config, "http.connections_max").origin, "default");
  EXPECT_EQ(config.data_dir, "/home/a/.local/share/dragoman");
  EXPECT_EQ(config.store.url, "/home/a/.local/share/dragoman/dragoman.db");
}

TEST_F(ConfigTest, WhatItDoesNotKnowStopsTheStartWithFileAndLine) {
  const Texts home{{"HOME", "/h"}};
  const auto path = file("[http]\nlisten = \"127.0.0.1:1\"\nlitsen = 2\n");
  EXPECT_EQ(refusal(path, home), path + ":3: there is no setting `http.litsen`. Did you mean `http.listen`?");
  EXPECT_NE(refusal(file("[htpt]\nlisten = \"x\"\n"), home).find(":2: there is no setting `htpt.listen`"),
            std::string::npos);
  EXPECT_NE(refusal(file("loose = 1\n"), home).find(":1: there is no setting `loose`"), std::string::npos);
  EXPECT_NE(refusal(file("[http\n"), home).find(":1: "), std::string::npos);
  EXPECT_EQ(refusal(file("[http]\nrequest_threads = \"many\"\n"), home),
            path + ":2: `http.request_threads` is a whole number.");
  EXPECT_EQ(refusal(file("[http]\nlisten = 8480\n"), home), path + ":2: `http.listen` is a text in quotes.");
  EXPECT_EQ(refusal(file("[http]\nrequest_threads = 1.5\n"), home),
            path + ":2: `http.request_threads` is a text or a whole number.");
  EXPECT_EQ(refusal(file("[http]\nrequest_threads = 0\n"), home),
            path + ":2: `http.request_threads` is from 1 to 256, and 0 is outside.");
  EXPECT_EQ(refusal(file("[hub]\nlog_level = \"loud\"\n"), home),
            path + ":2: `hub.log_level` is one of debug, info, warning, error, and `loud` is none of them.");
  EXPECT_NE(refusal("/nowhere/hub.toml", home).find("can't be read"), std::string::npos);
  EXPECT_EQ(refusal("", {{"DRAGOMAN_HTTP_LITSEN", "1"}}),
            "There is no setting for the variable DRAGOMAN_HTTP_LITSEN. Did you mean DRAGOMAN_HTTP_LISTEN?");
  EXPECT_NE(refusal("", {{"HOME", "/h"}, {"DRAGOMAN_HTTP_REQUEST_THREADS", "4x"}}).find("is a whole number"),
            std::string::npos);
  EXPECT_NE(refusal("", {}).find("--data-dir"), std::string::npos);
  for (const char* listen : {"here", "1.2.3.4:", "1.2.3.4:99999", "1.2.3.4:x", ""})
    EXPECT_NE(refusal("", home, {{"http.listen", listen}}), "(accepted)") << listen;
}

TEST_F(ConfigTest, OtherVariablesAreNoneOfItsBusiness) {
  EXPECT_EQ(refusal("", {{"HOME", "/h"}, {"DRAGOMAN_SEED", "7"}, {"DRAGOMAN_SECRET_KEY", "x"}, {"PATH", "/bin"}}),
            "(accepted)");
}

TEST_F(ConfigTest, PasswordsInTheStoresAddressAreMasked) {
  for (const auto& [url, shown] :
       {std::pair{"postgres://hub:s3cret@db/hub", "postgres://hub:***@db/hub"},
        {"postgres://hub:p@ss@db1,db2/hub?x=1", "postgres://hub:***@db1,db2/hub?x=1"},
        {"postgres://db/hub?user=a&password=s3cret&x=1", "postgres://db/hub?user=a&password=***&x=1"},
        {"postgres://db/hub", "postgres://db/hub"},
        {"/var/lib/hub.db", "/var/lib/hub.db"}}) {
    const Config config = load_config("", {{"HOME", "/h"}}, {{"store.url", url}});
    EXPECT_EQ(config.store.url, url);
    EXPECT_EQ(line(config, "store.url").value, shown);
  }
}

TEST(References, AreTheCommittedOnes) {
  const auto connectors = connectors::catalog();
  const auto operations = ops::catalog(connectors);
  for (const char* what : {"api", "cli", "config"})
    tests::expect_golden(std::string(SOURCE_DIR "/docs/reference/") + what + ".md", *reference_text(what, operations));
  tests::expect_golden(SOURCE_DIR "/contract/openapi.json", *reference_text("openapi", operations));
}

TEST_F(ConfigTest, SecretsOfSettingsAreNeverShown) {
  const Texts environment{{"HOME", "/h"},
                          {"DRAGOMAN_NOTIFY_EMAIL_HOST", "mail.example.com"},
                          {"DRAGOMAN_NOTIFY_EMAIL_FROM", "hub@example.com"},
                          {"DRAGOMAN_NOTIFY_EMAIL_TO", "ann@example.com, bob@example.com"},
                          {"DRAGOMAN_NOTIFY_EMAIL_USER", "hub"},
                          {"DRAGOMAN_NOTIFY_EMAIL_PASSWORD", "open sesame"}};
  const Config config = load_config("", environment, {});
  EXPECT_EQ(config.notify.email.password.reveal(), "open sesame");
  EXPECT_EQ(config.notify.email.to, (std::vector<std::string>{"ann@example.com", "bob@example.com"}));
  EXPECT_EQ(line(config, "notify.email_password").value, "***");
  EXPECT_EQ(line(config, "notify.webhook_secret").value, "");
  auto lacking = environment;
  lacking.erase("DRAGOMAN_NOTIFY_EMAIL_TO");
  EXPECT_NE(refusal("", lacking).find("`notify.email_to` is needed"), std::string::npos);
}

}  // namespace
}  // namespace dragoman::app
