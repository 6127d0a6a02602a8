#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::audit {

/// Something that happened, for good.
struct Entry {
  std::string actor;          ///< `token first admin`, `node h1`, `command line (root)`
  std::string action;         ///< `job.edit`, `odoo.import`: dotted words
  std::string subject;        ///< what it was done to: `job 17`, `main:sale.order:42`
  std::string why;            ///< a person's reason, or the cause: `inbox 77`
  std::string outcome;        ///< `ok`, `created`, `refused: …`
  std::string before, after;  ///< JSON where it fits, else empty; no secrets
};

/// Appends in the caller's transaction, as its last statements: the chain's head is locked from here until it ends. The
/// time is the database's. Text that is not UTF-8, or holds NUL, is kept with U+FFFD in its place.
///
/// Errors  invalid (code `audit_head`: somebody removed the end of the chain); as Store::write.
void append(store::Session& session, const Entry& entry);
/// Many at once, in their order: the head is read and written once. The cheap way for a batch.
void append(store::Session& session, std::span<const Entry> entries);

/// An entry as it stands in the chain.
struct Link : Entry {
  std::int64_t number = 0;  ///< from 1, without a gap
  Time at{};
  std::string hash;      ///< 64 hexadecimal digits
  std::string previous;  ///< of the entry before; of the first, 64 zeros
};

/// The hash that the entry's fields and `previous` have: SHA-256 over netstrings, as docs/reference/audit.md has it.
std::string hash_of(const Link& link);

/// One line of an export, a JSON object without a line break.
std::string to_json(const Link& link);

/// Which entries. Texts are compared as wholes, or as beginnings where they end with `*`; empty: any.
struct Filter {
  std::string actor, action, subject;
  std::optional<Time> since, until;  ///< `since` included, `until` not
};

/// The newest first; `before` > 0: only those with a smaller number.
std::vector<Link> newest(store::Session& session, const Filter& filter, std::int64_t before, std::int64_t limit);
/// In the order of the chain, those with a number above `after`, while rows still come in; until `each` returns false.
void stream(store::Session& session, const Filter& filter, std::int64_t after,
            const std::function<bool(const Link&)>& each);

/// Where the chain ended at some time: kept elsewhere it proves later that nothing up to there was made anew.
struct Anchor {
  std::int64_t number = 0;
  std::string hash;
};

/// What looking through the whole chain found.
struct Verdict {
  Anchor end;  ///< as the head has it
  struct Break {
    std::int64_t number = 0;  ///< the first entry that is not what was written there
    std::string what;         ///< `changed`, `removed`, `inserted`, `swapped`, `anchor`
    std::string message;
  };
  std::optional<Break> broken;
};

/// Looks through the chain, and holds it to the count of all that was ever appended, and to the anchor if there is one.
/// One read: what is appended meanwhile is not seen.
///
/// Errors  cancelled; not_found (code `no_entry`) if the log ends before the anchor; as Store::read.
/// Threads safe from any thread.
Verdict verify(store::Store& store, const std::optional<Anchor>& anchor = std::nullopt, std::stop_token stop = {});

/// An operation under way, noted in the store before it begins, so that it gets its entry even if the hub dies in it.
///
/// Threads: one thread at a time.
class Pending {
 public:
  /// Commits the note: an operation that can't be noted must not begin. `entry.outcome` and `before` are not known yet.
  Pending(store::Store& store, Entry entry);

  Entry& entry() { return entry_; }
  /// Appends the entry, with the outcome that it has now, and drops the note. Where the store refuses, the note stays
  /// and `settle` will tell of it; that is logged and not thrown, for what was done is done.
  void finish();

 private:
  store::Store& store_;
  Entry entry_;
  std::int64_t id_ = 0;
};

/// Appends what `Pending` noted at least `age` ago and never finished, with the outcome that nobody knows it. How many.
std::int64_t settle(store::Store& store, Micros age);

}  // namespace dragoman::audit
