#include "app/upkeep.h"

#include <gtest/gtest.h>

#include "audit/audit.h"
#include "fakes/hand_clock.h"
#include "notify/alert.h"
#include "store/test_store.h"

namespace dragoman::app {
namespace {

using namespace std::chrono_literals;
using store::Session;

class UpkeepTest : public testing::Test {
 protected:
  void SetUp() override {
    store_->write([](Session& session) {
      for (int i = 0; i < 5; ++i) audit::append(session, {.actor = "a", .action = "b", .outcome = "ok"});
    });
  }
  std::vector<notify::Problem> problems() {
    std::vector<notify::Problem> all;
    store_->read([&](Session& session) { all = notify::problems(session, 10); });
    return all;
  }

  store::TemporaryFolder folder_;
  tests::HandClock clock_;
  std::unique_ptr<store::Store> store_ = store::open({.url = folder_ / "hub.db"}, clock_);
};

TEST_F(UpkeepTest, LooksThroughTheAuditLogAsOftenAsIsSetWhicheverNodeDoesIt) {
  Upkeep one(*store_, clock_, {}), other(*store_, clock_, {});
  EXPECT_TRUE(one.step({}));
  EXPECT_FALSE(other.step({}));
  EXPECT_TRUE(problems().empty());
  clock_.advance(23h);
  EXPECT_FALSE(one.step({}));
  clock_.advance(1h);
  EXPECT_TRUE(other.step({}));
  Upkeep never(*store_, clock_, {.verify_every = Micros(0)});
  clock_.advance(1000h);
  EXPECT_FALSE(never.step({}));
}

TEST_F(UpkeepTest, TheSyncLogIsKeptAsLongAsIsSetAndItsNewestRowAlways) {
  const auto count = [&] {
    std::int64_t rows = 0;
    store_->read([&](Session& session) {
      session.first("SELECT count(*) FROM sync_log", {}, [&](const store::Row& row) { rows = row.int64(0); });
    });
    return rows;
  };
  const auto add = [&](int rows) {
    store_->write([&](Session& session) {
      for (int i = 0; i < rows; ++i)
        session.execute(
            "INSERT INTO sync_log (connection_id, model, kind, started_us, finished_us, outcome, counts) VALUES (1, "
            "'thing', 'sweep', $1, $1, 'ok', '{}')",
            {to_us(session.now())});
    });
  };
  Upkeep upkeep(*store_, clock_, {}), keeps(*store_, clock_, {.sync_log_kept = Micros(0)});
  add(1200);
  clock_.advance(24h * 89);
  upkeep.step({});
  EXPECT_EQ(count(), 1200);
  add(3);
  clock_.advance(25h);
  keeps.step({});
  EXPECT_EQ(count(), 1203);
  upkeep.step({});
  EXPECT_EQ(count(), 3);
  clock_.advance(24h * 365);
  upkeep.step({});
  EXPECT_EQ(count(), 1);
}

TEST_F(UpkeepTest, PeopleAreToldOfABrokenAuditLog) {
  Upkeep upkeep(*store_, clock_, {});
  store_->write([](Session& session) { session.execute("DELETE FROM audit WHERE number = 3"); });
  upkeep.step({});
  ASSERT_EQ(problems().size(), 1u);
  EXPECT_EQ(problems()[0].alert.fingerprint, "audit:broken");
  EXPECT_EQ(problems()[0].alert.subject, "entry 3");
  store_->write([](Session& session) { session.execute("DELETE FROM audit_head"); });
  upkeep.step({});
  EXPECT_EQ(problems()[0].alert.count, 2);
}

TEST_F(UpkeepTest, WhatTheHubsDeathCutOffGetsItsAuditEntryWithTheNextStart) {
  {
    audit::Pending lost(*store_, {.actor = "token t", .action = "connection.remove", .subject = "main"});
  }
  clock_.advance(1s);
  Upkeep upkeep(*store_, clock_, {});
  upkeep.begin();
  store_->read([&](Session& session) {
    const auto last = audit::newest(session, {}, 0, 1);
    ASSERT_EQ(last.size(), 1u);
    EXPECT_EQ(last[0].action, "connection.remove");
    EXPECT_EQ(last[0].outcome.substr(0, 9), "not known");
  });
  EXPECT_FALSE(audit::verify(*store_).broken);
}

}  // namespace
}  // namespace dragoman::app
