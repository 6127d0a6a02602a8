#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/error.h"
#include "fakes/fake_hub.h"
#include "ops/operation.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;
using tests::FakeHub;

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::invalid) << error.message;
    return error.message;
  }
  return "(accepted)";
}

const Operation& sample() {
  static const Operation operation{
      .name = "sample run",
      .inputs = {{.name = "name", .doc = "its name", .required = true},
                 {.name = "limit", .type = Type::integer, .fallback = "10", .min = 1, .max = 100},
                 {.name = "full", .type = Type::boolean},
                 {.name = "at", .type = Type::time},
                 {.name = "models", .type = Type::list},
                 {.name = "settings", .type = Type::object},
                 {.name = "kind", .choices = {"all", "none"}},
                 {.name = "secret", .secret = true}}};
  return operation;
}

TEST(OperationInput, FillsDefaultsAndKeepsWhatFits) {
  const json checked = check_input(sample(), {{"name", "a"},
                                              {"at", "2026-11-20 10:05:48"},
                                              {"models", {"x", 7}},
                                              {"kind", nullptr},
                                              {"settings", {{"b", {}}}}});
  EXPECT_EQ(checked, json({{"name", "a"},
                           {"limit", 10},
                           {"at", "2026-11-20T10:05:48.000000Z"},
                           {"models", {"x", 7}},
                           {"settings", {{"b", {}}}}}));
}

TEST(OperationInput, RefusesByNameWithTheNearestThatThereIs) {
  const auto check = [](json input) { return refusal([&] { check_input(sample(), std::move(input)); }); };
  EXPECT_EQ(check({{"name", "a"}, {"limti", 3}}), "`sample run` takes no `limti`. Did you mean `limit`?");
  EXPECT_EQ(check(json::object()), "`sample run` needs `name`: its name.");
  EXPECT_EQ(check({{"name", ""}}), "`name` must not be empty.");
  EXPECT_EQ(check({{"name", 7}}), "`name` takes a text, and `7` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"limit", "3"}}), "`limit` takes a whole number, and `\"3\"` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"limit", 1.5}}), "`limit` takes a whole number, and `1.5` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"limit", 101}}), "`limit` is from 1 to 100, and 101 is outside.");
  EXPECT_EQ(check({{"name", "a"}, {"limit", 18446744073709551615u}}),
            "`limit` takes a whole number, and `18446744073709551615` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"full", 1}}), "`full` takes true or false, and `1` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"at", "soon"}}),
            "`at` takes a time such as 2026-11-20T10:05:48Z, and `\"soon\"` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"models", "x"}}), "`models` takes a list, and `\"x\"` is none.");
  EXPECT_EQ(check({{"name", "a"}, {"models", {json::object()}}}), "`models` takes a list of texts or whole numbers.");
  EXPECT_EQ(check({{"name", "a"}, {"kind", "some"}}), "`kind` is one of all, none, and `\"some\"` is none of them.");
  EXPECT_EQ(check({{"name", std::string("a\0b", 3)}}), "`name` holds a NUL character.");
  EXPECT_EQ(check({{"name", "a"}, {"secret", 12345}}), "`secret` takes a text, and what was given is none.");
  EXPECT_EQ(check(json::array()), "The input is a JSON object.");
}

TEST(OperationInput, ReadsTextsOfQueriesAndCommands) {
  const auto value = [](const char* name, const std::string& text) {
    for (const auto& field : sample().inputs)
      if (field.name == name) return value_of(field, text);
    return json();
  };
  EXPECT_EQ(value("limit", "42"), json(42));
  EXPECT_EQ(value("full", "true"), json(true));
  EXPECT_EQ(value("full", "no"), json(false));
  EXPECT_EQ(value("models", "a,b,,c"), json({"a", "b", "c"}));
  EXPECT_EQ(value("models", "[\"a\",2]"), json({"a", 2}));
  EXPECT_EQ(value("models", ""), json::array());
  EXPECT_EQ(value("settings", "{\"a\":1}"), json({{"a", 1}}));
  for (const auto& [name, text] : {std::pair{"limit", "4x"},
                                   {"limit", ""},
                                   {"limit", "99999999999999999999"},
                                   {"full", "maybe"},
                                   {"settings", "{"},
                                   {"settings", "[]"},
                                   {"at", "x"},
                                   {"kind", "x"}})
    EXPECT_NE(refusal([&, n = name, t = text] { value(n, t); }), "(accepted)") << name << " " << text;
}

TEST(OperationInput, BodiesThatAreNoGoodJsonAreRefused) {
  const auto code = [](const std::string& text) {
    try {
      parse_body(text);
    } catch (const Error& error) {
      return error.code;
    }
    return std::string("(accepted)");
  };
  EXPECT_EQ(code("{\"a\":[1,2]}"), "(accepted)");
  EXPECT_EQ(code("{\"a\":1,\"a\":2}"), "duplicate");
  EXPECT_EQ(code("{\"x\":{\"a\":1},\"y\":{\"a\":2}}"), "(accepted)");
  EXPECT_EQ(code("{"), "json");
  EXPECT_EQ(code("{} {}"), "json");
  EXPECT_EQ(code("{\"a\":\"\xff\"}"), "json_utf8");
  EXPECT_EQ(code("{\"a\":1e999}"), "json");
  EXPECT_EQ(code("{\"a\":[18446744073709551616]}"), "json");
  EXPECT_EQ(code("{\"a\":-9223372036854775809}"), "json");
  EXPECT_EQ(code("{\"a\":[18446744073709551615,-9223372036854775808,1e20]}"), "(accepted)");
  EXPECT_EQ(code("{\"a\":\"\\\"99999999999999999999\"}"), "(accepted)");
  EXPECT_EQ(code("{\"a\":{\"b\":1,\"c\":[{\"d\":1,\"d\":2}]}}"), "duplicate");
  EXPECT_EQ(code(std::string("{\"a\":1}\0{}", 10)), "json") << "what follows a NUL is not read over";
  EXPECT_EQ(code(std::string("{\"a\":\"\0\"}", 9)), "json");
  EXPECT_EQ(code(""), "json");
  EXPECT_EQ(code(std::string(100'000, '[')), "json_depth");
  EXPECT_EQ(code(std::string(33, '[') + std::string(33, ']')), "json_depth");
}

TEST(OperationInput, BodiesAreReadAsTheLibraryReadsThem) {
  for (const char* text :
       {"null", "[]", "{}", " [ ] ", "\"\"", "-0", "0.10", "1e3", "[[],[[]],{}]", "[{\"a\":[]},{\"a\":{}}]",
        R"({"a":{"b":{"c":[1,-2,3.5,true,false,null,"é\u0000\u00e9😀",{"d":"\\\""}]},"e":1},"":[],"a ":{"a":1}})",
        "[18446744073709551615,9223372036854775807,-9223372036854775808]"})
    EXPECT_EQ(parse_body(text), json::parse(text)) << text;
}

TEST(OperationInput, WhatIsWrongWithABodyIsSaidInItsOwnWords) {
  const auto message = [](const std::string& text) { return refusal([&] { parse_body(text); }); };
  EXPECT_EQ(message("{\"a\":1"), "This is not JSON that can be read: the text ends too early at byte 6.");
  EXPECT_EQ(message("{\"a\":1e999}"), "The body has a number that is too large.");
  EXPECT_EQ(message("{\"a\":9007199254740993.0}"),
            "The body has the decimal 9007199254740993.0, which would be read as 9007199254740992: send it as a text.");
  for (const char* altered : {"0.1000000000000000055511151231257827", "-123456789012345678.5", "1e-400",
                              "1.00000000000000000001", "12345678901.123456"})
    EXPECT_NE(message("[" + std::string(altered) + "]").find("send it as a text"), std::string::npos) << altered;
  for (const char* kept : {"0.1", "-0.0", "0.000000000000000000", "1.50000000000000000000", "100000000000000000000.0",
                           "1e20", "1E+2", "123.4560e-3", "0.30000000000000004", "179769313486231570000e288",
                           "4.9e-324", "0.10000000000000001", "12345678901.123455"})
    EXPECT_EQ(message("[" + std::string(kept) + "]"), "(accepted)") << kept;
  for (const char* half : {"\\ud800", "\\udc00", "\\ud800x", "\\ud800\\u0041"}) {
    const std::string told = message("{\"a\":\"" + std::string(half) + "\"}");
    EXPECT_NE(told.find("half a character"), std::string::npos) << half << ": " << told;
  }
  EXPECT_EQ(message("{\"a\":\"\\ud83d\\ude00\"}"), "(accepted)");
}

TEST(Catalog, NamesRoutesAndCommandsAreEachUsedOnce) {
  const FakeHub hub;
  std::set<std::string> names, routes;
  for (const auto& operation : hub.operations) {
    EXPECT_TRUE(names.insert(operation.name).second) << operation.name;
    EXPECT_TRUE(routes.insert(operation.method + " " + operation.path).second) << operation.path;
    EXPECT_FALSE(operation.summary.empty());
    EXPECT_NE(operation.summary.back(), '.') << operation.summary;
    EXPECT_TRUE(operation.run) << operation.name;
    std::set<std::string> fields;
    for (const auto& field : operation.inputs) {
      EXPECT_TRUE(fields.insert(field.name).second) << operation.name << " " << field.name;
      EXPECT_FALSE(field.doc.empty()) << operation.name << " " << field.name;
    }
    for (auto at = operation.path.find('{'); at != std::string::npos; at = operation.path.find('{', at + 1)) {
      const std::string name = operation.path.substr(at + 1, operation.path.find('}', at) - at - 1);
      EXPECT_TRUE(fields.count(name)) << operation.path;
    }
    EXPECT_TRUE(!operation.follow || fields.count(operation.resume));
  }
}

// Every value that an operation answers is one that its description names, and of that type.
void expect_described(const Operation& operation, const json& answer) {
  const auto object = [&](const std::vector<Field>& fields, const json& value, const std::string& rows) {
    for (const auto& field : fields) {
      if (!value.contains(field.name)) {
        EXPECT_FALSE(field.required) << operation.name << " lacks " << field.name;
        continue;
      }
      const json& one = value[field.name];
      if (one.is_null() && !field.required) continue;
      const bool fits = field.type == Type::integer   ? one.is_number_integer()
                        : field.type == Type::boolean ? one.is_boolean()
                        : field.type == Type::list    ? one.is_array()
                        : field.type == Type::object  ? one.is_object()
                                                      : one.is_string() || one.is_number();
      EXPECT_TRUE(fits) << operation.name << "." << field.name << " is " << one.dump();
    }
    for (const auto& [name, _] : value.items()) {
      if (name == rows) continue;
      EXPECT_TRUE(
          std::any_of(fields.begin(), fields.end(), [&, n = name](const Field& field) { return field.name == n; }))
          << operation.name << " answers `" << name << "`, which is not described";
    }
  };
  object(operation.output.fields, answer, operation.output.rows);
  if (!operation.output.rows.empty())
    for (const auto& row : answer.at(operation.output.rows)) object(operation.output.columns, row, {});
}

class OperationsTest : public testing::Test {
 protected:
  json ask(std::string_view name, json input = json::object()) {
    const auto& operation = hub_.operation(name);
    Context context{hub_.services, "tester", {}};
    const json answer = json::parse(perform(operation, context, check_input(operation, std::move(input))));
    expect_described(operation, answer);
    return answer;
  }
  json entries(json filter = json::object()) { return ask("audit list", std::move(filter))["entries"]; }
  void connect() { ask("connection add", {{"name", "main"}, {"url", "x"}, {"secret", "open sesame"}}); }

  FakeHub hub_;
};

TEST_F(OperationsTest, ConnectionsComeAndGo) {
  EXPECT_EQ(ask("connection list")["connections"], json::array());
  connect();
  const json shown = ask("connection show", {{"name", "main"}});
  EXPECT_EQ(shown["settings"], json({{"url", "x"}, {"size", 7}, {"companies", json::array()}}));
  EXPECT_EQ(shown.dump().find("sesame"), std::string::npos);
  EXPECT_EQ(ask("connection update", {{"name", "main"}, {"size", 8}, {"companies", {"1", 2}}})["settings"],
            json({{"url", "x"}, {"size", 8}, {"companies", {1, 2}}}));
  EXPECT_TRUE(hub_.connections.secret(hub_.connections.get("main")).equals("open sesame")) << "not given, so kept";
  EXPECT_EQ(ask("connection test", {{"name", "main"}})["ok"], true);
  EXPECT_EQ(ask("connection pause", {{"name", "main"}})["reason"], "paused by tester");
  EXPECT_EQ(ask("connection resume", {{"name", "main"}})["state"], "active");
  EXPECT_THROW(ask("connection remove", {{"name", "main"}, {"confirm", "yes"}}), Error);
  EXPECT_EQ(ask("connection remove", {{"name", "main"}, {"confirm", "main"}})["removed"], "main");
  EXPECT_THROW(ask("connection show", {{"name", "main"}}), Error);
}

TEST_F(OperationsTest, ARemovedConnectionStopsItsSchedulesAndItsNumbersAreNeverGivenOutAgain) {
  connect();
  ask("schedule add", {{"name", "hers"}, {"kind", "sync.run"}, {"connection", "main"}, {"every_seconds", 3600}});
  ask("schedule add", {{"name", "everyones"}, {"kind", "sync.run"}, {"every_seconds", 3600}});
  const auto id = hub_.connections.get("main").id;
  const auto receive = [&] {
    return hub_.inbox
        .put({.connection = "main",
              .idempotency_key = "k",
              .sender = "till",
              .digest = "d",
              .records = {{.model = "thing", .key = "A", .content = R"({"values":{}})"}}})
        .id;
  };
  const auto inbox = receive();
  const json removed = ask("connection remove", {{"name", "main"}, {"confirm", "main"}});
  EXPECT_EQ(removed["schedules"], json({"hers"}));
  json hers = ask("schedule show", {{"name", "hers"}});
  EXPECT_EQ(hers["state"], "error");
  EXPECT_EQ(hers["reason"], "its connection was removed");
  EXPECT_EQ(hers["next"], nullptr);
  EXPECT_EQ(ask("schedule show", {{"name", "everyones"}})["state"], "active");
  connect();
  EXPECT_GT(hub_.connections.get("main").id, id);
  EXPECT_GT(receive(), inbox);
}

TEST_F(OperationsTest, RemovingAConnectionSaysWhatItDeletesAndADryRunOnlyThat) {
  connect();
  ask("sync run", {{"connection", "main"}});
  ask("schedule add", {{"name", "hers"}, {"kind", "sync.run"}, {"connection", "main"}, {"every_seconds", 3600}});
  const auto before = entries().size();
  const json dry = ask("connection remove", {{"name", "main"}, {"dry_run", true}});
  EXPECT_EQ(dry["removed"], nullptr);
  EXPECT_EQ(dry["records"], 3);
  EXPECT_EQ(dry["versions"], 3);
  EXPECT_EQ(dry["schedules"], json({"hers"}));
  EXPECT_EQ(ask("connection show", {{"name", "main"}})["state"], "active");
  EXPECT_EQ(entries().size(), before) << "nothing was done, so there is nothing to note";
  for (const json& input : {json({{"name", "main"}}), json({{"name", "main"}, {"confirm", "mian"}})}) {
    const std::string said = refusal([&] { ask("connection remove", input); });
    EXPECT_NE(said.find("deletes 3 records and 3 versions"), std::string::npos) << said;
    EXPECT_NE(said.find("`confirm` must be `main`"), std::string::npos) << said;
  }
  const json removed = ask("connection remove", {{"name", "main"}, {"confirm", "main"}});
  EXPECT_EQ(removed["removed"], "main");
  EXPECT_EQ(removed["records"], 3);
  EXPECT_EQ(removed["schedules"], json({"hers"}));
  EXPECT_EQ(json::parse(entries()[0]["after"].get<std::string>())["records"], 3) << "and it stays on record";
}

TEST_F(OperationsTest, APauseKeepsItsFirstReasonWhenAnotherJoinsIt) {
  connect();
  ask("schedule add", {{"name", "hers"}, {"kind", "sync.run"}, {"connection", "main"}, {"every_seconds", 3600}});
  ask("connection pause", {{"name", "main"}, {"reason", "stocktaking"}});
  ask("schedule pause", {{"name", "hers"}, {"reason", "stocktaking"}});
  ask("flow pause", {{"what", "flow"}, {"name", "sync"}, {"reason", "stocktaking"}});
  const std::string both = "stocktaking; tester: new prices";
  EXPECT_EQ(ask("connection pause", {{"name", "main"}, {"reason", "new prices"}})["reason"], both);
  EXPECT_EQ(ask("connection pause", {{"name", "main"}})["reason"], both);
  EXPECT_EQ(ask("sync pause", {{"connection", "main"}})["connections"][0]["reason"], both);
  EXPECT_EQ(ask("schedule pause", {{"name", "hers"}, {"reason", "new prices"}})["schedules"][0]["reason"], both);
  ask("flow pause", {{"what", "flow"}, {"name", "sync"}, {"reason", "new prices"}});
  EXPECT_EQ(ask("flow list")["lanes"][0]["closed"], "flow paused by tester: " + both);
  const json story = entries({{"action", "connection.pause"}, {"subject", "main"}});
  ASSERT_EQ(story.size(), 3u);
  EXPECT_EQ(story[2]["why"], "stocktaking");
  EXPECT_EQ(story[1]["why"], "new prices");
  ask("connection resume", {{"name", "main"}});
  EXPECT_EQ(ask("connection pause", {{"name", "main"}, {"reason", "a new floor"}})["reason"], "a new floor");
}

TEST_F(OperationsTest, ASettingThatTheConnectorDoesNotTakeIsRefused) {
  EXPECT_EQ(refusal([&] { ask("connection add", {{"name", "main"}, {"ulr", "x"}}); }),
            "`connection add` takes no `ulr`. Did you mean `url`?");
  EXPECT_THROW(ask("connection add", {{"name", "main"}}), Error) << "its url is missing";
}

TEST_F(OperationsTest, SyncBringsRecordsThatCanBeReadEveryWay) {
  connect();
  const json run = ask("sync run", {{"connection", "main"}});
  EXPECT_EQ(run["created"], 3) << run;
  EXPECT_EQ(run["errors"], json::array());
  const json models = ask("model list");
  ASSERT_EQ(models["models"].size(), 1u);
  EXPECT_EQ(models["models"][0]["live"], 2);
  EXPECT_EQ(models["models"][0]["archived"], 1);
  EXPECT_EQ(ask("model show", {{"connection", "main"}, {"model", "thing"}})["fields"],
            json({"active", "id", "value", "write_date"}));
  const json status = ask("sync status");
  EXPECT_EQ(status["trouble"], json::array());
  EXPECT_TRUE(status["models"][0]["total"].is_null()) << "no pull is under way";

  json page = ask("record list", {{"connection", "main"}, {"model", "thing"}, {"limit", 2}, {"bodies", true}});
  EXPECT_EQ(page["records"].size(), 2u);
  EXPECT_EQ(page["records"][0]["body"]["value"], "one");
  EXPECT_EQ(page["next"], 2);
  page = ask("record list", {{"connection", "main"}, {"model", "thing"}, {"limit", 2}, {"after", 2}});
  EXPECT_EQ(page["records"].size(), 1u);
  EXPECT_EQ(page["next"], nullptr);

  const json record = {{"connection", "main"}, {"model", "thing"}, {"id", 1}};
  EXPECT_EQ(ask("record show", record)["body"]["value"], "one");
  EXPECT_EQ(ask("record history", record)["versions"].size(), 1u);
  EXPECT_THROW(ask("record show", {{"connection", "main"}, {"model", "thing"}, {"id", 99}}), Error);
  EXPECT_THROW(ask("record show", {{"connection", "main"}, {"model", "other"}, {"id", 1}}), Error);
  EXPECT_EQ(ask("schema show", {{"connection", "main"}, {"model", "thing"}})["number"], 1);
  const json difference = ask("schema diff", {{"connection", "main"}, {"model", "thing"}});
  EXPECT_EQ(difference["from"], 0);
  EXPECT_EQ(difference["removed"], json::object());

  const json changes = ask("change list", {{"limit", 2}});
  EXPECT_EQ(changes["changes"].size(), 2u);
  EXPECT_EQ(changes["next"], 2);
  EXPECT_EQ(changes["last"], 3);
  EXPECT_EQ(ask("change list", {{"since", 3}})["changes"], json::array());

  const json certificate = ask("certify", {{"connection", "main"}, {"bodies", "all"}});
  EXPECT_EQ(certificate["differences"], 0) << certificate;
  EXPECT_EQ(certificate["certificates"][0]["there"], 3);
}

TEST_F(OperationsTest, CapturedBodiesGoOutByteForByte) {
  connect();
  ask("sync run", {{"connection", "main"}});
  const std::string odd = R"({"id":1,"price":10.10,"big":123456789012345678901234567890, "a":1e400})";
  hub_.store->write([&](store::Session& session) {
    session.execute("UPDATE change SET body = $1 WHERE number = 1", {store::Param(store::Bytes{odd})});
  });
  Context context{hub_.services, "tester", {}};
  const auto& show = hub_.operation("record show");
  const std::string text =
      show.run(context, check_input(show, {{"connection", "main"}, {"model", "thing"}, {"id", 1}}));
  EXPECT_NE(text.find("\"body\":" + odd), std::string::npos) << text;
  const auto& list = hub_.operation("change list");
  EXPECT_NE(list.run(context, check_input(list, {{"bodies", true}})).find("\"body\":" + odd), std::string::npos);
}

TEST_F(OperationsTest, FollowingTheFeedEmitsEveryNumberOnceAndGoesOn) {
  connect();
  ask("sync run", {{"connection", "main"}});
  const auto& operation = hub_.operation("change list");
  Context context{hub_.services, "tester", {}};
  std::vector<std::string> ids;
  operation.follow(context, check_input(operation, {{"since", 1}, {"limit", 1}}),
                   [&](std::string_view id, std::string_view event, std::string_view data) {
                     EXPECT_EQ(event, "create");
                     EXPECT_TRUE(json::accept(data));
                     ids.emplace_back(id);
                     return ids.size() < 2;
                   });
  EXPECT_EQ(ids, (std::vector<std::string>{"2", "3"}));
}

TEST_F(OperationsTest, TheHubTellsOfItself) {
  EXPECT_EQ(ask("status")["version"], "1.2.3");
  EXPECT_EQ(ask("store info")["engine"], "sqlite");
  EXPECT_EQ(ask("config show")["settings"][0]["value"], "postgres://hub:***@db");
  EXPECT_EQ(ask("store rotate-key")["secrets"], 0);
  const std::string path = hub_.folder / "copy.db";
  ask("store backup", {{"path", path}});
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_THROW(ask("store backup", {{"path", path}}), Error);
  const std::string relative = std::filesystem::relative(path).string() + ".relative";
  EXPECT_EQ(ask("store backup", {{"path", relative}})["path"], path + ".relative");
  const auto missing = std::filesystem::path(path).parent_path() / "not" / "there";
  EXPECT_THROW(ask("store backup", {{"path", (missing / "copy.db").string()}}), Error);
  EXPECT_FALSE(std::filesystem::exists(missing.parent_path()));
}

TEST_F(OperationsTest, TokensAreShownOnce) {
  const json made = ask("token create", {{"name", "wall screen"}, {"role", "viewer"}});
  EXPECT_TRUE(hub_.tokens.check(made["token"].get<std::string>()));
  const json listed = ask("token list");
  EXPECT_EQ(listed.dump().find(made["token"].get<std::string>()), std::string::npos);
  EXPECT_EQ(ask("token revoke", {{"token", made["prefix"]}})["state"], "revoked");
  EXPECT_THROW(ask("token create", {{"name", "x"}, {"role", "king"}}), Error);
}

TEST_F(OperationsTest, PausingAllPausesAllThatAreActive) {
  connect();
  EXPECT_EQ(ask("sync pause")["connections"][0]["state"], "paused");
  EXPECT_EQ(ask("sync status")["trouble"], json({"main is paused: paused by tester"}));
  EXPECT_EQ(ask("sync resume", {{"connection", "main"}})["connections"][0]["state"], "active");
  EXPECT_THROW(ask("sync pause", {{"connection", "other"}}), Error);
}

TEST(Catalog, WhoeverChangesSomethingMaySayWhy) {
  const FakeHub hub;
  for (const auto& operation : hub.operations) {
    if (!operation.changes() || operation.audits_itself) continue;
    EXPECT_TRUE(std::any_of(operation.inputs.begin(), operation.inputs.end(), [](const Field& field) {
      return field.name == "reason" && field.type == Type::text;
    })) << operation.name;
  }
}

TEST_F(OperationsTest, EveryChangeLeavesAnEntryAndReadingLeavesNone) {
  connect();
  ask("connection list");
  EXPECT_THROW(ask("connection pause", {{"name", "other"}, {"reason", "why not"}}), Error);
  ask("connection update", {{"name", "main"}, {"size", 8}, {"secret", "open sesame"}});
  const json rows = entries();
  ASSERT_EQ(rows.size(), 3u) << rows.dump();
  EXPECT_EQ(rows[2]["action"], "connection.add");
  EXPECT_EQ(rows[2]["subject"], "main");
  EXPECT_EQ(rows[2]["actor"], "tester");
  EXPECT_EQ(rows[2]["outcome"], "ok");
  EXPECT_EQ(rows[1]["outcome"].get<std::string>().substr(0, 9), "refused: ");
  EXPECT_EQ(rows[1]["why"], "why not");
  EXPECT_EQ(json::parse(rows[0]["before"].get<std::string>())["settings"]["size"], 7);
  EXPECT_EQ(json::parse(rows[0]["after"].get<std::string>())["settings"]["size"], 8);
  EXPECT_EQ(rows.dump().find("sesame"), std::string::npos);
  EXPECT_TRUE(ask("audit verify")["ok"]);
}

TEST_F(OperationsTest, NoSecretGetsIntoTheAuditLog) {
  const json made = ask("token create", {{"name", "till"}});
  const auto token = made["token"].get<std::string>();
  EXPECT_THROW(ask("token revoke", {{"token", token}}), Error);  // its prefix was meant
  EXPECT_THROW(ask("connection add", {{"name", "x"}, {"url", "https://ann:hidden@host/"}, {"size", "no"}}), Error);
  ask("connection add", {{"name", "x"},
                         {"url", "https://ann:hidden@host/?a"},
                         {"secret", "open sesame"},
                         {"reason", "key " + token + " leaked"}});
  EXPECT_THROW(ask("job edit", {{"id", 7}, {"payload", R"({"password":"hidden","other":"seen"})"}}), Error);
  const std::string all = entries().dump();
  EXPECT_NE(all.find("seen"), std::string::npos) << all;
  EXPECT_EQ(all.find(token), std::string::npos) << all;
  EXPECT_EQ(all.find("hidden"), std::string::npos) << all;
  EXPECT_NE(all.find("https://ann:***@host/?a"), std::string::npos) << all;
  EXPECT_NE(all.find(token.substr(0, 10) + "***"), std::string::npos) << all;
}

TEST_F(OperationsTest, WhatCanNotBeNotedDoesNotBegin) {
  hub_.store->write([](store::Session& session) { session.execute("DROP TABLE audit_pending"); });
  EXPECT_THROW(connect(), Error);
  EXPECT_EQ(ask("connection list")["connections"], json::array());
}

TEST_F(OperationsTest, TheAuditLogIsFilteredExportedAndVerified) {
  for (int i = 0; i < 5; ++i) ask("token create", {{"name", "t" + std::to_string(i)}});
  connect();
  EXPECT_EQ(entries({{"action", "token create"}}).size(), 5u);
  EXPECT_EQ(entries({{"subject", "t3"}})[0]["number"], 4);
  EXPECT_EQ(entries({{"below", 3}}).size(), 2u);
  json page = ask("audit export", {{"page", 4}});
  EXPECT_EQ(page["entries"].size(), 4u);
  EXPECT_EQ(page["next"], 4);
  page = ask("audit export", {{"page", 4}, {"after", 4}});
  EXPECT_EQ(page["entries"].size(), 2u);
  EXPECT_EQ(page["next"], nullptr);
  const json noted = ask("audit verify");
  EXPECT_EQ(noted["entries"], 6);
  EXPECT_EQ(noted["hash"], page["entries"][1]["hash"]);
  EXPECT_TRUE(ask("audit verify", {{"number", 6}, {"hash", noted["hash"]}})["ok"]);
  EXPECT_THROW(ask("audit verify", {{"number", 6}}), Error);
  try {
    ask("audit verify", {{"number", 60}, {"hash", noted["hash"]}});
    ADD_FAILURE() << "there is no such entry";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::not_found);
    EXPECT_NE(error.message.find("no entry 60"), std::string::npos) << error.message;
  }
  EXPECT_EQ(ask("notification list")["problems"], json::array()) << "a slip is no alarm";
  hub_.store->write([](store::Session& session) { session.execute("DELETE FROM audit WHERE number = 6"); });
  EXPECT_EQ(ask("audit verify")["broken_at"], 6);
  EXPECT_EQ(ask("notification list")["problems"][0]["fingerprint"], "audit:broken");
}

TEST_F(OperationsTest, ProblemsAreListedAndMuted) {
  EXPECT_EQ(ask("notification list")["problems"], json::array());
  const json test = ask("notification test");
  EXPECT_EQ(test["ok"], false);
  EXPECT_NE(test["advice"].get<std::string>().find("notify.email_host"), std::string::npos);
  hub_.store->write([](store::Session& session) {
    notify::raise(session, {.fingerprint = "a:b", .severity = notify::Severity::critical, .title = "t"});
  });
  EXPECT_EQ(ask("notification list")["problems"][0]["state"], "untold");
  EXPECT_EQ(ask("notification mute", {{"fingerprint", "a:b"}})["state"], "muted");
  EXPECT_EQ(ask("notification mute", {{"fingerprint", "a:b"}, {"hours", 0}})["muted_until"], nullptr);
  EXPECT_THROW(ask("notification mute", {{"fingerprint", "c"}}), Error);
}

TEST_F(OperationsTest, SchedulesAreMadeChangedPausedAndRun) {
  connect();
  json made = ask("schedule add", {{"name", "stock"},
                                   {"kind", "sync.run"},
                                   {"connection", "main"},
                                   {"cron", "*/5 8-18 * * mon-fri"},
                                   {"zone", "Europe/Berlin"},
                                   {"payload", {{"models", {"thing"}}}}});
  EXPECT_EQ(made["state"], "active");
  EXPECT_EQ(made["when"], "*/5 8-18 * * mon-fri Europe/Berlin");
  ASSERT_EQ(made["upcoming"].size(), 3u);
  EXPECT_EQ(made["upcoming"][0], made["next"]);
  EXPECT_EQ(made["connection"], "main");
  EXPECT_EQ(made["payload"], json({{"models", {"thing"}}}));
  EXPECT_EQ(made["every_seconds"], nullptr);
  EXPECT_EQ(made["priority"], "low");
  made =
      ask("schedule update", {{"name", "stock"}, {"every_seconds", 5400}, {"jitter_seconds", 60}, {"connection", ""}});
  EXPECT_EQ(made["when"], "every 90 min, up to 1 min later");
  EXPECT_EQ(made["cron"], nullptr);
  EXPECT_EQ(made["connection"], nullptr);
  EXPECT_EQ(made["overlap"], "skip");
  EXPECT_EQ(ask("schedule update", {{"name", "stock"}, {"cron", "@daily"}, {"jitter_seconds", 0}})["when"],
            "@daily Europe/Berlin")
      << "what is not given stays";

  json run = ask("schedule run", {{"name", "stock"}});
  EXPECT_EQ(run["outcome"], "enqueued");
  const auto job = run["job"];
  run = ask("schedule run", {{"name", "stock"}});
  EXPECT_EQ(run["message"], "Nothing was started: the run before, job " + job.dump() +
                                ", is not finished, and two at once are not allowed.");
  const json shown = ask("schedule show", {{"name", "stock"}});
  ASSERT_EQ(shown["ticks"].size(), 2u);
  EXPECT_EQ(shown["ticks"][0]["outcome"], "overlap");
  EXPECT_EQ(shown["ticks"][0]["job"], job);
  EXPECT_EQ(shown["ticks"][0]["by"], "tester");
  EXPECT_EQ(shown["last_outcome"], "overlap");

  ask("schedule add", {{"name", "other"}, {"kind", "sync.certify"}, {"every_seconds", 60}});
  EXPECT_EQ(ask("schedule pause", {{"name", "other"}, {"reason", "stocktaking"}})["schedules"][0]["reason"],
            "stocktaking");
  EXPECT_EQ(ask("schedule pause")["schedules"].size(), 1u) << "one was paused already";
  const json listed = ask("schedule list");
  for (const auto& one : listed["schedules"]) {
    EXPECT_EQ(one["state"], "paused");
    EXPECT_EQ(one["next"], nullptr);
    EXPECT_EQ(one["upcoming"], json::array());
  }
  EXPECT_EQ(ask("schedule resume")["schedules"].size(), 2u);
  EXPECT_EQ(ask("schedule remove", {{"name", "other"}})["removed"], "other");
  EXPECT_EQ(ask("schedule list")["schedules"].size(), 1u);
}

TEST_F(OperationsTest, ASchedulesInputIsRefusedByNameWithWhatItTakes) {
  connect();
  const auto add = [&](json more) {
    json input = {{"name", "x"}, {"kind", "sync.run"}};
    input.update(more);
    return refusal([&] { ask("schedule add", input); });
  };
  EXPECT_EQ(add(json::object()), "A schedule needs a cron expression, such as `0 3 * * *`, or an interval.");
  EXPECT_NE(add({{"cron", "0 25 * * *"}}).find("The hour, 2nd of the five fields"), std::string::npos);
  EXPECT_NE(add({{"cron", "@daily"}, {"zone", "Berlin"}}).find("Did you mean `Europe/Berlin`?"), std::string::npos);
  EXPECT_EQ(add({{"cron", "@daily"}, {"kind", "sync.walk"}}),
            "There is no kind of job `sync.walk`. There are: sync.run, sync.certify.");
  EXPECT_NE(add({{"cron", "@daily"}, {"catch_up", "all"}}).find("needs `queue`"), std::string::npos);
  EXPECT_EQ(add({{"cron", "@daily"}, {"every_seconds", 60}}),
            "A schedule has a cron expression or an interval, not both.");
  EXPECT_THROW(ask("schedule add", {{"name", "x"}, {"kind", "sync.run"}, {"cron", "@daily"}, {"connection", "none"}}),
               Error);
  EXPECT_EQ(add({{"cron", "@daily"}, {"payload", {{"model", "thing"}}}}),
            "The payload has `model`; it takes models, full.");
  ask("schedule add", {{"name", "y"}, {"kind", "sync.certify"}, {"cron", "@daily"}});
  EXPECT_EQ(refusal([&] { ask("schedule update", {{"name", "y"}, {"payload", {{"bodies", "most"}}}}); }),
            "`bodies` of the payload is none, sample or all.");
  EXPECT_EQ(
      refusal([&] { ask("schedule update", {{"name", "y"}, {"kind", "sync.run"}, {"payload", {{"heal", true}}}}); }),
      "The payload has `heal`; it takes models, full.");
  EXPECT_THROW(ask("schedule show", {{"name", "x"}}), Error);
  const std::string no_zone =
      "A time zone belongs to a cron expression: an interval is counted in elapsed time. Leave `zone` out.";
  EXPECT_EQ(add({{"every_seconds", 60}, {"zone", "Europe/Berlin"}}), no_zone);
  EXPECT_EQ(add({{"every_seconds", 60}, {"zone", "UTC"}}), no_zone);
  EXPECT_EQ(refusal([&] { ask("schedule update", {{"name", "y"}, {"every_seconds", 60}, {"zone", "UTC"}}); }), no_zone);
}

TEST_F(OperationsTest, AConnectionThatIsNotThereIsSaidToBeTheReason) {
  connect();
  for (const auto& [operation, input] :
       {std::pair<const char*, json>{"inbox show", {{"connection", "nope"}, {"id", 1}}},
        {"sync log", {{"connection", "nope"}}}}) {
    try {
      ask(operation, input);
      ADD_FAILURE() << operation << " was accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::not_found) << operation;
      EXPECT_EQ(error.message, "There is no connection `nope`. There are: main.") << operation;
    }
  }
}

TEST_F(OperationsTest, OnlyWhatIsSaidToMarketplacesIsTraced) {
  connect();
  EXPECT_EQ(refusal([&] { ask("trace start", {{"connection", "main"}}); }),
            "`main` is a connection of kind `fake`: only what is said to marketplaces is traced.");
  EXPECT_EQ(ask("trace list", {}).at("traces"), json::array());
  EXPECT_THROW(ask("trace show", {{"id", 1}}), Error);
}

TEST_F(OperationsTest, TheSyncLogIsFoundByKindOutcomeAndText) {
  connect();
  const auto id = hub_.connections.get("main").id;
  hub_.store->write([&](store::Session& session) {
    for (const char* one : {"order_pull", "stock_sync", "order_pull"})
      session.execute(
          "INSERT INTO sync_log (connection_id, model, kind, started_us, finished_us, outcome, counts, errors) VALUES "
          "($1, 'order', $2, 0, 0, $3, '{}', $4)",
          {id, std::string(one), std::string(one[0] == 'o' ? "ok" : "failed"),
           std::string(one[0] == 'o' ? "[]" : R"(["no answer for Q7"])")});
  });
  const auto count = [&](const json& input) { return ask("sync log", input).at("runs").size(); };
  EXPECT_EQ(count({{"kind", "order_pull"}}), 2u);
  EXPECT_EQ(count({{"outcome", "failed"}}), 1u);
  EXPECT_EQ(count({{"text", "Q7"}}), 1u);
  const auto page = ask("sync log", {{"kind", "order_pull"}, {"limit", 1}});
  EXPECT_EQ(count({{"kind", "order_pull"}, {"before", page.at("next")}}), 1u);
}

TEST_F(OperationsTest, PeopleAreToldWhenAConnectionStopsForItsCredentials) {
  hub_.sync.start();
  ask("connection add", {{"name", "main"}, {"url", "x"}, {"secret", "not that one"}});
  while (ask("connection show", {{"name", "main"}})["state"] != "error") std::this_thread::yield();
  const json problem = ask("notification list")["problems"][0];
  EXPECT_EQ(problem["fingerprint"], "connection:main:auth");
  EXPECT_EQ(problem["severity"], "critical");
  EXPECT_EQ(problem.dump().find("not that one"), std::string::npos);
  hub_.sync.stop();
}

}  // namespace
}  // namespace dragoman::ops
