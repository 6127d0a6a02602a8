#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "audit/audit.h"
#include "base/error.h"
#include "ops/alerts.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

std::vector<Field> filter_fields() {
  return {{.name = "actor",
           .doc = "who: `token NAME`, `node NAME`, `command line (USER)`; with `*` at its end, a beginning"},
          {.name = "action", .doc = "what, such as `connection.add`; with `*` at its end, a beginning"},
          {.name = "subject", .doc = "to what, such as `main`; with `*` at its end, a beginning"},
          {.name = "since", .type = Type::time, .doc = "from when on"},
          {.name = "until", .type = Type::time, .doc = "until when, not included"}};
}

audit::Filter filter_of(const json& input) {
  audit::Filter filter;
  filter.actor = input.value("actor", "");
  filter.action = input.value("action", "");
  std::replace(filter.action.begin(), filter.action.end(), ' ', '.');  // as the command is typed
  filter.subject = input.value("subject", "");
  if (input.contains("since")) filter.since = parse_time(input.at("since").get<std::string>());
  if (input.contains("until")) filter.until = parse_time(input.at("until").get<std::string>());
  return filter;
}

std::vector<Field> entry_columns(bool hidden) {
  return {{.name = "number", .type = Type::integer, .doc = "its place in the chain", .required = true},
          {.name = "at", .type = Type::time, .doc = "by the database's clock", .required = true},
          {.name = "actor", .doc = "who", .required = true},
          {.name = "action", .doc = "what", .required = true},
          {.name = "subject", .doc = "to what", .required = true},
          {.name = "outcome",
           .doc = "`ok`, `refused: …`, `failed: …`, `not known: …`, or the action's own word",
           .required = true},
          {.name = "why", .doc = "a person's reason, or the cause", .required = true},
          {.name = "before", .doc = "JSON text of what was there, or empty", .required = true, .hidden = hidden},
          {.name = "after",
           .doc = "JSON text of what is there since, or of the input; or empty",
           .required = true,
           .hidden = hidden},
          {.name = "hash", .doc = "of the entry, in hexadecimal", .required = true, .hidden = hidden}};
}

Operation list_operation() {
  std::vector<Field> inputs = filter_fields();
  inputs.push_back({.name = "below", .type = Type::integer, .doc = "only entries with a smaller number", .min = 1});
  inputs.push_back(limit_field(50, 1000));
  return {
      .name = "audit list",
      .summary = "Lists what was done, by whom and with what outcome, the newest first",
      .description =
          "Everything that changes something through the hub leaves an entry, whoever asked for it. Secrets "
          "are never in it.",
      .method = "GET",
      .path = "/audit",
      .permission = Role::manager,
      .inputs = inputs,
      .output = {.rows = "entries", .columns = entry_columns(true)},
      .run =
          [](Context& context, const json& input) {
            json rows = json::array();
            context.services.store.read([&](store::Session& session) {
              rows = json::array();
              for (const auto& link : audit::newest(session, filter_of(input), input.value("below", std::int64_t{0}),
                                                    input.at("limit").get<std::int64_t>()))
                rows.push_back({{"number", link.number},
                                {"at", format_iso(link.at)},
                                {"actor", link.actor},
                                {"action", link.action},
                                {"subject", link.subject},
                                {"outcome", link.outcome},
                                {"why", link.why},
                                {"before", link.before},
                                {"after", link.after},
                                {"hash", link.hash}});
            });
            return dump({{"entries", rows}});
          },
  };
}

std::optional<audit::Anchor> anchor_of(const json& input) {
  const bool number = input.contains("number"), hash = input.contains("hash");
  if (!number && !hash) return std::nullopt;
  const std::string digits = input.value("hash", "");
  if (!number || digits.size() != 64 || digits.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw Error(Error::Kind::invalid,
                "Give `number` and `hash` together, as an earlier `audit verify` showed them: the hash is 64 "
                "hexadecimal digits.");
  return audit::Anchor{input.at("number").get<std::int64_t>(), digits};
}

Operation verify_operation() {
  return {
      .name = "audit verify",
      .summary = "Looks through the whole audit log for entries that were changed, removed, inserted or swapped",
      .description =
          "Keep `entries` and `hash` of the answer elsewhere (in a mail, on paper): given again as `number` "
          "and `hash` they prove that nobody made the log anew up to there, which the log by itself can't.",
      .method = "GET",
      .path = "/audit/verify",
      .permission = Role::manager,
      .inputs = {{.name = "number", .type = Type::integer, .doc = "an entry whose hash was noted earlier", .min = 1},
                 {.name = "hash", .doc = "the hash that was noted"}},
      .output = {.fields = {{.name = "ok", .type = Type::boolean, .required = true},
                            {.name = "entries", .type = Type::integer, .doc = "how many there are", .required = true},
                            {.name = "hash", .doc = "of the last one", .required = true},
                            {.name = "broken_at",
                             .type = Type::integer,
                             .doc = "number of the first entry that is not what was written there; null: none"},
                            {.name = "what",
                             .doc = "`changed`, `removed`, `inserted`, `swapped`, or `anchor`: not what was noted"},
                            {.name = "problem", .doc = "the same in words"}},
                 .verdict = "ok"},
      .run =
          [](Context& context, const json& input) {
            const auto verdict = audit::verify(context.services.store, anchor_of(input), context.stop);
            json answer = {{"ok", !verdict.broken},    {"entries", verdict.end.number},
                           {"hash", verdict.end.hash}, {"broken_at", nullptr},
                           {"what", nullptr},          {"problem", nullptr}};
            if (verdict.broken) {
              // A hash that was noted wrongly says nothing about the log; whoever gave it is told.
              if (verdict.broken->what != "anchor")
                context.services.store.write(
                    [&](store::Session& session) { notify::raise(session, broken_audit(*verdict.broken)); });
              answer["broken_at"] = verdict.broken->number;
              answer["what"] = verdict.broken->what;
              answer["problem"] = verdict.broken->message;
            }
            return dump(answer);
          },
      .slow = true,
  };
}

Operation export_operation() {
  std::vector<Field> inputs = filter_fields();
  inputs.push_back(
      {.name = "after", .type = Type::integer, .doc = "only entries with a larger number", .fallback = "0", .min = 0});
  inputs.push_back({.name = "page",
                    .type = Type::integer,
                    .doc = "entries in one answer; the command line asks until it has all",
                    .fallback = "2000",
                    .min = 1,
                    .max = 10'000});
  std::vector<Field> columns = entry_columns(false);
  columns.insert(columns.end() - 1,
                 {.name = "previous", .doc = "hash of the entry before; of the first, 64 zeros", .required = true});
  return {
      .name = "audit export",
      .summary = "Writes the audit log as lines of JSON, in the order in which things were done",
      .description =
          "Each line holds all that its hash is made of, so that anybody can check the lines without the "
          "hub: docs/reference/audit.md says how.",
      .method = "GET",
      .path = "/audit/export",
      .permission = Role::manager,
      .inputs = inputs,
      .output = {.fields = {{.name = "next",
                             .type = Type::integer,
                             .doc = "`after` of the next page; null: this was the last"}},
                 .rows = "entries",
                 .columns = columns},
      .run =
          [](Context& context, const json& input) {
            const auto page = input.at("page").get<std::size_t>();
            std::vector<std::string> lines;
            std::int64_t last = 0;
            context.services.store.read([&](store::Session& session) {
              lines.clear();
              audit::stream(session, filter_of(input), input.at("after").get<std::int64_t>(),
                            [&](const audit::Link& link) {
                              lines.push_back(audit::to_json(link));
                              last = link.number;
                              return lines.size() < page;
                            });
            });
            return rows_text("entries", lines, {{"next", lines.size() == page ? json(last) : json(nullptr)}});
          },
      .slow = true,
      .pages = "after",
  };
}

}  // namespace

notify::Alert broken_audit(const audit::Verdict::Break& found) {
  return {.fingerprint = "audit:broken",
          .severity = notify::Severity::critical,
          .title = "The audit log was changed",
          .text = found.message +
                  " Nothing in the hub does that: look who has access to its database, and compare with "
                  "a backup.",
          .subject = fmt::format("entry {}", found.number),
          .link = "dragoman audit verify"};
}

std::vector<Operation> audit_operations() {
  return {list_operation(), verify_operation(), export_operation()};
}

}  // namespace dragoman::ops
