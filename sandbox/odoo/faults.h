#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "sandbox/odoo/schema.h"

namespace sandbox::odoo {

/// One rule: for which calls, how often, and what goes wrong.
struct FaultRule {
  std::int64_t id = 0;
  std::string model;        // empty: any
  std::string method;       // empty: any
  std::string path;         // prefix of the URL path; empty: any
  std::int64_t nth = 0;     // only the n-th matching call (from 1); 0: each
  std::int64_t after = 0;   // not before so many matching calls have passed
  std::int64_t times = -1;  // at most so often; -1: without end
  double probability = 1;
  std::uint64_t random_state = 1;
  std::int64_t seen = 0;
  std::int64_t fired = 0;
  Json action;
};

/// The faults to come, as tests and demos set them.
/// Threads: safe from any thread.
class FaultRules {
 public:
  /// {"match": {"model","method","path","nth","after","times","probability","seed"}, "action": {"kind": …}}
  std::int64_t add(const Json& rule);
  void remove(std::int64_t id);
  void clear();
  Json list() const;
  /// The action of the first rule that fires for this call.
  std::optional<Json> match(const std::string& path, const std::string& model, const std::string& method);

 private:
  mutable std::mutex mutex_;
  std::vector<FaultRule> rules_;
  std::int64_t next_ = 1;
};

}  // namespace sandbox::odoo
