#include "base/measure.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <thread>

namespace dragoman {

Estimate estimate(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto n = values.size();
  if (n == 0) return {};
  const double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
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

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double place = std::ceil(static_cast<double>(values.size()) * share) - 1;
  return values[static_cast<std::size_t>(std::max(0.0, place))];
}

double seconds_of(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Pairs measure_pairs(std::int64_t pairs, const std::function<void()>& ours, const std::function<void()>& floor) {
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

std::string machine() {
  utsname system{};
  ::uname(&system);
  std::string processor = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) {
      processor = line.substr(line.find(':') + 2);
      break;
    }
  return fmt::format("{} threads of {}, Linux {}", std::thread::hardware_concurrency(), processor, system.release);
}

}  // namespace dragoman
