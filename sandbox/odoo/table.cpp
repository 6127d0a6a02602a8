#include "sandbox/odoo/table.h"

#include <algorithm>
#include <stdexcept>

namespace sandbox::odoo {

namespace {

constexpr std::uint64_t kNoText = ~std::uint64_t{0};
constexpr std::size_t kTextMax = (std::size_t{1} << 24) - 1;
constexpr Id kNearMax = 20'000'000;

template <class T>
void grow(std::vector<T>& values, Slot slot, T empty) {
  if (slot >= values.size()) values.resize(static_cast<std::size_t>(slot) + 1, empty);
}

}  // namespace

bool Column::text(Slot slot, std::string_view& out) const {
  if (cells_ == Cells::choice) {
    if (slot >= choices_.size() || choices_[slot] == 0) return false;
    out = words_[choices_[slot] - 1U];
    return true;
  }
  if (cells_ == Cells::blob) {
    const auto found = blobs_.find(slot);
    if (found == blobs_.end()) return false;
    out = found->second;
    return true;
  }
  if (slot >= refs_.size() || refs_[slot] == kNoText) return false;
  out = std::string_view(arena_).substr(refs_[slot] >> 24, refs_[slot] & kTextMax);
  return true;
}

const std::vector<Id>& Column::ids(Slot slot) const {
  static const std::vector<Id> kNone;
  const auto found = lists_.find(slot);
  return found == lists_.end() ? kNone : found->second;
}

const std::vector<Slot>& Column::slots_of(Id id) const {
  static const std::vector<Slot> kNone;
  const auto found = index_.find(id);
  return found == index_.end() ? kNone : found->second;
}

Cell Column::get(Slot slot) const {
  switch (cells_) {
    case Cells::boolean:
      return boolean(slot);
    case Cells::integer:
      return integer(slot);
    case Cells::real:
      return real(slot);
    case Cells::time: {
      const auto value = integer(slot);
      return value == kNoTime ? Cell() : Cell(value);
    }
    case Cells::link: {
      const auto value = integer(slot);
      return value == 0 ? Cell() : Cell(value);
    }
    case Cells::text:
    case Cells::choice:
    case Cells::blob: {
      std::string_view value;
      return text(slot, value) ? Cell(std::string(value)) : Cell();
    }
    case Cells::ids:
      return ids(slot);
    case Cells::none:
      break;
  }
  return {};
}

void Column::set_integer(Slot slot, std::int64_t value) {
  if (slot >= numbers_.size() && value == empty_number()) return;
  grow(numbers_, slot, empty_number());
  if (indexed_ && numbers_[slot] != value) {
    if (numbers_[slot] != 0) {
      auto& slots = index_[numbers_[slot]];
      slots.erase(std::remove(slots.begin(), slots.end(), slot), slots.end());
      if (slots.empty()) index_.erase(numbers_[slot]);
    }
    if (value != 0) index_[value].push_back(slot);
  }
  numbers_[slot] = value;
}

void Column::set_text(Slot slot, std::string_view value) {
  if (cells_ == Cells::choice) {
    grow(choices_, slot, std::uint16_t{0});
    const auto found = std::find(words_.begin(), words_.end(), value);
    choices_[slot] = static_cast<std::uint16_t>(found - words_.begin() + 1);
    if (found == words_.end()) words_.emplace_back(value);
    return;
  }
  if (cells_ == Cells::blob) {
    blobs_[slot] = std::string(value);
    return;
  }
  if (value.size() > kTextMax) throw std::runtime_error("text of more than 16 MiB");
  grow(refs_, slot, kNoText);
  // A new text that fits takes the old one's place, so that rewriting the same records does not grow
  // the arena without end.
  if (refs_[slot] != kNoText && (refs_[slot] & kTextMax) >= value.size()) {
    const std::size_t offset = refs_[slot] >> 24;
    std::copy(value.begin(), value.end(), arena_.begin() + static_cast<std::ptrdiff_t>(offset));
    refs_[slot] = (static_cast<std::uint64_t>(offset) << 24) | value.size();
    return;
  }
  refs_[slot] = (static_cast<std::uint64_t>(arena_.size()) << 24) | value.size();
  arena_.append(value);
}

void Column::clear_text(Slot slot) {
  if (cells_ == Cells::choice && slot < choices_.size()) choices_[slot] = 0;
  if (cells_ == Cells::text && slot < refs_.size()) refs_[slot] = kNoText;
  if (cells_ == Cells::blob) blobs_.erase(slot);
}

void Column::set(Slot slot, const Cell& value) {
  const bool empty = std::holds_alternative<std::monostate>(value);
  switch (cells_) {
    case Cells::boolean: {
      const bool on = !empty && std::get<bool>(value);
      if (!on && slot >= flags_.size()) return;
      grow(flags_, slot, std::uint8_t{0});
      flags_[slot] = on ? 1 : 0;
      return;
    }
    case Cells::integer:
    case Cells::time:
    case Cells::link:
      set_integer(slot, empty ? empty_number() : std::get<std::int64_t>(value));
      return;
    case Cells::real: {
      const double number = empty ? 0.0 : std::get<double>(value);
      if (number == 0.0 && slot >= reals_.size()) return;
      grow(reals_, slot, 0.0);
      reals_[slot] = number;
      return;
    }
    case Cells::text:
    case Cells::choice:
    case Cells::blob:
      if (empty) {
        clear_text(slot);
      } else {
        set_text(slot, std::get<std::string>(value));
      }
      return;
    case Cells::ids:
      if (empty || std::get<std::vector<Id>>(value).empty()) {
        lists_.erase(slot);
      } else {
        lists_[slot] = std::get<std::vector<Id>>(value);
      }
      return;
    case Cells::none:
      return;
  }
}

Table::Table(const Model& model) : model_(&model) {
  add_columns();
}

void Table::add_columns() {
  for (const auto& field : model_->fields) {
    if (field->cells == Cells::none || field->column < static_cast<int>(columns_.size())) continue;
    columns_.resize(static_cast<std::size_t>(field->column) + 1);
    columns_[static_cast<std::size_t>(field->column)] = std::make_unique<Column>(field->cells, field->indexed);
  }
}

Slot Table::insert(Id id) {
  Slot slot = 0;
  if (free_.empty()) {
    slot = static_cast<Slot>(ids_.size());
    ids_.push_back(id);
  } else {
    slot = free_.back();
    free_.pop_back();
    ids_[slot] = id;
  }
  if (id > 0 && id < kNearMax) {
    if (static_cast<std::size_t>(id) >= near_.size()) near_.resize(static_cast<std::size_t>(id) + 1, kNoSlot);
    near_[static_cast<std::size_t>(id)] = slot;
  } else {
    far_[id] = slot;
  }
  ++size_;
  if (id >= next_id_) next_id_ = id + 1;
  return slot;
}

void Table::erase(Id id) {
  const Slot slot = find(id);
  if (slot == kNoSlot) return;
  for (auto& column : columns_) {
    if (column) column->set(slot, Cell());
  }
  if (id > 0 && static_cast<std::size_t>(id) < near_.size()) {
    near_[static_cast<std::size_t>(id)] = kNoSlot;
  } else {
    far_.erase(id);
  }
  free_.push_back(slot);
  --size_;
}

void Table::reserve(std::size_t rows) {
  ids_.reserve(ids_.size() + rows);
  near_.reserve(near_.size() + rows);
}

}  // namespace sandbox::odoo
