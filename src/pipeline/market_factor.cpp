#include "pipeline/market_factor.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace dragoman::pipeline {
namespace {

constexpr std::string_view kLeast = "0.0001", kMost = "1000000";

[[noreturn]] void refuse(std::string_view text) {
  throw Error(
      Error::Kind::invalid,
      fmt::format("The factor says how many of Odoo's units are in one of the marketplace's: it is a number from "
                  "{} to {}, written without an exponent, and this is `{}`.",
                  kLeast, kMost, text.substr(0, 60)));
}

bool in_range(const Decimal& factor) {
  return factor >= Decimal::of(kLeast) && factor <= Decimal::of(kMost);
}

}  // namespace

Decimal market_factor(std::string_view text) {
  const auto factor = text.find_first_of("eE") == std::string_view::npos ? Decimal::parse(text) : std::nullopt;
  if (!factor || !in_range(*factor)) refuse(text);
  return *factor;
}

void check_market_factor(const Decimal& factor) {
  if (!in_range(factor)) refuse(factor.str());
}

bool factor_holds(std::string_view counts, const Decimal& count) {
  if (counts.empty()) return true;
  while (!counts.empty()) {
    const auto end = std::min(counts.find(' '), counts.size());
    if (Decimal::parse(counts.substr(0, end)) == count) return true;
    counts.remove_prefix(std::min(end + 1, counts.size()));
  }
  return false;
}

}  // namespace dragoman::pipeline
