#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/source.h"

namespace dragoman::connectors::odoo {

/// How a model is to be captured: the connection's `models` setting, or the defaults.
struct ModelSettings {
  std::vector<std::string> fields;  ///< only these (besides id, write_date, active, company_id); empty: all
  bool names = false;
  /// Binary fields: 0 none, -1 all, else up to so many bytes.
  std::int64_t binary_bytes_max = 0;
};

/// Decides from the answer of `fields_get` which fields are captured, and says of every other one why not.
///
/// Stored fields are; computed ones are not (but company-dependent ones, which people enter); one2many is not where
/// the records at its other end are captured and hold the same link (`captured` names those models); binaries by the
/// settings; texts that look like a credential are not unless named in `settings.fields`.
///
/// Errors  protocol if `fields_get` is not an object of objects; invalid if settings name a field that is not there.
pipeline::Plan make_plan(std::string_view fields_get, const ModelSettings& settings,
                         const std::set<std::string>& captured);

/// The attributes that are asked of `fields_get` and kept as the schema.
const std::vector<std::string>& schema_attributes();

}  // namespace dragoman::connectors::odoo
