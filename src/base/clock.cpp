#include "base/clock.h"

#include <fmt/format.h>

#include <charconv>
#include <condition_variable>
#include <mutex>

namespace dragoman {
namespace {

struct Parts {
  int year;
  unsigned month, day;
  std::int64_t hour, minute, second, micros;
};

Parts split(Time t) {
  const auto day = std::chrono::floor<std::chrono::days>(t);
  const std::chrono::year_month_day date(day);
  const std::int64_t us = (t - day).count();
  return {int(date.year()),     unsigned(date.month()), unsigned(date.day()), us / 3'600'000'000,
          us / 60'000'000 % 60, us / 1'000'000 % 60,    us % 1'000'000};
}

// Reads exactly `digits` digits at `at`; -1 if they are not there.
int number(std::string_view text, std::size_t at, std::size_t digits) {
  if (text.size() < at + digits) return -1;
  int value = 0;
  for (std::size_t i = at; i < at + digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    value = value * 10 + (text[i] - '0');
  }
  return value;
}

}  // namespace

Time SystemClock::now() const {
  return std::chrono::time_point_cast<Micros>(std::chrono::system_clock::now());
}

Micros SystemClock::steady() const {
  return std::chrono::duration_cast<Micros>(std::chrono::steady_clock::now().time_since_epoch());
}

bool SystemClock::wait(Micros duration, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, duration, [] { return false; });
  return !stop.stop_requested();
}

std::string format_iso(Time t) {
  const Parts p = split(t);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z", p.year, p.month, p.day, p.hour, p.minute, p.second,
                     p.micros);
}

std::string format_odoo(Time t) {
  const Parts p = split(t);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", p.year, p.month, p.day, p.hour, p.minute, p.second);
}

std::optional<Time> parse_time(std::string_view text) {
  const int year = number(text, 0, 4), month = number(text, 5, 2), day = number(text, 8, 2);
  if (year < 0 || month < 0 || day < 0 || text[4] != '-' || text[7] != '-') return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(unsigned(month)),
                                         std::chrono::day(unsigned(day))};
  if (!date.ok()) return std::nullopt;
  Time t = std::chrono::sys_days(date);
  if (text.size() == 10) return t;
  const int hour = number(text, 11, 2), minute = number(text, 14, 2), second = number(text, 17, 2);
  if ((text[10] != ' ' && text[10] != 'T') || hour < 0 || minute < 0 || second < 0 || text[13] != ':' ||
      text[16] != ':')
    return std::nullopt;
  if (hour > 23 || minute > 59 || second > 60) return std::nullopt;
  t += std::chrono::hours(hour) + std::chrono::minutes(minute) + std::chrono::seconds(second);
  std::size_t at = 19;
  if (at < text.size() && text[at] == '.') {
    std::int64_t unit = 100'000;
    for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at, unit /= 10)
      t += Micros((text[at] - '0') * unit);
  }
  if (at < text.size() && text[at] == 'Z') ++at;
  return at == text.size() ? std::optional(t) : std::nullopt;
}

}  // namespace dragoman
