#include "jobs/node.h"

#include "fakes/hand_clock.h"
#include "jobs/leader.h"
#include "jobs/retention.h"
#include "jobs/test_jobs.h"

namespace dragoman::jobs {
namespace {

using std::chrono::seconds;

class NodeTest : public JobsTest {
 protected:
  /// Another node with a clock of its own; in the database they meet.
  struct Other {
    explicit Other(NodeTest& test, std::string name)
        : queue(*test.store_, test.kinds_, test.random_, name), node(queue, clock, {.name = name}) {
      // SQLite has one hub: an earlier node is dead by definition. These tests are about those that are not.
      test.store_->write([&](store::Session& session) {
        session.execute("UPDATE node SET state = 'stopped' WHERE state = 'running'");
      });
      node.start();
      test.store_->write([&](store::Session& session) {
        session.execute("UPDATE node SET state = 'running' WHERE state = 'stopped'");
      });
    }
    tests::HandClock clock;
    Queue queue;
    Node node;
  };
  std::string state_of(std::int64_t node) {
    std::string state;
    store_->read([&](store::Session& session) {
      session.first("SELECT state FROM node WHERE id = $1", {node},
                    [&](const store::Row& row) { state = row.text(0); });
    });
    return state;
  }
};

TEST_P(NodeTest, ANodeWhoseBeatStandsStillForAWholeLeaseIsRescued) {
  const auto id = add(job()).id;
  claim_one();
  Other other(*this, "two");
  EXPECT_EQ(other.node.watch(), 0);
  for (int i = 0; i < 4; ++i) {
    other.clock.advance(seconds(2));
    EXPECT_EQ(other.node.watch(), 0) << i;
  }
  other.clock.advance(seconds(2));
  EXPECT_EQ(other.node.watch(), 1);
  EXPECT_EQ(state(id), State::available);
  EXPECT_EQ(state_of(node_->id()), "dead");
  EXPECT_FALSE(node_->beat()) << "it learns that it was declared dead";
  const auto before = node_->id();
  node_->start();
  EXPECT_NE(node_->id(), before);
  EXPECT_TRUE(node_->beat());
}

TEST_P(NodeTest, ANodeThatBeatsIsLeftAlone) {
  add(job());
  claim_one();
  Other other(*this, "two");
  for (int i = 0; i < 30; ++i) {
    other.clock.advance(seconds(2));
    if (i % 3 == 0) {
      EXPECT_TRUE(node_->beat());
    }
    EXPECT_EQ(other.node.watch(), 0);
  }
}

TEST_P(NodeTest, WhoWasAwayHimselfBeginsToCountAnew) {
  add(job());
  claim_one();
  Other other(*this, "two");
  other.node.watch();
  other.clock.advance(seconds(60));  // stopped, say
  EXPECT_EQ(other.node.watch(), 0);
  for (int i = 0; i < 4; ++i) {
    other.clock.advance(seconds(2));
    EXPECT_EQ(other.node.watch(), 0);
  }
  other.clock.advance(seconds(2));
  EXPECT_EQ(other.node.watch(), 1);
}

TEST_P(NodeTest, WallClocksDecideNothing) {
  add(job());
  claim_one();
  Other other(*this, "two");
  other.clock.set_wall(from_us(0));
  other.node.watch();
  other.clock.set_wall(clock_.now() + std::chrono::hours(1000));
  EXPECT_EQ(other.node.watch(), 0);
}

TEST_P(NodeTest, ANodeThatStartsAgainRescuesItsEarlierSelfAtOnce) {
  const auto id = add(job()).id;
  claim_one();
  Queue queue(*store_, kinds_, random_, "one");
  Node again(queue, clock_, {.name = "one"});
  again.start();
  EXPECT_EQ(state(id), State::available);
  EXPECT_EQ(board_->history(id).front().who, "node one");
}

TEST_P(NodeTest, AnotherNameIsRescuedAtOnceOnlyWhereThereIsOneHub) {
  add(job());
  claim_one();
  Queue queue(*store_, kinds_, random_, "two");
  Node two(queue, clock_, {.name = "two"});
  two.start();
  EXPECT_EQ(board_->counts().running, postgres() ? 1 : 0);
}

TEST_P(NodeTest, WhatAnEndedNodeLeftRunningIsFound) {
  const auto id = add(job()).id;
  claim_one();
  Other other(*this, "two");
  node_->stop();
  EXPECT_EQ(other.node.watch(), 1);
  EXPECT_EQ(state(id), State::available);
}

TEST_P(NodeTest, ANodeWhoseBeatFailedForALeaseIsNotFresh) {
  Other other(*this, "two");
  EXPECT_TRUE(other.node.fresh());
  other.clock.advance(seconds(9));
  EXPECT_TRUE(other.node.fresh());
  other.clock.advance(seconds(1));
  EXPECT_FALSE(other.node.fresh());
  EXPECT_TRUE(other.node.beat());
  EXPECT_TRUE(other.node.fresh());
}

TEST_P(NodeTest, OneLeadsAndTheTermGrowsWhenItsNodeIsDead) {
  Other other(*this, "two");
  Leader first(*store_, *node_, "upkeep"), second(*store_, other.node, "upkeep");
  EXPECT_EQ(first.campaign(), 1);
  EXPECT_EQ(second.campaign(), std::nullopt);
  EXPECT_EQ(first.campaign(), 1);
  sql("UPDATE node SET state = 'dead' WHERE id = " + std::to_string(node_->id()));
  EXPECT_EQ(second.campaign(), 2);
  EXPECT_EQ(first.campaign(), std::nullopt);
  store_->write([&](store::Session& session) {
    EXPECT_FALSE(first.holds(session, 1));
    EXPECT_TRUE(second.holds(session, 2));
    EXPECT_FALSE(second.holds(session, 1));
  });
  second.resign();
  store_->write([&](store::Session& session) { EXPECT_FALSE(second.holds(session, 2)); });
}

TEST_P(NodeTest, OldJobsAreDeletedWithTheirHistoryButForDeadLettersAndTheNewest) {
  const auto ids = add_all({job("done"), job("dead"), job("waits"), job("done too")});
  const auto claimed = claim();
  end(claimed[0], error(Error::Kind::in_doubt));
  end(claimed[1], error(Error::Kind::invalid));
  end(claimed[2], snooze(seconds(1000)));
  end(claimed[3], done());
  time_passes();
  for (const auto& one : claim())
    if (one.job.id == ids[0].id) end(one, done());
  sql("UPDATE job SET finished_us = 1 WHERE finished_us IS NOT NULL");
  Retention retention(*store_, {});
  EXPECT_FALSE(retention.step());
  EXPECT_EQ(retention.deleted(), 1);
  EXPECT_THROW(board_->show(ids[0].id), Error);
  EXPECT_EQ(number("SELECT count(*) FROM job_history WHERE job_id = " + std::to_string(ids[0].id)), 0);
  EXPECT_EQ(state(ids[1].id), State::discarded);
  EXPECT_EQ(state(ids[3].id), State::completed) << "its number must not be given out again";
  EXPECT_EQ(board_->counts().done, 2) << "what was done stays counted";
  EXPECT_EQ(board_->counts().accepted(), 4);
  EXPECT_GT(add(job()).id, ids[3].id);
}

INSTANTIATE_TEST_SUITE_P(Engines, NodeTest, testing::Values("Sqlite", "Postgres"), kEngineName);

}  // namespace
}  // namespace dragoman::jobs
