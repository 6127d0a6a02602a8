#include "pipeline/capture_store.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "notify/alert.h"
#include "pipeline/rows.h"

namespace dragoman::pipeline {
namespace {

using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

Bytes bytes_of(const json::Digest& digest) {
  return Bytes{std::string_view(reinterpret_cast<const char*>(digest.data()), digest.size())};
}

constexpr std::string_view kHeldColumns =
    "SELECT external_id, change_number, version, state, write_date_us, read_us, digest FROM snapshot ";

Held held_of(const Row& row) {
  Held held;
  held.id = row.int64(0);
  held.change_number = row.int64(1);
  held.version = row.int64(2);
  held.state = static_cast<int>(row.int64(3));
  held.write_date = row.maybe_time(4);
  held.read_at = row.time(5);
  if (!row.is_null(6) && row.bytes(6).size() == held.digest.size())
    std::copy_n(reinterpret_cast<const std::uint8_t*>(row.bytes(6).data()), held.digest.size(), held.digest.begin());
  return held;
}

// A page is a dense stretch of ids and read as a range; a handful of scattered ones in lists of a fixed length, so
// that the statement is prepared once.
// What is held decides what is written. Hubs that share a database take turns with a model: one may certify it while
// another follows it, or not know yet that it no longer leads.
void lock_model(Session& session, std::int64_t model_id) {
  session.lock("capture of model " + std::to_string(model_id));
}

void read_held(Session& session, std::int64_t model_id, std::span<const std::int64_t> ids, std::vector<Held>& out) {
  if (ids.empty()) return;
  const auto span = static_cast<std::uint64_t>(ids.back() - ids.front());
  if (span < 4 * ids.size() + 64) {
    static const std::string sql =
        std::string(kHeldColumns) +
        "WHERE model_id = $1 AND external_id >= $2 AND external_id <= $3 ORDER BY external_id";
    auto wanted = ids.begin();
    session.query(sql, {model_id, ids.front(), ids.back()}, [&](const Row& row) {
      const std::int64_t id = row.int64(0);
      while (wanted != ids.end() && *wanted < id) ++wanted;
      if (wanted != ids.end() && *wanted == id) out.push_back(held_of(row));
    });
    return;
  }
  constexpr std::size_t kList = 64;
  static const std::string sql = [] {
    std::string text = std::string(kHeldColumns) + "WHERE model_id = $1 AND external_id IN (";
    for (std::size_t i = 0; i < kList; ++i) text += (i ? ",$" : "$") + std::to_string(i + 2);
    return text + ") ORDER BY external_id";
  }();
  for (std::size_t at = 0; at < ids.size(); at += kList) {
    std::array<Param, kList + 1> params;
    params[0] = model_id;
    for (std::size_t i = 0; i < kList; ++i) params[i + 1] = ids[std::min(at + i, ids.size() - 1)];
    session.query(sql, params, [&](const Row& row) { out.push_back(held_of(row)); });
  }
}

// Gives out `count` numbers; returns the first. The row's lock is held until the commit.
std::int64_t take_numbers(Session& session, std::int64_t count) {
  std::int64_t last = 0;
  session.query("UPDATE feed SET last = last + $1 WHERE id = 1 RETURNING last", {{count}},
                [&](const Row& row) { last = row.int64(0); });
  return last - count + 1;
}

constexpr std::array<std::string_view, 12> kChangeColumns{"number",        "model_id", "external_id",   "version",
                                                          "previous",      "kind",     "schema_number", "company_id",
                                                          "write_date_us", "seen_us",  "digest",        "body"};
constexpr std::array<std::string_view, 9> kSnapshotColumns{
    "model_id", "external_id", "change_number", "version", "state", "company_id", "write_date_us", "read_us", "digest"};
constexpr std::array<std::string_view, 2> kSnapshotKey{"model_id", "external_id"};

template <typename T>
Param or_null(const std::optional<T>& value) {
  return value ? Param(static_cast<std::int64_t>(*value)) : Param(nullptr);
}
Param or_null(const std::optional<Time>& value) {
  return value ? Param(to_us(*value)) : Param(nullptr);
}

nlohmann::json difference(const nlohmann::json& before, const nlohmann::json& after) {
  nlohmann::json added = nlohmann::json::array(), removed = added, changed = nlohmann::json::object();
  for (const auto& [name, attributes] : after.items()) {
    if (!before.contains(name)) {
      added.push_back(name);
    } else if (before[name] != attributes) {
      nlohmann::json parts = nlohmann::json::object();
      for (const auto& [attribute, value] : attributes.items())
        if (!before[name].contains(attribute) || before[name][attribute] != value)
          parts[attribute] = {{"from", before[name].value(attribute, nlohmann::json())}, {"to", value}};
      for (const auto& [attribute, value] : before[name].items())
        if (!attributes.contains(attribute)) parts[attribute] = {{"from", value}, {"to", nullptr}};
      changed[name] = parts;
    }
  }
  for (const auto& [name, attributes] : before.items())
    if (!after.contains(name)) removed.push_back(name);
  return {{"added", added}, {"removed", removed}, {"changed", changed}};
}

}  // namespace

Applied& Applied::operator+=(const Applied& other) {
  created += other.created;
  changed += other.changed;
  deleted += other.deleted;
  unchanged += other.unchanged;
  written.insert(written.end(), other.written.begin(), other.written.end());
  return *this;
}

ModelRow CaptureStore::open_model(std::int64_t connection_id, const std::string& name, bool asked, Micros overlap) {
  ModelRow model;
  store_.write([&](Session& session) {
    session.execute(
        "INSERT INTO model (connection_id, name, asked, state, overlap_us) VALUES ($1, $2, $3, 'pulling', $4) "
        "ON CONFLICT (connection_id, name) DO NOTHING",
        {{connection_id}, {name}, {std::int64_t(asked)}, {overlap.count()}});
    if (asked)
      session.execute("UPDATE model SET asked = 1 WHERE connection_id = $1 AND name = $2 AND asked = 0",
                      {connection_id, name});
    session.query(std::string(kModelColumns) + "WHERE m.connection_id = $1 AND m.name = $2", {connection_id, name},
                  [&](const Row& row) { model = model_of(row); });
  });
  return model;
}

std::optional<ModelRow> CaptureStore::find_model(std::int64_t connection_id, const std::string& name) {
  std::optional<ModelRow> model;
  store_.read([&](Session& session) {
    session.query(std::string(kModelColumns) + "WHERE m.connection_id = $1 AND m.name = $2", {connection_id, name},
                  [&](const Row& row) { model = model_of(row); });
  });
  return model;
}

std::vector<std::string> CaptureStore::model_names(std::int64_t connection_id) {
  std::vector<std::string> names;
  store_.read([&](Session& session) {
    names.clear();
    session.query("SELECT name FROM model WHERE connection_id = $1 ORDER BY name", {connection_id},
                  [&](const Row& row) { names.emplace_back(row.text(0)); });
  });
  return names;
}

std::vector<std::string> CaptureStore::asked_models(std::int64_t connection_id) {
  std::vector<std::string> names;
  store_.read([&](Session& session) {
    names.clear();
    session.query("SELECT name FROM model WHERE connection_id = $1 AND asked = 1 ORDER BY name", {connection_id},
                  [&](const Row& row) { names.emplace_back(row.text(0)); });
  });
  return names;
}

CaptureStore::Described CaptureStore::describe(const ModelRow& model, const Description& description) {
  json::Digest digest;
  crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(description.fields.data()),
                     description.fields.size(), nullptr, 0);
  Described result;
  store_.write([&](Session& session) {
    std::optional<std::int64_t> number;
    std::string before_digest, before_fields, before_plan;
    session.query("SELECT number, digest, fields FROM schema_version WHERE model_id = $1 ORDER BY number DESC LIMIT 1",
                  {model.id}, [&](const Row& row) {
                    number = row.int64(0);
                    before_digest = row.bytes(1);
                    before_fields = row.text(2);
                  });
    session.query("SELECT plan FROM model WHERE id = $1", {model.id},
                  [&](const Row& row) { before_plan = row.text(0); });
    result = {number.value_or(0), false, false};
    if (!number || before_digest != bytes_of(digest).data) {
      const auto after = nlohmann::json::parse(description.fields);
      const auto before = number ? nlohmann::json::parse(before_fields) : nlohmann::json::object();
      const std::string change = number ? difference(before, after).dump() : std::string("{}");
      result.schema_number = number.value_or(0) + 1;
      result.schema_changed = number.has_value();
      session.execute(
          "INSERT INTO schema_version (model_id, number, digest, fields, difference, seen_us) VALUES ($1, $2, $3, $4, "
          "$5, $6)",
          {{model.id},
           {result.schema_number},
           {bytes_of(digest)},
           {description.fields},
           {change},
           {to_us(clock_.now())}});
    }
    const std::string plan = description.plan.json();
    if (number && before_plan != plan) {
      const Plan old = Plan::parse(before_plan);
      result.repull = old.fields != description.plan.fields || old.names != description.plan.names ||
                      old.binaries != description.plan.binaries;
    }
    if (before_plan != plan || result.schema_number != model.schema_number)
      session.execute("UPDATE model SET plan = $2, schema_number = $3 WHERE id = $1",
                      {{model.id}, {plan}, {result.schema_number}});
  });
  return result;
}

void CaptureStore::set_state(std::int64_t model_id, const std::string& state, const std::string& reason) {
  store_.write([&](Session& session) {
    session.execute("UPDATE model SET state = $2, reason = $3 WHERE id = $1", {{model_id}, {state}, {reason}});
  });
}

void CaptureStore::set_alarm(std::int64_t model_id, Alarm kind, const std::string& alarm, Micros overlap) {
  store_.write([&](Session& session) {
    session.execute("UPDATE model SET alarm = $2, overlap_us = $3 WHERE id = $1",
                    {{model_id}, {alarm}, {overlap.count()}});
    if (alarm.empty()) return;
    notify::Alert alert{.text = alarm};
    session.first("SELECT c.name, m.name FROM model m JOIN connection c ON c.id = m.connection_id WHERE m.id = $1",
                  {{model_id}}, [&](const Row& row) {
                    alert.subject = fmt::format("{} {}", row.text(0), row.text(1));
                    alert.link = fmt::format("dragoman sync status {}", row.text(0));
                  });
    const bool deletions = kind == Alarm::deletions;
    alert.fingerprint = fmt::format("{}:{}", deletions ? "deletions" : "overlap", alert.subject);
    alert.severity = deletions ? notify::Severity::critical : notify::Severity::warning;
    alert.title = deletions ? fmt::format("Many records of {} are gone, and not taken for deleted", alert.subject)
                            : fmt::format("A change of {} was found late; its overlap was raised", alert.subject);
    notify::raise(session, alert);
  });
}

void CaptureStore::set_cursors(const std::vector<std::pair<std::int64_t, Time>>& cursors) {
  if (cursors.empty()) return;
  store_.write([&](Session& session) {
    for (const auto& [model_id, cursor] : cursors)
      session.execute("UPDATE model SET cursor_us = $2 WHERE id = $1", {{model_id}, {to_us(cursor)}});
  });
}

void CaptureStore::set_swept(std::int64_t model_id, Time swept) {
  store_.write([&](Session& session) {
    session.execute("UPDATE model SET swept_us = $2 WHERE id = $1", {{model_id}, {to_us(swept)}});
  });
}

void CaptureStore::set_pull(std::int64_t model_id, const std::string& pull, const std::string& state) {
  store_.write([&](Session& session) {
    session.execute("UPDATE model SET pull = $2, state = $3, reason = '' WHERE id = $1", {{model_id}, {pull}, {state}});
  });
}

std::vector<Held> CaptureStore::held(std::int64_t model_id, std::span<const std::int64_t> ids) {
  std::vector<Held> out;
  store_.read([&](Session& session) {
    out.clear();
    read_held(session, model_id, ids, out);
  });
  return out;
}

std::vector<Held> CaptureStore::held_range(std::int64_t model_id, Range range, std::int64_t limit) {
  std::vector<Held> out;
  static const std::string sql =
      std::string(kHeldColumns) +
      "WHERE model_id = $1 AND external_id > $2 AND external_id <= $3 AND state < 2 ORDER BY external_id LIMIT $4";
  store_.read([&](Session& session) {
    out.clear();
    session.query(sql, {{model_id}, {range.after}, {range.upto.value_or(INT64_MAX)}, {limit}},
                  [&](const Row& row) { out.push_back(held_of(row)); });
  });
  return out;
}

std::vector<std::int64_t> CaptureStore::held_every(std::int64_t model_id, std::int64_t n) {
  std::vector<std::int64_t> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query(
        "SELECT external_id FROM (SELECT external_id, row_number() OVER (ORDER BY external_id) AS place "
        "FROM snapshot WHERE model_id = $1 AND state < 2) AS held WHERE place % $2 = 0 ORDER BY external_id",
        {{model_id}, {n}}, [&](const Row& row) { out.push_back(row.int64(0)); });
  });
  return out;
}

std::int64_t CaptureStore::count(std::int64_t model_id) {
  std::int64_t count = 0;
  store_.read([&](Session& session) {
    session.query("SELECT count(*) FROM snapshot WHERE model_id = $1 AND state < 2", {model_id},
                  [&](const Row& row) { count = row.int64(0); });
  });
  return count;
}

Applied CaptureStore::apply(std::int64_t model_id, std::int64_t schema_number, std::span<const json::Record> records,
                            Time read_at, How how, const std::function<void(Session&)>& also) {
  Applied applied;
  std::vector<std::int64_t> ids;
  ids.reserve(records.size());
  for (const json::Record& record : records) ids.push_back(record.id);
  DRAGOMAN_ASSERT(std::is_sorted(ids.begin(), ids.end()), "pages are ordered by id");

  struct Fresh {
    const json::Record* record;
    const Held* held;
    ChangeKind kind;
    int state;
  };
  std::vector<Held> held;
  std::vector<Fresh> fresh;
  std::vector<std::int64_t> touched;
  std::vector<Param> changes, snapshots;
  store_.write([&](Session& session) {
    applied = {};
    held.clear();
    fresh.clear();
    touched.clear();
    changes.clear();
    snapshots.clear();
    lock_model(session, model_id);
    read_held(session, model_id, ids, held);
    auto known = held.begin();
    for (const json::Record& record : records) {
      while (known != held.end() && known->id < record.id) ++known;
      const Held* before = known != held.end() && known->id == record.id ? &*known : nullptr;
      const int state = record.active.value_or(true) ? 0 : 1;
      if (!before) {
        fresh.push_back({&record, nullptr, ChangeKind::create, state});
        ++applied.created;
        continue;
      }
      if (before->read_at > read_at) {  // a later read is already here
        ++applied.unchanged;
        continue;
      }
      if (before->state != 2 && before->digest == record.digest) {
        ++applied.unchanged;
        if (how.touch) touched.push_back(record.id);
        continue;
      }
      ChangeKind kind = ChangeKind::change;
      if (before->state == 2 || (before->state == 1 && state == 0))
        kind = ChangeKind::restore;
      else if (before->state == 0 && state == 1)
        kind = ChangeKind::archive;
      fresh.push_back({&record, before, kind, state});
      ++applied.changed;
    }
    if (!fresh.empty()) {
      std::int64_t number = take_numbers(session, static_cast<std::int64_t>(fresh.size()));
      const std::int64_t seen = to_us(clock_.now());
      changes.reserve(fresh.size() * kChangeColumns.size());
      snapshots.reserve(fresh.size() * kSnapshotColumns.size());
      const auto company_of = [&](const json::Record& r) {
        return r.company_id || !how.companies ? or_null(r.company_id) : Param(std::int64_t(0));
      };
      for (const Fresh& f : fresh) {
        const json::Record& r = *f.record;
        const std::int64_t version = f.held ? f.held->version + 1 : 1;
        const Param row[] = {number,
                             model_id,
                             r.id,
                             version,
                             f.held ? f.held->change_number : std::int64_t(0),
                             static_cast<std::int64_t>(f.kind),
                             schema_number,
                             company_of(r),
                             or_null(r.write_date),
                             seen,
                             bytes_of(r.digest),
                             Bytes{r.raw}};
        changes.insert(changes.end(), std::begin(row), std::end(row));
        const Param newest[] = {model_id,
                                r.id,
                                number,
                                version,
                                std::int64_t(f.state),
                                company_of(r),
                                or_null(r.write_date),
                                to_us(read_at),
                                bytes_of(r.digest)};
        snapshots.insert(snapshots.end(), std::begin(newest), std::end(newest));
        applied.written.push_back(r.id);
        ++number;
      }
      session.insert_many("change", kChangeColumns, changes);
      session.insert_many("snapshot", kSnapshotColumns, snapshots, kSnapshotKey);
      if (how.binaries)
        for (std::size_t i = 0; i < fresh.size(); ++i)
          session.execute("INSERT INTO blob_pending (change_number, model_id, external_id) VALUES ($1, $2, $3)",
                          {number - static_cast<std::int64_t>(fresh.size() - i), model_id, fresh[i].record->id});
      session.notify("changes");
    }
    for (const std::int64_t id : touched)
      session.execute("UPDATE snapshot SET read_us = $3 WHERE model_id = $1 AND external_id = $2",
                      {{model_id}, {id}, {to_us(read_at)}});
    if (also) also(session);
  });
  return applied;
}

Applied CaptureStore::remove(std::int64_t model_id, std::int64_t schema_number, std::span<const std::int64_t> ids,
                             Time read_at) {
  Applied applied;
  store_.write([&](Session& session) {
    applied = {};
    std::vector<Held> held;
    lock_model(session, model_id);
    read_held(session, model_id, ids, held);
    std::erase_if(held, [&](const Held& h) { return h.state == 2 || h.read_at > read_at; });
    if (held.empty()) return;
    std::int64_t number = take_numbers(session, static_cast<std::int64_t>(held.size()));
    const std::int64_t seen = to_us(clock_.now());
    for (const Held& h : held) {
      // The company stays, so that the deletion shows to those who could see the record.
      session.execute(
          "INSERT INTO change (number, model_id, external_id, version, previous, kind, schema_number, company_id, "
          "write_date_us, seen_us) "
          "SELECT $1, model_id, external_id, version + 1, change_number, 5, $4, company_id, write_date_us, $5 "
          "FROM snapshot WHERE model_id = $2 AND external_id = $3",
          {{number}, {model_id}, {h.id}, {schema_number}, {seen}});
      session.execute(
          "UPDATE snapshot SET change_number = $3, version = version + 1, state = 2, read_us = $4, digest = NULL "
          "WHERE model_id = $1 AND external_id = $2",
          {{model_id}, {h.id}, {number}, {to_us(read_at)}});
      applied.written.push_back(h.id);
      ++applied.deleted;
      ++number;
    }
    session.notify("changes");
  });
  return applied;
}

void CaptureStore::log_run(const Run& run) {
  store_.write([&](Session& session) { log_run(session, run, clock_.now()); });
}

void CaptureStore::log_run(Session& session, const Run& run, Time finished) {
  const std::string counts = run.counts.dump(),
                    errors =
                        run.errors.empty()
                            ? ""
                            : nlohmann::json(run.errors).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  session.execute(
      "INSERT INTO sync_log (connection_id, model, kind, started_us, finished_us, outcome, counts, errors) "
      "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
      {{run.connection_id},
       {run.model},
       {run.kind},
       {to_us(run.started)},
       {to_us(finished)},
       {run.outcome},
       {counts},
       {errors}});
}

std::vector<CaptureStore::Pending> CaptureStore::pending_binaries(std::int64_t model_id, std::int64_t limit) {
  std::vector<Pending> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query(
        "SELECT change_number, external_id FROM blob_pending WHERE model_id = $1 ORDER BY change_number LIMIT $2",
        {model_id, limit}, [&](const Row& row) { out.push_back({row.int64(0), row.int64(1)}); });
  });
  return out;
}

void CaptureStore::keep_binaries(std::int64_t change_number,
                                 const std::map<std::string, std::string>& content_by_field) {
  store_.write([&](Session& session) {
    for (const auto& [field, content] : content_by_field) {
      std::array<std::uint8_t, 32> digest;
      crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(content.data()),
                         content.size(), nullptr, 0);
      const Bytes key{std::string_view(reinterpret_cast<const char*>(digest.data()), digest.size())};
      session.execute("INSERT INTO blob (digest, size, data) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING",
                      {{key}, {static_cast<std::int64_t>(content.size())}, {Bytes{content}}});
      session.execute(
          "INSERT INTO blob_ref (change_number, field, digest) VALUES ($1, $2, $3) ON CONFLICT (change_number, field) "
          "DO NOTHING",
          {{change_number}, {field}, {key}});
    }
    session.execute("DELETE FROM blob_pending WHERE change_number = $1", {change_number});
  });
}

}  // namespace dragoman::pipeline
