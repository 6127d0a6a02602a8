#include "jobs/fingerprint.h"

#include <sodium.h>

#include <array>

namespace dragoman::jobs {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_word(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-' ||
         static_cast<unsigned char>(c) >= 0x80;
}

}  // namespace

std::string normalised(std::string_view message) {
  std::string out;
  for (std::size_t at = 0; at < message.size();) {
    const char c = message[at];
    // What stands in quotes is a value. An apostrophe inside a word is none.
    if ((c == '"' || c == '`' || c == '\'') && (at == 0 || !is_word(message[at - 1]))) {
      const auto end = message.find(c, at + 1);
      if (end != std::string_view::npos) {
        out += "'…'";
        at = end + 1;
        continue;
      }
    }
    if (!is_word(c)) {
      out += c;
      ++at;
      continue;
    }
    auto end = at;
    int digits = 0;
    while (end < message.size() && is_word(message[end])) digits += is_digit(message[end++]);
    // A word with a digit in it is a number, a date, an order's name or an id, as a rule.
    if (digits > 0)
      out += '#';
    else
      out += message.substr(at, end - at);
    at = end;
  }
  return out;
}

std::string fingerprint(std::string_view kind, std::string_view code, std::string_view message) {
  std::string text(kind);
  text += '\n';
  text += code;
  text += '\n';
  text += normalised(message);
  std::array<unsigned char, crypto_generichash_BYTES_MIN> hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                     nullptr, 0);
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) {
    out += kDigits[hash[i] >> 4];
    out += kDigits[hash[i] & 15];
  }
  return out;
}

}  // namespace dragoman::jobs
