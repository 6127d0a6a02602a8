#include "jobs/board.h"

#include "jobs/breaker.h"
#include "jobs/test_jobs.h"

namespace dragoman::jobs {
namespace {

class BoardTest : public JobsTest {
 protected:
  Error refused(const std::function<void()>& work) { return store::error_of(work); }
};

TEST_P(BoardTest, ADeadLetterIsEditedWithItsDifferenceAndRetriedWithAllItsTries) {
  const auto id = add(job(R"({"lines":[{"qty":0}],"name":"SO1"})")).id;
  end(claim_one(), error(Error::Kind::invalid, "quantity is 0"));
  const Act act{.who = "ann", .why = "typing error"};
  EXPECT_EQ(board_->edit(id, R"({"lines":[{"qty":2}],"note":"x","name":"SO1"})", act),
            "/lines/0/qty: 0 → 2\n/note: added \"x\"");
  board_->retry(id, act);
  const auto claimed = claim_one();
  EXPECT_EQ(claimed.job.attempt, 1);
  EXPECT_EQ(claimed.job.payload, R"({"lines":[{"qty":2}],"note":"x","name":"SO1"})");
  const auto history = board_->history(id);
  ASSERT_EQ(history.size(), 3u);
  EXPECT_EQ(history[1].what, "edited");
  EXPECT_EQ(history[1].who, "ann");
  EXPECT_NE(history[1].message.find("/lines/0/qty: 0 → 2"), std::string::npos);
  EXPECT_EQ(history[2].what, "retried");
}

TEST_P(BoardTest, AnEditIsRefusedWhereTheKindSaysWhatIsWrongWithIt) {
  auto kinds = make_kinds(handler_);
  std::string seen;
  kinds[0].payload_version = 2;
  kinds[0].upgrade = [](const std::string& payload, int) { return "up " + payload; };
  kinds[0].check = [&](const Wanted& wanted) {
    seen = wanted.connector + "|" + *wanted.before + "|" + wanted.payload;
    if (wanted.payload == "up bad") throw Error(Error::Kind::invalid, "It is bad.");
  };
  const Kinds checked(kinds);
  Board board(*store_, checked);
  sql("INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES (5, 'main', 'fake', "
      "'{}', "
      "'active', 0, 0)");
  auto one = job("old");
  one.connection_id = 5;
  const auto id = add(one).id;
  EXPECT_EQ(refused([&] { board.edit(id, "bad", {.who = "ann"}); }).message, "It is bad.");
  EXPECT_EQ(seen, "fake|up old|up bad");
  EXPECT_EQ(board.show(id).payload, "old");
  EXPECT_TRUE(board.history(id).empty());
  board.edit(id, "good", {.who = "ann"});
  EXPECT_EQ(board.show(id).payload, "good");
}

TEST_P(BoardTest, WhatWasJsonStaysJson) {
  const auto id = add(job()).id, other = add(job("plain")).id;
  EXPECT_EQ(refused([&] { board_->edit(id, R"({"qty":)", {.who = "ann"}); }).code, "payload");
  board_->edit(other, "words", {.who = "ann"});
  EXPECT_EQ(board_->show(id).payload, "{}");
}

TEST_P(BoardTest, AJobThatWentWellInTheEndShowsNoErrorAndItsHistoryDoes) {
  const auto id = add(job()).id;
  end(claim_one(), error(Error::Kind::in_doubt, "no answer came"));
  EXPECT_EQ(board_->show(id).error_message, "no answer came");
  time_passes();
  end(claim_one(), done());
  const auto view = board_->show(id);
  EXPECT_EQ(view.error_message + view.error_code + view.error_kind, "");
  EXPECT_EQ(board_->list({}).at(0).error_message, "");
  EXPECT_EQ(board_->history(id).at(0).message, "no answer came");
}

TEST_P(BoardTest, ASecondPauseKeepsTheReasonOfTheFirst) {
  add(job());
  const auto closed = [&] { return board_->lanes().at(0).closed; };
  board_->pause("flow", "flow", {.who = "ann", .why = "stocktaking"});
  board_->pause("flow", "flow", {.who = "bob"});
  board_->pause("flow", "flow", {.who = "ann", .why = "stocktaking"});
  EXPECT_EQ(closed(), "flow paused by ann: stocktaking");
  board_->pause("flow", "flow", {.who = "bob", .why = "new prices"});
  EXPECT_EQ(closed(), "flow paused by ann: stocktaking; bob: new prices");
  board_->resume("flow", "flow");
  EXPECT_EQ(closed(), "");
}

TEST_P(BoardTest, WhatAStateDoesNotAllowIsRefusedWithWhatDoes) {
  const auto id = add(job()).id;
  EXPECT_EQ(refused([&] { board_->discard(id, {.who = "ann"}); }).code, "job_state");
  const auto claimed = claim_one();
  for (const auto& work : std::vector<std::function<void()>>{[&] { board_->retry(id, {.who = "ann"}); },
                                                             [&] { board_->edit(id, "{}", {.who = "ann"}); }}) {
    const auto error = refused(work);
    EXPECT_EQ(error.kind, Error::Kind::conflict);
    EXPECT_NE(error.message.find("running"), std::string::npos);
  }
  end(claimed, done());
  EXPECT_EQ(refused([&] { board_->retry(id, {.who = "ann"}); }).kind, Error::Kind::conflict);
  EXPECT_EQ(refused([&] { board_->cancel(id, {.who = "ann"}); }).kind, Error::Kind::conflict);
  EXPECT_EQ(refused([&] { board_->show(12345678); }).kind, Error::Kind::not_found);
}

TEST_P(BoardTest, CancellingTheFirstOfAKeyLetsTheNextGo) {
  auto one = job("1"), two = job("2"), three = job("3");
  one.order_key = two.order_key = three.order_key = "k";
  const auto ids = add_all({one, two, three});
  board_->cancel(ids[1].id, {.who = "ann"});
  EXPECT_EQ(payloads(claim(1)), std::vector<std::string>{"1"});
  const auto explained = board_->explain(ids[2].id);
  EXPECT_NE(explained.find("order key `k`"), std::string::npos) << explained;
  EXPECT_NE(explained.find("which is running"), std::string::npos) << explained;
}

TEST_P(BoardTest, ARetriedJobThatWaitsForItsTimeRunsNow) {
  auto later = job();
  later.run_at = clock_.now() + std::chrono::hours(1);
  const auto id = add(later).id;
  EXPECT_TRUE(claim().empty());
  board_->retry(id, {.who = "ann"});
  EXPECT_EQ(claim().size(), 1u);
}

TEST_P(BoardTest, DeadLettersAreGroupedAndRetriedOrDiscardedAllAtOnce) {
  std::vector<NewJob> jobs;
  for (int i = 0; i < 1203; ++i) {
    jobs.push_back(job(std::to_string(i), i % 100 == 0 ? "loose" : "batch"));
    jobs.back().order_key = "k" + std::to_string(i);
    if (i % 7 == 0) jobs.back().unique_key = "u" + std::to_string(i);
  }
  add_all(jobs);
  std::vector<Finished> finished;
  for (const auto& one : claim(5000))
    finished.push_back({one, error(Error::Kind::invalid, "order " + one.job.payload + " has no lines", "lines")});
  ASSERT_EQ(finished.size(), 1203u);
  for (auto& one : finished)
    if (one.claimed.job.payload == "5") one.outcome = error(Error::Kind::invalid, "something else");
  queue_->finish(finished);

  auto groups = board_->groups();
  ASSERT_EQ(groups.size(), 3u) << "two kinds, and something else";
  EXPECT_EQ(groups[0].jobs, 1203 - 13 - 1);
  EXPECT_EQ(groups[0].kind, "batch");
  EXPECT_NE(groups[0].message.find("has no lines"), std::string::npos);
  int steps = 0;
  EXPECT_EQ(board_->retry_group(groups[0].fingerprint, {.who = "ann"}, [&] { return ++steps < 100; }), groups[0].jobs);
  EXPECT_GE(steps, 3) << "in many small commits";
  EXPECT_EQ(claim(5000).size(), static_cast<std::size_t>(groups[0].jobs));
  EXPECT_EQ(groups[1].kind, "loose");
  EXPECT_EQ(board_->retry_group(groups[1].fingerprint, {.who = "ann"}), 13);
  EXPECT_EQ(claim(5000).size(), 13u);
  EXPECT_EQ(board_->discard_group(groups[2].fingerprint, {.who = "ann"}), 1);
  EXPECT_TRUE(board_->groups().empty());
  EXPECT_EQ(refused([&] { board_->discard_group("0123456789abcdef", {.who = "ann"}); }).kind, Error::Kind::not_found);
  const auto counts = board_->counts();
  EXPECT_EQ(counts.cancelled, 1);
  EXPECT_EQ(counts.accepted(), 1203);
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), 1202);
}

TEST_P(BoardTest, JobsAreListedByWhatIsAskedFor) {
  auto other = job("x", "batch");
  other.flow = "other";
  other.connection_id = 5;
  const auto ids = add_all({job("a"), job("b"), other});
  claim(1);
  const auto list = [&](JobFilter filter) {
    std::vector<std::int64_t> out;
    for (const auto& view : board_->list(filter)) out.push_back(view.id);
    return out;
  };
  EXPECT_EQ(list({}), (std::vector{ids[2].id, ids[1].id, ids[0].id}));
  EXPECT_EQ(list({.limit = 1}), std::vector{ids[2].id});
  EXPECT_EQ(list({.before = ids[2].id, .limit = 1}), std::vector{ids[1].id});
  EXPECT_EQ(list({.kind = "batch"}), std::vector{ids[2].id});
  EXPECT_EQ(list({.flow = "other"}), std::vector{ids[2].id});
  EXPECT_EQ(list({.connection_id = 5}), std::vector{ids[2].id});
  EXPECT_EQ(list({.state = "running"}).size(), 1u);
  EXPECT_EQ(list({.state = "waiting"}).size(), 2u);
  EXPECT_EQ(list({.state = "discarded"}).size(), 0u);
}

TEST_P(BoardTest, TheJobsOfARemovedConnectionEndAndOthersDoNot) {
  auto gone = job();
  gone.connection_id = 5;
  auto keyed = gone, later = gone;
  keyed.order_key = "k";
  later.run_at = clock_.now() + std::chrono::hours(1);
  const auto ids = add_all({gone, keyed, keyed, later, job("stays")});
  const auto claimed = claim(2);
  board_->pause("connection", "5", {.who = "ann"});
  EXPECT_GE(board_->connection_is_gone(5, {.who = "ann", .why = "its connection was removed"}), 2);
  const auto counts = board_->counts();
  EXPECT_EQ(counts.running + counts.waiting + counts.cancelled, 5);
  EXPECT_NE(state(ids[4].id), State::cancelled);
  EXPECT_EQ(told(ids[3].id), std::vector<std::string>{"cancelled"});
  EXPECT_EQ(number("SELECT count(*) FROM job_pause"), 0);
  for (const auto& one : claimed) end(one, done());
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), 0);
}

TEST_P(BoardTest, LanesShowWhatWaitsAndWhyTheyAreClosed) {
  auto remote = job();
  remote.connection_id = 5;
  auto behind = remote, later = remote;
  remote.order_key = behind.order_key = "k";
  later.run_at = clock_.now() + std::chrono::hours(1);
  add_all({remote, behind, later, job()});
  board_->pause("connection", "5", {.who = "ann", .why = "moving"});
  const auto lanes = board_->lanes();
  ASSERT_EQ(lanes.size(), 2u);
  const auto& lane = lanes[1];
  EXPECT_EQ(lane.connection, "#5");
  EXPECT_EQ(lane.ready, 1);
  EXPECT_EQ(lane.behind, 1);
  EXPECT_EQ(lane.later, 1);
  EXPECT_EQ(lane.closed, "connection paused by ann: moving");
  EXPECT_EQ(lanes[0].closed, "");
  // A pause of what no job belongs to yet is shown as well.
  board_->pause("flow", "inbxo", {.who = "ann"});
  const auto with_idle = board_->lanes();
  ASSERT_EQ(with_idle.size(), 3u);
  EXPECT_EQ(std::count_if(with_idle.begin(), with_idle.end(),
                          [](const auto& one) { return one.flow == "inbxo" && one.closed == "flow paused by ann"; }),
            1);
}

TEST_P(BoardTest, ExplainsWhereEveryJobIs) {
  const auto id = add(job()).id;
  EXPECT_NE(board_->explain(id).find("next of its lane"), std::string::npos);
  const auto claimed = claim_one();
  EXPECT_NE(board_->explain(id).find("runs on node one"), std::string::npos);
  end(claimed, error(Error::Kind::invalid, "no lines."));
  EXPECT_NE(board_->explain(id).find("a dead letter since"), std::string::npos);
  EXPECT_NE(board_->explain(id).find("no lines. It waits for a person"), std::string::npos);
  board_->retry(id, {.who = "ann"});
  end(claim_one(), done());
  EXPECT_NE(board_->explain(id).find("was done at"), std::string::npos);
  sql("UPDATE node SET state = 'dead'");
  EXPECT_NE(board_->explain(add(job()).id).find("no hub runs"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Engines, BoardTest, testing::Values("Sqlite", "Postgres"), kEngineName);

TEST(PayloadDifference, IsForPeople) {
  EXPECT_EQ(payload_difference("{}", "{}"), "nothing changed");
  EXPECT_EQ(payload_difference("{\"a\":1}", "{ \"a\": 1 }"), "the same values, written another way");
  EXPECT_EQ(payload_difference("{\"a\":1,\"b\":2}", "{\"a\":1}"), "/b: removed 2");
  EXPECT_EQ(payload_difference("abc", "{}"), "3 bytes replaced by 2 others");
}

}  // namespace
}  // namespace dragoman::jobs
