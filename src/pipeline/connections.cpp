#include "pipeline/connections.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace dragoman::pipeline {
namespace {

using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kColumns =
    "SELECT id, name, kind, settings, state, reason, learnt, created_us, changed_us FROM connection ";

Connection connection_of(const Row& row) {
  Connection connection;
  connection.id = row.int64(0);
  connection.name = row.text(1);
  connection.kind = row.text(2);
  connection.settings = nlohmann::json::parse(row.text(3));
  connection.state = row.text(4);
  connection.reason = row.text(5);
  connection.learnt = nlohmann::json::parse(row.text(6), nullptr, false);
  connection.created = row.time(7);
  connection.changed = row.time(8);
  return connection;
}

std::string context_of(const std::string& name) {
  return "connection:" + name;
}

// A connection's number stands in jobs and in the audit log when it is gone: SQLite would give it out again.
std::int64_t fresh_number(Session& session) {
  session.lock("connection.number");
  std::int64_t last = 0;
  session.query("SELECT last FROM last_number WHERE name = 'connection' UNION ALL SELECT max(id) FROM connection",
                std::initializer_list<Param>{}, [&](const Row& row) {
                  if (const auto used = row.maybe_int64(0)) last = std::max(last, *used);
                });
  session.execute("UPDATE last_number SET last = $1 WHERE name = 'connection'", {last + 1});
  return last + 1;
}

void check_name(const std::string& name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const bool fine = !name.empty() && name.size() <= 40 && letter(name.front()) &&
                    std::all_of(name.begin(), name.end(),
                                [&](char c) { return letter(c) || (c >= '0' && c <= '9') || c == '-' || c == '_'; });
  if (!fine)
    throw Error(
        Error::Kind::invalid,
        fmt::format(
            "`{}` is no name for a connection: begin with a letter, then letters, digits, `-` and `_`, at most 40.",
            name));
}

// A transaction of it takes some hundredths of a second.
constexpr std::int64_t kRowsOfAPiece = 5000;

void go_on(const Connection& connection, const std::stop_token& stop) {
  if (!stop.stop_requested()) return;
  throw Error(Error::Kind::cancelled,
              fmt::format("Removing `{}` was cut off; some of what it held is gone. It is paused: remove it again.",
                          connection.name));
}

}  // namespace

Connection Connections::add(const std::string& name, const std::string& kind, const nlohmann::json& settings,
                            const Secret& secret) {
  check_name(name);
  if (find(name))
    throw Error(Error::Kind::conflict,
                fmt::format("There is a connection `{}` already. Choose another name, or remove it first.", name));
  const std::string text = settings.dump();
  store_.write([&](Session& session) {
    const std::int64_t now = to_us(clock_.now());
    session.lock(access::kSecretsLock);
    const std::string sealed = secret.empty() ? std::string() : keys_.seal(secret, context_of(name));
    session.execute(
        "INSERT INTO connection (id, name, kind, settings, secret, state, created_us, changed_us) VALUES ($6, $1, $2, "
        "$3, $4, 'active', $5, $5)",
        {{name}, {kind}, {text}, {Bytes{sealed}}, {now}, {fresh_number(session)}});
  });
  return get(name);
}

Connection Connections::update(const std::string& name, const nlohmann::json& settings, const Secret& secret,
                               bool same_records) {
  const Connection before = get(name);
  for (const char* part : {"url", "database"}) {
    std::string was = before.settings.value(part, ""), becomes = settings.value(part, "");
    while (was.ends_with('/')) was.pop_back();
    while (becomes.ends_with('/')) becomes.pop_back();
    if (was == becomes || was.empty() || becomes.empty() || same_records) continue;
    bool holds = false;
    store_.read([&](Session& session) {
      session.query("SELECT 1 FROM snapshot WHERE model_id IN (SELECT id FROM model WHERE connection_id = $1) LIMIT 1",
                    {before.id}, [&](const Row&) { holds = true; });
    });
    if (!holds) continue;
    Error error(
        Error::Kind::conflict,
        fmt::format(
            "The connection `{}` holds records of {} `{}`. Pointed at `{}`, every record that is not there "
            "would count as deleted. If it is the same database that moved, say so: `dragoman connection update "
            "{} --{} {} --same-records`. For another database add another connection.",
            name, part, was, becomes, name, part, becomes));
    error.code = "other_database";
    throw error;
  }
  const std::string text = settings.dump();
  store_.write([&](Session& session) {
    const std::int64_t now = to_us(clock_.now());
    session.execute(
        "UPDATE connection SET settings = $2, state = CASE WHEN state = 'error' THEN 'active' ELSE state END, "
        "reason = CASE WHEN state = 'error' THEN '' ELSE reason END, changed_us = $3 WHERE id = $1",
        {{before.id}, {text}, {now}});
    if (!secret.empty()) {
      session.lock(access::kSecretsLock);
      const std::string sealed = keys_.seal(secret, context_of(name));
      session.execute("UPDATE connection SET secret = $2 WHERE id = $1", {{before.id}, {Bytes{sealed}}});
    }
  });
  return get(name);
}

std::vector<Connection> Connections::list() {
  std::vector<Connection> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query(std::string(kColumns) + "ORDER BY name", std::initializer_list<Param>{},
                  [&](const Row& row) { out.push_back(connection_of(row)); });
  });
  return out;
}

std::optional<Connection> Connections::find(const std::string& name) {
  std::optional<Connection> found;
  store_.read([&](Session& session) {
    session.query(std::string(kColumns) + "WHERE name = $1", {name},
                  [&](const Row& row) { found = connection_of(row); });
  });
  return found;
}

std::optional<Connection> Connections::find(std::int64_t id) {
  std::optional<Connection> found;
  store_.read([&](Session& session) {
    found.reset();
    session.query(std::string(kColumns) + "WHERE id = $1", {id}, [&](const Row& row) { found = connection_of(row); });
  });
  return found;
}

Connection Connections::get(const std::string& name) {
  if (auto found = find(name)) return *found;
  std::string names;
  for (const Connection& connection : list()) names += (names.empty() ? "" : ", ") + connection.name;
  throw Error(Error::Kind::not_found,
              fmt::format("There is no connection `{}`. {}", name,
                          names.empty() ? "There is none yet: `dragoman connection add` makes one."
                                        : "There are: " + names + "."));
}

std::vector<std::int64_t> Connections::companies_of(const std::string& connection, const std::string& organisation) {
  const nlohmann::json organisations = get(connection).settings.value("organisations", nlohmann::json::object());
  std::vector<std::string> names;
  for (const auto& [name, companies] : organisations.items()) {
    if (name == organisation) return companies.get<std::vector<std::int64_t>>();
    names.push_back(name);
  }
  throw Error(Error::Kind::not_found,
              fmt::format("The connection `{}` has no organisation `{}`; {}", connection, organisation,
                          names.empty() ? "its setting `organisations` is empty."
                                        : fmt::format("there are: {}.", fmt::join(names, ", "))));
}

Connection Connections::usable(std::int64_t id) {
  auto connection = find(id);
  if (!connection) throw Error(Error::Kind::not_found, fmt::format("The connection {} is not there any more.", id));
  const auto stop = [](Error::Kind kind, std::string code, std::string message) {
    Error error(kind, std::move(message));
    error.code = std::move(code);
    throw error;
  };
  if (connection->state == "paused")
    stop(Error::Kind::cancelled, "connection_paused", fmt::format("The connection `{}` is paused.", connection->name));
  if (connection->state == "error")
    stop(Error::Kind::auth, "connection_error",
         fmt::format("The connection `{}` is in error: {}", connection->name, connection->reason));
  return *std::move(connection);
}

Secret Connections::secret(const Connection& connection) {
  std::string sealed;
  store_.read([&](Session& session) {
    session.query("SELECT secret FROM connection WHERE id = $1", {connection.id},
                  [&](const Row& row) { sealed = row.is_null(0) ? std::string() : std::string(row.bytes(0)); });
  });
  if (sealed.empty()) return {};
  try {
    return keys_.open(sealed, context_of(connection.name));
  } catch (const Error& error) {
    if (error.code != "sealed") throw;
    // As credentials that are refused: its jobs wait for a person, and none of them is at fault.
    Error better(
        Error::Kind::auth,
        fmt::format("{} (`dragoman connection update {} --secret-file FILE`). With the right key back, `dragoman "
                    "connection resume {}` goes on.",
                    error.message, connection.name, connection.name),
        error.detail);
    better.code = error.code;
    throw better;
  }
}

void Connections::set_state(const std::string& name, const std::string& state, const std::string& reason,
                            const notify::Alert* alert) {
  const Connection connection = get(name);
  store_.write([&](Session& session) {
    session.execute("UPDATE connection SET state = $2, reason = $3, changed_us = $4 WHERE id = $1",
                    {{connection.id}, {state}, {reason}, {to_us(clock_.now())}});
    if (alert) notify::raise(session, *alert);
  });
}

void Connections::pause(const std::string& name, const std::string& who, const std::string& why) {
  const Connection connection = get(name);
  store_.write([&](Session& session) {
    session.lock("connection.pause");
    std::string state, reason;
    session.first("SELECT state, reason FROM connection WHERE id = $1", {connection.id}, [&](const Row& row) {
      state = row.text(0);
      reason = row.text(1);
    });
    reason = state == "paused" ? joined_reason(reason, who, why) : why.empty() ? "paused by " + who : why;
    session.execute("UPDATE connection SET state = 'paused', reason = $2, changed_us = $3 WHERE id = $1",
                    {{connection.id}, {reason}, {to_us(clock_.now())}});
  });
}

void Connections::set_learnt(std::int64_t id, const std::string& learnt) {
  const nlohmann::json patch = nlohmann::json::parse(learnt);
  store_.write([&](Session& session) {
    // Several learn about one connection: none takes away what another has found.
    session.lock("connection.learnt");
    std::string before;
    session.first("SELECT learnt FROM connection WHERE id = $1", {id}, [&](const Row& row) { before = row.text(0); });
    nlohmann::json all = nlohmann::json::parse(before, nullptr, false);
    if (!all.is_object()) all = nlohmann::json::object();
    for (const auto& [name, value] : patch.items())
      if (value.is_null())
        all.erase(name);
      else
        all[name] = value;
    const std::string text = all.dump();
    session.execute("UPDATE connection SET learnt = $2 WHERE id = $1", {{id}, {text}});
  });
}

Connections::Holdings Connections::holdings(const Connection& connection) {
  Holdings holdings;
  store_.read([&](Session& session) {
    const auto count = [&](const char* sql, std::int64_t& number) {
      session.query(sql, {connection.id}, [&](const Row& row) { number = row.int64(0); });
    };
    constexpr const char* kOfModels = "WHERE model_id IN (SELECT id FROM model WHERE connection_id = $1)";
    count(fmt::format("SELECT count(*) FROM snapshot {}", kOfModels).c_str(), holdings.records);
    count(fmt::format("SELECT count(*) FROM change {}", kOfModels).c_str(), holdings.versions);
    count("SELECT count(*) FROM integration_mapping WHERE connection_id = $1", holdings.mappings);
    count("SELECT count(*) FROM inbox WHERE connection_id = $1", holdings.requests);
    count("SELECT count(*) FROM market_order WHERE connection_id = $1", holdings.orders);
    count("SELECT count(*) FROM market_product WHERE connection_id = $1", holdings.products);
  });
  for (const Connection& other : list())
    if (other.id != connection.id && other.settings.value("odoo", "") == connection.name)
      holdings.marketplaces.push_back(other.name);
  return holdings;
}

std::int64_t Connections::delete_captured(const Connection& connection, const std::stop_token& stop) {
  constexpr std::string_view kModels = "(SELECT id FROM model WHERE connection_id = $1)";
  std::int64_t last = 0;
  store_.write([&](Session& session) {
    // Should somebody resume it half removed, all is read again.
    session.execute(
        "UPDATE model SET state = 'pulling', pull = '{}', cursor_us = 0, swept_us = 0 WHERE connection_id = $1",
        {connection.id});
    session.first("SELECT last FROM feed", {}, [&](const Row& row) { last = row.int64(0); });
  });

  // The newest versions first: of a record that has none any more everything is read anew.
  for (bool more = true; more;) {
    go_on(connection, stop);
    store_.write([&](Session& session) {
      more = session.execute(
                 fmt::format("DELETE FROM snapshot WHERE (model_id, external_id) IN (SELECT model_id, external_id FROM "
                             "snapshot WHERE model_id IN {} LIMIT {})",
                             kModels, kRowsOfAPiece),
                 {connection.id}) == kRowsOfAPiece;
    });
  }

  const std::string next =
      fmt::format("SELECT number FROM change WHERE number > $2 AND model_id IN {} ORDER BY number LIMIT 1", kModels);
  const std::string theirs = fmt::format("number >= $2 AND number < $3 AND model_id IN {}", kModels);
  for (std::int64_t done = 0; done < last;) {
    go_on(connection, stop);
    std::int64_t from = 0;
    store_.read([&](Session& session) {
      from = 0;
      session.first(next, {connection.id, done}, [&](const Row& row) { from = row.int64(0); });
    });
    if (from == 0) break;
    const std::int64_t upto = from + kRowsOfAPiece;
    store_.write([&](Session& session) {
      for (const char* table : {"blob_ref", "blob_pending"})
        session.execute(fmt::format("DELETE FROM {} WHERE change_number >= $2 AND change_number < $3 AND "
                                    "change_number IN (SELECT number FROM change WHERE {})",
                                    table, theirs),
                        {connection.id, from, upto});
      session.execute(fmt::format("DELETE FROM change WHERE {}", theirs), {connection.id, from, upto});
    });
    done = upto - 1;
  }
  delete_orphaned_blobs(connection, stop);
  return last;
}

// Content that no version refers to any more.
void Connections::delete_orphaned_blobs(const Connection& connection, const std::stop_token& stop) {
  std::vector<std::string> orphans;
  store_.read([&](Session& session) {
    orphans.clear();
    session.query("SELECT digest FROM blob WHERE digest NOT IN (SELECT digest FROM blob_ref)", {},
                  [&](const Row& row) { orphans.emplace_back(row.bytes(0)); });
  });
  constexpr std::size_t kBlobsOfAPiece = 200;
  for (std::size_t begin = 0; begin < orphans.size(); begin += kBlobsOfAPiece) {
    go_on(connection, stop);
    const std::size_t end = std::min(orphans.size(), begin + kBlobsOfAPiece);
    store_.write([&](Session& session) {
      // The same content may have come with another record meanwhile; nor may it come between our look and our commit.
      if (session.engine() == store::Engine::postgres) session.execute("LOCK TABLE blob_ref IN SHARE MODE", {});
      std::vector<Param> digests;
      std::string list;
      for (std::size_t i = begin; i < end; ++i) {
        digests.emplace_back(Bytes{orphans[i]});
        list += fmt::format("{}${}", list.empty() ? "" : ", ", digests.size());
      }
      session.execute(fmt::format("DELETE FROM blob WHERE digest IN ({0}) AND digest NOT IN (SELECT digest FROM "
                                  "blob_ref WHERE digest IN ({0}))",
                                  list),
                      digests);
    });
  }
}

void Connections::remove(const std::string& name, const std::stop_token& stop) {
  const Connection connection = get(name);
  const std::int64_t last = delete_captured(connection, stop);
  store_.write([&](Session& session) {
    // What was being captured when it was paused.
    const std::string late =
        "(SELECT number FROM change WHERE number > $2 AND model_id IN (SELECT id FROM model WHERE connection_id = $1))";
    for (const char* sql : {"DELETE FROM blob_ref WHERE change_number IN ",
                            "DELETE FROM blob_pending WHERE change_number IN ", "DELETE FROM change WHERE number IN "})
      session.execute(sql + late, {connection.id, last});
    for (const char* sql :
         {"DELETE FROM snapshot WHERE model_id IN (SELECT id FROM model WHERE connection_id = $1)",
          "DELETE FROM schema_version WHERE model_id IN (SELECT id FROM model WHERE connection_id = $1)",
          "DELETE FROM model WHERE connection_id = $1", "DELETE FROM sync_log WHERE connection_id = $1",
          "DELETE FROM integration_mapping WHERE connection_id = $1", "DELETE FROM delivery WHERE connection_id = $1",
          "DELETE FROM own_write WHERE connection_id = $1",
          "DELETE FROM inbox_record WHERE inbox_id IN (SELECT id FROM inbox WHERE connection_id = $1)",
          "DELETE FROM inbox WHERE connection_id = $1",
          "DELETE FROM market_event WHERE order_id IN (SELECT id FROM market_order WHERE connection_id = $1)",
          "DELETE FROM market_order WHERE connection_id = $1", "DELETE FROM market_product WHERE connection_id = $1",
          "DELETE FROM market_customer WHERE connection_id = $1", "DELETE FROM market_cursor WHERE connection_id = $1",
          "DELETE FROM trace WHERE connection_id = $1", "DELETE FROM connection WHERE id = $1"})
      session.execute(sql, {connection.id});
  });
}

const Connector& ConnectorList::get(const std::string& kind) const {
  std::vector<std::string> kinds;
  for (const Connector& connector : connectors_) {
    if (connector.kind == kind) return connector;
    kinds.push_back(connector.kind);
  }
  throw Error(Error::Kind::invalid,
              fmt::format("There is no connector `{}`; there are: {}.", kind, fmt::join(kinds, ", ")));
}

nlohmann::json ConnectorList::check_settings(const std::string& kind, const nlohmann::json& settings) const {
  const Connector& connector = get(kind);
  if (!settings.is_object()) throw Error(Error::Kind::invalid, "Settings are a JSON object.");
  std::vector<std::string> names;
  for (const auto& setting : connector.settings) names.push_back(setting.name);
  nlohmann::json out = nlohmann::json::object();
  for (const auto& [key, value] : settings.items()) {
    const auto found = std::find(names.begin(), names.end(), key);
    if (found == names.end()) {
      const std::string near = nearest(key, names);
      throw Error(Error::Kind::invalid, fmt::format("`{}` is no setting of a connection of kind `{}`.{}", key, kind,
                                                    near.empty() ? "" : fmt::format(" Did you mean `{}`?", near)));
    }
    const auto& setting = connector.settings[static_cast<std::size_t>(found - names.begin())];
    const bool fits = (setting.type == "text" && value.is_string()) ||
                      (setting.type == "number" && value.is_number_integer()) ||
                      (setting.type == "boolean" && value.is_boolean()) ||
                      (setting.type == "list" && value.is_array()) || (setting.type == "object" && value.is_object());
    if (!fits)
      throw Error(Error::Kind::invalid,
                  fmt::format("The setting `{}` is a {}, and this is {}.", key, setting.type, value.dump()));
    out[key] = value;
  }
  for (const auto& setting : connector.settings) {
    if (out.contains(setting.name)) continue;
    if (setting.required)
      throw Error(Error::Kind::invalid, fmt::format("The setting `{}` is missing: {}", setting.name, setting.doc));
    if (!setting.fallback.is_null()) out[setting.name] = setting.fallback;
  }
  if (connector.check) connector.check(out);
  return out;
}

}  // namespace dragoman::pipeline
