#include "jobs/schedules.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "jobs/rows.h"

namespace dragoman::jobs {
namespace {

using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

// One at a time, so that a name is not given twice.
constexpr std::string_view kLock = "schedules";

constexpr std::string_view kColumns =
    "SELECT s.id, s.name, s.declared, s.cron, s.zone, s.interval_us, s.jitter_us, s.kind, s.flow, s.connection_id, "
    "s.payload, s.payload_version, s.priority, s.catch_up, s.catch_up_max, s.overlap, s.state, s.reason, s.anchor_us, "
    "s.next_us, s.seen_us, s.version, s.last_us, s.last_outcome, s.last_job_id, s.created_us, s.changed_us, c.name "
    "FROM schedule s LEFT JOIN connection c ON c.id = s.connection_id ";

[[noreturn]] void raise(Error::Kind kind, std::string_view code, std::string message) {
  Error error(kind, std::move(message));
  error.code = code;
  throw error;
}

Schedule schedule_of(const Row& row) {
  Schedule schedule;
  auto& spec = schedule.spec;
  schedule.id = row.int64(0);
  spec.name = row.text(1);
  schedule.built_in = !row.text(2).empty();
  spec.cron = row.text(3);
  spec.zone = row.text(4);
  spec.interval = Micros(row.int64(5));
  spec.jitter = Micros(row.int64(6));
  spec.kind = row.text(7);
  spec.flow = row.text(8);
  spec.connection_id = row.int64(9);
  spec.payload = row.bytes(10);
  spec.payload_version = static_cast<int>(row.int64(11));
  spec.priority = static_cast<Priority>(row.int64(12));
  spec.catch_up = catch_up_of(row.text(13));
  spec.catch_up_max = static_cast<int>(row.int64(14));
  spec.overlap = overlap_of(row.text(15));
  schedule.state = row.text(16);
  schedule.reason = row.text(17);
  schedule.anchor = row.time(18);
  schedule.next = row.maybe_time(19);
  schedule.seen = row.time(20);
  schedule.version = row.int64(21);
  if (const auto last = row.maybe_time(22))
    schedule.last = Schedule::Last{*last, std::string(row.text(23)), row.int64(24)};
  schedule.created = row.time(25);
  schedule.changed = row.time(26);
  schedule.connection = row.maybe_text(27).value_or("");
  return schedule;
}

Param param(const std::optional<Time>& time) {
  return time ? Param(to_us(*time)) : Param(nullptr);
}

std::optional<Time> due_of(const Timing& timing, std::optional<Time> tick) {
  return tick ? std::optional(timing.due(*tick)) : std::nullopt;
}

bool same_times(const ScheduleSpec& a, const ScheduleSpec& b) {
  return a.cron == b.cron && a.zone == b.zone && a.interval == b.interval && a.jitter == b.jitter;
}

json to_json(const ScheduleSpec& spec) {
  return {{"times", {spec.cron, spec.zone, spec.interval.count(), spec.jitter.count()}},
          {"policies", {name(spec.catch_up), spec.catch_up_max, name(spec.overlap), static_cast<int>(spec.priority)}},
          {"payload", {spec.payload, spec.payload_version}},
          {"job", {spec.kind, spec.flow, spec.connection_id}}};
}

void insert(Session& session, const ScheduleSpec& spec, const std::string& declared, Time now) {
  const Timing timing(spec, now);
  const auto next = timing.next(now);
  session.execute(
      "INSERT INTO schedule (name, declared, cron, zone, interval_us, jitter_us, kind, flow, connection_id, payload, "
      "payload_version, priority, catch_up, catch_up_max, overlap, state, anchor_us, next_us, due_us, seen_us, "
      "version, "
      "created_us, changed_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'active', "
      "$16, "
      "$17, $18, $16, 1, $16, $16)",
      {spec.name, declared, spec.cron, spec.zone, spec.interval.count(), spec.jitter.count(), spec.kind, spec.flow,
       spec.connection_id, store::Bytes(spec.payload), std::int64_t{spec.payload_version},
       static_cast<std::int64_t>(spec.priority), name(spec.catch_up), std::int64_t{spec.catch_up_max},
       name(spec.overlap), to_us(now), param(next), param(due_of(timing, next))});
}

// Makes the row what `schedule` says. Grows its version, so that a scheduler that read the row before leaves it alone.
void store_changed(Session& session, const Schedule& schedule, Time now) {
  const auto& spec = schedule.spec;
  const Timing timing(spec, schedule.anchor);
  session.execute(
      "UPDATE schedule SET cron = $2, zone = $3, interval_us = $4, jitter_us = $5, kind = $6, flow = $7, connection_id "
      "= $8, "
      "payload = $9, payload_version = $10, priority = $11, catch_up = $12, catch_up_max = $13, overlap = $14, state = "
      "$15, "
      "reason = $16, anchor_us = $17, next_us = $18, due_us = $19, seen_us = $20, version = version + 1, changed_us = "
      "$21 "
      "WHERE id = $1",
      {schedule.id,
       spec.cron,
       spec.zone,
       spec.interval.count(),
       spec.jitter.count(),
       spec.kind,
       spec.flow,
       spec.connection_id,
       store::Bytes(spec.payload),
       std::int64_t{spec.payload_version},
       static_cast<std::int64_t>(spec.priority),
       name(spec.catch_up),
       std::int64_t{spec.catch_up_max},
       name(spec.overlap),
       schedule.state,
       schedule.reason,
       to_us(schedule.anchor),
       param(schedule.next),
       param(due_of(timing, schedule.next)),
       to_us(schedule.seen),
       to_us(now)});
  session.notify(kScheduleChannel);
}

void plan_from(Schedule& schedule, Time now) {
  schedule.next = Timing(schedule.spec, schedule.anchor).next(now);
  schedule.seen = now;
}

}  // namespace

void Schedules::check_kind(Session& session, ScheduleSpec& spec) const {
  const auto* known = kind(spec.kind);
  if (!known) {
    std::vector<std::string> names;
    for (const auto& one : kinds_.all()) names.push_back(one.name);
    raise(Error::Kind::invalid, "schedule",
          fmt::format("There is no kind of job `{}`. There are: {}.", spec.kind, fmt::join(names, ", ")));
  }
  spec.payload_version = known->payload_version;
  if (known->check) known->check({.payload = spec.payload, .connector = connector_of(session, spec.connection_id)});
}

std::vector<Schedule> Schedules::list(Session& session) const {
  std::vector<Schedule> all;
  session.query(std::string(kColumns) + "ORDER BY s.name", std::initializer_list<Param>{},
                [&](const Row& row) { all.push_back(schedule_of(row)); });
  return all;
}

std::optional<Schedule> Schedules::find(Session& session, const std::string& name) const {
  std::optional<Schedule> found;
  session.first(std::string(kColumns) + "WHERE s.name = $1", {name}, [&](const Row& row) { found = schedule_of(row); });
  return found;
}

Schedule Schedules::get(Session& session, const std::string& name) const {
  if (auto found = find(session, name)) return *std::move(found);
  std::vector<std::string> names;
  for (const auto& one : list(session)) names.push_back(one.spec.name);
  const std::string near = nearest(name, names);
  raise(Error::Kind::not_found, "schedule",
        fmt::format("There is no schedule `{}`.{}", name,
                    !near.empty()   ? fmt::format(" Did you mean `{}`?", near)
                    : names.empty() ? " There is none yet; `schedule add` makes one."
                                    : fmt::format(" There are: {}.", fmt::join(names, ", "))));
}

std::vector<Tick> Schedules::ticks(Session& session, std::int64_t schedule_id, std::int64_t limit) const {
  std::vector<Tick> all;
  session.query(
      "SELECT tick_us, at_us, manual, outcome, job_id, missed, cause FROM schedule_tick WHERE schedule_id = $1 "
      "ORDER BY tick_us DESC, manual DESC LIMIT $2",
      {schedule_id, limit}, [&](const Row& row) {
        all.push_back({.tick = row.time(0),
                       .at = row.time(1),
                       .manual = row.int64(2) != 0,
                       .outcome = std::string(row.text(3)),
                       .job_id = row.int64(4),
                       .missed = row.int64(5),
                       .cause = std::string(row.text(6))});
      });
  return all;
}

Schedule Schedules::add(Session& session, const ScheduleSpec& given, Time now) const {
  ScheduleSpec spec = given;
  check(spec);
  check_kind(session, spec);
  session.lock(kLock);
  if (find(session, spec.name))
    raise(Error::Kind::conflict, "name_taken",
          fmt::format("There is a schedule `{0}` already. Change it with `schedule update {0}`, or take another name.",
                      spec.name));
  insert(session, spec, "", now);
  session.notify(kScheduleChannel);
  return get(session, spec.name);
}

Schedule Schedules::update(Session& session, const std::string& name, const std::function<void(ScheduleSpec&)>& change,
                           Time now) const {
  session.lock(kLock);
  Schedule schedule = get(session, name);
  const ScheduleSpec before = schedule.spec;
  change(schedule.spec);
  schedule.spec.name = before.name;
  check(schedule.spec);
  if (schedule.spec.kind != before.kind || schedule.spec.payload != before.payload ||
      schedule.spec.connection_id != before.connection_id)
    check_kind(session, schedule.spec);
  if (schedule.built_in && (schedule.spec.kind != before.kind || schedule.spec.flow != before.flow ||
                            schedule.spec.connection_id != before.connection_id))
    raise(Error::Kind::conflict, "built_in",
          fmt::format(
              "`{}` is built in: when it runs can be changed, and its payload, but not the kind of its job. Make a "
              "schedule of your own for that.",
              name));
  const bool was_in_error = schedule.state == "error";
  if (was_in_error) {
    schedule.state = "active";
    schedule.reason.clear();
  }
  if (schedule.spec.interval != before.interval) schedule.anchor = now;
  if (schedule.state == "active" && (was_in_error || !same_times(schedule.spec, before))) plan_from(schedule, now);
  store_changed(session, schedule, now);
  return get(session, name);
}

void Schedules::remove(Session& session, const std::string& name) const {
  session.lock(kLock);
  const Schedule schedule = get(session, name);
  if (schedule.built_in)
    raise(Error::Kind::conflict, "built_in",
          fmt::format(
              "`{0}` is built in and would be back at the next start. `schedule pause {0}` keeps it from running.",
              name));
  session.execute("DELETE FROM schedule_tick WHERE schedule_id = $1", {schedule.id});
  session.execute("DELETE FROM schedule WHERE id = $1", {schedule.id});
  session.notify(kScheduleChannel);
}

std::vector<std::string> Schedules::connection_is_gone(Session& session, std::int64_t connection_id, Time now) const {
  session.lock(kLock);
  std::vector<std::string> names;
  for (Schedule& schedule : list(session)) {
    if (schedule.spec.connection_id != connection_id || schedule.state != "active") continue;
    names.push_back(schedule.spec.name);
    schedule.state = "error";
    schedule.reason = kConnectionRemoved;
    schedule.next.reset();
    store_changed(session, schedule, now);
  }
  return names;
}

Schedule Schedules::pause(Session& session, const std::string& name, const Act& act, Time now) const {
  session.lock(kLock);
  Schedule schedule = get(session, name);
  schedule.reason = schedule.state == "paused" ? joined_reason(schedule.reason, act.who, act.why)
                    : act.why.empty()          ? "paused by " + act.who
                                               : act.why;
  schedule.state = "paused";
  schedule.next.reset();
  store_changed(session, schedule, now);
  return get(session, name);
}

Schedule Schedules::resume(Session& session, const std::string& name, Time now) const {
  session.lock(kLock);
  Schedule schedule = get(session, name);
  if (schedule.state == "active") return schedule;
  schedule.state = "active";
  schedule.reason.clear();
  plan_from(schedule, now);
  store_changed(session, schedule, now);
  return get(session, name);
}

void Schedules::declare(Session& session, const std::vector<ScheduleSpec>& specs, Time now) const {
  session.lock(kLock);
  for (const ScheduleSpec& spec : specs) {
    check(spec);
    const json wanted = to_json(spec);
    std::string declared;
    const bool there = session.first("SELECT declared FROM schedule WHERE name = $1", {spec.name},
                                     [&](const Row& row) { declared = row.text(0); });
    if (!there) {
      insert(session, spec, wanted.dump(), now);
      continue;
    }
    if (declared.empty()) {
      log::warning("a schedule has the name of a built-in one, which is left out", {{"schedule", spec.name}});
      continue;
    }
    const json before = json::parse(declared, nullptr, false);
    if (before == wanted) continue;
    Schedule schedule = *find(session, spec.name);
    const ScheduleSpec kept = schedule.spec;
    const json is = to_json(kept);
    const auto untouched = [&](const char* part) {
      return before.is_object() && before.value(part, json()) == is[part];
    };
    schedule.spec = spec;
    if (!untouched("times")) {
      schedule.spec.cron = kept.cron;
      schedule.spec.zone = kept.zone;
      schedule.spec.interval = kept.interval;
      schedule.spec.jitter = kept.jitter;
    }
    if (!untouched("policies")) {
      schedule.spec.catch_up = kept.catch_up;
      schedule.spec.catch_up_max = kept.catch_up_max;
      schedule.spec.overlap = kept.overlap;
      schedule.spec.priority = kept.priority;
    }
    if (!untouched("payload")) {
      schedule.spec.payload = kept.payload;
      schedule.spec.payload_version = kept.payload_version;
    }
    if (schedule.state == "active" && !same_times(schedule.spec, kept)) plan_from(schedule, now);
    store_changed(session, schedule, now);
    session.execute("UPDATE schedule SET declared = $2 WHERE id = $1", {schedule.id, wanted.dump()});
  }
  session.notify(kScheduleChannel);
}

std::vector<Schedule> Schedules::due(Session& session, Time now, Micros back) const {
  std::vector<Schedule> all;
  session.query(std::string(kColumns) + "WHERE s.state = 'active' AND (s.due_us <= $1 OR s.seen_us > $2) ORDER BY s.id",
                {to_us(now), to_us(now + back)}, [&](const Row& row) { all.push_back(schedule_of(row)); });
  return all;
}

std::optional<Time> Schedules::next_due(Session& session) const {
  std::optional<Time> next;
  session.first("SELECT min(due_us) FROM schedule WHERE state = 'active'", {},
                [&](const Row& row) { next = row.maybe_time(0); });
  return next;
}

std::vector<Time> Schedules::upcoming(const Schedule& schedule, int count) const {
  if (schedule.state != "active") return {};
  try {
    return Timing(schedule.spec, schedule.anchor).upcoming(schedule.next, count);
  } catch (const Error& error) {
    ignore_error("the time zone is not on this machine", error);
    return {};
  }
}

}  // namespace dragoman::jobs
