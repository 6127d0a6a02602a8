// The half of Orm that changes records: create, write, unlink, load, and what follows from them.

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/orm.h"
#include "sandbox/odoo/procedures.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

bool is_log_field(std::string_view name) {
  return name == "create_uid" || name == "create_date" || name == "write_uid" || name == "write_date";
}

bool is_unset(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>());
}

bool affects_rights(const std::string& model) {
  return model == "res.users" || model == "res.groups" || model == "ir.model.access" || model == "ir.model";
}

}  // namespace

void Orm::set_cell(Table& table, Id id, const Field& field, Cell cell) {
  if (field.cells == Cells::none) return;
  const Slot slot = table.find(id);
  Column& column = table.column(field.column);
  if (transaction_ != nullptr) {
    transaction_->on_rollback([&table, &field, id, old = column.get(slot)] {
      const Slot at = table.find(id);
      if (at != kNoSlot) table.column(field.column).set(at, old);
    });
  }
  column.set(slot, cell);
}

void Orm::set_cell(Table& table, Id id, std::string_view name, Cell cell) {
  const Field* field = table.model().find(name);
  if (field != nullptr) set_cell(table, id, *field, std::move(cell));
}

void Orm::erase_row(Table& table, Id id) {
  const Slot slot = table.find(id);
  if (slot == kNoSlot) return;
  if (transaction_ != nullptr) {
    std::vector<std::pair<int, Cell>> old;
    for (const auto& field : table.model().fields) {
      if (field->cells != Cells::none) old.emplace_back(field->column, table.column(field->column).get(slot));
    }
    transaction_->on_rollback([&table, id, old = std::move(old)] {
      const Slot at = table.insert(id);
      for (const auto& [column, cell] : old) table.column(column).set(at, cell);
    });
  }
  table.erase(id);
}

void Orm::touch(Table& table, Id id, bool created) {
  const std::int64_t now = transaction_ == nullptr ? database_.now_us() : transaction_->start_us();
  const Id uid = env_.uid;
  if (created) {
    set_cell(table, id, "create_date", now);
    set_cell(table, id, "create_uid", uid);
  }
  set_cell(table, id, "write_date", now);
  set_cell(table, id, "write_uid", uid);
}

// ---------------------------------------------------------------- values

void Orm::apply_commands(Table& table, Id id, const Field& field, const Json& commands) {
  Table* other = database_.find(field.relation);
  if (other == nullptr) return;
  const bool one2many = field.type == FieldType::one2many;
  const Field* inverse = one2many ? other->model().find(field.relation_field) : nullptr;
  Table* kept_table = &table;
  const Field* kept = &field;
  if (!field.mirror.empty()) {
    kept_table = other;
    kept = other->model().find(field.mirror.substr(field.mirror.rfind('.') + 1));
  }
  const auto link = [&](Id target) {
    if (other->find(target) == kNoSlot) throw missing_error(missing_text(*other, target));
    if (one2many) {
      set_cell(*other, target, *inverse, id);
      touch(*other, target, false);
      return;
    }
    const Id holder = kept_table == &table && field.mirror.empty() ? id : target;
    const Id held = holder == id && field.mirror.empty() ? target : id;
    auto ids = kept_table->column(kept->column).ids(kept_table->find(holder));
    if (std::find(ids.begin(), ids.end(), held) != ids.end()) return;
    ids.push_back(held);
    set_cell(*kept_table, holder, *kept, std::move(ids));
  };
  const auto unlink_one = [&](Id target, bool erase) {
    if (one2many) {
      if (other->find(target) == kNoSlot) return;
      if (erase || inverse->required) {
        unlink(*other, {target});
      } else {
        set_cell(*other, target, *inverse, Cell());
        touch(*other, target, false);
      }
      return;
    }
    const Id holder = field.mirror.empty() ? id : target;
    const Id held = field.mirror.empty() ? target : id;
    auto ids = kept_table->column(kept->column).ids(kept_table->find(holder));
    ids.erase(std::remove(ids.begin(), ids.end(), held), ids.end());
    set_cell(*kept_table, holder, *kept, std::move(ids));
    if (erase) unlink(*other, {target});
  };
  const auto current = [&] {
    const bool active_test = env_.active_test;
    env_.active_test = false;
    auto ids = list_ids(table, field, table.find(id));
    env_.active_test = active_test;
    return ids;
  };
  if (is_unset(commands)) {
    for (const Id target : current()) unlink_one(target, false);
    return;
  }
  if (!commands.is_array()) {
    throw value_error("Wrong value for " + table.model().name + "." + field.name + ": " + python_repr(commands));
  }
  const auto replace = [&](const Json& list) {
    std::vector<Id> wanted;
    for (const auto& item : list) wanted.push_back(item.get<Id>());
    for (const Id target : current()) {
      if (std::find(wanted.begin(), wanted.end(), target) == wanted.end()) unlink_one(target, false);
    }
    for (const Id target : wanted) link(target);
  };
  if (!commands.empty() &&
      std::all_of(commands.begin(), commands.end(), [](const Json& c) { return c.is_number_integer(); })) {
    replace(commands);
    return;
  }
  for (const auto& command : commands) {
    if (!command.is_array() || command.empty() || !command[0].is_number_integer()) {
      throw value_error("Wrong value for " + table.model().name + "." + field.name + ": " + python_repr(commands));
    }
    const int code = command[0].get<int>();
    const Id target = command.size() > 1 && command[1].is_number_integer() ? command[1].get<Id>() : 0;
    switch (code) {
      case 0: {
        Json values = command.size() > 2 ? command[2] : Json::object();
        if (one2many) values[field.relation_field] = id;
        const Id made = create(*other, values);
        if (!one2many) link(made);
        break;
      }
      case 1:
        write(*other, {target}, command.at(2));
        break;
      case 2:
        unlink_one(target, true);
        break;
      case 3:
        unlink_one(target, false);
        break;
      case 4:
        link(target);
        break;
      case 5:
        for (const Id at : current()) unlink_one(at, false);
        break;
      case 6:
        replace(command.size() > 2 && command[2].is_array() ? command[2] : Json::array());
        break;
      default:
        throw value_error("Wrong value for " + table.model().name + "." + field.name + ": " + python_repr(commands));
    }
  }
}

void Orm::assign(Table& table, Id id, const Field& field, const Json& value) {
  if (field.name == "id" || is_log_field(field.name)) return;
  if (field.type == FieldType::one2many || field.type == FieldType::many2many) {
    if (field.cells == Cells::none && !field.related.empty() && field.mirror.empty()) {
      // falls through to the related record below
    } else {
      apply_commands(table, id, field, value);
      return;
    }
  }
  if (field.cells == Cells::none) {
    const auto dot = field.related.find('.');
    if (dot == std::string::npos) return;
    const Field* link = table.model().find(field.related.substr(0, dot));
    if (link == nullptr || link->cells != Cells::link) return;
    const Id target = table.column(link->column).integer(table.find(id));
    Table* other = database_.find(link->relation);
    if (target != 0 && other != nullptr) write(*other, {target}, Json{{field.related.substr(dot + 1), value}});
    return;
  }
  Cell cell = to_cell(table.model(), field, value);
  if (auto* quantity = std::get_if<double>(&cell);
      quantity != nullptr && field.name == "product_uom_qty" && table.model().name == "sale.order.line") {
    // To the digits that an Odoo is installed with, half up as its own float_round does.
    *quantity = std::round(*quantity * 100 + std::copysign(1e-9, *quantity)) / 100;
  }
  if (field.cells == Cells::link) {
    if (const auto* target = std::get_if<std::int64_t>(&cell)) {
      const Table* other = database_.find(field.relation);
      if (other != nullptr && other->find(*target) == kNoSlot) {
        const Model& model = table.model();
        if (series() >= 19) {
          const Json& label = field.attributes.value("string", Json(field.name));
          throw validation_error(
              "The operation cannot be completed: Another model is using the record you are trying to delete.\n\nThe "
              "troublemaker is: '" +
              model.label + "' (" + model.name + ")\nThanks to the following constraint: '" + label.get<std::string>() +
              "' (" + field.name + ")\nHow about archiving the record instead?");
        }
        std::string sql = model.name;
        std::replace(sql.begin(), sql.end(), '.', '_');
        throw validation_error(
            "The operation cannot be completed: another model requires the record being deleted. If possible, archive "
            "it instead.\n\nModel: " +
            model.label + " (" + model.name + "), Constraint: " + sql + "_" + field.name + "_fkey");
      }
    }
  }
  set_cell(table, id, field, std::move(cell));
}

void Orm::check_constraints(Table& table, Id id, bool created) {
  const Model& model = table.model();
  const Slot slot = table.find(id);
  if (created) {
    for (const auto& name : model.enforced) {
      const Field* field = model.find(name);
      if (field == nullptr || !std::holds_alternative<std::monostate>(value(table, *field, slot))) continue;
      const std::string label = field->attributes.value("string", field->name);
      if (series() >= 17) {
        throw validation_error("The operation cannot be completed: Missing required value for the field '" + label +
                               "' (" + name + ").\nModel: '" + model.label + "' (" + model.name +
                               ")\n- create/update: a mandatory field is not set\n- delete: another model requires the "
                               "record being deleted, you can archive it instead\n");
      }
      throw validation_error(
          "The operation cannot be completed:\n- Create/update: a mandatory field is not set.\n- Delete: another model "
          "requires the record being deleted. If possible, archive it instead.\n\nModel: " +
          model.label + " (" + model.name + "), Field: " + label + " (" + name + ")");
    }
  }
  if (model.name == "res.partner") {
    const auto text = [&](const char* name) { return value(table, *model.find(name), slot); };
    const Cell type = text("type");
    const bool contact = std::holds_alternative<std::monostate>(type) || std::get<std::string>(type) == "contact";
    const Cell name = text("name");
    if (contact && (std::holds_alternative<std::monostate>(name) || std::get<std::string>(name).empty())) {
      throw validation_error(series() >= 17 ? "The operation cannot be completed: Contacts require a name"
                                            : "res_partner_check_name");
    }
  }
  for (const auto& rule : model.unique) {
    std::vector<std::pair<const Field*, Cell>> cells;
    for (const auto& name : rule.at("fields")) {
      const Field* field = model.find(name.get<std::string>());
      if (field == nullptr) continue;
      cells.emplace_back(field, value(table, *field, slot));
    }
    if (std::any_of(cells.begin(), cells.end(),
                    [](const auto& c) { return std::holds_alternative<std::monostate>(c.second); }))
      continue;
    bool clash = false;
    Id clashing = 0;
    table.each([&](Id other, Slot at) {
      if (other == id) return true;
      clashing = other;
      clash = std::all_of(cells.begin(), cells.end(),
                          [&](const auto& c) { return table.column(c.first->column).get(at) == c.second; });
      return !clash;
    });
    if (clash && rule.at("message") == "barcode" && series() >= 17) {
      const auto& code = std::get<std::string>(cells.front().second);
      throw validation_error("Barcode(s) already assigned:\n\n- Barcode \"" + code +
                             "\" already assigned to product(s): " + display_name(table, table.find(clashing)) +
                             " and " + display_name(table, slot) +
                             "\n\nNote: products that you don't have access to will not be shown above.");
    }
    if (clash) {
      throw validation_error(series() >= 17
                                 ? "The operation cannot be completed: " + rule.at("message").get<std::string>()
                                 : rule.value("message14", rule.at("constraint").get<std::string>()));
    }
  }
}

// ---------------------------------------------------------------- create, write, unlink

Json Orm::creation_defaults(const Table& table, const Json& values) {
  const Model& model = table.model();
  Json full = values;
  const auto fill = [&](const std::string& name, const Json& value) {
    const Field* field = model.find(name);
    if (field != nullptr && !full.contains(name)) full[name] = value;
  };
  for (const auto& [key, value] : env_.context.items()) {
    if (key.starts_with("default_")) fill(key.substr(8), value);
  }
  for (const auto& [name, value] : model.defaults.items()) fill(name, value);
  const Field* active = model.find("active");
  if (active != nullptr && active->cells == Cells::boolean) fill("active", true);
  const std::string now = format_datetime(transaction_ == nullptr ? database_.now_us() : transaction_->start_us());
  const Field* company = model.find("company_id");
  // Master data is shared by default, documents belong to the caller's company.
  if (company != nullptr && company->cells == Cells::link && !model.defaults.contains("company_id")) {
    fill("company_id", env_.company());
  }
  const Field* currency = model.find("currency_id");
  if (currency != nullptr && currency->cells == Cells::link && !full.contains("currency_id")) {
    const Table& companies = database_.table("res.company");
    const Id own = full.contains("company_id") && full["company_id"].is_number_integer() ? full["company_id"].get<Id>()
                                                                                         : env_.company();
    const Slot at = companies.find(own);
    if (at != kNoSlot) fill("currency_id", companies.column(companies.model().find("currency_id")->column).integer(at));
  }
  if (model.name == "sale.order") {
    fill("date_order", now);
    fill("user_id", env_.uid);
    if (full.contains("partner_id") && full["partner_id"].is_number_integer()) {
      fill("partner_invoice_id", full["partner_id"]);
      fill("partner_shipping_id", full["partner_id"]);
    }
    if (is_unset(full.value("name", Json(false))) || full["name"] == "New" || full["name"] == "/") {
      char name[32];
      std::snprintf(name, sizeof name, "S%05lld", static_cast<long long>(++database_.sequences["sale.order"]));
      full["name"] = name;
    }
    const Id own = full["company_id"].is_number_integer() ? full["company_id"].get<Id>() : 1;
    if (const Table* warehouses = database_.find("stock.warehouse");
        warehouses != nullptr && !full.contains("warehouse_id")) {
      const Column& owner = warehouses->column(warehouses->model().find("company_id")->column);
      warehouses->each([&](Id id, Slot slot) {
        if (owner.integer(slot) != own) return true;
        full["warehouse_id"] = id;
        return false;
      });
    }
  }
  if (model.name == "sale.order.line" && full.contains("product_id") && full["product_id"].is_number_integer()) {
    const Table& products = database_.table("product.product");
    const Slot at = products.find(full["product_id"].get<Id>());
    if (at != kNoSlot) {
      const auto of = [&](const char* name) {
        const Field* field = products.model().find(name);
        return field == nullptr ? Cell() : value(products, *field, at);
      };
      fill("name", display_name(products, at));
      const Cell price = of("list_price");
      if (const auto* number = std::get_if<double>(&price)) fill("price_unit", *number);
      const Cell unit = of("uom_id");
      if (const auto* id = std::get_if<std::int64_t>(&unit))
        fill(series() >= 19 ? "product_uom_id" : "product_uom", *id);
      const Cell taxes = of("taxes_id");
      if (const auto* ids = std::get_if<std::vector<Id>>(&taxes)) {
        fill(series() >= 19 ? "tax_ids" : "tax_id", Json::array({Json::array({6, 0, *ids})}));
      }
    }
    fill("product_uom_qty", 1.0);
  }
  return full;
}

Id Orm::create(Table& table, const Json& given, Id reserved) {
  check_access(table, Access::create);
  const Model& model = table.model();
  for (const auto& [name, value] : given.items()) {
    if (model.find(name) == nullptr && !(model.name == "res.users" && name == "password")) {
      throw value_error("Invalid field '" + name + (series() >= 19 ? "' in '" : "' on model '") + model.name + "'");
    }
  }
  Json values = creation_defaults(table, given);
  // Delegation: a product has its template, a user its partner; made first, with the fields that are theirs.
  const auto delegate = [&](const char* link, const char* other_model) {
    if (values.contains(link) && !is_unset(values[link])) return;
    Json theirs = Json::object();
    Json own = Json::object();
    for (const auto& [name, value] : values.items()) {
      const Field* field = model.find(name);
      const bool passed =
          field != nullptr && field->cells == Cells::none && field->related.starts_with(std::string(link) + ".");
      (passed ? theirs : own)[name] = value;
    }
    Table& other = database_.table(other_model);
    const Json context = env_.context;
    env_.context["create_product_product"] = false;
    own[link] = create(other, theirs);
    env_.context = context;
    values = std::move(own);
  };
  if (model.name == "product.product") delegate("product_tmpl_id", "product.template");
  if (model.name == "res.users") delegate("partner_id", "res.partner");
  const Id id = reserved != 0 ? reserved : table.next_id();
  table.insert(id);
  if (transaction_ != nullptr) transaction_->on_rollback([&table, id] { table.erase(id); });
  if (affects_rights(model.name)) ++database_.rights_version;
  touch(table, id, true);
  // Plain values first: commands on lists may need them.
  for (const bool lists : {false, true}) {
    for (const auto& [name, value] : values.items()) {
      const Field* field = model.find(name);
      if (field == nullptr) continue;
      const bool is_list = field->type == FieldType::one2many || field->type == FieldType::many2many;
      if (is_list == lists) assign(table, id, *field, value);
    }
  }
  if (model.name == "res.users" && given.contains("password") && given["password"].is_string()) {
    database_.passwords[id] = given["password"].get<std::string>();
    if (transaction_ != nullptr) transaction_->on_rollback([this, id] { database_.passwords.erase(id); });
  }
  if (model.name == "product.template" && env_.context.value("create_product_product", true)) {
    Table& products = database_.table("product.product");
    Json variant = {{"product_tmpl_id", id}};
    for (const char* name : {"default_code", "barcode", "weight", "volume", "standard_price", "active"}) {
      if (values.contains(name) && products.model().find(name)->cells != Cells::none) variant[name] = values[name];
    }
    create(products, variant);
  }
  after_write(table, id, values, true);
  check_constraints(table, id, true);
  return id;
}

void Orm::write(Table& table, const std::vector<Id>& ids, const Json& values) {
  check_access(table, Access::write);
  const Model& model = table.model();
  for (const auto& [name, value] : values.items()) {
    if (model.find(name) == nullptr && !(model.name == "res.users" && name == "password")) {
      if (series() >= 19) throw key_error(name);
      throw value_error("Invalid field '" + name + "' on model '" + model.name + "'");
    }
  }
  check_records(table, ids, Access::write);
  if (model.name == "sale.order" && series() >= 17 && values.contains("pricelist_id")) {
    const Column& state = table.column(model.find("state")->column);
    for (const Id id : ids) {
      std::string_view text;
      if (state.text(table.find(id), text) && text == "sale")
        throw user_error("You cannot change the pricelist of a confirmed order !");
    }
  }
  if (affects_rights(model.name)) ++database_.rights_version;
  for (const Id id : ids) {
    touch(table, id, false);
    for (const auto& [name, value] : values.items()) {
      if (const Field* field = model.find(name)) assign(table, id, *field, value);
    }
    if (model.name == "res.users" && values.contains("password")) {
      const auto old = database_.passwords[id];
      database_.passwords[id] = values["password"].is_string() ? values["password"].get<std::string>() : std::string();
      if (transaction_ != nullptr) transaction_->on_rollback([this, id, old] { database_.passwords[id] = old; });
    }
    after_write(table, id, values, false);
    check_constraints(table, id, false);
  }
}

void Orm::unlink(Table& table, const std::vector<Id>& ids) {
  check_access(table, Access::unlink);
  check_records(table, ids, Access::unlink);
  const Model& model = table.model();
  if (affects_rights(model.name)) ++database_.rights_version;
  std::vector<Id> orders;  // that lose a line
  if (model.name == "sale.order.line")
    for (const Id id : ids) orders.push_back(table.column(model.find("order_id")->column).integer(table.find(id)));
  if (model.name == "sale.order") {
    const Column& state = table.column(model.find("state")->column);
    for (const Id id : ids) {
      std::string_view text;
      if (state.text(table.find(id), text) && text != "draft" && text != "cancel") {
        throw user_error(
            series() >= 17
                ? "You can not delete a sent quotation or a confirmed sales order. You must first cancel it."
                : "You can not delete a sent quotation or a confirmed sales order. You must first cancel it.");
      }
    }
  }
  for (const auto& other_model : database_.schema().models) {
    Table& other = database_.table(other_model->name);
    for (const auto& field : other_model->fields) {
      if (field->cells != Cells::link || field->relation != model.name || is_log_field(field->name)) continue;
      const bool cascades = std::find(other_model->cascade.begin(), other_model->cascade.end(), field->name) !=
                            other_model->cascade.end();
      std::vector<Id> holders;
      const Column& column = other.column(field->column);
      if (column.has_index()) {
        for (const Id id : ids) {
          for (const Slot slot : column.slots_of(id)) holders.push_back(other.id_of(slot));
        }
      } else {
        other.each([&](Id holder, Slot slot) {
          const Id target = column.integer(slot);
          if (target != 0 && std::find(ids.begin(), ids.end(), target) != ids.end()) holders.push_back(holder);
          return true;
        });
      }
      for (const Id holder : holders) {
        if (&other == &table && std::find(ids.begin(), ids.end(), holder) != ids.end()) continue;
        if (other.find(holder) == kNoSlot) continue;
        if (cascades) {
          const bool su = env_.su;
          env_.su = true;
          unlink(other, {holder});
          env_.su = su;
        } else if (field->required) {
          if (series() >= 17) {
            throw validation_error(
                "The operation cannot be completed: Another model is using the record you are trying to delete.\n\nThe "
                "troublemaker is: '" +
                other_model->label + "' (" + other_model->name + ")\nThanks to the following constraint: '" +
                field->attributes.value("string", field->name) + "' (" + field->name +
                ")\nHow about archiving the record instead?");
          }
          std::string sql = other_model->name;
          std::replace(sql.begin(), sql.end(), '.', '_');
          throw validation_error(
              "The operation cannot be completed: another model requires the record being deleted. If possible, "
              "archive it instead.\n\nModel: " +
              other_model->label + " (" + other_model->name + "), Constraint: " + sql + "_" + field->name + "_fkey");
        } else {
          set_cell(other, holder, *field, Cell());  // SQL's ON DELETE SET NULL: no write_date
        }
      }
    }
  }
  Table& external = database_.table("ir.model.data");
  const Column& data_model = external.column(external.model().find("model")->column);
  const Column& data_id = external.column(external.model().find("res_id")->column);
  for (const Id id : ids) {
    if (model.name == "ir.model.data") {
      const Slot slot = table.find(id);
      const Cell module = value(table, *model.find("module"), slot);
      const Cell name = value(table, *model.find("name"), slot);
      const std::string xml_id = std::get<std::string>(module) + "." + std::get<std::string>(name);
      database_.external_ids.erase(xml_id);
      if (transaction_ != nullptr)
        transaction_->on_rollback([this, xml_id, id] { database_.external_ids[xml_id] = id; });
    } else {
      if (model.name == "ir.model.fields") remove_manual_field(*this, id);
      std::vector<Id> rows;
      external.each([&](Id row, Slot slot) {
        std::string_view text;
        if (data_id.integer(slot) == id && data_model.text(slot, text) && text == model.name) rows.push_back(row);
        return true;
      });
      const bool su = env_.su;
      env_.su = true;
      if (!rows.empty()) unlink(external, rows);
      env_.su = su;
    }
    erase_row(table, id);
  }
  std::sort(orders.begin(), orders.end());
  orders.erase(std::unique(orders.begin(), orders.end()), orders.end());
  for (const Id order : orders) add_up(order);
}

void Orm::add_up(Id order) {
  Table& orders = database_.table("sale.order");
  const Slot slot = orders.find(order);
  if (slot == kNoSlot) return;
  const Table& lines = database_.table("sale.order.line");
  const auto column = [&](const char* name) -> const Column& { return lines.column(lines.model().find(name)->column); };
  const auto cents = [](double amount) { return std::round(amount * 100) / 100; };
  double untaxed = 0;
  double tax = 0;
  for (const Slot line : column("order_id").slots_of(order)) {
    untaxed += column("price_subtotal").real(line);
    tax += column("price_tax").real(line);
  }
  const double before = orders.column(orders.model().find("amount_total")->column).real(slot);
  set_cell(orders, order, "amount_untaxed", cents(untaxed));
  set_cell(orders, order, "amount_tax", cents(tax));
  set_cell(orders, order, "amount_total", cents(untaxed + tax));
  // The order's write_date moves only because a stored total of it changed.
  if (cents(untaxed + tax) != before) touch(orders, order, false);
}

// ---------------------------------------------------------------- what follows from a write

void Orm::after_write(Table& table, Id id, const Json& values, bool created) {
  const Model& model = table.model();
  const Slot slot = table.find(id);
  const auto number = [&](const char* name) {
    const Field* field = model.find(name);
    return field == nullptr ? 0.0 : table.column(field->column).real(slot);
  };
  if (model.name == "res.partner") {
    const auto refresh = [&](Id partner) {
      const Slot at = table.find(partner);
      if (const Field* complete = model.find("complete_name"))
        set_cell(table, partner, *complete, display_name(table, at));
      if (const Field* stored = model.find("display_name"); stored != nullptr && stored->cells == Cells::text) {
        set_cell(table, partner, *stored, display_name(table, at));
      }
    };
    if (const Field* commercial = model.find("commercial_partner_id")) {
      const Id parent = table.column(model.find("parent_id")->column).integer(slot);
      const bool company = table.column(model.find("is_company")->column).boolean(slot);
      Id top = id;
      if (parent != 0 && !company && table.find(parent) != kNoSlot) {
        top = table.column(commercial->column).integer(table.find(parent));
        if (top == 0) top = parent;
      }
      set_cell(table, id, *commercial, top);
    }
    refresh(id);
    if (!created && (values.contains("name") || values.contains("is_company"))) {
      for (const Slot child : std::vector<Slot>(table.column(model.find("parent_id")->column).slots_of(id))) {
        refresh(table.id_of(child));
      }
    }
  }
  if (model.name == "ir.model.fields" && created) add_manual_field(*this, id);
  if (values.contains("image_1920")) {
    // The real one makes smaller sizes; here the small one is the same picture.
    const Field* large = model.find("image_1920");
    const Field* small = model.find("image_128");
    if (large != nullptr && small != nullptr && large->cells == Cells::blob && small->cells == Cells::blob) {
      set_cell(table, id, *small, table.column(large->column).get(slot));
    }
  }
  if (model.name == "ir.model.data" && created) {
    const Cell module = value(table, *model.find("module"), slot);
    const Cell name = value(table, *model.find("name"), slot);
    if (std::holds_alternative<std::string>(module) && std::holds_alternative<std::string>(name)) {
      const std::string xml_id = std::get<std::string>(module) + "." + std::get<std::string>(name);
      database_.external_ids[xml_id] = id;
      if (transaction_ != nullptr) transaction_->on_rollback([this, xml_id] { database_.external_ids.erase(xml_id); });
    }
  }
  if (model.name == "product.category" || model.name == "stock.location") {
    if (const Field* complete = model.find("complete_name")) {
      const Id parent =
          table.column(model.find(model.name == "stock.location" ? "location_id" : "parent_id")->column).integer(slot);
      std::string_view name;
      table.column(model.find("name")->column).text(slot, name);
      std::string full(name);
      const Slot at = parent == 0 ? kNoSlot : table.find(parent);
      std::string_view above;
      if (at != kNoSlot && table.column(complete->column).text(at, above)) {
        full = std::string(above) + (model.name == "stock.location" ? "/" : " / ") + full;
      }
      set_cell(table, id, *complete, full);
    }
  }
  if (model.name == "product.product" && (created || values.contains("default_code"))) {
    // A template with one variant shows its variant's code as its own; with several, none.
    Table& templates = database_.table("product.template");
    const Id owner = table.column(model.find("product_tmpl_id")->column).integer(slot);
    const Field* code = templates.model().find("default_code");
    if (code != nullptr && code->cells == Cells::text && templates.find(owner) != kNoSlot) {
      const bool alone = table.column(model.find("product_tmpl_id")->column).slots_of(owner).size() == 1;
      set_cell(templates, owner, *code, alone ? table.column(model.find("default_code")->column).get(slot) : Cell());
    }
  }
  if (model.name == "product.template" && !created && values.contains("default_code")) {
    Table& products = database_.table("product.product");
    const auto& variants = products.column(products.model().find("product_tmpl_id")->column).slots_of(id);
    if (variants.size() == 1)
      set_cell(products, products.id_of(variants.front()), "default_code",
               table.column(model.find("default_code")->column).get(slot));
  }
  if (model.name == "product.template" && series() >= 17 && !created) {
    // On 17 to 19 a write of the template moves its variants' write_date too; on 14 it does not.
    Table& products = database_.table("product.product");
    for (const Slot at :
         std::vector<Slot>(products.column(products.model().find("product_tmpl_id")->column).slots_of(id))) {
      touch(products, products.id_of(at), false);
    }
  }
  if (model.name == "sale.order.line") {
    const Field* order_field = model.find("order_id");
    const Id order = table.column(order_field->column).integer(slot);
    const bool priced = created || values.contains("price_unit") || values.contains("product_uom_qty") ||
                        values.contains("discount") || values.contains(series() >= 19 ? "tax_ids" : "tax_id");
    Table& orders = database_.table("sale.order");
    const auto cents = [](double amount) { return std::round(amount * 100) / 100; };
    if (priced) {
      const double subtotal = cents(number("product_uom_qty") * number("price_unit") * (1 - number("discount") / 100));
      double rate = 0;
      const Table& taxes = database_.table("account.tax");
      const Field* list = model.find(series() >= 19 ? "tax_ids" : "tax_id");
      for (const Id tax : table.column(list->column).ids(slot)) {
        const Slot at = taxes.find(tax);
        if (at != kNoSlot) rate += taxes.column(taxes.model().find("amount")->column).real(at);
      }
      const double tax = cents(subtotal * rate / 100);
      set_cell(table, id, "price_subtotal", subtotal);
      set_cell(table, id, "price_tax", tax);
      set_cell(table, id, "price_total", cents(subtotal + tax));
    }
    const Slot order_slot = orders.find(order);
    if (order_slot != kNoSlot) {
      const auto copy = [&](const char* from, const char* to) {
        const Field* source = orders.model().find(from);
        if (source != nullptr && model.find(to) != nullptr)
          set_cell(table, id, to, orders.column(source->column).get(order_slot));
      };
      if (created) {
        copy("company_id", "company_id");
        copy("currency_id", "currency_id");
        copy("partner_id", "order_partner_id");
        copy("user_id", "salesman_id");
        copy("state", "state");
      }
      if (priced) add_up(order);
    }
  }
}

// ---------------------------------------------------------------- external ids and load

std::optional<Id> Orm::find_external_id(const std::string& xml_id, const std::string& model) const {
  const auto found = database_.external_ids.find(xml_id);
  if (found == database_.external_ids.end()) return std::nullopt;
  const Table& table = database_.table("ir.model.data");
  const Slot slot = table.find(found->second);
  if (slot == kNoSlot) return std::nullopt;
  std::string_view of;
  if (!table.column(table.model().find("model")->column).text(slot, of) || of != model) return std::nullopt;
  return table.column(table.model().find("res_id")->column).integer(slot);
}

void Orm::add_external_id(const std::string& xml_id, const std::string& model, Id id) {
  const auto dot = xml_id.find('.');
  const bool su = env_.su;
  env_.su = true;
  create(database_.table("ir.model.data"), Json{{"module", xml_id.substr(0, dot)},
                                                {"name", xml_id.substr(dot + 1)},
                                                {"model", model},
                                                {"res_id", id},
                                                {"noupdate", false}});
  env_.su = su;
}

namespace {

/// A value of load() that cannot be taken: one message, nothing saved.
struct LoadProblem {
  Json message;
};

}  // namespace

Json Orm::load(Table& table, const Json& fields, const Json& rows) {
  const Model& model = table.model();
  struct ColumnPath {
    std::vector<std::string> steps;
  };
  std::vector<ColumnPath> paths;
  for (const auto& name : fields) {
    ColumnPath path;
    std::string text = name.get<std::string>();
    std::size_t at = 0;
    while (at <= text.size()) {
      auto end = text.find('/', at);
      if (end == std::string::npos) end = text.size();
      path.steps.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    const std::string& head = path.steps[0];
    const bool password = head == "password" && model.name == "res.users";
    if (head != "id" && head != ".id" && model.find(head) == nullptr && !password) {
      if (series() < 18) throw key_error(head);
      throw value_error("Invalid field name '" + head + "'");
    }
    paths.push_back(std::move(path));
  }
  const auto cell = [](const Json& row, std::size_t i) -> std::string {
    if (!row.is_array() || i >= row.size()) return {};
    const Json& value = row[i];
    if (value.is_string()) return value.get<std::string>();
    if (is_unset(value)) return {};
    return python_repr(value);
  };
  const auto xml_name = [](const std::string& text) {
    return text.find('.') == std::string::npos ? "__import__." + text : text;
  };
  const auto problem = [&](std::size_t from, std::size_t to, const std::string& field, const std::string& text) {
    return LoadProblem{Json{{"rows", {{"from", from}, {"to", to}}},
                            {"type", "error"},
                            {"record", from},
                            {"field", field},
                            {"message", text}}};
  };
  // One value of a column that is not a list.
  const auto simple = [&](const Model& of, const Field& field, const std::string& sub, const std::string& text,
                          std::size_t from, std::size_t to) -> Json {
    const std::string label = field.attributes.value("string", field.name);
    if (text.empty()) return field.type == FieldType::boolean ? Json(nullptr) : Json(false);
    switch (field.type) {
      case FieldType::many2one: {
        const Table* other = database_.find(field.relation);
        if (sub == ".id") {
          const Id id = std::strtoll(text.c_str(), nullptr, 10);
          if (other == nullptr || other->find(id) == kNoSlot) {
            throw problem(from, to, field.name,
                          "No matching record found for database id '" + text + "' in field '" + label + "'");
          }
          return id;
        }
        if (sub == "id") {
          const auto id = find_external_id(xml_name(text), field.relation);
          if (!id)
            throw problem(from, to, field.name,
                          "No matching record found for external id '" + text + "' in field '" + label + "'");
          return *id;
        }
        const Json found = name_search(*other, text, Json::array(), "=", 2);
        if (found.empty())
          throw problem(from, to, field.name,
                        "No matching record found for name '" + text + "' in field '" + label + "'");
        return found[0][0];
      }
      case FieldType::many2many: {
        Json ids = Json::array();
        std::size_t at = 0;
        while (at <= text.size()) {
          auto end = text.find(',', at);
          if (end == std::string::npos) end = text.size();
          const std::string part = text.substr(at, end - at);
          at = end + 1;
          if (sub == ".id") {
            const Id id = std::strtoll(part.c_str(), nullptr, 10);
            const Table* other = database_.find(field.relation);
            if (other == nullptr || other->find(id) == kNoSlot) {
              throw problem(from, to, field.name,
                            "No matching record found for database id '" + part + "' in field '" + label + "'");
            }
            ids.push_back(id);
          } else if (sub == "id") {
            const auto id = find_external_id(xml_name(part), field.relation);
            if (!id)
              throw problem(from, to, field.name,
                            "No matching record found for external id '" + part + "' in field '" + label + "'");
            ids.push_back(*id);
          } else {
            const Json found = name_search(*database_.find(field.relation), part, Json::array(), "=", 2);
            if (found.empty())
              throw problem(from, to, field.name,
                            "No matching record found for name '" + part + "' in field '" + label + "'");
            ids.push_back(found[0][0]);
          }
        }
        return Json::array({Json::array({6, 0, ids})});
      }
      case FieldType::boolean: {
        std::string lower = text;
        std::transform(lower.begin(), lower.end(), lower.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        return !(lower == "0" || lower == "false" || lower == "no");
      }
      case FieldType::integer:
        try {
          return std::get<std::int64_t>(to_cell(of, field, text));
        } catch (const OdooError&) {
          throw problem(from, to, field.name,
                        "'" + text + "' does not seem to be an integer for field '" + label + "'");
        }
      case FieldType::floating:
        try {
          return std::get<double>(to_cell(of, field, text));
        } catch (const OdooError&) {
          throw problem(from, to, field.name, "'" + text + "' does not seem to be a number for field '" + label + "'");
        }
      case FieldType::choice: {
        if (const auto found = field.attributes.find("selection"); found != field.attributes.end()) {
          for (const auto& choice : *found) {
            if (choice[0] == text || choice[1] == text) return choice[0];
          }
          throw problem(from, to, field.name, "Value '" + text + "' not found in selection field '" + label + "'");
        }
        return text;
      }
      case FieldType::date:
        if (!parse_date(text))
          throw problem(from, to, field.name,
                        "'" + text + "' does not seem to be a valid date for field '" + label + "'");
        return text;
      case FieldType::datetime:
        if (!parse_written_datetime(text)) {
          throw problem(from, to, field.name,
                        "'" + text + "' does not seem to be a valid datetime for field '" + label + "'");
        }
        return text;
      default:
        return text;
    }
  };

  Json ids = Json::array();
  try {
    std::size_t row = 0;
    while (row < rows.size()) {
      // A record: its own row, and the rows below that have only columns of its lists.
      std::size_t end = row + 1;
      const auto continues = [&](std::size_t at) {
        bool lines = false;
        for (std::size_t i = 0; i < paths.size(); ++i) {
          if (cell(rows[at], i).empty()) continue;
          const Field* field = model.find(paths[i].steps[0]);
          if (field == nullptr || field->type != FieldType::one2many) return false;
          lines = true;
        }
        return lines;
      };
      while (end < rows.size() && continues(end)) ++end;
      const auto from = row;
      const auto to = end - 1;
      Json values = Json::object();
      std::string xml_id;
      Id database_id = 0;
      std::vector<std::pair<const Field*, std::vector<std::pair<std::string, Json>>>> lines;
      for (std::size_t i = 0; i < paths.size(); ++i) {
        const auto& steps = paths[i].steps;
        const std::string text = cell(rows[row], i);
        if (steps[0] == "id") {
          if (!text.empty()) xml_id = xml_name(text);
          continue;
        }
        if (steps[0] == ".id") {
          if (!text.empty()) database_id = std::strtoll(text.c_str(), nullptr, 10);
          continue;
        }
        if (model.find(steps[0]) == nullptr) {
          values[steps[0]] = text;  // a password
          continue;
        }
        const Field* field = model.find(steps[0]);
        if (field->type != FieldType::one2many) {
          const Json value = simple(model, *field, steps.size() > 1 ? steps[1] : "", text, from, to);
          if (!value.is_null()) values[field->name] = value;
          continue;
        }
        auto at = std::find_if(lines.begin(), lines.end(), [&](const auto& l) { return l.first == field; });
        if (at == lines.end()) {
          lines.emplace_back(field, std::vector<std::pair<std::string, Json>>());
          at = lines.end() - 1;
          const Table& other = *database_.find(field->relation);
          for (std::size_t r = row; r < end; ++r) {
            Json line = Json::object();
            std::string line_xml;
            bool any = false;
            for (std::size_t k = 0; k < paths.size(); ++k) {
              if (paths[k].steps[0] != field->name || paths[k].steps.size() < 2) continue;
              const std::string part = cell(rows[r], k);
              any = any || !part.empty();
              if (paths[k].steps[1] == "id") {
                if (!part.empty()) line_xml = xml_name(part);
                continue;
              }
              const Field* sub = other.model().find(paths[k].steps[1]);
              if (sub == nullptr)
                throw value_error("Invalid field name '" + field->name + "/" + paths[k].steps[1] + "'");
              const Json value =
                  simple(other.model(), *sub, paths[k].steps.size() > 2 ? paths[k].steps[2] : "", part, from, to);
              if (!value.is_null() && !(part.empty() && sub->type != FieldType::text)) line[sub->name] = value;
            }
            if (any) at->second.emplace_back(line_xml, line);
          }
        }
      }
      Id id = 0;
      if (database_id != 0) {
        id = database_id;
      } else if (!xml_id.empty()) {
        id = find_external_id(xml_id, model.name).value_or(0);
      }
      try {
        if (id != 0) {
          write(table, {id}, values);
        } else {
          // Lines are part of the same create, as the real one does it.
          id = create(table, values);
          if (!xml_id.empty()) add_external_id(xml_id, model.name, id);
        }
        for (const auto& [field, items] : lines) {
          Table& other = *database_.find(field->relation);
          for (const auto& [line_xml, line] : items) {
            const Id existing = line_xml.empty() ? 0 : find_external_id(line_xml, field->relation).value_or(0);
            if (existing != 0) {
              write(other, {existing}, line);
            } else {
              Json with = line;
              with[field->relation_field] = id;
              const Id made = create(other, with);
              if (!line_xml.empty()) add_external_id(line_xml, field->relation, made);
            }
          }
        }
      } catch (const OdooError& error) {
        throw LoadProblem{Json{
            {"rows", {{"from", from}, {"to", to}}}, {"type", "error"}, {"record", from}, {"message", error.what()}}};
      }
      ids.push_back(id);
      row = end;
    }
  } catch (const LoadProblem& problem_found) {
    if (transaction_ != nullptr) transaction_->roll_back();
    return Json{{"ids", false}, {"messages", Json::array({problem_found.message})}, {"nextrow", 0}};
  }
  return Json{{"ids", ids}, {"messages", Json::array()}, {"nextrow", 0}};
}

}  // namespace sandbox::odoo
