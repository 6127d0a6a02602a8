#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace dragoman::jobs {

/// `{1,2,3}`: an array as PostgreSQL reads it from a text, with CAST($1 AS bigint[]).
std::string id_array(const std::vector<std::int64_t>& ids);
/// The same of texts, quoted: CAST($1 AS text[]).
std::string text_array(const std::vector<std::string_view>& texts);

struct HistoryLine {
  std::int64_t job_id = 0;
  std::string_view what;
  int attempt = 0;
  std::string_view code, message, who;
};
void add_history(store::Session& session, Time now, const std::vector<HistoryLine>& lines);

/// What the jobs of an order key do when some of them end. Held from the first call of either until the transaction
/// ends. `ended` jobs of the key are finished; if the first of them (who was not behind) is among them, the next is
/// let go. True if there was a next.
bool leave_order(store::Session& session, std::string_view key, std::int64_t ended, bool promote, Time now);
/// The same of many keys at once, each with one ended job that was its first. Sorted by key.
bool leave_orders(store::Session& session, const std::vector<std::string_view>& keys, Time now);
/// Takes `entering` more places in the order of a key; how many were there before.
std::int64_t enter_order(store::Session& session, std::string_view key, std::int64_t entering);

/// A job that begins lets its key go.
void release_unique(store::Session& session, std::string_view key, std::int64_t job_id);
/// One that goes back to waiting takes it again, unless another has it by now.
void retake_unique(store::Session& session, std::string_view key, std::int64_t job_id);

/// The kind of a connection, such as `odoo`; empty: there is none such.
std::string connector_of(store::Session& session, std::int64_t connection_id);

/// Adds to the numbers of a lane that are kept for good. `slot` is the node's.
void add_tally(store::Session& session, std::int64_t lane_id, std::int64_t slot, std::int64_t done,
               std::int64_t cancelled);
inline std::int64_t slot_of(std::int64_t node_id) {
  return node_id % 16;
}

}  // namespace dragoman::jobs
