#include "sandbox/odoo/sink.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "sandbox/odoo/errors.h"

namespace sandbox::odoo {

namespace {

constexpr char kHex[] = "0123456789abcdef";

void append_unicode_escape(std::string& out, unsigned unit) {
  out += "\\u";
  out += kHex[(unit >> 12) & 15];
  out += kHex[(unit >> 8) & 15];
  out += kHex[(unit >> 4) & 15];
  out += kHex[unit & 15];
}

bool is_plain(unsigned char c, Spelling spelling) {
  return c >= 0x20 && c != '"' && c != '\\' && (spelling == Spelling::utf8 || c < 0x7f);
}

/// Decodes one UTF-8 sequence at `i`; bad bytes come out as U+FFFD, one by one.
unsigned decode_utf8(std::string_view text, std::size_t& i) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned first = byte(i);
  unsigned length = 0;
  unsigned point = 0;
  if (first < 0x80) {
    ++i;
    return first;
  }
  if ((first & 0xe0) == 0xc0) {
    length = 2;
    point = first & 0x1f;
  } else if ((first & 0xf0) == 0xe0) {
    length = 3;
    point = first & 0x0f;
  } else if ((first & 0xf8) == 0xf0) {
    length = 4;
    point = first & 0x07;
  }
  if (length == 0 || i + length > text.size()) {
    ++i;
    return 0xfffd;
  }
  for (unsigned k = 1; k < length; ++k) {
    if ((byte(i + k) & 0xc0) != 0x80) {
      ++i;
      return 0xfffd;
    }
    point = (point << 6) | (byte(i + k) & 0x3f);
  }
  i += length;
  return point;
}

void append_json_string(std::string& out, std::string_view text, Spelling spelling) {
  out += '"';
  std::size_t i = 0;
  while (i < text.size()) {
    std::size_t plain = i;
    while (plain < text.size() && is_plain(static_cast<unsigned char>(text[plain]), spelling)) ++plain;
    out.append(text, i, plain - i);
    i = plain;
    if (i == text.size()) break;
    const auto c = static_cast<unsigned char>(text[i]);
    switch (c) {
      case '"':
        out += "\\\"";
        ++i;
        continue;
      case '\\':
        out += "\\\\";
        ++i;
        continue;
      case '\n':
        out += "\\n";
        ++i;
        continue;
      case '\r':
        out += "\\r";
        ++i;
        continue;
      case '\t':
        out += "\\t";
        ++i;
        continue;
      case '\b':
        out += "\\b";
        ++i;
        continue;
      case '\f':
        out += "\\f";
        ++i;
        continue;
      default:
        break;
    }
    const unsigned point = decode_utf8(text, i);
    if (point < 0x10000) {
      append_unicode_escape(out, point);
    } else {
      const unsigned rest = point - 0x10000;
      append_unicode_escape(out, 0xd800 + (rest >> 10));
      append_unicode_escape(out, 0xdc00 + (rest & 0x3ff));
    }
  }
  out += '"';
}

void append_integer(std::string& out, std::int64_t value) {
  std::array<char, 24> buffer{};
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  out.append(buffer.data(), result.ptr);
}

}  // namespace

std::string python_float(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  if (value == std::floor(value) && std::abs(value) < 1e15) {
    std::string text;
    if (std::signbit(value) && value == 0) return "-0.0";
    append_integer(text, static_cast<std::int64_t>(value));
    return text + ".0";
  }
  // Shortest digits from to_chars; where the exponent form starts is Python's rule, not ours.
  std::array<char, 40> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::scientific).ptr;
  std::string_view text(buffer.data(), static_cast<std::size_t>(end - buffer.data()));
  std::string result;
  if (text.front() == '-') {
    result = "-";
    text.remove_prefix(1);
  }
  const auto e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  std::string digits(1, text.front());
  if (e > 2) digits += text.substr(2, e - 2);
  const int count = static_cast<int>(digits.size());
  if (exponent < -4 || exponent >= 16) {
    result += digits[0];
    if (count > 1) result += "." + digits.substr(1);
    result += exponent < 0 ? "e-" : "e+";
    const std::string power = std::to_string(std::abs(exponent));
    if (power.size() < 2) result += '0';
    return result + power;
  }
  if (exponent < 0) return result + "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0') + digits;
  if (count <= exponent + 1) {
    return result + digits + std::string(static_cast<std::size_t>(exponent + 1 - count), '0') + ".0";
  }
  const auto whole = static_cast<std::size_t>(exponent + 1);
  return result + digits.substr(0, whole) + "." + digits.substr(whole);
}

void PythonJsonSink::separate() {
  if (comma_) out_ += ", ";
  comma_ = true;
}
void PythonJsonSink::null() {
  separate();
  out_ += "null";
}
void PythonJsonSink::boolean(bool value) {
  separate();
  out_ += value ? "true" : "false";
}
void PythonJsonSink::integer(std::int64_t value) {
  separate();
  append_integer(out_, value);
}
void PythonJsonSink::floating(double value) {
  separate();
  out_ += python_float(value);
}
void PythonJsonSink::string(std::string_view value) {
  separate();
  append_json_string(out_, value, spelling_);
}
void PythonJsonSink::begin_array() {
  separate();
  out_ += '[';
  comma_ = false;
}
void PythonJsonSink::end_array() {
  out_ += ']';
  comma_ = true;
}
void PythonJsonSink::begin_object() {
  separate();
  out_ += '{';
  comma_ = false;
}
void PythonJsonSink::key(std::string_view name) {
  separate();
  append_json_string(out_, name, spelling_);
  out_ += ": ";
  comma_ = false;
}
void PythonJsonSink::end_object() {
  out_ += '}';
  comma_ = true;
}

namespace {

void append_xml_text(std::string& out, std::string_view text) {
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        // Odoo's marshaller drops the control characters that XML 1.0 cannot carry.
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t' || c == '\r') out += c;
    }
  }
}

}  // namespace

void XmlRpcSink::close_member() {
  if (!stack_.empty() && stack_.back() == 'm') {
    stack_.pop_back();
    out_ += "</member>\n";
  }
}
void XmlRpcSink::null() {
  throw OdooError("builtins.TypeError", "cannot marshal None unless allow_none is enabled");
}
void XmlRpcSink::boolean(bool value) {
  out_ += value ? "<value><boolean>1</boolean></value>\n" : "<value><boolean>0</boolean></value>\n";
  close_member();
}
void XmlRpcSink::integer(std::int64_t value) {
  if (value > 2147483647 || value < -2147483648LL) {
    throw OdooError("builtins.OverflowError", "int exceeds XML-RPC limits");
  }
  out_ += "<value><int>";
  append_integer(out_, value);
  out_ += "</int></value>\n";
  close_member();
}
void XmlRpcSink::floating(double value) {
  out_ += "<value><double>";
  out_ += python_float(value);
  out_ += "</double></value>\n";
  close_member();
}
void XmlRpcSink::string(std::string_view value) {
  out_ += "<value><string>";
  append_xml_text(out_, value);
  out_ += "</string></value>\n";
  close_member();
}
void XmlRpcSink::begin_array() {
  out_ += "<value><array><data>\n";
  stack_ += 'a';
}
void XmlRpcSink::end_array() {
  stack_.pop_back();
  out_ += "</data></array></value>\n";
  close_member();
}
void XmlRpcSink::begin_object() {
  out_ += "<value><struct>\n";
  stack_ += 'o';
}
void XmlRpcSink::key(std::string_view name) {
  out_ += "<member>\n<name>";
  append_xml_text(out_, name);
  out_ += "</name>\n";
  stack_ += 'm';
}
void XmlRpcSink::end_object() {
  stack_.pop_back();
  out_ += "</struct></value>\n";
  close_member();
}

void write_json(Sink& sink, const nlohmann::ordered_json& value) {
  using Type = nlohmann::ordered_json::value_t;
  switch (value.type()) {
    case Type::boolean:
      sink.boolean(value.get<bool>());
      break;
    case Type::number_integer:
    case Type::number_unsigned:
      sink.integer(value.get<std::int64_t>());
      break;
    case Type::number_float:
      sink.floating(value.get<double>());
      break;
    case Type::string:
      sink.string(value.get_ref<const std::string&>());
      break;
    case Type::array:
      sink.begin_array();
      for (const auto& item : value) write_json(sink, item);
      sink.end_array();
      break;
    case Type::object:
      sink.begin_object();
      for (const auto& [name, item] : value.items()) {
        sink.key(name);
        write_json(sink, item);
      }
      sink.end_object();
      break;
    default:
      sink.null();
  }
}

std::string python_json(const nlohmann::ordered_json& value, Spelling spelling) {
  std::string out;
  PythonJsonSink sink(out, spelling);
  write_json(sink, value);
  return out;
}

}  // namespace sandbox::odoo
