#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/connections.h"
#include "pipeline/inbox.h"
#include "pipeline/record_check.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "record";
  throw error;
}

// What the operation takes beside the body.
const std::vector<std::string> kBeside = {"connection", "idempotency_key"};

// Of what is to be done, however the body says it.
std::string digest_of(const std::vector<pipeline::InboxPut::Record>& records) {
  crypto_generichash_state state;
  std::string digest(32, '\0');
  crypto_generichash_init(&state, nullptr, 0, digest.size());
  const auto add = [&](const void* data, std::size_t size) {
    crypto_generichash_update(&state, static_cast<const unsigned char*>(data), size);
  };
  for (const auto& record : records) {
    for (const std::string* text : {&record.model, &record.key, &record.content}) {
      const std::uint64_t size = text->size();  // or the end of one could be the beginning of the next
      add(&size, sizeof size);
      add(text->data(), text->size());
    }
    add(&record.version, sizeof record.version);
  }
  crypto_generichash_final(&state, reinterpret_cast<unsigned char*>(digest.data()), digest.size());
  return digest;
}

std::string location_of(const pipeline::InboxReceipt& receipt) {
  return fmt::format("/api/v1/inbox/{}/{}", receipt.connection, receipt.id);
}

pipeline::InboxPut put_of(Context& context, const json& input) {
  pipeline::InboxPut put;
  put.connection = input.at("connection");
  put.idempotency_key = input.at("idempotency_key");
  put.sender = context.caller;
  put.actor = context.actor.empty() ? context.caller : context.actor;
  const std::string model = input.value("model", "");
  if (!model.empty()) pipeline::check_model(model, "the body");
  if (const auto records = input.find("records"); records != input.end()) {
    for (const char* single : {"key", "version", "values", "children", "call", "recreate"})
      if (input.contains(single))
        refuse(fmt::format("`{}` is of one record, and `records` are several: put it into them.", single));
    if (records->size() > context.services.inbox.settings().records_max)
      refuse(fmt::format("A body holds {} records at most, and this has {}.",
                         context.services.inbox.settings().records_max, records->size()));
    for (std::size_t i = 0; i < records->size(); ++i)
      put.records.push_back(pipeline::checked_record((*records)[i], fmt::format("record {}", i), model));
  } else {
    put.records.push_back(pipeline::checked_record(input, "the record", model, kBeside));
  }
  put.digest = digest_of(put.records);
  return put;
}

std::string acknowledgement(const pipeline::InboxReceipt& receipt) {
  std::string text = "{\"connection\":";
  append_json_string(text, receipt.connection);
  text += fmt::format(",\"id\":{},\"location\":", receipt.id);
  append_json_string(text, location_of(receipt));
  return text += fmt::format(",\"received\":\"{}\",\"records\":{}}}", format_iso(receipt.received), receipt.records);
}

json shape(const pipeline::InboxEntry& entry) {
  return {{"id", entry.id},
          {"connection", entry.connection},
          {"idempotency_key", entry.idempotency_key},
          {"sender", entry.sender},
          {"received", format_iso(entry.received)},
          {"records", entry.records},
          {"open", entry.open},
          {"failed", entry.failed},
          {"location", location_of(entry)}};
}

std::vector<Field> entry_fields() {
  return {{.name = "id", .type = Type::integer, .required = true},
          {.name = "connection", .required = true},
          {.name = "idempotency_key", .required = true},
          {.name = "sender", .doc = "name of the token it came with", .required = true},
          {.name = "received", .type = Type::time, .required = true},
          {.name = "records", .type = Type::integer, .doc = "how many", .required = true},
          {.name = "open", .type = Type::integer, .doc = "how many of them have no end yet", .required = true},
          {.name = "failed",
           .type = Type::integer,
           .doc = "how many of them were refused, and wait for a person",
           .required = true},
          {.name = "location", .doc = "where its records are shown", .required = true, .hidden = true}};
}

}  // namespace

std::vector<Operation> inbox_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "inbox put",
      .summary = "Takes in records that are to be delivered through a connection, and acknowledges them when they are "
                 "durable",
      .description =
          "One record (`model`, `key`, `values` …), or several in `records`, each with those names; `model` beside "
          "`records` is for all of them. `key` is yours: the record at the remote is found again by it, and a second "
          "record with the same model and key changes the first. With a `version` (whole numbers that grow; always or "
          "never for one key, what mixes them is refused) an older one that comes late is left alone. Records of one "
          "key are delivered in the "
          "order in which they came.\n\n"
          "The same idempotency key with the same body gets the same answer, and nothing is done twice; with another "
          "body it is refused (422, `idempotency_key_reused`), and while the first is being stored it is told to ask "
          "again (409, `in_progress`). Keys are kept for `inbox.keys_days`. An answer other than 202 means: not taken "
          "in, or (504) not known; sent again with the same key it is right either way.",
      .method = "POST",
      .path = "/inbox/{connection}",
      .permission = Role::user,
      .inputs = {connection_field(),
                 {.name = "idempotency_key",
                  .doc = "one of your own for each request, the same when it is sent again: 1 to 255 visible ASCII "
                         "characters",
                  .required = true,
                  .header = "Idempotency-Key"},
                 {.name = "model", .doc = "the remote model, such as `res.partner`"},
                 {.name = "key", .doc = "your key of the record"},
                 {.name = "version", .type = Type::integer, .doc = "grows with every change of the record", .min = 1},
                 {.name = "values", .type = Type::object, .doc = "field → value, as Odoo takes them"},
                 {.name = "children",
                  .type = Type::object,
                  .doc = "field → list of `{\"key\", \"values\"}`: records that belong to this one, such as "
                         "`order_line`"},
                 {.name = "call",
                  .doc = "a public method to call on the record afterwards, in the same transaction, such as "
                         "`action_confirm`"},
                 {.name = "recreate",
                  .type = Type::boolean,
                  .doc = "make the record anew if somebody has deleted it there; else that is refused"},
                 {.name = "records", .type = Type::list, .doc = "several records", .objects = true}},
      .output = {.fields = {{.name = "id", .type = Type::integer, .required = true},
                            {.name = "connection", .required = true},
                            {.name = "records", .type = Type::integer, .doc = "how many", .required = true},
                            {.name = "received", .type = Type::time, .required = true},
                            {.name = "location", .doc = "where to see what became of them", .required = true}}},
      .run = [](Context& context,
                const json& input) { return acknowledgement(context.services.inbox.put(put_of(context, input))); },
      .begin = [](Context& context, const json& input) -> std::function<void(std::function<void(Operation::Result)>)> {
        auto& inbox = context.services.inbox;
        const auto put = std::make_shared<pipeline::InboxPut>(put_of(context, input));
        return [&inbox, put](auto told) {
          inbox.put_later(std::move(*put), [told = std::move(told)](const pipeline::InboxAnswer& answer) {
            told([&answer] { return acknowledgement(answer.receipt_or_throw()); });
          });
        };
      },
      .status = 202,
      .audits_itself = true,
  });
  all.push_back({
      .name = "inbox list",
      .summary = "Lists what was taken in, newest first",
      .description = "Page with `before`: the `next` of the answer before. `next` is null on the last page.",
      .method = "GET",
      .path = "/inbox",
      .permission = Role::viewer,
      .inputs = {{.name = "connection", .doc = "only of this connection"},
                 {.name = "before", .type = Type::integer, .doc = "ids below it", .min = 1},
                 limit_field(100, 1000)},
      .output = {.fields = {{.name = "next", .type = Type::integer, .doc = "`before` of the next page"}},
                 .rows = "entries",
                 .columns = entry_fields()},
      .run =
          [](Context& context, const json& input) {
            const std::int64_t limit = input.at("limit");
            const std::string connection = input.value("connection", "");
            if (!connection.empty()) context.services.connections.get(connection);
            const auto found =
                context.services.inbox.list(connection, maybe_integer(input, "before").value_or(0), limit);
            json rows = json::array();
            for (const auto& entry : found) rows.push_back(shape(entry));
            const bool more = static_cast<std::int64_t>(found.size()) == limit;
            return dump({{"entries", rows}, {"next", more ? json(found.back().id) : json(nullptr)}});
          },
  });
  all.push_back({
      .name = "inbox show",
      .summary = "Shows what became of each record of something that was taken in",
      .method = "GET",
      .path = "/inbox/{connection}/{id}",
      .permission = Role::viewer,
      .inputs = {connection_field(),
                 {.name = "id",
                  .type = Type::integer,
                  .doc = "as the acknowledgement said",
                  .required = true,
                  .min = 1,
                  .positional = true}},
      .output =
          {.fields = entry_fields(),
           .rows = "items",
           .columns = {{.name = "position", .type = Type::integer, .doc = "in the body, from 0", .required = true},
                       {.name = "model", .required = true},
                       {.name = "key", .required = true},
                       {.name = "version", .type = Type::integer, .doc = "as it was given"},
                       {.name = "state",
                        .doc = "`waiting`, `running`; `created`, `updated`, `unchanged`, `skipped` (a later "
                               "version is there); `refused`, `dead` (both wait for a person), `cancelled`",
                        .required = true},
                       {.name = "external_id", .doc = "`odoo:res.partner:7`"},
                       {.name = "job", .type = Type::integer, .doc = "the job that does it", .required = true},
                       {.name = "message", .doc = "what there is to say of it"},
                       {.name = "finished", .type = Type::time}}},
      .run =
          [](Context& context, const json& input) {
            context.services.connections.get(input.at("connection"));
            const auto entry = context.services.inbox.show(input.at("connection"), input.at("id"));
            json answer = shape(entry);
            answer["items"] = json::array();
            for (const auto& item : entry.items)
              answer["items"].push_back(
                  {{"position", item.position},
                   {"model", item.model},
                   {"key", item.key},
                   {"version", item.version == 0 ? json(nullptr) : json(item.version)},
                   {"state", item.state},
                   {"external_id", item.external_id.empty() ? json(nullptr) : json(item.external_id)},
                   {"job", item.job_id},
                   {"message", item.message},
                   {"finished", time_or_null(item.finished)}});
            return dump(answer);
          },
  });
  return all;
}

}  // namespace dragoman::ops
