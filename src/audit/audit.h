#pragma once

#include <string>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::audit {

/// Something that happened, for good.
struct Entry {
  std::string actor;    ///< `token first admin`, `node h1`, `command line`
  std::string action;   ///< `job.edit`, `odoo.import`: dotted words
  std::string subject;  ///< what it was done to: `job 17`, `main:sale.order:42`
  std::string why;      ///< a person's reason, or the cause: `inbox 77`
  std::string outcome;  ///< `ok`, `created`, `refused: …`
  std::string before, after;  ///< JSON where it fits, else empty; no secrets
};

/// Appends in the caller's transaction, as its last statements: the chain's head is locked from here until it ends.
/// `now` is the database's time (`Session::now`).
void append(store::Session& session, const Entry& entry);

}  // namespace dragoman::audit
