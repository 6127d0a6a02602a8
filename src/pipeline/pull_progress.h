#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "pipeline/source.h"

namespace dragoman::pipeline {

/// How far a full pull is: which stretches of ids are done, which are being read, which are to come.
///
/// The ids are cut into stretches of about a page each, so that any number of fetchers can read at once without
/// waiting for each other, and one that dies leaves only its own stretch to be read again. The last stretch has no
/// end, for what was created meanwhile. The state is one line of JSON, written in the transaction of each page.
///
/// Threads: one thread at a time.
class PullProgress {
 public:
  PullProgress() = default;
  /// `count` records with ids up to `last_id`; at most `page_records` of them are wanted per stretch, and fewer until
  /// the first ones have shown how long they take.
  PullProgress(std::int64_t last_id, std::int64_t count, std::int64_t page_records, Time started);
  /// From `json()`; nullopt if the text is no state (`{}`: no pull was begun).
  static std::optional<PullProgress> parse(std::string_view text);
  std::string json() const;

  /// The next stretch to read, which stays open until `finish`. nullopt: all are given out.
  std::optional<Range> claim();
  /// The stretch that begins after `after` is stored up to and including id `upto`.
  void advance(std::int64_t after, std::int64_t upto);
  /// The stretch that begins after `after` (as moved by `advance`) is stored whole.
  void finish(std::int64_t after);
  /// All fetchers gave up: what they had may be claimed again.
  void release_all();
  /// A stretch held `records` and took `took`: the next ones are made to hold about a page, or to take a second.
  void adapt(std::int64_t width, std::int64_t records, std::int64_t bytes, Micros took);

  void count(std::int64_t records) { done_ += records; }
  bool done() const { return tail_given_ && open_.empty(); }
  std::int64_t records_done() const { return done_; }
  std::int64_t records_total() const { return total_; }
  std::int64_t page_records() const { return page_; }
  Time started() const { return started_; }

 private:
  struct Open {
    Range range;
    bool claimed = false;
  };
  std::int64_t last_id_ = 0, frontier_ = 0, width_ = 1000, page_ = 1000, page_max_ = 1000;
  std::int64_t done_ = 0, total_ = 0;
  bool tail_given_ = false;
  Time started_{};  ///< by the server's clock: where the deltas begin
  std::vector<Open> open_;
};

}  // namespace dragoman::pipeline
