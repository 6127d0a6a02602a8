#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace sandbox::cartona {

using Json = nlohmann::ordered_json;

/// A price, a sum or a quantity in ten-thousandths, so that cents add up.
using Figure = std::int64_t;
inline constexpr Figure kOne = 10'000;

/// price × quantity, rounded half away from zero to whole ten-thousandths.
Figure times(Figure price, Figure quantity);

/// How figures are written: 530 and 12.5; 530.0 and 12.5; "530.00" and "12.50".
enum class FigureForm { natural, real, text };
void append_figure(std::string& out, Figure value, FigureForm form);

/// Reads a number, or decimal text where that is allowed. nullopt if it is neither.
std::optional<Figure> figure_of(const Json& value, bool text_allowed = true);

/// A JSON string of text that is UTF-8, escaped to ASCII if asked for.
void append_text(std::string& out, std::string_view text, bool ascii);

/// Microseconds UTC.
using Moment = std::int64_t;
inline constexpr Moment kSecond = 1'000'000;
inline constexpr Moment kDay = 86'400 * kSecond;

Moment now_of_machine();
std::string iso_utc(Moment at);  ///< `2026-11-20T10:05:48.113847Z`
std::string date_of(Moment at);  ///< `2026-11-20`
std::string http_date_of(Moment at);

/// What the wall clock in Cairo is ahead of UTC at that moment: two hours, three from the last Friday of April to the
/// last Thursday of October (the rule since 2023).
Moment cairo_ahead(Moment at);
std::string iso_cairo(Moment at);  ///< naive local time, `2026-11-20T12:05:48`

/// A moment as text: date, `T` or space, time, fraction, `Z` or an offset; all but the date may be missing.
struct ParsedMoment {
  Moment wall = 0;               ///< as if it were UTC
  std::optional<Moment> offset;  ///< what the text says of its zone
};
std::optional<ParsedMoment> parse_moment(std::string_view text);
/// The moment at which the wall clock in Cairo shows `wall`.
Moment from_cairo(Moment wall);

/// splitmix64: the same seed gives the same day on every machine.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next();
  /// Evenly in 0 … n-1.
  std::size_t below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(next() % n); }
  std::int64_t between(std::int64_t least, std::int64_t most) {
    return least + static_cast<std::int64_t>(below(static_cast<std::size_t>(most - least + 1)));
  }
  double unit() { return static_cast<double>(next() >> 11) / 9007199254740992.0; }
  bool chance(double probability) { return unit() < probability; }
  template <class List>
  auto pick(const List& of) -> decltype(of[0]) {
    return of[below(std::size(of))];
  }

 private:
  std::uint64_t state_;
};

/// A stream of its own for a part of what a seed makes, so that one part does not shift another.
Dice dice_for(std::uint64_t seed, std::uint64_t part, std::uint64_t of = 0);

}  // namespace sandbox::cartona
