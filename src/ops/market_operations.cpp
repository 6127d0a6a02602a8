#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "jobs/board.h"
#include "jobs/breaker.h"
#include "ops/catalog.h"
#include "ops/market_shapes.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/market_content.h"
#include "pipeline/market_day.h"
#include "pipeline/market_factor.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_products.h"
#include "pipeline/market_stock.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;
using pipeline::MarketOrderRow;
using pipeline::MarketOrders;

std::vector<Field> order_columns() {
  return {
      {.name = "id", .type = Type::integer, .doc = "the hub's number of it", .required = true},
      {.name = "connection", .required = true},
      {.name = "order", .doc = "the marketplace's own id", .required = true},
      {.name = "number", .doc = "what people call it"},
      {.name = "customer"},
      {.name = "total", .doc = "decimal, as text", .required = true},
      {.name = "currency", .hidden = true},
      {.name = "status", .doc = "the marketplace's word"},
      {.name = "state",
       .doc =
           "`new`, `held`, `imported`, `cancelled` (nothing of it is left to do), `ignored` (it never came to Odoo), "
           "or `closed` (a person does not want it there)",
       .required = true},
      {.name = "odoo", .doc = "Odoo's name or id of it"},
      {.name = "odoo_state", .doc = "what Odoo says, where that is known"},
      {.name = "delivered_by"},
      {.name = "sync_status", .doc = "`not_synced`, `syncing`, `synced` or `error`", .required = true},
      {.name = "hold", .doc = "why it is held, in a word"},
      {.name = "reason", .doc = "why it is held, or who has closed it and why"},
      {.name = "flag", .doc = "what a person should see to, in a word"},
      {.name = "flag_reason", .doc = "what a person should see to", .hidden = true},
      {.name = "means", .doc = "what the marketplace's word means: `pending`, `approved`, …", .hidden = true},
      {.name = "acknowledged", .type = Type::time, .doc = "when the marketplace was told", .hidden = true},
      {.name = "payment", .hidden = true},
      {.name = "needs_otp",
       .type = Type::boolean,
       .doc = "to call it delivered takes a code that the shop has",
       .hidden = true},
      {.name = "version", .type = Type::integer, .doc = "how often it changed", .hidden = true},
      {.name = "odoo_id", .type = Type::integer, .hidden = true},
      {.name = "odoo_total", .hidden = true},
      {.name = "sync_code", .doc = "why the marketplace is not told, in a word", .hidden = true},
      {.name = "sync_message", .hidden = true},
      {.name = "synced", .type = Type::time, .doc = "when it was told last, or refused", .hidden = true},
      {.name = "should_be", .doc = "what it is to be told: `pending`, `approved`, …", .hidden = true},
      {.name = "told", .doc = "what it was told last, and took", .hidden = true},
      {.name = "ordered", .type = Type::time, .hidden = true},
      {.name = "seen", .type = Type::time, .doc = "first", .required = true},
      {.name = "changed", .type = Type::time, .hidden = true},
      {.name = "held_since", .type = Type::time, .hidden = true},
      {.name = "next_try", .type = Type::time, .doc = "of one that is held", .hidden = true},
      {.name = "closed", .type = Type::time, .doc = "when a person closed it", .hidden = true},
      {.name = "imported", .type = Type::time, .hidden = true}};
}

json shape(const MarketOrderRow& row) {
  const bool held = row.state == "held";
  return {{"id", row.id},
          {"connection", row.connection},
          {"order", row.external_id},
          {"number", row.number},
          {"customer", row.customer},
          {"total", row.total},
          {"currency", row.currency},
          {"status", row.status_now},
          {"state", row.state},
          {"odoo", !row.odoo_name.empty() ? row.odoo_name
                   : row.odoo_id > 0      ? fmt::format("sale.order:{}", row.odoo_id)
                                          : std::string()},
          {"odoo_state", row.odoo_state},
          {"delivered_by", row.delivered_by},
          {"sync_status", row.sync_status},
          {"hold", held ? row.hold_code : ""},
          {"reason", held ? row.hold_message : row.closed_why},
          {"flag", row.flag},
          {"flag_reason", row.flag_message},
          {"means", row.means_now},
          {"acknowledged", row.ack == "sent" ? time_or_null(row.acked) : json(nullptr)},
          {"payment", row.payment},
          {"needs_otp", row.needs_otp},
          {"version", row.version},
          {"odoo_id", row.odoo_id > 0 ? json(row.odoo_id) : json(nullptr)},
          {"odoo_total", row.odoo_total},
          {"sync_code", row.sync_code},
          {"sync_message", row.sync_message},
          {"synced", time_or_null(row.synced)},
          {"should_be", row.derived_status},
          {"told", row.accepted_status},
          {"ordered", time_or_null(row.ordered)},
          {"seen", format_iso(row.seen)},
          {"changed", format_iso(row.changed)},
          {"held_since", held ? time_or_null(row.held_since) : json(nullptr)},
          {"next_try", held ? time_or_null(row.hold_next) : json(nullptr)},
          {"closed", time_or_null(row.closed)},
          {"imported", time_or_null(row.imported)}};
}

Field order_field() {
  return {.name = "order",
          .doc = "the marketplace's id or number of it, or the hub's own",
          .required = true,
          .positional = true};
}

Field hold_field() {
  return {.name = "hold", .doc = "only what is held for this reason, as `market holds` names it"};
}

// What a person says, or what the connection's setting says of boxes; who links one has to say the other.
Decimal factor_given(Context& context, const pipeline::Connection& connection, const std::string& product,
                     const std::string& given) {
  if (!given.empty()) return pipeline::market_factor(given);
  pipeline::MarketProductRow row;
  try {
    row = context.services.market_products.get(connection.id, product);
  } catch (const Error&) {
    return 1;  // never seen: whether it may be linked says `link`
  }
  const auto count = Decimal::parse(row.unit_count).value_or(1);
  if (const auto said = pipeline::MarketplaceSettings::parse(connection.settings).factor_of(count)) return *said;
  throw Error(Error::Kind::invalid, pipeline::factor_unknown(row.name, product, row.unit, count, connection.name));
}

// What holds orders, but for Odoo's own errors, whose names are its own.
const std::vector<std::string>& hold_words() {
  static const std::vector<std::string> words{"import_notmatched",
                                              "import_ambiguous",
                                              "import_total",
                                              "import_currency",
                                              "import_stock",
                                              "import_field",
                                              "import_deleted",
                                              "import_closed",
                                              "import_quantity",
                                              "import_children",
                                              "import_reference",
                                              "import_refused",
                                              "import_item",
                                              "reopened",
                                              "unknown_state",
                                              "editing",
                                              "order",
                                              "lines",
                                              "customer",
                                              "product",
                                              "factor",
                                              "total",
                                              "decimal",
                                              "conflict",
                                              "invalid",
                                              "forbidden",
                                              "not_found"};
  return words;
}

// A slip in the word would look as if nothing were held.
void check_hold(Context& context, const std::string& word) {
  const auto& words = hold_words();
  if (word.empty() || std::find(words.begin(), words.end(), word) != words.end()) return;
  auto known = words;
  for (const auto& group : context.services.market.holds("")) {
    if (group.code == word) return;
    if (std::find(known.begin(), known.end(), group.code) == known.end()) known.push_back(group.code);
  }
  Error error(Error::Kind::invalid,
              fmt::format("`hold` is one of {}, and `{}` is none of them. `dragoman market holds` "
                          "lists those that hold orders now.",
                          fmt::join(known, ", "), word));
  error.code = "input";
  throw error;
}

std::vector<Field> product_columns() {
  return {{.name = "id", .type = Type::integer, .doc = "the hub's number of it", .required = true},
          {.name = "connection", .required = true},
          {.name = "product", .doc = "the marketplace's own id", .required = true},
          {.name = "code", .doc = "the supplier's own code of it, as the marketplace has it"},
          {.name = "name"},
          {.name = "unit"},
          {.name = "unit_count", .doc = "pieces in the unit", .hidden = true},
          {.name = "state",
           .doc = "`proposed` (the rules find it, or nobody has linked it), `linked`, or `ignored`",
           .required = true},
          {.name = "odoo_product", .type = Type::integer, .doc = "id of the variant in Odoo"},
          {.name = "factor", .doc = "Odoo's units in one of the marketplace's, decimal, as text", .required = true},
          {.name = "how", .doc = "the rule that found it, or `person:` and who linked it"},
          {.name = "changed", .type = Type::time, .hidden = true}};
}

json shape(const pipeline::MarketProductRow& row) {
  return {{"id", row.id},
          {"connection", row.connection},
          {"product", row.external_id},
          {"code", row.internal_code},
          {"name", row.name},
          {"unit", row.unit},
          {"unit_count", row.unit_count},
          {"state", row.state},
          {"odoo_product", row.odoo_product_id > 0 ? json(row.odoo_product_id) : json(nullptr)},
          {"factor", row.factor},
          {"how", row.how},
          {"changed", format_iso(row.changed)}};
}

std::vector<Operation> product_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "market products",
      .summary = "Lists the products of marketplaces, and which of Odoo's each is",
      .description = "Those that were on orders, or that `market catalog` has read. Page with `after`: the `next` of "
                     "the answer before. `next` is null "
                     "on the last page.",
      .method = "GET",
      .path = "/market/products",
      .permission = Role::viewer,
      .inputs = {{.name = "connection", .doc = "only of this connection"},
                 {.name = "state", .doc = "only these", .choices = {"proposed", "linked", "ignored"}},
                 {.name = "text", .doc = "only with this id, code or name, exactly"},
                 {.name = "after", .type = Type::integer, .doc = "numbers above it"},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`after` of the next page"}},
                 .rows = "products",
                 .columns = product_columns()},
      .run =
          [](Context& context, const json& input) {
            pipeline::MarketProducts::Filter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) market_of(context, filter.connection);
            filter.state = input.value("state", "");
            filter.text = input.value("text", "");
            filter.after = maybe_integer(input, "after").value_or(0);
            filter.limit = input.at("limit");
            const auto found = context.services.market_products.list(filter);
            json rows = json::array();
            for (const auto& row : found) rows.push_back(shape(row));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"products", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  auto linked = product_columns();
  linked.push_back({.name = "retried", .type = Type::integer, .doc = "orders that were held and are tried again"});
  all.push_back({
      .name = "market link",
      .summary = "Says which product of Odoo a marketplace's product is",
      .description = "It goes before every rule. Orders that are held for want of it are tried again at once. Odoo is "
                     "asked first whether the variant is there and not archived; while Odoo can't be asked, nothing is "
                     "linked.",
      .method = "POST",
      .path = "/connections/{connection}/market/products/{product}/link",
      .permission = Role::user,
      .inputs = {market_field(),
                 market_product_field(),
                 {.name = "odoo_product",
                  .type = Type::integer,
                  .doc = "id of the variant in Odoo",
                  .required = true,
                  .min = 1,
                  .max = 2'147'483'647,
                  .positional = true},
                 {.name = "factor",
                  .doc = "Odoo's units in one of the marketplace's, 0.0001 to 1000000: quantities times it, prices "
                         "divided by it; 1 if it is left out, but for a product that is sold in boxes: then it is "
                         "what the setting `unit_factor` says"},
                 {.name = "unit_count",
                  .doc = "with `factor`: of which package that is said, where the product is or was sold in several; "
                         "the one that the marketplace lists it in, if it is left out"}},
      .output = {.fields = linked},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            pipeline::MarketProducts::Link link;
            link.product = input.at("product");
            link.odoo_product_id = input.at("odoo_product");
            const std::string package = input.value("unit_count", "");
            if (!package.empty()) {
              link.unit_count = Decimal::parse(package);
              if (!link.unit_count || *link.unit_count <= Decimal(0) || input.value("factor", "").empty())
                throw Error(Error::Kind::invalid,
                            fmt::format("`unit_count` is how many are in the package that `factor` is said of: a "
                                        "number above 0, and given with `factor`. This is `{}`.",
                                        package));
            }
            link.factor = factor_given(context, connection, link.product, input.value("factor", std::string()));
            for (const auto& [id, wrong] : unusable_products(context, connection, {link.odoo_product_id}))
              throw Error(Error::Kind::invalid, wrong);
            const auto row = context.services.market_products.link(connection.id, link, context.caller);
            json answer = shape(row);
            answer["retried"] = retry_products(context, connection.name,
                                               fmt::format("`{}` was linked by {}", link.product, who_asks(context)));
            return dump(answer);
          },
      .slow = true,
  });
  all.push_back({
      .name = "market unlink",
      .summary = "Leaves a marketplace's product to the rules again, or marks it as none of ours",
      .description = "Orders that are in Odoo stay as they are.",
      .method = "POST",
      .path = "/connections/{connection}/market/products/{product}/unlink",
      .permission = Role::user,
      .inputs = {market_field(),
                 market_product_field(),
                 {.name = "ignore",
                  .type = Type::boolean,
                  .doc = "it is none of ours: an order that has it is held",
                  .fallback = "false"}},
      .output = {.fields = linked},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            const std::string product = input.at("product");
            const bool ignore = input.at("ignore");
            const auto row = context.services.market_products.unlink(connection.id, product, ignore, context.caller);
            json answer = shape(row);
            answer["retried"] =
                ignore ? 0
                       : retry_products(context, connection.name,
                                        fmt::format("`{}` was unlinked by {}", product, who_asks(context)));
            return dump(answer);
          },
      .slow = true,
  });
  return all;
}

}  // namespace

std::vector<Operation> market_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "market orders",
      .summary = "Lists the orders of marketplaces, the newest first",
      .description = "Page with `before`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = "/market/orders",
      .permission = Role::viewer,
      .inputs =
          {{.name = "connection", .doc = "only of this connection"},
           {.name = "state",
            .doc = "only these",
            .choices = {"new", "held", "imported", "cancelled", "ignored", "closed"}},
           {.name = "means",
            .doc = "only where the marketplace's state means this",
            .choices = {"pending", "editing", "approved", "assigned", "delivered", "cancelled", "returned", "unknown"}},
           {.name = "delivered_by", .doc = "only these", .choices = {"delivered_by_supplier", "delivered_by_cartona"}},
           {.name = "sync_status", .doc = "only these", .choices = {"not_synced", "syncing", "synced", "error"}},
           {.name = "waiting_for",
            .doc = "`code`: only those whose status waits for the code that the shop has: `market otp` takes it",
            .choices = {"code"}},
           {.name = "odoo_state",
            .doc = "only those that Odoo has in this state; `deleted`: somebody deleted it there",
            .choices = {"draft", "sent", "sale", "done", "cancel", "deleted"}},
           hold_field(),
           {.name = "text", .doc = "only with this number, id, customer or name in Odoo, exactly"},
           {.name = "flagged", .type = Type::boolean, .doc = "only what a person should see to", .fallback = "false"},
           {.name = "before", .type = Type::integer, .doc = "numbers below it"},
           limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`before` of the next page"}},
                 .rows = "orders",
                 .columns = order_columns()},
      .run =
          [](Context& context, const json& input) {
            MarketOrders::Filter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) market_of(context, filter.connection);
            filter.state = input.value("state", "");
            filter.market_state = input.value("means", "");
            filter.delivered_by = input.value("delivered_by", "");
            filter.sync_status = input.value("sync_status", "");
            filter.wants_code = input.value("waiting_for", "") == "code";
            filter.odoo_state = input.value("odoo_state", "");
            filter.hold_code = input.value("hold", "");
            check_hold(context, filter.hold_code);
            if (!filter.hold_code.empty() && filter.state != "held") {
              if (!filter.state.empty())
                throw Error(
                    Error::Kind::invalid,
                    fmt::format("`hold` is about orders that are held, and `state` asks for others (`{}`): give "
                                "one of the two.",
                                filter.state));
              filter.state = "held";
            }
            filter.text = input.value("text", "");
            filter.flagged = input.at("flagged");
            filter.before = maybe_integer(input, "before").value_or(0);
            filter.limit = input.at("limit");
            const auto found = context.services.market.list(filter);
            json rows = json::array();
            for (const auto& row : found) rows.push_back(shape(row));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"orders", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  auto columns = order_columns();
  for (auto& column : columns) column.hidden = false;
  all.push_back({
      .name = "market order",
      .summary = "Shows an order of a marketplace, and what happened to it",
      .description = "Its versions, byte for byte, are the records of the model `order`: `dragoman record history "
                     "CONNECTION order ID`, with the hub's number of it.",
      .method = "GET",
      .path = "/connections/{connection}/orders/{order}",
      .permission = Role::viewer,
      .inputs = {market_field(), order_field()},
      .output =
          {.fields = columns,
           .rows = "story",
           .columns =
               {{.name = "at", .type = Type::time, .required = true},
                {.name = "what",
                 .doc = "`version`, `held`, `imported`, `recorded`, `acknowledged`, `retry`, `resolved`, "
                        "`closed`, `opened`, `told`, `not_told`, `code`, `customer`, `contact`, `settled`, `flagged`",
                 .required = true},
                {.name = "message", .required = true},
                {.name = "job", .type = Type::integer, .doc = "which did it"}}},
      .run =
          [](Context& context, const json& input) {
            market_of(context, input.at("connection"));
            const auto row = context.services.market.get(input.at("connection"), input.at("order"));
            json story = json::array();
            for (const auto& event : context.services.market.story(row.id))
              story.push_back({{"at", format_iso(event.at)},
                               {"what", event.what},
                               {"message", event.message},
                               {"job", event.job_id > 0 ? json(event.job_id) : json(nullptr)}});
            json answer = shape(row);
            answer["story"] = std::move(story);
            return dump(answer);
          },
  });
  all.push_back({
      .name = "market resolve",
      .summary = "Takes the flag off an order that a person has seen to",
      .description =
          "For what the hub leaves to people: goods that came back, an order that was cancelled at the marketplace "
          "after it was delivered or invoiced, one that is delivered there and was cancelled in Odoo, another address "
          "or phone of a shop whose order is in Odoo already, one that is delivered for another total. `market orders "
          "--flagged` lists them. The order's story "
          "keeps it.",
      .method = "POST",
      .path = "/connections/{connection}/orders/{order}/resolve",
      .permission = Role::user,
      .inputs = {market_field(),
                 order_field(),
                 {.name = "note", .doc = "what was done, for those who wonder later", .fallback = R"("")"}},
      .output = {.fields = order_columns()},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            const auto row = context.services.market.get(connection.name, input.at("order"));
            context.services.market.resolve(row, who_asks(context), input.at("note"));
            return dump(shape(context.services.market.get(connection.name, row.external_id)));
          },
      .slow = true,
  });
  all.push_back({
      .name = "market close",
      .summary = "Closes an order that nobody wants in Odoo: it is not imported any more, and nothing waits for it",
      .description =
          "Of an order that is held, on its way, or was deleted in Odoo. The marketplace is told that it was taken in, "
          "so that it does not list it forever; what is to become of it there is decided there. A later version of it "
          "is kept, and opens it not: `market retry --order` does. An order that is in Odoo is cancelled there "
          "instead.",
      .method = "POST",
      .path = "/connections/{connection}/orders/{order}/close",
      .permission = Role::manager,
      .inputs = {market_field(),
                 order_field(),
                 {.name = "reason", .doc = "why, for those who wonder later", .required = true}},
      .output = {.fields = order_columns()},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            auto& market = context.services.market;
            const auto row = market.get(connection.name, input.at("order"));
            const auto name = context.services.marketplaces.peek(connection.id).name();
            const std::string why = input.at("reason");
            market.close(row, name.order_key(row.external_id), who_asks(context), why);
            const jobs::Act act{.who = who_asks(context), .why = "the order was closed: " + why};
            for (const auto& one : market.unfinished(row)) {
              try {
                if (one.dead)
                  context.services.jobs.discard(one.job_id, act);
                else
                  context.services.jobs.cancel(one.job_id, act);
              } catch (const Error& error) {
                if (error.kind != Error::Kind::conflict && error.kind != Error::Kind::not_found) throw;
                ignore_error("it has ended meanwhile", error);
              }
            }
            context.note.subject = connection.name + ":" + row.external_id;
            context.note.before = dump({{"state", row.state}, {"hold", row.hold_code}});
            context.note.after = dump({{"state", "closed"}});
            return dump(shape(market.get(connection.name, row.external_id)));
          },
      .slow = true,
  });
  all.push_back({
      .name = "market settle",
      .summary =
          "Leaves an order as it is in Odoo, where what the marketplace says of it by now can't or shall not go in",
      .description =
          "Of an order that is in Odoo and held: its lines changed after it was delivered, say, and somebody has seen "
          "to it. What the marketplace says of it now counts as dealt with, and its state alone is done in Odoo; the "
          "marketplace is told that it was taken in. Another change of its lines is tried as ever. What differs stays "
          "different, the total as well.",
      .method = "POST",
      .path = "/connections/{connection}/orders/{order}/settle",
      .permission = Role::manager,
      .inputs = {market_field(),
                 order_field(),
                 {.name = "reason", .doc = "why, for those who wonder later", .required = true}},
      .output = {.fields = order_columns()},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            auto& market = context.services.market;
            const auto row = market.get(connection.name, input.at("order"));
            market.settle(row, who_asks(context), input.at("reason"));
            context.note.subject = connection.name + ":" + row.external_id;
            context.note.before = dump({{"state", row.state}, {"hold", row.hold_code}});
            context.note.after = dump({{"settled", row.version}});
            return dump(shape(market.get(connection.name, row.external_id)));
          },
  });
  all.push_back({
      .name = "market pull",
      .summary = "Asks a marketplace for its orders now, not only when it is time",
      .description =
          "Enqueues the job that does it, and answers at once. Where one waits or runs already, that one serves.",
      .method = "POST",
      .path = "/connections/{connection}/market/pull",
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
                  pipeline::MarketJobs::enqueue_pull(session, connection.id, "asked for by " + who_asks(context));
            });
            return dump({{"job", enqueued.id}, {"folded", enqueued.folded}});
          },
      .status = 202,
  });
  all.push_back({
      .name = "market holds",
      .summary = "Lists what holds orders back, like with like, and how many each",
      .description =
          "Mend the cause once, then `market retry --hold` tries all of a kind again. They are tried again by "
          "themselves, too, ever more seldom, up to once an hour.",
      .method = "GET",
      .path = "/market/holds",
      .permission = Role::viewer,
      .inputs = {{.name = "connection", .doc = "only of this connection"}},
      .output = {.rows = "holds",
                 .columns = {{.name = "connection", .required = true},
                             {.name = "hold", .doc = "the reason, in a word", .required = true},
                             {.name = "orders", .type = Type::integer, .doc = "how many", .required = true},
                             {.name = "oldest", .type = Type::time, .doc = "since when the first of them"},
                             {.name = "example", .doc = "the one that waits longest", .required = true},
                             {.name = "reason", .doc = "why that one is held", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const std::string connection = input.value("connection", "");
            if (!connection.empty()) market_of(context, connection);
            json rows = json::array();
            for (const auto& group : context.services.market.holds(connection))
              rows.push_back({{"connection", group.connection},
                              {"hold", group.code},
                              {"orders", group.orders},
                              {"oldest", time_or_null(group.oldest)},
                              {"example", group.example},
                              {"reason", group.message}});
            return dump({{"holds", rows}});
          },
  });
  all.push_back({
      .name = "market retry",
      .summary = "Tries orders again that are held: one, all of a kind, or all of a marketplace",
      .description =
          "An order that is named is brought into Odoo once more, held or not: what Odoo has of it already is left as "
          "it is. One that a person has closed is open again. One that was deleted in Odoo is made there anew only "
          "with "
          "`anew`, and then once.",
      .method = "POST",
      .path = "/connections/{connection}/market/retry",
      .permission = Role::user,
      .inputs = {market_field(),
                 {.name = "order", .doc = "only this one: its id or number"},
                 hold_field(),
                 {.name = "anew",
                  .type = Type::boolean,
                  .doc = "with `order`: make it anew in Odoo, where somebody has deleted it",
                  .fallback = "false"},
                 {.name = "reason", .doc = "why, for those who wonder later", .fallback = R"("")"}},
      .output = {.fields = {{.name = "orders", .type = Type::integer, .doc = "how many", .required = true}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = market_of(context, input.at("connection"));
            const std::string order = input.value("order", ""), hold = input.value("hold", "");
            if (!order.empty() && !hold.empty()) throw Error(Error::Kind::invalid, "Give `order` or `hold`, not both.");
            check_hold(context, hold);
            const bool anew = input.at("anew");
            if (anew && order.empty())
              throw Error(Error::Kind::invalid, "`anew` is about one order: give `order` with it.");
            std::int64_t id = 0;
            if (!order.empty()) {
              const auto row = context.services.market.get(connection.name, order);
              id = row.id;
              // To make anew what is there would write it as the marketplace has it, over what people did to it.
              if (anew && !row.is_deleted() && row.hold_code != "import_deleted")
                throw Error(
                    Error::Kind::conflict,
                    fmt::format("Nothing is known of the order {0} having been deleted in Odoo, which is looked "
                                "at once a minute: `dragoman market retry {1} --order {0}` finds out.",
                                row.external_id, connection.name));
            }
            const std::string why = input.value("reason", "");
            const auto count = context.services.market.retry(
                connection.name, hold, id,
                fmt::format("by {}{}{}{}", who_asks(context), anew ? ", to be made anew" : "", why.empty() ? "" : ": ",
                            why),
                anew);
            return dump({{"orders", count}});
          },
      .slow = true,
  });
  all.push_back({
      .name = "market status",
      .summary = "Shows how the orders and products of each marketplace stand",
      .method = "GET",
      .path = "/market/status",
      .permission = Role::viewer,
      .output = {.rows = "connections",
                 .columns = {{.name = "connection", .required = true},
                             {.name = "state", .doc = "of the connection", .required = true},
                             {.name = "pulled", .type = Type::time, .doc = "when the last complete pull began"},
                             {.name = "waiting",
                              .type = Type::integer,
                              .doc = "orders on their way to Odoo",
                              .required = true},
                             {.name = "held", .type = Type::integer, .doc = "orders that are held", .required = true},
                             {.name = "acknowledgements",
                              .type = Type::integer,
                              .doc = "that the marketplace has not had yet",
                              .required = true},
                             {.name = "flagged",
                              .type = Type::integer,
                              .doc = "orders with something that a person should see to",
                              .required = true},
                             {.name = "oldest_waiting", .type = Type::time},
                             {.name = "oldest_held", .type = Type::time},
                             {.name = "unsent",
                              .type = Type::integer,
                              .doc = "products whose stock or price may be other than the marketplace's",
                              .required = true},
                             {.name = "oldest_unsent", .type = Type::time, .doc = "since when the first of them"},
                             {.name = "refused",
                              .type = Type::integer,
                              .doc = "products whose figures it does not have: `market stock --only refused`",
                              .required = true},
                             {.name = "not_told",
                              .type = Type::integer,
                              .doc = "orders whose status it did not take: `market orders --sync-status error`",
                              .required = true},
                             {.name = "waiting_for_code",
                              .type = Type::integer,
                              .doc = "orders that wait for the code of a shop: `market orders --waiting-for code`",
                              .required = true},
                             {.name = "away_since",
                              .type = Type::time,
                              .doc = "since when the marketplace does not answer, or refuses the token"},
                             {.name = "away_reason", .doc = "what came of the last call to it"},
                             {.name = "next_call",
                              .type = Type::time,
                              .doc = "when it is called next; null though it is away: when a person has acted"},
                             {.name = "reason", .doc = "why the connection is not active"},
                             {.name = "trouble", .doc = "why what changes in its Odoo can't be seen at the moment"}}},
      .run =
          [](Context& context, const json&) {
            std::map<std::int64_t, pipeline::MarketStock::Standing> stock;
            context.services.store.read(
                [&](store::Session& session) { stock = pipeline::MarketStock::standings(session); });
            auto standings = context.services.market.standings();
            // One that was never read to its end has no orders, and may be in trouble all the same.
            for (const auto& connection : context.services.connections.list()) {
              const auto is = [&](const MarketOrders::Standing& one) { return one.connection_id == connection.id; };
              if (!context.services.connectors.get(connection.kind).make_marketplace ||
                  std::any_of(standings.begin(), standings.end(), is))
                continue;
              auto& one = standings.emplace_back();
              one.connection_id = connection.id;
              one.connection = connection.name;
              one.connection_state = connection.state;
              one.reason = connection.reason;
            }
            std::map<std::int64_t, jobs::breaker::Status> away;
            context.services.store.read([&](store::Session& session) {
              away.clear();
              for (const auto& one : standings)
                if (auto status = jobs::breaker::status(session, one.connection_id))
                  away.emplace(one.connection_id, *std::move(status));
            });
            json rows = json::array();
            for (const auto& one : standings) {
              rows.push_back({{"connection", one.connection},
                              {"state", one.connection_state},
                              {"pulled", time_or_null(one.pulled)},
                              {"waiting", one.waiting},
                              {"held", one.held},
                              {"acknowledgements", one.due_acks},
                              {"flagged", one.flagged},
                              {"oldest_waiting", time_or_null(one.oldest_waiting)},
                              {"oldest_held", time_or_null(one.oldest_held)},
                              {"unsent", stock[one.connection_id].unsent},
                              {"oldest_unsent", time_or_null(stock[one.connection_id].oldest_unsent)},
                              {"refused", stock[one.connection_id].refused},
                              {"not_told", one.not_told},
                              {"waiting_for_code", one.wants_code},
                              {"away_since", nullptr},
                              {"away_reason", ""},
                              {"next_call", nullptr},
                              {"reason", one.reason},
                              {"trouble", one.trouble}});
              const auto found = away.find(one.connection_id);
              if (found == away.end()) continue;
              const auto& status = found->second;
              rows.back()["away_since"] = format_iso(status.since);
              rows.back()["away_reason"] = status.message;
              if (status.state != jobs::breaker::State::held) rows.back()["next_call"] = format_iso(status.until);
            }
            return dump({{"connections", rows}});
          },
  });
  all.push_back({
      .name = "market day",
      .summary = "Shows how each marketplace did over the last hours: orders, success, times",
      .method = "GET",
      .path = "/market/day",
      .permission = Role::viewer,
      .inputs = {{.name = "hours", .type = Type::integer, .doc = "how many", .fallback = "24", .min = 1, .max = 8760}},
      .output =
          {.fields = {{.name = "since", .type = Type::time, .required = true}},
           .rows = "connections",
           .columns =
               {{.name = "connection", .required = true},
                {.name = "orders", .type = Type::integer, .doc = "seen for the first time", .required = true},
                {.name = "imported",
                 .type = Type::integer,
                 .doc = "of them, in Odoo by now or with nothing to do there",
                 .required = true},
                {.name = "success", .doc = "the share of those, in percent, as text; null: there were none"},
                {.name = "by_supplier", .type = Type::integer, .doc = "that the supplier delivers", .required = true},
                {.name = "by_market", .type = Type::integer, .doc = "that the marketplace delivers", .required = true},
                {.name = "median_ms", .type = Type::integer, .doc = "from first seen to in Odoo"},
                {.name = "p95_ms", .type = Type::integer, .doc = "the same, of 95 in 100"},
                {.name = "told",
                 .type = Type::integer,
                 .doc = "orders whose newest status the marketplace took in that time",
                 .required = true},
                {.name = "runs", .type = Type::integer, .doc = "entries of the sync log", .required = true},
                {.name = "runs_failed",
                 .type = Type::integer,
                 .doc = "of them, with errors: `sync log NAME --outcome failed`, and `--outcome errors`",
                 .required = true}}},
      .run =
          [](Context& context, const json& input) {
            Time since{};
            context.services.store.read([&](store::Session& session) {
              since = session.now() - std::chrono::hours(input.at("hours").get<int>());
            });
            json rows = json::array();
            for (const auto& day : pipeline::market_days(context.services.store, since)) {
              json success;
              if (day.orders > 0)
                success =
                    fmt::format("{:.1f}", 100.0 * static_cast<double>(day.imported) / static_cast<double>(day.orders));
              rows.push_back({{"connection", day.connection},
                              {"orders", day.orders},
                              {"imported", day.imported},
                              {"success", success},
                              {"by_supplier", day.orders - day.by_market},
                              {"by_market", day.by_market},
                              {"median_ms", day.median ? json(day.median->count() / 1000) : json()},
                              {"p95_ms", day.p95 ? json(day.p95->count() / 1000) : json()},
                              {"told", day.told},
                              {"runs", day.runs},
                              {"runs_failed", day.runs_failed}});
            }
            return dump({{"since", format_iso(since)}, {"connections", rows}});
          },
  });
  for (auto& operation : product_operations()) all.push_back(std::move(operation));
  return all;
}

}  // namespace dragoman::ops
