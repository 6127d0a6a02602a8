#include "pipeline/job_alerts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/hand_clock.h"
#include "jobs/breaker.h"
#include "jobs/node.h"
#include "notify/alert.h"
#include "store/test_store.h"

namespace dragoman::pipeline {
namespace {

using namespace std::chrono_literals;
using store::Session;

class NoHandler final : public jobs::Handler {
 public:
  std::vector<jobs::Outcome> run(std::span<const jobs::Job>, std::stop_token) override { return {}; }
};

class JobAlertsTest : public testing::Test {
 protected:
  void SetUp() override { open(folder_ / "hub.db"); }

  void open(const std::string& url) {
    store_ = store::open({.url = url}, clock_);
    queue_ = std::make_unique<jobs::Queue>(*store_, kinds_, random_, "one");
    node_ = std::make_unique<jobs::Node>(*queue_, clock_, jobs::NodeSettings{.name = "one"});
    store_->write([&](Session& session) {
      session.execute(
          "INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES (7, 'shop', 'odoo', "
          "'{}', 'active', 0, 0)");
    });
    node_->start();
  }
  void enqueue(int count, std::int64_t connection = 7) {
    store_->write([&](Session& session) {
      for (int i = 0; i < count; ++i)
        jobs::enqueue(session,
                      jobs::NewJob{.kind = "work", .flow = "flow", .connection_id = connection, .payload = "{}"});
    });
  }
  // Ends all that can be claimed as that error would end them.
  void fail_all(Error::Kind kind, const std::string& message, bool lane_only = false) {
    auto claims = queue_->claim(node_->id(), {.jobs_max = 100, .idle = true});
    ASSERT_FALSE(claims.jobs.empty());
    std::vector<jobs::Finished> finished;
    for (auto& claimed : claims.jobs) {
      finished.push_back(
          {std::move(claimed), jobs::failed(Error(kind, fmt::format("{} {}", message, finished.size())))});
      if (!lane_only) continue;
      finished.back().outcome.what = jobs::Outcome::What::outage;
      finished.back().outcome.lane_only = true;
    }
    queue_->finish(finished);
  }
  std::vector<notify::Problem> problems() {
    std::vector<notify::Problem> all;
    store_->read([&](Session& session) { all = notify::problems(session, 100); });
    return all;
  }

  store::TemporaryFolder folder_;
  tests::HandClock clock_;
  SeededRandom random_{1};
  NoHandler handler_;
  const jobs::Kinds kinds_{{{.name = "work", .summary = "does", .handler = &handler_}}, tell_of_dead_letters};
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<jobs::Queue> queue_;
  std::unique_ptr<jobs::Node> node_;
};

TEST_F(JobAlertsTest, DeadLettersOfOneKindAreOneProblem) {
  enqueue(30);
  fail_all(Error::Kind::invalid, "no such partner");
  auto all = problems();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].alert.count, 30);
  EXPECT_EQ(all[0].alert.fingerprint.substr(0, 5), "dead:");
  EXPECT_EQ(all[0].alert.severity, notify::Severity::critical);
  EXPECT_EQ(all[0].alert.title.substr(0, 37), "work failed for good: no such partner");
  EXPECT_EQ(all[0].alert.subject.substr(0, 9), "shop job ");
  enqueue(2, 0);
  fail_all(Error::Kind::forbidden, "another trouble");
  EXPECT_EQ(problems().size(), 2u);
}

TEST_F(JobAlertsTest, AConnectionMayNameThoseWhoAreTold) {
  const auto told = [&](const std::string& subject) {
    std::vector<std::string> people;
    store_->read([&](Session& session) { people = who_is_told(session, {.subject = subject}); });
    return people;
  };
  EXPECT_EQ(told("shop").size(), 0u);
  store_->write([](Session& session) {
    session.execute("UPDATE connection SET settings = '{\"tell\":[\"ann@example.com\",\"bob@example.com\"]}'");
  });
  const std::vector<std::string> people{"ann@example.com", "bob@example.com"};
  EXPECT_EQ(told("shop"), people);
  EXPECT_EQ(told("shop job 12"), people);
  EXPECT_EQ(told("other").size(), 0u);
  EXPECT_EQ(told("").size(), 0u);
  // The same error on a connection of other people is told apart.
  store_->write([](Session& session) {
    session.execute(
        "INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES (8, 'farm', 'odoo', "
        "'{}', 'active', 0, 0)");
  });
  enqueue(2, 7);
  enqueue(1, 8);
  fail_all(Error::Kind::invalid, "no such partner");
  ASSERT_EQ(problems().size(), 2u);
  for (const auto& one : problems()) {
    const bool shop = one.alert.subject.starts_with("shop job ");
    EXPECT_EQ(one.alert.count, shop ? 2 : 1) << one.alert.subject;
    EXPECT_EQ(one.alert.fingerprint.ends_with("@shop"), shop) << one.alert.fingerprint;
  }
}

TEST_F(JobAlertsTest, AJobThatKillsItsProcessIsTold) {
  enqueue(1);
  for (int deaths = 0; deaths < 4; ++deaths) {
    const auto claims = queue_->claim(node_->id(), {.idle = true});
    ASSERT_EQ(claims.jobs.size(), 1u);
    jobs::Queue::begin(*store_, claims.jobs);
    store_->write([&](Session& session) { queue_->rescue(session, node_->id(), "test"); });
  }
  ASSERT_EQ(problems().size(), 1u);
  EXPECT_NE(problems()[0].alert.title.find("the process died"), std::string::npos) << problems()[0].alert.title;
  EXPECT_EQ(problems()[0].alert.subject.substr(0, 9), "shop job ");
}

TEST_F(JobAlertsTest, AnOutageIsToldOnceWhenItLasts) {
  enqueue(1);
  fail_all(Error::Kind::unavailable, "no connection");
  EXPECT_EQ(tell_of_outages(*store_, 15min), 0);
  clock_.advance(15min);
  EXPECT_EQ(tell_of_outages(*store_, 0min), 0);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
  clock_.advance(3h);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 0);
  EXPECT_EQ(problems()[0].alert.fingerprint, "connection:shop:outage");
  EXPECT_EQ(problems()[0].alert.count, 1);
  // Over, and then another one.
  store_->write([](Session& session) { jobs::breaker::reset(session, 7); });
  fail_all(Error::Kind::unavailable, "no connection");
  clock_.advance(20min);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
  EXPECT_EQ(problems()[0].alert.count, 2);
}

TEST_F(JobAlertsTest, RefusedCredentialsAreToldAtOnce) {
  enqueue(1);
  fail_all(Error::Kind::auth, "wrong password");
  clock_.advance(1s);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 0);
  EXPECT_EQ(problems()[0].alert.fingerprint, "connection:shop:auth");
  EXPECT_NE(problems()[0].alert.text.find("wrong password"), std::string::npos);
}

TEST_F(JobAlertsTest, WhatDeliveriesLackIsToldAtOnceAndOnce) {
  enqueue(3);
  fail_all(Error::Kind::conflict, "run dragoman provision apply shop", true);
  clock_.advance(1s);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 0);
  ASSERT_EQ(problems().size(), 1u);
  EXPECT_EQ(problems()[0].alert.fingerprint, "connection:shop:work");
  EXPECT_EQ(problems()[0].alert.title, "Jobs of the kind work of the connection shop wait for somebody");
  EXPECT_NE(problems()[0].alert.text.find("run dragoman provision apply shop"), std::string::npos);
  // Put there, and gone again.
  clock_.advance(1s);
  store_->write([](Session& session) { jobs::breaker::reset(session, 7); });
  fail_all(Error::Kind::conflict, "run dragoman provision apply shop", true);
  clock_.advance(1s);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
}

TEST_F(JobAlertsTest, OutagesAndDeadLettersAreToldOnPostgres) {
  store::skip_without_server();
  if (IsSkipped() || HasFatalFailure()) return;
  store::PostgresDatabase database(store::test_server());
  open(database.url());
  enqueue(3);
  fail_all(Error::Kind::invalid, "no such partner");
  EXPECT_EQ(problems()[0].alert.count, 3);
  enqueue(1);
  fail_all(Error::Kind::auth, "wrong password");
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 0);
  EXPECT_EQ(problems()[0].alert.fingerprint, "connection:shop:auth");
  store_->write([](Session& session) { jobs::breaker::reset(session, 7); });
  fail_all(Error::Kind::conflict, "no procedure", true);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 1);
  EXPECT_EQ(tell_of_outages(*store_, 15min), 0);
  node_.reset();
  queue_.reset();
  store_.reset();
}

}  // namespace
}  // namespace dragoman::pipeline
