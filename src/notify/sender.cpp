#include "notify/sender.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "notify/text.h"

namespace dragoman::notify {
namespace {

using namespace std::chrono_literals;
using store::Param;
using store::Row;
using store::Session;

constexpr Micros kHour = 1h;
constexpr Micros kCleanInterval = 1h;
constexpr Micros kIdle = 1min;
constexpr std::int64_t kSummaryMax = 10'000;  // problems that one summary takes up
constexpr std::size_t kSummaryShown = 20;     // of them, with their titles
constexpr int kAttemptsPerStep = 20;
constexpr std::size_t kResultBytesMax = 500;

constexpr std::string_view kDue = "untold > 0 AND severity >= $1 AND quiet_us <= $2 AND muted_us <= $2";

struct Due {
  Alert alert;
  std::int64_t untold = 0;
  Time first{};
  std::optional<Time> told;
};

std::vector<Due> read_due(Session& session, Severity least, Time now, std::int64_t limit) {
  std::vector<Due> due;
  session.query(
      fmt::format(
          "SELECT fingerprint, severity, title, text, subject, link, times, untold, first_us, told_us FROM alert "
          "WHERE {} ORDER BY severity DESC, last_us, fingerprint LIMIT {}",
          kDue, limit),
      {static_cast<std::int64_t>(least), to_us(now)}, [&](const Row& row) {
        Due one;
        one.alert.fingerprint = row.text(0);
        one.alert.severity = static_cast<Severity>(row.int64(1));
        one.alert.title = row.text(2);
        one.alert.text = row.text(3);
        one.alert.subject = row.text(4);
        one.alert.link = row.text(5);
        one.alert.count = row.int64(6);
        one.untold = row.int64(7);
        one.first = row.time(8);
        if (row.int64(9) > 0) one.told = row.time(9);
        due.push_back(std::move(one));
      });
  return due;
}

std::string minutes(Time at) {
  return format_odoo(at).substr(0, 16) + " UTC";
}

// What a person gets to read about one problem.
Message message_of(const Due& due) {
  Message message;
  message.alert = due.alert;
  message.kind = due.told ? "digest" : "first";
  if (!due.told) {
    if (due.untold > 1) message.alert.text += fmt::format("\n\n{} of them so far.", due.untold);
    return message;
  }
  if (due.untold > 1) message.alert.title = fmt::format("{} more: {}", due.untold, due.alert.title);
  message.alert.text += fmt::format("\n\n{} more since {}; {} in all since {}.", due.untold, minutes(*due.told),
                                    due.alert.count, minutes(due.first));
  return message;
}

Message summary_of(const std::vector<Due>& due, bool more) {
  Message message;
  message.kind = "summary";
  std::int64_t times = 0;
  std::string text;
  for (std::size_t i = 0; i < due.size(); ++i) {
    times += due[i].untold;
    message.alert.severity = std::max(message.alert.severity, due[i].alert.severity);
    if (i < kSummaryShown)
      text += fmt::format("{} × {}: {} ({})\n", due[i].untold, name(due[i].alert.severity), due[i].alert.title,
                          due[i].alert.fingerprint);
  }
  if (due.size() > kSummaryShown) text += fmt::format("and {} more kinds.\n", due.size() - kSummaryShown);
  message.alert.title = fmt::format("{}{} problems of {} kinds", more ? "over " : "", times, due.size());
  message.alert.text = fmt::format(
      "As many messages were sent within an hour as are wanted (`notify.per_hour_max`), so this one stands for all "
      "that are left:\n\n{}",
      text);
  message.alert.link = "dragoman notification list";
  message.alert.count = times;
  return message;
}

}  // namespace

Sender::Sender(store::Store& store, std::vector<std::unique_ptr<Channel>> channels, const Settings& settings,
               Clock& clock, Random& random, Recipients recipients)
    : store_(store),
      channels_(std::move(channels)),
      settings_(settings),
      clock_(clock),
      random_(random),
      recipients_(std::move(recipients)) {}

Micros Sender::step(std::stop_token stop) {
  make_messages();
  deliver(stop);
  clean();
  return until_next();
}

void Sender::run(std::stop_token stop) {
  std::uint64_t seen = 0;
  while (!stop.stop_requested()) {
    Micros wait = 5s;
    try {
      wait = step(stop);
    } catch (const Error& error) {
      log::warning("messages to people have to wait", {{"error", error.message}, {"detail", error.detail}});
      clock_.wait(wait, stop);
      continue;
    } catch (const std::exception& error) {
      log::error("messages to people have to wait: something was not foreseen", {{"error", error.what()}});
      clock_.wait(wait, stop);
      continue;
    }
    seen = store_.wait(kAlertsChannel, seen, wait, stop);
  }
}

void Sender::make_messages() {
  if (channels_.empty()) return;
  bool any = false;
  store_.read([&](Session& session) { any = !read_due(session, settings_.least, session.now(), 1).empty(); });
  if (!any) return;
  store_.write([&](Session& session) {
    session.lock("dragoman alerts");  // or two nodes would tell of the same, and count the hour's messages apart
    const Time now = session.now();
    std::int64_t room = settings_.per_hour_max;
    session.query("SELECT count(*) FROM notification WHERE created_us > $1", {{to_us(now - kHour)}},
                  [&](const Row& row) { room -= row.int64(0); });
    if (room <= 0) return;
    auto due = read_due(session, settings_.least, now, kSummaryMax + room);
    const bool all_fit = static_cast<std::int64_t>(due.size()) <= room;
    const std::size_t singles = all_fit ? due.size() : static_cast<std::size_t>(room - 1);
    const auto told = [&](const Due& one) {
      // Subtracted, not cleared: another may be raised meanwhile.
      session.execute("UPDATE alert SET untold = untold - $2, told_us = $3, quiet_us = $4 WHERE fingerprint = $1",
                      {one.alert.fingerprint, one.untold, to_us(now), to_us(now + settings_.window)});
    };
    for (std::size_t i = 0; i < singles; ++i) {
      Message message = message_of(due[i]);
      message.at = now;
      make_message(session, message, due[i].untold);
      told(due[i]);
    }
    if (all_fit) return;
    const bool more = static_cast<std::int64_t>(due.size()) == kSummaryMax + room;
    due.erase(due.begin(), due.begin() + static_cast<std::ptrdiff_t>(singles));
    Message message = summary_of(due, more);
    message.at = now;
    make_message(session, message, message.alert.count);
    for (const Due& one : due) told(one);
  });
}

void Sender::make_message(Session& session, const Message& message, std::int64_t times) {
  const Alert& alert = message.alert;
  const std::string uid = "msg_" + random_hex(random_, 12);
  const std::string fingerprint = message.kind == "summary" ? "" : alert.fingerprint;
  std::int64_t id = 0;
  session.query(
      "INSERT INTO notification (uid, kind, fingerprint, severity, title, text, subject, link, times, created_us) "
      "VALUES "
      "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
      {uid, message.kind, fingerprint, static_cast<std::int64_t>(alert.severity), alert.title, alert.text,
       alert.subject, alert.link, times, to_us(message.at)},
      [&](const Row& row) { id = row.int64(0); });
  for (const auto& channel : channels_)
    session.execute(
        "INSERT INTO notification_delivery (notification_id, channel, state, due_us) VALUES ($1, $2, 'waiting', $3)",
        {id, channel->name(), to_us(message.at)});
}

void Sender::deliver(std::stop_token stop) {
  struct Ready {
    std::int64_t id;
    std::string channel;
    Time due;
  };
  std::vector<Ready> ready;
  store_.read([&](Session& session) {
    ready.clear();
    session.query(
        fmt::format("SELECT notification_id, channel, due_us FROM notification_delivery WHERE state = 'waiting' "
                    "AND due_us <= $1 ORDER BY due_us, notification_id LIMIT {}",
                    kAttemptsPerStep),
        {{to_us(session.now())}},
        [&](const Row& row) { ready.push_back({row.int64(0), std::string(row.text(1)), row.time(2)}); });
  });
  for (const Ready& one : ready) {
    if (stop.stop_requested()) return;
    attempt(one.id, one.channel, one.due, stop);
  }
}

void Sender::attempt(std::int64_t id, const std::string& channel_name, Time due, std::stop_token stop) {
  const auto channel =
      std::find_if(channels_.begin(), channels_.end(), [&](const auto& one) { return one->name() == channel_name; });
  Message message;
  std::int64_t attempts = 0;
  Time now{};
  bool ours = false;
  store_.write([&](Session& session) {
    now = session.now();
    ours = session.execute(
               "UPDATE notification_delivery SET due_us = $4, attempts = attempts + 1 WHERE notification_id = $1 AND "
               "channel = $2 AND state = 'waiting' AND due_us = $3",
               {id, channel_name, to_us(due), to_us(now + kLease)}) == 1;
    if (!ours) return;
    session.query(
        "SELECT n.uid, n.kind, n.fingerprint, n.severity, n.title, n.text, n.subject, n.link, n.times, n.created_us, "
        "d.attempts FROM notification n JOIN notification_delivery d ON d.notification_id = n.id AND d.channel = $2 "
        "WHERE n.id = $1",
        {id, channel_name}, [&](const Row& row) {
          message.uid = row.text(0);
          message.kind = row.text(1);
          message.alert.fingerprint = row.text(2);
          message.alert.severity = static_cast<Severity>(row.int64(3));
          message.alert.title = row.text(4);
          message.alert.text = row.text(5);
          message.alert.subject = row.text(6);
          message.alert.link = row.text(7);
          message.alert.count = row.int64(8);
          message.at = row.time(9);
          message.hub = settings_.hub;
          attempts = row.int64(10);
        });
    if (recipients_) message.to = recipients_(session, message.alert);
  });
  if (!ours) return;

  std::string state = "sent", result;
  Micros again{};
  if (channel == channels_.end()) {
    state = "failed";
    result = "This channel is not set up any more.";
  } else {
    try {
      result = (*channel)->send(message, now, stop);
    } catch (const Error& error) {
      result = error.message;
      const bool hopeless = error.kind == Error::Kind::invalid || error.kind == Error::Kind::not_found;
      const bool stopped = error.kind == Error::Kind::cancelled;
      state = hopeless || (!stopped && now - message.at >= kGiveUpAfter) ? "failed" : "waiting";
      if (!stopped) {
        again = std::min(kBackoffFirst * (std::int64_t{1} << std::min<std::int64_t>(attempts - 1, 10)), kBackoffMax);
        again += Micros(static_cast<std::int64_t>(random_.unit() * static_cast<double>(again.count()) / 4));
        if (error.retry_after) again = std::max<Micros>(again, *error.retry_after);
      }
      log::write(state == "failed" ? log::Level::error : log::Level::warning,
                 state == "failed" ? "a message to people is given up" : "a message to people has to wait",
                 {{"channel", channel_name},
                  {"title", message.alert.title},
                  {"attempts", attempts},
                  {"error", error.message},
                  {"detail", error.detail}});
    }
  }
  result = plain(result, true, kResultBytesMax);
  store_.write([&](Session& session) {
    const Time ended = session.now();
    session.execute(
        "UPDATE notification_delivery SET state = $3, due_us = $4, result = $5, done_us = CASE WHEN $3 = 'waiting' "
        "THEN "
        "NULL ELSE CAST($6 AS BIGINT) END WHERE notification_id = $1 AND channel = $2 AND state = 'waiting'",
        {id, channel_name, state, to_us(ended + again), result, to_us(ended)});
  });
}

void Sender::clean() {
  const Micros steady = clock_.steady();
  if (cleaned_ != Micros{} && steady - cleaned_ < kCleanInterval) return;
  cleaned_ = steady;
  store_.write([&](Session& session) {
    const auto before = to_us(session.now() - kKept);
    session.execute(
        "DELETE FROM notification_delivery WHERE notification_id IN (SELECT id FROM notification WHERE created_us < "
        "$1)",
        {{before}});
    session.execute("DELETE FROM notification WHERE created_us < $1", {{before}});
    session.execute("DELETE FROM alert WHERE last_us < $1 AND muted_us < $1", {{before}});
  });
}

Micros Sender::until_next() {
  Micros wait = kIdle;
  store_.read([&](Session& session) {
    const Time now = session.now();
    const auto consider = [&](const Row& row) {
      if (row.is_null(0)) return;
      wait = std::min(wait, std::max<Micros>(row.time(0) - now, 0us));
    };
    session.query("SELECT min(due_us) FROM notification_delivery WHERE state = 'waiting'", {}, consider);
    if (channels_.empty()) return;
    // Those that are due already wait for the hour's room, which a look each minute is soon enough for.
    session.query(
        "SELECT min(CASE WHEN quiet_us > muted_us THEN quiet_us ELSE muted_us END) FROM alert WHERE untold > 0 AND "
        "severity >= $1 AND (quiet_us > $2 OR muted_us > $2)",
        {static_cast<std::int64_t>(settings_.least), to_us(now)}, consider);
  });
  return wait;
}

std::vector<Sender::Tried> Sender::test(std::stop_token stop) {
  std::vector<Tried> all;
  Message message;
  message.uid = "msg_" + random_hex(random_, 12);
  message.kind = "test";
  message.alert.title = "this is a test";
  message.alert.text = "Somebody pressed the test button. If you read this, messages of this hub reach you.";
  message.alert.link = "dragoman notification test";
  message.at = clock_.now();
  message.hub = settings_.hub;
  for (const auto& channel : channels_) {
    Tried tried{channel->name(), channel->target(), false, ""};
    try {
      tried.result = plain(channel->send(message, message.at, stop), true, kResultBytesMax);
      tried.ok = true;
    } catch (const Error& error) {
      if (error.kind == Error::Kind::cancelled) throw;
      tried.result = plain(error.message, true, kResultBytesMax);
    }
    all.push_back(std::move(tried));
  }
  return all;
}

}  // namespace dragoman::notify
