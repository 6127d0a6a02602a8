#include "app/following.h"

#include <gtest/gtest.h>

#include "access/sealed.h"
#include "base/random.h"
#include "connectors/catalog.h"
#include "fakes/hand_clock.h"
#include "jobs/queue.h"
#include "jobs/test_jobs.h"
#include "store/test_store.h"

namespace dragoman::app {
namespace {

using namespace std::chrono_literals;

class FollowingPostgres : public testing::Test {
 protected:
  void SetUp() override {
    store::skip_without_server();
    if (!IsSkipped() && !HasFatalFailure()) database_.emplace(store::test_server());
  }

  /// A hub, as far as it matters here.
  struct Hub {
    Hub(const std::string& url, const std::string& name, const std::string& folder, Clock& time)
        : clock(time),
          store(store::open({.url = url, .readers = 2}, clock)),
          keys(access::KeyRing::open_file(folder + "/secret.key", random)),
          queue(*store, kinds, random, name),
          node(queue, clock, {.name = name, .lease = 200ms}),
          following(*store, node, connections, sync, clock) {
      node.start();
    }
    Clock& clock;
    SystemRandom random;
    std::unique_ptr<store::Store> store;
    access::KeyRing keys;
    const pipeline::ConnectorList connectors = connectors::catalog();
    pipeline::Connections connections{*store, keys, clock};
    pipeline::SyncService sync{*store, connections, connectors, clock, random, {}};
    const jobs::Kinds kinds;
    jobs::Queue queue;
    jobs::Node node;
    Following following;
  };

  store::TemporaryFolder folder_;
  tests::HandClock clock_;  // a slow machine must not let the lease run out
  std::optional<store::PostgresDatabase> database_;
};

TEST_F(FollowingPostgres, OneHubOfTwoFollowsAndTheOtherTakesOverWhenItIsDead) {
  Hub one(database_->url(), "one", folder_.path(), clock_), two(database_->url(), "two", folder_.path(), clock_);
  one.following.step();
  two.following.step();
  EXPECT_TRUE(one.following.follows());
  EXPECT_FALSE(two.following.follows());

  // It stands still for a lease: its beat does not move while the other looks on.
  while (two.node.watch(), two.following.step(), !two.following.follows()) {
    ASSERT_TRUE(two.node.beat());
    clock_.advance(20ms);
  }
  one.following.step();
  EXPECT_FALSE(one.following.follows()) << "it woke up and found that it no longer leads";
  EXPECT_FALSE(one.node.beat());
}

TEST_F(FollowingPostgres, WhoLeavesLetsTheOtherTakeOverAtOnce) {
  Hub one(database_->url(), "one", folder_.path(), clock_), two(database_->url(), "two", folder_.path(), clock_);
  std::stop_source stopped;
  stopped.request_stop();
  one.following.run(stopped.get_token());
  EXPECT_TRUE(one.following.follows());
  two.following.step();
  EXPECT_TRUE(two.following.follows());
}

}  // namespace
}  // namespace dragoman::app
