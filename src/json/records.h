#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace dragoman::json {

/// BLAKE2b with 128 bits over a record's canonical form.
using Digest = std::array<std::uint8_t, 16>;

/// How a field's value enters the digest.
enum class FieldKind {
  plain,      ///< as it is
  many2one,   ///< `[7,"a name"]` counts as `7`: the name is another record's data
  many2many,  ///< ids in ascending order: Odoo promises none
  one2many,   ///< the same
  ignored     ///< not at all (`write_date`, where a touch without a change shall be none)
};

/// Field name → kind. A name that is not in it is plain.
class FieldKinds {
 public:
  /// From the answer of `fields_get` (its `type` attribute is needed). Throws protocol if it is not one.
  static FieldKinds from_fields_get(std::string_view json);

  void set(std::string name, FieldKind kind) { kinds_.insert_or_assign(std::move(name), kind); }
  FieldKind of(std::string_view name) const {
    const auto found = kinds_.find(name);
    return found == kinds_.end() ? FieldKind::plain : found->second;
  }

 private:
  std::map<std::string, FieldKind, std::less<>> kinds_;
};

/// One record of a page. `raw` views the page's text.
struct Record {
  std::int64_t id = 0;
  std::string_view raw;                    ///< the object's exact bytes, braces included
  std::optional<Time> write_date;          ///< whole seconds, as Odoo says it; none if not read or `false`
  std::optional<std::int64_t> company_id;  ///< from `7` or `[7,"name"]`; none if not read or `false`
  std::optional<bool> active;              ///< none if not read
  Digest digest{};                         ///< all zero if the reader was told to leave it out
};

struct PageOptions {
  bool digest = true;
  int depth_max = 512;  ///< brackets in brackets, the record's own included
};

/// Cuts an array of objects into records without re-encoding a byte, checking all of it on the way: JSON grammar,
/// UTF-8, depth, ids.
///
/// The canonical form of a record is an object of its fields sorted by name, without whitespace between tokens;
/// strings with the fewest escapes (non-ASCII as UTF-8), so that equal texts are equal whichever way the transport
/// escapes them; numbers as they were written (`1.0` is not `1`: money stays text); nested objects sorted in the same
/// way; FieldKind applied. The digest is over the hash of the field names (once per page) and the values.
///
/// Errors  protocol with code `json` (not an array of objects, broken, a field twice), `json_utf8`, `json_depth`,
///         `record_id` (missing, no whole number from 1 to 2^63-1); the message has the byte where it is. Nothing is
///         handed out of a page that is not whole.
/// Threads one thread at a time. Keeps its buffers and the order of the fields between pages: make one per model.
class PageReader {
 public:
  explicit PageReader(FieldKinds kinds, PageOptions options = {});
  ~PageReader();
  PageReader(PageReader&&) noexcept;
  PageReader& operator=(PageReader&&) noexcept;

  /// `page` is the array's text, e.g. odoo::Answer::result(). The records are valid until the next call, and view
  /// `page`, which has to live as long.
  std::span<const Record> parse(std::string_view page);

  /// The digest of a single record's text, as parse would give it.
  Digest digest(std::string_view record);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// The canonical form as text, for people and tests.
std::string canonical(std::string_view record, const FieldKinds& kinds);

/// The exact bytes of the value of `name` in an object's text, or none. The text must be a whole object.
std::optional<std::string_view> field(std::string_view object, std::string_view name);

/// A field that is not the same in two versions of a record.
struct FieldChange {
  std::string name;
  std::optional<std::string> before, after;  ///< the values' exact bytes; none: the field was not there
};

/// What differs between two versions of a record, by name; values are compared in canonical form, ignored ones too
/// are left out.
std::vector<FieldChange> diff(std::string_view before, std::string_view after, const FieldKinds& kinds);

}  // namespace dragoman::json
