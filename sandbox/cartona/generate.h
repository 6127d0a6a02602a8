#pragma once

#include <string>
#include <vector>

#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

/// What an account sells when nothing else is given: 60 products with the codes DEMO-001 … DEMO-060 and barcodes of the
/// range that shops give themselves. Everything is invented.
std::vector<Json> demo_products();

/// Shares of the unusual among generated orders.
struct Mix {
  double two_lines = 0.08;  ///< one product on two lines, the first at an offer price
  double discount = 0.15;
  double credit = 0.15;
  double installment = 0.05;
  double wallet = 0.06;
  double by_cartona = 0.2;  ///< delivered by Cartona
  double unknown_product = 0.01;
  double late = 0;   ///< can be pulled only minutes after its creation
  double wrong = 0;  ///< cannot be right: total, amount, state or a line twice
};
/// Reads the shares that `given` names. Throws ControlError for others.
Mix mix_from(const Json& given);

/// The n-th order of a seed for that account; the same for the same products. Without an id and times.
Order generate_order(const Account& account, std::uint64_t seed, std::uint64_t n, const Mix& mix);

/// What the shop, or an administrator, might change in an order: rows as for World::change_lines.
Json generate_changes(const Order& order, Dice& dice);

}  // namespace sandbox::cartona
