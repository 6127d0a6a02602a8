#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/trace.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;
using pipeline::Traces;

std::vector<Field> trace_columns() {
  return {{.name = "id", .type = Type::integer, .required = true},
          {.name = "at", .type = Type::time, .doc = "when the call began", .required = true},
          {.name = "connection", .required = true},
          {.name = "method", .required = true},
          {.name = "target", .required = true},
          {.name = "status", .type = Type::integer, .doc = "null: no answer came"},
          {.name = "error", .doc = "why none came"},
          {.name = "took_ms", .type = Type::integer, .required = true},
          {.name = "request_bytes", .type = Type::integer, .required = true, .hidden = true},
          {.name = "response_bytes", .type = Type::integer, .required = true, .hidden = true}};
}

json shape(const Traces::Row& row) {
  return {{"id", row.id},
          {"at", format_iso(row.exchange.at)},
          {"connection", row.connection},
          {"method", row.exchange.method},
          {"target", row.exchange.target},
          {"status", row.exchange.status == 0 ? json(nullptr) : json(row.exchange.status)},
          {"error", row.exchange.error},
          {"took_ms", row.exchange.took.count() / 1000},
          {"request_bytes", row.request_bytes},
          {"response_bytes", row.response_bytes}};
}

}  // namespace

std::vector<Operation> trace_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "trace start",
      .summary = "Keeps a marketplace's requests and answers in full for a while, to look for a fault",
      .description =
          "Secrets and one-time codes are masked, headers are left out, of a body a mebibyte is kept. What customers "
          "ordered is in them: they are forgotten after 7 days. `--minutes 0` ends it.",
      .method = "POST",
      .path = "/connections/{connection}/trace",
      .permission = Role::manager,
      .inputs = {{.name = "connection",
                  .doc = "name of the connection to the marketplace",
                  .required = true,
                  .positional = true},
                 {.name = "minutes",
                  .type = Type::integer,
                  .doc = "for how long; 0: no more",
                  .fallback = "60",
                  .min = 0,
                  .max = 1440}},
      .output = {.fields = {{.name = "connection", .required = true},
                            {.name = "until", .type = Type::time, .doc = "null: not any more"}}},
      .run =
          [](Context& context, const json& input) {
            const auto connection = context.services.connections.get(input.at("connection"));
            if (!context.services.connectors.get(connection.kind).make_marketplace)
              throw Error(Error::Kind::invalid,
                          fmt::format("`{}` is a connection of kind `{}`: only what is said to marketplaces is traced.",
                                      connection.name, connection.kind));
            const auto until =
                context.services.traces.set(connection.name, std::chrono::minutes(input.at("minutes").get<int>()));
            return dump({{"connection", connection.name}, {"until", time_or_null(until)}});
          },
  });
  all.push_back({
      .name = "trace list",
      .summary = "Lists the requests that were kept, newest first",
      .description = "Page with `before`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = "/traces",
      .permission = Role::manager,
      .inputs = {{.name = "connection", .doc = "only of this connection"},
                 {.name = "text", .doc = "only with this in address, body or error, such as an order's id"},
                 {.name = "failed",
                  .type = Type::boolean,
                  .doc = "only without an answer, or with a status of 400 and above",
                  .fallback = "false"},
                 {.name = "before", .type = Type::integer, .doc = "numbers below it"},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`before` of the next page"}},
                 .rows = "traces",
                 .columns = trace_columns()},
      .run =
          [](Context& context, const json& input) {
            Traces::Filter filter;
            filter.connection = input.value("connection", "");
            if (!filter.connection.empty()) context.services.connections.get(filter.connection);
            filter.text = input.value("text", "");
            filter.failed = input.at("failed");
            filter.before = maybe_integer(input, "before").value_or(0);
            filter.limit = input.at("limit");
            const auto found = context.services.traces.list(filter);
            json rows = json::array();
            for (const auto& row : found) rows.push_back(shape(row));
            const bool more = static_cast<std::int64_t>(found.size()) == filter.limit;
            return dump({{"traces", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  auto whole = trace_columns();
  whole.push_back({.name = "request", .doc = "its body"});
  whole.push_back({.name = "response", .doc = "the answer's body"});
  all.push_back({
      .name = "trace show",
      .summary = "Shows a request and its answer in full",
      .method = "GET",
      .path = "/traces/{id}",
      .permission = Role::manager,
      .inputs =
          {{.name = "id", .type = Type::integer, .doc = "its number", .required = true, .min = 1, .positional = true}},
      .output = {.fields = whole},
      .run =
          [](Context& context, const json& input) {
            const auto row = context.services.traces.get(input.at("id"));
            json answer = shape(row);
            answer["request"] = row.exchange.request;
            answer["response"] = row.exchange.response;
            return dump(answer);
          },
  });
  return all;
}

}  // namespace dragoman::ops
