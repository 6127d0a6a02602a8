#include "jobs/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>

#include "base/error.h"

namespace dragoman::jobs {
namespace {

using namespace std::chrono_literals;

constexpr Micros kIntervalMin = 1s, kIntervalMax = 24h * 366;
constexpr Micros kCronJitterMax = 1h;
constexpr int kCatchUpMax = 10'000;
// Ticks that came due in a longer time than this are not looked at one by one: nobody waits for all minutes of a year.
constexpr Micros kLookBack = 24h * 366;

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "schedule";
  throw error;
}

bool is_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  };
  return !name.empty() && name.size() <= 60 && std::all_of(name.begin(), name.end(), fits) && name.front() != '-' &&
         name.front() != '.';
}

void check_name(const std::string& name) {
  if (!is_name(name))
    refuse(fmt::format(
        "`{}` is no name for a schedule: it has up to 60 letters, digits, `-`, `_` and `.`, and begins with a "
        "letter or digit.",
        name));
}

// Splitmix64: the same tick has the same jitter on every node and after every start.
std::uint64_t mixed(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

std::uint64_t salt_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) {
  return a / b - (a % b < 0 ? 1 : 0);
}

}  // namespace

std::string_view name(CatchUp policy) {
  switch (policy) {
    case CatchUp::skip:
      return "skip";
    case CatchUp::once:
      return "once";
    case CatchUp::all:
      return "all";
  }
  return "once";
}

std::string_view name(Overlap policy) {
  switch (policy) {
    case Overlap::skip:
      return "skip";
    case Overlap::queue:
      return "queue";
    case Overlap::allow:
      return "allow";
  }
  return "skip";
}

CatchUp catch_up_of(std::string_view text) {
  for (const auto policy : {CatchUp::skip, CatchUp::once, CatchUp::all})
    if (name(policy) == text) return policy;
  refuse(fmt::format("`{}` is no way to catch up: it is skip, once or all.", text));
}

Overlap overlap_of(std::string_view text) {
  for (const auto policy : {Overlap::skip, Overlap::queue, Overlap::allow})
    if (name(policy) == text) return policy;
  refuse(fmt::format("`{}` says nothing about overlap: it is skip, queue or allow.", text));
}

void check(const ScheduleSpec& spec) {
  check_name(spec.name);
  if (spec.kind.empty()) refuse("A schedule needs the kind of job that it enqueues.");
  if (spec.flow.empty()) refuse("A schedule needs the flow that its jobs belong to.");
  if (!is_name(spec.flow))
    refuse(fmt::format("`{}` is no name for a flow: it has up to 60 letters, digits, `-`, `_` and `.`, and begins with "
                       "a letter or digit.",
                       spec.flow));
  if (spec.cron.empty()) {
    if (spec.interval == 0us) refuse("A schedule needs a cron expression, such as `0 3 * * *`, or an interval.");
    if (spec.interval < kIntervalMin || spec.interval > kIntervalMax)
      refuse("An interval is from 1 second to 366 days.");
    if (spec.jitter > spec.interval)
      refuse("The jitter is at most the interval: else ticks would overtake one another.");
  } else {
    if (spec.interval != 0us) refuse("A schedule has a cron expression or an interval, not both.");
    if (spec.jitter > kCronJitterMax) refuse("The jitter of a cron expression is at most an hour.");
    Cron::parse(spec.cron);
    Zone::named(spec.zone);
  }
  if (spec.jitter < 0us) refuse("A jitter is not negative.");
  if (spec.catch_up_max < 1 || spec.catch_up_max > kCatchUpMax)
    refuse(fmt::format("How many missed ticks are caught up with is from 1 to {}.", kCatchUpMax));
  if (spec.catch_up == CatchUp::all && spec.overlap == Overlap::skip)
    refuse(
        "Catching up with `all` missed ticks needs `queue` (one after the other) or `allow` (side by side) for the "
        "overlap: "
        "with `skip` only the first of them would run.");
}

Timing::Timing(const ScheduleSpec& spec, Time anchor)
    : by_(spec.cron.empty() ? std::variant<ByCron, ByInterval>(ByInterval{spec.interval, anchor})
                            : ByCron{Cron::parse(spec.cron), Zone::named(spec.zone)}),
      jitter_(spec.jitter),
      salt_(salt_of(spec.name)) {
  if (spec.cron.empty() && spec.interval < kIntervalMin) refuse("An interval is at least a second.");
}

std::optional<Time> Timing::next(Time after) const {
  if (const auto* cron = std::get_if<ByCron>(&by_)) return cron->cron.next(after, cron->zone);
  const auto& by = std::get<ByInterval>(by_);
  const std::int64_t passed = floor_divide((after - by.anchor).count(), by.interval.count());
  return by.anchor + (passed + 1) * by.interval;
}

Time Timing::due(Time tick) const {
  if (jitter_ <= 0us) return tick;
  const std::uint64_t part = mixed(salt_ ^ static_cast<std::uint64_t>(to_us(tick)));
  return tick + Micros(static_cast<std::int64_t>(part % (static_cast<std::uint64_t>(jitter_.count()) + 1)));
}

Timing::Due Timing::due_until(Time now, Time first, CatchUp policy, int catch_up_max, Micros grace) const {
  Due found;
  const std::size_t keep = policy == CatchUp::all ? static_cast<std::size_t>(std::max(catch_up_max, 1)) : 1;
  std::optional<Time> tick = first;
  if (now - first > kLookBack) {
    if (const auto* by = std::get_if<ByInterval>(&by_)) {
      // As many at the end as can be wanted, the others by arithmetic.
      const std::int64_t passed = floor_divide((now - first).count(), by->interval.count());
      const std::int64_t over = std::max<std::int64_t>(0, passed - static_cast<std::int64_t>(keep) - 2);
      found.missed += over;
      tick = first + over * by->interval;
    } else {
      tick = next(now - kLookBack);
    }
  }
  std::deque<Time> newest;
  while (tick && due(*tick) <= now) {
    newest.push_back(*tick);
    if (newest.size() > keep) {
      newest.pop_front();
      ++found.missed;
    }
    tick = next(*tick);
  }
  found.next = tick;
  if (newest.empty()) return found;
  found.newest = newest.back();
  found.run.assign(newest.begin(), newest.end());
  if (policy == CatchUp::skip && now - due(newest.back()) > grace) {
    found.run.clear();
    ++found.missed;
  }
  return found;
}

std::vector<Time> Timing::upcoming(std::optional<Time> first, int count) const {
  std::vector<Time> all;
  for (auto tick = first; tick && static_cast<int>(all.size()) < count; tick = next(*tick)) all.push_back(due(*tick));
  return all;
}

}  // namespace dragoman::jobs
