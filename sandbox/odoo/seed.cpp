// The small trading company, and what every database has. All names, codes and figures are invented.

#include <array>
#include <cmath>
#include <cstdio>

#include "sandbox/odoo/fill.h"
#include "sandbox/odoo/orm.h"
#include "sandbox/odoo/values.h"

namespace sandbox::odoo {

namespace {

constexpr std::int64_t kDay = 86'400'000'000;

/// Makes records as the superuser, each in a transaction of its own time; fields that this series does
/// not have are left out, so that one text serves all series.
class Maker {
 public:
  Maker(Database& database, std::uint64_t seed) : database_(database), state_(seed * 2654435761ULL + 99991) {
    env_.uid = 2;
    env_.su = true;
    env_.companies = {1};
    at_ = kSeedDay_us - 60 * kDay;
  }

  bool has(const char* model) const { return database_.find(model) != nullptr; }

  Id make(const char* model, const Json& values, const std::string& xml_id = "") {
    Table* table = database_.find(model);
    if (table == nullptr) return 0;
    Json known = Json::object();
    for (const auto& [name, value] : values.items()) {
      if (table->model().find(name) != nullptr) known[name] = value;
    }
    at_ += 1'000'000 + static_cast<std::int64_t>(below(7'200)) * 1'000'000 / 2 +
           static_cast<std::int64_t>(below(1'000'000));
    Transaction transaction(at_);
    Orm orm(database_, env_, &transaction);
    const Id id = orm.create(*table, known);
    if (!xml_id.empty()) orm.add_external_id(xml_id, model, id);
    transaction.commit();
    return id;
  }

  void set(const char* model, Id id, const Json& values) {
    Table* table = database_.find(model);
    if (table == nullptr || id == 0) return;
    Json known = Json::object();
    for (const auto& [name, value] : values.items()) {
      if (table->model().find(name) != nullptr) known[name] = value;
    }
    Transaction transaction(at_);
    Orm orm(database_, env_, &transaction);
    orm.write(*table, {id}, known);
    transaction.commit();
  }

  std::size_t below(std::size_t n) {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<std::size_t>(((state_ * 0x2545F4914F6CDD1DULL) >> 33) % n);
  }
  template <class A>
  auto pick(const A& of) -> decltype(of[0]) {
    return of[below(of.size())];
  }
  std::string moment() const { return format_datetime(at_); }
  std::string day(int later = 0) const { return format_date(at_ + later * kDay); }
  double value(const char* model, Id id, const char* field) const {
    const Table& table = database_.table(model);
    const Field* found = table.model().find(field);
    return found == nullptr ? 0 : table.column(found->column).real(table.find(id));
  }

 private:
  Database& database_;
  Env env_;
  std::uint64_t state_;
  std::int64_t at_ = 0;
};

Json six(const std::vector<Id>& ids) {
  return Json::array({Json::array({6, 0, ids})});
}
Json line(const Json& values) {
  return Json::array({0, 0, values});
}

std::string numbered(const char* format, int n) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, n);
  return buffer;
}

/// A tiny picture, so that binaries are there: a PNG of one pixel.
const char* kPicture =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

}  // namespace

void seed_base(Database& database, const SeedUsers& users) {
  Maker maker(database, 7);
  // What rights need first: the group, then a row for every model.
  const Id internal = maker.make("res.groups", {{"name", "Internal User"}, {"full_name", "User types / Internal User"}},
                                 "base.group_user");
  const Id system =
      maker.make("res.groups",
                 {{"name", "Settings"}, {"full_name", "Administration / Settings"}, {"implied_ids", six({internal})}},
                 "base.group_system");
  for (const auto& model : database.schema().models) describe_model(database, model->name);
  const Id eur = maker.make(
      "res.currency",
      {{"name", "EUR"}, {"full_name", "Euro"}, {"symbol", "€"}, {"rounding", 0.01}, {"position", "after"}}, "base.EUR");
  const Id usd = maker.make("res.currency",
                            {{"name", "USD"},
                             {"full_name", "United States dollar"},
                             {"symbol", "$"},
                             {"rounding", 0.01},
                             {"position", "before"}},
                            "base.USD");
  maker.make(
      "res.currency",
      {{"name", "EGP"}, {"full_name", "Egyptian pound"}, {"symbol", "LE"}, {"rounding", 0.01}, {"active", false}},
      "base.EGP");
  maker.make("res.lang", {{"name", "English (US)"}, {"code", "en_US"}, {"iso_code", "en"}, {"url_code", "en"}});
  static constexpr std::array kCountries = {
      std::array{"Belgium", "BE"}, std::array{"Germany", "DE"}, std::array{"Denmark", "DK"},
      std::array{"Egypt", "EG"},   std::array{"France", "FR"},  std::array{"Netherlands", "NL"},
      std::array{"Poland", "PL"},  std::array{"Türkiye", "TR"}, std::array{"United States", "US"}};
  for (const auto& country : kCountries) {
    maker.make("res.country",
               {{"name", country[0]},
                {"code", country[1]},
                {"currency_id", std::string(country[1]) == "US" ? usd : eur},
                {"phone_code", 32}},
               std::string("base.") + static_cast<char>(std::tolower(country[1][0])) +
                   static_cast<char>(std::tolower(country[1][1])));
  }
  maker.make("res.country.state", {{"name", "Alexandria"}, {"code", "ALX"}, {"country_id", 4}});
  maker.make("res.country.state", {{"name", "Cairo"}, {"code", "C"}, {"country_id", 4}});
  const Id house = maker.make(
      "res.partner",
      {{"name", "Levant Trading"}, {"is_company", true}, {"country_id", 1}, {"email", "office@levant.example.com"}},
      "base.main_partner");
  maker.make("res.company", {{"name", "Levant Trading"}, {"partner_id", house}, {"currency_id", eur}, {"sequence", 1}},
             "base.main_company");
  const Id branch =
      maker.make("res.partner", {{"name", "Levant Trading Alexandria"}, {"is_company", true}, {"country_id", 4}});
  maker.make("res.company",
             {{"name", "Levant Trading Alexandria"}, {"partner_id", branch}, {"currency_id", eur}, {"sequence", 2}});
  const char* groups = database.series() >= 19 ? "group_ids" : "groups_id";
  maker.make("res.users",
             {{"name", "OdooBot"},
              {"login", "__system__"},
              {"active", false},
              {"company_id", 1},
              {"company_ids", six({1})},
              {groups, six({system})}},
             "base.user_root");
  maker.make("res.users",
             {{"name", "Mitchell Admin"},
              {"login", "admin"},
              {"company_id", 1},
              {"company_ids", six({1, 2})},
              {groups, six({system, internal})}},
             "base.user_admin");
  const Id readers =
      maker.make("res.groups", {{"name", "Hub readers"}, {"full_name", "Hub readers"}}, "sandbox.group_hub_readers");
  const Id limited = maker.make("res.users",
                                {{"name", "Lena Limited"},
                                 {"login", "limited"},
                                 {"company_id", 1},
                                 {"company_ids", six({1})},
                                 {groups, six({internal, readers})}},
                                "sandbox.user_limited");
  database.passwords[2] = users.admin_password;
  database.passwords[limited] = users.limited_password;
  if (!users.admin_key.empty()) database.api_keys[users.admin_key] = {.uid = 2, .name = "admin"};
  if (!users.limited_key.empty()) database.api_keys[users.limited_key] = {.uid = limited, .name = "limited"};
  // Internal users read the plain master data; the limited user's group adds sales, and nothing of accounting or
  // payments.
  const Table& models = database.table("ir.model");
  const auto grant = [&](Id group, const char* model, bool write) {
    Id described = 0;
    models.each([&](Id id, Slot slot) {
      std::string_view name;
      if (models.column(models.model().find("model")->column).text(slot, name) && name == model) described = id;
      return described == 0;
    });
    if (described == 0) return;
    maker.make("ir.model.access", {{"name", std::string(model) + " group " + std::to_string(group)},
                                   {"model_id", described},
                                   {"group_id", group},
                                   {"perm_read", true},
                                   {"perm_write", write},
                                   {"perm_create", write},
                                   {"perm_unlink", false}});
  };
  for (const char* model : {"res.company",
                            "res.currency",
                            "res.country",
                            "res.country.state",
                            "res.lang",
                            "res.partner",
                            "res.partner.category",
                            "res.users",
                            "res.groups",
                            "product.category",
                            "product.template",
                            "product.product",
                            "product.attribute",
                            "product.attribute.value",
                            "product.template.attribute.line",
                            "product.template.attribute.value",
                            "product.tag",
                            "product.pricelist",
                            "product.pricelist.item",
                            "uom.uom",
                            "uom.category",
                            "ir.model",
                            "crm.team"}) {
    grant(internal, model, false);
  }
  for (const char* model :
       {"sale.order", "sale.order.line", "crm.tag", "stock.warehouse", "stock.location", "stock.quant"})
    grant(readers, model, false);
}

void seed_company(Database& database, std::uint64_t seed, const SeedUsers& users) {
  seed_base(database, users);
  Maker maker(database, seed);
  const bool modern = database.series() >= 17;
  const char* tax_field = database.series() >= 19 ? "tax_ids" : "tax_id";

  // Units and products.
  const Id unit_category = maker.make("uom.category", {{"name", "Unit"}});
  const Id unit = maker.make("uom.uom",
                             {{"name", "Units"},
                              {"category_id", unit_category},
                              {"uom_type", "reference"},
                              {"rounding", 0.01},
                              {"factor", 1.0},
                              {"relative_factor", 1.0}},
                             "uom.product_uom_unit");
  maker.make("uom.uom", {{"name", "Dozens"},
                         {"category_id", unit_category},
                         {"uom_type", "bigger"},
                         {"rounding", 0.01},
                         {"factor", 1.0 / 12},
                         {"relative_factor", 12.0},
                         {"relative_uom_id", unit}});
  const Id all = maker.make("product.category", {{"name", "All"}}, "product.product_category_all");
  std::vector<Id> categories;
  for (const char* name : {"Coffee", "Tea", "Spices", "Kitchenware", "Textiles"}) {
    categories.push_back(maker.make("product.category", {{"name", name}, {"parent_id", all}}));
  }
  const Id size = maker.make("product.attribute", {{"name", "Size"}, {"create_variant", "always"}, {"sequence", 1}});
  const Id colour =
      maker.make("product.attribute", {{"name", "Colour"}, {"create_variant", "always"}, {"sequence", 2}});
  std::vector<Id> sizes;
  for (const char* name : {"250 g", "500 g", "1 kg"})
    sizes.push_back(maker.make("product.attribute.value", {{"name", name}, {"attribute_id", size}}));
  std::vector<Id> colours;
  for (const char* name : {"Indigo", "Ochre"})
    colours.push_back(maker.make("product.attribute.value", {{"name", name}, {"attribute_id", colour}}));
  std::vector<Id> tags;
  for (const char* name : {"New", "Organic", "Clearance"}) tags.push_back(maker.make("product.tag", {{"name", name}}));

  // Taxes and accounts.
  const Id tax_group = maker.make("account.tax.group", {{"name", "VAT"}, {"company_id", 1}, {"country_id", 1}});
  std::vector<Id> taxes;
  for (const auto& [name, amount] :
       {std::pair{"21%", 21.0}, std::pair{"12%", 12.0}, std::pair{"6%", 6.0}, std::pair{"0% Export", 0.0}}) {
    taxes.push_back(maker.make(
        "account.tax",
        {{"name", name}, {"amount", amount}, {"tax_group_id", tax_group}, {"country_id", 1}, {"description", name}}));
  }
  std::vector<Id> positions;
  for (const char* name : {"Domestic", "Intra-Community", "Export"})
    positions.push_back(maker.make("account.fiscal.position", {{"name", name}, {"auto_apply", true}}));
  std::vector<Id> accounts;
  for (const auto& [code, name] : {std::pair{"400000", "Trade debtors"}, std::pair{"700000", "Sales"},
                                   std::pair{"451000", "VAT payable"}, std::pair{"550000", "Bank"}}) {
    accounts.push_back(
        maker.make("account.account", {{"code", code}, {"name", name}, {"account_type", "asset_current"}}));
  }
  const Id sales_journal =
      maker.make("account.journal", {{"name", "Customer Invoices"}, {"code", "INV"}, {"type", "sale"}});
  const Id bank_journal = maker.make("account.journal", {{"name", "Bank"}, {"code", "BNK1"}, {"type", "bank"}});
  const Id terms = maker.make("account.payment.term", {{"name", "30 Days"}, {"company_id", false}});

  struct Good {
    const char* name;
    const char* code;
    double price;
    int category;
    int variants;  // 0 none, 1 sizes, 2 colours
  };
  static constexpr std::array kGoods = {
      Good{"Harrar Coffee", "COF-HAR", 9.5, 0, 1},  Good{"Sidamo Coffee", "COF-SID", 8.75, 0, 1},
      Good{"Decaf Blend", "COF-DEC", 8.25, 0, 0},   Good{"Assam Tea", "TEA-ASS", 6.4, 1, 1},
      Good{"Jasmine Tea", "TEA-JAS", 7.1, 1, 0},    Good{"Mint Leaves", "TEA-MIN", 3.2, 1, 0},
      Good{"Sumac", "SPI-SUM", 4.15, 2, 0},         Good{"Saffron 2 g", "SPI-SAF", 18.9, 2, 0},
      Good{"Za’atar", "SPI-ZAA", 4.6, 2, 0},        Good{"Cumin \"Premium\"", "SPI-CUM", 3.95, 2, 0},
      Good{"Cardamom", "SPI-CAR", 7.8, 2, 0},       Good{"Copper Pot", "KIT-POT", 39.0, 3, 0},
      Good{"Tea Glass Set", "KIT-GLA", 21.5, 3, 2}, Good{"Brass Tray", "KIT-TRA", 54.25, 3, 0},
      Good{"Grinder", "KIT-GRI", 32.0, 3, 0},       Good{"Linen Towel", "TEX-TOW", 14.2, 4, 2},
      Good{"Wool Throw", "TEX-THR", 88.0, 4, 2},    Good{"Table Runner", "TEX-RUN", 26.3, 4, 2},
      Good{"Gift Wrapping", "SRV-GIF", 3.0, 4, 0},  Good{"Old Catalogue", "OLD-CAT", 0.5, 4, 0}};
  std::vector<Id> products;
  int serial = 0;
  for (const Good& good : kGoods) {
    ++serial;
    Json values = {{"name", good.name},
                   {"list_price", good.price},
                   {"standard_price", std::round(good.price * 60) / 100},
                   {"categ_id", categories[static_cast<std::size_t>(good.category)]},
                   {"uom_id", unit},
                   {"uom_po_id", unit},
                   {"weight", 0.25 * (1 + serial % 4)},
                   {"taxes_id", six({taxes[good.category == 4 ? 0U : 2U]})},
                   {"description_sale", std::string("Our ") + good.name + "\nfrom stock"},
                   {"product_tag_ids", six({tags[static_cast<std::size_t>(serial) % tags.size()]})}};
    if (modern) values["is_storable"] = true;
    if (!modern) values["type"] = "product";
    if (serial % 4 == 1) values["image_1920"] = kPicture;
    if (good.variants == 0) {
      values["default_code"] = good.code;
      values["barcode"] = numbered("54100000%05d", serial);
    }
    const Id tmpl = maker.make("product.template", values);
    const Table& table = database.table("product.product");
    const auto& slots = table.column(table.model().find("product_tmpl_id")->column).slots_of(tmpl);
    const Id first = table.id_of(slots.front());
    if (good.variants == 0) {
      products.push_back(first);
    } else {
      const Id attribute = good.variants == 1 ? size : colour;
      const auto& of = good.variants == 1 ? sizes : colours;
      const Id attribute_line =
          maker.make("product.template.attribute.line",
                     {{"product_tmpl_id", tmpl}, {"attribute_id", attribute}, {"value_ids", six(of)}});
      for (std::size_t k = 0; k < of.size(); ++k) {
        const Table& values_table = database.table("product.attribute.value");
        std::string_view label;
        values_table.column(values_table.model().find("name")->column).text(values_table.find(of[k]), label);
        const Id value = maker.make("product.template.attribute.value", {{"product_attribute_value_id", of[k]},
                                                                         {"attribute_line_id", attribute_line},
                                                                         {"attribute_id", attribute},
                                                                         {"product_tmpl_id", tmpl},
                                                                         {"name", std::string(label)},
                                                                         {"ptav_active", true}});
        const Json variant = {{"default_code", std::string(good.code) + "-" + std::to_string(k + 1)},
                              {"barcode", numbered("54200000%05d", serial * 10 + static_cast<int>(k))},
                              {"product_template_attribute_value_ids", six({value})},
                              {"combination_indices", std::to_string(value)},
                              {"product_tmpl_id", tmpl}};
        if (k == 0) {
          maker.set("product.product", first, variant);
          products.push_back(first);
        } else {
          products.push_back(maker.make("product.product", variant));
        }
      }
    }
    if (serial == static_cast<int>(kGoods.size())) {
      maker.set("product.template", tmpl, {{"active", false}});
      maker.set("product.product", first, {{"active", false}});
      products.pop_back();
    }
  }
  const Id pricelist = maker.make("product.pricelist", {{"name", "Default"}, {"currency_id", 1}});
  const Id wholesale = maker.make("product.pricelist", {{"name", "Wholesale"}, {"currency_id", 1}});
  for (std::size_t i = 0; i < 8; ++i) {
    maker.make("product.pricelist.item", {{"pricelist_id", wholesale},
                                          {"applied_on", "0_product_variant"},
                                          {"product_id", products[i]},
                                          {"min_quantity", 12.0},
                                          {"compute_price", "percentage"},
                                          {"percent_price", 12.5}});
  }

  // Warehouses and stock.
  const Id root = maker.make("stock.location", {{"name", "WH"}, {"usage", "view"}, {"company_id", 1}});
  const Id stock = maker.make("stock.location",
                              {{"name", "Stock"}, {"usage", "internal"}, {"location_id", root}, {"company_id", 1}});
  const Id customers =
      maker.make("stock.location", {{"name", "Customers"}, {"usage", "customer"}, {"company_id", false}});
  const Id root2 = maker.make("stock.location", {{"name", "ALX"}, {"usage", "view"}, {"company_id", 2}});
  const Id stock2 = maker.make("stock.location",
                               {{"name", "Stock"}, {"usage", "internal"}, {"location_id", root2}, {"company_id", 2}});
  const Id warehouse = maker.make("stock.warehouse", {{"name", "Antwerp"},
                                                      {"code", "WH"},
                                                      {"company_id", 1},
                                                      {"partner_id", 1},
                                                      {"view_location_id", root},
                                                      {"lot_stock_id", stock},
                                                      {"reception_steps", "one_step"},
                                                      {"delivery_steps", "ship_only"}});
  const Id warehouse2 = maker.make("stock.warehouse", {{"name", "Alexandria"},
                                                       {"code", "ALX"},
                                                       {"company_id", 2},
                                                       {"partner_id", 2},
                                                       {"view_location_id", root2},
                                                       {"lot_stock_id", stock2},
                                                       {"reception_steps", "one_step"},
                                                       {"delivery_steps", "ship_only"}});
  const Id out_type = maker.make("stock.picking.type", {{"name", "Delivery Orders"},
                                                        {"code", "outgoing"},
                                                        {"sequence_code", "OUT"},
                                                        {"warehouse_id", warehouse},
                                                        {"company_id", 1},
                                                        {"default_location_src_id", stock},
                                                        {"default_location_dest_id", customers}});
  for (const Id product : products) {
    maker.make("stock.quant", {{"product_id", product},
                               {"location_id", stock},
                               {"company_id", 1},
                               {"quantity", 20.0 + static_cast<double>(maker.below(400))},
                               {"reserved_quantity", static_cast<double>(maker.below(8))},
                               {"in_date", maker.moment()}});
    if (maker.below(3) == 0) {
      maker.make("stock.quant", {{"product_id", product},
                                 {"location_id", stock2},
                                 {"company_id", 2},
                                 {"quantity", static_cast<double>(maker.below(60))},
                                 {"in_date", maker.moment()}});
    }
  }

  // Partners.
  std::vector<Id> labels;
  for (const char* name : {"Retail", "Horeca", "VIP"})
    labels.push_back(maker.make("res.partner.category", {{"name", name}}));
  static constexpr std::array kHouses = {
      "Café Mokka",         "Grand Bazaar Gifts", "Hotel Meridian",   "Kitchen & Co", "La Petite Épicerie",
      "Northern Tea House", "Ossian Foods",       "Restaurant Dunes", "Spice Corner", "The Linen Room",
      "Verde Market",       "Westside Deli",      "Zafir Stores",     "Atelier Brun"};
  static constexpr std::array kPeople = {"Amina Haddad",   "Bruno Castel",    "Carla Romano", "Elif Demir",
                                         "Farid Nasser",   "Greta Weiss",     "Ilse Jansen",  "Jonas Lindqvist",
                                         "Marek Kowalski", "Nadia Ivanova",   "Omar Okafor",  "Petra Ulrich",
                                         "Rosa Vargas",    "Tilda Bergström", "Zoë Fontaine"};
  std::vector<Id> buyers;
  int n = 0;
  for (const char* name : kHouses) {
    ++n;
    const Id company = maker.make("res.partner", {{"name", name},
                                                  {"is_company", true},
                                                  {"ref", numbered("C%04d", n)},
                                                  {"customer_rank", 1 + n % 3},
                                                  {"email", numbered("orders%d@example.com", n)},
                                                  {"phone", numbered("+32 3 555 %04d", n * 37)},
                                                  {"street", numbered("%d Harbour Road", n * 3)},
                                                  {"city", n % 2 == 0 ? "Antwerp" : "Liège"},
                                                  {"zip", numbered("%d", 2000 + n)},
                                                  {"country_id", 1 + static_cast<int>(maker.below(9))},
                                                  {"category_id", six({labels[static_cast<std::size_t>(n) % 3]})},
                                                  {"vat", numbered("BE0%09d", 123456700 + n)},
                                                  {"comment", "<p>Calls before noon.</p>"},
                                                  {"credit_limit", 1000.0 * n}});
    buyers.push_back(company);
    for (std::size_t k = 0; k < 2; ++k) {
      maker.make("res.partner", {{"name", maker.pick(kPeople)},
                                 {"parent_id", company},
                                 {"type", "contact"},
                                 {"function", k == 0 ? "Buyer" : "Owner"},
                                 {"email", numbered("contact%d@example.com", n * 10 + static_cast<int>(k))}});
    }
    maker.make("res.partner", {{"name", false},
                               {"parent_id", company},
                               {"type", "delivery"},
                               {"street", numbered("%d Dock Street", n)},
                               {"city", "Antwerp"},
                               {"country_id", 1}});
  }
  for (const char* name : kPeople) {
    ++n;
    buyers.push_back(maker.make("res.partner", {{"name", name},
                                                {"ref", numbered("P%04d", n)},
                                                {"customer_rank", 1},
                                                {"phone", numbered("+49 40 555 %04d", n * 41)},
                                                {"country_id", 2},
                                                {"active", n % 9 != 0}}));
  }

  // Orders, deliveries, invoices, payments.
  const Id team = maker.make("crm.team", {{"name", "Sales"}, {"company_id", false}});
  const Id carrier_product = products.back();
  std::vector<Id> carriers;
  for (const auto& [name, price] :
       {std::pair{"Standard delivery", 5.0}, std::pair{"Express", 12.0}, std::pair{"Pick-up", 0.0}}) {
    carriers.push_back(maker.make("delivery.carrier", {{"name", name},
                                                       {"fixed_price", price},
                                                       {"delivery_type", "fixed"},
                                                       {"product_id", carrier_product},
                                                       {"company_id", false},
                                                       {"integration_level", "rate"}}));
  }
  const char* provider_model = modern ? "payment.provider" : "payment.acquirer";
  const Id provider =
      maker.make(provider_model,
                 {{"name", "Demo"}, {"code", "none"}, {"provider", "manual"}, {"state", "test"}, {"company_id", 1}});
  maker.make(
      provider_model,
      {{"name", "Wire Transfer"}, {"code", "none"}, {"provider", "manual"}, {"state", "disabled"}, {"company_id", 1}});
  const Id method = maker.make("payment.method", {{"name", "Card"}, {"code", "card"}, {"support_refund", "partial"}});
  int moves = 0;
  for (int i = 1; i <= 60; ++i) {
    const Id buyer = maker.pick(buyers);
    const Id company = i % 6 == 0 ? 2 : 1;
    Json lines = Json::array();
    const std::size_t count = 1 + maker.below(4);
    for (std::size_t k = 0; k < count; ++k) {
      const Id product = maker.pick(products);
      lines.push_back(line({{"product_id", product},
                            {"product_uom_qty", 1.0 + static_cast<double>(maker.below(12))},
                            {"discount", maker.below(5) == 0 ? 10.0 : 0.0}}));
    }
    const Id order = maker.make("sale.order", {{"partner_id", buyer},
                                               {"company_id", company},
                                               {"warehouse_id", company == 1 ? warehouse : warehouse2},
                                               {"date_order", maker.moment()},
                                               {"client_order_ref", numbered("WEB-%05d", 7000 + i)},
                                               {"team_id", team},
                                               {"pricelist_id", i % 4 == 0 ? wholesale : pricelist},
                                               {"payment_term_id", terms},
                                               {"carrier_id", i % 3 == 0 ? carriers[0] : Id{0}},
                                               {"order_line", lines}});
    if (i % 10 == 0) {
      maker.set("sale.order", order, {{"state", "cancel"}});
      continue;
    }
    if (i % 10 > 7) continue;
    maker.set("sale.order", order,
              {{"state", "sale"},
               {"delivery_status", i % 2 == 0 ? "full" : "pending"},
               {"invoice_status", i % 3 == 0 ? "invoiced" : "to invoice"}});
    const Table& line_table = database.table("sale.order.line");
    const std::vector<Slot> line_slots = line_table.column(line_table.model().find("order_id")->column).slots_of(order);
    const auto link = [&](const char* field, Slot slot) {
      return line_table.column(line_table.model().find(field)->column).integer(slot);
    };
    const auto real = [&](const char* field, Slot slot) {
      return line_table.column(line_table.model().find(field)->column).real(slot);
    };
    for (const Slot slot : line_slots) maker.set("sale.order.line", line_table.id_of(slot), {{"state", "sale"}});
    if (company == 1) {
      const bool done = i % 2 == 0;
      const Id picking = maker.make("stock.picking", {{"name", numbered("WH/OUT/%05d", i)},
                                                      {"partner_id", buyer},
                                                      {"picking_type_id", out_type},
                                                      {"location_id", stock},
                                                      {"location_dest_id", customers},
                                                      {"company_id", 1},
                                                      {"origin", numbered("S%05d", i)},
                                                      {"sale_id", order},
                                                      {"scheduled_date", maker.moment()},
                                                      {"date_done", done ? Json(maker.moment()) : Json(false)}});
      for (const Slot slot : line_slots) {
        const double quantity = real("product_uom_qty", slot);
        maker.make("stock.move", {{"name", "Delivery"},
                                  {"picking_id", picking},
                                  {"product_id", link("product_id", slot)},
                                  {"product_uom_qty", quantity},
                                  {"product_uom", unit},
                                  {"quantity", done ? quantity : 0.0},
                                  {"quantity_done", done ? quantity : 0.0},
                                  {"picked", done},
                                  {"location_id", stock},
                                  {"location_dest_id", customers},
                                  {"sale_line_id", line_table.id_of(slot)},
                                  {"state", done ? "done" : "assigned"},
                                  {"reference", numbered("WH/OUT/%05d", i)},
                                  {"company_id", 1},
                                  {"date", maker.moment()}});
        if (done) maker.set("sale.order.line", line_table.id_of(slot), {{"qty_delivered", quantity}});
      }
      maker.set("stock.picking", picking, {{"state", done ? "done" : "assigned"}});
    }
    if (i % 3 == 0) {
      ++moves;
      const double total = maker.value("sale.order", order, "amount_total");
      const double untaxed = maker.value("sale.order", order, "amount_untaxed");
      const Id invoice = maker.make("account.move", {{"name", numbered("INV/2026/%05d", moves)},
                                                     {"move_type", i % 15 == 0 ? "out_refund" : "out_invoice"},
                                                     {"partner_id", buyer},
                                                     {"commercial_partner_id", buyer},
                                                     {"company_id", company},
                                                     {"journal_id", sales_journal},
                                                     {"date", maker.day()},
                                                     {"invoice_date", maker.day()},
                                                     {"invoice_date_due", maker.day(30)},
                                                     {"invoice_origin", numbered("S%05d", i)},
                                                     {"ref", numbered("WEB-%05d", 7000 + i)},
                                                     {"amount_untaxed", untaxed},
                                                     {"amount_tax", total - untaxed},
                                                     {"amount_total", total},
                                                     {"amount_residual", i % 2 == 0 ? 0.0 : total},
                                                     {"payment_state", i % 2 == 0 ? "paid" : "not_paid"}});
      for (const Slot slot : line_slots) {
        const Id line_id = line_table.id_of(slot);
        const Id entry = maker.make("account.move.line", {{"move_id", invoice},
                                                          {"product_id", link("product_id", slot)},
                                                          {"quantity", real("product_uom_qty", slot)},
                                                          {"price_unit", real("price_unit", slot)},
                                                          {"name", numbered("Line of S%05d", i)},
                                                          {"price_subtotal", real("price_subtotal", slot)},
                                                          {"price_total", real("price_total", slot)},
                                                          {"credit", real("price_subtotal", slot)},
                                                          {"balance", -real("price_subtotal", slot)},
                                                          {"account_id", accounts[1]},
                                                          {"company_id", company},
                                                          {"journal_id", sales_journal},
                                                          {"partner_id", buyer},
                                                          {"date", maker.day()},
                                                          {"display_type", modern ? Json("product") : Json(false)},
                                                          {"move_name", numbered("INV/2026/%05d", moves)},
                                                          {"parent_state", "posted"}});
        maker.set("sale.order.line", line_id,
                  {{"invoice_lines", six({entry})}, {"qty_invoiced", real("product_uom_qty", slot)}});
      }
      maker.set("account.move", invoice, {{"state", "posted"}});
      if (i % 2 == 0) {
        const Id payment = maker.make("account.payment", {{"amount", total},
                                                          {"partner_id", buyer},
                                                          {"journal_id", bank_journal},
                                                          {"date", maker.day(3)},
                                                          {"company_id", company},
                                                          {"name", numbered("PBNK1/2026/%05d", moves)},
                                                          {"memo", numbered("INV/2026/%05d", moves)},
                                                          {"move_id", modern ? Json(false) : Json(invoice)}});
        maker.make("payment.transaction", {{"reference", numbered("S%05d-1", i)},
                                           {"provider_id", provider},
                                           {"acquirer_id", provider},
                                           {"payment_method_id", method},
                                           {"amount", total},
                                           {"currency_id", 1},
                                           {"partner_id", buyer},
                                           {"partner_name", "Buyer"},
                                           {"partner_country_id", 1},
                                           {"type", "form"},
                                           {"company_id", 1},
                                           {"state", "done"},
                                           {"payment_id", payment},
                                           {"sale_order_ids", six({order})},
                                           {"provider_reference", numbered("demo-%08d", i * 7919)}});
      }
    }
    (void)tax_field;
  }
  // Promotions.
  for (const char* name : {"Spring 10%", "Buy 3 pay 2", "Loyalty Cards"}) {
    const Id program = maker.make("loyalty.program", {{"name", name},
                                                      {"program_type", "promotion"},
                                                      {"applies_on", "current"},
                                                      {"trigger", "auto"},
                                                      {"currency_id", 1},
                                                      {"portal_point_name", "Points"}});
    maker.make("loyalty.rule", {{"program_id", program},
                                {"minimum_amount", 50.0},
                                {"reward_point_amount", 1.0},
                                {"reward_point_mode", "order"}});
    maker.make("loyalty.reward", {{"program_id", program},
                                  {"reward_type", "discount"},
                                  {"discount", 10.0},
                                  {"required_points", 1.0},
                                  {"description", "10% on your order"}});
    if (maker.has("coupon.program")) {
      const Id rule = maker.make("coupon.rule", {{"rule_minimum_amount", 50.0}});
      const Id reward = maker.make("coupon.reward", {{"reward_type", "discount"}, {"discount_percentage", 10.0}});
      maker.make("coupon.program",
                 {{"name", name}, {"program_type", "promotion_program"}, {"rule_id", rule}, {"reward_id", reward}});
    }
  }
  (void)positions;
}

}  // namespace sandbox::odoo
