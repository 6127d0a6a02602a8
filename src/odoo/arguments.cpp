#include "odoo/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "odoo/envelope.h"

namespace dragoman::odoo {
namespace {

struct Signature {
  std::string_view method;
  std::array<std::string_view, 8> names;
};

// The methods of `BaseModel` (and what the hub calls besides), arguments in the order that Odoo 19 has them.
constexpr std::array kSignatures = std::to_array<Signature>({
    {"check_access_rights", {"operation", "raise_exception"}},
    {"check_access_rule", {"ids", "operation"}},
    {"context_get", {}},
    {"copy", {"ids", "default"}},
    {"create", {"vals_list"}},
    {"default_get", {"fields"}},
    {"export_data", {"ids", "fields_to_export"}},
    {"fields_get", {"allfields", "attributes"}},
    {"formatted_read_group", {"domain", "groupby", "aggregates", "having", "offset", "limit", "order"}},
    {"get_external_id", {"ids"}},
    {"get_metadata", {"ids"}},
    {"get_view", {"view_id", "view_type"}},
    {"has_access", {"ids", "operation"}},
    {"has_group", {"ids", "group_ext_id"}},
    {"load", {"fields", "data"}},
    {"name_create", {"name"}},
    {"name_search", {"name", "domain", "operator", "limit"}},
    {"onchange", {"ids", "values", "field_names", "fields_spec"}},
    {"read", {"ids", "fields", "load"}},
    {"read_group", {"domain", "fields", "groupby", "offset", "limit", "orderby", "lazy"}},
    {"run", {"ids"}},
    {"search", {"domain", "offset", "limit", "order"}},
    {"search_count", {"domain", "limit"}},
    {"search_read", {"domain", "fields", "offset", "limit", "order"}},
    {"unlink", {"ids"}},
    {"web_read", {"ids", "specification"}},
    {"web_save", {"ids", "vals", "specification"}},
    {"web_search_read", {"domain", "specification", "offset", "limit", "order", "count_limit"}},
    {"write", {"ids", "vals"}},
});

bool is_id(std::string_view item) {
  return !item.empty() && std::all_of(item.begin(), item.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_ids(std::string_view item) {
  if (item.empty() || item.front() != '[') return false;
  const auto ids = items_of(item, "ids");
  return std::all_of(ids.begin(), ids.end(), is_id);
}

}  // namespace

std::string named_arguments(std::string_view method, std::string_view args, std::string_view kwargs) {
  const auto items = args.empty() ? std::vector<std::string_view>{} : items_of(args, "args");
  const auto named =
      kwargs.empty() ? std::vector<std::pair<std::string, std::string_view>>{} : members_of(kwargs, "kwargs");
  std::string body;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (!body.empty()) body += ',';
    append_json_string(body, name);
    body += ':';
    body += value;
  };
  const auto add_ids = [&](std::string_view value) {
    if (is_id(value))
      add("ids", fmt::format("[{}]", value));
    else
      add("ids", value);
  };
  const auto known =
      std::find_if(kSignatures.begin(), kSignatures.end(), [&](const Signature& s) { return s.method == method; });
  if (known != kSignatures.end()) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i >= known->names.size() || known->names[i].empty())
        throw Error(Error::Kind::invalid, fmt::format("{} has no argument number {}", method, i + 1));
      if (known->names[i] == "ids")
        add_ids(items[i]);
      else if (method == "create" && items[i].starts_with('{'))
        add("vals_list", fmt::format("[{}]", items[i]));
      else
        add(known->names[i], items[i]);
    }
  } else if (items.size() == 1 && (is_id(items[0]) || is_ids(items[0]))) {
    add_ids(items[0]);
  } else if (!items.empty()) {
    throw Error(Error::Kind::invalid,
                fmt::format("JSON-2 takes named arguments, and the names of those of {} are not known here: give all "
                            "but the ids by name",
                            method));
  }
  for (const auto& [name, value] : named) add(name, value);
  return body;
}

}  // namespace dragoman::odoo
