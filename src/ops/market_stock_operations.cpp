#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/market_shapes.h"
#include "ops/shapes.h"
#include "pipeline/market_catalog.h"
#include "pipeline/market_products.h"
#include "pipeline/market_stock.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;
using pipeline::MarketProductRow;
using pipeline::MarketStock;

std::vector<Field> figure_columns() {
  return {
      {.name = "id", .type = Type::integer, .doc = "the hub's number of it", .required = true},
      {.name = "product", .doc = "the marketplace's own id", .required = true},
      {.name = "name"},
      {.name = "state", .doc = "`told`, `waits`, `refused`, or `unlinked`", .required = true},
      {.name = "odoo_product", .type = Type::integer, .doc = "id of the variant in Odoo"},
      {.name = "stock", .doc = "what the marketplace took last"},
      {.name = "stock_time", .type = Type::time, .doc = "when it took it"},
      {.name = "price", .doc = "what the marketplace took last"},
      {.name = "price_time", .type = Type::time, .doc = "when it took it"},
      {.name = "waits_since", .type = Type::time, .doc = "when it was noticed that something may have changed in Odoo"},
      {.name = "error", .doc = "why the marketplace does not have what Odoo has, in a word"},
      {.name = "reason", .doc = "why, or what there is to know"},
      {.name = "stock_noticed", .type = Type::time, .doc = "when that change was noticed in Odoo", .hidden = true},
      {.name = "price_noticed", .type = Type::time, .doc = "when that change was noticed in Odoo", .hidden = true},
      {.name = "stock_there", .doc = "as the marketplace had it when its products were read last", .hidden = true},
      {.name = "price_there", .doc = "as the marketplace had it when its products were read last", .hidden = true},
      {.name = "read", .type = Type::time, .doc = "when its products were read last", .hidden = true},
      {.name = "error_since", .type = Type::time, .hidden = true},
      {.name = "flags", .type = Type::object, .doc = "what is to be sent beside stock and price", .hidden = true},
      {.name = "flags_there", .type = Type::object, .doc = "what of that it took last", .hidden = true}};
}

json figures(const MarketProductRow& row) {
  const char* state = row.state != "linked"     ? "unlinked"
                      : !row.error_code.empty() ? "refused"
                      : row.waits_since         ? "waits"
                                                : "told";
  return {{"id", row.id},
          {"product", row.external_id},
          {"name", row.name},
          {"state", state},
          {"odoo_product", row.odoo_product_id > 0 ? json(row.odoo_product_id) : json(nullptr)},
          {"stock", row.stock_sent},
          {"stock_time", time_or_null(row.stock_accepted)},
          {"price", row.price_sent},
          {"price_time", time_or_null(row.price_accepted)},
          {"waits_since", time_or_null(row.waits_since)},
          {"error", row.error_code},
          {"reason", row.error_code.empty() ? row.note : row.error},
          {"stock_noticed", time_or_null(row.stock_noticed)},
          {"price_noticed", time_or_null(row.price_noticed)},
          {"stock_there", row.stock_now},
          {"price_there", row.price_now},
          {"read", time_or_null(row.read)},
          {"error_since", time_or_null(row.error_since)},
          {"flags", row.flags},
          {"flags_there", row.flags_sent}};
}

std::vector<Operation> figure_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "market stock",
      .summary = "Shows what a marketplace was told of stock and prices, since when, and what it did not take",
      .description = "Page with `after`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = "/connections/{connection}/market/stock",
      .permission = Role::viewer,
      .inputs = {market_field(),
                 {.name = "only", .doc = "only these", .choices = {"unsent", "refused"}},
                 {.name = "text", .doc = "only with this id, code or name, exactly"},
                 {.name = "after", .type = Type::integer, .doc = "numbers above it"},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`after` of the next page"}},
                 .rows = "products",
                 .columns = figure_columns()},
      .run =
          [](Context& context, const json& input) {
            pipeline::MarketProducts::Filter filter;
            filter.connection = market_of(context, input.at("connection")).name;
            filter.only = input.value("only", "");
            if (filter.only.empty()) filter.state = "linked";
            filter.text = input.value("text", "");
            filter.after = maybe_integer(input, "after").value_or(0);
            filter.limit = input.at("limit");
            const auto found = context.services.market_products.list(filter);
            json rows = json::array();
            for (const auto& row : found) rows.push_back(figures(row));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"products", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  all.push_back({
      .name = "market resync",
      .summary = "Sends stock, price and flags of every linked product to a marketplace again",
      .description = "Also what it took before, whatever it has.",
      .method = "POST",
      .path = "/connections/{connection}/market/resync",
      .permission = Role::user,
      .inputs = {market_field(), {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"}},
      .output = {.fields = {{.name = "products", .type = Type::integer, .doc = "how many", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = active_market_of(context, input.at("connection"));
            std::int64_t count = 0;
            context.services.store.write([&](store::Session& session) {
              count = MarketStock::mark_all(session, connection.id, true, "resync by " + who_asks(context));
            });
            return dump({{"products", count}});
          },
      .slow = true,
      .status = 202,
  });
  all.push_back({
      .name = "market stock-retry",
      .summary = "Tries products again whose figures a marketplace did not take",
      .description = "They are tried again by themselves when something of them changes, and at each full look.",
      .method = "POST",
      .path = "/connections/{connection}/market/stock/retry",
      .permission = Role::user,
      .inputs = {market_field(),
                 {.name = "product", .doc = "only this one"},
                 {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"}},
      .output = {.fields = {{.name = "products", .type = Type::integer, .doc = "how many", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = active_market_of(context, input.at("connection"));
            const std::string product = input.value("product", "");
            // A slip in the id would look as if nothing were refused.
            if (!product.empty()) context.services.market_products.get(connection.id, product);
            std::int64_t count = 0;
            context.services.store.write([&](store::Session& session) {
              count = MarketStock::retry(session, connection.id, product, "retry by " + who_asks(context));
            });
            return dump({{"products", count}});
          },
      .slow = true,
      .status = 202,
  });
  all.push_back({
      .name = "market product",
      .summary = "Sets what a marketplace is told of a product beside stock and price",
      .description =
          "It goes there with the next update, and only what differs from what was taken before. What is not "
          "given stays; what `clear` names is not told any more, and stays there as it is. Only `in_stock` goes back: "
          "where the marketplace was told that the product can't be ordered, it is told once that it can.",
      .method = "PATCH",
      .path = "/connections/{connection}/market/products/{product}",
      .permission = Role::user,
      .inputs = {market_field(),
                 market_product_field(),
                 {.name = "published", .doc = "whether it is offered", .choices = {"true", "false"}},
                 {.name = "in_stock", .doc = "whether it can be ordered", .choices = {"true", "false"}},
                 {.name = "min_order", .doc = "least quantity of an order, decimal, as text"},
                 {.name = "max_order", .doc = "largest quantity of an order, decimal, as text"},
                 {.name = "code", .doc = "the supplier's own code of it, as the marketplace has it"},
                 {.name = "write_code",
                  .type = Type::boolean,
                  .doc = "the code becomes the id of the variant that it is linked to",
                  .fallback = "false"},
                 {.name = "clear",
                  .type = Type::list,
                  .doc = "names of what is not to be told any more: published, in_stock, min_order, max_order, code"}},
      .output = {.fields = figure_columns()},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            const std::string product = input.at("product");
            json changes = json::object();
            for (const char* name : {"published", "in_stock"})
              if (const std::string value = input.value(name, ""); !value.empty()) changes[name] = value == "true";
            for (const char* name : {"min_order", "max_order", "code"})
              if (const std::string value = input.value(name, ""); !value.empty()) changes[name] = value;
            for (const std::string& name : texts(input, "clear")) changes[name] = nullptr;
            auto& products = context.services.market_products;
            context.note.before = dump({{"flags", products.get(connection.id, product).flags}});
            const auto row = products.set_flags(connection.id, product, changes, input.at("write_code"));
            context.note.after = dump({{"flags", row.flags}});
            return dump(figures(row));
          },
  });
  return all;
}

std::vector<Field> proposal_columns() {
  return {{.name = "id", .type = Type::integer, .doc = "the hub's number of it", .required = true},
          {.name = "product", .doc = "the marketplace's own id", .required = true},
          {.name = "code", .doc = "the supplier's own code of it, as the marketplace has it"},
          {.name = "name"},
          {.name = "unit"},
          {.name = "unit_count", .doc = "pieces in the unit"},
          {.name = "odoo_product", .type = Type::integer, .doc = "id of the variant in Odoo, where just one fits"},
          {.name = "odoo_name"},
          {.name = "rules", .doc = "which found it"},
          {.name = "others", .doc = "products of Odoo that fit, where there are several"},
          {.name = "candidates", .type = Type::list, .doc = "all that fit", .hidden = true, .objects = true}};
}

json proposal(const MarketProductRow& row) {
  std::string rules, others;
  const bool one = row.proposals.size() == 1;
  for (const auto& candidate : row.proposals) {
    std::string by;
    for (const auto& rule : candidate.value("rules", json::array()))
      by += (by.empty() ? "" : ", ") + rule.get<std::string>();
    if (one)
      rules = by;
    else
      others += fmt::format("{}{} {} ({})", others.empty() ? "" : "; ", candidate.value("odoo_product", 0),
                            candidate.value("name", ""), by);
  }
  return {{"id", row.id},
          {"product", row.external_id},
          {"code", row.internal_code},
          {"name", row.name},
          {"unit", row.unit},
          {"unit_count", row.unit_count},
          {"odoo_product", one ? row.proposals[0].value("odoo_product", json()) : json(nullptr)},
          {"odoo_name", one ? row.proposals[0].value("name", "") : std::string()},
          {"rules", rules},
          {"others", others},
          {"candidates", row.proposals}};
}

std::vector<Operation> link_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "market catalog",
      .summary = "Reads the products of a marketplace now, not only when it is time",
      .description = "Enqueues the job that does it, and answers at once. It keeps what the marketplace has, has sent "
                     "again what differs from what it took, and proposes links: `market proposals`.",
      .method = "POST",
      .path = "/connections/{connection}/market/catalog",
      .permission = Role::user,
      .inputs = {market_field()},
      .output =
          {.fields = {{.name = "job", .type = Type::integer, .doc = "number of the job", .required = true},
                      {.name = "folded", .type = Type::boolean, .doc = "one was there already", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = active_market_of(context, input.at("connection"));
            jobs::Enqueued enqueued;
            context.services.store.write([&](store::Session& session) {
              enqueued =
                  pipeline::MarketCatalogJobs::enqueue(session, connection.id, "asked for by " + who_asks(context));
            });
            return dump({{"job", enqueued.id}, {"folded", enqueued.folded}});
          },
      .status = 202,
  });
  all.push_back({
      .name = "market proposals",
      .summary = "Lists the products of a marketplace that are not linked, and which of Odoo's each may be",
      .description =
          "By the rules of the connection: the marketplace's id in `cartona_id`, its code of the supplier's as "
          "the variant's id, as barcode, as `default_code`. Where several fit, a person says which: `market "
          "link`. Page with `after`: the `next` of the answer before.",
      .method = "GET",
      .path = "/connections/{connection}/market/proposals",
      .permission = Role::viewer,
      .inputs = {market_field(),
                 {.name = "after", .type = Type::integer, .doc = "numbers above it"},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`after` of the next page"}},
                 .rows = "products",
                 .columns = proposal_columns()},
      .run =
          [](Context& context, const json& input) {
            pipeline::MarketProducts::Filter filter;
            filter.connection = market_of(context, input.at("connection")).name;
            filter.only = "proposed";
            filter.after = maybe_integer(input, "after").value_or(0);
            filter.limit = input.at("limit");
            const auto found = context.services.market_products.list(filter);
            json rows = json::array();
            for (const auto& row : found) rows.push_back(proposal(row));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"products", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  all.push_back({
      .name = "market confirm",
      .summary = "Links a product of a marketplace as it is proposed, or all of which one product of Odoo fits",
      .description =
          "Its stock and price go to the marketplace at once, and orders that are held for want of it are tried "
          "again.",
      .method = "POST",
      .path = "/connections/{connection}/market/confirm",
      .permission = Role::user,
      .inputs = {market_field(),
                 {.name = "product", .doc = "the marketplace's id of it", .positional = true},
                 {.name = "all", .type = Type::boolean, .doc = "all with a single proposal", .fallback = "false"}},
      .output =
          {.fields =
               {{.name = "linked", .type = Type::integer, .doc = "how many were linked", .required = true},
                {.name = "ambiguous",
                 .type = Type::integer,
                 .doc = "with `all`: left, as several products fit",
                 .required = true},
                {.name = "without", .type = Type::integer, .doc = "with `all`: left, as none fits", .required = true},
                {.name = "factor_unknown",
                 .type = Type::integer,
                 .doc = "with `all`: left, as they are sold in boxes and nobody has said how many of Odoo's units "
                        "one is: `market link --factor`, or the setting `unit_factor`",
                 .required = true},
                {.name = "retried",
                 .type = Type::integer,
                 .doc = "orders that were held and are tried again",
                 .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            const std::string product = input.value("product", "");
            const bool all = input.at("all");
            if (product.empty() == !all)
              throw Error(Error::Kind::invalid, "Name a product, or give `all`, and not both.");
            const auto confirmed = context.services.market_products.confirm(
                connection.id, product, context.caller, pipeline::MarketplaceSettings::parse(connection.settings));
            const auto retried =
                confirmed.linked.empty()
                    ? 0
                    : retry_products(context, connection.name, "products were linked by " + who_asks(context));
            return dump({{"linked", confirmed.linked.size()},
                         {"ambiguous", confirmed.ambiguous},
                         {"without", confirmed.without},
                         {"factor_unknown", confirmed.factor_unknown},
                         {"retried", retried}});
          },
      .slow = true,
  });
  all.push_back({
      .name = "market export",
      .summary = "Gives the links of a marketplace's products as a table for a spreadsheet",
      .description =
          "CSV with a line of column names. Changed there, `market import-csv` takes it in again. `dragoman market "
          "export shop1 > links.csv`.",
      .method = "GET",
      .path = "/connections/{connection}/market/links",
      .permission = Role::viewer,
      .inputs = {market_field()},
      .output = {.fields = {{.name = "csv", .doc = "the table", .required = true}}, .plain = "csv"},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            return dump({{"csv", context.services.market_products.export_csv(connection.name)}});
          },
      .slow = true,
  });
  all.push_back({
      .name = "market import-csv",
      .summary = "Takes in a table of links that was changed in a spreadsheet",
      .description =
          "By the column `product`; read are besides `odoo_product`, `factor`, `state` (`ignored`: none of ours), "
          "`published`, `in_stock`, `min_order` and `max_order`. An empty cell leaves things as they are. It is looked "
          "through as a whole first: if a line is wrong, nothing of it is taken in and every wrong line is named. Odoo "
          "is "
          "asked whether the variants are there and not archived; while it can't be asked, nothing is taken in.",
      .method = "POST",
      .path = "/connections/{connection}/market/links",
      .permission = Role::user,
      .inputs = {market_field(), {.name = "file", .doc = "the table", .required = true, .file = true}},
      .output = {.fields = {{.name = "rows", .type = Type::integer, .doc = "lines of the table", .required = true},
                            {.name = "linked", .type = Type::integer, .doc = "links that are new", .required = true},
                            {.name = "flagged",
                             .type = Type::integer,
                             .doc = "products whose flags changed",
                             .required = true},
                            {.name = "ignored",
                             .type = Type::integer,
                             .doc = "products that are none of ours now",
                             .required = true},
                            {.name = "retried",
                             .type = Type::integer,
                             .doc = "orders that were held and are tried again",
                             .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            const auto done = context.services.market_products.import_csv(
                connection.id, input.at("file").get_ref<const std::string&>(), context.caller,
                [&](const std::set<std::int64_t>& ids) { return unusable_products(context, connection, ids); },
                pipeline::MarketplaceSettings::parse(connection.settings));
            const auto retried =
                done.linked == 0
                    ? 0
                    : retry_products(context, connection.name, "a table of links was taken in by " + who_asks(context));
            return dump({{"rows", done.rows},
                         {"linked", done.linked},
                         {"flagged", done.flagged},
                         {"ignored", done.ignored},
                         {"retried", retried}});
          },
      .slow = true,
  });
  return all;
}

}  // namespace

std::vector<Operation> market_stock_operations() {
  auto all = figure_operations();
  for (auto& operation : link_operations()) all.push_back(std::move(operation));
  return all;
}

}  // namespace dragoman::ops
