#include "sandbox/odoo/market.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/orders.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

constexpr std::int64_t kMargin = 2'000'000;

std::string decimals(double number, int places) {
  char out[64];
  std::snprintf(out, sizeof out, "%.*f", places, number);
  return out;
}

std::string quantity(double number) {
  std::string out = decimals(number, 6);
  out.erase(out.find_last_not_of('0') + 1);
  if (out.back() == '.') out.pop_back();
  return out == "-0" ? "0" : out;
}

class Market {
 public:
  explicit Market(Orm& orm) : orm_(orm), database_(orm.database()), orders_(orm) {}

  Json facts(const std::string& key) {
    const auto known = database_.import_keys.find({"sale.order", key});
    if (known == database_.import_keys.end() || known->second.id == 0) return {{"key", key}, {"missing", true}};
    return facts(key, known->second.id);
  }

  Json facts(const std::string& key, Id id) {
    const Table& orders = database_.table("sale.order");
    if (orders.find(id) == kNoSlot) return {{"key", key}, {"id", id}, {"deleted", true}};
    Json lines = Json::array(), pickings = Json::array();
    const Table& line_table = database_.table("sale.order.line");
    bool goods = false, all = true, shipped = false;
    for (const Id line : orders_.lines(id)) {
      if (!orders_.text(line_table, line, "display_type").empty()) continue;
      const Id product = orders_.link(line_table, line, "product_id");
      const double ordered = orders_.real(line_table, line, "product_uom_qty");
      const double delivered = orders_.real(line_table, line, "qty_delivered");
      lines.push_back({{"id", line},
                       {"key", key_of_line(key, line)},
                       {"product_id", product == 0 ? Json(false) : Json(product)},
                       {"ordered", quantity(ordered)},
                       {"delivered", quantity(delivered)},
                       {"storable", orders_.storable(product)}});
      if (orders_.goods(product) && ordered > 0) {
        goods = true;
        all = all && delivered > ordered - 1e-6;
      }
    }
    const Table& table = database_.table("stock.picking");
    const Table& types = database_.table("stock.picking.type");
    for (const Id picking : orders_.pickings(id)) {
      const std::string kind = orders_.text(types, orders_.link(table, picking, "picking_type_id"), "code");
      const std::string state = orders_.text(table, picking, "state");
      const std::int64_t done = time(table, picking, "date_done");
      pickings.push_back({{"id", picking},
                          {"name", orders_.text(table, picking, "name")},
                          {"state", state},
                          {"kind", kind},
                          {"done_at", done == kNoTime ? "" : format_datetime(done)}});
      shipped = shipped || (kind == "outgoing" && state == "done");
    }
    const std::int64_t written = time(orders, id, "write_date");
    return {{"key", key},
            {"id", id},
            {"name", orders_.name(id)},
            {"state", orders_.state(id)},
            {"locked", orders_.locked(id)},
            {"amount_total", decimals(orders_.real(orders, id, "amount_total"), 2)},
            {"currency", currency_of(orders_.link(orders, id, "currency_id"))},
            {"lines", lines},
            {"pickings", pickings},
            {"delivered", goods && all},
            {"shipped", shipped},
            {"write_date", format_datetime_us(written)}};
  }

  Json watch(const Json& wanted) {
    const std::int64_t own = orm_.transaction()->start_us();
    const std::string now = format_datetime_us(own);
    const std::string oldest = format_datetime_us(std::min(own, database_.oldest_start_us()) - kMargin);
    const std::string rules = rules_of_lists();
    Json out = {{"now", now}, {"orders", Json::array()}, {"products", Json::array()}, {"all", false}};
    const auto given = wanted.find("since");
    std::vector<std::string> parts;
    if (given != wanted.end() && given->is_string()) {
      std::string rest = given->get<std::string>();
      for (auto at = rest.find('|'); at != std::string::npos; at = rest.find('|')) {
        parts.push_back(rest.substr(0, at));
        rest.erase(0, at + 1);
      }
      parts.push_back(rest);
    }
    std::set<std::string> prefixes;
    for (const Json& prefix : wanted.value("prefixes", Json::array())) prefixes.insert(prefix.get<std::string>());
    const auto ours = [&](const std::string& key) {
      return std::any_of(prefixes.begin(), prefixes.end(),
                         [&](const std::string& prefix) { return key.starts_with(prefix); });
    };
    if (parts.size() == 3) {
      const std::set<Id> changed = changed_orders(parts[0]);
      std::map<Id, std::string> found;
      for (auto at = database_.import_keys.lower_bound({"sale.order", ""});
           at != database_.import_keys.end() && at->first.first == "sale.order"; ++at) {
        if (changed.count(at->second.id) > 0 && ours(at->first.second)) found[at->second.id] = at->first.second;
      }
      for (const auto& [id, key] : found) out["orders"].push_back(facts(key, id));
      bool all = rules != parts[2];
      std::set<Id> products = changed_products(parts[0], all);
      out["all"] = all;
      const Json cared = wanted.value("products", Json());
      if (cared.is_array()) {
        std::set<Id> kept;
        for (const Json& one : cared) {
          if (all || products.count(one.get<Id>()) > 0) kept.insert(one.get<Id>());
        }
        products = kept;
      }
      for (const Id id : products) out["products"].push_back(id);
      out["watermark"] = std::max(parts[0], parts[1]) + "|" + std::max(parts[1], oldest) + "|" + rules;
    } else {
      out["watermark"] = oldest + "|" + oldest + "|" + rules;
    }
    if (wanted.value("deleted", false)) {
      const Table& orders = database_.table("sale.order");
      for (auto at = database_.import_keys.lower_bound({"sale.order", ""});
           at != database_.import_keys.end() && at->first.first == "sale.order"; ++at) {
        if (at->second.id != 0 && orders.find(at->second.id) == kNoSlot && ours(at->first.second))
          out["orders"].push_back(facts(at->first.second, at->second.id));
      }
    }
    return out;
  }

  Json stock(const Json& wanted) {
    const Table& products = database_.table("product.product");
    const Table& warehouses = database_.table("stock.warehouse");
    const Table& quants = database_.table("stock.quant");
    const Table& locations = database_.table("stock.location");
    const Id company = number(wanted, "company") != 0 ? number(wanted, "company") : orm_.env().company();
    const Id warehouse = number(wanted, "warehouse"), pricelist = number(wanted, "pricelist");
    const Id place = warehouse == 0 ? 0 : orders_.link(warehouses, warehouse, "lot_stock_id");
    const Table& lists = database_.table("product.pricelist");
    if (pricelist != 0 && lists.find(pricelist) == kNoSlot)
      throw user_error("There is no price list " + std::to_string(pricelist) + " any more.");
    const std::string currency =
        currency_of(pricelist != 0 ? orders_.link(lists, pricelist, "currency_id")
                                   : orders_.link(database_.table("res.company"), company, "currency_id"));
    Json out = Json::array();
    for (const Json& one : wanted.value("products", Json::array())) {
      const Id id = one.get<Id>();
      const Slot slot = products.find(id);
      if (slot == kNoSlot) {
        out.push_back({{"id", id}, {"missing", true}});
        continue;
      }
      double free = 0;
      quants.each([&](Id quant, Slot) {
        if (orders_.link(quants, quant, "product_id") != id) return true;
        const Id location = orders_.link(quants, quant, "location_id");
        const bool here = place != 0 ? location == place
                                     : orders_.text(locations, location, "usage") == "internal" &&
                                           orders_.link(quants, quant, "company_id") == company;
        if (here) free += orders_.real(quants, quant, "quantity") - orders_.real(quants, quant, "reserved_quantity");
        return true;
      });
      out.push_back({{"id", id},
                     {"free", quantity(free)},
                     {"price", quantity(price(id, pricelist))},
                     {"currency", currency},
                     {"digits", 2},
                     {"active", boolean(products, slot, "active") && boolean(products, slot, "sale_ok")},
                     {"counted", orders_.storable(id)}});
    }
    return {{"products", out}};
  }

  Json settings() {
    const auto any = [](Id) { return true; };
    return {{"companies", named("res.company", "currency_id", any)},
            {"warehouses", named("stock.warehouse", "", any)},
            {"pricelists", named("product.pricelist", "currency_id", any)},
            {"salespeople", named("res.users", "",
                                  [&](Id id) {
                                    const Table& users = database_.table("res.users");
                                    return !boolean(users, users.find(id), "share") &&
                                           boolean(users, users.find(id), "active");
                                  })},
            {"carriers", named("delivery.carrier", "", any)}};
  }

  Json products(const Json& wanted) {
    const Table& table = database_.table("product.product");
    std::string field =
        wanted.contains("field") && wanted["field"].is_string() ? wanted["field"].get<std::string>() : "";
    if (!field.empty() && table.model().find(field) == nullptr) field = "x_" + field;
    const auto limit = static_cast<std::size_t>(std::clamp<Id>(wanted.value("limit", Id{100}), 1, 1000));
    Json out = Json::array();
    table.each(
        [&](Id id, Slot slot) {
          out.push_back({{"id", id},
                         {"name", orm_.display_name(table, slot)},
                         {"default_code", orders_.text(table, id, "default_code")},
                         {"barcode", orders_.text(table, id, "barcode")},
                         {"unit", orders_.text(database_.table("uom.uom"), orders_.link(table, id, "uom_id"), "name")},
                         {"active", boolean(table, slot, "active")},
                         {"storable", orders_.storable(id)},
                         {"market_id", field.empty() ? "" : orders_.text(table, id, field.c_str())}});
          return out.size() < limit;
        },
        number(wanted, "after"));
    return {{"products", out}};
  }

 private:
  static Id number(const Json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number_integer() ? found->get<Id>() : 0;
  }

  std::int64_t time(const Table& table, Id id, const char* field) {
    const Field* found = table.model().find(field);
    const Slot slot = table.find(id);
    return found == nullptr || slot == kNoSlot ? kNoTime : table.column(found->column).integer(slot);
  }

  bool boolean(const Table& table, Slot slot, const char* field) {
    const Field* found = table.model().find(field);
    if (found == nullptr || slot == kNoSlot) return false;
    const Cell cell = orm_.value(table, *found, slot);
    const bool* flag = std::get_if<bool>(&cell);
    return flag != nullptr && *flag;
  }

  std::string currency_of(Id id) { return orders_.text(database_.table("res.currency"), id, "name"); }

  std::string key_of_line(const std::string& order, Id line) {
    const auto children = database_.import_children.find({"sale.order", order});
    if (children == database_.import_children.end()) return "";
    for (const auto& child : children->second) {
      const auto row = database_.import_keys.find(child);
      if (row != database_.import_keys.end() && row->second.id == line && child.first == "sale.order.line" &&
          child.second.starts_with(order + "/"))
        return child.second.substr(order.size() + 1);
    }
    return "";
  }

  // Records written since then, by the field that is wanted of them; 0: their own ids.
  std::set<Id> written(const char* model, const std::string& since, const char* field) {
    std::set<Id> out;
    const Table* table = database_.find(model);
    if (table == nullptr) return out;
    table->each([&](Id id, Slot) {
      if (format_datetime_us(time(*table, id, "write_date")) >= since) {
        const Id of = *field == '\0' ? id : orders_.link(*table, id, field);
        if (of != 0) out.insert(of);
      }
      return true;
    });
    return out;
  }

  std::set<Id> changed_orders(const std::string& since) {
    std::set<Id> out = written("sale.order", since, "");
    out.merge(written("sale.order.line", since, "order_id"));
    out.merge(written("stock.picking", since, "sale_id"));
    const Table& lines = database_.table("sale.order.line");
    for (const Id line : written("stock.move", since, "sale_line_id"))
      out.insert(orders_.link(lines, line, "order_id"));
    return out;
  }

  std::string rules_of_lists() {
    std::int64_t count = 0, sum = 0;
    database_.table("product.pricelist.item").each([&](Id id, Slot) {
      ++count;
      sum += id;
      return true;
    });
    return std::to_string(count) + ":" + std::to_string(sum);
  }

  std::set<Id> changed_products(const std::string& since, bool& all) {
    std::set<Id> out = written("product.product", since, "");
    out.merge(written("stock.quant", since, "product_id"));
    out.merge(written("stock.move", since, "product_id"));
    std::set<Id> templates = written("product.template", since, "");
    all = all || !written("product.pricelist", since, "").empty();
    const Table& items = database_.table("product.pricelist.item");
    for (const Id item : written("product.pricelist.item", since, "")) {
      const std::string applied = orders_.text(items, item, "applied_on");
      if (applied == "0_product_variant")
        out.insert(orders_.link(items, item, "product_id"));
      else if (applied == "1_product")
        templates.insert(orders_.link(items, item, "product_tmpl_id"));
      else
        all = true;
    }
    const Table& products = database_.table("product.product");
    for (const Id of : templates) {
      for (const Slot slot : products.column(products.model().find("product_tmpl_id")->column).slots_of(of))
        out.insert(products.id_of(slot));
    }
    return out;
  }

  // By the first rule that fits: a fixed price or so much less, of a product, its template or all.
  double price(Id product, Id pricelist) {
    const Table& products = database_.table("product.product");
    const double own = orders_.real(products, product, "list_price");
    if (pricelist == 0) return own;
    const Table& items = database_.table("product.pricelist.item");
    const Id of = orders_.link(products, product, "product_tmpl_id");
    double best = own;
    std::string rank = "9";
    items.each([&](Id item, Slot) {
      if (orders_.link(items, item, "pricelist_id") != pricelist || orders_.real(items, item, "min_quantity") > 1)
        return true;
      const std::string applied = orders_.text(items, item, "applied_on");
      if (applied >= rank) return true;
      if (applied == "0_product_variant" && orders_.link(items, item, "product_id") != product) return true;
      if (applied == "1_product" && orders_.link(items, item, "product_tmpl_id") != of) return true;
      if (applied == "2_product_category") return true;
      rank = applied;
      const std::string how = orders_.text(items, item, "compute_price");
      best = how == "fixed"        ? orders_.real(items, item, "fixed_price")
             : how == "percentage" ? own * (1 - orders_.real(items, item, "percent_price") / 100)
                                   : own * (1 - orders_.real(items, item, "price_discount") / 100);
      return true;
    });
    return best;
  }

  template <class Wanted>
  Json named(const char* model, const char* currency, const Wanted& wanted) {
    Json out = Json::array();
    const Table* table = database_.find(model);
    if (table == nullptr) return out;
    table->each([&](Id id, Slot slot) {
      if (!wanted(id)) return true;
      Json one = {{"id", id}, {"name", orm_.display_name(*table, slot)}};
      if (table->model().find("company_id") != nullptr) {
        const Id company = orders_.link(*table, id, "company_id");
        one["company_id"] = company == 0 ? Json(false) : Json(company);
      }
      if (*currency != '\0') one["currency"] = currency_of(orders_.link(*table, id, currency));
      out.push_back(one);
      return true;
    });
    return out;
  }

  Orm& orm_;
  Database& database_;
  Orders orders_;
};

}  // namespace

Json market(Orm& orm, const Json& payload) {
  Market market(orm);
  Json out = Json::object();
  if (payload.contains("watch")) {
    out = market.watch(payload["watch"]);
  } else if (payload.contains("orders")) {
    Json all = Json::array();
    for (const Json& key : payload["orders"]) all.push_back(market.facts(key.get<std::string>()));
    out = {{"orders", all}};
  } else if (payload.contains("stock")) {
    out = market.stock(payload["stock"]);
  } else if (payload.contains("settings")) {
    out = market.settings();
  } else if (payload.contains("products")) {
    out = market.products(payload["products"]);
  }
  out["procedure"] = "market";
  out["version"] = 2;
  return out;
}

}  // namespace sandbox::odoo
