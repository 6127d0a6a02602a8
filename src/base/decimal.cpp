#include "base/decimal.h"

#include <algorithm>

#include "base/error.h"

namespace dragoman {
namespace {

__extension__ typedef __int128 Units;

constexpr int kDigitsMax = 24, kParsedPlacesMax = 12;

[[noreturn]] void out_of_range() {
  Error error(Error::Kind::invalid, "A number has too many digits to reckon with.");
  error.code = "decimal";
  throw error;
}

// 36 digits: whatever is added to it or shown of it still fits into 38.
constexpr Units power(int exponent) {
  Units value = 1;
  for (int i = 0; i < exponent; ++i) value *= 10;
  return value;
}
constexpr Units kLimit = power(36);

Units multiplied(Units a, Units b) {
  Units out = 0;
  if (__builtin_mul_overflow(a, b, &out) || out >= kLimit || out <= -kLimit) out_of_range();
  return out;
}

Units scaled(Units units, int by) {
  if (units == 0) return 0;
  if (by > 36) out_of_range();
  return multiplied(units, power(by));
}

// Half away from zero. The divisor is positive.
Units divided(Units units, Units by) {
  Units quotient = units / by;
  const Units rest = units % by, size = rest < 0 ? -rest : rest;
  if (size >= by - size) quotient += units < 0 ? -1 : 1;
  return quotient;
}

}  // namespace

Decimal::Decimal(Units units, int places) : units_(units), places_(places) {
  while (places_ > 0 && units_ % 10 == 0) {
    units_ /= 10;
    --places_;
  }
  if (units_ == 0) places_ = 0;
  // Prices times quantities never come near; a product of long fractions does, and loses what nobody can see.
  if (places_ > kPlacesMax) *this = rounded(kPlacesMax);
}

std::optional<Decimal> Decimal::parse(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  bool negative = false;
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) {
    negative = text.front() == '-';
    text.remove_prefix(1);
  }
  Units units = 0;
  int digits = 0, places = 0, seen = 0;
  bool behind = false;
  std::size_t at = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '.' && !behind) {
      behind = true;
      continue;
    }
    if (c < '0' || c > '9') break;
    ++seen;
    if (units != 0 || c != '0') ++digits;
    if (digits > kDigitsMax + kParsedPlacesMax) return std::nullopt;
    if (behind) ++places;
    if (places > 64) return std::nullopt;
    units = units * 10 + (c - '0');
  }
  if (seen == 0) return std::nullopt;
  int exponent = 0;
  if (at < text.size()) {
    if (text[at] != 'e' && text[at] != 'E') return std::nullopt;
    ++at;
    bool minus = false;
    if (at < text.size() && (text[at] == '+' || text[at] == '-')) minus = text[at++] == '-';
    if (at == text.size()) return std::nullopt;
    for (; at < text.size(); ++at) {
      if (text[at] < '0' || text[at] > '9') return std::nullopt;
      exponent = std::min(exponent * 10 + (text[at] - '0'), 1000);
    }
    if (minus) exponent = -exponent;
  }
  if (units == 0) return Decimal();
  while (units % 10 == 0) {
    units /= 10;
    --places;
  }
  places -= exponent;
  int length = 0;
  for (Units rest = units; rest != 0; rest /= 10) ++length;
  // Before it is stretched: what can't be money is refused here, not later.
  if (places > kParsedPlacesMax || std::max(length, length - places) > kDigitsMax) return std::nullopt;
  if (places < 0) {
    units *= power(-places);
    places = 0;
  }
  return Decimal(negative ? -units : units, places);
}

Decimal Decimal::of(std::string_view text) {
  if (const auto parsed = parse(text)) return *parsed;
  Error error(Error::Kind::invalid, "`" + std::string(text.substr(0, 60)) + "` is no number.");
  error.code = "decimal";
  throw error;
}

std::string Decimal::str() const {
  return fixed(places_);
}

std::string Decimal::fixed(int places) const {
  const Decimal value = rounded(places);
  Units rest = value.units_ < 0 ? -value.units_ : value.units_;
  std::string digits;
  for (int i = value.places_; i < places; ++i) digits += '0';
  for (int i = 0; rest != 0 || i <= value.places_; ++i, rest /= 10) {
    digits += static_cast<char>('0' + static_cast<int>(rest % 10));
  }
  std::string out = value.units_ < 0 ? "-" : "";
  for (std::size_t i = digits.size(); i-- > 0;) {
    out += digits[i];
    if (i == static_cast<std::size_t>(places) && places > 0) out += '.';
  }
  return out;
}

Decimal Decimal::rounded(int places) const {
  if (places >= places_) return *this;
  const int drop = places_ - std::max(places, 0);
  return drop > 36 ? Decimal() : Decimal(dragoman::divided(units_, power(drop)), std::max(places, 0));
}

std::int64_t Decimal::floor() const {
  const Units unit = power(places_);
  Units whole = units_ / unit;
  if (units_ < 0 && whole * unit != units_) --whole;
  if (whole > INT64_MAX || whole < INT64_MIN) out_of_range();
  return static_cast<std::int64_t>(whole);
}

Decimal Decimal::divided(const Decimal& by, int places) const {
  if (by.is_zero()) {
    Error error(Error::Kind::invalid, "A number is to be divided by zero.");
    error.code = "decimal";
    throw error;
  }
  // (units / 10^p) / (units' / 10^p') = units * 10^(p' - p + places) / units' in units of 10^-places.
  Units above = units_, below = by.units_;
  if (below < 0) {
    above = -above;
    below = -below;
  }
  const int shift = by.places_ - places_ + places;
  if (shift >= 0)
    above = scaled(above, shift);
  else
    below = scaled(below, -shift);
  return Decimal(dragoman::divided(above, below), places);
}

Decimal operator+(const Decimal& a, const Decimal& b) {
  const int places = std::max(a.places_, b.places_);
  const Units sum = scaled(a.units_, places - a.places_) + scaled(b.units_, places - b.places_);
  if (sum >= kLimit || sum <= -kLimit) out_of_range();
  return Decimal(sum, places);
}

Decimal operator*(const Decimal& a, const Decimal& b) {
  return Decimal(multiplied(a.units_, b.units_), a.places_ + b.places_);
}

Decimal Decimal::operator-() const {
  return Decimal(-units_, places_);
}

std::strong_ordering operator<=>(const Decimal& a, const Decimal& b) {
  if (a.is_negative() != b.is_negative())
    return a.is_negative() ? std::strong_ordering::less : std::strong_ordering::greater;
  // Whole parts first: bringing a long fraction and a large number to the same places would not fit.
  const Units whole_a = a.units_ / power(a.places_), whole_b = b.units_ / power(b.places_);
  if (whole_a != whole_b) return whole_a < whole_b ? std::strong_ordering::less : std::strong_ordering::greater;
  const int places = std::max(a.places_, b.places_);
  const Units rest_a = (a.units_ % power(a.places_)) * power(places - a.places_);
  const Units rest_b = (b.units_ % power(b.places_)) * power(places - b.places_);
  return rest_a < rest_b   ? std::strong_ordering::less
         : rest_a > rest_b ? std::strong_ordering::greater
                           : std::strong_ordering::equal;
}

}  // namespace dragoman
