#include "app/scheduling.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace dragoman::app {
namespace {

using namespace std::chrono_literals;

// At least so often it is asked who leads.
constexpr Micros kPause = 1s;
// Well within the time in which a tick counts as in time.
constexpr Micros kOthersLook = 30s;

}  // namespace

Scheduling::Scheduling(store::Store& store, const jobs::Schedules& schedules, jobs::Scheduler& scheduler,
                       const jobs::Node& node, Clock& clock)
    : store_(store),
      schedules_(schedules),
      scheduler_(scheduler),
      leader_(store, node, "schedules"),
      clock_(clock),
      look_again_(clock.steady() + kOthersLook) {}

void Scheduling::begin(const std::vector<jobs::ScheduleSpec>& built_in) {
  store_.write([&](store::Session& session) { schedules_.declare(session, built_in, session.now()); });
}

Micros Scheduling::step() {
  if (!leader_.campaign() && clock_.steady() < look_again_) return kPause;
  look_again_ = clock_.steady() + kOthersLook;
  const auto report = scheduler_.tick();
  return report.next ? std::clamp<Micros>(*report.next - report.now, 0us, kPause) : kPause;
}

void Scheduling::run(std::stop_token stop) {
  std::uint64_t seen = 0;
  bool failed = false;
  while (!stop.stop_requested()) {
    Micros pause = kPause;
    try {
      pause = step();
      if (failed) log::info("schedules go on");
      failed = false;
    } catch (const Error& error) {
      // Said once, not every second.
      if (!failed) log::warning("schedules have to wait", {{"error", error.message}, {"detail", error.detail}});
      failed = true;
    } catch (const std::exception& error) {
      if (!failed) log::error("schedules failed in a way that was not foreseen", {{"error", error.what()}});
      failed = true;
    }
    if (failed)
      clock_.wait(kPause, stop);
    else if (pause > 0us)
      seen = store_.wait(jobs::kScheduleChannel, seen, pause, stop);
  }
  try {
    leader_.resign();
  } catch (const Error& error) {
    ignore_error("others find out when this node's beat stands still", error);
  }
}

}  // namespace dragoman::app
