#include "pipeline/sync_jobs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "jobs/queue.h"
#include "notify/alert.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "payload";
  throw error;
}

// The payload, with nothing in it but what `known` says.
json payload_of(const std::string& text, std::initializer_list<std::string_view> known) {
  json payload = json::parse(text.empty() ? "{}" : text, nullptr, false);
  if (!payload.is_object()) refuse("The payload is no JSON object.");
  for (const auto& [name, value] : payload.items())
    if (std::find(known.begin(), known.end(), name) == known.end())
      refuse(fmt::format("The payload has `{}`; it takes {}.", name, fmt::join(known, ", ")));
  return payload;
}

bool flag(const json& payload, const char* name, bool fallback) {
  const auto found = payload.find(name);
  if (found == payload.end()) return fallback;
  if (!found->is_boolean()) refuse(fmt::format("`{}` of the payload is true or false.", name));
  return found->get<bool>();
}

std::vector<std::string> models(const json& payload) {
  std::vector<std::string> names;
  const auto found = payload.find("models");
  if (found == payload.end()) return names;
  if (!found->is_array()) refuse("`models` of the payload is a list of names.");
  for (const auto& one : *found) {
    if (!one.is_string()) refuse("`models` of the payload is a list of names.");
    names.push_back(one.get<std::string>());
  }
  return names;
}

struct RunPayload {
  std::vector<std::string> models;
  RunOptions options;
};

RunPayload run_payload(const std::string& text) {
  const json payload = payload_of(text, {"models", "full"});
  return {models(payload), {.full = flag(payload, "full", false)}};
}

CertifyOptions certify_options(const std::string& text) {
  const json payload = payload_of(text, {"models", "bodies", "heal"});
  CertifyOptions options;
  options.models = models(payload);
  options.heal = flag(payload, "heal", true);
  const json bodies = payload.value("bodies", json("sample"));
  using Bodies = CertifyOptions::Bodies;
  if (bodies == "none")
    options.bodies = Bodies::none;
  else if (bodies == "all")
    options.bodies = Bodies::all;
  else if (bodies != "sample")
    refuse("`bodies` of the payload is none, sample or all.");
  return options;
}

}  // namespace

std::vector<jobs::Kind> SyncJobs::kinds() {
  // A first pull of millions of records takes hours; the next sync of that connection waits so long.
  constexpr auto kTimeLimit = std::chrono::hours(12);
  return {{.name = "sync.run",
           .summary = "Brings a connection's records up to date",
           .handler = &run_,
           .attempts_max = 3,
           .time_limit = kTimeLimit,
           .dead_parks = false,
           .check = [](const jobs::Wanted& wanted) { run_payload(wanted.payload); }},
          {.name = "sync.certify",
           .summary = "Compares a connection's records with the remote's, and reads again what differs",
           .handler = &certify_,
           .attempts_max = 3,
           .time_limit = kTimeLimit,
           .dead_parks = false,
           .check = [](const jobs::Wanted& wanted) { certify_options(wanted.payload); }}};
}

std::vector<jobs::Outcome> SyncJobs::OneKind::run(std::span<const jobs::Job> jobs, std::stop_token stop) {
  std::vector<jobs::Outcome> outcomes;
  outcomes.reserve(jobs.size());
  for (const auto& job : jobs) {
    if (stop.stop_requested()) {
      outcomes.push_back(jobs::snooze(Micros(0)));
      continue;
    }
    try {
      outcomes.push_back(owner_.attempt(job, certifies_, stop));
    } catch (const Error& error) {
      jobs::Outcome outcome = jobs::failed(error);
      // Answered by something in front of the remote (a proxy's page): it says nothing about the job.
      if (error.code == "html" || error.code == "not_odoo" || error.code == "http_forbidden")
        outcome.what = jobs::Outcome::What::outage;
      outcomes.push_back(std::move(outcome));
    }
  }
  return outcomes;
}

jobs::Outcome SyncJobs::attempt(const jobs::Job& job, bool certifies, std::stop_token stop) {
  if (job.connection_id == 0) {
    // What is wrong with it is said once, not by each of those it makes.
    if (certifies)
      certify_options(job.payload);
    else
      run_payload(job.payload);
    return for_each_connection(job);
  }
  for (const auto& connection : connections_.list()) {
    if (connection.id != job.connection_id) continue;
    if (connection.state != "active")
      return jobs::cancel(fmt::format("The connection {} is {}{}.", connection.name,
                                      connection.state == "error" ? "in error" : connection.state,
                                      connection.reason.empty() ? "" : ": " + connection.reason));
    return certifies ? certify(connection.name, job.payload, stop) : run(connection.name, job.payload, stop);
  }
  return jobs::cancel("Its connection was removed.");
}

jobs::Outcome SyncJobs::for_each_connection(const jobs::Job& job) {
  std::vector<jobs::NewJob> made;
  std::vector<std::string> names;
  for (const auto& connection : connections_.list()) {
    if (connection.state != "active" || !sync_.captures(connection)) continue;
    names.push_back(connection.name);
    made.push_back({.kind = job.kind,
                    .flow = job.flow,
                    .connection_id = connection.id,
                    .payload = job.payload,
                    .payload_version = job.payload_version,
                    .priority = jobs::Priority::low,
                    .unique_key = fmt::format("{}:{}", job.kind, connection.id),
                    .unique = jobs::Unique::unfinished,
                    .cause = job.cause});
  }
  std::string result =
      names.empty() ? "There is no active connection." : fmt::format("Asked for {}.", fmt::join(names, ", "));
  return jobs::done([made = std::move(made)](store::Session& session) { jobs::enqueue(session, made); },
                    std::move(result));
}

jobs::Outcome SyncJobs::run(const std::string& connection, const std::string& text, std::stop_token stop) {
  const RunPayload payload = run_payload(text);
  const auto result = sync_.run(connection, payload.models, payload.options, stop);
  if (!result.errors.empty()) {
    jobs::Outcome outcome;
    outcome.what = jobs::Outcome::What::retry;
    outcome.kind = Error::Kind::protocol;
    outcome.code = "models";
    outcome.message =
        fmt::format("Some models of {} failed; the rest is done. {}", connection, fmt::join(result.errors, " "));
    return outcome;
  }
  return jobs::done({}, fmt::format("{} created, {} changed, {} deleted, {} unchanged.", result.created, result.changed,
                                    result.deleted, result.unchanged));
}

jobs::Outcome SyncJobs::certify(const std::string& connection, const std::string& text, std::stop_token stop) {
  std::int64_t records = 0, differences = 0, healed = 0, count = 0;
  std::string where;
  for (const auto& one : sync_.certify(connection, certify_options(text), stop)) {
    ++count;
    records += one.there;
    if (one.differences.empty()) continue;
    differences += static_cast<std::int64_t>(one.differences.size());
    for (const auto& difference : one.differences) healed += difference.healed ? 1 : 0;
    where += (where.empty() ? "" : ", ") + one.model;
  }
  if (differences > 0)
    log::warning("a certificate found differences",
                 {{"connection", connection}, {"differences", differences}, {"healed", healed}, {"models", where}});
  if (differences == 0) return jobs::done({}, fmt::format("{} records of {} models, no difference.", records, count));
  const std::string result =
      fmt::format("{} difference{} in {}, {} of them healed.", differences, differences == 1 ? "" : "s", where, healed);
  notify::Alert alert{.fingerprint = fmt::format("certificate:{}", connection),
                      .severity = notify::Severity::critical,
                      .title = fmt::format("What is held of {} differs from what is there", connection),
                      .text = fmt::format("A certificate found {} What was healed is right again; that it differed "
                                          "means that changes were missed, or that somebody changed the hub's "
                                          "database.",
                                          result),
                      .subject = connection,
                      .link = fmt::format("dragoman certify {}", connection)};
  return jobs::done([alert = std::move(alert)](store::Session& session) { notify::raise(session, alert); }, result);
}

std::vector<jobs::ScheduleSpec> sync_schedules() {
  jobs::ScheduleSpec nightly;
  nightly.name = "certify-nightly";
  nightly.cron = "30 2 * * *";
  nightly.jitter = std::chrono::minutes(30);  // many hubs ask one Odoo's host
  nightly.kind = "sync.certify";
  nightly.flow = "sync";
  nightly.payload = R"({"bodies":"sample","heal":true})";
  return {nightly};
}

}  // namespace dragoman::pipeline
