#include "pipeline/connections.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/delivery_fakes.h"

namespace dragoman::pipeline {
namespace {

/// Two connections, as many records of each as fill several pieces, and contents: one of each, and one of both.
class RemovedConnectionTest : public tests::DeliveryStore {
 protected:
  static constexpr std::int64_t kRecords = 6000, kOne = 1, kNone = 0;

  void SetUp() override {
    DeliveryStore::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    store_->write([&](store::Session& session) {
      session.execute(
          "INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES (2, 'other', "
          "'fake', "
          "'{}', 'active', 0, 0)");
      session.execute(
          "INSERT INTO model (id, connection_id, name, asked, state, overlap_us, cursor_us) VALUES "
          "(1, 1, 'thing', 0, 'following', 0, 7), (2, 2, 'thing', 0, 'following', 0, 7)");
      static constexpr std::string_view kChange[] = {"number",   "model_id", "external_id",   "version",
                                                     "previous", "kind",     "schema_number", "seen_us"};
      static constexpr std::string_view kSnapshot[] = {"model_id", "external_id", "change_number",
                                                       "version",  "state",       "read_us"};
      std::vector<store::Param> changes, snapshots;
      for (std::int64_t number = 1; number <= 2 * kRecords; ++number) {
        const std::int64_t model = number % 2 == 0 ? 1 : 2;
        for (const std::int64_t value : {number, model, number, kOne, kNone, kOne, kOne, kNone})
          changes.emplace_back(value);
        for (const std::int64_t value : {model, number, number, kOne, kNone, kNone}) snapshots.emplace_back(value);
      }
      session.insert_many("change", kChange, changes);
      session.insert_many("snapshot", kSnapshot, snapshots);
      session.execute("UPDATE feed SET last = $1", {2 * kRecords});
      const auto content = [&](std::int64_t size, const std::string& digest, std::vector<std::int64_t> of) {
        session.execute("INSERT INTO blob (digest, size, data) VALUES ($1, $2, $1)", {store::Bytes{digest}, size});
        for (const std::int64_t change : of)
          session.execute("INSERT INTO blob_ref (change_number, field, digest) VALUES ($1, $2, $3)",
                          {change, std::string_view(digest), store::Bytes{digest}});
      };
      content(1, "of main", {kRecords, 2 * kRecords});
      content(2, "of other", {kRecords + 1});
      content(3, "of both", {kRecords + 1, kRecords + 2});
      session.execute("INSERT INTO blob_pending (change_number, model_id, external_id) VALUES (2, 1, 2), (3, 2, 3)");
    });
    connections_.emplace(*store_, keys_, clock_);
  }
  std::string held(const std::string& model) {
    return rows(
        fmt::format(
            "SELECT CAST((SELECT count(*) FROM change WHERE model_id = {0}) AS TEXT), CAST((SELECT count(*) FROM "
            "snapshot "
            "WHERE model_id = {0}) AS TEXT), CAST((SELECT count(*) FROM blob_pending WHERE model_id = {0}) AS TEXT)",
            model),
        3);
  }

  SystemRandom random_;
  store::TemporaryFolder keys_folder_;
  access::KeyRing keys_ = access::KeyRing::open_file(keys_folder_ / "secret.key", random_);
  std::optional<Connections> connections_;
};

TEST_P(RemovedConnectionTest, TakesAllOfItsOwnWithItAndNothingElse) {
  connections_->remove("main");
  EXPECT_EQ(held("1"), "0|0|0");
  EXPECT_EQ(held("2"), "6000|6000|1");
  EXPECT_EQ(rows("SELECT CAST(change_number AS TEXT), field FROM blob_ref ORDER BY field", 2),
            "6001|of both 6001|of other");
  EXPECT_EQ(rows("SELECT CAST(size AS TEXT) FROM blob ORDER BY size", 1), "2 3");
  EXPECT_EQ(rows("SELECT name FROM connection", 1), "other");
}

TEST_P(RemovedConnectionTest, OneThatWasCutOffIsReadInFullWhenItIsFollowedAgainAndGoneWhenItIsRemovedAgain) {
  std::stop_source stop;
  stop.request_stop();
  EXPECT_THROW(connections_->remove("main", stop.get_token()), Error);
  EXPECT_EQ(rows("SELECT state, CAST(cursor_us AS TEXT) FROM model ORDER BY id", 2), "pulling|0 following|7");
  connections_->remove("main");
  EXPECT_EQ(held("1"), "0|0|0");
  EXPECT_EQ(held("2"), "6000|6000|1");
}

INSTANTIATE_TEST_SUITE_P(Stores, RemovedConnectionTest, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
