#include "jobs/concurrency.h"

#include <algorithm>

namespace dragoman::jobs {

Concurrency::Concurrency(int max, int first)
    : max_(std::max(1, max)), limit_(std::min(std::max(1, first), std::max(1, max))) {}

void Concurrency::end(Answer answer, Micros took, int jobs, Micros now) {
  const bool full = running_ >= limit();
  const bool alone = running_ == 1 && limit() == 1;
  --running_;
  if (answer == Answer::nothing) return;
  if (answer == Answer::strained) return shrink(0.5, now);

  const double each = static_cast<double>(took.count()) / std::max(1, jobs);
  recent_us_ = answers_ == 0 ? each : recent_us_ + (each - recent_us_) * 0.2;
  // What is usual follows slowly upwards, so that a remote that got slower for good is not held to its best day; and at
  // once where nothing else was under way, for then it is not our load that it takes its time for.
  if (answers_ == 0 || each < usual_us_)
    usual_us_ = each;
  else
    usual_us_ = alone ? usual_us_ + (each - usual_us_) * 0.2 : usual_us_ * 1.002;
  if (answers_ < 1000) ++answers_;
  pause_ = took;
  if (!full) return;
  // A few milliseconds more are no sign of strain.
  if (answers_ > 20 && recent_us_ > usual_us_ * 3 + 5000) return shrink(0.9, now);
  limit_ = std::min(static_cast<double>(max_), limit_ + 1 / limit_);
}

void Concurrency::shrink(double by, Micros now) {
  if (now - shrunk_ < pause_) return;
  shrunk_ = now;
  limit_ = std::max(1.0, limit_ * by);
}

}  // namespace dragoman::jobs
