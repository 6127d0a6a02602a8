#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace dragoman {

/// An exact decimal number, for money and quantities: nothing is ever a floating-point number on its way.
///
/// Errors  what does not fit into 36 digits: invalid, code `decimal`. No remote text can bring that about without
///         having been parsed first, and parse takes 24 digits, 12 of them behind the point.
/// Threads a value.
class Decimal {
 public:
  Decimal() = default;
  Decimal(std::int64_t whole) : units_(whole) {}  // a whole number is one

  /// `530`, `-9.990`, `+3`, `.5`, `6.5E+1`: as JSON, Odoo and people write numbers; blanks around it are left out.
  static std::optional<Decimal> parse(std::string_view text);
  /// As parse. Throws invalid, code `decimal`.
  static Decimal of(std::string_view text);

  /// The shortest way to write it: `530`, `-9.99`.
  std::string str() const;
  /// With just so many digits behind the point, rounded: `530.00`.
  std::string fixed(int places) const;
  /// Half away from zero, as Odoo rounds.
  Decimal rounded(int places) const;
  /// To the whole number below it: -0.5 is -1.
  std::int64_t floor() const;
  /// Rounded to `places`. Throws invalid, code `decimal`, if `by` is zero.
  Decimal divided(const Decimal& by, int places) const;

  bool is_zero() const { return units_ == 0; }
  bool is_negative() const { return units_ < 0; }

  friend Decimal operator+(const Decimal& a, const Decimal& b);
  friend Decimal operator-(const Decimal& a, const Decimal& b) { return a + -b; }
  friend Decimal operator*(const Decimal& a, const Decimal& b);
  Decimal operator-() const;
  Decimal& operator+=(const Decimal& other) { return *this = *this + other; }

  friend bool operator==(const Decimal& a, const Decimal& b) = default;  // there is one form of each number
  friend std::strong_ordering operator<=>(const Decimal& a, const Decimal& b);

 private:
  __extension__ typedef __int128 Units;
  Decimal(Units units, int places);  // brings it into the one form

  static constexpr int kPlacesMax = 24;
  Units units_ = 0;  ///< the number without its point
  int places_ = 0;   ///< digits behind the point; the last of them is not 0
};

}  // namespace dragoman
