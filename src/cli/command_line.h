#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/secret.h"
#include "ops/operation.h"

namespace dragoman::cli {

/// An option that every command takes and that sets a setting.
struct SettingOption {
  std::string flag, key, doc;
};
/// A command that is no operation: `run`, `selftest crash`.
struct Builtin {
  std::string name, summary;
  std::vector<std::string> arguments;  ///< names of its positional arguments, all needed
  struct Option {
    std::string name, doc;  ///< `kills`: `--kills TEXT`
  };
  std::vector<Option> options;
  bool shown = true;  ///< in help and reference; what the program asks of itself is not
};

/// What was asked for.
struct Command {
  /// Set when nothing is left to do: help or the version was printed, or the usage was wrong.
  std::optional<int> exit_code;

  std::string builtin;
  std::vector<std::string> arguments;
  const ops::Operation* operation = nullptr;
  /// Name → text as typed, lists as JSON. Of a builtin: its options that were given.
  std::map<std::string, std::string> inputs;
  std::string secret_file;  ///< of the operation's secret input; `-` is standard input

  std::map<std::string, std::string> settings;  ///< key → text
  std::string config_file, hub, token_file;
  std::int64_t timeout_seconds = 60;  ///< for the hub's answer to begin; 0: no limit
  bool json = false, follow = false;
  bool yes = false;  ///< what is to be confirmed is
};

/// Reads a command line. Prints help to standard output, what is wrong with the usage to standard error.
Command parse(int argc, const char* const* argv, const std::vector<ops::Operation>& operations,
              const std::vector<Builtin>& builtins, const std::vector<SettingOption>& options,
              const std::string& version);

/// The checked input of the command. Reads the secret from its file, or from the terminal without showing it.
nlohmann::json input_of(const Command& command);

/// The input that has to be confirmed and was not, neither by its own option nor by `--yes`; null: none. A dry run
/// needs no confirmation.
const ops::Field* unconfirmed(const Command& command);
/// The same as a dry run, if the operation has one.
std::optional<Command> dry_run_of(const Command& command);

/// `docs/reference/cli.md`.
std::string reference(const std::vector<ops::Operation>& operations, const std::vector<Builtin>& builtins,
                      const std::vector<SettingOption>& options);

}  // namespace dragoman::cli
