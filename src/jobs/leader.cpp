#include "jobs/leader.h"

#include "base/log.h"

namespace dragoman::jobs {

using store::Row;
using store::Session;

Leader::Leader(store::Store& store, const Node& node, std::string name)
    : store_(store), node_(node), name_(std::move(name)) {}

std::optional<std::int64_t> Leader::campaign() {
  std::int64_t term = 0, holder = 0;
  bool there = false, alive = false;
  store_.read([&](Session& session) {
    there = session.first(
        "SELECT l.term, l.node_id, CASE WHEN EXISTS (SELECT 1 FROM node n WHERE n.id = l.node_id AND "
        "n.state = 'running') THEN 1 ELSE 0 END FROM leader l WHERE l.name = $1",
        {name_}, [&](const Row& row) {
          term = row.int64(0);
          holder = row.int64(1);
          alive = row.int64(2) != 0;
        });
  });
  if (there && alive) {
    term_ = holder == node_.id() ? std::optional(term) : std::nullopt;
    return term_;
  }
  bool taken = false;
  store_.write([&](Session& session) {
    // Held until we have committed: a leader is a node that lives.
    taken = session.execute("UPDATE node SET beat_us = beat_us WHERE id = $1 AND state = 'running'", {node_.id()}) > 0;
    if (!taken) return;
    if (there)
      taken = session.execute(
                  "UPDATE leader SET term = term + 1, node_id = $2 WHERE name = $1 AND term = $3 AND node_id = $4",
                  {name_, node_.id(), term, holder}) > 0;
    else
      taken =
          session.execute("INSERT INTO leader (name, term, node_id) VALUES ($1, 1, $2) ON CONFLICT (name) DO NOTHING",
                          {name_, node_.id()}) > 0;
  });
  term_ = taken ? std::optional(term + 1) : std::nullopt;
  if (term_) log::info("this node leads", {{"what", name_}, {"term", *term_}});
  return term_;
}

bool Leader::holds(Session& session, std::int64_t term) const {
  return session.execute("UPDATE leader SET term = term WHERE name = $1 AND term = $2 AND node_id = $3",
                         {name_, term, node_.id()}) > 0;
}

void Leader::resign() {
  if (!term_) return;
  store_.write([&](Session& session) {
    session.execute("UPDATE leader SET node_id = 0 WHERE name = $1 AND term = $2 AND node_id = $3",
                    {name_, *term_, node_.id()});
  });
  term_.reset();
}

}  // namespace dragoman::jobs
