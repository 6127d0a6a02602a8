#include "pipeline/job_alerts.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "jobs/breaker.h"

namespace dragoman::pipeline {
namespace {

using store::Row;
using store::Session;

constexpr std::int64_t kBreakerHeld = static_cast<std::int64_t>(jobs::breaker::State::held);

// The addresses in the settings of a connection.
std::vector<std::string> told_by(std::string_view settings) {
  std::vector<std::string> out;
  const auto parsed = nlohmann::json::parse(settings, nullptr, false);
  if (!parsed.is_object()) return out;
  const auto found = parsed.find("tell");
  if (found == parsed.end() || !found->is_array()) return out;
  for (const auto& one : *found)
    if (one.is_string()) out.push_back(one);
  return out;
}

}  // namespace

std::vector<std::string> who_is_told(Session& session, const notify::Alert& alert) {
  std::vector<std::string> out;
  // `main`, or `main job 17`; a summary of several problems is about nobody's alone.
  const std::string name = alert.subject.substr(0, alert.subject.find(' '));
  if (!name.empty())
    session.first("SELECT settings FROM connection WHERE name = $1", {std::string_view(name)},
                  [&](const Row& row) { out = told_by(row.text(0)); });
  return out;
}

void check_told(const nlohmann::json& settings) {
  const auto found = settings.find("tell");
  if (found == settings.end() || found->is_null()) return;
  const auto wrong = [](const std::string& what) {
    return Error(
        Error::Kind::invalid,
        fmt::format("The setting `tell` is a list of e-mail addresses, such as [\"ann@example.com\"]; {}.", what));
  };
  if (!found->is_array()) throw wrong("this is " + found->dump());
  for (const auto& one : *found) {
    if (!one.is_string()) throw wrong(one.dump() + " is none");
    const auto& text = one.get_ref<const std::string&>();
    const auto at = text.find('@');
    if (at == 0 || at == std::string::npos || at + 1 == text.size() || text.find('@', at + 1) != std::string::npos ||
        std::any_of(text.begin(), text.end(), [](unsigned char c) {
          return c <= ' ' || c >= 0x7f || c == ',' || c == '<' || c == '>' || c == '"';
        }))
      throw wrong(fmt::format("`{}` is none", text));
  }
}

void tell_of_dead_letters(Session& session, std::span<const jobs::DeadLetter> dead) {
  // In the order of their fingerprints, so that two nodes never wait for each other.
  std::map<std::string, notify::Alert> alerts;
  for (const auto& one : dead) {
    std::string name, fingerprint = "dead:" + one.fingerprint;
    if (one.connection_id != 0)
      session.first("SELECT name, settings FROM connection WHERE id = $1", {{one.connection_id}}, [&](const Row& row) {
        name = row.text(0);
        if (!told_by(row.text(1)).empty()) fingerprint += "@" + name;
      });
    const auto [at, fresh] = alerts.try_emplace(fingerprint);
    notify::Alert& alert = at->second;
    alert.count = fresh ? 1 : alert.count + 1;
    alert.fingerprint = at->first;
    alert.severity = notify::Severity::critical;
    alert.title = fmt::format("{} failed for good: {}", one.kind, one.message.empty() ? one.code : one.message);
    alert.text = fmt::format(
        "{}\n\nIt is kept as a dead letter, with its history, until it is retried, edited or "
        "discarded; all that failed like this can be treated at once.",
        one.message);
    alert.subject = name.empty() ? fmt::format("job {}", one.id) : fmt::format("{} job {}", name, one.id);
    alert.link = fmt::format("dragoman job list --group {}", one.fingerprint);
  }
  for (const auto& [fingerprint, alert] : alerts) notify::raise(session, alert);
}

int tell_of_outages(store::Store& store, Micros patience) {
  struct Outage {
    std::string connection, message;
    bool held = false;
    Time since{};
    std::string lane;  ///< of a lane that waits although the connection is well: its kind of job
  };
  const auto read = [&](Session& session) {
    std::vector<Outage> found;
    // Once per outage: not where it was raised since that began.
    session.query(
        "SELECT c.name, b.message, b.state, b.since_us FROM breaker b JOIN connection c ON c.id = b.connection_id LEFT "
        "JOIN alert a ON a.fingerprint = CASE WHEN b.state = $1 THEN 'connection:' || c.name || ':auth' ELSE "
        "'connection:' || c.name || ':outage' END WHERE b.state <> 0 AND (b.state = $1 OR b.since_us <= $2) AND "
        "(a.last_us IS NULL OR a.last_us < b.since_us) ORDER BY c.name",
        {kBreakerHeld, patience > Micros(0) ? to_us(session.now() - patience) : std::int64_t{-1}}, [&](const Row& row) {
          found.push_back(
              {std::string(row.text(0)), std::string(row.text(1)), row.int64(2) == kBreakerHeld, row.time(3), {}});
        });
    // One of the lanes of a connection and kind stands for all.
    session.query(
        "SELECT c.name, min(w.message), min(w.since_us), l.kind FROM job_lane_wait w JOIN job_lane l ON l.id = "
        "w.lane_id JOIN connection c ON c.id = l.connection_id LEFT JOIN alert a ON a.fingerprint = 'connection:' || "
        "c.name || ':' || l.kind WHERE c.state <> 'paused' GROUP BY c.name, l.kind, a.last_us HAVING a.last_us IS NULL "
        "OR a.last_us < min(w.since_us) ORDER BY c.name, l.kind",
        {}, [&](const Row& row) {
          found.push_back(
              {std::string(row.text(0)), std::string(row.text(1)), false, row.time(2), std::string(row.text(3))});
        });
    return found;
  };
  bool any = false;
  store.read([&](Session& session) { any = !read(session).empty(); });
  if (!any) return 0;
  int told = 0;
  store.write([&](Session& session) {
    session.lock("dragoman outages");  // or two nodes would tell of the same one
    told = 0;
    for (const Outage& one : read(session)) {
      notify::Alert alert{.fingerprint = fmt::format("connection:{}:{}", one.connection, one.held ? "auth" : "outage"),
                          .severity = notify::Severity::critical,
                          .subject = one.connection,
                          .link = fmt::format("dragoman connection test {}", one.connection)};
      if (!one.lane.empty()) {
        alert.fingerprint = fmt::format("connection:{}:{}", one.connection, one.lane);
        alert.title =
            fmt::format("Jobs of the kind {} of the connection {} wait for somebody", one.lane, one.connection);
        alert.text = fmt::format(
            "{} What else the connection does goes on; these jobs do by themselves as soon as "
            "that is done.",
            sentence(one.message));
        alert.link = "dragoman flow list";
      } else if (one.held) {
        alert.title = fmt::format("The connection {} stopped: it can't log in", one.connection);
        alert.text = fmt::format("{} Its jobs wait until that is put right (`dragoman connection update {}`).",
                                 sentence(one.message), one.connection);
      } else {
        alert.title = fmt::format("The connection {} does not answer", one.connection);
        alert.text = fmt::format("Since {} UTC: {} Its jobs wait, and go on by themselves when it answers again.",
                                 format_odoo(one.since), sentence(one.message));
      }
      notify::raise(session, alert);
      ++told;
    }
  });
  return told;
}

}  // namespace dragoman::pipeline
