#pragma once

#include <string>

#include "ops/operation.h"
#include "pipeline/connections.h"

namespace dragoman::ops {

Field market_field();
/// The marketplace's id of a product.
Field market_product_field();
/// The connection, which has to be a marketplace's. Throws not_found, invalid.
pipeline::Connection market_of(Context& context, const std::string& name);
/// The same, which has to be active, since its jobs would only wait. Throws conflict as well.
pipeline::Connection active_market_of(Context& context, const std::string& name);
/// Who asks, for those who read it later.
std::string who_asks(const Context& context);
/// What another link may mend is tried again at once. How many orders.
std::int64_t retry_products(Context& context, const std::string& connection, const std::string& why);

}  // namespace dragoman::ops
