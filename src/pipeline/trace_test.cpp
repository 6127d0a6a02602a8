#include "pipeline/trace.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "fakes/delivery_fakes.h"

namespace dragoman::pipeline {
namespace {

class TracesTest : public tests::DeliveryStore {
 protected:
  void SetUp() override {
    tests::DeliveryStore::SetUp();
    if (!store_) return;
    keys_.emplace(access::KeyRing::open_file(folder_ / "secret.key", random_));
    connections_.emplace(*store_, *keys_, clock_);
    traces_.emplace(*store_, *connections_);
  }
  void TearDown() override {
    traces_.reset();
    tests::DeliveryStore::TearDown();
  }
  Exchange exchange(const std::string& request, int status = 200) {
    Exchange out;
    out.at = clock_.now();
    out.took = std::chrono::milliseconds(7);
    out.method = "POST";
    out.target = "https://market.example/api/order";
    out.status = status;
    out.error = status == 0 ? "Nobody answered." : "";
    out.request = request;
    out.response = "OK";
    return out;
  }

  store::TemporaryFolder folder_;
  SystemRandom random_;
  std::optional<access::KeyRing> keys_;
  std::optional<Connections> connections_;
  std::optional<Traces> traces_;
};

TEST_P(TracesTest, NothingIsKeptUnlessSomebodyAskedForIt) {
  traces_->keep(1, exchange("{}"));
  EXPECT_TRUE(traces_->list({}).empty());
  EXPECT_TRUE(traces_->set("main", std::chrono::hours(1)));
  traces_->keep(1, exchange("{}"));
  EXPECT_EQ(traces_->list({}).size(), 1u);
  EXPECT_FALSE(traces_->set("main", Micros(0)));
  traces_->keep(1, exchange("{}"));
  EXPECT_EQ(traces_->list({}).size(), 1u);
  traces_->set("main", Micros(1));
  traces_->keep(1, exchange("{}"));
  EXPECT_EQ(traces_->list({}).size(), 1u) << "its time was over";
}

TEST_P(TracesTest, SecretsAreMaskedBeforeTheyAreStored) {
  traces_->set("main", std::chrono::hours(1));
  traces_->keep(1, exchange(R"({"hashed_id":"Q7","retailer_otp":"4711"})"));
  const auto row = traces_->get(traces_->list({}).at(0).id);
  EXPECT_EQ(row.exchange.request, R"({"hashed_id":"Q7","retailer_otp":"***"})");
  EXPECT_EQ(row.exchange.response, "OK");
  EXPECT_EQ(row.request_bytes, 40);
  EXPECT_EQ(row.exchange.took, Micros(7'000));
  EXPECT_EQ(rows("SELECT request FROM trace", 1).find("4711"), std::string::npos);
}

TEST_P(TracesTest, ASecretThatTheAnswerRepeatsIsMaskedThereToo) {
  traces_->set("main", std::chrono::hours(1));
  auto one = exchange(R"({"hashed_id":"Q7","retailer_otp":"4711"})", 422);
  one.response = R"({"message":"The code 4711 is wrong (4711)."})";
  traces_->keep(1, one);
  EXPECT_EQ(traces_->get(traces_->list({}).at(0).id).exchange.response,
            R"({"message":"The code *** is wrong (***)."})");
}

TEST_P(TracesTest, BodiesOfAnySizeAndBytesAreKeptAsFarAsTheyGo) {
  traces_->set("main", std::chrono::hours(1));
  std::string large(Traces::kBodyMax - 1, 'x');
  large += "\xc3\xa9 and more";
  traces_->keep(1, exchange(large));
  traces_->keep(1, exchange(std::string("a\0b\xff", 4)));
  const auto all = traces_->list({});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].request_bytes, static_cast<std::int64_t>(large.size()));
  EXPECT_EQ(traces_->get(all[1].id).exchange.request.size(), Traces::kBodyMax - 1);
  EXPECT_NE(traces_->get(all[0].id).exchange.request.find("ab"), std::string::npos);
}

TEST_P(TracesTest, AreFoundByWhatIsInThemAndByTheirFailure) {
  traces_->set("main", std::chrono::hours(1));
  traces_->keep(1, exchange(R"({"hashed_id":"Q7%"})"));
  traces_->keep(1, exchange(R"({"hashed_id":"Z1"})", 422));
  traces_->keep(1, exchange(R"({"hashed_id":"Z1"})", 0));
  EXPECT_EQ(traces_->list({.text = "Q7%"}).size(), 1u);
  EXPECT_EQ(traces_->list({.text = "%"}).size(), 1u) << "no pattern";
  EXPECT_EQ(traces_->list({.text = "Z1"}).size(), 2u);
  EXPECT_EQ(traces_->list({.failed = true}).size(), 2u);
  const auto first = traces_->list({.limit = 2});
  ASSERT_EQ(first.size(), 2u);
  EXPECT_EQ(traces_->list({.before = first[1].id}).size(), 1u);
  EXPECT_TRUE(traces_->list({.connection = "other"}).empty());
  EXPECT_THROW(traces_->get(987), Error);
}

TEST_P(TracesTest, AreForgottenAfterAWeek) {
  traces_->set("main", std::chrono::hours(1));
  auto old = exchange("{}");
  old.at = clock_.now() - Traces::kKept - std::chrono::hours(1);
  for (int i = 0; i < 3; ++i) traces_->keep(1, old);
  traces_->keep(1, exchange("{}"));
  EXPECT_TRUE(traces_->forget(2));
  EXPECT_FALSE(traces_->forget(2));
  EXPECT_EQ(traces_->list({}).size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Sqlite, TracesTest, ::testing::Values("Sqlite"));
INSTANTIATE_TEST_SUITE_P(Postgres, TracesTest, ::testing::Values("Postgres"));

}  // namespace
}  // namespace dragoman::pipeline
