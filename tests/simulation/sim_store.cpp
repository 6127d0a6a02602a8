#include "simulation/sim_store.h"

#include <fmt/format.h>

#include "base/error.h"

namespace dragoman::simulation {
namespace {

struct Again {};

bool holds(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

[[noreturn]] void fail(Error::Kind kind, const char* code, const char* message) {
  Error error(kind, message);
  error.code = code;
  throw error;
}

}  // namespace

class SimStore::Session final : public store::Session {
 public:
  Session(store::Session& inner, SimStore& store, Touched& touched, std::vector<std::string>& notified)
      : inner_(inner), store_(store), touched_(touched), notified_(notified) {}

  store::Engine engine() const override { return inner_.engine(); }
  Time now() override { return inner_.now(); }
  void query(std::string_view sql, std::span<const store::Param> params,
             const std::function<void(const store::Row&)>& each) override {
    if (!sql.starts_with("SELECT")) changes(sql);
    inner_.query(store_.rewritten(sql), params, each);
  }
  std::int64_t execute(std::string_view sql, std::span<const store::Param> params) override {
    changes(sql);
    return inner_.execute(store_.rewritten(sql), params);
  }
  void insert_many(std::string_view table, std::span<const std::string_view> columns,
                   std::span<const store::Param> values, std::span<const std::string_view> upsert_key) override {
    changes(table);
    inner_.insert_many(table, columns, values, upsert_key);
  }
  void notify(std::string_view channel) override { notified_.emplace_back(channel); }
  void lock(std::string_view name) override { inner_.lock(name); }

 private:
  void changes(std::string_view sql) {
    touched_.jobs |= holds(sql, "job");
    touched_.nodes |= holds(sql, "node") || holds(sql, "leader");
    touched_.deliveries |= holds(sql, "delivery") || holds(sql, "mapping");
    touched_.audit |= holds(sql, "audit");
    store_.life_.point("store.statement", Fault::crash_in_transaction);
  }

  store::Session& inner_;
  SimStore& store_;
  Touched& touched_;
  std::vector<std::string>& notified_;
};

SimStore::SimStore(store::Store& inner, Life& life, Committed committed, Notified notified)
    : inner_(inner),
      life_(life),
      world_(life.world),
      committed_(std::move(committed)),
      notified_(std::move(notified)),
      rewrites_(world_.plan.rewrites) {
  // A SQLite store has one hub, and a hub that starts takes every other for dead. Here several share one, as they do
  // where the engine is PostgreSQL.
  rewrites_.push_back({"SELECT id FROM node WHERE state = 'running'",
                       fmt::format("SELECT id FROM node WHERE state = 'running' AND name = '{}'", life.name)});
}

const std::string& SimStore::rewritten(std::string_view sql) {
  const auto found = known_.find(std::string(sql));
  if (found != known_.end()) return found->second;
  std::string text(sql);
  for (const auto& rewrite : rewrites_) {
    const auto at = text.find(rewrite.from);
    // The one about nodes is the whole of a statement, and part of others.
    if (at == std::string::npos || (&rewrite == &rewrites_.back() && text.size() != rewrite.from.size())) continue;
    text.replace(at, rewrite.from.size(), rewrite.to);
    if (&rewrite != &rewrites_.back()) ++world_.rewritten;
  }
  return known_.emplace(std::string(sql), std::move(text)).first->second;
}

void SimStore::read(const std::function<void(store::Session&)>& work) {
  life_.point("store.read", Fault::crash_before_write);
  world_.fibres.sleep(world_.between(Micros(50), Micros(2000)));
  if (world_.fault(world_.plan.store / 2)) {
    world_.hit(Fault::store_away);
    world_.note("the store is not reached");
    fail(Error::Kind::unavailable, "cut", "the database can't be reached");
  }
  Touched ignored;
  std::vector<std::string> none;
  inner_.read([&](store::Session& session) {
    Session ours(session, *this, ignored, none);
    work(ours);
  });
  world_.fibres.sleep(world_.between(Micros(50), Micros(1000)));
}

void SimStore::write(const std::function<void(store::Session&)>& work) {
  life_.point("store.begin", Fault::crash_before_write);
  world_.fibres.sleep(world_.between(Micros(50), Micros(3000)));
  const double probability = world_.plan.store;
  if (world_.fault(probability)) {
    world_.hit(Fault::store_away);
    world_.note("the store is not reached");
    fail(Error::Kind::unavailable, "cut", "the database can't be reached");
  }
  if (world_.fault(probability / 2)) {
    world_.hit(Fault::store_in_doubt_lost);
    world_.note("cut off while it committed; nothing was");
    world_.fibres.sleep(world_.between(Micros(1000), Micros(100'000)));
    fail(Error::Kind::in_doubt, "cut", "the database was cut off while it committed");
  }

  Touched touched;
  std::vector<std::string> notified;
  const Deed deed = world_.deeds[world_.fibres.current()];
  const auto run = [&](bool again) {
    inner_.write([&](store::Session& session) {
      notified.clear();
      Session ours(session, *this, touched, notified);
      work(ours);
      if (again) throw Again();
      life_.point("store.commit", Fault::crash_in_transaction);
    });
  };
  world_.in_transaction = true;
  try {
    if (world_.fault(probability)) {
      world_.hit(Fault::store_again);
      world_.note("the transaction is run again");
      try {
        run(true);
      } catch (const Again&) {
        // rolled back; once more
      }
    }
    run(false);
  } catch (...) {
    world_.in_transaction = false;
    throw;
  }
  world_.in_transaction = false;
  world_.note(fmt::format("commits {}", deed.what));
  committed_(deed, touched);
  for (const auto& channel : notified) notified_(channel);
  life_.point("store.committed", Fault::crash_after_commit);
  if (world_.fault(probability / 2)) {
    world_.hit(Fault::store_in_doubt_done);
    world_.note("cut off while it committed; it was");
    world_.fibres.sleep(world_.between(Micros(1000), Micros(100'000)));
    fail(Error::Kind::in_doubt, "cut", "the database was cut off while it committed");
  }
  world_.fibres.sleep(world_.between(Micros(50), Micros(2000)));
}

}  // namespace dragoman::simulation
