#include "pipeline/sync.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "base/bounded_queue.h"
#include "base/error.h"
#include "base/log.h"
#include "pipeline/capture_store.h"
#include "pipeline/market_probe.h"
#include "pipeline/model_capture.h"

namespace dragoman::pipeline {
namespace {

using namespace std::chrono_literals;

constexpr Micros kWideInterval = 30s;
constexpr Micros kBackoffFirst = 1s, kBackoffMax = 60s;
constexpr Micros kModelBackoff = 30s;
constexpr Micros kLively = 60s;

// Polls at once: with two, 35 models at 20 ms a call fit into half a second. On a server with one place the second
// waits at the gate.
constexpr int kPollers = 2;

// Polls that take long make the pause after them longer: all together they take at most the time of one caller, and of
// an Odoo with one place two thirds of it. (With a third of it, 35 models at 15 ms a call would be polled every 1.6 s.)
Micros round_length(Micros polling, int places) {
  return places > 1 ? polling : polling * 3 / 2;
}

// Fetchers beyond the places that the client gives out wait at its gate, where waiting costs nothing.
constexpr int kFetchers = 6;
// Pages read and not stored yet: enough to keep fetchers busy, few enough to keep memory small.
constexpr std::size_t kPagesWaiting = 3;

// Runs `work`; what is not an Error comes out as one of kind bug, so that threads end in words and not in abort.
template <typename Work>
auto with_errors(Work&& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    throw Error(Error::Kind::bug, "Something went wrong inside the hub; its log says more.", error.what());
  }
}

// Whether an error is about the whole connection, so that trying the next model would meet it again.
bool about_connection(const Error& error) {
  switch (error.kind) {
    case Error::Kind::unavailable:
    case Error::Kind::busy:
    case Error::Kind::in_doubt:
    case Error::Kind::auth:
    case Error::Kind::cancelled:
      return true;
    case Error::Kind::not_found:
      return error.code == "odoo_database";
    case Error::Kind::protocol:
      return error.code == "redirect" || error.code == "not_http";
    default:
      return false;
  }
}

// Something in front of the remote answered in its place: a proxy's page, a maintenance page, a login page.
bool by_somebody_else(const Error& error) {
  return error.code == "html" || error.code == "not_odoo" || error.code == "http_forbidden";
}

nlohmann::json counts_of(const Applied& applied) {
  return {{"created", applied.created},
          {"changed", applied.changed},
          {"deleted", applied.deleted},
          {"unchanged", applied.unchanged}};
}

using Models = std::vector<std::shared_ptr<ModelCapture>>;

// Pulls all that is to be pulled of `models`: fetchers read stretches, the calling thread stores them. Returns what
// was stored; throws what concerns the whole connection, after everything fetched before was stored.
class Puller {
 public:
  Puller(const Models& models, std::stop_token stop) : models_(models), stop_(stop) {}

  Applied run(std::vector<std::string>& errors, std::int64_t& bytes) {
    Applied applied;
    {
      std::vector<std::jthread> fetchers;
      active_ = kFetchers;
      const std::stop_callback on_stop(stop_, [this] { give_up_.request_stop(); });
      for (int i = 0; i < kFetchers; ++i) fetchers.emplace_back([this] { fetch(); });
      while (auto item = queue_.pop()) {
        if (failure_stored_) continue;  // drain
        try {
          if (item->piece.page) bytes += item->piece.page->bytes;
          applied += with_errors([&] { return item->model->store(item->piece); });
          applied.written.clear();
        } catch (const Error& error) {
          fail(*item->model, error);
          if (about_connection(error)) failure_stored_ = true;
        }
      }
    }
    for (const auto& model : models_) model->release_all();
    std::lock_guard lock(mutex_);
    for (const auto& [model, error] : failed_) errors.push_back(model + ": " + error);
    if (failure_) throw *failure_;
    return applied;
  }

 private:
  struct Item {
    std::shared_ptr<ModelCapture> model;
    ModelCapture::Piece piece;
  };

  void fetch() {
    while (!give_up_.stop_requested()) {
      std::shared_ptr<ModelCapture> model;
      std::optional<Range> stretch;
      for (const auto& candidate : models_) {
        {
          std::lock_guard lock(mutex_);
          if (failed_.contains(candidate->name())) continue;
        }
        if ((stretch = candidate->claim())) {
          model = candidate;
          break;
        }
      }
      if (!model) break;
      try {
        std::int64_t after = stretch->after;
        for (bool last = false; !last;) {
          ModelCapture::Piece piece = with_errors([&] { return model->fetch(*stretch, after, give_up_.get_token()); });
          last = piece.last;
          after = piece.upto;
          if (!queue_.push({model, std::move(piece)}, give_up_.get_token())) break;
        }
      } catch (const Error& error) {
        fail(*model, error);
      }
    }
    if (--active_ == 0) queue_.close();
  }

  void fail(ModelCapture& model, const Error& error) {
    std::lock_guard lock(mutex_);
    if (about_connection(error)) {
      if (!failure_ || failure_->kind == Error::Kind::cancelled) failure_ = error;
      give_up_.request_stop();
    } else {
      failed_.emplace(model.name(), error.message);
      model.set_error(error.message);
      log::warning("a model's pull failed", {{"model", model.name()},
                                             {"kind", policy(error.kind).name},
                                             {"error", error.message},
                                             {"detail", error.detail}});
    }
  }

  const Models models_;
  std::stop_token stop_;
  std::stop_source give_up_;
  BoundedQueue<Item> queue_{kPagesWaiting};
  std::atomic<int> active_{0};
  bool failure_stored_ = false;
  std::mutex mutex_;
  std::map<std::string, std::string> failed_;
  std::optional<Error> failure_;
};

}  // namespace

// One connection at work.
class Worker {
 public:
  Worker(store::Store& store, Connections& connections, const ConnectorList& connectors, Clock& clock, Random& random,
         const SyncSettings& settings, Connection connection)
      : capture_(store, clock),
        connections_(connections),
        connectors_(connectors),
        clock_(clock),
        random_(random),
        settings_(settings),
        connection_(std::move(connection)) {}

  ~Worker() { stop(); }

  void start() {
    if (!thread_.joinable()) thread_ = std::jthread([this](std::stop_token stop) { follow(stop); });
  }

  void stop() {
    if (thread_.joinable()) {
      thread_.request_stop();
      thread_.join();
      thread_ = {};
    }
  }

  Source& source() {
    std::lock_guard lock(mutex_);
    if (!source_) {
      const Connection now = connections_.get(connection_.name);
      source_ = connectors_.get(now.kind).make_source(now, connections_.secret(now), clock_);
    }
    return *source_;
  }

  // Opens and describes the models; the ones that can't be captured are left out of the result.
  Models prepare(const std::vector<std::string>& wanted, bool full, std::vector<std::string>* errors,
                 std::stop_token stop) {
    std::vector<std::string> names = source().default_models(stop);
    for (const std::string& name : asked()) add(names, name);
    for (const std::string& name : wanted) add(names, name);
    Models usable;
    std::optional<Error> elsewhere;  // answered by somebody else
    std::size_t failures = 0;
    for (const std::string& name : names) {
      if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
      const auto model = open(name);
      try {
        if (model->prepare(full, stop))
          usable.push_back(model);
        else if (errors && !wanted.empty())
          errors->push_back(name + ": " + model->status(connection_.name).reason);
      } catch (const Error& error) {
        if (about_connection(error)) throw;
        ++failures;
        if (by_somebody_else(error)) elsewhere = error;
        model->set_error(error.message);
        if (errors) errors->push_back(name + ": " + error.message);
        log::warning(
            "a model could not be described",
            {{"connection", connection_.name}, {"model", name}, {"error", error.message}, {"detail", error.detail}});
      }
    }
    if (usable.empty() && elsewhere) {
      // Nobody who knows the models was asked.
      Error error(Error::Kind::unavailable,
                  fmt::format("None of the {} models could be looked at: {}", failures, elsewhere->message),
                  elsewhere->detail);
      error.code = elsewhere->code;
      throw error;
    }
    return usable;
  }

  // All models that this connection captures now.
  Models models() {
    std::lock_guard lock(mutex_);
    Models all;
    for (const auto& [name, model] : models_) all.push_back(model);
    return all;
  }

  RunResult run(const std::vector<std::string>& wanted, const RunOptions& options, std::stop_token stop) {
    const bool full = options.full;
    RunResult result;
    result.connection = connection_.name;
    const Micros began = clock_.steady();
    const Time started = clock_.now();
    const std::int64_t calls = source().calls();
    Applied applied;
    const Models chosen = prepare(wanted, full, &result.errors, stop);
    applied += pull(chosen, result.errors, result.bytes, stop);
    std::vector<std::pair<std::int64_t, Time>> cursors;
    for (const auto& model : chosen) {
      if (!model->following()) continue;
      try {
        applied += model->poll(true, stop).applied;
        const ModelCapture::Outcome swept = model->sweep(options.accept_deletions, stop);
        applied += swept.applied;
        if (swept.withheld > 0) result.errors.push_back(model->name() + ": " + model->status(connection_.name).alarm);
        while (model->fetch_binaries(50, stop)) {
        }
        if (const auto cursor = model->take_cursor()) cursors.emplace_back(model->id(), *cursor);
        model->set_error("");
      } catch (const Error& error) {
        if (about_connection(error)) throw;
        model->set_error(error.message);
        result.errors.push_back(model->name() + ": " + error.message);
      }
    }
    capture_.set_cursors(cursors);
    result.created = applied.created;
    result.changed = applied.changed;
    result.deleted = applied.deleted;
    result.unchanged = applied.unchanged;
    result.calls = source().calls() - calls;
    result.took = clock_.steady() - began;
    nlohmann::json counts = counts_of(applied);
    counts["calls"] = result.calls;
    capture_.log_run({connection_.id, wanted.size() == 1 ? wanted.front() : "", full ? "full" : "run",
                      result.errors.empty() ? "ok" : "errors", started, counts, result.errors});
    keep_learnt();
    return result;
  }

  std::vector<Certificate> certify(const CertifyOptions& options, std::stop_token stop) {
    std::vector<Certificate> certificates;
    std::vector<std::string> errors;
    const Models chosen = prepare(options.models, false, &errors, stop);
    if (chosen.empty() && !errors.empty())
      throw Error(Error::Kind::not_found, errors.size() == 1
                                              ? errors.front()
                                              : fmt::format("None of the {} models can be compared. The first: {}",
                                                            errors.size(), errors.front()));
    std::int64_t bytes = 0;
    pull(chosen, errors, bytes, stop);
    for (const auto& model : chosen) {
      const Time started = clock_.now();
      Certificate certificate = model->certify(options, random_, stop);
      certificate.connection = connection_.name;
      capture_.log_run({connection_.id,
                        model->name(),
                        "certify",
                        certificate.differences.empty() ? "ok" : "differences",
                        started,
                        {{"there", certificate.there},
                         {"here", certificate.here},
                         {"bodies", certificate.bodies_compared},
                         {"differences", certificate.differences.size()}},
                        {}});
      certificates.push_back(std::move(certificate));
    }
    return certificates;
  }

  ConnectionStatus status() {
    ConnectionStatus status;
    const auto now = connections_.find(connection_.name);
    status.connection = connection_.name;
    if (now) {
      status.state = now->state;
      status.reason = now->reason;
    }
    {
      std::lock_guard lock(mutex_);
      status.error = error_;
      status.retry_at = retry_at_;
      if (source_) status.places = source_->places();
    }
    for (const auto& model : models()) status.models.push_back(model->status(connection_.name));
    return status;
  }

  const Connection& connection() const { return connection_; }

 private:
  static void add(std::vector<std::string>& names, const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }

  std::vector<std::string> asked() { return capture_.asked_models(connection_.id); }

  std::shared_ptr<ModelCapture> open(const std::string& name) {
    std::lock_guard lock(mutex_);
    auto& model = models_[name];
    if (!model)
      model = std::make_shared<ModelCapture>(*source_, capture_, clock_, settings_,
                                             capture_.open_model(connection_.id, name, false, settings_.overlap));
    return model;
  }

  // One pull at a time: a second caller waits, and finds what is left.
  Applied pull(const Models& chosen, std::vector<std::string>& errors, std::int64_t& bytes, std::stop_token stop) {
    std::lock_guard lock(pull_);
    if (std::none_of(chosen.begin(), chosen.end(), [](const auto& model) { return model->pulling(); })) return {};
    const Time started = clock_.now();
    Puller puller(chosen, stop);
    const Applied applied = puller.run(errors, bytes);
    if (stop.stop_requested()) throw Error(Error::Kind::cancelled, "Stopped; what was pulled so far is kept.");
    nlohmann::json counts = counts_of(applied);
    counts["bytes"] = bytes;
    capture_.log_run({connection_.id, "", "pull", errors.empty() ? "ok" : "errors", started, counts, errors});
    return applied;
  }

  void keep_learnt() {
    const std::string learnt = source().learnt();
    {
      std::lock_guard lock(mutex_);
      if (learnt == learnt_) return;
      learnt_ = learnt;
    }
    connections_.set_learnt(connection_.id, learnt);
  }

  void set_waiting(const std::string& error, std::optional<Time> retry_at) {
    std::lock_guard lock(mutex_);
    error_ = error;
    retry_at_ = retry_at;
  }

  void follow(std::stop_token stop) {
    Micros backoff = kBackoffFirst;
    while (!stop.stop_requested()) {
      try {
        with_errors([&] { follow_until_error(stop, backoff); });
        return;
      } catch (const Error& error) {
        if (stop.stop_requested()) return;
        if (error.kind == Error::Kind::auth) {
          const notify::Alert alert{
              .fingerprint = fmt::format("connection:{}:auth", connection_.name),
              .severity = notify::Severity::critical,
              .title = fmt::format("The connection {} stopped: it can't log in", connection_.name),
              .text = fmt::format("{}{} Nothing is read or written through it until that is put right "
                                  "(`dragoman connection update {}`).",
                                  error.message, error.message.ends_with('.') ? "" : ".", connection_.name),
              .subject = connection_.name,
              .link = fmt::format("dragoman connection test {}", connection_.name)};
          connections_.set_state(connection_.name, "error", error.message, &alert);
          set_waiting(error.message, std::nullopt);
          log::error("the connection stops: it can't log in",
                     {{"connection", connection_.name}, {"error", error.message}});
          return;
        }
        Micros pause =
            backoff + Micros(static_cast<std::int64_t>(random_.unit() * static_cast<double>(backoff.count()) / 4));
        if (error.retry_after) pause = std::max<Micros>(pause, *error.retry_after);
        backoff = std::min(backoff * 2, kBackoffMax);
        set_waiting(error.message, clock_.now() + pause);
        log::warning("the connection waits", {{"connection", connection_.name},
                                              {"kind", policy(error.kind).name},
                                              {"error", error.message},
                                              {"detail", error.detail},
                                              {"retry_seconds", static_cast<double>(pause.count()) / 1e6}});
        clock_.wait(pause, stop);
      }
    }
  }

  void follow_until_error(std::stop_token stop, Micros& backoff) {
    source();
    for (const std::string& name : capture_.model_names(connection_.id)) open(name);  // what is held shows at once
    Models usable = prepare({}, false, nullptr, stop);
    set_waiting("", std::nullopt);
    backoff = kBackoffFirst;

    // The first pull goes on beside the polls of what is already here.
    std::atomic<bool> pull_ended{true};
    std::optional<Error> pull_error;
    std::jthread pull_thread;
    const auto start_pull = [&] {
      if (!pull_ended ||
          std::none_of(usable.begin(), usable.end(), [](const auto& m) { return m->pulling() && !m->refused(); }))
        return;
      pull_thread = {};
      pull_ended = false;
      pull_thread = std::jthread([&, chosen = usable](std::stop_token pull_stop) {
        std::stop_source either;
        const std::stop_callback first(pull_stop, [&] { either.request_stop(); });
        const std::stop_callback second(stop, [&] { either.request_stop(); });
        try {
          std::vector<std::string> errors;
          std::int64_t bytes = 0;
          with_errors([&] {
            pull(chosen, errors, bytes, either.get_token());
            keep_learnt();
          });
        } catch (const Error& error) {
          pull_error = error;
        }
        pull_ended = true;
      });
    };

    Micros next_wide{}, pull_again{};
    std::map<std::string, Micros> parked;      // models that failed, until when
    std::map<std::string, Micros> schema_due;  // when a model is described anew
    std::map<std::string, ModelCapture::SweepState> sweeps;
    std::map<std::string, Applied> since_log;
    std::map<std::string, Micros> lively_until;
    Time log_began = clock_.now();
    while (!stop.stop_requested()) {
      const Micros round_began = clock_.steady();
      if (pull_ended && round_began >= pull_again) {
        if (pull_thread.joinable()) pull_thread.join();
        if (pull_error) {
          const Error error = *pull_error;
          pull_error.reset();
          throw error;
        }
        start_pull();
        pull_again = round_began + 5s;
      }
      describe_one(usable, schema_due, parked, stop);
      const bool wide = round_began >= next_wide;
      if (wide) next_wide = round_began + kWideInterval;
      Models due;
      for (const auto& model : usable)
        if (model->following() && parked[model->name()] <= round_began) due.push_back(model);
      const Micros polling = poll_round(due, wide, since_log, lively_until, parked, schema_due, stop);
      if (wide) {
        keep_learnt();  // not only when the pull has ended: a hub that is started again shall know it
        for (const auto& [name, applied] : since_log)
          if (applied.created + applied.changed + applied.deleted > 0)
            capture_.log_run({connection_.id, name, "delta", "ok", log_began, counts_of(applied), {}});
        since_log.clear();
        log_began = clock_.now();
      }
      const Micros next_round =
          round_began + std::max(settings_.poll_interval, round_length(polling, source().places()));
      // In between, those in which something has just happened: there the next change is likeliest.
      if (const Micros half = round_began + settings_.poll_interval / 2; half + polling < next_round) {
        sweep_until(half, usable, sweeps, parked, schema_due, stop);
        if (const Micros left = half - clock_.steady(); left > 0us) clock_.wait(left, stop);
        Models lively;
        for (const auto& model : due)
          if (parked[model->name()] <= half && lively_until[model->name()] > half) lively.push_back(model);
        if (!lively.empty() && !stop.stop_requested())
          poll_round(lively, false, since_log, lively_until, parked, schema_due, stop);
      }
      sweep_until(next_round, usable, sweeps, parked, schema_due, stop);
      const Micros left = next_round - clock_.steady();
      if (left > 0us) clock_.wait(left, stop);
    }
    pull_thread = {};
  }

  // Polls the models, kPollers at once. Returns the time that this took callers, all together.
  Micros poll_round(const Models& due, bool wide, std::map<std::string, Applied>& since_log,
                    std::map<std::string, Micros>& lively_until, std::map<std::string, Micros>& parked,
                    std::map<std::string, Micros>& schema_due, std::stop_token stop) {
    std::mutex results;  // guards the maps, and what follows
    std::vector<std::pair<std::int64_t, Time>> cursors;
    std::optional<Error> failure;
    Micros polling{};
    std::atomic<std::size_t> next{0};
    const auto poll = [&] {
      const Micros began = clock_.steady();
      for (std::size_t i = next++; i < due.size() && !stop.stop_requested(); i = next++) {
        ModelCapture& model = *due[i];
        std::optional<Applied> applied;
        std::optional<Error> error;
        try {
          applied = with_errors([&] { return model.poll(wide, stop).applied; });
        } catch (const Error& thrown) {
          error = thrown;
        }
        const auto cursor = model.take_cursor();
        std::lock_guard lock(results);
        if (cursor) cursors.emplace_back(model.id(), *cursor);
        if (error && about_connection(*error)) {
          if (!failure) failure = *error;
          next = due.size();  // the others would meet it again
          break;
        }
        guarded(model, parked, schema_due, [&] {
          if (error) throw *error;
          applied->written.clear();
          since_log[model.name()] += *applied;
          if (applied->created + applied->changed > 0) lively_until[model.name()] = clock_.steady() + kLively;
        });
      }
      const Micros took = clock_.steady() - began;
      std::lock_guard lock(results);
      polling += took;
    };
    {
      std::vector<std::jthread> others;
      for (int i = 1; i < std::min(kPollers, static_cast<int>(due.size())); ++i) others.emplace_back(poll);
      poll();
    }
    // What the polls before a failure secured is kept.
    capture_.set_cursors(cursors);
    if (failure) throw *failure;
    return polling;
  }

  // Describes at most one model of those whose time has come, so that polls never wait for all of them; a model that
  // was out of reach may be there now.
  void describe_one(Models& usable, std::map<std::string, Micros>& due, std::map<std::string, Micros>& parked,
                    std::stop_token stop) {
    const Micros now = clock_.steady();
    for (const auto& model : models()) {
      const auto [entry, first] = due.try_emplace(model->name(), now + settings_.schema_interval);
      if (first || entry->second > now) continue;
      entry->second = now + settings_.schema_interval;
      guarded(*model, parked, due, [&] {
        const bool captured = model->prepare(false, stop);
        const auto at = std::find(usable.begin(), usable.end(), model);
        if (captured && at == usable.end()) usable.push_back(model);
        if (!captured && at != usable.end()) usable.erase(at);
      });
      entry->second = now + settings_.schema_interval;  // a failure must not bring it back at once
      return;
    }
  }

  template <typename Work>
  void guarded(ModelCapture& model, std::map<std::string, Micros>& parked, std::map<std::string, Micros>& schema_due,
               Work&& work) {
    try {
      with_errors(work);
      model.set_error("");
    } catch (const Error& error) {
      if (about_connection(error)) throw;
      model.set_error(error.message);
      parked[model.name()] = clock_.steady() + kModelBackoff;
      schema_due[model.name()] = clock_.steady();  // a field may be gone
      log::warning("a model waits", {{"connection", connection_.name},
                                     {"model", model.name()},
                                     {"kind", policy(error.kind).name},
                                     {"error", error.message},
                                     {"detail", error.detail}});
    }
  }

  void sweep_until(Micros deadline, const Models& usable, std::map<std::string, ModelCapture::SweepState>& sweeps,
                   std::map<std::string, Micros>& parked, std::map<std::string, Micros>& schema_due,
                   std::stop_token stop) {
    for (const auto& model : usable) {
      if (!model->following() || parked[model->name()] > clock_.steady()) continue;
      guarded(*model, parked, schema_due, [&] {
        while (clock_.steady() < deadline && model->fetch_binaries(10, stop)) {
        }
      });
      const auto status = model->status(connection_.name);
      const bool under_way = sweeps.contains(model->name());
      if (!under_way && status.swept && clock_.now() - *status.swept < settings_.sweep_interval &&
          *status.swept <= clock_.now())
        continue;
      ModelCapture::SweepState& state = sweeps[model->name()];
      bool more = true;
      while (more && clock_.steady() < deadline && !stop.stop_requested())
        guarded(*model, parked, schema_due, [&] {
          more = false;  // unless it ends well
          more = model->sweep_step(state, stop);
          if (!more) {
            nlohmann::json counts = counts_of(state.outcome.applied);
            counts["there"] = state.there;
            counts["here"] = state.here;
            counts["late"] = state.outcome.late;
            capture_.log_run({connection_.id, model->name(), "sweep", "ok", state.began, counts, {}});
          }
        });
      if (!more) sweeps.erase(model->name());
      if (clock_.steady() >= deadline || stop.stop_requested()) return;
    }
  }

  CaptureStore capture_;
  Connections& connections_;
  const ConnectorList& connectors_;
  Clock& clock_;
  Random& random_;
  const SyncSettings settings_;
  Connection connection_;

  std::mutex pull_;   ///< held during a pull
  std::mutex mutex_;  ///< guards what follows
  std::unique_ptr<Source> source_;
  std::map<std::string, std::shared_ptr<ModelCapture>> models_;
  std::string error_;
  std::string learnt_;  ///< as it was stored last
  std::optional<Time> retry_at_;

  std::jthread thread_;
};

class SyncService::Impl {
 public:
  Impl(store::Store& store, Connections& connections, const ConnectorList& connectors, Clock& clock, Random& random,
       SyncSettings settings)
      : store_(store),
        connections_(connections),
        connectors_(connectors),
        clock_(clock),
        random_(random),
        settings_(settings) {}

  std::shared_ptr<Worker> worker(const std::string& name) {
    const Connection connection = connections_.get(name);
    std::lock_guard lock(mutex_);
    auto& worker = workers_[name];
    if (!worker || worker->connection().id != connection.id)
      worker = std::make_shared<Worker>(store_, connections_, connectors_, clock_, random_, settings_, connection);
    return worker;
  }

  bool captures(const Connection& connection) const {
    for (const Connector& connector : connectors_.all())
      if (connector.kind == connection.kind) return static_cast<bool>(connector.make_source);
    return true;  // of a connector that this program does not have: it says so when it is opened
  }

  void start() {
    {
      std::lock_guard lock(mutex_);
      started_ = true;
    }
    for (const Connection& connection : connections_.list())
      if (connection.state == "active" && captures(connection)) worker(connection.name)->start();
  }

  void stop() {
    std::map<std::string, std::shared_ptr<Worker>> workers;
    {
      std::lock_guard lock(mutex_);
      started_ = false;
      workers.swap(workers_);
    }
    for (auto& [name, worker] : workers) worker->stop();
  }

  void refresh(const std::string& name) {
    std::shared_ptr<Worker> old;
    bool started = false;
    {
      std::lock_guard lock(mutex_);
      started = started_;
      if (const auto found = workers_.find(name); found != workers_.end()) {
        old = found->second;
        workers_.erase(found);
      }
    }
    if (old) old->stop();
    const auto now = connections_.find(name);
    if (started && now && now->state == "active" && captures(*now)) worker(name)->start();
  }

  store::Store& store_;
  Connections& connections_;
  const ConnectorList& connectors_;
  Clock& clock_;
  Random& random_;
  const SyncSettings settings_;
  std::mutex mutex_;
  bool started_ = false;
  std::map<std::string, std::shared_ptr<Worker>> workers_;
};

SyncService::SyncService(store::Store& store, Connections& connections, const ConnectorList& connectors, Clock& clock,
                         Random& random, SyncSettings settings)
    : impl_(std::make_unique<Impl>(store, connections, connectors, clock, random, settings)) {}

SyncService::~SyncService() {
  stop();
}

void SyncService::start() {
  impl_->start();
}
void SyncService::stop() {
  impl_->stop();
}
void SyncService::refresh(const std::string& connection) {
  impl_->refresh(connection);
}

void SyncService::add_models(const std::string& connection, const std::vector<std::string>& models) {
  refuse_paused(connection);
  const auto worker = impl_->worker(connection);
  CaptureStore capture(impl_->store_, impl_->clock_);
  const auto defaults = worker->source().default_models({});
  // What is captured anyway need not be asked for: it is described when it is its turn.
  const auto captured = [&](const std::string& model) {
    if (std::find(defaults.begin(), defaults.end(), model) != defaults.end()) return true;
    const auto row = capture.find_model(worker->connection().id, model);
    return row && row->asked && row->state != "unavailable";
  };
  for (const std::string& model : models)
    if (!captured(model) && !worker->source().describe(model, std::nullopt, {}))
      throw Error(
          Error::Kind::not_found,
          fmt::format("The server behind `{}` has no model `{}`; check the spelling and that its module is installed.",
                      connection, model));
  for (const std::string& model : models)
    capture.open_model(worker->connection().id, model, true, impl_->settings_.overlap);
}

RunResult SyncService::run(const std::string& connection, const std::vector<std::string>& models,
                           const RunOptions& options, std::stop_token stop) {
  refuse_paused(connection);
  if (!models.empty()) add_models(connection, models);
  return impl_->worker(connection)->run(models, options, stop);
}

std::vector<ConnectionStatus> SyncService::status(const std::string& connection) {
  std::vector<ConnectionStatus> out;
  for (const Connection& each : impl_->connections_.list())
    if (connection.empty() || each.name == connection) {
      ConnectionStatus status = impl_->worker(each.name)->status();
      status.captures = impl_->captures(each);
      if (status.models.empty() && status.captures) {
        // Not at work in this process: what the store knows.
        Records records(impl_->store_);
        for (const ModelRow& row : records.models(each.name, false)) {
          ModelStatus model;
          model.connection = each.name;
          model.model = row.name;
          model.state = model.phase = row.state;
          model.reason = row.reason;
          model.alarm = row.alarm;
          if (to_us(row.swept) > 0) model.swept = row.swept;
          status.models.push_back(model);
        }
      }
      out.push_back(std::move(status));
    }
  if (!connection.empty() && out.empty()) impl_->connections_.get(connection);  // throws not_found
  return out;
}

bool SyncService::captures(const Connection& connection) const {
  return impl_->captures(connection);
}

void SyncService::refuse_paused(const std::string& connection) {
  const Connection now = impl_->connections_.get(connection);
  if (!captures(now))
    throw Error(
        Error::Kind::conflict,
        fmt::format("Nothing is captured from `{}`, a connection of kind `{}`: `dragoman market pull {}` asks it "
                    "for its orders.",
                    connection, now.kind, connection));
  if (now.state == "paused")
    throw Error(Error::Kind::conflict, fmt::format("The connection `{}` is paused, so nothing is read through it. "
                                                   "`dragoman connection resume {}` goes on.",
                                                   connection, connection));
}

std::vector<Certificate> SyncService::certify(const std::string& connection, const CertifyOptions& options,
                                              std::stop_token stop) {
  refuse_paused(connection);
  return impl_->worker(connection)->certify(options, stop);
}

Probe SyncService::test(const std::string& name, std::stop_token stop) {
  const Connection connection = impl_->connections_.get(name);
  const Connector& connector = impl_->connectors_.get(connection.kind);
  Probe probe = connector.test(connection, impl_->connections_.secret(connection), impl_->clock_, stop);
  if (connector.make_marketplace)
    probe_order_book(probe, impl_->connections_, impl_->connectors_, connection, impl_->clock_, stop);
  return probe;
}

}  // namespace dragoman::pipeline
