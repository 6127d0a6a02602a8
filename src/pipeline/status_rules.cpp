#include "pipeline/status_rules.h"

#include <fmt/format.h>

#include <array>

namespace dragoman::pipeline {

bool is_final(MarketState state) {
  return state == MarketState::delivered || state == MarketState::cancelled || state == MarketState::returned;
}

namespace {

std::string in_words(const std::string& standing) {
  if (standing == "draft") return "Odoo has it as a quotation";
  if (standing == "sent") return "Odoo has it as a quotation that was sent";
  if (standing == "sale") return "Odoo has it confirmed, and nothing shipped";
  if (standing == "sale/shipped") return "Odoo has it confirmed and shipped, not all of it delivered";
  if (standing == "done") return "Odoo has it confirmed, and everything delivered";
  if (standing == "cancel") return "Odoo has it cancelled";
  return "how Odoo has it is not known";
}

}  // namespace

std::string_view name(StatusMapping mapping) {
  return mapping == StatusMapping::basic ? "basic" : "enhanced";
}

std::optional<StatusMapping> status_mapping(std::string_view name) {
  if (name == "basic") return StatusMapping::basic;
  if (name == "enhanced") return StatusMapping::enhanced;
  return std::nullopt;
}

std::string odoo_standing(std::string_view state, bool delivered, bool shipped) {
  if (state == "draft" || state == "sent" || state == "cancel" || state == "deleted") return std::string(state);
  // What 14 calls `done` is locked, and says nothing of goods; later versions have no such word.
  if (state == "sale" || state == "done") return delivered ? "done" : shipped ? "sale/shipped" : "sale";
  return {};
}

std::string odoo_standing(const OrderFacts& facts) {
  if (facts.there == OrderFacts::There::deleted) return "deleted";
  if (facts.there == OrderFacts::There::missing) return {};
  return odoo_standing(facts.state, facts.delivered, facts.shipped);
}

const StatusTable& status_table(StatusMapping mapping) {
  using enum MarketState;
  static const StatusTable basic{{"draft", pending},         {"sent", pending},   {"sale", approved},
                                 {"sale/shipped", approved}, {"done", delivered}, {"cancel", cancelled}};
  static const StatusTable enhanced{{"draft", pending},         {"sent", pending},   {"sale", approved},
                                    {"sale/shipped", assigned}, {"done", delivered}, {"cancel", cancelled}};
  return mapping == StatusMapping::basic ? basic : enhanced;
}

std::optional<MarketState> StatusRules::derive(const std::string& standing, std::optional<StatusMapping> by) const {
  if (const auto own = table.find(standing); own != table.end()) return own->second;
  const auto& usual = status_table(by.value_or(mapping));
  const auto found = usual.find(standing);
  return found == usual.end() ? std::nullopt : found->second;
}

std::vector<MarketState> steps_between(MarketState from, MarketState to) {
  std::vector<MarketState> out;
  for (const MarketState state : {MarketState::approved, MarketState::assigned})
    if (to != MarketState::cancelled && rank(state) > rank(from) && rank(state) < rank(to)) out.push_back(state);
  return out;
}

StatusDecision decide_status(const StatusCase& order, const StatusRules& rules, const StatusAsked& asked,
                             const Marketplace& marketplace) {
  StatusDecision out;
  const auto nothing = [&](const char* code, std::string message) {
    out.what = StatusDecision::What::nothing;
    out.code = code;
    out.message = std::move(message);
    return out;
  };
  if (!order.has_id) return nothing("no_id", "Skipped: the order has no id of the marketplace's.");
  if (!order.imported) return nothing("not_imported", "The order is not in Odoo, so there is nothing to tell of it.");

  const StatusMapping mapping = asked.mapping.value_or(rules.mapping);
  std::string by;
  if (asked.status) {
    out.status = asked.status;
    by = fmt::format("A person asked for `{}`", name(*asked.status));
  } else {
    if (order.standing == "deleted" && order.says == MarketState::cancelled) {
      out.what = StatusDecision::What::same;
      out.status = MarketState::cancelled;
      out.message = "The order was deleted in Odoo, and the marketplace has it cancelled.";
      return out;
    }
    if (order.standing == "deleted")
      return nothing(
          "deleted",
          "The order was deleted in Odoo; what that means for the marketplace is a person's: `dragoman market "
          "retry --anew` makes it anew in Odoo, `dragoman market sync --status cancelled` cancels it at the "
          "marketplace.");
    const bool own = rules.table.contains(order.standing);
    out.status = rules.derive(order.standing, mapping);
    if (!out.status)
      return nothing("unmapped",
                     fmt::format("{}: {}.", in_words(order.standing),
                                 own ? "by the connection's own table (`status_table`) nothing is told of that"
                                     : "no table says what that means for the marketplace"));
    by = fmt::format("{}, which is `{}` by {}", in_words(order.standing), name(*out.status),
                     own ? std::string("the connection's own table (`status_table`)")
                         : fmt::format("the {} mapping", name(mapping)));
  }
  const MarketState target = *out.status;

  // Of what it said and what it took since, the later one.
  MarketState known = order.says;
  if (order.accepted && order.says != MarketState::editing && rank(*order.accepted) > rank(order.says))
    known = *order.accepted;
  if (order.says == MarketState::unknown)
    return nothing("unknown_state", fmt::format("{}, but the marketplace says `{}`, and nobody has said what that "
                                                "means (setting `states`).",
                                                by, order.status));
  if (known == MarketState::editing)
    return nothing("editing", fmt::format("{}, but the shop is changing the order at the marketplace: hands off until "
                                          "it is pending again.",
                                          by));
  // A person may say it again to a marketplace that took it and did nothing.
  const bool again = asked.manual && !asked.heard && order.says != target;
  if (target == known && !again) {
    out.what = StatusDecision::What::same;
    out.message = fmt::format("{}, and the marketplace says so already.", by);
    return out;
  }
  if (is_final(known) && target != known)
    return nothing("final",
                   fmt::format("{}, but at the marketplace the order is {}, which is final.", by, name(known)));
  // To tell it back would be to say in the supplier's name what nobody there has decided.
  if (order.standing == "cancel" && order.cancelled_for_it && !asked.manual)
    return nothing("reopened",
                   fmt::format("{}, but that was done because the marketplace had it cancelled, and there it is `{}` "
                               "again: what is to become of it is a person's to say.",
                               by, order.status));
  if (rank(target) < rank(known))
    return nothing("behind",
                   fmt::format("{}, but the marketplace is further: {}. It is never sent back.", by, name(known)));
  if (!order.current && target != MarketState::cancelled && !asked.manual)
    return nothing("not_current", fmt::format("{}, but the marketplace's newest version of the order is not in Odoo "
                                              "yet: it waits for that.",
                                              by));
  const bool theirs = !order.delivered_by.empty() && order.delivered_by != "delivered_by_supplier";
  if (theirs && target != MarketState::cancelled)
    return nothing("rule", fmt::format("{}, but the order is {}: of such orders cancellations alone are told (delivery "
                                       "rule).",
                                       by, order.delivered_by));
  const auto own_word = rules.words.find(target);
  out.word = own_word != rules.words.end() ? own_word->second : marketplace.status_word(target);
  if (out.word.empty())
    return nothing("no_word", fmt::format("{}, and the marketplace has no word for that which could be set (setting "
                                          "`status_words`).",
                                          by));
  if (target == MarketState::delivered && order.needs_otp && !order.has_otp)
    return nothing("otp", fmt::format("{}; the order has instalment or wallet money, so the marketplace wants the "
                                      "shop's code with it: `dragoman market otp` takes it.",
                                      by));
  out.what = StatusDecision::What::send;
  // A bulk call tells of none, and after these comes nothing that would mend one that was lost.
  out.single = asked.manual || target == MarketState::delivered || target == MarketState::cancelled;
  out.message = fmt::format("{}.", by);
  return out;
}

}  // namespace dragoman::pipeline
