#include "store/postgres_listener.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace dragoman::store {

PostgresListener::PostgresListener(std::string url, Micros connect_timeout, Signals& signals)
    : url_(std::move(url)),
      connect_timeout_(connect_timeout),
      signals_(signals),
      wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  DRAGOMAN_ASSERT(wake_fd_ >= 0, "the system has a file descriptor left");
}

PostgresListener::~PostgresListener() {
  thread_.request_stop();
  ::eventfd_write(wake_fd_, 1);
  if (thread_.joinable()) thread_.join();
  ::close(wake_fd_);
}

void PostgresListener::start() {
  std::call_once(started_, [&] {
    try {
      connect();
    } catch (const Error& error) {
      ignore_error("the listener's thread connects again by itself", error);
    }
    // What was said before nobody here can know.
    signals_.notify_all();
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
  });
}

void PostgresListener::connect() {
  auto fresh = std::make_unique<PostgresConnection>(url_, connect_timeout_);
  fresh->script(fmt::format("LISTEN {}", kPostgresChannel));
  connection_ = std::move(fresh);
}

bool PostgresListener::wait_readable(int timeout_ms, std::stop_token stop) {
  pollfd fds[2] = {{.fd = wake_fd_, .events = POLLIN, .revents = 0}, {.fd = -1, .events = POLLIN, .revents = 0}};
  if (connection_) fds[1].fd = PQsocket(connection_->handle());
  ::poll(fds, 2, timeout_ms);
  return !stop.stop_requested();
}

void PostgresListener::run(std::stop_token stop) {
  ::pthread_setname_np(::pthread_self(), "store-listen");
  int delay_ms = 100;
  while (!stop.stop_requested()) {
    if (!connection_) {
      try {
        connect();
        delay_ms = 100;
        signals_.notify_all();
      } catch (const Error& error) {
        log::warning("notifications of other nodes are not heard until the store is reached again",
                     {{"error", error.what()}, {"retry_in_ms", delay_ms}});
        if (!wait_readable(delay_ms, stop)) return;
        delay_ms = std::min(delay_ms * 2, 5000);
      }
      continue;
    }
    const bool ok = PQconsumeInput(connection_->handle()) == 1 && !connection_->cut();
    while (PGnotify* notify = PQnotifies(connection_->handle())) {
      signals_.notify(notify->extra);
      PQfreemem(notify);
    }
    if (!ok) {
      connection_.reset();
      continue;
    }
    if (!wait_readable(-1, stop)) return;
  }
}

}  // namespace dragoman::store
