#include "jobs/node.h"

#include <fmt/format.h>

#include "base/log.h"

namespace dragoman::jobs {

using store::Engine;
using store::Row;
using store::Session;

Node::Node(Queue& queue, Clock& clock, NodeSettings settings)
    : queue_(queue), store_(queue.store()), clock_(clock), settings_(std::move(settings)) {}

void Node::start() {
  const Micros sent = clock_.steady();
  std::int64_t id = 0;
  std::vector<std::int64_t> earlier;
  store_.write([&](Session& session) {
    id = 0;
    earlier.clear();
    const auto now = to_us(session.now());
    const auto add = [&](const Row& row) { earlier.push_back(row.int64(0)); };
    if (session.engine() == Engine::sqlite)
      session.query("SELECT id FROM node WHERE state = 'running'", {}, add);
    else
      session.query("SELECT id FROM node WHERE state = 'running' AND name = $1", {settings_.name}, add);
    session.first(
        "INSERT INTO node (name, version, state, started_us, beat_us) VALUES ($1, $2, 'running', $3, $3) RETURNING id",
        {settings_.name, settings_.version, now}, [&](const Row& row) { id = row.int64(0); });
  });
  id_ = id;
  beaten_us_ = sent.count();
  {
    std::lock_guard lock(mutex_);
    seen_.clear();
    looked_.reset();
  }
  for (const auto one : earlier) bury(one, std::nullopt, "it was started again");
}

bool Node::beat() {
  const Micros sent = clock_.steady();
  bool alive = false;
  store_.write([&](Session& session) {
    alive = session.execute("UPDATE node SET beat = beat + 1, beat_us = $2 WHERE id = $1 AND state = 'running'",
                            {id(), to_us(session.now())}) > 0;
  });
  if (alive) beaten_us_ = sent.count();
  return alive;
}

bool Node::fresh() const {
  return clock_.steady() - Micros(beaten_us_) < settings_.lease;
}

std::int64_t Node::watch() {
  std::lock_guard lock(mutex_);
  const Micros before = clock_.steady();
  std::map<std::int64_t, std::int64_t> beats;
  std::vector<std::int64_t> orphaned;
  store_.read([&](Session& session) {
    beats.clear();
    orphaned.clear();
    session.query("SELECT id, beat FROM node WHERE state = 'running'", {},
                  [&](const Row& row) { beats[row.int64(0)] = row.int64(1); });
    // Of nodes that ended and left something running: a handler that would not stop, or a bug.
    session.query(
        "SELECT DISTINCT node_id FROM job WHERE state = 2 AND node_id NOT IN (SELECT id FROM node WHERE "
        "state = 'running')",
        {}, [&](const Row& row) { orphaned.push_back(row.int64(0)); });
  });
  const Micros after = clock_.steady();
  // Who was away himself, or could not reach the database, has not seen whether the others beat meanwhile.
  const bool away = !looked_ || before - *looked_ > settings_.lease / 2;
  looked_ = after;

  std::int64_t rescued = 0;
  for (const auto id : orphaned)
    store_.write([&](Session& session) {
      const bool lives =
          session.first("SELECT 1 FROM node WHERE id = $1 AND state = 'running'", {id}, [](const Row&) {});
      if (!lives) rescued += queue_.rescue(session, id, fmt::format("node {}", settings_.name));
    });
  for (const auto& [id, beat] : beats) {
    if (id == this->id()) continue;
    const auto found = seen_.find(id);
    if (found == seen_.end() || found->second.beat != beat || away) {
      // Counted from after the look, since the beat may be as young as that.
      seen_[id] = {beat, after};
      continue;
    }
    if (before - found->second.since < settings_.lease) continue;
    rescued += bury(id, beat, "its heartbeat stood still for a whole lease");
  }
  std::erase_if(seen_, [&](const auto& one) { return !beats.count(one.first); });
  return rescued;
}

std::int64_t Node::bury(std::int64_t id, std::optional<std::int64_t> beat, std::string_view why) {
  std::int64_t rescued = 0;
  bool buried = false;
  store_.write([&](Session& session) {
    rescued = 0;
    const auto now = to_us(session.now());
    buried = (beat ? session.execute("UPDATE node SET state = 'dead', beat_us = $3 WHERE id = $1 AND beat = $2 AND "
                                     "state = 'running'",
                                     {id, *beat, now})
                   : session.execute("UPDATE node SET state = 'dead', beat_us = $2 WHERE id = $1 AND "
                                     "state = 'running'",
                                     {id, now})) > 0;
    if (buried) rescued = queue_.rescue(session, id, fmt::format("node {}", settings_.name));
  });
  if (buried)
    log::warning("a node is dead, its jobs were taken over",
                 {{"node", id}, {"why", why}, {"jobs", rescued}, {"by", settings_.name}});
  return rescued;
}

void Node::stop() {
  if (id() == 0) return;
  store_.write([&](Session& session) {
    session.execute("UPDATE node SET state = 'stopped', beat_us = $2 WHERE id = $1 AND state = 'running'",
                    {id(), to_us(session.now())});
  });
}

std::vector<NodeLine> nodes(Session& session) {
  std::vector<NodeLine> lines;
  session.query(
      "SELECT n.id, n.name, n.version, n.state, n.started_us, n.beat_us, "
      "(SELECT count(*) FROM job j WHERE j.node_id = n.id AND j.state = 2) FROM node n "
      "ORDER BY CASE WHEN n.state = 'running' THEN 0 ELSE 1 END, n.id DESC LIMIT 50",
      {}, [&](const Row& row) {
        lines.push_back({.id = row.int64(0),
                         .name = std::string(row.text(1)),
                         .version = std::string(row.text(2)),
                         .state = std::string(row.text(3)),
                         .started = row.time(4),
                         .beat = row.time(5),
                         .running = row.int64(6)});
      });
  return lines;
}

}  // namespace dragoman::jobs
