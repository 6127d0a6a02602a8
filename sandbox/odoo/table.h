#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "sandbox/odoo/schema.h"

namespace sandbox::odoo {

using Slot = std::uint32_t;
inline constexpr Slot kNoSlot = std::numeric_limits<Slot>::max();
inline constexpr std::int64_t kNoTime = std::numeric_limits<std::int64_t>::min();

/// One value of one record. monostate is SQL's NULL; times are microseconds since 1970 in UTC.
using Cell = std::variant<std::monostate, bool, std::int64_t, double, std::string, std::vector<Id>>;

/// The values of one field for all records of a model, in the form its type needs. Nothing is
/// allocated until the first value that is not the type's empty one.
class Column {
 public:
  Column(Cells cells, bool indexed) : cells_(cells), indexed_(indexed) {}

  Cells cells() const { return cells_; }
  bool boolean(Slot slot) const { return slot < flags_.size() && flags_[slot] != 0; }
  std::int64_t integer(Slot slot) const { return slot < numbers_.size() ? numbers_[slot] : empty_number(); }
  double real(Slot slot) const { return slot < reals_.size() ? reals_[slot] : 0.0; }
  /// False for NULL; `out` stays valid until the column changes.
  bool text(Slot slot, std::string_view& out) const;
  const std::vector<Id>& ids(Slot slot) const;
  /// Slots whose link is `id`; only for indexed links.
  const std::vector<Slot>& slots_of(Id id) const;
  bool has_index() const { return indexed_; }

  Cell get(Slot slot) const;
  void set(Slot slot, const Cell& value);
  void set_integer(Slot slot, std::int64_t value);
  void set_text(Slot slot, std::string_view value);

 private:
  std::int64_t empty_number() const { return cells_ == Cells::time ? kNoTime : 0; }
  void clear_text(Slot slot);

  Cells cells_;
  bool indexed_;
  std::vector<std::uint8_t> flags_;
  std::vector<std::int64_t> numbers_;
  std::vector<double> reals_;
  std::vector<std::uint64_t> refs_;  // offset << 24 | length, ~0 for NULL
  std::string arena_;
  std::vector<std::uint16_t> choices_;  // 0 is NULL, else index + 1 in words_
  std::vector<std::string> words_;
  std::unordered_map<Slot, std::vector<Id>> lists_;
  std::unordered_map<Slot, std::string> blobs_;
  std::unordered_map<Id, std::vector<Slot>> index_;
};

/// All records of one model, by columns.
class Table {
 public:
  explicit Table(const Model& model);

  const Model& model() const { return *model_; }
  std::size_t size() const { return size_; }
  Slot find(Id id) const {
    if (id > 0 && static_cast<std::uint64_t>(id) < near_.size()) return near_[static_cast<std::size_t>(id)];
    if (far_.empty()) return kNoSlot;
    const auto found = far_.find(id);
    return found == far_.end() ? kNoSlot : found->second;
  }
  Id id_of(Slot slot) const { return ids_[slot]; }
  Id next_id() { return next_id_++; }
  Id peek_next_id() const { return next_id_; }
  void set_next_id(Id id) { next_id_ = id; }
  Slot insert(Id id);
  void erase(Id id);
  void reserve(std::size_t rows);

  Column& column(int index) { return *columns_[static_cast<std::size_t>(index)]; }
  const Column& column(int index) const { return *columns_[static_cast<std::size_t>(index)]; }
  /// After the model has got a new field.
  void add_columns();

  /// Calls f(id, slot) in ascending order of id, for ids above `after`, until it answers false.
  template <class F>
  void each(F&& f, Id after = 0) const {
    for (std::size_t id = after < 0 ? 1 : static_cast<std::size_t>(after) + 1; id < near_.size(); ++id) {
      if (near_[id] != kNoSlot && !f(static_cast<Id>(id), near_[id])) return;
    }
    for (auto it = far_.upper_bound(after); it != far_.end(); ++it) {
      if (!f(it->first, it->second)) return;
    }
  }

 private:
  const Model* model_;
  std::vector<std::unique_ptr<Column>> columns_;
  std::vector<Slot> near_;  // by id, for ids that are dense enough
  std::map<Id, Slot> far_;  // the others, such as ids over 32 bits
  std::vector<Id> ids_;     // by slot
  std::vector<Slot> free_;
  std::size_t size_ = 0;
  Id next_id_ = 1;
};

}  // namespace sandbox::odoo
