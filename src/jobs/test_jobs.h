#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "jobs/board.h"
#include "jobs/node.h"
#include "jobs/queue.h"
#include "store/test_store.h"

namespace dragoman::jobs {

/// Answers what the test says.
class FakeHandler final : public Handler {
 public:
  std::vector<Outcome> run(std::span<const Job> jobs, std::stop_token stop) override { return work(jobs, stop); }
  std::function<std::vector<Outcome>(std::span<const Job>, std::stop_token)> work =
      [](std::span<const Job> jobs, std::stop_token) { return std::vector<Outcome>(jobs.size(), done()); };
};

/// A queue on an engine, with one registered node `one` and three kinds: `work`, `batch` (up to 10 at once) and
/// `loose`, whose dead letters let their order key go.
class JobsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam()) == "Sqlite") {
      url_ = "sqlite:" + (folder_ / "hub.db");
    } else {
      store::skip_without_server();
      if (IsSkipped() || HasFatalFailure()) return;
      if (!shared_) shared_ = std::make_unique<store::PostgresDatabase>(store::test_server());
      schema_ = std::make_unique<store::PostgresSchema>(*shared_);
      url_ = schema_->url();
    }
    store_ = open_again();
    queue_ = std::make_unique<Queue>(*store_, kinds_, random_, "one");
    node_ = std::make_unique<Node>(*queue_, clock_, NodeSettings{.name = "one"});
    board_ = std::make_unique<Board>(*store_, kinds_);
    node_->start();
  }
  void TearDown() override {
    node_.reset();
    queue_.reset();
    store_.reset();
  }
  static void TearDownTestSuite() { shared_.reset(); }

  bool postgres() const { return std::string_view(GetParam()) == "Postgres"; }
  /// As another process would.
  std::unique_ptr<store::Store> open_again() { return store::open({.url = url_, .readers = 8}, clock_); }

  static std::vector<Kind> make_kinds(Handler& handler) {
    return {{.name = "work", .summary = "does", .handler = &handler, .attempts_max = 3},
            {.name = "batch", .summary = "does many", .handler = &handler, .batch_max = 10},
            {.name = "loose", .summary = "lets go", .handler = &handler, .attempts_max = 1, .dead_parks = false}};
  }

  static NewJob job(std::string payload = "{}", std::string kind = "work") {
    return {.kind = std::move(kind), .flow = "flow", .payload = std::move(payload), .cause = "test"};
  }
  Enqueued add(const NewJob& one) {
    Enqueued answer;
    store_->write([&](store::Session& session) { answer = enqueue(session, one); });
    return answer;
  }
  std::vector<Enqueued> add_all(const std::vector<NewJob>& jobs) {
    std::vector<Enqueued> answers;
    store_->write([&](store::Session& session) { answers = enqueue(session, jobs); });
    return answers;
  }
  std::vector<Claimed> claim(int most = 100) {
    return queue_->claim(node_->id(), {.jobs_max = most, .idle = true}).jobs;
  }
  /// As the runner does before it calls a handler.
  std::set<std::int64_t> begin(const std::vector<Claimed>& claimed) { return Queue::begin(*store_, claimed); }
  /// The one job that can be claimed.
  Claimed claim_one() {
    auto claimed = claim();
    EXPECT_EQ(claimed.size(), 1u);
    return claimed.empty() ? Claimed{} : claimed.front();
  }
  Ending end(const Claimed& claimed, Outcome outcome) {
    std::vector<Finished> finished{{claimed, std::move(outcome)}};
    return queue_->finish(finished).front();
  }
  static Outcome error(Error::Kind kind, std::string message = "it failed", std::string code = "code") {
    Error one(kind, std::move(message));
    one.code = std::move(code);
    return failed(one);
  }
  std::vector<std::string> payloads(const std::vector<Claimed>& claimed) {
    std::vector<std::string> out;
    for (const auto& one : claimed) out.push_back(one.job.payload);
    return out;
  }
  void sql(const std::string& text) {
    store_->write([&](store::Session& session) { session.execute(text); });
  }
  std::int64_t number(const std::string& text) {
    std::int64_t value = -1;
    store_->read([&](store::Session& session) {
      session.first(text, {}, [&](const store::Row& row) { value = row.int64(0); });
    });
    return value;
  }
  /// Time passes, until what is scheduled or retried is due and open breakers let a probe through.
  void time_passes() {
    sql("UPDATE job SET run_at_us = 0 WHERE state IN (1, 3)");
    sql("UPDATE breaker SET until_us = 0");
    sql("UPDATE job_lane_wait SET until_us = 0");
  }
  State state(std::int64_t id) { return board_->show(id).state; }
  std::vector<std::string> told(std::int64_t id) {
    std::vector<std::string> out;
    for (const auto& line : board_->history(id)) out.push_back(line.what);
    return out;
  }

  inline static std::unique_ptr<store::PostgresDatabase> shared_;
  store::TemporaryFolder folder_;
  SystemClock clock_;
  SystemRandom random_;
  FakeHandler handler_;
  const Kinds kinds_{make_kinds(handler_)};
  std::unique_ptr<store::PostgresSchema> schema_;
  std::string url_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<Queue> queue_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<Board> board_;
};

inline const auto kEngineName = [](const auto& info) { return std::string(info.param); };

}  // namespace dragoman::jobs
