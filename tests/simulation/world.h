#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "jobs/queue.h"
#include "simulation/fibres.h"

namespace dragoman::simulation {

inline constexpr Fibres::Group kWorld = 0, kRemote = 1;

/// What goes wrong. Every one of them has to happen in the seeds of a test, or the test fails.
enum class Fault {
  call_refused,          ///< no connection: the remote never heard of it
  call_lost,             ///< sent, and lost on its way
  answer_lost,           ///< done by the remote, and its answer lost
  reset_after_commit,    ///< done by the remote, then the connection was reset
  answer_garbled,        ///< done by the remote, and the answer makes no sense
  call_slow,             ///< takes long, and still ends in time
  call_late,             ///< arrives when the caller has long given up
  call_doubled,          ///< the remote sees it twice
  calls_reordered,       ///< overtaken by a later one
  handler_stuck,         ///< no answer for longer than the job's time limit and its grace
  remote_busy,           ///< 429 with Retry-After
  remote_down,           ///< for a while
  two_callers,           ///< at the remote, with the same key at once
  crash_before_write,    ///< the process dies where it was about to write
  crash_in_transaction,  ///< ... before it commits
  crash_after_commit,    ///< ... before it has heard that it committed
  crash_on_network,      ///< ... before it sends, or while it waits, or with the answer in its hands
  crash_at_step,         ///< ... at a named step of the program
  crash_by_a_job,        ///< ... whenever it touches a certain record
  store_away,            ///< the database is not reached
  store_in_doubt_lost,   ///< cut off while it committed; it did not
  store_in_doubt_done,   ///< cut off while it committed; it did
  store_again,           ///< a transaction runs a second time
  database_clock_forward,
  database_clock_back,
  node_clock_forward,
  node_clock_back,
  node_stopped,     ///< for twice its lease, then woken
  intake_lost,      ///< a sender's request, or its acknowledgement
  intake_doubled,   ///< a sender's request comes twice, perhaps at another node
  late_completion,  ///< a node ends a job that was taken from it: its own doing, and refused
  lost_claim,       ///< a claim was committed, and the node did not hear of it
  count
};
std::string_view name(Fault fault);

/// What a simulation does besides following its seed.
struct Plan {
  int nodes = 1;
  /// The partner without idempotency as well as Odoo. What nobody could survive with such a one (requests that arrive
  /// late or twice, a process that is stopped between its last look at the lease and its call) is left out then.
  bool plain_partner = false;
  int senders = 2, puts = 5, keys = 3;
  int changes = 12;                                 ///< that somebody has to look at
  Micros trouble_least = std::chrono::seconds(15);  ///< so long things go wrong, even if the senders are done before
  double crash = 0;                                 ///< at each point
  int crashes_max = 6;
  std::int64_t crash_at = 0;  ///< at this point, once; 0: nowhere in particular
  double network = 0;         ///< a call meets a fault
  double store = 0;           ///< a transaction meets a fault
  bool jumps = false;         ///< of clocks
  bool stops = false;         ///< of nodes
  bool outages = false;       ///< of remotes
  bool retention = false;     ///< jobs are deleted soon after they ended
  bool pauses = false;        ///< by a person, of a connection, a flow or a kind
  bool deadly = false;        ///< a record kills the process that sends it

  // Deliberately wrong programs, which the checks have to catch.
  struct Rewrite {
    std::string from, to;
  };
  std::vector<Rewrite> rewrites{};  ///< of the program's SQL
  bool effect_first = false;        ///< the intent is recorded after the effect
};
/// A plan of the seed's own making.
Plan plan_of(std::uint64_t seed);

class World;

/// A process's or the database's clock: the virtual time, by its own idea of the wall clock.
class SimClock final : public Clock {
 public:
  SimClock(const Fibres& fibres, Micros wall) : fibres_(fibres), wall_(wall) {}
  Time now() const override { return from_us(1'790'000'000'000'000) + wall_ + fibres_.now(); }
  Micros steady() const override { return Micros(std::chrono::hours(1)) + fibres_.now(); }
  bool wait(Micros, std::stop_token) override;
  void jump(Micros by) { wall_ += by; }

 private:
  const Fibres& fibres_;
  Micros wall_;
};

/// What a process is about to commit, so that the checks know what to hold it to.
struct Deed {
  std::string_view what;  ///< `turn`, `beat`, `watch`, `start`, `intend`, `intake`, `person` …
  std::span<const jobs::Finished> finished{};
};

/// What all parts of a simulation share: time, chance, the log of events, and what was found wrong.
class World {
 public:
  World(Threads& threads, std::uint64_t seed, Plan plan);

  Fibres fibres;
  const Plan plan;
  const std::uint64_t seed;
  SimClock database_clock;

  bool faults = true;
  std::int64_t points = 0;
  int crashes = 0;
  bool in_transaction = false;
  std::map<int, Deed> deeds;   ///< by fibre
  std::int64_t rewritten = 0;  ///< statements that Plan::rewrites changed

  bool chance(double probability) { return dice_.unit() < probability; }
  bool fault(double probability) { return faults && probability > 0 && chance(probability); }
  std::int64_t between(std::int64_t least, std::int64_t most);
  Micros between(Micros least, Micros most) { return Micros(between(least.count(), most.count())); }
  std::uint64_t next() { return dice_.next(); }

  void hit(Fault fault) { ++faults_[fault]; }
  void note(std::string_view event);
  /// Ends the simulation.
  void violate(std::string_view invariant, const std::string& what);

  const std::string& log() const { return log_; }
  const std::map<Fault, int>& hits() const { return faults_; }
  const std::vector<std::string>& violations() const { return violations_; }
  std::map<std::string, int, std::less<>> points_seen, killed_at;

 private:
  SeededRandom dice_;
  std::string log_;
  std::map<Fault, int> faults_;
  std::vector<std::string> violations_;
};

/// One life of a process: from its start to its end, by whatever means.
class Life {
 public:
  Life(World& the_world, Fibres::Group its_group, std::string its_name)
      : world(the_world), group(its_group), name(std::move(its_name)) {}

  World& world;
  const Fibres::Group group;
  const std::string name;

  /// Here it may die. `as`: how that is counted.
  void point(std::string_view where, Fault as);
  [[noreturn]] void die(std::string_view where, Fault as);
  bool alive() const { return !world.fibres.killed(group); }
};

/// Says what is being committed while it lives.
class Doing {
 public:
  Doing(World& world, Deed deed) : world_(world), fibre_(world.fibres.current()), before_(world.deeds[fibre_]) {
    world.deeds[fibre_] = deed;
  }
  ~Doing() { world_.deeds[fibre_] = before_; }
  Doing(const Doing&) = delete;
  Doing& operator=(const Doing&) = delete;

 private:
  World& world_;
  const int fibre_;
  const Deed before_;
};

/// A lock for fibres: whoever waits for it lets the others run.
class Gate {
 public:
  class Turn {
   public:
    Turn(World& world, Gate& gate) : gate_(gate) {
      while (gate.held_) world.fibres.sleep(Micros(1000));
      gate.held_ = true;
    }
    ~Turn() { gate_.held_ = false; }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Gate& gate_;
  };

 private:
  bool held_ = false;
};

}  // namespace dragoman::simulation
