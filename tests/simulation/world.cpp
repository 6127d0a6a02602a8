#include "simulation/world.h"

#include <fmt/format.h>

#include "base/error.h"

namespace dragoman::simulation {

std::string_view name(Fault fault) {
  switch (fault) {
    case Fault::call_refused:
      return "call_refused";
    case Fault::call_lost:
      return "call_lost";
    case Fault::answer_lost:
      return "answer_lost";
    case Fault::reset_after_commit:
      return "reset_after_commit";
    case Fault::answer_garbled:
      return "answer_garbled";
    case Fault::call_slow:
      return "call_slow";
    case Fault::call_late:
      return "call_late";
    case Fault::call_doubled:
      return "call_doubled";
    case Fault::calls_reordered:
      return "calls_reordered";
    case Fault::handler_stuck:
      return "handler_stuck";
    case Fault::remote_busy:
      return "remote_busy";
    case Fault::remote_down:
      return "remote_down";
    case Fault::two_callers:
      return "two_callers";
    case Fault::crash_before_write:
      return "crash_before_write";
    case Fault::crash_in_transaction:
      return "crash_in_transaction";
    case Fault::crash_after_commit:
      return "crash_after_commit";
    case Fault::crash_on_network:
      return "crash_on_network";
    case Fault::crash_at_step:
      return "crash_at_step";
    case Fault::crash_by_a_job:
      return "crash_by_a_job";
    case Fault::store_away:
      return "store_away";
    case Fault::store_in_doubt_lost:
      return "store_in_doubt_lost";
    case Fault::store_in_doubt_done:
      return "store_in_doubt_done";
    case Fault::store_again:
      return "store_again";
    case Fault::database_clock_forward:
      return "database_clock_forward";
    case Fault::database_clock_back:
      return "database_clock_back";
    case Fault::node_clock_forward:
      return "node_clock_forward";
    case Fault::node_clock_back:
      return "node_clock_back";
    case Fault::node_stopped:
      return "node_stopped";
    case Fault::intake_lost:
      return "intake_lost";
    case Fault::intake_doubled:
      return "intake_doubled";
    case Fault::late_completion:
      return "late_completion";
    case Fault::lost_claim:
      return "lost_claim";
    case Fault::count:
      break;
  }
  return "?";
}

Plan plan_of(std::uint64_t seed) {
  SeededRandom dice(seed ^ 0x9e3779b97f4a7c15);
  const auto chance = [&](double p) { return dice.unit() < p; };
  Plan plan;
  plan.plain_partner = seed % 4 == 3;
  plan.nodes = 1 + static_cast<int>(dice.next() % 3);
  plan.senders = 1 + static_cast<int>(dice.next() % 3);
  plan.puts = 3 + static_cast<int>(dice.next() % 4);
  plan.keys = 1 + static_cast<int>(dice.next() % 4);
  if (chance(0.8)) plan.crash = 0.001 + 0.006 * dice.unit();
  plan.crashes_max = 2 + static_cast<int>(dice.next() % 8);
  if (chance(0.85)) plan.network = 0.05 + 0.4 * dice.unit();
  if (chance(0.6)) plan.store = 0.002 + 0.03 * dice.unit();
  plan.jumps = chance(0.6);
  plan.stops = chance(0.5) && !plan.plain_partner;
  plan.outages = chance(0.4);
  plan.retention = chance(0.3);
  plan.pauses = chance(0.3);
  plan.deadly = chance(0.15);
  return plan;
}

bool SimClock::wait(Micros, std::stop_token) {
  DRAGOMAN_ASSERT(false, "steps don't wait");
  return false;
}

World::World(Threads& threads, std::uint64_t the_seed, Plan the_plan)
    : fibres(threads, the_seed * 2 + 1),
      plan(std::move(the_plan)),
      seed(the_seed),
      database_clock(fibres, Micros::zero()),
      dice_(the_seed * 2 + 2) {}

std::int64_t World::between(std::int64_t least, std::int64_t most) {
  return least + static_cast<std::int64_t>(dice_.next() % static_cast<std::uint64_t>(most - least + 1));
}

void World::note(std::string_view event) {
  fmt::format_to(std::back_inserter(log_), "{:12.6f} {} {}\n", static_cast<double>(fibres.now().count()) / 1e6,
                 fibres.current_group() < 0 ? "-" : fibres.current_name(), event);
}

void World::violate(std::string_view invariant, const std::string& what) {
  note(fmt::format("VIOLATION {}: {}", invariant, what));
  violations_.push_back(fmt::format("{}: {}", invariant, what));
}

void Life::point(std::string_view where, Fault as) {
  if (!alive()) throw Killed();
  const auto number = ++world.points;
  ++world.points_seen[std::string(where)];
  // Moments that are rarer than statements get their share.
  const double share = as == Fault::crash_at_step || as == Fault::crash_on_network ? 5 : 1;
  const bool here = world.plan.crash_at == number ||
                    (world.crashes < world.plan.crashes_max && world.fault(world.plan.crash * share));
  if (!here) return;
  ++world.crashes;
  die(where, as);
}

void Life::die(std::string_view where, Fault as) {
  ++world.killed_at[std::string(where)];
  world.hit(as);
  world.note(fmt::format("{} is killed at {} (point {})", name, where, world.points));
  world.fibres.kill(group);
  throw Killed();
}

}  // namespace dragoman::simulation
