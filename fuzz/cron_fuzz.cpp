// A person's cron expression: refused with a reason, or read to something that has runs, each of which fits its fields.
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "jobs/cron.h"

using namespace dragoman;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const jobs::Zone kUtc = jobs::Zone::named("UTC");
  try {
    const auto cron = jobs::Cron::parse(text);
    const auto again = jobs::Cron::parse(cron.text());
    Time time = from_us(1'790'000'000'000'000);
    for (int i = 0; i < 4; ++i) {
      const auto next = cron.next(time, kUtc);
      if (!next || *next <= time || again.next(time, kUtc) != next) std::abort();
      const jobs::WallMinute wall{std::chrono::floor<std::chrono::minutes>(next->time_since_epoch())};
      if (to_us(*next) % 60'000'000 != 0 || !cron.matches(wall)) std::abort();
      time = *next;
    }
  } catch (const Error& refused) {
    if (refused.kind != Error::Kind::invalid || refused.code != "cron") std::abort();
  }
  return 0;
}
