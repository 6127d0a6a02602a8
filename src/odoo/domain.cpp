#include "odoo/domain.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/text.h"
#include "json/scan.h"
#include "odoo/envelope.h"

namespace dragoman::odoo {
namespace {

std::string condition(std::string_view field, std::string_view op, std::string_view value) {
  std::string text = "[";
  append_json_string(text, field);
  text += ',';
  append_json_string(text, op);
  text += ',';
  text += value;
  return text + "]";
}

constexpr std::string_view kOperators[] = {
    "=",         "!=",    "<",         ">",     "<=",     ">=",        "=?",        "like",
    "not like",  "ilike", "not ilike", "=like", "=ilike", "in",        "not in",    "child_of",
    "parent_of", "any",   "not any",   "<>",    "==",     "not =like", "not =ilike"};

[[noreturn]] void refuse(std::size_t index, std::string_view why) {
  throw Error(Error::Kind::invalid, fmt::format("the domain's item {} is wrong: {}", index + 1, why));
}

}  // namespace

Domain Domain::where(std::string_view field, std::string_view op, std::int64_t value) {
  Domain d;
  d.terms_ = condition(field, op, std::to_string(value));
  return d;
}

Domain Domain::where(std::string_view field, std::string_view op, std::string_view value) {
  Domain d;
  d.terms_ = condition(field, op, json_string(value));
  return d;
}

Domain Domain::where(std::string_view field, std::string_view op, const char* value) {
  return where(field, op, std::string_view(value));
}

Domain Domain::where(std::string_view field, std::string_view op, Time value) {
  return where(field, op, std::string_view(format_odoo(value)));
}

Domain Domain::where(std::string_view field, std::string_view op, bool value) {
  Domain d;
  d.terms_ = condition(field, op, value ? "true" : "false");
  return d;
}

Domain Domain::where(std::string_view field, std::string_view op, const std::vector<std::int64_t>& values) {
  Domain d;
  d.terms_ = condition(field, op, fmt::format("[{}]", fmt::join(values, ",")));
  return d;
}

// Odoo joins conditions that stand side by side with an implicit &: they are made explicit, so that the whole can be
// combined further.
Domain Domain::parse(std::string_view json) {
  try {
    json::check(json, 64);
  } catch (const Error& error) {
    throw Error(
        Error::Kind::invalid,
        fmt::format("the domain is no JSON ({}): it has to look like [[\"customer_rank\",\">\",0]]", error.message));
  }
  const auto items = items_of(json, "the domain");
  // From the end, each operator takes its operands off the stack; what is left side by side is joined.
  std::vector<std::string> stack;
  for (std::size_t i = items.size(); i-- > 0;) {
    const std::string_view item = items[i];
    if (item.front() == '"') {
      const std::string op = json::unquote(item);
      if (op != "&" && op != "|" && op != "!") refuse(i, "an operator is one of & | !");
      const std::size_t wants = op == "!" ? 1 : 2;
      if (stack.size() < wants) refuse(i, fmt::format("{} needs {} conditions behind it", op, wants));
      std::string joined = fmt::format("\"{}\",{}", op, stack.back());
      stack.pop_back();
      if (wants == 2) {
        joined += "," + stack.back();
        stack.pop_back();
      }
      stack.push_back(std::move(joined));
    } else if (item.front() == '[') {
      const auto parts = items_of(item, "a condition");
      if (parts.size() != 3) refuse(i, "a condition is [field, operator, value]");
      const bool constant = (parts[0] == "1" || parts[0] == "0") && (parts[1] == "\"=\"" || parts[1] == "\"!=\"");
      if (!constant) {  // [1,"=",1] and [0,"=",1] are Odoo's true and false
        if (parts[0].front() != '"' || parts[0].size() < 3) refuse(i, "the field has to be a name");
        if (parts[1].front() != '"') refuse(i, "the operator has to be text");
        const std::string op = json::unquote(parts[1]);
        bool known = false;
        for (auto candidate : kOperators) known |= candidate == op;
        if (!known) refuse(i, fmt::format("there is no operator {}", json_string(op)));
      }
      std::string text = "[";
      for (const auto part : parts) {
        if (text.size() > 1) text += ',';
        text += part;
      }
      stack.push_back(text + "]");
    } else {
      refuse(i, "it has to be a condition or an operator");
    }
  }
  Domain d;
  while (!stack.empty()) {
    if (d.terms_.empty())
      d.terms_ = std::move(stack.back());
    else
      d.terms_ = "\"&\"," + d.terms_ + "," + stack.back();
    stack.pop_back();
  }
  return d;
}

Domain operator&&(const Domain& a, const Domain& b) {
  if (a.empty()) return b;
  if (b.empty()) return a;
  Domain d;
  d.terms_ = "\"&\"," + a.terms_ + "," + b.terms_;
  return d;
}

Domain operator||(const Domain& a, const Domain& b) {
  if (a.empty() || b.empty()) return {};
  Domain d;
  d.terms_ = "\"|\"," + a.terms_ + "," + b.terms_;
  return d;
}

// Nothing is not everything: the negation of the empty domain matches no record.
Domain operator!(const Domain& a) {
  Domain d;
  d.terms_ = a.empty() ? "[0,\"=\",1]" : "\"!\"," + a.terms_;
  return d;
}

std::string Domain::json() const {
  return "[" + terms_ + "]";
}

}  // namespace dragoman::odoo
