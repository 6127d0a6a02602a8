#include "json/mask.h"

#include <algorithm>
#include <array>

namespace dragoman::json {
namespace {

constexpr std::array<std::string_view, 6> kSecret{"token", "otp", "password", "secret", "api_key", "apikey"};
constexpr std::string_view kMask = "***";
constexpr std::size_t kTellableBytes = 4;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool names_a_secret(std::string_view name) {
  for (const auto word : kSecret) {
    if (name.size() < word.size()) continue;
    const auto end = name.substr(name.size() - word.size());
    if (std::equal(end.begin(), end.end(), word.begin(),
                   [](char a, char b) { return (a >= 'A' && a <= 'Z' ? static_cast<char>(a - 'A' + 'a') : a) == b; }))
      return true;
  }
  return false;
}

// Behind the closing quote of the string that begins at `at`, or the end of the text.
std::size_t string_end(std::string_view text, std::size_t at) {
  for (++at; at < text.size(); ++at) {
    if (text[at] == '\\')
      ++at;
    else if (text[at] == '"')
      return at + 1;
  }
  return text.size();
}

// Behind the value that begins at `at`: a string, a number or word, or a whole list or object.
std::size_t value_end(std::string_view text, std::size_t at) {
  if (at >= text.size()) return at;
  if (text[at] == '"') return string_end(text, at);
  if (text[at] != '[' && text[at] != '{') {
    while (at < text.size() && text[at] != ',' && text[at] != '}' && text[at] != ']' && !is_space(text[at])) ++at;
    return at;
  }
  std::size_t depth = 0;
  while (at < text.size()) {
    if (text[at] == '"') {
      at = string_end(text, at);
      continue;
    }
    if (text[at] == '[' || text[at] == '{') ++depth;
    if ((text[at] == ']' || text[at] == '}') && --depth == 0) return at + 1;
    ++at;
  }
  return at;
}

}  // namespace

std::string mask_secrets(std::string_view text, std::vector<std::string>* found) {
  std::string out;
  out.reserve(text.size());
  std::size_t at = 0;
  while (at < text.size()) {
    if (text[at] != '"') {
      out += text[at++];
      continue;
    }
    const std::size_t end = string_end(text, at);
    const auto name = text.substr(at + 1, end > at + 2 ? end - at - 2 : 0);
    out += text.substr(at, end - at);
    at = end;
    if (!names_a_secret(name)) continue;
    std::size_t value = at;
    while (value < text.size() && is_space(text[value])) ++value;
    if (value >= text.size() || text[value] != ':') continue;
    ++value;
    while (value < text.size() && is_space(text[value])) ++value;
    if (value >= text.size()) continue;
    const std::size_t behind = value_end(text, value);
    const auto what = text.substr(value, behind - value);
    out += text.substr(at, value - at);
    // That there is none is no secret, and often the point.
    const bool none = what == "null" || what == "\"\"";
    out += none ? what : std::string_view("\"***\"");
    if (found && !none)
      found->emplace_back(what.front() == '"' && what.size() > 2 ? what.substr(1, what.size() - 2) : what);
    at = behind;
  }
  return out;
}

std::string mask_text(std::string text, std::string_view secret) {
  if (secret.size() < kTellableBytes) return text;
  for (std::size_t at = text.find(secret); at != std::string::npos; at = text.find(secret, at + kMask.size()))
    text.replace(at, secret.size(), kMask);
  return text;
}

}  // namespace dragoman::json
