#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/clock.h"
#include "store/postgres_connection.h"
#include "store/signals.h"

namespace dragoman::store {

/// The one PostgreSQL channel of the hub; its payload is the Store's channel.
inline constexpr std::string_view kPostgresChannel = "dragoman";

/// Passes on what any node notifies, over a connection of its own that is made again after a cut. As nobody knows
/// what was said meanwhile, all waiters are woken then.
///
/// Threads: safe from any thread; runs one of its own from the first start() on.
class PostgresListener {
 public:
  PostgresListener(std::string url, Micros connect_timeout, Signals& signals);
  ~PostgresListener();
  PostgresListener(const PostgresListener&) = delete;
  PostgresListener& operator=(const PostgresListener&) = delete;

  /// Returns once it listens, or could not for now. Later calls return at once.
  void start();

 private:
  void run(std::stop_token stop);
  void connect();
  /// Waits for the server or for the end. False at the end.
  bool wait_readable(int timeout_ms, std::stop_token stop);

  const std::string url_;
  const Micros connect_timeout_;
  Signals& signals_;
  int wake_fd_;
  std::once_flag started_;
  std::unique_ptr<PostgresConnection> connection_;  // of the thread, once it runs
  std::jthread thread_;
};

}  // namespace dragoman::store
