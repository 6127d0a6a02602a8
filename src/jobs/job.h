#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "store/store.h"

namespace dragoman::jobs {

/// Numbers as stored. `discarded` is a dead letter: it waits for a person.
enum class State {
  available = 0,
  scheduled = 1,
  running = 2,
  retryable = 3,
  completed = 4,
  cancelled = 5,
  discarded = 6
};
std::string_view name(State state);

/// Smaller goes first.
enum class Priority { urgent = 0, high = 1, normal = 2, low = 3 };

/// How far a unique key reaches: over the jobs that have not begun (one that runs may have read an older state, so
/// another has to follow it), or over all that are not finished.
enum class Unique { waiting, unfinished };
/// What becomes of the payload of a job that is there already.
enum class Fold { keep, replace };

/// Who does something to jobs or schedules, and why.
struct Act {
  std::string who;
  std::string why{};
};

/// A job to be done. Enqueued in the transaction of whatever causes it, so that neither exists without the other.
struct NewJob {
  std::string kind;                ///< which handler: `odoo.import`
  std::string flow;                ///< which flow it belongs to: `inbox`; what people pause
  std::int64_t connection_id = 0;  ///< whose limits and breaker hold; 0: none
  std::string payload;             ///< bytes, the handler's own; most are JSON
  int payload_version = 1;         ///< of its shape: a newer program reads what an older one wrote
  Priority priority = Priority::normal;
  std::optional<Time> run_at{};  ///< not before, by the database's clock
  /// Jobs of one key run one at a time and in the order in which they were enqueued; the next waits while one is
  /// retried. Empty: no order.
  std::string order_key{};
  std::string unique_key{};  ///< empty: not unique
  Unique unique = Unique::waiting;
  Fold fold = Fold::keep;
  std::string cause{};  ///< shown: `change 1234`, `inbox 77`
};

struct Enqueued {
  std::int64_t id = 0;  ///< of the new job, or of the one that it was folded into
  bool folded = false;
};

/// A job as its handler gets it.
struct Job {
  std::int64_t id = 0;
  std::string kind, flow;
  std::int64_t connection_id = 0;
  std::string payload;
  int payload_version = 1;
  std::string order_key, unique_key, cause;
  int attempt = 1;  ///< this one included; outages are not counted
  int attempts_max = 0;
  int interruptions = 0;  ///< how often the process died that ran it
  /// An earlier attempt was interrupted, timed out or ended in doubt: its effect may have been applied.
  bool in_doubt = false;
  std::int64_t fence = 0;  ///< grows with every claim; a completion with an older one is refused
  Time enqueued_at{};
};

/// How one attempt at one job ended. Made by the functions below.
struct Outcome {
  enum class What {
    done,    ///< completed
    retry,   ///< failed; tried again with backoff until its tries are used up, then a dead letter
    outage,  ///< says nothing about the job: goes back uncounted, and the connection's breaker hears of it
    snooze,  ///< not yet: goes back for `delay`, uncounted
    dead,    ///< will never work as it is: a dead letter now
    cancel   ///< not wanted any more: ends as cancelled, nobody is told
  };
  What what = What::done;
  Micros delay{0};  ///< of snooze; of retry and outage: what the remote asked for (`Retry-After`), or 0
  Error::Kind kind = Error::Kind::bug;
  std::string code, message, detail;  ///< of what failed; `detail` for the log only
  /// Of outage: it is about jobs of this lane alone (what they need at the remote is not there), so the connection's
  /// others go on. The lane waits until one of its jobs gets through, or somebody says that the connection is well.
  bool lane_only = false;
  std::string result{};  ///< of done: shown with the job
  /// Written in the transaction that ends the attempt (mapping, sync log, audit …); not called, and nothing of it
  /// kept, where the lease was lost. May be called more than once (a transaction that is run again).
  std::function<void(store::Session&)> commit{};
};

Outcome done(std::function<void(store::Session&)> commit = {}, std::string result = {});
Outcome snooze(Micros delay);
Outcome cancel(std::string why);
/// What an Error means for a job, by `policy()`: unavailable, busy, auth and cancelled are about the connection
/// (outage), in_doubt is retried (the handler sees `Job::in_doubt`), invalid, protocol, conflict, not_found and
/// forbidden are dead at once, as is bug.
Outcome failed(const Error& error);

/// Does jobs of one kind.
///
/// Threads: `run` is called from many threads at once.
class Handler {
 public:
  virtual ~Handler() = default;
  /// Attempts the jobs: all of one lane, no two with one order key, at most `Kind::batch_max`. One outcome each, in
  /// their order. An Error thrown is the outcome of all of them. `stop` is asked when the hub stops, the lease is lost,
  /// or the time limit is near: what has not begun then should not begin; return snooze(0) for it.
  virtual std::vector<Outcome> run(std::span<const Job> jobs, std::stop_token stop) = 0;
};

/// What somebody wants a job to be given.
struct Wanted {
  const std::string& payload;  ///< of today's version
  std::string connector{};     ///< the kind of its connection; empty: it has none
  /// Of a job that is edited: what it was given until now.
  const std::string* before = nullptr;
};

/// A kind of job: its handler and its rules.
struct Kind {
  std::string name;
  std::string summary;  ///< one line, shown
  Handler* handler = nullptr;
  int batch_max = 1;
  int attempts_max = 10;
  Micros time_limit = std::chrono::minutes(5);  ///< of one run, whole batch
  Micros backoff_first = std::chrono::seconds(1), backoff_max = std::chrono::hours(1);
  bool dead_parks = true;   ///< a dead letter keeps the later jobs of its order key waiting
  int payload_version = 1;  ///< what the handler reads; older payloads are shown to `upgrade` first
  /// Turns the payload of an older version into today's. Throws invalid if it can't be: a dead letter, payload kept.
  std::function<std::string(const std::string& payload, int version)> upgrade{};
  /// Throws invalid, saying what is wrong, where a job of it could only ever fail, or an edited one would be about
  /// something else. Asked before a person's payload is taken, within a transaction: it must not use the store. May be
  /// empty.
  std::function<void(const Wanted&)> check{};
};

}  // namespace dragoman::jobs
