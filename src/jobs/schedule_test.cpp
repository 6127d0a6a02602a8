#include "jobs/schedule.h"

#include <gtest/gtest.h>

#include <set>

#include "base/error.h"

namespace dragoman::jobs {
namespace {

using namespace std::chrono_literals;

Time at(std::string_view text) {
  return parse_time(text).value();
}

ScheduleSpec cron(std::string expression, std::string zone = "UTC") {
  ScheduleSpec spec;
  spec.name = "nightly";
  spec.cron = std::move(expression);
  spec.zone = std::move(zone);
  spec.kind = "sample";
  spec.flow = "samples";
  return spec;
}

ScheduleSpec every(Micros interval, Micros jitter = 0us) {
  ScheduleSpec spec = cron("");
  spec.interval = interval;
  spec.jitter = jitter;
  return spec;
}

std::string refusal(const ScheduleSpec& spec) {
  try {
    check(spec);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    return error.message;
  }
  return "(accepted)";
}

TEST(Schedule, RefusesWhatCanNotBeMeant) {
  EXPECT_EQ(refusal(cron("*/5 * * * *")), "(accepted)");
  EXPECT_EQ(refusal(every(5min, 1min)), "(accepted)");
  EXPECT_EQ(refusal(cron("")), "A schedule needs a cron expression, such as `0 3 * * *`, or an interval.");
  ScheduleSpec spec = cron("0 3 * * *");
  spec.interval = 5min;
  EXPECT_EQ(refusal(spec), "A schedule has a cron expression or an interval, not both.");
  EXPECT_NE(refusal(cron("0 3 * *")).find("has 4"), std::string::npos);
  EXPECT_NE(refusal(cron("0 3 * * *", "Mars/Olympus")).find("no time zone `Mars/Olympus`"), std::string::npos);
  EXPECT_EQ(refusal(every(999ms)), "An interval is from 1 second to 366 days.");
  EXPECT_EQ(refusal(every(24h * 367)), "An interval is from 1 second to 366 days.");
  EXPECT_NE(refusal(every(5min, 6min)).find("at most the interval"), std::string::npos);
  EXPECT_EQ(refusal(every(5min, -1us)), "A jitter is not negative.");
  spec = cron("0 3 * * *");
  spec.catch_up = CatchUp::all;
  EXPECT_NE(refusal(spec).find("needs `queue`"), std::string::npos);
  spec.overlap = Overlap::queue;
  EXPECT_EQ(refusal(spec), "(accepted)");
  spec.catch_up_max = 0;
  EXPECT_NE(refusal(spec).find("from 1 to 10000"), std::string::npos);
  for (const char* name : {"", "a b", "-a", ".a", "a/b", "\xc3\xa4"}) {
    spec = cron("0 3 * * *");
    spec.name = name;
    EXPECT_NE(refusal(spec).find("is no name for a schedule"), std::string::npos) << name;
  }
}

TEST(Timing, IntervalsAreCountedFromTheirAnchor) {
  const Time anchor = at("2026-11-20T10:00:07Z");
  const Timing timing(every(15min), anchor);
  EXPECT_EQ(timing.next(anchor), anchor + 15min);
  EXPECT_EQ(timing.next(anchor - 1us), anchor);
  EXPECT_EQ(timing.next(anchor + 100min), anchor + 105min);
  EXPECT_EQ(timing.next(anchor - 100min), anchor - 90min);
  EXPECT_EQ(timing.upcoming(anchor, 3), (std::vector<Time>{anchor, anchor + 15min, anchor + 30min}));
}

TEST(Timing, JitterIsOfTheTickAndTheScheduleAndNeverMoreThanAsked) {
  const Time anchor = at("2026-11-20T10:00:00Z");
  const Timing timing(every(1min, 20s), anchor);
  ScheduleSpec other = every(1min, 20s);
  other.name = "other";
  const Timing neighbour(other, anchor);
  std::set<std::int64_t> parts;
  int same = 0;
  for (int i = 0; i < 200; ++i) {
    const Time tick = anchor + i * 1min;
    const Micros part = timing.due(tick) - tick;
    EXPECT_GE(part, 0us);
    EXPECT_LE(part, 20s);
    EXPECT_EQ(Timing(every(1min, 20s), anchor).due(tick), timing.due(tick)) << "also after a start";
    parts.insert(part.count() / 1'000'000);
    same += neighbour.due(tick) == timing.due(tick);
  }
  EXPECT_GE(parts.size(), 18u) << "spread over all of it";
  EXPECT_EQ(same, 0);
}

TEST(Timing, WhatWasMissedIsCaughtUpWithAsThePolicySays) {
  const Timing timing(cron("0 * * * *"), {});
  const Time first = at("2026-11-20T01:00:00Z"), now = at("2026-11-20T05:30:00Z");
  auto due = timing.due_until(now, first, CatchUp::once, 100, 1min);
  EXPECT_EQ(due.run, (std::vector<Time>{at("2026-11-20T05:00:00Z")}));
  EXPECT_EQ(due.missed, 4);
  EXPECT_EQ(due.next, at("2026-11-20T06:00:00Z"));
  due = timing.due_until(now, first, CatchUp::skip, 100, 1min);
  EXPECT_EQ(due.run, std::vector<Time>());
  EXPECT_EQ(due.missed, 5);
  EXPECT_EQ(due.newest, at("2026-11-20T05:00:00Z"));
  due = timing.due_until(at("2026-11-20T05:00:40Z"), first, CatchUp::skip, 100, 1min);
  EXPECT_EQ(due.run, (std::vector<Time>{at("2026-11-20T05:00:00Z")})) << "that one is in time";
  EXPECT_EQ(due.missed, 4);
  due = timing.due_until(now, first, CatchUp::all, 100, 1min);
  EXPECT_EQ(due.run.size(), 5u);
  EXPECT_EQ(due.missed, 0);
  due = timing.due_until(now, first, CatchUp::all, 2, 1min);
  EXPECT_EQ(due.run, (std::vector<Time>{at("2026-11-20T04:00:00Z"), at("2026-11-20T05:00:00Z")})) << "the newest";
  EXPECT_EQ(due.missed, 3);
  due = timing.due_until(at("2026-11-20T00:30:00Z"), first, CatchUp::all, 2, 1min);
  EXPECT_TRUE(due.run.empty());
  EXPECT_EQ(due.newest, std::nullopt);
  EXPECT_EQ(due.next, first);
}

TEST(Timing, AnAbsenceOfYearsIsNotWalkedThroughTickByTick) {
  const Time first = at("1996-11-20T01:00:00Z"), now = at("2026-11-20T05:30:30Z");
  auto due = Timing(every(1s), first).due_until(now, first, CatchUp::all, 3, 1min);
  EXPECT_EQ(due.run, (std::vector<Time>{now - 2s, now - 1s, now}));
  EXPECT_EQ(due.missed + 3, (now - first) / 1s + 1);
  EXPECT_EQ(due.next, now + 1s);
  due = Timing(cron("* * * * *"), {}).due_until(now, first, CatchUp::once, 3, 1min);
  EXPECT_EQ(due.run, (std::vector<Time>{now - 30s}));
  EXPECT_GE(due.missed, 500'000);
  EXPECT_EQ(due.next, now + 30s);
}

}  // namespace
}  // namespace dragoman::jobs
