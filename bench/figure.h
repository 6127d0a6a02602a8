#pragma once

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/text.h"

// What the benchmarks share: interleaved pairs, the median with its interval, and the lines they print.
namespace dragoman::bench {

/// The number after `--name` on the command line, else `fallback`.
inline std::int64_t option(int argc, char** argv, std::string_view name, std::int64_t fallback) {
  for (int i = 1; i + 1 < argc; ++i)
    if (argv[i] == "--" + std::string(name)) return std::atoll(argv[i + 1]);
  return fallback;
}

struct Estimate {
  double median = 0, low = 0, high = 0;
};

/// The median, and the order statistics that hold it with at least 95 % probability, whatever the distribution.
inline Estimate estimate(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto n = values.size();
  if (n == 0) return {};
  const auto middle = [&](std::size_t i) { return values[i]; };
  const double median = n % 2 ? middle(n / 2) : (middle(n / 2 - 1) + middle(n / 2)) / 2;
  // The number of values below the true median is binomial (n, 1/2): drop k from each end while 2 P(X <= k - 1) <= 5 %.
  double probability = 1;
  for (std::size_t i = 0; i < n; ++i) probability /= 2;
  double tail = 0;
  std::size_t k = 0;
  for (double term = probability; 2 * (tail + term) <= 0.05 && k < n / 2;) {
    tail += term;
    ++k;
    term = term * static_cast<double>(n - k + 1) / static_cast<double>(k);
  }
  const std::size_t from = k == 0 ? 0 : k - 1;
  return {median, values[from], values[n - 1 - from]};
}

inline double seconds_of(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// Wall seconds of both, in turn and with the order changing, after one pair that isn't counted.
struct Pairs {
  std::vector<double> ours, floor;
};
inline Pairs measure_pairs(std::int64_t pairs, const std::function<void()>& ours, const std::function<void()>& floor) {
  Pairs result;
  for (std::int64_t i = -1; i < pairs; ++i) {
    double a = 0, b = 0;
    if (i % 2 == 0) {
      a = seconds_of(ours);
      b = seconds_of(floor);
    } else {
      b = seconds_of(floor);
      a = seconds_of(ours);
    }
    if (i < 0) continue;
    result.ours.push_back(a);
    result.floor.push_back(b);
  }
  return result;
}

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
  utsname system{};
  ::uname(&system);
  std::string processor = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      processor = line.substr(line.find(':') + 2);
      break;
    }
  fmt::print("{{\"setting\":{}}}\n",
             json_string(fmt::format("{} threads of {}, Linux {}; {}", std::thread::hardware_concurrency(), processor,
                                     system.release, what)));
  std::fflush(stdout);
}

}  // namespace dragoman::bench
