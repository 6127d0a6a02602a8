#include "odoo/client.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "json/records.h"
#include "json/scan.h"
#include "odoo/arguments.h"
#include "odoo/envelope.h"
#include "odoo/fault.h"
#include "odoo/xml_rpc.h"

namespace dragoman::odoo {
namespace {

using Kind = Error::Kind;

constexpr std::size_t kPadding = 64;

Error made(Kind kind, std::string code, std::string message, std::string detail = {}) {
  Error error(kind, std::move(message), std::move(detail));
  error.code = std::move(code);
  return error;
}

// `https://host:port` of whatever was pasted from a browser's address line.
std::string origin_of(const std::string& url) {
  const auto scheme = url.find("://");
  if (scheme == std::string::npos)
    throw made(Kind::invalid, "url", "the URL of Odoo has to begin with https:// or http://");
  const auto end = url.find_first_of("/?#", scheme + 3);
  std::string origin = url.substr(0, end);
  if (origin.find('@') != std::string::npos)
    throw made(Kind::invalid, "url", "the URL of Odoo must not hold a user name or password: give them on their own");
  return origin;
}

// Where a redirect leads, as the URL that can be given for this Odoo: without what we had asked for there, and without
// a query, which may hold anything.
std::string target_of(const http::Response& response) {
  std::string location(response.headers.find("Location").value_or(""));
  location.resize(std::min(location.size(), location.find_first_of("?#")));
  while (location.ends_with('/')) location.pop_back();
  for (const std::string_view own :
       {"/jsonrpc", "/xmlrpc/2/common", "/xmlrpc/2/object", "/xmlrpc/2/db", "/web/version"})
    if (location.ends_with(own)) location.resize(location.size() - own.size());
  const auto host = location.find("://");
  const auto json2 = location.find("/json/2/", host == std::string::npos ? 0 : host + 3);
  if (json2 != std::string::npos) location.resize(json2);
  if (location.empty()) return "another path of its own";
  return shorten(location, 200);
}

bool looks_like_key(const std::string& secret) {
  return secret.size() == 40 && std::all_of(secret.begin(), secret.end(),
                                            [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

void replace_all(std::string& text, const std::string& from, std::string_view to) {
  if (from.empty()) return;
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

std::string dump(const nlohmann::json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::exception&) {
    throw Error(Kind::invalid, "a value for Odoo holds bytes that are no UTF-8");
  }
}

std::string ids_json(const std::vector<std::int64_t>& ids) {
  return fmt::format("[{}]", fmt::join(ids, ","));
}

std::string names_json(const std::vector<std::string>& names) {
  std::string text = "[";
  for (const auto& name : names) {
    if (text.size() > 1) text += ',';
    append_json_string(text, name);
  }
  return text + "]";
}

std::int64_t whole_number(std::string_view token, std::string_view what) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  if (error != std::errc() || end != token.data() + token.size())
    throw made(Kind::protocol, "odoo_shape", fmt::format("Odoo answered {} with something else than a number", what));
  return value;
}

std::vector<std::int64_t> id_list(std::string_view result, std::string_view what) {
  std::vector<std::int64_t> ids;
  if (!result.empty() && result.front() != '[') {
    ids.push_back(whole_number(result, what));
    return ids;
  }
  json::Scanner scanner(result);
  scanner.expect('[');
  if (!scanner.take(']')) {
    do ids.push_back(whole_number(scanner.value(), what));
    while (scanner.take(','));
    scanner.expect(']');
  }
  scanner.finish();
  return ids;
}

// The members of several objects in one, the last of a name wins.
std::string merge(std::initializer_list<std::string_view> objects) {
  std::vector<std::pair<std::string, std::string_view>> all;
  for (const auto object : objects) {
    if (object.empty()) continue;
    for (auto& [key, value] : members_of(object, "the context")) {
      const auto same = std::find_if(all.begin(), all.end(), [&](const auto& m) { return m.first == key; });
      if (same != all.end())
        same->second = value;
      else
        all.emplace_back(std::move(key), value);
    }
  }
  std::string text = "{";
  for (const auto& [key, value] : all) {
    if (text.size() > 1) text += ',';
    append_json_string(text, key);
    text += ':';
    text += value;
  }
  return text + "}";
}

// `kwargs` with the call's context in it.
std::string with_context(std::string_view kwargs, const CallOptions& options) {
  std::string companies;
  if (!options.companies.empty())
    companies = fmt::format(R"({{"allowed_company_ids":{},"company_id":{}}})", ids_json(options.companies),
                            options.companies.front());
  if (companies.empty() && options.context.empty()) return std::string(kwargs);
  std::string_view own;
  std::string text = "{";
  if (!kwargs.empty())
    for (const auto& [key, value] : members_of(kwargs, "kwargs")) {
      if (key == "context") {
        own = value;
        continue;
      }
      if (text.size() > 1) text += ',';
      append_json_string(text, key);
      text += ':';
      text += value;
    }
  if (text.size() > 1) text += ',';
  return text + "\"context\":" + merge({companies, options.context, own}) + "}";
}

bool is_json(const http::Response& response) {
  return http::media_type(response.headers) == "application/json";
}

struct Session {
  Version version;
  Transport transport = Transport::json_rpc;
  std::string database;
  std::int64_t uid = 0;
};

}  // namespace

std::string_view name(Transport transport) {
  switch (transport) {
    case Transport::json2:
      return "json2";
    case Transport::json_rpc:
      return "jsonrpc";
    case Transport::xml_rpc:
      return "xmlrpc";
  }
  return "jsonrpc";
}

std::optional<Version> parse_version(std::string_view info_json, std::string_view text) {
  Version version;
  version.text = std::string(text);
  try {
    const auto items = items_of(info_json, "the version");
    if (items.empty()) return std::nullopt;
    std::string first(items[0]);
    if (first.starts_with('"')) first = json::unquote(first);
    if (const auto tilde = first.find('~'); tilde != std::string::npos) {
      version.saas = true;
      first.erase(0, tilde + 1);
    }
    const char* const end = first.data() + first.size();
    auto [at, error] = std::from_chars(first.data(), end, version.major);
    if (error != std::errc() || version.major <= 0) return std::nullopt;
    if (at != end && *at == '.')
      std::from_chars(at + 1, end, version.minor);
    else if (items.size() > 1)
      std::from_chars(items[1].data(), items[1].data() + items[1].size(), version.minor);
  } catch (const Error&) {
    return std::nullopt;
  }
  return version;
}

class Client::Impl {
  // One thread at a time finds things out; the others wait for it, and may be stopped while they do.
  template <typename Work>
  auto once(std::stop_token stop, const Work& work) {
    std::unique_lock lock(mutex_);
    if (!finding_free_.wait(lock, stop, [&] { return !finding_; }))
      throw Error(Kind::cancelled, "the call was stopped");
    finding_ = true;
    lock.unlock();
    struct Done {
      Impl& impl;
      ~Done() {
        {
          std::lock_guard guard(impl.mutex_);
          impl.finding_ = false;
        }
        impl.finding_free_.notify_one();
      }
    } done{*this};
    return work();
  }

 public:
  Impl(Settings given, Clock& clock, std::unique_ptr<http::Client> http)
      : settings_(std::move(given)),
        clock_(clock),
        http_(std::move(http)),
        origin_(origin_of(settings_.url)),
        gate_({.workers = settings_.workers,
               .learnt = settings_.learnt_workers,
               .bulk_share_all = settings_.bulk_share_all,
               .trial_spacing = settings_.trial_spacing},
              clock) {}

  // --- what is found out once -------------------------------------------------------------------------------------

  Version version(std::stop_token stop) {
    return once(stop, [&] { return know_version(stop); });
  }
  Transport transport(std::stop_token stop) {
    return once(stop, [&] { return know_transport(stop); });
  }
  std::string database(std::stop_token stop) {
    return once(stop, [&] { return know_database(stop); });
  }
  std::shared_ptr<const Session> session(std::stop_token stop) {
    {
      std::lock_guard lock(mutex_);
      if (session_) return session_;
    }
    return once(stop, [&] {
      auto made = std::make_shared<Session>();
      made->version = know_version(stop);
      made->transport = know_transport(stop);
      made->database = know_database(stop);
      if (made->transport != Transport::json2) made->uid = know_uid(stop);
      std::lock_guard lock(mutex_);
      session_ = made;
      return std::shared_ptr<const Session>(made);
    });
  }
  std::int64_t user_id(std::stop_token stop) {
    const auto known = session(stop);
    if (known->uid) return known->uid;
    CallOptions options;
    options.read_only = true;
    options.stop = stop;
    const Answer answer = call("res.users", "context_get", "", "", options, Check::whole);
    const std::int64_t uid = uid_of(answer);
    auto made = std::make_shared<Session>(*known);
    made->uid = uid;
    std::lock_guard lock(mutex_);
    session_ = made;
    return uid;
  }
  std::vector<std::string> databases(std::stop_token stop) {
    const std::string body = rpc("db", "list", "[]", true, stop, "common.db");
    std::vector<std::string> names;
    for (const auto item : items_of(body, "the list of databases"))
      if (item.starts_with('"')) names.push_back(json::unquote(item));
    return names;
  }

  // --- calls ------------------------------------------------------------------------------------------------------

  Answer call(std::string_view model, std::string_view method, std::string_view args, std::string_view kwargs,
              const CallOptions& options, Check check) {
    const auto known = session(options.stop);
    const std::string named = with_context(kwargs, options);
    http::Request request;
    request.method = "POST";
    switch (known->transport) {
      case Transport::json2: {
        request.target = fmt::format("{}/json/2/{}/{}", origin_, path_part(model), path_part(method));
        request.body = "{" + named_arguments(method, args, named) + "}";
        request.headers.add("Authorization", "bearer " + settings_.password.reveal());
        request.headers.add("Content-Type", "application/json");
        if (!known->database.empty()) request.headers.add("X-Odoo-Database", known->database);
        break;
      }
      case Transport::json_rpc:
        request = json_rpc_request("object", "execute_kw",
                                   fmt::format("[{}]", fmt::join(execute_kw(*known, model, method, args, named), ",")));
        break;
      case Transport::xml_rpc:
        request.target = origin_ + "/xmlrpc/2/object";
        request.headers.add("Content-Type", "text/xml");
        request.body = xml_rpc_call("execute_kw", execute_kw(*known, model, method, args, named));
        break;
    }
    const Where where{model, method, options.read_only, known.get()};
    Answer answer;
    http::Response response =
        exchange(request, options.lane, fmt::format("{}.{}", model, method), where, options.stop, answer);
    try {
      return read(std::move(response), std::move(answer), known->transport, check, where);
    } catch (Error& error) {
      failed(error);
      throw;
    }
  }

  Version known_version(std::stop_token stop) { return session(stop)->version; }

  Stats stats() const {
    std::lock_guard lock(mutex_);
    Stats stats = stats_;
    stats.places = gate_.places();
    stats.bulk_places = gate_.bulk_places();
    stats.learnt_workers = gate_.learnt();
    return stats;
  }

 private:
  struct Where {
    std::string_view model, method;
    bool read_only;
    const Session* session;  // null while it is found out what this server is
  };
  // `{"lang":…,"uid":7}`
  static std::int64_t uid_of(const Answer& answer) {
    for (const auto& [key, value] : members_of(answer.result(), "context_get"))
      if (key == "uid") return whole_number(value, "context_get");
    throw made(Kind::protocol, "odoo_shape", "Odoo does not say whose API key this is");
  }

  std::vector<std::string> execute_kw(const Session& session, std::string_view model, std::string_view method,
                                      std::string_view args, const std::string& kwargs) const {
    return {json_string(session.database),
            std::to_string(session.uid),
            json_string(settings_.password.reveal()),
            json_string(model),
            json_string(method),
            args.empty() ? "[]" : std::string(args),
            kwargs.empty() ? "{}" : kwargs};
  }

  static std::string path_part(std::string_view text) {
    if (text.empty() || !std::all_of(text.begin(), text.end(), [](char c) {
          return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '.';
        }))
      throw Error(Kind::invalid, fmt::format("{} is no name of a model or method", json_string(text)));
    return std::string(text);
  }

  Version know_version(std::stop_token stop) {
    if (version_) return *version_;
    // 19 answers this without a login and without a line in its log; before 19 it is a page that is not there.
    Answer times;
    const Where where{"common", "version", true, nullptr};
    http::Request get;
    get.target = origin_ + "/web/version";
    {
      const http::Response response = exchange(get, Lane::interactive, "common.version", where, stop, times);
      if (response.status == 200 && is_json(response)) version_ = version_of(response.body, "version_info", "version");
    }
    if (!version_) {
      const std::string result = rpc("common", "version", "[]", true, stop, "common.version");
      version_ = version_of(result, "server_version_info", "server_version");
      if (!version_) throw not_odoo("its answer to common.version is not Odoo's");
    }
    return *version_;
  }

  std::optional<Version> version_of(std::string_view body, std::string_view info_key, std::string_view text_key) const {
    try {
      json::check(body);
      std::string_view info;
      std::string text;
      for (const auto& [key, value] : members_of(body, "the version")) {
        if (key == info_key) info = value;
        if (key == text_key && value.starts_with('"')) text = json::unquote(value);
      }
      return parse_version(info, text);
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  Transport know_transport(std::stop_token stop) {
    const Version version = know_version(stop);
    if (settings_.transport) {
      if (*settings_.transport == Transport::json2 && version.major < 19)
        throw made(Kind::auth, "transport", fmt::format("Odoo {} has no JSON-2: use jsonrpc", version.text));
      return *settings_.transport;
    }
    return version.major >= 19 && looks_like_key(settings_.password.reveal()) ? Transport::json2 : Transport::json_rpc;
  }

  std::string know_database(std::stop_token stop) {
    if (!settings_.database.empty()) return settings_.database;
    if (database_) return *database_;
    std::vector<std::string> names;
    try {
      names = databases(stop);
    } catch (const Error& error) {
      if (error.kind != Kind::auth && error.kind != Kind::forbidden && error.kind != Kind::not_found) throw;
      if (know_transport(stop) == Transport::json2) return {};
      throw made(Kind::auth, "odoo_database", "this Odoo does not list its databases: give the database's name",
                 error.detail);
    }
    if (names.size() != 1)
      throw made(Kind::auth, "odoo_database",
                 names.empty() ? std::string("this Odoo lists no database: give the database's name")
                               : fmt::format("this Odoo has {} databases ({}): name the one you want", names.size(),
                                             shorten(fmt::format("{}", fmt::join(names, ", ")), 300)));
    database_ = names.front();
    return *database_;
  }

  std::int64_t know_uid(std::stop_token stop) {
    const std::string database = know_database(stop);
    if (settings_.login.empty())
      throw made(Kind::auth, "login", "this transport needs a login name besides the password or API key");
    std::string result;
    try {
      result = rpc("common", "authenticate",
                   fmt::format("[{},{},{},{{}}]", json_string(database), json_string(settings_.login),
                               json_string(settings_.password.reveal())),
                   true, stop, "common.authenticate");
    } catch (Error& error) {
      if (error.code == "odoo_database") throw unknown_database(error, stop);
      throw;
    }
    if (result == "false" || result == "null")
      throw made(Kind::auth, "odoo_auth",
                 fmt::format("Odoo refused the login {} on database {}: check the login name, and that the password or "
                             "API key is right and not expired",
                             json_string(settings_.login), json_string(database)));
    return whole_number(result, "authenticate");
  }

  Error unknown_database(const Error& cause, std::stop_token stop) {
    std::string message =
        fmt::format("this Odoo has no database {}", json_string(database_ ? *database_ : settings_.database));
    try {
      const auto names = databases(stop);
      if (!names.empty())
        message += fmt::format("; it has {}", shorten(fmt::format("{}", fmt::join(names, ", ")), 300));
    } catch (const Error& error) {
      ignore_error("the server does not list its databases; the message goes without them", error);
    }
    return made(Kind::not_found, "odoo_database", message, cause.detail);
  }

  Error not_odoo(std::string_view why, std::string detail = {}) const {
    return made(Kind::protocol, "not_odoo", fmt::format("{} is no Odoo: {}; check the URL", origin_, why),
                std::move(detail));
  }

  // --- one exchange -----------------------------------------------------------------------------------------------

  http::Request json_rpc_request(std::string_view service, std::string_view method, std::string_view args) {
    http::Request request;
    request.method = "POST";
    request.target = origin_ + "/jsonrpc";
    request.headers.add("Content-Type", "application/json");
    request.body = fmt::format(
        R"({{"jsonrpc":"2.0","method":"call","id":{},"params":{{"service":"{}","method":"{}","args":{}}}}})",
        next_id_.fetch_add(1, std::memory_order_relaxed), service, method, args);
    return request;
  }

  // A call of a service that is not a model's: by XML-RPC if that is what was asked for, else JSON-RPC.
  std::string rpc(std::string_view service, std::string_view method, const std::string& args, bool read_only,
                  std::stop_token stop, std::string_view work) {
    const bool xml = settings_.transport == Transport::xml_rpc;
    http::Request request;
    if (xml) {
      request.method = "POST";
      request.target = fmt::format("{}/xmlrpc/2/{}", origin_, service);
      request.headers.add("Content-Type", "text/xml");
      request.body = xml_rpc_call(method, items_of(args, "args"));
    } else {
      request = json_rpc_request(service, method, args);
    }
    const Where where{service, method, read_only, nullptr};
    Answer answer;
    http::Response response = exchange(request, Lane::interactive, std::string(work), where, stop, answer);
    try {
      return std::string(read(std::move(response), std::move(answer), xml ? Transport::xml_rpc : Transport::json_rpc,
                              Check::whole, where)
                             .result());
    } catch (Error& error) {
      failed(error);
      throw;
    }
  }

  http::Response exchange(const http::Request& request, Lane lane, const std::string& work, const Where& where,
                          std::stop_token stop, Answer& times) {
    Gate::Place place = gate_.enter(
        lane, work, [&] { return probe(stop); }, stop);
    const Micros began = clock_.steady();
    times.sent = began;
    {
      std::lock_guard lock(mutex_);
      ++stats_.calls;
    }
    try {
      http::Response response = http_->send(request, stop);
      times.received = clock_.steady();
      if (const auto date = response.headers.find("Date")) times.server_date = http::parse_http_date(*date);
      const double ms = double((times.received - began).count()) / 1000;
      place.ended(response.status == 429 || response.status == 503 ? Ending::refused : Ending::good);
      std::lock_guard lock(mutex_);
      stats_.bytes_received += std::int64_t(response.body.size());
      stats_.latency_ms = stats_.latency_ms == 0 ? ms : stats_.latency_ms * 0.9 + ms * 0.1;
      return response;
    } catch (Error& error) {
      if (error.code == "timeout" || error.code == "reset") place.ended(Ending::lost);
      const bool sent = error.kind == Kind::in_doubt || (error.kind == Kind::cancelled && error.code == "sent");
      if (error.kind == Kind::in_doubt && where.read_only) {
        error.kind = Kind::unavailable;
        error.message = fmt::format("the answer to {}.{} was lost ({}): reading again is safe", where.model,
                                    where.method, error.code);
      } else if (sent && !where.read_only) {
        error.kind = Kind::in_doubt;
        if (error.code == "sent") error.code = "cancelled";
        error.message = fmt::format(
            "{}.{} was sent and its answer was lost ({}): look up whether it was done before "
            "repeating it",
            where.model, where.method, error.code);
      }
      failed(error);
      throw;
    }
  }

  // The smallest call there is: how long it takes tells whether a worker is free.
  Ending probe(std::stop_token stop) {
    http::Request request;
    bool modern;
    {
      std::lock_guard lock(mutex_);
      modern = session_ && session_->version.major >= 19;
    }
    if (modern)
      request.target = origin_ + "/web/version";
    else
      request = json_rpc_request("common", "version", "[]");
    try {
      const auto response = http_->send(request, stop);
      return response.status == 429 || response.status == 503 ? Ending::refused : Ending::good;
    } catch (const Error& error) {
      ignore_error("a probe for free workers", error);
      return Ending::lost;
    }
  }

  Answer read(http::Response response, Answer answer, Transport transport, Check check, const Where& where) {
    if (transport == Transport::xml_rpc) return read_xml(std::move(response), std::move(answer), where);
    const bool json_body = is_json(response);
    if (transport == Transport::json2) {
      if (response.status == 200 && json_body) {
        answer.json = std::move(response.body);
        answer.begin = 0;
        answer.end = answer.json.size();
        if (check == Check::whole) json::check(answer.json);
        return answer;
      }
      if (json_body)
        if (const auto fault = read_json2_fault(response.body)) {
          Error error = translate(*fault, where.model, where.method);
          if (const auto after = retry_after(response)) error.retry_in(*after);
          throw error;
        }
      refuse(response, where);
    }
    if (!json_body) refuse(response, where);
    Envelope envelope;
    try {
      envelope = read_json_rpc(response.body, check);
    } catch (const Error&) {
      if (response.status != 200) refuse(response, where);
      throw;
    }
    if (envelope.fault) {
      Error error = translate(*envelope.fault, where.model, where.method);
      if (const auto after = retry_after(response)) error.retry_in(*after);
      throw error;
    }
    if (response.status != 200) refuse(response, where);
    if (envelope.end == 0) {
      answer.json = "null";
      answer.json.reserve(4 + kPadding);
      answer.end = 4;
      return answer;
    }
    answer.json = std::move(response.body);
    answer.begin = envelope.begin;
    answer.end = envelope.end;
    return answer;
  }

  Answer read_xml(http::Response response, Answer answer, const Where& where) {
    const std::string type = http::media_type(response.headers);
    if (response.status != 200 || (type != "text/xml" && type != "application/xml")) refuse(response, where);
    XmlRpcAnswer read = read_xml_rpc(response.body);
    if (read.none) {
      if (where.read_only)
        throw made(Kind::protocol, "xml_rpc_none",
                   fmt::format("Odoo cannot answer {}.{} by XML-RPC, as a None is in it: use another transport",
                               where.model, where.method));
      read.json = "null";
    } else if (read.fault) {
      throw translate(*read.fault, where.model, where.method);
    }
    read.json.reserve(read.json.size() + kPadding);
    answer.json = std::move(read.json);
    answer.end = answer.json.size();
    return answer;
  }

  std::optional<std::chrono::seconds> retry_after(const http::Response& response) const {
    const auto value = response.headers.find("Retry-After");
    return value ? http::parse_retry_after(*value, clock_.now()) : std::nullopt;
  }

  // An answer that is not Odoo's own way to say something.
  [[noreturn]] void refuse(const http::Response& response, const Where& where) {
    const int status = response.status;
    const std::string type = http::media_type(response.headers);
    const std::string detail = fmt::format("status {}, {}: {}", status, type.empty() ? "no type" : type,
                                           shorten(std::string_view(response.body).substr(0, 4000), 500));
    const auto lost = [&](const char* code, std::string_view what) {
      if (where.read_only) return made(Kind::unavailable, code, fmt::format("{}: try again later", what), detail);
      return made(Kind::in_doubt, code,
                  fmt::format("{} in answer to {}.{}: look up whether it was done before repeating it", what,
                              where.model, where.method),
                  detail);
    };
    if (status >= 300 && status < 400)
      throw made(Kind::protocol, "redirect",
                 fmt::format("{} redirects to {}: give the URL that it leads to", origin_, target_of(response)),
                 detail);
    if (status == 429 || status == 503) {
      const auto after = retry_after(response);
      const bool busy = status == 429 || after;
      Error error = made(busy ? Kind::busy : Kind::unavailable, fmt::format("http_{}", status),
                         fmt::format("{} asks to come back later (status {})", origin_, status), detail);
      if (after) error.retry_in(*after);
      throw error;
    }
    if (status == 502 || status == 504 || status > 504)
      throw lost("http_gateway", fmt::format("the proxy before Odoo got no answer from it (status {})", status));
    if (status == 500 && where.session)
      // 14 says so when its PostgreSQL is down.
      throw lost("odoo_database_down",
                 "Odoo failed before it could answer (status 500), as it does when its database is down");
    if (status == 401 || status == 407)
      throw made(Kind::auth, "http_auth", fmt::format("a proxy before {} wants a login of its own", origin_), detail);
    if (status == 403)
      throw made(Kind::forbidden, "http_forbidden",
                 fmt::format("something before {} does not let this call through (status 403)", origin_), detail);
    if (status == 413)
      throw made(Kind::invalid, "odoo_too_large",
                 fmt::format("{}.{} sends more than the server takes in one call", where.model, where.method), detail);
    if (status == 404 && where.session && where.session->transport == Transport::json2)
      throw made(Kind::not_found, "odoo_database",
                 fmt::format("this Odoo has no database {}", json_string(where.session->database)), detail);
    if (!where.session) {
      if (status == 500)
        throw made(Kind::unavailable, "http_500", fmt::format("{} fails (status 500): try again later", origin_),
                   detail);
      throw not_odoo(fmt::format("it answers with status {}, {}", status, type.empty() ? "no type" : type), detail);
    }
    throw made(
        Kind::protocol, type == "text/html" ? "html" : "odoo_shape",
        fmt::format("{} answered with {} (status {}) where Odoo's data was expected: is there a proxy or a login "
                    "page in between?",
                    origin_,
                    type == "text/html" ? "a web page"
                    : type.empty()      ? "nothing readable"
                                        : type,
                    status),
        detail);
  }

  // Keeps the books, hides secrets, and forgets what may have changed at the other side.
  void failed(Error& error) {
    const std::string& secret = settings_.password.reveal();
    if (secret.size() >= 4) {
      for (std::string* text : {&error.message, &error.detail}) {
        replace_all(*text, secret, "***");
        const std::string quoted = json_string(secret);
        replace_all(*text, quoted.substr(1, quoted.size() - 2), "***");
      }
    }
    std::lock_guard lock(mutex_);
    ++stats_.failures;
    if (error.kind == Kind::protocol || error.kind == Kind::auth || error.code == "odoo_database") session_.reset();
  }

  const Settings settings_;
  Clock& clock_;
  const std::unique_ptr<http::Client> http_;
  const std::string origin_;
  Gate gate_;
  std::atomic<std::int64_t> next_id_{1};

  mutable std::mutex mutex_;
  std::condition_variable_any finding_free_;
  bool finding_ = false;
  std::shared_ptr<const Session> session_;
  Stats stats_;

  // Only the thread inside once() touches these.
  std::optional<Version> version_;
  std::optional<std::string> database_;
};

Client::Client(Settings settings, Clock& clock) : impl_(nullptr) {
  auto http = http::make_client(settings.http);
  impl_ = std::make_unique<Impl>(std::move(settings), clock, std::move(http));
}
Client::Client(Settings settings, Clock& clock, std::unique_ptr<http::Client> http)
    : impl_(std::make_unique<Impl>(std::move(settings), clock, std::move(http))) {}
Client::~Client() = default;

Version Client::version(std::stop_token stop) {
  return impl_->version(stop);
}
Transport Client::transport(std::stop_token stop) {
  return impl_->transport(stop);
}
std::vector<std::string> Client::databases(std::stop_token stop) {
  return impl_->databases(stop);
}
std::string Client::database(std::stop_token stop) {
  return impl_->database(stop);
}
std::int64_t Client::user_id(std::stop_token stop) {
  return impl_->user_id(stop);
}
Client::Stats Client::stats() const {
  return impl_->stats();
}

Answer Client::call(std::string_view model, std::string_view method, std::string_view args, std::string_view kwargs,
                    const CallOptions& options) {
  return impl_->call(model, method, args, kwargs, options, Check::whole);
}

namespace {

CallOptions reading(const CallOptions& options) {
  CallOptions copy = options;
  copy.read_only = true;
  return copy;
}

// The members of a call's named arguments, with braces.
class Named {
 public:
  Named& add(std::string_view name, std::string_view value) {
    text_ += text_.size() > 1 ? "," : "";
    append_json_string(text_, name);
    text_ += ':';
    text_ += value;
    return *this;
  }
  std::string done() { return text_ + "}"; }

 private:
  std::string text_ = "{";
};

Named page_arguments(const ReadOptions& read) {
  Named named;
  if (!read.order.empty()) named.add("order", json_string(read.order));
  if (read.limit > 0) named.add("limit", std::to_string(read.limit));
  if (read.offset > 0) named.add("offset", std::to_string(read.offset));
  return named;
}

// Odoo 15 and 16 were not run; they are treated as 14, which costs a call and is right on all.
constexpr int kLoadInSearchRead = 17;

}  // namespace

Answer Client::search_read(std::string_view model, const Domain& domain, const ReadOptions& read,
                           const CallOptions& options) {
  const CallOptions call = reading(options);
  const bool ids_mode = read.names == Names::ids;
  if (ids_mode && impl_->known_version(options.stop).major < kLoadInSearchRead) {
    const Answer found = impl_->call(model, "search", fmt::format("[{}]", domain.json()), page_arguments(read).done(),
                                     call, Check::whole);
    const auto ids = id_list(found.result(), "search");
    if (ids.empty()) return found;
    Answer answer = this->read(model, ids, read, options);
    answer.sent = found.sent;
    return answer;
  }
  Named named = page_arguments(read);
  named.add("domain", domain.json());
  if (!read.fields.empty()) named.add("fields", names_json(read.fields));
  if (ids_mode) named.add("load", "\"\"");
  return impl_->call(model, "search_read", "", named.done(), call, Check::page);
}

Answer Client::read(std::string_view model, const std::vector<std::int64_t>& ids, const ReadOptions& read,
                    const CallOptions& options) {
  Named named;
  if (!read.fields.empty()) named.add("fields", names_json(read.fields));
  if (read.names == Names::ids) named.add("load", "\"\"");
  return impl_->call(model, "read", fmt::format("[{}]", ids_json(ids)), named.done(), reading(options), Check::page);
}

std::vector<std::int64_t> Client::search(std::string_view model, const Domain& domain, const ReadOptions& page,
                                         const CallOptions& options) {
  const Answer answer = impl_->call(model, "search", fmt::format("[{}]", domain.json()), page_arguments(page).done(),
                                    reading(options), Check::whole);
  return id_list(answer.result(), "search");
}

std::int64_t Client::search_count(std::string_view model, const Domain& domain, const CallOptions& options) {
  const Answer answer =
      impl_->call(model, "search_count", fmt::format("[{}]", domain.json()), "", reading(options), Check::whole);
  return whole_number(answer.result(), "search_count");
}

Answer Client::fields_get(std::string_view model, const std::vector<std::string>& attributes,
                          const CallOptions& options) {
  Named named;
  if (!attributes.empty()) named.add("attributes", names_json(attributes));
  return impl_->call(model, "fields_get", "", named.done(), reading(options), Check::whole);
}

std::vector<std::int64_t> Client::create(std::string_view model, const nlohmann::json& vals_list,
                                         const CallOptions& options) {
  const std::string list = vals_list.is_array() ? dump(vals_list) : fmt::format("[{}]", dump(vals_list));
  const Answer answer = impl_->call(model, "create", fmt::format("[{}]", list), "", options, Check::whole);
  return id_list(answer.result(), "create");
}

void Client::write(std::string_view model, const std::vector<std::int64_t>& ids, const nlohmann::json& vals,
                   const CallOptions& options) {
  impl_->call(model, "write", fmt::format("[{},{}]", ids_json(ids), dump(vals)), "", options, Check::whole);
}

void Client::unlink(std::string_view model, const std::vector<std::int64_t>& ids, const CallOptions& options) {
  impl_->call(model, "unlink", fmt::format("[{}]", ids_json(ids)), "", options, Check::whole);
}

Answer Client::load(std::string_view model, const std::vector<std::string>& fields, const nlohmann::json& rows,
                    const CallOptions& options) {
  Answer answer =
      impl_->call(model, "load", fmt::format("[{},{}]", names_json(fields), dump(rows)), "", options, Check::whole);
  // load swallows the database's error, so that Odoo's own repetition does not set in; the text is PostgreSQL's and
  // never translated.
  if (answer.result().find("could not serialize access") != std::string_view::npos &&
      json::field(answer.result(), "ids") == "false")
    throw made(
        Kind::conflict, "odoo_serialization",
        fmt::format("load of {} met another transaction in Odoo and was rolled back: it may be repeated", model));
  return answer;
}

}  // namespace dragoman::odoo
