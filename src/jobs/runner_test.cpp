// The threads over the queue. Each test waits for what it looks for, however long this machine takes.
#include "jobs/runner.h"

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <set>
#include <string_view>

#include "jobs/test_jobs.h"

namespace dragoman::jobs {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// The database, cut off once after a commit that `lose` says yes to: it is there, and nobody has heard of it.
class CutOffStore final : public store::Store {
 public:
  explicit CutOffStore(store::Store& inner) : inner_(inner) {}
  void read(const std::function<void(store::Session&)>& work) override { inner_.read(work); }
  void write(const std::function<void(store::Session&)>& work) override {
    inner_.write(work);
    if (lost || !lose() || lost.exchange(true)) return;
    throw Error(Error::Kind::in_doubt, "cut off while it committed");
  }
  std::uint64_t wait(std::string_view channel, std::uint64_t seen, Micros timeout, std::stop_token stop) override {
    return inner_.wait(channel, seen, timeout, stop);
  }
  void backup(const std::string& path) override { inner_.backup(path); }
  store::Info info() override { return inner_.info(); }

  std::function<bool()> lose;
  std::atomic<bool> lost = false;

 private:
  store::Store& inner_;
};

/// The database, of which no answer comes while it hangs.
class HangingStore final : public store::Store {
 public:
  explicit HangingStore(store::Store& inner) : inner_(inner) {}
  void read(const std::function<void(store::Session&)>& work) override { inner_.read(work); }
  void write(const std::function<void(store::Session&)>& work) override {
    {
      std::unique_lock lock(mutex_);
      moved_.wait(lock, [&] { return !hangs_; });
    }
    inner_.write(work);
  }
  std::uint64_t wait(std::string_view channel, std::uint64_t seen, Micros timeout, std::stop_token stop) override {
    return inner_.wait(channel, seen, timeout, stop);
  }
  void backup(const std::string& path) override { inner_.backup(path); }
  store::Info info() override { return inner_.info(); }
  void hang(bool hangs) {
    {
      std::lock_guard lock(mutex_);
      hangs_ = hangs;
    }
    moved_.notify_all();
  }

 private:
  store::Store& inner_;
  std::mutex mutex_;
  std::condition_variable moved_;
  bool hangs_ = false;
};

class RunnerTest : public JobsTest {
 protected:
  RunnerSettings settings(std::string name = "hub") {
    return {.threads = 4, .stop_grace = seconds(30), .node = {.name = std::move(name), .beat = milliseconds(50)}};
  }
  void TearDown() override {
    open_the_gate();
    runner_.reset();
    JobsTest::TearDown();
  }
  Runner& start(RunnerSettings given) {
    runner_ = std::make_unique<Runner>(*store_, kinds_, clock_, random_, std::move(given));
    runner_->start();
    return *runner_;
  }
  ::testing::AssertionResult eventually(const std::function<bool()>& holds) {
    const auto end = clock_.steady() + seconds(60);
    while (!holds()) {
      if (clock_.steady() > end) return ::testing::AssertionFailure() << "not within a minute";
      clock_.wait(milliseconds(2), {});
    }
    return ::testing::AssertionSuccess();
  }
  /// Handlers that wait here go on when the test says so.
  void wait_at_the_gate() {
    std::unique_lock lock(gate_mutex_);
    ++at_the_gate_;
    gate_moved_.wait(lock, [&] { return gate_open_; });
  }
  void open_the_gate() {
    {
      std::lock_guard lock(gate_mutex_);
      gate_open_ = true;
    }
    gate_moved_.notify_all();
  }

  std::mutex gate_mutex_;
  std::condition_variable gate_moved_;
  bool gate_open_ = false;
  std::atomic<int> at_the_gate_ = 0;
  std::unique_ptr<Runner> runner_;
};

TEST_P(RunnerTest, RunsWhatIsThereAndWhatComesInTheOrderOfItsKeys) {
  std::mutex mutex;
  std::map<std::string, std::vector<std::int64_t>> order;
  std::set<std::int64_t> twice, seen;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token) {
    std::lock_guard lock(mutex);
    for (const auto& job : jobs) {
      order[job.order_key].push_back(job.id);
      if (!seen.insert(job.id).second) twice.insert(job.id);
    }
    return std::vector<Outcome>(jobs.size(), done());
  };
  const auto make = [&](int from) {
    std::vector<NewJob> jobs;
    for (int i = from; i < from + 150; ++i) {
      jobs.push_back(job(std::to_string(i), i % 2 ? "batch" : "work"));
      jobs.back().order_key = "key " + std::to_string(i % 10);
    }
    return jobs;
  };
  add_all(make(0));
  start(settings());
  add_all(make(150));
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 300; }));
  EXPECT_EQ(runner_->stop(), 0);
  EXPECT_TRUE(twice.empty());
  EXPECT_EQ(order.size(), 10u);
  for (const auto& [key, ids] : order) EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end())) << key;
}

TEST_P(RunnerTest, BatchesAreOfOneLaneAndNoLargerThanTheKindSays) {
  std::atomic<bool> wrong = false;
  std::atomic<std::size_t> largest = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token) {
    std::size_t before = largest;
    while (before < jobs.size() && !largest.compare_exchange_weak(before, jobs.size())) {
    }
    for (const auto& job : jobs)
      if (job.kind != jobs.front().kind || job.flow != jobs.front().flow) wrong = true;
    return std::vector<Outcome>(jobs.size(), done());
  };
  std::vector<NewJob> jobs;
  for (int i = 0; i < 200; ++i) {
    jobs.push_back(job("{}", "batch"));
    if (i % 2) jobs.back().flow = "other";
  }
  add_all(jobs);
  start(settings());
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 200; }));
  EXPECT_FALSE(wrong);
  EXPECT_EQ(largest, 10u);
}

TEST_P(RunnerTest, AConnectionGetsNoMoreThanItsLimit) {
  std::atomic<int> now = 0, most = 0, others = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    if (jobs.front().connection_id == 5) {
      const int running = ++now;
      int before = most;
      while (before < running && !most.compare_exchange_weak(before, running)) {
      }
      clock_.wait(milliseconds(1), stop);
      --now;
    } else {
      ++others;
    }
    return std::vector<Outcome>(jobs.size(), done());
  };
  std::vector<NewJob> jobs(80, job());
  for (std::size_t i = 0; i < 70; ++i) jobs[i].connection_id = 5;
  add_all(jobs);
  auto given = settings();
  given.threads = 8;
  given.per_connection_max = 2;
  start(given);
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 80; }));
  EXPECT_LE(most, 2);
  EXPECT_EQ(others, 10);
}

TEST_P(RunnerTest, RemotesThatHangHoldNoThreadsOfOtherConnections) {
  std::atomic<int> lived = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token) {
    if (jobs.front().connection_id <= 3)
      wait_at_the_gate();
    else
      ++lived;
    return std::vector<Outcome>(jobs.size(), done());
  };
  auto given = settings();
  given.threads = 4;
  start(given);
  // Three that hang, and one of them could take every thread.
  std::vector<NewJob> jobs(900, job("{}", "batch"));
  for (std::size_t i = 0; i < jobs.size(); ++i) jobs[i].connection_id = static_cast<std::int64_t>(i % 3) + 1;
  add_all(jobs);
  ASSERT_TRUE(eventually([&] { return at_the_gate_ >= 4; }));
  for (int round = 1; round <= 5; ++round) {
    std::vector<NewJob> live(8, job());
    for (std::size_t i = 0; i < live.size(); ++i) live[i].connection_id = 4 + static_cast<std::int64_t>(i % 4);
    add_all(live);
    ASSERT_TRUE(eventually([&] { return lived == 8 * round; })) << "round " << round << ", " << lived;
  }
  // Each of the three has its limit at most, or the two that everybody has.
  EXPECT_LE(at_the_gate_, 4 + 2 * 2);
  open_the_gate();
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 900 + 40; }));
}

TEST_P(RunnerTest, WhatAHandlerThrowsIsTheOutcomeOfAllItsJobs) {
  handler_.work = [&](std::span<const Job> jobs, std::stop_token) -> std::vector<Outcome> {
    if (jobs.front().payload == "error") throw Error(Error::Kind::invalid, "no good");
    if (jobs.front().payload == "exception") throw std::runtime_error("oops");
    return {};
  };
  const auto ids = add_all({job("error"), job("exception"), job("nothing")});
  start(settings());
  ASSERT_TRUE(eventually([&] { return board_->counts().dead == 3; }));
  EXPECT_EQ(board_->show(ids[0].id).error_message, "no good");
  EXPECT_EQ(board_->show(ids[1].id).error_kind, "bug");
  EXPECT_EQ(board_->show(ids[1].id).error_message.find("oops"), std::string::npos) << "details are for the log";
  EXPECT_NE(board_->show(ids[2].id).error_message.find("0 outcomes for 1 jobs"), std::string::npos);
}

TEST_P(RunnerTest, AnOldPayloadIsUpgradedAndANewerProgramsIsLeft) {
  std::atomic<int> read = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token) {
    for (const auto& job : jobs)
      if (job.payload == "v2 of old" && job.payload_version == 2) ++read;
    return std::vector<Outcome>(jobs.size(), done());
  };
  const Kinds kinds({{.name = "work",
                      .handler = &handler_,
                      .payload_version = 2,
                      .upgrade = [](const std::string& payload, int version) {
                        if (payload == "bad") throw Error(Error::Kind::invalid, "it can't be read any more");
                        EXPECT_EQ(version, 1);
                        return "v2 of " + payload;
                      }}});
  auto newer = job("new");
  newer.payload_version = 3;
  const auto ids = add_all({job("old"), job("bad"), newer});
  Runner runner(*store_, kinds, clock_, random_, settings());
  runner.start();
  ASSERT_TRUE(eventually([&] {
    return state(ids[0].id) == State::completed && state(ids[1].id) == State::discarded &&
           state(ids[2].id) == State::scheduled;
  }));
  EXPECT_EQ(read, 1);
  EXPECT_EQ(board_->show(ids[1].id).payload, "bad") << "kept as it was";
  EXPECT_EQ(board_->show(ids[2].id).attempt, 0);
}

TEST_P(RunnerTest, StoppingGivesBackWhatHasNotBegunUncounted) {
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    std::mutex mutex;
    std::condition_variable_any asked;
    std::unique_lock lock(mutex);
    ++at_the_gate_;
    asked.wait(lock, stop, [] { return false; });
    return std::vector<Outcome>(jobs.size(), snooze(Micros::zero()));
  };
  std::vector<Enqueued> ids = add_all(std::vector<NewJob>(30, job()));
  start(settings());
  ASSERT_TRUE(eventually([&] { return at_the_gate_ == 4; }));
  EXPECT_EQ(runner_->stop(), 0);
  const auto counts = board_->counts();
  EXPECT_EQ(counts.waiting, 30);
  for (const auto& one : ids) {
    EXPECT_EQ(board_->show(one.id).attempt, 0);
    EXPECT_TRUE(told(one.id).empty());
  }
  EXPECT_EQ(number("SELECT count(*) FROM node WHERE name = 'hub' AND state = 'stopped'"), 1);
}

TEST_P(RunnerTest, ACancelledJobIsAskedToStopAndThoseBesideItGoOn) {
  std::atomic<int> calls = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    if (++calls > 1) return std::vector<Outcome>(jobs.size(), done());
    std::mutex mutex;
    std::condition_variable_any asked;
    std::unique_lock lock(mutex);
    ++at_the_gate_;
    asked.wait(lock, stop, [] { return false; });
    return std::vector<Outcome>(jobs.size(), snooze(Micros::zero()));
  };
  const auto ids = add_all({job("{}", "batch"), job("{}", "batch"), job("{}", "batch")});
  start(settings());
  ASSERT_TRUE(eventually([&] { return at_the_gate_ == 1; }));
  board_->cancel(ids[1].id, {.who = "Ada"});
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 2; }));
  EXPECT_EQ(state(ids[1].id), State::cancelled);
  EXPECT_EQ(board_->show(ids[0].id).attempt, 1);
}

TEST_P(RunnerTest, AHandlerThatDoesNotComeBackLosesItsJob) {
  const Kinds kinds({{.name = "work", .handler = &handler_, .time_limit = milliseconds(30)}});
  std::atomic<int> calls = 0;
  std::atomic<bool> asked = false;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    if (++calls == 1) {
      const std::stop_callback heard(stop, [&] { asked = true; });
      wait_at_the_gate();
    }
    return std::vector<Outcome>(jobs.size(), done());
  };
  const auto id = add(job()).id;
  auto given = settings();
  given.threads = 1;
  given.stuck_grace = milliseconds(30);
  given.stuck_max = 0;
  Runner runner(*store_, kinds, clock_, random_, given);
  runner.start();
  ASSERT_TRUE(eventually([&] { return state(id) == State::retryable; }));
  EXPECT_TRUE(eventually([&] { return asked.load(); }));
  EXPECT_EQ(runner.status().stuck, 1);
  EXPECT_NE(runner.status().trouble.find("do not come back"), std::string::npos);
  time_passes();
  store_->write([](store::Session& session) { session.notify(kJobsChannel); });
  ASSERT_TRUE(eventually([&] { return state(id) == State::completed; }));
  EXPECT_EQ(told(id), std::vector<std::string>{"timeout"});
  open_the_gate();
  ASSERT_TRUE(eventually([&] { return runner.status().stuck == 0; }));
  ASSERT_TRUE(eventually([&] { return told(id).size() == 2; }));
  EXPECT_EQ(told(id).back(), "late");
  EXPECT_EQ(board_->counts().done, 1);
}

TEST_P(RunnerTest, ANodeThatWasTakenForDeadGivesUpAndBeginsAnew) {
  std::atomic<int> calls = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    if (++calls == 1) {
      std::mutex mutex;
      std::condition_variable_any asked;
      std::unique_lock lock(mutex);
      asked.wait(lock, stop, [] { return false; });
    }
    return std::vector<Outcome>(
        jobs.size(), done([](store::Session& session) { session.execute("UPDATE feed SET last = last + 1"); }));
  };
  const auto id = add(job()).id;
  start(settings());
  ASSERT_TRUE(eventually([&] { return calls == 1; }));
  const auto before = runner_->node().id();
  // As another node would.
  store_->write([&](store::Session& session) {
    session.execute("UPDATE node SET state = 'dead' WHERE id = $1", {before});
    queue_->rescue(session, before, "node two");
  });
  ASSERT_TRUE(eventually([&] { return state(id) == State::completed; }));
  EXPECT_NE(runner_->node().id(), before);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(runner_->stop(), 0);
  EXPECT_EQ(number("SELECT last FROM feed"), 1) << "the first answer came after the lease was lost";
}

TEST_P(RunnerTest, AClaimWhoseAnswerWasLostIsPutBackAndRuns) {
  CutOffStore cut(*store_);
  // The claim's commit, and not that of a heartbeat just after it.
  cut.lose = [&] {
    char thread[16] = "";
    ::pthread_getname_np(::pthread_self(), thread, sizeof thread);
    return std::string_view(thread) == "job-pump" && number("SELECT count(*) FROM job WHERE state = 2") > 0;
  };
  const auto id = add(job()).id;
  runner_ = std::make_unique<Runner>(cut, kinds_, clock_, random_, settings());
  runner_->start();
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 1; }));
  EXPECT_TRUE(cut.lost);
  EXPECT_EQ(told(id), std::vector<std::string>{"put back"});
  EXPECT_EQ(board_->show(id).attempt, 1);
  runner_.reset();
}

TEST_P(RunnerTest, HandlersHearThatTheLeaseIsOverEvenIfTheHeartbeatHangs) {
  HangingStore hanging(*store_);
  std::atomic<bool> asked = false;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    if (asked) return std::vector<Outcome>(jobs.size(), done());
    std::mutex mutex;
    std::condition_variable_any heard;
    std::unique_lock lock(mutex);
    ++at_the_gate_;
    heard.wait(lock, stop, [] { return false; });
    asked = true;
    return std::vector<Outcome>(jobs.size(), snooze(Micros::zero()));
  };
  const auto id = add(job()).id;
  auto given = settings();
  given.threads = 1;
  given.node.lease = milliseconds(500);
  Runner runner(hanging, kinds_, clock_, random_, given);
  runner.start();
  ASSERT_TRUE(eventually([&] { return at_the_gate_ == 1; }));
  hanging.hang(true);
  ASSERT_TRUE(eventually([&] { return asked.load(); }));
  EXPECT_FALSE(runner.status().fresh);
  EXPECT_NE(runner.status().trouble.find("heartbeat"), std::string::npos);
  hanging.hang(false);
  ASSERT_TRUE(eventually([&] { return state(id) == State::completed; }));
  EXPECT_EQ(runner.status().trouble, "");
  EXPECT_EQ(runner.stop(), 0);
}

TEST_P(RunnerTest, TwoNodesShareTheWork) {
  if (!postgres()) return;  // SQLite has one hub
  std::atomic<int> ran = 0;
  handler_.work = [&](std::span<const Job> jobs, std::stop_token stop) {
    ran += static_cast<int>(jobs.size());
    clock_.wait(milliseconds(1), stop);
    return std::vector<Outcome>(jobs.size(), done());
  };
  const auto other_store = open_again();
  Runner other(*other_store, kinds_, clock_, random_, settings("other"));
  start(settings());
  other.start();
  for (int i = 0; i < 20; ++i) add_all(std::vector<NewJob>(30, job()));
  ASSERT_TRUE(eventually([&] { return board_->counts().done == 600; }));
  EXPECT_EQ(ran, 600);
  EXPECT_EQ(other.status().done + runner_->status().done, 600);
  EXPECT_EQ(other.stop(), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, RunnerTest, testing::Values("Sqlite", "Postgres"), kEngineName);

}  // namespace
}  // namespace dragoman::jobs
