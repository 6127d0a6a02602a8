#include "jobs/cron.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <span>
#include <vector>

#include "base/error.h"

namespace dragoman::jobs {
namespace {

using namespace std::chrono;

constexpr std::size_t kTextBytesMax = 200;
// A 29 February that falls on a given weekday is at most 40 years away.
constexpr days kSearch = days(366 * 50);

constexpr std::array<std::string_view, 12> kMonths{"jan", "feb", "mar", "apr", "may", "jun",
                                                   "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::array<std::string_view, 7> kWeekdays{"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct FieldRule {
  std::string_view name, ordinal;
  int min, max, step_max;
  std::span<const std::string_view> names;  // of min, min + 1, …
  std::string_view example;
};
const std::array<FieldRule, 5> kFields{{{"minute", "1st", 0, 59, 59, {}, "`*/5` or `0,30`"},
                                        {"hour", "2nd", 0, 23, 23, {}, "`8-18` or `*/2`"},
                                        {"day of the month", "3rd", 1, 31, 30, {}, "`1` or `1,15`"},
                                        {"month", "4th", 1, 12, 11, kMonths, "`jan` or `1-3`"},
                                        {"day of the week", "5th", 0, 7, 6, kWeekdays, "`mon-fri` or `0`"}}};
constexpr int kWeekdayField = 4;

struct Macro {
  std::string_view name, means;
};
constexpr std::array<Macro, 7> kMacros{{{"@hourly", "0 * * * *"},
                                        {"@daily", "0 0 * * *"},
                                        {"@midnight", "0 0 * * *"},
                                        {"@weekly", "0 0 * * 0"},
                                        {"@monthly", "0 0 1 * *"},
                                        {"@yearly", "0 0 1 1 *"},
                                        {"@annually", "0 0 1 1 *"}}};

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "cron";
  throw error;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::vector<std::string_view> split(std::string_view text, std::string_view separators, bool keep_empty) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find_first_of(separators, begin), text.size());
    if (keep_empty || end > begin) parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Reads one of the five fields.
class FieldReader {
 public:
  FieldReader(int index, std::string_view text)
      : rule_(kFields[static_cast<std::size_t>(index)]), index_(index), text_(text) {}

  std::uint64_t read() const {
    std::uint64_t values = 0;
    for (const auto item : split(text_, ",", true)) values |= read_item(item);
    return values;
  }

 private:
  [[noreturn]] void wrong(const std::string& why) const {
    std::string names;
    if (!rule_.names.empty()) names = fmt::format(" ({}-{})", rule_.names.front(), rule_.names.back());
    refuse(
        fmt::format("The {}, {} of the five fields of a cron expression, is `{}`: {}. It takes {} to {}{}, such as {}.",
                    rule_.name, rule_.ordinal, text_, why, rule_.min, rule_.max, names, rule_.example));
  }

  // `named` tells a name from a number.
  int value(std::string_view text, bool* named = nullptr) const {
    if (named) *named = false;
    if (text.empty()) wrong("a value is missing");
    if (text.find_first_not_of("0123456789") == std::string_view::npos) {
      int number = 0;
      for (const char c : text.substr(0, 4)) number = number * 10 + (c - '0');
      if (text.size() > 4 || number < rule_.min || number > rule_.max) wrong(fmt::format("`{}` is outside", text));
      return number;
    }
    const std::string name = lower(text);
    for (std::size_t i = 0; i < rule_.names.size(); ++i)
      if (name == rule_.names[i]) {
        if (named) *named = true;
        return rule_.min + static_cast<int>(i);
      }
    if (text == "?") wrong("`?` is of another kind of cron; write `*`");
    wrong(fmt::format("`{}` is neither a number{} nor `*`", text, rule_.names.empty() ? "" : " nor a name"));
  }

  std::uint64_t read_item(std::string_view item) const {
    const auto slash = item.find('/');
    const std::string_view base = item.substr(0, slash);
    // Seven is another name of Sunday, so a step over all days ends with six.
    int low = rule_.min, high = index_ == kWeekdayField ? 6 : rule_.max, step = 1;
    bool single = false;
    if (base != "*") {
      const auto dash = base.find('-');
      low = value(base.substr(0, dash));
      high = low;
      if (dash == std::string_view::npos) {
        single = true;
      } else {
        bool named = false;
        high = value(base.substr(dash + 1), &named);
        if (index_ == kWeekdayField && named && high == 0 && low > 0) high = 7;  // fri-sun
        if (high < low)
          wrong(
              fmt::format("the range `{}` runs backwards; write `{}-{},{}-{}`", base, low, rule_.max, rule_.min, high));
      }
    }
    if (slash != std::string_view::npos) {
      const std::string_view text = item.substr(slash + 1);
      if (single) wrong(fmt::format("a step follows `*` or a range; write `{}-{}/{}`", low, rule_.max, text));
      const bool number =
          !text.empty() && text.size() <= 3 && text.find_first_not_of("0123456789") == std::string_view::npos;
      step = number ? std::stoi(std::string(text)) : 0;
      if (step < 1 || step > rule_.step_max)
        wrong(fmt::format(
            "a step is from 1 to {}, and `{}` is none; for a longer time between two runs name the values, or "
            "use an interval",
            rule_.step_max, text));
    }
    std::uint64_t values = 0;
    for (int i = low; i <= high; i += step) values |= std::uint64_t{1} << (index_ == kWeekdayField ? i % 7 : i);
    return values;
  }

  const FieldRule& rule_;
  const int index_;
  const std::string_view text_;
};

// Of a leap year.
constexpr std::array<int, 12> kMonthDays{31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

}  // namespace

Cron Cron::parse(std::string_view text) {
  if (text.size() > kTextBytesMax)
    refuse(fmt::format("A cron expression has at most {} characters; this one has {}.", kTextBytesMax, text.size()));
  auto fields = split(text, " \t", false);
  if (fields.empty()) refuse("A cron expression has five fields, such as `0 3 * * mon-fri`; this one is empty.");
  if (fields.front().front() == '@') {
    const std::string name = lower(fields.front());
    const Macro* found = nullptr;
    for (const auto& macro : kMacros)
      if (macro.name == name) found = &macro;
    if (name == "@every") refuse("`@every` is no cron expression: use an interval instead.");
    if (name == "@reboot") refuse("`@reboot` is no time: a schedule runs by the clock.");
    if (!found || fields.size() > 1)
      refuse(fmt::format("`{}` is none of @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.", text));
    fields = split(found->means, " ", false);
  }
  if (fields.size() != kFields.size())
    refuse(fmt::format(
        "A cron expression has five fields: minute, hour, day of the month, month, day of the week. `{}` has "
        "{}{}.",
        text, fields.size(), fields.size() == 6 ? "; there is none for seconds or years" : ""));
  Cron cron;
  for (const auto field : split(text, " \t", false)) cron.text_ += (cron.text_.empty() ? "" : " ") + std::string(field);
  const auto bits = [&](int index) { return FieldReader(index, fields[static_cast<std::size_t>(index)]).read(); };
  cron.minutes_ = bits(0);
  cron.hours_ = static_cast<std::uint32_t>(bits(1));
  cron.days_ = static_cast<std::uint32_t>(bits(2));
  cron.months_ = static_cast<std::uint32_t>(bits(3));
  cron.weekdays_ = static_cast<std::uint32_t>(bits(4));
  cron.both_days_ = fields[2].front() == '*' || fields[4].front() == '*';
  if (cron.both_days_) {
    bool possible = false;
    for (int month = 1; month <= 12; ++month) {
      const auto there = (std::uint64_t{1} << (kMonthDays[static_cast<std::size_t>(month - 1)] + 1)) - 2;
      if ((cron.months_ >> month & 1) != 0 && (cron.days_ & there) != 0) possible = true;
    }
    if (!possible)
      refuse(fmt::format("`{}` never comes: no month `{}` has a day `{}`.", cron.text_, fields[3], fields[2]));
  }
  return cron;
}

bool Cron::matches_day(year_month_day date, weekday weekday) const {
  const bool day = days_ >> static_cast<unsigned>(date.day()) & 1, week = weekdays_ >> weekday.c_encoding() & 1;
  return both_days_ ? day && week : day || week;
}

bool Cron::matches(WallMinute wall) const {
  const auto day = floor<days>(wall);
  const year_month_day date{day};
  const auto minutes = static_cast<unsigned>((wall - day).count());
  return (minutes_ >> minutes % 60 & 1) != 0 && (hours_ >> minutes / 60 & 1) != 0 &&
         (months_ >> static_cast<unsigned>(date.month()) & 1) != 0 && matches_day(date, weekday(day));
}

// The first that fits, `from` included.
std::optional<WallMinute> Cron::next_wall(WallMinute from) const {
  auto day = floor<days>(from);
  const auto last = day + kSearch;
  auto rest = static_cast<unsigned>((from - day).count());
  while (day <= last) {
    const year_month_day date{day};
    if ((months_ >> static_cast<unsigned>(date.month()) & 1) == 0) {
      day = local_days((date.year() / date.month() + months(1)) / 1);
    } else if (!matches_day(date, weekday(day))) {
      ++day;
    } else {
      for (unsigned hour = rest / 60, minute = rest % 60; hour < 24; ++hour, minute = 0)
        if ((hours_ >> hour & 1) != 0)
          if (const auto left = minutes_ >> minute; left != 0)
            return day + hours(hour) + minutes(minute + static_cast<unsigned>(std::countr_zero(left)));
      ++day;
    }
    rest = 0;
  }
  return std::nullopt;
}

std::optional<Time> Cron::next(Time after, const Zone& zone) const {
  static const Time kFirst = sys_days(year(1) / 1 / 2), kLast = sys_days(year(9949) / 1 / 1);
  if (after > kLast) return std::nullopt;
  after = std::max(after, kFirst);
  if (every_hour()) {
    for (Time from = after + Micros(1);;) {
      const auto stretch = zone.at(from);
      const auto wall = next_wall(ceil<minutes>(local_time<Micros>(from.time_since_epoch() + stretch.offset)));
      if (!wall) return std::nullopt;
      const Time time(wall->time_since_epoch() - stretch.offset);
      if (time < stretch.end) return time;
      from = stretch.end;
    }
  }
  // What the clock showed earlier than this it showed for the first time earlier, too: the hour that comes twice is
  // passed over by the comparison below, the gap by `first`.
  auto wall = next_wall(floor<minutes>(local_time<Micros>(after.time_since_epoch() + zone.at(after).offset)));
  while (wall) {
    if (const Time time = zone.first(*wall); time > after) return time;
    wall = next_wall(*wall + minutes(1));
  }
  return std::nullopt;
}

}  // namespace dragoman::jobs
