#include "jobs/board.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "jobs/breaker.h"
#include "jobs/rows.h"

namespace dragoman::jobs {
namespace {

using nlohmann::json;
using store::Bytes;
using store::Engine;
using store::Param;
using store::Row;
using store::Session;

constexpr std::int64_t kGroupStep = 500;
constexpr std::size_t kDifferenceMax = 20'000;

constexpr std::string_view kView =
    "SELECT j.id, l.kind, l.flow, COALESCE(c.name, ''), l.connection_id, j.state, j.hold, j.priority, j.attempt, "
    "j.interruptions, j.folded, j.in_doubt, j.order_key, j.unique_key, j.cause, j.result, j.error_kind, j.error_code, "
    "j.error_message, j.fingerprint, j.enqueued_us, j.run_at_us, j.started_us, j.finished_us, j.payload_version, "
    "j.node_id";
constexpr std::string_view kFrom =
    " FROM job j JOIN job_lane l ON l.id = j.lane_id LEFT JOIN connection c ON c.id = l.connection_id ";

JobView read_view(const Row& row) {
  JobView view;
  view.id = row.int64(0);
  view.kind = row.text(1);
  view.flow = row.text(2);
  view.connection = row.text(3);
  view.connection_id = row.int64(4);
  if (view.connection.empty() && view.connection_id != 0) view.connection = fmt::format("#{}", view.connection_id);
  view.state = static_cast<State>(row.int64(5));
  view.hold = static_cast<int>(row.int64(6));
  view.priority = static_cast<Priority>(row.int64(7));
  view.attempt = static_cast<int>(row.int64(8));
  view.interruptions = static_cast<int>(row.int64(9));
  view.folded = row.int64(10);
  view.in_doubt = row.int64(11) != 0;
  view.order_key = row.text(12);
  view.unique_key = row.text(13);
  view.cause = row.text(14);
  view.result = row.text(15);
  view.error_kind = row.text(16);
  view.error_code = row.text(17);
  view.error_message = row.text(18);
  // What went wrong before it went well is in its history.
  if (view.state == State::completed) view.error_kind = view.error_code = view.error_message = {};
  view.fingerprint = row.text(19);
  view.enqueued = row.time(20);
  view.run_at = row.time(21);
  view.started = row.maybe_time(22);
  view.finished = row.maybe_time(23);
  view.payload_version = static_cast<int>(row.int64(24));
  view.node_id = row.int64(25);
  return view;
}

[[noreturn]] void refuse(Error::Kind kind, std::string code, std::string message) {
  Error error(kind, std::move(message));
  error.code = std::move(code);
  throw error;
}

JobView view_of(Session& session, std::int64_t id, bool to_change = false) {
  if (to_change && session.engine() == Engine::postgres)
    session.execute("SELECT id FROM job WHERE id = $1 FOR UPDATE", {id});
  std::optional<JobView> view;
  session.first(std::string(kView) + ", j.payload" + std::string(kFrom) + "WHERE j.id = $1", {id}, [&](const Row& row) {
    view = read_view(row);
    view->payload = row.bytes(26);
  });
  if (!view)
    refuse(Error::Kind::not_found, "job",
           fmt::format("There is no job {}. Jobs that are done are deleted after their time.", id));
  return *view;
}

bool waits(const JobView& view) {
  return view.state == State::available || view.state == State::scheduled || view.state == State::retryable;
}

[[noreturn]] void wrong_state(const JobView& view, std::string_view wanted) {
  const char* instead = view.state == State::running     ? "It runs: wait until its attempt ends."
                        : view.state == State::discarded ? "It is a dead letter: `job retry` or `job discard` it."
                        : waits(view)                    ? "It waits for its turn: `job cancel` ends it."
                                                         : "It has ended, and stays as it is.";
  refuse(Error::Kind::conflict, "job_state",
         fmt::format("Job {} is {}, so it can't be {}. {}", view.id, name(view.state), wanted, instead));
}

void tell(Session& session, const JobView& view, std::string_view what, std::string_view message, const Act& act) {
  add_history(session, session.now(),
              {{.job_id = view.id, .what = what, .attempt = view.attempt, .message = message, .who = act.who}});
}

// What the handler would refuse is refused now, while somebody is there who can do better.
void check_edit(Session& session, const Kind* kind, const JobView& view, const std::string& payload) {
  if (!kind || !kind->check) {
    if (json::accept(view.payload) && !json::accept(payload))
      refuse(Error::Kind::invalid, "payload", "The payload was JSON, and this is not.");
    return;
  }
  const bool older = kind->upgrade && view.payload_version < kind->payload_version;
  const auto today = [&](const std::string& text) { return older ? kind->upgrade(text, view.payload_version) : text; };
  const std::string wanted = today(payload);
  std::string before = view.payload;
  try {
    before = today(view.payload);
  } catch (const Error& error) {
    ignore_error("the payload that is there could not be read; that may be why it is edited", error);
  }
  kind->check({.payload = wanted, .connector = connector_of(session, view.connection_id), .before = &before});
}

void make_available(Session& session, const JobView& view) {
  std::int64_t hold = view.hold;
  if (view.state == State::discarded) {
    hold = 0;
    if (view.hold == 3) hold = enter_order(session, view.order_key, 1) > 0 ? 1 : 0;
    if (!view.unique_key.empty()) retake_unique(session, view.unique_key, view.id);
  }
  session.execute(
      "UPDATE job SET state = 0, hold = $2, attempt = 0, interruptions = 0, run_at_us = $3, finished_us = NULL, "
      "fingerprint = '' WHERE id = $1",
      {view.id, hold, to_us(session.now())});
}

void end_as_cancelled(Session& session, const JobView& view, std::int64_t lane_id) {
  session.execute("UPDATE job SET state = 5, hold = 0, finished_us = $2, fingerprint = '' WHERE id = $1",
                  {view.id, to_us(session.now())});
  if (!view.unique_key.empty()) release_unique(session, view.unique_key, view.id);
  if (!view.order_key.empty() && view.hold != 3) leave_order(session, view.order_key, 1, view.hold != 1, session.now());
  add_tally(session, lane_id, 0, 0, 1);
}

std::int64_t lane_of(Session& session, std::int64_t job_id) {
  std::int64_t lane = 0;
  session.first("SELECT lane_id FROM job WHERE id = $1", {job_id}, [&](const Row& row) { lane = row.int64(0); });
  return lane;
}

// Milliseconds are of no use to people.
std::string at(Time time) {
  return format_odoo(time) + " UTC";
}

// A remote's words within ours: with one full stop at their end.
std::string sentence(std::string_view text) {
  const bool ended = !text.empty() && (text.back() == '.' || text.back() == '!' || text.back() == '?');
  return fmt::format("{}{}", text, ended ? "" : ".");
}

std::string jobs_word(std::int64_t count) {
  return count == 1 ? "1 job" : fmt::format("{} jobs", count);
}

std::string short_json(const json& value) {
  auto text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 200) {
    std::size_t end = 200;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    text.resize(end);
    text += "…";
  }
  return text;
}

}  // namespace

std::string payload_difference(const std::string& before, const std::string& after) {
  if (before == after) return "nothing changed";
  const auto old_value = json::parse(before, nullptr, false);
  const auto new_value = json::parse(after, nullptr, false);
  if (old_value.is_discarded() || new_value.is_discarded())
    return fmt::format("{} bytes replaced by {} others", before.size(), after.size());
  std::string out;
  for (const auto& step : json::diff(old_value, new_value)) {
    const std::string path = step.at("path");
    const std::string op = step.at("op");
    const auto pointer = json::json_pointer(path);
    const std::string place = path.empty() ? "/" : path;
    if (!out.empty()) out += '\n';
    if (op == "add")
      out += fmt::format("{}: added {}", place, short_json(step.at("value")));
    else if (op == "remove")
      out += fmt::format("{}: removed{}", place,
                         old_value.contains(pointer) ? " " + short_json(old_value.at(pointer)) : "");
    else
      out += fmt::format("{}: {} → {}", place, old_value.contains(pointer) ? short_json(old_value.at(pointer)) : "?",
                         short_json(step.at("value")));
    if (out.size() > kDifferenceMax) {
      out += "\n…";
      break;
    }
  }
  return out.empty() ? "the same values, written another way" : out;
}

std::vector<JobView> Board::list(const JobFilter& filter) {
  std::string where;
  std::vector<Param> params;
  const auto also = [&](const std::string& condition) { where += (where.empty() ? "WHERE " : " AND ") + condition; };
  const auto equals = [&](std::string_view column, Param value) {
    params.push_back(value);
    also(fmt::format("{} = ${}", column, params.size()));
  };
  if (filter.state == "waiting") {
    also("j.state IN (0, 1, 3)");
  } else if (!filter.state.empty()) {
    int number = -1;
    for (int i = 0; i <= 6; ++i)
      if (name(static_cast<State>(i)) == filter.state) number = i;
    // A literal, so that the index of that state can be used.
    also(fmt::format("j.state = {}", number));
  }
  if (!filter.kind.empty()) equals("l.kind", std::string_view(filter.kind));
  if (!filter.flow.empty()) equals("l.flow", std::string_view(filter.flow));
  if (!filter.fingerprint.empty()) equals("j.fingerprint", std::string_view(filter.fingerprint));
  if (filter.connection_id) equals("l.connection_id", *filter.connection_id);
  if (filter.before) {
    params.emplace_back(*filter.before);
    also(fmt::format("j.id < ${}", params.size()));
  }
  params.emplace_back(std::int64_t{filter.limit});
  std::vector<JobView> views;
  store_.read([&](Session& session) {
    views.clear();
    session.query(fmt::format("{}{}{} ORDER BY j.id DESC LIMIT ${}", kView, kFrom, where, params.size()), params,
                  [&](const Row& row) { views.push_back(read_view(row)); });
  });
  return views;
}

JobView Board::show(std::int64_t id) {
  JobView view;
  store_.read([&](Session& session) { view = view_of(session, id); });
  return view;
}

std::vector<HistoryView> Board::history(std::int64_t id) {
  std::vector<HistoryView> lines;
  store_.read([&](Session& session) {
    lines.clear();
    session.query(
        "SELECT at_us, what, attempt, code, message, who FROM job_history WHERE job_id = $1 ORDER BY id DESC LIMIT 200",
        {id}, [&](const Row& row) {
          lines.push_back({row.time(0), std::string(row.text(1)), static_cast<int>(row.int64(2)),
                           std::string(row.text(3)), std::string(row.text(4)), std::string(row.text(5))});
        });
  });
  std::reverse(lines.begin(), lines.end());
  return lines;
}

std::string Board::explain(std::int64_t id) {
  std::string out;
  store_.read([&](Session& session) {
    const auto job = view_of(session, id);
    const Kind* kind = kinds_.find(job.kind);
    const int tries = kind ? kind->attempts_max : 0;
    const std::string of = tries > 0 ? fmt::format(" of {}", tries) : "";
    const auto behind = [&] {
      std::int64_t count = 0;
      if (!job.order_key.empty())
        session.first("SELECT count(*) FROM job WHERE order_key = $1 AND hold = 1", {job.order_key},
                      [&](const Row& row) { count = row.int64(0); });
      return count;
    };
    switch (job.state) {
      case State::completed:
        out = fmt::format("It was done at {}.", at(job.finished.value_or(job.enqueued)));
        return;
      case State::cancelled:
        out = fmt::format("It was cancelled at {}; its history says by whom.", at(job.finished.value_or(job.enqueued)));
        return;
      case State::discarded: {
        out = fmt::format(
            "It has been a dead letter since {}: {} It waits for a person to retry, edit or discard it.",
            at(job.finished.value_or(job.enqueued)),
            sentence(job.error_message.empty() ? std::string_view("no reason was given") : job.error_message));
        if (const auto count = job.hold == 3 ? 0 : behind(); count > 0)
          out +=
              fmt::format(" Until then {} of its order key wait{} behind it.", jobs_word(count), count == 1 ? "s" : "");
        return;
      }
      case State::running: {
        std::string node = fmt::format("{}", job.node_id);
        session.first("SELECT name FROM node WHERE id = $1", {job.node_id},
                      [&](const Row& row) { node = row.text(0); });
        if (!job.started) {
          out = fmt::format("Node {} has taken it, and begins it as soon as there is room.", node);
          return;
        }
        out = fmt::format(
            "It runs on node {} since {}, attempt {}{}. If that node dies, another takes it over when its "
            "lease is over.",
            node, at(*job.started), job.attempt, of);
        if (session.first("SELECT 1 FROM job WHERE id = $1 AND again = 2", {id}, [](const Row&) {}))
          out += " A person has cancelled it: it ends as soon as it can be stopped.";
        return;
      }
      default:
        break;
    }

    if (job.hold == 1) {
      std::int64_t before = 0;
      session.first("SELECT count(*) FROM job WHERE order_key = $1 AND hold = 1 AND id < $2", {job.order_key, id},
                    [&](const Row& row) { before = row.int64(0); });
      std::int64_t first = 0, first_state = 0;
      // The one at the head is in one of the small sets, as a rule; the big one comes last.
      for (const char* where : {"state = 2", "state IN (1, 3) AND hold <> 1", "state = 6", "state = 0 AND hold = 2",
                                "state = 0 AND hold = 0"}) {
        if (session.first(fmt::format("SELECT id, state FROM job WHERE {} AND order_key = $1 LIMIT 1", where),
                          {job.order_key}, [&](const Row& row) {
                            first = row.int64(0);
                            first_state = row.int64(1);
                          }))
          break;
      }
      out = fmt::format("It waits for {} of its order key `{}`, which run{} one at a time and in order.",
                        jobs_word(before + 1), job.order_key, before == 0 ? "s" : "");
      if (first != 0)
        out += fmt::format(" First is job {}, which is {}{}.", first, name(static_cast<State>(first_state)),
                           static_cast<State>(first_state) == State::discarded
                               ? ", a dead letter: a person has to retry or discard it"
                               : "");
      return;
    }
    std::string paused;
    session.query(
        "SELECT what, name, reason, paused_by, since_us FROM job_pause WHERE (what = 'kind' AND name = $1) OR "
        "(what = 'flow' AND name = $2) OR (what = 'connection' AND name = $3)",
        {job.kind, job.flow, std::to_string(job.connection_id)}, [&](const Row& row) {
          paused =
              fmt::format("the {} `{}` was paused at {} by {}{}", row.text(0),
                          row.text(0) == "connection" ? std::string_view(job.connection) : row.text(1), at(row.time(4)),
                          row.text(3), row.text(2).empty() ? std::string() : fmt::format(" ({})", row.text(2)));
        });
    session.first("SELECT state, reason FROM connection WHERE id = $1", {job.connection_id}, [&](const Row& row) {
      if (row.text(0) == "paused")
        paused = fmt::format("the connection `{}` is paused ({})", job.connection, row.text(1));
    });
    if (!paused.empty()) {
      out = fmt::format("It waits because {}. It runs when that is resumed.", paused);
      return;
    }
    if (!kind) {
      out =
          fmt::format("It waits because this program does not know jobs of the kind `{}`: a newer one may.", job.kind);
      return;
    }
    const auto now = session.now();
    if (job.state != State::available && job.run_at > now) {
      if (job.state == State::retryable)
        out = fmt::format("It is tried again at {}, attempt {}{}, after it failed: {}", at(job.run_at), job.attempt + 1,
                          of, sentence(job.error_message));
      else
        out = fmt::format("It is due at {}.", at(job.run_at));
      return;
    }
    if (const auto lacking = breaker::lane_status(session, lane_of(session, id))) {
      out = fmt::format("It waits since {}: {} One job tries again at {}; if that gets through, all go on.",
                        at(lacking->since), sentence(lacking->message), at(std::max(lacking->until, now)));
      return;
    }
    if (const auto broken = breaker::status(session, job.connection_id)) {
      const std::string why = fmt::format("the connection `{}` has not worked since {}: {}", job.connection,
                                          at(broken->since), sentence(broken->message));
      switch (broken->state) {
        case breaker::State::held:
          out = fmt::format("It waits because {} It goes on when a person updates or resumes the connection.", why);
          return;
        case breaker::State::open:
          out = fmt::format("It waits because {} One job tries again at {}; if that is answered, all go on.", why,
                            at(std::max(broken->until, now)));
          return;
        case breaker::State::probing:
          out = fmt::format("It waits because {} One job is finding out whether it works again.", why);
          return;
        case breaker::State::closed:
          break;
      }
    }
    if (job.hold == 2) {
      out = fmt::format("It waits until nothing else runs on a node, because the process died {} times while it ran.",
                        job.interruptions);
      return;
    }
    bool nodes = false;
    session.first("SELECT 1 FROM node WHERE state = 'running'", {}, [&](const Row&) { nodes = true; });
    if (!nodes) {
      out = "It is ready, but no hub runs that could do it: start one with `dragoman run`.";
      return;
    }
    std::int64_t before = 0;
    session.first(
        "SELECT count(*) FROM job WHERE lane_id = $1 AND state = 0 AND hold = 0 AND (priority < $2 OR (priority = $2 "
        "AND id < $3))",
        {lane_of(session, id), static_cast<std::int64_t>(job.priority), id},
        [&](const Row& row) { before = row.int64(0); });
    out = before == 0 ? "It is ready and the next of its lane: it runs as soon as a node has room."
                      : fmt::format("It is ready and runs as soon as a node has room; {} of its lane come{} first.",
                                    jobs_word(before), before == 1 ? "s" : "");
  });
  return out;
}

void Board::retry(std::int64_t id, const Act& act) {
  store_.write([&](Session& session) {
    const auto view = view_of(session, id, true);
    if (view.state != State::discarded && !waits(view)) wrong_state(view, "retried");
    if (view.state == State::discarded) {
      make_available(session, view);
    } else {
      session.execute("UPDATE job SET state = 0, run_at_us = $2 WHERE id = $1", {id, to_us(session.now())});
    }
    tell(session, view, "retried", act.why, act);
    session.notify(kJobsChannel);
  });
}

std::string Board::edit(std::int64_t id, const std::string& payload, const Act& act) {
  std::string difference;
  store_.write([&](Session& session) {
    const auto view = view_of(session, id, true);
    if (view.state != State::discarded && !waits(view)) wrong_state(view, "edited");
    check_edit(session, kinds_.find(view.kind), view, payload);
    difference = payload_difference(view.payload, payload);
    session.execute("UPDATE job SET payload = $2 WHERE id = $1", {id, Bytes(payload)});
    tell(session, view, "edited", act.why.empty() ? difference : act.why + "\n" + difference, act);
  });
  return difference;
}

void Board::discard(std::int64_t id, const Act& act) {
  store_.write([&](Session& session) {
    const auto view = view_of(session, id, true);
    if (view.state != State::discarded) wrong_state(view, "discarded");
    end_as_cancelled(session, view, lane_of(session, id));
    tell(session, view, "discarded", act.why, act);
    session.notify(kJobsChannel);
  });
}

void Board::cancel(std::int64_t id, const Act& act) {
  store_.write([&](Session& session) {
    const auto view = view_of(session, id, true);
    if (view.state == State::running) {
      // Its node looks for these with every beat.
      session.execute("UPDATE job SET again = 2 WHERE id = $1", {id});
      tell(session, view, "cancel", act.why, act);
      return;
    }
    if (!waits(view)) wrong_state(view, "cancelled");
    end_as_cancelled(session, view, lane_of(session, id));
    tell(session, view, "cancelled", act.why, act);
    session.notify(kJobsChannel);
  });
}

std::vector<DeadGroup> Board::groups(int limit) {
  std::vector<DeadGroup> groups;
  store_.read([&](Session& session) {
    groups.clear();
    session.query(
        "SELECT fingerprint, count(*), min(id), max(id) FROM job WHERE state = 6 GROUP BY fingerprint "
        "ORDER BY count(*) DESC, fingerprint LIMIT $1",
        {std::int64_t{limit}}, [&](const Row& row) {
          groups.push_back({.fingerprint = std::string(row.text(0)),
                            .jobs = row.int64(1),
                            .first = row.int64(2),
                            .last = row.int64(3)});
        });
    for (auto& group : groups)
      session.first(
          "SELECT l.kind, j.error_code, j.error_message, j.finished_us FROM job j JOIN job_lane l ON l.id = j.lane_id "
          "WHERE j.id = $1",
          {group.last}, [&](const Row& row) {
            group.kind = row.text(0);
            group.code = row.text(1);
            group.message = row.text(2);
            group.latest = row.maybe_time(3);
          });
  });
  return groups;
}

std::int64_t Board::each_of_group(const std::string& fingerprint, const std::function<bool()>& go_on,
                                  const std::function<void(Session&, std::int64_t after, std::int64_t last)>& step) {
  std::int64_t after = 0, all = 0, end = 0;
  // Those that die again meanwhile keep their numbers, and are passed once only.
  store_.read([&](Session& session) {
    session.first("SELECT COALESCE(max(id), 0) FROM job WHERE state = 6 AND fingerprint = $1", {fingerprint},
                  [&](const Row& row) { end = row.int64(0); });
  });
  if (end == 0)
    refuse(Error::Kind::not_found, "group", fmt::format("There is no dead letter of the group {}.", fingerprint));
  bool last_step = false;
  while (!last_step && (!go_on || go_on())) {
    std::int64_t last = 0, count = 0;
    store_.write([&](Session& session) {
      last = count = 0;
      session.query(
          "SELECT id FROM job WHERE state = 6 AND fingerprint = $1 AND id > $2 AND id <= $3 ORDER BY id LIMIT $4",
          {fingerprint, after, end, kGroupStep}, [&](const Row& row) {
            last = row.int64(0);
            ++count;
          });
      last_step = count < kGroupStep;
      if (count == 0) return;
      step(session, after, last);
      session.notify(kJobsChannel);
    });
    after = std::max(after, last);
    all += count;
  }
  return all;
}

std::int64_t Board::retry_group(const std::string& fingerprint, const Act& act, const std::function<bool()>& go_on) {
  return each_of_group(fingerprint, go_on, [&](Session& session, std::int64_t after, std::int64_t last) {
    const auto now = to_us(session.now());
    const std::string_view who = act.who, why = act.why;
    session.execute(
        "INSERT INTO job_history (job_id, at_us, what, attempt, code, message, who) "
        "SELECT id, $4, 'retried', attempt, '', $5, $6 FROM job WHERE state = 6 AND fingerprint = $1 AND id > $2 "
        "AND id <= $3",
        {fingerprint, after, last, now, why, who});
    std::vector<std::int64_t> special;
    session.query(
        "SELECT id FROM job WHERE state = 6 AND fingerprint = $1 AND id > $2 AND id <= $3 AND "
        "(hold = 3 OR unique_key <> '') ORDER BY order_key, id",
        {fingerprint, after, last}, [&](const Row& row) { special.push_back(row.int64(0)); });
    for (const auto id : special) make_available(session, view_of(session, id));
    session.execute(
        "UPDATE job SET state = 0, hold = 0, attempt = 0, interruptions = 0, run_at_us = $4, finished_us = NULL, "
        "fingerprint = '' WHERE state = 6 AND fingerprint = $1 AND id > $2 AND id <= $3",
        {fingerprint, after, last, now});
  });
}

std::int64_t Board::discard_group(const std::string& fingerprint, const Act& act, const std::function<bool()>& go_on) {
  return each_of_group(fingerprint, go_on, [&](Session& session, std::int64_t after, std::int64_t last) {
    const Time now = session.now();
    const std::string_view who = act.who, why = act.why;
    session.execute(
        "INSERT INTO job_history (job_id, at_us, what, attempt, code, message, who) "
        "SELECT id, $4, 'discarded', attempt, '', $5, $6 FROM job WHERE state = 6 AND fingerprint = $1 AND id > $2 "
        "AND id <= $3",
        {fingerprint, after, last, to_us(now), why, who});
    std::map<std::int64_t, std::int64_t> by_lane;
    std::vector<std::string> keys;
    session.query(
        "SELECT lane_id, hold, order_key FROM job WHERE state = 6 AND fingerprint = $1 AND id > $2 AND id <= $3",
        {fingerprint, after, last}, [&](const Row& row) {
          ++by_lane[row.int64(0)];
          if (row.int64(1) != 3 && !row.text(2).empty()) keys.emplace_back(row.text(2));
        });
    session.execute(
        "UPDATE job SET state = 5, hold = 0, finished_us = $4, fingerprint = '' "
        "WHERE state = 6 AND fingerprint = $1 AND id > $2 AND id <= $3",
        {fingerprint, after, last, to_us(now)});
    std::sort(keys.begin(), keys.end());
    leave_orders(session, {keys.begin(), keys.end()}, now);
    for (const auto& [lane, count] : by_lane) add_tally(session, lane, 0, 0, count);
  });
}

std::vector<LaneView> Board::lanes() {
  std::map<std::int64_t, LaneView> lanes;
  std::vector<LaneView> out;
  store_.read([&](Session& session) {
    lanes.clear();
    out.clear();
    session.query(
        "SELECT l.id, l.connection_id, COALESCE(c.name, ''), l.flow, l.kind, COALESCE(c.state, ''), "
        "COALESCE(b.state, 0), COALESCE(b.until_us, 0), COALESCE(b.message, ''), w.until_us, w.message FROM job_lane l "
        "LEFT JOIN job_lane_wait w ON w.lane_id = l.id "
        "LEFT JOIN connection c ON c.id = l.connection_id LEFT JOIN breaker b ON b.connection_id = l.connection_id",
        {}, [&](const Row& row) {
          LaneView lane;
          lane.id = row.int64(0);
          lane.connection_id = row.int64(1);
          lane.connection = row.text(2);
          if (lane.connection.empty() && lane.connection_id != 0)
            lane.connection = fmt::format("#{}", lane.connection_id);
          lane.flow = row.text(3);
          lane.kind = row.text(4);
          const auto state = static_cast<breaker::State>(row.int64(6));
          if (row.text(5) == "paused")
            lane.closed = "the connection is paused";
          else if (!row.is_null(9))
            lane.closed = fmt::format("tried again at {}: {}", at(row.time(9)), row.text(10));
          else if (state == breaker::State::held)
            lane.closed = fmt::format("until a person acts: {}", row.text(8));
          else if (state == breaker::State::open)
            lane.closed = fmt::format("tried again at {}: {}", at(row.time(7)), row.text(8));
          else if (state == breaker::State::probing)
            lane.closed = fmt::format("being tried: {}", row.text(8));
          else if (!kinds_.find(lane.kind))
            lane.closed = "this program does not know the kind";
          lanes[lane.id] = std::move(lane);
        });
    session.query("SELECT what, name, reason, paused_by FROM job_pause", {}, [&](const Row& row) {
      const auto what = row.text(0), name = row.text(1);
      const auto closed = fmt::format("{} paused by {}{}", what, row.text(3),
                                      row.text(2).empty() ? std::string() : fmt::format(": {}", row.text(2)));
      bool any = false;
      for (auto& [id, lane] : lanes) {
        if ((what == "kind" && name == lane.kind) || (what == "flow" && name == lane.flow) ||
            (what == "connection" && name == std::to_string(lane.connection_id))) {
          lane.closed = closed;
          any = true;
        }
      }
      // No job was there yet, or the name is misspelt: what is paused has to be seen.
      if (any || what == "connection") return;
      LaneView idle;
      (what == "kind" ? idle.kind : idle.flow) = name;
      idle.closed = closed;
      out.push_back(std::move(idle));
    });
    const auto count = [&](std::string_view where, std::int64_t LaneView::* member) {
      session.query(fmt::format("SELECT lane_id, count(*) FROM job WHERE {} GROUP BY lane_id", where), {},
                    [&](const Row& row) { lanes[row.int64(0)].*member += row.int64(1); });
    };
    count("state = 0 AND hold = 0", &LaneView::ready);
    count("state = 0 AND hold = 2", &LaneView::ready);
    count("hold = 1", &LaneView::behind);
    count("state IN (1, 3) AND hold <> 1", &LaneView::later);
    count("state = 2", &LaneView::running);
    count("state = 6", &LaneView::dead);
    session.query(
        "SELECT lane_id, CAST(sum(done) AS BIGINT), CAST(sum(cancelled) AS BIGINT) FROM job_tally GROUP BY lane_id", {},
        [&](const Row& row) {
          lanes[row.int64(0)].done = row.int64(1);
          lanes[row.int64(0)].cancelled = row.int64(2);
        });
  });
  for (auto& [id, lane] : lanes) out.push_back(std::move(lane));
  std::sort(out.begin(), out.end(), [](const LaneView& a, const LaneView& b) {
    return std::tie(a.connection, a.flow, a.kind) < std::tie(b.connection, b.flow, b.kind);
  });
  return out;
}

JobCounts Board::counts() {
  JobCounts counts;
  for (const auto& lane : lanes()) {
    counts.waiting += lane.waiting();
    counts.running += lane.running;
    counts.done += lane.done;
    counts.cancelled += lane.cancelled;
    counts.dead += lane.dead;
  }
  return counts;
}

std::int64_t Board::pause(const std::string& what, const std::string& name, const Act& act) {
  store_.write([&](Session& session) {
    session.lock("job_pause");
    std::optional<std::string> held;
    session.first("SELECT reason FROM job_pause WHERE what = $1 AND name = $2", {what, name},
                  [&](const Row& row) { held = row.text(0); });
    if (held)
      session.execute("UPDATE job_pause SET reason = $3 WHERE what = $1 AND name = $2",
                      {what, name, joined_reason(*held, act.who, act.why)});
    else
      session.execute("INSERT INTO job_pause (what, name, reason, paused_by, since_us) VALUES ($1, $2, $3, $4, $5)",
                      {what, name, act.why, act.who, to_us(session.now())});
  });
  std::int64_t waiting = 0;
  for (const auto& lane : lanes())
    if ((what == "kind" && lane.kind == name) || (what == "flow" && lane.flow == name) ||
        (what == "connection" && std::to_string(lane.connection_id) == name))
      waiting += lane.waiting();
  return waiting;
}

std::int64_t Board::connection_is_gone(std::int64_t connection_id, const Act& act) {
  std::int64_t after = 0, all = 0, count = 0;
  do {
    std::int64_t last = after;
    store_.write([&](Session& session) {
      std::vector<std::int64_t> ids;
      session.query(
          "SELECT j.id FROM job j WHERE j.id > $2 AND j.state IN (0, 1, 3, 6) AND "
          "j.lane_id IN (SELECT id FROM job_lane WHERE connection_id = $1) ORDER BY j.id LIMIT $3",
          {connection_id, after, kGroupStep}, [&](const Row& row) { ids.push_back(row.int64(0)); });
      count = 0;
      for (const auto id : ids) {
        last = id;
        const auto view = view_of(session, id, true);
        if (view.state != State::discarded && !waits(view)) continue;
        end_as_cancelled(session, view, lane_of(session, id));
        tell(session, view, "cancelled", act.why, act);
        ++count;
      }
      if (ids.empty()) {
        breaker::reset(session, connection_id);
        session.execute("DELETE FROM job_pause WHERE what = 'connection' AND name = $1",
                        {std::to_string(connection_id)});
      }
    });
    if (last == after) break;
    after = last;
    all += count;
  } while (true);
  return all;
}

void Board::connection_is_well(std::int64_t connection_id) {
  store_.write([&](Session& session) {
    breaker::reset(session, connection_id);
    session.notify(kJobsChannel);
  });
}

bool Board::resume(const std::string& what, const std::string& name) {
  bool was = false;
  store_.write([&](Session& session) {
    was = session.execute("DELETE FROM job_pause WHERE what = $1 AND name = $2", {what, name}) > 0;
    if (what == "connection") was |= breaker::reset(session, std::int64_t{std::strtoll(name.c_str(), nullptr, 10)});
    if (!was) return;
    session.notify(kJobsChannel);
  });
  return was;
}

}  // namespace dragoman::jobs
