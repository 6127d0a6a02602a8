#include "pipeline/sync_jobs.h"

#include <gtest/gtest.h>

#include "access/sealed.h"
#include "base/error.h"
#include "base/random.h"
#include "fakes/fake_source.h"
#include "fakes/hand_clock.h"
#include "notify/alert.h"
#include "store/test_store.h"

namespace dragoman::pipeline {
namespace {

using jobs::Outcome;
using tests::FakeSource;
using tests::HandClock;

HandClock source_clock;
FakeSource* newest_source = nullptr;  // lives as long as the service

ConnectorList one_connector() {
  Connector connector;
  connector.kind = "fake";
  connector.make_source = [](const Connection&, const Secret& secret, Clock&) {
    if (!secret.equals("open sesame")) throw Error(Error::Kind::auth, "The fake refuses this password.");
    auto source = std::make_unique<FakeSource>(source_clock);
    auto transaction = source->begin();
    source->create(transaction, "one");
    source->create(transaction, "two");
    source->commit(transaction);
    newest_source = source.get();
    return source;
  };
  return ConnectorList({connector});
}

class SyncJobsTest : public testing::Test {
 protected:
  SyncJobsTest() { connections_.add("main", "fake", {{"url", "x"}}, Secret("open sesame")); }

  Outcome attempt(const std::string& kind, std::int64_t connection_id, const std::string& payload = "{}",
                  std::stop_token stop = {}) {
    for (const auto& one : jobs_.kinds()) {
      if (one.name != kind) continue;
      const jobs::Job job{
          .id = 7, .kind = kind, .flow = "sync", .connection_id = connection_id, .payload = payload, .cause = "a test"};
      return one.handler->run(std::span(&job, 1), stop).at(0);
    }
    ADD_FAILURE() << "there is no kind " << kind;
    return {};
  }
  std::vector<notify::Problem> problems() {
    std::vector<notify::Problem> all;
    store_->read([&](store::Session& session) { all = notify::problems(session, 10); });
    return all;
  }
  std::int64_t id(const std::string& name = "main") { return connections_.get(name).id; }

  store::TemporaryFolder folder_;
  SystemClock clock_;
  SystemRandom random_;
  std::unique_ptr<store::Store> store_ = store::open({.url = folder_ / "hub.db"}, clock_);
  access::KeyRing keys_ = access::KeyRing::open_file(folder_ / "secret.key", random_);
  const ConnectorList connectors_ = one_connector();
  Connections connections_{*store_, keys_, clock_};
  SyncService sync_{*store_, connections_, connectors_, clock_, random_, {}};
  SyncJobs jobs_{sync_, connections_};
};

TEST_F(SyncJobsTest, ARunBringsTheRecordsAndSaysHowMany) {
  const auto first = attempt("sync.run", id());
  EXPECT_EQ(first.what, Outcome::What::done) << first.message;
  EXPECT_EQ(first.result, "2 created, 0 changed, 0 deleted, 2 unchanged.");
}

TEST_F(SyncJobsTest, ACertificateSaysWhatItCompared) {
  attempt("sync.run", id());
  const auto outcome = attempt("sync.certify", id(), R"({"bodies":"all"})");
  EXPECT_EQ(outcome.what, Outcome::What::done) << outcome.message;
  EXPECT_EQ(outcome.result, "2 records of 1 models, no difference.");
}

TEST_F(SyncJobsTest, ACertificateThatFindsDifferencesTellsPeople) {
  attempt("sync.run", id());
  // What was written a moment ago is read again by every run.
  source_clock.advance(std::chrono::hours(1));
  attempt("sync.run", id());
  newest_source->change_silently(1, "another");
  const auto outcome = attempt("sync.certify", id(), R"({"bodies":"all"})");
  EXPECT_EQ(outcome.what, Outcome::What::done) << outcome.message;
  EXPECT_EQ(outcome.result, "1 difference in thing, 1 of them healed.");
  EXPECT_TRUE(problems().empty()) << "not before the job has ended";
  store_->write([&](store::Session& session) { outcome.commit(session); });
  ASSERT_EQ(problems().size(), 1u);
  EXPECT_EQ(problems()[0].alert.fingerprint, "certificate:main");
  EXPECT_EQ(problems()[0].alert.severity, notify::Severity::critical);
  EXPECT_NE(problems()[0].alert.text.find("1 difference in thing"), std::string::npos) << problems()[0].alert.text;
  const auto again = attempt("sync.certify", id(), R"({"bodies":"all"})");
  EXPECT_FALSE(again.commit) << "healed: nothing to tell";
}

TEST_F(SyncJobsTest, AWebPageInPlaceOfTheRemoteMakesThemWait) {
  attempt("sync.run", id());
  for (const auto& [kind, code] :
       std::vector<std::pair<Error::Kind, std::string>>{{Error::Kind::protocol, "html"},
                                                        {Error::Kind::protocol, "not_odoo"},
                                                        {Error::Kind::forbidden, "http_forbidden"}}) {
    newest_source->blind = Error(kind, "It answered with a web page.");
    newest_source->blind->code = code;
    for (const char* job : {"sync.certify", "sync.run"}) {
      const auto outcome = attempt(job, id());
      EXPECT_EQ(outcome.what, Outcome::What::outage) << job << " " << code << " " << outcome.message;
      EXPECT_EQ(outcome.message, "None of the 1 models could be looked at: It answered with a web page.");
    }
  }
  newest_source->blind.reset();
  EXPECT_EQ(attempt("sync.certify", id()).what, Outcome::What::done);
}

TEST_F(SyncJobsTest, WithoutConnectionItMakesOneJobForEachThatIsActive) {
  connections_.add("second", "fake", {{"url", "y"}}, Secret("open sesame"));
  connections_.add("third", "fake", {{"url", "z"}}, Secret("open sesame"));
  connections_.set_state("third", "paused", "stocktaking");
  const auto outcome = attempt("sync.certify", 0);
  EXPECT_EQ(outcome.what, Outcome::What::done);
  EXPECT_EQ(outcome.result, "Asked for main, second.");
  for (int i = 0; i < 2; ++i) store_->write([&](store::Session& session) { outcome.commit(session); });
  std::int64_t count = 0;
  store_->read([&](store::Session& session) {
    session.first("SELECT count(*) FROM job", {}, [&](const store::Row& row) { count = row.int64(0); });
  });
  EXPECT_EQ(count, 2) << "one that is not finished is not doubled";
}

TEST_F(SyncJobsTest, APausedOrRemovedConnectionIsLeftAlone) {
  connections_.set_state("main", "paused", "stocktaking");
  const auto paused = attempt("sync.run", id());
  EXPECT_EQ(paused.what, Outcome::What::cancel);
  EXPECT_EQ(paused.message, "The connection main is paused: stocktaking.");
  EXPECT_EQ(attempt("sync.run", 99).message, "Its connection was removed.");
}

TEST_F(SyncJobsTest, APayloadThatIsNoGoodIsDeadAtOnce) {
  for (const char* payload : {"[]", "{", R"({"modles":[]})", R"({"models":"x"})", R"({"models":[1]})", R"({"full":1})"})
    for (const std::int64_t connection : {std::int64_t{0}, id()}) {
      const auto outcome = attempt("sync.run", connection, payload);
      EXPECT_EQ(outcome.what, Outcome::What::dead) << payload;
      EXPECT_EQ(outcome.code, "payload") << payload;
    }
  EXPECT_EQ(attempt("sync.certify", 0, R"({"bodies":"some"})").message,
            "`bodies` of the payload is none, sample or all.");
}

TEST_F(SyncJobsTest, RefusedCredentialsAreAboutTheConnection) {
  connections_.update("main", {{"url", "x"}}, Secret("wrong"));
  EXPECT_EQ(attempt("sync.run", id()).what, Outcome::What::outage);
}

TEST_F(SyncJobsTest, WhatHasNotBegunWhenTheHubStopsGoesBack) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(attempt("sync.run", id(), "{}", stop.get_token()).what, Outcome::What::snooze);
}

TEST(SyncSchedules, AreGood) {
  for (const auto& spec : sync_schedules()) jobs::check(spec);
}

}  // namespace
}  // namespace dragoman::pipeline
