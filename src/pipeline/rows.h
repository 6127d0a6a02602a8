#pragma once

#include <string_view>

#include "pipeline/records.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// A SELECT of everything that `model_of` reads; append a WHERE.
inline constexpr std::string_view kModelColumns =
    "SELECT m.id, m.connection_id, c.name, m.name, m.asked, m.state, m.reason, m.alarm, m.plan, m.schema_number, "
    "m.pull, "
    "m.cursor_us, m.swept_us, m.overlap_us FROM model m JOIN connection c ON c.id = m.connection_id ";

ModelRow model_of(const store::Row& row);

}  // namespace dragoman::pipeline
