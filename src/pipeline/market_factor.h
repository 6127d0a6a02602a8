#pragma once

#include <string_view>

#include "base/decimal.h"

namespace dragoman::pipeline {

/// Odoo's units in one of a marketplace's, as a person writes it: from 0.0001 to 1,000,000, and without an exponent.
/// What is beyond that is a slip, and leaves no digits of a price or a quantity. Throws invalid.
Decimal market_factor(std::string_view text);
void check_market_factor(const Decimal& factor);

/// Whether a factor was said for a package of so many. `counts`: those that it was said for, with spaces between;
/// empty: nobody knows, and it counts as said for any.
bool factor_holds(std::string_view counts, const Decimal& count);

}  // namespace dragoman::pipeline
