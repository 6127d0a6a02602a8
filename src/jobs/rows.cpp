#include "jobs/rows.h"

#include <algorithm>
#include <charconv>

#include "jobs/job.h"

namespace dragoman::jobs {

using store::Engine;
using store::Param;
using store::Row;
using store::Session;

std::string id_array(const std::vector<std::int64_t>& ids) {
  std::string out = "{";
  out.reserve(ids.size() * 9 + 2);
  char digits[24];
  for (const auto id : ids) {
    if (out.size() > 1) out += ',';
    out.append(digits, std::to_chars(digits, digits + sizeof digits, id).ptr);
  }
  return out += '}';
}

std::string text_array(const std::vector<std::string_view>& texts) {
  std::string out = "{";
  for (const auto text : texts) {
    out += out.size() > 1 ? ",\"" : "\"";
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
    out += '"';
  }
  return out += '}';
}

void add_history(Session& session, Time now, const std::vector<HistoryLine>& lines) {
  if (lines.empty()) return;
  static constexpr std::string_view kColumns[] = {"job_id", "at_us", "what", "attempt", "code", "message", "who"};
  std::vector<Param> values;
  values.reserve(lines.size() * std::size(kColumns));
  for (const auto& line : lines) {
    values.emplace_back(line.job_id);
    values.emplace_back(to_us(now));
    values.emplace_back(line.what);
    values.emplace_back(std::int64_t{line.attempt});
    values.emplace_back(line.code);
    values.emplace_back(line.message);
    values.emplace_back(line.who);
  }
  if (lines.size() == 1)
    session.execute(
        "INSERT INTO job_history (job_id, at_us, what, attempt, code, message, who) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7)",
        values);
  else
    session.insert_many("job_history", kColumns, values);
}

bool leave_order(Session& session, std::string_view key, std::int64_t ended, bool promote, Time now) {
  // Most are the last of their key.
  if (ended == 1 && session.execute("DELETE FROM order_queue WHERE key = $1 AND unfinished = 1", {key}) > 0)
    return false;
  std::int64_t left = 0;
  if (!session.first("UPDATE order_queue SET unfinished = unfinished - $2 WHERE key = $1 RETURNING unfinished",
                     {key, ended}, [&](const Row& row) { left = row.int64(0); }))
    return false;
  if (left <= 0) {
    session.execute("DELETE FROM order_queue WHERE key = $1", {key});
    return false;
  }
  if (!promote) return false;
  return session.execute(
             "UPDATE job SET hold = 0, state = CASE WHEN run_at_us <= $2 THEN 0 ELSE state END "
             "WHERE id = (SELECT min(id) FROM job WHERE order_key = $1 AND hold = 1)",
             {key, to_us(now)}) > 0;
}

bool leave_orders(Session& session, const std::vector<std::string_view>& keys, Time now) {
  bool promoted = false;
  const bool twice = std::adjacent_find(keys.begin(), keys.end()) != keys.end();
  if (session.engine() == Engine::sqlite || keys.size() == 1 || twice) {
    for (const auto key : keys) promoted |= leave_order(session, key, 1, true, now);
    return promoted;
  }
  if (keys.empty()) return false;
  const auto array = text_array(keys);
  // Locked in their order first: who locks several never waits for one who waits for him. Most are the last of their
  // key.
  std::vector<std::string> last, left;
  session.query("SELECT key, unfinished FROM order_queue WHERE key = ANY(CAST($1 AS text[])) ORDER BY key FOR UPDATE",
                {array}, [&](const Row& row) { (row.int64(1) <= 1 ? last : left).emplace_back(row.text(0)); });
  if (!last.empty())
    session.execute("DELETE FROM order_queue WHERE key = ANY(CAST($1 AS text[]))",
                    {text_array({last.begin(), last.end()})});
  if (left.empty()) return false;
  const auto left_array = text_array({left.begin(), left.end()});
  session.execute("UPDATE order_queue SET unfinished = unfinished - 1 WHERE key = ANY(CAST($1 AS text[]))",
                  {left_array});
  return session.execute(
             "UPDATE job SET hold = 0, state = CASE WHEN run_at_us <= $2 THEN 0 ELSE state END WHERE id = ANY(ARRAY("
             "SELECT min(id) FROM job WHERE order_key = ANY(CAST($1 AS text[])) AND hold = 1 GROUP BY order_key))",
             {left_array, to_us(now)}) > 0;
}

std::int64_t enter_order(Session& session, std::string_view key, std::int64_t entering) {
  std::int64_t before = 0;
  session.first(
      "INSERT INTO order_queue (key, unfinished) VALUES ($1, $2) "
      "ON CONFLICT (key) DO UPDATE SET unfinished = order_queue.unfinished + excluded.unfinished RETURNING unfinished",
      {key, entering}, [&](const Row& row) { before = row.int64(0) - entering; });
  return before;
}

void release_unique(Session& session, std::string_view key, std::int64_t job_id) {
  session.execute("DELETE FROM job_unique WHERE key = $1 AND job_id = $2", {key, job_id});
}

void retake_unique(Session& session, std::string_view key, std::int64_t job_id) {
  session.execute("INSERT INTO job_unique (key, job_id) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING", {key, job_id});
}

std::string connector_of(Session& session, std::int64_t connection_id) {
  std::string kind;
  session.first("SELECT kind FROM connection WHERE id = $1", {connection_id},
                [&](const Row& row) { kind = row.text(0); });
  return kind;
}

void add_tally(Session& session, std::int64_t lane_id, std::int64_t slot, std::int64_t done, std::int64_t cancelled) {
  session.execute(
      "INSERT INTO job_tally (lane_id, slot, done, cancelled) VALUES ($1, $2, $3, $4) "
      "ON CONFLICT (lane_id, slot) DO UPDATE SET done = job_tally.done + excluded.done, "
      "cancelled = job_tally.cancelled + excluded.cancelled",
      {lane_id, slot, done, cancelled});
}

}  // namespace dragoman::jobs
