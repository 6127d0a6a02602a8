#pragma once

#include <cstdint>
#include <map>
#include <set>
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
/// Which of these ids of variants a product of this marketplace can't be, and why, as the Odoo that its orders go to
/// says now. Throws what keeps it from being asked, naming that Odoo: as pipeline::odoo_of, conflict if its connection
/// is not active, else mostly unavailable.
std::map<std::int64_t, std::string> unusable_products(Context& context, const pipeline::Connection& market,
                                                      const std::set<std::int64_t>& ids);
/// What another link may mend is tried again at once. How many orders.
std::int64_t retry_products(Context& context, const std::string& connection, const std::string& why);

}  // namespace dragoman::ops
