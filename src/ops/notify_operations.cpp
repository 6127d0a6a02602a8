#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "notify/alert.h"
#include "notify/sender.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "store/store.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

std::vector<Field> problem_columns() {
  return {
      {.name = "fingerprint", .doc = "what is alike has the same one", .required = true},
      {.name = "severity", .required = true, .choices = {"warning", "critical"}},
      {.name = "title", .doc = "what is wrong", .required = true},
      {.name = "subject", .doc = "what it is about", .required = true, .hidden = true},
      {.name = "text", .doc = "what happened and what to do", .required = true, .hidden = true},
      {.name = "link", .doc = "where to look", .required = true, .hidden = true},
      {.name = "count", .type = Type::integer, .doc = "how often it was raised", .required = true},
      {.name = "untold",
       .type = Type::integer,
       .doc = "of them, since the last message",
       .required = true,
       .hidden = true},
      {.name = "first", .type = Type::time, .required = true, .hidden = true},
      {.name = "last", .type = Type::time, .required = true},
      {.name = "told", .type = Type::time, .doc = "when the last message was made; null: never"},
      {.name = "muted_until", .type = Type::time, .doc = "null: not muted"},
      {.name = "state",
       .doc = "of its last message: `waiting`, `sent`, `failed`; or `muted`, or `untold`: no channel is set up, or it "
              "is less severe than what is sent",
       .required = true},
      {.name = "error", .doc = "what keeps the message from its channel", .required = true},
      {.name = "deliveries",
       .type = Type::list,
       .doc = "of the last message, per channel",
       .required = true,
       .hidden = true}};
}

json shape(const notify::Problem& problem) {
  json deliveries = json::array();
  std::string error;
  for (const auto& one : problem.deliveries) {
    deliveries.push_back({{"channel", one.channel},
                          {"state", one.state},
                          {"attempts", one.attempts},
                          {"result", one.result},
                          {"next", time_or_null(one.due)}});
    if (one.state != "sent" && !one.result.empty())
      error += (error.empty() ? "" : " ") + fmt::format("{}: {}", one.channel, one.result);
  }
  const auto& alert = problem.alert;
  return {{"fingerprint", alert.fingerprint},
          {"severity", notify::name(alert.severity)},
          {"title", alert.title},
          {"subject", alert.subject},
          {"text", alert.text},
          {"link", alert.link},
          {"count", alert.count},
          {"untold", problem.untold},
          {"first", format_iso(problem.first)},
          {"last", format_iso(problem.last)},
          {"told", time_or_null(problem.told)},
          {"muted_until", time_or_null(problem.muted)},
          {"state", problem.state},
          {"error", error},
          {"deliveries", deliveries}};
}

}  // namespace

std::vector<Operation> notify_operations() {
  std::vector<Operation> all;
  all.push_back({
      .name = "notification list",
      .summary = "Lists the problems that people are told of, those raised last first, and how the telling went",
      .method = "GET",
      .path = "/notifications",
      .permission = Role::viewer,
      .inputs = {limit_field(50, 500)},
      .output = {.rows = "problems", .columns = problem_columns()},
      .run =
          [](Context& context, const json& input) {
            json rows = json::array();
            context.services.store.read([&](store::Session& session) {
              rows = json::array();
              for (const auto& problem : notify::problems(session, input.at("limit").get<std::int64_t>()))
                rows.push_back(shape(problem));
            });
            return dump({{"problems", rows}});
          },
  });
  all.push_back({
      .name = "notification test",
      .summary = "Sends a test message through every channel and says what came of it",
      .description = "Channels are set up in the settings `notify.*`.",
      .method = "POST",
      .path = "/notifications/test",
      .permission = Role::manager,
      .output = {.fields = {{.name = "ok",
                             .type = Type::boolean,
                             .doc = "there is a channel, and every one took the message",
                             .required = true},
                            {.name = "advice", .doc = "where there is none"}},
                 .rows = "channels",
                 .columns = {{.name = "channel", .doc = "`email` or `webhook`", .required = true},
                             {.name = "target", .doc = "where it goes", .required = true},
                             {.name = "ok", .type = Type::boolean, .required = true},
                             {.name = "result", .doc = "what the other side said, or what is wrong", .required = true}},
                 .verdict = "ok"},
      .run =
          [](Context& context, const json&) {
            json rows = json::array();
            bool ok = true;
            for (const auto& tried : context.services.sender.test(context.stop)) {
              rows.push_back(
                  {{"channel", tried.channel}, {"target", tried.target}, {"ok", tried.ok}, {"result", tried.result}});
              ok = ok && tried.ok;
            }
            context.note.after = dump({{"channels", rows}});
            json answer = {{"ok", ok && !rows.empty()}, {"channels", rows}};
            answer["advice"] = rows.empty() ? json(
                                                  "No channel is set up: set `notify.email_host` or "
                                                  "`notify.webhook_url` (docs/reference/notify.md).")
                                            : json(nullptr);
            return dump(answer);
          },
      .slow = true,
  });
  all.push_back({
      .name = "notification mute",
      .summary = "Sends no messages about a problem for some hours",
      .description = "It is still counted. What was muted is told in one message when the time is up.",
      .method = "POST",
      .path = "/notifications/mute",
      .permission = Role::user,
      .inputs = {{.name = "fingerprint",
                  .doc = "of the problem, as `notification list` shows it",
                  .required = true,
                  .positional = true},
                 {.name = "hours",
                  .type = Type::integer,
                  .doc = "for how long; 0: not any more",
                  .fallback = "24",
                  .min = 0,
                  .max = 24 * 365}},
      .output = {.fields = problem_columns()},
      .run =
          [](Context& context, const json& input) {
            json answer;
            context.services.store.write([&](store::Session& session) {
              const auto until = session.now() + std::chrono::hours(input.at("hours").get<std::int64_t>());
              answer = shape(notify::mute(session, input.at("fingerprint"), until));
            });
            context.note.after = dump({{"muted_until", answer.at("muted_until")}});
            return dump(answer);
          },
  });
  return all;
}

}  // namespace dragoman::ops
