#include "odoo/envelope.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "json/scan.h"

namespace dragoman::odoo {
namespace {

std::string text_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Fault fault_of(const nlohmann::json& data) {
  Fault fault{text_of(data, "name"), text_of(data, "message"), text_of(data, "debug")};
  return fault;
}

// The bytes of `{"name":…}`, checked for depth and UTF-8 before a tree is made of them.
nlohmann::json tree(std::string_view text) {
  json::check(text);
  return nlohmann::json::parse(text);
}

}  // namespace

Envelope read_json_rpc(std::string_view body, Check check) {
  if (check == Check::whole && !json::valid_utf8(body))
    json::fail("json_utf8", "bytes that are no UTF-8 in the answer that ends", body.size());
  json::Scanner scanner(body);
  Envelope envelope;
  if (scanner.peek() != '{') scanner.fail("an object is expected");
  scanner.expect('{');
  scanner.enter();
  if (!scanner.take('}')) {
    for (;;) {
      bool escaped;
      const auto key = scanner.string(escaped);
      scanner.expect(':');
      if (key == "\"result\"") {
        scanner.space();
        const char* const start = scanner.at();
        envelope.begin = std::size_t(start - body.data());
        if (check == Check::page) {
          // It is the last member, always so far. If ever it is not, what follows ends up in the slice, and the page
          // reader refuses that.
          std::size_t end = body.find_last_of('}');
          if (end == std::string_view::npos || end < envelope.begin) scanner.fail("the answer ends too early");
          if (body.find_first_not_of(" \t\r\n", end + 1) != std::string_view::npos)
            scanner.fail("something follows the answer");
          envelope.end = end;
          return envelope;
        }
        scanner.value();
        envelope.end = std::size_t(scanner.at() - body.data());
      } else if (key == "\"error\"") {
        const auto error = tree(scanner.value());
        if (!error.is_null()) {
          const auto data = error.is_object() ? error.find("data") : error.end();
          envelope.fault = error.is_object() && data != error.end() && data->is_object() ? fault_of(*data) : Fault{};
          if (envelope.fault->message.empty() && error.is_object()) envelope.fault->message = text_of(error, "message");
          if (envelope.fault->name.empty()) envelope.fault->name = "odoo.http.Error";
        }
      } else {
        scanner.value();
      }
      if (scanner.take('}')) break;
      scanner.expect(',');
    }
  }
  scanner.leave();
  scanner.finish();
  return envelope;
}

std::optional<Fault> read_json2_fault(std::string_view body) {
  try {
    const auto data = tree(body);
    if (!data.is_object() || !data.contains("name") || !data.contains("message")) return std::nullopt;
    return fault_of(data);
  } catch (const Error&) {
    return std::nullopt;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

namespace {

[[noreturn]] void refuse(std::string_view what, std::string_view shape, const std::string& why) {
  throw Error(Error::Kind::invalid, fmt::format("{} has to be {}: {}", what, shape, why));
}

}  // namespace

std::vector<std::pair<std::string, std::string_view>> members_of(std::string_view object, std::string_view what) {
  std::vector<std::pair<std::string, std::string_view>> members;
  try {
    json::Scanner scanner(object);
    scanner.expect('{');
    if (!scanner.take('}')) {
      do {
        bool escaped;
        std::string key = json::unquote(scanner.string(escaped));
        scanner.expect(':');
        members.emplace_back(std::move(key), scanner.value());
      } while (scanner.take(','));
      scanner.expect('}');
    }
    scanner.finish();
  } catch (const Error& error) {
    refuse(what, "a JSON object", error.message);
  }
  return members;
}

std::vector<std::string_view> items_of(std::string_view array, std::string_view what) {
  std::vector<std::string_view> items;
  try {
    json::Scanner scanner(array);
    scanner.expect('[');
    if (!scanner.take(']')) {
      do items.push_back(scanner.value());
      while (scanner.take(','));
      scanner.expect(']');
    }
    scanner.finish();
  } catch (const Error& error) {
    refuse(what, "a JSON array", error.message);
  }
  return items;
}

}  // namespace dragoman::odoo
