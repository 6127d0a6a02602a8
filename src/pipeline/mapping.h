#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Two ids that mean the same thing.
struct Mapped {
  std::int64_t id = 0;
  std::int64_t connection_id = 0;
  std::string connection;   ///< its name; filled when read
  std::string entity;       ///< `order`, `order_line`, `delivery`, `customer`, `product`, or a model's name
  std::string internal_id;  ///< ours
  std::string external_id;  ///< theirs: `odoo:sale.order:42`
  std::string shared_by;    ///< who allowed that our one has several of theirs; empty: it has just this one
  std::string cause;        ///< `job 17`
  Time created{};
};

/// Which record here is which one there (`integration_mapping`).
///
/// An external id means one of ours, always. The other way round it is one as well; customers and products may be
/// shared (two shops of a marketplace that are one customer), each time by a person's yes. Both rules are unique
/// indexes, so no race gets around them.
///
/// Threads: safe from any thread; the functions with a Session as that one.
class Mapping {
 public:
  explicit Mapping(store::Store& store) : store_(store) {}

  enum class Put {
    made,
    kept,   ///< was there, just so
    moved,  ///< ours meant another one of theirs until now: that one is gone
    taken   ///< theirs means another one of ours: nothing was written
  };
  /// Records that two ids are one, in the caller's transaction. `mapped.shared_by` has to be empty.
  static Put put(store::Session& session, const Mapped& mapped);
  /// Lets a second external id stand for one of ours. Throws conflict: code `taken` (it stands for another one),
  /// `not_shared` (an entity that may not be shared); invalid if `by` is empty.
  static void share(store::Session& session, const Mapped& mapped, const std::string& by);

  struct Filter {
    std::string connection, entity, internal_id, external_id;  ///< empty: all
    std::int64_t after = 0;                                    ///< ids above it
    std::int64_t limit = 100;
  };
  /// By id.
  std::vector<Mapped> list(const Filter& filter);
  /// Throws not_found.
  Mapped show(std::int64_t id);
  /// As the function above, by the connection's name, with an audit entry. Ours has to have a record of theirs by now,
  /// and both of theirs to be of one model. Once more is no harm, and leaves no entry. Throws as well invalid without a
  /// reason and where theirs is written in another way, not_found (no such connection; ours has none there).
  Mapped share(const Mapped& mapped, const std::string& why, const std::string& actor);
  /// Forgets that two ids are one, and leaves an audit entry with the reason. Nothing changes at the remote, and what
  /// is delivered later under the same key finds the same record there. Throws not_found, invalid without a reason.
  Mapped unlink(std::int64_t id, const std::string& why, const std::string& actor);

 private:
  store::Store& store_;
};

}  // namespace dragoman::pipeline
