#include "simulation/process.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace dragoman::simulation {
namespace {

using jobs::Claimed;
using jobs::Ending;
using jobs::Finished;
using jobs::Outcome;

constexpr int kRunsMax = 4, kRunsPerConnection = 2;
constexpr Micros kTimeLimit = std::chrono::seconds(30), kStuckGrace = std::chrono::seconds(10);
constexpr Micros kLookMax = std::chrono::seconds(1);

/// A job that does nothing but take a moment.
class Tick final : public jobs::Handler {
 public:
  explicit Tick(World& world) : world_(world) {}
  std::vector<Outcome> run(std::span<const jobs::Job> jobs, std::stop_token) override {
    world_.fibres.sleep(world_.between(Micros(100), Micros(500'000)));
    return std::vector<Outcome>(jobs.size(), jobs::done());
  }

 private:
  World& world_;
};

/// One that reads the newest state of something: many causes fold into one job, but each of them is seen by a run that
/// begins after it.
class Refresh final : public jobs::Handler {
 public:
  Refresh(World& world, const std::function<void(const jobs::Job&)>& seen) : world_(world), seen_(seen) {}
  std::vector<Outcome> run(std::span<const jobs::Job> jobs, std::stop_token) override {
    for (const auto& job : jobs) seen_(job);
    world_.fibres.sleep(world_.between(Micros(1000), Micros(3'000'000)));
    std::vector<Outcome> outcomes;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      if (!world_.fault(0.2)) {
        outcomes.push_back(jobs::done());
        continue;
      }
      Error error(world_.chance(0.5) ? Error::Kind::in_doubt : Error::Kind::unavailable, "it could not be read");
      error.code = "unread";
      outcomes.push_back(jobs::failed(error));
    }
    return outcomes;
  }

 private:
  World& world_;
  const std::function<void(const jobs::Job&)>& seen_;
};

/// Wrong on purpose: sends first, and lets the intent follow.
class EffectFirst final : public jobs::Handler {
 public:
  EffectFirst(jobs::Handler& right, std::function<pipeline::Destination(std::int64_t)> find)
      : right_(right), find_(std::move(find)) {}
  std::vector<Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override {
    for (const auto& job : jobs) {
      const auto order = pipeline::DeliveryOrder::parse(job.payload);
      const pipeline::Outgoing record{order.model, order.key, order.version, order.content};
      find_(job.connection_id).target->deliver(std::span(&record, 1), stop);
    }
    return right_.run(jobs, stop);
  }

 private:
  jobs::Handler& right_;
  const std::function<pipeline::Destination(std::int64_t)> find_;
};

}  // namespace

Process::Process(Surroundings& around, std::string name, Fibres::Group group, std::uint64_t seed, Micros wall)
    : around_(around),
      world_(around.world),
      life_(std::make_shared<Life>(world_, group, name)),
      clock_(world_.fibres, wall),
      random_(seed),
      store_(
          around.store, *life_,
          [this](const Deed& deed, const Touched& touched) { around_.checks.committed(deed, touched, life_); },
          [this](const std::string& channel) { around_.notified(channel); }),
      deliver_(
          store_, [this](std::int64_t id) { return destination(id); }, "node " + name),
      kinds_(make_kinds()),
      queue_(store_, kinds_, random_, name),
      node_(queue_, clock_, {.name = name, .version = "1", .lease = Checks::kLease}),
      leader_(store_, node_, "upkeep"),
      retention_(store_, {.finished = std::chrono::seconds(20), .nodes = std::chrono::hours(24)}),
      schedules_(kinds_),
      scheduler_(store_, schedules_),
      inbox_(store_, around.connectors) {
  for (Remote* remote : around_.remotes)
    targets_.push_back(std::make_shared<RemoteTarget>(*life_, around_.network, *remote));
}

jobs::Kinds Process::make_kinds() {
  tick_ = std::make_unique<Tick>(world_);
  refresh_ = std::make_unique<Refresh>(world_, around_.refreshes);
  jobs::Handler* handler = &deliver_;
  if (world_.plan.effect_first) {
    effect_first_ = std::make_unique<EffectFirst>(deliver_, [this](std::int64_t id) { return destination(id); });
    handler = effect_first_.get();
  }
  const auto kind = [](std::string name, jobs::Handler* of, int batch_max) {
    jobs::Kind kind;
    kind.name = std::move(name);
    kind.summary = "of the simulation";
    kind.handler = of;
    kind.batch_max = batch_max;
    kind.time_limit = kTimeLimit;
    kind.backoff_max = std::chrono::seconds(20);
    return kind;
  };
  return jobs::Kinds({kind("odoo.import", handler, 4), kind("partner.put", handler, 1), kind("tick", tick_.get(), 1),
                      kind("refresh", refresh_.get(), 2)});
}

pipeline::Destination Process::destination(std::int64_t connection_id) {
  for (std::size_t i = 0; i < around_.remotes.size(); ++i)
    if (around_.remotes[i]->connection_id == connection_id)
      return {connection_id, around_.remotes[i]->system, targets_[i]};
  throw Error(Error::Kind::not_found, "there is no such connection");
}

bool Process::expected(const Error& error, std::string_view where) {
  switch (error.kind) {
    case Error::Kind::unavailable:
    case Error::Kind::busy:
    case Error::Kind::in_doubt:
    case Error::Kind::cancelled:
      return true;
    default:
      world_.violate("errors", fmt::format("{} failed with {}: {} ({})", where, policy(error.kind).name, error.message,
                                           error.detail));
      return false;
  }
}

template <typename F>
bool Process::tried(std::string_view what, F&& run) {
  const Doing doing(world_, {.what = what});
  try {
    run();
    return true;
  } catch (const Error& error) {
    expected(error, what);
    return false;
  }
}

void Process::boot() {
  const auto group = life_->group;
  const auto name = [&](const char* part) { return fmt::format("{}.{}", life_->name, part); };
  world_.fibres.start(group, name("boot"), [this, group, name] {
    while (!tried("start", [&] { node_.start(); })) world_.fibres.sleep(Micros(200'000));
    pump_ = world_.fibres.start(group, name("pump"), [this] { pump(); });
    world_.fibres.start(group, name("beat"), [this] { beat(); });
    world_.fibres.start(group, name("keep"), [this] { keep(); });
    world_.fibres.start(group, name("watchdog"), [this] { watchdog(); });
  });
}

void Process::wake() {
  woken_ = true;
  if (pump_) world_.fibres.wake(pump_, world_.between(Micros(10), Micros(20'000)));
}

void Process::pump() {
  Micros trouble{}, look_in = kLookMax;
  while (true) {
    if (trouble > Micros::zero())
      world_.fibres.sleep(trouble);
    else if (!woken_ && finished_.empty())
      world_.fibres.wait(look_in);
    woken_ = false;
    auto batch = std::exchange(finished_, {});
    struct Held {
      std::map<std::int64_t, int> by_connection;
    } held;
    for (const auto& one : waiting_) ++held.by_connection[one.lane.connection_id];
    for (const auto& run : runs_)
      held.by_connection[run->claimed.front().lane.connection_id] += static_cast<int>(run->claimed.size());
    const jobs::ClaimLimits limits{.jobs_max = may_begin_ ? 20 - static_cast<int>(waiting_.size()) : 0,
                                   .room =
                                       [held](const jobs::Lane& lane) {
                                         const auto found = held.by_connection.find(lane.connection_id);
                                         return kRunsPerConnection * lane.kind->batch_max -
                                                (found == held.by_connection.end() ? 0 : found->second);
                                       },
                                   .idle = runs_.empty() && waiting_.empty()};

    jobs::Queue::Turn turn;
    bool failed = false;
    if (unsure_) {
      auto known = in_hand();
      for (const auto& one : batch) known.emplace(one.claimed.job.id, one.claimed.job.fence);
      std::int64_t lost = 0;
      failed = !tried("put back", [&] { lost = queue_.put_back_unknown(node_.id(), known); });
      if (lost > 0) world_.hit(Fault::lost_claim);
      unsure_ = failed;
    }
    if (failed) {
      turn.endings.assign(batch.size(), Ending::later);
    } else {
      const Doing doing(world_, {.what = "turn", .finished = batch});
      try {
        if (limits.jobs_max > 0)
          turn = queue_.turn(batch, node_.id(), limits);
        else
          turn.endings = queue_.finish(batch);
      } catch (const Error& error) {
        expected(error, "turn");
        failed = true;
        unsure_ |= limits.jobs_max > 0;
        turn.endings.assign(batch.size(), Ending::later);
      }
    }
    bool later = false;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      world_.note(fmt::format("job {} fence {}: {}", batch[i].claimed.job.id, batch[i].claimed.job.fence,
                              turn.endings[i] == Ending::recorded   ? "recorded"
                              : turn.endings[i] == Ending::refused  ? "refused"
                              : turn.endings[i] == Ending::repeated ? "repeated"
                                                                    : "later"));
      if (turn.endings[i] == Ending::recorded) around_.checks.recorded(batch[i].claimed);
      if (turn.endings[i] == Ending::refused) world_.hit(Fault::late_completion);
      if (turn.endings[i] != Ending::later) continue;
      finished_.push_back(std::move(batch[i]));
      later = true;
    }
    trouble = failed || later || turn.claims.node_lost ? Micros(50'000) : Micros::zero();
    look_in = std::clamp(turn.claims.next.value_or(kLookMax), Micros(2000), kLookMax);
    if ((turn.claims.more || turn.claims.alone_waits) && !finished_.empty()) woken_ = true;
    for (auto& claimed : turn.claims.jobs) {
      around_.checks.claimed(claimed);
      if (claimed.node_id == node_.id()) waiting_.push_back(std::move(claimed));
    }
    begin_runs();
  }
}

bool Process::holds(std::int64_t job_id) const {
  if (!node_.fresh()) return false;
  for (const auto& run : runs_)
    for (const auto& claimed : run->claimed)
      if (claimed.job.id == job_id && claimed.node_id == node_.id() && !run->abandoned) return true;
  return false;
}

std::set<std::pair<std::int64_t, std::int64_t>> Process::in_hand() const {
  std::set<std::pair<std::int64_t, std::int64_t>> ids;
  for (const auto& claimed : waiting_) ids.emplace(claimed.job.id, claimed.job.fence);
  for (const auto& run : runs_)
    for (const auto& claimed : run->claimed) ids.emplace(claimed.job.id, claimed.job.fence);
  return ids;
}

void Process::begin_runs() {
  while (may_begin_ && node_.fresh() && !alone_ && !waiting_.empty() && static_cast<int>(runs_.size()) < kRunsMax) {
    const auto room = [&](const Claimed& claimed) {
      const auto same = std::count_if(runs_.begin(), runs_.end(), [&](const auto& run) {
        return run->claimed.front().lane.connection_id == claimed.lane.connection_id;
      });
      return same < kRunsPerConnection && !(claimed.alone && !runs_.empty());
    };
    const auto first = std::find_if(waiting_.begin(), waiting_.end(), room);
    if (first == waiting_.end()) return;
    auto run = std::make_shared<Run>();
    const auto lane = first->lane.id;
    const auto most = static_cast<std::size_t>(first->lane.kind->batch_max);
    for (auto next = first; next != waiting_.end() && run->claimed.size() < most;) {
      const bool single = next->alone || next->probe;
      if (next->lane.id != lane || (single && !run->claimed.empty())) {
        ++next;
        continue;
      }
      run->claimed.push_back(std::move(*next));
      next = waiting_.erase(next);
      if (single) break;
    }
    run->alone = alone_ = run->claimed.front().alone;
    run->deadline = clock_.steady() + kTimeLimit;
    for (const auto& claimed : run->claimed)
      for (Process* other : around_.processes())
        if (other != this && other->life().alive() && other->holds(claimed.job.id) && node_.fresh())
          world_.violate("I2",
                         fmt::format("{} and {} both run job {}", life_->name, other->life().name, claimed.job.id));
    runs_.push_back(run);
    world_.fibres.start(
        life_->group, life_->name + ".run", [this, run] { work_on(run); }, world_.between(Micros(10), Micros(2000)));
  }
}

std::vector<Outcome> Process::attempt(const std::vector<jobs::Job>& jobs, const jobs::Kind& kind,
                                      std::stop_token stop) {
  const Doing doing(world_, {.what = "run"});
  try {
    return kind.handler->run(jobs, stop);
  } catch (const Error& error) {
    return std::vector<Outcome>(jobs.size(), jobs::failed(error));
  }
}

void Process::work_on(const std::shared_ptr<Run>& run) {
  std::vector<Outcome> outcomes(run->claimed.size());
  std::vector<jobs::Job> all;
  std::vector<std::size_t> places;
  const auto suspect = [](const Claimed& claimed) { return claimed.job.interruptions > 0; };
  std::set<std::int64_t> begun;
  if (std::any_of(run->claimed.begin(), run->claimed.end(), suspect)) {
    for (const auto& claimed : run->claimed) around_.checks.begins(claimed);
    tried("begin", [&] { begun = jobs::Queue::begin(store_, run->claimed); });
  }
  for (std::size_t i = 0; i < run->claimed.size(); ++i) {
    if (suspect(run->claimed[i]) && !begun.contains(run->claimed[i].job.id)) {
      outcomes[i] = jobs::snooze(Micros::zero());
      continue;
    }
    all.push_back(run->claimed[i].job);
    places.push_back(i);
  }
  if (!all.empty()) {
    auto answers = attempt(all, *run->claimed.front().lane.kind, run->stop.get_token());
    if (answers.size() != all.size()) return world_.violate("errors", "not an outcome for each job");
    for (std::size_t i = 0; i < answers.size(); ++i) outcomes[places[i]] = std::move(answers[i]);
  }
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (outcomes[i].kind == Error::Kind::bug && outcomes[i].what != Outcome::What::done &&
        outcomes[i].what != Outcome::What::snooze)
      world_.violate("errors", fmt::format("job {} ended in a bug: {} ({})", run->claimed[i].job.id,
                                           outcomes[i].message, outcomes[i].detail));
    finished_.push_back({std::move(run->claimed[i]), std::move(outcomes[i])});
  }
  if (!run->abandoned) {
    if (run->alone) alone_ = false;
    runs_.remove(run);
  }
  wake();
  begin_runs();
}

void Process::beat() {
  while (true) {
    world_.fibres.sleep(node_.settings().beat);
    bool alive = true;
    const bool reached = tried("beat", [&] { alive = node_.beat(); });
    if (reached && !alive) {
      world_.note("was taken for dead");
      may_begin_ = false;
      for (const auto& run : runs_) run->stop.request_stop();
      const Gate::Turn turn(world_, node_gate_);
      if (tried("start", [&] { node_.start(); })) {
        std::erase_if(waiting_, [&](const Claimed& claimed) { return claimed.node_id != node_.id(); });
        alive = true;
      }
    }
    const bool fresh = alive && node_.fresh();
    if (std::exchange(may_begin_, fresh) && !fresh)
      for (const auto& run : runs_) run->stop.request_stop();
    if (fresh) wake();
  }
}

void Process::keep() {
  Micros retained{};
  while (true) {
    world_.fibres.sleep(std::chrono::seconds(1));
    {
      const Gate::Turn turn(world_, node_gate_);
      tried("watch", [&] { node_.watch(); });
    }
    std::optional<std::int64_t> term;
    tried("campaign", [&] { term = leader_.campaign(); });
    if (!term) continue;
    tried("tick", [&] { scheduler_.tick(); });
    if (!world_.plan.retention || clock_.steady() < retained) continue;
    retained = clock_.steady() + std::chrono::seconds(5);
    tried("retention", [&] { retention_.step(); });
  }
}

void Process::watchdog() {
  while (true) {
    world_.fibres.sleep(std::chrono::seconds(1));
    const auto now = clock_.steady();
    const auto runs = runs_;
    if (may_begin_ && !node_.fresh()) {
      may_begin_ = false;
      for (const auto& run : runs) run->stop.request_stop();
    }
    for (const auto& run : runs) {
      if (now < run->deadline) continue;
      if (!std::exchange(run->asked, true)) run->stop.request_stop();
      if (now < run->deadline + kStuckGrace) continue;
      Error error(Error::Kind::in_doubt, "the handler did not come back within its time limit");
      error.code = "timeout";
      for (const auto& claimed : run->claimed) finished_.push_back({claimed, jobs::failed(error)});
      run->abandoned = true;
      if (run->alone) alone_ = false;
      runs_.remove(run);
      world_.hit(Fault::handler_stuck);
      world_.note("a handler does not come back");
      wake();
    }
  }
}

void Process::enqueue(const jobs::NewJob& job, std::function<void(const jobs::Enqueued&, Micros)> then) {
  world_.fibres.start(life_->group, life_->name + ".cause", [this, job, then = std::move(then)] {
    tried("enqueue", [&] {
      jobs::Enqueued enqueued;
      Micros at{};
      store_.write([&](store::Session& session) {
        enqueued = jobs::enqueue(session, job);
        at = world_.fibres.now();
      });
      then(enqueued, at);
    });
  });
}

void Process::put(const pipeline::InboxPut& put,
                  std::function<void(const pipeline::InboxReceipt*, const Error*)> then) {
  world_.fibres.start(life_->group, life_->name + ".intake", [this, put, then = std::move(then)] {
    const Gate::Turn turn(world_, inbox_gate_);
    const Doing doing(world_, {.what = "intake"});
    try {
      const auto receipt = inbox_.put(put);
      then(&receipt, nullptr);
    } catch (const Error& error) {
      then(nullptr, &error);
    }
  });
}

}  // namespace dragoman::simulation
