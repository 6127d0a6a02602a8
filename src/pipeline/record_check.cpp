#include "pipeline/record_check.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/deliver.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

constexpr std::size_t kNameBytesMax = 200;

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "record";
  throw error;
}

bool plain(const std::string& text) {
  return !text.empty() && text.size() <= kNameBytesMax && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < ' ' || c == '\x7f';
  });
}

// Whether there is anything in it that a person could see.
bool blank(std::string_view text) {
  static constexpr std::string_view kSpaces[] = {" ", "\u00a0", "\u200b", "\u2060", "\u3000", "\ufeff"};
  while (!text.empty()) {
    const auto space = std::find_if(std::begin(kSpaces), std::end(kSpaces),
                                    [&](std::string_view one) { return text.starts_with(one); });
    if (space == std::end(kSpaces)) return false;
    text.remove_prefix(space->size());
  }
  return true;
}

// Where in it there is a text with a NUL, which no database behind an Odoo stores; empty: nowhere.
std::string place_of_nul(const json& value, const std::string& path) {
  if (value.is_string()) return value.get_ref<const std::string&>().find('\0') == std::string::npos ? "" : path;
  if (value.is_array())
    for (const auto& item : value)
      if (const auto place = place_of_nul(item, path); !place.empty()) return place;
  if (value.is_object())
    for (const auto& [name, item] : value.items()) {
      if (name.find('\0') != std::string::npos) return path + ".?";
      if (const auto place = place_of_nul(item, path + "." + name); !place.empty()) return place;
    }
  return {};
}

void check_names(const json& object, const std::string& where, const std::vector<std::string>& known,
                 const std::vector<std::string>& beside = {}) {
  const auto in = [](const std::vector<std::string>& list, const std::string& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  for (const auto& [name, value] : object.items()) {
    if (in(known, name) || in(beside, name)) continue;
    const std::string near = nearest(name, known);
    refuse(fmt::format("{} has no `{}`.{}", where, name,
                       near.empty() ? fmt::format(" It takes {}.", fmt::join(known, ", "))
                                    : fmt::format(" Did you mean `{}`?", near)));
  }
}

std::string text_in(const json& object, const char* name, const std::string& where) {
  const auto found = object.find(name);
  if (found == object.end()) refuse(fmt::format("{} needs `{}`.", where, name));
  if (!found->is_string() || !plain(found->get_ref<const std::string&>()))
    refuse(
        fmt::format("`{}` of {} is a text of 1 to {} bytes, without control characters.", name, where, kNameBytesMax));
  return found->get<std::string>();
}

std::string key_in(const json& object, const std::string& where) {
  std::string key = text_in(object, "key", where);
  if (blank(key)) refuse(fmt::format("`key` of {} is blank: it takes something to find the record again by.", where));
  return key;
}

// What goes to the target of a record, as text: `values`, and where there are `children`, `call` and `recreate`; the
// names in their order, so that equal content is equal text.
std::string content_of(const json& record, const std::string& where) {
  std::string content = "{";
  const auto add = [&](std::string_view name, const json& value) {
    content += fmt::format("{}\"{}\":", content.size() > 1 ? "," : "", name);
    content += value.dump(-1, ' ', false, json::error_handler_t::replace);
  };
  const auto values = record.find("values");
  if (values == record.end() || !values->is_object())
    refuse(fmt::format("{} needs `values`, an object of fields and their values.", where));
  if (const auto call = record.find("call"); call != record.end()) {
    const std::string method = text_in(record, "call", where);
    const bool fine = method.front() != '_' && std::all_of(method.begin(), method.end(), [](char c) {
                        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
                      });
    if (!fine) refuse(fmt::format("`call` of {} is the name of a public method, such as action_confirm.", where));
    add("call", *call);
  }
  if (const auto children = record.find("children"); children != record.end()) {
    if (!children->is_object())
      refuse(fmt::format("`children` of {} is an object of fields and lists of records.", where));
    for (const auto& [field, list] : children->items()) {
      if (!list.is_array()) refuse(fmt::format("`children.{}` of {} is a list of records.", field, where));
      std::set<std::string> keys;
      for (const auto& child : list) {
        const std::string what = fmt::format("a record in `children.{}` of {}", field, where);
        if (!child.is_object()) refuse(fmt::format("{} is no JSON object.", what));
        static const std::vector<std::string> kChildNames = {"key", "values"};
        check_names(child, what, kChildNames);
        const std::string key = key_in(child, what);
        if (!keys.insert(key).second)
          refuse(fmt::format("The key `{}` is there twice in `children.{}` of {}.", key, field, where));
        if (!child.contains("values") || !child["values"].is_object())
          refuse(fmt::format("{} needs `values`, an object of fields and their values.", what));
      }
      if (values->contains(field))
        refuse(fmt::format("`{}` of {} is both in `values` and in `children`.", field, where));
    }
    if (!children->empty()) add("children", *children);
  }
  if (const auto recreate = record.find("recreate"); recreate != record.end()) {
    if (!recreate->is_boolean()) refuse(fmt::format("`recreate` of {} is true or false.", where));
    if (recreate->get<bool>()) add("recreate", *recreate);
  }
  add("values", *values);
  return content += '}';
}

}  // namespace

void check_model(const std::string& model, const std::string& where) {
  const bool fine =
      !model.empty() && model.size() <= kNameBytesMax && std::all_of(model.begin(), model.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.';
      });
  if (!fine)
    refuse(
        fmt::format("`model` of {} is a model's name, such as res.partner: 1 to {} small letters, digits, `_` and "
                    "`.`.",
                    where, kNameBytesMax));
}

InboxPut::Record checked_record(const json& record, const std::string& where, const std::string& model,
                                const std::vector<std::string>& beside) {
  static const std::vector<std::string> kNames = {"model", "key", "version", "values", "children", "call", "recreate"};
  check_names(record, where, kNames, beside);
  InboxPut::Record out;
  out.model = record.contains("model") ? text_in(record, "model", where) : model;
  if (record.contains("model")) check_model(out.model, where);
  if (out.model.empty()) refuse(fmt::format("{} needs `model`, or the body one for all of its records.", where));
  out.key = key_in(record, where);
  if (const auto version = record.find("version"); version != record.end()) {
    if (!version->is_number_integer() || version->get<std::int64_t>() < 1 ||
        (version->is_number_unsigned() && version->get<std::uint64_t>() > INT64_MAX))
      refuse(fmt::format("`version` of {} is a whole number from 1.", where));
    out.version = version->get<std::int64_t>();
  }
  out.content = content_of(record, where);
  // Looked for in detail only where there may be one, which is hardly ever.
  if (out.content.find("\\u0000") != std::string::npos)
    if (const auto place = place_of_nul(record, ""); !place.empty())
      refuse(fmt::format("`{}` of {} has a NUL character in it, which can't be stored: leave it out.", place.substr(1),
                         where));
  return out;
}

std::function<void(const jobs::Wanted&)> delivery_check(std::string kind, std::string connector) {
  return [kind = std::move(kind), connector = std::move(connector)](const jobs::Wanted& wanted) {
    if (wanted.connector != connector)
      refuse(fmt::format(
          "Jobs of the kind `{}` are for a connection of the kind `{}`, and {}.", kind, connector,
          wanted.connector.empty() ? "there is none" : fmt::format("this one is of the kind `{}`", wanted.connector)));
    json payload = json::parse(wanted.payload, nullptr, false);
    if (!payload.is_object()) refuse("The payload is not a JSON object.");
    // The hub's own: where the outcome is told.
    std::int64_t inbox = 0, position = 0;
    for (const auto& [name, number] : {std::pair{"inbox", &inbox}, std::pair{"position", &position}}) {
      const auto found = payload.find(name);
      if (found == payload.end()) continue;
      if (!found->is_number_integer()) refuse(fmt::format("`{}` of the payload is no whole number.", name));
      *number = found->get<std::int64_t>();
      payload.erase(found);
    }
    const auto record = checked_record(payload, "the payload", "");
    DeliveryOrder before;
    if (wanted.before) {
      try {
        before = DeliveryOrder::parse(*wanted.before);
      } catch (const Error&) {
        before = {.model = record.model, .key = record.key};  // it was no record: nothing has to stay
      }
      for (const auto& [name, old_text, new_text] :
           {std::tuple{"model", &before.model, &record.model}, std::tuple{"key", &before.key, &record.key}})
        if (*old_text != *new_text)
          refuse(fmt::format(
              "`{}` of the payload was `{}` and can't become `{}`: the job has its place among those of its "
              "record. Cancel or discard it, and hand the other record in.",
              name, *old_text, *new_text));
    }
    if (inbox != before.inbox_id || position != before.position)
      refuse(wanted.before
                 ? fmt::format("`inbox` and `position` of the payload say where its outcome is told, and stay as "
                               "they are: {} and {}.",
                               before.inbox_id, before.position)
                 : "`inbox` and `position` of the payload are the hub's own.");
  };
}

}  // namespace dragoman::pipeline
