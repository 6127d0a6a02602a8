#pragma once

#include <string>
#include <string_view>

namespace dragoman {

/// True if `text` is whole UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

/// Appends `text` as a JSON string with its quotes. Control characters are escaped and bytes that are not UTF-8
/// become U+FFFD, so no remote byte can break a line, a document or a terminal.
void append_json_string(std::string& out, std::string_view text);
std::string json_string(std::string_view text);

/// Why something is held back, when somebody holds it back once more: `stocktaking; bob: new prices`. The first reason
/// still holds, so the second joins it; none, or one that stands there already, changes nothing.
std::string joined_reason(std::string held, std::string_view who, std::string_view why);

/// Somebody else's words with a full stop, if they end without one, so that ours can follow.
std::string sentence(std::string text);

/// The one of `candidates` that a person who typed `word` most likely meant, or empty if none is near.
template <typename Strings>
std::string nearest(std::string_view word, const Strings& candidates);

/// How many single-character edits (a swap of neighbours counts as one) turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b);

template <typename Strings>
std::string nearest(std::string_view word, const Strings& candidates) {
  std::string best;
  std::size_t best_distance = word.size() / 3 + 2;
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace dragoman
