#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/measure.h"

namespace dragoman::app {

/// What `bench` and `selftest` print: settings first, then figures with their goals. As lines for people, or each as one
/// line of JSON.
///
/// Threads: one thread at a time.
class Report {
 public:
  explicit Report(bool json) : json_(json) {}

  void setting(std::string_view name, std::string_view value);
  /// Of a figure with a goal, `higher_is_better` says which side of it is well.
  void figure(std::string_view name, const Estimate& value, std::string_view unit, std::optional<double> goal = {},
              bool higher_is_better = false);
  void line(std::string_view text);
  bool missed() const { return missed_; }

 private:
  const bool json_;
  bool missed_ = false;
};

/// What a folder's file system is: `ext4`, `overlay`, … or its magic number.
std::string file_system(const std::string& folder);

}  // namespace dragoman::app
