#include "sandbox/odoo/orders.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

constexpr double kNothing = 1e-6;

OdooError problem(const std::string& name, const std::string& message) {
  return {"dragoman." + name, message};
}

std::string plain(double quantity) {
  char out[40];
  std::snprintf(out, sizeof out, "%g", quantity);
  return out;
}

}  // namespace

Orders::Orders(Orm& orm)
    : orm_(orm),
      database_(orm.database()),
      orders_(database_.table("sale.order")),
      lines_(database_.table("sale.order.line")),
      pickings_(database_.table("stock.picking")),
      moves_(database_.table("stock.move")),
      quants_(database_.table("stock.quant")) {}

double Orders::real(const Table& table, Id id, const char* field) {
  const Field* found = table.model().find(field);
  const Slot slot = table.find(id);
  if (found == nullptr || slot == kNoSlot) return 0;
  const Cell cell = orm_.value(table, *found, slot);
  const auto* number = std::get_if<double>(&cell);
  return number == nullptr ? 0 : *number;
}

Id Orders::link(const Table& table, Id id, const char* field) {
  const Field* found = table.model().find(field);
  const Slot slot = table.find(id);
  if (found == nullptr || slot == kNoSlot) return 0;
  const Cell cell = orm_.value(table, *found, slot);
  const auto* number = std::get_if<std::int64_t>(&cell);
  return number == nullptr ? 0 : *number;
}

std::string Orders::text(const Table& table, Id id, const char* field) {
  const Field* found = table.model().find(field);
  const Slot slot = table.find(id);
  if (found == nullptr || slot == kNoSlot) return "";
  const Cell cell = orm_.value(table, *found, slot);
  const auto* words = std::get_if<std::string>(&cell);
  return words == nullptr ? "" : *words;
}

std::string Orders::state(Id order) {
  return text(orders_, order, "state");
}

std::string Orders::name(Id order) {
  return text(orders_, order, "name");
}

std::string Orders::goods_type(Id product) {
  return text(database_.table("product.product"), product, "type");
}

bool Orders::goods(Id product) {
  const std::string type = goods_type(product);
  return type == "consu" || type == "product";
}

bool Orders::storable(Id product) {
  const Table& products = database_.table("product.product");
  const Field* field = products.model().find("is_storable");
  if (field == nullptr) return goods_type(product) == "product";
  const Slot slot = products.find(product);
  if (slot == kNoSlot) return false;
  const Cell cell = orm_.value(products, *field, slot);
  const bool* flag = std::get_if<bool>(&cell);
  return flag != nullptr && *flag;
}

std::vector<Id> Orders::pickings(Id order) {
  std::vector<Id> ids;
  for (const Slot slot : pickings_.column(pickings_.model().find("sale_id")->column).slots_of(order))
    ids.push_back(pickings_.id_of(slot));
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::vector<Id> Orders::moves(Id picking) {
  std::vector<Id> ids;
  for (const Slot slot : moves_.column(moves_.model().find("picking_id")->column).slots_of(picking))
    ids.push_back(moves_.id_of(slot));
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::vector<Id> Orders::lines(Id order) {
  std::vector<Id> ids;
  for (const Slot slot : lines_.column(lines_.model().find("order_id")->column).slots_of(order))
    ids.push_back(lines_.id_of(slot));
  std::sort(ids.begin(), ids.end());
  return ids;
}

void Orders::set_state(Id order, const char* state) {
  orm_.write(orders_, {order}, Json{{"state", state}});
  for (const Id line : lines(order))
    if (lines_.model().find("state") != nullptr) orm_.set_cell(lines_, line, "state", std::string(state));
}

// ---------------------------------------------------------------- stock

double Orders::free_at(Id product, Id location) {
  double free = 0;
  quants_.each([&](Id id, Slot) {
    if (link(quants_, id, "product_id") == product && link(quants_, id, "location_id") == location)
      free += real(quants_, id, "quantity") - real(quants_, id, "reserved_quantity");
    return true;
  });
  return free;
}

void Orders::move_stock(Id product, Id location, double quantity, double reserved) {
  Id of = 0;
  quants_.each([&](Id id, Slot) {
    if (link(quants_, id, "product_id") == product && link(quants_, id, "location_id") == location) of = id;
    return of == 0;
  });
  if (of == 0) {
    orm_.create(quants_, Json{{"product_id", product}, {"location_id", location}, {"quantity", quantity}});
    return;
  }
  orm_.write(quants_, {of},
             Json{{"quantity", real(quants_, of, "quantity") + quantity},
                  {"reserved_quantity", std::max(0.0, real(quants_, of, "reserved_quantity") + reserved)}});
}

double Orders::reserved(Id move) {
  const auto found = database_.reserved.find(move);
  return found == database_.reserved.end() ? 0 : found->second;
}

void Orders::set_reserved(Id move, double quantity) {
  const double before = reserved(move);
  const Id product = link(moves_, move, "product_id"), location = link(moves_, move, "location_id");
  orm_.transaction()->on_rollback([&database = database_, move, before] { database.reserved[move] = before; });
  database_.reserved[move] = quantity;
  if (storable(product) && quantity != before) move_stock(product, location, 0, quantity - before);
  if (moves_.model().find("quantity") != nullptr) orm_.write(moves_, {move}, Json{{"quantity", quantity}});
}

bool Orders::reserve_move(Id move) {
  const std::string state = text(moves_, move, "state");
  if (state == "done" || state == "cancel") return false;
  const double wanted = real(moves_, move, "product_uom_qty"), has = reserved(move);
  const Id product = link(moves_, move, "product_id");
  double more = wanted - has;
  if (storable(product)) more = std::min(more, free_at(product, link(moves_, move, "location_id")));
  if (more > kNothing) set_reserved(move, has + more);
  const double now = reserved(move);
  const char* const word = now > wanted - kNothing ? "assigned" : now > kNothing ? "partially_available" : "confirmed";
  if (word != state) orm_.write(moves_, {move}, Json{{"state", word}});
  return more > kNothing;
}

void Orders::settle_picking(Id picking) {
  bool open = false, ready = true, some = false, done = false;
  for (const Id move : moves(picking)) {
    const std::string state = text(moves_, move, "state");
    done = done || state == "done";
    if (state == "done" || state == "cancel") continue;
    open = true;
    ready = ready && state == "assigned";
    some = some || state == "assigned" || state == "partially_available";
  }
  const char* const word = open ? (ready || some ? "assigned" : "confirmed") : done ? "done" : "cancel";
  if (text(pickings_, picking, "state") != word) orm_.write(pickings_, {picking}, Json{{"state", word}});
}

void Orders::launch(Id order, const std::vector<std::pair<Id, double>>& wanted, Id backorder_of) {
  if (wanted.empty()) return;
  Table& warehouses = database_.table("stock.warehouse");
  const Id stock = link(warehouses, link(orders_, order, "warehouse_id"), "lot_stock_id");
  Id customers = 0, type = 0;
  Table& locations = database_.table("stock.location");
  locations.each([&](Id id, Slot) {
    if (text(locations, id, "usage") == "customer") customers = id;
    return customers == 0;
  });
  Table& types = database_.table("stock.picking.type");
  types.each([&](Id id, Slot) {
    if (text(types, id, "code") == "outgoing") type = id;
    return type == 0;
  });
  if (stock == 0 || customers == 0 || type == 0) return;
  char number[40];
  std::snprintf(number, sizeof number, "WH/OUT/%05lld", static_cast<long long>(pickings_.peek_next_id()));
  Json values{{"name", number},
              {"partner_id", link(orders_, order, "partner_id")},
              {"picking_type_id", type},
              {"location_id", stock},
              {"location_dest_id", customers},
              {"company_id", link(orders_, order, "company_id")},
              {"origin", name(order)},
              {"sale_id", order},
              {"state", "confirmed"}};
  if (backorder_of != 0) values["backorder_id"] = backorder_of;
  const Id picking = orm_.create(pickings_, values);
  // create() leaves the state to its default.
  orm_.write(pickings_, {picking}, Json{{"state", "confirmed"}});
  for (const auto& [line, quantity] : wanted) {
    Json move{{"picking_id", picking},
              {"product_id", link(lines_, line, "product_id")},
              {"product_uom_qty", quantity},
              {"product_uom", link(lines_, line, orm_.series() >= 19 ? "product_uom_id" : "product_uom")},
              {"location_id", stock},
              {"location_dest_id", customers},
              {"sale_line_id", line},
              {"company_id", link(orders_, order, "company_id")}};
    if (orm_.series() < 19) move["name"] = text(lines_, line, "name");
    const Id made = orm_.create(moves_, move);
    orm_.write(moves_, {made}, Json{{"state", "confirmed"}});
    reserve_move(made);
  }
  settle_picking(picking);
}

// ---------------------------------------------------------------- steps

void Orders::confirm(const std::vector<Id>& ids) {
  for (const Id id : ids) {
    const std::string before = state(id);
    const bool open = before == "draft" || before == "sent";
    if (!open && orm_.series() >= 17) throw user_error("Some orders are not in a state requiring confirmation.");
    if (!open) continue;
    const std::int64_t now = orm_.transaction() == nullptr ? database_.now_us() : orm_.transaction()->start_us();
    orm_.write(orders_, {id}, Json{{"date_order", format_datetime(now)}});
    set_state(id, "sale");
    adjust(id);
  }
}

double Orders::open_demand(Id line) {
  double demand = 0;
  for (const Slot slot : moves_.column(moves_.model().find("sale_line_id")->column).slots_of(line)) {
    const Id move = moves_.id_of(slot);
    const std::string state = text(moves_, move, "state");
    if (state != "done" && state != "cancel") demand += real(moves_, move, "product_uom_qty");
  }
  return demand;
}

void Orders::adjust(Id order) {
  std::vector<std::pair<Id, double>> more;
  for (const Id line : lines(order)) {
    const Id product = link(lines_, line, "product_id");
    if (product == 0 || !goods(product)) continue;
    const double wanted = real(lines_, line, "product_uom_qty") - real(lines_, line, "qty_delivered");
    double over = open_demand(line) - std::max(wanted, 0.0);
    if (over < -kNothing) more.emplace_back(line, -over);
    if (over < kNothing) continue;
    std::vector<Slot> slots = moves_.column(moves_.model().find("sale_line_id")->column).slots_of(line);
    for (const Slot slot : slots) {
      const Id move = moves_.id_of(slot), picking = link(moves_, move, "picking_id");
      const std::string state = text(moves_, move, "state");
      const double quantity = real(moves_, move, "product_uom_qty");
      if (over < kNothing || state == "done" || state == "cancel") continue;
      if (over > quantity - kNothing) {
        cancel_move(move);
      } else {
        orm_.write(moves_, {move}, Json{{"product_uom_qty", quantity - over}});
        set_reserved(move, std::min(reserved(move), quantity - over));
        reserve_move(move);
      }
      over -= std::min(over, quantity);
      settle_picking(picking);
    }
  }
  launch(order, more, 0);
}

void Orders::cancel_move(Id move) {
  set_reserved(move, 0);
  orm_.write(moves_, {move}, Json{{"state", "cancel"}});
}

bool Orders::reserve(Id order) {
  bool did = false;
  for (const Id picking : pickings(order)) {
    const std::string state = text(pickings_, picking, "state");
    if (state != "confirmed" && state != "waiting") continue;
    for (const Id move : moves(picking)) did = reserve_move(move) || did;
    settle_picking(picking);
  }
  return did;
}

bool Orders::deliver(Id order, bool partial) {
  bool did = false;
  std::string open;
  for (const Id picking : pickings(order)) {
    const std::string before = text(pickings_, picking, "state");
    if (before == "done" || before == "cancel") continue;
    const std::string shown = text(pickings_, picking, "name");
    open = shown;
    std::string missing;
    bool there = false;
    for (const Id move : moves(picking)) {
      const std::string state = text(moves_, move, "state");
      if (state == "done" || state == "cancel") continue;
      reserve_move(move);
      const double lacks = real(moves_, move, "product_uom_qty") - reserved(move);
      const Table& products = database_.table("product.product");
      const Table& units = database_.table("uom.uom");
      if (lacks > kNothing) {
        if (!missing.empty()) missing += "; ";
        missing += orm_.display_name(products, products.find(link(moves_, move, "product_id"))) + ": " + plain(lacks) +
                   " " + text(units, link(moves_, move, "product_uom"), "name") + " missing";
      }
      there = there || reserved(move) > kNothing;
    }
    if (!missing.empty() && !partial)
      throw problem("Stock", "Not enough in stock to deliver " + shown + ": " + missing + ".");
    settle_picking(picking);
    if (!there) continue;
    std::vector<std::pair<Id, double>> rest;
    for (const Id move : moves(picking)) {
      const std::string state = text(moves_, move, "state");
      if (state == "done" || state == "cancel") continue;
      const double quantity = reserved(move), wanted = real(moves_, move, "product_uom_qty");
      const Id line = link(moves_, move, "sale_line_id"), product = link(moves_, move, "product_id");
      if (wanted - quantity > kNothing) rest.emplace_back(line, wanted - quantity);
      if (quantity < kNothing) {
        cancel_move(move);
        continue;
      }
      set_reserved(move, 0);
      if (storable(product)) move_stock(product, link(moves_, move, "location_id"), -quantity, 0);
      Json done{{"state", "done"}, {"product_uom_qty", quantity}};
      if (moves_.model().find("quantity") != nullptr) done.update(Json{{"quantity", quantity}, {"picked", true}});
      orm_.write(moves_, {move}, done);
      orm_.write(lines_, {line}, Json{{"qty_delivered", real(lines_, line, "qty_delivered") + quantity}});
    }
    const std::int64_t now = orm_.transaction() == nullptr ? database_.now_us() : orm_.transaction()->start_us();
    orm_.write(pickings_, {picking}, Json{{"state", "done"}, {"date_done", format_datetime(now)}});
    launch(order, rest, picking);
    did = true;
    open.clear();
    for (const Id left : pickings(order)) {
      const std::string after = text(pickings_, left, "state");
      if (after != "done" && after != "cancel") open = text(pickings_, left, "name");
    }
  }
  if (!open.empty() && !did && !(partial && delivered_from(order)))
    throw problem("Stock", "Nothing of " + name(order) + " is in stock: " + open + " stays open.");
  return did;
}

bool Orders::drop_deliveries(Id order) {
  bool did = false;
  for (const Id picking : pickings(order)) {
    const std::string before = text(pickings_, picking, "state");
    if (before == "done" || before == "cancel") continue;
    cancel_picking(picking);
    did = true;
  }
  return did;
}

void Orders::cancel_picking(Id picking) {
  for (const Id move : moves(picking)) {
    const std::string state = text(moves_, move, "state");
    if (state != "done" && state != "cancel") cancel_move(move);
  }
  settle_picking(picking);
}

void Orders::cancel(Id order) {
  drop_deliveries(order);
  if (orders_.model().find("locked") != nullptr) orm_.write(orders_, {order}, Json{{"locked", false}});
  set_state(order, "cancel");
}

bool Orders::delivered_from(Id order) {
  for (const Id picking : pickings(order))
    if (text(pickings_, picking, "state") == "done") return true;
  for (const Id line : lines(order))
    if (real(lines_, line, "qty_delivered") > 0) return true;
  return false;
}

std::string Orders::undelivered(Id order, bool partial) {
  if (partial)
    for (const Id picking : pickings(order)) {
      const std::string state = text(pickings_, picking, "state");
      if (state != "done" && state != "cancel") return "";
    }
  const Table& products = database_.table("product.product");
  const Table& units = database_.table("uom.uom");
  std::string out;
  for (const Id line : lines(order)) {
    const Id product = link(lines_, line, "product_id");
    const double wanted = real(lines_, line, "product_uom_qty"), delivered = real(lines_, line, "qty_delivered");
    if (product == 0 || !goods(product) || delivered > wanted - kNothing) continue;
    const Id unit = link(lines_, line, orm_.series() >= 19 ? "product_uom_id" : "product_uom");
    if (!out.empty()) out += "; ";
    out += orm_.display_name(products, products.find(product)) + ": " + plain(delivered) + " of " + plain(wanted) +
           " " + text(units, unit, "name");
  }
  return out;
}

bool Orders::locked(Id order) {
  if (state(order) == "done") return true;
  const Field* field = orders_.model().find("locked");
  return field != nullptr && orders_.column(field->column).boolean(orders_.find(order));
}

std::string Orders::why_closed(Id order) {
  const std::string now = state(order);
  if (now == "cancel") return "is cancelled";
  if (locked(order)) return "is locked";
  if (now == "sale" && delivered_from(order)) return "has been delivered from";
  return "";
}

}  // namespace sandbox::odoo
