#include "sandbox/cartona/values.h"

#include <chrono>
#include <cmath>
#include <cstdio>

namespace sandbox::cartona {

namespace {

using Days = std::chrono::sys_days;

struct Wall {
  int year;
  unsigned month, day;
  int hour, minute, second;
  int micros;
};

Wall wall_of(Moment at) {
  Moment day = at / kDay, rest = at % kDay;
  if (rest < 0) {
    rest += kDay;
    --day;
  }
  const std::chrono::year_month_day date{Days{std::chrono::days{day}}};
  const auto seconds = static_cast<int>(rest / kSecond);
  return {int(date.year()), unsigned(date.month()),          unsigned(date.day()), seconds / 3600, seconds / 60 % 60,
          seconds % 60,     static_cast<int>(rest % kSecond)};
}

Moment days_to(std::chrono::sys_days day) {
  return day.time_since_epoch().count() * kDay;
}

/// Reads exactly `digits` digits.
bool number(std::string_view& text, int digits, int& value) {
  if (text.size() < static_cast<std::size_t>(digits)) return false;
  value = 0;
  for (int i = 0; i < digits; ++i) {
    const char c = text[static_cast<std::size_t>(i)];
    if (c < '0' || c > '9') return false;
    value = value * 10 + (c - '0');
  }
  text.remove_prefix(static_cast<std::size_t>(digits));
  return true;
}

bool take(std::string_view& text, char c) {
  if (text.empty() || text[0] != c) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

Figure times(Figure price, Figure quantity) {
  const __int128 product = static_cast<__int128>(price) * quantity;
  const __int128 half = product < 0 ? -kOne / 2 : kOne / 2;
  return static_cast<Figure>((product + half) / kOne);
}

void append_figure(std::string& out, Figure value, FigureForm form) {
  char digits[48];
  const char* sign = value < 0 ? "-" : "";
  const std::uint64_t size = value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
  int length = std::snprintf(digits, sizeof digits, "%s%llu.%04llu", sign, static_cast<unsigned long long>(size / kOne),
                             static_cast<unsigned long long>(size % kOne));
  const int least = form == FigureForm::text ? 2 : form == FigureForm::real ? 1 : 0;
  int decimals = 4;
  while (decimals > least && digits[length - 1] == '0') {
    --length;
    --decimals;
  }
  if (decimals == 0) --length;
  if (form == FigureForm::text) out += '"';
  out.append(digits, static_cast<std::size_t>(length));
  if (form == FigureForm::text) out += '"';
}

std::optional<Figure> figure_of(const Json& value, bool text_allowed) {
  double number = 0;
  if (value.is_number()) {
    number = value.get<double>();
  } else if (value.is_string() && text_allowed) {
    const auto& text = value.get_ref<const std::string&>();
    if (text.empty() || text.size() > 20 || text.find_first_not_of("0123456789.-") != std::string::npos)
      return std::nullopt;
    char* end = nullptr;
    number = std::strtod(text.c_str(), &end);
    if (end != text.c_str() + text.size()) return std::nullopt;
  } else {
    return std::nullopt;
  }
  if (!(std::fabs(number) < 1e13)) return std::nullopt;
  return std::llround(number * static_cast<double>(kOne));
}

void append_text(std::string& out, std::string_view text, bool ascii) {
  if (ascii) {
    out += Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
    return;
  }
  // All text here came out of JSON or is our own: it is UTF-8.
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else {
      out += c;
    }
  }
  out += '"';
}

Moment now_of_machine() {
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string iso_utc(Moment at) {
  const Wall wall = wall_of(at);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02d.%06dZ", wall.year, wall.month, wall.day, wall.hour,
                wall.minute, wall.second, wall.micros);
  return text;
}

std::string date_of(Moment at) {
  return iso_utc(at).substr(0, 10);
}

std::string http_date_of(Moment at) {
  static const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const Wall wall = wall_of(at);
  const std::chrono::weekday day{Days{std::chrono::days{at / kDay}}};
  char text[64];
  std::snprintf(text, sizeof text, "%s, %02u %s %04d %02d:%02d:%02d GMT", kDays[day.c_encoding()], wall.day,
                kMonths[wall.month - 1], wall.year, wall.hour, wall.minute, wall.second);
  return text;
}

Moment cairo_ahead(Moment at) {
  using namespace std::chrono;
  const year y{wall_of(at).year};
  constexpr Moment kHour = 3600 * kSecond;
  const Moment begins = days_to(sys_days{y / April / Friday[last]}) - 2 * kHour;  // 00:00 by the winter clock
  const Moment ends = days_to(sys_days{y / October / Thursday[last]}) + kDay - 3 * kHour;
  return at >= begins && at < ends ? 3 * kHour : 2 * kHour;
}

std::string iso_cairo(Moment at) {
  return iso_utc(at + cairo_ahead(at)).substr(0, 19);
}

Moment from_cairo(Moment wall) {
  const Moment guess = wall - 2 * 3600 * kSecond;
  return wall - cairo_ahead(guess);
}

std::optional<ParsedMoment> parse_moment(std::string_view text) {
  int year, month, day, hour = 0, minute = 0, second = 0;
  if (!number(text, 4, year) || !take(text, '-') || !number(text, 2, month) || !take(text, '-') ||
      !number(text, 2, day))
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  if (!date.ok()) return std::nullopt;
  ParsedMoment parsed;
  Moment micros = 0;
  if (!text.empty()) {
    if (!take(text, 'T') && !take(text, ' ')) return std::nullopt;
    if (!number(text, 2, hour) || !take(text, ':') || !number(text, 2, minute)) return std::nullopt;
    if (take(text, ':') && !number(text, 2, second)) return std::nullopt;
    if (hour > 23 || minute > 59 || second > 60) return std::nullopt;
    if (take(text, '.')) {
      Moment unit = kSecond;
      int digit;
      while (number(text, 1, digit)) micros += digit * (unit /= 10);
    }
    if (take(text, 'Z')) {
      parsed.offset = 0;
    } else if (!text.empty()) {
      // A plus sign that was not escaped arrives as a space.
      const bool minus = text[0] == '-';
      if (!take(text, '+') && !take(text, '-') && !take(text, ' ')) return std::nullopt;
      int hours, minutes;
      if (!number(text, 2, hours)) return std::nullopt;
      take(text, ':');
      if (!number(text, 2, minutes)) return std::nullopt;
      parsed.offset = (minus ? -1 : 1) * (hours * 3600 + minutes * 60) * kSecond;
    }
    if (!text.empty()) return std::nullopt;
  }
  parsed.wall = days_to(std::chrono::sys_days{date}) + (hour * 3600 + minute * 60 + second) * kSecond + micros;
  return parsed;
}

std::uint64_t Dice::next() {
  std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ULL);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

Dice dice_for(std::uint64_t seed, std::uint64_t part, std::uint64_t of) {
  Dice mixer(seed);
  const std::uint64_t a = Dice(mixer.next() ^ (part * 0xD1B54A32D192ED03ULL)).next();
  return Dice(a ^ Dice(of + 0x632BE59BD9B4E019ULL).next());
}

}  // namespace sandbox::cartona
