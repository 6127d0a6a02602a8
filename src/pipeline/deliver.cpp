#include "pipeline/deliver.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <tuple>

#include "audit/audit.h"
#include "base/error.h"
#include "base/log.h"
#include "base/step.h"
#include "base/text.h"
#include "pipeline/mapping.h"
#include "pipeline/own_writes.h"

namespace dragoman::pipeline {
namespace {

using jobs::Job;
using jobs::Outcome;
using nlohmann::json;
using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

constexpr Micros kPausedLook = std::chrono::seconds(10);
// More would make a row of the sync log that nobody reads.
constexpr std::size_t kErrorsKept = 20;

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string digest_of(std::string_view text) {
  std::string digest(16, '\0');
  crypto_generichash(reinterpret_cast<unsigned char*>(digest.data()), digest.size(),
                     reinterpret_cast<const unsigned char*>(text.data()), text.size(), nullptr, 0);
  return digest;
}

std::int64_t number_of(const std::string& id) {
  std::int64_t number = 0;
  const auto [end, code] = std::from_chars(id.data(), id.data() + id.size(), number);
  return code == std::errc() && end == id.data() + id.size() ? number : 0;
}

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "payload";
  throw error;
}

// What an error about a whole call means for its jobs.
Outcome outcome_of(const Error& error) {
  Outcome outcome = jobs::failed(error);
  // The connection is well; what deliveries need at its other end is not there.
  if (error.code == kNotProvisioned) {
    outcome.what = Outcome::What::outage;
    outcome.lane_only = true;
  }
  return outcome;
}

// The rows of `delivery` under these keys, in one question.
void each_delivery(Session& session, std::int64_t connection_id, const std::string& model, const json& keys,
                   const std::function<void(const Row&)>& each) {
  static const std::string columns =
      "SELECT record_key, version, digest, external_id, intent_job, intent_version, intent_run, versions FROM delivery "
      "WHERE "
      "connection_id = $1 AND model = $2 AND record_key IN ";
  static const std::string sqlite = columns + "(SELECT value FROM json_each($3))";
  static const std::string postgres = columns + "(SELECT json_array_elements_text(CAST($3 AS json)))";
  const std::string list = dumped(keys);
  session.query(session.engine() == store::Engine::sqlite ? sqlite : postgres, {connection_id, model, list}, each);
}

}  // namespace

std::string_view name(Delivered::What what) {
  switch (what) {
    case Delivered::What::created:
      return "created";
    case Delivered::What::updated:
      return "updated";
    case Delivered::What::unchanged:
      return "unchanged";
    case Delivered::What::skipped:
      return "skipped";
    case Delivered::What::refused:
      return "refused";
  }
  return "refused";
}

Destination Targets::get(std::int64_t connection_id) {
  const Connection connection = connections_.usable(connection_id);
  {
    auto open = open_.lock();
    const auto found = open->find(connection_id);
    if (found != open->end() && found->second.changed == connection.changed && !found->second.target->stale())
      return {connection_id, connection.name, found->second.target};
  }
  const Connector& connector = connectors_.get(connection.kind);
  if (!connector.make_target)
    throw Error(Error::Kind::invalid,
                fmt::format("Nothing can be delivered to a connection of kind `{}`.", connection.kind));
  std::shared_ptr<Target> target = connector.make_target(connection, connections_.secret(connection), clock_);
  auto open = open_.lock();
  (*open)[connection_id] = {connection.changed, target};
  return {connection_id, connection.name, std::move(target)};
}

std::string DeliveryOrder::json() const {
  // `content` is an object with at least `values` in it: what is added goes before its last brace.
  DRAGOMAN_ASSERT(content.size() > 2 && content.back() == '}', "the content of an order is an object");
  std::string out = content.substr(0, content.size() - 1);
  out += ",\"model\":";
  append_json_string(out, model);
  out += ",\"key\":";
  append_json_string(out, key);
  if (version > 0) out += fmt::format(",\"version\":{}", version);
  if (inbox_id > 0) out += fmt::format(",\"inbox\":{},\"position\":{}", inbox_id, position);
  out += '}';
  return out;
}

DeliveryOrder DeliveryOrder::parse(std::string_view payload) {
  nlohmann::json in = nlohmann::json::parse(payload, nullptr, false);
  if (!in.is_object()) refuse("The payload is not a JSON object.");
  DeliveryOrder order;
  const auto text = [&](const char* name) {
    const auto found = in.find(name);
    if (found == in.end() || !found->is_string() || found->get_ref<const std::string&>().empty())
      refuse(fmt::format("The payload needs `{}`, a text.", name));
    std::string value = found->get<std::string>();
    in.erase(name);
    return value;
  };
  const auto number = [&](const char* name) -> std::int64_t {
    const auto found = in.find(name);
    if (found == in.end()) return 0;
    if (!found->is_number_integer() || found->get<std::int64_t>() < 0)
      refuse(fmt::format("`{}` in the payload is no whole number.", name));
    const auto value = found->get<std::int64_t>();
    in.erase(name);
    return value;
  };
  order.model = text("model");
  order.key = text("key");
  order.version = number("version");
  order.inbox_id = number("inbox");
  order.position = number("position");
  if (!in.contains("values") || !in["values"].is_object())
    refuse("The payload needs `values`, a JSON object of fields and their values.");
  if (in.contains("children") && !in["children"].is_object())
    refuse("`children` in the payload is a JSON object of fields and lists of records.");
  order.content = dumped(in);
  return order;
}

Error versions_mixed(const std::string& what, const std::string& model, const std::string& key, Versions before) {
  Error error(Error::Kind::invalid,
              fmt::format("{} comes {} a version, and what came before under the key `{}` of `{}` came {} one, so it "
                          "can't be told which is newer: give versions always or never for one key.",
                          what, before == Versions::given ? "without" : "with", key, model,
                          before == Versions::given ? "with" : "without"));
  error.code = "versions_mixed";
  return error;
}

struct DeliveryHandler::Task {
  std::size_t place = 0;  ///< in what the handler was given
  std::int64_t job_id = 0;
  std::string cause;
  DeliveryOrder order;
  std::string digest;

  std::int64_t version = 0;   ///< with which it goes to the target
  std::string external_id;    ///< known from before
  bool doubt = false;         ///< an intent of before is open: it may have been applied
  bool ours = false;          ///< an intent of this attempt is open
  bool release = false;       ///< nothing was applied: the intent goes with the outcome
  bool recovered = false;     ///< the probe found it applied
  bool recorded_own = false;  ///< the write is remembered as ours
  struct Child {
    std::string field, key;
    bool own = false;  ///< its write is remembered as ours
  };
  std::vector<Child> children;
  std::optional<Delivered> result;
  std::optional<Outcome> outcome;  ///< where there is no result
  std::string note;

  std::string child_key(const std::string& key) const { return order.key + "/" + key; }
};

struct DeliveryHandler::Batch {
  Destination to;
  std::string model, kind, actor;
  Told tell_of;
  std::vector<Task> tasks;
  std::int64_t run_id = 0;
  std::map<std::string, std::string> child_models;  ///< by field
  std::string summary, counts, errors;

  void tell();
  void record(Session& session, Task& task);
  void finish_run(Session& session);
  void map(Session& session, const Task& task, std::string& told, Time now);
};

// How the batch went, for the sync log.
void DeliveryHandler::Batch::tell() {
  std::map<std::string, std::int64_t> count;
  json failed = json::array();
  bool bad = false;
  for (const Task& task : tasks) {
    std::string word, message;
    if (task.result) {
      word = name(task.result->what);
      if (task.result->error) message = task.result->error->message;
    } else if (task.outcome && task.outcome->what != Outcome::What::snooze) {
      word = "failed";
      message = task.outcome->message;
    } else {
      word = "put back";
    }
    ++count[word];
    if (task.recovered) ++count["recovered"];
    if (!message.empty()) {
      bad = true;
      if (failed.size() < kErrorsKept) failed.push_back(task.order.key + ": " + message);
    }
  }
  summary = bad ? "errors" : "ok";
  counts = dumped(count);
  errors = failed.empty() ? "" : dumped(failed);
}

// Every outcome of the batch calls it: whichever commits first writes the row.
void DeliveryHandler::Batch::finish_run(Session& session) {
  session.execute(
      "UPDATE sync_log SET finished_us = $2, outcome = $3, counts = $4, errors = $5 WHERE id = $1 AND outcome = "
      "'running'",
      {run_id, to_us(session.now()), summary, counts, errors});
}

void DeliveryHandler::Batch::map(Session& session, const Task& task, std::string& told, Time now) {
  const auto& result = *task.result;
  const std::string cause = fmt::format("job {}", task.job_id);
  const auto put = [&](const std::string& model, const std::string& internal_id, const std::string& id,
                       std::string& notes) {
    Mapped mapped;
    mapped.connection_id = to.connection_id;
    mapped.entity = to.target->entity(model);
    mapped.internal_id = internal_id;
    mapped.external_id = fmt::format("{}:{}:{}", to.target->system(), model, id);
    mapped.cause = cause;
    mapped.created = now;
    switch (Mapping::put(session, mapped)) {
      case Mapping::Put::taken:
        notes += fmt::format(" `{}` stands for another record of ours already, so `{}` is not mapped.",
                             mapped.external_id, internal_id);
        break;
      case Mapping::Put::moved:
        notes += fmt::format(" `{}` was another record there until now.", internal_id);
        break;
      default:
        break;
    }
  };
  if (!result.id.empty() && result.id != task.external_id) put(model, task.order.key, result.id, told);
  if (result.what == Delivered::What::created || result.what == Delivered::What::updated || task.recovered)
    for (const auto& child : task.children) {
      const auto id = result.children.find(child.key);
      const auto& child_model = child_models.at(child.field);
      if (id != result.children.end() && !child_model.empty())
        put(child_model, task.child_key(child.key), id->second, told);
    }
  // Also of what was there already: the answer that told of it first may have been lost. That two shops' articles are
  // one product of theirs is nothing to tell of.
  std::string shared;
  for (const auto& [key, link] : result.links)
    if (!link.id.empty()) put(link.model, key, link.id, shared);
}

void DeliveryHandler::Batch::record(Session& session, Task& task) {
  const Time now = session.now();
  const std::int64_t now_us = to_us(now);
  std::string told = task.note;
  if (task.result) {
    const auto& result = *task.result;
    const bool there = result.what != Delivered::What::refused;
    bool known = true;
    if (task.ours && there) {
      known = session.execute(
                  "UPDATE delivery SET version = $4, digest = $5, external_id = $6, job_id = $7, applied_us = $8, "
                  "intent_job = NULL, intent_version = NULL, intent_digest = NULL, intent_run = NULL, intent_us = NULL "
                  "WHERE connection_id = $1 AND model = $2 AND record_key = $3 AND version <= $4",
                  {to.connection_id, model, task.order.key, task.version, Bytes{task.digest}, result.id, task.job_id,
                   now_us}) == 1;
    }
    if (task.ours && (!there || !known))
      session.execute(
          "UPDATE delivery SET intent_job = NULL, intent_version = NULL, intent_digest = NULL, intent_run = NULL, "
          "intent_us = NULL WHERE connection_id = $1 AND model = $2 AND record_key = $3 AND intent_job = $4",
          {to.connection_id, model, task.order.key, task.job_id});
    if (there) map(session, task, told, now);
    if (task.recorded_own) {
      const bool written =
          result.what == Delivered::What::created || result.what == Delivered::What::updated || task.recovered;
      settle(session, task.job_id, model, task.order.key, number_of(result.id), written);
      for (const auto& child : task.children) {
        if (!child.own) continue;
        const auto id = result.children.find(child.key);
        const bool applied = written && id != result.children.end();
        settle(session, task.job_id, child_models.at(child.field), task.child_key(child.key),
               applied ? number_of(id->second) : 0, applied);
      }
    }
    const std::string id = result.id.empty() ? "" : fmt::format("{}:{}:{}", to.target->system(), model, result.id);
    if (result.error) told = result.error->message + told;
    if (result.flag) told += " " + result.flag->message;
    if (task.order.inbox_id > 0)
      session.execute(
          "UPDATE inbox_record SET outcome = $3, external_id = $4, message = $5, finished_us = $6, job_id = $7 WHERE "
          "inbox_id = $1 AND position = $2",
          {task.order.inbox_id, task.order.position, name(result.what), id, told, now_us, task.job_id});
    finish_run(session);
    if (tell_of) tell_of(session, task.job_id, result);
    const std::string outcome =
        result.error ? "refused: " + told : std::string(name(result.what)) + (told.empty() ? "" : ":" + told);
    audit::append(session, {.actor = actor,
                            .action = kind,
                            .subject = fmt::format("{}:{}:{}", to.connection, model,
                                                   result.id.empty() ? "key " + task.order.key : result.id),
                            .why = task.cause.empty() ? fmt::format("job {}", task.job_id) : task.cause,
                            .outcome = outcome,
                            .before = "",
                            .after = ""});
    return;
  }
  if (task.ours && task.release) {
    session.execute(
        "UPDATE delivery SET intent_job = NULL, intent_version = NULL, intent_digest = NULL, intent_run = NULL, "
        "intent_us = NULL WHERE connection_id = $1 AND model = $2 AND record_key = $3 AND intent_job = $4",
        {to.connection_id, model, task.order.key, task.job_id});
    if (task.recorded_own) {
      settle(session, task.job_id, model, task.order.key, 0, false);
      for (const auto& child : task.children)
        if (child.own) settle(session, task.job_id, child_models.at(child.field), task.child_key(child.key), 0, false);
    }
  }
  finish_run(session);
}

std::vector<Outcome> DeliveryHandler::run(std::span<const Job> jobs, std::stop_token stop) {
  std::vector<Outcome> outcomes(jobs.size());
  std::vector<std::shared_ptr<Batch>> batches;
  std::set<std::tuple<std::int64_t, std::string, std::string>> taken;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const Job& job = jobs[i];
    Task task;
    task.place = i;
    task.job_id = job.id;
    task.cause = job.cause;
    try {
      task.order = DeliveryOrder::parse(job.payload);
    } catch (const Error& error) {
      outcomes[i] = jobs::failed(error);
      continue;
    }
    // Two orders for one record can't be told apart by its key; they take turns.
    if (!taken.emplace(job.connection_id, task.order.model, task.order.key).second) {
      outcomes[i] = jobs::snooze(Micros(0));
      continue;
    }
    task.digest = digest_of(task.order.content);
    auto batch = std::find_if(batches.begin(), batches.end(), [&](const auto& one) {
      return one->to.connection_id == job.connection_id && one->model == task.order.model;
    });
    if (batch == batches.end()) {
      batches.push_back(std::make_shared<Batch>());
      batch = batches.end() - 1;
      (*batch)->to.connection_id = job.connection_id;
      (*batch)->model = task.order.model;
      (*batch)->kind = job.kind;
      (*batch)->actor = actor_;
      (*batch)->tell_of = told_;
    }
    (*batch)->tasks.push_back(std::move(task));
  }
  for (const auto& batch : batches) {
    try {
      run_batch(*batch, stop);
    } catch (const Error& error) {
      const bool paused = error.code == "connection_paused";
      // Nothing was sent: what is thrown here comes from before or around the intents.
      Outcome outcome = paused ? jobs::snooze(kPausedLook) : outcome_of(error);
      // It is about the connection, unless that is gone or nothing can be delivered to it.
      if (outcome.what == Outcome::What::dead && error.kind != Error::Kind::not_found &&
          error.kind != Error::Kind::invalid)
        outcome.what = Outcome::What::outage;
      for (Task& task : batch->tasks) outcomes[task.place] = outcome;
      continue;
    }
    batch->tell();
    for (Task& task : batch->tasks) {
      const auto commit = [batch, &task](Session& session) { batch->record(session, task); };
      Outcome& outcome = outcomes[task.place];
      if (!task.result) {
        DRAGOMAN_ASSERT(task.outcome, "every record has a result or an outcome");
        outcome = *task.outcome;
      } else if (!task.result->error) {
        json result{{"outcome", name(task.result->what)}};
        if (!task.result->id.empty())
          result["id"] = fmt::format("{}:{}:{}", batch->to.target->system(), batch->model, task.result->id);
        if (!task.note.empty()) result["note"] = task.note;
        outcome = jobs::done({}, dumped(result));
      } else {
        outcome = jobs::failed(*task.result->error);
      }
      outcome.commit = commit;
    }
  }
  return outcomes;
}

void DeliveryHandler::run_batch(Batch& batch, std::stop_token stop) {
  batch.to = find_(batch.to.connection_id);
  for (Task& task : batch.tasks) {
    const json content = json::parse(task.order.content);
    if (!content.contains("children")) continue;
    for (const auto& [field, children] : content["children"].items()) {
      if (!batch.child_models.contains(field))
        batch.child_models[field] = batch.to.target->child_model(batch.model, field, stop);
      if (!children.is_array()) continue;
      for (const auto& child : children)
        if (child.is_object() && child.contains("key") && child["key"].is_string())
          task.children.push_back({field, child["key"].get<std::string>(), false});
    }
  }
  step("deliver.begun");
  intend(batch);
  step("deliver.intended");
  probe(batch, stop);
  std::vector<Task*> left;
  for (Task& task : batch.tasks)
    if (!task.result && !task.outcome) left.push_back(&task);
  send(batch, std::move(left), stop);
  catch_up(batch, stop);
}

// A sender that gives no versions means that what comes later is newer. Where the target holds a higher one than was
// counted here (the hub's own store was lost, or restored from a backup), counting goes on from there.
void DeliveryHandler::catch_up(Batch& batch, std::stop_token stop) {
  std::vector<Task*> behind;
  std::vector<Target::Key> keys;
  for (Task& task : batch.tasks)
    if (task.ours && task.order.version == 0 && task.result && task.result->what == Delivered::What::skipped) {
      behind.push_back(&task);
      keys.push_back({batch.model, task.order.key});
    }
  if (behind.empty()) return;
  try {
    const auto found = batch.to.target->find(keys, stop);
    if (found.size() != keys.size())
      throw Error(Error::Kind::unavailable, "The target did not answer for every record that was looked up.");
    for (std::size_t i = 0; i < behind.size(); ++i) {
      if (found[i]) behind[i]->version = std::max(behind[i]->version, found[i]->version + 1);
      behind[i]->result.reset();
      behind[i]->note.clear();
    }
  } catch (const Error& error) {
    for (Task* task : behind) {
      task->result.reset();
      task->outcome = outcome_of(error);
      task->release = !task->doubt;
    }
    return;
  }
  send(batch, std::move(behind), stop);
}

void DeliveryHandler::intend(Batch& batch) {
  json keys = json::array();
  for (const Task& task : batch.tasks) keys.push_back(task.order.key);
  store_.write([&](Session& session) {
    const std::int64_t now = to_us(session.now());
    struct Known {
      std::int64_t version = 0, intent_version = 0, intent_run = 0;
      std::optional<std::int64_t> intent_job;
      std::string digest, external_id;
      Versions versions = Versions::unknown;
    };
    std::map<std::string, Known> known;
    each_delivery(session, batch.to.connection_id, batch.model, keys, [&](const Row& row) {
      Known one;
      one.version = row.int64(1);
      if (!row.is_null(2)) one.digest = row.bytes(2);
      one.external_id = row.text(3);
      one.intent_job = row.maybe_int64(4);
      one.intent_version = row.maybe_int64(5).value_or(0);
      one.intent_run = row.maybe_int64(6).value_or(0);
      one.versions = static_cast<Versions>(row.int64(7));
      known[std::string(row.text(0))] = std::move(one);
    });
    session.query(
        "INSERT INTO sync_log (connection_id, model, kind, started_us, finished_us, outcome, counts) VALUES ($1, $2, "
        "'deliver', $3, $3, 'running', '{}') RETURNING id",
        {batch.to.connection_id, batch.model, now}, [&](const Row& row) { batch.run_id = row.int64(0); });

    const bool comes_back = captured(session, batch.to.connection_id, batch.model);
    std::map<std::string, bool> children_come_back;
    for (const auto& [field, model] : batch.child_models)
      children_come_back[field] = !model.empty() && captured(session, batch.to.connection_id, model);

    std::vector<Param> intents;
    std::vector<OwnWrite> own;
    std::set<std::int64_t> interrupted;
    for (Task& task : batch.tasks) {
      task.result.reset();
      task.note.clear();
      task.doubt = task.ours = task.recorded_own = false;
      for (auto& child : task.children) child.own = false;
      const Known before = known[task.order.key];
      task.external_id = before.external_id;
      task.version = task.order.version;
      const Versions versions = versions_of(task.order.version);
      if (before.versions != Versions::unknown && before.versions != versions &&
          (before.version > 0 || before.intent_job)) {
        task.result = Delivered{.what = Delivered::What::refused,
                                .id = "",
                                .children = {},
                                .error = versions_mixed("The record", batch.model, task.order.key, before.versions)};
        continue;
      }
      if (task.version == 0)
        task.version = before.intent_job == task.job_id && before.intent_version > 0
                           ? before.intent_version
                           : std::max(before.version, before.intent_version) + 1;
      if (before.version >= task.version) {
        task.result = Delivered{.what = Delivered::What::skipped, .id = before.external_id};
        task.note =
            before.version > task.version
                ? fmt::format(" Version {} was applied before, which is later than {}.", before.version, task.version)
            : before.digest == task.digest
                ? fmt::format(" Version {} was applied before.", task.version)
                : fmt::format(" Version {} was applied before, with other values; new values need a higher version.",
                              task.version);
        continue;
      }
      task.ours = true;
      task.doubt = before.intent_job.has_value();
      if (task.doubt && before.intent_run > 0) interrupted.insert(before.intent_run);
      const Param row[] = {batch.to.connection_id,
                           std::string_view(batch.model),
                           std::string_view(task.order.key),
                           task.job_id,
                           task.version,
                           Bytes{task.digest},
                           batch.run_id,
                           now,
                           static_cast<std::int64_t>(versions)};
      intents.insert(intents.end(), std::begin(row), std::end(row));

      const json content = json::parse(task.order.content);
      const auto remembered = [&](const std::string& model, const std::string& key, const std::string& external_id,
                                  const json& values) {
        task.recorded_own = true;
        own.push_back({.connection_id = batch.to.connection_id,
                       .model = model,
                       .key = key,
                       .external_id = number_of(external_id),
                       .job_id = task.job_id,
                       .fields = own_fields(values)});
      };
      if (comes_back) {
        json values = content["values"];
        // Which records a list will hold in the end is not known.
        if (content.contains("children"))
          for (const auto& [field, children] : content["children"].items()) values[field] = json::array({"children"});
        remembered(batch.model, task.order.key, before.external_id, values);
      }
      for (auto& child : task.children) {
        if (!children_come_back[child.field]) continue;
        for (const auto& one : content["children"][child.field])
          if (one.is_object() && one.value("key", "") == child.key && one.contains("values") &&
              one["values"].is_object()) {
            child.own = true;
            remembered(batch.child_models[child.field], task.child_key(child.key), "", one["values"]);
          }
      }
    }
    if (!intents.empty()) {
      static constexpr std::string_view kColumns[] = {"connection_id", "model",          "record_key",
                                                      "intent_job",    "intent_version", "intent_digest",
                                                      "intent_run",    "intent_us",      "versions"};
      static constexpr std::string_view kKey[] = {"connection_id", "model", "record_key"};
      session.insert_many("delivery", kColumns, intents, kKey);
    }
    remember(session, own);
    // Of a process that died: its row would be running for ever.
    for (const std::int64_t run : interrupted)
      session.execute(
          "UPDATE sync_log SET finished_us = $2, outcome = 'interrupted' WHERE id = $1 AND outcome = 'running'",
          {run, now});
  });
}

void DeliveryHandler::probe(Batch& batch, std::stop_token stop) {
  std::vector<Task*> doubtful;
  std::vector<Target::Key> keys;
  for (Task& task : batch.tasks)
    if (task.doubt && !task.result) {
      doubtful.push_back(&task);
      keys.push_back({batch.model, task.order.key});
    }
  if (keys.empty()) return;
  std::vector<std::optional<Found>> found;
  try {
    found = batch.to.target->find(keys, stop);
    if (found.size() != keys.size())
      throw Error(Error::Kind::unavailable, "The target did not answer for every record that was looked up.");
  } catch (const Error& error) {
    Outcome outcome = outcome_of(error);
    // A question that was not understood, or answered by somebody else (a proxy's page), says nothing about a record.
    if (outcome.what == Outcome::What::dead && error.kind != Error::Kind::invalid && error.kind != Error::Kind::bug)
      outcome.what = Outcome::What::outage;
    // What may have been applied stays in doubt; what was not sent yet can be sent another time.
    for (Task& task : batch.tasks) {
      if (task.result) continue;
      task.release = !task.doubt;
      task.outcome = outcome;
    }
    return;
  }
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (!found[i] || found[i]->version < doubtful[i]->version) continue;
    Task& task = *doubtful[i];
    const bool later = found[i]->version > task.version;
    task.result = Delivered{.what = later ? Delivered::What::skipped : Delivered::What::unchanged,
                            .id = found[i]->id,
                            .children = found[i]->children,
                            .links = found[i]->links};
    task.recovered = !later;
    task.note = later ? fmt::format(" Version {} is there, which is later than {}.", found[i]->version, task.version)
                      : " It was there: an earlier attempt applied it, and its answer was lost.";
  }
}

void DeliveryHandler::send(Batch& batch, std::vector<Task*> tasks, std::stop_token stop) {
  if (tasks.empty()) return;
  const auto all = [&](const Outcome& outcome, bool release) {
    for (Task* task : tasks) {
      // One in doubt was not there a moment ago; that its earlier call is still at work can't be ruled out.
      task->release = release && !task->doubt;
      task->outcome = outcome;
    }
  };
  if (stop.stop_requested()) return all(jobs::snooze(Micros(0)), true);
  std::vector<Outgoing> records;
  records.reserve(tasks.size());
  for (const Task* task : tasks)
    records.push_back(
        {.model = batch.model, .key = task->order.key, .version = task->version, .content = task->order.content});
  std::vector<Delivered> results;
  try {
    results = batch.to.target->deliver(records, stop);
    step("deliver.sent");
    if (results.size() != records.size())
      throw Error(Error::Kind::in_doubt,
                  fmt::format("{} records were sent, and the answer tells of {}.", records.size(), results.size()));
  } catch (const Error& error) {
    switch (error.kind) {
      case Error::Kind::in_doubt:
        return all(jobs::failed(error), false);
      case Error::Kind::protocol: {
        // Something answered that makes no sense: what it did before can't be known.
        Error doubt(Error::Kind::in_doubt, error.message, error.detail);
        doubt.code = error.code;
        return all(jobs::failed(doubt), false);
      }
      case Error::Kind::conflict: {
        Outcome again = jobs::failed(error);
        again.what = Outcome::What::retry;
        return all(again, true);
      }
      case Error::Kind::unavailable:
      case Error::Kind::busy:
      case Error::Kind::auth:
      case Error::Kind::cancelled:
        return all(outcome_of(error), true);
      default:
        break;
    }
    if (tasks.size() == 1) {
      tasks[0]->result = Delivered{.what = Delivered::What::refused, .id = "", .children = {}, .error = error};
      return;
    }
    // One of them is at fault, and Odoo took none: halves, until it stands alone.
    log::info("a batch failed as a whole and is sent in parts", {{"connection", batch.to.connection},
                                                                 {"model", batch.model},
                                                                 {"records", tasks.size()},
                                                                 {"error", error.message}});
    const auto middle = tasks.begin() + static_cast<std::ptrdiff_t>(tasks.size() / 2);
    send(batch, {tasks.begin(), middle}, stop);
    send(batch, {middle, tasks.end()}, stop);
    return;
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    Task& task = *tasks[i];
    if (results[i].error && results[i].error->kind == Error::Kind::conflict) {
      Outcome again = jobs::failed(*results[i].error);
      again.what = Outcome::What::retry;
      task.outcome = again;
      task.release = !task.doubt;
      continue;
    }
    if (results[i].what == Delivered::What::refused && !results[i].error)
      results[i].error = Error(Error::Kind::invalid, "The target refused the record and gave no reason.");
    task.result = std::move(results[i]);
  }
}

}  // namespace dragoman::pipeline
