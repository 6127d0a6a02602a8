#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "jobs/job.h"
#include "pipeline/inbox.h"

namespace dragoman::pipeline {

/// A record as a sender hands it in: an object of `model`, `key`, `version`, `values`, `children`, `call`, `recreate`.
/// `where` names it in messages (`record 3`); `model` is the one of a record that names none;
/// `beside`: names that the object has for others.
///
/// Errors  invalid, code `record`: what is wrong and what it takes.
InboxPut::Record checked_record(const nlohmann::json& record, const std::string& where, const std::string& model,
                                const std::vector<std::string>& beside = {});

/// Throws as checked_record.
void check_model(const std::string& model, const std::string& where);

/// The check (jobs::Kind::check) of the kinds of job that deliver to connections of the kind `connector`: what could
/// only ever fail is refused, and of an edited one whatever would make it the job of another record.
std::function<void(const jobs::Wanted&)> delivery_check(std::string kind, std::string connector);

}  // namespace dragoman::pipeline
