#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>

#include "base/error.h"

namespace dragoman::pipeline {

/// What a key is to stand for that a record was looked up for, instead of what a rule found (see Linked in target.h).
struct Relink {
  std::string model, key;
  std::string from;          ///< what it is thought to stand for; empty: that is not known
  std::string to;            ///< empty: nothing, and what it stood for is never found by a rule for it again
  std::int64_t company = 0;  ///< of the records that refer to it; 0: the account's own
  bool shared = false;       ///< other keys may stand for `to` as well; else that is refused
};
struct Relinked {
  bool changed = false;        ///< false: it was so already
  std::string id;              ///< what it stands for now, also where it was refused; empty: nothing
  std::string name;            ///< of that, for people
  std::optional<Error> error;  ///< why nothing was done
};

/// A Target whose keys a person may say what they stand for.
///
/// Errors  as Target.
/// Threads safe from any thread; calls block.
class Relinker {
 public:
  virtual ~Relinker() = default;
  /// Again is no harm: whoever lost the answer asks once more. Records that are there stay as they are.
  virtual Relinked relink(const Relink& what, std::stop_token stop) = 0;
};

}  // namespace dragoman::pipeline
