#pragma once

#include <stop_token>
#include <string>

#include "ops/operation.h"

namespace dragoman::ops {

/// Compares what is in the Odoo of every active connection that was provisioned with what was put there, and keeps what
/// differs as the connection's alarm. Odoo that does not answer is asked again, more and more rarely, until `stop`. For
/// the start of the hub: runs on the calling thread until all are checked.
void check_provisioned_at_start(Services& services, std::stop_token stop);

}  // namespace dragoman::ops
