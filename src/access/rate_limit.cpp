#include "access/rate_limit.h"

#include <algorithm>

namespace dragoman::access {

double RateLimit::now_filled(const Bucket& bucket, Micros now) const {
  const double seconds = std::chrono::duration<double>(now - bucket.at).count();
  return std::min(settings_.burst, bucket.filled + seconds * settings_.per_second);
}

std::optional<Micros> RateLimit::take(std::string_view key) {
  if (settings_.per_second <= 0) return std::nullopt;
  const Micros now = clock_.steady();
  auto buckets = buckets_.lock();
  auto found = buckets->find(std::string(key));
  if (found == buckets->end()) {
    if (buckets->size() >= settings_.keys_max) {
      std::erase_if(*buckets, [&](const auto& entry) { return now_filled(entry.second, now) >= settings_.burst; });
      if (buckets->size() >= settings_.keys_max) buckets->clear();
    }
    found = buckets->emplace(std::string(key), Bucket{settings_.burst, now}).first;
  }
  Bucket& bucket = found->second;
  bucket.filled = now_filled(bucket, now);
  bucket.at = now;
  if (bucket.filled >= 1) {
    bucket.filled -= 1;
    return std::nullopt;
  }
  return std::chrono::ceil<Micros>(std::chrono::duration<double>((1 - bucket.filled) / settings_.per_second));
}

}  // namespace dragoman::access
