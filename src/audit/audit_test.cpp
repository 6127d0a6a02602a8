#include "audit/audit.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "fakes/hand_clock.h"
#include "store/test_store.h"

namespace dragoman::audit {
namespace {

using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

class AuditTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    std::string url = "sqlite:" + (folder_ / "hub.db");
    if (std::string_view(GetParam()) == "Postgres") {
      store::skip_without_server();
      if (IsSkipped() || HasFatalFailure()) return;
      if (!server_) server_ = std::make_unique<store::PostgresDatabase>(store::test_server());
      schema_ = std::make_unique<store::PostgresSchema>(*server_);
      url = schema_->url();
    }
    store_ = store::open({.url = url}, clock_);
  }
  void TearDown() override { store_.reset(); }
  static void TearDownTestSuite() { server_.reset(); }

  static Entry entry(int i) {
    return {.actor = "token t" + std::to_string(i % 3),
            .action = i % 2 ? "job.retry" : "job.edit",
            .subject = "job " + std::to_string(i),
            .why = i % 5 ? "" : "because: \"it\"\n was, wrong",
            .outcome = "ok",
            .before = "{\"n\":" + std::to_string(i) + "}",
            .after = ""};
  }
  void append_some(int from, int upto) {
    std::vector<Entry> entries;
    for (int i = from; i <= upto; ++i) entries.push_back(entry(i));
    store_->write([&](Session& session) { append(session, entries); });
  }
  void tamper(std::string_view sql, std::initializer_list<Param> params = {}) {
    store_->write([&](Session& session) { session.execute(sql, std::span(params.begin(), params.size())); });
  }
  // As if nothing had ever been written; `everywhere`: by somebody who knows of every place.
  void empty_the_log(bool everywhere) {
    tamper("DELETE FROM audit");
    tamper("UPDATE audit_head SET entries = 0, hash = NULL");
    if (everywhere) tamper("UPDATE last_number SET last = 0 WHERE name = 'audit'");
  }
  // `3 changed`, or `fine`.
  std::string found(const std::optional<Anchor>& anchor = std::nullopt) {
    const auto verdict = verify(*store_, anchor);
    if (!verdict.broken) return "fine";
    EXPECT_FALSE(verdict.broken->message.empty());
    return std::to_string(verdict.broken->number) + " " + verdict.broken->what;
  }
  std::vector<Link> all() {
    std::vector<Link> links;
    store_->read([&](Session& session) {
      links.clear();
      stream(session, {}, 0, [&](const Link& link) {
        links.push_back(link);
        return true;
      });
    });
    return links;
  }

  store::TemporaryFolder folder_;
  inline static std::unique_ptr<store::PostgresDatabase> server_;
  std::unique_ptr<store::PostgresSchema> schema_;
  SystemClock clock_;
  std::unique_ptr<store::Store> store_;
};

INSTANTIATE_TEST_SUITE_P(, AuditTest, testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(AuditTest, AChainThatNobodyTouchedIsFine) {
  EXPECT_EQ(found(), "fine");
  append_some(1, 1);
  EXPECT_EQ(found(), "fine");
  append_some(2, 1200);
  append_some(1201, 1201);
  const auto verdict = verify(*store_);
  EXPECT_FALSE(verdict.broken) << verdict.broken->message;
  EXPECT_EQ(verdict.end.number, 1201);
  const auto links = all();
  ASSERT_EQ(links.size(), 1201u);
  EXPECT_EQ(links.back().hash, verdict.end.hash);
  EXPECT_EQ(links.front().previous, std::string(64, '0'));
  for (std::size_t i = 0; i < links.size(); ++i) {
    EXPECT_EQ(links[i].number, static_cast<std::int64_t>(i) + 1);
    EXPECT_EQ(hash_of(links[i]), links[i].hash);
    EXPECT_EQ(links[i].previous, i > 0 ? links[i - 1].hash : std::string(64, '0'));
  }
}

TEST_P(AuditTest, TheHashIsTheOneThatTheReferenceDescribes) {
  // Made by hand of the page's own words; a change of the form would make every old export unverifiable.
  Link link;
  link.number = 1;
  link.at = from_us(1'790'000'000'123'456);
  link.actor = "command line (root)";
  link.action = "connection.add";
  link.subject = "main";
  link.why = "größer";
  link.outcome = "ok";
  link.after = R"({"url":"x"})";
  link.previous = std::string(64, '0');
  EXPECT_EQ(hash_of(link), "f5e1973ec8428a46e069f98cf247b000572826d3df09307807510f4dafb2dd1a");
}

TEST_P(AuditTest, AnyFieldThatWasChangedIsFound) {
  for (const char* change : {"actor = 'nobody'", "action = 'x'", "subject = ''", "why = 'no'", "outcome = 'refused'",
                             "state_before = '{}'", "state_after = 'x'", "at_us = at_us + 1"}) {
    append_some(1, 20);
    const auto end = verify(*store_).end.number;
    tamper("UPDATE audit SET " + std::string(change) + " WHERE number = $1", {{end - 7}});
    EXPECT_EQ(found(), std::to_string(end - 7) + " changed") << change;
    empty_the_log(true);
  }
  append_some(1, 5);
  tamper("UPDATE audit SET hash = (SELECT o.hash FROM audit AS o WHERE o.number = 2) WHERE number = 3");
  EXPECT_EQ(found(), "3 changed");
}

TEST_P(AuditTest, RemovedEntriesAreMissed) {
  append_some(1, 20);
  tamper("DELETE FROM audit WHERE number = 7");
  EXPECT_EQ(found(), "7 removed");
  tamper("DELETE FROM audit WHERE number = 1");
  EXPECT_EQ(found(), "1 removed");
}

TEST_P(AuditTest, TheNewestEntriesAreMissedToo) {
  append_some(1, 20);
  tamper("DELETE FROM audit WHERE number > 18");
  EXPECT_EQ(found(), "19 removed");
  tamper("DELETE FROM audit");
  EXPECT_EQ(found(), "1 removed");
  tamper("DELETE FROM audit_head");
  EXPECT_EQ(found(), "0 removed");
  EXPECT_EQ(store::error_of([&] { append_some(1, 1); }).code, "audit_head");
}

TEST_P(AuditTest, ALogThatWasEmptiedWithItsEndIsMissed) {
  append_some(1, 20);
  append_some(21, 21);
  empty_the_log(false);
  EXPECT_EQ(found(), "1 removed");
  EXPECT_EQ(verify(*store_).broken->message,
            "21 entries were written, and the log has 0: it was emptied, its end with it.");
  append_some(1, 3);
  EXPECT_EQ(found(), "4 removed") << "what follows does not cover it up";
  tamper("DELETE FROM audit_head");
  tamper("INSERT INTO audit_head (id, entries) VALUES (1, 0)");
  tamper("DELETE FROM audit");
  EXPECT_EQ(found(), "1 removed") << "nor does a new end";
}

TEST_P(AuditTest, ALogThatWasCutAndItsEndMadeToFitIsMissed) {
  append_some(1, 20);
  tamper("DELETE FROM audit WHERE number > 15");
  tamper("UPDATE audit_head SET entries = 15, hash = (SELECT hash FROM audit WHERE number = 15)");
  EXPECT_EQ(found(), "16 removed");
  tamper("UPDATE last_number SET last = 14 WHERE name = 'audit'");
  EXPECT_EQ(found(), "15 inserted");
  tamper("DELETE FROM last_number WHERE name = 'audit'");
  EXPECT_EQ(found(), "16 removed");
  EXPECT_NE(verify(*store_).broken->message.find("count"), std::string::npos);
}

TEST_P(AuditTest, AnEntryRemovedWithTheOthersMovedUpIsFoundWhereTheyMovedTo) {
  append_some(1, 20);
  tamper("DELETE FROM audit WHERE number = 7");
  for (std::int64_t n = 8; n <= 20; ++n) tamper("UPDATE audit SET number = $1 WHERE number = $2", {n - 1, n});
  EXPECT_EQ(found(), "7 changed");
}

TEST_P(AuditTest, AnInsertedEntryIsNamed) {
  append_some(1, 20);
  for (std::int64_t n = 20; n >= 9; --n) tamper("UPDATE audit SET number = $1 WHERE number = $2", {n + 1, n});
  tamper(
      "INSERT INTO audit (number, at_us, actor, action, subject, why, outcome, state_before, state_after, hash) SELECT "
      "9, at_us, 'me', action, subject, why, outcome, state_before, state_after, hash FROM audit WHERE number = 8");
  EXPECT_EQ(found(), "9 inserted");
}

TEST_P(AuditTest, AnEntryPastTheEndIsNamed) {
  append_some(1, 3);
  auto link = all().back();
  link.previous = link.hash;
  link.number = 4;
  const std::string hash = hash_of(link);
  std::string raw;
  for (std::size_t i = 0; i < hash.size(); i += 2)
    raw.push_back(static_cast<char>(std::stoi(hash.substr(i, 2), nullptr, 16)));
  store_->write([&](Session& session) {
    session.execute(
        "INSERT INTO audit (number, at_us, actor, action, subject, why, outcome, state_before, state_after, hash) "
        "SELECT 4, at_us, actor, action, subject, why, outcome, state_before, state_after, $1 FROM audit WHERE "
        "number = 3",
        {{store::Bytes(raw)}});
  });
  EXPECT_EQ(found(), "4 inserted");
  tamper("UPDATE audit SET number = -3 WHERE number = 4");
  EXPECT_EQ(found(), "-3 inserted");
}

TEST_P(AuditTest, SwappedEntriesAreNamed) {
  append_some(1, 20);
  const auto swap = [&](std::int64_t a, std::int64_t b) {
    tamper("UPDATE audit SET number = 1000 WHERE number = $1", {{a}});
    tamper("UPDATE audit SET number = $1 WHERE number = $2", {a, b});
    tamper("UPDATE audit SET number = $1 WHERE number = 1000", {{b}});
  };
  swap(5, 17);
  EXPECT_EQ(found(), "5 swapped");
  swap(5, 17);
  EXPECT_EQ(found(), "fine");
  swap(8, 9);
  EXPECT_EQ(found(), "8 swapped");
}

TEST_P(AuditTest, AChainMadeAnewIsFoundByTheAnchorThatWasKept) {
  append_some(1, 10);
  const auto anchor = verify(*store_).end;
  append_some(11, 12);
  EXPECT_EQ(found(anchor), "fine");
  empty_the_log(true);
  append_some(2, 13);
  EXPECT_EQ(found(), "fine");  // by itself it is a good chain
  EXPECT_EQ(found(anchor), "10 anchor");
  empty_the_log(true);
  append_some(1, 4);
  try {
    verify(*store_, anchor);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "no_entry");
    EXPECT_NE(error.message.find("the newest entries were removed"), std::string::npos) << error.message;
  }
  tamper("UPDATE audit SET actor = 'somebody' WHERE number = 2");
  EXPECT_EQ(found(anchor), "2 changed") << "what is broken goes before what may be a slip";
}

TEST_P(AuditTest, ALogWhoseTableIsGoneIsSaidToBeSo) {
  append_some(1, 3);
  tamper("DROP TABLE audit");
  EXPECT_EQ(found(), "0 removed");
  EXPECT_NE(verify(*store_).broken->message.find("`audit`"), std::string::npos);
  tamper("DROP TABLE audit_head");
  EXPECT_EQ(found(), "0 removed");
}

TEST_P(AuditTest, WhatIsRolledBackWasNeverThere) {
  append_some(1, 2);
  EXPECT_THROW(store_->write([&](Session& session) {
    append(session, entry(3));
    throw Error(Error::Kind::conflict, "no");
  }),
               Error);
  append_some(3, 3);
  EXPECT_EQ(found(), "fine");
  EXPECT_EQ(all().size(), 3u);
}

TEST_P(AuditTest, ManyAtOnceMakeOneChain) {
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < 24; ++i)
        store_->write([&](Session& session) { append(session, std::vector<Entry>(1 + i % 3, entry(7))); });
    });
  threads.clear();
  EXPECT_EQ(found(), "fine");
  EXPECT_EQ(all().size(), 4u * 24u * 2u);
}

TEST_P(AuditTest, OddTextIsKeptAsFarAsItIsText) {
  Entry odd;
  odd.actor = std::string("a\0b", 3);
  odd.outcome = "refused: \xff\xfe caf\xc3\xa9 \xf0\x9f\x98";
  store_->write([&](Session& session) { append(session, odd); });
  EXPECT_EQ(found(), "fine");
  const auto link = all().front();
  EXPECT_EQ(link.actor,
            "a\xef\xbf\xbd"
            "b");
  EXPECT_NE(link.outcome.find("caf\xc3\xa9"), std::string::npos);
}

TEST_P(AuditTest, FiltersByWholeAndByBeginning) {
  append_some(1, 30);
  const auto numbers = [&](const Filter& filter, std::int64_t before = 0, std::int64_t limit = 100) {
    std::vector<std::int64_t> out;
    store_->read([&](Session& session) {
      out.clear();
      for (const auto& link : newest(session, filter, before, limit)) out.push_back(link.number);
    });
    return out;
  };
  EXPECT_EQ(numbers({.subject = "job 7"}), (std::vector<std::int64_t>{7}));
  EXPECT_EQ(numbers({.subject = "job 2*"}, 25), (std::vector<std::int64_t>{24, 23, 22, 21, 20, 2}));
  EXPECT_EQ(numbers({.actor = "token t1", .action = "job.ed*"}, 0, 2), (std::vector<std::int64_t>{28, 22}));
  EXPECT_EQ(numbers({.actor = "*"}).size(), 30u);
  EXPECT_EQ(numbers({.action = "job"}).size(), 0u);
  EXPECT_EQ(numbers({.since = clock_.now() + std::chrono::hours(1)}).size(), 0u);
  EXPECT_EQ(
      numbers({.since = clock_.now() - std::chrono::hours(1), .until = clock_.now() + std::chrono::hours(1)}).size(),
      30u);
  std::vector<std::int64_t> streamed;
  store_->read([&](Session& session) {
    streamed.clear();
    stream(session, {.action = "job.retry"}, 10, [&](const Link& link) {
      EXPECT_EQ(hash_of(link), link.hash);  // the hash before it is there, also of one that is left out
      streamed.push_back(link.number);
      return streamed.size() < 3;
    });
  });
  EXPECT_EQ(streamed, (std::vector<std::int64_t>{11, 13, 15}));
}

TEST_P(AuditTest, AnExportedLineHoldsEverythingThatTheHashIsMadeOf) {
  append_some(5, 6);
  const auto link = all().back();
  const auto line = json::parse(to_json(link));
  EXPECT_EQ(line.at("number"), 2);
  EXPECT_EQ(line.at("at"), format_iso(link.at));
  EXPECT_EQ(line.at("before"), "{\"n\":6}");
  EXPECT_EQ(line.at("previous"), all().front().hash);
  EXPECT_EQ(line.size(), 11u);
  EXPECT_EQ(json::parse(to_json(all().front())).at("why"), "because: \"it\"\n was, wrong");
}

TEST_P(AuditTest, AnOperationThatIsCutOffStillGetsItsEntry) {
  {
    Pending lost(*store_, {.actor = "token t", .action = "connection.remove", .subject = "main", .after = "{}"});
  }
  Pending done(*store_, {.actor = "token t", .action = "connection.add", .subject = "other"});
  done.entry().outcome = "ok";
  done.finish();
  EXPECT_EQ(all().size(), 1u);
  EXPECT_EQ(settle(*store_, std::chrono::hours(1)), 0);  // may still be under way
  EXPECT_EQ(settle(*store_, Micros(0)), 1);
  EXPECT_EQ(settle(*store_, Micros(0)), 0);
  const auto links = all();
  ASSERT_EQ(links.size(), 2u);
  EXPECT_EQ(links[1].action, "connection.remove");
  EXPECT_EQ(links[1].outcome.substr(0, 9), "not known");
  EXPECT_EQ(found(), "fine");
}

TEST_P(AuditTest, AStopEndsTheCheck) {
  append_some(1, 3);
  std::stop_source stop;
  stop.request_stop();
  EXPECT_EQ(store::error_of([&] { verify(*store_, std::nullopt, stop.get_token()); }).kind, Error::Kind::cancelled);
}

}  // namespace
}  // namespace dragoman::audit
