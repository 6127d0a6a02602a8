#include "app/scheduling.h"

#include <gtest/gtest.h>

#include <thread>

#include "base/random.h"
#include "jobs/board.h"
#include "jobs/test_jobs.h"
#include "store/test_store.h"

namespace dragoman::app {
namespace {

using namespace std::chrono_literals;

TEST(Scheduling, MakesJobsOfWhatIsDueUntilItIsStopped) {
  store::TemporaryFolder folder;
  SystemClock clock;
  SystemRandom random;
  const auto store = store::open({.url = folder / "hub.db"}, clock);
  jobs::FakeHandler handler;
  const jobs::Kinds kinds{{{.name = "work", .summary = "works", .handler = &handler}}};
  jobs::Queue queue(*store, kinds, random, "one");
  jobs::Node node(queue, clock, {.name = "one"});
  node.start();
  const jobs::Schedules schedules(kinds);
  jobs::Scheduler scheduler(*store, schedules);
  Scheduling scheduling(*store, schedules, scheduler, node, clock);

  jobs::ScheduleSpec spec;
  spec.name = "often";
  spec.interval = 1s;
  spec.kind = "work";
  spec.flow = "flow";
  spec.overlap = jobs::Overlap::allow;
  scheduling.begin({spec});
  const auto jobs = [&] {
    std::int64_t count = 0;
    store->read([&](store::Session& session) {
      session.first("SELECT count(*) FROM job", {}, [&](const store::Row& row) { count = row.int64(0); });
    });
    return count;
  };
  std::jthread thread([&](std::stop_token stop) { scheduling.run(stop); });
  std::uint64_t seen = 0;
  while (jobs() < 2) seen = store->wait(jobs::kJobsChannel, seen, 10s, {});
  thread.request_stop();
  thread.join();
  std::int64_t ticks = 0;
  store->read([&](store::Session& session) {
    const auto often = schedules.get(session, "often");
    EXPECT_TRUE(often.built_in);
    ticks = static_cast<std::int64_t>(schedules.ticks(session, often.id, 1000).size());
  });
  EXPECT_EQ(ticks, jobs());
}

}  // namespace
}  // namespace dragoman::app
