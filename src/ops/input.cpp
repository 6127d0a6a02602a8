#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "json/scan.h"
#include "ops/operation.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

constexpr std::size_t kDepthMax = 32;
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

// The digits of a number and the power of ten that they are multiplied by, without zeros at either end: what two ways
// of writing one number have in common. Its sign is left out.
std::pair<std::string, std::int64_t> digits_of(std::string_view token) {
  const std::size_t e = std::min(token.find_first_of("eE"), token.size());
  std::int64_t power = 0;
  if (e < token.size()) {
    const std::size_t from = e + 1 + (token[e + 1] == '+' ? 1 : 0);
    std::from_chars(token.data() + from, token.data() + token.size(), power);
  }
  std::string digits;
  bool fraction = false;
  for (const char c : token.substr(0, e)) {
    if (c == '.') fraction = true;
    if (c < '0' || c > '9') continue;
    digits += c;
    if (fraction) --power;
  }
  digits.erase(0, std::min(digits.find_first_not_of('0'), digits.size()));
  while (!digits.empty() && digits.back() == '0') {
    digits.pop_back();
    ++power;
  }
  if (digits.empty()) power = 0;
  return {std::move(digits), power};
}

// Whether a double makes another number of it. Seventeen digits are how many programs write the double that they have.
bool altered(double value, const std::string& token) {
  constexpr std::size_t kSafe = 15, kWritten = 17;
  if (token.size() <= kSafe) return value == 0 && !digits_of(token).first.empty();  // such as 1e-400
  const auto given = digits_of(token);
  if (given == digits_of(fmt::format("{}", value))) return false;
  return given.first.size() > kWritten ||
         given != digits_of(fmt::format("{:.{}e}", value, static_cast<int>(given.first.size()) - 1));
}

// Builds the tree in one walk, and stops at what would be lost in it.
class Builder : public json::json_sax_t {
 public:
  // Errors of the body that the text alone can't tell; empty: none.
  std::string problem, code = "json";
  json root;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t& token) override {
    // One of more than 64 bits comes as a double, which would be another number.
    if (token.find_first_of(".eE") == std::string::npos)
      return refuse(
          "The body has a whole number of more than 64 bits. Where it is an id or a code, send it as a text.");
    if (altered(value, token))
      return refuse(fmt::format("The body has the decimal {}, which would be read as {}: send it as a text.",
                                token.size() > 60 ? token.substr(0, 57) + "…" : token, value));
    return add(value);
  }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    const auto [at, fresh] = open_.back()->get_ref<json::object_t&>().try_emplace(std::move(name));
    if (!fresh) {
      code = "duplicate";
      return refuse(fmt::format("The body has `{}` twice in one object.", at->first));
    }
    member_ = &at->second;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    if (error.id == 406) refuse("The body has a number that is too large.");  // such as 1e999, which no double holds
    return false;
  }

 private:
  bool refuse(std::string what) {
    problem = std::move(what);
    return false;
  }
  json* place(json value) {
    if (open_.empty()) return &(root = std::move(value));
    if (!member_) return &open_.back()->get_ref<json::array_t&>().emplace_back(std::move(value));
    json* const member = std::exchange(member_, nullptr);
    *member = std::move(value);
    return member;
  }
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  bool open(json value) {
    if (open_.size() >= kDepthMax) return false;  // json::check says it
    open_.push_back(place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  std::vector<json*> open_;  // none moves while it is open: what is added is added to the last of them
  json* member_ = nullptr;   // whose value comes next, in an object
};

}  // namespace

json parse_body(std::string_view text) {
  Builder builder;
  // nlohmann takes a NUL for the end of the text, whatever follows.
  if (text.find('\0') == std::string_view::npos && json::sax_parse(text, &builder)) return std::move(builder.root);
  // Its own words tell the place in a way that people understand.
  try {
    dragoman::json::check(text, static_cast<int>(kDepthMax));
  } catch (const Error& error) {
    std::string_view what = error.message;
    if (what.starts_with(dragoman::json::kNotUsable)) what.remove_prefix(dragoman::json::kNotUsable.size());
    refuse(fmt::format("This is not JSON that can be read: {}.", what), error.code.empty() ? "json" : error.code);
  }
  if (!builder.problem.empty()) refuse(std::move(builder.problem), std::move(builder.code));
  // Its grammar was checked, and that allows any escape.
  refuse("The body has an escape such as \\ud800 that is half a character: its other half does not follow.", "json");
}

std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace dragoman::ops
