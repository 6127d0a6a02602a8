#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "json/scan.h"
#include "ops/operation.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

constexpr int kDepthMax = 32;
constexpr std::size_t kTextBytesMax = 1 << 20;

[[noreturn]] void refuse(std::string message, std::string code = "input") {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = std::move(code);
  throw error;
}

std::string article(Type type) {
  switch (type) {
    case Type::text:
      return "a text";
    case Type::integer:
      return "a whole number";
    case Type::boolean:
      return "true or false";
    case Type::time:
      return "a time such as 2026-11-20T10:05:48Z";
    case Type::list:
      return "a list";
    case Type::object:
      return "a JSON object";
  }
  return "a value";
}

std::string shown(const Field& field, const json& value) {
  if (field.secret) return "what was given";
  std::string text = dump(value);
  if (text.size() > 60) text = text.substr(0, 57) + "…";
  return "`" + text + "`";
}

json check_value(const Field& field, json value) {
  const auto wrong = [&] {
    refuse(fmt::format("`{}` takes {}, and {} is none.", field.name, article(field.type), shown(field, value)));
  };
  switch (field.type) {
    case Type::text: {
      if (!value.is_string()) wrong();
      const auto& text = value.get_ref<const std::string&>();
      if (text.size() > kTextBytesMax) refuse(fmt::format("`{}` is over {} bytes.", field.name, kTextBytesMax));
      if (text.find('\0') != std::string::npos) refuse(fmt::format("`{}` holds a NUL character.", field.name));
      if (field.required && text.empty()) refuse(fmt::format("`{}` must not be empty.", field.name));
      if (!field.choices.empty() && std::find(field.choices.begin(), field.choices.end(), text) == field.choices.end())
        refuse(fmt::format("`{}` is one of {}, and {} is none of them.", field.name, fmt::join(field.choices, ", "),
                           shown(field, value)));
      break;
    }
    case Type::integer: {
      if (!value.is_number_integer()) wrong();
      if (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX) wrong();
      const auto number = value.get<std::int64_t>();
      if ((field.min && number < *field.min) || (field.max && number > *field.max))
        refuse(fmt::format("`{}` is from {} to {}, and {} is outside.", field.name, field.min.value_or(INT64_MIN),
                           field.max.value_or(INT64_MAX), number));
      break;
    }
    case Type::boolean:
      if (!value.is_boolean()) wrong();
      break;
    case Type::time: {
      if (!value.is_string()) wrong();
      const auto time = parse_time(value.get_ref<const std::string&>());
      if (!time) wrong();
      value = format_iso(*time);
      break;
    }
    case Type::list:
      if (!value.is_array()) wrong();
      if (field.objects) {
        for (const auto& item : value)
          if (!item.is_object()) refuse(fmt::format("`{}` takes a list of JSON objects.", field.name));
        break;
      }
      for (const auto& item : value)
        if (!item.is_string() && !item.is_number_integer())
          refuse(fmt::format("`{}` takes a list of texts or whole numbers.", field.name));
      break;
    case Type::object:
      if (!value.is_object()) wrong();
      break;
  }
  return value;
}

}  // namespace

std::string_view name(Type type) {
  switch (type) {
    case Type::text:
      return "text";
    case Type::integer:
      return "integer";
    case Type::boolean:
      return "boolean";
    case Type::time:
      return "time";
    case Type::list:
      return "list";
    case Type::object:
      return "object";
  }
  return "text";
}

json check_input(const Operation& operation, json input) {
  if (input.is_null()) input = json::object();
  if (!input.is_object()) refuse("The input is a JSON object.");
  for (const auto& [key, value] : input.items()) {
    if (std::any_of(operation.inputs.begin(), operation.inputs.end(),
                    [&name = key](const Field& field) { return field.name == name; }))
      continue;
    std::vector<std::string> names;
    for (const Field& field : operation.inputs) names.push_back(field.name);
    const std::string near = nearest(key, names);
    refuse(fmt::format("`{}` takes no `{}`.{}", operation.name, key,
                       !near.empty()   ? fmt::format(" Did you mean `{}`?", near)
                       : names.empty() ? " It takes nothing."
                                       : fmt::format(" It takes {}.", fmt::join(names, ", "))));
  }
  json checked = json::object();
  for (const Field& field : operation.inputs) {
    const auto given = input.find(field.name);
    // null is how some clients say "not given".
    if (given == input.end() || given->is_null()) {
      if (field.required) refuse(fmt::format("`{}` needs `{}`: {}.", operation.name, field.name, field.doc));
      if (!field.fallback.empty()) checked[field.name] = json::parse(field.fallback);
      continue;
    }
    checked[field.name] = check_value(field, std::move(*given));
  }
  return checked;
}

json value_of(const Field& field, const std::string& text) {
  const auto wrong = [&] {
    refuse(fmt::format("`{}` takes {}, and {} is none.", field.name, article(field.type), shown(field, text)));
  };
  switch (field.type) {
    case Type::text:
    case Type::time:
      return check_value(field, text);
    case Type::integer: {
      std::int64_t number = 0;
      const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (code != std::errc() || end != text.data() + text.size() || text.empty()) wrong();
      return check_value(field, number);
    }
    case Type::boolean:
      if (text == "true" || text == "1" || text == "yes" || text.empty()) return true;
      if (text == "false" || text == "0" || text == "no") return false;
      wrong();
      break;
    case Type::list: {
      if (text.starts_with('[')) return check_value(field, parse_body(text));
      json list = json::array();
      std::size_t begin = 0;
      while (begin <= text.size() && !text.empty()) {
        const auto comma = std::min(text.find(',', begin), text.size());
        if (comma > begin) list.push_back(text.substr(begin, comma - begin));
        begin = comma + 1;
      }
      return list;
    }
    case Type::object:
      return check_value(field, parse_body(text));
  }
  return nullptr;
}

namespace {

struct Look {
  bool longer_integer = false;  ///< a whole number of more than 64 bits: read as a double it would become another one
  std::size_t names = 0;        ///< of members, of all objects
};
// Of well-formed JSON, without building anything.
Look look_at(std::string_view text) {
  Look look;
  for (std::size_t at = 0; at < text.size();) {
    if (text[at] == '"') {
      for (++at; at < text.size() && text[at] != '"'; ++at)
        if (text[at] == '\\') ++at;
      at = std::min(text.find_first_not_of(" \t\r\n", at + 1), text.size());
      if (at < text.size() && text[at] == ':') ++look.names;
    } else if (text[at] == '-' || (text[at] >= '0' && text[at] <= '9')) {
      const auto end = std::min(text.find_first_not_of("+-.0123456789Ee", at), text.size());
      const auto token = text.substr(at, end - at);
      if (token.find_first_of(".Ee") == std::string_view::npos) {
        std::int64_t small = 0;
        std::uint64_t large = 0;
        if (std::from_chars(token.data(), token.data() + token.size(), small).ec != std::errc() &&
            std::from_chars(token.data(), token.data() + token.size(), large).ec != std::errc())
          look.longer_integer = true;
      }
      at = end;
    } else {
      ++at;
    }
  }
  return look;
}

std::size_t members(const json& value) {
  if (!value.is_structured()) return 0;
  std::size_t count = value.is_object() ? value.size() : 0;
  for (const auto& one : value) count += members(one);
  return count;
}

// A name that one object has twice.
std::string name_given_twice(std::string_view text) {
  std::vector<std::set<std::string>> open;
  std::string twice;
  const json parsed = json::parse(text, [&](int, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end && !open.empty()) open.pop_back();
    if (event == json::parse_event_t::key && !open.back().insert(value.get<std::string>()).second)
      twice = value.get<std::string>();
    return true;
  });
  return twice;
}

}  // namespace

json parse_body(std::string_view text) {
  try {
    dragoman::json::check(text, kDepthMax);
  } catch (const Error& error) {
    std::string_view what = error.message;
    if (what.starts_with(dragoman::json::kNotUsable)) what.remove_prefix(dragoman::json::kNotUsable.size());
    refuse(fmt::format("This is not JSON that can be read: {}.", what), error.code.empty() ? "json" : error.code);
  }
  const Look look = look_at(text);
  if (look.longer_integer)
    refuse("The body has a whole number of more than 64 bits. Where it is an id or a code, send it as a text.", "json");
  json parsed;
  try {
    parsed = json::parse(text);
  } catch (const json::out_of_range&) {
    refuse("The body has a number that is too large.", "json");  // such as 1e999, which no double holds
  } catch (const json::exception&) {
    // Its grammar was checked, and that allows any escape.
    refuse("The body has an escape such as \\ud800 that is half a character: its other half does not follow.", "json");
  }
  // Of two members of one name the parser keeps one.
  if (members(parsed) != look.names)
    refuse(fmt::format("The body has `{}` twice in one object.", name_given_twice(text)), "duplicate");
  return parsed;
}

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace dragoman::ops
