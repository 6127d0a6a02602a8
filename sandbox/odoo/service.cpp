#include "sandbox/odoo/service.h"

#include <algorithm>
#include <chrono>
#include <pugixml.hpp>

#include "sandbox/odoo/fill.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

std::string traceback(const OdooError& error) {
  return "Traceback (most recent call last):\n  File \"/usr/lib/python3/dist-packages/odoo/http.py\", line 2273, in "
         "_serve_db\n    return service_model.retrying(serve_func, env=self.env)\n           "
         "^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n" +
         error.name + ": " + error.what() + "\n";
}

/// The object that describes an error, with the keys in the order of the series.
Json error_data(const OdooError& error, int series, const std::string& name, bool with_status, int status) {
  Json data = Json::object();
  Json arguments = Json::array({error.what()});
  if (with_status) arguments.push_back(status);
  data["name"] = name;
  if (series < 17) data["debug"] = traceback(error);
  data["message"] = error.what();
  data["arguments"] = arguments;
  data["context"] = Json::object();
  if (series >= 17) data["debug"] = traceback(error);
  return data;
}

Json parse_json(const std::string& text) {
  return Json::parse(text, nullptr, false);
}

std::string limited(const std::string& text, std::size_t most) {
  return text.size() <= most ? text : text.substr(0, most) + "…";
}

}  // namespace

int json2_status(const OdooError& error) {
  if (error.json2_status != 0) return error.json2_status;
  if (error.name == "odoo.exceptions.AccessError" || error.name == "odoo.exceptions.AccessDenied") return 403;
  if (error.name == "odoo.exceptions.MissingError") return 404;
  if (error.name == "odoo.exceptions.UserError" || error.name == "odoo.exceptions.ValidationError") return 422;
  return 500;
}

struct Service::Rpc {
  std::string transport;
  std::string path;
  std::string model;
  std::string method;
  Id uid = 0;
  Json context = Json::object();
  Json shown;  // arguments for the log
  std::function<Call(Orm&, Table&, const Method&)> bind;
  std::optional<Json> fault;
  bool skipped = false;  // the fault came before the work
};

namespace {
/// Ends a request whose fault says that nothing, or something else, is answered.
struct FaultBeforeWork {};
}  // namespace

Service::Service(Database& database, std::function<bool(std::chrono::milliseconds)> pause,
                 std::function<HttpCounters()> counters, std::function<void()> reset_counters)
    : database_(database),
      pause_(std::move(pause)),
      counters_(std::move(counters)),
      reset_counters_(std::move(reset_counters)) {}

// ---------------------------------------------------------------- routes

HttpResponse Service::handle(const HttpRequest& request) {
  const int series = database_.series();
  const std::string& path = request.path;
  HttpResponse response;
  if (series < 17) response.content_type = "application/json";
  const auto json_answer = [&](const Json& value) {
    response.body = dump(value);
    return response;
  };
  try {
    if (path.starts_with("/sandbox/")) return control_response(request);
    if (path == "/jsonrpc") return json_rpc(request);
    if (path == "/xmlrpc/2/common" || path == "/xmlrpc/2/object") return xml_rpc(request);
    if (path == "/web/session/authenticate" || path.starts_with("/web/dataset/call_kw") ||
        path == "/web/session/destroy") {
      return session(request);
    }
    if (path == "/web/webclient/version_info") {
      return json_answer({{"jsonrpc", "2.0"}, {"id", nullptr}, {"result", version()}});
    }
    if (path == "/web/health" && series >= 17) {
      response.content_type = "application/json";
      Json status = {{"status", "pass"}};
      if (request.query.find("db_server_status=1") != std::string::npos && series >= 19)
        status["db_server_status"] = true;
      return json_answer(status);
    }
    if (series >= 19 && (path == "/web/version" || path == "/json/version")) {
      return json_answer(
          {{"version_info", version()["server_version_info"]}, {"version", version()["server_version"]}});
    }
    if (path.starts_with("/json/")) {
      if (series >= 19 && path.starts_with("/json/2/")) return json_2(request);
      if (series == 18) {
        response = html(303, "Redirecting...", "You should be redirected automatically to the login page.");
        response.headers.emplace_back("Location", "/web/login?redirect=%2Fjson");
        return response;
      }
      if (series < 17 && request.header("content-type").starts_with("application/json")) {
        OdooError error("werkzeug.exceptions.NotFound",
                        "404 Not Found: The requested URL was not found on the server. If you entered the URL manually "
                        "please check your spelling and try again.");
        response.status = 404;
        Json data = error_data(error, series, error.name, false, 0);
        return json_answer(
            {{"jsonrpc", "2.0"},
             {"id", nullptr},
             {"error", {{"code", 404}, {"message", "404: Not Found"}, {"data", data}, {"http_status", 404}}}});
      }
    }
    if (path == "/web/login" || path == "/") {
      response = html(200, "Odoo", "Log in");
      return response;
    }
  } catch (const std::exception& error) {
    response = html(500, "Internal Server Error", error.what());
    return response;
  }
  return html(404, "Not Found", "The requested URL was not found on the server.");
}

HttpResponse Service::html(int status, const std::string& title, const std::string& text) const {
  HttpResponse response;
  response.status = status;
  response.content_type = "text/html; charset=utf-8";
  response.body = "<!doctype html>\n<html lang=en>\n<title>" + std::to_string(status) + " " + title + "</title>\n<h1>" +
                  title + "</h1>\n<p>" + text + "</p>\n";
  return response;
}

HttpResponse Service::json_rpc_error(const Json& id, const OdooError& error) const {
  HttpResponse response;
  if (database_.series() < 17) response.content_type = "application/json";
  const bool expired = error.name == "odoo.http.SessionExpiredException";
  const int code = expired ? 100 : (database_.series() >= 19 ? 0 : 200);
  Json body = {{"jsonrpc", "2.0"}, {"id", id}, {"error", Json::object()}};
  body["error"]["code"] = code;
  body["error"]["message"] = expired ? "Odoo Session Expired" : "Odoo Server Error";
  body["error"]["data"] = error_data(error, database_.series(), error.name, false, 0);
  response.body = dump(body);
  return response;
}

// ---------------------------------------------------------------- logins

Json Service::version() const {
  const int series = database_.series();
  const std::string text = std::to_string(series) + ".0";
  return {{"server_version", text},
          {"server_version_info", Json::array({series, 0, 0, "final", 0, ""})},
          {"server_serie", text},
          {"protocol_version", 1}};
}

bool Service::check_password(Id uid, const std::string& password) const {
  if (password.empty()) return false;
  const auto key = database_.api_keys.find(password);
  if (key != database_.api_keys.end()) return key->second.uid == uid;
  const auto found = database_.passwords.find(uid);
  return found != database_.passwords.end() && found->second == password;
}

Id Service::login(const std::string& login, const std::string& password) const {
  const Table& users = database_.table("res.users");
  const Column& logins = users.column(users.model().find("login")->column);
  const Column& active = users.column(users.model().find("active")->column);
  Id uid = 0;
  users.each([&](Id id, Slot slot) {
    std::string_view name;
    if (logins.text(slot, name) && name == login && active.boolean(slot)) uid = id;
    return uid == 0;
  });
  return uid != 0 && check_password(uid, password) ? uid : 0;
}

Env Service::environment(Id uid, const Json& context) const {
  Env env;
  env.uid = uid;
  if (context.is_object()) env.context = context;
  const auto flag = [&](const char* name, bool otherwise) {
    const auto found = env.context.find(name);
    if (found == env.context.end()) return otherwise;
    if (found->is_boolean()) return found->get<bool>();
    return !(found->is_null() || (found->is_number() && found->get<double>() == 0));
  };
  env.active_test = flag("active_test", true);
  env.bin_size = flag("bin_size", false);
  const Table& users = database_.table("res.users");
  const Slot user = users.find(uid);
  if (user == kNoSlot) return env;
  const auto& allowed = users.column(users.model().find("company_ids")->column).ids(user);
  const auto wanted = env.context.find("allowed_company_ids");
  if (wanted != env.context.end() && wanted->is_array() && !wanted->empty()) {
    for (const auto& item : *wanted) {
      const Id company = item.is_number_integer() ? item.get<Id>() : 0;
      if (std::find(allowed.begin(), allowed.end(), company) == allowed.end()) {
        throw access_error("Access to unauthorized or invalid companies.");
      }
      env.companies.push_back(company);
    }
  } else {
    const Id own = users.column(users.model().find("company_id")->column).integer(user);
    env.companies.push_back(own);
    for (const Id company : allowed) {
      if (company != own) env.companies.push_back(company);
    }
  }
  return env;
}

Json Service::common(const std::string& method, const Json& args) {
  if (method == "version") return version();
  if (method == "about") return "See http://openerp.com";
  if (method != "authenticate" && method != "login")
    throw OdooError("builtins.Exception", "Method not found: " + method);
  if (args.size() < 3) throw type_error("exp_authenticate() missing required positional arguments");
  const auto word = [&](std::size_t i) { return args[i].is_string() ? args[i].get<std::string>() : std::string(); };
  if (word(0) != database_.name()) {
    throw OdooError("psycopg2.OperationalError",
                    "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  database \"" + word(0) +
                        "\" does not exist\n");
  }
  const std::shared_lock lock(database_.mutex);
  const Id uid = login(word(1), word(2));
  return uid == 0 ? Json(false) : Json(uid);
}

// ---------------------------------------------------------------- one call

bool Service::execute(Rpc& rpc, const std::string& database, Sink& out) {
  const auto begun = std::chrono::steady_clock::now();
  const std::int64_t start_us = database_.now_us();
  std::string outcome = "ok";
  const auto note = [&] {
    const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begun);
    const HttpCounters counters = counters_();
    const std::lock_guard lock(log_mutex_);
    ++method_counts_[rpc.model + "." + rpc.method];
    ++log_count_;
    log_.push_back({{"n", log_count_},
                    {"at_us", start_us},
                    {"transport", rpc.transport},
                    {"uid", rpc.uid},
                    {"model", rpc.model},
                    {"method", rpc.method},
                    {"args", limited(rpc.shown.dump(-1, ' ', false, Json::error_handler_t::replace), 2000)},
                    {"outcome", outcome},
                    {"took_us", took.count()},
                    {"open_connections", counters.open_now}});
    if (log_.size() > log_max_) log_.pop_front();
  };
  const Database::Running running(database_, start_us);
  rpc.fault = faults_.match(rpc.path, rpc.model, rpc.method);
  try {
    if (rpc.fault) {
      const std::string kind = rpc.fault->value("kind", "");
      const bool after_commit = rpc.fault->value("after_commit", false);
      if (kind == "slow") {
        // The transaction has begun: what it writes carries the time from before the wait.
        if (!pause_(std::chrono::milliseconds(rpc.fault->value("ms", 1000)))) throw FaultBeforeWork{};
      } else if (kind == "reset_before" || kind == "worker_killed" ||
                 (!after_commit && (kind == "status" || kind == "redirect" || kind == "wrong_json" || kind == "giant" ||
                                    kind == "deep" || kind == "replace"))) {
        if (kind == "worker_killed") pause_(std::chrono::milliseconds(rpc.fault->value("ms", 0)));
        outcome = "fault " + kind;
        rpc.skipped = true;
        throw FaultBeforeWork{};
      }
    }
    if (database != database_.name()) {
      throw OdooError("psycopg2.OperationalError",
                      "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  database \"" + database +
                          "\" does not exist\n");
    }
    Table* table = nullptr;
    const Method* method = nullptr;
    {
      const std::shared_lock lock(database_.mutex);
      table = database_.find(rpc.model);
    }
    const int series = database_.series();
    if (table == nullptr) {
      OdooError error = user_error("Object " + rpc.model + " doesn't exist");
      if (rpc.transport == "json2")
        error = OdooError("werkzeug.exceptions.NotFound", "the model '" + rpc.model + "' does not exist");
      error.json2_status = 404;
      error.json2_name = "werkzeug.exceptions.NotFound";
      throw error;
    }
    method = methods_.find(rpc.model, rpc.method, series);
    if (method == nullptr) {
      const bool is_private = rpc.method.starts_with("_") || (series >= 19 && rpc.method == "exists");
      if (is_private) {
        throw access_error(series >= 17 ? "Private methods (such as '" + rpc.model + "." + rpc.method +
                                              "') cannot be called remotely."
                                        : "Private methods (such as " + rpc.method + ") cannot be called remotely.");
      }
      OdooError error("builtins.AttributeError",
                      series >= 17 ? "The method '" + rpc.model + "." + rpc.method + "' does not exist"
                                   : "type object '" + rpc.model + "' has no attribute '" + rpc.method + "'");
      error.json2_status = 404;
      error.json2_name = "werkzeug.exceptions.NotFound";
      throw error;
    }
    bool none = false;
    const auto run = [&](Transaction* transaction) {
      Orm orm(database_, environment(rpc.uid, rpc.context), transaction);
      Call call = rpc.bind(orm, *table, *method);
      method->run(call, out);
      none = call.none;
    };
    if (method->writes) {
      const std::unique_lock lock(database_.mutex);
      Transaction transaction(start_us);
      run(&transaction);
      transaction.commit();
    } else {
      const std::shared_lock lock(database_.mutex);
      run(nullptr);
    }
    note();
    return !none;
  } catch (const OdooError& error) {
    outcome = error.name;
    note();
    throw;
  } catch (const FaultBeforeWork&) {
    note();
    throw;
  } catch (const nlohmann::json::exception& error) {
    // An argument of a shape that Python would have refused too, in words of its own.
    outcome = "builtins.TypeError";
    note();
    throw type_error(error.what());
  }
}

HttpResponse Service::apply_fault(Rpc& rpc, HttpResponse response) const {
  if (!rpc.fault) return response;
  const Json& fault = *rpc.fault;
  const std::string kind = fault.value("kind", "");
  using Delivery = HttpResponse::Delivery;
  const auto plain = [&](int status, const std::string& type, std::string body) {
    HttpResponse made;
    made.status = status;
    made.content_type = type;
    made.body = std::move(body);
    return made;
  };
  if (kind == "reset_before" || kind == "reset_after_commit") {
    response.delivery = Delivery::reset;
  } else if (kind == "worker_killed") {
    response.delivery = Delivery::nothing;
  } else if (kind == "cut") {
    response.delivery = Delivery::cut;
    response.cut_at = fault.value("at", std::size_t{100});
  } else if (kind == "truncated") {
    response.delivery = Delivery::cut;
    const std::size_t whole = response.prefix.size() + response.body.size() + response.suffix.size();
    response.cut_at = fault.contains("at") ? fault["at"].get<std::size_t>() : whole / 2;
    response.short_content_length = true;
  } else if (kind == "status") {
    const int status = fault.value("status", 500);
    std::string title(reason_phrase(status));
    std::string body =
        fault.value("body", "<html>\r\n<head><title>" + std::to_string(status) + " " + title +
                                "</title></head>\r\n<body>\r\n<center><h1>" + std::to_string(status) + " " + title +
                                "</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n");
    response = plain(status, fault.value("content_type", "text/html"), std::move(body));
    if (fault.contains("retry_after")) {
      response.headers.emplace_back("Retry-After", fault["retry_after"].is_string()
                                                       ? fault["retry_after"].get<std::string>()
                                                       : fault["retry_after"].dump());
    }
  } else if (kind == "redirect") {
    response = plain(fault.value("status", 303), "text/html; charset=utf-8",
                     "<!doctype html>\n<title>Redirecting...</title>\n");
    response.headers.emplace_back("Location", fault.value("location", "/web/login"));
  } else if (kind == "wrong_json") {
    response = plain(200, "application/json; charset=utf-8",
                     fault.value("body", "{\"jsonrpc\": \"2.0\", \"id\": 1, \"result\": [{\"id\": }]}"));
  } else if (kind == "replace") {
    response = plain(fault.value("status", 200), fault.value("content_type", "text/html; charset=utf-8"),
                     fault.value("body", "<!doctype html><title>Welcome</title><p>It works!"));
  } else if (kind == "giant") {
    response.body = "{\"id\": 1, \"name\": \"" + std::string(1000, 'x') + "\"}, ";
    response.prefix += "[";
    response.suffix.clear();
    response.delivery = Delivery::endless;
    response.endless_bytes = fault.value("bytes", std::uint64_t{1} << 30);
  } else if (kind == "deep") {
    const auto depth = fault.value("depth", std::size_t{100'000});
    response.body = std::string(depth, '[') + std::string(depth, ']');
  } else if (kind == "invalid_utf8") {
    // Into the first text of the answer, so that all the rest is as it should be.
    const auto at = response.body.find("\": \"");
    if (at == std::string::npos) {
      response.body = "[{\"id\": 1, \"name\": \"\xff\xfe\xc3\"}]";
    } else {
      response.body.insert(at + 4, "\xff\xfe\xc3");
    }
  } else if (kind == "big_ids") {
    const auto offset = fault.value("offset", std::int64_t{1} << 40);
    std::string out;
    std::size_t at = 0;
    for (;;) {
      const auto found = response.body.find("\"id\": ", at);
      if (found == std::string::npos) break;
      std::size_t end = found + 6;
      while (end < response.body.size() && std::isdigit(static_cast<unsigned char>(response.body[end])) != 0) ++end;
      out.append(response.body, at, found + 6 - at);
      out += std::to_string(std::strtoll(response.body.c_str() + found + 6, nullptr, 10) + offset);
      at = end;
    }
    out.append(response.body, at);
    response.body = std::move(out);
  }
  return response;
}

// ---------------------------------------------------------------- transports

HttpResponse Service::json_rpc(const HttpRequest& request) {
  HttpResponse response;
  if (database_.series() < 17) response.content_type = "application/json";
  Json body = parse_json(request.body);
  if (body.is_discarded()) {
    response.status = 400;
    response.content_type = "text/html; charset=utf-8";
    response.body = database_.series() >= 17 ? "Invalid JSON data"
                                             : "<!DOCTYPE HTML PUBLIC \"-//W3C//DTD HTML 3.2 Final//EN\">\n<title>400 "
                                               "Bad Request</title>\n<h1>Bad Request</h1>\n<p>Invalid JSON data</p>\n";
    return response;
  }
  if (!body.is_object()) {
    if (database_.series() < 17) return html(500, "Internal Server Error", "The server encountered an internal error.");
    response.status = 400;
    response.content_type = "text/html; charset=utf-8";
    response.body = "Invalid JSON-RPC data";
    return response;
  }
  const Json id = body.value("id", Json(nullptr));
  const Json params = body.value("params", Json::object());
  const std::string service = params.value("service", "");
  const std::string method = params.value("method", "");
  const Json args = params.value("args", Json::array());
  Rpc rpc;
  rpc.transport = "jsonrpc";
  rpc.path = request.path;
  response.prefix = "{\"jsonrpc\": \"2.0\", \"id\": " + dump(id);
  response.suffix = "}";
  PythonJsonSink sink(response.body, spelling());
  try {
    if (service == "common") {
      rpc.model = "common";
      rpc.method = method;
      rpc.fault = faults_.match(rpc.path, rpc.model, rpc.method);
      if (rpc.fault && rpc.fault->value("kind", "") == "slow")
        pause_(std::chrono::milliseconds(rpc.fault->value("ms", 1000)));
      write_json(sink, common(method, args));
      response.prefix += ", \"result\": ";
      return apply_fault(rpc, std::move(response));
    }
    if (service == "db") {
      if (method == "list")
        write_json(sink, Json::array({database_.name()}));
      else if (method == "db_exist")
        sink.boolean(!args.empty() && args[0] == database_.name());
      else if (method == "server_version")
        sink.string(version()["server_version"].get<std::string>());
      else
        throw OdooError("odoo.exceptions.AccessDenied", "Access Denied");
      response.prefix += ", \"result\": ";
      return response;
    }
    if (service != "object") throw key_error(service);
    if (method != "execute_kw" && method != "execute") {
      throw OdooError("builtins.NameError", "Method not available " + method);
    }
    if (args.size() < 5 || !args[0].is_string() || !args[1].is_number_integer() || !args[3].is_string() ||
        !args[4].is_string()) {
      throw type_error("dispatch() missing required positional arguments");
    }
    rpc.uid = args[1].get<Id>();
    rpc.model = args[3].get<std::string>();
    rpc.method = args[4].get<std::string>();
    Json positional = Json::array();
    Json keywords = Json::object();
    if (method == "execute_kw") {
      if (args.size() > 5 && args[5].is_array()) positional = args[5];
      if (args.size() > 6 && args[6].is_object()) keywords = args[6];
    } else {
      for (std::size_t i = 5; i < args.size(); ++i) positional.push_back(args[i]);
    }
    rpc.context = keywords.value("context", Json::object());
    rpc.shown = {{"args", positional}, {"kwargs", keywords}};
    const std::string password = args[2].is_string() ? args[2].get<std::string>() : "";
    rpc.bind = [&](Orm& orm, Table& table, const Method& found) {
      return bind_positional(orm, table, found, positional, keywords);
    };
    if (args[0] == database_.name()) {
      const std::shared_lock lock(database_.mutex);
      if (database_.table("res.users").find(rpc.uid) == kNoSlot) {
        throw missing_error("Record does not exist or has been deleted.\n(Record: res.users(" +
                            std::to_string(rpc.uid) + ",), User: " + std::to_string(rpc.uid) + ")");
      }
      if (!check_password(rpc.uid, password)) throw OdooError("odoo.exceptions.AccessDenied", "Access Denied");
    }
    const bool value = execute(rpc, args[0].get<std::string>(), sink);
    if (value) {
      response.prefix += ", \"result\": ";
    } else {
      response.body.clear();  // None: neither result nor error
    }
  } catch (const OdooError& error) {
    response = json_rpc_error(id, error);
  } catch (const FaultBeforeWork&) {
    response.prefix += ", \"result\": ";
    response.body = "[]";
  }
  return apply_fault(rpc, std::move(response));
}

HttpResponse Service::json_2(const HttpRequest& request) {
  HttpResponse response;
  PythonJsonSink sink(response.body, spelling());
  Rpc rpc;
  rpc.transport = "json2";
  rpc.path = request.path;
  const auto failure = [&](const OdooError& error) {
    HttpResponse made;
    made.status = json2_status(error);
    const std::string name = error.json2_name.empty() ? error.name : error.json2_name;
    made.body = dump(error_data(error, database_.series(), name, name.starts_with("werkzeug."), made.status));
    return made;
  };
  const auto http_error = [&](int status, const std::string& name, const std::string& message) {
    OdooError error("werkzeug.exceptions." + name, message);
    error.json2_status = status;
    return error;
  };
  const std::string wanted_database = request.header("x-odoo-database");
  if (!wanted_database.empty() && wanted_database != database_.name()) {
    HttpResponse made =
        html(404, "Not Found",
             "No database is selected and the requested URL was not found in the server-wide controllers.");
    return made;
  }
  try {
    const std::string rest = request.path.substr(std::string_view("/json/2/").size());
    const auto slash = rest.find('/');
    if (request.method != "POST" || slash == std::string::npos || rest.find('/', slash + 1) != std::string::npos) {
      throw http_error(404, "NotFound", "Did you mean POST /json/2/<model>/<method>?");
    }
    std::string type = request.header("content-type");
    if (!type.starts_with("application/json")) {
      return html(415, "Unsupported Media Type",
                  "Request inferred type is compatible with [&#39;http&#39;] but "
                  "&#39;/json/2/&lt;__model__&gt;/&lt;__method__&gt;&#39; is type=&#39;json2&#39;.<br><br>Please "
                  "verify the Content-Type request header and try again.");
    }
    rpc.model = rest.substr(0, slash);
    rpc.method = rest.substr(slash + 1);
    const std::string authorization = request.header("authorization");
    std::string scheme = authorization.substr(0, authorization.find(' '));
    std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (scheme != "bearer") {
      throw http_error(401, "Unauthorized",
                       "User not authenticated, use an API Key with a Bearer Authorization header.");
    }
    {
      const std::shared_lock lock(database_.mutex);
      const auto key = database_.api_keys.find(authorization.substr(authorization.find(' ') + 1));
      if (key == database_.api_keys.end()) throw http_error(401, "Unauthorized", "Invalid apikey");
      rpc.uid = key->second.uid;
    }
    Json body = parse_json(request.body);
    if (body.is_discarded()) {
      throw http_error(400, "BadRequest",
                       "could not parse the body as json: Expecting property name enclosed in double quotes: line 1 "
                       "column 2 (char 1)");
    }
    if (!body.is_object()) body = Json::object();
    rpc.context = body.value("context", Json::object());
    rpc.shown = body;
    rpc.bind = [&](Orm& orm, Table& table, const Method& found) { return bind_named(orm, table, found, body); };
    if (!execute(rpc, database_.name(), sink)) response.body = "null";
  } catch (const OdooError& error) {
    response = failure(error);
  } catch (const FaultBeforeWork&) {
    response.body = "[]";
  }
  return apply_fault(rpc, std::move(response));
}

namespace {

Json from_xml(const pugi::xml_node& value, int depth) {
  if (depth > 200) throw value_error("XML-RPC value nested too deep");
  const pugi::xml_node inner = value.find_child([](const pugi::xml_node& n) { return n.type() == pugi::node_element; });
  if (!inner) return value.text().get();  // <value>text</value>
  const std::string type = inner.name();
  if (type == "int" || type == "i4" || type == "i8") return inner.text().as_llong();
  if (type == "boolean") return inner.text().as_int() != 0;
  if (type == "double") return inner.text().as_double();
  if (type == "nil") return nullptr;
  if (type == "array") {
    Json list = Json::array();
    for (const auto& item : inner.child("data").children("value")) list.push_back(from_xml(item, depth + 1));
    return list;
  }
  if (type == "struct") {
    Json object = Json::object();
    for (const auto& member : inner.children("member"))
      object[member.child("name").text().get()] = from_xml(member.child("value"), depth + 1);
    return object;
  }
  return inner.text().get();
}

}  // namespace

HttpResponse Service::xml_rpc(const HttpRequest& request) {
  HttpResponse response;
  response.content_type = database_.series() >= 17 ? "text/xml; charset=utf-8" : "text/xml; charset=utf-8";
  Rpc rpc;
  rpc.transport = "xmlrpc";
  rpc.path = request.path;
  const auto fault = [&](int code, const std::string& text) {
    HttpResponse made;
    made.content_type = response.content_type;
    std::string body;
    XmlRpcSink sink(body);
    sink.begin_object();
    sink.key("faultCode");
    sink.integer(code);
    sink.key("faultString");
    sink.string(text);
    sink.end_object();
    made.body = "<?xml version='1.0'?>\n<methodResponse>\n<fault>\n" + body + "</fault>\n</methodResponse>\n";
    return made;
  };
  pugi::xml_document document;
  const auto parsed =
      document.load_buffer(request.body.data(), request.body.size(), pugi::parse_default | pugi::parse_ws_pcdata);
  const auto root = document.child("methodCall");
  if (!parsed || !root) return html(500, "Internal Server Error", "The server encountered an internal error.");
  const std::string method = root.child("methodName").text().get();
  response.prefix = "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n";
  response.suffix = "</param>\n</params>\n</methodResponse>\n";
  XmlRpcSink sink(response.body);
  try {
    Json args = Json::array();
    for (const auto& param : root.child("params").children("param")) args.push_back(from_xml(param.child("value"), 0));
    if (request.path == "/xmlrpc/2/common") {
      write_json(sink, common(method, args));
      return response;
    }
    if (method != "execute_kw" && method != "execute")
      throw OdooError("builtins.NameError", "Method not available " + method);
    if (args.size() < 5 || !args[0].is_string() || !args[1].is_number_integer() || !args[3].is_string() ||
        !args[4].is_string()) {
      throw type_error("dispatch() missing required positional arguments");
    }
    rpc.uid = args[1].get<Id>();
    rpc.model = args[3].get<std::string>();
    rpc.method = args[4].get<std::string>();
    Json positional = Json::array();
    Json keywords = Json::object();
    if (method == "execute_kw") {
      if (args.size() > 5 && args[5].is_array()) positional = args[5];
      if (args.size() > 6 && args[6].is_object()) keywords = args[6];
    } else {
      for (std::size_t i = 5; i < args.size(); ++i) positional.push_back(args[i]);
    }
    rpc.context = keywords.value("context", Json::object());
    rpc.shown = {{"args", positional}, {"kwargs", keywords}};
    rpc.bind = [&](Orm& orm, Table& table, const Method& found) {
      return bind_positional(orm, table, found, positional, keywords);
    };
    if (args[0] == database_.name()) {
      const std::shared_lock lock(database_.mutex);
      if (!check_password(rpc.uid, args[2].is_string() ? args[2].get<std::string>() : "")) {
        throw OdooError("odoo.exceptions.AccessDenied", "Access Denied");
      }
    }
    // The work is done and committed before None turns out not to be marshalled.
    if (!execute(rpc, args[0].get<std::string>(), sink)) sink.null();
  } catch (const OdooError& error) {
    int code = 1;
    if (error.name == "odoo.exceptions.UserError" || error.name == "odoo.exceptions.ValidationError" ||
        error.name == "odoo.exceptions.MissingError") {
      code = 2;
    }
    if (error.name == "odoo.exceptions.AccessDenied") code = 3;
    if (error.name == "odoo.exceptions.AccessError") code = 4;
    const bool bare = error.what() == std::string("cannot marshal None unless allow_none is enabled");
    response = fault(code, code == 1 && !bare ? traceback(error) : error.what());
  } catch (const FaultBeforeWork&) {
    response.body = "<value><array><data>\n</data></array></value>\n";
  }
  return apply_fault(rpc, std::move(response));
}

HttpResponse Service::session(const HttpRequest& request) {
  HttpResponse response;
  if (database_.series() < 17) response.content_type = "application/json";
  const Json body = parse_json(request.body);
  if (!body.is_object()) {
    response.status = 400;
    response.content_type = "text/html; charset=utf-8";
    response.body = "Invalid JSON data";
    return response;
  }
  const Json id = body.value("id", Json(nullptr));
  const Json params = body.value("params", Json::object());
  Rpc rpc;
  rpc.transport = "session";
  rpc.path = request.path;
  response.prefix = "{\"jsonrpc\": \"2.0\", \"id\": " + dump(id);
  response.suffix = "}";
  PythonJsonSink sink(response.body, spelling());
  try {
    if (request.path == "/web/session/authenticate") {
      if (params.value("db", "") != database_.name()) {
        throw OdooError("psycopg2.OperationalError",
                        "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  database \"" +
                            params.value("db", "") + "\" does not exist\n");
      }
      const std::unique_lock lock(database_.mutex);
      const Id uid = login(params.value("login", ""), params.value("password", ""));
      if (uid == 0) throw OdooError("odoo.exceptions.AccessDenied", "Access Denied");
      char token[48];
      std::snprintf(token, sizeof token, "%040llx",
                    static_cast<unsigned long long>(database_.now_us() * 2654435761ULL + database_.sessions.size()));
      database_.sessions[token] = uid;
      response.headers.emplace_back("Set-Cookie",
                                    std::string("session_id=") + token + "; Max-Age=604800; HttpOnly; Path=/");
      const Env env = environment(uid, Json::object());
      Json companies = Json::object();
      const Table& table = database_.table("res.company");
      Orm orm(database_, env, nullptr);
      for (const Id company : env.companies) {
        companies[std::to_string(company)] = {{"id", company}, {"name", orm.display_name(table, table.find(company))}};
      }
      write_json(sink, {{"uid", uid},
                        {"is_system", uid == 2},
                        {"is_admin", uid == 2},
                        {"user_context", {{"lang", "en_US"}, {"tz", "UTC"}, {"uid", uid}}},
                        {"db", database_.name()},
                        {"server_version", version()["server_version"]},
                        {"server_version_info", version()["server_version_info"]},
                        {"username", params.value("login", "")},
                        {"user_companies", {{"current_company", env.company()}, {"allowed_companies", companies}}}});
      response.prefix += ", \"result\": ";
      return response;
    }
    const std::string cookie = request.header("cookie");
    const auto at = cookie.find("session_id=");
    const std::string token = at == std::string::npos ? "" : cookie.substr(at + 11, cookie.find(';', at) - at - 11);
    {
      const std::shared_lock lock(database_.mutex);
      const auto found = database_.sessions.find(token);
      if (found == database_.sessions.end()) throw OdooError("odoo.http.SessionExpiredException", "Session expired");
      rpc.uid = found->second;
    }
    if (request.path == "/web/session/destroy") {
      const std::unique_lock lock(database_.mutex);
      database_.sessions.erase(token);
      return response;
    }
    rpc.model = params.value("model", "");
    rpc.method = params.value("method", "");
    const Json positional = params.value("args", Json::array());
    const Json keywords = params.value("kwargs", Json::object());
    rpc.context = keywords.value("context", Json::object());
    rpc.shown = {{"args", positional}, {"kwargs", keywords}};
    rpc.bind = [&](Orm& orm, Table& table, const Method& found) {
      return bind_positional(orm, table, found, positional, keywords);
    };
    if (execute(rpc, database_.name(), sink)) {
      response.prefix += ", \"result\": ";
    } else {
      response.body.clear();
    }
  } catch (const OdooError& error) {
    response = json_rpc_error(id, error);
  } catch (const FaultBeforeWork&) {
    response.prefix += ", \"result\": ";
    response.body = "[]";
  }
  return apply_fault(rpc, std::move(response));
}

// ---------------------------------------------------------------- control

Json Service::call(Id uid, const std::string& model, const std::string& name, const Json& args, const Json& kwargs) {
  std::string text;
  PythonJsonSink sink(text, spelling());
  const std::unique_lock lock(database_.mutex);
  Table* table = database_.find(model);
  const Method* method = methods_.find(model, name, database_.series());
  if (table == nullptr || method == nullptr) throw std::runtime_error("no method " + model + "." + name);
  Transaction transaction(database_.now_us());
  Orm orm(database_, environment(uid, kwargs.value("context", Json::object())), &transaction);
  Call bound = bind_positional(orm, *table, *method, args, kwargs);
  method->run(bound, sink);
  transaction.commit();
  return bound.none ? Json(nullptr) : Json::parse(text);
}

HttpResponse Service::control_response(const HttpRequest& request) {
  HttpResponse response;
  response.content_type = "application/json";
  Json body = request.body.empty() ? Json::object() : parse_json(request.body);
  try {
    if (!body.is_object()) throw std::runtime_error("the body must be a JSON object");
    response.body = control(request.method, request.path.substr(std::string_view("/sandbox").size()), body).dump();
  } catch (const std::exception& error) {
    response.status = 400;
    response.body = Json{{"error", error.what()}}.dump();
  }
  return response;
}

Json Service::control(const std::string& method, const std::string& path, const Json& body) {
  const auto model_table = [&]() -> Table& {
    Table* table = database_.find(body.value("model", ""));
    if (table == nullptr) throw std::runtime_error("no model '" + body.value("model", "") + "'");
    return *table;
  };
  const auto ids = [&] {
    std::vector<Id> result;
    for (const auto& item : body.value("ids", Json::array())) result.push_back(item.get<Id>());
    return result;
  };
  if (path == "/state") {
    const HttpCounters counters = counters_();
    Json state = {
        {"series", database_.series()},        {"db", database_.name()},        {"now_us", database_.now_us()},
        {"connections", counters.connections}, {"requests", counters.requests}, {"open_now", counters.open_now},
        {"open_peak", counters.open_peak},     {"busy_now", counters.busy_now}, {"busy_peak", counters.busy_peak}};
    {
      const std::lock_guard lock(log_mutex_);
      state["calls"] = log_count_;
      state["methods"] = Json::object();
      for (const auto& [name, count] : method_counts_) state["methods"][name] = count;
    }
    const std::lock_guard lock(open_mutex_);
    state["open_transactions"] = open_.size();
    return state;
  }
  if (path == "/log") {
    const std::lock_guard lock(log_mutex_);
    if (method == "DELETE") {
      log_.clear();
      method_counts_.clear();
      log_count_ = 0;
      reset_counters_();
      return {{"ok", true}};
    }
    const auto since = body.value("since", std::uint64_t{0});
    const std::string only_model = body.value("model", "");
    const std::string only_method = body.value("method", "");
    Json entries = Json::array();
    for (const auto& entry : log_) {
      if (entry.at("n").get<std::uint64_t>() <= since) continue;
      if (!only_model.empty() && entry.at("model") != only_model) continue;
      if (!only_method.empty() && entry.at("method") != only_method) continue;
      entries.push_back(entry);
    }
    return {{"entries", entries}};
  }
  if (path == "/faults") {
    if (method == "GET") return {{"faults", faults_.list()}};
    if (method == "DELETE") {
      if (body.contains("id")) {
        faults_.remove(body.at("id").get<std::int64_t>());
      } else {
        faults_.clear();
      }
      return {{"ok", true}};
    }
    return {{"id", faults_.add(body)}};
  }
  if (path == "/clock") {
    database_.set_clock_offset_us(body.contains("offset_us")
                                      ? body.at("offset_us").get<std::int64_t>()
                                      : static_cast<std::int64_t>(body.value("offset_seconds", 0.0) * 1e6));
    return {{"now_us", database_.now_us()}};
  }
  if (path == "/call") {
    return {{"result", call(body.value("uid", Id{1}), body.value("model", ""), body.value("method", ""),
                            body.value("args", Json::array()), body.value("kwargs", Json::object()))}};
  }
  if (path == "/tx/begin") {
    const std::lock_guard lock(open_mutex_);
    const auto id = next_open_++;
    const std::int64_t start_us = database_.now_us();
    open_[id] = OpenTransaction{.start_us = start_us,
                                .uid = body.value("uid", Id{2}),
                                .changes = {},
                                .running = std::make_shared<Database::Running>(database_, start_us)};
    return {{"tx", id}, {"start_us", open_[id].start_us}};
  }
  if (path == "/tx/create" || path == "/tx/write" || path == "/tx/unlink") {
    const std::unique_lock data_lock(database_.mutex);
    const std::lock_guard lock(open_mutex_);
    const auto found = open_.find(body.value("tx", std::int64_t{0}));
    if (found == open_.end()) throw std::runtime_error("no such open transaction");
    Table& table = model_table();
    const Json values = body.value("values", Json::object());
    if (path == "/tx/create") {
      // The sequence is taken now, as PostgreSQL takes it; the row appears with the commit.
      const Id id = table.next_id();
      found->second.changes.push_back([&table, values, id](Orm& orm) { orm.create(table, values, id); });
      return {{"id", id}};
    }
    if (path == "/tx/write") {
      found->second.changes.push_back([&table, values, list = ids()](Orm& orm) { orm.write(table, list, values); });
    } else {
      found->second.changes.push_back([&table, list = ids()](Orm& orm) { orm.unlink(table, list); });
    }
    return {{"ok", true}};
  }
  if (path == "/tx/commit" || path == "/tx/rollback") {
    OpenTransaction open;
    {
      const std::lock_guard lock(open_mutex_);
      const auto found = open_.find(body.value("tx", std::int64_t{0}));
      if (found == open_.end()) throw std::runtime_error("no such open transaction");
      open = std::move(found->second);
      open_.erase(found);
    }
    if (path == "/tx/commit") {
      const std::unique_lock lock(database_.mutex);
      Transaction transaction(open.start_us);
      Orm orm(database_, environment(open.uid, Json::object()), &transaction);
      for (const auto& change : open.changes) change(orm);
      transaction.commit();
    }
    return {{"ok", true}, {"start_us", open.start_us}};
  }
  if (path == "/sql/update" || path == "/sql/delete" || path == "/sql/insert") {
    // What an SQL console does: no hooks, no write_date, no rights.
    const std::unique_lock lock(database_.mutex);
    Table& table = model_table();
    const auto set = [&](Id id) {
      const Json values = body.value("values", Json::object());
      for (const auto& [name, value] : values.items()) {
        const Field* field = table.model().find(name);
        if (field == nullptr || field->cells == Cells::none) throw std::runtime_error("no column " + name);
        const Slot slot = table.find(id);
        if (field->cells == Cells::time && value.is_number_integer()) {
          table.column(field->column).set(slot, value.get<std::int64_t>());  // microseconds
        } else if (field->cells == Cells::ids) {
          table.column(field->column).set(slot, value.get<std::vector<Id>>());
        } else {
          table.column(field->column).set(slot, to_cell(table.model(), *field, value));
        }
      }
    };
    if (path == "/sql/insert") {
      const Id id = body.contains("id") ? body.at("id").get<Id>() : table.next_id();
      const Id next = table.peek_next_id();
      table.insert(id);
      if (id > (Id{1} << 31)) table.set_next_id(next);
      set(id);
      return {{"id", id}};
    }
    for (const Id id : ids()) {
      if (table.find(id) == kNoSlot) throw std::runtime_error("no record " + std::to_string(id));
      if (path == "/sql/delete") {
        table.erase(id);
      } else {
        set(id);
      }
    }
    return {{"ok", true}};
  }
  if (path == "/schema/field") {
    const std::unique_lock lock(database_.mutex);
    Table& table = model_table();
    auto& model = const_cast<Model&>(table.model());
    const std::string name = body.value("name", "");
    if (method == "DELETE") {
      if (model.find(name) == nullptr) throw std::runtime_error("no field " + name);
      model.remove_field(name);
      return {{"ok", true}};
    }
    if (model.find(name) != nullptr) throw std::runtime_error("field " + name + " is there already");
    Json attributes = {{"type", "char"},    {"string", name},     {"store", true},    {"required", false},
                       {"readonly", false}, {"searchable", true}, {"sortable", true}, {"manual", true}};
    const Json given = body.value("attributes", Json::object());
    for (const auto& [key, value] : given.items()) attributes[key] = value;
    model.add_field(name, attributes);
    database_.schema().link();
    table.add_columns();
    return {{"ok", true}};
  }
  if (path == "/schema/model") {
    const std::unique_lock lock(database_.mutex);
    const std::string name = body.value("name", "");
    if (name.empty() || database_.find(name) != nullptr)
      throw std::runtime_error("the model has no name, or is there already");
    Json description = {{"name", body.value("label", name)}, {"fields", body.value("fields", Json::object())}};
    add_standard_fields(description["fields"]);
    database_.add_table(database_.schema().add_model(name, description));
    database_.schema().link();
    describe_model(database_, name);
    return {{"ok", true}};
  }
  if (path == "/fill") {
    const std::unique_lock lock(database_.mutex);
    fill(database_, body.value("model", ""), body.value("count", std::size_t{0}), body.value("seed", std::uint64_t{1}));
    return {{"count", model_table().size()}};
  }
  if (path == "/api_key") {
    const std::unique_lock lock(database_.mutex);
    database_.api_keys[body.at("key").get<std::string>()] = ApiKey{.uid = body.at("uid").get<Id>(), .name = "sandbox"};
    return {{"ok", true}};
  }
  if (path == "/times") {
    // (id, write_date in microseconds) of every record: what no RPC of Odoo shows.
    const std::shared_lock lock(database_.mutex);
    const Table& table = model_table();
    const Column& column = table.column(table.model().find("write_date")->column);
    Json times = Json::array();
    table.each([&](Id id, Slot slot) {
      times.push_back(Json::array({id, column.integer(slot)}));
      return true;
    });
    return {{"times", times}};
  }
  if (extension_) {
    if (auto answer = extension_(method, path, body)) return *answer;
  }
  throw std::runtime_error("no control " + method + " " + path);
}

}  // namespace sandbox::odoo
