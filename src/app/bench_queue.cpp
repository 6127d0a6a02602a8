#include "app/bench_queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "app/bench_floor.h"
#include "app/core.h"
#include "app/report.h"
#include "app/trial_place.h"
#include "base/error.h"
#include "base/measure.h"
#include "base/text.h"
#include "jobs/queue.h"
#include "jobs/runner.h"
#include "pipeline/deliver.h"
#include "store/store.h"

namespace dragoman::app {
namespace {

constexpr std::int64_t kEnqueueBatch = 1000;
constexpr double kPickupPerSecond = 300;
constexpr std::int64_t kSenders = 4;

/// Takes everything at once and keeps nothing: what is measured is the queue.
class NoTarget final : public pipeline::Target {
 public:
  std::string system() const override { return "bench"; }
  std::vector<pipeline::Delivered> deliver(std::span<const pipeline::Outgoing> records, std::stop_token) override {
    std::vector<pipeline::Delivered> out;
    out.reserve(records.size());
    for (const auto& record : records)
      out.push_back({.what = pipeline::Delivered::What::created, .id = record.key.substr(record.key.find('-') + 1)});
    return out;
  }
  std::vector<std::optional<pipeline::Found>> find(std::span<const Key> keys, std::stop_token) override {
    return std::vector<std::optional<pipeline::Found>>(keys.size());
  }
  std::string child_model(const std::string&, const std::string&, std::stop_token) override { return {}; }
  std::string entity(const std::string&) const override { return "customer"; }
};

/// Does nothing, at once.
class Nothing final : public jobs::Handler {
 public:
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token) override {
    done += static_cast<std::int64_t>(jobs.size());
    return std::vector<jobs::Outcome>(jobs.size(), jobs::done());
  }
  std::atomic<std::int64_t> done = 0;
};

/// Notes how long ago the job was enqueued: its payload says when, by this process' steady clock.
class Pickup final : public jobs::Handler {
 public:
  explicit Pickup(Clock& clock) : clock_(clock) {}
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token) override {
    const auto now = clock_.steady().count();
    std::lock_guard lock(mutex_);
    for (const auto& job : jobs) milliseconds_.push_back(static_cast<double>(now - std::stoll(job.payload)) / 1000);
    return std::vector<jobs::Outcome>(jobs.size(), jobs::done());
  }
  std::vector<double> take() {
    std::lock_guard lock(mutex_);
    return std::move(milliseconds_);
  }
  std::size_t count() {
    std::lock_guard lock(mutex_);
    return milliseconds_.size();
  }

 private:
  Clock& clock_;
  std::mutex mutex_;
  std::vector<double> milliseconds_;
};

std::unique_ptr<store::Store> open(const TrialPlace& place, Clock& clock) {
  return store::open({.url = place.store_url(), .readers = 8}, clock);
}

std::int64_t number(store::Store& store, const std::string& sql) {
  std::int64_t value = 0;
  store.read(
      [&](store::Session& session) { session.first(sql, {}, [&](const store::Row& row) { value = row.int64(0); }); });
  return value;
}

class Bench {
 public:
  Bench(const BenchQueueSettings& settings, Clock& clock, Random& random, std::stop_token stop, Report& report)
      : settings_(settings), clock_(clock), random_(random), stop_(std::move(stop)), report_(report) {}

  void tell_store() {
    const TrialPlace place(settings_.folder, settings_.postgres_url, random_);
    const auto store = open(place, clock_);
    const auto info = store->info();
    postgres_ = info.engine == store::Engine::postgres;
    report_.setting("store",
                    fmt::format("{} {}, {}", postgres_ ? "PostgreSQL" : "SQLite", info.server_version, info.sync_mode));
    if (!postgres_)
      report_.setting("file system", fmt::format("{} at {}", file_system(settings_.folder), settings_.folder));
  }

  /// Claim and completion; with `deliver`, what a delivery writes as well.
  void throughput(bool deliver) {
    Nothing nothing;
    NoTarget target_kept;
    const auto target = std::shared_ptr<pipeline::Target>(std::shared_ptr<void>(), &target_kept);
    std::vector<double> ratios, ours, floors, turns;
    for (std::int64_t pair = -1; pair < settings_.pairs && !stop_.stop_requested(); ++pair) {
      const TrialPlace mine(settings_.folder, settings_.postgres_url, random_);
      const TrialPlace bare(settings_.folder, settings_.postgres_url, random_);
      BenchFloor::Batches batches;
      double rate = 0, floor_rate = 0;
      {
        const auto store = open(mine, clock_);
        fill(*store, deliver);
        pipeline::DeliveryHandler handler(
            *store, [&](std::int64_t id) { return pipeline::Destination{id, "bench", target}; }, "node bench");
        const jobs::Kinds kinds({{.name = "bench",
                                  .summary = "measures",
                                  .handler = deliver ? static_cast<jobs::Handler*>(&handler) : &nothing,
                                  .batch_max = deliver ? 50 : 1}});
        jobs::Runner runner(*store, kinds, clock_, random_, {.node = {.name = "bench"}});
        const double seconds = seconds_of([&] {
          runner.start();
          wait_for_all(*store);
        });
        runner.stop();
        rate = static_cast<double>(settings_.jobs) / seconds;
        const auto claims = number(*store, "SELECT count(DISTINCT started_us) FROM job");
        const auto calls = number(*store, "SELECT count(*) FROM sync_log");
        batches.turn = std::max<std::int64_t>(1, settings_.jobs / std::max<std::int64_t>(1, claims));
        batches.call = deliver ? std::max<std::int64_t>(1, settings_.jobs / std::max<std::int64_t>(1, calls)) : 0;
      }
      fill(*open(bare, clock_), deliver);
      {
        const auto floor = make_floor(postgres_ ? store::Engine::postgres : store::Engine::sqlite, bare.store_url());
        floor_rate = static_cast<double>(settings_.jobs) / seconds_of([&] { floor->run(batches); });
      }
      if (pair < 0) continue;  // not counted: caches are cold
      ours.push_back(rate);
      floors.push_back(floor_rate);
      ratios.push_back(rate / floor_rate);
      turns.push_back(static_cast<double>(batches.turn));
    }
    const std::string name =
        deliver ? (postgres_ ? "Q1b delivered with its rows, PostgreSQL" : "Q1b delivered with its rows, SQLite")
                : (postgres_ ? "Q2 claim + complete, PostgreSQL" : "Q1 claim + complete, SQLite");
    report_.figure(name + " / bare floor", estimate(ratios), "ratio", deliver ? 0.5 : 0.7, true);
    report_.figure(name, estimate(ours), "jobs/s", !postgres_ && !deliver ? std::optional(15'000.0) : std::nullopt,
                   true);
    report_.figure(name + ", bare floor", estimate(floors), "jobs/s");
    report_.figure(name + ", jobs in one commit", estimate(turns), "jobs");
  }

  /// From before a job's transaction begins until its handler runs, at a steady 300 a second.
  void pickup(bool elsewhere) {
    const TrialPlace place(settings_.folder, settings_.postgres_url, random_);
    const auto store = open(place, clock_);
    // Another node: another pool of connections, which hears of jobs through the database alone.
    const auto second = elsewhere ? open(place, clock_) : nullptr;
    Pickup handler(clock_);
    const jobs::Kinds kinds({{.name = "bench", .summary = "measures", .handler = &handler}});
    jobs::Runner runner(*store, kinds, clock_, random_, {.node = {.name = "bench"}});
    runner.start();
    auto& from = second ? *second : *store;
    const Micros begin = clock_.steady();
    const auto total = static_cast<std::int64_t>(kPickupPerSecond * static_cast<double>(settings_.seconds));
    {
      // Several, as requests come: one alone would wait for each of its commits.
      std::vector<std::jthread> senders;
      for (std::int64_t sender = 0; sender < kSenders; ++sender)
        senders.emplace_back([&, sender] {
          for (std::int64_t i = sender; i < total && !stop_.stop_requested(); i += kSenders) {
            const Micros due =
                begin + Micros(static_cast<std::int64_t>(static_cast<double>(i) * 1e6 / kPickupPerSecond));
            if (const Micros ahead = due - clock_.steady(); ahead > Micros::zero()) clock_.wait(ahead, stop_);
            const std::string payload = std::to_string(clock_.steady().count());
            from.write([&](store::Session& session) {
              jobs::enqueue(session, {.kind = "bench", .flow = "bench", .payload = payload});
            });
          }
        });
    }
    const double rate = static_cast<double>(total) * 1e6 / static_cast<double>((clock_.steady() - begin).count());
    while (static_cast<std::int64_t>(handler.count()) < total && !stop_.stop_requested())
      clock_.wait(std::chrono::milliseconds(5), stop_);
    runner.stop();
    const auto times = handler.take();
    const std::string name = fmt::format("Q3 pickup at {:.0f} jobs/s, {}{}", rate, postgres_ ? "PostgreSQL" : "SQLite",
                                         elsewhere ? ", enqueued on another node" : "");
    report_.figure(name + ", p95", single(percentile(times, 0.95)), "ms", 10.0, false);
    report_.figure(name + ", p50", single(percentile(times, 0.50)), "ms");
    report_.figure(name + ", p99", single(percentile(times, 0.99)), "ms");
  }

  bool postgres() const { return postgres_; }

 private:
  static Estimate single(double value) { return {value, value, value}; }

  void fill(store::Store& store, bool deliver) {
    for (std::int64_t at = 0; at < settings_.jobs; at += kEnqueueBatch) {
      std::vector<jobs::NewJob> batch;
      for (std::int64_t i = at; i < std::min(settings_.jobs, at + kEnqueueBatch); ++i) {
        jobs::NewJob job{.kind = "bench", .flow = "bench"};
        if (deliver) {
          job.connection_id = 1;
          job.payload = fmt::format(
              R"({{"values":{{"name":"Bench {0}","ref":"B{0}","phone":"+999 555 0100","street":"1 Example Street"}},)"
              R"("model":"res.partner","key":"bench-{1}","version":1}})",
              i, i + 1);
        } else {
          job.payload = fmt::format(R"({{"order":{},"lines":[{{"sku":"A-1","quantity":2}}]}})", i);
        }
        batch.push_back(std::move(job));
      }
      store.write([&](store::Session& session) { jobs::enqueue(session, batch); });
    }
  }

  void wait_for_all(store::Store& store) {
    while (!stop_.stop_requested() && number(store, "SELECT COALESCE(sum(done), 0) FROM job_tally") < settings_.jobs)
      clock_.wait(std::chrono::milliseconds(5), stop_);
  }

  const BenchQueueSettings& settings_;
  Clock& clock_;
  Random& random_;
  const std::stop_token stop_;
  Report& report_;
  bool postgres_ = false;
};

}  // namespace

int bench_queue(const BenchQueueSettings& settings, Clock& clock, Random& random, std::stop_token stop) {
  Report report(settings.json);
  report.setting("dragoman", version());
  report.setting("machine", machine());
  Bench bench(settings, clock, random, stop, report);
  bench.tell_store();
  report.setting("runs", fmt::format("{} interleaved pairs of {} jobs; median and {}", settings.pairs, settings.jobs,
                                     settings.pairs < 6 ? "the least and the greatest" : "95 % interval"));
  bench.throughput(false);
  bench.throughput(true);
  bench.pickup(false);
  if (bench.postgres()) bench.pickup(true);
  if (stop.stop_requested()) throw Error(Error::Kind::cancelled, "Stopped before the end.");
  return report.missed() ? 1 : 0;
}

}  // namespace dragoman::app
