#include "simulation/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/error.h"
#include "base/step.h"
#include "jobs/board.h"
#include "simulation/checks.h"
#include "simulation/process.h"
#include "simulation/remotes.h"

namespace dragoman::simulation {
namespace {

using nlohmann::json;

constexpr Micros kSecond = std::chrono::seconds(1);
// So long things go wrong at most; then so long everything may take to come to its end.
constexpr Micros kTroubleMax = std::chrono::seconds(90), kPeaceMax = std::chrono::minutes(30);
constexpr Micros kHelpAfter = std::chrono::minutes(1);

class Nothing final : public jobs::Handler {
 public:
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token) override {
    return std::vector<jobs::Outcome>(jobs.size(), jobs::done());
  }
};

jobs::Kind kind_of(std::string name, jobs::Handler& handler) {
  jobs::Kind kind;
  kind.name = std::move(name);
  kind.handler = &handler;
  return kind;
}

pipeline::Connector connector(std::string kind, std::string intake) {
  pipeline::Connector one;
  one.kind = std::move(kind);
  one.intake = std::move(intake);
  return one;
}

class Simulation {
 public:
  Simulation(Threads& threads, std::uint64_t seed, const Plan& plan)
      : world_(threads, seed, plan),
        store_(store::open({.url = "sqlite::memory:"}, world_.database_clock)),
        checks_(world_, *store_),
        network_(world_),
        odoo_(world_, 1, "odoo", true),
        partner_(world_, 2, "partner", false),
        connectors_({connector("odoo", "odoo.import"), connector("partner", "partner.put")}),
        kinds_({kind_of("odoo.import", nothing_), kind_of("partner.put", nothing_), kind_of("tick", nothing_),
                kind_of("refresh", nothing_)}),
        board_(*store_, kinds_),
        around_{.world = world_,
                .store = *store_,
                .checks = checks_,
                .network = network_,
                .remotes = {&odoo_, &partner_},
                .connectors = connectors_,
                .notified =
                    [this](const std::string& channel) {
                      if (channel != jobs::kJobsChannel) return;
                      for (Process* one : living()) one->wake();
                    },
                .refreshes =
                    [this](const jobs::Job& job) {
                      looks_[{job.id, job.fence}] = {job.unique_key, job.payload, world_.fibres.now()};
                    },
                .processes = [this] { return living(); }} {
    checks_.on_done = [this](std::int64_t job, std::int64_t fence) {
      const auto look = looks_.find({job, fence});
      if (look == looks_.end()) return;
      auto& seen = seen_[look->second.key];
      seen = std::max(seen, look->second.at);
      worked_on_[job] = look->second.payload;
    };
    checks_.add_remote(odoo_);
    checks_.add_remote(partner_);
    network_.on_send = [this](const Remote& remote, std::span<const pipeline::Outgoing> records) {
      checks_.about_to_send(remote, records);
    };
  }

  Result run() {
    set_up();
    on_step([this](std::string_view name) {
      for (auto& slot : slots_)
        if (slot.process && slot.process->life().group == world_.fibres.current_group()) {
          slot.process->life().point(name, Fault::crash_at_step);
          if (!world_.in_transaction) world_.fibres.sleep(world_.between(Micros(0), Micros(1000)));
        }
    });
    for (int i = 0; i < world_.plan.nodes; ++i) {
      slots_.push_back({.name = fmt::format("n{}", i + 1), .wall = world_.between(-600 * kSecond, 600 * kSecond)});
      start(slots_.back());
    }
    for (int i = 0; i < world_.plan.senders; ++i)
      world_.fibres.start(kWorld, fmt::format("sender{}", i + 1), [this, i] { sender(i + 1); });
    world_.fibres.start(kWorld, "causes", [this] { cause(); });
    if (world_.plan.jumps) world_.fibres.start(kWorld, "clocks", [this] { jump_clocks(); });
    if (world_.plan.stops) world_.fibres.start(kWorld, "stops", [this] { stop_nodes(); });
    if (world_.plan.pauses) world_.fibres.start(kWorld, "pauses", [this] { pause_and_resume(); });
    if (world_.plan.outages) world_.fibres.start(kWorld, "outages", [this] { fail_remotes(); });
    world_.fibres.start(kWorld, "director", [this] { direct(); });
    world_.fibres.run();
    on_step({});

    for (const auto& failure : world_.fibres.failures()) world_.violate("errors", failure);
    return {.violations = world_.violations(),
            .log = world_.log(),
            .picture = checks_.picture(),
            .faults = world_.hits(),
            .points_seen = world_.points_seen,
            .killed_at = world_.killed_at,
            .points = world_.points,
            .lasted = world_.fibres.now(),
            .rewritten = world_.rewritten};
  }

 private:
  /// A place for a process, which is started again when it has died.
  struct Slot {
    std::string name;
    Micros wall{};
    std::unique_ptr<Process> process;
    std::optional<Micros> restart;
  };
  /// What a sender has handed in of a key, in the order of the acknowledgements.
  struct Accepted {
    std::int64_t version = 0;
    bool bad = false;
    json content;
  };

  void set_up() {
    store_->write([&](store::Session& session) {
      for (const auto* remote : around_.remotes)
        session.execute(
            "INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES ($1, $2, $2, "
            "'{}', 'active', 0, 0)",
            {remote->connection_id, remote->system});
      jobs::ScheduleSpec spec;
      spec.name = "tick";
      spec.interval = std::chrono::seconds(7);
      spec.kind = "tick";
      spec.flow = "upkeep";
      jobs::Schedules(kinds_).add(session, spec, session.now());
    });
  }

  std::vector<Process*> living() {
    std::vector<Process*> out;
    for (auto& slot : slots_)
      if (slot.process && slot.process->life().alive()) out.push_back(slot.process.get());
    return out;
  }

  void start(Slot& slot) {
    slot.restart.reset();
    slot.process = std::make_unique<Process>(around_, slot.name, next_group_++, world_.next(), slot.wall);
    world_.note(slot.name + " starts");
    slot.process->boot();
  }

  void direct() {
    std::optional<Micros> peace;
    while (world_.violations().empty()) {
      world_.fibres.sleep(world_.between(Micros(200'000), kSecond));
      for (auto& slot : slots_) {
        if (!slot.process || slot.process->life().alive()) continue;
        // Requests of a process that died may still be under way; a new one of its name is not that quick.
        if (!slot.restart)
          slot.restart =
              world_.fibres.now() + world_.between(2 * kSecond, world_.chance(0.3) ? 25 * kSecond : 4 * kSecond);
        if (*slot.restart > world_.fibres.now() || world_.fibres.count(slot.process->life().group) > 0) continue;
        start(slot);
      }
      const auto now = world_.fibres.now();
      if (!peace) {
        if (now < kTroubleMax && (senders_done_ < world_.plan.senders || now < world_.plan.trouble_least)) {
          if (world_.chance(0.1)) look_after(false);
          continue;
        }
        world_.note("peace");
        world_.faults = false;
        for (Remote* remote : around_.remotes) remote->down = false;
        peace = now;
        continue;
      }
      look_after(world_.plan.jumps && now - *peace > kHelpAfter);
      if (senders_done_ == world_.plan.senders && checks_.quiet() && world_.fibres.count(kRemote) == 0) break;
      if (now - *peace > kPeaceMax) world_.violate("liveness", "this does not come to its end:" + checks_.unfinished());
    }
    if (world_.violations().empty()) judge();
    for (auto& slot : slots_)
      if (slot.process) world_.fibres.kill(slot.process->life().group);
    world_.fibres.kill(kRemote);
    world_.fibres.kill(kWorld);
  }

  /// What a person does: gives up what the remote refuses, tries again what died of the troubles; and, since a clock
  /// that went back makes everything wait that was told to wait until a time, has that run now.
  void look_after(bool help) {
    const Doing doing(world_, {.what = "person"});
    const auto act = [&](const auto& what) {
      try {
        what();
      } catch (const Error& error) {
        // Somebody was quicker, or the store is asked in vain: next time.
        if (error.kind != Error::Kind::conflict && error.kind != Error::Kind::not_found)
          world_.violate("errors", "a person was told: " + error.message);
      }
      checks_.committed({.what = "person"}, {true, true, true, true}, nullptr);
    };
    bool any = false;
    for (const auto& dead : checks_.dead()) {
      any = true;
      world_.note(fmt::format("a person sees job {} dead of {}", dead.id, dead.code));
      const bool hopeless = dead.code == "bad_value" ||
                            (dead.code == "poison" && board_.show(dead.id).payload.find("deadly") != std::string::npos);
      if (hopeless && !world_.fault(0.3))
        act([&] { board_.discard(dead.id, {.who = "person"}); });
      else
        act([&] { board_.retry(dead.id, {.who = "person"}); });
    }
    if (help) {
      jobs::JobFilter filter;
      filter.limit = 500;
      for (const char* state : {"scheduled", "retryable"}) {
        filter.state = state;
        for (const auto& job : board_.list(filter)) {
          any = true;
          act([&] { board_.retry(job.id, {.who = "person"}); });
        }
      }
      for (const Remote* remote : around_.remotes) act([&] { board_.connection_is_well(remote->connection_id); });
      any = true;
    }
    if (any)
      for (Process* one : living()) one->wake();
  }

  void sender(int number) {
    std::map<std::string, std::int64_t> last;
    for (int i = 0; i < world_.plan.puts; ++i) {
      world_.fibres.sleep(world_.between(Micros(10'000), 5 * kSecond));
      const bool plain = world_.plan.plain_partner && world_.chance(0.6);
      pipeline::InboxPut put;
      put.connection = plain ? "partner" : "odoo";
      put.idempotency_key = fmt::format("s{}-{}", number, i);
      put.sender = fmt::format("sender {}", number);
      std::set<int> keys;
      const auto wanted = world_.between(1, std::min(3, world_.plan.keys));
      while (static_cast<std::int64_t>(keys.size()) < wanted)
        keys.insert(static_cast<int>(world_.between(1, world_.plan.keys)));
      std::vector<std::pair<std::string, Accepted>> accepted;
      for (const int key_number : keys) {
        const std::string key = fmt::format("{}{}-{}", plain ? "P" : "O", number, key_number);
        // One key of each sender comes without versions.
        const bool versions = plain || key_number != 2;
        std::int64_t version = 0;
        if (versions) {
          auto& highest = last[key];
          const bool stale = highest > 1 && world_.chance(0.15);
          version = stale ? world_.between(std::int64_t{plain ? 2 : 1}, highest) : ++highest;
        }
        json content{{"values", {{"name", fmt::format("{} {}", key, i)}}}};
        // A first version is taken, so that a partner's first create is told from the others by it.
        bool bad = world_.chance(0.08) && version != 1;
        if (bad) content["values"]["bad"] = true;
        if (world_.plan.deadly && !deadly_ && i > 0 && version != 1) {
          deadly_ = bad = true;
          content["values"]["deadly"] = true;
        }
        if (world_.chance(0.3)) {
          content["children"]["lines"] = json::array();
          for (const char* child : {"a", "b"})
            content["children"]["lines"].push_back({{"key", child}, {"values", {{"qty", i}}}});
        }
        put.records.push_back({.model = "order", .key = key, .version = version, .content = content.dump()});
        put.digest += content.dump();
        accepted.push_back({(plain ? "partner " : "odoo ") + key, {version, bad, content}});
      }
      hand_in(put);
      for (auto& [key, one] : accepted) accepted_[key].push_back(one);
      if (world_.chance(0.1)) misuse(put);
    }
    ++senders_done_;
  }

  struct Answer {
    bool there = false;
    std::optional<std::int64_t> receipt;
    std::optional<Error> error;
  };

  void ask(Process& process, const pipeline::InboxPut& put, const std::shared_ptr<Answer>& answer, bool answer_lost) {
    const int me = world_.fibres.current();
    process.put(put, [this, answer, me, answer_lost, key = put.idempotency_key, count = put.records.size()](
                         const pipeline::InboxReceipt* receipt, const Error* error) {
      if (receipt) {
        world_.note(fmt::format("{} is acknowledged as inbox {}", key, receipt->id));
        const auto [known, fresh] = receipts_.try_emplace(key, receipt->id);
        if (known->second != receipt->id)
          world_.violate("I1", fmt::format("{} was inbox {}, and now is {}", key, known->second, receipt->id));
        checks_.acknowledged(receipt->id, count);
      }
      if (answer_lost) return;
      answer->there = true;
      if (receipt) answer->receipt = receipt->id;
      if (error) answer->error = *error;
      world_.fibres.wake(me);
    });
  }

  Process* any_process() {
    const auto all = living();
    return all.empty() ? nullptr : all[static_cast<std::size_t>(world_.between(0, std::int64_t(all.size()) - 1))];
  }

  std::shared_ptr<Answer> ask_somebody(const pipeline::InboxPut& put) {
    auto answer = std::make_shared<Answer>();
    Process* const process = any_process();
    if (!process || world_.fault(world_.plan.network / 4)) {
      if (process) world_.hit(Fault::intake_lost);
      world_.fibres.sleep(world_.between(kSecond, 4 * kSecond));
      return answer;
    }
    const bool answer_lost = world_.fault(world_.plan.network / 4);
    if (answer_lost) world_.hit(Fault::intake_lost);
    ask(*process, put, answer, answer_lost);
    if (world_.fault(world_.plan.network / 3)) {
      world_.hit(Fault::intake_doubled);
      if (Process* const other = any_process()) ask(*other, put, std::make_shared<Answer>(), true);
    }
    const auto until = world_.fibres.now() + 10 * kSecond;
    while (!answer->there && world_.fibres.now() < until) world_.fibres.wait(until - world_.fibres.now());
    return answer;
  }

  /// Until it is acknowledged, under the same key.
  void hand_in(const pipeline::InboxPut& put) {
    while (true) {
      const auto answer = ask_somebody(put);
      if (answer->receipt) return;
      if (answer->error) {
        const auto& error = *answer->error;
        if (error.kind != Error::Kind::unavailable && error.kind != Error::Kind::busy &&
            error.kind != Error::Kind::in_doubt && error.code != "in_progress")
          world_.violate("errors", fmt::format("the intake said {}: {}", policy(error.kind).name, error.message));
        world_.fibres.sleep(world_.between(Micros(100'000), 2 * kSecond));
      }
    }
  }

  /// The same key with another body is refused.
  void misuse(pipeline::InboxPut put) {
    put.digest += "!";
    const auto before = receipts_[put.idempotency_key];
    receipts_.erase(put.idempotency_key);
    const auto answer = ask_somebody(put);
    if (answer->receipt) world_.violate("I1", fmt::format("{} was taken again with another body", put.idempotency_key));
    receipts_[put.idempotency_key] = before;
  }

  /// Things that change, each with a number, so that somebody has to look.
  void cause() {
    for (std::int64_t number = 1; number <= world_.plan.changes; ++number) {
      world_.fibres.sleep(world_.between(Micros(1000), 2 * kSecond));
      if (!world_.faults) return;
      Process* const process = any_process();
      if (!process) continue;
      jobs::NewJob job;
      job.kind = "refresh";
      job.flow = "upkeep";
      job.payload = std::to_string(number);
      job.cause = "change " + job.payload;
      // Either what is read when it runs matters, or what it was given.
      const bool given = world_.chance(0.5);
      job.unique_key = given ? "given" : "read";
      job.unique = given ? jobs::Unique::unfinished : jobs::Unique::waiting;
      job.fold = given ? jobs::Fold::replace : jobs::Fold::keep;
      process->enqueue(job, [this, key = job.unique_key, number](const jobs::Enqueued& enqueued, Micros committed) {
        world_.note(fmt::format("change {} is {}job {}", number, enqueued.folded ? "folded into " : "", enqueued.id));
        wanted_[key] = std::max(wanted_[key], committed);
      });
    }
  }

  void jump_clocks() {
    while (true) {
      world_.fibres.sleep(world_.between(3 * kSecond, 20 * kSecond));
      if (!world_.faults) return;
      const auto by = world_.between(Micros(1000), world_.chance(0.3) ? 600 * kSecond : 20 * kSecond);
      const bool back = world_.chance(0.5);
      if (world_.chance(0.6)) {
        world_.database_clock.jump(back ? -by : by);
        world_.hit(back ? Fault::database_clock_back : Fault::database_clock_forward);
        world_.note(fmt::format("the database's clock jumps by {} us", back ? -by.count() : by.count()));
      } else if (Process* const process = any_process()) {
        process->clock().jump(back ? -by : by);
        world_.hit(back ? Fault::node_clock_back : Fault::node_clock_forward);
        world_.note(
            fmt::format("the clock of {} jumps by {} us", process->life().name, back ? -by.count() : by.count()));
      }
    }
  }

  void stop_nodes() {
    while (true) {
      world_.fibres.sleep(world_.between(3 * kSecond, 25 * kSecond));
      if (!world_.faults) return;
      Process* process = any_process();
      // It matters most while something is under way.
      for (int i = 0; i < 50 && world_.chance(0.95) && !(process && process->busy()); ++i) {
        world_.fibres.sleep(Micros(50'000));
        process = any_process();
      }
      if (!process) continue;
      const auto how_long = 2 * Checks::kLease + world_.between(Micros(0), 10 * kSecond);
      world_.hit(Fault::node_stopped);
      world_.note(fmt::format("{} is stopped for {} us", process->life().name, how_long.count()));
      const auto group = process->life().group;
      world_.fibres.freeze(group, world_.fibres.now() + how_long);
      if (world_.chance(0.4)) continue;
      // Not long after its jobs have gone on elsewhere, but while another is at them.
      const auto jobs = process->in_hand();
      while (world_.fibres.frozen(group) && !world_.fibres.killed(group)) {
        world_.fibres.sleep(Micros(20'000));
        if (!world_.fibres.frozen(group) || !checks_.run_elsewhere(jobs, process->life())) continue;
        world_.fibres.sleep(world_.between(Micros(0), Micros(300'000)));
        if (!world_.fibres.frozen(group)) break;
        world_.note(process->life().name + " is woken");
        world_.fibres.thaw(group);
      }
    }
  }

  void pause_and_resume() {
    while (true) {
      world_.fibres.sleep(world_.between(2 * kSecond, 15 * kSecond));
      if (!world_.faults) return;
      const std::pair<std::string, std::string> all[] = {
          {"connection", "1"}, {"connection", "2"}, {"flow", "inbox"}, {"kind", "odoo.import"}, {"kind", "tick"}};
      const auto& [what, name] = all[world_.between(0, 4)];
      world_.note(fmt::format("a person pauses the {} {}", what, name));
      board_.pause(what, name, {.who = "person"});
      checks_.paused(what, name);
      world_.fibres.sleep(world_.between(kSecond, 15 * kSecond));
      world_.note(fmt::format("a person resumes the {} {}", what, name));
      checks_.paused("", "");
      board_.resume(what, name);
      for (Process* one : living()) one->wake();
    }
  }

  void fail_remotes() {
    while (true) {
      world_.fibres.sleep(world_.between(3 * kSecond, 25 * kSecond));
      if (!world_.faults) return;
      Remote& remote = world_.plan.plain_partner && world_.chance(0.5) ? partner_ : odoo_;
      remote.down = true;
      world_.note(remote.system + " is down");
      world_.fibres.sleep(world_.between(kSecond, 20 * kSecond));
      remote.down = false;
      world_.note(remote.system + " is up");
    }
  }

  /// Nothing lost and nothing twice: the senders' own books against the remotes' records.
  void judge() {
    for (const auto& [where, all] : accepted_) {
      const Remote& remote = where.starts_with("odoo ") ? odoo_ : partner_;
      const std::string key = where.substr(where.find(' ') + 1);
      std::int64_t version = 0;
      const json* content = nullptr;
      for (const auto& one : all) {
        if (one.bad || (one.version > 0 && one.version <= version)) continue;
        version = std::max(one.version, version);
        content = &one.content;
      }
      const auto found = remote.records().find({"order", key});
      const std::size_t there = found == remote.records().end() ? 0 : found->second.size();
      if (there != (content ? 1u : 0u)) {
        world_.violate(there > 1 ? "once" : "lost", fmt::format("{} has {} records of {}", remote.system, there, key));
        continue;
      }
      if (content && json::parse(found->second.back().content) != *content)
        world_.violate("lost", fmt::format("{} has {} of {}, and should have {}", remote.system,
                                           found->second.back().content, key, content->dump()));
    }
    for (const Remote* remote : around_.remotes)
      for (const auto& [key, records] : remote->records())
        if (!records.empty() && !accepted_.count(fmt::format("{} {}", remote->system, key.second)))
          world_.violate("lost", fmt::format("nobody asked for {}", key.second));
    // Each change was followed by a look that began after it; and what a job was given last is what it did last.
    if (seen_["read"] < wanted_["read"])
      world_.violate("lost", fmt::format("the last change came at {} us, the last look at {} us",
                                         wanted_["read"].count(), seen_["read"].count()));
    store_->read([&](store::Session& session) {
      session.query("SELECT id, payload FROM job WHERE unique_key = 'given' AND state = 4", {},
                    [&](const store::Row& row) {
                      if (worked_on_[row.int64(0)] != row.bytes(1))
                        world_.violate("lost", fmt::format("job {} was given {} last, and did {}", row.int64(0),
                                                           row.bytes(1), worked_on_[row.int64(0)]));
                    });
    });
    checks_.at_the_end();
  }

  World world_;
  const std::unique_ptr<store::Store> store_;
  Checks checks_;
  Network network_;
  Remote odoo_, partner_;
  const pipeline::ConnectorList connectors_;
  Nothing nothing_;
  const jobs::Kinds kinds_;
  jobs::Board board_;
  Surroundings around_;
  std::list<Slot> slots_;
  Fibres::Group next_group_ = 2;
  struct Look {
    std::string key, payload;
    Micros at{};
  };
  std::map<std::pair<std::int64_t, std::int64_t>, Look> looks_;  ///< by job and fence
  std::map<std::int64_t, std::string> worked_on_;                ///< by job: the payload of the last run that was done
  std::map<std::string, Micros> wanted_, seen_;                  ///< by unique key: the last change, the last look
  int senders_done_ = 0;
  bool deadly_ = false;                                    ///< has been handed in
  std::map<std::string, std::vector<Accepted>> accepted_;  ///< by `system key`
  std::map<std::string, std::int64_t> receipts_;           ///< by idempotency key
};

}  // namespace

Result simulate(Threads& threads, std::uint64_t seed, const Plan& plan) {
  return Simulation(threads, seed, plan).run();
}

}  // namespace dragoman::simulation
