#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace dragoman::json {

/// What messages of `fail` begin with; a reader of something else than an answer puts its own words there.
inline constexpr std::string_view kNotUsable = "the answer is not usable JSON: ";

/// Error protocol with a code and the place in its message.
[[noreturn]] void fail(const char* code, std::string_view what, std::size_t at);

/// True if `text` is UTF-8 (simdjson's vectorised check).
bool valid_utf8(std::string_view text);

/// Walks JSON text forwards and checks its grammar (RFC 8259) as it goes, without building anything. UTF-8 is not its
/// business: see valid_utf8. Reads nothing behind the end of the text.
///
/// Errors  protocol, code `json` or `json_depth`, with the byte.
/// Threads one thread at a time. Views the text given.
class Scanner {
 public:
  explicit Scanner(std::string_view text, int depth_max = 512)
      : begin_(text.data()), at_(text.data()), end_(text.data() + text.size()), depth_max_(depth_max) {}

  const char* at() const { return at_; }
  const char* end() const { return end_; }
  void move_to(const char* at) { at_ = at; }

  [[noreturn]] void fail(std::string_view what) const { json::fail("json", what, std::size_t(at_ - begin_)); }

  void space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
  }
  /// The next character after white space, 0 at the end. Does not take it.
  char peek() {
    space();
    return at_ == end_ ? '\0' : *at_;
  }
  bool take(char c) {
    if (peek() != c || at_ == end_) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) fail(at_ == end_ ? "the text ends too early" : "an unexpected character");
  }
  /// Fails unless nothing but white space is left.
  void finish() {
    space();
    if (at_ != end_) fail("something follows the value");
  }

  /// A string with its quotes. `escaped` tells whether a backslash is in it.
  std::string_view string(bool& escaped) {
    if (peek() != '"') fail(at_ == end_ ? "the text ends too early" : "a string is expected");
    const char* const start = at_++;
    escaped = false;
    for (;;) {
      skip_plain();
      if (at_ == end_) fail("a string does not end");
      if (*at_ == '"') break;
      if (*at_ != '\\') fail("a control character in a string");
      escaped = true;
      escape();
    }
    ++at_;
    return {start, std::size_t(at_ - start)};
  }

  /// A number, true, false or null.
  std::string_view scalar() {
    const char c = peek();
    const char* const start = at_;
    if (c == 't')
      literal("true");
    else if (c == 'f')
      literal("false");
    else if (c == 'n')
      literal("null");
    else
      number();
    return {start, std::size_t(at_ - start)};
  }

  /// Any value, whole. `escaped` tells of a backslash if it is a string.
  std::string_view value(bool& escaped) {
    const char c = peek();
    if (c == '"') return string(escaped);
    escaped = false;
    if (c != '{' && c != '[') return scalar();
    const char* const start = at_;
    nested();
    return {start, std::size_t(at_ - start)};
  }
  std::string_view value() {
    bool escaped;
    return value(escaped);
  }

  /// For those who walk into an object or array themselves.
  void enter() {
    if (++depth_ > depth_max_) json::fail("json_depth", "brackets are nested too deep", std::size_t(at_ - begin_));
  }
  void leave() { --depth_; }

 private:
  void skip_plain() {
#if defined(__SSE2__)
    const __m128i quote = _mm_set1_epi8('"'), slash = _mm_set1_epi8('\\'), control = _mm_set1_epi8(0x1f);
    while (end_ - at_ >= 16) {
      const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at_));
      const int found = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(v, quote), _mm_cmpeq_epi8(v, slash)),
                                                       _mm_cmpeq_epi8(_mm_min_epu8(v, control), v)));
      if (found) {
        at_ += __builtin_ctz(unsigned(found));
        return;
      }
      at_ += 16;
    }
#endif
    while (at_ != end_ && *at_ != '"' && *at_ != '\\' && static_cast<unsigned char>(*at_) >= 0x20) ++at_;
  }
  void escape() {
    ++at_;
    if (at_ == end_) fail("a string does not end");
    const char c = *at_++;
    if (c == 'u') {
      for (int i = 0; i < 4; ++i, ++at_) {
        if (at_ == end_) fail("a string does not end");
        const char h = static_cast<char>(*at_ | 0x20);
        if (!((*at_ >= '0' && *at_ <= '9') || (h >= 'a' && h <= 'f'))) fail("a broken \\u escape");
      }
    } else if (std::string_view("\"\\/bfnrt").find(c) == std::string_view::npos) {
      --at_;
      fail("an unknown escape in a string");
    }
  }
  void literal(std::string_view word) {
    if (std::size_t(end_ - at_) < word.size() || std::string_view(at_, word.size()) != word) fail("no JSON value");
    at_ += word.size();
  }
  bool digit() const {
    return at_ != end_ && *at_ >= '0' && *at_ <= '9';
  }
  void digits() {
    if (!digit()) fail(at_ == end_ ? "the text ends too early" : "no JSON value");
    while (digit()) ++at_;
  }
  void number() {
    if (at_ != end_ && *at_ == '-') ++at_;
    if (at_ != end_ && *at_ == '0')
      ++at_;
    else
      digits();
    if (at_ != end_ && *at_ == '.') {
      ++at_;
      digits();
    }
    if (at_ != end_ && (*at_ == 'e' || *at_ == 'E')) {
      ++at_;
      if (at_ != end_ && (*at_ == '+' || *at_ == '-')) ++at_;
      digits();
    }
  }
  void nested();

  const char* begin_;
  const char* at_;
  const char* end_;
  int depth_ = 0;
  int depth_max_;
};

/// Checks that `text` is one whole JSON value in UTF-8. Errors as Scanner, and `json_utf8`.
void check(std::string_view text, int depth_max = 512);

/// The text that a string token (with quotes, already checked) stands for. A lone surrogate becomes U+FFFD.
std::string unquote(std::string_view token);

}  // namespace dragoman::json
