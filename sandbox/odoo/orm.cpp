#include "sandbox/odoo/orm.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <unordered_set>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

const char* access_column(Access access) {
  switch (access) {
    case Access::read:
      return "perm_read";
    case Access::write:
      return "perm_write";
    case Access::create:
      return "perm_create";
    case Access::unlink:
      break;
  }
  return "perm_unlink";
}

const char* access_verb(Access access) {
  switch (access) {
    case Access::read:
      return "access";
    case Access::write:
      return "modify";
    case Access::create:
      return "create";
    case Access::unlink:
      break;
  }
  return "delete";
}

}  // namespace

Orm::Orm(Database& database, Env env, Transaction* transaction)
    : database_(database),
      env_(std::move(env)),
      transaction_(transaction),
      domain_context_{database_, env_, [this](const Table& table, Slot slot) { return display_name(table, slot); },
                      [this](const Table& table, const Field& field, Slot slot) { return value(table, field, slot); }} {
}

// ---------------------------------------------------------------- rights

std::vector<Id> Orm::groups_of(Id uid) const {
  const Table& users = database_.table("res.users");
  const Table& groups = database_.table("res.groups");
  const char* const field = series() >= 19 ? "group_ids" : "groups_id";
  const Slot user = users.find(uid);
  std::vector<Id> result;
  if (user == kNoSlot) return result;
  const Field* own = users.model().find(field);
  result = users.column(own->column).ids(user);
  const Field* implied = groups.model().find("implied_ids");
  for (std::size_t i = 0; implied != nullptr && i < result.size(); ++i) {
    const Slot slot = groups.find(result[i]);
    if (slot == kNoSlot) continue;
    for (const Id id : groups.column(implied->column).ids(slot)) {
      if (std::find(result.begin(), result.end(), id) == result.end()) result.push_back(id);
    }
  }
  return result;
}

bool Orm::in_any_group(const std::vector<Id>& groups) const {
  const auto own = groups_of(env_.uid);
  return std::any_of(groups.begin(), groups.end(),
                     [&](Id group) { return std::find(own.begin(), own.end(), group) != own.end(); });
}

bool Orm::has_access(const Model& model, Access access) const {
  if (env_.su) return true;
  const Table& rights = database_.table("ir.model.access");
  const Table& models = database_.table("ir.model");
  const auto column = [&](const char* name) -> const Column& {
    return rights.column(rights.model().find(name)->column);
  };
  const Column& of_model = column("model_id");
  const Column& of_group = column("group_id");
  const Column& allowed = column(access_column(access));
  const Column& active = column("active");
  const Column& model_name = models.column(models.model().find("model")->column);
  const std::vector<Id> groups = groups_of(env_.uid);
  bool found = false;
  rights.each([&](Id, Slot slot) {
    if (!allowed.boolean(slot) || !active.boolean(slot)) return true;
    const Id group = of_group.integer(slot);
    if (group != 0 && std::find(groups.begin(), groups.end(), group) == groups.end()) return true;
    const Slot described = models.find(of_model.integer(slot));
    std::string_view name;
    if (described != kNoSlot && model_name.text(described, name) && name == model.name) found = true;
    return !found;
  });
  return found;
}

void Orm::check_access(const Table& table, Access access) const {
  const Model& model = table.model();
  if (has_access(model, access)) return;
  // The names of the groups that would be allowed are part of the real text.
  const Table& rights = database_.table("ir.model.access");
  const Table& groups = database_.table("res.groups");
  const Table& models = database_.table("ir.model");
  std::string allowed_for;
  rights.each([&](Id, Slot slot) {
    const auto cell = [&](const char* name) { return value(rights, *rights.model().find(name), slot); };
    const Cell described = cell("model_id");
    const Cell group = cell("group_id");
    if (!std::get<bool>(cell(access_column(access))) || !std::holds_alternative<std::int64_t>(group) ||
        !std::holds_alternative<std::int64_t>(described)) {
      return true;
    }
    const Slot row = models.find(std::get<std::int64_t>(described));
    if (row == kNoSlot) return true;
    const Cell name = value(models, *models.model().find("model"), row);
    if (!std::holds_alternative<std::string>(name) || std::get<std::string>(name) != model.name) return true;
    const Slot group_slot = groups.find(std::get<std::int64_t>(group));
    if (group_slot != kNoSlot) allowed_for += "\n\t- " + display_name(groups, group_slot);
    return true;
  });
  std::string text = "You are not allowed to " + std::string(access_verb(access)) + " '" + model.label + "' (" +
                     model.name + ") records.\n\n";
  text += allowed_for.empty() ? "No group currently allows this operation."
                              : "This operation is allowed for the following groups:" + allowed_for;
  throw access_error(text + "\n\nContact your administrator to request access if necessary.");
}

bool Orm::visible(const Table& table, Slot slot) const {
  if (env_.su || env_.companies.empty()) return true;
  const Model& model = table.model();
  if (model.name == "res.company") {
    return std::find(env_.companies.begin(), env_.companies.end(), table.id_of(slot)) != env_.companies.end();
  }
  if (!model.company_rule) return true;
  const Id company = table.column(model.find("company_id")->column).integer(slot);
  return company == 0 || std::find(env_.companies.begin(), env_.companies.end(), company) != env_.companies.end();
}

std::string Orm::missing_text(const Table& table, Id id) const {
  return "Record does not exist or has been deleted.\n(Record: " + table.model().name + "(" + std::to_string(id) +
         ",), User: " + std::to_string(env_.uid) + ")";
}

void Orm::check_records(const Table& table, const std::vector<Id>& ids, Access access) const {
  for (const Id id : ids) {
    const Slot slot = table.find(id);
    if (slot == kNoSlot) throw missing_error(missing_text(table, id));
    if (visible(table, slot)) continue;
    const Table& users = database_.table("res.users");
    const Slot user = users.find(env_.uid);
    const std::string who = user == kNoSlot ? "" : display_name(users, user);
    if (series() >= 17) {
      throw access_error("Uh-oh! Looks like you have stumbled upon some top-secret records.\n\nSorry, " + who +
                         " (id=" + std::to_string(env_.uid) + ") doesn't have '" +
                         (access == Access::read     ? "read"
                          : access == Access::write  ? "write"
                          : access == Access::create ? "create"
                                                     : "unlink") +
                         "' access to:\n- " + table.model().label + ", " + display_name(table, slot) + " (" +
                         table.model().name + ": " + std::to_string(id) +
                         ")\n\nIf you really, really need access, perhaps you can win over your friendly administrator "
                         "with a batch of freshly baked cookies.");
    }
    throw access_error("Due to security restrictions, you are not allowed to access '" + table.model().label + "' (" +
                       table.model().name + ") records.\n\nRecords: " + display_name(table, slot) +
                       " (id=" + std::to_string(id) + ")\nUser: " + who + " (id=" + std::to_string(env_.uid) +
                       ")\n\nContact your administrator to request access if necessary.");
  }
}

// ---------------------------------------------------------------- search

bool Orm::drop_inactive(const Table& table) const {
  const Field* active = table.model().find("active");
  return active != nullptr && active->cells == Cells::boolean && env_.active_test;
}

std::vector<Id> Orm::filtered(const Table& table, const CompiledDomain& domain, std::int64_t stop_after) const {
  std::vector<Id> result;
  const bool only_active = drop_inactive(table) && !domain.mentions_active;
  const Column* active = only_active ? &table.column(table.model().find("active")->column) : nullptr;
  const bool ruled =
      !env_.su && !env_.companies.empty() && (table.model().company_rule || table.model().name == "res.company");
  const auto take = [&](Id id, Slot slot) {
    if (active != nullptr && !active->boolean(slot)) return true;
    if (domain.predicate && !domain.predicate->test(slot)) return true;
    if (ruled && !visible(table, slot)) return true;
    result.push_back(id);
    return stop_after < 0 || static_cast<std::int64_t>(result.size()) < stop_after;
  };
  if (domain.among) {
    for (const Id id : *domain.among) {
      const Slot slot = table.find(id);
      if (slot != kNoSlot && !take(id, slot)) break;
    }
  } else {
    table.each(take, domain.id_above);
  }
  return result;
}

namespace {

struct OrderKey {
  const Field* field = nullptr;  // null: id
  bool descending = false;
  bool nulls_first = false;
  const Table* comodel = nullptr;
  std::vector<OrderKey> inner;  // a many2one sorts as its own model does
};

int compare_cells(const Cell& a, const Cell& b) {
  if (a.index() != b.index()) return a.index() < b.index() ? -1 : 1;
  if (a < b) return -1;
  return b < a ? 1 : 0;
}

}  // namespace

struct Orm::Sorter {
  const Orm& orm;

  std::vector<OrderKey> parse(const Table& table, const std::string& order, int depth) const {
    std::vector<OrderKey> keys;
    std::size_t at = 0;
    while (at <= order.size()) {
      auto end = order.find(',', at);
      if (end == std::string::npos) end = order.size();
      std::string part = order.substr(at, end - at);
      at = end + 1;
      std::vector<std::string> words;
      std::string word;
      for (const char c : part + " ") {
        if (c != ' ') {
          word += c;
        } else if (!word.empty()) {
          words.push_back(word);
          word.clear();
        }
      }
      if (words.empty()) {
        if (at > order.size()) break;
        throw user_error("Invalid \"order\" specified (" + order +
                         "). A valid \"order\" specification is a comma-separated list of valid field names "
                         "(optionally followed by asc/desc for the direction)");
      }
      OrderKey key;
      const auto lower = [](std::string text) {
        std::transform(text.begin(), text.end(), text.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        return text;
      };
      if (words.size() > 1) {
        const std::string direction = lower(words[1]);
        if (direction != "asc" && direction != "desc" && direction != "nulls") {
          throw user_error("Invalid \"order\" specified (" + order +
                           "). A valid \"order\" specification is a comma-separated list of valid field names "
                           "(optionally followed by asc/desc for the direction)");
        }
        key.descending = direction == "desc";
      }
      key.nulls_first = key.descending;
      if (words.size() >= 3 && lower(words[words.size() - 2]) == "nulls")
        key.nulls_first = lower(words.back()) == "first";
      std::string name = words[0];
      const auto dot = name.find_first_of(".:");
      if (dot != std::string::npos) name.resize(dot);
      const Field* field = table.model().find(name);
      if (field == nullptr) throw value_error("Invalid field '" + words[0] + "' on model '" + table.model().name + "'");
      if (name != "id") key.field = field;
      if (field->cells == Cells::link && depth < 2) {
        key.comodel = orm.database_.find(field->relation);
        if (key.comodel != nullptr && dot == std::string::npos) {
          key.inner = parse(*key.comodel, key.comodel->model().order, depth + 1);
        }
      }
      keys.push_back(std::move(key));
    }
    return keys;
  }

  int compare(const Table& table, const std::vector<OrderKey>& keys, Slot a, Slot b) const {
    for (const auto& key : keys) {
      int order = 0;
      if (key.field == nullptr) {
        order = table.id_of(a) < table.id_of(b) ? -1 : (table.id_of(a) > table.id_of(b) ? 1 : 0);
        if (key.descending) order = -order;
      } else {
        const Cell x = orm.value(table, *key.field, a);
        const Cell y = orm.value(table, *key.field, b);
        const bool no_x = std::holds_alternative<std::monostate>(x);
        const bool no_y = std::holds_alternative<std::monostate>(y);
        if (no_x || no_y) {
          if (no_x != no_y) order = no_x == key.nulls_first ? -1 : 1;
        } else if (key.comodel != nullptr && !key.inner.empty()) {
          const Slot p = key.comodel->find(std::get<std::int64_t>(x));
          const Slot q = key.comodel->find(std::get<std::int64_t>(y));
          if (p != kNoSlot && q != kNoSlot && p != q) order = compare(*key.comodel, key.inner, p, q);
          if (key.descending) order = -order;
        } else {
          order = compare_cells(x, y);
          if (key.descending) order = -order;
        }
      }
      if (order != 0) return order;
    }
    return 0;
  }
};

void Orm::sort(const Table& table, std::vector<Id>& ids, const std::string& order, std::size_t first) const {
  const Sorter sorter{*this};
  const auto keys = sorter.parse(table, order, 0);
  if (keys.size() == 1 && keys[0].field == nullptr) {
    if (keys[0].descending) std::reverse(ids.begin(), ids.end());
    return;
  }
  const auto before = [&](Id a, Id b) {
    const int result = sorter.compare(table, keys, table.find(a), table.find(b));
    return result != 0 ? result < 0 : a < b;
  };
  if (first < ids.size()) {
    std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(first), ids.end(), before);
  } else {
    std::sort(ids.begin(), ids.end(), before);
  }
}

std::vector<Id> Orm::search(const Table& table, const Json& domain, std::int64_t offset, std::int64_t limit,
                            const std::string& order) {
  check_access(table, Access::read);
  const CompiledDomain compiled = compile_domain(domain_context_, table, domain);
  const std::string by = order.empty() ? table.model().order : order;
  std::string plain = by;
  plain.erase(std::remove(plain.begin(), plain.end(), ' '), plain.end());
  const bool natural = plain == "id" || plain == "idasc" || plain == "idASC";
  if (limit == 0) limit = -1;  // a limit of 0 is no limit
  std::vector<Id> ids = filtered(table, compiled, natural && limit > 0 ? offset + limit : -1);
  if (!natural) {
    const std::size_t first = limit < 0 ? ids.size() : static_cast<std::size_t>(offset + limit);
    sort(table, ids, by, first);
  }
  if (offset > 0) {
    ids.erase(ids.begin(), ids.begin() + std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(offset),
                                                                  static_cast<std::ptrdiff_t>(ids.size())));
  }
  if (limit >= 0 && static_cast<std::int64_t>(ids.size()) > limit) ids.resize(static_cast<std::size_t>(limit));
  return ids;
}

std::int64_t Orm::count(const Table& table, const Json& domain, std::int64_t limit) {
  check_access(table, Access::read);
  const CompiledDomain compiled = compile_domain(domain_context_, table, domain);
  if (!compiled.predicate && !drop_inactive(table) && !(table.model().company_rule && !env_.su)) {
    const auto all = static_cast<std::int64_t>(table.size());
    return limit > 0 ? std::min(all, limit) : all;
  }
  return static_cast<std::int64_t>(filtered(table, compiled, limit > 0 ? limit : -1).size());
}

// ---------------------------------------------------------------- values

std::string Orm::display_name(const Table& table, Slot slot) const {
  const Model& model = table.model();
  const auto text = [&](std::string_view name) -> std::string {
    const Field* field = model.find(name);
    if (field == nullptr) return {};
    const Cell cell = value(table, *field, slot);
    if (const auto* found = std::get_if<std::string>(&cell)) return *found;
    if (const auto* id = std::get_if<std::int64_t>(&cell)) {
      if (field->type != FieldType::many2one) return std::to_string(*id);
      const Table* other = database_.find(field->relation);
      const Slot at = other == nullptr ? kNoSlot : other->find(*id);
      return at == kNoSlot ? std::string() : display_name(*other, at);
    }
    return {};
  };
  const auto related_name = [&](const Table& of, Slot at, const char* link) -> std::string {
    const Field* field = of.model().find(link);
    if (field == nullptr || field->cells != Cells::link) return {};
    const Table* other = database_.find(field->relation);
    const Slot target = other == nullptr ? kNoSlot : other->find(of.column(field->column).integer(at));
    return target == kNoSlot ? std::string() : display_name(*other, target);
  };
  if (model.display == "partner") {
    std::string name = text("name");
    const Field* parent = model.find("parent_id");
    const Field* company = model.find("is_company");
    const Id parent_id = table.column(parent->column).integer(slot);
    if (parent_id != 0 && !table.column(company->column).boolean(slot)) {
      if (name.empty()) {
        const std::string type = text("type");
        const std::string label = type == "invoice"    ? "Invoice"
                                  : type == "delivery" ? "Delivery"
                                  : type == "contact"  ? "Contact"
                                                       : "Other";
        name = label + (type == "contact" ? "" : series() >= 17 && type == "other" ? "" : " Address");
      }
      const Slot at = table.find(parent_id);
      std::string_view parent_name;
      if (at != kNoSlot && table.column(model.find("name")->column).text(at, parent_name)) {
        return std::string(parent_name) + ", " + name;
      }
    }
    return name;
  }
  if (model.display == "product") {
    std::string name = text("name");
    const std::string code = text("default_code");
    std::string attributes;
    if (const Field* values = model.find("product_template_attribute_value_ids")) {
      const Table* other = database_.find(values->relation);
      for (const Id id : table.column(values->column).ids(slot)) {
        const Slot at = other->find(id);
        if (at == kNoSlot) continue;
        const std::string label = related_name(*other, at, "product_attribute_value_id");
        if (!label.empty()) attributes += (attributes.empty() ? "" : ", ") + label;
      }
    }
    if (!attributes.empty()) name += " (" + attributes + ")";
    return code.empty() ? name : "[" + code + "] " + name;
  }
  if (model.display == "attribute_value") {
    return related_name(table, slot, "attribute_id") + ": " + related_name(table, slot, "product_attribute_value_id");
  }
  if (model.display == "template") {
    const std::string code = text("default_code");
    return code.empty() ? text("name") : "[" + code + "] " + text("name");
  }
  if (model.display == "order_line") {
    std::string name = text("name");
    name = name.substr(0, name.find('\n'));
    return text("order_id") + " - " + name;
  }
  if (model.display == "state") return text("name") + " (" + text("code") + ")";
  if (model.rec_name.empty()) return model.name + "," + std::to_string(table.id_of(slot));
  return text(model.rec_name);
}

std::vector<Id> Orm::list_ids(const Table& table, const Field& field, Slot slot) const {
  std::vector<Id> ids;
  const Table* other = database_.find(field.relation);
  if (other == nullptr) return ids;
  if (field.type == FieldType::one2many) {
    const Field* inverse = other->model().find(field.relation_field);
    if (inverse == nullptr) return ids;
    if (inverse->cells != Cells::link) return ids;
    for (const Slot at : other->column(inverse->column).slots_of(table.id_of(slot))) ids.push_back(other->id_of(at));
  } else if (!field.mirror.empty()) {
    // "res.users.group_ids": the other model keeps the list.
    const auto dot = field.mirror.rfind('.');
    const Field* kept = other->model().find(field.mirror.substr(dot + 1));
    const Id self = table.id_of(slot);
    if (kept == nullptr || kept->cells != Cells::ids) return ids;
    other->each([&](Id id, Slot at) {
      const auto& theirs = other->column(kept->column).ids(at);
      if (std::find(theirs.begin(), theirs.end(), self) != theirs.end()) ids.push_back(id);
      return true;
    });
  } else if (field.cells == Cells::ids) {
    ids = table.column(field.column).ids(slot);
    ids.erase(std::remove_if(ids.begin(), ids.end(), [&](Id id) { return other->find(id) == kNoSlot; }), ids.end());
  } else if (!field.related.empty()) {
    const Cell cell = value(table, field, slot);
    if (const auto* list = std::get_if<std::vector<Id>>(&cell)) ids = *list;
  }
  const Field* active = other->model().find("active");
  if ((env_.active_test || field.active_only) && active != nullptr && active->cells == Cells::boolean) {
    const Column& flags = other->column(active->column);
    ids.erase(std::remove_if(ids.begin(), ids.end(), [&](Id id) { return !flags.boolean(other->find(id)); }),
              ids.end());
  }
  if (ids.size() > 1) sort(*other, ids, other->model().order, ids.size());
  return ids;
}

Cell Orm::value(const Table& table, const Field& field, Slot slot) const {
  if (field.name == "id") return table.id_of(slot);
  if (field.type == FieldType::one2many || field.type == FieldType::many2many) {
    if (field.related.empty() || field.cells != Cells::none) return list_ids(table, field, slot);
  }
  if (field.cells != Cells::none) return table.column(field.column).get(slot);
  if (!field.related.empty()) {
    const Table* at_table = &table;
    Slot at = slot;
    std::string_view path = field.related;
    for (;;) {
      const auto dot = path.find('.');
      const Field* step = at_table->model().find(path.substr(0, dot));
      if (step == nullptr) return {};
      if (dot == std::string_view::npos) return value(*at_table, *step, at);
      const Cell link = value(*at_table, *step, at);
      const auto* id = std::get_if<std::int64_t>(&link);
      const Table* next = database_.find(step->relation);
      if (id == nullptr || next == nullptr) return {};
      at = next->find(*id);
      if (at == kNoSlot) return {};
      at_table = next;
      path.remove_prefix(dot + 1);
    }
  }
  if (field.name == "display_name") return display_name(table, slot);
  if (field.name == "qty_available" || field.name == "virtual_available") {
    // On hand: what lies in internal locations, of this product or of all variants of this template.
    const Table& quants = database_.table("stock.quant");
    const Table& locations = database_.table("stock.location");
    const Table& products = database_.table("product.product");
    const auto column = [](const Table& of, const char* name) -> const Column& {
      return of.column(of.model().find(name)->column);
    };
    double sum = 0;
    const auto add_product = [&](Id product) {
      quants.each([&](Id, Slot quant) {
        if (column(quants, "product_id").integer(quant) != product) return true;
        const Slot place = locations.find(column(quants, "location_id").integer(quant));
        std::string_view usage;
        if (place != kNoSlot && column(locations, "usage").text(place, usage) && usage == "internal") {
          sum += column(quants, "quantity").real(quant);
        }
        return true;
      });
    };
    if (table.model().name == "product.product") {
      add_product(table.id_of(slot));
    } else {
      products.each([&](Id product, Slot at) {
        if (column(products, "product_tmpl_id").integer(at) == table.id_of(slot)) add_product(product);
        return true;
      });
    }
    return sum;
  }
  switch (field.type) {
    case FieldType::boolean:
      return false;
    case FieldType::integer:
      return std::int64_t{0};
    case FieldType::floating:
      return 0.0;
    default:
      return {};
  }
}

void Orm::write_value(const Table& table, const Field& field, Slot slot, Id id, Links links, Sink& out,
                      std::unordered_map<Id, std::string>& names) const {
  if (field.column >= 0 && field.cells != Cells::none) {
    const Column& column = table.column(field.column);
    switch (field.cells) {
      case Cells::boolean:
        out.boolean(column.boolean(slot));
        return;
      case Cells::integer:
        out.integer(column.integer(slot));
        return;
      case Cells::real:
        out.floating(column.real(slot));
        return;
      case Cells::time: {
        const auto at = column.integer(slot);
        if (at == kNoTime) {
          out.boolean(false);
        } else {
          out.string(field.type == FieldType::date ? format_date(at) : format_datetime(at));
        }
        return;
      }
      case Cells::link: {
        const Id target = column.integer(slot);
        const Table* other = target == 0 ? nullptr : database_.find(field.relation);
        const Slot at = other == nullptr ? kNoSlot : other->find(target);
        if (target == 0 || (other != nullptr && at == kNoSlot)) {
          out.boolean(false);
        } else if (links == Links::ids) {
          out.integer(target);
        } else {
          auto [name, fresh] = names.try_emplace(target);
          if (fresh && other != nullptr) name->second = display_name(*other, at);
          out.begin_array();
          out.integer(target);
          out.string(name->second);
          out.end_array();
        }
        return;
      }
      case Cells::text:
      case Cells::choice: {
        std::string_view text;
        if (!column.text(slot, text)) {
          out.boolean(false);
        } else if (field.type == FieldType::json) {
          write_json(out, Json::parse(text));
        } else {
          out.string(text);
        }
        return;
      }
      case Cells::blob: {
        std::string_view text;
        if (!column.text(slot, text)) {
          out.boolean(false);
        } else if (env_.bin_size) {
          const auto padding = static_cast<std::size_t>(std::count(
              text.end() - std::min<std::ptrdiff_t>(2, static_cast<std::ptrdiff_t>(text.size())), text.end(), '='));
          out.string(human_size(text.size() / 4 * 3 - padding));
        } else {
          out.string(text);
        }
        return;
      }
      case Cells::ids:
      case Cells::none:
        break;
    }
  }
  if (field.name == "id") {
    out.integer(id);
    return;
  }
  // A related binary, many2one or date is written as the field it stands for.
  if (field.cells == Cells::none && !field.related.empty() && field.type != FieldType::one2many &&
      field.type != FieldType::many2many) {
    const auto dot = field.related.find('.');
    const Field* link = table.model().find(field.related.substr(0, dot));
    if (dot != std::string::npos && link != nullptr && link->cells == Cells::link) {
      const Table* other = database_.find(link->relation);
      const Field* target = other == nullptr ? nullptr : other->model().find(field.related.substr(dot + 1));
      const Slot at = other == nullptr ? kNoSlot : other->find(table.column(link->column).integer(slot));
      if (target != nullptr && at != kNoSlot) {
        write_value(*other, *target, at, other->id_of(at), links, out, names);
        return;
      }
    }
  }
  const Cell cell = value(table, field, slot);
  if (const auto* list = std::get_if<std::vector<Id>>(&cell)) {
    out.begin_array();
    for (const Id item : *list) out.integer(item);
    out.end_array();
  } else if (const auto* text = std::get_if<std::string>(&cell)) {
    out.string(*text);
  } else if (const auto* real = std::get_if<double>(&cell)) {
    out.floating(*real);
  } else if (const auto* number = std::get_if<std::int64_t>(&cell)) {
    out.integer(*number);
  } else if (const auto* flag = std::get_if<bool>(&cell)) {
    out.boolean(*flag);
  } else if (field.type == FieldType::one2many || field.type == FieldType::many2many) {
    out.begin_array();
    out.end_array();
  } else {
    out.boolean(false);
  }
}

void Orm::read(const Table& table, const std::vector<Id>& ids, const std::vector<std::string>& names, Links links,
               Sink& out) {
  const Model& model = table.model();
  check_access(table, Access::read);
  std::vector<const Field*> fields;
  for (const auto& name : names) {
    const Field* field = model.find(name);
    if (field == nullptr) {
      throw value_error("Invalid field '" + name + (series() >= 19 ? "' on '" : "' on model '") + model.name + "'");
    }
    if (std::find(fields.begin(), fields.end(), field) == fields.end()) fields.push_back(field);
  }
  if (names.empty()) {
    for (const auto& field : model.fields) fields.push_back(field.get());
  }
  // A list of records that the user may not read refuses the whole call.
  for (const Field* field : fields) {
    if (field->type != FieldType::one2many && field->type != FieldType::many2many) continue;
    const Table* other = database_.find(field->relation);
    if (other == nullptr || has_access(other->model(), Access::read)) continue;
    try {
      check_access(*other, Access::read);
    } catch (const OdooError& error) {
      if (series() < 19) throw;
      throw access_error("Failed to read field " + model.name + "." + field->name + "\n" + error.what());
    }
  }
  const bool only_id = fields.size() == 1 && fields[0]->name == "id";
  std::vector<std::unordered_map<Id, std::string>> link_names(fields.size());
  out.begin_array();
  for (const Id id : ids) {
    const Slot slot = table.find(id);
    if (slot == kNoSlot) {
      if (!only_id) continue;
      if (series() < 17) throw missing_error(missing_text(table, id));
      out.begin_object();
      out.key("id");
      out.integer(id);
      out.end_object();
      continue;
    }
    if (!visible(table, slot)) check_records(table, {id}, Access::read);
    out.begin_object();
    out.key("id");
    out.integer(id);
    for (std::size_t i = 0; i < fields.size(); ++i) {
      if (fields[i]->name == "id") continue;
      out.key(fields[i]->name);
      write_value(table, *fields[i], slot, id, links, out, link_names[i]);
    }
    out.end_object();
  }
  out.end_array();
}

void Orm::fields_get(const Table& table, const std::vector<std::string>& fields,
                     const std::vector<std::string>& attributes, Sink& out) {
  const Model& model = table.model();  // open to all who may log in: no right is asked for
  const auto wanted = [](const std::vector<std::string>& list, const std::string& name) {
    return list.empty() || std::find(list.begin(), list.end(), name) != list.end();
  };
  out.begin_object();
  for (const auto& field : model.fields) {
    if (!wanted(fields, field->name)) continue;
    out.key(field->name);
    out.begin_object();
    for (const auto& [name, value] : field->attributes.items()) {
      if (!wanted(attributes, name)) continue;
      out.key(name);
      write_json(out, value);
    }
    // What is kept of the real servers was recorded without it; these two are what is computed here and stored.
    if (std::find(attributes.begin(), attributes.end(), "depends") != attributes.end()) {
      out.key("depends");
      const bool of_name = field->name == "complete_name" || field->name == "display_name";
      write_json(out, of_name ? Json::array({"name", "parent_id"}) : Json::array());
    }
    out.end_object();
  }
  out.end_object();
}

Json Orm::name_search(const Table& table, const std::string& name, const Json& domain, const std::string& op,
                      std::int64_t limit) {
  Json all = Json::array();
  if (domain.is_array()) all = domain;
  if (!name.empty()) all.push_back(Json::array({"display_name", op.empty() ? "ilike" : op, name}));
  Json result = Json::array();
  for (const Id id : search(table, all, 0, limit, "")) {
    result.push_back(Json::array({id, display_name(table, table.find(id))}));
  }
  return result;
}

}  // namespace sandbox::odoo
