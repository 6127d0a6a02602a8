#include "sandbox/cartona/switches.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace sandbox::cartona {

namespace {

using P = SwitchPosition;

constexpr P kBadToken[] = {{"400", ""}, {"401", ""}, {"403", ""}};
constexpr P kErrorBody[] = {{"object", "{\"error\",\"details\"}"},
                            {"errors", "{\"errors\":{key:[text]}}"},
                            {"text", "plain text"},
                            {"html", "a page"},
                            {"empty", "no body"}};
constexpr P kRefusedStatus[] = {{"400", ""}, {"409", ""}, {"422", ""}};
constexpr P kUnknownOrder[] = {{"404", ""}, {"400", ""}};
constexpr P kSuccessStatus[] = {{"200", ""}, {"201", ""}, {"204", "without a body"}};
constexpr P kSuccessBody[] = {{"object", "{\"message\":\"success\"}"},
                              {"empty_object", "{}"},
                              {"array", "the rows as they were sent"},
                              {"text", "OK"},
                              {"empty", "no body"}};
constexpr P kPaths[] = {{"current", "order/ and supplier-product/"},
                        {"all", "orders/ and base-product of 2023 as well"}};
constexpr P kRetryAfter[] = {{"seconds", ""}, {"date", ""}, {"none", "429 without it"}};
constexpr P kWalk[] = {{"live", "each page is cut from the list of that moment: acknowledging shifts what follows"},
                       {"stable", "page 1 fixes the list that the later pages show"}};
constexpr P kPagingEnd[] = {{"short", "the first page that is not full is the last"},
                            {"sparse", "pages may be short in the middle; an empty one is the end"},
                            {"repeat", "a page past the end shows the last one again"},
                            {"error", "a page past the end is a 404"}};
constexpr P kOrderSort[] = {{"newest", "newest first"}, {"oldest", "oldest first"}, {"changed", "last changed first"}};
constexpr P kPerPageOver[] = {{"clamped", "cut to the maximum in silence"}, {"refused", ""}};
constexpr P kLimit[] = {{"per_page", "as per_page"}, {"ignored", ""}};
constexpr P kFromTo[] = {
    {"created", "of the order's creation"}, {"modified", "of its last change"}, {"ignored", "not looked at"}};
constexpr P kFromToZone[] = {{"utc", ""}, {"cairo", "local time in Cairo"}};
constexpr P kFromToOffset[] = {{"honoured", "it says the zone"}, {"ignored", "cut off"}, {"refused", ""}};
constexpr P kToEnd[] = {{"inclusive", ""}, {"exclusive", ""}};
constexpr P kAckedReturn[] = {{"changed", "after any change that is not the supplier's own"},
                              {"status", "after a change of status only, not of lines"},
                              {"never", ""}};
constexpr P kNoYes[] = {{"no", ""}, {"yes", ""}};
constexpr P kAckCovers[] = {{"current", "the order as it is, also a change that was never pulled"},
                            {"pulled", "the order as last pulled; later changes come"}};
constexpr P kPullStates[] = {{"all", ""},
                             {"open", "none that is delivered, cancelled or returned: an end is never seen"},
                             {"not_editing", "none that the shop is editing"}};
constexpr P kWalletKey[] = {{"wallet_top_up", ""}, {"wallet_topup", ""}};
constexpr P kReceiptId[] = {{"text", "\"1000001\""}, {"number", "1000001"}, {"absent", ""}};
constexpr P kCreatedAt[] = {{"utc", "2026-11-20T10:05:48.113847Z"},
                            {"cairo", "2026-11-20T12:05:48"},
                            {"seconds", "since 1970"},
                            {"absent", ""}};
constexpr P kHashedId[] = {{"letters", "8 letters and digits, case counts"}, {"digits", "11 digits"}};
constexpr P kNumbers[] = {
    {"natural", "530 and 12.5"}, {"float", "530.0 and 12.5"}, {"text", "\"530.00\" and \"12.50\""}};
constexpr P kAmounts[] = {{"natural", "5"}, {"float", "5.0"}, {"text", "\"5\""}};
constexpr P kEmptyTexts[] = {{"null", ""}, {"empty", "\"\""}, {"absent", "the key is not there"}};
constexpr P kDeliveredBy[] = {{"always", ""}, {"cartona_only", "absent where the supplier delivers"}};
constexpr P kRetailerCode[] = {{"always", "where the shop has one"}, {"never", ""}};
constexpr P kCancelWords[] = {{"long", "cancelled_by_retailer, returned"}, {"short", "cancelled, return"}};
constexpr P kTextEscapes[] = {{"utf8", ""}, {"ascii", "\\u0634"}};
constexpr P kLineIds[] = {{"kept", ""}, {"new", "an edited order's lines get new ids"}};
constexpr P kCancelledLines[] = {{"removed", ""}, {"zero", "stay with amount 0"}};
constexpr P kProductKeys[] = {{"misspelt", "suppler_prodcut_id, suppler_prodcut_name"},
                              {"correct", "supplier_product_id, supplier_product_name"},
                              {"id", "id, name"},
                              {"all", "all of these"}};
constexpr P kSkipSteps[] = {{"yes", "pending to delivered is fine"}, {"no", "only the next state"}};
constexpr P kSameStatus[] = {{"accepted", "and nothing changes"}, {"refused", ""}};
constexpr P kRefusedAccepted[] = {{"refused", ""}, {"accepted", ""}};
constexpr P kCartonaDelivers[] = {{"guarded", "the supplier may not set assigned_to_salesman or delivered"},
                                  {"open", "as any other order"}};
constexpr P kCancelReason[] = {{"known", "may be missing, must be a known word"},
                               {"required", "must be a known word"},
                               {"any", "any text or none"}};
constexpr P kBadRow[] = {{"ignored", "the good rows are applied, the answer is a success"},
                         {"refused", "nothing is applied, the answer is an error"},
                         {"stops", "the rows before it are applied, the answer is an error"},
                         {"stops_quietly", "the rows before it are applied, the answer is a success"}};
constexpr P kBulkOver[] = {{"refused", "413"}, {"cut", "the rest is dropped in silence"}};
constexpr P kAccountField[] = {{"both", ""},
                               {"supplier_code", "internal_supplier_code is not looked at"},
                               {"internal_supplier_code", "supplier_code is not looked at"}};
constexpr P kUnlimitedStock[] = {{"known", ""}, {"ignored", ""}, {"refused", "the row is bad"}};
constexpr P kPriceText[] = {{"accepted", ""}, {"refused", "the row is bad"}};
constexpr P kStockFraction[] = {{"refused", "the row is bad"}, {"floored", ""}};

#define WORDS(id, standard, positions, meaning)   \
  SwitchInfo {                                    \
    Switch::id, #id, standard, meaning, positions \
  }
#define NUMBER(id, standard, least, most, meaning)      \
  SwitchInfo {                                          \
    Switch::id, #id, standard, meaning, {}, least, most \
  }

constexpr SwitchInfo kTable[] = {
    WORDS(bad_token, "400", kBadToken, "status of the answer to a missing, unknown or revoked token"),
    WORDS(error_body, "object", kErrorBody, "what an error's body is"),
    WORDS(refused_status, "400", kRefusedStatus, "status of the answer to what may not be done"),
    WORDS(unknown_order, "404", kUnknownOrder, "status of the answer about an order that is not there"),
    WORDS(success_status, "200", kSuccessStatus, "status of the answer to an accepted write"),
    WORDS(success_body, "object", kSuccessBody, "body of the answer to an accepted write"),
    WORDS(paths, "current", kPaths, "which generations of paths there are"),
    WORDS(retry_after, "seconds", kRetryAfter, "how 429 says when to come again"),
    NUMBER(requests_per_minute, "0", 0, 1e6, "more of one token are answered 429; 0: no limit"),
    WORDS(walk, "live", kWalk, "whether the pages of one walk belong together"),
    WORDS(paging_end, "short", kPagingEnd, "how the end of a list shows"),
    WORDS(order_sort, "newest", kOrderSort, "order of the pulled orders"),
    NUMBER(per_page_default, "25", 1, 10000, "rows of a page when per_page is not given"),
    NUMBER(per_page_max, "100", 1, 10000, "most rows of a page"),
    WORDS(per_page_over, "clamped", kPerPageOver, "what a larger per_page does"),
    WORDS(limit, "per_page", kLimit, "what the field limit of a pull does"),
    WORDS(from_to, "created", kFromTo, "of which moment from and to are bounds"),
    WORDS(from_to_zone, "utc", kFromToZone, "zone of from and to without an offset"),
    WORDS(from_to_offset, "honoured", kFromToOffset, "what an offset or Z in from and to does"),
    WORDS(to_end, "inclusive", kToEnd, "whether the moment `to` itself belongs to the range"),
    WORDS(acked_return, "changed", kAckedReturn, "when an acknowledged order is pulled again"),
    WORDS(own_changes_return, "no", kNoYes, "whether the supplier's own writes make it come again as well"),
    WORDS(ack_covers, "current", kAckCovers, "what an acknowledgement covers"),
    NUMBER(ack_after, "0", 0, 1e6, "seconds until an acknowledgement takes effect"),
    WORDS(pull_states, "all", kPullStates, "which orders are pulled at all"),
    NUMBER(repeat_in_page, "0", 0, 1, "share of the orders that stand twice on a page"),
    NUMBER(repeat_in_walk, "0", 0, 1, "share of the orders that stand on the next page of the walk as well"),
    NUMBER(return_after_ack, "0", 0, 1, "share of the acknowledged orders that each walk shows nevertheless"),
    NUMBER(visible_after, "0", 0, 1e6, "seconds from an order's creation until it can be pulled"),
    WORDS(receipt_id, "text", kReceiptId, "the number people know an order by"),
    WORDS(created_at, "utc", kCreatedAt, "the time of an order's creation"),
    WORDS(hashed_id, "letters", kHashedId, "form of the ids of orders made from now on"),
    WORDS(numbers, "natural", kNumbers, "form of prices and sums"),
    WORDS(amounts, "natural", kAmounts, "form of quantities"),
    WORDS(empty_texts, "null", kEmptyTexts, "form of a text, date or reason that is not there"),
    WORDS(delivered_by, "always", kDeliveredBy, "when the key delivered_by is there"),
    WORDS(retailer_code, "always", kRetailerCode, "when the key retailer_code is there"),
    WORDS(cancel_words, "long", kCancelWords, "words for cancelled and returned orders"),
    WORDS(wallet_key, "wallet_top_up", kWalletKey, "how the key of the wallet's top-up is spelt"),
    WORDS(text_escapes, "utf8", kTextEscapes, "how Arabic is written in JSON"),
    WORDS(line_ids, "kept", kLineIds, "what becomes of the lines' ids when an order is edited"),
    WORDS(cancelled_lines, "removed", kCancelledLines, "what becomes of a cancelled line"),
    WORDS(product_keys, "all", kProductKeys, "how a product names its own id"),
    WORDS(product_barcode, "no", kNoYes, "whether products carry a barcode"),
    WORDS(returned, "no", kNoYes, "whether the supplier may set returned"),
    WORDS(skip_steps, "yes", kSkipSteps, "whether the supplier may skip states"),
    WORDS(step_back, "no", kNoYes, "whether the supplier may set an earlier state"),
    WORDS(same_status, "accepted", kSameStatus, "setting the state that it has"),
    WORDS(editing_writes, "refused", kRefusedAccepted, "what the supplier sends while the shop edits"),
    WORDS(cartona_delivers, "guarded", kCartonaDelivers, "orders that Cartona delivers"),
    WORDS(cancel_reason, "known", kCancelReason, "the reason of a cancellation"),
    NUMBER(otp_tries, "0", 0, 100, "wrong codes after which the right one is refused too; 0: no end"),
    WORDS(bulk_status_bad_row, "ignored", kBadRow, "what a bad row of a status bulk does"),
    WORDS(bulk_details_bad_row, "ignored", kBadRow, "what a bad row of a bulk of changed lines does"),
    WORDS(bulk_product_bad_row, "ignored", kBadRow, "what a bad row of a product or stock bulk does"),
    NUMBER(bulk_max, "1000", 0, 1e6, "most rows of a bulk; 0: no limit"),
    WORDS(bulk_over, "refused", kBulkOver, "what a longer bulk does"),
    WORDS(account_field, "both", kAccountField, "which field of a row names the account"),
    WORDS(unlimited_stock, "known", kUnlimitedStock, "what is_unlimited_stock does"),
    WORDS(price_text, "accepted", kPriceText, "a price that is sent as text"),
    WORDS(stock_fraction, "refused", kStockFraction, "a stock that is no whole number"),
    WORDS(orders_take_stock, "no", kNoYes, "whether an order takes its amounts off the shown stock"),
};
#undef WORDS
#undef NUMBER

static_assert(std::size(kTable) == kSwitches);

std::string positions_text(const SwitchInfo& info, const char* between, const char* code) {
  std::string text;
  for (const auto& position : info.positions) {
    if (!text.empty()) text += between;
    text += code + std::string(position.word) + code;
    if (!position.meaning.empty()) text += " " + std::string(position.meaning);
  }
  if (info.positions.empty()) {
    char range[64];
    std::snprintf(range, sizeof range, "%.0f to %.0f", info.least, info.most);
    text = range;
  }
  return text;
}

}  // namespace

std::span<const SwitchInfo> switch_table() {
  return kTable;
}

Switches::Switches() {
  for (const auto& info : kTable) set(info.name, info.standard);
}

void Switches::set(std::string_view name, std::string_view value) {
  for (const auto& info : kTable) {
    if (info.name != name) continue;
    Value& slot = values_[static_cast<std::size_t>(info.id)];
    if (info.positions.empty()) {
      const std::string text(value);
      char* end = nullptr;
      const double number = std::strtod(text.c_str(), &end);
      if (text.empty() || *end != '\0' || !(number >= info.least && number <= info.most)) {
        throw std::runtime_error("the switch " + std::string(name) + " takes a number, " +
                                 positions_text(info, ", ", "") + ", not '" + text + "'");
      }
      slot.number = number;
      return;
    }
    for (const auto& position : info.positions) {
      if (position.word != value) continue;
      slot.word = position.word;
      return;
    }
    throw std::runtime_error("the switch " + std::string(name) + " has no position '" + std::string(value) +
                             "': " + positions_text(info, ", ", ""));
  }
  throw std::runtime_error("there is no switch '" + std::string(name) +
                           "': --help and GET /sandbox/switches list them");
}

Json Switches::describe() const {
  Json result = Json::array();
  for (const auto& info : kTable) {
    const Value& value = values_[static_cast<std::size_t>(info.id)];
    Json row = {{"name", info.name}};
    Json positions = Json::array();
    for (const auto& position : info.positions)
      positions.push_back({{"value", position.word}, {"meaning", position.meaning}});
    if (info.positions.empty()) {
      row["value"] = value.number;
      row["default"] = std::strtod(std::string(info.standard).c_str(), nullptr);
      row["least"] = info.least;
      row["most"] = info.most;
    } else {
      row["value"] = value.word;
      row["default"] = info.standard;
    }
    row["meaning"] = info.meaning;
    row["positions"] = positions;
    result.push_back(row);
  }
  return result;
}

std::string switches_help() {
  std::string text = "Switches (--switch NAME=VALUE), what is not known of the real one:\n";
  for (const auto& info : kTable) {
    text += "  " + std::string(info.name) + "=" + std::string(info.standard) + "  " + std::string(info.meaning) +
            "\n      " + positions_text(info, "; ", "") + "\n";
  }
  return text;
}

std::string switches_markdown() {
  std::string text = "| switch | default | what it is about | positions |\n|---|---|---|---|\n";
  for (const auto& info : kTable) {
    text += "| `" + std::string(info.name) + "` | `" + std::string(info.standard) + "` | " + std::string(info.meaning) +
            " | " + positions_text(info, "; ", "`") + " |\n";
  }
  return text;
}

}  // namespace sandbox::cartona
