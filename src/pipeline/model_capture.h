#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "pipeline/capture_store.h"
#include "pipeline/pull_progress.h"
#include "pipeline/source.h"
#include "pipeline/sync.h"

namespace dragoman::pipeline {

/// Captures one model of one connection: the full pull, polls for what changed, sweeps for what polls can't see.
///
/// What makes it lose nothing:
/// - A transaction's records carry the time of its start. So a poll goes back by `overlap` behind the last one, and a
///   sweep over all (id, write_date) finds what took longer, raises `overlap` and an alarm.
/// - Times are whole seconds. Two changes in one second look like one; so a record is read again until a read began
///   after that second, and once more when no transaction that began in that second can still be running.
/// - Deletions leave nothing to poll for; the sweep finds the ids that are no longer there.
/// - All times compared are the server's, so that no clock of ours, and no jump of it, plays a part.
///
/// Threads: safe from any thread. Steps of one model exclude each other; a step blocks for its calls.
class ModelCapture {
 public:
  ModelCapture(Source& source, CaptureStore& store, Clock& clock, const SyncSettings& settings, ModelRow row);

  const std::string& name() const { return name_; }
  std::int64_t id() const { return id_; }

  /// Reads the model's description; a new schema or field plan is recorded. If other fields are read now, or `full`,
  /// or no pull was ever finished, a pull is begun (or the one that was interrupted goes on).
  /// Returns false if the model cannot be captured (its state and reason are recorded).
  bool prepare(bool full, std::stop_token stop);
  /// A full pull is under way.
  bool pulling() const;
  /// Everything was pulled once: polls and sweeps make sense, also while it is all read again.
  bool following() const;

  /// A part of the pull under way, to be fetched by the caller, and stored in order of the parts of one stretch.
  struct Piece {
    Range stretch;               ///< as claimed
    std::int64_t key = 0;        ///< where this piece begins
    bool last = false;           ///< of its stretch
    std::unique_ptr<Page> page;  ///< none: the record `upto` cannot be read and is passed over
    std::int64_t upto = 0;       ///< the last id of the piece
  };
  std::optional<Range> claim();
  /// Reads the piece of `stretch` behind `after`. A refused field is taken out of the plan and the rest read.
  Piece fetch(Range stretch, std::int64_t after, std::stop_token stop);
  Applied store(const Piece& piece);
  /// When no fetcher is at work any more: what was claimed and not stored may be claimed again.
  void release_all();

  struct Outcome {
    Applied applied;
    std::int64_t seen = 0;      ///< stamps compared
    std::int64_t late = 0;      ///< found by a sweep behind the back of the polls
    std::int64_t withheld = 0;  ///< seem to be deleted, but are so many that a person has to say so
  };
  /// Looks for changes since the last poll: `wide` by the whole overlap, else by a few seconds.
  Outcome poll(bool wide, std::stop_token stop);
  /// The next part of a sweep; nullopt when it was the last one. The result adds up until then.
  struct SweepState {
    std::int64_t after = 0;
    Time began{};  ///< by our clock
    Outcome outcome;
    std::int64_t there = 0, here = 0;
    std::vector<std::int64_t> missing;  ///< held, and not seen there
    Time read_at{};                     ///< by the server's clock: of the last stamps
    bool accept_deletions = false;      ///< however many they are
  };
  bool sweep_step(SweepState& state, std::stop_token stop);
  /// A whole sweep, by as many calls at once as the source has places for.
  Outcome sweep(bool accept_deletions, std::stop_token stop);

  /// Fetches binaries that versions wait for, at most `limit` versions'. True if more wait.
  bool fetch_binaries(std::int64_t limit, std::stop_token stop);

  /// See SyncService::certify.
  Certificate certify(const CertifyOptions& options, Random& random, std::stop_token stop);

  /// The time (by the server's clock) that a wide poll has secured and not stored yet; the caller stores those of
  /// many models in one transaction.
  std::optional<Time> take_cursor();
  bool refused() const;

  ModelStatus status(const std::string& connection) const;
  void set_error(const std::string& error);

 private:
  /// Of a sweep: compares the stamps of `range` with what is held of it, and reads what differs.
  void compare(const Source::Stamps& stamps, Range range, SweepState& state, std::stop_token stop);
  static void count_missing(const std::vector<std::int64_t>& there, const std::vector<Held>& held, SweepState& state);
  void end_sweep(SweepState& state, const Plan& plan, std::stop_token stop);
  Outcome poll_locked(bool wide, std::stop_token stop);
  Applied read_and_apply(const std::vector<std::int64_t>& ids, std::stop_token stop);
  /// Reads the records, page by page; one that can't be read is noted and left out.
  void read_pages(const std::vector<std::int64_t>& ids, const Plan& plan, std::stop_token stop,
                  const std::function<void(const Page&)>& each);
  /// Notes a record that the remote sends in a form nobody can read, so that it is seen and the rest goes on.
  void note_unreadable(std::int64_t id, const Error& error);
  Applied remove_if_gone(const std::vector<std::int64_t>& ids, Time read_at, std::stop_token stop);
  void raise_overlap(Time write_date, Time now, std::int64_t id);
  void begin_pull(std::stop_token stop);
  Piece fetch_around(Range stretch, std::int64_t after, std::int64_t limit, const Plan& plan, std::stop_token stop);
  bool due(const Stamp& stamp, const Held* held, bool wide, Time now) const;

  Source& source_;
  CaptureStore& store_;
  Clock& clock_;
  const SyncSettings settings_;
  const std::string name_;
  const std::int64_t id_;

  std::mutex step_;  ///< held during a step

  mutable std::mutex mutex_;  ///< guards all below; never held during a call
  ModelRow row_;
  Plan plan_;
  std::optional<PullProgress> pull_;
  std::optional<Time> polled_;   ///< by the server's clock: start of the last poll
  std::optional<Time> secured_;  ///< cursor of the last wide poll, not stored yet
  bool unavailable_ = false;
  ModelStatus status_;
  std::map<std::int64_t, std::string> unreadable_;  ///< records, and what is wrong with them
  Micros pull_began_{};
  std::int64_t pull_began_with_ = 0;
};

}  // namespace dragoman::pipeline
