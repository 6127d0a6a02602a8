#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "simulation/world.h"

namespace dragoman::simulation {

struct Result {
  std::vector<std::string> violations;
  std::string log;      ///< what happened, a line each: the same for the same seed and plan, byte for byte
  std::string picture;  ///< what the database held in the end
  std::map<Fault, int> faults;
  std::map<std::string, int, std::less<>> points_seen, killed_at;
  std::int64_t points = 0;     ///< at which the process could have been killed
  Micros lasted{};             ///< of virtual time
  std::int64_t rewritten = 0;  ///< statements that Plan::rewrites changed
};

/// Runs a world from its first request until everything that it accepted has come to its end: first with everything
/// going wrong that the plan has in store, then in peace.
Result simulate(Threads& threads, std::uint64_t seed, const Plan& plan);

}  // namespace dragoman::simulation
