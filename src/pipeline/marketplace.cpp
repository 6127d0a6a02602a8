#include "pipeline/marketplace.h"

#include <array>
#include <utility>

namespace dragoman::pipeline {
namespace {

constexpr std::array<std::pair<MarketState, std::string_view>, 8> kStates{{{MarketState::pending, "pending"},
                                                                           {MarketState::editing, "editing"},
                                                                           {MarketState::approved, "approved"},
                                                                           {MarketState::assigned, "assigned"},
                                                                           {MarketState::delivered, "delivered"},
                                                                           {MarketState::cancelled, "cancelled"},
                                                                           {MarketState::returned, "returned"},
                                                                           {MarketState::unknown, "unknown"}}};

}  // namespace

std::string_view name(MarketState state) {
  for (const auto& [known, text] : kStates)
    if (known == state) return text;
  return "unknown";
}

std::optional<MarketState> market_state(std::string_view name) {
  for (const auto& [known, text] : kStates)
    if (text == name) return known;
  return std::nullopt;
}

int rank(MarketState state) {
  switch (state) {
    case MarketState::unknown:
      return -1;
    case MarketState::pending:
    case MarketState::editing:
      return 0;
    case MarketState::approved:
      return 1;
    case MarketState::assigned:
      return 2;
    case MarketState::delivered:
      return 3;
    case MarketState::cancelled:
    case MarketState::returned:
      return 4;
  }
  return -1;
}

}  // namespace dragoman::pipeline
