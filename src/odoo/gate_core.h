#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "odoo/gate.h"

namespace dragoman::odoo {

/// The mind of a Gate: who may go, how many at once, and what is learnt from it. No threads and no clock of its own,
/// so that a simulated server can be put behind it.
///
/// How many workers an Odoo has cannot be asked. Calls beyond that number wait unseen in the listening socket's queue,
/// and with them everybody else's. So it is learnt, without making anybody wait for it longer than one call:
///
/// - A *probe* is the smallest call there is, made while n calls are inside. Answered while all n go on, it proves a
///   worker more than n. It needs a caller that waits for a place anyway, and lends its thread: bulk work's, or an
///   order's, of which a backlog alone finds out that there are two.
/// - Bulk work keeps one worker free, so to use n + 1 it has to know n + 2: a *trial* lets one call more in than it
///   should be, once, and probes beside it. Where there are two workers that waits for a minute of bulk work, and comes
///   once a minute at most: somebody else's call has no worker left meanwhile. Two trials without a proof end the
///   search for ten minutes, then twenty, up to an hour.
/// - A worker more is only worth it if more gets done: if calls of the same work take so much longer with it that
///   nothing is won (an Odoo in threaded mode, workers without a core each), the step is taken back.
/// - From time to time the free worker is probed again: if it is never free any more (fewer workers than before, or
///   much to do for others), a place is given back.
/// - 429, 503, lost answers: half the places at once, one more every quarter of a minute later.
///
/// Threads: one thread at a time.
class GateCore {
 public:
  explicit GateCore(GateSettings settings, Micros now = Micros(0));

  /// Somebody wants in. Answers the ticket to be named from then on.
  std::uint64_t arrive(Lane lane, std::string_view work, Micros now);

  struct Step {
    enum What { none, admit, probe } what = none;
    std::uint64_t ticket = 0;
  };
  /// What may happen next; asked until it says none, after every other call.
  Step next(Micros now);
  void leave(std::uint64_t ticket, Ending ending, Micros now);
  /// The probe that `ticket` was asked for is over; `ticket` goes on waiting.
  void probed(std::uint64_t ticket, Ending ending, Micros now);
  /// Stopped while waiting.
  void give_up(std::uint64_t ticket);

  int places() const;
  int bulk_places() const;
  int learnt() const { return settings_.workers > 0 || (workers_ == 1 && !known_) ? 0 : workers_; }
  int inside() const { return int(inside_.size()); }
  int waiting() const { return int(waiting_[0].size() + waiting_[1].size() + waiting_[2].size()); }

 private:
  struct Waiting {
    std::uint64_t ticket;
    std::string work;
    bool probing = false;
  };
  struct Call {
    Lane lane;
    std::string work;
    Micros start;
    int level;        // bulk calls inside when it began, itself included
    double expected;  // µs, 0: not known
    bool trial;
    bool typical;  // its time says something about its level
  };
  struct Latency {
    int count = 0;
    double mean = 0;  // µs, moving average
  };

  bool learning() const { return settings_.workers <= 0; }
  bool may_enter(Lane lane) const;
  bool witnesses_fresh(Micros now) const;
  bool trial_due(Micros now) const;
  bool probe_due(Micros now) const;
  bool lends(Lane lane) const;
  void proved(int workers, Micros now);
  void not_proved(Micros now);
  void unclear(Micros now);
  void judge(const std::string& work, int level, Micros now);
  void shrink_by_one(Micros now);
  Micros trial_spacing() const;
  void settle(Micros now);
  void punish(Micros started, Micros now);
  void recover(Micros now);
  int bulk_inside() const;

  GateSettings settings_;
  int workers_ = 1;     // believed
  bool known_ = false;  // something speaks for it
  int limit_;           // after refusals, less than workers_
  Micros recover_at_{0};
  Micros punished_at_{-1};

  std::array<std::deque<Waiting>, 3> waiting_;  // by lane
  std::array<int, 3> passed_over_{};            // how often a higher lane was let in before the waiting of this one
  std::map<std::uint64_t, Call> inside_;
  std::uint64_t next_ticket_ = 1;

  // The probe under way, or answered and waiting for the first of its witnesses to leave.
  struct Probe {
    std::vector<std::uint64_t> witnesses;
    Micros start{0}, end{0};
    bool answered = false, void_ = false;
    double patience = 0;  // µs that witnesses have to go on after the answer
  };
  bool probing_ = false;
  Probe probe_;
  double quickest_probe_ = 0;  // µs, 0: none yet
  int proofs_ = 0, failures_ = 0;
  int proof_level_ = 0;
  bool trial_inside_ = false;
  Micros next_trial_{0}, next_probe_{0};
  Micros trial_pause_;
  int busy_checks_ = 0;
  std::map<std::string, std::map<int, Latency>> latency_;
  int grown_to_ = 0;  // bulk places since the last step up, until it is judged
};

}  // namespace dragoman::odoo
