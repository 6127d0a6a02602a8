#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jobs/scheduler.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

constexpr int kUpcoming = 3;

Field name_field() {
  return {.name = "name", .doc = "name of the schedule", .required = true, .positional = true};
}

Field optional_name_field() {
  return {.name = "name", .doc = "name of the schedule; left out: all", .positional = true};
}

std::vector<Field> schedule_columns() {
  return {{.name = "name", .required = true},
          {.name = "state", .doc = "`active`, `paused` or `error`", .required = true},
          {.name = "when", .doc = "cron expression with its zone, or the interval", .required = true},
          {.name = "kind", .doc = "of the job", .required = true},
          {.name = "connection", .doc = "of the job; null: none"},
          {.name = "next", .type = Type::time, .doc = "when it runs next; null: not by itself"},
          {.name = "upcoming",
           .type = Type::list,
           .doc = "the next three times at which it runs",
           .required = true,
           .hidden = true},
          {.name = "last", .type = Type::time, .doc = "its last tick; null: none yet"},
          {.name = "last_outcome",
           .doc = "`enqueued`; `overlap`: passed over, the run before was not finished; `folded` into one that waits; "
                  "`missed`: no hub ran, and it is not caught up with"},
          {.name = "last_job", .type = Type::integer, .doc = "that was enqueued, or that was in the way"},
          {.name = "reason", .doc = "why it is paused or in error"},
          {.name = "cron", .doc = "null: by interval", .hidden = true},
          {.name = "zone", .doc = "time zone of the expression", .hidden = true},
          {.name = "every_seconds", .type = Type::integer, .doc = "null: by cron expression", .hidden = true},
          {.name = "jitter_seconds", .type = Type::integer, .hidden = true},
          {.name = "flow", .doc = "of the job", .hidden = true},
          {.name = "payload", .type = Type::object, .doc = "of the job", .hidden = true},
          {.name = "priority", .doc = "of the job", .hidden = true},
          {.name = "catch_up", .doc = "with ticks that were missed", .hidden = true},
          {.name = "catch_up_max", .type = Type::integer, .hidden = true},
          {.name = "overlap", .doc = "what a tick does while the run before is not finished", .hidden = true},
          {.name = "built_in", .type = Type::boolean, .doc = "declared by the program", .hidden = true},
          {.name = "created", .type = Type::time, .hidden = true},
          {.name = "changed", .type = Type::time, .hidden = true}};
}

std::vector<Field> tick_columns() {
  return {{.name = "tick", .type = Type::time, .doc = "when it was to run, without its jitter", .required = true},
          {.name = "at", .type = Type::time, .doc = "when it was dealt with", .required = true},
          {.name = "outcome", .doc = "as last_outcome", .required = true},
          {.name = "job", .type = Type::integer, .doc = "that was enqueued, or that was in the way"},
          {.name = "missed", .type = Type::integer, .doc = "earlier ticks passed over with it", .required = true},
          {.name = "by", .doc = "who asked for it; null: it was its time"}};
}

const std::vector<std::string> kPriorities{"urgent", "high", "normal", "low"};

std::string span_text(Micros span) {
  const auto seconds = span.count() / 1'000'000;
  if (seconds % 86'400 == 0) return fmt::format("{} d", seconds / 86'400);
  if (seconds % 3'600 == 0) return fmt::format("{} h", seconds / 3'600);
  if (seconds % 60 == 0) return fmt::format("{} min", seconds / 60);
  return fmt::format("{} s", seconds);
}

std::string when_text(const jobs::ScheduleSpec& spec) {
  std::string text = spec.cron.empty() ? "every " + span_text(spec.interval) : spec.cron + " " + spec.zone;
  if (spec.jitter > Micros(0)) text += ", up to " + span_text(spec.jitter) + " later";
  return text;
}

json text_or_null(const std::string& text) {
  return text.empty() ? json(nullptr) : json(text);
}

json shape(const jobs::Schedules& schedules, const jobs::Schedule& schedule) {
  const auto& spec = schedule.spec;
  json upcoming = json::array();
  for (const Time time : schedules.upcoming(schedule, kUpcoming)) upcoming.push_back(format_iso(time));
  json payload = json::parse(spec.payload, nullptr, false);
  if (!payload.is_object()) payload = nullptr;
  const auto& last = schedule.last;
  const bool by_cron = !spec.cron.empty();
  return {{"name", spec.name},
          {"state", schedule.state},
          {"when", when_text(spec)},
          {"kind", spec.kind},
          {"connection", text_or_null(schedule.connection)},
          {"next", upcoming.empty() ? json(nullptr) : upcoming.front()},
          {"upcoming", upcoming},
          {"last", last ? json(format_iso(last->tick)) : json(nullptr)},
          {"last_outcome", last ? json(last->outcome) : json(nullptr)},
          {"last_job", last && last->job_id != 0 ? json(last->job_id) : json(nullptr)},
          {"reason", schedule.reason},
          {"cron", text_or_null(spec.cron)},
          {"zone", by_cron ? json(spec.zone) : json(nullptr)},
          {"every_seconds", by_cron ? json(nullptr) : json(spec.interval.count() / 1'000'000)},
          {"jitter_seconds", spec.jitter.count() / 1'000'000},
          {"flow", spec.flow},
          {"payload", payload},
          {"priority", kPriorities.at(static_cast<std::size_t>(spec.priority))},
          {"catch_up", jobs::name(spec.catch_up)},
          {"catch_up_max", spec.catch_up_max},
          {"overlap", jobs::name(spec.overlap)},
          {"built_in", schedule.built_in},
          {"created", format_iso(schedule.created)},
          {"changed", format_iso(schedule.changed)}};
}

// What a schedule is made of. With `fallbacks` for adding; without, what is not given stays as it is.
std::vector<Field> spec_fields(bool adding) {
  const auto fallback = [&](const char* value) { return adding ? std::string(value) : std::string(); };
  return {
      {.name = "kind",
       .doc = "kind of the job that it makes, such as `sync.run` or `sync.certify`",
       .required = adding},
      {.name = "cron",
       .doc = "when: minute, hour, day of the month, month, day of the week, such as `0 3 * * mon-fri`, or `@daily`"},
      {.name = "zone", .doc = "time zone of the expression, such as Europe/Berlin; UTC unless it is given"},
      {.name = "every_seconds",
       .type = Type::integer,
       .doc = "when: every so many seconds, instead of a cron expression",
       .min = 1,
       .max = 31'622'400},
      {.name = "jitter_seconds",
       .type = Type::integer,
       .doc = "each run is late by up to so many seconds, so that not all ask at once",
       .fallback = fallback("0"),
       .min = 0,
       .max = 31'622'400},
      {.name = "connection", .doc = "connection that the job works on"},
      {.name = "flow",
       .doc = "flow that its jobs belong to, which can be paused",
       .fallback = fallback(R"("schedules")")},
      {.name = "payload",
       .type = Type::object,
       .doc = "what the job is given, as its kind has it",
       .fallback = fallback("{}")},
      {.name = "priority", .doc = "of its jobs", .fallback = fallback(R"("low")"), .choices = kPriorities},
      {.name = "catch_up",
       .doc = "runs that were missed while no hub ran: `skip` them, run `once` for all of them, or `all` of them",
       .fallback = fallback(R"("once")"),
       .choices = {"skip", "once", "all"}},
      {.name = "catch_up_max",
       .type = Type::integer,
       .doc = "of `all`: at most so many, the newest",
       .fallback = fallback("100"),
       .min = 1,
       .max = 10'000},
      {.name = "overlap",
       .doc = "while the run before is not finished: `skip` this one, `queue` it behind that one (one at most), or "
              "`allow` "
              "both at once",
       .fallback = fallback(R"("skip")"),
       .choices = {"skip", "queue", "allow"}}};
}

std::vector<Field> with_name(std::vector<Field> fields) {
  fields.insert(fields.begin(), name_field());
  return fields;
}

// `connection_id`: of the connection that is named, looked up before the transaction.
void apply(jobs::ScheduleSpec& spec, const json& input, std::int64_t connection_id) {
  const auto given = [&](const char* name) { return input.contains(name); };
  if (given("kind")) spec.kind = input.at("kind");
  if (given("cron")) {
    spec.cron = input.at("cron");
    if (!spec.cron.empty() && !given("every_seconds")) spec.interval = Micros(0);
  }
  if (given("zone")) spec.zone = input.at("zone");
  if (given("every_seconds")) {
    spec.interval = std::chrono::seconds(input.at("every_seconds").get<std::int64_t>());
    if (!given("cron")) spec.cron.clear();
  }
  if (given("zone") && spec.cron.empty() && spec.interval > Micros(0)) {
    Error error(Error::Kind::invalid,
                "A time zone belongs to a cron expression: an interval is counted in elapsed time. Leave `zone` out.");
    error.code = "schedule";
    throw error;
  }
  if (given("jitter_seconds")) spec.jitter = std::chrono::seconds(input.at("jitter_seconds").get<std::int64_t>());
  if (given("connection")) spec.connection_id = connection_id;
  if (given("flow")) spec.flow = input.at("flow");
  if (given("payload")) spec.payload = dump(input.at("payload"));
  if (given("priority"))
    spec.priority = static_cast<jobs::Priority>(
        std::find(kPriorities.begin(), kPriorities.end(), input.at("priority").get<std::string>()) -
        kPriorities.begin());
  if (given("catch_up")) spec.catch_up = jobs::catch_up_of(input.at("catch_up").get<std::string>());
  if (given("catch_up_max")) spec.catch_up_max = input.at("catch_up_max");
  if (given("overlap")) spec.overlap = jobs::overlap_of(input.at("overlap").get<std::string>());
}

// An empty name takes the connection away.
std::int64_t connection_of(Context& context, const json& input) {
  const std::string name = input.value("connection", "");
  return name.empty() ? 0 : context.services.connections.get(name).id;
}

// For the audit: without what changes by itself.
std::string recorded(const jobs::Schedules& schedules, const jobs::Schedule& schedule) {
  json all = shape(schedules, schedule);
  for (const char* passing : {"next", "upcoming", "last", "last_outcome", "last_job", "when", "created", "changed"})
    all.erase(passing);
  return dump(all);
}

// Does one thing to a schedule, and notes for the audit what it was and is.
json change(Context& context, const std::string& name,
            const std::function<std::optional<jobs::Schedule>(store::Session&, Time)>& work) {
  const auto& schedules = context.services.schedules;
  json answer;
  context.services.store.write([&](store::Session& session) {
    const auto before = schedules.find(session, name);
    const auto after = work(session, session.now());
    answer = after ? shape(schedules, *after) : json();
    context.note.before = before ? recorded(schedules, *before) : "";
    context.note.after = after ? recorded(schedules, *after) : "";
  });
  return answer;
}

// All that are in another state, or the one that was named.
std::string switch_all(Context& context, const json& input, bool pause) {
  const auto& schedules = context.services.schedules;
  std::vector<std::string> names;
  if (input.contains("name")) {
    names.push_back(input.at("name"));
  } else {
    context.services.store.read([&](store::Session& session) {
      names.clear();
      for (const auto& one : schedules.list(session))
        if (one.state == (pause ? "active" : "paused")) names.push_back(one.spec.name);
    });
  }
  json rows = json::array();
  const jobs::Act act{.who = context.caller, .why = input.value("reason", "")};
  for (const auto& name : names)
    rows.push_back(change(context, name, [&](store::Session& session, Time now) -> std::optional<jobs::Schedule> {
      return pause ? schedules.pause(session, name, act, now) : schedules.resume(session, name, now);
    }));
  if (!input.contains("name")) {
    context.note.before.clear();
    context.note.after = dump({{"schedules", names}, {"state", pause ? "paused" : "active"}});
  }
  return dump({{"schedules", rows}});
}

std::string run_text(const jobs::Scheduler::Run& run) {
  if (run.outcome == "enqueued") return fmt::format("Job {} was enqueued.", run.job_id);
  if (run.outcome == "folded") return fmt::format("It became one with job {}, which waits to run already.", run.job_id);
  return fmt::format("Nothing was started: the run before, job {}, is not finished, and two at once are not allowed.",
                     run.job_id);
}

}  // namespace

std::vector<Operation> schedule_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "schedule list",
      .summary = "Lists what runs by the clock, and when next",
      .method = "GET",
      .path = "/schedules",
      .permission = Role::viewer,
      .output = {.rows = "schedules", .columns = schedule_columns()},
      .run =
          [](Context& context, const json&) {
            const auto& schedules = context.services.schedules;
            json rows = json::array();
            context.services.store.read([&](store::Session& session) {
              rows = json::array();
              for (const auto& one : schedules.list(session)) rows.push_back(shape(schedules, one));
            });
            return dump({{"schedules", rows}});
          },
  });
  Output shown{.fields = schedule_columns(), .rows = "ticks", .columns = tick_columns()};
  for (auto& field : shown.fields) field.hidden = false;
  all.push_back({
      .name = "schedule show",
      .summary = "Shows a schedule with what became of its last ticks",
      .method = "GET",
      .path = "/schedules/{name}",
      .permission = Role::viewer,
      .inputs = {name_field(), limit_field(20, 1000)},
      .output = shown,
      .run =
          [](Context& context, const json& input) {
            const auto& schedules = context.services.schedules;
            json answer;
            context.services.store.read([&](store::Session& session) {
              const auto schedule = schedules.get(session, input.at("name"));
              json rows = json::array();
              for (const auto& tick : schedules.ticks(session, schedule.id, input.at("limit")))
                rows.push_back({{"tick", format_iso(tick.tick)},
                                {"at", format_iso(tick.at)},
                                {"outcome", tick.outcome},
                                {"job", tick.job_id != 0 ? json(tick.job_id) : json(nullptr)},
                                {"missed", tick.missed},
                                {"by", tick.manual ? json(tick.cause) : json(nullptr)}});
              answer = shape(schedules, schedule);
              answer["ticks"] = rows;
            });
            return dump(answer);
          },
  });
  all.push_back({
      .name = "schedule add",
      .summary = "Makes a schedule: a job at certain times, or every so often",
      .description =
          "Each tick becomes a job once, however many hubs share the database. The times of a cron expression are "
          "those of "
          "a wall clock in `zone`: one that the clock is put forward over runs once, right after the gap; one that it "
          "shows twice runs the first time; an expression that takes every hour goes on by elapsed time.",
      .method = "POST",
      .path = "/schedules",
      .permission = Role::manager,
      .inputs = with_name(spec_fields(true)),
      .output = {.fields = schedule_columns()},
      .run =
          [](Context& context, const json& input) {
            jobs::ScheduleSpec spec;
            spec.name = input.at("name");
            apply(spec, input, connection_of(context, input));
            return dump(
                change(context, spec.name, [&](store::Session& session, Time now) -> std::optional<jobs::Schedule> {
                  return context.services.schedules.add(session, spec, now);
                }));
          },
  });
  all.push_back({
      .name = "schedule update",
      .summary = "Changes a schedule",
      .description = "What is not given stays as it is. One in error becomes active again.",
      .method = "PATCH",
      .path = "/schedules/{name}",
      .permission = Role::manager,
      .inputs = with_name(spec_fields(false)),
      .output = {.fields = schedule_columns()},
      .run =
          [](Context& context, const json& input) {
            const std::int64_t connection_id = connection_of(context, input);
            return dump(change(context, input.at("name"),
                               [&](store::Session& session, Time now) -> std::optional<jobs::Schedule> {
                                 return context.services.schedules.update(
                                     session, input.at("name"),
                                     [&](jobs::ScheduleSpec& spec) { apply(spec, input, connection_id); }, now);
                               }));
          },
  });
  all.push_back({
      .name = "schedule remove",
      .summary = "Forgets a schedule; jobs that it made stay",
      .method = "DELETE",
      .path = "/schedules/{name}",
      .permission = Role::manager,
      .inputs = {name_field()},
      .output = {.fields = {{.name = "removed", .doc = "its name", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            change(context, input.at("name"), [&](store::Session& session, Time) -> std::optional<jobs::Schedule> {
              context.services.schedules.remove(session, input.at("name"));
              return std::nullopt;
            });
            return dump({{"removed", input.at("name")}});
          },
  });
  all.push_back({
      .name = "schedule run",
      .summary = "Runs a schedule now, besides its times",
      .description =
          "Paused or not. The rule for overlap holds: where the run before is not finished, `message` says so.",
      .method = "POST",
      .path = "/schedules/{name}/run",
      .permission = Role::user,
      .inputs = {name_field()},
      .output = {.fields = {{.name = "outcome", .doc = "`enqueued`, `overlap` or `folded`", .required = true},
                            {.name = "job",
                             .type = Type::integer,
                             .doc = "that was enqueued, or that was in the way",
                             .required = true},
                            {.name = "message", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            jobs::Scheduler::Run run;
            const std::string name = input.at("name");
            context.services.store.write([&](store::Session& session) {
              run = context.services.scheduler.run(session, name, context.caller, session.now());
            });
            context.note.after = dump({{"outcome", run.outcome}, {"job", run.job_id}});
            return dump({{"outcome", run.outcome}, {"job", run.job_id}, {"message", run_text(run)}});
          },
  });
  all.push_back({
      .name = "schedule pause",
      .summary = "Keeps a schedule, or all of them, from running",
      .description =
          "What is under way goes on. Ticks that pass meanwhile are not caught up with. A reason given for one that is "
          "paused already joins the first.",
      .method = "POST",
      .path = "/schedules/pause",
      .permission = Role::user,
      .inputs = {optional_name_field(),
                 {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"}},
      .output = {.rows = "schedules", .columns = schedule_columns()},
      .run = [](Context& context, const json& input) { return switch_all(context, input, true); },
  });
  all.push_back({
      .name = "schedule resume",
      .summary = "Goes on with a schedule, or with all that are paused",
      .method = "POST",
      .path = "/schedules/resume",
      .permission = Role::user,
      .inputs = {optional_name_field()},
      .output = {.rows = "schedules", .columns = schedule_columns()},
      .run = [](Context& context, const json& input) { return switch_all(context, input, false); },
  });
  return all;
}

}  // namespace dragoman::ops
