#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/marketplace.h"
#include "pipeline/order_book.h"

namespace dragoman::pipeline {

/// Whether nothing comes after it at a marketplace.
bool is_final(MarketState state);

/// By what table an order in Odoo becomes a status at the marketplace.
enum class StatusMapping {
  basic,    ///< by the order alone
  enhanced  ///< by the order and how far its delivery is
};
std::string_view name(StatusMapping mapping);
/// nullopt: none is called so.
std::optional<StatusMapping> status_mapping(std::string_view name);

/// How an order stands in Odoo, in the words that the tables begin with: `draft`, `sent`, `sale`, `sale/shipped`,
/// `done` (confirmed, and every line of goods delivered in full, whatever Odoo calls that), `cancel`, `deleted`. Empty:
/// a word that is not known.
std::string odoo_standing(const OrderFacts& facts);
/// The same of the state in Odoo's own word.
std::string odoo_standing(std::string_view state, bool delivered, bool shipped);

/// By standing; nullopt: nothing is sent of it.
using StatusTable = std::map<std::string, std::optional<MarketState>>;
const StatusTable& status_table(StatusMapping mapping);

/// What a connection's settings say about it.
struct StatusRules {
  /// nullopt: nothing is sent of it. `by`: instead of the connection's mapping.
  std::optional<MarketState> derive(const std::string& standing, std::optional<StatusMapping> by = {}) const;

  StatusMapping mapping = StatusMapping::enhanced;
  StatusTable table;                         ///< goes before that of the mapping
  std::map<MarketState, std::string> words;  ///< goes before the marketplace's own
};

/// All that a decision is made by.
struct StatusCase {
  bool has_id = true;                       ///< the marketplace's own
  bool imported = false;                    ///< it is in Odoo
  bool current = true;                      ///< in the newest version
  std::string standing;                     ///< as odoo_standing; empty: not known
  bool cancelled_for_it = false;            ///< the hub did that in Odoo, for the marketplace said so
  MarketState says = MarketState::unknown;  ///< the marketplace, when it was read last
  std::string status;                       ///< in its own word
  std::optional<MarketState> accepted;      ///< what it was told and took, later than that
  std::string delivered_by;
  bool needs_otp = false, has_otp = false;
};

/// What a person asked for.
struct StatusAsked {
  bool manual = false;
  bool heard = false;                    ///< it took one since the person asked
  std::optional<StatusMapping> mapping;  ///< instead of the connection's
  std::optional<MarketState> status;     ///< this one, whatever Odoo says
  std::string reason;                    ///< of a cancellation, instead of the connection's
};

struct StatusDecision {
  enum class What {
    send,
    same,    ///< the marketplace says so already
    nothing  ///< and `code` and `message` say why
  };
  What what = What::nothing;
  /// Of nothing: `no_id`, `not_imported`, `deleted`, `unmapped`, `unknown_state`, `editing`, `final`, `reopened`,
  /// `behind`, `not_current`, `rule`, `no_word`, `otp`.
  std::string code;
  std::string message;  ///< for a person: by which rule
  std::optional<MarketState> status;
  std::string word;     ///< of send: the marketplace's own
  bool single = false;  ///< what becomes of it has to be known
};

/// Whether the marketplace is told of an order, what, and why or why not. Pure; a test of it is the thing itself.
///
/// `word_of`: the marketplace's own word for a status; empty: it can't be set.
StatusDecision decide_status(const StatusCase& order, const StatusRules& rules, const StatusAsked& asked,
                             const Marketplace& marketplace);

/// The states between two, which a marketplace may want to see one by one; none where `to` is no step forward.
std::vector<MarketState> steps_between(MarketState from, MarketState to);

}  // namespace dragoman::pipeline
