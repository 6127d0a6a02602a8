#include "pipeline/trace.h"

#include <fmt/format.h>

#include "base/decimal.h"
#include "base/error.h"
#include "base/text.h"
#include "json/mask.h"

namespace dragoman::pipeline {
namespace {

using store::Param;
using store::Session;

constexpr const char* kLearnt = "trace_until_us";

// As much as is kept, as UTF-8 that a database takes.
std::string kept(const std::string& body, std::string text) {
  std::erase(text, '\0');
  while (!text.empty() && body.size() > Traces::kBodyMax && !is_utf8(text) &&
         (static_cast<unsigned char>(text.back()) & 0x80) != 0)
    text.pop_back();
  if (is_utf8(text)) return text;
  std::string safe;
  append_json_string(safe, text);
  return safe;
}

const char* const kSelect =
    "SELECT t.id, c.name, t.at_us, t.took_us, t.method, t.target, t.status, t.error, t.request_bytes, t.response_bytes";

Traces::Row row_of(const store::Row& row) {
  Traces::Row out;
  out.id = row.int64(0);
  out.connection = row.text(1);
  out.exchange.at = row.time(2);
  out.exchange.took = Micros(row.int64(3));
  out.exchange.method = row.text(4);
  out.exchange.target = row.text(5);
  out.exchange.status = static_cast<int>(row.int64(6));
  out.exchange.error = row.text(7);
  out.request_bytes = row.int64(8);
  out.response_bytes = row.int64(9);
  return out;
}

}  // namespace

std::optional<Time> Traces::set(const std::string& connection, Micros duration) {
  const auto known = connections_.get(connection);
  std::optional<Time> until;
  if (duration > Micros(0)) {
    store_.read([&](Session& session) { until = session.now() + duration; });
    connections_.set_learnt(known.id, fmt::format(R"({{"{}":"{}"}})", kLearnt, to_us(*until)));
  } else {
    connections_.set_learnt(known.id, fmt::format(R"({{"{}":null}})", kLearnt));
  }
  return until;
}

std::optional<Time> Traces::until(const Connection& connection, Time now) const {
  if (!connection.learnt.is_object() || !connection.learnt.contains(kLearnt)) return std::nullopt;
  const auto& value = connection.learnt[kLearnt];
  const auto at = value.is_string() ? Decimal::parse(value.get_ref<const std::string&>()) : std::nullopt;
  if (!at || from_us(at->floor()) <= now) return std::nullopt;
  return from_us(at->floor());
}

void Traces::keep(std::int64_t connection_id, const Exchange& exchange) {
  try {
    const auto connection = connections_.find(connection_id);
    if (!connection) return;
    Time now{};
    store_.read([&](Session& session) { now = session.now(); });
    if (!until(*connection, now)) return;
    std::vector<std::string> secrets;
    std::string asked = json::mask_secrets(exchange.request.substr(0, kBodyMax), &secrets),
                answer = json::mask_secrets(exchange.response.substr(0, kBodyMax));
    // A code that is refused may be named in the refusal.
    for (const auto& secret : secrets) answer = json::mask_text(std::move(answer), secret);
    const std::string request = kept(exchange.request, std::move(asked)),
                      response = kept(exchange.response, std::move(answer));
    store_.write([&](Session& session) {
      session.execute(
          "INSERT INTO trace (connection_id, at_us, took_us, method, target, status, error, request, response, "
          "request_bytes, response_bytes) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
          {connection_id, to_us(exchange.at), exchange.took.count(), exchange.method, exchange.target,
           std::int64_t{exchange.status}, exchange.error, request, response,
           static_cast<std::int64_t>(exchange.request.size()), static_cast<std::int64_t>(exchange.response.size())});
    });
  } catch (const Error& error) {
    ignore_error("the call itself matters more than its trace", error);
  }
}

std::vector<Traces::Row> Traces::list(const Filter& filter) {
  std::string sql = fmt::format("{} FROM trace t JOIN connection c ON c.id = t.connection_id WHERE 1 = 1", kSelect);
  std::vector<Param> params;
  const auto only = [&](const char* condition, Param value) {
    params.push_back(value);
    sql += fmt::format(fmt::runtime(condition), params.size());
  };
  if (!filter.connection.empty()) only(" AND c.name = ${}", std::string_view(filter.connection));
  if (!filter.text.empty())
    // Holds it: the same in both databases, and no character means anything but itself.
    only(
        " AND (replace(t.target, ${0}, '') <> t.target OR replace(t.request, ${0}, '') <> t.request OR "
        "replace(t.response, ${0}, '') <> t.response OR replace(t.error, ${0}, '') <> t.error)",
        std::string_view(filter.text));
  if (filter.failed) sql += " AND (t.status = 0 OR t.status >= 400)";
  if (filter.before > 0) only(" AND t.id < ${}", filter.before);
  only(" ORDER BY t.id DESC LIMIT ${}", filter.limit);
  std::vector<Row> out;
  store_.read([&](Session& session) {
    out.clear();
    session.query(sql, params, [&](const store::Row& row) { out.push_back(row_of(row)); });
  });
  return out;
}

Traces::Row Traces::get(std::int64_t id) {
  std::optional<Row> out;
  store_.read([&](Session& session) {
    session.first(
        fmt::format("{}, t.request, t.response FROM trace t JOIN connection c ON c.id = t.connection_id WHERE "
                    "t.id = $1",
                    kSelect),
        {id}, [&](const store::Row& row) {
          out = row_of(row);
          out->exchange.request = row.text(10);
          out->exchange.response = row.text(11);
        });
  });
  if (!out) throw Error(Error::Kind::not_found, fmt::format("There is no trace {}, or not any more.", id));
  return *std::move(out);
}

bool Traces::forget(std::int64_t piece) {
  bool any = false;
  // Most looks find nothing: they should not take the writer.
  store_.read([&](Session& session) {
    any = session.first("SELECT 1 FROM trace WHERE id = (SELECT min(id) FROM trace) AND at_us < $1",
                        {to_us(session.now() - kKept)}, [](const store::Row&) {});
  });
  if (!any) return false;
  std::int64_t gone = 0;
  store_.write([&](Session& session) {
    gone = session.execute(
        "DELETE FROM trace WHERE id IN (SELECT id FROM trace ORDER BY id LIMIT $2) AND at_us < $1 AND id < (SELECT "
        "max(id) FROM trace)",
        {to_us(session.now() - kKept), piece});
  });
  return gone == piece;
}

}  // namespace dragoman::pipeline
