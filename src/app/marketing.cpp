#include "app/marketing.h"

#include <pthread.h>

#include "base/error.h"
#include "base/log.h"

namespace dragoman::app {
namespace {

constexpr Micros kPause = std::chrono::seconds(1);

}  // namespace

Micros Marketing::step() {
  return leader_.campaign() ? poller_.step() : kPause;
}

void Marketing::run(std::stop_token stop) {
  pthread_setname_np(pthread_self(), "market");
  bool failed = false;
  Micros pause = kPause;
  do {
    try {
      pause = step();
      if (failed) log::info("marketplaces are asked again");
      failed = false;
    } catch (const std::exception& error) {
      pause = kPause;
      // Said once, not every second.
      if (!failed) log::warning("marketplaces have to wait", {{"error", error.what()}});
      failed = true;
    }
  } while (clock_.wait(pause, stop));
  try {
    leader_.resign();
  } catch (const Error& error) {
    ignore_error("others find out when this node's beat stands still", error);
  }
}

}  // namespace dragoman::app
