#pragma once

#include <string>

#include "base/random.h"

namespace dragoman::app {

/// A folder, and on PostgreSQL a schema, for something that is tried out; gone with this object.
///
/// Errors  unavailable: PostgreSQL refuses.
/// Threads immutable after construction.
class TrialPlace {
 public:
  /// `postgres_url` empty: SQLite in the folder, which is made within `parent`.
  TrialPlace(const std::string& parent, const std::string& postgres_url, Random& random);
  ~TrialPlace();
  TrialPlace(const TrialPlace&) = delete;
  TrialPlace& operator=(const TrialPlace&) = delete;

  const std::string& folder() const { return folder_; }
  /// For store::open.
  const std::string& store_url() const { return store_url_; }
  /// Leaves it where it is, to be looked at.
  void keep() { kept_ = true; }

 private:
  const std::string postgres_url_;
  std::string folder_, schema_, store_url_;
  bool kept_ = false;
};

}  // namespace dragoman::app
