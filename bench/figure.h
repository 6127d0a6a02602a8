#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "base/measure.h"
#include "base/text.h"

// What the benchmarks share besides what the program itself measures with: options, and the lines they print.
namespace dragoman::bench {

/// The number after `--name` on the command line, else `fallback`.
inline std::int64_t option(int argc, char** argv, std::string_view name, std::int64_t fallback) {
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == "--" + std::string(name)) return std::atoll(argv[i + 1]);
  return fallback;
}

using dragoman::Estimate;
using dragoman::estimate;
using dragoman::measure_pairs;
using dragoman::Pairs;
using dragoman::seconds_of;

/// One JSON line. `better` is `higher` or `lower`; a figure without goal is shown for scale.
inline void print_figure(std::string_view name, const Estimate& value, std::string_view unit,
                         std::optional<double> goal = {}, std::string_view better = {}) {
  std::string line = fmt::format("{{\"name\":{},\"value\":{:.4g},\"low\":{:.4g},\"high\":{:.4g},\"unit\":{}",
                                 json_string(name), value.median, value.low, value.high, json_string(unit));
  if (goal) line += fmt::format(",\"goal\":{},\"better\":{}", *goal, json_string(better));
  fmt::print("{}}}\n", line);
  std::fflush(stdout);
}

/// The machine and whatever else the reader of the figures needs to know, as the first line.
inline void print_setting(std::string_view what) {
  fmt::print("{{\"setting\":{}}}\n", json_string(fmt::format("{}; {}", machine(), what)));
  std::fflush(stdout);
}

}  // namespace dragoman::bench
