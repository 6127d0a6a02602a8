#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "ops/operation.h"
#include "pipeline/records.h"

namespace dragoman::ops {

/// A change as JSON text; `body`, where there is one, is the bytes that were captured.
std::string change_text(const pipeline::Change& change, bool with_body);
/// `{"rows":[a,b],…fields}` from texts.
std::string rows_text(std::string_view rows, const std::vector<std::string>& texts, const nlohmann::json& fields);
/// What change_text writes.
std::vector<Field> change_fields(bool with_body);

nlohmann::json time_or_null(const std::optional<Time>& time);

/// The input's value, if it was given.
std::optional<std::int64_t> maybe_integer(const nlohmann::json& input, const char* name);
/// A list of texts, empty if not given.
std::vector<std::string> texts(const nlohmann::json& input, const char* name);

Field connection_field();
Field model_field();
Field id_field();
Field limit_field(std::int64_t fallback, std::int64_t max);
Field company_field();
Field organisation_field();
/// Whose records the input's `company` or `organisation` asks for. Throws invalid if it names both, or an organisation
/// without a connection.
pipeline::CompanyView view_of(Context& context, const nlohmann::json& input);

}  // namespace dragoman::ops
