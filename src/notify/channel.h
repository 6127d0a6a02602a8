#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "notify/alert.h"

namespace dragoman::notify {

/// What is told to people.
struct Message {
  std::string uid;   ///< the same in every attempt
  std::string kind;  ///< `first`, `digest` (more of what was told before), `summary` (several problems), `test`
  Alert alert;       ///< `count`: how many it tells of
  Time at{};         ///< when it was made
  std::string hub;   ///< which hub says so
  std::vector<std::string> to{};  ///< e-mail addresses in place of those of the settings; empty: those
};

/// A way to people.
///
/// Threads: safe from any thread.
class Channel {
 public:
  virtual ~Channel() = default;
  virtual std::string name() const = 0;    ///< `email`, `webhook`: stored with each attempt
  virtual std::string target() const = 0;  ///< shown: where it goes, without secrets
  /// Sends it, and says what the other side made of it. `now` is the time to sign it with.
  ///
  /// Errors  any; invalid and not_found mean that trying again is no use.
  virtual std::string send(const Message& message, Time now, std::stop_token stop) = 0;
};

}  // namespace dragoman::notify
