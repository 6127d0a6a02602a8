// On every engine of the store. For most of them the queue is a table with a row per job that was enqueued, in the same
// database: whether it is there is decided by the transaction, as with the real one.
#include "jobs/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <thread>

#include "base/error.h"
#include "jobs/test_jobs.h"
#include "store/test_store.h"

namespace dragoman::jobs {
namespace {

using namespace std::chrono_literals;
using store::Param;
using store::Row;
using store::Session;

Time at(std::string_view text) {
  return parse_time(text).value();
}

class SchedulerTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam()) == "Postgres") {
      store::skip_without_server();
      if (IsSkipped() || HasFatalFailure()) return;
      if (!shared_) shared_ = std::make_unique<store::PostgresDatabase>(store::test_server());
      database_ = std::make_unique<store::PostgresSchema>(*shared_);
      url_ = database_->url();
    } else {
      url_ = "sqlite:" + (folder_ / "hub.db");
    }
    store_ = store::open({.url = url_}, clock_);
    write([](Session& session) {
      session.execute(
          "CREATE TABLE fake_job (id BIGINT PRIMARY KEY, cause TEXT NOT NULL, order_key TEXT NOT NULL, "
          "unique_key TEXT NOT NULL, state TEXT NOT NULL)");
    });
  }
  void TearDown() override { store_.reset(); }
  static void TearDownTestSuite() { shared_.reset(); }

  void write(const std::function<void(Session&)>& work) { store_->write(work); }

  // Folds by the rules of the queue; jobs are `waiting`, `running` or `done`.
  static Enqueued enqueue(Session& session, const NewJob& job) {
    if (job.kind == "refused") throw Error(Error::Kind::invalid, "The payload is no good.");
    Enqueued result;
    if (!job.unique_key.empty())
      result.folded = session.first(job.unique == Unique::waiting
                                        ? "SELECT id FROM fake_job WHERE unique_key = $1 AND state = 'waiting'"
                                        : "SELECT id FROM fake_job WHERE unique_key = $1 AND state <> 'done'",
                                    {job.unique_key}, [&](const Row& row) { result.id = row.int64(0); });
    if (result.folded) return result;
    session.lock("fake queue");
    session.first("SELECT coalesce(max(id), 0) + 1 FROM fake_job", {},
                  [&](const Row& row) { result.id = row.int64(0); });
    session.execute("INSERT INTO fake_job (id, cause, order_key, unique_key, state) VALUES ($1, $2, $3, $4, 'waiting')",
                    {result.id, job.cause, job.order_key, job.unique_key});
    return result;
  }

  ScheduleSpec spec(std::string cron, CatchUp catch_up = CatchUp::once, Overlap overlap = Overlap::allow) {
    ScheduleSpec made;
    made.name = "nightly";
    made.cron = std::move(cron);
    made.kind = "sample";
    made.flow = "samples";
    made.catch_up = catch_up;
    made.overlap = overlap;
    return made;
  }
  Schedule add(const ScheduleSpec& made, Time now) {
    Schedule added;
    write([&](Session& session) { added = schedules_.add(session, made, now); });
    return added;
  }
  Schedule get(const std::string& name = "nightly") {
    Schedule found;
    store_->read([&](Session& session) { found = schedules_.get(session, name); });
    return found;
  }
  std::vector<std::string> causes() {
    std::vector<std::string> all;
    store_->read([&](Session& session) {
      all.clear();
      session.query("SELECT cause FROM fake_job ORDER BY id", std::initializer_list<Param>{},
                    [&](const Row& row) { all.emplace_back(row.text(0)); });
    });
    return all;
  }
  std::vector<Tick> ticks(const std::string& name = "nightly") {
    std::vector<Tick> all;
    store_->read([&](Session& session) { all = schedules_.ticks(session, schedules_.get(session, name).id, 1000); });
    return all;
  }
  void set_jobs(const std::string& from, const std::string& to) {
    write([&](Session& session) { session.execute("UPDATE fake_job SET state = $2 WHERE state = $1", {from, to}); });
  }
  Error refusal(const std::function<void(Session&)>& work) {
    return store::error_of([&] { write(work); });
  }
  static std::string run_of(std::string_view time) { return "schedule nightly " + format_iso(at(time)); }

  inline static std::unique_ptr<store::PostgresDatabase> shared_;
  store::TemporaryFolder folder_;
  std::unique_ptr<store::Database> database_;
  std::string url_;
  SystemClock clock_;
  std::unique_ptr<store::Store> store_;
  FakeHandler handler_;
  const Kinds kinds_{{{.name = "sample", .summary = "A sample", .handler = &handler_, .payload_version = 3},
                      {.name = "refused", .summary = "Never taken", .handler = &handler_}}};
  const Schedules schedules_{kinds_};
};

using Causes = std::vector<std::string>;

TEST_P(SchedulerTest, ATickThatIsDueBecomesAJobOnce) {
  Scheduler scheduler(*store_, schedules_, enqueue);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:00:00Z")).next, std::nullopt) << "there is no schedule";
  const Schedule added = add(spec("*/5 * * * *"), at("2026-11-20T10:00:00Z"));
  EXPECT_EQ(added.next, at("2026-11-20T10:05:00Z"));
  EXPECT_EQ(added.spec.payload_version, 3) << "of the kind, today";
  auto report = scheduler.tick(at("2026-11-20T10:04:59.999999Z"));
  EXPECT_EQ(report.enqueued, 0);
  EXPECT_EQ(report.next, at("2026-11-20T10:05:00Z"));
  report = scheduler.tick(at("2026-11-20T10:05:00Z"));
  EXPECT_EQ(report.enqueued, 1);
  EXPECT_EQ(report.next, at("2026-11-20T10:10:00Z"));
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:05:00Z")).enqueued, 0);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:10:01Z")).enqueued, 1);
  EXPECT_EQ(causes(), (Causes{run_of("2026-11-20T10:05:00Z"), run_of("2026-11-20T10:10:00Z")}));
  const Schedule now = get();
  EXPECT_EQ(now.last->tick, at("2026-11-20T10:10:00Z"));
  EXPECT_EQ(now.last->outcome, "enqueued");
  EXPECT_EQ(now.last->job_id, 2);
  EXPECT_EQ(schedules_.upcoming(now, 3),
            (std::vector<Time>{at("2026-11-20T10:15:00Z"), at("2026-11-20T10:20:00Z"), at("2026-11-20T10:25:00Z")}));
}

TEST_P(SchedulerTest, ManyNodesAtOnceMakeOneJobOfEachTick) {
  const Time start = at("2026-11-20T10:00:00Z");
  for (int i = 0; i < 5; ++i) {
    ScheduleSpec made = spec("* * * * *", CatchUp::all);
    made.name = "s" + std::to_string(i);
    add(made, start);
  }
  std::vector<std::unique_ptr<store::Store>> stores;
  std::vector<std::jthread> nodes;
  // SQLite has one hub, but its threads may all call.
  for (int node = 0; node < 4; ++node) {
    if (database_) stores.push_back(store::open({.url = url_}, clock_));
    nodes.emplace_back([&, &store = database_ ? *stores.back() : *store_] {
      Scheduler scheduler(store, schedules_, enqueue);
      for (int minute = 1; minute <= 20; ++minute) scheduler.tick(start + minute * 1min);
    });
  }
  nodes.clear();
  Causes all = causes();
  EXPECT_EQ(all.size(), 5u * 20u);
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
}

TEST_P(SchedulerTest, WhatFailsInTheTransactionIsDoneByTheNextCall) {
  add(spec("*/5 * * * *"), at("2026-11-20T10:00:00Z"));
  int calls = 0;
  Scheduler failing(*store_, schedules_, [&](Session& session, const NewJob& job) -> Enqueued {
    ++calls;
    enqueue(session, job);
    throw Error(Error::Kind::unavailable, "The disk is full.");
  });
  EXPECT_THROW(failing.tick(at("2026-11-20T10:05:00Z")), Error);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(causes(), Causes());
  EXPECT_EQ(ticks().size(), 0u);
  Scheduler scheduler(*store_, schedules_, enqueue);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:05:30Z")).enqueued, 1);
  EXPECT_EQ(causes(), Causes{run_of("2026-11-20T10:05:00Z")});
}

TEST_P(SchedulerTest, MissedTicksAreCaughtUpWithAsThePolicySays) {
  const Time start = at("2026-11-20T10:00:00Z"), back = at("2026-11-21T00:30:00Z");
  int number = 0;
  for (const auto policy : {CatchUp::skip, CatchUp::once, CatchUp::all}) {
    ScheduleSpec made = spec("0 * * * *", policy);
    made.name = name(policy);
    made.catch_up_max = 3;
    add(made, start);
    ++number;
  }
  Scheduler scheduler(*store_, schedules_, enqueue);
  const auto report = scheduler.tick(back);
  EXPECT_EQ(report.enqueued, 4);
  EXPECT_EQ(report.passed_over, 14 + 13 + 11);
  const auto midnight = format_iso(at("2026-11-21T00:00:00Z"));
  Causes all = causes();
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all, (Causes{"schedule all " + format_iso(at("2026-11-20T22:00:00Z")),
                         "schedule all " + format_iso(at("2026-11-20T23:00:00Z")), "schedule all " + midnight,
                         "schedule once " + midnight}));
  EXPECT_EQ(get("skip").last->outcome, "missed");
  EXPECT_EQ(ticks("skip").at(0).missed, 13) << "besides itself";
  EXPECT_EQ(ticks("once").at(0).missed, 13);
  for (const char* one : {"skip", "once", "all"}) EXPECT_EQ(get(one).next, at("2026-11-21T01:00:00Z"));
}

TEST_P(SchedulerTest, AClockThatGoesBackRepeatsNoTickAndLosesNone) {
  add(spec("0 * * * *"), at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  scheduler.tick(at("2026-11-20T11:00:00Z"));
  scheduler.tick(at("2026-11-20T12:00:00Z"));
  // Back by more than an hour: 11 and 12 come again, and are not run again.
  for (const char* now :
       {"2026-11-20T10:30:00Z", "2026-11-20T11:00:00Z", "2026-11-20T12:00:00Z", "2026-11-20T12:59:00Z"})
    EXPECT_EQ(scheduler.tick(at(now)).enqueued, 0) << now;
  EXPECT_EQ(scheduler.tick(at("2026-11-20T13:00:00Z")).enqueued, 1);
  // A year ahead by mistake, and back again: what lies between was not run, and comes when its time comes.
  EXPECT_EQ(scheduler.tick(at("2027-11-20T13:30:00Z")).enqueued, 1) << "once for all that seemed missed";
  EXPECT_EQ(scheduler.tick(at("2026-11-20T13:31:00Z")).enqueued, 0);
  EXPECT_EQ(get().next, at("2026-11-20T14:00:00Z"));
  EXPECT_EQ(scheduler.tick(at("2026-11-20T14:00:00Z")).enqueued, 1);
  EXPECT_EQ(causes(),
            (Causes{run_of("2026-11-20T11:00:00Z"), run_of("2026-11-20T12:00:00Z"), run_of("2026-11-20T13:00:00Z"),
                    run_of("2027-11-20T13:00:00Z"), run_of("2026-11-20T14:00:00Z")}));
}

TEST_P(SchedulerTest, ATickPassedOverInAFutureThatIsUndoneStillComes) {
  add(spec("0 * * * *", CatchUp::skip), at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T15:30:00Z")).enqueued, 0) << "five were missed, it seems";
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:01:00Z")).enqueued, 0);
  for (int hour = 11; hour <= 15; ++hour)
    EXPECT_EQ(scheduler.tick(at("2026-11-20T" + std::to_string(hour) + ":00:00Z")).enqueued, 1) << hour;
}

TEST_P(SchedulerTest, RandomClocksNodesAndFailuresNeverRepeatATick) {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "seed " << seed << " (DRAGOMAN_SEED=" << seed << " runs it again)\n";
  std::mt19937_64 random(seed);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Time now = at("2026-10-24T22:00:00Z");
  for (const auto policy : {CatchUp::skip, CatchUp::once, CatchUp::all}) {
    ScheduleSpec made = spec("*/7 * * * *", policy);
    made.name = name(policy);
    made.zone = "Europe/Berlin";
    made.catch_up_max = 10'000;
    add(made, now);
    made.name += ".interval";
    made.cron.clear();
    made.interval = 11min;
    made.jitter = 3min;
    add(made, now);
  }
  const Time start = now;
  Time highest = now;
  bool went_back = false;
  for (int step = 0; step < 150; ++step) {
    // Mostly on, sometimes a jump by up to some hours.
    if (below(10) == 0) {
      now += below(6 * 60) * 1min;
    } else if (below(12) == 0) {
      now = std::max(now - below(6 * 60) * 1min, highest - 20h);  // records of ticks are kept for 25
      went_back = true;
    } else {
      now += below(300) * 1s;
    }
    highest = std::max(highest, now);
    int until_failure = below(4) == 0 ? below(3) : 1'000'000;
    Scheduler scheduler(*store_, schedules_, [&](Session& session, const NewJob& job) {
      if (until_failure-- == 0) throw Error(Error::Kind::unavailable, "Gone.");
      return enqueue(session, job);
    });
    try {
      scheduler.tick(now);
    } catch (const Error& error) {
      EXPECT_EQ(error.message, "Gone.");
    }
  }
  Scheduler scheduler(*store_, schedules_, enqueue);
  now = highest + 2h;
  scheduler.tick(now);
  std::map<std::string, int> count;
  for (const auto& cause : causes()) ++count[cause];
  for (const auto& [cause, times] : count) EXPECT_EQ(times, 1) << cause;
  // Where everything is caught up with, everything was run, whatever the clock did.
  for (const char* one : {"all", "all.interval"}) {
    const Schedule schedule = get(one);
    const Timing timing(schedule.spec, schedule.anchor);
    for (auto tick = timing.next(start); timing.due(*tick) <= now; tick = timing.next(*tick))
      EXPECT_EQ(count["schedule " + std::string(one) + " " + format_iso(*tick)], 1)
          << format_iso(*tick) << (went_back ? " (the clock went back)" : "");
  }
}

TEST_P(SchedulerTest, WithSkipATickIsPassedOverWhileTheRunBeforeIsNotFinished) {
  add(spec("* * * * *", CatchUp::once, Overlap::skip), at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:01:00Z")).enqueued, 1);
  set_jobs("waiting", "running");
  const auto report = scheduler.tick(at("2026-11-20T10:02:00Z"));
  EXPECT_EQ(report.enqueued, 0);
  EXPECT_EQ(report.passed_over, 1);
  EXPECT_EQ(get().last->outcome, "overlap");
  EXPECT_EQ(get().last->job_id, 1) << "the one that is in the way";
  set_jobs("running", "done");
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:03:00Z")).enqueued, 1);
  EXPECT_EQ(causes(), (Causes{run_of("2026-11-20T10:01:00Z"), run_of("2026-11-20T10:03:00Z")}));
}

TEST_P(SchedulerTest, WithQueueOneWaitsAndFurtherOnesFoldIntoIt) {
  add(spec("* * * * *", CatchUp::once, Overlap::queue), at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  scheduler.tick(at("2026-11-20T10:01:00Z"));
  set_jobs("waiting", "running");
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:02:00Z")).enqueued, 1);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:03:00Z")).enqueued, 0);
  EXPECT_EQ(get().last->outcome, "folded");
  EXPECT_EQ(get().last->job_id, 2);
  std::string key;
  store_->read([&](Session& session) {
    session.first("SELECT order_key FROM fake_job WHERE id = 2", {}, [&](const Row& row) { key = row.text(0); });
  });
  EXPECT_EQ(key, "schedule:" + std::to_string(get().id)) << "so that the queue runs one at a time";
}

TEST_P(SchedulerTest, RunNowLeavesThePlanAndKeepsToTheRuleForOverlap) {
  add(spec("0 3 * * *", CatchUp::once, Overlap::skip), at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  const Time now = at("2026-11-20T11:11:11Z");
  Scheduler::Run run;
  const auto run_now = [&] { write([&](Session& session) { run = scheduler.run(session, "nightly", "mary", now); }); };
  run_now();
  EXPECT_EQ(run.outcome, "enqueued");
  EXPECT_EQ(run.job_id, 1);
  run_now();
  EXPECT_EQ(run.outcome, "overlap");
  EXPECT_EQ(run.job_id, 1);
  EXPECT_EQ(get().next, at("2026-11-21T03:00:00Z"));
  const auto all = ticks();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].manual);
  EXPECT_EQ(all[1].cause, "mary");
  write([&](Session& session) { schedules_.pause(session, "nightly", {.who = "ann", .why = "not now"}, now); });
  set_jobs("waiting", "done");
  run_now();
  EXPECT_EQ(run.outcome, "enqueued") << "a person may run one that is paused";
  EXPECT_EQ(refusal([&](Session& session) { scheduler.run(session, "nighty", "mary", now); }).message,
            "There is no schedule `nighty`. Did you mean `nightly`?");
}

TEST_P(SchedulerTest, PausedOnesDoNotRunAndAreNotCaughtUpWith) {
  add(spec("0 * * * *"), at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  const auto pause = [&](jobs::Act act) {
    write([&](Session& session) { schedules_.pause(session, "nightly", act, at("2026-11-20T10:10:00Z")); });
    return get().reason;
  };
  EXPECT_EQ(pause({.who = "ann", .why = "holidays"}), "holidays");
  EXPECT_EQ(pause({.who = "bob"}), "holidays");
  EXPECT_EQ(pause({.who = "bob", .why = "stocktaking"}), "holidays; bob: stocktaking") << "both hold it back";
  EXPECT_EQ(pause({.who = "bob", .why = "stocktaking"}), "holidays; bob: stocktaking");
  EXPECT_EQ(schedules_.upcoming(get(), 3), std::vector<Time>());
  EXPECT_EQ(scheduler.tick(at("2026-11-20T13:00:00Z")).enqueued, 0);
  write([&](Session& session) { schedules_.resume(session, "nightly", at("2026-11-20T13:10:00Z")); });
  EXPECT_EQ(scheduler.tick(at("2026-11-20T13:20:00Z")).enqueued, 0);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T14:00:00Z")).enqueued, 1);
  EXPECT_EQ(causes(), Causes{run_of("2026-11-20T14:00:00Z")});
}

TEST_P(SchedulerTest, ChangingTheTimesPlansAnew) {
  add(spec("0 * * * *"), at("2026-11-20T10:00:00Z"));
  const Time now = at("2026-11-20T10:20:00Z");
  Schedule changed;
  const auto update = [&](const std::function<void(ScheduleSpec&)>& change) {
    write([&](Session& session) { changed = schedules_.update(session, "nightly", change, now); });
  };
  update([](ScheduleSpec& one) { one.catch_up = CatchUp::skip; });
  EXPECT_EQ(changed.next, at("2026-11-20T11:00:00Z"));
  EXPECT_EQ(changed.spec.catch_up, CatchUp::skip);
  update([](ScheduleSpec& one) { one.cron = "30 * * * *"; });
  EXPECT_EQ(changed.next, at("2026-11-20T10:30:00Z"));
  update([](ScheduleSpec& one) {
    one.cron = "";
    one.interval = 45min;
  });
  EXPECT_EQ(changed.next, now + 45min);
  EXPECT_EQ(refusal([&](Session& session) {
              schedules_.update(session, "nightly", [](ScheduleSpec& one) { one.kind = "unheard of"; }, now);
            }).message,
            "There is no kind of job `unheard of`. There are: sample, refused.");
  EXPECT_EQ(refusal([&](Session& session) { schedules_.add(session, spec("0 3 * * *"), now); }).code, "name_taken");
  write([&](Session& session) { schedules_.remove(session, "nightly"); });
  EXPECT_EQ(refusal([&](Session& session) { schedules_.get(session, "nightly"); }).kind, Error::Kind::not_found);
}

TEST_P(SchedulerTest, OneWhoseJobIsRefusedStopsAloneAndSaysWhy) {
  ScheduleSpec bad = spec("* * * * *");
  bad.name = "bad";
  bad.kind = "refused";
  add(bad, at("2026-11-20T10:00:00Z"));
  add(spec("* * * * *"), at("2026-11-20T10:00:00Z"));
  ScheduleSpec orphan = spec("* * * * *");
  orphan.name = "orphan";
  orphan.connection_id = 77;
  add(orphan, at("2026-11-20T10:00:00Z"));
  Scheduler scheduler(*store_, schedules_, enqueue);
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:01:00Z")).enqueued, 1);
  EXPECT_EQ(get("bad").state, "error");
  EXPECT_EQ(get("bad").reason, "The payload is no good.");
  EXPECT_EQ(get("orphan").reason, "its connection was removed");
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:02:00Z")).enqueued, 1);
  EXPECT_EQ(causes(), (Causes{run_of("2026-11-20T10:01:00Z"), run_of("2026-11-20T10:02:00Z")}));
  Schedule mended;
  write([&](Session& session) {
    mended =
        schedules_.update(session, "bad", [](ScheduleSpec& one) { one.kind = "sample"; }, at("2026-11-20T10:02:30Z"));
  });
  EXPECT_EQ(mended.state, "active");
  EXPECT_EQ(scheduler.tick(at("2026-11-20T10:03:00Z")).enqueued, 2);
}

TEST_P(SchedulerTest, AKindThatThisProgramDoesNotKnowIsLeftToANodeThatDoes) {
  add(spec("* * * * *"), at("2026-11-20T10:00:00Z"));
  const Kinds fewer{{{.name = "other", .summary = "Something else", .handler = &handler_}}};
  const Schedules older{fewer};
  Scheduler old_node(*store_, older, enqueue), new_node(*store_, schedules_, enqueue);
  EXPECT_EQ(old_node.tick(at("2026-11-20T10:01:00Z")).enqueued, 0);
  EXPECT_EQ(new_node.tick(at("2026-11-20T10:01:00Z")).enqueued, 1);
}

TEST_P(SchedulerTest, BuiltInOnesFollowTheProgramButForWhatAPersonChanged) {
  const Time now = at("2026-11-20T10:00:00Z");
  const auto declare = [&](const ScheduleSpec& made) {
    write([&](Session& session) { schedules_.declare(session, {made}, now); });
  };
  ScheduleSpec made = spec("0 3 * * *");
  declare(made);
  declare(made);
  EXPECT_TRUE(get().built_in);
  EXPECT_EQ(get().version, 1) << "the same again changes nothing";
  made.cron = "0 4 * * *";
  declare(made);
  EXPECT_EQ(get().next, at("2026-11-21T04:00:00Z"));
  write([&](Session& session) {
    schedules_.update(session, "nightly", [](ScheduleSpec& one) { one.cron = "0 5 * * *"; }, now);
    schedules_.pause(session, "nightly", {.who = "ann", .why = "enough"}, now);
  });
  made.cron = "0 6 * * *";
  made.payload = R"({"new":true})";
  declare(made);
  EXPECT_EQ(get().spec.cron, "0 5 * * *") << "a person's";
  EXPECT_EQ(get().state, "paused");
  EXPECT_EQ(get().spec.payload, made.payload);
  EXPECT_EQ(refusal([&](Session& session) { schedules_.remove(session, "nightly"); }).code, "built_in");
  EXPECT_EQ(refusal([&](Session& session) {
              schedules_.update(session, "nightly", [](ScheduleSpec& one) { one.kind = "refused"; }, now);
            }).code,
            "built_in");
}

TEST_P(SchedulerTest, RecordsOfTicksAreForgottenAfterADay) {
  const Time start = at("2026-11-20T00:00:00Z");
  add(spec("*/10 * * * *"), start);
  Scheduler scheduler(*store_, schedules_, enqueue);
  for (int i = 1; i <= 6 * 30; ++i) scheduler.tick(start + i * 10min);
  EXPECT_EQ(ticks().size(), 6u * 25u + 1u);
}

/// With the queue itself.
class ScheduledJobsTest : public JobsTest {
 protected:
  void add(Overlap overlap) {
    ScheduleSpec spec;
    spec.name = "minutely";
    spec.cron = "* * * * *";
    spec.kind = "work";
    spec.flow = "flow";
    spec.payload = R"({"a":1})";
    spec.overlap = overlap;
    store_->write([&](Session& session) { schedules_.add(session, spec, at("2026-11-20T10:00:00Z")); });
  }
  Schedule::Last tick(const char* minute) {
    scheduler_->tick(at(std::string("2026-11-20T10:") + minute + ":00Z"));
    Schedule schedule;
    store_->read([&](Session& session) { schedule = schedules_.get(session, "minutely"); });
    return *schedule.last;
  }
  void SetUp() override {
    JobsTest::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) scheduler_ = std::make_unique<Scheduler>(*store_, schedules_);
  }

  const Schedules schedules_{kinds_};
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_P(ScheduledJobsTest, SkipNeverLetsTwoRunAtOnce) {
  add(Overlap::skip);
  const auto first = tick("01");
  EXPECT_EQ(first.outcome, "enqueued");
  EXPECT_EQ(tick("02").outcome, "overlap") << "it waits";
  const auto running = claim_one();
  EXPECT_EQ(running.job.id, first.job_id);
  EXPECT_EQ(running.job.payload, R"({"a":1})");
  EXPECT_EQ(running.job.cause, "schedule minutely 2026-11-20T10:01:00.000000Z");
  EXPECT_EQ(tick("03").outcome, "overlap") << "it runs";
  end(running, error(Error::Kind::in_doubt));
  EXPECT_EQ(tick("04").outcome, "overlap") << "it will be tried again";
  time_passes();
  end(claim_one(), done());
  EXPECT_EQ(tick("05").outcome, "enqueued");
  end(claim_one(), error(Error::Kind::invalid));
  EXPECT_EQ(tick("06").outcome, "enqueued") << "a dead letter is not in the way";
}

TEST_P(ScheduledJobsTest, QueueLetsOneWaitForTheOneThatRuns) {
  add(Overlap::queue);
  tick("01");
  const auto running = claim_one();
  const auto second = tick("02");
  EXPECT_EQ(second.outcome, "enqueued");
  EXPECT_TRUE(claim().empty()) << "not while the first runs";
  const auto third = tick("03");
  EXPECT_EQ(third.outcome, "folded");
  EXPECT_EQ(third.job_id, second.job_id);
  end(running, done());
  EXPECT_EQ(claim_one().job.id, second.job_id);
}

TEST_P(ScheduledJobsTest, TheDatabasesClockIsTheDefault) {
  add(Overlap::allow);
  const auto report = scheduler_->tick();
  EXPECT_EQ(report.enqueued, 1) << "the schedule was made in the past, and missed ticks run once";
  EXPECT_EQ(scheduler_->tick().enqueued, 0);
}

INSTANTIATE_TEST_SUITE_P(Stores, ScheduledJobsTest, testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });
INSTANTIATE_TEST_SUITE_P(Stores, SchedulerTest, testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::jobs
