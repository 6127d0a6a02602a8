#include "pipeline/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "json/records.h"
#include "pipeline/rows.h"

namespace dragoman::pipeline {
namespace {

using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kWakeup = "changes";

std::string hex(std::string_view bytes) {
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// A SELECT of everything that change_of reads. `body` is the column or NULL where bodies aren't wanted.
std::string change_columns(bool bodies) {
  return fmt::format(
      "SELECT v.number, c.name, m.name, v.external_id, v.version, v.kind, v.schema_number, v.company_id, "
      "v.write_date_us, "
      "v.seen_us, v.digest, {} , v.previous FROM change v JOIN model m ON m.id = v.model_id JOIN connection c ON c.id "
      "= m.connection_id ",
      bodies ? "v.body" : "NULL");
}

Change change_of(const Row& row) {
  Change change;
  change.number = row.int64(0);
  change.connection = row.text(1);
  change.model = row.text(2);
  change.external_id = row.int64(3);
  change.version = row.int64(4);
  change.kind = static_cast<ChangeKind>(row.int64(5));
  change.schema_number = row.int64(6);
  change.company_id = row.maybe_int64(7);
  change.write_date = row.maybe_time(8);
  change.seen = row.time(9);
  if (!row.is_null(10)) change.digest = hex(row.bytes(10));
  if (!row.is_null(11)) change.body = std::string(row.bytes(11));
  return change;
}

ModelRow find_model(Session& session, const std::string& connection, const std::string& name) {
  std::optional<ModelRow> model;
  session.query(std::string(kModelColumns) + "WHERE c.name = $1 AND m.name = $2", {connection, name},
                [&](const Row& row) { model = model_of(row); });
  if (model) return *model;
  std::vector<std::string> names;
  session.query(
      "SELECT m.name FROM model m JOIN connection c ON c.id = m.connection_id WHERE c.name = $1 ORDER BY m.name",
      {connection}, [&](const Row& row) { names.emplace_back(row.text(0)); });
  bool known = !names.empty();
  if (!known)
    session.query("SELECT 1 FROM connection WHERE name = $1", {connection}, [&](const Row&) { known = true; });
  if (!known)
    throw Error(
        Error::Kind::not_found,
        fmt::format("There is no connection `{}`; `dragoman connection list` shows those that there are.", connection));
  const std::string near = nearest(name, names);
  throw Error(Error::Kind::not_found,
              fmt::format("The model `{}` is not captured from `{}`.{} `dragoman model list {}` shows those that are; "
                          "`dragoman sync run {} {}` adds it.",
                          name, connection, near.empty() ? "" : fmt::format(" Did you mean `{}`?", near), connection,
                          connection, name));
}

// ` AND column IN (0, $n, …)` for a view, whose companies are to follow the parameters that there are.
std::string in_view(const CompanyView& view, std::string_view column, int first_param) {
  if (view.all()) return {};
  std::string text = fmt::format(" AND {} IN (0", column);
  for (std::size_t i = 0; i < view.companies.size(); ++i)
    text += fmt::format(", ${}", first_param + static_cast<int>(i));
  return text + ")";
}

Error unseen(const ModelRow& model, std::int64_t id) {
  return Error(Error::Kind::not_found,
               fmt::format("{} {} has never been seen through `{}`.", model.name, id, model.connection));
}

// The number of the newest version of a record.
std::int64_t newest(Session& session, const ModelRow& model, std::int64_t id) {
  std::int64_t number = 0;
  session.query("SELECT change_number FROM snapshot WHERE model_id = $1 AND external_id = $2", {model.id, id},
                [&](const Row& row) { number = row.int64(0); });
  if (number == 0) throw unseen(model, id);
  return number;
}

// Walks a record's chain of versions, newest first, until `each` says false.
void walk(Session& session, std::int64_t number, bool bodies, const std::function<bool(Change&&)>& each) {
  const std::string sql = change_columns(bodies) + "WHERE v.number = $1";
  while (number != 0) {
    std::optional<Change> change;
    std::int64_t previous = 0;
    session.query(sql, {number}, [&](const Row& row) {
      change = change_of(row);
      previous = row.int64(12);
    });
    if (!change) return;  // erased on purpose
    if (!each(std::move(*change))) return;
    number = previous;
  }
}

void add_binaries(Session& session, Change& change) {
  session.query("SELECT field, digest FROM blob_ref WHERE change_number = $1 ORDER BY field", {change.number},
                [&](const Row& row) { change.binaries.emplace_back(row.text(0), hex(row.bytes(1))); });
}

Change version_of(Session& session, const ModelRow& model, std::int64_t id, std::optional<std::int64_t> version,
                  const CompanyView& view) {
  std::optional<Change> found;
  std::int64_t highest = 0;
  walk(session, newest(session, model, id), true, [&](Change&& change) {
    highest = std::max(highest, change.version);
    if (version && change.version != *version) return true;
    found = std::move(change);
    return false;
  });
  if (found && !view.sees(found->company_id)) throw unseen(model, id);
  if (!found)
    throw Error(Error::Kind::not_found, fmt::format("{} {} has no version {}; its newest is {}.", model.name, id,
                                                    version.value_or(0), highest));
  return *found;
}

}  // namespace

bool CompanyView::sees(std::optional<std::int64_t> company_id) const {
  if (all()) return true;
  return company_id &&
         (*company_id == 0 || std::find(companies.begin(), companies.end(), *company_id) != companies.end());
}

std::string_view name(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::create:
      return "create";
    case ChangeKind::change:
      return "change";
    case ChangeKind::archive:
      return "archive";
    case ChangeKind::restore:
      return "restore";
    case ChangeKind::remove:
      return "delete";
  }
  return "?";
}

ModelRow model_of(const Row& row) {
  ModelRow model;
  model.id = row.int64(0);
  model.connection_id = row.int64(1);
  model.connection = row.text(2);
  model.name = row.text(3);
  model.asked = row.int64(4) != 0;
  model.state = row.text(5);
  model.reason = row.text(6);
  model.alarm = row.text(7);
  model.plan = Plan::parse(row.text(8));
  model.schema_number = row.int64(9);
  model.pull = row.text(10);
  model.cursor = row.time(11);
  model.swept = row.time(12);
  model.overlap = Micros(row.int64(13));
  return model;
}

std::vector<ModelRow> Records::models(const std::string& connection, bool with_counts) {
  std::vector<ModelRow> models;
  store_.read([&](Session& session) {
    models.clear();
    session.query(std::string(kModelColumns) + "WHERE $1 = '' OR c.name = $1 ORDER BY c.name, m.name", {connection},
                  [&](const Row& row) { models.push_back(model_of(row)); });
    if (!with_counts) return;
    for (ModelRow& model : models)
      session.query(
          "SELECT state, count(*) FROM snapshot WHERE model_id = $1 GROUP BY state", {model.id}, [&](const Row& row) {
            (row.int64(0) == 0 ? model.live : row.int64(0) == 1 ? model.archived : model.deleted) = row.int64(1);
          });
  });
  return models;
}

ModelRow Records::model(const std::string& connection, const std::string& name) {
  ModelRow model;
  store_.read([&](Session& session) { model = find_model(session, connection, name); });
  return model;
}

std::vector<Change> Records::list(const std::string& connection, const std::string& model, const Filter& filter) {
  std::vector<Change> out;
  std::string sql = change_columns(filter.bodies);
  sql +=
      "JOIN snapshot s ON s.change_number = v.number AND s.model_id = v.model_id AND s.external_id = v.external_id "
      "WHERE s.model_id = $1 AND s.external_id > $2";
  if (!filter.archived) sql += " AND s.state <> 1";
  if (!filter.deleted) sql += " AND s.state <> 2";
  sql += in_view(filter.view, "s.company_id", 4);
  sql += " ORDER BY s.external_id LIMIT $3";
  store_.read([&](Session& session) {
    out.clear();
    const ModelRow row_of_model = find_model(session, connection, model);
    std::vector<Param> params{row_of_model.id, filter.after.value_or(0), filter.limit};
    for (const std::int64_t company : filter.view.companies) params.emplace_back(company);
    session.query(sql, params, [&](const Row& row) { out.push_back(change_of(row)); });
  });
  return out;
}

Change Records::show(const std::string& connection, const std::string& model, std::int64_t id,
                     std::optional<std::int64_t> version, const CompanyView& view) {
  Change change;
  store_.read([&](Session& session) {
    change = version_of(session, find_model(session, connection, model), id, version, view);
    add_binaries(session, change);
  });
  return change;
}

std::vector<Change> Records::history(const std::string& connection, const std::string& model, std::int64_t id,
                                     std::int64_t limit, const CompanyView& view) {
  std::vector<Change> out;
  store_.read([&](Session& session) {
    out.clear();
    const ModelRow row = find_model(session, connection, model);
    walk(session, newest(session, row, id), true, [&](Change&& change) {
      if (view.sees(change.company_id)) out.push_back(std::move(change));
      return static_cast<std::int64_t>(out.size()) < limit;
    });
  });
  return out;
}

nlohmann::json Records::diff(const std::string& connection, const std::string& model, std::int64_t id,
                             std::optional<std::int64_t> from, std::optional<std::int64_t> to,
                             const CompanyView& view) {
  nlohmann::json out;
  store_.read([&](Session& session) {
    const ModelRow row = find_model(session, connection, model);
    const Change after = version_of(session, row, id, to, view);
    nlohmann::json fields = nlohmann::json::object();
    const std::int64_t before_version = from.value_or(after.version - 1);
    const auto raw = [](const std::string& text) {
      auto value = nlohmann::json::parse(text, nullptr, false);
      return value.is_discarded() ? nlohmann::json(text) : value;
    };
    Change before;
    if (before_version > 0) before = version_of(session, row, id, before_version, view);
    for (const auto& change : json::diff(before.body.value_or("{}"), after.body.value_or("{}"), row.plan.kinds())) {
      nlohmann::json entry = nlohmann::json::object();
      if (change.before) entry["from"] = raw(*change.before);
      if (change.after) entry["to"] = raw(*change.after);
      fields[change.name] = entry;
    }
    out = {{"model", model},           {"id", id},        {"from", before_version}, {"to", after.version},
           {"kind", name(after.kind)}, {"fields", fields}};
  });
  return out;
}

Records::Feed Records::changes(const FeedFilter& filter) {
  Feed feed;
  // Numbers are read in stretches, so that a filter that lets little through costs no unbounded scan in one go.
  constexpr std::int64_t kStretch = 20'000;
  std::string sql = change_columns(filter.bodies) + "WHERE v.number > $1 AND v.number <= $2";
  int next_param = 4;
  if (!filter.connection.empty()) sql += fmt::format(" AND c.name = ${}", next_param++);
  if (!filter.model.empty()) sql += fmt::format(" AND m.name = ${}", next_param++);
  sql += in_view(filter.view, "v.company_id", next_param);
  sql += " ORDER BY v.number LIMIT $3";
  store_.read([&](Session& session) {
    feed = {};
    session.query("SELECT last FROM feed WHERE id = 1", std::initializer_list<Param>{},
                  [&](const Row& row) { feed.last = row.int64(0); });
    std::int64_t since = filter.since;
    while (since < feed.last && static_cast<std::int64_t>(feed.changes.size()) < filter.limit) {
      const std::int64_t upto = std::min(feed.last, since + kStretch);
      const std::int64_t room = filter.limit - static_cast<std::int64_t>(feed.changes.size());
      std::vector<Param> params{since, upto, room};
      if (!filter.connection.empty()) params.emplace_back(std::string_view(filter.connection));
      if (!filter.model.empty()) params.emplace_back(std::string_view(filter.model));
      for (const std::int64_t company : filter.view.companies) params.emplace_back(company);
      const std::size_t before = feed.changes.size();
      session.query(sql, params, [&](const Row& row) { feed.changes.push_back(change_of(row)); });
      since = static_cast<std::int64_t>(feed.changes.size() - before) == room ? feed.changes.back().number : upto;
    }
    feed.next = std::max(since, filter.since);
  });
  return feed;
}

bool Records::wait(std::int64_t since, Micros timeout, std::stop_token stop) {
  std::uint64_t seen = 0;
  for (;;) {
    std::int64_t last = 0;
    store_.read([&](Session& session) {
      session.query("SELECT last FROM feed WHERE id = 1", std::initializer_list<Param>{},
                    [&](const Row& row) { last = row.int64(0); });
    });
    if (last > since) return true;
    if (stop.stop_requested()) return false;
    const std::uint64_t now = store_.wait(kWakeup, seen, timeout, stop);
    // A first call with 0 may return at once for what was notified before; only then another round makes sense.
    if (now == seen) return false;
    seen = now;
  }
}

std::vector<Records::SchemaVersion> Records::schemas(const std::string& connection, const std::string& model) {
  std::vector<SchemaVersion> out;
  store_.read([&](Session& session) {
    out.clear();
    const ModelRow row_of_model = find_model(session, connection, model);
    session.query("SELECT number, seen_us, fields, difference FROM schema_version WHERE model_id = $1 ORDER BY number",
                  {row_of_model.id}, [&](const Row& row) {
                    out.push_back({row.int64(0), row.time(1), nlohmann::json::parse(row.text(2)),
                                   nlohmann::json::parse(row.text(3))});
                  });
  });
  return out;
}

std::vector<Records::Run> Records::runs(const RunFilter& filter) {
  std::string sql =
      "SELECT c.name, l.model, l.kind, l.outcome, l.started_us, l.finished_us, l.counts, l.errors, l.id FROM sync_log "
      "l "
      "JOIN connection c ON c.id = l.connection_id WHERE 1 = 1";
  std::vector<Param> params;
  const auto only = [&](const char* condition, Param value) {
    params.push_back(value);
    sql += fmt::format(fmt::runtime(condition), params.size());
  };
  if (!filter.connection.empty()) only(" AND c.name = ${}", std::string_view(filter.connection));
  if (!filter.kind.empty()) only(" AND l.kind = ${}", std::string_view(filter.kind));
  if (!filter.outcome.empty()) only(" AND l.outcome = ${}", std::string_view(filter.outcome));
  if (!filter.text.empty())
    only(" AND (replace(l.errors, ${0}, '') <> l.errors OR replace(l.counts, ${0}, '') <> l.counts)",
         std::string_view(filter.text));
  if (filter.before > 0) only(" AND l.id < ${}", filter.before);
  only(" ORDER BY l.id DESC LIMIT ${}", filter.limit);
  std::vector<Run> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query(sql, params, [&](const Row& row) {
      Run run;
      run.id = row.int64(8);
      run.connection = row.text(0);
      run.model = row.text(1);
      run.kind = row.text(2);
      run.outcome = row.text(3);
      run.started = row.time(4);
      run.finished = row.time(5);
      run.counts = nlohmann::json::parse(row.text(6));
      run.errors = row.text(7).empty() ? nlohmann::json::array() : nlohmann::json::parse(row.text(7));
      out.push_back(std::move(run));
    });
  });
  return out;
}

std::optional<std::string> Records::blob(const std::string& digest_hex) {
  std::string digest;
  for (std::size_t i = 0; i + 1 < digest_hex.size(); i += 2) {
    const auto value = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
    const int high = value(digest_hex[i]), low = value(digest_hex[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    digest += static_cast<char>(high * 16 + low);
  }
  std::optional<std::string> data;
  store_.read([&](Session& session) {
    session.query("SELECT data FROM blob WHERE digest = $1", {Bytes{digest}},
                  [&](const Row& row) { data = std::string(row.bytes(0)); });
  });
  return data;
}

bool forget_sync_log(store::Store& store, Micros kept, std::int64_t piece) {
  bool any = false;
  // Most looks find nothing: they should not take the writer.
  store.read([&](Session& session) {
    any = session.first(
        "SELECT 1 FROM (SELECT id, started_us FROM sync_log ORDER BY id LIMIT $2) AS oldest WHERE "
        "started_us < $1 AND id < (SELECT max(id) FROM sync_log)",
        {to_us(session.now() - kept), piece}, [](const Row&) {});
  });
  if (!any) return false;
  std::int64_t gone = 0;
  store.write([&](Session& session) {
    // The newest stays: its number must not be given out again.
    gone = session.execute(
        "DELETE FROM sync_log WHERE id IN (SELECT id FROM sync_log ORDER BY id LIMIT $2) AND started_us < $1 AND id < "
        "(SELECT max(id) FROM sync_log)",
        {to_us(session.now() - kept), piece});
  });
  return gone == piece;
}

}  // namespace dragoman::pipeline
