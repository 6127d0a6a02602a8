// What the queue does, on both engines.
#include "jobs/queue.h"

#include <thread>

#include "jobs/breaker.h"
#include "jobs/test_jobs.h"

namespace dragoman::jobs {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using Strings = std::vector<std::string>;

class QueueTest : public JobsTest {};

TEST_P(QueueTest, AClaimNobodyHeardOfIsPutBackAlsoWhereAnEarlierAttemptIsStillInHand) {
  const auto id = add(job()).id;
  const auto earlier = claim_one();
  EXPECT_EQ(queue_->put_back_unknown(node_->id(), {{id, earlier.job.fence}}), 0);
  // One call ends that attempt and claims the job again; its answer is lost.
  EXPECT_EQ(end(earlier, snooze(Micros(0))), Ending::recorded);
  EXPECT_GT(claim_one().job.fence, earlier.job.fence);
  EXPECT_EQ(queue_->put_back_unknown(node_->id(), {{id, earlier.job.fence}}), 1);
  EXPECT_EQ(state(id), State::available);
  EXPECT_EQ(claim_one().job.attempt, 1);
}

TEST_P(QueueTest, AJobIsEnqueuedClaimedAndDoneOnce) {
  const std::string payload("any\0 bytes \xff", 12);
  const auto id = add({.kind = "work", .flow = "inbox", .payload = payload, .cause = "inbox 7"}).id;
  const auto claimed = claim_one();
  EXPECT_EQ(claimed.job.payload, payload);
  EXPECT_EQ(claimed.job.id, id);
  EXPECT_EQ(claimed.job.kind, "work");
  EXPECT_EQ(claimed.job.flow, "inbox");
  EXPECT_EQ(claimed.job.cause, "inbox 7");
  EXPECT_EQ(claimed.job.attempt, 1);
  EXPECT_EQ(claimed.job.attempts_max, 3);
  EXPECT_FALSE(claimed.job.in_doubt);
  EXPECT_EQ(state(id), State::running);
  EXPECT_TRUE(claim().empty());
  EXPECT_EQ(end(claimed, done({}, "{\"a\":1}")), Ending::recorded);
  EXPECT_EQ(state(id), State::completed);
  EXPECT_EQ(board_->show(id).result, "{\"a\":1}");
  EXPECT_TRUE(told(id).empty()) << "the happy path leaves no history";
  EXPECT_TRUE(claim().empty());
}

TEST_P(QueueTest, WhatIsEnqueuedInATransactionThatFailsIsNot) {
  EXPECT_THROW(store_->write([&](store::Session& session) {
    enqueue(session, job());
    throw std::runtime_error("changed our mind");
  }),
               std::runtime_error);
  EXPECT_TRUE(claim().empty());
  EXPECT_EQ(board_->counts().accepted(), 0);
}

TEST_P(QueueTest, ManyAtOnceGetTheirNumbersInOrder) {
  std::vector<NewJob> jobs;
  for (int i = 0; i < 250; ++i) jobs.push_back(job(std::to_string(i)));
  const auto answers = add_all(jobs);
  for (std::size_t i = 1; i < answers.size(); ++i) EXPECT_GT(answers[i].id, answers[i - 1].id);
  const auto claimed = claim(1000);
  ASSERT_EQ(claimed.size(), 250u);
  for (std::size_t i = 0; i < claimed.size(); ++i) EXPECT_EQ(claimed[i].job.payload, std::to_string(i));
}

TEST_P(QueueTest, UrgentJobsGoFirstThenTheOldest) {
  auto low = job("low"), normal = job("normal"), urgent = job("urgent"), normal2 = job("normal2");
  low.priority = Priority::low;
  urgent.priority = Priority::urgent;
  add_all({low, normal, urgent, normal2});
  EXPECT_EQ(payloads(claim(3)), (Strings{"urgent", "normal", "normal2"}));
  EXPECT_EQ(payloads(claim()), Strings{"low"});
}

TEST_P(QueueTest, TheMostUrgentLaneGoesFirst) {
  auto urgent = job("urgent", "batch");
  urgent.priority = Priority::urgent;
  add_all({job("a"), job("b"), urgent});
  EXPECT_EQ(payloads(claim(1)), Strings{"urgent"});
}

TEST_P(QueueTest, AScheduledJobWaitsForItsTime) {
  auto later = job("later");
  later.run_at = clock_.now() + hours(1);
  const auto id = add(later).id;
  auto claims = queue_->claim(node_->id(), {});
  EXPECT_TRUE(claims.jobs.empty());
  ASSERT_TRUE(claims.next.has_value());
  EXPECT_GT(*claims.next, Micros(std::chrono::minutes(59)));
  EXPECT_NE(board_->explain(id).find("due at"), std::string::npos);
  time_passes();
  EXPECT_EQ(payloads(claim()), Strings{"later"});
}

TEST_P(QueueTest, JobsOfOneOrderKeyRunOneAtATimeAndInOrder) {
  auto a1 = job("a1"), a2 = job("a2"), a3 = job("a3"), b1 = job("b1");
  a1.order_key = a2.order_key = a3.order_key = "order \"a\", {x}\\";
  b1.order_key = "b";
  add_all({a1, a2, b1});
  add(a3);
  auto first = claim();
  EXPECT_EQ(payloads(first), (Strings{"a1", "b1"}));
  EXPECT_TRUE(claim().empty());
  // The next waits while the first is retried.
  end(first[0], error(Error::Kind::in_doubt));
  EXPECT_TRUE(claim().empty());
  time_passes();
  const auto again = claim_one();
  EXPECT_EQ(again.job.payload, "a1");
  end(again, done());
  end(first[1], done());
  const auto second = claim_one();
  EXPECT_EQ(second.job.payload, "a2");
  end(second, cancel("not wanted"));
  const auto third = claim_one();
  EXPECT_EQ(third.job.payload, "a3");
  end(third, done());
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), 0);
}

TEST_P(QueueTest, ABatchOfManyKeysLetsAllTheNextOnesGo) {
  std::vector<NewJob> jobs;
  for (int i = 0; i < 60; ++i) {
    jobs.push_back(job(std::to_string(i), "batch"));
    jobs.back().order_key = "key " + std::to_string(i % 20);
  }
  add_all(jobs);
  for (int round = 0; round < 3; ++round) {
    auto claimed = claim(1000);
    ASSERT_EQ(claimed.size(), 20u) << round;
    std::vector<Finished> finished;
    for (const auto& one : claimed) finished.push_back({one, done()});
    for (const auto ending : queue_->finish(finished)) EXPECT_EQ(ending, Ending::recorded);
  }
  EXPECT_TRUE(claim().empty());
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), 0);
}

TEST_P(QueueTest, ADeadLetterParksOnlyItsOwnKey) {
  auto a1 = job("a1"), a2 = job("a2"), b1 = job("b1");
  a1.order_key = a2.order_key = "a";
  b1.order_key = "b";
  const auto ids = add_all({a1, a2, b1});
  auto claimed = claim();
  end(claimed[0], error(Error::Kind::invalid, "order 12 has no lines"));
  EXPECT_EQ(state(ids[0].id), State::discarded);
  EXPECT_TRUE(claim().empty());
  EXPECT_NE(board_->explain(ids[1].id).find("dead letter"), std::string::npos);
  board_->discard(ids[0].id, {.who = "test"});
  EXPECT_EQ(payloads(claim()), Strings{"a2"});
}

TEST_P(QueueTest, ADeadLetterOfAKindThatDoesNotParkLetsTheNextGo) {
  auto a1 = job("a1", "loose"), a2 = job("a2", "loose");
  a1.order_key = a2.order_key = "a";
  const auto ids = add_all({a1, a2});
  end(claim_one(), error(Error::Kind::bug));
  EXPECT_EQ(payloads(claim()), Strings{"a2"});
  // Retried, it stands behind the one that runs.
  board_->retry(ids[0].id, {.who = "test"});
  EXPECT_TRUE(claim().empty());
}

TEST_P(QueueTest, AUniqueJobThatWaitsTakesTheOthersIn) {
  auto one = job("first");
  one.unique_key = "partner 7";
  const auto first = add(one);
  auto two = one;
  two.cause = "change 2";
  two.priority = Priority::high;
  const auto second = add(two);
  EXPECT_FALSE(first.folded);
  EXPECT_TRUE(second.folded);
  EXPECT_EQ(second.id, first.id);
  EXPECT_EQ(board_->show(first.id).folded, 1);
  EXPECT_EQ(board_->show(first.id).priority, Priority::high);
  const auto history = board_->history(first.id);
  ASSERT_EQ(history.size(), 1u);
  EXPECT_EQ(history[0].what, "folded");
  EXPECT_EQ(history[0].message, "change 2");
  // One that runs may have read an older state: the next is a job of its own.
  const auto claimed = claim_one();
  const auto third = add(one);
  EXPECT_FALSE(third.folded);
  // Back to waiting, there are two of them; both are done.
  end(claimed, snooze(Micros::zero()));
  EXPECT_EQ(claim().size(), 2u);
}

TEST_P(QueueTest, AUniqueJobCanTakeTheNewestPayload) {
  auto one = job("old");
  one.unique_key = "partner 7";
  one.fold = Fold::replace;
  const auto id = add(one).id;
  one.payload = "new";
  EXPECT_EQ(add(one).id, id);
  const auto both = add_all({one, one});
  EXPECT_TRUE(both[0].folded && both[1].folded);
  EXPECT_EQ(claim_one().job.payload, "new");
}

TEST_P(QueueTest, TwinsInOneCallBecomeOneJob) {
  auto one = job("one");
  one.unique_key = "k";
  const auto answers = add_all({one, one, job("other"), one});
  EXPECT_FALSE(answers[0].folded);
  EXPECT_TRUE(answers[1].folded && answers[3].folded);
  EXPECT_EQ(answers[3].id, answers[0].id);
  EXPECT_EQ(claim().size(), 2u);
  EXPECT_EQ(board_->show(answers[0].id).folded, 2);
}

TEST_P(QueueTest, UniqueUntilFinishedRunsAgainIfItsPayloadWasReplacedMeanwhile) {
  auto one = job("old");
  one.unique_key = "stock";
  one.unique = Unique::unfinished;
  one.fold = Fold::replace;
  const auto id = add(one).id;
  const auto claimed = claim_one();
  one.payload = "new";
  EXPECT_EQ(add(one).id, id);
  int effects = 0;
  EXPECT_EQ(end(claimed, done([&](store::Session&) { ++effects; })), Ending::recorded);
  EXPECT_EQ(effects, 1);
  EXPECT_EQ(state(id), State::available);
  const auto again = claim_one();
  EXPECT_EQ(again.job.payload, "new");
  EXPECT_EQ(again.job.attempt, 1);
  end(again, done());
  EXPECT_EQ(state(id), State::completed);
  EXPECT_FALSE(add(one).folded);
}

TEST_P(QueueTest, AFailedAttemptIsRetriedUntilItsTriesAreUsedUp) {
  const auto id = add(job()).id;
  for (int attempt = 1; attempt <= 3; ++attempt) {
    const auto claimed = claim_one();
    EXPECT_EQ(claimed.job.attempt, attempt);
    EXPECT_EQ(claimed.job.in_doubt, attempt > 1);
    end(claimed, error(Error::Kind::in_doubt, "no answer"));
    EXPECT_EQ(state(id), attempt < 3 ? State::retryable : State::discarded);
    const auto why = board_->explain(id);
    EXPECT_EQ(why.find("attempt 2 of 3") != std::string::npos, attempt == 1) << why;
    time_passes();
  }
  EXPECT_EQ(state(id), State::discarded);
  EXPECT_EQ(told(id), (Strings{"retry", "retry", "dead"}));
  EXPECT_EQ(board_->show(id).error_message, "no answer");
}

TEST_P(QueueTest, RetryAfterIsHonoured) {
  const auto id = add(job()).id;
  auto outcome = error(Error::Kind::in_doubt);
  outcome.delay = hours(5);
  end(claim_one(), outcome);
  EXPECT_GT(board_->show(id).run_at, clock_.now() + hours(4));
}

TEST_P(QueueTest, SnoozeAndOutageCostNoTry) {
  const auto id = add(job()).id;
  for (int i = 0; i < 5; ++i) {
    const auto claimed = claim_one();
    EXPECT_EQ(claimed.job.attempt, 1);
    end(claimed, i % 2 ? snooze(seconds(30)) : error(Error::Kind::unavailable));
    EXPECT_TRUE(claim().empty());
    time_passes();
  }
  EXPECT_EQ(claim_one().job.attempt, 1);
  EXPECT_EQ(state(id), State::running);
}

TEST_P(QueueTest, AnAnswerAfterTheLeaseWasLostIsRefusedWithItsEffects) {
  const auto id = add(job()).id;
  const auto claimed = claim_one();
  store_->write([&](store::Session& session) { EXPECT_EQ(queue_->rescue(session, node_->id(), "test"), 1); });
  int effects = 0;
  EXPECT_EQ(end(claimed, done([&](store::Session&) { ++effects; })), Ending::refused);
  const auto again = claim_one();
  EXPECT_TRUE(again.job.in_doubt);
  EXPECT_EQ(again.job.attempt, 1);
  EXPECT_EQ(again.job.interruptions, 1);
  EXPECT_GT(again.job.fence, claimed.job.fence);
  EXPECT_EQ(end(claimed, done([&](store::Session&) { ++effects; })), Ending::refused);
  EXPECT_EQ(effects, 0);
  EXPECT_EQ(end(again, done([&](store::Session&) { ++effects; })), Ending::recorded);
  EXPECT_EQ(effects, 1);
  EXPECT_EQ(told(id), (Strings{"interrupted", "late", "late"}));
}

TEST_P(QueueTest, ACompletionThatIsRepeatedWritesItsEffectsOnce) {
  add(job());
  const auto claimed = claim_one();
  int effects = 0;
  const auto outcome = done([&](store::Session&) { ++effects; });
  EXPECT_EQ(end(claimed, outcome), Ending::recorded);
  EXPECT_EQ(end(claimed, outcome), Ending::repeated);
  EXPECT_EQ(effects, 1);
}

TEST_P(QueueTest, OneFailingEffectDoesNotSinkTheOthers) {
  add_all({job("a"), job("b"), job("c")});
  std::vector<Finished> finished;
  for (const auto& one : claim())
    finished.push_back(
        {one, done([](store::Session& session) { session.execute("UPDATE feed SET last = last + 1"); })});
  finished[1].outcome.commit = [](store::Session& session) {
    session.execute("UPDATE feed SET last = last + 100");
    throw Error(Error::Kind::conflict, "two orders have one number");
  };
  const auto endings = queue_->finish(finished);
  EXPECT_EQ(endings, (std::vector<Ending>{Ending::recorded, Ending::recorded, Ending::recorded}));
  EXPECT_EQ(number("SELECT last FROM feed"), 2);
  EXPECT_EQ(state(finished[0].claimed.job.id), State::completed);
  EXPECT_EQ(state(finished[1].claimed.job.id), State::discarded);
  EXPECT_EQ(board_->show(finished[1].claimed.job.id).error_message, "two orders have one number");
  EXPECT_EQ(state(finished[2].claimed.job.id), State::completed);
}

TEST_P(QueueTest, TurnRecordsAndClaimsInOneCommit) {
  auto a1 = job("a1"), a2 = job("a2");
  a1.order_key = a2.order_key = "a";
  add_all({a1, a2});
  std::vector<Finished> finished{{claim_one(), done()}};
  const auto turn = queue_->turn(finished, node_->id(), {});
  EXPECT_EQ(turn.endings, std::vector<Ending>{Ending::recorded});
  EXPECT_EQ(payloads(turn.claims.jobs), Strings{"a2"});
}

TEST_P(QueueTest, RoomLimitsWhatIsClaimedOfALane) {
  add_all({job("a"), job("b"), job("c"), job("d", "batch")});
  const auto claims =
      queue_->claim(node_->id(), {.room = [](const Lane& lane) { return lane.kind->name == "work" ? 2 : 0; }});
  EXPECT_EQ(payloads(claims.jobs), (Strings{"a", "b"}));
  EXPECT_TRUE(claims.more);
}

TEST_P(QueueTest, KindsThatThisProgramDoesNotKnowAreLeftAlone) {
  const auto id = add(job("x", "of the future")).id;
  EXPECT_TRUE(claim().empty());
  EXPECT_NE(board_->explain(id).find("does not know"), std::string::npos);
}

TEST_P(QueueTest, WhatIsPausedWaitsAndTheRestGoesOn) {
  auto inbox = job("inbox");
  inbox.flow = "inbox";
  auto remote = job("remote");
  remote.connection_id = 5;
  const auto ids = add_all({job("plain"), inbox, remote, job("batch", "batch")});
  EXPECT_EQ(board_->pause("flow", "inbox", {.who = "ann", .why = "stocktaking"}), 1);
  EXPECT_EQ(board_->pause("connection", "5", {.who = "ann"}), 1);
  EXPECT_EQ(board_->pause("kind", "batch", {.who = "ann"}), 1);
  EXPECT_EQ(payloads(claim()), Strings{"plain"});
  const auto why = board_->explain(ids[1].id);
  EXPECT_NE(why.find("ann"), std::string::npos) << why;
  EXPECT_NE(why.find("stocktaking"), std::string::npos) << why;
  EXPECT_TRUE(board_->resume("flow", "inbox"));
  EXPECT_FALSE(board_->resume("flow", "inbox"));
  EXPECT_EQ(payloads(claim()), Strings{"inbox"});
  board_->resume("connection", "5");
  board_->resume("kind", "batch");
  EXPECT_EQ(claim().size(), 2u);
}

TEST_P(QueueTest, TheJobsOfAPausedConnectionWait) {
  sql("INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) "
      "VALUES (5, 'shop', 'fake', '{}', 'paused', 0, 0)");
  auto remote = job();
  remote.connection_id = 5;
  add(remote);
  EXPECT_TRUE(claim().empty());
  sql("UPDATE connection SET state = 'active'");
  EXPECT_EQ(claim().size(), 1u);
}

TEST_P(QueueTest, AnOutageOpensTheBreakerAndOneJobProbes) {
  std::vector<NewJob> jobs;
  for (int i = 0; i < 5; ++i) {
    jobs.push_back(job(std::to_string(i)));
    jobs.back().connection_id = 5;
  }
  const auto ids = add_all(jobs);
  const auto first = claim(2);
  ASSERT_EQ(first.size(), 2u);
  end(first[0], error(Error::Kind::unavailable, "no route"));
  EXPECT_TRUE(claim().empty()) << "open";
  EXPECT_NE(board_->explain(ids[2].id).find("no route"), std::string::npos) << board_->explain(ids[2].id);
  // What was under way when it opened closes nothing.
  end(first[1], done());
  EXPECT_TRUE(claim().empty());

  time_passes();
  auto probe = claim();
  ASSERT_EQ(probe.size(), 1u) << "half open";
  EXPECT_TRUE(probe[0].probe);
  EXPECT_TRUE(claim().empty());
  end(probe[0], error(Error::Kind::unavailable, "no route"));
  EXPECT_TRUE(claim().empty());
  store_->read([&](store::Session& session) {
    const auto status = breaker::status(session, 5);
    ASSERT_TRUE(status.has_value());
    EXPECT_EQ(status->state, breaker::State::open);
    EXPECT_EQ(status->failures, 2);
  });

  time_passes();
  probe = claim();
  ASSERT_EQ(probe.size(), 1u);
  // An answer about the job is an answer.
  end(probe[0], error(Error::Kind::invalid));
  EXPECT_EQ(claim().size(), 3u);
}

TEST_P(QueueTest, WhatAJobLacksHoldsItsLaneAloneUntilOneGetsThrough) {
  std::vector<NewJob> jobs;
  for (int i = 0; i < 4; ++i) {
    jobs.push_back(job(std::to_string(i)));
    jobs.back().connection_id = 5;
  }
  const auto ids = add_all(jobs);
  const auto lacks = [] {
    auto outcome = error(Error::Kind::conflict, "the procedure is not there", "not_provisioned");
    outcome.what = Outcome::What::outage;
    outcome.lane_only = true;
    return outcome;
  };
  const auto first = claim(2);
  ASSERT_EQ(first.size(), 2u);
  end(first[0], lacks());
  end(first[1], lacks());
  EXPECT_TRUE(claim().empty());
  EXPECT_EQ(board_->show(ids[0].id).attempt, 0) << "it says nothing about the job";
  EXPECT_NE(board_->explain(ids[3].id).find("the procedure is not there"), std::string::npos)
      << board_->explain(ids[3].id);
  EXPECT_NE(board_->lanes()[0].closed.find("the procedure is not there"), std::string::npos);
  EXPECT_EQ(number("SELECT count(*) FROM breaker"), 0) << "the connection is well";
  auto other = job("other", "loose");
  other.connection_id = 5;
  add(other);
  EXPECT_EQ(payloads(claim()), Strings{"other"}) << "what does not need it goes on";

  // One tries when the time has come, and one at a time.
  time_passes();
  auto tries = claim();
  ASSERT_EQ(tries.size(), 1u);
  EXPECT_TRUE(claim().empty());
  end(tries[0], lacks());
  EXPECT_TRUE(claim().empty());
  EXPECT_EQ(number("SELECT failures FROM job_lane_wait"), 2);
  time_passes();
  tries = claim();
  ASSERT_EQ(tries.size(), 1u);
  end(tries[0], done());
  EXPECT_EQ(claim().size(), 3u) << "it is there now";
  EXPECT_EQ(number("SELECT count(*) FROM job_lane_wait"), 0);
}

TEST_P(QueueTest, ALaneThatLacksSomethingGoesOnAtOnceWhenItsConnectionIsSaidToBeWell) {
  auto one = job();
  one.connection_id = 5;
  add(one);
  auto outcome = error(Error::Kind::unavailable, "the procedure is not there", "not_provisioned");
  outcome.lane_only = true;
  end(claim_one(), outcome);
  EXPECT_TRUE(claim().empty());
  board_->connection_is_well(6);
  EXPECT_TRUE(claim().empty());
  board_->connection_is_well(5);
  const auto again = claim_one();
  end(again, outcome);
  EXPECT_TRUE(claim().empty());
  EXPECT_TRUE(board_->resume("connection", "5"));
  EXPECT_EQ(claim().size(), 1u);
}

TEST_P(QueueTest, AProbeThatDiesWithItsNodeIsFollowedByAnother) {
  auto one = job();
  one.connection_id = 5;
  add_all({one, one});
  const auto first = claim(1);
  end(first[0], error(Error::Kind::busy));
  time_passes();
  ASSERT_EQ(claim().size(), 1u);
  EXPECT_TRUE(claim().empty());
  store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  EXPECT_EQ(claim().size(), 1u);
}

TEST_P(QueueTest, RefusedCredentialsStopTheConnectionUntilAPersonActs) {
  auto one = job();
  one.connection_id = 5;
  const auto id = add(one).id;
  end(claim_one(), error(Error::Kind::auth, "password refused"));
  time_passes();
  EXPECT_TRUE(claim().empty());
  EXPECT_NE(board_->explain(id).find("password refused"), std::string::npos);
  EXPECT_TRUE(board_->resume("connection", "5"));
  EXPECT_EQ(claim_one().job.attempt, 1);
}

TEST_P(QueueTest, ABreakerHoldsNobodyElseUp) {
  auto one = job("broken"), two = job("well");
  one.connection_id = 5;
  two.connection_id = 6;
  add(one);
  end(claim_one(), error(Error::Kind::unavailable));
  add_all({two, job("none")});
  EXPECT_EQ(claim().size(), 2u);
}

TEST_P(QueueTest, AJobThatKillsTheProcessRunsAloneAndThenDies) {
  const auto id = add(job("poison")).id;
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(begin(claim()).size(), i == 0 ? 0u : 1u);
    store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  }
  add(job("innocent"));
  auto claims = queue_->claim(node_->id(), {.idle = false});
  EXPECT_TRUE(claims.jobs.empty()) << "nothing new begins beside it";
  EXPECT_TRUE(claims.alone_waits);
  EXPECT_NE(board_->explain(id).find("nothing else runs"), std::string::npos);
  claims = queue_->claim(node_->id(), {.idle = true});
  ASSERT_EQ(claims.jobs.size(), 1u);
  EXPECT_TRUE(claims.jobs[0].alone);
  EXPECT_EQ(claims.jobs[0].job.attempt, 1) << "interruptions cost no try";
  EXPECT_EQ(begin(claims.jobs).size(), 1u);
  store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  EXPECT_EQ(state(id), State::discarded);
  EXPECT_EQ(board_->show(id).error_code, "poison");
  EXPECT_EQ(payloads(claim()), Strings{"innocent"});
}

TEST_P(QueueTest, AJobThatWasClaimedAheadAndNeverBeganIsNotToBlameForDeaths) {
  const auto id = add(job("innocent")).id;
  for (int i = 0; i < 6; ++i) {
    const auto claimed = claim();
    ASSERT_EQ(claimed.size(), 1u) << i;
    EXPECT_FALSE(claimed[0].alone) << i;
    const auto explained = board_->explain(id);
    EXPECT_EQ(explained.find("begins it as soon as there is room") != std::string::npos, i > 0) << explained;
    store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  }
  EXPECT_EQ(board_->show(id).interruptions, 1) << "of the first claim it is not known whether it began";
  EXPECT_EQ(end(claim_one(), done()), Ending::recorded);
}

TEST_P(QueueTest, AJobThatWaitsToRunAloneAndNeverBeganIsNoPoison) {
  const auto id = add(job()).id;
  for (int i = 0; i < 3; ++i) {
    begin(claim());
    store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  }
  ASSERT_TRUE(claim_one().alone);
  store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  const auto again = claim_one();
  EXPECT_TRUE(again.alone);
  EXPECT_EQ(again.job.interruptions, 3);
  EXPECT_EQ(state(id), State::running);
}

TEST_P(QueueTest, WhatWasLostDoesNotBegin) {
  add(job());
  claim();
  store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  const auto claimed = claim();
  ASSERT_EQ(claimed.size(), 1u);
  store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  EXPECT_TRUE(begin(claimed).empty());
}

TEST_P(QueueTest, OneThatSurvivesRunningAloneIsNoLongerSuspected) {
  add(job());
  for (int i = 0; i < 3; ++i) {
    begin(claim());
    store_->write([&](store::Session& session) { queue_->rescue(session, node_->id(), "test"); });
  }
  const auto alone = claim_one();
  ASSERT_TRUE(alone.alone);
  end(alone, error(Error::Kind::in_doubt));
  time_passes();
  const auto again = claim_one();
  EXPECT_FALSE(again.alone);
  EXPECT_EQ(again.job.interruptions, 0);
}

TEST_P(QueueTest, ANodeThatIsDeadClaimsNothing) {
  add(job());
  sql("UPDATE node SET state = 'dead'");
  const auto claims = queue_->claim(node_->id(), {});
  EXPECT_TRUE(claims.node_lost);
  EXPECT_TRUE(claims.jobs.empty());
}

TEST_P(QueueTest, TextThatIsNoTextInAnErrorIsStillRecorded) {
  const auto id = add(job()).id;
  end(claim_one(), error(Error::Kind::protocol, std::string("bad \xff byte \0 here", 16), "code\xff"));
  EXPECT_EQ(state(id), State::discarded);
  EXPECT_EQ(board_->show(id).error_message, "bad ? byte ? her");
}

TEST_P(QueueTest, ACancelledJobThatRunsIsDoneOrEndsButIsNotTriedAgain) {
  struct {
    Outcome outcome;
    State state;
    std::vector<std::string> told;
    std::string says;
  } const cases[] = {
      {done(), State::completed, {"cancel", "completed"}, "before it could be stopped"},
      {snooze(Micros::zero()), State::cancelled, {"cancel", "cancelled"}, "had not been applied"},
      {error(Error::Kind::unavailable), State::cancelled, {"cancel", "cancelled"}, "had not been applied"},
      {error(Error::Kind::in_doubt), State::cancelled, {"cancel", "cancelled"}, "may have been applied"},
      {error(Error::Kind::invalid), State::discarded, {"cancel", "dead"}, "it failed"},
  };
  for (const auto& one : cases) {
    auto given = job();
    given.order_key = given.unique_key = "A";
    given.unique = Unique::unfinished;
    const auto id = add(given).id;
    const auto claimed = claim_one();
    EXPECT_TRUE(queue_->unwanted(node_->id()).empty());
    board_->cancel(id, {.who = "Ada", .why = "a mistake"});
    EXPECT_EQ(state(id), State::running);
    EXPECT_NE(board_->explain(id).find("has cancelled it"), std::string::npos);
    EXPECT_EQ(queue_->unwanted(node_->id()), std::set<std::int64_t>{id});
    EXPECT_EQ(end(claimed, one.outcome), Ending::recorded);
    EXPECT_EQ(state(id), one.state);
    EXPECT_EQ(told(id), one.told);
    EXPECT_NE(board_->history(id).back().message.find(one.says), std::string::npos);
    EXPECT_TRUE(queue_->unwanted(node_->id()).empty());
    if (one.state == State::discarded) board_->discard(id, {.who = "Ada"});
    EXPECT_EQ(number("SELECT (SELECT count(*) FROM order_queue) + (SELECT count(*) FROM job_unique)"), 0);
  }
  const auto counts = board_->counts();
  EXPECT_EQ(counts.done, 1);
  EXPECT_EQ(counts.cancelled, 4);
  EXPECT_EQ(counts.accepted(), 5);
}

TEST_P(QueueTest, WhatIsFoldedIntoACancelledJobKeepsItGoing) {
  for (const auto fold : {Fold::keep, Fold::replace}) {
    auto given = job();
    given.unique_key = "A";
    given.unique = Unique::unfinished;
    given.fold = fold;
    const auto id = add(given).id;
    const auto claimed = claim_one();
    board_->cancel(id, {.who = "Ada"});
    EXPECT_TRUE(add(given).folded);
    EXPECT_TRUE(queue_->unwanted(node_->id()).empty());
    EXPECT_EQ(end(claimed, snooze(Micros::zero())), Ending::recorded);
    EXPECT_EQ(state(id), State::available);
    EXPECT_EQ(end(claim_one(), done()), Ending::recorded);
    EXPECT_EQ(state(id), State::completed);
  }
}

TEST_P(QueueTest, ACancelledJobWhoseNodeDiesIsNotTakenOver) {
  auto first = job("1"), second = job("2");
  first.order_key = second.order_key = "A";
  const auto id = add(first).id;
  const auto next = add(second).id;
  claim_one();
  board_->cancel(id, {.who = "Ada"});
  store_->write([&](store::Session& session) {
    session.execute("UPDATE node SET state = 'dead'");
    EXPECT_EQ(queue_->rescue(session, node_->id(), "node two"), 1);
  });
  EXPECT_EQ(state(id), State::cancelled);
  EXPECT_NE(board_->history(id).back().message.find("may have been applied"), std::string::npos);
  node_->start();
  EXPECT_EQ(claim_one().job.id, next) << "the next of its order key goes on";
  EXPECT_EQ(board_->counts().accepted(), 2);
}

TEST_P(QueueTest, CountsAddUp) {
  std::vector<NewJob> jobs;
  for (int i = 0; i < 12; ++i) jobs.push_back(job());
  jobs[10].order_key = jobs[11].order_key = "k";
  jobs[9].run_at = clock_.now() + hours(1);
  add_all(jobs);
  const auto claimed = claim(6);
  end(claimed[0], done());
  end(claimed[1], error(Error::Kind::invalid));
  end(claimed[2], cancel("no"));
  end(claimed[3], error(Error::Kind::in_doubt));
  const auto counts = board_->counts();
  EXPECT_EQ(counts.accepted(), 12);
  EXPECT_EQ(counts.done, 1);
  EXPECT_EQ(counts.dead, 1);
  EXPECT_EQ(counts.cancelled, 1);
  EXPECT_EQ(counts.running, 2);
  EXPECT_EQ(counts.waiting, 7);
}

TEST_P(QueueTest, ManyNodesShareTheWorkAndNoneIsDoneTwice) {
  constexpr int kJobs = 600, kNodes = 4;
  std::vector<NewJob> jobs;
  for (int i = 0; i < kJobs; ++i) {
    jobs.push_back(job(std::to_string(i), i % 2 ? "batch" : "work"));
    if (i % 3 == 0) jobs.back().order_key = "key " + std::to_string(i % 30);
    if (i % 5 == 0) jobs.back().unique_key = "unique " + std::to_string(i);
  }
  add_all(jobs);
  std::vector<std::jthread> threads;
  std::mutex mutex;
  std::map<std::int64_t, int> times;
  std::map<std::string, std::vector<std::int64_t>> order;
  for (int n = 0; n < kNodes; ++n)
    threads.emplace_back([&, n] {
      // On PostgreSQL each has connections of its own, as another process would.
      const auto own = postgres() ? open_again() : nullptr;
      Queue queue(own ? *own : *store_, kinds_, random_);
      std::int64_t node = 0;
      queue.store().write([&](store::Session& session) {
        session.first("INSERT INTO node (name, state, started_us, beat_us) VALUES ($1, 'running', 0, 0) RETURNING id",
                      {std::to_string(n)}, [&](const store::Row& row) { node = row.int64(0); });
      });
      int idle = 0;
      std::vector<Finished> finished;
      while (idle < 50) {
        auto turn = queue.turn(finished, node, {.jobs_max = 7});
        {
          std::lock_guard lock(mutex);
          for (std::size_t i = 0; i < finished.size(); ++i)
            if (turn.endings[i] == Ending::recorded) {
              ++times[finished[i].claimed.job.id];
              if (const auto& key = finished[i].claimed.job.order_key; !key.empty())
                order[key].push_back(finished[i].claimed.job.id);
            }
        }
        finished.clear();
        for (auto& one : turn.claims.jobs) finished.push_back({std::move(one), done()});
        idle = finished.empty() ? idle + 1 : 0;
        if (idle > 0) std::this_thread::yield();
      }
    });
  threads.clear();
  EXPECT_EQ(times.size(), static_cast<std::size_t>(kJobs));
  for (const auto& [id, count] : times) EXPECT_EQ(count, 1) << id;
  for (const auto& [key, ids] : order) EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end())) << key;
  EXPECT_EQ(board_->counts().done, kJobs);
  EXPECT_EQ(number("SELECT count(*) FROM job_unique"), 0);
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), 0);
}

TEST_P(QueueTest, EnqueuersOfOneKeyAndThoseWhoFinishItTakeTurns) {
  constexpr int kEach = 40;
  std::vector<std::jthread> threads;
  for (int n = 0; n < 3; ++n)
    threads.emplace_back([&, n] {
      for (int i = 0; i < kEach; ++i) {
        auto a = job(std::to_string(n)), b = a;
        a.order_key = "a";
        b.order_key = "b";
        b.unique_key = "u" + std::to_string(i % 3);
        b.fold = Fold::replace;
        add_all(i % 2 ? std::vector{a, b} : std::vector{b, a});
      }
    });
  std::atomic<bool> enqueued = false;
  std::atomic<int> ended = 0;
  std::vector<std::jthread> workers;
  for (int n = 0; n < 2; ++n)
    workers.emplace_back([&] {
      while (true) {
        const bool last = enqueued;
        std::vector<Finished> finished;
        for (auto& one : queue_->claim(node_->id(), {}).jobs) finished.push_back({std::move(one), done()});
        for (const auto ending : queue_->finish(finished)) ended += ending == Ending::recorded;
        if (last && finished.empty() && board_->counts().waiting == 0) return;
      }
    });
  threads.clear();
  enqueued = true;
  workers.clear();
  const auto counts = board_->counts();
  EXPECT_EQ(counts.done, ended);
  EXPECT_EQ(counts.done, counts.accepted());
  EXPECT_GE(counts.done, 3 * kEach);
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, QueueTest, testing::Values("Sqlite", "Postgres"), kEngineName);

TEST(Backoff, DoublesUpToItsLimitGiveOrTakeAFifth) {
  SeededRandom random(7);
  double expected = 1;
  for (int attempt = 1; attempt < 20; ++attempt, expected = std::min(expected * 2, 60.0)) {
    const double wait = static_cast<double>(backoff(attempt, seconds(1), seconds(60), random).count()) / 1e6;
    EXPECT_GE(wait, expected * 0.8);
    EXPECT_LE(wait, expected * 1.2);
  }
}

TEST(Outcome, WhatAnErrorMeansForAJob) {
  const auto what = [](Error::Kind kind) { return failed(Error(kind, "x")).what; };
  for (const auto kind : {Error::Kind::unavailable, Error::Kind::busy, Error::Kind::auth, Error::Kind::cancelled})
    EXPECT_EQ(what(kind), Outcome::What::outage);
  EXPECT_EQ(what(Error::Kind::in_doubt), Outcome::What::retry);
  for (const auto kind : {Error::Kind::invalid, Error::Kind::protocol, Error::Kind::conflict, Error::Kind::not_found,
                          Error::Kind::forbidden, Error::Kind::bug})
    EXPECT_EQ(what(kind), Outcome::What::dead);
  EXPECT_EQ(failed(Error(Error::Kind::busy, "x").retry_in(seconds(7))).delay, Micros(seconds(7)));
}

}  // namespace
}  // namespace dragoman::jobs
