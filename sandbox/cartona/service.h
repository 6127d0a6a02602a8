#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "sandbox/cartona/day.h"
#include "sandbox/cartona/faults.h"
#include "sandbox/cartona/http.h"
#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

/// What a fresh stand-in has; reset() brings it back.
struct Start {
  std::string prefix = "/api/v1/";
  std::uint64_t seed = 1;
  std::size_t accounts = 1;  ///< named cartona-1, cartona-2, …
  std::size_t codes = 1;     ///< supplier_codes of each
  Json products;             ///< rows for each; null: the demo's
  std::vector<std::pair<std::string, std::string>> switches;
};

/// Answers the API and the control interface.
/// Threads: handle() and control() from any thread, several at once.
class Service {
 public:
  /// `pause` waits and answers false when the server stops meanwhile.
  Service(Start start, std::function<bool(std::chrono::milliseconds)> pause, std::function<HttpCounters()> counters);

  HttpResponse handle(const HttpRequest& request);

  /// The control interface: `path` below /sandbox, `body` a JSON object with what the query said too.
  /// Throws ControlError.
  Json control(const std::string& method, const std::string& path, const Json& body);

  /// GET /export as text: all there is, for a judge.
  std::string export_all();

  /// Plays the running scenario until asked to stop. Runs on a thread of its own.
  void play_until_stopped();
  void stop_playing();

  const Start& start() const { return start_; }

  /// All that a later start goes on from; and goes on from it: how often that was before.
  Json kept();
  std::uint64_t take_up(const Json& kept);

 private:
  struct Logged {
    std::uint64_t seq = 0;
    Moment at = 0;
    std::int64_t took_us = 0;
    std::string account, method, path, query, body;
    int status = 0;  // 0: no answer (yet)
    std::size_t bytes = 0;
    std::string fault;
  };
  using Lock = std::unique_lock<std::mutex>;

  HttpResponse call(const HttpRequest& request, const std::string& path, Lock& lock, std::string& account,
                    std::string& fault);
  /// Waits with the lock released. False: the server stops.
  bool wait(Lock& lock, std::chrono::milliseconds time);
  void begin_log(Logged entry);
  void set_up();
  /// Plays what is due by the wall clock, and says how long until there is more.
  std::optional<std::chrono::microseconds> play_due();

  Json state();
  Json control_switches(const std::string& method, const Json& body);
  Json control_accounts(const std::string& method, const Json& body);
  Json control_products(const std::string& method, const Json& body);
  Json control_orders(const std::string& method, const Json& body);
  Json control_act(const Json& body);
  Json control_requests(const std::string& method, const Json& body);
  Json control_ledger(const Json& body);
  Json control_writes(const Json& body);
  Json control_faults(const std::string& method, const Json& body);
  Json control_clock(const Json& body);
  Json control_scenario(const std::string& method, const Json& body);
  Json control_reset(const Json& body);
  static Json logged_state(const Logged& entry);
  void act(Order& order, const Json& body);

  const Start start_;
  std::function<bool(std::chrono::milliseconds)> pause_;
  std::function<HttpCounters()> counters_;

  std::mutex mutex_;  // over all that follows
  World world_;
  FaultRules faults_;
  std::deque<Logged> log_;
  std::uint64_t next_request_ = 1;
  std::uint64_t starts_ = 0;
  std::size_t log_bytes_ = 0;
  std::unique_ptr<Day> day_;
  std::chrono::steady_clock::time_point day_began_;
  std::condition_variable day_changed_;
  bool stopping_ = false;
};

}  // namespace sandbox::cartona
