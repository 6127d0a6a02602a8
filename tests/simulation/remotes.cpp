#include "simulation/remotes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace dragoman::simulation {
namespace {

using pipeline::Delivered;
using What = Delivered::What;

// How long a caller waits for an answer; and how long one waits whose connector knows no limit.
constexpr Micros kAnswerLimit = std::chrono::seconds(15), kForEver = std::chrono::seconds(120);

[[noreturn]] void fail(Error::Kind kind, const char* code, const char* message) {
  Error error(kind, message);
  error.code = code;
  throw error;
}

}  // namespace

std::vector<Delivered> Remote::import(std::span<const pipeline::Outgoing> records) {
  std::vector<Delivered> out;
  for (const auto& record : records) out.push_back(apply(record));
  return out;
}

Delivered Remote::apply(const pipeline::Outgoing& record) {
  const auto content = nlohmann::json::parse(record.content);
  if (content["values"].contains("bad")) {
    world_.note(fmt::format("{} refuses {} v{}", system, record.key, record.version));
    Error error(Error::Kind::invalid, "The value is bad.");
    error.code = "bad_value";
    return {.what = What::refused, .id = "", .children = {}, .error = error};
  }
  auto& there = records_[{record.model, record.key}];
  const bool fresh = by_key ? there.empty() : there.empty() || record.version == 1;
  if (!fresh && by_key && record.version < there.back().version) {
    world_.note(fmt::format("{} skips {} v{}", system, record.key, record.version));
    return {.what = What::skipped, .id = there.back().id, .children = there.back().children};
  }
  if (fresh) {
    there.push_back({.id = std::to_string(++last_id_)});
    if (there.size() > 1)
      world_.violate("once", fmt::format("{} has {} records of the key {}", system, there.size(), record.key));
  }
  auto& here = there.back();
  if (record.version < here.version)
    world_.violate("I7", fmt::format("{} goes back from version {} to {} of {}", system, here.version, record.version,
                                     record.key));
  const bool same = !fresh && here.content == record.content;
  here.version = record.version;
  here.content = record.content;
  if (content.contains("children"))
    for (const auto& child : content["children"]["lines"])
      if (!here.children.count(child["key"])) here.children[child["key"]] = std::to_string(++last_id_);
  const auto what = fresh ? What::created : same ? What::unchanged : What::updated;
  world_.note(fmt::format("{} has {} v{} {} as {}", system, record.key, record.version, pipeline::name(what), here.id));
  return {.what = what, .id = here.id, .children = here.children};
}

std::vector<std::optional<pipeline::Found>> Remote::find(std::span<const pipeline::Target::Key> keys) const {
  std::vector<std::optional<pipeline::Found>> out;
  for (const auto& key : keys) {
    const auto found = records_.find({key.model, key.key});
    if (found == records_.end() || found->second.empty())
      out.emplace_back();
    else
      out.push_back(
          pipeline::Found{found->second.back().id, found->second.back().version, found->second.back().children});
  }
  return out;
}

struct Network::Call {
  std::int64_t number = 0;
  std::string what;
  std::set<Remote::Key> keys;
  std::function<void()> serve;
  int caller = 0;
  Micros way_back{};
  bool answer_lost = false, reset = false, garbled = false;
  bool answered = false, conflict = false;
};

void Network::deliver_call(Remote& remote, const std::shared_ptr<Call>& call, Micros latency) {
  world_.fibres.start(
      kRemote, fmt::format("{}#{}", remote.system, call->number),
      [this, &remote, call] {
        const auto free = [&] {
          for (const auto& key : call->keys)
            if (remote.locked.count(key)) return false;
          return true;
        };
        if (!free()) {
          world_.hit(Fault::two_callers);
          while (!free()) world_.fibres.sleep(Micros(5000));
          // Odoo runs such a call again by itself, a few times.
          call->conflict = world_.chance(0.3);
        }
        if (!call->conflict) {
          remote.locked.insert(call->keys.begin(), call->keys.end());
          world_.fibres.sleep(world_.between(Micros(1000), Micros(300'000)));
          call->serve();
          for (const auto& key : call->keys) remote.locked.erase(key);
          if (call->number < served_upto_) world_.hit(Fault::calls_reordered);
          served_upto_ = std::max(served_upto_, call->number);
        }
        if (call->answer_lost) return;
        world_.fibres.sleep(call->way_back);
        call->answered = true;
        world_.fibres.wake(call->caller);
      },
      latency);
}

void Network::call(Life& life, Remote& remote, const std::string& what, std::set<Remote::Key> keys,
                   std::function<void()> serve) {
  life.point("network.send", Fault::crash_on_network);
  const double probability = world_.plan.network;
  const auto trouble = [&](double share, Fault fault) {
    if (!world_.fault(probability * share)) return false;
    world_.hit(fault);
    world_.note(fmt::format("{} {}: {}", remote.system, what, name(fault)));
    return true;
  };
  if (remote.down) {
    world_.hit(Fault::remote_down);
    world_.fibres.sleep(world_.between(Micros(1000), Micros(50'000)));
    fail(Error::Kind::unavailable, "refused", "the remote does not answer");
  }
  if (trouble(0.1, Fault::call_refused)) {
    world_.fibres.sleep(world_.between(Micros(1000), Micros(50'000)));
    fail(Error::Kind::unavailable, "refused", "the remote does not answer");
  }
  if (trouble(0.1, Fault::remote_busy)) {
    world_.fibres.sleep(world_.between(Micros(1000), Micros(50'000)));
    Error error(Error::Kind::busy, "the remote has too much to do");
    error.code = "http_429";
    error.retry_in(std::chrono::seconds(world_.between(1, 5)));
    throw error;
  }

  auto call = std::make_shared<Call>();
  call->number = ++sent_;
  call->what = what;
  call->keys = std::move(keys);
  call->serve = std::move(serve);
  call->caller = world_.fibres.current();
  call->way_back = world_.between(Micros(1000), Micros(100'000));
  Micros latency = world_.between(Micros(1000), Micros(world_.chance(0.2) ? 800'000 : 80'000));
  Micros limit = kAnswerLimit;
  bool lost = false, doubled = false;
  // What a partner without idempotency can't survive is left out for it: see Plan.
  if (remote.by_key && trouble(0.2, Fault::call_slow)) latency = world_.between(Micros(3'000'000), Micros(14'000'000));
  if (trouble(0.15, Fault::call_lost)) {
    lost = true;
  } else if (trouble(0.2, Fault::answer_lost)) {
    call->answer_lost = true;
  } else if (trouble(0.15, Fault::reset_after_commit)) {
    call->reset = true;
  } else if (trouble(0.1, Fault::answer_garbled)) {
    call->garbled = true;
  } else if (remote.by_key) {
    if (trouble(0.15, Fault::call_late)) latency = world_.between(Micros(16'000'000), Micros(60'000'000));
    if (trouble(0.15, Fault::call_doubled)) doubled = true;
    if (world_.fault(probability * 0.08)) {
      world_.note(fmt::format("{} {}: no answer for a long time", remote.system, what));
      call->way_back = world_.between(Micros(50'000'000), Micros(100'000'000));
      limit = kForEver;
    }
  }
  world_.note(fmt::format("{} call {} {}", remote.system, call->number, what));
  if (!lost) deliver_call(remote, call, latency);
  if (doubled) {
    auto twin = std::make_shared<Call>(*call);
    twin->answer_lost = true;
    deliver_call(remote, twin, latency + world_.between(Micros(0), Micros(world_.chance(0.5) ? 100'000 : 20'000'000)));
  }

  const Micros until = world_.fibres.now() + limit;
  while (!call->answered && world_.fibres.now() < until) {
    world_.fibres.wait(until - world_.fibres.now());
    life.point("network.wait", Fault::crash_on_network);
  }
  if (!call->answered) {
    world_.note(fmt::format("{} call {}: no answer", remote.system, call->number));
    fail(Error::Kind::in_doubt, "timeout_remote", "the remote did not answer in time");
  }
  world_.note(fmt::format("{} call {} is answered", remote.system, call->number));
  life.point("network.answer", Fault::crash_on_network);
  if (call->reset) fail(Error::Kind::in_doubt, "reset", "the connection was reset");
  if (call->garbled) fail(Error::Kind::protocol, "garbled", "the answer makes no sense");
  if (call->conflict) fail(Error::Kind::conflict, "odoo_serialization", "another call wrote the same record");
}

std::vector<Delivered> RemoteTarget::deliver(std::span<const pipeline::Outgoing> records, std::stop_token) {
  std::set<Remote::Key> keys;
  std::string what = "import";
  for (const auto& record : records) {
    keys.emplace(record.model, record.key);
    what += fmt::format(" {} v{}", record.key, record.version);
  }
  if (network_.on_send) network_.on_send(remote_, records);
  for (const auto& record : records)
    if (record.content.find("deadly") != std::string::npos) life_.die("network.send", Fault::crash_by_a_job);
  auto answer = std::make_shared<std::vector<Delivered>>();
  network_.call(life_, remote_, what, std::move(keys),
                [&remote = remote_, copies = std::vector(records.begin(), records.end()), answer] {
                  *answer = remote.import(copies);
                });
  return *answer;
}

std::vector<std::optional<pipeline::Found>> RemoteTarget::find(std::span<const Key> keys, std::stop_token) {
  std::string what = "find";
  for (const auto& key : keys) what += " " + key.key;
  auto answer = std::make_shared<std::vector<std::optional<pipeline::Found>>>();
  network_.call(life_, remote_, what, {}, [&remote = remote_, copies = std::vector(keys.begin(), keys.end()), answer] {
    *answer = remote.find(copies);
  });
  return *answer;
}

}  // namespace dragoman::simulation
