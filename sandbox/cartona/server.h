#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "sandbox/cartona/service.h"

namespace sandbox::cartona {

struct Options {
  std::string bind = "127.0.0.1";
  int port = 0;  // 0: a free one
  Start start;
  /// A scenario that plays from the beginning; null: none.
  Json scenario;
  /// Where a start finds what the one before it ended with, and its end leaves it; empty: nowhere.
  std::string state;
};

/// A stand-in Cartona: the supplier's API over HTTP with everything in memory, a control interface beside it. See
/// docs/reference/cartona-stand-in.md.
/// Threads: start() and stop() from one thread, the rest from any thread.
class Server {
 public:
  explicit Server(Options options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Listens and returns the port. Throws std::runtime_error with a clear message.
  int start();
  void stop();

  int port() const;
  /// With the prefix: what a connection is given as its base URL.
  std::string base_url() const;
  std::string control_url() const;

  /// The control interface without HTTP: `path` as "/orders". Throws ControlError.
  Json control(const std::string& method, const std::string& path, const Json& body);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace sandbox::cartona
