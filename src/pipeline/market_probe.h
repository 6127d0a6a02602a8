#pragma once

#include <stop_token>

#include "base/clock.h"
#include "pipeline/connections.h"
#include "pipeline/order_book.h"
#include "pipeline/source.h"

namespace dragoman::pipeline {

/// The connection that a marketplace's setting `odoo` names. Throws invalid if there is none of that name, or orders
/// can't go to its kind.
Connection odoo_of(Connections& connections, const ConnectorList& connectors, const nlohmann::json& settings);

/// What `connection test` of a marketplace says of the Odoo that it works with: the connection is there, and so is what
/// its settings name; amounts are in the same currency. Asks; changes nothing.
void probe_order_book(Probe& probe, Connections& connections, const ConnectorList& connectors, const Connection& shop,
                      Clock& clock, std::stop_token stop);

/// Of what can be chosen there.
void probe_choices(Probe& probe, const nlohmann::json& settings, const MarketChoices& choices);

}  // namespace dragoman::pipeline
