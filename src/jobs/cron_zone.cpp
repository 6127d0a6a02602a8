#include "jobs/cron_zone.h"

#include <date/tz.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace dragoman::jobs {
namespace {

[[noreturn]] void refuse(std::string message, std::string detail = {}) {
  Error error(Error::Kind::invalid, std::move(message), std::move(detail));
  error.code = "time_zone";
  throw error;
}

const date::time_zone& zone_of(const void* zone) {
  return *static_cast<const date::time_zone*>(zone);
}

// Far beyond what is stored, and far from what overflows.
constexpr Time kLongAgo = Time(Micros(-62'135'596'800'000'000));         // the year 1
constexpr Time kInTheFarFuture = Time(Micros(253'402'300'800'000'000));  // the year 10000

Time time_of(date::sys_seconds seconds) {
  const auto since = std::clamp<std::chrono::seconds>(
      seconds.time_since_epoch(), std::chrono::floor<std::chrono::seconds>(kLongAgo.time_since_epoch()),
      std::chrono::floor<std::chrono::seconds>(kInTheFarFuture.time_since_epoch()));
  return Time(since);
}

const date::tzdb& database() {
  static const date::tzdb& known = []() -> const date::tzdb& {
    try {
      return date::get_tzdb();
    } catch (const std::exception& error) {
      refuse(
          "This machine has no time zones but UTC. Install them (Debian's package `tzdata`), and start the hub again.",
          error.what());
    }
  }();
  return known;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

// `Berlin` is most likely Europe/Berlin.
std::string nearest_zone(std::string_view name) {
  std::vector<std::string> names;
  const std::string wanted = lower(name);
  for (const auto& zone : database().zones) {
    const std::string& one = zone.name();
    if (lower(one) == wanted || lower(one.substr(one.rfind('/') + 1)) == wanted) return one;
    names.push_back(one);
  }
  return nearest(name, names);
}

// Some systems ship zones in a form that says the rules of the years to come in a line that our library does not read:
// summer time would silently be missed.
bool knows_the_years_to_come() {
  static const bool knows = [] {
    try {
      using namespace std::chrono_literals;
      const auto* zone = date::locate_zone("America/New_York");
      const auto january = date::sys_days{date::year{2036} / 1 / 15}, july = date::sys_days{date::year{2036} / 7 / 15};
      return zone->get_info(january).offset != zone->get_info(july).offset;
    } catch (const std::exception&) {
      return true;  // a machine with few zones
    }
  }();
  return knows;
}

}  // namespace

Zone Zone::named(std::string_view name) {
  if (name == "UTC") return {"UTC", nullptr};
  database();
  try {
    const auto* zone = date::locate_zone(std::string(name));
    zone->get_info(date::sys_days{date::year{2026} / 1 / 1});  // read now, so that a damaged file shows here
    if (!knows_the_years_to_come())
      refuse(
          "The time zones of this machine lack the years to come (they were compiled in the slim form). Use `UTC`, or "
          "install Debian's package `tzdata`.");
    return {zone->name(), zone};
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string near = nearest_zone(name);
    refuse(fmt::format("There is no time zone `{}` on this machine.{} A zone has a name such as Europe/Berlin or UTC.",
                       name, near.empty() ? "" : fmt::format(" Did you mean `{}`?", near)),
           error.what());
  }
}

Zone::Stretch Zone::at(Time time) const {
  if (!zone_) return {kLongAgo, kInTheFarFuture, std::chrono::seconds(0)};
  const auto info =
      zone_of(zone_).get_info(date::sys_seconds(std::chrono::floor<std::chrono::seconds>(time.time_since_epoch())));
  return {time_of(info.begin), time_of(info.end), info.offset};
}

Time Zone::first(WallMinute wall) const {
  const std::chrono::seconds since = wall.time_since_epoch();
  if (!zone_) return Time(since);
  const auto info = zone_of(zone_).get_info(date::local_seconds(since));
  if (info.result == date::local_info::nonexistent) return time_of(info.first.end);
  return Time(since - info.first.offset);  // of a time that is there twice, `first` is the earlier
}

}  // namespace dragoman::jobs
