#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "ops/operation.h"

namespace dragoman::app {

/// The commands that are no operations.
const std::vector<cli::Builtin>& builtins();
/// The settings that have a flag, as the command line takes them.
const std::vector<cli::SettingOption>& setting_options();

/// What is written down of the program from its own declarations: `api`, `cli` and `config` (docs/reference/…),
/// `openapi` (contract/openapi.json). nullopt for anything else.
std::optional<std::string> reference_text(const std::string& what, const std::vector<ops::Operation>& operations);

}  // namespace dragoman::app
