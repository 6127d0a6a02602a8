#include "pipeline/inbox.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <barrier>
#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <latch>
#include <map>
#include <mutex>
#include <thread>

#include "fakes/delivery_fakes.h"
#include "pipeline/deliver.h"

namespace dragoman::pipeline {
namespace {

ConnectorList connectors() {
  Connector takes, none;
  takes.kind = "fake";
  takes.intake = "fake.import";
  none.kind = "reader";
  return ConnectorList({takes, none});
}

class InboxTest : public tests::DeliveryStore {
 protected:
  void SetUp() override {
    tests::DeliveryStore::SetUp();
    if (store_) inbox_.emplace(*store_, connectors_, settings_);
  }

  static InboxPut body(const std::string& key, const std::string& value = "a", int records = 1) {
    InboxPut put;
    put.connection = "main";
    put.idempotency_key = key;
    put.sender = "shop";
    put.digest = value;
    for (int i = 0; i < records; ++i)
      put.records.push_back({.model = "order",
                             .key = fmt::format("{}-{}", key, i),
                             .version = i,
                             .content = R"({"values":{"name":")" + value + "\"}}"});
    return put;
  }
  template <typename F>
  static std::string code_of(F&& run) {
    return store::error_of(run).code;
  }

  const ConnectorList connectors_ = connectors();
  InboxSettings settings_{};
  std::optional<Inbox> inbox_;
};

TEST_P(InboxTest, WhatIsAcknowledgedIsDurableWithItsJobs) {
  const auto receipt = inbox_->put(body("k1", "a", 3));
  EXPECT_EQ(receipt.records, 3);
  EXPECT_EQ(rows("SELECT l.kind, l.flow, j.cause, j.order_key FROM job j JOIN job_lane l ON l.id = j.lane_id ORDER BY "
                 "j.id",
                 4),
            fmt::format("fake.import|inbox|inbox {0}|1:order:k1-0 fake.import|inbox|inbox {0}|1:order:k1-1 "
                        "fake.import|inbox|inbox {0}|1:order:k1-2",
                        receipt.id));
  std::string payload;
  store_->read([&](store::Session& session) {
    session.query("SELECT payload FROM job ORDER BY id LIMIT 1", {},
                  [&](const store::Row& row) { payload = row.bytes(0); });
  });
  const auto order = DeliveryOrder::parse(payload);
  EXPECT_EQ(order.key, "k1-0");
  EXPECT_EQ(order.inbox_id, receipt.id);
  EXPECT_EQ(order.content, R"({"values":{"name":"a"}})");
}

TEST_P(InboxTest, TheSameKeyAndBodyGetTheSameAnswerAlsoElsewhereAndLater) {
  const auto first = inbox_->put(body("k1"));
  const auto again = inbox_->put(body("k1"));
  EXPECT_EQ(again.id, first.id);
  EXPECT_EQ(again.received, first.received);
  // Another node, or this one after a crash between the commit and the answer.
  const auto other_store = open_again();
  Inbox other(*other_store, connectors_);
  EXPECT_EQ(other.put(body("k1")).id, first.id);
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), "1");
}

TEST_P(InboxTest, TheSameKeyWithAnotherBodyIsRefused) {
  inbox_->put(body("k1"));
  const auto error = store::error_of([&] { inbox_->put(body("k1", "b")); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "idempotency_key_reused");
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), "1");
}

TEST_P(InboxTest, ARecordWithAVersionAfterOneWithoutIsNotTakenIn) {
  const auto with = [](const std::string& key, std::int64_t version) {
    auto put = body(key);
    put.records[0].key = "P";
    put.records[0].version = version;
    return put;
  };
  inbox_->put(with("k1", 0));
  const auto error = store::error_of([&] { inbox_->put(with("k2", 7)); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "versions_mixed");
  EXPECT_NE(error.message.find("Record 0 comes with a version"), std::string::npos) << error.message;
  EXPECT_EQ(rows("SELECT idempotency_key FROM inbox", 1), "k1");
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), "1");
  // As it should have been, under the same key; and the answer of before again.
  inbox_->put(with("k2", 0));
  inbox_->put(with("k1", 0));
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), "2");
  // Another model's key is another key.
  auto other = with("k3", 1);
  other.records[0].model = "line";
  inbox_->put(other);
  EXPECT_EQ(code_of([&] {
              other.idempotency_key = "k4";
              other.records[0].version = 0;
              inbox_->put(other);
            }),
            "versions_mixed");
}

TEST_P(InboxTest, ABodyThatMixesVersionsIsNotTakenInAsAWhole) {
  auto put = body("k1", "a", 3);
  put.records[0].key = put.records[2].key = "P";
  const auto error = store::error_of([&] { inbox_->put(put); });
  EXPECT_EQ(error.code, "versions_mixed");
  EXPECT_NE(error.message.find("Record 2 comes with a version"), std::string::npos) << error.message;
  EXPECT_EQ(rows("SELECT idempotency_key FROM inbox", 1) + rows("SELECT CAST(id AS TEXT) FROM job", 1), "");
  put.records[0].version = 1;
  EXPECT_EQ(inbox_->put(put).records, 3);
}

TEST_P(InboxTest, AKeyThatCameToNothingMayBeginAnewWithVersions) {
  auto put = body("k1");
  inbox_->put(put);
  store_->write([](store::Session& session) {
    session.execute("UPDATE job SET state = 5");
    session.execute("DELETE FROM order_queue");
  });
  put.idempotency_key = "k2";
  put.records[0].version = 4;
  EXPECT_EQ(inbox_->put(put).records, 1);
  put.idempotency_key = "k3";
  put.records[0].version = 0;
  EXPECT_EQ(code_of([&] { inbox_->put(put); }), "versions_mixed");
}

TEST_P(InboxTest, KeysThatAreNoneAreRefused) {
  for (const std::string& key : {std::string(), std::string(256, 'k'), std::string("with space"),
                                 std::string("\xc3\xa9"), std::string("line\nbreak")})
    EXPECT_EQ(code_of([&] { inbox_->put(body(key)); }), "idempotency_key");
  EXPECT_GT(inbox_->put(body(std::string(255, 'k'))).id, 0);
  EXPECT_EQ(code_of([&] { inbox_->put(body("empty", "a", 0)); }), "no_records");
  EXPECT_EQ(code_of([&] { inbox_->put(body("many", "a", 1001)); }), "too_many");
}

TEST_P(InboxTest, NothingIsTakenInForWhatIsNotThere) {
  auto put = body("k1");
  put.connection = "nobody";
  EXPECT_EQ(store::error_of([&] { inbox_->put(put); }).kind, Error::Kind::not_found);
  store_->write([](store::Session& session) {
    session.execute(
        "INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES (2, 'reader', "
        "'reader', '{}', 'active', 0, 0)");
  });
  put.connection = "reader";
  EXPECT_EQ(code_of([&] { inbox_->put(put); }), "intake");
  EXPECT_EQ(rows("SELECT idempotency_key FROM inbox", 1), "");
}

TEST_P(InboxTest, AKeyThatIsBeingStoredIsToldToAskAgain) {
  std::latch held(1), refused(1);
  // A transaction that has the key, and gives it back in the end: who wants to store it has to wait.
  std::jthread holder([&] {
    try {
      store_->write([&](store::Session& session) {
        session.execute(
            "INSERT INTO inbox (connection_id, idempotency_key, digest, sender, received_us, records) VALUES (1, 'k1', "
            "$1, 'x', 0, 0)",
            {store::Bytes{"x"}});
        held.count_down();
        refused.wait();
        throw Error(Error::Kind::cancelled, "given back");
      });
    } catch (const Error&) {
    }
  });
  held.wait();
  // Whichever of the two comes first waits; the other one is told.
  std::atomic<int> stored = 0, told = 0;
  const auto send = [&] {
    try {
      inbox_->put(body("k1"));
      ++stored;
    } catch (const Error& error) {
      EXPECT_EQ(error.code, "in_progress");
      EXPECT_EQ(error.kind, Error::Kind::conflict);
      EXPECT_TRUE(error.retry_after);
      ++told;
      refused.count_down();
    }
  };
  {
    std::jthread one(send), two(send);
  }
  EXPECT_EQ(stored, 1);
  EXPECT_EQ(told, 1);
}

TEST_P(InboxTest, RequestsAtOnceShareTransactionsAndEachHasItsAnswer) {
  constexpr int kThreads = 16, kEach = 40;
  std::vector<std::vector<std::int64_t>> ids(kThreads);
  {
    std::barrier start(kThreads);
    std::vector<std::jthread> senders;
    for (int t = 0; t < kThreads; ++t)
      senders.emplace_back([&, t] {
        start.arrive_and_wait();
        for (int i = 0; i < kEach; ++i) {
          // Every fourth is somebody else's fault and no business of the others.
          if (i % 4 == 3) {
            EXPECT_EQ(code_of([&] { inbox_->put(body(fmt::format("t{}-{}", t, i - 1), "other")); }),
                      "idempotency_key_reused");
            continue;
          }
          ids[static_cast<std::size_t>(t)].push_back(inbox_->put(body(fmt::format("t{}-{}", t, i))).id);
        }
      });
  }
  std::set<std::int64_t> all;
  for (const auto& mine : ids) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kThreads * kEach * 3 / 4));
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), std::to_string(all.size()));
}

// The answers of put_later, by key.
class Told {
 public:
  void put(Inbox& inbox, InboxPut put) {
    const std::string key = put.idempotency_key;
    inbox.put_later(std::move(put), [this, key](const InboxAnswer& answer) {
      std::lock_guard lock(mutex_);
      answers_.emplace(key, answer);
      come_.notify_all();
    });
  }
  std::multimap<std::string, InboxAnswer> await(std::size_t count) {
    std::unique_lock lock(mutex_);
    come_.wait(lock, [&] { return answers_.size() >= count; });
    return answers_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable come_;
  std::multimap<std::string, InboxAnswer> answers_;
};

TEST_P(InboxTest, PutLaterTellsWhenItIsDurableOrWhyItIsNot) {
  Told told;
  told.put(*inbox_, body("k1"));
  EXPECT_EQ(told.await(1).find("k1")->second.receipt_or_throw().records, 1);
  told.put(*inbox_, body("k1"));
  EXPECT_EQ(told.await(2).rbegin()->second.receipt.id, told.await(2).begin()->second.receipt.id);
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), "1");
  Told refused;
  refused.put(*inbox_, body("k1", "other"));
  refused.put(*inbox_, body("a key"));
  auto lost = body("k2");
  lost.connection = "nowhere";
  refused.put(*inbox_, lost);
  const auto answers = refused.await(3);
  EXPECT_EQ(answers.find("k1")->second.error.value().code, "idempotency_key_reused");
  EXPECT_EQ(answers.find("a key")->second.error.value().code, "idempotency_key");
  EXPECT_EQ(answers.find("k2")->second.error.value().kind, Error::Kind::not_found);
}

TEST_P(InboxTest, ThoseWhoWaitAndThoseWhoAreToldShareTransactions) {
  settings_.group_max = 5;  // so that many stand behind a group's end
  Inbox inbox(*store_, connectors_, settings_);
  constexpr int kThreads = 4, kEach = 40;
  Told told;
  std::vector<std::vector<std::int64_t>> ids(kThreads);
  {
    std::barrier start(kThreads);
    std::vector<std::jthread> senders;
    for (int t = 0; t < kThreads; ++t)
      senders.emplace_back([&, t] {
        start.arrive_and_wait();
        for (int i = 0; i < kEach; ++i) {
          const auto key = fmt::format("t{}-{}", t, i);
          if (i % 3 == 0)
            ids[static_cast<std::size_t>(t)].push_back(inbox.put(body(key)).id);
          else
            told.put(inbox, body(key));
        }
      });
  }
  std::set<std::int64_t> all;
  for (const auto& mine : ids) all.insert(mine.begin(), mine.end());
  for (const auto& [key, answer] : told.await(kThreads * kEach - all.size())) all.insert(answer.receipt_or_throw().id);
  EXPECT_EQ(all.size(), static_cast<std::size_t>(kThreads * kEach));
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), std::to_string(all.size()));
}

TEST_P(InboxTest, EndsWhenAllWhoAreToldHaveBeen) {
  Told told;
  {
    Inbox inbox(*store_, connectors_, settings_);
    for (int i = 0; i < 30; ++i) told.put(inbox, body(fmt::format("k{}", i)));
  }
  EXPECT_EQ(told.await(0).size(), 30u);
}

TEST_P(InboxTest, TwoNodesWithTheSameKeysAtOnceStoreEachOnce) {
  const auto other_store = open_again();
  Inbox other(*other_store, connectors_);
  constexpr int kKeys = 60;
  std::vector<std::int64_t> here(kKeys), there(kKeys);
  {
    std::barrier start(8);
    std::vector<std::jthread> senders;
    for (int t = 0; t < 4; ++t) {
      const auto send = [&, t](Inbox& inbox, std::vector<std::int64_t>& ids) {
        start.arrive_and_wait();
        for (int i = t; i < kKeys; i += 4) ids[static_cast<std::size_t>(i)] = inbox.put(body(fmt::format("k{}", i))).id;
      };
      senders.emplace_back([&, send] { send(*inbox_, here); });
      senders.emplace_back([&, send] { send(other, there); });
    }
  }
  EXPECT_EQ(here, there);
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), std::to_string(kKeys));
}

TEST_P(InboxTest, TellsWhatBecameOfEachRecord) {
  const auto receipt = inbox_->put(body("k1", "a", 4));
  auto target = std::make_shared<tests::FakeTarget>();
  target->refused.emplace("k1-2", Error(Error::Kind::invalid, "No country."));
  DeliveryHandler handler(*store_, [&](std::int64_t) { return Destination{1, "main", target}; }, "node test");
  const auto before = inbox_->show("main", receipt.id);
  EXPECT_EQ(before.open, 4);
  EXPECT_EQ(before.items.at(0).state, "waiting");
  std::vector<jobs::Job> jobs;
  store_->read([&](store::Session& session) {
    jobs.clear();
    session.query("SELECT id, payload FROM job ORDER BY id LIMIT 3", {}, [&](const store::Row& row) {
      jobs::Job job;
      job.id = row.int64(0);
      job.kind = "fake.import";
      job.connection_id = 1;
      job.payload = row.bytes(1);
      jobs.push_back(job);
    });
  });
  for (const auto& outcome : handler.run(jobs, {})) store_->write(outcome.commit);
  const auto after = inbox_->show("main", receipt.id);
  EXPECT_EQ(after.items.at(0).state, "created");
  EXPECT_EQ(after.items.at(0).external_id, "fake:order:1");
  EXPECT_TRUE(after.items.at(0).finished);
  EXPECT_EQ(after.items.at(3).state, "waiting");
  EXPECT_EQ(rows("SELECT outcome, message FROM inbox_record WHERE position = 2", 2), "refused|No country.");
  EXPECT_THROW(inbox_->show("main", receipt.id + 1), Error);
  EXPECT_THROW(inbox_->show("other", receipt.id), Error);
  const auto list = inbox_->list("main", 0, 10);
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].idempotency_key, "k1");
}

TEST_P(InboxTest, KeysAreForgottenAfterTheirTimeUnlessAJobIsOpen) {
  for (int i = 0; i < 5; ++i) inbox_->put(body(fmt::format("k{}", i)));
  store_->write([](store::Session& session) {
    session.execute("UPDATE inbox SET received_us = received_us - 2678400000000 WHERE idempotency_key <> 'k4'");
    session.execute("UPDATE job SET state = 4 WHERE order_key IN ('1:order:k0-0', '1:order:k2-0', '1:order:k4-0')");
  });
  int gone = 0;
  // Those that stay are passed over, and looked at again when all the others were.
  for (int i = 0; i < 6; ++i) gone += static_cast<int>(inbox_->clean(1).gone);
  EXPECT_EQ(gone, 2);
  EXPECT_FALSE(inbox_->clean(100).more);
  EXPECT_EQ(rows("SELECT idempotency_key FROM inbox ORDER BY id", 1), "k1 k3 k4");
  EXPECT_EQ(rows("SELECT record_key FROM inbox_record ORDER BY inbox_id", 1), "k1-0 k3-0 k4-0");
  EXPECT_GT(inbox_->put(body("k0", "new body")).id, 0) << "the key is free again";
}

// Of PostgreSQL the disk is the server's.
class InboxDiskTest : public InboxTest {};

TEST_P(InboxDiskTest, AFullDiskIsSaidAndTakenInAgainByItself) {
  inbox_->put(body("before"));
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit open = limit;
  limit.rlim_cur = 4 << 20;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::vector<std::string> acknowledged;
  std::optional<Error> error;
  auto big = body("x");
  for (int i = 0; i < 200 && !error; ++i) {
    big.idempotency_key = fmt::format("big{}", i);
    big.records[0].content = R"({"values":{"name":")" + std::string(50'000, 'x') + "\"}}";
    try {
      inbox_->put(big);
      acknowledged.push_back(big.idempotency_key);
    } catch (const Error& full) {
      error = full;
    }
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &open), 0);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->kind, Error::Kind::unavailable);
  EXPECT_EQ(error->code, "disk_full");
  EXPECT_FALSE(acknowledged.empty());
  EXPECT_GT(inbox_->put(big).id, 0) << "the same request, once there is room";
  EXPECT_EQ(rows("SELECT CAST(count(*) AS TEXT) FROM job", 1), std::to_string(acknowledged.size() + 2));
}

INSTANTIATE_TEST_SUITE_P(Stores, InboxDiskTest, ::testing::Values("Sqlite"),
                         [](const auto& info) { return std::string(info.param); });
INSTANTIATE_TEST_SUITE_P(Stores, InboxTest, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
