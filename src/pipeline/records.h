#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "pipeline/source.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Whose records are shown. A record of another company never is, nor one of a model that has no company at all; one
/// that Odoo shares between companies (its company is unset) is.
struct CompanyView {
  std::vector<std::int64_t> companies;  ///< empty: everything

  bool all() const { return companies.empty(); }
  bool sees(std::optional<std::int64_t> company_id) const;
};

enum class ChangeKind { create = 1, change = 2, archive = 3, restore = 4, remove = 5 };
std::string_view name(ChangeKind kind);  ///< `create`, `change`, `archive`, `restore`, `delete`

/// A version of a record, which is also an entry of the change feed.
struct Change {
  std::int64_t number = 0;
  std::string connection, model;
  std::int64_t external_id = 0;
  std::int64_t version = 0;
  ChangeKind kind = ChangeKind::create;
  std::int64_t schema_number = 0;
  std::optional<std::int64_t> company_id;  ///< 0: shared between companies; none: the model has no company
  std::optional<Time> write_date;
  Time seen{};
  std::string digest;                                         ///< hexadecimal
  std::optional<std::string> body;                            ///< the bytes of the answer; none for a deletion
  std::vector<std::pair<std::string, std::string>> binaries;  ///< field, digest
};

struct ModelRow {
  std::int64_t id = 0;
  std::int64_t connection_id = 0;
  std::string connection, name;
  bool asked = false;
  std::string state, reason, alarm;
  Plan plan;
  std::int64_t schema_number = 0;
  std::string pull;
  Time cursor{}, swept{};
  Micros overlap{};
  std::int64_t live = 0, archived = 0, deleted = 0;  ///< filled by models() with counts
};

/// Reads what was captured. All reads are snapshots: what comes together belongs together.
///
/// Threads: safe from any thread.
class Records {
 public:
  explicit Records(store::Store& store) : store_(store) {}

  /// All models of a connection (empty: of all), by name. Counting reads every snapshot row of the model's index.
  std::vector<ModelRow> models(const std::string& connection, bool with_counts);
  /// Throws not_found, saying which models are captured.
  ModelRow model(const std::string& connection, const std::string& name);

  struct Filter {
    std::optional<std::int64_t> after;  ///< ids above it
    std::int64_t limit = 100;
    bool archived = true, deleted = false;
    CompanyView view;
    bool bodies = true;
  };
  /// The newest version of each, by id.
  std::vector<Change> list(const std::string& connection, const std::string& model, const Filter& filter);
  /// Throws not_found. `version` empty: the newest.
  Change show(const std::string& connection, const std::string& model, std::int64_t id,
              std::optional<std::int64_t> version, const CompanyView& view = {});
  /// Newest first.
  std::vector<Change> history(const std::string& connection, const std::string& model, std::int64_t id,
                              std::int64_t limit, const CompanyView& view = {});
  /// `{"field": {"from": raw, "to": raw}}` between two versions (default: the newest and the one before).
  nlohmann::json diff(const std::string& connection, const std::string& model, std::int64_t id,
                      std::optional<std::int64_t> from, std::optional<std::int64_t> to, const CompanyView& view = {});

  struct FeedFilter {
    std::int64_t since = 0;  ///< numbers above it
    std::int64_t limit = 1000;
    std::string connection, model;  ///< empty: all
    CompanyView view;
    bool bodies = false;
  };
  struct Feed {
    std::vector<Change> changes;
    /// Where to go on: the last number looked at, even if the filter let nothing through.
    std::int64_t next = 0;
    std::int64_t last = 0;  ///< the newest number there is
  };
  Feed changes(const FeedFilter& filter);
  /// Waits until the feed has a number above `since`. False when time is up or stopped.
  bool wait(std::int64_t since, Micros timeout, std::stop_token stop);

  struct SchemaVersion {
    std::int64_t number = 0;
    Time seen{};
    nlohmann::json fields, difference;
  };
  std::vector<SchemaVersion> schemas(const std::string& connection, const std::string& model);

  /// A row of the sync log: what a pull, delta, sweep or certificate did.
  struct Run {
    std::int64_t id = 0;
    std::string connection, model, kind, outcome;  ///< model empty: the whole connection
    Time started{}, finished{};
    nlohmann::json counts, errors;
  };
  struct RunFilter {
    std::string connection, kind, outcome, text;  ///< empty: all; `text` is looked for in counts and errors
    std::int64_t before = 0;                      ///< numbers below it; 0: from the newest
    std::int64_t limit = 100;
  };
  /// By number, the newest first.
  std::vector<Run> runs(const RunFilter& filter);

  std::optional<std::string> blob(const std::string& digest_hex);

 private:
  store::Store& store_;
};

/// Deletes rows of the sync log older than `kept`, looking at the `piece` oldest. True: there may be more.
bool forget_sync_log(store::Store& store, Micros kept, std::int64_t piece);

}  // namespace dragoman::pipeline
