#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "ops/catalog.h"
#include "ops/shapes.h"
#include "pipeline/records.h"

namespace dragoman::ops {
namespace {

using access::Role;
using nlohmann::json;

constexpr Micros kFollowWait = std::chrono::seconds(15);

pipeline::Records::FeedFilter filter_of(Context& context, const json& input) {
  return {.since = input.at("since"),
          .limit = input.at("limit"),
          .connection = input.value("connection", ""),
          .model = input.value("model", ""),
          .view = view_of(context, input),
          .bodies = input.at("bodies")};
}

// A number that this feed has not come to is another feed's: going on from there would miss all up to it.
void refuse_ahead(const pipeline::Records::FeedFilter& filter, std::int64_t last) {
  if (filter.since <= last) return;
  Error error(
      Error::Kind::conflict,
      fmt::format("This database's newest number is {0}, older than yours ({1}): it was restored from a backup, "
                  "or is another. Start again from {0}{2}.",
                  last, filter.since, last > 0 ? ", or from 0 if it is another" : ""));
  error.code = "feed_behind";
  throw error;
}

void check_follow(Context& context, const json& input) {
  auto filter = filter_of(context, input);
  const auto since = std::exchange(filter.since, std::numeric_limits<std::int64_t>::max());
  const auto last = context.services.records.changes(filter).last;  // nothing is above it: only the head is read
  filter.since = since;
  refuse_ahead(filter, last);
}

std::string list(Context& context, const json& input) {
  auto& records = context.services.records;
  const auto filter = filter_of(context, input);
  const Micros patience = std::chrono::seconds(input.at("wait").get<std::int64_t>());
  const Micros until = context.services.clock.steady() + patience;
  auto feed = records.changes(filter);
  refuse_ahead(filter, feed.last);
  while (feed.changes.empty()) {
    const Micros left = until - context.services.clock.steady();
    if (left <= Micros(0) || context.stop.stop_requested()) break;
    // What the filter let nothing through of is not looked at again.
    auto from = filter;
    from.since = feed.next;
    if (feed.next >= feed.last && !records.wait(feed.last, left, context.stop)) break;
    feed = records.changes(from);
  }
  std::vector<std::string> rows;
  for (const auto& change : feed.changes) rows.push_back(change_text(change, filter.bodies));
  return rows_text("changes", rows, {{"next", feed.next}, {"last", feed.last}});
}

void follow(Context& context, const json& input, const Emit& emit) {
  auto& records = context.services.records;
  auto filter = filter_of(context, input);
  while (!context.stop.stop_requested()) {
    const auto feed = records.changes(filter);
    refuse_ahead(filter, feed.last);
    for (const auto& change : feed.changes)
      if (!emit(std::to_string(change.number), pipeline::name(change.kind), change_text(change, filter.bodies))) return;
    filter.since = feed.next;
    if (feed.next < feed.last) continue;
    // An empty entry is a sign of life, and finds out whether somebody still listens.
    if (!records.wait(feed.next, kFollowWait, context.stop) && !emit({}, {}, {})) return;
  }
}

}  // namespace

std::vector<Operation> change_operations() {
  return {{
      .name = "change list",
      .summary = "Lists what was created, changed and deleted since a number, in order",
      .description =
          "Every change has a number; a reader who remembers the last one it has dealt with misses nothing: ask with "
          "`since`, deal with the changes, remember `next`. With `wait`, an empty answer waits for news. As "
          "server-sent events (`Accept: text/event-stream`) the event id is the number, and `Last-Event-ID` goes on "
          "after it. A `since` above the newest number is refused (409, code `feed_behind`): the database was restored "
          "from a backup, or is another.",
      .method = "GET",
      .path = "/changes",
      .permission = Role::viewer,
      .inputs = {{.name = "since", .type = Type::integer, .doc = "numbers above it", .fallback = "0", .min = 0},
                 limit_field(1000, 10'000),
                 {.name = "wait",
                  .type = Type::integer,
                  .doc = "seconds to wait when there is nothing yet",
                  .fallback = "0",
                  .min = 0,
                  .max = 60},
                 {.name = "connection", .doc = "only of this connection"},
                 {.name = "model", .doc = "only of this model"},
                 company_field(),
                 organisation_field(),
                 {.name = "bodies", .type = Type::boolean, .doc = "with the captured values", .fallback = "false"}},
      .output =
          {.fields = {{.name = "next", .type = Type::integer, .doc = "`since` of the next question", .required = true},
                      {.name = "last", .type = Type::integer, .doc = "the newest number there is", .required = true}},
           .rows = "changes",
           .columns = change_fields(false)},
      .run = list,
      .follow = follow,
      .check_follow = check_follow,
      .resume = "since",
      .slow = true,
  }};
}

}  // namespace dragoman::ops
