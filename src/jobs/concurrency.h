#pragma once

#include "base/clock.h"

namespace dragoman::jobs {

/// How many runs of a connection go on at once, learnt from how its remote answers: one more after each round of
/// answers while all places are taken, half as many when it says that it is busy or does not answer, a tenth less when
/// answers take much longer than they did.
///
/// Threads: one thread at a time.
class Concurrency {
 public:
  explicit Concurrency(int max, int first = 4);

  int limit() const { return static_cast<int>(limit_); }
  int running() const { return running_; }
  bool has_room() const { return running_ < limit(); }

  void begin() { ++running_; }
  enum class Answer {
    fine,      ///< it answered about the jobs, well or not
    strained,  ///< busy, a time limit, no answer
    nothing    ///< says nothing about the remote
  };
  /// `took` is of the whole run of `jobs`; `now` is steady.
  void end(Answer answer, Micros took, int jobs, Micros now);

 private:
  void shrink(double by, Micros now);

  const int max_;
  double limit_;
  int running_ = 0;
  double usual_us_ = 0;   // per job, slow to rise and quick to fall
  double recent_us_ = 0;  // per job
  int answers_ = 0;
  Micros shrunk_{Micros::min() / 2};
  Micros pause_{};  // between two shrinks: what was under way at the first says nothing new
};

}  // namespace dragoman::jobs
