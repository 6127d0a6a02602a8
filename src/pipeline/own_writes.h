#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// Whether a change is what we wrote ourselves.
enum class Own {
  no,
  yes,
  not_yet  ///< a write of ours is under way whose record is not known yet, and this may be it: ask again later
};

/// Something that is about to be written.
struct OwnWrite {
  std::int64_t connection_id = 0;
  std::string model, key;
  std::int64_t external_id = 0;  ///< 0: not known yet
  std::int64_t job_id = 0;
  std::string fields;  ///< as own_fields makes it
};

/// The fields of `values` (a JSON object, as it is sent to Odoo), each with a digest of its value, as a JSON object.
/// What is written by commands whose result can't be known (a one2many) has an empty digest, which nothing equals.
std::string own_fields(const nlohmann::json& values);

/// The digest of one value, the same for what is written and for how it is read back: `false`, null and an empty text
/// are one, numbers are compared as numbers, a many2one counts as its id and a many2many as its set of ids.
std::string own_digest(const nlohmann::json& value);

/// Remembers, in the transaction that records the intent: a poll may see the effect before its outcome is recorded. A
/// write of the same job and key that is there already stays. Writes of a model that isn't captured are left out: they
/// don't come back. (`captured`, for a batch to ask once.)
bool captured(store::Session& session, std::int64_t connection_id, const std::string& model);
void remember(store::Session& session, const std::vector<OwnWrite>& writes);
/// The write of that job and key was applied to that record; with `written` false nothing was written, and nothing will
/// come back.
void settle(store::Session& session, std::int64_t job_id, const std::string& model, const std::string& key,
            std::int64_t external_id, bool written);

/// Whether the change with that number of the feed is ours. It is if
///  - the fields that we wrote (in one write, or in several whose changes were not seen one by one) have the values
///    that we wrote, each of them; and
///  - nothing else changed but `write_date` and its kin, what Odoo computes from fields of ours that changed, and one
///    note about them in the record's messages.
///    Of a record that we created: it was not written by anybody else since, as far as its `write_uid` tells.
/// Each write is recognised in one change only: the same values again, from somebody else, are not ours. Asked again
/// about the same change it answers the same.
///
/// Whoever follows changes calls it in the transaction in which it handles them, in the feed's order.
///
/// Errors  as Store::write; not_found if there is no such change.
Own is_own(store::Session& session, std::int64_t change_number);

/// Forgets writes of before that time, whether they came back or not; at most `limit`. True if there may be more.
bool forget_own_writes(store::Session& session, Time before, std::int64_t limit);

}  // namespace dragoman::pipeline
