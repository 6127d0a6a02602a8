#pragma once

#include "pipeline/connections.h"

namespace dragoman::connectors {

/// Every connector there is, in the order in which they are shown.
pipeline::ConnectorList catalog();

}  // namespace dragoman::connectors
