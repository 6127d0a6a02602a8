#include "simulation/checks.h"

#include <fmt/format.h>

#include "audit/audit.h"

namespace dragoman::simulation {
namespace {

using store::Row;
using store::Session;

// As stored; written again here, so that a change there is noticed.
constexpr std::int64_t kAvailable = 0, kRunning = 2, kCompleted = 4, kCancelled = 5, kDead = 6;

}  // namespace

void Checks::committed(const Deed& deed, const Touched& touched, const std::shared_ptr<Life>& life) {
  if (touched.nodes || deed.what == "start") look_at_nodes(deed, life);
  if (touched.jobs) look_at_jobs(deed, life);
  if (touched.deliveries) look_at_deliveries();
  if (touched.audit) look_at_audit();
}

void Checks::look_at_nodes(const Deed& deed, const std::shared_ptr<Life>& life) {
  std::map<std::int64_t, NodeRow> now;
  store_.read([&](Session& session) {
    session.query("SELECT id, name, state, beat FROM node", {}, [&](const Row& row) {
      now[row.int64(0)] = {.name = std::string(row.text(1)), .state = std::string(row.text(2)), .beat = row.int64(3)};
    });
    session.query("SELECT name, term, node_id FROM leader", {}, [&](const Row& row) {
      const std::string what(row.text(0));
      const auto term = row.int64(1), node = row.int64(2);
      if (term < terms_[what]) world_.violate("I8", fmt::format("the term of {} went back to {}", what, term));
      terms_[what] = term;
      if (node == 0) return;
      const auto [known, fresh] = leaders_.try_emplace({what, term}, node);
      if (known->second != node)
        world_.violate("I8", fmt::format("{} led {} in term {}, and then {} did", known->second, what, term, node));
      if (fresh) {
        world_.note(fmt::format("node {} leads {} in term {}", node, what, term));
        if (!now.count(node) || now[node].state != "running")
          world_.violate("I8", fmt::format("node {} leads {} and does not live", node, what));
      }
    });
  });
  for (auto& [id, row] : now) {
    const auto known = nodes_.find(id);
    if (known == nodes_.end()) {
      row.beaten = world_.fibres.now();
      row.life = life;
      world_.note(fmt::format("node {} is {}", id, row.name));
      continue;
    }
    const auto& before = known->second;
    row.life = before.life;
    row.beaten = row.beat != before.beat ? world_.fibres.now() : before.beaten;
    if (before.state != "running" && row.state == "running")
      world_.violate("I2", fmt::format("node {} came back from the dead", id));
    if (before.state == "running" && row.state == "dead") {
      world_.note(fmt::format("node {} is declared dead", id));
      const auto its = before.life.lock();
      const bool gone = !its || !its->alive();
      if (!gone && its.get() == life.get() && deed.what == "start") continue;  // it was lost, and registers anew
      if (!gone && world_.fibres.now() - before.beaten < kLease)
        world_.violate("I2", fmt::format("node {} was declared dead {} us after its last beat", id,
                                         (world_.fibres.now() - before.beaten).count()));
    }
  }
  nodes_ = std::move(now);
}

void Checks::look_at_jobs(const Deed& deed, const std::shared_ptr<Life>& life) {
  std::map<std::int64_t, JobRow> now;
  std::int64_t ended = 0;
  store_.read([&](Session& session) {
    session.query(
        "SELECT j.id, j.state, j.hold, j.fence, j.node_id, j.attempt, j.interruptions, j.order_key, j.error_code, "
        "l.kind, l.flow, CAST(l.connection_id AS TEXT), j.started_us FROM job j JOIN job_lane l ON l.id = j.lane_id "
        "ORDER BY j.id",
        {}, [&](const Row& row) {
          now.emplace_hint(now.end(), row.int64(0),
                           JobRow{.state = row.int64(1),
                                  .hold = row.int64(2),
                                  .fence = row.int64(3),
                                  .node_id = row.int64(4),
                                  .attempt = row.int64(5),
                                  .interruptions = row.int64(6),
                                  .order_key = std::string(row.text(7)),
                                  .error_code = std::string(row.text(8)),
                                  .kind = std::string(row.text(9)),
                                  .flow = std::string(row.text(10)),
                                  .connection = std::string(row.text(11)),
                                  .started = !row.is_null(12)});
        });
    session.query("SELECT COALESCE(sum(done + cancelled), 0) FROM job_tally", {},
                  [&](const Row& row) { ended = row.int64(0); });
  });
  auto before = std::exchange(jobs_, std::move(now));
  std::int64_t open = 0;
  for (const auto& [id, row] : jobs_) {
    open += row.state != kCompleted && row.state != kCancelled;
    const auto known = before.find(id);
    if (known != before.end()) {
      look_at_job(deed, life, id, known->second, row);
      before.erase(known);
      continue;
    }
    ++accepted_;
    world_.note(fmt::format("job {} {} {}", id, row.kind, row.order_key));
    if (row.state == kRunning || row.fence != 0)
      world_.violate("I2", fmt::format("job {} is born in state {} with fence {}", id, row.state, row.fence));
  }
  for (const auto& [id, row] : before)
    if (deed.what != "retention" || (row.state != kCompleted && row.state != kCancelled))
      world_.violate("I1", fmt::format("job {} in state {} is gone by {}", id, row.state, deed.what));
  if (accepted_ != ended + open)
    world_.violate("I10", fmt::format("{} jobs were accepted; {} ended and {} have not", accepted_, ended, open));
}

void Checks::look_at_job(const Deed& deed, const std::shared_ptr<Life>& life, std::int64_t id, const JobRow& before,
                         const JobRow& now) {
  if (before.state != now.state || before.fence != now.fence)
    world_.note(fmt::format("job {} {}>{} fence {} attempt {} interruptions {} hold {} {}", id, before.state, now.state,
                            now.fence, now.attempt, now.interruptions, now.hold,
                            now.state == kDead ? now.error_code : ""));
  if (now.fence < before.fence) world_.violate("I3", fmt::format("the fence of job {} went back", id));
  if ((before.state == kCompleted || before.state == kCancelled) && now.state != before.state)
    world_.violate("I1", fmt::format("job {} had ended, and is in state {}", id, now.state));
  if (before.state == kDead && now.state != kDead && deed.what != "person")
    world_.violate("I1", fmt::format("the dead letter {} was touched by {}", id, deed.what));

  const bool left = before.state == kRunning && (now.state != kRunning || now.fence != before.fence);
  if (left) {
    const jobs::Finished* by = nullptr;
    for (const auto& one : deed.finished)
      if (one.claimed.job.id == id && (!by || one.claimed.job.fence == before.fence)) by = &one;
    const bool counted = now.interruptions == before.interruptions + 1;
    const auto owner = nodes_.find(before.node_id);
    const bool orphan = owner != nodes_.end() && owner->second.state != "running";
    const bool rescued = counted || (!by && (now.state == kDead || (orphan && deed.what != "put back")));
    if (by && !rescued) {
      if (by->claimed.job.fence != before.fence)
        world_.violate("I3", fmt::format("job {} runs with fence {}, and was ended with fence {}", id, before.fence,
                                         by->claimed.job.fence));
      ended_.emplace(id, before.fence);
      // Also where it has to run once more, because its payload was replaced.
      if (by->outcome.what == jobs::Outcome::What::done && on_done) on_done(id, before.fence);
    } else if (rescued) {
      if (!orphan) world_.violate("I2", fmt::format("job {} was taken from node {}, which lives", id, before.node_id));
      if (counted != before.started)
        world_.violate("I2", fmt::format("job {} had {}begun when node {} died, and that was {}counted", id,
                                         before.started ? "" : "not ", before.node_id, counted ? "" : "not "));
      if (counted && before.interruptions > 0 && !begun_.count({id, before.fence}))
        world_.violate("I2",
                       fmt::format("job {} never began, and is blamed for the death of node {}", id, before.node_id));
      if (now.state == kDead && (now.error_code != "poison" || now.interruptions < 4))
        world_.violate("I2", fmt::format("job {} died of {} interruptions", id, now.interruptions));
      if (now.fence == before.fence)
        world_.violate("I3", fmt::format("job {} was rescued and its fence did not grow", id));
    } else if (deed.what == "put back") {
      if (claims_.count({id, before.fence}))
        world_.violate("I2", fmt::format("job {} was put back, and node {} has it", id, before.node_id));
    } else {
      world_.violate("I2", fmt::format("job {} was taken from node {} by {}", id, before.node_id, deed.what));
    }
  }
  const bool began = now.state == kRunning && (before.state != kRunning || now.fence != before.fence);
  if (began) {
    if (now.fence <= before.fence)
      world_.violate("I3", fmt::format("job {} was claimed and its fence did not grow", id));
    const auto owner = nodes_.find(now.node_id);
    if (owner == nodes_.end() || owner->second.state != "running")
      world_.violate("I2", fmt::format("job {} was claimed for node {}, which does not live", id, now.node_id));
    else if (owner->second.life.lock() != life)
      world_.violate("I2", fmt::format("job {} was claimed by another process for node {}", id, now.node_id));
    if (!paused_what_.empty() && paused_name_ == (paused_what_ == "kind"   ? now.kind
                                                  : paused_what_ == "flow" ? now.flow
                                                                           : now.connection))
      world_.violate("pause", fmt::format("job {} began, and its {} is paused", id, paused_what_));
    if (!now.order_key.empty())
      for (const auto& [other, row] : jobs_) {
        if (other >= id) break;
        if (row.order_key == now.order_key && row.state != kCompleted && row.state != kCancelled && row.hold != 3)
          world_.violate("order", fmt::format("job {} began before job {} of the same key had ended", id, other));
      }
  }
}

void Checks::look_at_deliveries() {
  store_.read([&](Session& session) {
    session.query("SELECT connection_id, model, record_key, intent_job, intent_version, version FROM delivery", {},
                  [&](const Row& row) {
                    auto& known = deliveries_[{row.int64(0), std::string(row.text(1)), std::string(row.text(2))}];
                    if (row.int64(5) < known.version)
                      world_.violate("I7", fmt::format("the applied version of {} went back from {} to {}", row.text(2),
                                                       known.version, row.int64(5)));
                    known = {.intent_version = row.maybe_int64(4).value_or(0),
                             .version = row.int64(5),
                             .intended = !row.is_null(3)};
                  });
    std::map<std::pair<std::int64_t, std::string>, std::string> means;
    std::set<std::pair<std::int64_t, std::string>> ours;
    session.query("SELECT connection_id, entity, internal_id, external_id FROM integration_mapping", {},
                  [&](const Row& row) {
                    const std::string internal = fmt::format("{} {}", row.text(1), row.text(2));
                    if (!means.try_emplace({row.int64(0), std::string(row.text(3))}, internal).second)
                      world_.violate("I6", fmt::format("{} means two of ours", row.text(3)));
                    if (!ours.emplace(row.int64(0), internal).second)
                      world_.violate("I6", fmt::format("{} means two of theirs", internal));
                  });
    for (const auto& [external, internal] : means_) {
      const auto now = means.find(external);
      if (now != means.end() && now->second != internal)
        world_.violate("I6", fmt::format("{} meant {}, and now {}", external.second, internal, now->second));
    }
    means_ = std::move(means);
  });
}

void Checks::look_at_audit() {
  store_.read([&](Session& session) {
    audit::stream(session, {}, audited_, [&](const audit::Link& link) {
      if (link.number != audited_ + 1 || link.previous != audit_hash_ || audit::hash_of(link) != link.hash)
        world_.violate("I9", fmt::format("the audit chain breaks at {}", link.number));
      audited_ = link.number;
      audit_hash_ = link.hash;
      return true;
    });
  });
}

void Checks::claimed(const jobs::Claimed& claimed) {
  if (!claims_.emplace(claimed.job.id, claimed.job.fence).second)
    world_.violate("I2", fmt::format("job {} was given out twice with fence {}", claimed.job.id, claimed.job.fence));
}

void Checks::recorded(const jobs::Claimed& claimed) {
  if (!ended_.count({claimed.job.id, claimed.job.fence}))
    world_.violate("I3", fmt::format("job {} was ended with fence {}, which was not its own then", claimed.job.id,
                                     claimed.job.fence));
}

void Checks::paused(std::string what, std::string name) {
  paused_what_ = std::move(what);
  paused_name_ = std::move(name);
}

void Checks::about_to_send(const Remote& remote, std::span<const pipeline::Outgoing> records) {
  for (const auto& record : records) {
    const auto row = deliveries_.find({remote.connection_id, record.model, record.key});
    const bool recorded =
        row != deliveries_.end() && ((row->second.intended && row->second.intent_version >= record.version) ||
                                     row->second.version >= record.version);
    if (!recorded)
      world_.violate("I4", fmt::format("{} v{} is sent and no intent is recorded", record.key, record.version));
  }
}

void Checks::acknowledged(std::int64_t inbox_id, std::size_t records) {
  std::int64_t there = 0;
  store_.read([&](Session& session) {
    session.query("SELECT job_id FROM inbox_record WHERE inbox_id = $1", {inbox_id}, [&](const Row& row) {
      const auto job = row.int64(0);
      // Gone by retention is checked where it goes.
      if (job > 0 && job <= accepted_) ++there;
    });
  });
  if (there != static_cast<std::int64_t>(records))
    world_.violate("I1",
                   fmt::format("inbox {} was acknowledged with {} records, and has {}", inbox_id, records, there));
}

bool Checks::run_elsewhere(const std::set<std::pair<std::int64_t, std::int64_t>>& jobs, const Life& than) const {
  for (const auto& [id, fence] : jobs) {
    const auto job = jobs_.find(id);
    if (job == jobs_.end() || job->second.state != kRunning) continue;
    const auto node = nodes_.find(job->second.node_id);
    if (node != nodes_.end() && node->second.life.lock().get() != &than) return true;
  }
  return false;
}

bool Checks::quiet() const {
  for (const auto& [id, row] : jobs_)
    if (row.kind != "tick" && row.state != kCompleted && row.state != kCancelled) return false;
  return true;
}

std::vector<Checks::Dead> Checks::dead() const {
  std::vector<Dead> out;
  for (const auto& [id, row] : jobs_)
    if (row.state == kDead) out.push_back({id, row.error_code});
  return out;
}

std::string Checks::unfinished() const {
  std::string out;
  for (const auto& [id, row] : jobs_)
    if (row.state != kCompleted && row.state != kCancelled)
      out += fmt::format(" job {} {} state {} hold {} node {} {};", id, row.order_key, row.state, row.hold, row.node_id,
                         row.error_code);
  return out;
}

void Checks::at_the_end() {
  const auto verdict = audit::verify(store_);
  if (verdict.broken) world_.violate("I9", verdict.broken->message);
  for (const auto& [external, internal] : means_) {
    const auto remote = remotes_.find(external.first);
    if (remote == remotes_.end()) continue;
    bool found = false;
    for (const auto& [key, records] : remote->second->records())
      for (const auto& record : records) {
        if (external.second == fmt::format("{}:{}:{}", remote->second->system, key.first, record.id))
          found |= internal == key.first + " " + key.second;
        for (const auto& [child, id] : record.children)
          if (external.second == fmt::format("{}:{}.line:{}", remote->second->system, key.first, id))
            found |= internal == "order_line " + key.second + "/" + child;
      }
    if (!found) world_.violate("I6", fmt::format("{} is mapped to {}, which is not so", external.second, internal));
  }
}

std::string Checks::picture() {
  std::string out;
  store_.read([&](Session& session) {
    const auto add = [&](const std::string& table, std::initializer_list<const char*> columns) {
      std::string list;
      for (const char* column : columns) list += fmt::format("{}CAST({} AS TEXT)", list.empty() ? "" : ", ", column);
      session.query(fmt::format("SELECT {} FROM {} ORDER BY {}", list, table, *columns.begin()), {},
                    [&](const Row& row) {
                      out += table;
                      for (int i = 0; i < static_cast<int>(columns.size()); ++i)
                        out += fmt::format("|{}", row.is_null(i) ? "-" : row.text(i));
                      out += '\n';
                    });
    };
    add("job", {"id", "state", "fence", "attempt", "interruptions", "run_at_us", "finished_us", "result"});
    add("job_history", {"id", "job_id", "at_us", "what", "message", "who"});
    add("delivery", {"record_key", "version", "external_id", "job_id", "applied_us", "intent_job"});
    add("sync_log", {"id", "outcome", "counts", "errors", "started_us", "finished_us"});
    add("audit", {"number", "at_us", "actor", "subject", "why", "outcome"});
  });
  return out;
}

}  // namespace dragoman::simulation
