#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace dragoman::pipeline {

/// A record to be put at a target.
struct Outgoing {
  std::string model;         ///< the target's own word: `res.partner`
  std::string key;           ///< travels with the record and finds it again; unique per model
  std::int64_t version = 1;  ///< what is at the target already in this version or a later one is left alone
  std::string content;       ///< JSON object: `values`, and where there are `children` and `call`
};

/// A record at the target that another one refers to by a key of ours.
struct Linked {
  std::string model, id;
  std::string how;  ///< `key`: bound before; `created`; else the name of the rule that found it
};

/// What became of one record.
struct Delivered {
  enum class What {
    created,
    updated,
    unchanged,  ///< was there in this version
    skipped,    ///< is there in a later version
    refused     ///< see `error`
  };
  What what = What::refused;
  std::string id;                                 ///< at the target; if refused, where it said that it is there
  std::map<std::string, std::string> children{};  ///< key as it was sent -> id
  std::map<std::string, Linked> links{};          ///< by key: what was looked up or made for it; also of `unchanged`
  /// It was done but for this one thing, which a person should know of: code `import_delivered`, `import_undelivered`
  /// or `import_invoiced`; docs/reference/marketplace.md says what each means.
  std::optional<Error> flag{};
  /// Of `refused`. conflict: somebody wrote the same at the same moment, again is right. Any other kind: again would
  /// end in the same way.
  std::optional<Error> error{};
};
std::string_view name(Delivered::What what);

/// What is at the target under a key.
struct Found {
  std::string id;
  std::int64_t version = 0;
  std::map<std::string, std::string> children{};  ///< as Delivered
  std::map<std::string, Linked> links{};          ///< as Delivered
};

/// Code of an error: what deliveries need at the remote is not there, and somebody has to put it there. All else that
/// goes through the connection works.
inline constexpr std::string_view kNotProvisioned = "not_provisioned";

/// The end of a connection that records are put to. A connector brings one; what is around it (intents, outcomes,
/// mapping, logs) is the pipeline's.
///
/// Errors  of a whole call. in_doubt: some or all may have been applied. unavailable, busy, auth, cancelled: nothing
///         was, and it says nothing about the records (with the code kNotProvisioned: nothing about other jobs of the
///         connection either). conflict: nothing was, again is right. Anything else: nothing
///         was, and one of the records is at fault (of a single one: that one).
/// Threads safe from any thread; calls block.
class Target {
 public:
  virtual ~Target() = default;

  /// What external ids begin with: `odoo`.
  virtual std::string system() const = 0;
  /// One outcome each, in their order. All of one model.
  virtual std::vector<Delivered> deliver(std::span<const Outgoing> records, std::stop_token stop) = 0;
  struct Key {
    std::string model, key;
  };
  /// What is there under the keys, in their order. Changes nothing.
  virtual std::vector<std::optional<Found>> find(std::span<const Key> keys, std::stop_token stop) = 0;
  /// The model of the records in a field that links to several; empty if there is none such.
  virtual std::string child_model(const std::string& model, const std::string& field, std::stop_token stop) = 0;
  /// What kind of entity a model's records are: `order`, `order_line`, `delivery`, `customer`, `product`, or the
  /// model's name.
  virtual std::string entity(const std::string& model) const = 0;
  /// True once it has found that it has to be opened anew.
  virtual bool stale() const { return false; }
};

}  // namespace dragoman::pipeline
