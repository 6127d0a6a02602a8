#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/guarded.h"
#include "jobs/job.h"
#include "pipeline/connections.h"
#include "pipeline/target.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// What a connection's deliveries go to.
struct Destination {
  std::int64_t connection_id = 0;
  std::string connection;
  std::shared_ptr<Target> target;
};

/// The targets of the connections, opened when first needed and again when a connection was changed.
///
/// Threads: safe from any thread.
class Targets {
 public:
  Targets(Connections& connections, const ConnectorList& connectors, Clock& clock)
      : connections_(connections), connectors_(connectors), clock_(clock) {}

  /// Throws cancelled (code `connection_paused`) if the connection is paused, auth (code `connection_error`) if it is
  /// in error, not_found if there is none such, invalid if nothing can be delivered to its kind.
  Destination get(std::int64_t connection_id);

 private:
  struct Open {
    Time changed{};
    std::shared_ptr<Target> target;
  };
  Connections& connections_;
  const ConnectorList& connectors_;
  Clock& clock_;
  Guarded<std::map<std::int64_t, Open>> open_;
};

/// A job's payload: one record for a target.
struct DeliveryOrder {
  std::string model, key;
  std::int64_t version = 0;                 ///< 0: none given; each order then counts as newer than the one before
  std::string content;                      ///< as Outgoing
  std::int64_t inbox_id = 0, position = 0;  ///< where it came from; 0: elsewhere

  std::string json() const;
  /// Throws invalid, saying what is wrong.
  static DeliveryOrder parse(std::string_view payload);
};

/// Whether the records of a key come with versions: always or never, since a version that was given can't be compared
/// with one that was counted. As stored in `delivery.versions`.
enum class Versions { unknown = 0, given = 1, counted = 2 };
inline Versions versions_of(std::int64_t version) {
  return version > 0 ? Versions::given : Versions::counted;
}
/// Why a record is refused that comes with a version where those before came without, or the other way round.
/// `what` names it: `Record 3`. Kind invalid, code `versions_mixed`.
Error versions_mixed(const std::string& what, const std::string& model, const std::string& key, Versions before);

/// What every kind of job that delivers is done by: each record once at its target, whatever is killed.
///
/// 1. An intent per record (key, version, digest) is committed before anything is sent. Those that are applied already
///    in that version or a later one are left out, and their outcome says so. One that comes with a version where those
///    before came without, or the other way round, is refused.
/// 2. An intent that was open already, of an attempt whose end nobody knows, is looked up at the target by its key
///    before it is repeated.
/// 3. What is left goes to the target, in one call per model.
/// 4. The outcome of each record, its mapping, the run's row in the sync log, the audit entry and what the sender can
///    ask for are written with the job's completion: Outcome::commit.
///
/// Threads: as jobs::Handler.
class DeliveryHandler final : public jobs::Handler {
 public:
  using Find = std::function<Destination(std::int64_t connection_id)>;
  /// Told what became of a job's record, in the transaction that ends the job and before its audit entry. May be told
  /// more than once, in a transaction that is run again.
  using Told = std::function<void(store::Session&, std::int64_t job_id, const Delivered&)>;
  /// `actor`: who the audit names: `node h1`.
  DeliveryHandler(store::Store& store, Find find, std::string actor, Told told = {})
      : store_(store), find_(std::move(find)), actor_(std::move(actor)), told_(std::move(told)) {}

  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token stop) override;

 private:
  struct Task;
  struct Batch;
  void run_batch(Batch& batch, std::stop_token stop);
  void intend(Batch& batch);
  void probe(Batch& batch, std::stop_token stop);
  void send(Batch& batch, std::vector<Task*> tasks, std::stop_token stop);
  void catch_up(Batch& batch, std::stop_token stop);

  store::Store& store_;
  const Find find_;
  const std::string actor_;
  const Told told_;
};

}  // namespace dragoman::pipeline
