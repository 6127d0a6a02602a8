// The client against servers that run: real ones where they are up, and the stand-in. The names of the tests carry
// which one it was.
#include <gtest/gtest.h>

#include <atomic>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/random.h"
#include "fakes/odoo_servers.h"
#include "json/records.h"
#include "json/scan.h"
#include "odoo/client.h"
#include "sandbox/odoo/server.h"

namespace dragoman::odoo {
namespace {

using namespace std::chrono_literals;
using tests::OdooServer;
using Kind = Error::Kind;

struct Param {
  const char* server;  // Odoo19, Odoo14, StandIn19, StandIn14
  Transport transport;

  friend void PrintTo(const Param& param, std::ostream* out) { *out << param.server << ", " << name(param.transport); }
};

// One stand-in of each series for all tests that do not spoil it.
std::optional<OdooServer> server_named(const std::string& which) {
  if (!which.starts_with("StandIn")) return tests::odoo_server(which);
  const auto start = [](int series) {
    sandbox::odoo::Options options;
    options.series = series;
    auto server = std::make_unique<sandbox::odoo::Server>(options);
    server->start();
    return server;
  };
  static const auto nineteen = start(19), fourteen = start(14);
  const auto& server = which == "StandIn19" ? *nineteen : *fourteen;
  return OdooServer{.url = server.url(),
                    .database = server.options().db,
                    .login = "admin",
                    .password = server.options().admin_password,
                    .api_key = server.options().admin_key,
                    .version = which.substr(7)};
}

class OdooLive : public ::testing::TestWithParam<Param> {
 protected:
  void SetUp() override {
    server_ = server_named(GetParam().server);
    DRAGOMAN_NEED_SERVER(server_, GetParam().server);
  }
  Settings settings() const { return settings(GetParam().transport); }
  Settings settings(Transport transport) const {
    Settings settings;
    settings.url = server_->url;
    settings.database = server_->database;
    settings.login = server_->login;
    settings.password = Secret(transport == Transport::json2 ? server_->api_key : server_->password);
    settings.transport = transport;
    return settings;
  }
  std::unique_ptr<Client> client() { return std::make_unique<Client>(settings(), clock_); }
  std::unique_ptr<Client> client(Settings settings) { return std::make_unique<Client>(std::move(settings), clock_); }

  template <typename Work>
  static Error failure(const Work& work) {
    try {
      work();
    } catch (const Error& error) {
      EXPECT_EQ(error.message.find("Traceback"), std::string::npos);
      return error;
    }
    return Error(Kind::bug, "no error");
  }
  static json::FieldKinds odoo_kinds(Client& one) {
    return json::FieldKinds::from_fields_get(one.fields_get("res.partner", {"type"}, {}).result());
  }
  static std::string unique(const std::string& name) {
    SystemRandom random;
    return name + " " + random_hex(random, 6);
  }

  std::optional<OdooServer> server_;
  SystemClock clock_;
};

TEST_P(OdooLive, FindsOutVersionDatabaseAndUser) {
  const auto one = client();
  const int major = std::string(GetParam().server).ends_with("19") ? 19 : 14;
  EXPECT_EQ(one->version().major, major);
  EXPECT_FALSE(one->version().saas);
  // The stand-in has not all the methods of a real one's users.
  const bool stand_in = std::string(GetParam().server).starts_with("StandIn");
  if (!stand_in || GetParam().transport != Transport::json2) {
    EXPECT_EQ(one->user_id(), 2);
  }
  auto open = settings();
  open.database.clear();
  open.transport.reset();
  const auto chosen = client(open);
  EXPECT_EQ(chosen->transport(), GetParam().transport == Transport::json2 ? Transport::json2 : Transport::json_rpc);
}

TEST_P(OdooLive, TakesAnApiKeyInPlaceOfThePassword) {
  auto with_key = settings();
  with_key.password = Secret(server_->api_key);
  EXPECT_GT(client(with_key)->search_count("res.partner", {}, {}), 0);
}

TEST_P(OdooLive, GivesTheSameAnswerByEveryTransport) {
  // Byte for byte, but for texts by XML-RPC: whether \u00e9 stands there or the letter is the server's JSON writer's matter.
  const auto comparable = [](std::string_view json) {
    return GetParam().transport == Transport::xml_rpc ? nlohmann::json::parse(json).dump() : std::string(json);
  };
  const auto one = client(), other = client(settings(Transport::json_rpc));
  // Numbers with fractions come from a model that the stand-in does not have.
  const std::string model = std::string(GetParam().server).starts_with("StandIn") ? "res.partner" : "res.currency";
  for (const Names names : {Names::ids, Names::names}) {
    const Answer numbers = one->search_read(model, {}, {.limit = 10, .names = names}, {});
    const Answer other_numbers = other->search_read(model, {}, {.limit = 10, .names = names}, {});
    EXPECT_EQ(comparable(numbers.result()), comparable(other_numbers.result()));
    const ReadOptions read{.fields = {"name", "write_date", "country_id", "category_id", "active", "comment",
                                      "child_ids", "company_id", "customer_rank"},
                           .limit = 40,
                           .names = names};
    const CallOptions archived_too{.context = R"({"active_test":false})"};
    const Answer here = one->search_read("res.partner", {}, read, archived_too);
    const Answer there = other->search_read("res.partner", {}, read, archived_too);
    EXPECT_EQ(comparable(here.result()), comparable(there.result()));
    EXPECT_NE(here.result(), "[]");
    EXPECT_GE(here.json.capacity() - here.end, 64u);
    EXPECT_LE(here.sent, here.received);
    EXPECT_TRUE(here.server_date);
  }
}

TEST_P(OdooLive, NamesAreNotPartOfTheDigestAndIdsModeIsTheSameRecord) {
  const auto one = client();
  const auto kinds = odoo_kinds(*one);
  ReadOptions read{.fields = {"name", "country_id", "category_id", "company_id", "user_id", "write_date"}, .limit = 25};
  read.names = Names::ids;
  const Answer ids = one->search_read("res.partner", Domain::where("country_id", "!=", false), read, {});
  read.names = Names::names;
  const Answer names = one->search_read("res.partner", Domain::where("country_id", "!=", false), read, {});
  json::PageReader a(kinds), b(kinds);
  const auto first = a.parse(ids.result()), second = b.parse(names.result());
  ASSERT_EQ(first.size(), second.size());
  ASSERT_GT(first.size(), 0u);
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].id, second[i].id);
    EXPECT_EQ(first[i].digest, second[i].digest) << first[i].raw << "\n" << second[i].raw;
    EXPECT_NE(first[i].raw, second[i].raw);
    EXPECT_TRUE(first[i].write_date);
  }
}

TEST_P(OdooLive, PagesByIdWithoutMissingOne) {
  const auto one = client();
  const auto all = one->search("res.country", {}, {}, {});
  std::vector<std::int64_t> paged;
  json::PageReader reader({});
  for (std::int64_t last = 0;;) {
    const Answer page = one->search_read("res.country", Domain::where("id", ">", last),
                                         {.fields = {"write_date"}, .limit = 100}, {.lane = Lane::bulk});
    const auto records = reader.parse(page.result());
    if (records.empty()) break;
    for (const auto& record : records) paged.push_back(record.id);
    last = paged.back();
  }
  EXPECT_EQ(paged, all);
  EXPECT_EQ(std::int64_t(all.size()), one->search_count("res.country", {}, {}));
}

TEST_P(OdooLive, KeepsBulkWorkBelowTheWorkersOfTheServer) {
  constexpr int kWorkers = 2;  // of the servers that tests run on
  const auto one = client();
  // Pages that take real ones a while.
  const bool stand_in = std::string(GetParam().server).starts_with("StandIn");
  const std::string model = stand_in ? "res.country" : "ir.model.fields";
  std::atomic<int> calls{0}, places{0}, bulk_most{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 6; ++i)
    threads.emplace_back([&] {
      while (calls++ < 100) {
        one->search_read(model, {}, {.fields = {"name", "write_date"}, .limit = 500}, {.lane = Lane::bulk});
        const auto stats = one->stats();
        places = std::max(places.load(), stats.places);
        bulk_most = std::max(bulk_most.load(), stats.bulk_places);
      }
    });
  // A person's call is answered meanwhile.
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(one->search("res.company", {}, {}, {}).empty());
  threads.clear();
  EXPECT_LE(places, kWorkers);
  EXPECT_LE(bulk_most, kWorkers - 1);
  EXPECT_EQ(one->stats().failures, 0);
}

TEST_P(OdooLive, WritesAndReadsBackWhatNobodyExpects) {
  const auto one = client();
  const std::string name = unique("Zoë <b>&amp; \"quotes\" \\ back 😀 مصر");
  const std::string comment = "  two spaces\nnew line\ttab ' or 1=1 --";
  const auto ids =
      one->create("res.partner", nlohmann::json::array({{{"name", name}, {"ref", comment}}, {{"name", name}}}), {});
  ASSERT_EQ(ids.size(), 2u);
  EXPECT_EQ(one->search_count("res.partner", Domain::where("name", "=", name), {}), 2);
  const Answer answer = one->read("res.partner", ids, {.fields = {"name", "ref"}}, {});
  const auto rows = nlohmann::json::parse(answer.result());
  EXPECT_EQ(rows[0]["name"], name);
  EXPECT_EQ(rows[0]["ref"], comment);
  EXPECT_EQ(rows[1]["ref"], false);
  one->write("res.partner", ids, {{"active", false}}, {});
  EXPECT_EQ(one->search_count("res.partner", Domain::where("name", "=", name), {}), 0);
  EXPECT_EQ(one->search_count("res.partner", Domain::where("name", "=", name), {.context = R"({"active_test":false})"}),
            2);
  one->unlink("res.partner", ids, {});
  EXPECT_EQ(one->read("res.partner", ids, {.fields = {"name"}}, {}).result(), "[]");
  EXPECT_EQ(failure([&] { one->write("res.partner", ids, {{"name", "x"}}, {}); }).code, "odoo_missing");
}

TEST_P(OdooLive, LoadGivesTheSameRecordForTheSameExternalId) {
  const auto one = client();
  const std::string external = "dragoman_test." + unique("p").substr(2);
  const auto load = [&](const std::string& name) {
    return nlohmann::json::parse(
        one->load("res.partner", {"id", "name"}, nlohmann::json::array({{external, name}}), {}).result());
  };
  const auto first = load("One"), second = load("Two");
  ASSERT_TRUE(first["ids"].is_array()) << first;
  EXPECT_EQ(first["ids"], second["ids"]);
  const auto bad = nlohmann::json::parse(
      one->load("res.partner", {"id", "country_id/.id"}, nlohmann::json::array({{external + "x", "99999999"}}), {})
          .result());
  EXPECT_EQ(bad["ids"], false);
  EXPECT_FALSE(bad["messages"].empty());
  one->unlink("res.partner", {first["ids"][0].get<std::int64_t>()}, {});
}

TEST_P(OdooLive, TellsErrorsApart) {
  const auto one = client();
  const auto code = [&](const auto& work) {
    const Error error = failure(work);
    return std::string(policy(error.kind).name) + " " + error.code;
  };
  EXPECT_EQ(code([&] { one->search_count("no.such.model", {}, {}); }), "not_found odoo_model");
  EXPECT_EQ(code([&] { one->call("res.partner", "no_such_method", "", "", {}); }), "not_found odoo_method");
  EXPECT_EQ(code([&] { one->write("res.partner", {99'999'999}, {{"name", "x"}}, {}); }), "not_found odoo_missing");
  EXPECT_EQ(code([&] {
              one->search_read("res.partner", {}, {.fields = {"no_such_field"}, .names = Names::names}, {});
            }).substr(0, 7),
            "invalid");
  EXPECT_EQ(code([&] { one->search_count("res.partner", Domain::where("no_such_field", "=", 1), {}); }).substr(0, 7),
            "invalid");
  EXPECT_EQ(code([&] { one->call("res.partner", "_compute_display_name", "[[1]]", "", {}); }), "forbidden odoo_access");
  EXPECT_EQ(code([&] { one->search_count("res.partner", {}, {.companies = {99'999}}); }), "forbidden odoo_access");
  EXPECT_EQ(code([&] {
              one->create("res.partner", nlohmann::json::array({{{"name", false}, {"type", "contact"}}}), {});
            }).substr(0, 7),
            "invalid");
}

TEST_P(OdooLive, AWrongPasswordIsAnAuthError) {
  auto wrong = settings();
  wrong.password = Secret("0123456789abcdef0123456789abcdef01234567");
  const Error error = failure([&] { client(wrong)->search_count("res.partner", {}, {}); });
  EXPECT_EQ(error.kind, Kind::auth);
  EXPECT_EQ(error.code, "odoo_auth");
  EXPECT_EQ(error.message.find("0123456789"), std::string::npos);
}

TEST_P(OdooLive, AWrongDatabaseIsNamed) {
  auto wrong = settings();
  wrong.database = "no_such_database";
  const Error error = failure([&] { client(wrong)->search_count("res.partner", {}, {}); });
  EXPECT_EQ(error.kind, Kind::not_found);
  EXPECT_EQ(error.code, "odoo_database");
  EXPECT_NE(error.message.find("no_such_database"), std::string::npos) << error.message;
}

TEST_P(OdooLive, AnAccountWithoutRightsIsForbiddenByModelAndSaysWhich) {
  const auto one = client();
  const int major = one->version().major;
  const std::string login = unique("hub_limited");
  const std::string password = "limited " + login;
  // A user in no group at all can log in, and may read next to nothing.
  const auto user =
      one->create("res.users",
                  nlohmann::json{{"name", login},
                                 {"login", login},
                                 {"password", password},
                                 {major >= 19 ? "group_ids" : "groups_id", {{6, 0, nlohmann::json::array()}}}},
                  {});
  auto limited = settings(GetParam().transport == Transport::json2 ? Transport::json_rpc : GetParam().transport);
  limited.login = login;
  limited.password = Secret(password);
  const auto poor = client(limited);
  const Error error = failure([&] { poor->search_count("ir.model.access", {}, {}); });
  EXPECT_EQ(error.kind, Kind::forbidden);
  EXPECT_EQ(error.code, "odoo_access");
  EXPECT_NE(error.message.find("ir.model.access"), std::string::npos) << error.message;
  one->write("res.users", user, {{"active", false}}, {});
}

TEST_P(OdooLive, AMethodWithoutAResultAnswersNull) {
  if (GetParam().server == std::string("StandIn14")) GTEST_SKIP() << "the stand-in has no such method before 17";
  const auto one = client();
  const auto partner = one->search("res.partner", {}, {.limit = 1}, {});
  const auto order = one->create("sale.order", nlohmann::json{{"partner_id", partner.at(0)}}, {});
  EXPECT_EQ(one->call("sale.order", "action_unlock", "[[" + std::to_string(order.at(0)) + "]]", "", {}).result(),
            "null");
}

TEST_P(OdooLive, KnowsTheKindsOfFields) {
  const auto kinds = odoo_kinds(*client());
  EXPECT_EQ(kinds.of("country_id"), json::FieldKind::many2one);
  EXPECT_EQ(kinds.of("category_id"), json::FieldKind::many2many);
  EXPECT_EQ(kinds.of("child_ids"), json::FieldKind::one2many);
  EXPECT_EQ(kinds.of("name"), json::FieldKind::plain);
}

std::string transport_of(const ::testing::TestParamInfo<Param>& info) {
  return std::string(name(info.param.transport));
}

INSTANTIATE_TEST_SUITE_P(Odoo19, OdooLive,
                         ::testing::Values(Param{"Odoo19", Transport::json_rpc}, Param{"Odoo19", Transport::xml_rpc},
                                           Param{"Odoo19", Transport::json2}),
                         transport_of);
INSTANTIATE_TEST_SUITE_P(Odoo14, OdooLive,
                         ::testing::Values(Param{"Odoo14", Transport::json_rpc}, Param{"Odoo14", Transport::xml_rpc}),
                         transport_of);
INSTANTIATE_TEST_SUITE_P(StandIn19, OdooLive,
                         ::testing::Values(Param{"StandIn19", Transport::json_rpc},
                                           Param{"StandIn19", Transport::xml_rpc},
                                           Param{"StandIn19", Transport::json2}),
                         transport_of);
INSTANTIATE_TEST_SUITE_P(StandIn14, OdooLive,
                         ::testing::Values(Param{"StandIn14", Transport::json_rpc},
                                           Param{"StandIn14", Transport::xml_rpc}),
                         transport_of);

// --- bad days, on demand
// -----------------------------------------------------------------------------------------------

class OdooBadDayStandIn : public ::testing::Test {
 protected:
  OdooBadDayStandIn() : server_(options()) { server_.start(); }
  static sandbox::odoo::Options options() {
    sandbox::odoo::Options options;
    options.seed_data = "none";
    return options;
  }
  std::unique_ptr<Client> client(http::ClientSettings http = {}) {
    Settings settings;
    settings.url = server_.url();
    settings.database = server_.options().db;
    settings.login = "admin";
    settings.password = Secret(server_.options().admin_key);
    settings.http = std::move(http);
    auto made = std::make_unique<Client>(std::move(settings), clock_);
    made->search_count("res.partner", {}, {});  // so that a fault hits the call and not the way to it
    return made;
  }
  void fault(const std::string& method, nlohmann::ordered_json action) {
    server_.control("POST", "/faults", {{"match", {{"method", method}, {"times", 1}}}, {"action", std::move(action)}});
  }
  template <typename Work>
  static std::string outcome(const Work& work) {
    try {
      work();
      return "done";
    } catch (const Error& error) {
      return std::string(policy(error.kind).name) + " " + error.code;
    }
  }
  static void create(Client& one, const std::string& name) {
    one.create("res.partner", nlohmann::json{{"name", name}}, {});
  }
  static std::int64_t count(Client& one, const std::string& name) {
    return one.search_count("res.partner", Domain::where("name", "=", name), {});
  }

  SystemClock clock_;
  sandbox::odoo::Server server_;
};

TEST_F(OdooBadDayStandIn, AWriteWhoseAnswerIsLostIsInDoubtWhetherOrNotItWasDone) {
  const auto one = client();
  fault("create", {{"kind", "reset_after_commit"}});
  EXPECT_EQ(outcome([&] { create(*one, "After"); }), "in_doubt reset");
  EXPECT_EQ(count(*one, "After"), 1);
  fault("create", {{"kind", "reset_before"}});
  EXPECT_EQ(outcome([&] { create(*one, "Before"); }), "in_doubt reset");
  EXPECT_EQ(count(*one, "Before"), 0);
  fault("create", {{"kind", "worker_killed"}});
  EXPECT_EQ(outcome([&] { create(*one, "Killed"); }), "in_doubt reset");
  EXPECT_EQ(count(*one, "Killed"), 0);
  fault("create", {{"kind", "cut"}, {"at", 1}});
  EXPECT_EQ(outcome([&] { create(*one, "Cut"); }), "in_doubt cut");
  EXPECT_EQ(count(*one, "Cut"), 1);
  fault("create", {{"kind", "status"}, {"status", 504}, {"after_commit", true}});
  EXPECT_EQ(outcome([&] { create(*one, "Gateway"); }), "in_doubt http_gateway");
  EXPECT_EQ(count(*one, "Gateway"), 1);
}

TEST_F(OdooBadDayStandIn, AReadWhoseAnswerIsLostMayBeRepeated) {
  const auto one = client();
  for (const char* kind : {"reset_before", "worker_killed", "cut"}) {
    fault("search_read", {{"kind", kind}, {"at", 10}});
    const std::string got = outcome([&] { one->search_read("res.country", {}, {.limit = 50}, {}); });
    EXPECT_EQ(got.substr(0, 11), "unavailable") << kind << ": " << got;
    EXPECT_EQ(outcome([&] { one->search_read("res.country", {}, {.limit = 50}, {}); }), "done");
  }
}

TEST_F(OdooBadDayStandIn, AServerThatIsTooSlowIsATimeout) {
  const auto one = client({.idle_timeout = 300ms});
  fault("search_read", {{"kind", "slow"}, {"ms", 1500}});
  EXPECT_EQ(outcome([&] { one->search_read("res.country", {}, {}, {}); }), "unavailable timeout");
  fault("create", {{"kind", "slow"}, {"ms", 1500}});
  EXPECT_EQ(outcome([&] { create(*one, "Late"); }), "in_doubt timeout");
}

TEST_F(OdooBadDayStandIn, PagesThatAreNotWholeAreNeverTakenForSome) {
  const auto one = client();
  json::PageReader reader({});
  const auto page = [&] {
    const Answer answer = one->search_read("res.country", {}, {.limit = 50}, {});
    reader.parse(answer.result());
  };
  for (const auto& action : {nlohmann::ordered_json{{"kind", "truncated"}},
                             {{"kind", "wrong_json"}},
                             {{"kind", "invalid_utf8"}},
                             {{"kind", "deep"}},
                             {{"kind", "replace"}},
                             {{"kind", "redirect"}, {"location", "https://elsewhere.example.com/"}}}) {
    fault("search_read", action);
    const std::string got = outcome(page);
    EXPECT_EQ(got.substr(0, 8), "protocol") << action << ": " << got;
    EXPECT_EQ(outcome(page), "done");
  }
}

TEST_F(OdooBadDayStandIn, AGigabyteIsRefusedWithoutBeingKept) {
  const auto one = client({.body_bytes_max = 8 << 20});
  fault("search_read", {{"kind", "giant"}});
  EXPECT_EQ(outcome([&] { one->search_read("res.country", {}, {}, {}); }), "protocol too_large");
}

TEST_F(OdooBadDayStandIn, IdsOver32BitsArriveWhole) {
  const auto one = client();
  fault("search_read", {{"kind", "big_ids"}});
  const Answer answer = one->search_read("res.country", {}, {.limit = 3}, {});
  json::PageReader reader({});
  for (const auto& record : reader.parse(answer.result())) EXPECT_GT(record.id, std::int64_t{1} << 40);
}

TEST_F(OdooBadDayStandIn, ABusyServerSaysWhenToComeBack) {
  const auto one = client();
  fault("search_read", {{"kind", "status"}, {"status", 429}, {"retry_after", 7}});
  try {
    one->search_read("res.country", {}, {}, {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Kind::busy);
    EXPECT_EQ(error.retry_after, 7s);
  }
}

TEST_F(OdooBadDayStandIn, StopsACallInFlightAndOneThatWaits) {
  const auto one = client();
  server_.control("POST", "/faults",
                  {{"match", {{"method", "search_read"}}}, {"action", {{"kind", "slow"}, {"ms", 3000}}}});
  std::stop_source source;
  std::vector<std::thread> threads;
  threads.reserve(8);
  std::atomic<int> cancelled = 0;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      const std::string got = outcome(
          [&] { one->search_read("res.country", {}, {.limit = 1}, {.lane = Lane::bulk, .stop = source.get_token()}); });
      if (got.starts_with("cancelled")) ++cancelled;
    });
  while (server_.control("GET", "/state", {})["open_peak"] < 1) std::this_thread::yield();
  source.request_stop();
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(cancelled, 4);
}

// --- how many at once
// ----------------------------------------------------------------------------------------------------

class GateLiveStandIn : public ::testing::TestWithParam<int> {};

TEST_P(GateLiveStandIn, LearnsItsWorkers) {
  sandbox::odoo::Options options;
  options.workers = GetParam();
  options.seed_data = "none";
  sandbox::odoo::Server server(options);
  server.start();
  server.control("POST", "/faults",
                 {{"match", {{"method", "search_read"}}}, {"action", {{"kind", "slow"}, {"ms", 400}}}});
  SystemClock clock;
  Settings settings;
  settings.url = server.url();
  settings.database = options.db;
  settings.login = "admin";
  settings.password = Secret(options.admin_key);
  settings.trial_spacing = 5s;
  Client one(std::move(settings), clock);
  std::stop_source source;
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int i = 0; i < GetParam() + 3; ++i)
    threads.emplace_back([&] {
      while (!source.stop_requested()) one.search_read("res.country", {}, {.limit = 5}, {.lane = Lane::bulk});
    });
  // It takes some two seconds for each worker; a minute is for machines that do much else.
  const Micros until = clock.steady() + Micros(60s);
  while (one.stats().learnt_workers < GetParam() && clock.steady() < until) clock.wait(20ms, {});
  EXPECT_EQ(one.stats().learnt_workers, GetParam());
  EXPECT_EQ(one.stats().bulk_places, GetParam() - 1);
  source.request_stop();
  for (auto& thread : threads) thread.join();
  // Never more connections at once than it has learnt to use, a trial and a probe.
  EXPECT_LE(server.control("GET", "/state", {})["open_peak"], GetParam() + 2);
}

INSTANTIATE_TEST_SUITE_P(Workers, GateLiveStandIn, ::testing::Values(2, 4));

}  // namespace
}  // namespace dragoman::odoo
