#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/decimal.h"

namespace dragoman::pipeline {

/// Odoo's units in one of a marketplace's, as a person writes it: from 0.0001 to 1,000,000, and without an exponent.
/// What is beyond that is a slip, and leaves no digits of a price or a quantity. Throws invalid.
Decimal market_factor(std::string_view text);
void check_market_factor(const Decimal& factor);

/// What was said of a package of so many, in a product's `factors` (`12:12 24:24`); nullopt: nothing.
std::optional<Decimal> factor_for(std::string_view factors, const Decimal& count);
/// The same with one more said, or said otherwise.
std::string with_factor(std::string_view factors, const Decimal& count, const Decimal& factor);
/// All of them.
std::vector<std::pair<Decimal, Decimal>> factors_of(std::string_view factors);

}  // namespace dragoman::pipeline
