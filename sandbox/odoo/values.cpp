#include "sandbox/odoo/values.h"

#include <array>
#include <charconv>
#include <cstdio>
#include <vector>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/sink.h"

namespace sandbox::odoo {

namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kDay = 86'400 * kSecond;

struct Civil {
  int year;
  unsigned month;
  unsigned day;
};

// Howard Hinnant's public-domain calendar arithmetic, in the two directions needed.
std::int64_t days_from_civil(int y, unsigned m, unsigned d) {
  y -= m <= 2;
  const int era = (y >= 0 ? y : y - 399) / 400;
  const auto yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return static_cast<std::int64_t>(era) * 146097 + static_cast<std::int64_t>(doe) - 719468;
}

Civil civil_from_days(std::int64_t z) {
  z += 719468;
  const std::int64_t era = (z >= 0 ? z : z - 146096) / 146097;
  const auto doe = static_cast<unsigned>(z - era * 146097);
  const unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const unsigned mp = (5 * doy + 2) / 153;
  const unsigned d = doy - (153 * mp + 2) / 5 + 1;
  const unsigned m = mp < 10 ? mp + 3 : mp - 9;
  return {static_cast<int>(yoe) + static_cast<int>(era) * 400 + (m <= 2), m, d};
}

void two(char* at, unsigned value) {
  at[0] = static_cast<char>('0' + value / 10 % 10);
  at[1] = static_cast<char>('0' + value % 10);
}

std::optional<unsigned> digits(std::string_view text, std::size_t at, std::size_t count) {
  if (at + count > text.size()) return std::nullopt;
  unsigned value = 0;
  for (std::size_t i = at; i < at + count; ++i) {
    if (text[i] < '0' || text[i] > '9') return std::nullopt;
    value = value * 10 + static_cast<unsigned>(text[i] - '0');
  }
  return value;
}

std::optional<std::int64_t> clock_part(std::string_view text) {  // "HH:MM:SS"
  const auto h = digits(text, 0, 2);
  const auto m = digits(text, 3, 2);
  const auto s = digits(text, 6, 2);
  if (!h || !m || !s || text[2] != ':' || text[5] != ':' || *h > 23 || *m > 59 || *s > 59) return std::nullopt;
  return (*h * 3600LL + *m * 60LL + *s) * kSecond;
}

std::string python_quoted(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    if (c == quote || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + quote;
}

}  // namespace

std::string format_date(std::int64_t time_us) {
  const std::int64_t days = time_us >= 0 ? time_us / kDay : -((-time_us + kDay - 1) / kDay);
  const Civil c = civil_from_days(days);
  char buffer[10];
  two(buffer, static_cast<unsigned>(c.year) / 100);
  two(buffer + 2, static_cast<unsigned>(c.year) % 100);
  buffer[4] = buffer[7] = '-';
  two(buffer + 5, c.month);
  two(buffer + 8, c.day);
  return {buffer, 10};
}

std::string format_datetime(std::int64_t time_us) {
  const std::int64_t days = time_us >= 0 ? time_us / kDay : -((-time_us + kDay - 1) / kDay);
  const auto seconds = static_cast<unsigned>((time_us - days * kDay) / kSecond);
  char buffer[9];
  buffer[0] = ' ';
  two(buffer + 1, seconds / 3600);
  buffer[3] = buffer[6] = ':';
  two(buffer + 4, seconds / 60 % 60);
  two(buffer + 7, seconds % 60);
  return format_date(time_us) + std::string(buffer, 9);
}

std::string format_datetime_us(std::int64_t time_us) {
  const std::int64_t rest = ((time_us % kSecond) + kSecond) % kSecond;
  if (rest == 0) return format_datetime(time_us);
  char buffer[16];
  std::snprintf(buffer, sizeof buffer, ".%06d", static_cast<int>(rest));
  return format_datetime(time_us) + buffer;
}

std::optional<std::int64_t> parse_date(std::string_view text) {
  const auto y = digits(text, 0, 4);
  const auto m = digits(text, 5, 2);
  const auto d = digits(text, 8, 2);
  if (!y || !m || !d || text[4] != '-' || text[7] != '-' || *m < 1 || *m > 12 || *d < 1 || *d > 31) return std::nullopt;
  return days_from_civil(static_cast<int>(*y), *m, *d) * kDay;
}

std::optional<std::int64_t> parse_written_datetime(std::string_view text) {
  const auto date = parse_date(text.substr(0, 10));
  if (!date || text.size() < 10) return std::nullopt;
  if (text.size() == 10) return date;
  if (text.size() != 19 || text[10] != ' ') return std::nullopt;
  const auto clock = clock_part(text.substr(11));
  return clock ? std::optional(*date + *clock) : std::nullopt;
}

std::optional<std::int64_t> parse_domain_datetime(std::string_view text, bool allow_z) {
  const auto date = parse_date(text.substr(0, 10));
  if (!date) return std::nullopt;
  if (text.size() == 10) return date;
  if (text.size() < 19 || (text[10] != ' ' && text[10] != 'T')) return std::nullopt;
  const auto clock = clock_part(text.substr(11, 8));
  if (!clock) return std::nullopt;
  std::string_view rest = text.substr(19);
  std::int64_t fraction = 0;
  if (!rest.empty() && rest.front() == '.') {
    std::size_t n = 1;
    std::int64_t unit = kSecond / 10;
    while (n < rest.size() && rest[n] >= '0' && rest[n] <= '9') {
      fraction += (rest[n] - '0') * unit;
      unit /= 10;
      ++n;
    }
    rest.remove_prefix(n);
  }
  if (rest == "Z" && !allow_z) return std::nullopt;
  if (!rest.empty() && rest != "Z" && rest != "+00:00") return std::nullopt;
  return *date + *clock + fraction;
}

std::string python_repr(const Json& value, bool tuple) {
  using Type = Json::value_t;
  switch (value.type()) {
    case Type::null:
      return "None";
    case Type::boolean:
      return value.get<bool>() ? "True" : "False";
    case Type::number_float:
      return python_float(value.get<double>());
    case Type::string:
      return python_quoted(value.get_ref<const std::string&>());
    case Type::array: {
      std::string out = tuple ? "(" : "[";
      bool first = true;
      for (const auto& item : value) {
        if (!first) out += ", ";
        first = false;
        out += python_repr(item);
      }
      if (tuple && value.size() == 1) out += ',';
      return out + (tuple ? ")" : "]");
    }
    case Type::object: {
      std::string out = "{";
      bool first = true;
      for (const auto& [key, item] : value.items()) {
        if (!first) out += ", ";
        first = false;
        out += python_quoted(key) + ": " + python_repr(item);
      }
      return out + "}";
    }
    default:
      return value.dump();
  }
}

std::string human_size(std::size_t bytes) {
  const char* const units[] = {"bytes", "Kb", "Mb", "Gb", "Tb"};
  auto size = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (size >= 1024 && unit + 1 < std::size(units)) {
    size /= 1024;
    ++unit;
  }
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, "%.2f %s", size, units[unit]);
  return buffer;
}

namespace {

OdooError wrong_value(const Model& model, const Field& field, const Json& value) {
  return value_error("Wrong value for " + model.name + "." + field.name + ": " + python_repr(value));
}

std::int64_t to_integer(const Json& value) {
  if (value.is_number_float()) return static_cast<std::int64_t>(value.get<double>());
  if (value.is_number()) return value.get<std::int64_t>();
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    std::int64_t number = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return number;
    throw value_error("invalid literal for int() with base 10: " + python_repr(value));
  }
  throw type_error("int() argument must be a string, a bytes-like object or a real number, not '" +
                   std::string(value.is_array() ? "list" : "dict") + "'");
}

double to_real(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    double number = 0;
    const auto result = std::from_chars(text.data(), text.data() + text.size(), number);
    if (result.ec == std::errc() && result.ptr == text.data() + text.size()) return number;
    throw value_error("could not convert string to float: " + python_repr(value));
  }
  throw type_error("float() argument must be a string or a real number, not '" +
                   std::string(value.is_array() ? "list" : "dict") + "'");
}

}  // namespace

Cell to_cell(const Model& model, const Field& field, const Json& value) {
  const bool unset = value.is_null() || (value.is_boolean() && !value.get<bool>());
  switch (field.type) {
    case FieldType::boolean: {
      if (value.is_string()) return !value.get_ref<const std::string&>().empty();
      if (value.is_number()) return value.get<double>() != 0;
      return !unset;
    }
    case FieldType::integer:
      return unset ? Cell(std::int64_t{0}) : Cell(to_integer(value));
    case FieldType::floating:
      return unset ? Cell(0.0) : Cell(to_real(value));
    case FieldType::text:
    case FieldType::binary:
      if (unset) return {};
      return value.is_string() ? value.get<std::string>()
                               : (value.is_number() || value.is_boolean() ? python_repr(value) : python_repr(value));
    case FieldType::json:
      return unset ? Cell() : Cell(value.dump());
    case FieldType::choice: {
      if (unset || (value.is_string() && value.get_ref<const std::string&>().empty())) return {};
      std::string text = value.is_string() ? value.get<std::string>() : python_repr(value);
      if (!field.choices.empty()) {
        for (const auto& choice : field.choices) {
          if (choice == text) return text;
        }
        throw wrong_value(model, field, value);
      }
      return text;
    }
    case FieldType::date: {
      if (unset || (value.is_string() && value.get_ref<const std::string&>().empty())) return {};
      if (!value.is_string()) throw value_error("Wrong value for " + model.name + "." + field.name);
      const auto& text = value.get_ref<const std::string&>();
      const auto parsed = parse_date(std::string_view(text).substr(0, 10));
      if (!parsed) {
        throw value_error("time data " + python_repr(text.substr(0, 10)) + " does not match format '%Y-%m-%d'");
      }
      return *parsed;
    }
    case FieldType::datetime: {
      if (unset || (value.is_string() && value.get_ref<const std::string&>().empty())) return {};
      if (!value.is_string()) throw value_error("Wrong value for " + model.name + "." + field.name);
      const auto& text = value.get_ref<const std::string&>();
      const auto parsed = parse_written_datetime(text);
      if (!parsed) {
        if (text.size() > 19 && parse_written_datetime(std::string_view(text).substr(0, 19))) {
          throw value_error("unconverted data remains: " + text.substr(19));
        }
        throw value_error("time data " + python_repr(value) + " does not match format '%Y-%m-%d %H:%M:%S'");
      }
      return *parsed;
    }
    case FieldType::many2one: {
      if (unset || (value.is_string() && value.get_ref<const std::string&>().empty())) return {};
      if (value.is_number_integer()) {
        const auto id = value.get<std::int64_t>();
        return id == 0 ? Cell() : Cell(id);
      }
      if (value.is_array() && !value.empty() && value[0].is_number_integer()) return value[0].get<std::int64_t>();
      throw wrong_value(model, field, value);
    }
    case FieldType::one2many:
    case FieldType::many2many:
      break;
  }
  throw wrong_value(model, field, value);
}

namespace {

/// Lower case of one UTF-8 text, for ASCII and the two-byte Latin letters; enough for invented names.
std::string fold_case(std::string_view text) {
  std::string out(text);
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto c = static_cast<unsigned char>(out[i]);
    if (c >= 'A' && c <= 'Z') {
      out[i] = static_cast<char>(c + 32);
    } else if (c == 0xc3 && i + 1 < out.size()) {
      const auto d = static_cast<unsigned char>(out[i + 1]);
      if (d >= 0x80 && d <= 0x9e && d != 0x97) out[i + 1] = static_cast<char>(d + 32);
      ++i;
    }
  }
  return out;
}

bool like_plain(std::string_view text, std::string_view pattern) {
  std::size_t t = 0;
  std::size_t p = 0;
  std::size_t star = std::string_view::npos;
  std::size_t mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '%') {
      star = p++;
      mark = t;
    } else if (p < pattern.size() && pattern[p] == '\\' && p + 1 < pattern.size() && pattern[p + 1] == text[t]) {
      p += 2;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '_') {
      ++p;
      ++t;
      while (t < text.size() && (static_cast<unsigned char>(text[t]) & 0xc0) == 0x80) ++t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '%') ++p;
  return p == pattern.size();
}

}  // namespace

bool like(std::string_view text, std::string_view pattern, bool fold) {
  return fold ? like_plain(fold_case(text), fold_case(pattern)) : like_plain(text, pattern);
}

}  // namespace sandbox::odoo
