#pragma once

#include <chrono>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

namespace sandbox::odoo {

struct Options {
  int series = 19;  // 14, 17, 18 or 19
  std::string db = "sandbox";
  std::string bind = "127.0.0.1";
  int port = 0;  // 0: a free one
  int workers = 2;
  /// A connection that stays silent for so long loses its worker.
  std::chrono::milliseconds socket_timeout{2000};
  /// "small": the trading company; "none": users, groups and countries only.
  std::string seed_data = "small";
  std::uint64_t seed = 1;
  /// Where a start finds what the one before it ended with, and its end leaves it; empty: nowhere. Seed data and what
  /// is filled come into a new one only.
  std::string state;
  /// Generated records on top: {"res.partner", 1000000}.
  std::vector<std::pair<std::string, std::size_t>> fill;
  /// Writes a second by a generator in the process; 0: none.
  int churn_per_second = 0;
  std::string admin_password = "admin";
  std::string admin_key = "a1b2c3d4e5f60718293a4b5c6d7e8f9011223344";
  std::string limited_password = "limited";
  std::string limited_key = "0f1e2d3c4b5a69788796a5b4c3d2e1f001122334";
};

/// A stand-in Odoo: speaks like the real one of its series over HTTP, holds everything in memory, and
/// has faults on demand. See README.md beside this file for the control interface.
/// Threads: start() and stop() from one thread, the rest from any thread.
class Server {
 public:
  explicit Server(Options options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Fills the tables, listens, and returns the port. Throws std::runtime_error with a clear message.
  int start();
  /// Ends every connection and joins all threads.
  void stop();

  int port() const;
  std::string url() const;
  const Options& options() const;

  /// The control interface without HTTP: `path` as "/faults", "/tx/begin", "/state".
  /// Throws std::runtime_error with what is wrong.
  nlohmann::ordered_json control(const std::string& method, const std::string& path,
                                 const nlohmann::ordered_json& body);
  /// Calls a model method as user `uid` without HTTP, faults or log.
  nlohmann::ordered_json call(const std::string& model, const std::string& method, const nlohmann::ordered_json& args,
                              const nlohmann::ordered_json& kwargs, std::int64_t uid = 2);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace sandbox::odoo
