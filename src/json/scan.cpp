#include "json/scan.h"

#include <fmt/format.h>
#include <simdjson.h>

namespace dragoman::json {
namespace {

unsigned hex4(const char* p) {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    value = value * 16 + unsigned(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

void append_utf8(std::string& out, unsigned c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

}  // namespace

void fail(const char* code, std::string_view what, std::size_t at) {
  Error error(Error::Kind::protocol, fmt::format("{}{} at byte {}", kNotUsable, what, at));
  error.code = code;
  throw error;
}

bool valid_utf8(std::string_view text) {
  return simdjson::validate_utf8(text.data(), text.size());
}

void Scanner::nested() {
  const char open = *at_++;
  const char close = open == '{' ? '}' : ']';
  enter();
  if (!take(close)) {
    for (;;) {
      if (open == '{') {
        bool escaped;
        string(escaped);
        expect(':');
      }
      value();
      if (take(close)) break;
      expect(',');
    }
  }
  leave();
}

void check(std::string_view text, int depth_max) {
  if (!valid_utf8(text)) fail("json_utf8", "bytes that are no UTF-8 in the text that ends", text.size());
  Scanner scanner(text, depth_max);
  scanner.value();
  scanner.finish();
}

std::string unquote(std::string_view token) {
  std::string out;
  out.reserve(token.size());
  const char* p = token.data() + 1;
  const char* const end = token.data() + token.size() - 1;
  while (p < end) {
    if (*p != '\\') {
      out += *p++;
      continue;
    }
    ++p;
    const char c = *p++;
    switch (c) {
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 't':
        out += '\t';
        break;
      case 'b':
        out += '\b';
        break;
      case 'f':
        out += '\f';
        break;
      case 'u': {
        unsigned u = hex4(p);
        p += 4;
        if (u >= 0xd800 && u < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
          const unsigned low = hex4(p + 2);
          if (low >= 0xdc00 && low < 0xe000) {
            u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
          }
        }
        append_utf8(out, u >= 0xd800 && u < 0xe000 ? 0xfffd : u);
        break;
      }
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace dragoman::json
