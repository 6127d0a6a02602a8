#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "jobs/node.h"
#include "store/store.h"

namespace dragoman::jobs {

/// One node of all, for what only one may do. The term grows whenever the leader changes, so that what an earlier
/// leader still has in hand is recognised: its writes carry a term that is over.
///
/// Errors  as Store::write.
/// Threads one thread at a time.
class Leader {
 public:
  Leader(store::Store& store, const Node& node, std::string name);

  /// Takes the lead if nobody has it or its holder's node is dead. The term while this node leads, else nullopt.
  std::optional<std::int64_t> campaign();
  /// Whether this node leads in `term`, held until the caller's transaction ends: nobody takes over before that.
  bool holds(store::Session& session, std::int64_t term) const;
  void resign();

  std::optional<std::int64_t> term() const { return term_; }

 private:
  store::Store& store_;
  const Node& node_;
  const std::string name_;
  std::optional<std::int64_t> term_;
};

}  // namespace dragoman::jobs
