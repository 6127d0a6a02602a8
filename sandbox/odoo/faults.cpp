#include "sandbox/odoo/faults.h"

#include <algorithm>
#include <array>
#include <stdexcept>

namespace sandbox::odoo {

namespace {

/// xorshift64*: the same seed gives the same faults on every machine.
double next_random(std::uint64_t& state) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return static_cast<double>((state * 0x2545F4914F6CDD1DULL) >> 11) / 9007199254740992.0;
}

}  // namespace

std::int64_t FaultRules::add(const Json& rule) {
  static constexpr std::array kKinds = {
      "slow",     "cut",   "reset_before", "reset_after_commit", "worker_killed", "status", "truncated", "wrong_json",
      "redirect", "giant", "deep",         "invalid_utf8",       "big_ids",       "replace"};
  FaultRule made;
  const Json match = rule.value("match", Json::object());
  made.model = match.value("model", "");
  made.method = match.value("method", "");
  made.path = match.value("path", "");
  made.nth = match.value("nth", std::int64_t{0});
  made.after = match.value("after", std::int64_t{0});
  made.times = match.value("times", std::int64_t{-1});
  made.probability = match.value("probability", 1.0);
  made.random_state = match.value("seed", std::uint64_t{1}) * 0x9E3779B97F4A7C15ULL + 1;
  made.action = rule.value("action", Json::object());
  const std::string kind = made.action.value("kind", "");
  if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end()) {
    std::string known;
    for (const char* name : kKinds) known += std::string(known.empty() ? "" : ", ") + name;
    throw std::runtime_error("unknown fault kind '" + kind + "'; known: " + known);
  }
  const std::lock_guard lock(mutex_);
  made.id = next_++;
  rules_.push_back(made);
  return made.id;
}

void FaultRules::remove(std::int64_t id) {
  const std::lock_guard lock(mutex_);
  rules_.erase(std::remove_if(rules_.begin(), rules_.end(), [id](const FaultRule& r) { return r.id == id; }),
               rules_.end());
}

void FaultRules::clear() {
  const std::lock_guard lock(mutex_);
  rules_.clear();
}

Json FaultRules::list() const {
  const std::lock_guard lock(mutex_);
  Json result = Json::array();
  for (const auto& rule : rules_) {
    result.push_back({{"id", rule.id},
                      {"model", rule.model},
                      {"method", rule.method},
                      {"path", rule.path},
                      {"seen", rule.seen},
                      {"fired", rule.fired},
                      {"action", rule.action}});
  }
  return result;
}

std::optional<Json> FaultRules::match(const std::string& path, const std::string& model, const std::string& method) {
  const std::lock_guard lock(mutex_);
  for (auto& rule : rules_) {
    if (!rule.model.empty() && rule.model != model) continue;
    if (!rule.method.empty() && rule.method != method) continue;
    if (!rule.path.empty() && !path.starts_with(rule.path)) continue;
    ++rule.seen;
    if (rule.nth > 0 && rule.seen != rule.nth) continue;
    if (rule.seen <= rule.after) continue;
    if (rule.times >= 0 && rule.fired >= rule.times) continue;
    if (rule.probability < 1 && next_random(rule.random_state) >= rule.probability) continue;
    ++rule.fired;
    return rule.action;
  }
  return std::nullopt;
}

}  // namespace sandbox::odoo
