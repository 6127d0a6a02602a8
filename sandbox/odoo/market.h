#pragma once

#include "sandbox/odoo/orm.h"

namespace sandbox::odoo {

/// What the procedure `market` answers (contract/odoo/cases/market.json), by an implementation of its own: orders that
/// were imported, what changed since, stock and prices, what can be chosen.
Json market(Orm& orm, const Json& payload);

}  // namespace sandbox::odoo
