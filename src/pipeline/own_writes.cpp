#include "pipeline/own_writes.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/error.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

// What every write moves, whoever wrote what.
bool bookkeeping(const std::string& field) {
  return field == "write_date" || field == "write_uid" || field == "__last_update";
}

bool is_id(const json& value) {
  return value.is_number_integer();
}

const std::string kNotes = "message_ids";

json sorted(json ids) {
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// The value's one form; nullopt where what will be read back can't be known.
std::optional<json> plain(const json& value) {
  if (value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_string() && value == ""))
    return json(false);
  // 10 is written and 10.0 read; both are the double that Odoo makes of them.
  if (value.is_number()) return json(value.get<double>());
  if (value.is_object()) return std::nullopt;
  if (!value.is_array()) return value;
  if (value.empty()) return json::array();
  // A many2one with its name.
  if (value.size() == 2 && is_id(value[0]) && value[1].is_string()) return json(value[0].get<double>());
  if (std::all_of(value.begin(), value.end(), is_id)) return sorted(value);
  // One command that says which ids there will be: [[6, 0, ids]].
  if (value.size() == 1 && value[0].is_array() && value[0].size() == 3 && value[0][0] == 6 && value[0][2].is_array())
    return sorted(value[0][2]);
  // Or none any more: [[5]], [[5, 0, 0]].
  if (value.size() == 1 && value[0].is_array() && !value[0].empty() && value[0][0] == 5) return json::array();
  return std::nullopt;
}

struct Written {
  std::int64_t id = 0;
  json fields;
  std::int64_t seen = 0;  ///< 0: not yet
};

struct Seen {
  std::int64_t number = 0, connection_id = 0, model_id = 0, external_id = 0, kind = 0, previous = 0, schema_number = 0;
  std::string model;
  json body, before;
};

json parsed(const Row& row, int column) {
  if (row.is_null(column)) return json::object();
  json value = json::parse(row.bytes(column), nullptr, false);
  return value.is_object() ? value : json::object();
}

Seen read_change(Session& session, std::int64_t number) {
  Seen seen;
  const bool there = session.first(
      "SELECT c.number, m.connection_id, m.name, c.external_id, c.kind, c.previous, c.schema_number, c.body, "
      "c.model_id "
      "FROM change c JOIN model m ON m.id = c.model_id WHERE c.number = $1",
      {number}, [&](const Row& row) {
        seen.number = row.int64(0);
        seen.connection_id = row.int64(1);
        seen.model = row.text(2);
        seen.external_id = row.int64(3);
        seen.kind = row.int64(4);
        seen.previous = row.int64(5);
        seen.schema_number = row.int64(6);
        seen.body = parsed(row, 7);
        seen.model_id = row.int64(8);
      });
  if (!there) throw Error(Error::Kind::not_found, fmt::format("There is no change {}.", number));
  return seen;
}

// field -> the fields of the same model that it is computed from
std::map<std::string, std::set<std::string>> dependencies(Session& session, const Seen& seen) {
  std::map<std::string, std::set<std::string>> out;
  session.first("SELECT fields FROM schema_version WHERE model_id = $1 AND number = $2",
                {seen.model_id, seen.schema_number}, [&](const Row& row) {
                  const json fields = json::parse(row.text(0), nullptr, false);
                  if (!fields.is_object()) return;
                  for (const auto& [name, attributes] : fields.items()) {
                    if (!attributes.is_object() || !attributes.contains("depends")) continue;
                    const json& depends = attributes["depends"];
                    if (!depends.is_array()) continue;
                    for (const auto& path : depends)
                      if (path.is_string()) {
                        const auto& text = path.get_ref<const std::string&>();
                        out[name].insert(text.substr(0, text.find('.')));
                      }
                  }
                });
  return out;
}

// The id of the record that we delivered under a key, of the model that the field links to; 0: not known.
std::int64_t linked(Session& session, const Seen& seen, const std::string& field, const std::string& key) {
  std::string model;
  session.first("SELECT fields FROM schema_version WHERE model_id = $1 AND number = $2",
                {seen.model_id, seen.schema_number}, [&](const Row& row) {
                  const json fields = json::parse(row.text(0), nullptr, false);
                  if (fields.is_object() && fields.contains(field) && fields[field].is_object())
                    model = fields[field].value("relation", "");
                });
  std::int64_t id = 0;
  session.first("SELECT external_id FROM delivery WHERE connection_id = $1 AND model = $2 AND record_key = $3",
                {seen.connection_id, model, key}, [&](const Row& row) {
                  const std::string_view text = row.text(0);
                  std::from_chars(text.data(), text.data() + text.size(), id);
                });
  return id;
}

bool has(Session& session, const Seen& seen, const json& fields) {
  for (const auto& [field, digest] : fields.items()) {
    const auto found = seen.body.find(field);
    if (found == seen.body.end()) continue;  // what isn't captured can't differ
    if (digest.is_string()) {
      if (own_digest(*found) != digest.get_ref<const std::string&>()) return false;
      continue;
    }
    const auto id = linked(session, seen, field, digest.at("key").get<std::string>());
    if (id == 0 || own_digest(*found) != own_digest(id)) return false;
  }
  return true;
}

// Odoo notes a change of a tracked field in the record's messages: one note per write.
bool one_note_more(const json& before, const json& now) {
  if (!before.is_array() || !now.is_array() || now.size() != before.size() + 1) return false;
  return std::all_of(before.begin(), before.end(),
                     [&](const json& id) { return std::find(now.begin(), now.end(), id) != now.end(); });
}

// Whether nothing is different but what `fields` explains.
bool explained(Session& session, const Seen& seen, const json& fields) {
  if (seen.previous == 0 || seen.before.empty()) {
    // Everything is new in a record that we created. Somebody who wrote to it since is its last writer.
    const auto created = seen.body.find("create_uid"), written = seen.body.find("write_uid");
    if (created == seen.body.end() || written == seen.body.end()) return true;
    return own_digest(*created) == own_digest(*written);
  }
  std::set<std::string> ours, others;
  const auto differs = [&](const std::string& field, const json& now) {
    const auto then = seen.before.find(field);
    return then == seen.before.end() || own_digest(*then) != own_digest(now);
  };
  for (const auto& [field, value] : seen.body.items()) {
    if (bookkeeping(field) || !differs(field, value)) continue;
    (fields.contains(field) ? ours : others).insert(field);
  }
  if (const auto notes = seen.before.find(kNotes); !ours.empty() && others.contains(kNotes) &&
                                                   notes != seen.before.end() &&
                                                   one_note_more(*notes, seen.body.at(kNotes)))
    others.erase(kNotes);
  if (others.empty()) return true;
  const auto depends = dependencies(session, seen);
  // What is computed from what we changed, and from that in turn.
  std::set<std::string> moved = ours;
  for (bool more = true; more;) {
    more = false;
    for (const auto& [field, from] : depends) {
      if (moved.contains(field)) continue;
      if (std::none_of(from.begin(), from.end(), [&](const auto& one) { return moved.contains(one); })) continue;
      moved.insert(field);
      more = true;
    }
  }
  return std::all_of(others.begin(), others.end(), [&](const auto& field) { return moved.contains(field); });
}

}  // namespace

std::string own_digest(const json& value) {
  const auto form = plain(value);
  if (!form) return {};
  const std::string text = form->dump(-1, ' ', false, json::error_handler_t::replace);
  std::array<unsigned char, 16> hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                     nullptr, 0);
  std::array<char, 33> hex{};
  sodium_bin2hex(hex.data(), hex.size(), hash.data(), hash.size());
  return hex.data();
}

std::string own_fields(const json& values) {
  json fields = json::object();
  for (const auto& [field, value] : values.items()) {
    // A record of ours, by its key: its id is looked up when it comes back.
    if (value.is_object() && value.contains("key") && value["key"].is_string()) {
      fields[field] = {{"key", value["key"]}};
      continue;
    }
    std::string digest = own_digest(value);
    // Unknown is not the same as unknown on the other side.
    fields[field] = digest.empty() ? "?" : std::move(digest);
  }
  return fields.dump();
}

bool captured(Session& session, std::int64_t connection_id, const std::string& model) {
  return session.first("SELECT 1 FROM model WHERE connection_id = $1 AND name = $2", {connection_id, model},
                       [](const Row&) {});
}

void remember(Session& session, const std::vector<OwnWrite>& writes) {
  if (writes.empty()) return;
  const std::int64_t now = to_us(session.now());
  for (const auto& write : writes)
    session.execute(
        "INSERT INTO own_write (connection_id, model, external_id, record_key, job_id, fields, written_us) VALUES ($1, "
        "$2, $3, $4, $5, $6, $7) ON CONFLICT (job_id, model, record_key) DO NOTHING",
        {write.connection_id, write.model, write.external_id == 0 ? Param(nullptr) : Param(write.external_id),
         write.key, write.job_id, write.fields, now});
}

void settle(Session& session, std::int64_t job_id, const std::string& model, const std::string& key,
            std::int64_t external_id, bool written) {
  if (!written) {
    session.execute("DELETE FROM own_write WHERE job_id = $1 AND model = $2 AND record_key = $3", {job_id, model, key});
    return;
  }
  session.execute(
      "UPDATE own_write SET external_id = $4, finished_us = $5 WHERE job_id = $1 AND model = $2 AND record_key = $3",
      {job_id, model, key, external_id, to_us(session.now())});
}

Own is_own(Session& session, std::int64_t change_number) {
  Seen seen = read_change(session, change_number);
  constexpr std::int64_t kDeleted = 5;
  if (seen.kind == kDeleted) return Own::no;  // we delete nothing

  std::vector<Written> writes;
  session.query(
      "SELECT id, fields, COALESCE(seen, 0) FROM own_write WHERE connection_id = $1 AND model = $2 AND external_id = "
      "$3 "
      "AND (seen IS NULL OR seen = $4) ORDER BY id",
      {seen.connection_id, seen.model, seen.external_id, seen.number},
      [&](const Row& row) { writes.push_back({row.int64(0), json::parse(row.text(1)), row.int64(2)}); });

  if (!writes.empty() && seen.previous != 0)
    session.first("SELECT body FROM change WHERE number = $1", {seen.previous},
                  [&](const Row& row) { seen.before = parsed(row, 0); });

  // After which of our writes the body was read is not known: the newest that fits.
  for (std::size_t count = writes.size(); count > 0; --count) {
    json fields = json::object();
    for (std::size_t i = 0; i < count; ++i) fields.update(writes[i].fields);
    if (!has(session, seen, fields) || !explained(session, seen, fields)) continue;
    for (std::size_t i = 0; i < count; ++i)
      if (writes[i].seen == 0)
        session.execute("UPDATE own_write SET seen = $2 WHERE id = $1", {writes[i].id, seen.number});
    return Own::yes;
  }

  // A create of ours whose id has not come back yet.
  if (seen.previous == 0) {
    bool maybe = false;
    std::vector<json> pending;
    session.query(
        "SELECT fields FROM own_write WHERE connection_id = $1 AND model = $2 AND external_id IS NULL AND finished_us "
        "IS NULL",
        {seen.connection_id, seen.model}, [&](const Row& row) { pending.push_back(json::parse(row.text(0))); });
    for (const json& fields : pending) maybe = maybe || has(session, seen, fields);
    if (maybe) return Own::not_yet;
  }
  return Own::no;
}

bool forget_own_writes(Session& session, Time before, std::int64_t limit) {
  // Ids grow with time: the oldest rows are the first ones.
  std::int64_t upto = 0, old = 0;
  session.query("SELECT id, written_us FROM own_write ORDER BY id LIMIT $1", {limit}, [&](const Row& row) {
    if (row.int64(1) >= to_us(before)) return;
    upto = row.int64(0);
    ++old;
  });
  if (old > 0) session.execute("DELETE FROM own_write WHERE id <= $1 AND written_us < $2", {upto, to_us(before)});
  return old == limit;
}

}  // namespace dragoman::pipeline
