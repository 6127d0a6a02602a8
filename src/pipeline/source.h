#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "json/records.h"

namespace dragoman::pipeline {

/// What of a model is captured, and what is not and why. Kept as JSON in `model.plan`.
struct Plan {
  struct LeftOut {
    std::string field;
    std::string reason;  ///< for a person: `computed, not stored`, `this account may not read it: …`
  };
  std::vector<std::string> fields;    ///< in every body, sorted
  std::vector<std::string> binaries;  ///< captured apart, once by content
  std::vector<LeftOut> left_out;
  std::map<std::string, std::string> types;  ///< of `fields`: `many2one`, `char`, …
  bool names = false;                        ///< many2one values as `[id, "name"]`
  bool has_write_date = true;                ///< false: no deltas, a sweep compares bodies
  bool has_active = false;                   ///< archived records must be asked for

  json::FieldKinds kinds() const;
  std::string json() const;
  static Plan parse(std::string_view text);
};

/// A model as the remote describes it now.
struct Description {
  /// JSON object, field name -> attributes, keys sorted: a new text is a new schema version.
  std::string fields;
  Plan plan;
};

/// Ids in (after, upto]; `upto` empty means no end.
struct Range {
  std::int64_t after = 0;
  std::optional<std::int64_t> upto;
};

/// Records as answered, oldest id first. The slices live as long as the page.
class Page {
 public:
  virtual ~Page() = default;
  virtual std::span<const json::Record> records() const = 0;
  /// By the server's clock, not later than the moment the read began.
  Time read_at{};
  std::int64_t bytes = 0;
  Micros took{};
};

struct Stamp {
  std::int64_t id = 0;
  std::optional<Time> write_date;  ///< whole seconds
};

/// The end of a connection that records are captured from.
///
/// Errors  as the remote client's; `forbidden` and `not_found` about a model are about that model alone.
/// Threads safe from any thread; calls block.
class Source {
 public:
  virtual ~Source() = default;

  /// Those of the default models that this server has, in the order in which they are best pulled.
  virtual std::vector<std::string> default_models(std::stop_token stop) = 0;
  /// nullopt: the server has no such model. Throws forbidden if this account may not read it at all. Whether a field
  /// may be read is tried on a few records: the newest, or those of `failing`, where a read was refused.
  virtual std::optional<Description> describe(const std::string& model, std::optional<Range> failing,
                                              std::stop_token stop) = 0;

  virtual std::int64_t count(const std::string& model, const Plan& plan, std::stop_token stop) = 0;
  /// The highest id, 0 for none.
  virtual std::int64_t last_id(const std::string& model, const Plan& plan, std::stop_token stop) = 0;
  /// At most `limit` records of the range, archived ones too, in order of id.
  virtual std::unique_ptr<Page> page(const std::string& model, const Plan& plan, Range range, std::int64_t limit,
                                     std::stop_token stop) = 0;
  /// Those of `ids` that are there.
  virtual std::unique_ptr<Page> read(const std::string& model, const Plan& plan, const std::vector<std::int64_t>& ids,
                                     std::stop_token stop) = 0;
  struct Stamps {
    std::vector<Stamp> stamps;
    Time read_at{};  ///< as Page::read_at
    Micros took{};
  };
  /// (id, write_date) of at most `limit` records of the range, written at or after `since` if given.
  virtual Stamps stamps(const std::string& model, const Plan& plan, std::optional<Time> since, Range range,
                        std::int64_t limit, std::stop_token stop) = 0;
  /// Those of `ids` that this account can see now, sorted.
  virtual std::vector<std::int64_t> existing(const std::string& model, const std::vector<std::int64_t>& ids,
                                             std::stop_token stop) = 0;
  /// The content of a record's binary field (decoded), nullopt if unset or gone.
  virtual std::optional<std::string> binary(const std::string& model, std::int64_t id, const std::string& field,
                                            std::stop_token stop) = 0;

  /// What the hub has learnt about the server, JSON for `connection.learnt`.
  virtual std::string learnt() const = 0;
  /// How many pulls at once make sense now.
  virtual int places() const = 0;
  /// Calls made since it was opened.
  virtual std::int64_t calls() const = 0;
};

/// What `connection test` says: steps in order, each ok or with what is wrong and what to do.
struct Probe {
  struct Step {
    std::string name, result;
    bool ok = true;
  };
  std::vector<Step> steps;
  bool ok() const;
};

}  // namespace dragoman::pipeline
