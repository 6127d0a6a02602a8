#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/command_line.h"
#include "cli/remote.h"
#include "cli/render.h"
#include "fakes/fake_http.h"
#include "fakes/fake_hub.h"

namespace dragoman::cli {
namespace {

using nlohmann::json;
using ops::Type;

class CommandLineTest : public testing::Test {
 protected:
  Command read(std::vector<const char*> words) {
    words.insert(words.begin(), "dragoman");
    return parse(static_cast<int>(words.size()), words.data(), hub_.operations, {{"run", "Runs", {}}},
                 {{"--data-dir", "hub.data_dir", "where"}}, "1.2.3");
  }
  tests::FakeHub hub_;
};

TEST_F(CommandLineTest, ArgumentsOptionsAndSettingsFindTheirPlaces) {
  const Command command =
      read({"sync", "run", "main", "res.partner", "sale.order", "--full", "--data-dir", "/d", "--json"});
  ASSERT_FALSE(command.exit_code);
  EXPECT_EQ(command.operation->name, "sync run");
  EXPECT_EQ(command.settings.at("hub.data_dir"), "/d");
  EXPECT_TRUE(command.json);
  EXPECT_EQ(input_of(command), json({{"connection", "main"},
                                     {"models", {"res.partner", "sale.order"}},
                                     {"full", true},
                                     {"accept_deletions", false}}));
  EXPECT_EQ(input_of(read({"--data-dir", "/d", "record", "list", "main", "thing", "--no-archived", "--limit", "5"})),
            json({{"connection", "main"},
                  {"model", "thing"},
                  {"limit", 5},
                  {"archived", false},
                  {"deleted", false},
                  {"bodies", false}}));
  EXPECT_EQ(read({"run"}).builtin, "run");
  EXPECT_TRUE(read({"change", "list", "--follow"}).follow);
  EXPECT_EQ(input_of(read({"change", "list", "--since", "7"}))["since"], 7);
}

TEST_F(CommandLineTest, WrongUsageIsToldApartFromHelp) {
  EXPECT_EQ(read({}).exit_code, 64);
  EXPECT_EQ(read({"connection"}).exit_code, 64);
  EXPECT_EQ(read({"connection", "ad"}).exit_code, 64);
  EXPECT_EQ(read({"record", "show", "main"}).exit_code, 64);
  EXPECT_EQ(read({"status", "--nonsense"}).exit_code, 64);
  EXPECT_EQ(read({"sync", "run", "--help"}).exit_code, 0);
  EXPECT_THROW(input_of(read({"change", "list", "--since", "x"})), Error);
}

TEST_F(CommandLineTest, EveryOperationIsACommand) {
  for (const auto& operation : hub_.operations) {
    std::vector<std::string> words;
    std::istringstream in(operation.name);
    for (std::string word; in >> word;) words.push_back(word);
    words.push_back("--help");
    std::vector<const char*> pointers;
    for (const auto& word : words) pointers.push_back(word.c_str());
    EXPECT_EQ(read(pointers).exit_code, 0) << operation.name;
  }
}

TEST_F(CommandLineTest, WhatThereIsNoWayBackFromIsConfirmed) {
  const auto with = [&](std::vector<const char*> more) {
    std::vector<const char*> words{"connection", "remove", "main"};
    words.insert(words.end(), more.begin(), more.end());
    return read(words);
  };
  const Command bare = with({});
  ASSERT_TRUE(unconfirmed(bare));
  EXPECT_EQ(unconfirmed(bare)->name, "confirm");
  EXPECT_FALSE(input_of(bare).contains("confirm")) << "the hub refuses it";
  const auto dry = dry_run_of(bare);
  ASSERT_TRUE(dry);
  EXPECT_EQ(input_of(*dry), json({{"name", "main"}, {"dry_run", true}}));
  EXPECT_FALSE(unconfirmed(with({"--dry-run"})));
  EXPECT_FALSE(unconfirmed(with({"--confirm", "main"})));
  const Command sure = with({"--yes"});
  EXPECT_FALSE(unconfirmed(sure));
  EXPECT_EQ(input_of(sure)["confirm"], "main");
  EXPECT_EQ(input_of(with({"--yes", "--confirm", "mian"}))["confirm"], "mian") << "what was typed counts";
  EXPECT_FALSE(unconfirmed(read({"connection", "pause", "main"})));
  EXPECT_EQ(read({"connection", "pause", "main", "--yes"}).exit_code, 64);
  EXPECT_TRUE(unconfirmed(read({"provision", "remove", "main", "--admin-login", "a"})));
}

TEST_F(CommandLineTest, TheTimeLimitIsAWholeNumberOfSeconds) {
  EXPECT_EQ(read({"status"}).timeout_seconds, 60);
  EXPECT_EQ(read({"status", "--timeout", "5"}).timeout_seconds, 5);
  EXPECT_EQ(read({"status", "--timeout", "0"}).timeout_seconds, 0);
  EXPECT_EQ(read({"status", "--timeout", "soon"}).exit_code, 64);
  EXPECT_EQ(read({"status", "--timeout", "-1"}).exit_code, 64);
}

// A hub whose answers a test makes up, and the patience that it was asked with.
class RemoteTest : public testing::Test {
 protected:
  Error refused(std::string_view operation, const json& input) {
    try {
      RemoteHub("http://hub", Secret("t"), clients_).call(hub_.operation(operation), input, {});
    } catch (const Error& error) {
      return error;
    }
    return Error(Error::Kind::bug, "(answered)");
  }
  static Error silence() {
    Error error(Error::Kind::in_doubt, "http://hub did not answer in time");
    error.code = "timeout";
    return error;
  }

  tests::FakeHub hub_;
  fakes::FakeHttp::Handler answer_ = [](const http::Request&) -> http::Response { throw silence(); };
  std::vector<std::pair<std::string, std::int64_t>> asked_;
  Clients clients_{std::chrono::seconds(60), [this](std::chrono::seconds patience) {
                     return std::make_unique<fakes::FakeHttp>([this, patience](const http::Request& request) {
                       asked_.emplace_back(request.target, patience.count());
                       return answer_(request);
                     });
                   }};
};

TEST_F(RemoteTest, AHubThatHangsIsSaidToBeOutOfReach) {
  const Error reading = refused("connection list", json::object());
  EXPECT_EQ(reading.kind, Error::Kind::unavailable);
  EXPECT_EQ(reading.message, "The hub at http://hub does not answer: nothing came for 60 s (--timeout).");
  const Error changing = refused("connection pause", {{"name", "main"}});
  EXPECT_EQ(changing.kind, Error::Kind::in_doubt) << "it may have been done";
  EXPECT_NE(changing.message.find("not known"), std::string::npos) << changing.message;
  EXPECT_EQ(policy(reading.kind).exit_code, policy(changing.kind).exit_code);
}

TEST_F(RemoteTest, WhatTakesLongIsNotCutOffAndAHubThatHangsIsStillNoticed) {
  const Error hangs = refused("certify", {{"connection", "main"}});
  EXPECT_EQ(hangs.kind, Error::Kind::unavailable) << "it was not even asked to";
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(asked_[0], std::pair(std::string("http://hub/healthz"), std::int64_t{60}));
  answer_ = [](const http::Request&) { return fakes::FakeHttp::json("{}"); };
  EXPECT_EQ(refused("certify", {{"connection", "main"}}).message, "(answered)");
  EXPECT_EQ(asked_.back().second, 0) << "without a limit";
  EXPECT_EQ(refused("change list", {{"wait", 30}}).message, "(answered)");
  EXPECT_EQ(asked_.back().second, 90) << "it waits on purpose, and then answers";
  EXPECT_EQ(refused("status", json::object()).message, "(answered)");
  EXPECT_EQ(asked_.back().second, 60);
}

TEST(RequestOf, FillsThePathAndPutsTheRestWhereItBelongs) {
  const tests::FakeHub hub;
  auto request =
      request_of(hub.operation("record show"), {{"connection", "a b"}, {"model", "x/y"}, {"id", 7}, {"version", 2}});
  EXPECT_EQ(request.method, "GET");
  EXPECT_EQ(request.target, "/api/v1/connections/a%20b/models/x%2Fy/records/7?version=2");
  EXPECT_EQ(request.body, "");
  request = request_of(hub.operation("market close"), {{"connection", "shop"}, {"order", "A/7"}, {"reason", "x"}});
  EXPECT_EQ(request.target, "/api/v1/connections/shop/orders/A%2F7/close");
  request = request_of(hub.operation("sync run"), {{"connection", "main"}, {"models", {"a"}}, {"full", false}});
  EXPECT_EQ(request.target, "/api/v1/connections/main/sync");
  EXPECT_EQ(json::parse(request.body), json({{"models", {"a"}}, {"full", false}}));
}

const ops::Operation kSample{
    .name = "sample",
    .output = {.fields = {{.name = "total", .type = Type::integer}, {.name = "errors", .type = Type::list}},
               .rows = "rows",
               .columns = {{.name = "name"},
                           {.name = "count", .type = Type::integer},
                           {.name = "seen_at", .type = Type::time},
                           {.name = "never"},
                           {.name = "differences", .type = Type::list, .hidden = true}},
               .details = "differences",
               .verdict = "total"}};

TEST(Render, TablesLineUpAndLeaveOutEmptyColumns) {
  EXPECT_EQ(
      render(
          kSample,
          R"({"total":2,"errors":["one failed"],"rows":[{"name":"é","count":12345678901234567890,"seen_at":"2026-11-20T10:05:48.113847Z",)"
          R"("differences":[{"id":7,"what":"missing here","healed":true}]},{"name":"longer","count":1,"seen_at":null,"never":null}]})"),
      "total   2\n"
      "errors  one failed\n"
      "\n"
      "name                   count  seen at\n"
      "é       12345678901234567890  2026-11-20 10:05:48\n"
      "longer                     1\n"
      "é: id 7 missing here (healed)\n");
  EXPECT_EQ(render(kSample, R"({"total":0,"rows":[]})"), "total   0\n\n(none)\n");
}

TEST(Render, MomentsInAListAreShownAsOthersAre) {
  EXPECT_EQ(render(kSample, R"({"total":1,"errors":["2026-11-20T10:05:48.113847Z","at 2026-11-20T10:05:48.113847Z"]})"),
            "total   1\n"
            "errors  2026-11-20 10:05:48\n"
            "errors  at 2026-11-20T10:05:48.113847Z\n"
            "\n(none)\n");
}

TEST(Render, NoControlCharacterReachesTheTerminal) {
  const std::string out = render(kSample, R"({"total":1,"rows":[{"name":"a\u001b[2Jb\nc\u0007","count":1}]})");
  EXPECT_EQ(out.find('\x1b'), std::string::npos);
  EXPECT_NE(out.find("a [2Jb c "), std::string::npos) << out;
}

TEST(Render, WhatIsNestedIsCutAndTextsAreWhole) {
  const ops::Operation operation{.output = {.fields = {{.name = "changed", .type = Type::object}}}};
  const std::string many(1000, '1'), note(1000, 'n');
  const std::string out = render(operation, R"({"changed":{"state":[)" + many + R"(],"note":")" + note + "\"}}");
  EXPECT_LT(out.find("… (whole with --json)"), 400u) << out;
  EXPECT_EQ(out.find(many), std::string::npos);
  EXPECT_NE(out.find(note), std::string::npos);
}

TEST(Render, TheVerdictIsTrueZeroOrEmpty) {
  EXPECT_TRUE(is_well(kSample, R"({"total":0})"));
  EXPECT_FALSE(is_well(kSample, R"({"total":1})"));
  EXPECT_TRUE(is_well({}, R"({"total":1})"));
}

}  // namespace
}  // namespace dragoman::cli
