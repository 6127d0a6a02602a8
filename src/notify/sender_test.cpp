#include "notify/sender.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "base/error.h"
#include "fakes/hand_clock.h"
#include "store/test_store.h"

namespace dragoman::notify {
namespace {

using namespace std::chrono_literals;
using store::Session;

// A way to people that keeps what it was sent, and fails as often as it is told.
struct Outbox {
  std::vector<Message> sent;
  std::deque<Error> failures;
};

class FakeChannel final : public Channel {
 public:
  FakeChannel(std::string name, Outbox& outbox) : name_(std::move(name)), outbox_(outbox) {}
  std::string name() const override { return name_; }
  std::string target() const override { return "nowhere"; }
  std::string send(const Message& message, Time, std::stop_token) override {
    if (!outbox_.failures.empty()) {
      const Error error = outbox_.failures.front();
      outbox_.failures.pop_front();
      throw error;
    }
    outbox_.sent.push_back(message);
    return "taken";
  }

 private:
  const std::string name_;
  Outbox& outbox_;
};

class SenderTest : public testing::Test {
 protected:
  void SetUp() override { start(); }

  void start(bool with_channels = true) {
    sender_.reset();
    store_.reset();
    store_ = store::open({.url = folder_ / "hub.db"}, clock_);
    std::vector<std::unique_ptr<Channel>> channels;
    if (with_channels) {
      channels.push_back(std::make_unique<FakeChannel>("email", mail_));
      channels.push_back(std::make_unique<FakeChannel>("webhook", hook_));
    }
    sender_ = std::make_unique<Sender>(*store_, std::move(channels), settings_, clock_, random_, recipients_);
  }
  void raise_one(const std::string& fingerprint, std::int64_t count = 1, Severity severity = Severity::critical) {
    store_->write([&](Session& session) {
      raise(session, {.fingerprint = fingerprint,
                      .severity = severity,
                      .title = "about " + fingerprint,
                      .text = "It failed.",
                      .subject = "main",
                      .count = count});
    });
  }
  Micros step() { return sender_->step({}); }
  Problem problem(const std::string& fingerprint) {
    std::optional<Problem> found;
    store_->read([&](Session& session) {
      for (auto& one : problems(session, 1000))
        if (one.alert.fingerprint == fingerprint) found = one;
    });
    EXPECT_TRUE(found) << fingerprint;
    return found.value_or(Problem{});
  }

  store::TemporaryFolder folder_;
  tests::HandClock clock_;
  SeededRandom random_{4711};
  Settings settings_{.hub = "hub1"};
  Outbox mail_, hook_;
  Sender::Recipients recipients_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<Sender> sender_;
};

TEST_F(SenderTest, TheFirstIsToldAtOnceThroughEveryChannel) {
  EXPECT_EQ(step(), 1min);
  raise_one("a");
  step();
  ASSERT_EQ(mail_.sent.size(), 1u);
  ASSERT_EQ(hook_.sent.size(), 1u);
  EXPECT_EQ(mail_.sent[0].kind, "first");
  EXPECT_EQ(mail_.sent[0].alert.title, "about a");
  EXPECT_EQ(mail_.sent[0].hub, "hub1");
  EXPECT_EQ(mail_.sent[0].uid, hook_.sent[0].uid);
  EXPECT_EQ(problem("a").state, "sent");
  step();
  EXPECT_EQ(mail_.sent.size(), 1u);
}

TEST_F(SenderTest, WhoIsToldIsAskedWhenItIsSent) {
  std::vector<std::string> people{"ann@example.com"};
  recipients_ = [&](Session&, const Alert& alert) {
    return alert.subject == "main" ? people : std::vector<std::string>();
  };
  start();
  mail_.failures.emplace_back(Error::Kind::unavailable, "not now");
  raise_one("a");
  step();
  people = {"bob@example.com"};
  clock_.advance(5min);
  step();
  ASSERT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(mail_.sent[0].to, people);
}

TEST_F(SenderTest, WhatFollowsIsCountedAndToldAsOneWhenTheWindowEnds) {
  raise_one("a");
  step();
  for (int i = 0; i < 36; ++i) {
    raise_one("a");
    clock_.advance(1min);
    step();
  }
  EXPECT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(problem("a").untold, 36);
  clock_.advance(24min);
  step();
  ASSERT_EQ(mail_.sent.size(), 2u);
  EXPECT_EQ(mail_.sent[1].kind, "digest");
  EXPECT_EQ(mail_.sent[1].alert.title, "36 more: about a");
  EXPECT_NE(mail_.sent[1].alert.text.find("37 in all since"), std::string::npos) << mail_.sent[1].alert.text;
  EXPECT_NE(mail_.sent[1].uid, mail_.sent[0].uid);
  clock_.advance(2h);
  step();
  EXPECT_EQ(mail_.sent.size(), 2u);
  raise_one("a");
  step();
  EXPECT_EQ(mail_.sent.size(), 3u);
}

TEST_F(SenderTest, OneCallMayStandForMany) {
  raise_one("a", 500);
  step();
  ASSERT_EQ(mail_.sent.size(), 1u);
  EXPECT_NE(mail_.sent[0].alert.text.find("500 of them so far"), std::string::npos) << mail_.sent[0].alert.text;
  EXPECT_EQ(problem("a").alert.count, 500);
}

TEST_F(SenderTest, AFloodOfKindsEndsInOneSummaryAnHour) {
  settings_.per_hour_max = 5;
  start();
  for (int i = 0; i < 100; ++i)
    raise_one("kind " + std::to_string(i), 2, i == 77 ? Severity::critical : Severity::warning);
  step();
  ASSERT_EQ(mail_.sent.size(), 5u);
  EXPECT_EQ(mail_.sent[0].alert.fingerprint, "kind 77");  // the worst is not in the crowd
  EXPECT_EQ(mail_.sent[4].kind, "summary");
  EXPECT_EQ(mail_.sent[4].alert.title, "192 problems of 96 kinds");
  EXPECT_NE(mail_.sent[4].alert.text.find("and 76 more kinds"), std::string::npos) << mail_.sent[4].alert.text;
  EXPECT_EQ(problem("kind 99").state, "sent");
  raise_one("late");
  for (int i = 0; i < 59; ++i) {
    clock_.advance(1min);
    step();
  }
  EXPECT_EQ(mail_.sent.size(), 5u);
  clock_.advance(2min);
  step();
  ASSERT_EQ(mail_.sent.size(), 6u);
  EXPECT_EQ(mail_.sent[5].alert.fingerprint, "late");
}

TEST_F(SenderTest, OneChannelThatFailsKeepsTheOtherFromNothingAndIsTriedAgainWithBackoff) {
  mail_.failures = {Error(Error::Kind::unavailable, "no connection"), Error(Error::Kind::auth, "wrong password")};
  raise_one("a");
  step();
  EXPECT_EQ(mail_.sent.size(), 0u);
  EXPECT_EQ(hook_.sent.size(), 1u);
  EXPECT_EQ(problem("a").state, "waiting");
  EXPECT_EQ(problem("a").deliveries[0].result, "no connection");
  const Micros wait = step();
  EXPECT_GE(wait, 30s);
  EXPECT_LE(wait, 38s);
  clock_.advance(wait);
  step();
  EXPECT_EQ(problem("a").deliveries[0].result, "wrong password");
  EXPECT_EQ(problem("a").deliveries[0].attempts, 2);
  clock_.advance(40s);
  step();
  EXPECT_EQ(mail_.sent.size(), 0u);
  clock_.advance(40s);
  step();
  EXPECT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(hook_.sent.size(), 1u);
  EXPECT_EQ(problem("a").state, "sent");
}

TEST_F(SenderTest, WhatIsHopelessIsGivenUpAtOnceAndTheRestAfterADay) {
  mail_.failures = {Error(Error::Kind::invalid, "554 spam")};
  raise_one("a");
  step();
  EXPECT_EQ(problem("a").state, "failed");
  const auto counts = [&] {
    MessageCounts now;
    store_->read([&](Session& session) { now = message_counts(session); });
    return std::pair(now.waiting, now.failed);
  };
  EXPECT_EQ(counts(), std::pair(std::int64_t{0}, std::int64_t{1}));
  mail_.failures.assign(1000, Error(Error::Kind::unavailable, "no connection"));
  raise_one("b");
  for (int i = 0; i < 26 * 60; ++i) {
    step();
    clock_.advance(1min);
  }
  EXPECT_EQ(problem("b").state, "failed");
  EXPECT_GT(problem("b").deliveries[0].attempts, 20);
  EXPECT_LT(problem("b").deliveries[0].attempts, 40);
  EXPECT_EQ(counts(), std::pair(std::int64_t{0}, std::int64_t{1})) << "the other was longer ago";
}

TEST_F(SenderTest, ALongWaitThatTheReceiverAsksForIsKept) {
  hook_.failures = {Error(Error::Kind::busy, "429").retry_in(600s)};
  raise_one("a");
  step();
  clock_.advance(599s);
  step();
  EXPECT_EQ(hook_.sent.size(), 0u);
  clock_.advance(1s);
  step();
  EXPECT_EQ(hook_.sent.size(), 1u);
}

TEST_F(SenderTest, NothingIsLostWhenTheHubStartsAgain) {
  raise_one("a");
  start();
  mail_.failures = {Error(Error::Kind::unavailable, "no connection")};
  step();
  EXPECT_EQ(hook_.sent.size(), 1u);
  start();
  clock_.advance(1min);
  step();
  EXPECT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(hook_.sent.size(), 1u);
}

TEST_F(SenderTest, AnAttemptThatDiedWithItsHubIsMadeAgainWithTheSameId) {
  raise_one("a");
  step();
  // As a hub leaves it that was killed while it sent.
  store_->write([&](Session& session) {
    session.execute("UPDATE notification_delivery SET state = 'waiting', due_us = $1 WHERE channel = 'email'",
                    {{to_us(clock_.now() + Sender::kLease)}});
  });
  start();
  step();
  EXPECT_EQ(mail_.sent.size(), 1u);
  clock_.advance(Sender::kLease);
  step();
  ASSERT_EQ(mail_.sent.size(), 2u);
  EXPECT_EQ(mail_.sent[1].uid, mail_.sent[0].uid);
}

TEST_F(SenderTest, WhatIsRolledBackIsToldToNobody) {
  EXPECT_THROW(store_->write([&](Session& session) {
    raise(session, {.fingerprint = "a", .title = "t"});
    throw Error(Error::Kind::conflict, "no");
  }),
               Error);
  step();
  EXPECT_EQ(mail_.sent.size(), 0u);
}

TEST_F(SenderTest, AMutedProblemIsCountedAndToldWhenTheTimeIsUp) {
  raise_one("a");
  step();
  store_->write([&](Session& session) { mute(session, "a", clock_.now() + 24h); });
  for (int i = 0; i < 23; ++i) {
    clock_.advance(1h);
    raise_one("a");
    step();
  }
  EXPECT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(problem("a").state, "muted");
  clock_.advance(1h);
  step();
  ASSERT_EQ(mail_.sent.size(), 2u);
  EXPECT_EQ(mail_.sent[1].alert.title, "23 more: about a");
  const auto error = store::error_of([&] { store_->write([&](Session& s) { mute(s, "b", clock_.now()); }); });
  EXPECT_EQ(error.kind, Error::Kind::not_found);
}

TEST_F(SenderTest, WhatIsLessSevereThanWantedIsListedOnly) {
  settings_.least = Severity::critical;
  start();
  raise_one("a", 1, Severity::warning);
  step();
  EXPECT_EQ(mail_.sent.size(), 0u);
  EXPECT_EQ(problem("a").state, "untold");
}

TEST_F(SenderTest, WithoutAChannelProblemsAreListedAndToldOnceThereIsOne) {
  start(false);
  raise_one("a");
  EXPECT_EQ(step(), 1min);
  EXPECT_EQ(problem("a").state, "untold");
  start();
  step();
  EXPECT_EQ(mail_.sent.size(), 1u);
}

TEST_F(SenderTest, TwoSendersTellOnce) {
  std::vector<std::unique_ptr<Channel>> channels;
  channels.push_back(std::make_unique<FakeChannel>("email", mail_));
  channels.push_back(std::make_unique<FakeChannel>("webhook", hook_));
  Sender other(*store_, std::move(channels), settings_, clock_, random_);
  raise_one("a");
  step();
  other.step({});
  EXPECT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(hook_.sent.size(), 1u);
}

TEST_F(SenderTest, OldMessagesAreForgotten) {
  raise_one("a");
  step();
  clock_.advance(Sender::kKept + 1h);
  raise_one("b");
  step();
  std::int64_t left = 0;
  store_->read([&](Session& session) {
    session.query("SELECT count(*) FROM notification", {}, [&](const store::Row& row) { left = row.int64(0); });
    EXPECT_EQ(problems(session, 10).size(), 1u);
  });
  EXPECT_EQ(left, 1);
}

TEST_F(SenderTest, TheTestButtonSaysWhatEveryChannelMadeOfIt) {
  mail_.failures = {Error(Error::Kind::auth, "535 wrong password")};
  const auto tried = sender_->test({});
  ASSERT_EQ(tried.size(), 2u);
  EXPECT_FALSE(tried[0].ok);
  EXPECT_EQ(tried[0].result, "535 wrong password");
  EXPECT_TRUE(tried[1].ok);
  EXPECT_EQ(tried[1].result, "taken");
  EXPECT_EQ(hook_.sent[0].kind, "test");
}

TEST_F(SenderTest, OddTextIsTold) {
  raise_one(std::string("a\0b\xff\n", 5));
  step();
  ASSERT_EQ(mail_.sent.size(), 1u);
  EXPECT_EQ(mail_.sent[0].alert.fingerprint, "a b\xef\xbf\xbd ");
}

// The same on the other engine, by the database's own clock.
TEST(SenderPostgres, RaisesGroupsSendsMutesAndForgets) {
  store::skip_without_server();
  if (testing::Test::IsSkipped() || testing::Test::HasFatalFailure()) return;
  store::PostgresDatabase database(store::test_server());
  SystemClock clock;
  SystemRandom random;
  const auto store = store::open({.url = database.url()}, clock);
  Outbox mail;
  mail.failures = {Error(Error::Kind::unavailable, "no connection")};
  std::vector<std::unique_ptr<Channel>> channels;
  channels.push_back(std::make_unique<FakeChannel>("email", mail));
  Settings settings;
  settings.per_hour_max = 3;
  Sender sender(*store, std::move(channels), settings, clock, random);
  const auto raise_one = [&](const std::string& fingerprint) {
    store->write([&](Session& session) { raise(session, {.fingerprint = fingerprint, .title = "t"}); });
  };
  raise_one("a");
  raise_one("a");
  sender.step({});
  std::vector<Problem> found;
  const auto look = [&] { store->read([&](Session& session) { found = problems(session, 10); }); };
  look();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].alert.count, 2);
  EXPECT_EQ(found[0].state, "waiting");
  EXPECT_EQ(found[0].deliveries[0].result, "no connection");
  store->write([](Session& session) { session.execute("UPDATE notification_delivery SET due_us = 0"); });
  const Micros wait = sender.step({});
  EXPECT_EQ(mail.sent.size(), 1u);
  EXPECT_GT(wait, 30s);
  raise_one("a");
  for (int i = 0; i < 5; ++i) raise_one("b" + std::to_string(i));
  sender.step({});
  ASSERT_EQ(mail.sent.size(), 3u);
  EXPECT_EQ(mail.sent[2].kind, "summary");
  EXPECT_EQ(mail.sent[2].alert.count, 4);
  store->write([](Session& session) { mute(session, "a", session.now() + 1h); });
  look();
  EXPECT_TRUE(std::any_of(found.begin(), found.end(), [](const auto& one) { return one.state == "muted"; }));
}

}  // namespace
}  // namespace dragoman::notify
