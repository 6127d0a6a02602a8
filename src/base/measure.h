#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace dragoman {

/// A median, and the two measured values that hold it with at least 95 % probability, whatever the distribution.
struct Estimate {
  double median = 0, low = 0, high = 0;
};
Estimate estimate(std::vector<double> values);

/// The smallest value that at least `share` (0 to 1) of them do not exceed; 0 if there is none.
double percentile(std::vector<double> values, double share);

double seconds_of(const std::function<void()>& run);

/// Wall seconds of both, in turn and with the order changing, after one pair that isn't counted.
struct Pairs {
  std::vector<double> ours, floor;
};
Pairs measure_pairs(std::int64_t pairs, const std::function<void()>& ours, const std::function<void()>& floor);

/// Processor, its threads, and the kernel.
std::string machine();

}  // namespace dragoman
