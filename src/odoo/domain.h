#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace dragoman::odoo {

/// A search domain as a value: `Domain::where("write_date", ">=", t) && Domain::where("id", ">", 7)`.
/// Holds Odoo's prefix form as JSON text.
class Domain {
 public:
  Domain() = default;  ///< everything
  static Domain where(std::string_view field, std::string_view op, std::int64_t value);
  static Domain where(std::string_view field, std::string_view op, int value) {
    return where(field, op, std::int64_t{value});
  }
  static Domain where(std::string_view field, std::string_view op, std::string_view value);
  static Domain where(std::string_view field, std::string_view op, const char* value);
  static Domain where(std::string_view field, std::string_view op, bool value);
  /// As Odoo writes times: UTC, whole seconds, fraction cut off.
  static Domain where(std::string_view field, std::string_view op, Time value);
  static Domain where(std::string_view field, std::string_view op, const std::vector<std::int64_t>& values);
  /// From a user's text, e.g. `[["customer_rank",">",0]]`, also with conditions side by side. Field names are not
  /// checked. Throws invalid, saying what is wrong where.
  static Domain parse(std::string_view json);

  /// Everything that both, either, or not this match. An empty domain is neutral to && and wins in ||.
  friend Domain operator&&(const Domain& a, const Domain& b);
  friend Domain operator||(const Domain& a, const Domain& b);
  friend Domain operator!(const Domain& a);

  bool empty() const { return terms_.empty(); }
  /// `["&",["a","=",1],["b","=",2]]`, or `[]`.
  std::string json() const;

 private:
  std::string terms_;  ///< comma-separated, one whole expression in prefix form
};

}  // namespace dragoman::odoo
