#include "pipeline/own_writes.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "fakes/delivery_fakes.h"
#include "pipeline/capture_store.h"
#include "pipeline/records.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

TEST(OwnDigest, IsTheSameForWhatIsWrittenAndHowItIsReadBack) {
  const auto same = [](const char* written, const char* read) {
    EXPECT_EQ(own_digest(json::parse(written)), own_digest(json::parse(read))) << written << " and " << read;
  };
  same("10", "10.0");
  same("9.990", "9.99");
  same("null", "false");
  same(R"("")", "false");
  same("7", R"([7, "A name"])");
  same("[[6, 0, [3, 1, 2]]]", "[1, 2, 3]");
  same("[2, 1]", "[1, 2]");
  same("[[5, 0, 0]]", "[]");
  same(R"("\u00e9")", R"("é")");
  const auto other = [](const char* written, const char* read) {
    EXPECT_NE(own_digest(json::parse(written)), own_digest(json::parse(read))) << written << " and " << read;
  };
  other("1", "true");
  other("0", "false");
  other(R"("7")", "7");
  other("[1, 2]", "[1, 2, 3]");
  EXPECT_EQ(own_digest(json::parse("[[0, 0, {}]]")), "") << "what a command makes is not known";
}

class OwnWrites : public tests::DeliveryStore {
 protected:
  void SetUp() override {
    tests::DeliveryStore::SetUp();
    if (!store_) return;
    capture_.emplace(*store_, clock_);
    Description description;
    description.fields = R"({"amount":{"type":"float","depends":["line_ids.price"]},
      "display":{"type":"char","depends":["label","parent_id.display"]},
      "label":{"type":"char","depends":["name"]},"line_ids":{"type":"one2many","depends":[]},
      "name":{"type":"char","depends":[]},"phone":{"type":"char"},"parent_id":{"type":"many2one","relation":"thing"}})";
    description.plan.fields = {"amount", "display", "label", "name", "phone", "write_date"};
    capture_->describe(capture_->open_model(1, "thing", false, Micros(0)), description);
    model_ = *capture_->find_model(1, "thing");
  }

  /// What a poll stores: the number of the change, 0 if it is none.
  std::int64_t see(std::int64_t id, const std::string& fields) {
    std::string text =
        fmt::format(R"([{{"id": {}, "write_date": "2026-11-20 10:00:{:02}", {}}}])", id, ++second_ % 60, fields);
    text.reserve(text.size() + 128);
    dragoman::json::PageReader reader({});
    const auto applied = capture_->apply(model_.id, model_.schema_number, reader.parse(text), from_us(++second_), {});
    return applied.written.empty() ? 0 : Records(*store_).changes({.limit = 0}).last;
  }
  Own ask(std::int64_t change) {
    Own own{};
    store_->write([&](store::Session& session) { own = is_own(session, change); });
    return own;
  }
  void begin(std::int64_t job, const std::string& key, std::int64_t id, const char* values) {
    store_->write([&](store::Session& session) {
      EXPECT_TRUE(captured(session, 1, "thing"));
      remember(session, {{.connection_id = 1,
                          .model = "thing",
                          .key = key,
                          .external_id = id,
                          .job_id = job,
                          .fields = own_fields(json::parse(values))}});
    });
  }
  void end(std::int64_t job, const std::string& key, std::int64_t id, bool written = true) {
    store_->write([&](store::Session& session) { settle(session, job, "thing", key, id, written); });
  }

  std::optional<CaptureStore> capture_;
  ModelRow model_;
  int second_ = 0;
};

TEST_P(OwnWrites, AWriteOfOursIsKnownWhenItComesBackAndAForeignOneIsNot) {
  const auto first = see(7, R"("name": "a", "phone": "1")");
  EXPECT_EQ(ask(first), Own::no);
  begin(1, "A", 7, R"({"name": "b"})");
  end(1, "A", 7);
  const auto ours = see(7, R"("name": "b", "phone": "1")");
  EXPECT_EQ(ask(ours), Own::yes);
  EXPECT_EQ(ask(ours), Own::yes) << "asked again";
  EXPECT_EQ(ask(see(7, R"("name": "b", "phone": "2")")), Own::no) << "another field";
  EXPECT_EQ(ask(see(7, R"("name": "c", "phone": "2")")), Own::no);
  EXPECT_EQ(ask(see(7, R"("name": "b", "phone": "2")")), Own::no) << "our value again, by somebody else";
}

TEST_P(OwnWrites, AForeignChangeInTheSameMomentIsNotSwallowed) {
  see(7, R"("name": "a", "phone": "1")");
  begin(1, "A", 7, R"({"name": "b"})");
  end(1, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "b", "phone": "2")")), Own::no) << "theirs and ours in one";
}

TEST_P(OwnWrites, AValueThatSomebodyPutBackIsNotOurs) {
  see(7, R"("name": "a", "phone": "1")");
  begin(1, "A", 7, R"({"name": "b", "phone": "2"})");
  end(1, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "b", "phone": "1")")), Own::no);
}

TEST_P(OwnWrites, WhatOdooComputesFromOurFieldsIsOurs) {
  see(7, R"("name": "a", "label": "[a]", "display": "a!", "amount": 1.0)");
  begin(1, "A", 7, R"({"name": "b"})");
  end(1, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "b", "label": "[b]", "display": "b!", "amount": 1.0)")), Own::yes);
  begin(2, "A", 7, R"({"name": "c"})");
  end(2, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "c", "label": "[c]", "display": "c!", "amount": 2.0)")), Own::no)
      << "an amount does not come from a name";
}

TEST_P(OwnWrites, TheNoteThatOdooMakesOfATrackedFieldIsOursAndAMessageIsNot) {
  see(7, R"("name": "a", "message_ids": [5])");
  begin(1, "A", 7, R"({"name": "b"})");
  end(1, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "b", "message_ids": [6, 5])")), Own::yes);
  EXPECT_EQ(ask(see(7, R"("name": "b", "message_ids": [7, 6, 5])")), Own::no);
  begin(2, "A", 7, R"({"name": "c"})");
  end(2, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "c", "message_ids": [9, 8, 7, 6, 5])")), Own::no) << "a note and a message";
}

TEST_P(OwnWrites, SeveralWritesMayComeBackInOneChangeOrInBetween) {
  see(7, R"("name": "a", "phone": "1")");
  begin(1, "A", 7, R"({"name": "b"})");
  end(1, "A", 7);
  begin(2, "A", 7, R"({"phone": "2"})");
  const auto between = see(7, R"("name": "b", "phone": "1")");
  EXPECT_EQ(ask(between), Own::yes) << "read between the two";
  end(2, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "b", "phone": "2")")), Own::yes);
  begin(3, "A", 7, R"({"name": "c"})");
  begin(4, "A", 7, R"({"name": "d", "phone": "3"})");
  EXPECT_EQ(ask(see(7, R"("name": "d", "phone": "3")")), Own::yes) << "both at once";
}

TEST_P(OwnWrites, ACreateThatCameBackBeforeItsOutcomeIsAskedAboutAgain) {
  begin(1, "A", 0, R"({"name": "new", "phone": false})");
  const auto early = see(9, R"("name": "new", "phone": false)");
  EXPECT_EQ(ask(early), Own::not_yet);
  EXPECT_EQ(ask(see(10, R"("name": "another", "phone": false)")), Own::no);
  end(1, "A", 9);
  EXPECT_EQ(ask(early), Own::yes);
}

TEST_P(OwnWrites, ACreateThatFailedLeavesNoOwnership) {
  begin(1, "A", 0, R"({"name": "new"})");
  end(1, "A", 0, false);
  EXPECT_EQ(ask(see(9, R"("name": "new", "phone": false)")), Own::no);
}

TEST_P(OwnWrites, ARecordOfOursThatSomebodyElseWroteSinceIsNotOurs) {
  begin(1, "A", 0, R"({"name": "new"})");
  end(1, "A", 9);
  EXPECT_EQ(ask(see(9, R"("name": "new", "phone": "5", "create_uid": 7, "write_uid": 8)")), Own::no);
  begin(2, "B", 0, R"({"name": "new"})");
  end(2, "B", 10);
  EXPECT_EQ(ask(see(10, R"("name": "new", "phone": false, "create_uid": 7, "write_uid": 7)")), Own::yes);
}

TEST_P(OwnWrites, ALinkByKeyIsComparedWithTheRecordBehindTheKey) {
  store_->write([](store::Session& session) {
    session.execute(
        "INSERT INTO delivery (connection_id, model, record_key, version, external_id) VALUES (1, 'thing', 'P', 1, "
        "'33')");
  });
  see(7, R"("name": "a", "parent_id": false)");
  begin(1, "A", 7, R"({"parent_id": {"key": "P"}})");
  end(1, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "a", "parent_id": 33)")), Own::yes);
  begin(2, "A", 7, R"({"parent_id": {"key": "Q"}})");
  end(2, "A", 7);
  EXPECT_EQ(ask(see(7, R"("name": "a", "parent_id": 34)")), Own::no);
}

TEST_P(OwnWrites, AreForgottenSomeDay) {
  begin(1, "A", 7, R"({"name": "b"})");
  store_->write([](store::Session& session) {
    EXPECT_FALSE(forget_own_writes(session, session.now() - std::chrono::hours(1), 10));
  });
  EXPECT_EQ(rows("SELECT record_key FROM own_write", 1), "A");
  store_->write([](store::Session& session) {
    EXPECT_TRUE(forget_own_writes(session, session.now() + std::chrono::seconds(1), 1));
  });
  EXPECT_EQ(rows("SELECT record_key FROM own_write", 1), "");
}

INSTANTIATE_TEST_SUITE_P(Stores, OwnWrites, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
