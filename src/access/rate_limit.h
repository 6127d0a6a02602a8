#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/clock.h"
#include "base/guarded.h"

namespace dragoman::access {

/// Token buckets by key: `burst` at once, `per_second` in the long run.
///
/// Keeps at most `keys_max` buckets; when there are more, those that are full again are forgotten, and if that is not
/// enough all of them (whoever was limited gets a new burst, memory stays bounded).
///
/// Threads: safe from any thread.
class RateLimit {
 public:
  struct Settings {
    double per_second = 50;  ///< 0: no limit
    double burst = 200;
    std::size_t keys_max = 10'000;
  };
  RateLimit(Settings settings, const Clock& clock) : settings_(settings), clock_(clock) {}

  /// Takes one from the key's bucket; if it is empty, how long until there is one.
  std::optional<Micros> take(std::string_view key);

 private:
  struct Bucket {
    double filled = 0;
    Micros at{};
  };
  double now_filled(const Bucket& bucket, Micros now) const;

  const Settings settings_;
  const Clock& clock_;
  Guarded<std::unordered_map<std::string, Bucket>> buckets_;
};

}  // namespace dragoman::access
