#include "base/decimal.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <string>

#include "base/error.h"
#include "base/random.h"

namespace dragoman {
namespace {

std::string read(std::string_view text) {
  const auto parsed = Decimal::parse(text);
  return parsed ? parsed->str() : "none";
}

TEST(DecimalNumber, IsReadAsJsonOdooAndPeopleWriteIt) {
  EXPECT_EQ(read("530"), "530");
  EXPECT_EQ(read("530.00"), "530");
  EXPECT_EQ(read("-9.990"), "-9.99");
  EXPECT_EQ(read("+3"), "3");
  EXPECT_EQ(read(" .5 "), "0.5");
  EXPECT_EQ(read("5."), "5");
  EXPECT_EQ(read("6.5E+1"), "65");
  EXPECT_EQ(read("1e-3"), "0.001");
  EXPECT_EQ(read("-0.00"), "0");
  EXPECT_EQ(read("000012.50"), "12.5");
  EXPECT_EQ(read("0e999999999999"), "0");
  EXPECT_EQ(read("100000000000000000000000"), "100000000000000000000000");
  EXPECT_EQ(read("0.000000000001"), "0.000000000001");
}

TEST(DecimalNumber, IsNotReadFromWhatIsNone) {
  for (const char* text : {"",
                           " ",
                           "-",
                           ".",
                           "e3",
                           "1e",
                           "1e+",
                           "1,5",
                           "12 3",
                           "0x10",
                           "NaN",
                           "Infinity",
                           "1.2.3",
                           "--1",
                           "1000000000000000000000000",
                           "1e30",
                           "0.0000000000001",
                           "1e-999999999999",
                           "1e999999999999",
                           "99999999999999999999999999999999999999999999999999"})
    EXPECT_EQ(read(text), "none") << text;
}

TEST(DecimalNumber, IsRoundedHalfAwayFromZero) {
  EXPECT_EQ(Decimal::of("2.675").fixed(2), "2.68");
  EXPECT_EQ(Decimal::of("-2.675").fixed(2), "-2.68");
  EXPECT_EQ(Decimal::of("2.674999").fixed(2), "2.67");
  EXPECT_EQ(Decimal::of("530").fixed(2), "530.00");
  EXPECT_EQ(Decimal::of("0.004").fixed(2), "0.00");
  EXPECT_EQ(Decimal::of("-0.004").fixed(2), "0.00");
  EXPECT_EQ(Decimal::of("-0.05").fixed(2), "-0.05");
  EXPECT_EQ(Decimal::of("1.5").fixed(0), "2");
}

TEST(DecimalNumber, IsReckonedWithExactly) {
  EXPECT_EQ((Decimal::of("0.1") + Decimal::of("0.2")).str(), "0.3");
  EXPECT_EQ((Decimal::of("65") * Decimal::of("2") + Decimal::of("100") * Decimal(4)).str(), "530");
  EXPECT_EQ((Decimal::of("9.99") * Decimal::of("0.333")).str(), "3.32667");
  EXPECT_EQ((Decimal::of("5") - Decimal::of("5.00")).str(), "0");
  EXPECT_EQ(Decimal(100).divided(12, 6).str(), "8.333333");
  EXPECT_EQ(Decimal(-100).divided(12, 2).str(), "-8.33");
  EXPECT_EQ(Decimal(1).divided(Decimal::of("-0.25"), 2).str(), "-4");
  EXPECT_EQ(Decimal::of("2.5").floor(), 2);
  EXPECT_EQ(Decimal::of("-0.5").floor(), -1);
  EXPECT_THROW(Decimal(1).divided(0, 2), Error);
}

TEST(DecimalNumber, IsComparedByItsValue) {
  EXPECT_TRUE(Decimal::of("1.50") == Decimal::of("1.5"));
  EXPECT_TRUE(Decimal::of("-1") < Decimal::of("0.5"));
  EXPECT_TRUE(Decimal::of("-1.2") < Decimal::of("-1.1"));
  EXPECT_TRUE(Decimal::of("0.000000000001") < Decimal::of("99999999999999999999999"));
}

TEST(DecimalNumber, ThatDoesNotFitIsRefused) {
  const Decimal large = Decimal::of("999999999999999999999999");
  EXPECT_THROW(large * large, Error);
  EXPECT_THROW(large.floor(), Error);
}

// Against whole numbers of cents, where the computer's own arithmetic is exact.
TEST(DecimalNumber, AgreesWithWholeNumbers) {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : SystemRandom().next() % 1'000'000;
  std::cout << "seed " << seed << " (DRAGOMAN_SEED=" << seed << " runs it again)\n";
  SeededRandom random(seed);
  const auto text = [](std::int64_t value, int places) {
    const bool negative = value < 0;
    std::string digits = std::to_string(negative ? -value : value);
    while (static_cast<int>(digits.size()) <= places) digits.insert(digits.begin(), '0');
    if (places > 0) digits.insert(digits.size() - static_cast<std::size_t>(places), ".");
    return (negative ? "-" : "") + digits;
  };
  for (int round = 0; round < 2000; ++round) {
    const auto number = [&] { return static_cast<std::int64_t>(random.next() % 2'000'001) - 1'000'000; };
    const std::int64_t a = number(), b = number();
    const Decimal x = Decimal::of(text(a, 2)), y = Decimal::of(text(b, 2));
    EXPECT_EQ((x + y).fixed(2), text(a + b, 2));
    EXPECT_EQ((x - y).fixed(2), text(a - b, 2));
    EXPECT_EQ((x * y).fixed(4), text(a * b, 4));
    EXPECT_EQ(x < y, a < b);
    EXPECT_EQ(x == y, a == b);
    EXPECT_EQ(Decimal::of(x.str()), x);
    const std::int64_t size = a < 0 ? -a : a, rounded = (size + 50) / 100;
    EXPECT_EQ(x.rounded(0).str(), std::to_string(a < 0 ? -rounded : rounded)) << x.str();
    std::int64_t below = a / 100;
    if (a < 0 && a % 100 != 0) --below;
    EXPECT_EQ(x.floor(), below);
    if (b != 0) {
      const Decimal back = x.divided(y, 10) * y - x;
      EXPECT_TRUE(back.rounded(5).is_zero()) << x.str() << " / " << y.str();
    }
  }
}

// Whatever bytes come: a number that is read is written and read again as the same, and nothing else happens.
TEST(DecimalNumber, SurvivesAnyText) {
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : SystemRandom().next() % 1'000'000;
  std::cout << "seed " << seed << " (DRAGOMAN_SEED=" << seed << " runs it again)\n";
  SeededRandom random(seed);
  constexpr std::string_view kLetters = "0123456789990000..-+eE x";
  for (int round = 0; round < 20'000; ++round) {
    std::string text;
    for (std::uint64_t left = random.next() % 40; left > 0; --left) text += kLetters[random.next() % kLetters.size()];
    const auto parsed = Decimal::parse(text);
    if (!parsed) continue;
    EXPECT_EQ(Decimal::of(parsed->str()), *parsed) << text;
    EXPECT_EQ(Decimal::of(parsed->fixed(2)), parsed->rounded(2)) << text;
  }
}

}  // namespace
}  // namespace dragoman
