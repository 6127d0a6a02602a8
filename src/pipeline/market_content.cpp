#include "pipeline/market_content.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sodium.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/text.h"
#include "pipeline/market_factor.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string digest_of(std::string_view text) {
  std::string digest(16, '\0');
  crypto_generichash(reinterpret_cast<unsigned char*>(digest.data()), digest.size(),
                     reinterpret_cast<const unsigned char*>(text.data()), text.size(), nullptr, 0);
  return digest;
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const unsigned char byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

// Without what people put between the digits.
std::string plain_phone(std::string_view phone) {
  std::string out;
  for (const char c : phone)
    if ((c >= '0' && c <= '9') || (c == '+' && out.empty())) out += c;
  return out;
}

std::optional<std::int64_t> whole(const std::string& text) {
  if (text.empty() || text.size() > 9 || text.front() == '0') return std::nullopt;
  std::int64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    value = value * 10 + (c - '0');
  }
  return value;
}

// Odoo takes numbers; a decimal of up to 15 digits survives being one, and whether it did is checked by the total.
json numeric(const Decimal& value) {
  return json::parse(value.str());
}

MarketPlan held(std::string code, std::string message) {
  MarketPlan plan;
  plan.what = MarketPlan::What::hold;
  plan.code = std::move(code);
  plan.message = std::move(message);
  return plan;
}

MarketPlan recorded(std::string code, std::string message, std::string flag = {}) {
  MarketPlan plan;
  plan.what = MarketPlan::What::record;
  plan.code = std::move(code);
  plan.message = std::move(message);
  plan.flag = std::move(flag);
  return plan;
}

json customer_of(const MarketOrder& order, const MarketplaceSettings& settings, const std::string& key) {
  const MarketCustomer& who = order.customer;
  json rules = json::array();
  // What was marked as this shop by a person or another system comes before the rules that may be chosen.
  if (!who.code.empty()) rules.push_back({"cartona_id", json::array({json::array({"cartona_id", "=", who.code})})});
  for (const auto& rule : settings.customer_rules) {
    if (rule == "retailer_code" && !who.code.empty())
      rules.push_back({"retailer_code", json::array({json::array({"ref", "=", who.code})})});
    if (rule == "phone") {
      std::set<std::string> spellings;
      for (const auto& phone : who.phones) {
        spellings.insert(phone);
        spellings.insert(plain_phone(phone));
      }
      spellings.erase("");
      if (spellings.empty()) continue;
      json domain = json::array({json::array({"phone", "in", spellings})});
      // Who is marked as another shop is not this one, though both have one phone.
      if (!who.code.empty()) domain.push_back({"cartona_id", "in", json::array({false, who.code})});
      rules.push_back({"phone", std::move(domain)});
    }
  }
  json values = {{"name", who.name.empty() ? who.code : who.name}};
  if (!who.code.empty()) values["ref"] = values["cartona_id"] = who.code;
  if (!who.phones.empty()) values["phone"] = who.phones.front();
  if (!who.email.empty()) values["email"] = who.email;
  if (!who.address.empty()) values["street"] = who.address;
  std::string comment = who.notes;
  for (std::size_t i = 1; i < who.phones.size(); ++i)
    comment += fmt::format("{}Another phone: {}", comment.empty() ? "" : "\n", who.phones[i]);
  if (!comment.empty()) values["comment"] = comment;
  return {{"key", key}, {"model", "res.partner"}, {"match", rules}, {"values", values}, {"own", true}};
}

// Which product of Odoo a line is of. A key stands for what was found under it first, so what a person has linked has
// one that says to what.
json product_of(const MarketLine& line, const MarketplaceSettings& settings, const MarketName& name,
                const MarketLink& link, std::string& key) {
  key = name.prefix() + "product/" + line.product_id;
  json rules = json::array();
  for (const auto& rule : settings.product_rules) {
    const auto add = [&](const char* field, const json& value) {
      rules.push_back({rule, json::array({json::array({field, "=", value})})});
    };
    if (rule == "mapping" && link.odoo_product_id > 0) {
      key += fmt::format("/is/{}", link.odoo_product_id);
      rules = json::array();
      add("id", link.odoo_product_id);
      break;
    }
    if (rule == "cartona_id") add("cartona_id", line.product_id);
    if (rule == "internal_id")
      if (const auto id = whole(line.internal_id)) add("id", *id);
    if (rule == "barcode" && !line.internal_id.empty()) add("barcode", line.internal_id);
    if (rule == "default_code" && !line.internal_id.empty()) add("default_code", line.internal_id);
  }
  return {{"key", key}, {"model", "product.product"}, {"match", rules}, {"active", true}};
}

// How it is delivered, by the first of its words that the table knows; null: it is left to Odoo.
json carrier_of(const MarketOrder& order, const MarketplaceSettings& settings, const MarketName& name) {
  for (const auto& word : order.delivery)
    if (const auto found = settings.carriers.find(word); found != settings.carriers.end())
      return {
          {"key", fmt::format("{}carrier/{}", name.prefix(), found->second)},
          {"model", "delivery.carrier"},
          {"match", json::array({json::array({"carriers", json::array({json::array({"id", "=", found->second})})})})}};
  return nullptr;
}

json steps_of(const MarketOrder& order, const MarketplaceSettings& settings) {
  json steps = json::array();
  const bool no_delivery = order.delivers_itself && !settings.keep_pickings;
  switch (order.state) {
    case MarketState::approved:
    case MarketState::assigned:
    case MarketState::delivered:
      steps.push_back("confirm");
      if (no_delivery)
        steps.push_back("no_delivery");
      else if (order.state == MarketState::assigned)
        steps.push_back("reserve");
      else if (order.state == MarketState::delivered)
        steps.push_back("deliver");
      break;
    case MarketState::cancelled:
      steps.push_back("cancel");
      break;
    default:
      break;
  }
  return steps;
}

}  // namespace

std::string factor_unknown(const std::string& product_name, const std::string& product, const std::string& unit,
                           const Decimal& unit_count, const std::string& connection) {
  return fmt::format(
      "{0} is sold by the {2} of {3}, and nobody has said how many of Odoo's units that is: `dragoman market "
      "link {4} {1} PRODUCT --factor {3}`, or `--factor 1` where PRODUCT is the {2}. For all of them: the setting "
      "`unit_factor`.",
      product_name.empty() ? fmt::format("`{}`", product) : fmt::format("`{}` ({})", product_name, product), product,
      unit.empty() ? "box" : unit, unit_count.str(), connection);
}

std::string factor_missing(const std::string& product_name, const std::string& product, const std::string& factors,
                           const Decimal& unit_count, const std::string& connection, bool order) {
  std::string known;
  for (const auto& [count, factor] : factors_of(factors))
    known += fmt::format("{}{} for a package of {}", known.empty() ? "" : ", ", factor.str(), count.str());
  return fmt::format(
      "{} is {} a package of {}, and nobody has said how many of Odoo's units that is (the factor is {}): `dragoman "
      "market link {} {} PRODUCT --factor …{}` says it.",
      product_name.empty() ? fmt::format("`{}`", product) : fmt::format("`{}` ({})", product_name, product),
      order ? "in this order in" : "sold in", unit_count.str(), known, connection, product,
      order ? fmt::format(" --unit-count {}", unit_count.str()) : std::string());
}

std::string customer_key(const MarketCustomer& customer) {
  if (!customer.code.empty()) return customer.code;
  // Two shops with one phone are two customers until a person says otherwise.
  for (const auto& phone : customer.phones)
    if (const std::string plain = plain_phone(phone); plain.size() >= 5)
      return "phone/" + plain + (customer.name.empty() ? "" : "/" + hex(digest_of(customer.name)).substr(0, 8));
  if (customer.name.empty()) return {};
  return "name/" + hex(digest_of(customer.name + "\n" + customer.address));
}

std::string contact_changes(const MarketCustomer& before, const MarketCustomer& now) {
  // Of another one Odoo's order gets that customer. One without a code is none: its name may have been mended.
  if (before.code != now.code) return {};
  std::string out;
  const auto compare = [&](const char* what, const std::string& was, const std::string& is) {
    if (is.empty() || is == was) return;
    out += fmt::format("{}{}: {} -> {}.", out.empty() ? "" : " ", what, was.empty() ? "none" : was, is);
  };
  compare("Name", before.name, now.name);
  compare("Address", before.address, now.address);
  compare("Phone", fmt::format("{}", fmt::join(before.phones, ", ")), fmt::format("{}", fmt::join(now.phones, ", ")));
  compare("E-mail", before.email, now.email);
  compare("Notes", before.notes, now.notes);
  return out;
}

MarketPlan plan_order(const MarketOrder& order, const MarketplaceSettings& settings, const MarketName& name,
                      const std::map<std::string, MarketLink>& links, const MarketApplied& applied) {
  if (order.state == MarketState::unknown)
    return held("unknown_state",
                fmt::format("The marketplace says that the order is `{}`, and nobody has said what that means. Say it "
                            "with the setting `states` of the connection `{}`.",
                            order.status, name.connection));
  if (order.state == MarketState::editing) {
    MarketPlan plan;
    plan.what = MarketPlan::What::wait;
    plan.code = "editing";
    plan.message = "The shop is changing the order; it goes on when that is done.";
    return plan;
  }
  if (order.state == MarketState::returned)
    return recorded("returned",
                    applied.imported ? "The marketplace says that the goods were returned: see to it in Odoo."
                                     : "The marketplace says that the goods were returned, and the order never was in "
                                       "Odoo.",
                    "returned");
  if (order.state == MarketState::cancelled && !applied.imported && !applied.in_doubt)
    return recorded("cancelled", "It was cancelled before it came to Odoo.");
  if (order.state == MarketState::cancelled && applied.anew)
    return recorded("cancelled", "It is cancelled at the marketplace by now, so it is not made anew in Odoo.");
  // To confirm it once more is a person's to say: what was on its way is off, and its goods may be another's by now.
  if (order.state != MarketState::cancelled && applied.cancelled && !applied.anew)
    return held(
        "reopened",
        fmt::format("The order was cancelled at the marketplace, and so it is in Odoo; now the marketplace says "
                    "`{0}`. Set it to a quotation in Odoo, and it goes on (`dragoman market retry {1} --order "
                    "{2}` does not wait); or `dragoman market sync {1} {2} --status cancelled` tells the "
                    "marketplace that it stays cancelled.",
                    order.status, name.connection, order.id));
  if (applied.imported && !applied.anew && applied.state && rank(order.state) < rank(*applied.state) && !applied.edited)
    return recorded("older", fmt::format("The marketplace says `{}`, which is before `{}`, what was applied: recorded, "
                                         "and not applied.",
                                         order.status, pipeline::name(*applied.state)));
  // What is wrong in an order that is to be cancelled is nobody's trouble any more.
  // One that may be there goes as a whole: made it is cancelled like one that was there, and known for what it is.
  const bool cancels = order.state == MarketState::cancelled && applied.imported;
  // What is wrong with it, where it does not go in as a state alone; `unsure`: if nothing worse is.
  std::optional<MarketPlan> wrong, unsure;
  const auto refuse = [&wrong](std::string code, std::string message) {
    if (!wrong) wrong = held(std::move(code), std::move(message));
  };
  if (!order.problems.empty()) {
    std::string all;
    for (const auto& problem : order.problems) all += (all.empty() ? "" : " ") + problem;
    refuse("order", all);
  }

  MarketPlan plan;
  plan.what = MarketPlan::What::deliver;
  json values = {{"cartona_id", order.id},
                 {"marketplace_config_id", name.connection},
                 {"marketplace_order_number", order.number},
                 {"delivered_by", order.delivered_by},
                 {"marketplace_payment_method", order.payment},
                 {"is_marketplace_order", true}};
  json content;
  json lines = json::array();
  bool alone = cancels;
  if (!cancels) {
    const std::string who = customer_key(order.customer);
    if (who.empty()) refuse("customer", "The order names no customer: there is no code, no phone and no name.");
    plan.customer_key = name.prefix() + "customer/" + who;
    values["partner_id"] = customer_of(order, settings, plan.customer_key);
    values["client_order_ref"] = order.number;
    if (!order.note.empty()) values["note"] = order.note;
    if (order.ordered) values["marketplace_ordered_at"] = format_odoo(*order.ordered);
    values["marketplace_credit"] = numeric(order.credit);
    values["marketplace_installment"] = numeric(order.installment);
    values["marketplace_wallet"] = numeric(order.wallet);

    if (order.lines.empty()) refuse("lines", "The order has no lines.");
    Decimal exact, rounded, supplier, market;
    json bare = json::array();  // the lines without how their products are found
    std::set<std::string> seen;
    for (const MarketLine& line : order.lines) {
      if (!seen.insert(line.id).second)
        refuse("lines", fmt::format("Two lines have the id {}; a line is told from others by it.", line.id));
      const auto found = links.find(line.product_id);
      const MarketLink link = found == links.end() ? MarketLink() : found->second;
      if (link.ignored)
        refuse("product", fmt::format("`{}` ({}) is marked as none of ours: `dragoman market link {} {} "
                                      "PRODUCT` makes it one.",
                                      line.name, line.product_id, name.connection, line.product_id));
      // The first rule that finds one would take it, and its stock and price would go out from then on.
      if (link.candidates.size() > 1 && !unsure)
        unsure = held("import_ambiguous",
                      fmt::format("Several products of Odoo may be `{}` ({}): {}. Say which with `dragoman market "
                                  "link {} {} PRODUCT`.",
                                  line.name, line.product_id, fmt::join(link.candidates, ", "), name.connection,
                                  line.product_id));
      const Decimal count = line.unit_count.value_or(1);
      std::optional<Decimal> said;
      if (!link.settled)
        said = settings.factor_of(count);
      else if (!line.unit_count || link.factors.empty())
        said = link.factor;
      else if (said = factor_for(link.factors, count); !said && settings.follows(link.factors))
        said = settings.factor_of(count);
      if (!said && !unsure)
        unsure =
            held("factor", link.settled
                               ? factor_missing(line.name, line.product_id, link.factors, count, name.connection, true)
                               : factor_unknown(line.name, line.product_id, line.unit, count, name.connection));
      const Decimal factor = said.value_or(Decimal(1));
      exact += line.price * line.quantity;
      rounded += (line.price * line.quantity).rounded(2);
      supplier += line.supplier_discount * line.quantity;
      market += line.market_discount * line.quantity;
      std::string key;
      json fields = {{"product_id", product_of(line, settings, name, link, key)},
                     {"product_uom_qty", numeric(line.quantity * factor)},
                     {"price_unit", numeric(line.price.divided(factor, 6))},
                     {"discount", 0}};
      plan.products[key] = line.product_id;
      bare.push_back({line.id, line.product_id, line.quantity.str(), line.price.str()});
      if (fields["product_id"]["match"].empty())
        refuse("product", fmt::format("There is no rule by which `{}` ({}) could be found: link it with `dragoman "
                                      "market link {} {} PRODUCT`.",
                                      line.name, line.product_id, name.connection, line.product_id));
      if (!settings.product_taxes) fields["tax_id"] = json::array();
      lines.push_back({{"key", line.id}, {"values", std::move(fields)}});
    }
    if (exact.rounded(2) != order.total.rounded(2) && rounded != order.total.rounded(2))
      refuse("total", fmt::format("The lines come to {}, and the marketplace's total is {}.", exact.fixed(2),
                                  order.total.fixed(2)));
    values["marketplace_discount_supplier"] = numeric((supplier + order.rebate).rounded(2));
    values["marketplace_discount_marketplace"] = numeric(market.rounded(2));
    json known = values;
    known["partner_id"] = plan.customer_key;
    plan.body = digest_of(dumped({{"values", known}, {"lines", bare}}));
    // What is there already just so need not be written again: most of what comes later is a new state alone, and an
    // order that has been delivered takes no lines any more. Likewise what a person has looked at and left as it is.
    alone = applied.imported && !applied.anew && (applied.settled || plan.body == applied.body);
    if (!alone && wrong) return *wrong;
    if (!alone && unsure) return *unsure;
    // How orders are made, and which product is which of ours, is of those to come: another setting or link changes
    // none that is there.
    if (settings.company > 0) values["company_id"] = settings.company;
    if (!applied.imported || applied.anew) {
      if (settings.warehouse > 0) values["warehouse_id"] = settings.warehouse;
      if (settings.pricelist > 0) values["pricelist_id"] = settings.pricelist;
      if (settings.salesperson > 0) values["user_id"] = settings.salesperson;
    }
    // Not part of the digest: another table is no reason to write an order anew that may be closed by now. Left out
    // where Odoo has no delivery methods.
    if (json carrier = carrier_of(order, settings, name); !carrier.is_null())
      values["carrier_id?"] = std::move(carrier);
  }
  if (alone) {
    if (cancels) plan.body = applied.body;
    content["values"] = json::object();
  } else {
    content["values"] = std::move(values);
    content["children"] = {{"order_line", std::move(lines)}};
    content["replace"] = json::array({"order_line"});
    content["expect"] = {{"amount_total", order.total.fixed(2)}};
    content["currency"] = settings.currency;
  }
  content["values"]["marketplace_status"] = order.status;
  content["steps"] = steps_of(order, settings);
  if (applied.anew) content["recreate"] = true;
  if (settings.partial) content["partial"] = true;
  plan.content = dumped(content);
  return plan;
}

}  // namespace dragoman::pipeline
