#include "pipeline/market_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "pipeline/market_settings.h"

namespace dragoman::pipeline {
namespace {

using Named = MarketChoices::Named;

const Named* named(const std::vector<Named>& all, std::int64_t id) {
  const auto at = std::find_if(all.begin(), all.end(), [&](const Named& one) { return one.id == id; });
  return at == all.end() ? nullptr : &*at;
}

std::string listed(const std::vector<Named>& all) {
  constexpr std::size_t kShown = 10;
  std::string out;
  for (std::size_t i = 0; i < std::min(all.size(), kShown); ++i)
    out += fmt::format("{}{} {}", i == 0 ? "" : ", ", all[i].id, all[i].name);
  if (all.size() > kShown) out += ", …";
  return out.empty() ? "none" : out;
}

}  // namespace

Connection odoo_of(Connections& connections, const ConnectorList& connectors, const nlohmann::json& settings) {
  const std::string name = settings.value("odoo", "");
  auto odoo = connections.find(name);
  if (!odoo)
    throw Error(Error::Kind::invalid,
                fmt::format("There is no connection `{}`, which the setting `odoo` names: `dragoman connection add {} "
                            "--kind odoo` makes one.",
                            name, name));
  if (!connectors.get(odoo->kind).make_book)
    throw Error(Error::Kind::invalid, fmt::format("The connection `{}`, which the setting `odoo` names, is of kind "
                                                  "`{}`: orders of marketplaces can't go there.",
                                                  name, odoo->kind));
  return *std::move(odoo);
}

void probe_choices(Probe& probe, const nlohmann::json& text, const MarketChoices& choices) {
  const auto settings = MarketplaceSettings::parse(text);
  const auto say = [&](const char* step, bool ok, std::string result) {
    probe.steps.push_back({step, std::move(result), ok});
  };
  const Named* company = settings.company == 0 ? (choices.companies.empty() ? nullptr : &choices.companies.front())
                                               : named(choices.companies, settings.company);
  if (settings.company != 0 && !company)
    say("company", false,
        fmt::format("This account sees no company {} in Odoo; there are: {}.", settings.company,
                    listed(choices.companies)));
  else if (settings.company != 0)
    say("company", true, company->name);
  const auto one = [&](const char* step, std::int64_t id, const std::vector<Named>& all) -> const Named* {
    if (id == 0) return nullptr;
    const Named* found = named(all, id);
    if (!found) {
      say(step, false, fmt::format("There is no {} {} in Odoo; there are: {}.", step, id, listed(all)));
    } else if (settings.company != 0 && found->company_id != 0 && found->company_id != settings.company) {
      say(step, false,
          fmt::format("`{}` belongs to company {}, and the connection is set to company {}.", found->name,
                      found->company_id, settings.company));
    } else {
      say(step, true, found->name);
    }
    return found;
  };
  one("warehouse", settings.warehouse, choices.warehouses);
  if (settings.warehouse == 0 && settings.send_stock && company) {
    std::vector<Named> together;
    for (const Named& each : choices.warehouses)
      if (each.company_id == company->id) together.push_back(each);
    if (together.size() > 1)
      say("warehouse", true,
          fmt::format("none is set: the stock of all {} of the company's is published together ({}), and orders go to "
                      "the one that Odoo chooses; with the setting `warehouse` both are of one",
                      together.size(), listed(together)));
  }
  const Named* pricelist = one("pricelist", settings.pricelist, choices.pricelists);
  one("salesperson", settings.salesperson, choices.salespeople);
  if (settings.pricelist != 0 && !pricelist) return;
  const Named* of = pricelist ? pricelist : company;
  if (!of) return;
  if (of->currency == settings.currency)
    say("currency", true, settings.currency);
  else
    say("currency", false,
        pricelist
            ? fmt::format("The price list `{}` is in {}, and amounts of this connection are in {}: choose a price "
                          "list in {}, or set `currency`.",
                          of->name, of->currency, settings.currency, settings.currency)
            : fmt::format("No price list is set, and the company `{}` reckons in {}, while amounts of this "
                          "connection are in {}: set `pricelist` to one in {}, or set `currency`.",
                          of->name, of->currency, settings.currency, settings.currency));
}

void probe_order_book(Probe& probe, Connections& connections, const ConnectorList& connectors, const Connection& shop,
                      Clock& clock, std::stop_token stop) {
  try {
    const Connection odoo = odoo_of(connections, connectors, shop.settings);
    if (odoo.state != "active")
      throw Error(Error::Kind::conflict, fmt::format("The connection `{}` is {}{}", odoo.name, odoo.state,
                                                     odoo.reason.empty() ? "." : ": " + odoo.reason));
    const auto book = connectors.get(odoo.kind).make_book(odoo, connections.secret(odoo), clock);
    const auto choices = book->choices(stop);
    probe.steps.push_back({"odoo", fmt::format("`{}` answers, and the procedures are there", odoo.name), true});
    probe_choices(probe, shop.settings, choices);
  } catch (const Error& error) {
    probe.steps.push_back({"odoo", error.message, false});
  }
}

}  // namespace dragoman::pipeline
