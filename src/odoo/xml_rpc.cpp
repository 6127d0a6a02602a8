#include "odoo/xml_rpc.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <pugixml.hpp>

#include "json/scan.h"

namespace dragoman::odoo {
namespace {

// A value takes up to four elements (struct, member, value, and the array's data), JSON's limit is 512.
constexpr int kElementDepthMax = 4 * 512 + 8;

[[noreturn]] void broken(std::string_view why) {
  Error error(Error::Kind::protocol, fmt::format("the answer is no usable XML-RPC: {}", why));
  error.code = "xml_rpc";
  throw error;
}

void put_xml(std::string& out, std::string_view text) {
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '\r')
      out += "&#13;";  // a bare one would be read as a line end
    else
      out += c;
  }
}

void put_param(std::string& out, json::Scanner& scanner) {
  const char c = scanner.peek();
  bool escaped;
  out += "<value>";
  if (c == '"') {
    out += "<string>";
    put_xml(out, json::unquote(scanner.string(escaped)));
    out += "</string>";
  } else if (c == '[') {
    out += "<array><data>";
    scanner.expect('[');
    scanner.enter();
    if (!scanner.take(']')) {
      do put_param(out, scanner);
      while (scanner.take(','));
      scanner.expect(']');
    }
    scanner.leave();
    out += "</data></array>";
  } else if (c == '{') {
    out += "<struct>";
    scanner.expect('{');
    scanner.enter();
    if (!scanner.take('}')) {
      do {
        out += "<member><name>";
        put_xml(out, json::unquote(scanner.string(escaped)));
        out += "</name>";
        scanner.expect(':');
        put_param(out, scanner);
        out += "</member>";
      } while (scanner.take(','));
      scanner.expect('}');
    }
    scanner.leave();
    out += "</struct>";
  } else {
    const auto token = scanner.scalar();
    if (token == "true" || token == "false") {
      out += token == "true" ? "<boolean>1</boolean>" : "<boolean>0</boolean>";
    } else if (token == "null") {
      out += "<nil/>";
    } else if (token.find_first_of(".eE") != std::string_view::npos) {
      out += fmt::format("<double>{}</double>", token);
    } else {
      std::int64_t number = 0;
      const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), number);
      const bool small = error == std::errc() && number >= std::numeric_limits<std::int32_t>::min() &&
                         number <= std::numeric_limits<std::int32_t>::max();
      out += small ? fmt::format("<int>{}</int>", token) : fmt::format("<i8>{}</i8>", token);
    }
  }
  out += "</value>";
}

// pugixml recurses nowhere while it parses, but what walks its tree does; and a document type is never needed.
void check_shape(std::string_view xml) {
  int depth = 0;
  for (std::size_t i = xml.find('<'); i != std::string_view::npos; i = xml.find('<', i)) {
    const std::string_view rest = xml.substr(i);
    if (rest.starts_with("<!--")) {
      i = xml.find("-->", i + 4);
    } else if (rest.starts_with("<![CDATA[")) {
      i = xml.find("]]>", i + 9);
    } else if (rest.starts_with("<!")) {
      broken("it has a document type");
    } else if (rest.starts_with("<?")) {
      i = xml.find("?>", i + 2);
    } else {
      const std::size_t end = xml.find('>', i);
      if (end == std::string_view::npos) broken("a tag does not end");
      if (rest.starts_with("</"))
        --depth;
      else if (xml[end - 1] != '/' && ++depth > kElementDepthMax)
        json::fail("json_depth", "elements are nested too deep", i);
      i = end;
    }
    if (i == std::string_view::npos) broken("it ends too early");
  }
}

// As Python's json.dumps does, which is what Odoo's JSON-RPC is made with: the same bytes by both ways.
void put_json(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  const auto unit = [&](unsigned u) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kHex[u >> shift & 15];
  };
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) {
      ++i;
      switch (c) {
        case '"':
          out += "\\\"";
          break;
        case '\\':
          out += "\\\\";
          break;
        case '\n':
          out += "\\n";
          break;
        case '\r':
          out += "\\r";
          break;
        case '\t':
          out += "\\t";
          break;
        case '\b':
          out += "\\b";
          break;
        case '\f':
          out += "\\f";
          break;
        default:
          if (c < 0x20)
            unit(c);
          else
            out += static_cast<char>(c);
      }
      continue;
    }
    const std::size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;  // the text was checked to be UTF-8
    unsigned u = c & (0x7f >> length);
    for (std::size_t k = 1; k < length && i + k < text.size(); ++k)
      u = u << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3f);
    i += length;
    if (u >= 0x10000) {
      unit(0xd800 + ((u - 0x10000) >> 10));
      unit(0xdc00 + ((u - 0x10000) & 0x3ff));
    } else {
      unit(u);
    }
  }
  out += '"';
}

std::string text_of(pugi::xml_node node) {
  const pugi::xml_node first = node.first_child();
  if (!first) return {};
  if (!first.next_sibling()) return first.value();
  std::string text;
  for (const auto& child : node.children())
    if (child.type() == pugi::node_pcdata || child.type() == pugi::node_cdata) text += child.value();
  return text;
}

std::string_view trimmed(std::string_view text) {
  const auto space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  return text;
}

pugi::xml_node element(pugi::xml_node node) {
  for (const auto& child : node.children())
    if (child.type() == pugi::node_element) return child;
  return {};
}

std::string number(std::string_view text, bool whole) {
  std::string token(trimmed(text));
  if (!token.empty() && token.front() == '+') token.erase(0, 1);
  try {
    json::check(token);
  } catch (const Error&) {
    broken("a number that is none");
  }
  const char c = token.front();
  if ((c != '-' && (c < '0' || c > '9')) || (whole && token.find_first_of(".eE") != std::string::npos))
    broken("a number that is none");
  return token;
}

void put_value(std::string& out, pugi::xml_node value) {
  if (std::strcmp(value.name(), "value") != 0) broken("a value is missing");
  const pugi::xml_node typed = element(value);
  if (!typed) return put_json(out, text_of(value));
  const std::string_view type = typed.name();
  if (type == "string") {
    put_json(out, text_of(typed));
  } else if (type == "int" || type == "i4" || type == "i8" || type == "i1" || type == "i2" || type == "biginteger") {
    out += number(text_of(typed), true);
  } else if (type == "double" || type == "float" || type == "bigdecimal") {
    out += number(text_of(typed), false);
  } else if (type == "boolean") {
    const std::string text = text_of(typed);
    const auto flag = trimmed(text);
    if (flag != "0" && flag != "1") broken("a boolean that is neither 0 nor 1");
    out += flag == "1" ? "true" : "false";
  } else if (type == "nil" || type == "ex:nil") {
    out += "null";
  } else if (type == "dateTime.iso8601") {
    // `20261120T10:05:48`, which Odoo's JSON says as `2026-11-20 10:05:48`
    const std::string text = text_of(typed);
    auto t = trimmed(text);
    if (t.size() >= 17 && t[8] == 'T' && t[4] != '-')
      put_json(out, fmt::format("{}-{}-{} {}", t.substr(0, 4), t.substr(4, 2), t.substr(6, 2), t.substr(9, 8)));
    else
      put_json(out, t);
  } else if (type == "base64") {
    std::string text = text_of(typed);
    std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == ' ' || c == '\t'; });
    put_json(out, text);
  } else if (type == "array") {
    const pugi::xml_node data = typed.child("data");
    if (!data) broken("an array without data");
    out += '[';
    bool first = true;
    for (const auto& item : data.children()) {
      if (item.type() != pugi::node_element) continue;
      if (!first) out += ", ";
      first = false;
      put_value(out, item);
    }
    out += ']';
  } else if (type == "struct") {
    out += '{';
    bool first = true;
    for (const auto& member : typed.children("member")) {
      if (!first) out += ", ";
      first = false;
      put_json(out, text_of(member.child("name")));
      out += ": ";
      put_value(out, member.child("value"));
    }
    out += '}';
  } else {
    broken("a value of an unknown type");
  }
}

}  // namespace

std::string xml_rpc_call(std::string_view method, std::span<const std::string_view> params) {
  std::string out = "<?xml version='1.0'?><methodCall><methodName>";
  put_xml(out, method);
  out += "</methodName><params>";
  for (const auto param : params) {
    out += "<param>";
    try {
      json::Scanner scanner(param);
      put_param(out, scanner);
      scanner.finish();
    } catch (const Error& error) {
      throw Error(Error::Kind::invalid, "an argument of the call is no JSON: " + error.message);
    }
    out += "</param>";
  }
  return out + "</params></methodCall>";
}

XmlRpcAnswer read_xml_rpc(std::string& body) {
  if (!json::valid_utf8(body)) json::fail("json_utf8", "bytes that are no UTF-8 in the answer that ends", body.size());
  check_shape(body);
  pugi::xml_document document;
  // Not parse_eol: it would turn \r\n into \n, and not without parse_ws_pcdata: it would drop strings of spaces.
  const auto parsed = document.load_buffer_inplace(
      body.data(), body.size(), pugi::parse_cdata | pugi::parse_escapes | pugi::parse_ws_pcdata, pugi::encoding_utf8);
  if (!parsed) broken(fmt::format("{} at byte {}", parsed.description(), parsed.offset));
  const pugi::xml_node response = document.child("methodResponse");
  if (!response) broken("it is no methodResponse");
  XmlRpcAnswer answer;
  if (const pugi::xml_node fault = response.child("fault")) {
    int code = 1;
    std::string text;
    for (const auto& member : fault.child("value").child("struct").children("member")) {
      const std::string key = text_of(member.child("name"));
      const pugi::xml_node value = member.child("value");
      const pugi::xml_node typed = element(value);
      const std::string content = text_of(typed ? typed : value);
      if (key == "faultCode") {
        const auto digits = trimmed(content);
        std::from_chars(digits.data(), digits.data() + digits.size(), code);
      } else if (key == "faultString") {
        text = content;
      }
    }
    answer.none = text.find("cannot marshal None unless allow_none is enabled") != std::string::npos;
    answer.fault = xml_rpc_fault(code, text);
    return answer;
  }
  const pugi::xml_node value = response.child("params").child("param").child("value");
  if (!value) broken("it has no result");
  answer.json.reserve(body.size() / 2 + 64);
  put_value(answer.json, value);
  // Escapes of the XML may stand for what UTF-8 may not hold.
  if (!json::valid_utf8(answer.json)) broken("a character reference that is no character");
  return answer;
}

}  // namespace dragoman::odoo
