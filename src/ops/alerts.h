#pragma once

#include "audit/audit.h"
#include "notify/alert.h"

namespace dragoman::ops {

/// What people are told when the audit log does not hold.
notify::Alert broken_audit(const audit::Verdict::Break& found);

}  // namespace dragoman::ops
