// The hub's jobs and deliveries in one strand, on a virtual clock, with everything going wrong that a seed can think
// of.
//
// DRAGOMAN_SEED=N runs that seed alone and leaves what happened in a file; DRAGOMAN_SEEDS=N runs so many;
// DRAGOMAN_FULL=1 runs 10,000.
#include "simulation/simulation.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <set>

#include "base/log.h"

namespace dragoman::simulation {
namespace {

std::optional<std::uint64_t> from_environment(const char* name) {
  const char* given = std::getenv(name);
  if (!given || !*given) return std::nullopt;
  return std::strtoull(given, nullptr, 10);
}

/// What came of many runs.
struct Tally {
  std::map<Fault, int> faults;
  std::map<std::string, int, std::less<>> seen, killed;

  void add(const Result& result) {
    for (const auto& [fault, times] : result.faults) faults[fault] += times;
    for (const auto& [point, times] : result.points_seen) seen[point] += times;
    for (const auto& [point, times] : result.killed_at) killed[point] += times;
  }
};

class Simulation : public testing::Test {
 protected:
  // What goes wrong is meant to.
  static void SetUpTestSuite() { log::configure(log::Level::error, "/dev/null"); }

  static void expect_fine(const Result& result, std::uint64_t seed, const std::string& how = "") {
    for (const auto& violation : result.violations)
      ADD_FAILURE() << "seed " << seed << how << ": " << violation << "\n(DRAGOMAN_SEED=" << seed << " replays it)";
  }

  static inline Threads threads;
};

TEST_F(Simulation, SeedsOfTroubleLoseNothingAndDoNothingTwice) {
  const auto one = from_environment("DRAGOMAN_SEED");
  const auto first = one.value_or(1);
  const auto count = one ? 1 : from_environment("DRAGOMAN_SEEDS").value_or(std::getenv("DRAGOMAN_FULL") ? 10'000 : 200);
  Tally tally;
  int failed = 0;
  for (auto seed = first; seed < first + count && failed < 5; ++seed) {
    const auto result = simulate(threads, seed, plan_of(seed));
    tally.add(result);
    expect_fine(result, seed);
    failed += !result.violations.empty();
    if (one) {
      const auto path = std::filesystem::temp_directory_path() / fmt::format("simulation-{}.log", seed);
      std::ofstream(path) << result.log << result.picture;
      std::cout << "what happened: " << path.string() << "\n";
    }
  }
  if (one) return;
  for (int i = 0; i < static_cast<int>(Fault::count); ++i) {
    const auto fault = static_cast<Fault>(i);
    std::cout << fmt::format("{:24} {:8}\n", name(fault), tally.faults[fault]);
    EXPECT_GT(tally.faults[fault], 0) << name(fault) << " never happened";
  }
  for (const char* step : {"queue.claimed", "deliver.begun", "deliver.intended", "deliver.sent", "finish.before_commit",
                           "finish.committed", "intake.before_store", "intake.stored"})
    EXPECT_TRUE(tally.seen.count(step)) << step;
  for (const auto& [point, times] : tally.seen) {
    std::cout << fmt::format("killed at {:22} {:6} of {}\n", point, tally.killed[point], times);
    EXPECT_GT(tally.killed[point], 0) << "nothing was killed at " << point;
  }
}

TEST_F(Simulation, ASeedReplaysToTheSameEventsByteForByte) {
  const auto one = from_environment("DRAGOMAN_SEED");
  for (auto seed = one.value_or(1); seed < one.value_or(1) + (one ? 1 : 12); ++seed) {
    const auto first = simulate(threads, seed, plan_of(seed)), second = simulate(threads, seed, plan_of(seed));
    ASSERT_FALSE(first.log.empty());
    ASSERT_EQ(first.log, second.log) << "seed " << seed;
    ASSERT_EQ(first.picture, second.picture) << "seed " << seed;
  }
}

TEST_F(Simulation, AKillAtEveryPointOfOneNodeEndsWell) {
  for (const bool plain : {false, true}) {
    Plan plan{.nodes = 1,
              .plain_partner = plain,
              .senders = 1,
              .puts = 2,
              .keys = 2,
              .changes = 0,
              .trouble_least = std::chrono::seconds(1)};
    const auto points = simulate(threads, 77, plan).points;
    ASSERT_GT(points, 100);
    for (plan.crash_at = 1; plan.crash_at <= points; ++plan.crash_at) {
      const auto result = simulate(threads, 77, plan);
      expect_fine(result, 77, fmt::format(", killed at point {}", plan.crash_at));
      if (!result.violations.empty()) return;
    }
    std::cout << "killed at each of " << points << " points\n";
  }
}

/// A program that is wrong on purpose.
struct Wrong {
  const char* name;
  std::set<std::string> invariants;  ///< one of them finds it
  std::vector<Plan::Rewrite> rewrites;
  bool effect_first = false;
  /// Of what takes several deaths to be seen: nodes that share the work, and a record that kills whoever sends it.
  bool deadly = false;
};

class WrongPrograms : public Simulation, public testing::WithParamInterface<Wrong> {};

TEST_P(WrongPrograms, AreCaught) {
  bool caught = false;
  std::int64_t rewritten = 0;
  for (std::uint64_t seed = 1; seed <= 200 && !caught; ++seed) {
    auto plan = plan_of(seed);
    plan.rewrites = GetParam().rewrites;
    plan.effect_first = GetParam().effect_first;
    if (GetParam().deadly) {
      plan.deadly = true;
      plan.plain_partner = false;
      plan.senders = 3;
      plan.puts = 6;
      plan.keys = 4;
      plan.crash = 0.004;
      plan.crashes_max = 8;
    }
    const auto result = simulate(threads, seed, plan);
    rewritten += result.rewritten;
    if (result.violations.empty()) continue;
    const auto& first = result.violations.front();
    caught = GetParam().invariants.count(first.substr(0, first.find(':'))) > 0;
    std::cout << "seed " << seed << ": " << first << "\n";
  }
  EXPECT_TRUE(caught);
  EXPECT_TRUE(rewritten > 0 || GetParam().rewrites.empty()) << "the program has other statements now: change those";
}

INSTANTIATE_TEST_SUITE_P(
    Lease, WrongPrograms,
    testing::Values(
        Wrong{"CompletionWithoutTheFence",
              {"I3"},
              {{"WHERE id = $1 AND fence = $2 AND state = 2 AND again = 0",
                "WHERE id = $1 AND $2 = $2 AND state = 2 AND again = 0"},
               {"AND job.fence = json_extract(d.value, '$[0]')", ""},
               {"AND job.fence = d.value", ""}}},
        Wrong{"RescueThatLeavesTheFence",
              {"I3"},
              {{"SET state = 0, fence = fence + 1, attempt = attempt - 1, inter",
                "SET state = 0, fence = fence + 0, attempt = attempt - 1, inter"}}},
        Wrong{"CompletionWhoeverRunsIt",
              {"I3", "I10"},
              {{"WHERE id = $1 AND fence = $2 AND state = 2 AND again = 0", "WHERE id = $1 AND $2 = $2 AND again = 0"},
               {"AND job.fence = json_extract(d.value, '$[0]') AND job.state = 2", ""}}},
        Wrong{
            "DeadAlthoughItBeats",
            {"I2"},
            {{"SELECT id, beat FROM node", "SELECT id, 0 FROM node"},
             {"WHERE id = $1 AND beat = $2 AND state = 'running'", "WHERE id = $1 AND $2 = $2 AND state = 'running'"}}},
        Wrong{"WhatIsReplacedWhileItRunsIsForgotten",
              {"lost"},
              {{"again = CASE WHEN state = 2 THEN 1 ELSE 0 END", "again = 0"}}},
        Wrong{"WhatNeverBeganIsBlamed",
              {"I2"},
              {{"started_us = CASE WHEN interruptions = 0 THEN $3 END", "started_us = $3"},
               {"started_us = NULL WHERE id = $1 AND state = 0", "started_us = 1 WHERE id = $1 AND state = 0"}},
              false,
              true},
        Wrong{"IntentAfterTheEffect", {"I4"}, {}, true},
        Wrong{"NoTurnsWithinAKey",
              {"order"},
              {{"WHERE lane_id = $1 AND state = 0 AND hold = 0 ORDER",
                "WHERE lane_id = $1 AND state = 0 AND hold < 2 ORDER"},
               {"j.state = 0 AND j.hold = 0 ORDER", "j.state = 0 AND j.hold < 2 ORDER"}}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace dragoman::simulation
