#include "odoo/client.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "fakes/fake_http.h"
#include "fakes/hand_clock.h"
#include "json/records.h"
#include "odoo/arguments.h"

namespace dragoman::odoo {
namespace {

using fakes::FakeHttp;
using nlohmann::json;
using Kind = Error::Kind;

constexpr const char* kKey = "0123456789abcdef0123456789abcdef01234567";

// A little Odoo of one version: logins, and a made-up answer to every model call.
class OdooClient : public ::testing::Test {
 protected:
  struct Setup {
    int major = 19;
    Transport transport = Transport::json_rpc;
    std::string secret = "correct horse";
    std::string database = "shop";
    FakeHttp::Handler model;  // what a call of a model gets
  };

  std::unique_ptr<Client> client(Setup setup) {
    Settings settings;
    settings.url = "https://erp.example.com/web/login?x=1";
    settings.database = setup.database;
    settings.login = "hub";
    settings.password = Secret(setup.secret);
    settings.transport = setup.transport;
    return std::make_unique<Client>(std::move(settings), clock_, std::make_unique<FakeHttp>(server(setup), log_));
  }

  static FakeHttp::Handler server(Setup setup) {
    return [setup](const http::Request& request) -> http::Response {
      const std::string path = request.target.substr(std::string("https://erp.example.com").size());
      if (path == "/web/version")
        return setup.major >= 19 ? FakeHttp::json(R"({"version_info":[19,0,0,"final",0,""],"version":"19.0"})")
                                 : FakeHttp::html(404);
      if (path == "/jsonrpc") {
        const auto call = json::parse(request.body)["params"];
        if (call["method"] == "version") return rpc(fmt_version(setup.major));
        if (call["method"] == "authenticate") return rpc(call["args"][2] == setup.secret ? "7" : "false");
        if (call["service"] == "db") return rpc(R"(["shop","test"])");
      }
      if (path.starts_with("/xmlrpc/2/common")) return xml("<int>7</int>");
      return setup.model(request);
    };
  }
  static std::string fmt_version(int major) {
    return "{\"server_version\":\"" + std::to_string(major) + ".0\",\"server_version_info\":[" + std::to_string(major) +
           ",0,0,\"final\",0,\"\"],\"server_serie\":\"x\",\"protocol_version\":1}";
  }
  static http::Response rpc(const std::string& result) {
    return FakeHttp::json(R"({"jsonrpc": "2.0", "id": 1, "result": )" + result + "}");
  }
  static http::Response xml(const std::string& value) {
    return {200,
            {{"Content-Type", "text/xml"}},
            "<?xml version='1.0'?><methodResponse><params><param><value>" + value +
                "</value></param></params></methodResponse>"};
  }
  static http::Response rpc_error(const std::string& name, const std::string& message) {
    return FakeHttp::json(
        json{{"jsonrpc", "2.0"},
             {"id", 1},
             {"error",
              {{"code", 200},
               {"message", "Odoo Server Error"},
               {"data", {{"name", name}, {"message", message}, {"debug", "Traceback /srv/secret.py"}}}}}}
            .dump());
  }

  static Error failure(Client& client, const CallOptions& options = {}) {
    try {
      client.call("res.partner", "read", "[[1]]", "", options);
    } catch (const Error& error) {
      return error;
    }
    return Error(Kind::bug, "no error");
  }
  Error failure(http::Response response) { return failure(std::move(response), Setup{}, {}); }
  Error failure(http::Response response, Setup setup, const CallOptions& options = {}) {
    setup.model = [response](const http::Request&) { return response; };
    const auto one = client(setup);
    return failure(*one, options);
  }

  tests::HandClock clock_;
  std::shared_ptr<FakeHttp::Log> log_ = std::make_shared<FakeHttp::Log>();
};

TEST_F(OdooClient, ReadsVersionsIncludingThoseOfHostedServers) {
  EXPECT_EQ(parse_version(R"([19,0,0,"final",0,""])", "19.0")->major, 19);
  const auto saas = parse_version(R"(["saas~18",2,0,"final",0,"e"])", "saas~18.2+e");
  ASSERT_TRUE(saas);
  EXPECT_TRUE(saas->saas);
  EXPECT_EQ(saas->major, 18);
  EXPECT_EQ(saas->minor, 2);
  EXPECT_EQ(parse_version(R"(["saas~18.3",0])", "")->minor, 3);
  for (const char* text : {"", "[]", "{}", "[\"x\"]", "[null]", "[0]"}) EXPECT_FALSE(parse_version(text, "")) << text;
}

TEST_F(OdooClient, ChoosesTheTransportByVersionAndSecret) {
  const auto chosen = [&](int major, std::string secret) {
    Settings settings;
    settings.url = "https://erp.example.com";
    settings.login = "hub";
    settings.password = Secret(secret);
    Client one(std::move(settings), clock_, std::make_unique<FakeHttp>(server({.major = major, .secret = secret})));
    return one.transport();
  };
  EXPECT_EQ(chosen(19, kKey), Transport::json2);
  EXPECT_EQ(chosen(19, "a password"), Transport::json_rpc);
  EXPECT_EQ(chosen(18, kKey), Transport::json_rpc);
  EXPECT_EQ(chosen(14, kKey), Transport::json_rpc);
}

TEST_F(OdooClient, FindsThingsOutOnce) {
  const auto one = client({.model = [](const http::Request&) { return rpc("3"); }});
  for (int i = 0; i < 3; ++i) EXPECT_EQ(one->search_count("res.partner", {}, {}), 3);
  EXPECT_EQ(one->user_id(), 7);
  EXPECT_EQ(one->version().major, 19);
  EXPECT_EQ(log_->all().size(), 5u);  // version, login, three calls
}

TEST_F(OdooClient, JsonRpcCallsCarryLoginContextAndCompanies) {
  const auto one = client({.model = [](const http::Request&) { return rpc("[]"); }});
  CallOptions options;
  options.companies = {3, 1};
  options.context = R"({"active_test":false})";
  one->search_read("res.partner", Domain::where("id", ">", 5), {.fields = {"name"}, .limit = 10}, options);
  const auto args = json::parse(log_->last().body)["params"]["args"];
  EXPECT_EQ(args[0], "shop");
  EXPECT_EQ(args[1], 7);
  EXPECT_EQ(args[2], "correct horse");
  EXPECT_EQ(args[3], "res.partner");
  EXPECT_EQ(args[4], "search_read");
  EXPECT_EQ(args[6], json::parse(R"({"domain":[["id",">",5]],"fields":["name"],"limit":10,"order":"id","load":"",
      "context":{"allowed_company_ids":[3,1],"company_id":3,"active_test":false}})"));
}

TEST_F(OdooClient, Json2CallsHaveNamedArgumentsAndTheKeyInAHeader) {
  const auto one = client({.transport = Transport::json2, .secret = kKey, .model = [](const http::Request& request) {
                             return FakeHttp::json(request.target.ends_with("create") ? "[50,51]" : "true");
                           }});
  EXPECT_EQ(one->create("res.partner", json::parse(R"([{"name":"a"},{"name":"b"}])"), {}),
            (std::vector<std::int64_t>{50, 51}));
  const auto request = log_->last();
  EXPECT_EQ(request.target, "https://erp.example.com/json/2/res.partner/create");
  EXPECT_EQ(request.headers.find("Authorization"), std::string("bearer ") + kKey);
  EXPECT_EQ(request.headers.find("X-Odoo-Database"), "shop");
  EXPECT_EQ(json::parse(request.body), json::parse(R"({"vals_list":[{"name":"a"},{"name":"b"}]})"));
  one->write("res.partner", {5}, {{"name", "c"}}, {.companies = {2}});
  EXPECT_EQ(json::parse(log_->last().body),
            json::parse(R"({"ids":[5],"vals":{"name":"c"},"context":{"allowed_company_ids":[2],"company_id":2}})"));
  EXPECT_EQ(log_->all().size(), 3u) << "no login is needed";
}

TEST(NamedArguments, FollowTheTableOrAreRefused) {
  EXPECT_EQ(named_arguments("write", R"([[1],{"a":2}])", ""), R"("ids":[1],"vals":{"a":2})");
  EXPECT_EQ(named_arguments("write", R"([1,{"a":2}])", ""), R"("ids":[1],"vals":{"a":2})");
  EXPECT_EQ(named_arguments("create", R"([{"a":2}])", ""), R"("vals_list":[{"a":2}])");
  EXPECT_EQ(named_arguments("action_confirm", "[[5,6]]", R"({"context":{}})"), R"("ids":[5,6],"context":{})");
  EXPECT_EQ(named_arguments("hub_import", "", R"({"payload":{}})"), R"("payload":{})");
  EXPECT_THROW(named_arguments("hub_import", "[{}]", ""), Error);
  EXPECT_THROW(named_arguments("unlink", "[[1],2]", ""), Error);
  EXPECT_THROW(named_arguments("write", "{}", ""), Error);
}

TEST_F(OdooClient, IdsModeBefore17IsASearchAndARead) {
  for (const int major : {14, 16}) {
    const auto one = client({.major = major, .model = [](const http::Request& request) {
                               const auto args = json::parse(request.body)["params"]["args"];
                               return rpc(args[4] == "search" ? "[4, 9]" : R"([{"id": 4}, {"id": 9}])");
                             }});
    log_->requests.clear();
    const Answer answer = one->search_read("res.partner", {}, {.fields = {"name"}, .limit = 2}, {});
    EXPECT_EQ(answer.result(), R"([{"id": 4}, {"id": 9}])");
    const auto all = log_->all();
    const auto search = json::parse(all[all.size() - 2].body)["params"]["args"],
               read = json::parse(all.back().body)["params"]["args"];
    EXPECT_EQ(search[4], "search");
    EXPECT_EQ(search[6], json::parse(R"({"limit":2,"order":"id"})"));
    EXPECT_EQ(read[5], json::parse("[[4,9]]"));
    EXPECT_EQ(read[6], json::parse(R"({"fields":["name"],"load":""})"));
  }
}

TEST_F(OdooClient, NoResultIsNull) {
  const auto json_rpc =
      client({.model = [](const http::Request&) { return FakeHttp::json(R"({"jsonrpc":"2.0","id":1})"); }});
  EXPECT_EQ(json_rpc->call("sale.order", "action_lock", "[[5]]", "", {}).result(), "null");
  const auto json2 = client({.transport = Transport::json2, .secret = kKey, .model = [](const http::Request&) {
                               return FakeHttp::json("null");
                             }});
  EXPECT_EQ(json2->call("sale.order", "action_lock", "[[5]]", "", {}).result(), "null");
  const auto xml_rpc =
      client({.transport = Transport::xml_rpc, .model = [](const http::Request&) -> http::Response {
                return {200,
                        {{"Content-Type", "text/xml"}},
                        "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1"
                        "</int></value></member><member><name>faultString</name><value><string>TypeError: "
                        "cannot marshal None unless allow_none is enabled</string></value></member>"
                        "</struct></value></fault></methodResponse>"};
              }});
  // It was done, although Odoo cannot say so; for a reading call the None may be anywhere.
  EXPECT_EQ(xml_rpc->call("sale.order", "action_lock", "[[5]]", "", {}).result(), "null");
  try {
    xml_rpc->call("sale.order", "read", "[[5]]", "", {.read_only = true});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "xml_rpc_none");
  }
}

TEST_F(OdooClient, AnswersHaveRoomBehindTheirEnd) {
  const auto one = client({.model = [](const http::Request&) { return rpc(R"([{"id": 1}])"); }});
  const Answer answer = one->search_read("res.partner", {}, {}, {});
  EXPECT_GE(answer.json.capacity() - answer.end, 64u);
  EXPECT_EQ(answer.sent, clock_.steady());
}

struct NamedFault {
  const char* name;
  const char* message;
  Kind kind;
  const char* code;
};

TEST_F(OdooClient, TellsErrorsApartByOdoosOwnNames) {
  for (const NamedFault& fault : {
           NamedFault{"odoo.exceptions.AccessDenied", "Access Denied", Kind::auth, "odoo_auth"},
           {"werkzeug.exceptions.Unauthorized", "Invalid apikey", Kind::auth, "odoo_auth"},
           {"odoo.exceptions.AccessError", "You may not read Contact (res.partner)", Kind::forbidden, "odoo_access"},
           {"odoo.exceptions.MissingError", "Record does not exist", Kind::not_found, "odoo_missing"},
           {"odoo.exceptions.UserError", "Object res.partner doesn't exist", Kind::not_found, "odoo_model"},
           {"builtins.AttributeError", "type object 'res.partner' has no attribute 'read'", Kind::not_found,
            "odoo_method"},
           {"odoo.exceptions.UserError", "No stock", Kind::invalid, "odoo_user"},
           {"odoo.exceptions.ValidationError", "Barcode taken", Kind::invalid, "odoo_validation"},
           {"builtins.ValueError", "Invalid field 'x'", Kind::invalid, "odoo_argument"},
           {"builtins.TypeError", "got an unexpected keyword argument", Kind::invalid, "odoo_argument"},
           {"builtins.ZeroDivisionError", "division by zero", Kind::invalid, "odoo_error"},
           {"psycopg2.OperationalError", "FATAL:  database \"x\" does not exist", Kind::not_found, "odoo_database"},
           {"psycopg2.OperationalError", "could not connect to server", Kind::unavailable, "odoo_database_down"},
           {"psycopg2.errors.SerializationFailure", "could not serialize access due to concurrent update",
            Kind::conflict, "odoo_serialization"},
           {"builtins.ValueError", "<class 'psycopg2.errors.SerializationFailure'>: could not serialize access",
            Kind::conflict, "odoo_serialization"},
       }) {
    const Error error = failure(rpc_error(fault.name, fault.message));
    EXPECT_EQ(policy(error.kind).name, policy(fault.kind).name) << fault.name << ": " << fault.message;
    EXPECT_EQ(error.code, fault.code) << fault.name << ": " << fault.message;
    EXPECT_EQ(error.message.find("Traceback"), std::string::npos);
    EXPECT_NE(error.detail.find("Traceback"), std::string::npos);
  }
}

TEST_F(OdooClient, Json2ErrorsAreTheSame) {
  const Setup setup{.transport = Transport::json2, .secret = kKey};
  const auto fault = [&](int status, const std::string& name, const std::string& message) {
    return failure(
        FakeHttp::json(json{{"name", name}, {"message", message}, {"arguments", json::array()}, {"debug", "x"}}.dump(),
                       status),
        setup);
  };
  EXPECT_EQ(fault(401, "werkzeug.exceptions.Unauthorized", "Invalid apikey").kind, Kind::auth);
  EXPECT_EQ(fault(403, "odoo.exceptions.AccessError", "no").kind, Kind::forbidden);
  EXPECT_EQ(fault(404, "odoo.exceptions.MissingError", "gone").code, "odoo_missing");
  EXPECT_EQ(fault(404, "werkzeug.exceptions.NotFound", "the model 'x' does not exist").code, "odoo_model");
  EXPECT_EQ(fault(404, "werkzeug.exceptions.NotFound", "the method 'm' does not exist on the model 'x'").code,
            "odoo_method");
  EXPECT_EQ(fault(422, "odoo.exceptions.UserError", "no stock").kind, Kind::invalid);
  EXPECT_EQ(fault(422, "werkzeug.exceptions.UnprocessableEntity", "missing").kind, Kind::invalid);
  EXPECT_EQ(fault(500, "builtins.ValueError", "Invalid field").kind, Kind::invalid);
  EXPECT_EQ(failure(FakeHttp::html(404), setup).code, "odoo_database");
}

TEST_F(OdooClient, SecretsStayOutOfErrors) {
  const std::string secret = "pass\"word";
  const Error error =
      failure(rpc_error("odoo.exceptions.UserError", "you sent pass\"word and pass\\\"word"), {.secret = secret});
  EXPECT_EQ(error.message.find("word and"), std::string::npos) << error.message;
  EXPECT_NE(error.message.find("***"), std::string::npos);
}

TEST_F(OdooClient, AWrongPasswordSaysWhatToCheck) {
  Settings settings;
  settings.url = "https://erp.example.com";
  settings.database = "shop";
  settings.login = "hub";
  settings.password = Secret("wrong");
  Client one(std::move(settings), clock_, std::make_unique<FakeHttp>(server(Setup{})));
  const Error error = failure(one);
  EXPECT_EQ(error.kind, Kind::auth);
  EXPECT_NE(error.message.find("\"hub\" on database \"shop\""), std::string::npos);
  EXPECT_EQ(error.message.find("wrong"), std::string::npos);
}

TEST_F(OdooClient, AnUnknownDatabaseIsNamedBesideThoseThatThereAre) {
  Setup setup{.database = "nope"};
  const auto inner = server(setup);
  Settings settings;
  settings.url = "https://erp.example.com";
  settings.database = "nope";
  settings.login = "hub";
  settings.password = Secret("x");
  Client one(std::move(settings), clock_, std::make_unique<FakeHttp>([=](const http::Request& request) {
               if (request.body.find("authenticate") != std::string::npos)
                 return rpc_error("psycopg2.OperationalError", "FATAL: database \"nope\" does not exist");
               return inner(request);
             }));
  const Error error = failure(one);
  EXPECT_EQ(error.code, "odoo_database");
  EXPECT_NE(error.message.find("\"nope\"; it has shop, test"), std::string::npos) << error.message;
}

TEST_F(OdooClient, WithoutADatabaseTheOnlyOneIsTakenOrAChoiceAskedFor) {
  const auto one = client({.database = "", .model = [](const http::Request&) { return rpc("1"); }});
  const Error error = failure(*one);
  EXPECT_EQ(error.kind, Kind::auth) << "no other call goes better";
  EXPECT_NE(error.message.find("2 databases (shop, test)"), std::string::npos) << error.message;
}

TEST_F(OdooClient, WhatIsNoOdooIsSaidSo) {
  const auto at = [&](http::Response response) {
    Settings settings;
    settings.url = "https://erp.example.com";
    settings.login = "hub";
    Client one(std::move(settings), clock_, std::make_unique<FakeHttp>([=](const http::Request&) { return response; }));
    try {
      one.version();
    } catch (const Error& error) {
      return error;
    }
    return Error(Kind::bug, "no error");
  };
  EXPECT_EQ(at(FakeHttp::html(200, "<html>A blog</html>")).code, "not_odoo");
  EXPECT_EQ(at(FakeHttp::html(404)).code, "not_odoo");
  EXPECT_EQ(at(FakeHttp::json("{\"hello\":1}")).code, "not_odoo");
  EXPECT_EQ(at(FakeHttp::json("[1,2]")).kind, Kind::protocol);
  EXPECT_EQ(at(FakeHttp::json("{\"jsonrpc\":\"2.0\",\"result\":{\"server_version_info\":\"?\"}}")).code, "not_odoo");
  http::Response redirect = FakeHttp::html(301);
  redirect.headers.add("Location", "https://other.example.com/jsonrpc?token=hush");
  const Error error = at(redirect);
  EXPECT_EQ(error.code, "redirect");
  EXPECT_NE(error.message.find("https://other.example.com"), std::string::npos);
  EXPECT_EQ(error.message.find("hush"), std::string::npos);
  EXPECT_EQ(error.message.find("jsonrpc"), std::string::npos) << "our own path is not part of the URL to give";
  http::Response within = FakeHttp::html(308);
  within.headers.add("Location", "/jsonrpc/");
  EXPECT_NE(at(within).message.find("redirects to another path of its own"), std::string::npos);
}

TEST_F(OdooClient, UrlsOfOtherShapesAreRefused) {
  for (const char* url : {"erp.example.com", "", "https://user:pw@erp.example.com"}) {
    Settings settings;
    settings.url = url;
    EXPECT_THROW(
        Client(settings, clock_, std::make_unique<FakeHttp>([](const http::Request&) { return http::Response(); })),
        Error)
        << url;
  }
}

TEST_F(OdooClient, GatewaysAndBusyServersAreToldApart) {
  const CallOptions reading{.read_only = true};
  EXPECT_EQ(failure(FakeHttp::html(502), {}, reading).kind, Kind::unavailable);
  EXPECT_EQ(failure(FakeHttp::html(504), {}, reading).kind, Kind::unavailable);
  // Behind the proxy a write may have gone through.
  EXPECT_EQ(failure(FakeHttp::html(502)).kind, Kind::in_doubt);
  EXPECT_EQ(failure(FakeHttp::html(504)).kind, Kind::in_doubt);
  EXPECT_EQ(failure(FakeHttp::html(503)).kind, Kind::unavailable);
  EXPECT_EQ(failure(FakeHttp::html(500, "<title>500 Internal Server Error</title>"), {}, reading).code,
            "odoo_database_down");
  http::Response busy = FakeHttp::html(429);
  busy.headers.add("Retry-After", "17");
  const Error error = failure(busy);
  EXPECT_EQ(error.kind, Kind::busy);
  EXPECT_EQ(error.retry_after, std::chrono::seconds(17));
  http::Response later = FakeHttp::html(503);
  later.headers.add("Retry-After", "60");
  EXPECT_EQ(failure(later).kind, Kind::busy);
}

TEST_F(OdooClient, AWebPageInsteadOfDataIsNamedAsSuch) {
  const Error error = failure(FakeHttp::html(200, "<html>Please log in to the guest network</html>"));
  EXPECT_EQ(error.kind, Kind::protocol);
  EXPECT_EQ(error.code, "html");
  EXPECT_NE(error.detail.find("guest network"), std::string::npos);
  EXPECT_EQ(error.message.find("guest network"), std::string::npos);
}

TEST_F(OdooClient, BrokenAnswersAreProtocolErrors) {
  for (const char* body : {"", "{", "nonsense", "{\"jsonrpc\":\"2.0\",\"result\":", "[]", "{\"result\":\"\xff\"}"}) {
    const Error error = failure(FakeHttp::json(body));
    EXPECT_EQ(error.kind, Kind::protocol) << body;
  }
  EXPECT_EQ(failure(FakeHttp::json("{\"result\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}")).code,
            "json_depth");
}

TEST_F(OdooClient, ALostAnswerIsInDoubtForAWriteAndSafeForARead) {
  const auto lost = [](const http::Request&) -> http::Response {
    Error error(Kind::in_doubt, "closed the connection");
    error.code = "reset";
    throw error;
  };
  const auto one = client({.model = lost});
  const Error write = failure(*one), read = failure(*one, {.read_only = true});
  EXPECT_EQ(write.kind, Kind::in_doubt);
  EXPECT_EQ(write.code, "reset");
  EXPECT_NE(write.message.find("look up"), std::string::npos);
  EXPECT_EQ(read.kind, Kind::unavailable);
  EXPECT_EQ(read.code, "reset");
  try {
    one->search("res.partner", {}, {}, {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Kind::unavailable) << "reading methods need not be told that they read";
  }
}

TEST_F(OdooClient, AStopWhileAWriteIsOutIsInDoubt) {
  const auto stopped = [](const http::Request&) -> http::Response {
    Error error(Kind::cancelled, "the call was stopped");
    error.code = "sent";
    throw error;
  };
  const auto one = client({.model = stopped});
  EXPECT_EQ(failure(*one).kind, Kind::in_doubt);
  EXPECT_EQ(failure(*one, {.read_only = true}).kind, Kind::cancelled);
}

TEST_F(OdooClient, ALoadThatMetAnotherTransactionIsAConflict) {
  const auto one = client({.model = [](const http::Request&) {
    return rpc(
        R"({"ids": false, "messages": [{"type": "error", "message": "could not serialize access due to concurrent update"}]})");
  }});
  try {
    one->load("res.partner", {"id", "name"}, json::parse(R"([["x.a","A"]])"), {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Kind::conflict);
    EXPECT_EQ(error.code, "odoo_serialization");
  }
  const auto bad = client({.model = [](const http::Request&) {
    return rpc(R"({"ids": false, "messages": [{"type": "error", "message": "No matching record"}]})");
  }});
  EXPECT_NE(bad->load("res.partner", {"id"}, json::parse(R"([["x"]])"), {}).result().find("No matching"),
            std::string_view::npos);
}

TEST_F(OdooClient, ArgumentsThatAreNoJsonAreRefusedBeforeAnythingIsSent) {
  const auto one =
      client({.transport = Transport::json2, .secret = kKey, .model = [](const http::Request&) { return rpc("1"); }});
  one->version();
  log_->requests.clear();
  EXPECT_THROW(one->call("res.partner", "read", "[1", "", {}), Error);
  EXPECT_THROW(one->call("res.partner", "read", "", "[]", {}), Error);
  EXPECT_THROW(one->call("res.partner", "read", "", "", {.context = "nope"}), Error);
  EXPECT_THROW(one->call("../web", "read", "", "", {}), Error);
  EXPECT_THROW(one->create("res.partner", json{{"name", "\xff"}}, {}), Error);
  EXPECT_TRUE(log_->all().empty());
}

}  // namespace
}  // namespace dragoman::odoo
