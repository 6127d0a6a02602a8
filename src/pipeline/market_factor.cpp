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

std::vector<std::pair<Decimal, Decimal>> factors_of(std::string_view factors) {
  std::vector<std::pair<Decimal, Decimal>> out;
  while (!factors.empty()) {
    const auto one = factors.substr(0, std::min(factors.find(' '), factors.size()));
    if (const auto colon = one.find(':'); colon != std::string_view::npos) {
      const auto count = Decimal::parse(one.substr(0, colon)), factor = Decimal::parse(one.substr(colon + 1));
      if (count && factor) out.emplace_back(*count, *factor);
    }
    factors.remove_prefix(std::min(one.size() + 1, factors.size()));
  }
  return out;
}

std::optional<Decimal> factor_for(std::string_view factors, const Decimal& count) {
  for (const auto& [of, factor] : factors_of(factors))
    if (of == count) return factor;
  return std::nullopt;
}

std::string with_factor(std::string_view factors, const Decimal& count, const Decimal& factor) {
  std::string out;
  for (const auto& [of, said] : factors_of(factors))
    if (of != count) out += fmt::format("{}:{} ", of.str(), said.str());
  return out + fmt::format("{}:{}", count.str(), factor.str());
}

}  // namespace dragoman::pipeline
