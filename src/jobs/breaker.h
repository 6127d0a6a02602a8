#pragma once

#include <optional>
#include <string>

#include "base/random.h"
#include "jobs/job.h"

namespace dragoman::jobs {

/// Keeps jobs from a connection whose remote does not answer: open for a while that doubles with every failure, then
/// one job probes. A remote that refuses our credentials is left alone until a person has acted. The state is a row, so
/// it is the same for all nodes, and after a restart.
///
/// Errors  as Store::write.
/// Threads as the Session.
namespace breaker {

enum class State { closed = 0, open = 1, probing = 2, held = 3 };

struct Status {
  State state = State::closed;
  int failures = 0;  ///< in a row
  Time since{}, until{};
  std::string code, message;
};
/// nullopt: closed.
std::optional<Status> status(store::Session& session, std::int64_t connection_id);

/// What came of a job, of outages or of probes.
struct Report {
  std::int64_t job_id = 0;
  bool probe = false;
  bool outage = false;
  bool answered = false;  ///< the remote said something about the job
  Outcome outcome{};      ///< of an outage: kind, code, message, delay
};
/// True if the connection's jobs may go on because of it.
bool report(store::Session& session, std::int64_t connection_id, const Report& report, Time now, Random& random);

/// One job of the connection may find out whether the remote answers again: true for one caller only. It says which job
/// by probe_with, or gives the right back.
bool begin_probe(store::Session& session, std::int64_t connection_id, std::int64_t node_id, Time now);
void probe_with(store::Session& session, std::int64_t connection_id, std::int64_t job_id);
void give_probe_back(store::Session& session, std::int64_t connection_id);

/// Of an outage that is about one lane alone (Outcome::lane_only): the lane is left alone for a while that doubles with
/// every failure, then one job tries. It has nothing to do with the state of the connection. `tried`: the job was that
/// one; what others say that were under way is nothing new.
void lane_lacks(store::Session& session, std::int64_t lane_id, const Outcome& outcome, bool tried, Time now,
                Random& random);
/// True for one caller, when the lane's time is up: it may claim one job.
bool begin_lane_try(store::Session& session, std::int64_t lane_id, Time now);
/// A job got through. True if the lane's jobs may go on because of it.
bool lane_is_well(store::Session& session, std::int64_t lane_id);
/// nullopt: it does not wait. `state` is always open.
std::optional<Status> lane_status(store::Session& session, std::int64_t lane_id);

/// A person has changed the connection, or says that it is well again: its breaker, and its lanes'. True if there was
/// anything to close.
bool reset(store::Session& session, std::int64_t connection_id);

}  // namespace breaker
}  // namespace dragoman::jobs
