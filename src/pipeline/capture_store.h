#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "json/records.h"
#include "pipeline/records.h"
#include "pipeline/source.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// What a batch did to the store.
struct Applied {
  std::int64_t created = 0, changed = 0, deleted = 0, unchanged = 0;
  std::vector<std::int64_t> written;  ///< ids that got a new version

  Applied& operator+=(const Applied& other);
};

/// The newest version held of a record.
struct Held {
  std::int64_t id = 0;
  std::int64_t change_number = 0, version = 0;
  int state = 0;  ///< 0 live, 1 archived, 2 deleted
  std::optional<Time> write_date;
  Time read_at{};
  json::Digest digest{};
};

/// The writing side of capture: each call is one durable transaction.
///
/// Threads: safe from any thread. Writers of one model take turns, on all nodes.
class CaptureStore {
 public:
  CaptureStore(store::Store& store, Clock& clock) : store_(store), clock_(clock) {}

  /// The model's row, made if it is not there.
  ModelRow open_model(std::int64_t connection_id, const std::string& name, bool asked, Micros overlap);
  /// Names of all models that have a row.
  std::vector<std::string> model_names(std::int64_t connection_id);
  /// Names of the models that a person asked for.
  std::vector<std::string> asked_models(std::int64_t connection_id);
  std::optional<ModelRow> find_model(std::int64_t connection_id, const std::string& name);

  /// Records a new schema version if `description` differs from the newest, and the plan with it. Returns the number
  /// of the schema version in force. `repull`: the plan reads other fields than before, all is to be read again.
  struct Described {
    std::int64_t schema_number = 0;
    bool schema_changed = false;
    bool repull = false;
  };
  Described describe(const ModelRow& model, const Description& description);

  void set_state(std::int64_t model_id, const std::string& state, const std::string& reason);
  enum class Alarm { overlap, deletions };
  /// People are told of it in the same transaction; an empty one ends it.
  void set_alarm(std::int64_t model_id, Alarm kind, const std::string& alarm, Micros overlap);
  void set_cursors(const std::vector<std::pair<std::int64_t, Time>>& cursors);  ///< (model id, cursor)
  void set_swept(std::int64_t model_id, Time swept);
  void set_pull(std::int64_t model_id, const std::string& pull, const std::string& state);

  /// What is held of `ids` (sorted), sorted by id; ids not held are not in it.
  std::vector<Held> held(std::int64_t model_id, std::span<const std::int64_t> ids);
  /// What is held of the range, by id, at most `limit`; deleted ones left out.
  std::vector<Held> held_range(std::int64_t model_id, Range range, std::int64_t limit);
  /// The ids of every nth record that is held and not deleted, in order.
  std::vector<std::int64_t> held_every(std::int64_t model_id, std::int64_t n);
  /// Live and archived records held.
  std::int64_t count(std::int64_t model_id);

  /// Stores what is new or different among `records` (sorted by id), read at `read_at` by the server's clock, each as
  /// a version with the next numbers of the feed. What is equal to the version held gets no row, but its `read_at`
  /// moves up if `touch`. A read that began before the one whose outcome is held never replaces it. With `binaries`
  /// the new versions are noted as waiting for theirs. `also` runs in the same transaction.
  struct How {
    bool touch = false, binaries = false;
    bool companies = false;  ///< the model has a `company_id`: unset means shared
  };
  Applied apply(std::int64_t model_id, std::int64_t schema_number, std::span<const json::Record> records, Time read_at,
                How how, const std::function<void(store::Session&)>& also = {});
  /// Records that these are gone at the remote. Those not held, or deleted already, are left out.
  Applied remove(std::int64_t model_id, std::int64_t schema_number, std::span<const std::int64_t> ids, Time read_at);

  struct Run {
    std::int64_t connection_id = 0;
    std::string model, kind, outcome;
    Time started{};
    nlohmann::json counts;
    std::vector<std::string> errors;
  };
  void log_run(const Run& run);
  /// In the caller's transaction.
  static void log_run(store::Session& session, const Run& run, Time finished);

  struct Pending {
    std::int64_t change_number = 0, external_id = 0;
  };
  /// Versions that wait for their binaries, oldest first.
  std::vector<Pending> pending_binaries(std::int64_t model_id, std::int64_t limit);
  /// Keeps the contents of the binary fields of a version, each once by digest, and ends its waiting.
  void keep_binaries(std::int64_t change_number, const std::map<std::string, std::string>& content_by_field);

 private:
  store::Store& store_;
  Clock& clock_;
};

}  // namespace dragoman::pipeline
