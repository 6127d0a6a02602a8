#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "sandbox/odoo/database.h"
#include "sandbox/odoo/errors.h"
#include "sandbox/odoo/faults.h"
#include "sandbox/odoo/http.h"
#include "sandbox/odoo/methods.h"

namespace sandbox::odoo {

/// A transaction held open through the control interface: its changes are kept aside until commit, and
/// carry its start as their write_date then, as a long transaction's do.
struct OpenTransaction {
  std::int64_t start_us = 0;
  Id uid = 1;
  std::vector<std::function<void(Orm&)>> changes;
  std::shared_ptr<Database::Running> running;
};

/// Answers requests as Odoo of one series does.
/// Threads: handle() and control() from any thread, several at once.
class Service {
 public:
  /// `pause` waits in a worker and answers false when the server stops meanwhile.
  Service(Database& database, std::function<bool(std::chrono::milliseconds)> pause,
          std::function<HttpCounters()> counters, std::function<void()> reset_counters);

  HttpResponse handle(const HttpRequest& request);

  /// The control interface: `path` below /sandbox, `body` a JSON object. Throws std::runtime_error with
  /// a message for the caller if it cannot be done.
  Json control(const std::string& method, const std::string& path, const Json& body);

  /// Control paths that belong to the server around this service: an answer, or nullopt for the others.
  /// Set before requests come.
  using Extension =
      std::function<std::optional<Json>(const std::string& method, const std::string& path, const Json& body)>;
  void extend_control(Extension extension) { extension_ = std::move(extension); }

  Methods& methods() { return methods_; }
  FaultRules& faults() { return faults_; }

  /// Runs a method as `uid`, past faults and the log: for generators and tests inside the process.
  Json call(Id uid, const std::string& model, const std::string& method, const Json& args, const Json& kwargs);

 private:
  struct Rpc;

  Spelling spelling() const { return database_.series() >= 17 ? Spelling::utf8 : Spelling::ascii; }
  std::string dump(const Json& value) const { return python_json(value, spelling()); }
  HttpResponse json_rpc(const HttpRequest& request);
  HttpResponse json_2(const HttpRequest& request);
  HttpResponse xml_rpc(const HttpRequest& request);
  HttpResponse session(const HttpRequest& request);
  HttpResponse html(int status, const std::string& title, const std::string& text) const;
  HttpResponse json_rpc_error(const Json& id, const OdooError& error) const;
  HttpResponse control_response(const HttpRequest& request);

  Json common(const std::string& method, const Json& args);
  Json version() const;
  Id login(const std::string& login, const std::string& password) const;
  bool check_password(Id uid, const std::string& password) const;
  Env environment(Id uid, const Json& context) const;

  /// Finds and runs a method; writes its value to `out`. Answers false where Python returned None.
  bool execute(Rpc& rpc, const std::string& database, Sink& out);
  HttpResponse apply_fault(Rpc& rpc, HttpResponse response) const;

  Database& database_;
  std::function<bool(std::chrono::milliseconds)> pause_;
  std::function<HttpCounters()> counters_;
  std::function<void()> reset_counters_;
  Methods methods_;
  FaultRules faults_;
  Extension extension_;

  std::mutex log_mutex_;
  std::deque<Json> log_;
  std::uint64_t log_count_ = 0;
  std::map<std::string, std::uint64_t> method_counts_;
  std::size_t log_max_ = 10'000;

  std::mutex open_mutex_;
  std::map<std::int64_t, OpenTransaction> open_;
  std::int64_t next_open_ = 1;
};

/// Odoo's class and status for JSON-2.
int json2_status(const OdooError& error);

}  // namespace sandbox::odoo
