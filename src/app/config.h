#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "api/api.h"
#include "app/upkeep.h"
#include "base/log.h"
#include "http/server.h"
#include "jobs/runner.h"
#include "notify/settings.h"
#include "ops/operation.h"
#include "pipeline/inbox.h"
#include "pipeline/sync.h"
#include "store/store.h"

namespace dragoman::app {

/// Everything that can be set, checked.
struct Config {
  std::string data_dir;
  log::Level log_level = log::Level::info;
  std::string log_file;
  std::chrono::seconds stop_grace{10};
  store::StoreSettings store;
  std::string key_file;
  http::ServerSettings http;
  api::Settings api;
  pipeline::SyncSettings sync;
  UpkeepSettings upkeep;
  notify::Settings notify;
  jobs::RunnerSettings jobs;
  pipeline::InboxSettings inbox;

  /// Every setting as `config show` prints it, in the order of the default file.
  std::vector<ops::ConfigLine> lines;
};

/// A setting that has a flag on the command line.
struct SettingFlag {
  std::string flag;  ///< `--listen`
  std::string key;   ///< `http.listen`
  std::string doc;
};
const std::vector<SettingFlag>& setting_flags();

/// Reads the layers: the default file (compiled in), `file` if not empty, `DRAGOMAN_*` of `environment`, `flags`
/// (key → text).
///
/// Errors  invalid, code `config`: a key that there is not (with file and line and the nearest that there is), a value
///         of the wrong type or out of its range, a file that can't be read or is no TOML.
Config load_config(const std::string& file, const std::map<std::string, std::string>& environment,
                   const std::map<std::string, std::string>& flags);

/// The variables of this process.
std::map<std::string, std::string> process_environment();

/// The default file's own text.
std::string_view default_config();

/// `docs/reference/config.md`, made of the default file.
std::string config_reference();

}  // namespace dragoman::app
