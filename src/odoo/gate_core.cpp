#include "odoo/gate_core.h"

#include <algorithm>
#include <chrono>

namespace dragoman::odoo {
namespace {

using namespace std::chrono_literals;

constexpr int kWorkersMax = 32;
constexpr int kPassOver = 8;  // so many calls of higher lanes may go before a waiting one
constexpr int kProofs = 2;    // a single one may be an answer that was still on its way over a slow line
constexpr int kFailures = 2;
constexpr Micros kProbePause = 200ms;
constexpr Micros kCheckPause = 60s;
constexpr Micros kRecheckPause = 5s;
constexpr int kBusyChecks = 3;
constexpr Micros kTrialPause = 10min, kTrialPauseMax = 60min;
constexpr Micros kTrialSpacing = 5s;  // with more than two workers
constexpr Micros kRecoverFirst = 30s, kRecoverNext = 15s;
constexpr double kFresh = 0.6;                    // of the time that a call is expected to take
constexpr double kPatience = 0.2;                 // so much of it a witness has to go on after the probe's answer
constexpr int kJudgeBefore = 4, kJudgeAfter = 8;  // calls, and more where the gain to see is smaller
constexpr int kLatencyWindow = 64;

std::size_t index(Lane lane) {
  return static_cast<std::size_t>(lane);
}

}  // namespace

GateCore::GateCore(GateSettings settings, Micros now)
    : settings_(settings),
      workers_(std::clamp(settings.workers > 0  ? settings.workers
                          : settings.learnt > 0 ? settings.learnt
                                                : 1,
                          1, settings.workers > 0 ? 1024 : kWorkersMax)),
      limit_(workers_),
      trial_pause_(kTrialPause) {
  if (learning() && settings.learnt > 0) {
    known_ = true;
    next_trial_ = now + trial_pause_;
    next_probe_ = now + kRecheckPause;  // first of all, is it still so?
  }
}

int GateCore::places() const {
  return std::min(workers_, limit_);
}

int GateCore::bulk_places() const {
  return settings_.bulk_share_all ? places() : std::max(1, places() - 1);
}

int GateCore::bulk_inside() const {
  return int(std::count_if(inside_.begin(), inside_.end(), [](const auto& c) { return c.second.lane == Lane::bulk; }));
}

bool GateCore::may_enter(Lane lane) const {
  // While the number is not known a person need not wait for it to be found out: at worst Odoo's own queue is where
  // the call waits.
  const bool guess = learning() && lane == Lane::interactive && workers_ == 1 && limit_ == workers_;
  if (inside() >= places() + (guess ? 1 : 0)) return false;
  return lane != Lane::bulk || bulk_inside() < bulk_places();
}

// A witness that is about to end proves nothing.
bool GateCore::witnesses_fresh(Micros now) const {
  return std::none_of(inside_.begin(), inside_.end(), [&](const auto& entry) {
    const Call& call = entry.second;
    return call.expected > 0 && double((now - call.start).count()) > kFresh * call.expected;
  });
}

bool GateCore::trial_due(Micros now) const {
  // Two wait: one for the place, the other to make the probe.
  const auto& bulk = waiting_[index(Lane::bulk)];
  const auto free = std::count_if(bulk.begin(), bulk.end(), [](const Waiting& w) { return !w.probing; });
  return learning() && !settings_.bulk_share_all && known_ && !probing_ && !trial_inside_ && free >= 2 &&
         now >= next_trial_ && limit_ == workers_ && workers_ >= 2 && workers_ < kWorkersMax && grown_to_ == 0 &&
         inside() == bulk_inside() && inside() == bulk_places() && inside() + 1 == workers_ && witnesses_fresh(now);
}

bool GateCore::probe_due(Micros now) const {
  if (!learning() || probing_ || limit_ != workers_ || inside() == 0) return false;
  const bool orders = lends(Lane::order);
  if (!orders && !lends(Lane::bulk)) return false;
  const int n = inside();
  // Beside a trial at once; to go beyond what is known; or to see that the free worker is still there. Orders take
  // every place as it is, so where they wait nothing need be let in for it.
  const bool beyond = n >= workers_ && workers_ < kWorkersMax && now >= next_probe_ && grown_to_ == 0 &&
                      (settings_.bulk_share_all || workers_ == 1 || orders ? now >= next_trial_ : trial_inside_);
  const bool check = n < workers_ && n == bulk_places() && now >= next_probe_ && workers_ >= 2;
  return (beyond || check) && witnesses_fresh(now);
}

// Whether a caller waits there whose thread may be borrowed. A person's is not.
bool GateCore::lends(Lane lane) const {
  const auto& waiting = waiting_[index(lane)];
  return std::any_of(waiting.begin(), waiting.end(), [](const Waiting& w) { return !w.probing; });
}

std::uint64_t GateCore::arrive(Lane lane, std::string_view work, Micros now) {
  recover(now);
  const std::uint64_t ticket = next_ticket_++;
  waiting_[index(lane)].push_back({ticket, std::string(work)});
  return ticket;
}

GateCore::Step GateCore::next(Micros now) {
  recover(now);
  const auto admit = [&](std::size_t lane, std::deque<Waiting>::iterator who, bool trial) {
    const Step step{Step::admit, who->ticket};
    double expected = 0;
    const int level = lane == index(Lane::bulk) ? bulk_inside() + 1 : 0;
    const auto known = latency_.find(who->work);
    if (known != latency_.end())
      for (const auto& [_, latency] : known->second) expected = std::max(expected, latency.mean);
    inside_.emplace(who->ticket,
                    Call{static_cast<Lane>(lane), std::move(who->work), now, level, expected, trial, !trial});
    waiting_[lane].erase(who);
    passed_over_[lane] = 0;
    for (std::size_t lower = lane + 1; lower < waiting_.size(); ++lower)
      if (!waiting_[lower].empty()) ++passed_over_[lower];
    return step;
  };
  // The lane whose turn it is: a higher one, unless a lower one was passed over too often.
  std::array<std::size_t, 3> order{0, 1, 2};
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    const bool due_a = passed_over_[a] >= kPassOver, due_b = passed_over_[b] >= kPassOver;
    return due_a != due_b ? due_a : a < b;
  });
  for (const std::size_t lane : order) {
    if (!may_enter(static_cast<Lane>(lane))) {
      // It is this lane's turn: what comes below it may not take the next place instead.
      if (passed_over_[lane] >= kPassOver && lane != index(Lane::bulk)) break;
      if (passed_over_[lane] >= kPassOver && inside() >= places()) break;
      continue;
    }
    const auto who =
        std::find_if(waiting_[lane].begin(), waiting_[lane].end(), [](const Waiting& w) { return !w.probing; });
    if (who != waiting_[lane].end()) return admit(lane, who, false);
  }
  auto& bulk = waiting_[index(Lane::bulk)];
  if (trial_due(now)) {
    trial_inside_ = true;
    next_probe_ = now;
    for (auto& [_, call] : inside_) call.typical = false;  // it slows them
    const auto who = std::find_if(bulk.begin(), bulk.end(), [](const Waiting& w) { return !w.probing; });
    return admit(index(Lane::bulk), who, true);
  }
  if (probe_due(now)) {
    // The last in the line has the most time.
    auto& line = lends(Lane::bulk) ? bulk : waiting_[index(Lane::order)];
    const auto who = std::find_if(line.rbegin(), line.rend(), [](const Waiting& w) { return !w.probing; });
    who->probing = true;
    probing_ = true;
    probe_ = Probe{};
    probe_.start = now;
    for (const auto& [ticket, call] : inside_) {
      probe_.witnesses.push_back(ticket);
      probe_.patience = std::max(probe_.patience, kPatience * call.expected);
    }
    return {Step::probe, who->ticket};
  }
  return {};
}

void GateCore::probed(std::uint64_t ticket, Ending ending, Micros now) {
  for (auto& lane : waiting_)
    for (auto& who : lane)
      if (who.ticket == ticket) who.probing = false;
  if (!probing_ || probe_.answered) return;
  if (ending == Ending::refused) punish(probe_.start, now);
  const double took = double((now - probe_.start).count());
  if (ending != Ending::good) {
    probing_ = false;
    next_probe_ = now + kRecheckPause;
    return;
  }
  const bool first = quickest_probe_ == 0;
  // Beside long calls a probe may take longer: what else the server's machine does is not meant here.
  const bool slow = !first && took > std::max({4 * quickest_probe_, 20'000.0, 1.5 * probe_.patience});
  quickest_probe_ = quickest_probe_ == 0 ? took : std::min(quickest_probe_ * 1.01, took);
  if (slow || probe_.void_) {
    probing_ = false;
    // Quick, although a witness left meanwhile: that may be chance, and says nothing.
    if (slow || first || took > 3 * quickest_probe_ || (probe_.patience > 0 && took > probe_.patience))
      not_proved(now);
    else
      unclear(now);
    return;
  }
  probe_.end = now;
  probe_.answered = true;
  probe_.patience = std::max({probe_.patience, took, 5'000.0});
}

void GateCore::leave(std::uint64_t ticket, Ending ending, Micros now) {
  const auto found = inside_.find(ticket);
  if (found == inside_.end()) return;
  const Call call = std::move(found->second);
  inside_.erase(found);
  if (call.trial) trial_inside_ = false;
  recover(now);

  if (probing_ && std::find(probe_.witnesses.begin(), probe_.witnesses.end(), ticket) != probe_.witnesses.end()) {
    if (!probe_.answered) {
      probe_.void_ = true;  // from here on the probe may have this call's worker
    } else {
      probing_ = false;
      if (double((now - probe_.end).count()) >= probe_.patience && ending == Ending::good)
        proved(int(probe_.witnesses.size()) + 1, now);
      else
        unclear(now);
    }
  } else if (call.trial && !probing_) {
    // The trial went by without a probe beside it.
    next_trial_ = std::max(next_trial_, now + trial_spacing());
  }

  if (ending == Ending::refused || ending == Ending::lost) return punish(call.start, now);
  if (ending == Ending::good && call.level > 0 && call.typical) {
    Latency& latency = latency_[call.work][call.level];
    const double took = double((now - call.start).count());
    ++latency.count;
    latency.mean += (took - latency.mean) / std::min(latency.count, kLatencyWindow);
    judge(call.work, call.level, now);
    if (latency_.size() > 64) latency_.erase(latency_.begin());  // works are models and methods; be safe
  }
}

void GateCore::give_up(std::uint64_t ticket) {
  for (auto& lane : waiting_) {
    const auto who = std::find_if(lane.begin(), lane.end(), [&](const Waiting& w) { return w.ticket == ticket; });
    if (who == lane.end()) continue;
    if (who->probing && !probe_.answered) probing_ = false;
    lane.erase(who);
    return;
  }
}

void GateCore::proved(int workers, Micros now) {
  busy_checks_ = 0;
  if (workers <= workers_) {  // the check: it is as it was
    next_probe_ = now + kCheckPause;
    return;
  }
  next_probe_ = now + kProbePause;
  failures_ = 0;
  if (proof_level_ != workers) {
    proof_level_ = workers;
    proofs_ = 0;
  }
  if (++proofs_ < kProofs) return;
  proofs_ = 0;
  known_ = true;
  const int before = bulk_places();
  workers_ = std::min(workers, kWorkersMax);
  limit_ = workers_;
  if (workers_ == 2) next_trial_ = std::max(next_trial_, now + trial_spacing());  // a short pull never needs a third
  if (bulk_places() > before) {
    grown_to_ = bulk_places();
    for (auto& [_, levels] : latency_) levels.erase(levels.lower_bound(grown_to_), levels.end());
  }
}

void GateCore::not_proved(Micros now) {
  const int n = int(probe_.witnesses.size());
  proofs_ = 0;
  if (n < workers_) {
    // The worker that bulk leaves free was not: once is somebody else's call, always is one worker less.
    if (++busy_checks_ >= kBusyChecks) {
      busy_checks_ = 0;
      shrink_by_one(now);
      next_probe_ = now + kCheckPause;
    } else {
      next_probe_ = now + kRecheckPause;
    }
    return;
  }
  next_probe_ = now + kProbePause;
  next_trial_ = std::max(next_trial_, now + trial_spacing());
  if (++failures_ >= kFailures) settle(now);
}

// Where there are two workers, somebody else's call that comes during a trial has none left; where there are more, it
// has.
Micros GateCore::trial_spacing() const {
  return workers_ <= 2 ? settings_.trial_spacing : std::min<Micros>(settings_.trial_spacing, kTrialSpacing);
}

void GateCore::unclear(Micros now) {
  next_probe_ = now + kProbePause;
  next_trial_ = std::max(next_trial_, now + trial_spacing());
}

// The search is over for a while.
void GateCore::settle(Micros now) {
  known_ = true;
  failures_ = 0;
  next_trial_ = now + trial_pause_;
  next_probe_ = now + kCheckPause;
  trial_pause_ = std::min(trial_pause_ * 2, kTrialPauseMax);
}

void GateCore::shrink_by_one(Micros now) {
  workers_ = std::max(1, workers_ - 1);
  limit_ = std::min(limit_, workers_);
  grown_to_ = 0;
  settle(now);
}

void GateCore::judge(const std::string& work, int level, Micros now) {
  if (grown_to_ == 0 || level != grown_to_) return;
  auto& levels = latency_[work];
  const Latency after = levels[level], before = levels[level - 1];
  const int b = level - 1, enough = b * b;
  if (after.count < kJudgeAfter + 2 * enough || before.count < kJudgeBefore + enough || before.mean <= 0) {
    if (after.count >= 4 * (kJudgeAfter + enough)) grown_to_ = 0;  // nothing to compare with: the proof has to do
    return;
  }
  const double gain = (level / after.mean) / (b / before.mean);
  grown_to_ = 0;
  // A worker with a core of its own gains 1/b; a fifth of that has to be left.
  if (gain < 1 + 0.2 / double(b)) shrink_by_one(now);
}

void GateCore::punish(Micros started, Micros now) {
  if (started <= punished_at_) return;  // it was on its way when the last refusal was taken to heart
  punished_at_ = now;
  limit_ = std::max(1, places() / 2);
  recover_at_ = now + kRecoverFirst;
  grown_to_ = 0;
}

void GateCore::recover(Micros now) {
  while (limit_ < workers_ && now >= recover_at_) {
    ++limit_;
    recover_at_ += kRecoverNext;
  }
}

}  // namespace dragoman::odoo
