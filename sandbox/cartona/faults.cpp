#include "sandbox/cartona/faults.h"

#include <algorithm>
#include <array>

#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

std::int64_t FaultRules::add(const Json& rule) {
  static constexpr std::array kKinds = {"delay",  "closed_before", "closed_after", "reset_before", "reset_after",
                                        "status", "cut",           "truncated",    "drip",         "replace",
                                        "hang",   "invalid_utf8",  "giant",        "deep",         "bad_token"};
  Rule made;
  const Json match = rule.value("match", Json::object());
  for (const auto& [key, value] : match.items()) {
    static constexpr std::array kKeys = {"account", "path",  "method",      "body", "nth",
                                         "after",   "times", "probability", "seed"};
    if (std::find(kKeys.begin(), kKeys.end(), key) == kKeys.end())
      throw ControlError("a fault cannot be matched by '" + key + "'");
  }
  made.account = match.value("account", "");
  made.path = match.value("path", "");
  made.method = match.value("method", "");
  made.body = match.value("body", "");
  made.nth = match.value("nth", std::int64_t{0});
  made.after = match.value("after", std::int64_t{0});
  made.times = match.value("times", std::int64_t{-1});
  made.probability = match.value("probability", 1.0);
  made.dice = Dice(match.value("seed", std::uint64_t{1}));
  made.action = rule.value("action", Json::object());
  const std::string kind = made.action.value("kind", "");
  if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end()) {
    std::string known;
    for (const char* name : kKinds) known += std::string(known.empty() ? "" : ", ") + name;
    throw ControlError("unknown fault kind '" + kind + "'; known: " + known);
  }
  made.id = next_++;
  rules_.push_back(std::move(made));
  return rules_.back().id;
}

void FaultRules::remove(std::int64_t id) {
  rules_.erase(std::remove_if(rules_.begin(), rules_.end(), [id](const Rule& rule) { return rule.id == id; }),
               rules_.end());
}

Json FaultRules::list() const {
  Json result = Json::array();
  for (const auto& rule : rules_) {
    result.push_back({{"id", rule.id},
                      {"account", rule.account},
                      {"path", rule.path},
                      {"method", rule.method},
                      {"body", rule.body},
                      {"seen", rule.seen},
                      {"fired", rule.fired},
                      {"action", rule.action}});
  }
  return result;
}

std::optional<Json> FaultRules::match(const Call& call) {
  for (auto& rule : rules_) {
    if (!rule.account.empty() && rule.account != call.account) continue;
    if (!rule.method.empty() && rule.method != call.method) continue;
    if (!call.path.starts_with(rule.path)) continue;
    if (!rule.body.empty() && call.body.find(rule.body) == std::string_view::npos) continue;
    ++rule.seen;
    if (rule.nth > 0 && rule.seen != rule.nth) continue;
    if (rule.seen <= rule.after) continue;
    if (rule.times >= 0 && rule.fired >= rule.times) continue;
    if (rule.probability < 1 && !rule.dice.chance(rule.probability)) continue;
    ++rule.fired;
    return rule.action;
  }
  return std::nullopt;
}

}  // namespace sandbox::cartona
