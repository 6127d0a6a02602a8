#include "app/trial_place.h"

#include <cstdio>
#include <filesystem>

#include "app/bench_floor.h"
#include "base/error.h"

namespace dragoman::app {

TrialPlace::TrialPlace(const std::string& parent, const std::string& postgres_url, Random& random)
    : postgres_url_(postgres_url) {
  const std::string name = "dragoman_trial_" + random_hex(random, 8);
  folder_ = parent + "/" + name;
  std::error_code code;
  std::filesystem::create_directories(folder_, code);
  if (code)
    throw Error(Error::Kind::invalid,
                "The folder " + folder_ + " can't be made: " + code.message() + ". Name another with --data-dir.");
  store_url_ = folder_ + "/dragoman.db";
  if (postgres_url_.empty()) return;
  run_on_postgres(postgres_url_, "CREATE SCHEMA " + name);
  schema_ = name;
  store_url_ = postgres_url_ + (postgres_url_.find('?') == std::string::npos ? "?" : "&") + "options=-csearch_path%3D" + name;
}

TrialPlace::~TrialPlace() {
  if (kept_) return;
  try {
    std::filesystem::remove_all(folder_);
    if (!schema_.empty())
      run_on_postgres(postgres_url_, "SET client_min_messages = error; DROP SCHEMA " + schema_ + " CASCADE");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dragoman: what was made to try things out could not be removed: %s\n", error.what());
  }
}

}  // namespace dragoman::app
