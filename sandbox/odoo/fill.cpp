#include "sandbox/odoo/fill.h"

#include <array>
#include <stdexcept>

#include "sandbox/odoo/orm.h"

namespace sandbox::odoo {

namespace {

constexpr std::array kFirst = {"Amina",  "Bruno", "Carla",   "Darius", "Elif",   "Farid", "Greta",
                               "Hassan", "Ilse",  "Jonas",   "Kamila", "Léa",    "Marek", "Nadia",
                               "Omar",   "Petra", "Quentin", "Rosa",   "Samir",  "Tilda", "Umar",
                               "Vera",   "Wanda", "Yusuf",   "Zoë",    "Łukasz", "Søren", "Ayşe"};
constexpr std::array kLast = {"Abbott", "Bergström", "Castel", "Demir",    "Eriksen",   "Fontaine", "Grabowski",
                              "Haddad", "Ivanova",   "Jansen", "Kowalski", "Lindqvist", "Moreau",   "Nasser",
                              "Okafor", "Petrov",    "Quist",  "Romano",   "Şahin",     "Tanaka",   "Ulrich",
                              "Vargas", "Weiss",     "Yılmaz", "Zimmer"};
constexpr std::array kCity = {"Antwerp", "Bremen", "Córdoba", "Dresden", "Eindhoven", "Faro",   "Gdańsk", "Haarlem",
                              "İzmir",   "Jena",   "Kraków",  "Liège",   "Malmö",     "Nantes", "Odense", "Porto"};
constexpr std::array kStreet = {"Harbour Road", "Mill Lane",  "Station Street", "Rue du Marché",
                                "Lindenallee",  "Canal Side", "Calle Mayor",    "Old Bridge"};
constexpr std::array kTrade = {"Trading", "Imports", "Supply", "Logistics", "Retail", "Goods", "Stores", "Wholesale"};

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ULL + 0x1234567) {}
  std::uint64_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545F4914F6CDD1DULL;
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>((next() >> 33) % n); }
  template <class A>
  const char* pick(const A& words) {
    return words[below(words.size())];
  }

 private:
  std::uint64_t state_;
};

}  // namespace

void fill(Database& database, const std::string& model_name, std::size_t count, std::uint64_t seed) {
  Table* table = database.find(model_name);
  if (table == nullptr) throw std::runtime_error("cannot fill '" + model_name + "': no such model");
  const Model& model = table->model();
  Random random(seed);
  table->reserve(count);
  // Links go to what is there; a self-link would tie the new records into odd trees, so only some get one.
  struct Target {
    const Field* field;
    std::vector<Id> ids;
  };
  std::vector<Target> targets;
  for (const auto& field : model.fields) {
    if (field->cells != Cells::link || field->name == "create_uid" || field->name == "write_uid") continue;
    if (field->name == "parent_id" || field->name == "commercial_partner_id" || field->name == "company_id") continue;
    const bool wanted = field->required || field->name == "country_id" || field->name == "state_id" ||
                        field->name == "user_id" || field->name == "categ_id" || field->name == "currency_id" ||
                        field->name == "partner_id" || field->name == "product_id";
    const Table* other = database.find(field->relation);
    if (!wanted || other == nullptr || other->size() == 0) continue;
    Target target{field.get(), {}};
    other->each([&](Id id, Slot) {
      target.ids.push_back(id);
      return target.ids.size() < 200;
    });
    targets.push_back(std::move(target));
  }
  const auto column = [&](const char* name) -> Column* {
    const Field* field = model.find(name);
    return field == nullptr || field->cells == Cells::none ? nullptr : &table->column(field->column);
  };
  struct Columns {
    Column *name, *complete, *display, *ref, *code, *street, *street2, *zip, *city, *email, *phone, *mobile, *website,
        *function, *vat, *comment, *is_company, *active, *lang, *tz, *type, *color, *customer_rank, *supplier_rank,
        *credit, *price, *weight, *commercial, *create_uid, *create_date, *write_uid, *write_date, *email_normalized,
        *barcode, *registry, *phone_sanitized, *company, *state, *total, *date_order;
  };
  const Columns c{column("name"),
                  column("complete_name"),
                  column("display_name"),
                  column("ref"),
                  column("default_code"),
                  column("street"),
                  column("street2"),
                  column("zip"),
                  column("city"),
                  column("email"),
                  column("phone"),
                  column("mobile"),
                  column("website"),
                  column("function"),
                  column("vat"),
                  column("comment"),
                  column("is_company"),
                  column("active"),
                  column("lang"),
                  column("tz"),
                  column("type"),
                  column("color"),
                  column("customer_rank"),
                  column("supplier_rank"),
                  column("credit_limit"),
                  column("list_price"),
                  column("weight"),
                  column("commercial_partner_id"),
                  column("create_uid"),
                  column("create_date"),
                  column("write_uid"),
                  column("write_date"),
                  column("email_normalized"),
                  column("barcode"),
                  column("company_registry"),
                  column("phone_sanitized"),
                  column("company_id"),
                  column("state"),
                  column("amount_total"),
                  column("date_order")};
  const bool partner = model_name == "res.partner";
  const bool is_product = model_name == "product.template" || model_name == "product.product";
  const std::int64_t now = kSeedDay_us;
  const auto put = [](Column* at, Slot slot, std::string_view text) {
    if (at != nullptr && at->cells() == Cells::text) at->set_text(slot, text);
  };
  const auto number = [](Column* at, Slot slot, std::int64_t value) {
    if (at != nullptr && (at->cells() == Cells::integer || at->cells() == Cells::link || at->cells() == Cells::time))
      at->set_integer(slot, value);
  };
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    const Id id = table->next_id();
    const Slot slot = table->insert(id);
    const char* first = random.pick(kFirst);
    const char* last = random.pick(kLast);
    const std::string serial = std::to_string(id);
    const bool company = random.below(5) == 0;
    text = company ? std::string(last) + " " + random.pick(kTrade) + " " + serial
                   : std::string(first) + " " + last + " " + serial;
    if (model_name == "sale.order") {
      text = "G" + serial;
      if (c.state != nullptr) c.state->set_text(slot, random.below(3) == 0 ? "draft" : "sale");
      if (c.total != nullptr) c.total->set(slot, static_cast<double>(random.below(1'000'000)) / 100.0);
    }
    put(c.name, slot, text);
    if (partner) {
      put(c.complete, slot, text);
      put(c.display, slot, text);
    }
    put(c.ref, slot, "REF-" + serial);
    if (is_product) put(c.code, slot, "SKU-" + serial);
    put(c.street, slot, std::to_string(random.below(300) + 1) + " " + random.pick(kStreet));
    if (random.below(3) == 0) put(c.street2, slot, "Floor " + std::to_string(random.below(12)));
    put(c.zip, slot, std::to_string(10000 + random.below(89999)));
    put(c.city, slot, random.pick(kCity));
    text = "contact" + serial + "@example.com";
    put(c.email, slot, text);
    put(c.email_normalized, slot, text);
    text = "+32 470 " + std::to_string(100000 + random.below(899999));
    put(c.phone, slot, text);
    put(c.mobile, slot, text);
    put(c.phone_sanitized, slot, text);
    if (company) {
      put(c.website, slot, "https://www" + serial + ".example.com");
      put(c.vat, slot, "BE0" + std::to_string(100000000 + random.below(899999999)));
      put(c.registry, slot, serial);
    } else {
      put(c.function, slot, "Buyer");
    }
    if (random.below(4) == 0)
      put(c.comment, slot, "<p>Prefers delivery in the <b>morning</b>; asks for " + serial + ".</p>");
    if (c.is_company != nullptr) c.is_company->set(slot, company);
    if (c.active != nullptr) c.active->set(slot, random.below(50) != 0);
    if (c.lang != nullptr && c.lang->cells() == Cells::choice) c.lang->set_text(slot, "en_US");
    if (c.tz != nullptr && c.tz->cells() == Cells::choice) c.tz->set_text(slot, "Europe/Brussels");
    if (partner) c.type->set_text(slot, "contact");
    number(c.color, slot, static_cast<std::int64_t>(random.below(11)));
    number(c.customer_rank, slot, static_cast<std::int64_t>(random.below(3)));
    number(c.supplier_rank, slot, static_cast<std::int64_t>(random.below(2)));
    if (c.credit != nullptr) c.credit->set(slot, static_cast<double>(random.below(100)) * 100.0);
    if (c.price != nullptr) c.price->set(slot, static_cast<double>(random.below(100000)) / 100.0);
    if (c.weight != nullptr) c.weight->set(slot, static_cast<double>(random.below(10000)) / 1000.0);
    if (partner) number(c.commercial, slot, id);
    if (!partner && !is_product) number(c.company, slot, 1);
    for (const auto& target : targets)
      table->column(target.field->column).set_integer(slot, target.ids[random.below(target.ids.size())]);
    // Spread over the last thirty days, in order of id as real ones mostly are.
    const std::int64_t at =
        now - 30LL * 86'400'000'000 +
        static_cast<std::int64_t>(i) * (30LL * 86'400'000'000 - 3'600'000'000) / static_cast<std::int64_t>(count);
    number(c.create_uid, slot, 2);
    number(c.write_uid, slot, 2);
    number(c.create_date, slot, at);
    number(c.date_order, slot, at);
    number(c.write_date, slot, at);
  }
}

void add_standard_fields(Json& fields) {
  const auto field = [&](const char* name, const char* type, const char* label, const char* relation, bool store) {
    if (fields.contains(name)) return;
    Json attributes = {{"name", name},      {"readonly", true}, {"required", false}, {"searchable", true},
                       {"sortable", store}, {"store", store},   {"string", label},   {"type", type}};
    if (*relation != 0) attributes["relation"] = relation;
    fields[name] = attributes;
  };
  for (auto& [name, attributes] : fields.items()) {
    for (const char* flag : {"store", "searchable", "sortable"}) {
      if (!attributes.contains(flag)) attributes[flag] = true;
    }
    if (!attributes.contains("string")) attributes["string"] = name;
  }
  field("id", "integer", "ID", "", true);
  field("display_name", "char", "Display Name", "", false);
  field("create_uid", "many2one", "Created by", "res.users", true);
  field("create_date", "datetime", "Created on", "", true);
  field("write_uid", "many2one", "Last Updated by", "res.users", true);
  field("write_date", "datetime", "Last Updated on", "", true);
}

void describe_model(Database& database, const std::string& name) {
  Env env;
  env.uid = 1;
  env.su = true;
  Orm orm(database, env, nullptr);
  const Model* model = database.schema().find(name);
  Json values = {{"model", name}, {"name", model->label}};
  if (database.table("ir.model").model().find("order") != nullptr) values["order"] = model->order;
  values["state"] = model->custom ? "manual" : "base";
  const Id id = orm.create(database.table("ir.model"), values);
  const auto group = orm.find_external_id("base.group_system", "res.groups");
  if (!group) return;
  orm.create(database.table("ir.model.access"), {{"name", name + " administrators"},
                                                 {"model_id", id},
                                                 {"group_id", *group},
                                                 {"perm_read", true},
                                                 {"perm_write", true},
                                                 {"perm_create", true},
                                                 {"perm_unlink", true}});
}

}  // namespace sandbox::odoo
