#include "app/progress.h"

#include <gtest/gtest.h>

namespace dragoman::app {
namespace {

using Lines = std::vector<std::string>;

pipeline::ModelStatus model(std::string name, std::string phase, std::int64_t done, std::int64_t total) {
  pipeline::ModelStatus status;
  status.model = std::move(name);
  status.phase = std::move(phase);
  status.done = done;
  status.total = total;
  return status;
}

TEST(Progress, TellsThePullAndThenTheChanges) {
  Progress progress;
  pipeline::ConnectionStatus main{.connection = "main", .state = "active"};
  EXPECT_EQ(progress.look({main}).now, "looking at what main has");
  main.models = {model("res.partner", "pulling", 12'000, 50'000), model("sale.order", "waiting", 0, 0),
                 model("stock.move", "unavailable", 0, 0)};
  main.models[0].rate = 1530.4;
  main.models[0].left = std::chrono::seconds(25);
  main.models[2].reason = "this account may not read it";
  auto report = progress.look({main});
  EXPECT_EQ(report.lines, Lines{"main: stock.move is not captured: this account may not read it"});
  EXPECT_EQ(report.now, "pulling from main (0 of 2 models): 1,530/s, 25 s left, res.partner 12,000 of 50,000");

  main.models[0] = model("res.partner", "following", 50'000, 50'000);
  main.models[1].phase = "pulling";
  EXPECT_EQ(progress.look({main}).lines, Lines{"main: res.partner: 50,000 records are here"});
  main.models[1] = model("sale.order", "following", 60, 60);
  EXPECT_EQ(progress.look({main}).lines,
            (Lines{"main: sale.order: 60 records are here",
                   "main: everything is here: 2 models, 50,060 records; following changes from now on"}));
  main.models[1].changes = 3;
  report = progress.look({main});
  EXPECT_EQ(report.lines, Lines{"main: sale.order: 3 changes"});
  EXPECT_EQ(report.now, "following main: 2 models, 50,060 records, 3 changes since the start");
  EXPECT_TRUE(progress.look({main}).lines.empty());
}

TEST(Progress, TellsWhatIsWrongOnceAndWhenItIsOver) {
  Progress progress;
  pipeline::ConnectionStatus main{.connection = "main", .state = "active"};
  progress.look({main});
  main.error = "not reached; next try in 5 s";
  EXPECT_EQ(progress.look({main}).lines, Lines{"main: not reached; next try in 5 s"});
  EXPECT_TRUE(progress.look({main}).lines.empty());
  main.error.clear();
  EXPECT_EQ(progress.look({main}).lines, Lines{"main: reached again"});
  main.state = "error";
  main.reason = "wrong password";
  const auto report = progress.look({main});
  EXPECT_EQ(report.lines, Lines{"main: error: wrong password"});
  EXPECT_EQ(report.now, "main is error");
}

TEST(Progress, ShowsFirstWhatHasMostLeft) {
  Progress progress;
  pipeline::ConnectionStatus main{.connection = "main", .state = "active"};
  main.models = {model("res.country", "pulling", 10, 20), model("res.partner", "pulling", 100, 50'000),
                 model("sale.order", "pulling", 0, 900)};
  main.models[1].rate = 1000;
  EXPECT_EQ(progress.look({main}).now,
            "pulling from main (0 of 3 models): 1,000/s, res.partner 100 of 50,000; sale.order 0 of 900");
}

TEST(Progress, ClaimsNothingOfAConnectionThatIsNotReachedOrPaused) {
  Progress progress;
  pipeline::ConnectionStatus main{.connection = "main", .state = "active"};
  main.models = {model("res.partner", "following", 5, 5)};
  main.error = "not reached; next try in 5 s";
  EXPECT_EQ(progress.look({main}).lines, Lines{"main: not reached; next try in 5 s"});
  main.error.clear();
  main.state = "paused";
  EXPECT_EQ(progress.look({main}).lines, (Lines{"main: paused", "main: reached again"}));
  main.state = "active";
  EXPECT_EQ(
      progress.look({main}).lines,
      (Lines{"main: active again", "main: everything is here: 1 models, 5 records; following changes from now on"}));
  main.error = "not reached; next try in 5 s";
  progress.look({main});
  main.error.clear();
  EXPECT_EQ(progress.look({main}).lines, Lines{"main: reached again"}) << "said once";
}

TEST(Progress, NumbersAndTimesInWords) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(in_words(std::chrono::milliseconds(1400)), "1 s");
  EXPECT_EQ(in_words(std::chrono::seconds(180)), "3 min");
  EXPECT_EQ(in_words(std::chrono::minutes(125)), "2 h 5 min");
}

}  // namespace
}  // namespace dragoman::app
