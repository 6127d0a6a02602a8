#include "app/config.h"

#include <fmt/format.h>
#include <unistd.h>

#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <sstream>

#include "base/error.h"
#include "base/text.h"

extern char** environ;

namespace dragoman::app {
namespace {

using Value = std::variant<std::string, std::int64_t>;

struct Setting {
  std::string key;
  std::string flag;  ///< or empty
  std::function<void(Config&, const Value&)> apply;
  std::int64_t min = 0, max = INT64_MAX;
  std::vector<std::string> choices;
  bool is_url = false;  ///< may hold a password, which is masked
  bool secret = false;  ///< never shown
};

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "config";
  throw error;
}

std::function<void(Config&, const Value&)> text(std::string Config::* member) {
  return [member](Config& config, const Value& value) { config.*member = std::get<std::string>(value); };
}

template <typename Owner, typename Number>
std::function<void(Config&, const Value&)> number(Owner Config::* owner, Number Owner::* member) {
  return [=](Config& config, const Value& value) {
    (config.*owner).*member = static_cast<Number>(std::get<std::int64_t>(value));
  };
}

template <typename Unit, typename Owner, typename Duration>
std::function<void(Config&, const Value&)> duration(Owner Config::* owner, Duration Owner::* member) {
  return [=](Config& config, const Value& value) {
    (config.*owner).*member = std::chrono::duration_cast<Duration>(Unit(std::get<std::int64_t>(value)));
  };
}

void apply_listen(Config& config, const Value& value) {
  const auto& listen = std::get<std::string>(value);
  const auto colon = listen.rfind(':');
  std::string address = listen.substr(0, colon == std::string::npos ? 0 : colon);
  const std::string port = colon == std::string::npos ? listen : listen.substr(colon + 1);
  if (address.size() > 1 && address.front() == '[' && address.back() == ']')
    address = address.substr(1, address.size() - 2);
  if (address == "localhost") address = "127.0.0.1";
  std::uint16_t number = 0;
  const auto [end, code] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (code != std::errc() || end != port.data() + port.size() || port.empty())
    refuse(fmt::format("`http.listen` is an address and a port such as 127.0.0.1:8480, and `{}` is not.", listen));
  config.http.address = address.empty() ? "127.0.0.1" : address;
  config.http.port = number;
}

void apply_level(Config& config, const Value& value) {
  const auto& level = std::get<std::string>(value);
  config.log_level = level == "debug"     ? log::Level::debug
                     : level == "warning" ? log::Level::warning
                     : level == "error"   ? log::Level::error
                                          : log::Level::info;
}

void apply_recipients(Config& config, const Value& value) {
  config.notify.email.to.clear();
  std::istringstream all(std::get<std::string>(value));
  for (std::string one; std::getline(all, one, ',');) {
    const auto begin = one.find_first_not_of(' ');
    if (begin == std::string::npos) continue;
    config.notify.email.to.push_back(one.substr(begin, one.find_last_not_of(' ') - begin + 1));
  }
}

void apply_security(Config& config, const Value& value) {
  const auto& text = std::get<std::string>(value);
  using Security = notify::EmailSettings::Security;
  config.notify.email.security = text == "tls" ? Security::tls : text == "none" ? Security::none : Security::starttls;
}

// The one declaration of every setting; its default and what it is stand in config.default.toml.
const std::vector<Setting>& settings() {
  using std::chrono::milliseconds;
  using std::chrono::minutes;
  using std::chrono::seconds;
  static const std::vector<Setting> all{
      {.key = "hub.data_dir", .flag = "--data-dir", .apply = text(&Config::data_dir)},
      {.key = "hub.log_level", .apply = apply_level, .choices = {"debug", "info", "warning", "error"}},
      {.key = "hub.log_file", .apply = text(&Config::log_file)},
      {.key = "hub.stop_seconds",
       .apply = [](Config& config, const Value& value) { config.stop_grace = seconds(std::get<std::int64_t>(value)); },
       .max = 3600},
      {.key = "store.url",
       .flag = "--store",
       .apply = [](Config& config, const Value& value) { config.store.url = std::get<std::string>(value); },
       .is_url = true},
      {.key = "store.readers", .apply = number(&Config::store, &store::StoreSettings::readers), .min = 1, .max = 64},
      {.key = "secrets.key_file", .apply = text(&Config::key_file)},
      {.key = "http.listen", .flag = "--listen", .apply = apply_listen},
      {.key = "http.request_threads",
       .apply = number(&Config::http, &http::ServerSettings::request_threads),
       .min = 1,
       .max = 256},
      {.key = "http.waiting_max",
       .apply = number(&Config::http, &http::ServerSettings::waiting_max),
       .min = 1,
       .max = 100'000},
      {.key = "http.connections_max",
       .apply = number(&Config::http, &http::ServerSettings::connections_max),
       .min = 1,
       .max = 100'000},
      {.key = "http.streams_max", .apply = number(&Config::http, &http::ServerSettings::streams_max), .max = 10'000},
      {.key = "http.header_bytes_max",
       .apply = number(&Config::http, &http::ServerSettings::header_bytes_max),
       .min = 1024,
       .max = 1 << 20},
      {.key = "http.body_bytes_max",
       .apply = number(&Config::http, &http::ServerSettings::body_bytes_max),
       .min = 1024,
       .max = 1 << 30},
      {.key = "http.idle_seconds",
       .apply = duration<seconds>(&Config::http, &http::ServerSettings::idle_timeout),
       .min = 1,
       .max = 86400},
      {.key = "http.header_seconds",
       .apply = duration<seconds>(&Config::http, &http::ServerSettings::header_timeout),
       .min = 1,
       .max = 3600},
      {.key = "http.body_seconds",
       .apply = duration<seconds>(&Config::http, &http::ServerSettings::body_timeout),
       .min = 1,
       .max = 3600},
      {.key = "http.write_seconds",
       .apply = duration<seconds>(&Config::http, &http::ServerSettings::write_timeout),
       .min = 1,
       .max = 3600},
      {.key = "http.rate_per_second",
       .apply =
           [](Config& config, const Value& value) {
             config.api.per_token.per_second = static_cast<double>(std::get<std::int64_t>(value));
           },
       .max = 1'000'000},
      {.key = "http.rate_burst",
       .apply =
           [](Config& config, const Value& value) {
             config.api.per_token.burst = static_cast<double>(std::get<std::int64_t>(value));
           },
       .min = 1,
       .max = 1'000'000},
      {.key = "http.metrics",
       .apply = [](Config& config, const Value& value) { config.api.metrics = std::get<std::string>(value); },
       .choices = {"loopback", "token"}},
      {.key = "sync.poll_milliseconds",
       .apply = duration<milliseconds>(&Config::sync, &pipeline::SyncSettings::poll_interval),
       .min = 10,
       .max = 86'400'000},
      {.key = "sync.sweep_minutes",
       .apply = duration<minutes>(&Config::sync, &pipeline::SyncSettings::sweep_interval),
       .min = 1,
       .max = 100'000},
      {.key = "sync.overlap_minutes",
       .apply = duration<minutes>(&Config::sync, &pipeline::SyncSettings::overlap),
       .max = 100'000},
      {.key = "sync.schema_minutes",
       .apply = duration<minutes>(&Config::sync, &pipeline::SyncSettings::schema_interval),
       .min = 1,
       .max = 100'000},
      {.key = "sync.page_records_max",
       .apply = number(&Config::sync, &pipeline::SyncSettings::page_records_max),
       .min = 1,
       .max = 10'000},
      {.key = "sync.log_days",
       .apply = duration<std::chrono::days>(&Config::upkeep, &UpkeepSettings::sync_log_kept),
       .max = 10'000},
      {.key = "audit.verify_hours",
       .apply = duration<std::chrono::hours>(&Config::upkeep, &UpkeepSettings::verify_every),
       .max = 10'000},
      {.key = "notify.email_host",
       .apply = [](Config& config, const Value& value) { config.notify.email.host = std::get<std::string>(value); }},
      {.key = "notify.email_port",
       .apply = [](Config& config,
                   const Value& value) { config.notify.email.port = static_cast<int>(std::get<std::int64_t>(value)); },
       .min = 1,
       .max = 65535},
      {.key = "notify.email_security", .apply = apply_security, .choices = {"starttls", "tls", "none"}},
      {.key = "notify.email_user",
       .apply = [](Config& config, const Value& value) { config.notify.email.user = std::get<std::string>(value); }},
      {.key = "notify.email_password",
       .apply = [](Config& config,
                   const Value& value) { config.notify.email.password = Secret(std::get<std::string>(value)); },
       .secret = true},
      {.key = "notify.email_from",
       .apply = [](Config& config, const Value& value) { config.notify.email.from = std::get<std::string>(value); }},
      {.key = "notify.email_to", .apply = apply_recipients},
      {.key = "notify.webhook_url",
       .apply = [](Config& config, const Value& value) { config.notify.webhook.url = std::get<std::string>(value); },
       .is_url = true},
      {.key = "notify.webhook_secret",
       .apply = [](Config& config,
                   const Value& value) { config.notify.webhook.secret = Secret(std::get<std::string>(value)); },
       .secret = true},
      {.key = "notify.ca_file",
       .apply = [](Config& config, const Value& value) { config.notify.ca_file = std::get<std::string>(value); }},
      {.key = "notify.severity",
       .apply =
           [](Config& config, const Value& value) {
             config.notify.least =
                 std::get<std::string>(value) == "critical" ? notify::Severity::critical : notify::Severity::warning;
           },
       .choices = {"warning", "critical"}},
      {.key = "notify.window_minutes",
       .apply = duration<minutes>(&Config::notify, &notify::Settings::window),
       .min = 1,
       .max = 100'000},
      {.key = "notify.outage_minutes",
       .apply = duration<minutes>(&Config::upkeep, &UpkeepSettings::outage_patience),
       .max = 100'000},
      {.key = "notify.per_hour_max",
       .apply = number(&Config::notify, &notify::Settings::per_hour_max),
       .min = 1,
       .max = 10'000},
      {.key = "jobs.threads", .apply = number(&Config::jobs, &jobs::RunnerSettings::threads), .min = 1, .max = 512},
      {.key = "jobs.per_connection_max",
       .apply = number(&Config::jobs, &jobs::RunnerSettings::per_connection_max),
       .min = 1,
       .max = 512},
      {.key = "jobs.lease_seconds",
       .apply =
           [](Config& config, const Value& value) {
             config.jobs.node.lease = seconds(std::get<std::int64_t>(value));
             config.jobs.node.beat = config.jobs.node.lease / 5;
           },
       .min = 2,
       .max = 3600},
      {.key = "jobs.keep_hours",
       .apply =
           [](Config& config, const Value& value) {
             config.jobs.retention.finished = std::chrono::hours(std::get<std::int64_t>(value));
           },
       .max = 100'000},
      {.key = "jobs.node",
       .apply = [](Config& config, const Value& value) { config.jobs.node.name = std::get<std::string>(value); }},
      {.key = "inbox.keys_days",
       .apply = duration<std::chrono::days>(&Config::inbox, &pipeline::InboxSettings::keys_kept),
       .min = 1,
       .max = 3650},
      {.key = "inbox.records_max",
       .apply = number(&Config::inbox, &pipeline::InboxSettings::records_max),
       .min = 1,
       .max = 100'000},
  };
  return all;
}

const Setting* setting(const std::string& key) {
  for (const Setting& one : settings())
    if (one.key == key) return &one;
  return nullptr;
}

std::string variable_of(const std::string& key) {
  std::string name = "DRAGOMAN_";
  for (const char c : key) name += c == '.' ? '_' : c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return name;
}

std::vector<std::string> keys() {
  std::vector<std::string> all;
  for (const Setting& one : settings()) all.push_back(one.key);
  return all;
}

// `postgres://hub:secret@db/hub` → `postgres://hub:***@db/hub`; also `?password=…`.
std::string masked(std::string url) {
  const auto scheme = url.find("://");
  if (scheme == std::string::npos) return url;
  const auto begin = scheme + 3;
  const auto end = std::min(url.find_first_of("/?", begin), url.size());
  const auto at = url.rfind('@', end);
  const auto colon = url.find(':', begin);
  if (at != std::string::npos && at >= begin && at < end && colon < at) url.replace(colon + 1, at - colon - 1, "***");
  for (auto found = url.find("password="); found != std::string::npos; found = url.find("password=", found + 12)) {
    const auto value = found + 9;
    url.replace(value, std::min(url.find('&', value), url.size()) - value, "***");
  }
  return url;
}

struct Given {
  Value value;
  std::string origin;
};

// A value from a text: a variable or a flag.
Value parse_text(const Setting& one, const Value& like, const std::string& text, const std::string& origin) {
  if (std::holds_alternative<std::string>(like)) return text;
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc() || end != text.data() + text.size() || text.empty())
    refuse(fmt::format("{}: `{}` is a whole number, and `{}` is not.", origin, one.key, text));
  return number;
}

void check(const Setting& one, const Value& value, const std::string& origin) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) {
    if (*number < one.min || *number > one.max)
      refuse(fmt::format("{}: `{}` is from {} to {}, and {} is outside.", origin, one.key, one.min, one.max, *number));
  } else if (!one.choices.empty()) {
    const auto& text = std::get<std::string>(value);
    if (std::find(one.choices.begin(), one.choices.end(), text) == one.choices.end())
      refuse(fmt::format("{}: `{}` is one of {}, and `{}` is none of them.", origin, one.key,
                         fmt::join(one.choices, ", "), text));
  }
}

// Every value of a file, by key, with the line it stands on.
std::map<std::string, Given> read_toml(std::string_view text, const std::string& file) {
  toml::table root;
  try {
    root = toml::parse(text, file);
  } catch (const toml::parse_error& error) {
    refuse(fmt::format("{}:{}: {}.", file, error.source().begin.line, error.description()));
  }
  std::map<std::string, Given> values;
  const auto line = [&](const toml::node& node) { return fmt::format("{}:{}", file, node.source().begin.line); };
  const auto unknown = [&](const std::string& key, const toml::node& node) {
    const std::string near = nearest(key, keys());
    refuse(fmt::format(
        "{}: there is no setting `{}`.{}", line(node), key,
        near.empty() ? " `dragoman config show` lists those there are." : fmt::format(" Did you mean `{}`?", near)));
  };
  for (const auto& [table_name, table] : root) {
    const std::string name(table_name.str());
    if (!table.is_table()) unknown(name, table);
    for (const auto& [key_name, node] : *table.as_table()) {
      const std::string key = name + "." + std::string(key_name.str());
      if (!setting(key)) unknown(key, node);
      if (const auto* text_value = node.as_string())
        values[key] = {text_value->get(), line(node)};
      else if (const auto* number_value = node.as_integer())
        values[key] = {number_value->get(), line(node)};
      else
        refuse(fmt::format("{}: `{}` is a text or a whole number.", line(node), key));
    }
  }
  return values;
}

// The comment above each key of the default file.
std::map<std::string, std::string> read_docs() {
  std::map<std::string, std::string> docs;
  std::istringstream lines{std::string(default_config())};
  std::string line, table, comment;
  while (std::getline(lines, line)) {
    if (line.starts_with("# ")) {
      comment += (comment.empty() ? "" : " ") + line.substr(2);
    } else if (line.starts_with('[')) {
      table = line.substr(1, line.size() - 2);
      comment.clear();
    } else if (const auto equals = line.find(" = "); equals != std::string::npos) {
      docs[table + "." + line.substr(0, equals)] = comment;
      comment.clear();
    } else {
      comment.clear();
    }
  }
  return docs;
}

std::string shown(const Setting& one, const Value& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return std::to_string(*number);
  if (one.secret) return std::get<std::string>(value).empty() ? "" : "***";
  return one.is_url ? masked(std::get<std::string>(value)) : std::get<std::string>(value);
}

std::string default_data_dir(const std::map<std::string, std::string>& environment) {
  const auto find = [&](const char* name) {
    const auto found = environment.find(name);
    return found == environment.end() ? std::string() : found->second;
  };
  if (const auto data_home = find("XDG_DATA_HOME"); !data_home.empty()) return data_home + "/dragoman";
  if (const auto home = find("HOME"); !home.empty()) return home + "/.local/share/dragoman";
  refuse("There is no home folder to keep data in: name one with --data-dir.");
}

}  // namespace

const std::vector<SettingFlag>& setting_flags() {
  static const std::vector<SettingFlag> flags = [] {
    std::vector<SettingFlag> made;
    const auto docs = read_docs();
    for (const Setting& one : settings()) {
      if (one.flag.empty()) continue;
      const std::string& doc = docs.at(one.key);
      made.push_back({one.flag, one.key, doc.substr(0, doc.find(" Flag:"))});
    }
    return made;
  }();
  return flags;
}

Config load_config(const std::string& file, const std::map<std::string, std::string>& environment,
                   const std::map<std::string, std::string>& flags) {
  std::map<std::string, Given> values = read_toml(default_config(), "default");
  for (auto& [key, given] : values) given.origin = "default";
  const std::map<std::string, Given> defaults = values;

  const auto layer = [&](std::map<std::string, Given> given) {
    for (auto& [key, one] : given) {
      if (one.value.index() != defaults.at(key).value.index())
        refuse(fmt::format(
            "{}: `{}` is {}.", one.origin, key,
            std::holds_alternative<std::string>(defaults.at(key).value) ? "a text in quotes" : "a whole number"));
      values[key] = std::move(one);
    }
  };
  if (!file.empty()) {
    std::ifstream in(file);
    std::ostringstream text;
    text << in.rdbuf();
    if (!in) refuse(fmt::format("The file {} of --config can't be read.", file));
    layer(read_toml(text.str(), file));
  }

  std::map<std::string, Given> from_environment, from_flags;
  std::map<std::string, std::string> variables{{"DRAGOMAN_DATA_DIR", "hub.data_dir"}};
  for (const Setting& one : settings()) variables[variable_of(one.key)] = one.key;
  for (const auto& [name, text] : environment) {
    // These are no settings: the key of the secrets, the file, and what the project's own tools and tests use.
    static const std::vector<std::string> others{"DRAGOMAN_SECRET_KEY", "DRAGOMAN_CONFIG", "DRAGOMAN_HUB",
                                                 "DRAGOMAN_TOKEN"};
    static const std::vector<std::string> tables{"HUB", "STORE", "SECRETS", "HTTP", "SYNC", "AUDIT", "NOTIFY", "JOBS"};
    if (!name.starts_with("DRAGOMAN_") || std::find(others.begin(), others.end(), name) != others.end()) continue;
    const auto found = variables.find(name);
    if (found == variables.end()) {
      // A misspelt setting stops the start; a variable of another kind is none of our business.
      const bool ours = std::any_of(tables.begin(), tables.end(), [&](const std::string& table) {
        return name.starts_with("DRAGOMAN_" + table + "_");
      });
      if (!ours) continue;
      std::vector<std::string> names;
      for (const auto& [variable, key] : variables) names.push_back(variable);
      const std::string near = nearest(name, names);
      refuse(fmt::format("There is no setting for the variable {}.{}", name,
                         near.empty() ? "" : fmt::format(" Did you mean {}?", near)));
    }
    from_environment[found->second] = {
        parse_text(*setting(found->second), defaults.at(found->second).value, text, name), name};
  }
  layer(std::move(from_environment));
  for (const auto& [key, text] : flags) {
    const Setting* one = setting(key);
    DRAGOMAN_ASSERT(one, "a flag belongs to a setting");
    from_flags[key] = {parse_text(*one, defaults.at(key).value, text, one->flag), one->flag};
  }
  layer(std::move(from_flags));

  Config config;
  const auto docs = read_docs();
  for (const Setting& one : settings()) {
    const Given& given = values.at(one.key);
    check(one, given.value, given.origin);
    one.apply(config, given.value);
    config.lines.push_back({one.key, shown(one, given.value), given.origin, docs.at(one.key)});
  }
  config.api.slow_max = std::max(1, config.http.request_threads / 2);
  notify::check(config.notify);
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  config.notify.hub = host;
  if (config.data_dir.empty()) config.data_dir = default_data_dir(environment);
  if (config.key_file.empty()) config.key_file = config.data_dir + "/secret.key";
  if (config.store.url.empty()) config.store.url = config.data_dir + "/dragoman.db";
  // What an empty text stands for is worth seeing.
  for (auto& line : config.lines) {
    if (line.key == "hub.data_dir") line.value = config.data_dir;
    if (line.key == "secrets.key_file") line.value = config.key_file;
    if (line.key == "store.url") line.value = masked(config.store.url);
  }
  return config;
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> variables;
  for (char** one = environ; *one; ++one) {
    const std::string_view text(*one);
    const auto equals = text.find('=');
    if (equals != std::string_view::npos) variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

std::string config_reference() {
  std::string out =
      "# Settings\n\n"
      "Written from the settings' own declarations; do not edit. The layers, each over the one before: the defaults "
      "below, a TOML file (`--config FILE` or `DRAGOMAN_CONFIG`), variables, flags. An unknown key stops the start "
      "with "
      "its file and line. `dragoman config show` prints every value and where it comes from.\n\n"
      "| Setting | Default | What it is | Variable | Flag |\n|---|---|---|---|---|\n";
  const auto docs = read_docs();
  const auto defaults = read_toml(default_config(), "default");
  for (const Setting& one : settings()) {
    const std::string value = shown(one, defaults.at(one.key).value);
    std::string doc = docs.at(one.key);
    if (const auto flag = doc.find(" Flag:"); flag != std::string::npos) doc = doc.substr(0, flag);
    out += fmt::format("| `{}` | {} | {} | `{}` | {} |\n", one.key, value.empty() ? "" : "`" + value + "`", doc,
                       one.key == "hub.data_dir" ? "DRAGOMAN_DATA_DIR" : variable_of(one.key),
                       one.flag.empty() ? "" : "`" + one.flag + "`");
  }
  out +=
      "\nBesides: `DRAGOMAN_SECRET_KEY` (the key of the secrets itself, in place of the key file), and `ODOO_URL`, "
      "`ODOO_DB`, `ODOO_USERNAME`, `ODOO_API_KEY` (or `ODOO_PASSWORD`), which `dragoman run` makes a connection `main` "
      "of.\n";
  return out;
}

}  // namespace dragoman::app
