#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "jobs/board.h"
#include "jobs/node.h"
#include "jobs/schedules.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/market_catalog.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_status.h"
#include "pipeline/market_stock.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

Field job_field() {
  return {
      .name = "id", .type = Type::integer, .doc = "number of the job", .required = true, .min = 1, .positional = true};
}

Field reason_field() {
  return {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"};
}

Field group_field() {
  return {.name = "group", .doc = "fingerprint of the group, from `job groups`", .required = true, .positional = true};
}

std::vector<std::string> states() {
  return {"waiting", "available", "scheduled", "running", "retryable", "completed", "cancelled", "discarded"};
}

std::vector<Field> job_columns() {
  return {
      {.name = "id", .type = Type::integer, .required = true},
      {.name = "kind", .doc = "what it does", .required = true},
      {.name = "flow", .required = true},
      {.name = "connection", .doc = "empty: none"},
      {.name = "state",
       .doc = "`available`, `scheduled`, `running`, `retryable`, `completed`, `cancelled`, or `discarded`: a dead "
              "letter",
       .required = true},
      {.name = "attempt", .type = Type::integer, .doc = "how often it was tried; outages are not counted"},
      {.name = "due", .type = Type::time, .doc = "of one that waits for its time"},
      {.name = "cause", .doc = "what it was enqueued for"},
      {.name = "error", .doc = "of the last failure"},
      {.name = "priority", .hidden = true},
      {.name = "order_key", .doc = "jobs of one key run in order", .hidden = true},
      {.name = "unique_key", .hidden = true},
      {.name = "folded", .type = Type::integer, .doc = "how many others were folded into it", .hidden = true},
      {.name = "interruptions", .type = Type::integer, .doc = "how often the process died that ran it", .hidden = true},
      {.name = "in_doubt", .type = Type::boolean, .doc = "an earlier attempt may have had its effect", .hidden = true},
      {.name = "error_code", .hidden = true},
      {.name = "group", .doc = "of a dead letter: its fingerprint", .hidden = true},
      {.name = "enqueued", .type = Type::time, .required = true, .hidden = true},
      {.name = "started", .type = Type::time, .doc = "of the last attempt", .hidden = true},
      {.name = "finished", .type = Type::time, .hidden = true},
      {.name = "result", .hidden = true}};
}

const char* name_of(jobs::Priority priority) {
  static constexpr const char* kNames[] = {"urgent", "high", "normal", "low"};
  return kNames[static_cast<int>(priority)];
}

json shape(const jobs::JobView& job) {
  const bool later = job.state == jobs::State::scheduled || job.state == jobs::State::retryable;
  return {{"id", job.id},
          {"kind", job.kind},
          {"flow", job.flow},
          {"connection", job.connection},
          {"state", jobs::name(job.state)},
          {"attempt", job.attempt},
          {"due", later ? json(format_iso(job.run_at)) : json(nullptr)},
          {"cause", job.cause},
          {"error", job.error_message},
          {"priority", name_of(job.priority)},
          {"order_key", job.order_key},
          {"unique_key", job.unique_key},
          {"folded", job.folded},
          {"interruptions", job.interruptions},
          {"in_doubt", job.in_doubt},
          {"error_code", job.error_code},
          {"group", job.fingerprint},
          {"enqueued", format_iso(job.enqueued)},
          {"started", time_or_null(job.started)},
          {"finished", time_or_null(job.finished)},
          {"result", job.result}};
}

jobs::Act act_of(const Context& context, const json& input) {
  return {.who = context.caller, .why = input.value("reason", std::string())};
}

std::string shown(Context& context, const json& input) {
  return dump(shape(context.services.jobs.show(input.at("id"))));
}

// Names of connections are for people; the queue knows their numbers.
std::int64_t connection_id(Context& context, const std::string& name) {
  return context.services.connections.get(name).id;
}

Operation job_act(std::string verb, std::string summary, std::string description,
                  void (jobs::Board::*act)(std::int64_t, const jobs::Act&)) {
  return {.name = "job " + verb,
          .summary = std::move(summary),
          .description = std::move(description),
          .method = "POST",
          .path = "/jobs/{id}/" + verb,
          .permission = Role::user,
          .inputs = {job_field(), reason_field()},
          .output = {.fields = job_columns()},
          .run = [act](Context& context, const json& input) {
            (context.services.jobs.*act)(input.at("id"), act_of(context, input));
            return shown(context, input);
          }};
}

Operation group_act(std::string verb, std::string summary,
                    std::int64_t (jobs::Board::*act)(const std::string&, const jobs::Act&,
                                                     const std::function<bool()>&)) {
  return {.name = "job " + verb + "-group",
          .summary = std::move(summary),
          .description = "In many small steps; stopped in between, it can be repeated.",
          .method = "POST",
          .path = "/job-groups/{group}/" + verb,
          .permission = Role::user,
          .inputs = {group_field(), reason_field()},
          .output = {.fields = {{.name = "jobs", .type = Type::integer, .doc = "how many", .required = true}}},
          .run =
              [act](Context& context, const json& input) {
                const auto count = (context.services.jobs.*act)(input.at("group"), act_of(context, input),
                                                                [&] { return !context.stop.stop_requested(); });
                return dump({{"jobs", count}});
              },
          .slow = true};
}

// A name that is mistyped holds nothing back or finds nothing, and whoever gave it believes that it does.
void check_flow(Context& context, const std::string& what, const std::string& name) {
  std::set<std::string> known;
  if (what == "flow") {
    known = {"inbox", pipeline::kOrdersFlow, pipeline::kProductsFlow, pipeline::kStatusFlow, pipeline::kStockFlow,
             "sync"};
    for (const auto& lane : context.services.jobs.lanes()) known.insert(lane.flow);
    context.services.store.read([&](store::Session& session) {
      for (const auto& schedule : context.services.schedules.list(session)) known.insert(schedule.spec.flow);
    });
    known.erase("");
  } else if (what == "kind") {
    for (const auto& kind : context.services.jobs.kinds().all()) known.insert(kind.name);
    for (const auto& lane : context.services.jobs.lanes()) known.insert(lane.kind);
  } else {
    return;
  }
  if (!known.contains(name))
    throw Error(Error::Kind::not_found,
                fmt::format("There is no {} `{}`; there are {}.", what, name, fmt::join(known, ", ")));
}

std::vector<Operation> flow_operations() {
  const Field what{.name = "what",
                   .doc = "what is paused",
                   .required = true,
                   .choices = {"connection", "flow", "kind"},
                   .positional = true};
  const Field name{.name = "name", .doc = "its name", .required = true, .positional = true};
  const auto key = [](Context& context, const json& input) {
    const std::string given = input.at("name");
    return input.at("what") == "connection" ? std::to_string(connection_id(context, given)) : given;
  };

  std::vector<Operation> all;
  all.push_back({
      .name = "flow list",
      .summary = "Lists the lanes of jobs: what waits in each, and why nothing moves where nothing does",
      .method = "GET",
      .path = "/flows",
      .permission = Role::viewer,
      .output =
          {.rows = "lanes",
           .columns = {{.name = "connection", .doc = "empty: none"},
                       {.name = "flow", .required = true},
                       {.name = "kind", .required = true},
                       {.name = "ready", .type = Type::integer, .doc = "could run now", .required = true},
                       {.name = "behind",
                        .type = Type::integer,
                        .doc = "wait for an earlier job of their order key",
                        .required = true},
                       {.name = "later", .type = Type::integer, .doc = "wait for their time", .required = true},
                       {.name = "running", .type = Type::integer, .required = true},
                       {.name = "dead", .type = Type::integer, .doc = "wait for a person", .required = true},
                       {.name = "done", .type = Type::integer, .doc = "ever", .required = true},
                       {.name = "cancelled", .type = Type::integer, .doc = "ever", .required = true, .hidden = true},
                       {.name = "closed", .doc = "why nothing of it begins; empty: it is open"}}},
      .run =
          [](Context& context, const json&) {
            json rows = json::array();
            for (const auto& lane : context.services.jobs.lanes())
              rows.push_back({{"connection", lane.connection},
                              {"flow", lane.flow},
                              {"kind", lane.kind},
                              {"ready", lane.ready},
                              {"behind", lane.behind},
                              {"later", lane.later},
                              {"running", lane.running},
                              {"dead", lane.dead},
                              {"done", lane.done},
                              {"cancelled", lane.cancelled},
                              {"closed", lane.closed}});
            return dump({{"lanes", rows}});
          },
  });
  all.push_back({
      .name = "flow pause",
      .summary = "Holds back the jobs of a connection, a flow or a kind until it is resumed",
      .description = "Jobs go on being accepted, and wait. What runs at this moment runs to its end.",
      .method = "POST",
      .path = "/flows/{what}/{name}/pause",
      .permission = Role::user,
      .inputs = {what, name, reason_field()},
      .output = {.fields = {{.name = "paused", .doc = "what was paused", .required = true},
                            {.name = "waiting",
                             .type = Type::integer,
                             .doc = "jobs that wait because of it now; more may come",
                             .required = true}}},
      .run =
          [key](Context& context, const json& input) {
            check_flow(context, input.at("what"), input.at("name"));
            const auto waiting =
                context.services.jobs.pause(input.at("what"), key(context, input), act_of(context, input));
            return dump({{"paused", fmt::format("{} {}", input.at("what").get<std::string>(),
                                                input.at("name").get<std::string>())},
                         {"waiting", waiting}});
          },
  });
  all.push_back({
      .name = "flow resume",
      .summary = "Lets the jobs of a connection, a flow or a kind go on",
      .description = "A connection that was left alone because its remote did not answer is tried at once.",
      .method = "POST",
      .path = "/flows/{what}/{name}/resume",
      .permission = Role::user,
      .inputs = {what, name},
      .output = {.fields = {{.name = "resumed",
                             .type = Type::boolean,
                             .doc = "false: it was not held back",
                             .required = true}}},
      .run =
          [key](Context& context, const json& input) {
            const bool was = context.services.jobs.resume(input.at("what"), key(context, input));
            return dump({{"resumed", was}});
          },
  });
  all.push_back({
      .name = "node list",
      .summary = "Lists the hubs that share this database, with their heartbeats",
      .method = "GET",
      .path = "/nodes",
      .permission = Role::viewer,
      .output = {.rows = "nodes",
                 .columns = {{.name = "id", .type = Type::integer, .required = true},
                             {.name = "name", .required = true},
                             {.name = "version", .required = true},
                             {.name = "state", .doc = "`running`, `stopped`, or `dead`", .required = true},
                             {.name = "started", .type = Type::time, .required = true},
                             {.name = "beat", .type = Type::time, .doc = "the last, or its end", .required = true},
                             {.name = "jobs", .type = Type::integer, .doc = "that it runs", .required = true}}},
      .run =
          [](Context& context, const json&) {
            std::vector<jobs::NodeLine> lines;
            context.services.store.read([&](store::Session& session) { lines = jobs::nodes(session); });
            json rows = json::array();
            for (const auto& line : lines)
              rows.push_back({{"id", line.id},
                              {"name", line.name},
                              {"version", line.version},
                              {"state", line.state},
                              {"started", format_iso(line.started)},
                              {"beat", format_iso(line.beat)},
                              {"jobs", line.running}});
            return dump({{"nodes", rows}});
          },
  });
  return all;
}

}  // namespace

std::vector<Operation> job_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "job list",
      .summary = "Lists jobs, the newest first",
      .description = "Jobs that are done are kept for a day, unless `jobs.keep_hours` says otherwise.",
      .method = "GET",
      .path = "/jobs",
      .permission = Role::viewer,
      .inputs = {{.name = "state", .doc = "only these; `waiting`: all that have not begun", .choices = states()},
                 {.name = "kind", .doc = "only of this kind"},
                 {.name = "flow", .doc = "only of this flow"},
                 {.name = "connection", .doc = "only of this connection"},
                 {.name = "group", .doc = "only dead letters of this group, from `job groups`"},
                 {.name = "before", .type = Type::integer, .doc = "only with smaller numbers: the next page", .min = 1},
                 limit_field(50, 1000)},
      .output = {.rows = "jobs", .columns = job_columns()},
      .run =
          [](Context& context, const json& input) {
            jobs::JobFilter filter{.state = input.value("state", std::string()),
                                   .kind = input.value("kind", std::string()),
                                   .flow = input.value("flow", std::string()),
                                   .fingerprint = input.value("group", std::string()),
                                   .before = maybe_integer(input, "before"),
                                   .limit = static_cast<int>(input.at("limit").get<std::int64_t>())};
            if (const auto name = input.value("connection", std::string()); !name.empty())
              filter.connection_id = connection_id(context, name);
            if (!filter.kind.empty()) check_flow(context, "kind", filter.kind);
            if (!filter.flow.empty()) check_flow(context, "flow", filter.flow);
            json rows = json::array();
            for (const auto& job : context.services.jobs.list(filter)) rows.push_back(shape(job));
            return dump({{"jobs", rows}});
          },
  });

  std::vector<Field> show_fields = job_columns();
  for (auto& field : show_fields) field.hidden = false;
  show_fields.insert(
      show_fields.begin() + 1,
      {.name = "explanation", .doc = "why it is where it is, what happens next and when", .required = true});
  show_fields.push_back(
      {.name = "payload", .doc = "what its handler gets; what is no text shows as U+FFFD", .required = true});
  show_fields.push_back({.name = "payload_version", .type = Type::integer, .required = true, .hidden = true});
  all.push_back({
      .name = "job show",
      .summary = "Shows a job with its payload, its history, and in one sentence why it waits",
      .method = "GET",
      .path = "/jobs/{id}",
      .permission = Role::user,
      .inputs = {job_field()},
      .output = {.fields = show_fields,
                 .rows = "history",
                 .columns = {{.name = "at", .type = Type::time, .required = true},
                             {.name = "what",
                              .doc = "`retry`, `outage`, `dead`, `interrupted`, `timeout`, `late`, "
                                     "`folded`, `edited`, `retried`, `discarded`, `cancelled`, …",
                              .required = true},
                             {.name = "attempt", .type = Type::integer, .required = true},
                             {.name = "code", .doc = "of the failure", .required = true},
                             {.name = "message", .required = true},
                             {.name = "who", .doc = "a node or a person", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            auto& board = context.services.jobs;
            const auto job = board.show(input.at("id"));
            json out = shape(job);
            out["explanation"] = board.explain(job.id);
            out["payload"] = job.payload;
            out["payload_version"] = job.payload_version;
            json history = json::array();
            for (const auto& line : board.history(job.id))
              history.push_back({{"at", format_iso(line.at)},
                                 {"what", line.what},
                                 {"attempt", line.attempt},
                                 {"code", line.code},
                                 {"message", line.message},
                                 {"who", line.who}});
            out["history"] = history;
            return dump(out);
          },
  });
  all.push_back(job_act("retry", "Tries a dead letter again, or one that waits for its time at once",
                        "A dead letter gets all its tries anew.", &jobs::Board::retry));
  all.push_back({
      .name = "job edit",
      .summary = "Gives a job that does not run another payload",
      .description = "The difference goes into the job's history. A dead letter stays one until it is retried.",
      .method = "PATCH",
      .path = "/jobs/{id}",
      .permission = Role::manager,
      .inputs = {job_field(),
                 {.name = "payload", .doc = "the new payload, whole; for most kinds a JSON text", .required = true},
                 reason_field()},
      .output = {.fields = {{.name = "id", .type = Type::integer, .required = true},
                            {.name = "difference", .doc = "a line per changed place", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto difference =
                context.services.jobs.edit(input.at("id"), input.at("payload"), act_of(context, input));
            context.note.after = dump({{"difference", difference}});
            return dump({{"id", input.at("id")}, {"difference", difference}});
          },
  });
  all.push_back(job_act("discard", "Gives a dead letter up",
                        "It ends as cancelled. The later jobs of its order key go on.", &jobs::Board::discard));
  all.push_back(job_act("cancel", "Ends a job that is not wanted any more",
                        "One that has not begun ends at once. One that runs is asked to stop within a few seconds; if "
                        "it is done before, it is done, else it ends as cancelled and is not tried again. Its history "
                        "says whether it may have been applied all the same.",
                        &jobs::Board::cancel));
  all.push_back({
      .name = "job groups",
      .summary = "Lists the dead letters by kind of error",
      .description = "Those whose kind, code and message are the same, but for numbers and names, are one group.",
      .method = "GET",
      .path = "/job-groups",
      .permission = Role::viewer,
      .inputs = {limit_field(100, 1000)},
      .output =
          {.rows = "groups",
           .columns =
               {{.name = "group", .doc = "its fingerprint", .required = true},
                {.name = "jobs", .type = Type::integer, .required = true},
                {.name = "kind", .required = true},
                {.name = "code", .required = true},
                {.name = "message", .doc = "of the newest", .required = true},
                {.name = "latest", .type = Type::time, .doc = "when the newest died"},
                {.name = "first", .type = Type::integer, .doc = "smallest number", .required = true, .hidden = true},
                {.name = "last", .type = Type::integer, .doc = "largest number", .required = true, .hidden = true}}},
      .run =
          [](Context& context, const json& input) {
            json rows = json::array();
            for (const auto& group :
                 context.services.jobs.groups(static_cast<int>(input.at("limit").get<std::int64_t>())))
              rows.push_back({{"group", group.fingerprint},
                              {"jobs", group.jobs},
                              {"kind", group.kind},
                              {"code", group.code},
                              {"message", group.message},
                              {"latest", time_or_null(group.latest)},
                              {"first", group.first},
                              {"last", group.last}});
            return dump({{"groups", rows}});
          },
  });
  all.push_back(group_act("retry", "Tries all dead letters of a group again", &jobs::Board::retry_group));
  all.push_back(group_act("discard", "Gives all dead letters of a group up", &jobs::Board::discard_group));
  for (auto& operation : flow_operations()) all.push_back(std::move(operation));
  return all;
}

}  // namespace dragoman::ops
