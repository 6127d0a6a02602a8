#include "notify/alert.h"

#include <fmt/format.h>

#include "base/error.h"
#include "notify/text.h"

namespace dragoman::notify {
namespace {

using store::Row;
using store::Session;

constexpr std::size_t kTitleBytesMax = 300, kTextBytesMax = 8000, kKeyBytesMax = 500;

constexpr std::string_view kColumns =
    "SELECT fingerprint, severity, title, text, subject, link, times, untold, first_us, last_us, told_us, muted_us "
    "FROM "
    "alert ";

Problem problem_of(const Row& row, Time now) {
  Problem problem;
  problem.alert.fingerprint = row.text(0);
  problem.alert.severity = static_cast<Severity>(row.int64(1));
  problem.alert.title = row.text(2);
  problem.alert.text = row.text(3);
  problem.alert.subject = row.text(4);
  problem.alert.link = row.text(5);
  problem.alert.count = row.int64(6);
  problem.untold = row.int64(7);
  problem.first = row.time(8);
  problem.last = row.time(9);
  if (row.int64(10) > 0) problem.told = row.time(10);
  if (row.time(11) > now) problem.muted = row.time(11);
  return problem;
}

void add_deliveries(Session& session, Problem& problem) {
  session.query(
      "SELECT channel, state, result, attempts, due_us FROM notification_delivery WHERE notification_id = (SELECT "
      "max(id) FROM notification WHERE fingerprint = $1) ORDER BY channel",
      {problem.alert.fingerprint}, [&](const Row& row) {
        Problem::Delivery delivery;
        delivery.channel = row.text(0);
        delivery.state = row.text(1);
        delivery.result = row.text(2);
        delivery.attempts = row.int64(3);
        if (delivery.state == "waiting") delivery.due = row.time(4);
        problem.deliveries.push_back(std::move(delivery));
      });
  const auto any = [&](std::string_view state) {
    for (const auto& delivery : problem.deliveries)
      if (delivery.state == state) return true;
    return false;
  };
  // One told of in a summary alone has no message of its own.
  problem.state = problem.muted    ? "muted"
                  : !problem.told  ? "untold"
                  : any("failed")  ? "failed"
                  : any("waiting") ? "waiting"
                                   : "sent";
}

}  // namespace

std::string_view name(Severity severity) {
  return severity == Severity::critical ? "critical" : "warning";
}

void raise(Session& session, const Alert& alert) {
  const std::int64_t now = to_us(session.now());
  const std::string fingerprint = plain(alert.fingerprint, true, kKeyBytesMax),
                    title = plain(alert.title, true, kTitleBytesMax), text = plain(alert.text, false, kTextBytesMax),
                    subject = plain(alert.subject, true, kKeyBytesMax), link = plain(alert.link, true, kKeyBytesMax);
  session.execute(
      "INSERT INTO alert (fingerprint, severity, title, text, subject, link, times, untold, first_us, last_us) VALUES "
      "($1, $2, $3, $4, $5, $6, $7, $7, $8, $8) ON CONFLICT (fingerprint) DO UPDATE SET severity = excluded.severity, "
      "title = excluded.title, text = excluded.text, subject = excluded.subject, link = excluded.link, times = "
      "alert.times + excluded.times, untold = alert.untold + excluded.untold, last_us = excluded.last_us",
      {fingerprint, static_cast<std::int64_t>(alert.severity), title, text, subject, link, alert.count, now});
  session.notify(kAlertsChannel);
}

std::vector<Problem> problems(Session& session, std::int64_t limit) {
  const Time now = session.now();
  std::vector<Problem> all;
  session.query(fmt::format("{}ORDER BY last_us DESC, fingerprint LIMIT {}", kColumns, limit), {},
                [&](const Row& row) { all.push_back(problem_of(row, now)); });
  for (auto& problem : all) add_deliveries(session, problem);
  return all;
}

Problem mute(Session& session, const std::string& fingerprint, Time until) {
  if (session.execute("UPDATE alert SET muted_us = $2 WHERE fingerprint = $1", {fingerprint, to_us(until)}) == 0) {
    Error error(Error::Kind::not_found,
                fmt::format("There is no problem with the fingerprint `{}`; `dragoman notification list` shows those "
                            "there are.",
                            plain(fingerprint, true, kKeyBytesMax)));
    error.code = "no_alert";
    throw error;
  }
  session.notify(kAlertsChannel);  // one that is heard again may be due
  std::optional<Problem> problem;
  const Time now = session.now();
  session.first(fmt::format("{}WHERE fingerprint = $1", kColumns), {fingerprint},
                [&](const Row& row) { problem = problem_of(row, now); });
  DRAGOMAN_ASSERT(problem, "an alert that was just changed is there");
  add_deliveries(session, *problem);
  return std::move(*problem);
}

MessageCounts message_counts(Session& session) {
  MessageCounts counts;
  session.first("SELECT count(*) FROM notification_delivery WHERE state = 'waiting'", {},
                [&](const Row& row) { counts.waiting = row.int64(0); });
  const Time day_ago = session.now() - std::chrono::hours(24);
  // A message lives for a day at most before it is given up, so an older one did not fail since.
  session.first(
      "SELECT count(*) FROM notification n JOIN notification_delivery d ON d.notification_id = n.id WHERE "
      "n.created_us > $1 AND d.state = 'failed' AND d.done_us > $2",
      {to_us(day_ago - std::chrono::hours(48)), to_us(day_ago)}, [&](const Row& row) { counts.failed = row.int64(0); });
  return counts;
}

}  // namespace dragoman::notify
