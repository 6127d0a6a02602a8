#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace sandbox::odoo {

struct HttpRequest {
  std::string method;
  std::string path;                            // without the query
  std::string query;                           // without the question mark
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  std::string header(const std::string& lower_name) const {
    const auto found = headers.find(lower_name);
    return found == headers.end() ? std::string() : found->second;
  }
};

/// An answer, and what becomes of it on its way: the faults of a bad day are part of the answer.
struct HttpResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string content_type = "application/json; charset=utf-8";
  std::string prefix;  // sent before and after the body, so that an envelope costs no copy
  std::string body;
  std::string suffix;

  enum class Delivery { whole, nothing, reset, cut, endless };
  Delivery delivery = Delivery::whole;
  std::size_t cut_at = 0;             // bytes of the body sent before the connection is closed (cut)
  bool short_content_length = false;  // the header announces what was cut, not what was meant
  std::uint64_t endless_bytes = 0;    // body length of `endless`: the body is repeated up to it
};

/// Counters of the connections themselves, as a client's politeness is judged by them.
struct HttpCounters {
  std::uint64_t connections = 0;
  std::uint64_t requests = 0;
  int open_now = 0;
  int open_peak = 0;
  int busy_now = 0;
  int busy_peak = 0;
};

/// Odoo's prefork server seen from outside: `workers` threads, each takes a connection, reads one
/// request, answers HTTP/1.0 with Connection: close, and closes. A connection that stays silent keeps
/// its worker until `socket_timeout`, as the real one's does.
/// Threads: start() and stop() from one thread; the handler runs on the workers, several at once.
class HttpServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  struct Options {
    std::string bind = "127.0.0.1";
    int port = 0;
    int workers = 2;
    std::chrono::milliseconds socket_timeout{2000};
    std::size_t body_bytes_max = std::size_t{512} << 20;
    bool announces_close = true;  // 14 closes without saying so
    std::string server_name = "Werkzeug/3.1.3 Python/3.13.5";
  };

  HttpServer(Options options, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Listens and returns the port. Throws std::runtime_error if it cannot.
  int start();
  void stop();

  HttpCounters counters() const;
  void reset_counters();

  /// Waits in a worker, shorter when the server stops. True when the whole time has passed.
  bool wait(std::chrono::milliseconds time);

 private:
  void accept_loop();
  void work_loop();
  void serve(int fd);

  Options options_;
  Handler handler_;
  int listen_fd_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread acceptor_;
  std::vector<std::thread> workers_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<int> waiting_;
  std::set<int> open_;
  HttpCounters counters_;
};

/// The standard reason phrase of a status.
std::string_view reason_phrase(int status);

}  // namespace sandbox::odoo
