#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace sandbox::cartona {

struct HttpRequest {
  std::string method;
  std::string path;                            // without the query, as received
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
  std::string body;

  enum class Delivery {
    whole,
    closed,  // closed without a byte
    reset,   // the same with a TCP reset
    cut,     // `cut_at` bytes of the body, then closed; the header announces all of it
    drip     // `drip_bytes` every `drip_pause`
  };
  Delivery delivery = Delivery::whole;
  std::size_t cut_at = 0;
  std::size_t drip_bytes = 1;
  std::chrono::milliseconds drip_pause{10};
  std::uint64_t padded_to = 0;  // white space is sent behind the body up to this length; 0: none
  bool close = false;           // the connection ends after this answer
};

struct HttpCounters {
  std::uint64_t connections = 0;
  std::uint64_t requests = 0;
  int open_now = 0;
  int open_peak = 0;
};

/// An HTTP/1.1 server with a thread for each connection, so that one caller who is kept waiting costs the others
/// nothing. Threads: start() and stop() from one thread; the handler runs on the connections' threads, several at once.
class HttpServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;

  struct Options {
    std::string bind = "127.0.0.1";
    int port = 0;
    int connections_max = 1024;                      // one more is closed at once
    std::chrono::milliseconds idle_timeout{30'000};  // between requests, and between pieces of one
    std::size_t body_bytes_max = std::size_t{64} << 20;
  };

  HttpServer(Options options, Handler handler);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Listens and returns the port. Throws std::runtime_error if it cannot.
  int start();
  void stop();

  HttpCounters counters() const;

  /// Waits on a connection's thread, shorter when the server stops. True when the whole time has passed.
  bool wait(std::chrono::milliseconds time);

 private:
  struct Connection {
    int fd = -1;
    bool done = false;
    std::thread thread;
  };

  void accept_loop();
  void serve(int fd);
  /// False: the connection is over.
  bool send(int fd, const HttpRequest& request, const HttpResponse& response, bool keep);
  void reap();

  Options options_;
  Handler handler_;
  int listen_fd_ = -1;
  std::atomic<bool> stopping_{false};
  std::thread acceptor_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Connection> connections_;
  HttpCounters counters_;
};

/// The standard reason phrase of a status.
std::string_view reason_phrase(int status);

/// `%D8%A3+b` → text; what is no escape stays as it is.
std::string url_decode(std::string_view text);

/// The fields of a query, the last of a name wins.
std::map<std::string, std::string> query_fields(std::string_view query);

}  // namespace sandbox::cartona
