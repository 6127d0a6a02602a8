#include "jobs/runner.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <set>
#include <thread>

#include "base/log.h"
#include "jobs/concurrency.h"

namespace dragoman::jobs {
namespace {

using What = Outcome::What;

// Claimed jobs that wait for a thread, in all. They are what others could do meanwhile, and what is in doubt if this
// process dies.
constexpr int kWaitingMax = 1000;
// While jobs are quick, so much time's worth of them is claimed ahead: a commit takes about a tenth of it.
constexpr double kAheadSeconds = 0.05;
// So many runs of a connection begin although every thread is taken: other connections may hold those for as long as
// their remotes hang, and that is not to be this one's trouble.
constexpr int kOwnThreads = 2;
// However full those lanes are that can't begin, so much can be claimed for the others.
constexpr int kClaimMin = 100;
// What would wait longer here is given back: a remote takes less at once than it did, and other nodes, or jobs that
// matter more, are in the way of nothing.
constexpr double kWaitSeconds = 1;
constexpr std::size_t kFinishMax = 1000;
// Notifications wake at once; this is for what nobody notified.
constexpr Micros kLookMax = std::chrono::seconds(1);
constexpr Micros kTroubleFirst = std::chrono::milliseconds(50), kTroubleMax = std::chrono::seconds(2);
// How late a node's death may be seen, on top of its lease.
constexpr Micros kLookAtOthers = std::chrono::milliseconds(500);
constexpr Micros kWatchdogTick = std::chrono::milliseconds(100);
constexpr Micros kNewerProgram = std::chrono::seconds(10);
constexpr int kRetentionSteps = 20;

struct Run {
  std::vector<Claimed> claimed;
  Lane lane;
  int jobs = 0;
  bool alone = false;
  std::stop_source stop;
  Micros began{}, deadline{};
  bool asked = false;      // to stop, because of its time limit
  bool abandoned = false;  // its jobs were taken from it
};

struct OfLane {
  Lane lane;
  std::deque<Claimed> waiting;
  int running = 0;
  double rate = 0;  // jobs ended per second
  int ended = 0;    // since the rate was measured
};

/// All that worker threads touch. Shared, because one that never came back may outlive the Runner.
struct Pool {
  Pool(RunnerSettings s, store::Store& st, Clock& c, const Node& n)
      : settings(std::move(s)), store(st), clock(c), node(n) {}

  const RunnerSettings settings;
  store::Store& store;
  Clock& clock;
  const Node& node;  // not to be asked while stopping: it may be gone

  std::mutex mutex;
  std::condition_variable work, pump, quiet;
  std::map<std::int64_t, OfLane> lanes;
  std::map<std::int64_t, Concurrency> connections;
  std::vector<Finished> finished;
  std::set<std::shared_ptr<Run>> runs;  // not the abandoned ones
  std::size_t turn = 0;                 // lanes of one urgency take turns
  int waiting = 0;
  int idle = 0;  // threads without a run, those included that are about to begin
  int stuck = 0;
  bool woken = true;   // there may be something to claim
  bool alone = false;  // a job runs that wants no other beside it
  bool may_begin = true;
  bool stopping = false;
  std::int64_t done = 0, failed = 0;

  Concurrency& concurrency(const Lane& lane) {
    const int max =
        lane.connection_id == 0 ? settings.threads : std::min(settings.threads, settings.per_connection_max);
    return connections.try_emplace(lane.connection_id, max, lane.connection_id == 0 ? max : 4).first->second;
  }

  /// Whether this lane's first may begin, as far as places and threads go. With the lock.
  bool may_run(const OfLane& lane) {
    if (lane.waiting.empty()) return false;
    const auto& its = concurrency(lane.lane);
    return its.has_room() && (static_cast<int>(runs.size()) < settings.threads || its.running() < kOwnThreads);
  }

  /// Whether something may begin that no thread is free for. With the lock.
  bool lacks_threads() {
    return idle == 0 && static_cast<int>(runs.size()) >= settings.threads && !stopping && may_begin && !alone &&
           std::any_of(lanes.begin(), lanes.end(), [&](const auto& one) { return may_run(one.second); });
  }

  /// The next jobs to run, of the lane whose first is the most urgent; nullptr: nothing may begin. With the lock.
  std::shared_ptr<Run> pick() {
    if (stopping || !may_begin || alone || waiting == 0 || !node.fresh()) return nullptr;
    OfLane* best = nullptr;
    std::size_t at = 0, best_at = 0;
    const auto count = lanes.size();
    for (auto& [id, lane] : lanes) {
      const auto place = (at++ + count - turn % count) % count;
      if (!may_run(lane)) continue;
      if (lane.waiting.front().alone && !runs.empty()) continue;
      const auto rank = [&](const OfLane& l, std::size_t p) { return std::pair(l.waiting.front().priority, p); };
      if (best && rank(*best, best_at) <= rank(lane, place)) continue;
      best = &lane;
      best_at = place;
    }
    if (!best) return nullptr;
    ++turn;
    auto run = std::make_shared<Run>();
    const auto most = static_cast<std::size_t>(best->lane.kind->batch_max);
    while (!best->waiting.empty() && run->claimed.size() < most) {
      auto& next = best->waiting.front();
      const bool single = next.alone || next.probe;
      if (single && !run->claimed.empty()) break;
      run->claimed.push_back(std::move(next));
      best->waiting.pop_front();
      if (single) break;
    }
    run->lane = best->lane;
    run->jobs = static_cast<int>(run->claimed.size());
    run->alone = alone = run->claimed.front().alone;
    waiting -= run->jobs;
    best->running += run->jobs;
    concurrency(best->lane).begin();
    run->began = clock.steady();
    run->deadline = run->began + best->lane.kind->time_limit;
    runs.insert(run);
    return run;
  }

  /// Books a run as over. With the lock.
  void end(const std::shared_ptr<Run>& run, Concurrency::Answer answer) {
    auto& lane = lanes[run->lane.id];
    lane.running -= run->jobs;
    lane.ended += run->jobs;
    const auto now = clock.steady();
    concurrency(run->lane).end(answer, now - run->began, run->jobs, now);
    if (run->alone) alone = false;
    runs.erase(run);
    // Whoever ended this run looks for the next by himself; the limit may have grown by one.
    if (run->alone)
      work.notify_all();
    else if (waiting > 0)
      work.notify_one();
    pump.notify_one();
    if (runs.empty()) quiet.notify_all();
  }
};

void name_thread(const std::string& name) {
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
}

Concurrency::Answer answer_of(const std::vector<Outcome>& outcomes) {
  bool answered = false;
  for (const auto& outcome : outcomes) {
    if (outcome.what == What::outage && (outcome.kind == Error::Kind::busy || outcome.kind == Error::Kind::unavailable))
      return Concurrency::Answer::strained;
    answered |= outcome.what != What::outage && outcome.what != What::snooze;
  }
  return answered ? Concurrency::Answer::fine : Concurrency::Answer::nothing;
}

/// Runs the handler over those jobs whose payload it can read; one outcome per job, in their order.
std::vector<Outcome> attempt(store::Store& store, Run& run) {
  const Kind& kind = *run.claimed.front().lane.kind;
  std::vector<Outcome> outcomes(run.claimed.size());
  std::vector<Job> jobs;
  std::vector<std::size_t> places;
  const auto suspect = [](const Claimed& claimed) { return claimed.job.interruptions > 0; };
  std::set<std::int64_t> begun;
  if (std::any_of(run.claimed.begin(), run.claimed.end(), suspect)) {
    try {
      begun = Queue::begin(store, run.claimed);
    } catch (const Error& error) {
      ignore_error("what can't be written down as begun does not begin", error);
    }
  }
  for (std::size_t i = 0; i < run.claimed.size(); ++i) {
    Job job = run.claimed[i].job;
    if (suspect(run.claimed[i]) && !begun.contains(job.id)) {
      outcomes[i] = snooze(Micros::zero());
      continue;
    }
    if (job.payload_version > kind.payload_version) {
      outcomes[i] = snooze(kNewerProgram);
      outcomes[i].message = fmt::format("its payload is of version {}, which a newer program wrote; this one reads {}",
                                        job.payload_version, kind.payload_version);
      continue;
    }
    if (job.payload_version < kind.payload_version && kind.upgrade) {
      try {
        job.payload = kind.upgrade(job.payload, job.payload_version);
        job.payload_version = kind.payload_version;
      } catch (const Error& error) {
        outcomes[i] = failed(error);
        outcomes[i].what = What::dead;
        continue;
      }
    }
    jobs.push_back(std::move(job));
    places.push_back(i);
  }
  if (jobs.empty()) return outcomes;

  const auto all = [&](const Outcome& outcome) {
    for (const auto place : places) outcomes[place] = outcome;
  };
  try {
    auto answers = kind.handler->run(jobs, run.stop.get_token());
    if (answers.size() != jobs.size())
      throw Error(Error::Kind::bug, fmt::format("the handler of {} gave {} outcomes for {} jobs", kind.name,
                                                answers.size(), jobs.size()));
    for (std::size_t i = 0; i < places.size(); ++i) outcomes[places[i]] = std::move(answers[i]);
  } catch (const Error& error) {
    all(failed(error));
  } catch (const std::exception& error) {
    all(failed(Error(Error::Kind::bug, fmt::format("the handler of {} failed", kind.name), error.what())));
  }
  return outcomes;
}

void work_on(const std::shared_ptr<Pool>& pool, const std::shared_ptr<Run>& run) {
  std::vector<Outcome> outcomes;
  try {
    outcomes = attempt(pool->store, *run);
  } catch (const std::exception& error) {
    outcomes.assign(run->claimed.size(), failed(Error(Error::Kind::bug, "a job could not be run", error.what())));
  }
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const auto& outcome = outcomes[i];
    if (outcome.what == What::done || outcome.what == What::snooze || outcome.what == What::cancel) continue;
    const auto& job = run->claimed[i].job;
    const bool dead = outcome.what == What::dead;
    log::write(dead ? log::Level::warning : log::Level::debug, dead ? "a job is dead" : "a job failed",
               {{"job", job.id},
                {"kind", job.kind},
                {"connection", job.connection_id},
                {"attempt", job.attempt},
                {"error", outcome.message},
                {"code", outcome.code},
                {"detail", outcome.detail}});
  }
  const auto answer = answer_of(outcomes);
  std::lock_guard lock(pool->mutex);
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    ++(outcomes[i].what == What::done ? pool->done : pool->failed);
    pool->finished.push_back({std::move(run->claimed[i]), std::move(outcomes[i])});
  }
  if (run->abandoned) {
    // Its jobs went on without it; what it says is refused, and told in their histories.
    --pool->stuck;
    pool->pump.notify_one();
    return;
  }
  pool->end(run, answer);
}

void worker(const std::shared_ptr<Pool>& pool, int number) {
  name_thread(fmt::format("job-{}", number));
  while (true) {
    std::shared_ptr<Run> run;
    {
      std::unique_lock lock(pool->mutex);
      pool->work.wait(lock, [&] { return pool->stopping || (run = pool->pick()); });
      --pool->idle;
      if (!run) return;
      // It was the last one, and more could begin: the pump sees to that.
      if (pool->lacks_threads()) pool->pump.notify_one();
    }
    work_on(pool, run);
    std::lock_guard lock(pool->mutex);
    if (run->abandoned) return;  // another thread took its place
    ++pool->idle;
  }
}

}  // namespace

class Runner::Impl {
 public:
  Impl(store::Store& store, const Kinds& kinds, Clock& clock, Random& random, RunnerSettings settings)
      : settings_(settings),
        store_(store),
        clock_(clock),
        queue_(store, kinds, random, settings.node.name),
        node_(queue_, clock, settings.node),
        leader_(store, node_, "upkeep"),
        retention_(store, settings.retention),
        pool_(std::make_shared<Pool>(std::move(settings), store, clock, node_)) {}

  void start() {
    node_.start();
    {
      std::lock_guard lock(pool_->mutex);
      for (int i = 0; i < settings_.threads; ++i) add_worker();
    }
    threads_.emplace_back([this](std::stop_token stop) { listen(stop); });
    threads_.emplace_back([this](std::stop_token stop) { beat(stop); });
    threads_.emplace_back([this](std::stop_token stop) { keep(stop); });
    watchdog_ = std::jthread([this](std::stop_token stop) { watch(stop); });
    pump_ = std::jthread([this](std::stop_token stop) { pump(stop); });
    started_ = true;
  }

  int stop() {
    if (!started_.exchange(false)) return 0;
    std::vector<std::shared_ptr<Run>> under_way;
    {
      std::lock_guard lock(pool_->mutex);
      pool_->stopping = true;
      under_way.assign(pool_->runs.begin(), pool_->runs.end());
      give_back_waiting();
    }
    pool_->work.notify_all();
    pool_->pump.notify_all();
    for (const auto& run : under_way) run->stop.request_stop();

    const auto until = std::chrono::steady_clock::now() + settings_.stop_grace;
    bool clean = false;
    {
      std::unique_lock lock(pool_->mutex);
      pool_->quiet.wait_until(lock, until, [&] { return pool_->runs.empty(); });
      // What they said last is recorded by the pump, which ends when there is nothing left to record.
      clean = pool_->quiet.wait_until(lock, std::max(until, std::chrono::steady_clock::now() + kTroubleMax),
                                      [&] { return pool_->runs.empty() && pool_->finished.empty() && !recording_; });
    }
    {
      std::lock_guard lock(pool_->mutex);
      pump_.request_stop();
    }
    pool_->pump.notify_all();
    pump_.join();
    for (auto& thread : threads_) thread.request_stop();
    watchdog_.request_stop();
    threads_.clear();
    watchdog_ = {};

    int stuck = 0;
    {
      std::lock_guard lock(pool_->mutex);
      stuck = pool_->stuck + static_cast<int>(pool_->runs.size());
    }
    for (auto& thread : workers_) {
      if (stuck > 0)
        thread.detach();
      else
        thread.join();
    }
    workers_.clear();
    try {
      leader_.resign();
      // A node that leaves something running is for others to rescue.
      if (clean && stuck == 0) node_.stop();
    } catch (const Error& error) {
      ignore_error("the next start finds what this one left", error);
    }
    return stuck;
  }

  Status status() {
    Status status;
    status.node_id = node_.id();
    status.node = settings_.node.name;
    status.fresh = node_.fresh();
    std::lock_guard lock(pool_->mutex);
    for (const auto& run : pool_->runs) status.running += run->jobs;
    status.claimed = pool_->waiting;
    status.stuck = pool_->stuck;
    status.done = pool_->done;
    status.failed = pool_->failed;
    for (const auto& [id, one] : pool_->connections) status.limits[id] = one.limit();
    if (pool_->stuck > settings_.stuck_max)
      status.trouble = fmt::format("{} handlers of jobs do not come back: restart the hub", pool_->stuck);
    else if (started_ && !status.fresh)
      status.trouble = "the hub's heartbeat does not reach the database, so no job begins";
    return status;
  }

  Queue& queue() { return queue_; }
  Node& node() { return node_; }

 private:
  /// With the lock.
  void add_worker() {
    ++pool_->idle;
    workers_.emplace_back([pool = pool_, number = ++workers_made_] { worker(pool, number); });
  }

  /// With the lock.
  void give_back_waiting() {
    for (auto& [id, lane] : pool_->lanes) {
      for (auto& claimed : lane.waiting) pool_->finished.push_back({std::move(claimed), snooze(Micros::zero())});
      lane.waiting.clear();
    }
    pool_->waiting = 0;
  }

  void listen(std::stop_token stop) {
    name_thread("job-listen");
    std::uint64_t seen = 0;
    while (!stop.stop_requested()) {
      std::uint64_t now = seen;
      try {
        now = store_.wait(kJobsChannel, seen, std::chrono::seconds(5), stop);
      } catch (const Error& error) {
        ignore_error("the pump looks by itself every second", error);
        clock_.wait(kLookMax, stop);
      }
      if (std::exchange(seen, now) == now) continue;
      std::lock_guard lock(pool_->mutex);
      pool_->woken = true;
      pool_->pump.notify_one();
    }
  }

  void beat(std::stop_token stop) {
    name_thread("job-beat");
    bool told = false;
    while (clock_.wait(settings_.node.beat, stop)) {
      bool alive = true;
      try {
        alive = node_.beat();
        if (!alive) {
          log::warning("other nodes took this one for dead: what it runs is given up, and it registers anew",
                       {{"node", node_.id()}});
          give_up();
          node_.start();
          forget_claims_of_others();
          alive = true;
        }
        stop_unwanted();
        told = false;
      } catch (const Error& error) {
        if (!std::exchange(told, true))
          log::warning("the heartbeat does not reach the database", {{"error", error.message}});
      }
      const bool fresh = alive && node_.fresh();
      std::vector<std::shared_ptr<Run>> under_way;
      {
        std::lock_guard lock(pool_->mutex);
        if (std::exchange(pool_->may_begin, fresh) && !fresh) under_way.assign(pool_->runs.begin(), pool_->runs.end());
        pool_->woken |= fresh;
      }
      for (const auto& run : under_way) run->stop.request_stop();
      pool_->work.notify_all();
      pool_->pump.notify_one();
    }
  }

  /// Stops what somebody has cancelled. A run is stopped as a whole: those of its jobs that are wanted go back
  /// uncounted.
  void stop_unwanted() {
    const auto unwanted = queue_.unwanted(node_.id());
    if (unwanted.empty()) return;
    std::vector<std::shared_ptr<Run>> under_way;
    {
      std::lock_guard lock(pool_->mutex);
      for (auto& [id, lane] : pool_->lanes)
        for (auto one = lane.waiting.begin(); one != lane.waiting.end();) {
          if (!unwanted.contains(one->job.id)) {
            ++one;
            continue;
          }
          pool_->finished.push_back({std::move(*one), snooze(Micros::zero())});
          one = lane.waiting.erase(one);
          --pool_->waiting;
        }
      for (const auto& run : pool_->runs)
        if (std::any_of(run->claimed.begin(), run->claimed.end(),
                        [&](const Claimed& claimed) { return unwanted.contains(claimed.job.id); }))
          under_way.push_back(run);
    }
    for (const auto& run : under_way) run->stop.request_stop();
  }

  /// Others have what this node had: nothing of it may go on, and nothing it says counts.
  void give_up() {
    std::vector<std::shared_ptr<Run>> under_way;
    {
      std::lock_guard lock(pool_->mutex);
      under_way.assign(pool_->runs.begin(), pool_->runs.end());
      pool_->may_begin = false;
    }
    for (const auto& run : under_way) run->stop.request_stop();
  }

  void forget_claims_of_others() {
    std::lock_guard lock(pool_->mutex);
    for (auto& [id, lane] : pool_->lanes)
      pool_->waiting -= static_cast<int>(
          std::erase_if(lane.waiting, [&](const Claimed& claimed) { return claimed.node_id != node_.id(); }));
  }

  void keep(std::stop_token stop) {
    name_thread("job-keep");
    Micros retention_again{};
    while (clock_.wait(std::min(settings_.node.beat, kLookAtOthers), stop)) {
      try {
        node_.watch();
        if (!leader_.campaign() || clock_.steady() < retention_again) continue;
        bool more = true;
        for (int i = 0; i < kRetentionSteps && more && !stop.stop_requested(); ++i) more = retention_.step();
        if (!more) retention_again = clock_.steady() + std::chrono::minutes(1);
      } catch (const Error& error) {
        log::debug("looking after other nodes and old jobs failed, once more soon", {{"error", error.message}});
      }
    }
  }

  void watch(std::stop_token stop) {
    name_thread("job-watchdog");
    while (clock_.wait(kWatchdogTick, stop)) {
      std::vector<std::shared_ptr<Run>> late, stale;
      {
        std::lock_guard lock(pool_->mutex);
        const auto now = clock_.steady();
        // The beat itself may hang in the database, or this process have been stopped: whoever is about to begin an
        // effect has to hear that others may have the job by now.
        if (pool_->may_begin && !node_.fresh()) {
          pool_->may_begin = false;
          stale.assign(pool_->runs.begin(), pool_->runs.end());
        }
        const auto runs = pool_->runs;
        for (const auto& run : runs) {
          if (now < run->deadline) continue;
          if (!std::exchange(run->asked, true)) late.push_back(run);
          if (now >= run->deadline + settings_.stuck_grace && !pool_->stopping) abandon(run);
        }
      }
      for (const auto& run : stale) run->stop.request_stop();
      for (const auto& run : late) {
        log::warning("a handler has used up its time limit and is asked to stop",
                     {{"kind", run->lane.kind->name}, {"jobs", run->jobs}});
        run->stop.request_stop();
      }
    }
  }

  /// With the lock.
  void abandon(const std::shared_ptr<Run>& run) {
    const auto& kind = *run->lane.kind;
    Error error(Error::Kind::in_doubt, fmt::format("the handler did not come back within its time limit of {} s",
                                                   kind.time_limit.count() / 1'000'000));
    error.code = "timeout";
    for (const auto& claimed : run->claimed) pool_->finished.push_back({claimed, failed(error)});
    pool_->end(run, Concurrency::Answer::strained);
    run->abandoned = true;
    ++pool_->stuck;
    add_worker();
    log::error("a handler does not come back: its jobs are taken from it and its thread is written off",
               {{"kind", kind.name}, {"jobs", run->jobs}, {"written_off", pool_->stuck}});
  }

  /// What this node can take, copied so that the claim runs without the lock.
  struct Room {
    int jobs_max = 0;
    bool idle = false;
    struct OfConnection {
      int limit = 0, held = 0;
      double rate = 0;
    };
    std::map<std::int64_t, OfConnection> connections;
    int threads = 0, fresh_limit = 0;

    int operator()(const Lane& lane) const {
      const auto found = connections.find(lane.connection_id);
      const int limit =
          found == connections.end() ? (lane.connection_id == 0 ? threads : fresh_limit) : found->second.limit;
      const int held = found == connections.end() ? 0 : found->second.held;
      const double rate = found == connections.end() ? 0 : found->second.rate;
      return limit * lane.kind->batch_max + static_cast<int>(rate * kAheadSeconds) - held;
    }
  };

  /// With the lock.
  Room room(Micros now) {
    Room room;
    const double seconds = std::max(1e-3, static_cast<double>((now - measured_).count()) / 1e6);
    const bool measure = seconds > 0.02;
    if (measure) measured_ = now;
    room.jobs_max = pool_->stopping || !pool_->may_begin ? 0 : std::max(kWaitingMax - pool_->waiting, kClaimMin);
    room.idle = pool_->runs.empty() && pool_->waiting == 0;
    room.threads = settings_.threads;
    room.fresh_limit = std::min({4, settings_.threads, settings_.per_connection_max});
    for (const auto& [id, one] : pool_->connections) room.connections[id].limit = one.limit();
    for (auto& [id, lane] : pool_->lanes) {
      if (measure) {
        lane.rate += (lane.ended / seconds - lane.rate) * 0.3;
        lane.ended = 0;
      }
      auto& connection = room.connections[lane.lane.connection_id];
      if (connection.limit == 0) connection.limit = pool_->concurrency(lane.lane).limit();
      connection.held += lane.running + static_cast<int>(lane.waiting.size());
      connection.rate += lane.rate;
    }
    return room;
  }

  /// Gives back what would wait here too long: the last of each lane. With the lock.
  void give_back_too_much(const Room& room) {
    for (auto& [id, lane] : pool_->lanes) {
      const auto found = room.connections.find(lane.lane.connection_id);
      if (found == room.connections.end()) continue;
      const auto keep = static_cast<std::size_t>(std::max(found->second.limit * lane.lane.kind->batch_max,
                                                          static_cast<int>(found->second.rate * kWaitSeconds)));
      while (lane.waiting.size() > keep) {
        pool_->finished.push_back({std::move(lane.waiting.back()), snooze(Micros::zero())});
        lane.waiting.pop_back();
        --pool_->waiting;
      }
    }
  }

  /// What this node has in hand: jobs and their fences. With the lock.
  std::set<std::pair<std::int64_t, std::int64_t>> held() const {
    std::set<std::pair<std::int64_t, std::int64_t>> ids;
    for (const auto& [id, lane] : pool_->lanes)
      for (const auto& claimed : lane.waiting) ids.emplace(claimed.job.id, claimed.job.fence);
    for (const auto& run : pool_->runs)
      for (const auto& claimed : run->claimed) ids.emplace(claimed.job.id, claimed.job.fence);
    for (const auto& finished : pool_->finished) ids.emplace(finished.claimed.job.id, finished.claimed.job.fence);
    return ids;
  }

  void pump(std::stop_token stop) {
    name_thread("job-pump");
    Micros trouble{};
    bool more = false;    // a limit kept jobs back
    bool unsure = false;  // a claim failed, and may have been committed all the same
    auto look_at = std::chrono::steady_clock::now();
    while (true) {
      std::vector<Finished> batch;
      std::set<std::pair<std::int64_t, std::int64_t>> known;
      Room limits;
      {
        std::unique_lock lock(pool_->mutex);
        if (trouble > Micros::zero())
          pool_->pump.wait_for(lock, trouble, [&] { return stop.stop_requested(); });
        else
          pool_->pump.wait_until(lock, look_at, [&] {
            return stop.stop_requested() || pool_->woken || !pool_->finished.empty() || pool_->lacks_threads();
          });
        if (stop.stop_requested() && (pool_->finished.empty() || trouble > Micros::zero())) return;
        limits = room(clock_.steady());
        give_back_too_much(limits);
        if (unsure) known = held();
        pool_->woken = false;
        const auto count = std::min(pool_->finished.size(), kFinishMax);
        const auto end = pool_->finished.begin() + static_cast<std::ptrdiff_t>(count);
        batch.assign(std::make_move_iterator(pool_->finished.begin()), std::make_move_iterator(end));
        pool_->finished.erase(pool_->finished.begin(), end);
        recording_ = true;
      }
      Queue::Turn turn;
      bool failed = false;
      try {
        if (unsure) queue_.put_back_unknown(node_.id(), known);
        unsure = false;
        if (limits.jobs_max > 0)
          turn = queue_.turn(batch, node_.id(), {.jobs_max = limits.jobs_max, .room = limits, .idle = limits.idle});
        else
          turn.endings = queue_.finish(batch);
      } catch (const std::exception& error) {
        failed = true;
        unsure |= limits.jobs_max > 0;
        turn.endings.assign(batch.size(), Ending::later);
        if (trouble == Micros::zero())
          log::warning("jobs can't be claimed or recorded now, once more soon", {{"error", error.what()}});
      }
      more = turn.claims.more || turn.claims.alone_waits;
      look_at = std::chrono::steady_clock::now() +
                std::clamp(turn.claims.next.value_or(kLookMax), Micros(std::chrono::milliseconds(2)), kLookMax);
      trouble = failed ? std::clamp(trouble * 2, kTroubleFirst, kTroubleMax) : Micros::zero();

      std::lock_guard lock(pool_->mutex);
      recording_ = false;
      bool later = false;
      std::vector<Finished> left;
      for (std::size_t i = 0; i < batch.size(); ++i)
        if (turn.endings[i] == Ending::later) {
          left.push_back(std::move(batch[i]));
          later = true;
        }
      if (later) {
        pool_->finished.insert(pool_->finished.begin(), std::make_move_iterator(left.begin()),
                               std::make_move_iterator(left.end()));
        trouble = std::max(trouble, kTroubleFirst);
      }
      // Quick jobs that ended while this was written are more room for what a limit kept back.
      if (more && !pool_->finished.empty()) pool_->woken = true;
      if (turn.claims.node_lost) trouble = kTroubleFirst;
      for (auto& claimed : turn.claims.jobs) {
        if (claimed.node_id != node_.id()) continue;  // declared dead meanwhile: others have it
        auto& lane = pool_->lanes[claimed.lane.id];
        lane.lane = claimed.lane;
        // What was taken over from a dead node, or is urgent, was claimed after others and still comes before them.
        const auto rank = [](const Claimed& one) { return std::pair(one.priority, one.job.id); };
        auto place = lane.waiting.end();
        while (place != lane.waiting.begin() && rank(claimed) < rank(*std::prev(place))) --place;
        lane.waiting.insert(place, std::move(claimed));
        ++pool_->waiting;
      }
      if (pool_->stopping) give_back_waiting();
      // One at a time: it takes its run, and tells if it lacks another.
      if (pool_->lacks_threads()) add_worker();
      if (turn.claims.jobs.size() == 1)
        pool_->work.notify_one();
      else if (!turn.claims.jobs.empty())
        pool_->work.notify_all();
      if (pool_->finished.empty()) pool_->quiet.notify_all();
    }
  }

  const RunnerSettings settings_;
  store::Store& store_;
  Clock& clock_;
  Queue queue_;
  Node node_;
  Leader leader_;
  Retention retention_;
  std::shared_ptr<Pool> pool_;
  std::atomic<bool> started_ = false;
  bool recording_ = false;  // with the pool's lock
  Micros measured_{};
  int workers_made_ = 0;
  std::vector<std::thread> workers_;
  std::vector<std::jthread> threads_;
  std::jthread watchdog_, pump_;
};

Runner::Runner(store::Store& store, const Kinds& kinds, Clock& clock, Random& random, RunnerSettings settings)
    : impl_(std::make_unique<Impl>(store, kinds, clock, random, std::move(settings))) {}

Runner::~Runner() {
  stop();
}

void Runner::start() {
  impl_->start();
}
int Runner::stop() {
  return impl_->stop();
}
Runner::Status Runner::status() {
  return impl_->status();
}
Queue& Runner::queue() {
  return impl_->queue();
}
Node& Runner::node() {
  return impl_->node();
}

}  // namespace dragoman::jobs
