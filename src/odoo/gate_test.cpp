#include "odoo/gate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <map>
#include <queue>
#include <random>
#include <thread>

#include "base/error.h"
#include "fakes/hand_clock.h"
#include "odoo/gate_core.h"

namespace dragoman::odoo {
namespace {

using namespace std::chrono_literals;

// --- a simulated Odoo ----------------------------------------------------------------------------------------------

struct Server {
  int workers = 2;
  int cores = 64;           // the workers' processors; with 1 it is a threaded Odoo
  double service_ms = 300;  // of a bulk call
  double noise = 0.2;       // relative, of each call
  double transfer_ms = 0;   // an answer on its way, when the worker is free again
  double foreign_rate = 0;  // calls of others per second
  double foreign_ms = 20;
  double probe_ms = 4;
};

// Calls run on a virtual clock: `workers` at a time, the rest wait in the order they came, as in the listening
// socket's queue. With fewer cores than calls under way, each goes slower.
class Simulation {
 public:
  Simulation(Server server, GateSettings settings, int callers, std::uint64_t seed, Lane lane = Lane::bulk)
      : server_(server), core_(settings), random_(seed), lane_(lane) {
    for (int i = 0; i < callers; ++i) arrive();
    if (server_.foreign_rate > 0) at(exponential(1000 / server_.foreign_rate), [this] { foreign(); });
  }

  void run_for(Micros duration) {
    const double until = now_ + double(duration.count()) / 1000;
    while (true) {
      double next = until;
      if (!timers_.empty()) next = std::min(next, timers_.top().at);
      const double speed = running_.empty() ? 1 : std::min(1.0, double(server_.cores) / double(running_.size()));
      for (const auto& job : running_) next = std::min(next, now_ + job.left / speed);
      const double step = std::max(0.0, next - now_);
      if (core_.inside() > std::max(1, server_.workers - 1)) over_ms_ += step;
      now_ = next;
      for (auto& job : running_) job.left -= step * speed;
      if (now_ >= until) return;
      for (std::size_t i = 0; i < running_.size();) {
        if (running_[i].left > 1e-9) {
          ++i;
          continue;
        }
        const auto done = std::move(running_[i].done);
        running_.erase(running_.begin() + std::ptrdiff_t(i));
        done();
      }
      while (!timers_.empty() && timers_.top().at <= now_ + 1e-9) {
        const auto what = timers_.top().what;
        timers_.pop();
        what();
      }
      start();
    }
  }

  GateCore& core() { return core_; }
  double over_ms() const { return over_ms_; }
  std::int64_t completed() const { return completed_; }
  Server& server() { return server_; }
  double foreign_quantile(double q) {
    std::sort(foreign_ms_.begin(), foreign_ms_.end());
    return foreign_ms_.empty() ? 0 : foreign_ms_[std::size_t(q * double(foreign_ms_.size() - 1))];
  }
  Micros now() const { return Micros(std::int64_t(now_ * 1000)); }

 private:
  struct Job {
    double left;
    std::function<void()> done;
  };
  struct Timer {
    double at;
    std::function<void()> what;
    bool operator<(const Timer& other) const { return at > other.at; }
  };

  double exponential(double mean) { return std::exponential_distribution<>(1 / mean)(random_); }
  double noisy(double ms) { return ms * std::lognormal_distribution<>(0, server_.noise)(random_); }
  void at(double in, std::function<void()> what) { timers_.push({now_ + in, std::move(what)}); }

  void submit(double ms, std::function<void()> done) {
    queue_.push_back({ms, std::move(done)});
    start();
  }
  void start() {
    while (!queue_.empty() && int(running_.size()) < server_.workers) {
      running_.push_back(std::move(queue_.front()));
      queue_.erase(queue_.begin());
    }
  }
  void arrive() {
    core_.arrive(lane_, "res.partner.search_read", now());
    pump();
  }
  void pump() {
    for (auto step = core_.next(now()); step.what != GateCore::Step::none; step = core_.next(now())) {
      const auto ticket = step.ticket;
      if (step.what == GateCore::Step::probe) {
        submit(noisy(server_.probe_ms), [this, ticket] {
          core_.probed(ticket, Ending::good, now());
          pump();
        });
      } else {
        submit(noisy(server_.service_ms), [this, ticket] {
          at(server_.transfer_ms, [this, ticket] {
            core_.leave(ticket, Ending::good, now());
            ++completed_;
            pump();
            at(1, [this] { arrive(); });  // what a caller does between two pages
          });
        });
      }
    }
  }
  void foreign() {
    const double began = now_;
    submit(noisy(server_.foreign_ms), [this, began] { foreign_ms_.push_back(now_ - began); });
    at(exponential(1000 / server_.foreign_rate), [this] { foreign(); });
  }

  Server server_;
  GateCore core_;
  std::mt19937_64 random_;
  const Lane lane_;
  double now_ = 1000;
  std::vector<Job> running_, queue_;
  std::priority_queue<Timer> timers_;
  double over_ms_ = 0;
  std::int64_t completed_ = 0;
  std::vector<double> foreign_ms_;
};

std::uint64_t seed() {
  const char* given = std::getenv("DRAGOMAN_SEED");
  static const std::uint64_t value = given ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::printf("DRAGOMAN_SEED=%llu\n", static_cast<unsigned long long>(value));
  return value;
}

class GateLearns : public ::testing::TestWithParam<std::tuple<int, double>> {};

TEST_P(GateLearns, AsManyWorkersAsThereAreAndLeavesOneToOthers) {
  const auto [workers, service] = GetParam();
  Simulation simulation({.workers = workers, .service_ms = service}, {}, workers + 4, seed());
  simulation.run_for(5min);
  EXPECT_EQ(simulation.core().learnt(), workers);
  EXPECT_EQ(simulation.core().bulk_places(), std::max(1, workers - 1));
}

TEST_P(GateLearns, AsManyWorkersAsThereAreWhenBulkMayHaveAll) {
  const auto [workers, service] = GetParam();
  Simulation simulation({.workers = workers, .service_ms = service}, {.bulk_share_all = true}, workers + 4, seed());
  simulation.run_for(5min);
  EXPECT_EQ(simulation.core().bulk_places(), workers);
}

INSTANTIATE_TEST_SUITE_P(Servers, GateLearns,
                         ::testing::Combine(::testing::Values(1, 2, 3, 4, 8), ::testing::Values(60.0, 300.0, 1500.0)));

TEST(Gate, ABacklogOfOrdersAloneFindsTheSecondWorkerSoon) {
  Simulation simulation({.workers = 2, .service_ms = 1500}, {}, 4, seed(), Lane::order);
  simulation.run_for(10s);
  EXPECT_EQ(simulation.core().places(), 2);
  simulation.run_for(10min);
  EXPECT_EQ(simulation.core().places(), 2);
  EXPECT_EQ(simulation.core().bulk_places(), 1);
}

TEST(Gate, OrdersAloneTakeNoMoreThanThereIsAndFewOfAThreadedOdoo) {
  Simulation one({.workers = 1, .service_ms = 800}, {}, 4, seed(), Lane::order);
  one.run_for(10min);
  EXPECT_EQ(one.core().places(), 1);
  Simulation threaded({.workers = 64, .cores = 1, .service_ms = 200}, {}, 10, seed(), Lane::order);
  threaded.run_for(10min);
  EXPECT_LE(threaded.core().places(), 3);
}

TEST(Gate, LearningTakesNobodyElsesWorkerForLong) {
  Simulation simulation({.workers = 2}, {}, 6, seed());
  simulation.run_for(10min);
  // Two trials of one call each, and the same again after ten minutes.
  EXPECT_LE(simulation.over_ms(), 4 * 600) << "of 600,000 ms";
}

TEST(Gate, OthersHardlyNoticeBulkWork) {
  const Server server{.workers = 2, .foreign_rate = 2, .foreign_ms = 60};
  Simulation idle(server, {}, 0, seed()), busy(server, {}, 6, seed());
  idle.run_for(10min);
  busy.run_for(10min);
  EXPECT_LE(busy.foreign_quantile(0.99), 2.5 * idle.foreign_quantile(0.99));
  EXPECT_GT(busy.completed(), 1000);
}

TEST(Gate, AThreadedOdooIsNotTakenForOneOfManyWorkers) {
  Simulation simulation({.workers = 64, .cores = 1, .service_ms = 200}, {}, 10, seed());
  simulation.run_for(5min);
  EXPECT_LE(simulation.core().bulk_places(), 2);
}

TEST(Gate, WorkersWithoutACoreEachAreNotAllUsed) {
  Simulation simulation({.workers = 8, .cores = 2, .service_ms = 200}, {}, 10, seed());
  simulation.run_for(5min);
  EXPECT_LE(simulation.core().bulk_places(), 3);
  EXPECT_GE(simulation.core().bulk_places(), 2);
}

TEST(Gate, ASlowLineIsNotTakenForManyWorkers) {
  Simulation simulation({.workers = 2, .service_ms = 200, .transfer_ms = 150}, {}, 10, seed());
  simulation.run_for(5min);
  EXPECT_LE(simulation.core().bulk_places(), 2);
}

TEST(Gate, BeginsWhereTheLastRunEndedAndNoticesWhenWorkersAreGone) {
  Simulation simulation({.workers = 4}, {.learnt = 4}, 8, seed());
  EXPECT_EQ(simulation.core().bulk_places(), 3);
  simulation.run_for(3min);
  EXPECT_EQ(simulation.core().learnt(), 4);
  simulation.server().workers = 2;
  simulation.run_for(15min);
  EXPECT_LE(simulation.core().bulk_places(), 2);
}

TEST(Gate, IsTheSameForTheSameSeed) {
  const auto run = [](std::uint64_t s) {
    Simulation simulation({.workers = 3, .foreign_rate = 3}, {}, 6, s);
    simulation.run_for(1min);
    return std::pair(simulation.completed(), simulation.over_ms());
  };
  EXPECT_EQ(run(7), run(7));
}

// --- lanes, refusals -------------------------------------------------------------------------------------------------

std::vector<std::uint64_t> admitted(GateCore& core, Micros now) {
  std::vector<std::uint64_t> tickets;
  for (auto step = core.next(now); step.what != GateCore::Step::none; step = core.next(now))
    if (step.what == GateCore::Step::admit) tickets.push_back(step.ticket);
  return tickets;
}

using Tickets = std::vector<std::uint64_t>;

TEST(GateLanes, PeopleGoBeforeOrdersBeforeBulk) {
  GateCore core({.workers = 1});
  const auto first = core.arrive(Lane::bulk, "w", 0us);
  EXPECT_EQ(admitted(core, 0us), Tickets{first});
  const auto bulk = core.arrive(Lane::bulk, "w", 0us), order = core.arrive(Lane::order, "w", 0us),
             person = core.arrive(Lane::interactive, "w", 0us);
  EXPECT_TRUE(admitted(core, 0us).empty());
  core.leave(first, Ending::good, 1us);
  EXPECT_EQ(admitted(core, 1us), Tickets{person});
  core.leave(person, Ending::good, 2us);
  EXPECT_EQ(admitted(core, 2us), Tickets{order});
  core.leave(order, Ending::good, 3us);
  EXPECT_EQ(admitted(core, 3us), Tickets{bulk});
}

TEST(GateLanes, BulkLeavesAPlaceUnlessToldToShareAll) {
  GateCore core({.workers = 4});
  for (int i = 0; i < 6; ++i) core.arrive(Lane::bulk, "w", 0us);
  EXPECT_EQ(admitted(core, 0us).size(), 3u);
  core.arrive(Lane::interactive, "w", 0us);
  EXPECT_EQ(admitted(core, 0us).size(), 1u);
  core.arrive(Lane::interactive, "w", 0us);
  EXPECT_TRUE(admitted(core, 0us).empty());
  GateCore all({.workers = 4, .bulk_share_all = true});
  for (int i = 0; i < 6; ++i) all.arrive(Lane::bulk, "w", 0us);
  EXPECT_EQ(admitted(all, 0us).size(), 4u);
}

TEST(GateLanes, BulkDoesNotStarveBehindAFloodOfPeople) {
  for (const int workers : {1, 2}) {
    GateCore core({.workers = workers});
    const auto bulk = core.arrive(Lane::bulk, "w", 0us);
    std::deque<std::uint64_t> inside;
    // Somebody is always waiting in the lane above.
    int before = -1;
    std::vector<std::uint64_t> people;
    for (int i = 0; i < 4; ++i) core.arrive(Lane::interactive, "w", 0us);
    for (int i = 0; i < 200 && before < 0; ++i) {
      for (auto ticket : admitted(core, Micros(i))) {
        if (ticket == bulk) before = i;
        inside.push_back(ticket);
      }
      core.leave(inside.front(), Ending::good, Micros(i));
      inside.pop_front();
      core.arrive(Lane::interactive, "w", Micros(i));
    }
    EXPECT_GE(before, 0) << workers;
    EXPECT_LE(before, 20) << workers;
  }
}

TEST(GateLanes, RefusalsHalveThePlacesAndTimeBringsThemBack) {
  GateCore core({.workers = 8});
  const auto a = core.arrive(Lane::order, "w", 0us), b = core.arrive(Lane::order, "w", 0us);
  admitted(core, 0us);
  core.leave(a, Ending::refused, 1s);
  EXPECT_EQ(core.places(), 4);
  core.leave(b, Ending::refused, 1s);  // was on its way when the first was refused
  EXPECT_EQ(core.places(), 4);
  const auto c = core.arrive(Lane::order, "w", 2s);
  admitted(core, 2s);
  core.leave(c, Ending::lost, 3s);
  EXPECT_EQ(core.places(), 2);
  core.next(33s);
  EXPECT_EQ(core.places(), 3);
  core.next(10min);
  EXPECT_EQ(core.places(), 8);
  EXPECT_EQ(core.bulk_places(), 7);
}

TEST(GateLanes, WhoStopsWaitingLeavesNoTrace) {
  GateCore core({.workers = 1});
  const auto a = core.arrive(Lane::order, "w", 0us), b = core.arrive(Lane::order, "w", 0us);
  EXPECT_EQ(admitted(core, 0us), Tickets{a});
  core.give_up(b);
  core.leave(a, Ending::good, 1us);
  EXPECT_TRUE(admitted(core, 1us).empty());
  EXPECT_EQ(core.inside() + core.waiting(), 0);
}

// --- threads
// -----------------------------------------------------------------------------------------------------------

TEST(GateThreads, NeverMoreInsideThanPlaces) {
  tests::HandClock clock;
  Gate gate({.workers = 3, .bulk_share_all = true}, clock);
  std::atomic<int> inside = 0, most = 0;
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        auto place = gate.enter(static_cast<Lane>((t + i) % 3), "w", [] { return Ending::good; }, {});
        const int now = ++inside;
        for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
        }
        std::this_thread::yield();
        --inside;
        place.ended(Ending::good);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_LE(most, 3);
  EXPECT_EQ(inside, 0);
}

TEST(GateThreads, WaitingForAPlaceEndsWhenStopped) {
  tests::HandClock clock;
  Gate gate({.workers = 1}, clock);
  const auto place = gate.enter(Lane::bulk, "w", [] { return Ending::good; }, {});
  std::stop_source source;
  std::thread waiter([&] {
    try {
      gate.enter(Lane::bulk, "w", [] { return Ending::good; }, source.get_token());
      ADD_FAILURE() << "let in";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::cancelled);
    }
  });
  source.request_stop();
  waiter.join();
}

}  // namespace
}  // namespace dragoman::odoo
