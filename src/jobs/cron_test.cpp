#include "jobs/cron.h"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"

namespace dragoman::jobs {
namespace {

using namespace std::chrono_literals;

std::string refusal(std::string_view text) {
  try {
    Cron::parse(text);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    EXPECT_EQ(error.code, "cron");
    return error.message;
  }
  return "(accepted)";
}

std::vector<std::string> runs(std::string_view expression, std::string_view zone, std::string_view after, int count) {
  const Cron cron = Cron::parse(expression);
  const Zone place = Zone::named(zone);
  std::vector<std::string> all;
  Time time = parse_time(after).value();
  for (int i = 0; i < count; ++i) {
    const auto next = cron.next(time, place);
    if (!next) break;
    all.push_back(format_iso(*next).substr(0, 16));
    time = *next;
  }
  return all;
}
using Runs = std::vector<std::string>;

TEST(Cron, ReadsListsRangesStepsAndNames) {
  EXPECT_EQ(runs("0,30 8-9 * * *", "UTC", "2026-11-20T00:00:00Z", 5),
            (Runs{"2026-11-20T08:00", "2026-11-20T08:30", "2026-11-20T09:00", "2026-11-20T09:30", "2026-11-21T08:00"}));
  EXPECT_EQ(runs("*/20 23 * * *", "UTC", "2026-11-20T23:20:00Z", 2), (Runs{"2026-11-20T23:40", "2026-11-21T23:00"}));
  EXPECT_EQ(runs("5-25/10 0 1 JAN-Mar/2 *", "UTC", "2026-11-20T00:00:00Z", 4),
            (Runs{"2027-01-01T00:05", "2027-01-01T00:15", "2027-01-01T00:25", "2027-03-01T00:05"}));
  EXPECT_EQ(runs("0 9 * * mon-fri", "UTC", "2026-11-20T09:00:00Z", 2), (Runs{"2026-11-23T09:00", "2026-11-24T09:00"}));
  EXPECT_EQ(runs(" @Weekly ", "UTC", "2026-11-20T09:00:00Z", 1), (Runs{"2026-11-22T00:00"}));
  EXPECT_EQ(runs("@hourly", "UTC", "2026-11-20T09:59:59.999999Z", 1), (Runs{"2026-11-20T10:00"}));
  EXPECT_EQ(runs("@yearly", "UTC", "2026-11-20T09:00:00Z", 1), (Runs{"2027-01-01T00:00"}));
}

TEST(Cron, SundayIsZeroAndSeven) {
  const Runs sundays{"2026-11-22T00:00", "2026-11-29T00:00"};
  for (const char* day : {"0", "7", "sun", "SUN", "7-7", "0-0"})
    EXPECT_EQ(runs(std::string("0 0 * * ") + day, "UTC", "2026-11-20T00:00:00Z", 2), sundays) << day;
  const Runs weekend{"2026-11-21T00:00", "2026-11-22T00:00", "2026-11-28T00:00"};
  for (const char* days : {"6-7", "sat-sun", "6,0", "0,6", "sat,7"})
    EXPECT_EQ(runs(std::string("0 0 * * ") + days, "UTC", "2026-11-20T00:00:00Z", 3), weekend) << days;
}

TEST(Cron, DayOfMonthOrDayOfWeekAsVixieCronHasIt) {
  EXPECT_EQ(runs("0 0 13 * fri", "UTC", "2026-11-09T00:00:00Z", 4),
            (Runs{"2026-11-13T00:00", "2026-11-20T00:00", "2026-11-27T00:00", "2026-12-04T00:00"}));
  EXPECT_EQ(runs("0 0 1,2 * mon", "UTC", "2026-11-27T00:00:00Z", 3),
            (Runs{"2026-11-30T00:00", "2026-12-01T00:00", "2026-12-02T00:00"}))
      << "one of the two is enough";
  EXPECT_EQ(runs("0 0 */2 * mon", "UTC", "2026-11-20T00:00:00Z", 2), (Runs{"2026-11-23T00:00", "2026-12-07T00:00"}))
      << "a field that begins with a star leaves it to the other";
  EXPECT_EQ(runs("0 0 29 2 *", "UTC", "2026-11-20T00:00:00Z", 2), (Runs{"2028-02-29T00:00", "2032-02-29T00:00"}));
  EXPECT_EQ(runs("0 0 29 2 */6", "UTC", "2032-03-01T00:00:00Z", 1), (Runs{"2048-02-29T00:00"})) << "a Saturday";
  EXPECT_EQ(runs("0 0 31 4 mon", "UTC", "2026-11-20T00:00:00Z", 1), (Runs{"2027-04-05T00:00"}));
}

TEST(Cron, SaysWhichFieldIsWrongAndWhatItTakes) {
  EXPECT_EQ(
      refusal("61 0 * * *"),
      "The minute, 1st of the five fields of a cron expression, is `61`: `61` is outside. It takes 0 to 59, such as "
      "`*/5` or `0,30`.");
  EXPECT_EQ(
      refusal("0 24 * * *"),
      "The hour, 2nd of the five fields of a cron expression, is `24`: `24` is outside. It takes 0 to 23, such as "
      "`8-18` or `*/2`.");
  EXPECT_EQ(refusal("0 0 0 * *").substr(0, 20), "The day of the month");
  EXPECT_EQ(
      refusal("0 0 1 jam *"),
      "The month, 4th of the five fields of a cron expression, is `jam`: `jam` is neither a number nor a name nor "
      "`*`. It takes 1 to 12 (jan-dec), such as `jan` or `1-3`.");
  const auto holds = [](std::string_view text, std::string_view part) {
    const std::string message = refusal(text);
    EXPECT_NE(message.find(part), std::string::npos) << text << ": " << message;
  };
  holds("0 0 * * 8", "`8` is outside");
  holds("0 22-2 * * *", "runs backwards; write `22-23,0-2`");
  holds("0 0 * * fri-mon", "runs backwards; write `5-7,0-1`");
  holds("5/15 * * * *", "a step follows `*` or a range; write `5-59/15`");
  holds("*/60 * * * *", "a step is from 1 to 59, and `60` is none");
  holds("*/0 * * * *", "`0` is none");
  holds("*/ * * * *", "a step is from 1 to 59, and `` is none");
  holds("*/-1 * * * *", "a step is");
  holds("1,,2 * * * *", "a value is missing");
  holds("1- * * * *", "a value is missing");
  holds(", * * * *", "a value is missing");
  holds("0 0 ? * *", "`?` is of another kind of cron; write `*`");
  holds("0 0 L * *", "`L` is neither a number nor `*`");
  holds("0 0 * * monday", "neither a number nor a name");
  holds("99999999999999999999 * * * *", "is outside");
  holds("0 0 * *", "has 4");
  holds("0 0 3 * * *", "has 6; there is none for seconds or years");
  holds("", "is empty");
  holds(" \t ", "is empty");
  holds("@dayly", "is none of @hourly");
  holds("@daily *", "is none of @hourly");
  holds("@every 5m", "use an interval");
  holds("@reboot", "is no time");
  holds("0 0 30 2 *", "never comes: no month `2` has a day `30`");
  holds("0 0 31 4,6,9,11 *", "never comes");
  holds(std::string(201, '*'), "at most 200");
}

TEST(Cron, ATimeThatTheClockIsPutForwardOverRunsOnceAfterTheGap) {
  // Berlin, 29 March 2026: 01:59:59 CET is followed by 03:00:00 CEST, at 01:00 UTC.
  EXPECT_EQ(runs("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
            (Runs{"2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"}));
  EXPECT_EQ(runs("*/10 2 * * *", "Europe/Berlin", "2026-03-28T01:50:00Z", 2),
            (Runs{"2026-03-29T01:00", "2026-03-30T00:00"}))
      << "six of them fall together";
  EXPECT_EQ(runs("0 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            (Runs{"2026-03-29T01:00", "2026-03-30T00:00"}));
  // Cairo's gap is at midnight of a Friday: the day begins at 01:00.
  EXPECT_EQ(runs("0 0 * * fri", "Africa/Cairo", "2026-04-20T00:00:00Z", 2),
            (Runs{"2026-04-23T22:00", "2026-04-30T21:00"}));
  // Lord Howe: half an hour, from 02:00 to 02:30.
  EXPECT_EQ(runs("15 2 * * *", "Australia/Lord_Howe", "2026-10-02T20:00:00Z", 2),
            (Runs{"2026-10-03T15:30", "2026-10-04T15:15"}));
}

TEST(Cron, ATimeThatTheClockShowsTwiceRunsTheFirstTime) {
  // Berlin, 25 October 2026: 02:59:59 CEST is followed by 02:00:00 CET, at 01:00 UTC.
  EXPECT_EQ(runs("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            (Runs{"2026-10-25T00:30", "2026-10-26T01:30"}));
  EXPECT_EQ(runs("*/30 2,3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 4),
            (Runs{"2026-10-25T00:00", "2026-10-25T00:30", "2026-10-25T02:00", "2026-10-25T02:30"}));
  EXPECT_EQ(runs("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", 1), (Runs{"2026-10-26T01:30"}))
      << "asked in the hour that comes a second time";
  EXPECT_EQ(runs("0 */2 * * *", "Europe/Berlin", "2026-10-24T22:30:00Z", 2),
            (Runs{"2026-10-25T00:00", "2026-10-25T03:00"}));
}

TEST(Cron, WhatTakesEveryHourGoesByElapsedTime) {
  EXPECT_EQ(runs("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:15:00Z", 5),
            (Runs{"2026-10-25T00:30", "2026-10-25T01:00", "2026-10-25T01:30", "2026-10-25T02:00", "2026-10-25T02:30"}));
  EXPECT_EQ(runs("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", 3),
            (Runs{"2026-03-29T00:00", "2026-03-29T01:00", "2026-03-29T02:00"}));
  EXPECT_EQ(runs("*/10 * * * *", "Australia/Lord_Howe", "2026-10-03T15:15:00Z", 3),
            (Runs{"2026-10-03T15:20", "2026-10-03T15:30", "2026-10-03T15:40"}));
}

TEST(Cron, ZonesWithOddOffsetsAndYearsToCome) {
  EXPECT_EQ(runs("0 9 * * *", "Asia/Kathmandu", "2026-11-20T00:00:00Z", 1), (Runs{"2026-11-20T03:15"}));
  EXPECT_EQ(runs("0 12 1 7 *", "Europe/Berlin", "2036-01-01T00:00:00Z", 1), (Runs{"2036-07-01T10:00"}));
  // Samoa had no 30 December 2011.
  EXPECT_EQ(runs("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
            (Runs{"2011-12-29T19:00", "2011-12-30T10:00", "2011-12-30T19:00"}));
  EXPECT_EQ(Cron::parse("0 0 * * *").next(Time::max(), Zone::named("UTC")), std::nullopt);
  EXPECT_EQ(runs("* * * * *", "Europe/Berlin", "0001-01-01T00:00:00Z", 1).size(), 1u);
}

TEST(Cron, AnUnknownZoneIsRefusedWithTheNearest) {
  const auto message = [](std::string_view name) {
    try {
      Zone::named(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code, "time_zone");
      return error.message;
    }
    return std::string("(accepted)");
  };
  EXPECT_EQ(
      message("Europe/Berlim"),
      "There is no time zone `Europe/Berlim` on this machine. Did you mean `Europe/Berlin`? A zone has a name such as "
      "Europe/Berlin or UTC.");
  EXPECT_NE(message("kathmandu").find("Did you mean `Asia/Kathmandu`?"), std::string::npos);
  EXPECT_NE(message("").find("There is no time zone ``"), std::string::npos);
  EXPECT_NE(message("../../../etc/passwd").find("There is no time zone"), std::string::npos);
}

// The slow walk: every minute of real time, with the wall clock as the C library has it.

/// The C library's view of a zone. One at a time: it changes the process's environment.
class WallClock {
 public:
  explicit WallClock(const char* zone) {
    ::setenv("TZ", (std::string(":") + zone).c_str(), 1);
    ::tzset();
  }
  ~WallClock() {
    ::unsetenv("TZ");
    ::tzset();
  }
  tm at(std::int64_t minute) const {
    const std::time_t seconds = minute * 60;
    tm wall{};
    ::localtime_r(&seconds, &wall);
    return wall;
  }
};

struct Fields {
  std::set<int> minutes, hours, days, months, weekdays;
  bool star_days = false, star_weekdays = false;
  std::string text;

  bool fits(const tm& wall) const {
    const bool day = days.count(wall.tm_mday), weekday = weekdays.count(wall.tm_wday);
    return minutes.count(wall.tm_min) && hours.count(wall.tm_hour) && months.count(wall.tm_mon + 1) &&
           (star_days || star_weekdays ? day && weekday : day || weekday);
  }
};

Fields random_fields(std::mt19937_64& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  Fields fields;
  // Writes one field in one of the ways there are, and what it means.
  const auto field = [&](std::set<int>& values, int min, int max, int step_max, bool likely_star) {
    std::string text;
    const auto put = [&](int low, int high, int step) {
      for (int i = low; i <= high; i += step) values.insert(i);
    };
    if (likely_star ? below(3) != 0 : below(4) == 0) {
      put(min, max, 1);
      return std::string("*");
    }
    if (below(4) == 0) {
      const int step = 1 + below(step_max);
      put(min, max, step);
      return "*/" + std::to_string(step);
    }
    for (int parts = 1 + below(3); parts > 0; --parts) {
      const int low = min + below(max - min + 1), high = low + below(max - low + 1);
      text += text.empty() ? "" : ",";
      if (below(2) == 0) {
        put(low, low, 1);
        text += std::to_string(low);
      } else if (below(2) == 0) {
        put(low, high, 1);
        text += std::to_string(low) + "-" + std::to_string(high);
      } else {
        const int step = 1 + below(step_max);
        put(low, high, step);
        text += std::to_string(low) + "-" + std::to_string(high) + "/" + std::to_string(step);
      }
    }
    return text;
  };
  fields.text = field(fields.minutes, 0, 59, 59, false) + " " + field(fields.hours, 0, 23, 23, false);
  const std::string days = field(fields.days, 1, 31, 30, true), months = field(fields.months, 1, 12, 11, true),
                    weekdays = field(fields.weekdays, 0, 6, 6, true);
  fields.star_days = days.front() == '*';
  fields.star_weekdays = weekdays.front() == '*';
  fields.text += " " + days + " " + months + " " + weekdays;
  return fields;
}

std::vector<std::int64_t> slow_walk(const Fields& fields, const WallClock& clock, std::int64_t from, std::int64_t to) {
  std::vector<std::int64_t> all;
  const bool every_hour = fields.hours.size() == 24;
  const auto number = [](tm wall) { return static_cast<std::int64_t>(::timegm(&wall)) / 60; };  // of the wall's minute
  std::int64_t shown = 0;  // the highest that the wall has shown
  for (std::int64_t minute = from - 180; minute <= from; ++minute) shown = std::max(shown, number(clock.at(minute)));
  for (std::int64_t minute = from + 1; minute <= to; ++minute) {
    const tm wall = clock.at(minute);
    bool run = false;
    if (every_hour) {
      run = fields.fits(wall);
    } else {
      const std::int64_t now = number(wall);
      for (std::int64_t passed = shown + 1; passed <= now; ++passed) {
        const std::time_t seconds = passed * 60;
        tm skipped{};
        ::gmtime_r(&seconds, &skipped);
        run = run || fields.fits(skipped);
      }
      shown = std::max(shown, now);
    }
    if (run) all.push_back(minute);
  }
  return all;
}

class CronWalk : public testing::TestWithParam<const char*> {};

TEST_P(CronWalk, AgreesWithASlowWalkOverEveryMinute) {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  std::cout << "seed " << seed << " (DRAGOMAN_SEED=" << seed << " runs it again)\n";
  std::mt19937_64 random(seed);
  const WallClock clock(GetParam());
  const Zone zone = Zone::named(GetParam());
  // Where the clock changes between 2024 and 2029, and some other days.
  std::vector<std::int64_t> around;
  const std::int64_t first = 1'704'067'200 / 60, last = 1'861'920'000 / 60;
  for (std::int64_t minute = first; minute < last; minute += 30)
    if (clock.at(minute).tm_gmtoff != clock.at(minute + 30).tm_gmtoff) around.push_back(minute);
  const std::size_t changes = around.size();
  for (int i = 0; i < 4; ++i)
    around.push_back(first + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(last - first)));
  if (std::string_view(GetParam()) == "Europe/Berlin") {
    EXPECT_EQ(changes, 10u);
  }

  for (int round = 0; round < 60; ++round) {
    const Fields fields = random_fields(random);
    Cron cron = Cron::parse("* * * * *");
    try {
      cron = Cron::parse(fields.text);
    } catch (const Error& error) {
      ASSERT_NE(error.message.find("never comes"), std::string::npos) << fields.text << ": " << error.message;
      continue;
    }
    const std::int64_t middle = around[static_cast<std::size_t>(round) % around.size()];
    // Begins at some moment, so that `next` is asked in gaps and in hours that come twice as well.
    const std::int64_t from = middle - static_cast<std::int64_t>(random() % 3000) - 60, to = from + 6 * 1440;
    const auto expected = slow_walk(fields, clock, from, to);
    std::vector<std::int64_t> found;
    Time time = Time(std::chrono::minutes(from));
    while (const auto next = cron.next(time, zone)) {
      if (*next > Time(std::chrono::minutes(to))) break;
      ASSERT_GT(*next, time);
      time = *next;
      found.push_back(to_us(time) / 60'000'000);
    }
    ASSERT_EQ(found, expected) << fields.text << " in " << GetParam() << " after minute " << from;
    // And from any moment in between, not only from one run to the next.
    for (int i = 0; i < 50; ++i) {
      const std::int64_t at = from + 120 + static_cast<std::int64_t>(random() % (5 * 1440));
      const auto after = std::upper_bound(expected.begin(), expected.end(), at);
      if (after == expected.end()) continue;
      ASSERT_EQ(
          cron.next(Time(std::chrono::minutes(at)) + Micros(static_cast<std::int64_t>(random() % 60'000'000)), zone),
          Time(std::chrono::minutes(*after)))
          << fields.text << " in " << GetParam() << " after minute " << at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zones, CronWalk,
                         testing::Values("Europe/Berlin", "America/New_York", "Africa/Cairo", "Australia/Lord_Howe",
                                         "Asia/Kathmandu", "UTC"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name)
                             if (c == '/') c = '_';
                           return name;
                         });

}  // namespace
}  // namespace dragoman::jobs
