#include "sandbox/odoo/domain.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

using Test = std::unique_ptr<Predicate>;

template <class F>
class Leaf final : public Predicate {
 public:
  explicit Leaf(F f) : f_(std::move(f)) {}
  bool test(Slot slot) const override { return f_(slot); }

 private:
  F f_;
};

template <class F>
Test leaf(F f) {
  return std::make_unique<Leaf<F>>(std::move(f));
}

class Both final : public Predicate {
 public:
  Both(Test a, Test b) : a_(std::move(a)), b_(std::move(b)) {}
  bool test(Slot slot) const override { return a_->test(slot) && b_->test(slot); }

 private:
  Test a_;
  Test b_;
};

class Either final : public Predicate {
 public:
  Either(Test a, Test b) : a_(std::move(a)), b_(std::move(b)) {}
  bool test(Slot slot) const override { return a_->test(slot) || b_->test(slot); }

 private:
  Test a_;
  Test b_;
};

class Not final : public Predicate {
 public:
  explicit Not(Test a) : a_(std::move(a)) {}
  bool test(Slot slot) const override { return !a_->test(slot); }

 private:
  Test a_;
};

bool is_unset(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>());
}

bool is_known_operator(const std::string& op) {
  static const std::unordered_set<std::string> kKnown = {
      "=",      "!=",       "<>",        "==",   "<=",      "<",         ">",         ">=",
      "=?",     "=like",    "=ilike",    "like", "ilike",   "not like",  "not ilike", "in",
      "not in", "child_of", "parent_of", "any",  "not any", "not =like", "not =ilike"};
  return kKnown.contains(op);
}

class Compiler {
 public:
  Compiler(const DomainContext& context, const Table& table) : context_(context), table_(table) {}

  CompiledDomain compile(const Json& domain) {
    CompiledDomain result;
    if (domain.is_null() || (domain.is_boolean() && !domain.get<bool>()) || domain.empty()) return result;
    if (!domain.is_array()) throw value_error("Domain " + python_repr(domain) + " is not a list");
    // Normalise: an "&" for every pair of top-level parts that has none.
    std::vector<const Json*> parts;
    for (const auto& part : domain) parts.push_back(&part);
    std::size_t at = 0;
    Test all;
    while (at < parts.size()) {
      Test next = term(parts, at, result, true, false);
      all = all ? std::make_unique<Both>(std::move(all), std::move(next)) : std::move(next);
    }
    result.predicate = std::move(all);
    return result;
  }

 private:
  int series() const { return context_.database.series(); }

  /// `negated`: a "!" stands before. It is carried down to the leaves, as Odoo does it: there "not <"
  /// becomes ">=", which records without a value satisfy no more than "<".
  Test term(const std::vector<const Json*>& parts, std::size_t& at, CompiledDomain& hints, bool conjunct,
            bool negated) {
    if (at >= parts.size()) {
      throw value_error(series() >= 17 ? "Domain() missing terms" : "Invalid domain: missing operand");
    }
    const Json& part = *parts[at++];
    if (part.is_string()) {
      const auto& op = part.get_ref<const std::string&>();
      if (op == "!") return term(parts, at, hints, false, !negated);
      if (op == "&" || op == "|") {
        const bool both = (op == "&") != negated;
        Test a = term(parts, at, hints, conjunct && both, negated);
        Test b = term(parts, at, hints, conjunct && both, negated);
        if (both) return std::make_unique<Both>(std::move(a), std::move(b));
        return std::make_unique<Either>(std::move(a), std::move(b));
      }
    }
    if (!part.is_array() || part.size() != 3) throw invalid_leaf(part);
    // The leaves (1, '=', 1) and (0, '=', 1).
    if (part[0].is_number_integer() && part[1] == "=" && part[2].is_number_integer()) {
      const bool yes = (part[0] == part[2]) != negated;
      return leaf([yes](Slot) { return yes; });
    }
    if (!part[0].is_string() || !part[1].is_string()) throw invalid_leaf(part);
    std::string op = part[1].get<std::string>();
    if (!is_known_operator(op)) throw invalid_leaf(part);
    const auto& path = part[0].get_ref<const std::string&>();
    if (path == "active") hints.mentions_active = true;
    if (path == "id" && conjunct && !negated) note_id_bounds(op, part[2], hints);
    if (!negated) return condition(table_, path, op, part[2], part);
    // Up to 18 the leaf's operator is turned round even behind a path, so that a record without the link
    // satisfies neither; 19 negates the path as a whole.
    const std::string opposite = opposite_of(op);
    const bool behind_path = path.find('.') != std::string::npos;
    if (opposite.empty() || (behind_path && series() >= 19)) {
      return std::make_unique<Not>(condition(table_, path, op, part[2], part));
    }
    return condition(table_, path, opposite, part[2], part);
  }

  static std::string opposite_of(const std::string& op) {
    static const std::map<std::string, std::string> kOpposite = {{"=", "!="},
                                                                 {"==", "!="},
                                                                 {"!=", "="},
                                                                 {"<>", "="},
                                                                 {"<", ">="},
                                                                 {">", "<="},
                                                                 {"<=", ">"},
                                                                 {">=", "<"},
                                                                 {"in", "not in"},
                                                                 {"not in", "in"},
                                                                 {"like", "not like"},
                                                                 {"not like", "like"},
                                                                 {"ilike", "not ilike"},
                                                                 {"not ilike", "ilike"}};
    const auto found = kOpposite.find(op);
    return found == kOpposite.end() ? std::string() : found->second;
  }

  OdooError invalid_leaf(const Json& part) const {
    if (series() >= 19) return value_error("Invalid operator in condition " + python_repr(part, true));
    return value_error("Invalid leaf " + python_repr(part, true));
  }

  OdooError invalid_field(const Table& table, const std::string& name, const Json& part) const {
    return value_error("Invalid field " + table.model().name + "." + name +
                       (series() >= 19 ? " in condition " : " in leaf ") + python_repr(part, true));
  }

  static void note_id_bounds(const std::string& op, const Json& value, CompiledDomain& hints) {
    if (op == ">" && value.is_number_integer()) hints.id_above = std::max(hints.id_above, value.get<Id>());
    if (op == ">=" && value.is_number_integer()) hints.id_above = std::max(hints.id_above, value.get<Id>() - 1);
    if (op == "=" && value.is_number_integer()) hints.among = std::vector<Id>{value.get<Id>()};
    if (op == "in" && value.is_array() && !hints.among) {
      std::vector<Id> ids;
      for (const auto& item : value) {
        if (item.is_number_integer()) ids.push_back(item.get<Id>());
      }
      std::sort(ids.begin(), ids.end());
      ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
      hints.among = std::move(ids);
    }
  }

  Test condition(const Table& table, const std::string& path, std::string op, const Json& value, const Json& part) {
    if (op == "<>") op = "!=";
    if (op == "==") op = "=";
    if (op == "=?") {
      if (is_unset(value)) return leaf([](Slot) { return true; });
      op = "=";
    }
    const auto dot = path.find('.');
    const std::string name = path.substr(0, dot);
    const Field* field = table.model().find(name);
    if (field == nullptr) throw invalid_field(table, name, part);
    if (dot != std::string::npos) return through(table, *field, path.substr(dot + 1), op, value, part);
    if (op == "any" || op == "not any") {
      const Table* other = comodel(*field, part);
      std::shared_ptr<Predicate> inner = Compiler(context_, *other).compile(value).predicate;
      if (!inner) inner = leaf([](Slot) { return true; });
      Test any = reach(table, *field, *other, std::move(inner));
      return op == "any" ? std::move(any) : std::make_unique<Not>(std::move(any));
    }
    if (!field->related.empty() && field->cells == Cells::none) {
      return condition(table, field->related, op, value, part);
    }
    if (name == "id" && op != "child_of" && op != "parent_of") return id_condition(table, op, value, part);
    if (op == "child_of" || op == "parent_of") return hierarchy(table, *field, op, value);
    // Negations hold for records without a value too, as in Odoo.
    if (op == "!=") {
      Test differs = std::make_unique<Not>(positive(table, *field, "=", value, part));
      if (series() < 19 && value == "" && field->cells == Cells::text) {
        // Up to 18 this one comparison does not hold for a record without a value.
        return std::make_unique<Both>(std::move(differs),
                                      std::make_unique<Not>(positive(table, *field, "=", false, part)));
      }
      return differs;
    }
    if (op == "not in") return std::make_unique<Not>(positive(table, *field, "in", value, part));
    if (op.starts_with("not ")) return std::make_unique<Not>(positive(table, *field, op.substr(4), value, part));
    return positive(table, *field, op, value, part);
  }

  const Table* comodel(const Field& field, const Json& part) const {
    const Table* other = field.relation.empty() ? nullptr : context_.database.find(field.relation);
    if (other == nullptr) throw value_error("Invalid field path in " + python_repr(part, true));
    return other;
  }

  Test through(const Table& table, const Field& field, const std::string& rest, const std::string& op,
               const Json& value, const Json& part) {
    const Table* other = comodel(field, part);
    // On the far side a negation must not be satisfied by another line: `a.b != x` is "some a with b != x".
    std::shared_ptr<Predicate> inner = condition(*other, rest, op, value, part);
    return reach(table, field, *other, std::move(inner));
  }

  /// True where some record linked through `field` satisfies `inner`.
  Test reach(const Table& table, const Field& field, const Table& other, std::shared_ptr<Predicate> inner) {
    if (field.cells == Cells::link) {
      const Column* column = &table.column(field.column);
      const Table* target = &other;
      return leaf([column, target, inner](Slot slot) {
        const Id id = column->integer(slot);
        if (id == 0) return false;
        const Slot found = target->find(id);
        return found != kNoSlot && inner->test(found);
      });
    }
    const Table* from = &table;
    const Field* link = &field;
    const Table* target = &other;
    const auto* context = &context_;
    return leaf([from, link, target, context, inner](Slot slot) {
      const Cell ids = context->computed(*from, *link, slot);
      if (const auto* one = std::get_if<std::int64_t>(&ids)) {
        const Slot found = target->find(*one);
        return found != kNoSlot && inner->test(found);
      }
      if (const auto* list = std::get_if<std::vector<Id>>(&ids)) {
        for (const Id id : *list) {
          const Slot found = target->find(id);
          if (found != kNoSlot && inner->test(found)) return true;
        }
      }
      return false;
    });
  }

  Test id_condition(const Table& table, const std::string& op, const Json& value, const Json& part) {
    const Table* from = &table;
    if (op == "in" || op == "not in" || value.is_array()) {
      auto set = std::make_shared<std::unordered_set<Id>>();
      if (value.is_array()) {
        for (const auto& item : value) {
          if (item.is_number_integer()) set->insert(item.get<Id>());
        }
      } else if (value.is_number_integer()) {
        set->insert(value.get<Id>());
      }
      const bool inside = op == "in" || op == "=";
      return leaf([from, set, inside](Slot slot) { return set->contains(from->id_of(slot)) == inside; });
    }
    if (is_unset(value)) {
      const bool yes = op == "!=";
      return leaf([yes](Slot) { return yes; });
    }
    if (!value.is_number()) throw invalid_leaf(part);
    const Id bound = value.is_number_integer() ? value.get<Id>() : static_cast<Id>(value.get<double>());
    if (series() < 17 && (bound > 2147483647 || bound < -2147483648LL)) {
      throw OdooError("psycopg2.errors.NumericValueOutOfRange",
                      "value \"" + std::to_string(bound) + "\" is out of range for type integer\n");
    }
    if (op == "=") return leaf([from, bound](Slot slot) { return from->id_of(slot) == bound; });
    if (op == "!=") return leaf([from, bound](Slot slot) { return from->id_of(slot) != bound; });
    if (op == "<") return leaf([from, bound](Slot slot) { return from->id_of(slot) < bound; });
    if (op == "<=") return leaf([from, bound](Slot slot) { return from->id_of(slot) <= bound; });
    if (op == ">") return leaf([from, bound](Slot slot) { return from->id_of(slot) > bound; });
    if (op == ">=") return leaf([from, bound](Slot slot) { return from->id_of(slot) >= bound; });
    throw invalid_leaf(part);
  }

  Test hierarchy(const Table& table, const Field& field, const std::string& op, const Json& value) {
    const bool on_self = field.relation.empty();
    const Table* other = on_self ? &table : context_.database.find(field.relation);
    auto roots = std::make_shared<std::unordered_set<Id>>();
    const auto add = [&](const Json& item) {
      if (item.is_number_integer()) roots->insert(item.get<Id>());
    };
    if (value.is_array()) {
      for (const auto& item : value) add(item);
    } else {
      add(value);
    }
    const Field* parent = other == nullptr ? nullptr : other->model().find("parent_id");
    const bool down = op == "child_of";
    auto related = std::make_shared<std::unordered_set<Id>>(*roots);
    if (parent != nullptr && parent->cells == Cells::link) {
      const Column& links = other->column(parent->column);
      if (down) {
        bool grown = true;
        while (grown) {
          grown = false;
          other->each([&](Id id, Slot slot) {
            if (related->contains(links.integer(slot)) && related->insert(id).second) grown = true;
            return true;
          });
        }
      } else {
        for (Id id : *roots) {
          for (Slot slot = other->find(id); slot != kNoSlot; slot = other->find(id)) {
            id = links.integer(slot);
            if (id == 0 || !related->insert(id).second) break;
          }
        }
      }
    }
    if (on_self) {
      const Table* from = &table;
      return leaf([from, related](Slot slot) { return related->contains(from->id_of(slot)); });
    }
    if (field.cells != Cells::link) return leaf([](Slot) { return false; });
    const Column* column = &table.column(field.column);
    return leaf([column, related](Slot slot) { return related->contains(column->integer(slot)); });
  }

  Test positive(const Table& table, const Field& field, const std::string& op, const Json& value, const Json& part) {
    if (op == "in") {
      // A list of one field's values; False in it stands for "no value".
      Json items = value;
      if (!value.is_array()) items = Json::array({value});
      return any_of(table, field, items, part);
    }
    switch (field.type) {
      case FieldType::boolean: {
        const bool wanted = !is_unset(value) && !(value.is_number() && value.get<double>() == 0);
        if (field.cells == Cells::none) break;
        const Column* column = &table.column(field.column);
        if (op == "=") return leaf([column, wanted](Slot slot) { return column->boolean(slot) == wanted; });
        break;
      }
      case FieldType::integer:
        if (field.cells == Cells::integer && (value.is_number() || is_unset(value))) {
          const double bound = value.is_number() ? value.get<double>() : 0;
          const Column* column = &table.column(field.column);
          return compare(op, part, [column](Slot slot) { return static_cast<double>(column->integer(slot)); }, bound);
        }
        break;
      case FieldType::floating:
        if (field.cells == Cells::real && (value.is_number() || is_unset(value))) {
          const double bound = value.is_number() ? value.get<double>() : 0;
          const Column* column = &table.column(field.column);
          return compare(op, part, [column](Slot slot) { return column->real(slot); }, bound);
        }
        break;
      case FieldType::date:
      case FieldType::datetime:
        if (field.cells == Cells::time) return time_condition(table, field, op, value, part);
        break;
      case FieldType::many2one:
        return link_condition(table, field, op, value, part);
      case FieldType::one2many:
      case FieldType::many2many:
        return list_condition(table, field, op, value, part);
      case FieldType::text:
      case FieldType::choice:
      case FieldType::json:
        if (field.cells == Cells::text || field.cells == Cells::choice) {
          const Column* column = &table.column(field.column);
          return text_condition(op, value, part,
                                [column](Slot slot, std::string_view& out) { return column->text(slot, out); });
        }
        break;
      case FieldType::binary:
        if (field.cells == Cells::blob && is_unset(value) && op == "=") {
          const Column* column = &table.column(field.column);
          return leaf([column](Slot slot) {
            std::string_view text;
            return !column->text(slot, text);
          });
        }
        break;
    }
    return computed_condition(table, field, op, value, part);
  }

  template <class Get>
  Test compare(const std::string& op, const Json& part, Get get, double bound) const {
    if (op == "=") return leaf([get, bound](Slot slot) { return get(slot) == bound; });
    if (op == "<") return leaf([get, bound](Slot slot) { return get(slot) < bound; });
    if (op == "<=") return leaf([get, bound](Slot slot) { return get(slot) <= bound; });
    if (op == ">") return leaf([get, bound](Slot slot) { return get(slot) > bound; });
    if (op == ">=") return leaf([get, bound](Slot slot) { return get(slot) >= bound; });
    throw invalid_leaf(part);
  }

  Test time_condition(const Table& table, const Field& field, const std::string& op, const Json& value,
                      const Json& part) {
    const Column* column = &table.column(field.column);
    if (is_unset(value)) {
      if (op == "=") return leaf([column](Slot slot) { return column->integer(slot) == kNoTime; });
      return leaf([](Slot) { return false; });
    }
    if (!value.is_string()) throw invalid_leaf(part);
    const auto& text = value.get_ref<const std::string&>();
    auto parsed = parse_domain_datetime(text, series() < 19);
    if (!parsed) {
      throw value_error(series() >= 19 ? "Invalid isoformat string: " + python_repr(value)
                                       : "invalid input syntax for type timestamp: \"" + text + "\"");
    }
    std::int64_t from = *parsed;
    std::int64_t to = from;  // the last instant that counts as equal
    const bool whole_day = text.size() == 10;
    if (field.type == FieldType::date) {
      from = to = from - from % 86'400'000'000LL;
    } else if (whole_day && (op == ">" || op == "<=")) {
      // A date against a datetime means the end of that day for these two.
      from = to = from + 86'399'000'000LL;
      if (series() >= 19) to += 999'999;
    } else if (series() >= 19) {
      // 19 widens to whole seconds and drops fractions; up to 18 the text is compared as it stands
      // with a column that has microseconds.
      from -= from % 1'000'000;
      to = from + 999'999;
    }
    const auto has = [](std::int64_t at) { return at != kNoTime; };
    if (op == "=") {
      return leaf([column, from, to, has](Slot slot) {
        const auto at = column->integer(slot);
        return has(at) && at >= from && at <= to;
      });
    }
    if (op == "<")
      return leaf(
          [column, from, has](Slot slot) { return has(column->integer(slot)) && column->integer(slot) < from; });
    if (op == "<=")
      return leaf([column, to, has](Slot slot) { return has(column->integer(slot)) && column->integer(slot) <= to; });
    if (op == ">") return leaf([column, to](Slot slot) { return column->integer(slot) > to; });
    if (op == ">=") return leaf([column, from](Slot slot) { return column->integer(slot) >= from; });
    throw invalid_leaf(part);
  }

  Test link_condition(const Table& table, const Field& field, const std::string& op, const Json& value,
                      const Json& part) {
    if (field.cells != Cells::link) return computed_condition(table, field, op, value, part);
    const Column* column = &table.column(field.column);
    if (value.is_string()) {
      const Table* other = comodel(field, part);
      const auto* context = &context_;
      std::shared_ptr<Predicate> inner =
          text_condition(op == "=" ? "=" : op, value, part, NameOf{context, other, std::make_shared<std::string>()});
      return reach(table, field, *other, std::move(inner));
    }
    const Id wanted = is_unset(value) ? 0 : (value.is_number() ? value.get<Id>() : -1);
    if (op == "=") return leaf([column, wanted](Slot slot) { return column->integer(slot) == wanted; });
    if (op == "<" || op == ">" || op == "<=" || op == ">=") {
      return compare(
          op, part, [column](Slot slot) { return static_cast<double>(column->integer(slot)); },
          static_cast<double>(wanted));
    }
    throw invalid_leaf(part);
  }

  struct NameOf {
    const DomainContext* context;
    const Table* table;
    std::shared_ptr<std::string> buffer;
    bool operator()(Slot slot, std::string_view& out) const {
      thread_local std::string name;
      name = context->display_name(*table, slot);
      out = name;
      return true;
    }
  };

  Test list_condition(const Table& table, const Field& field, const std::string& op, const Json& value,
                      const Json& part) {
    const Table* other = comodel(field, part);
    if (value.is_string()) {
      std::shared_ptr<Predicate> inner =
          text_condition(op, value, part, NameOf{&context_, other, std::make_shared<std::string>()});
      return reach(table, field, *other, std::move(inner));
    }
    const auto* context = &context_;
    const Table* from = &table;
    const Field* list = &field;
    if (is_unset(value)) {
      return leaf([context, from, list](Slot slot) {
        const Cell ids = context->computed(*from, *list, slot);
        const auto* found = std::get_if<std::vector<Id>>(&ids);
        return found == nullptr || found->empty();
      });
    }
    const Id wanted = value.is_number() ? value.get<Id>() : -1;
    return leaf([context, from, list, wanted](Slot slot) {
      const Cell ids = context->computed(*from, *list, slot);
      const auto* found = std::get_if<std::vector<Id>>(&ids);
      return found != nullptr && std::find(found->begin(), found->end(), wanted) != found->end();
    });
  }

  template <class Get>
  Test text_condition(const std::string& op, const Json& value, const Json& part, Get get) const {
    // 19 makes no difference between an empty text and none; before, they are two things.
    const bool empty_is_none = series() >= 19;
    if (is_unset(value) || (empty_is_none && value == "" && op == "=")) {
      if (op == "=") {
        return leaf([get, empty_is_none](Slot slot) {
          std::string_view text;
          return !get(slot, text) || (empty_is_none && text.empty());
        });
      }
      return leaf([](Slot) { return false; });
    }
    if (value == "" && (op == "like" || op == "ilike")) return leaf([](Slot) { return true; });
    std::string wanted = value.is_string() ? value.get<std::string>() : python_repr(value);
    const auto holds = [get](auto check) {
      return leaf([get, check](Slot slot) {
        std::string_view text;
        return get(slot, text) && check(text);
      });
    };
    if (op == "=") return holds([wanted](std::string_view text) { return text == wanted; });
    if (op == "<" || op == "<=" || op == ">" || op == ">=") {
      const bool less = op[0] == '<';
      const bool equal = op.size() == 2;
      // 19 takes a missing text for an empty one here; before, it satisfies no comparison.
      const bool missing_is_empty = series() >= 19;
      return leaf([get, wanted, less, equal, missing_is_empty](Slot slot) {
        std::string_view text;
        if (!get(slot, text)) {
          if (!missing_is_empty) return false;
          text = {};
        }
        const int order = text.compare(wanted);
        return order == 0 ? equal : (order < 0) == less;
      });
    }
    const bool fold = op.find("ilike") != std::string::npos;
    if (op == "=like" || op == "=ilike") {
      return holds([wanted, fold](std::string_view text) { return like(text, wanted, fold); });
    }
    if (op == "like" || op == "ilike") {
      wanted = "%" + wanted + "%";
      return holds([wanted, fold](std::string_view text) { return like(text, wanted, fold); });
    }
    throw invalid_leaf(part);
  }

  Test any_of(const Table& table, const Field& field, const Json& items, const Json& part) {
    // Links and texts have sets; the rest is a chain of equalities.
    if (field.cells == Cells::link) {
      auto set = std::make_shared<std::unordered_set<Id>>();
      bool numbers = true;
      for (const auto& item : items) {
        if (is_unset(item)) {
          set->insert(0);
        } else if (item.is_number_integer()) {
          set->insert(item.get<Id>());
        } else {
          numbers = false;
        }
      }
      const Column* column = &table.column(field.column);
      if (numbers) return leaf([column, set](Slot slot) { return set->contains(column->integer(slot)); });
    }
    if (field.cells == Cells::text || field.cells == Cells::choice) {
      auto set = std::make_shared<std::unordered_set<std::string>>();
      bool empty = false;
      for (const auto& item : items) {
        if (is_unset(item)) {
          empty = true;
        } else {
          set->insert(item.is_string() ? item.get<std::string>() : python_repr(item));
        }
      }
      if (series() >= 19 && (empty || set->contains(""))) {
        empty = true;
        set->insert("");
      }
      const Column* column = &table.column(field.column);
      return leaf([column, set, empty](Slot slot) {
        std::string_view text;
        return column->text(slot, text) ? set->contains(std::string(text)) : empty;
      });
    }
    Test any = leaf([](Slot) { return false; });
    for (const auto& item : items) {
      any = std::make_unique<Either>(std::move(any), positive(table, field, "=", item, part));
    }
    return any;
  }

  Test computed_condition(const Table& table, const Field& field, const std::string& op, const Json& value,
                          const Json& part) {
    const auto* context = &context_;
    const Table* from = &table;
    const Field* computed = &field;
    if (field.type == FieldType::text || field.type == FieldType::choice) {
      return text_condition(op, value, part, [context, from, computed](Slot slot, std::string_view& out) {
        thread_local std::string buffer;
        const Cell cell = context->computed(*from, *computed, slot);
        const auto* text = std::get_if<std::string>(&cell);
        if (text == nullptr) return false;
        buffer = *text;
        out = buffer;
        return true;
      });
    }
    const auto number = [context, from, computed](Slot slot) -> double {
      const Cell cell = context->computed(*from, *computed, slot);
      if (const auto* real = std::get_if<double>(&cell)) return *real;
      if (const auto* integer = std::get_if<std::int64_t>(&cell)) return static_cast<double>(*integer);
      if (const auto* flag = std::get_if<bool>(&cell)) return *flag ? 1 : 0;
      return 0;
    };
    const double bound = value.is_number() ? value.get<double>() : (value.is_boolean() && value.get<bool>() ? 1 : 0);
    return compare(op, part, number, bound);
  }

  const DomainContext& context_;
  const Table& table_;
};

}  // namespace

CompiledDomain compile_domain(const DomainContext& context, const Table& table, const Json& domain) {
  return Compiler(context, table).compile(domain);
}

}  // namespace sandbox::odoo
