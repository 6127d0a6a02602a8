#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "http/message.h"

namespace dragoman::http {

/// Where a streaming answer writes.
///
/// Threads: runs on the stream's own thread.
class Sink {
 public:
  virtual ~Sink() = default;
  /// Hands over a piece of the body. Waits while the reader is behind by more than the server's limit; false when the
  /// reader has gone or was dropped for being too slow, or the server stops: then end the stream.
  virtual bool write(std::string_view piece) = 0;
  /// Asked when `write` would return false.
  virtual std::stop_token stop() const = 0;
};

/// What a handler answers. With `stream` set, the head of `response` is sent at once, and then what `stream` writes,
/// from a thread of its own; the connection stays for further requests when it returns.
///
/// With `later` set there is no answer yet, and the other two are left out: `later` is called once, must neither wait
/// nor throw, and is given what takes the answer. That is called once, from any thread, and calls the function that it
/// is given for a Reply (without `stream` and `later`). So a request can wait for something without a thread that
/// waits.
struct Reply {
  using Result = std::function<Reply()>;
  Response response;
  std::function<void(Sink&)> stream;
  std::function<void(std::function<void(Result)>)> later{};
};

/// One request on its way through the server.
struct Exchange {
  Request request;
  std::string peer;  ///< the address it came from: `127.0.0.1`
  bool peer_is_loopback = false;
  /// Asked when the server stops: what takes long should end with what it has, or with `cancelled`.
  std::stop_token stop;
};

struct Handler {
  /// Must not throw. Threads: called from any request thread.
  std::function<Reply(Exchange)> answer;
  /// Asked first: answers what needs no waiting at all. Nothing: `answer` is asked, with the exchange as it was. Must
  /// not throw; may be empty. Threads: called from the io thread.
  std::function<std::optional<Reply>(Exchange&)> at_once;
};

struct ServerSettings {
  std::string address = "127.0.0.1";  ///< an IP address; `0.0.0.0` and `::` are every interface
  std::uint16_t port = 8480;          ///< 0: any free one
  int request_threads = 16;
  /// Requests that wait for a thread; one more is answered 503 with Retry-After.
  std::size_t waiting_max = 256;
  std::size_t connections_max = 1024;
  std::size_t streams_max = 64;
  std::uint32_t header_bytes_max = 16 << 10;
  std::uint64_t body_bytes_max = 8 << 20;
  std::chrono::milliseconds idle_timeout{75'000};    ///< between requests
  std::chrono::milliseconds header_timeout{10'000};  ///< from the first byte to the whole head
  std::chrono::milliseconds body_timeout{60'000};
  std::chrono::milliseconds write_timeout{30'000};  ///< for one answer, or 256 KB of a stream
};

/// The hub's HTTP/1.1 server: one `io` thread, a bounded pool of `request-N` threads, a thread for each stream.
///
/// Every read and write has a time limit, every size its bound; what is over is refused with a JSON error (400 broken,
/// 413, 431, 503 busy), what is too slow is closed. TLS is left to a proxy.
///
/// Threads: immutable after construction; methods are safe from any thread.
class Server {
 public:
  /// Binds and begins to answer. Throws invalid (not an address), conflict (code `port_in_use`: says by whom, if we may
  /// know), forbidden (a port that we may not have, code `port_forbidden`).
  Server(const ServerSettings& settings, Handler handler);
  /// As stop with no grace.
  ~Server();

  /// The real one, when 0 was asked for.
  std::uint16_t port() const;
  /// `http://127.0.0.1:8480`
  std::string url() const;

  /// Takes no more connections, ends the streams, closes what is idle, asks the handlers under way to end, and waits up
  /// to `grace` for their answers to be read. Then closes the rest; returns when every handler has returned, and
  /// whatever was to be answered later is answered.
  void stop(std::chrono::milliseconds grace);

  struct Stats {
    std::int64_t connections = 0, streams = 0, accepted = 0, refused_busy = 0, dropped_slow = 0;
  };
  Stats stats() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// An error answer in the one form that the hub has:
/// `{"error":{"kind","code","message","hint"?,"request_id"}}`.
struct Problem {
  int status = 500;
  std::string_view kind;
  std::string_view code;
  std::string_view message;
  std::string_view hint;
  std::string_view request_id;
};
Response problem_response(const Problem& problem);

/// Who listens on that TCP port of this machine, as `nginx (pid 812)`, or empty if it can't be known.
std::string port_owner(std::uint16_t port);

/// The words for a status: `404` → `Not Found`.
std::string_view reason(int status);

}  // namespace dragoman::http
