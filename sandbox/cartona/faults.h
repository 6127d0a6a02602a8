#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sandbox/cartona/values.h"

namespace sandbox::cartona {

/// The faults to come, as tests and demos set them. Threads: one at a time.
class FaultRules {
 public:
  struct Call {
    std::string_view account, path, method, body;
  };

  /// {"match": {"account","path","method","body","nth","after","times","probability","seed"}, "action": {"kind": …}}.
  /// Throws ControlError.
  std::int64_t add(const Json& rule);
  void remove(std::int64_t id);
  void clear() { rules_.clear(); }
  Json list() const;
  /// The action of the first rule that fires for this call.
  std::optional<Json> match(const Call& call);

 private:
  struct Rule {
    std::int64_t id = 0;
    std::string account, path, method, body;  // empty: any; path is a prefix, body a part of it
    std::int64_t nth = 0;                     // only the n-th matching call (from 1); 0: each
    std::int64_t after = 0;                   // not before so many matching calls have passed
    std::int64_t times = -1;                  // at most so often; -1: without end
    double probability = 1;
    Dice dice{1};
    std::int64_t seen = 0, fired = 0;
    Json action;
  };
  std::vector<Rule> rules_;
  std::int64_t next_ = 1;
};

}  // namespace sandbox::cartona
