#pragma once

#include <string>

#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

/// Appends an order, or a product, as the API shows it with the switches as they are.
void append_order(std::string& out, const Order& order, const Switches& switches);
void append_product(std::string& out, const Product& product, const Switches& switches);

/// Reads an order in the shape of the API, as far as it goes: what is missing stays as Order has it, lines are
/// completed from the account's product of that code. Also `created_at` and `visible_at` (text), `receipt_id`,
/// `retailer_otp`, and `raw` (keys to be written as they are given). A total_price that is not the sum of the lines
/// becomes raw. Throws ControlError.
Order order_from(Supplier& supplier, const Json& row);

/// Everything about an order, for the control surface.
Json order_state(const Order& order);
void append_order_state(std::string& out, const Order& order);
Json product_state(const Product& product, const Account& account);
Json ledger_state(const LedgerEntry& entry);
Json write_state(const WriteEntry& entry);

}  // namespace sandbox::cartona
