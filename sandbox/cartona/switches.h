#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "sandbox/cartona/values.h"

namespace sandbox::cartona {

/// What is not known of the real Cartona, each as a switch. Names, positions and meanings: switches.cpp, and from there
/// --help, GET /sandbox/switches and docs/reference/cartona-stand-in.md.
enum class Switch {
  bad_token,
  error_body,
  refused_status,
  unknown_order,
  success_status,
  success_body,
  paths,
  retry_after,
  requests_per_minute,
  walk,
  paging_end,
  order_sort,
  per_page_default,
  per_page_max,
  per_page_over,
  limit,
  from_to,
  from_to_zone,
  from_to_offset,
  to_end,
  acked_return,
  own_changes_return,
  ack_covers,
  ack_after,
  pull_states,
  repeat_in_page,
  repeat_in_walk,
  return_after_ack,
  visible_after,
  receipt_id,
  created_at,
  hashed_id,
  numbers,
  amounts,
  empty_texts,
  delivered_by,
  retailer_code,
  cancel_words,
  wallet_key,
  text_escapes,
  line_ids,
  cancelled_lines,
  product_keys,
  product_barcode,
  returned,
  skip_steps,
  step_back,
  same_status,
  editing_writes,
  cartona_delivers,
  cancel_reason,
  otp_tries,
  bulk_status_bad_row,
  bulk_details_bad_row,
  bulk_product_bad_row,
  bulk_max,
  bulk_over,
  account_field,
  unlimited_stock,
  price_text,
  stock_fraction,
  orders_take_stock,
  count_
};
inline constexpr std::size_t kSwitches = static_cast<std::size_t>(Switch::count_);

struct SwitchPosition {
  std::string_view word;
  std::string_view meaning;
};

struct SwitchInfo {
  Switch id;
  std::string_view name;
  std::string_view standard;
  std::string_view meaning;
  std::span<const SwitchPosition> positions;  ///< empty: a number from `least` to `most`
  double least = 0;
  double most = 0;
};

/// All of them, in the order of the enum.
std::span<const SwitchInfo> switch_table();

/// The positions now. Threads: one at a time.
class Switches {
 public:
  Switches();
  /// Throws std::runtime_error that names what there is.
  void set(std::string_view name, std::string_view value);
  bool is(Switch id, std::string_view word) const { return values_[static_cast<std::size_t>(id)].word == word; }
  std::string_view word(Switch id) const { return values_[static_cast<std::size_t>(id)].word; }
  double number(Switch id) const { return values_[static_cast<std::size_t>(id)].number; }
  /// name, value, default, meaning, positions of each.
  Json describe() const;

 private:
  struct Value {
    std::string_view word;  // of the table
    double number = 0;
  };
  std::array<Value, kSwitches> values_;
};

/// The switches as text for --help, or as the table of the reference page.
std::string switches_help();
std::string switches_markdown();

}  // namespace sandbox::cartona
