// The only file that includes Beast: it takes most of a minute to compile.
#include "http/server.h"

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <ctime>
#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"

namespace dragoman::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using tcp = asio::ip::tcp;
using Socket = beast::basic_stream<tcp, asio::io_context::executor_type>;
using Acceptor = asio::basic_socket_acceptor<tcp, asio::io_context::executor_type>;
using Parser = wire::request_parser<wire::string_body>;
using Code = beast::error_code;

constexpr std::size_t kReadBytes = 8 << 10;
constexpr std::size_t kStreamBytesMax = 256 << 10;
// What is read and thrown away after a refusal, so that the client gets to see it before the connection is reset.
constexpr std::size_t kLingerBytesMax = 4 << 20;
constexpr std::chrono::seconds kLinger{2};

void name_thread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

// RFC 9110 wants a Date; it changes once a second. Runs on the io thread.
std::string_view http_date() {
  static thread_local std::time_t last = 0;
  static thread_local char text[40] = "";
  const std::time_t now = std::time(nullptr);
  if (now != last) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    last = now;
  }
  return text;
}

bool has_body(int status) {
  return status >= 200 && status != 204 && status != 304;
}

// A header value from inside must not be able to start another header.
void append_header(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  for (const char c : value) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  out += "\r\n";
}

}  // namespace

class Server::Impl {
 public:
  Impl(const ServerSettings& settings, Handler handler);
  ~Impl();

  void stop(std::chrono::milliseconds grace);

  class Session;
  class Stream;
  struct Work {
    std::shared_ptr<Session> session;
    Exchange exchange;
  };

  void accept();
  void bind();
  bool hand_over(Work work);
  void answer_later(std::shared_ptr<Session> session, std::function<void(std::function<void(Reply::Result)>)> later);
  void run_requests(int number);
  bool run_stream(std::shared_ptr<Stream> stream, std::function<void(Sink&)> body);

  const ServerSettings settings_;
  const Handler handler_;
  std::uint16_t port_ = 0;

  std::stop_source stop_requests_;
  std::stop_source stop_streams_;

  std::mutex mutex_;  // guards the next group
  std::condition_variable filled_;
  std::condition_variable emptied_;
  std::deque<Work> waiting_;
  bool closed_ = false;
  std::size_t open_sessions_ = 0;
  std::size_t later_ = 0;  // answers that somebody still owes
  struct StreamThread {
    std::jthread thread;
    std::shared_ptr<std::atomic<bool>> ended;
  };
  std::list<StreamThread> streams_;
  Stats stats_;

  std::mutex stop_mutex_;
  bool stopped_ = false;

  // Of the io thread alone.
  std::unordered_set<Session*> sessions_;
  bool stopping_ = false;

  // After all that its handlers touch when it destroys them.
  asio::io_context io_{1};
  Acceptor acceptor_{io_};
  asio::steady_timer accept_again_{io_};
  asio::executor_work_guard<asio::io_context::executor_type> forever_{io_.get_executor()};
  std::vector<std::jthread> request_threads_;
  std::jthread io_thread_;
};

// What a stream's thread and the io thread share: a bounded buffer. Destroyed on the io thread, as a Session is.
class Server::Impl::Stream final : public Sink, public std::enable_shared_from_this<Server::Impl::Stream> {
 public:
  Stream(std::shared_ptr<Session> session, bool chunked, std::stop_token server_stop)
      : session_(std::move(session)),
        chunked_(chunked),
        on_server_stop_(std::move(server_stop), [this] { end(false); }) {}

  bool write(std::string_view piece) override;
  std::stop_token stop() const override { return stop_.get_token(); }

  /// Nothing more is taken from the stream's thread. `gone`: and nothing more can be sent.
  void end(bool gone);
  /// On the io thread, when the stream's thread is through.
  void finish();
  /// On the io thread: sends what is pending. Called first when the head has been sent.
  void pump();

 private:
  const std::shared_ptr<Session> session_;
  const bool chunked_;
  std::stop_source stop_;

  std::mutex mutex_;
  std::condition_variable room_;
  std::string pending_;
  bool pumping_ = true;  // until the head is out
  bool ended_ = false, gone_ = false, finished_ = false;

  std::string under_way_;                                     // of the io thread
  std::stop_callback<std::function<void()>> on_server_stop_;  // last: it may call at once
};

class Server::Impl::Session : public std::enable_shared_from_this<Server::Impl::Session> {
 public:
  Session(Impl& server, Socket::socket_type&& socket, const tcp::endpoint& peer)
      : server_(server),
        socket_(std::move(socket)),
        peer_(peer.address().to_string()),
        loopback_(peer.address().is_loopback()) {
    if (peer.address().is_v6() && peer.address().to_v6().is_v4_mapped()) {
      const auto v4 = asio::ip::make_address_v4(asio::ip::v4_mapped, peer.address().to_v6());
      peer_ = v4.to_string();
      loopback_ = v4.is_loopback();
    }
  }

  ~Session() {
    server_.sessions_.erase(this);
    std::lock_guard lock(server_.mutex_);
    --server_.open_sessions_;
    --server_.stats_.connections;
    server_.emptied_.notify_all();
  }

  void start() { wait_for_request(); }

  void refuse_as_full() {
    keep_ = false;
    {
      std::lock_guard lock(server_.mutex_);
      ++server_.stats_.refused_busy;
    }
    refuse(503, "busy", "too_many_connections", "too many connections are open; try again in a moment");
  }

  // The server stops: what waits for a request is closed, what is under way closes after its answer.
  void wind_down() {
    keep_ = false;
    if (idle_) close();
  }

  void close() {
    Code ignored;
    closed_ = true;
    socket_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    socket_.close();
    if (stream_) stream_->end(true);
  }

  void answer(Reply reply) { send(std::move(reply)); }

  // On the io thread: the stream's thread is through, and what it wrote is sent or given up.
  void stream_ended() {
    // The watch for the reader's going away ends, and the connection can take its next request.
    stream_.reset();
    if (closed_) return;
    if (!keep_ || watch_failed_) return close();
    if (watching_) {
      after_watch_ = true;
      socket_.socket().cancel();
    } else {
      wait_for_request();
    }
  }

 private:
  friend class Stream;

  void wait_for_request() {
    if (closed_) return;
    if (server_.stopping_) return close();
    if (buffer_.size() > 0) return read_head();
    idle_ = true;
    socket_.expires_after(server_.settings_.idle_timeout);
    socket_.async_read_some(buffer_.prepare(kReadBytes), [self = shared_from_this()](Code code, std::size_t bytes) {
      self->idle_ = false;
      if (code) return self->close();
      self->buffer_.commit(bytes);
      self->read_head();
    });
  }

  void read_head() {
    parser_.emplace();
    parser_->header_limit(server_.settings_.header_bytes_max);
    parser_->body_limit(server_.settings_.body_bytes_max);
    // Most heads are whole in what was just read: parsing them here saves a turn of the loop, a fifth of the time that
    // a small request takes.
    if (buffer_.size() > 0) {
      Code code;
      parser_->eager(false);
      buffer_.consume(parser_->put(buffer_.data(), code));
      if (code && code != wire::error::need_more) return read_failed(code);
      if (parser_->is_header_done()) return head_is_there();
    }
    socket_.expires_after(server_.settings_.header_timeout);
    wire::async_read_header(socket_, buffer_, *parser_, [self = shared_from_this()](Code code, std::size_t) {
      if (code) return self->read_failed(code);
      self->head_is_there();
    });
  }

  void head_is_there() {
    const auto& head = parser_->get();
    keep_ = head.keep_alive() && !server_.stopping_;
    head_only_ = head.method() == wire::verb::head;
    if (head.version() != 10 && head.version() != 11)
      return refuse_and_close(505, "http_version", "only HTTP/1.0 and HTTP/1.1 are spoken here");
    const auto hosts = head.count(wire::field::host);
    if (hosts > 1 || (hosts == 0 && head.version() == 11))
      return refuse_and_close(400, "host", "the request needs exactly one Host header");
    // Both lengths at once is how requests are smuggled past a proxy.
    if (head.count(wire::field::transfer_encoding) > 0 &&
        (head.count(wire::field::content_length) > 0 || head.version() == 10 || !parser_->chunked()))
      return refuse_and_close(400, "transfer_encoding", "the request's body has no clear length");
    if (head.target().empty() || (head.target().front() != '/' && head.target() != "*" &&
                                  !head.target().starts_with("http://") && !head.target().starts_with("https://")))
      return refuse_and_close(400, "target", "the request's address must begin with '/'");
    if (parser_->content_length() && *parser_->content_length() > server_.settings_.body_bytes_max)
      return body_too_large();
    if (parser_->is_done()) return dispatch();
    if (beast::iequals(head[wire::field::expect], "100-continue") && head.version() == 11) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      socket_.expires_after(server_.settings_.write_timeout);
      asio::async_write(socket_, asio::buffer(kContinue), [self = shared_from_this()](Code code, std::size_t) {
        if (code) return self->close();
        self->read_body();
      });
      return;
    }
    read_body();
  }

  void read_body() {
    socket_.expires_after(server_.settings_.body_timeout);
    wire::async_read(socket_, buffer_, *parser_, [self = shared_from_this()](Code code, std::size_t) {
      if (code) return self->read_failed(code);
      self->dispatch();
    });
  }

  void read_failed(Code code) {
    if (code == beast::error::timeout) {
      {
        std::lock_guard lock(server_.mutex_);
        ++server_.stats_.dropped_slow;
      }
      // After a time-out Beast has closed the socket: there is nobody left to answer.
      return close();
    }
    if (code == wire::error::body_limit) return body_too_large();
    if (code == wire::error::header_limit || code == wire::error::buffer_overflow)
      return refuse_and_close(
          431, "header_too_large",
          "the request's head is over " + std::to_string(server_.settings_.header_bytes_max) + " bytes");
    if (code == wire::error::end_of_stream || code == wire::error::partial_message ||
        code.category() != wire::make_error_code(wire::error::bad_method).category())
      return close();
    if (code == wire::error::bad_version)
      return refuse_and_close(505, "http_version", "only HTTP/1.0 and HTTP/1.1 are spoken here");
    refuse_and_close(400, "not_http", "this is not a well-formed HTTP/1.1 request");
  }

  void body_too_large() {
    refuse_and_close(413, "body_too_large",
                     "the request's body is over " + std::to_string(server_.settings_.body_bytes_max) + " bytes");
  }

  void refuse_and_close(int status, std::string_view code, std::string_view message) {
    keep_ = false;
    refuse(status, "invalid", code, message);
  }

  void refuse(int status, std::string_view kind, std::string_view code, std::string_view message) {
    // The router, which gives the others theirs, never sees these.
    SystemRandom random;
    const std::string request_id = random_hex(random, 8);
    log::write(status == 503 ? log::Level::debug : log::Level::info, "request refused unread",
               {{"request", request_id}, {"status", status}, {"code", code}});
    Reply reply{problem_response({status, kind, code, message, {}, request_id}), {}};
    reply.response.headers.set("X-Request-Id", request_id);
    if (status == 503) reply.response.headers.set("Retry-After", "1");
    unread_ = !keep_;
    send(std::move(reply));
  }

  void dispatch() {
    auto message = parser_->release();
    parser_.reset();
    version_ = message.version();
    Exchange exchange;
    Request& request = exchange.request;
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    for (const auto& field : message) request.headers.add(std::string(field.name_string()), std::string(field.value()));
    request.body = std::move(message.body());
    exchange.peer = peer_;
    exchange.peer_is_loopback = loopback_;
    exchange.stop = server_.stop_requests_.get_token();
    if (server_.handler_.at_once) {
      if (auto reply = server_.handler_.at_once(exchange)) {
        if (reply->later) return server_.answer_later(shared_from_this(), std::move(reply->later));
        return send(std::move(*reply));
      }
    }
    if (!server_.hand_over({shared_from_this(), std::move(exchange)}))
      refuse(503, "busy", "queue_full", "the hub has more requests waiting than it can take; try again in a moment");
  }

  void send(Reply reply) {
    Response& response = reply.response;
    const bool streaming = static_cast<bool>(reply.stream) && !head_only_;
    const bool chunked = streaming && version_ == 11;
    if (streaming && !chunked) keep_ = false;  // HTTP/1.0 tells the end by closing
    if (server_.stopping_) keep_ = false;

    head_.clear();
    head_.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ").append(reason(response.status));
    head_ += "\r\n";
    append_header(head_, "Date", http_date());
    for (const auto& [name, value] : response.headers) append_header(head_, name, value);
    if (chunked)
      append_header(head_, "Transfer-Encoding", "chunked");
    else if (!streaming && has_body(response.status) && !(head_only_ && reply.stream))
      append_header(head_, "Content-Length", std::to_string(response.body.size()));
    append_header(head_, "Connection", keep_ ? "keep-alive" : "close");
    head_ += "\r\n";
    body_ = head_only_ || streaming || !has_body(response.status) ? std::string() : std::move(response.body);

    if (streaming) {
      stream_ = std::make_shared<Stream>(shared_from_this(), chunked, server_.stop_streams_.get_token());
      if (!server_.run_stream(stream_, std::move(reply.stream))) {
        stream_.reset();
        return refuse(503, "busy", "too_many_streams", "too many streams are open; try again in a moment");
      }
    }
    socket_.expires_after(server_.settings_.write_timeout);
    const std::array<asio::const_buffer, 2> buffers{asio::buffer(head_), asio::buffer(body_)};
    asio::async_write(socket_, buffers, [self = shared_from_this(), streaming](Code code, std::size_t) {
      if (code) {
        self->count_slow(code);
        self->close();
        if (streaming) self->stream_->pump();
        return;
      }
      if (streaming) {
        self->watch();
        return self->stream_->pump();
      }
      if (self->unread_) return self->linger(0);
      if (!self->keep_) return self->close();
      self->wait_for_request();
    });
  }

  void count_slow(Code code) {
    if (code != beast::error::timeout) return;
    std::lock_guard lock(server_.mutex_);
    ++server_.stats_.dropped_slow;
  }

  // While a stream is written, a read tells when the reader has gone. What a reader sends meanwhile is its next
  // request, and waits in the buffer.
  void watch() {
    if (buffer_.size() >= kReadBytes) return;
    socket_.expires_never();
    watching_ = true;
    socket_.socket().async_read_some(buffer_.prepare(kReadBytes),
                                     [self = shared_from_this()](Code code, std::size_t bytes) {
                                       self->watching_ = false;
                                       self->buffer_.commit(bytes);
                                       if (std::exchange(self->after_watch_, false)) {
                                         if (code && code != asio::error::operation_aborted) return self->close();
                                         return self->wait_for_request();
                                       }
                                       if (!code) return self->watch();
                                       self->watch_failed_ = true;
                                       if (self->stream_) self->stream_->end(true);
                                     });
  }

  void linger(std::size_t seen) {
    Code ignored;
    if (seen == 0) socket_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    if (seen > kLingerBytesMax || server_.stopping_) return close();
    buffer_.clear();
    if (seen == 0) socket_.expires_after(kLinger);
    socket_.async_read_some(buffer_.prepare(kReadBytes),
                            [self = shared_from_this(), seen](Code code, std::size_t bytes) {
                              if (code) return self->close();
                              self->linger(seen + bytes);
                            });
  }

  Impl& server_;
  Socket socket_;
  std::string peer_;
  bool loopback_;
  beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  std::string head_, body_;
  unsigned version_ = 11;
  bool keep_ = true, head_only_ = false, idle_ = false, unread_ = false, closed_ = false;
  bool watching_ = false, watch_failed_ = false, after_watch_ = false;
  std::shared_ptr<Stream> stream_;
};

bool Server::Impl::Stream::write(std::string_view piece) {
  std::unique_lock lock(mutex_);
  room_.wait(lock, [&] { return ended_ || pending_.size() < kStreamBytesMax; });
  if (ended_) return false;
  if (piece.empty()) return true;
  if (chunked_) {
    char size[20];
    std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
    pending_.append(size).append(piece).append("\r\n");
  } else {
    pending_.append(piece);
  }
  if (std::exchange(pumping_, true)) return true;
  lock.unlock();
  asio::post(session_->server_.io_, [self = shared_from_this()] { self->pump(); });
  return true;
}

void Server::Impl::Stream::end(bool gone) {
  {
    std::lock_guard lock(mutex_);
    ended_ = true;
    gone_ = gone_ || gone;
  }
  room_.notify_all();
  stop_.request_stop();
}

void Server::Impl::Stream::finish() {
  {
    std::lock_guard lock(mutex_);
    ended_ = finished_ = true;
    if (chunked_) pending_ += "0\r\n\r\n";
    if (std::exchange(pumping_, true)) return;  // the pump comes by and sees that it is finished
  }
  pump();
}

void Server::Impl::Stream::pump() {
  {
    std::lock_guard lock(mutex_);
    under_way_.clear();
    if (!gone_) under_way_.swap(pending_);
    if (under_way_.empty()) {
      pumping_ = false;
      if (!finished_) return;
    }
  }
  room_.notify_all();
  if (under_way_.empty()) return session_->stream_ended();
  session_->socket_.expires_after(session_->server_.settings_.write_timeout);
  asio::async_write(session_->socket_, asio::buffer(under_way_), [self = shared_from_this()](Code code, std::size_t) {
    if (code) {
      self->session_->count_slow(code);
      self->session_->close();
    }
    self->pump();
  });
}

Server::Impl::Impl(const ServerSettings& settings, Handler handler)
    : settings_(settings), handler_(std::move(handler)) {
  bind();
  accept();
  for (int i = 0; i < std::max(1, settings_.request_threads); ++i)
    request_threads_.emplace_back([this, i] { run_requests(i); });
  io_thread_ = std::jthread([this] {
    name_thread("io");
    io_.run();
  });
}

Server::Impl::~Impl() {
  stop(std::chrono::milliseconds(0));
}

void Server::Impl::bind() {
  const auto port = std::to_string(settings_.port);
  Code code;
  const auto address = asio::ip::make_address(settings_.address, code);
  if (code)
    throw Error(Error::Kind::invalid, "'" + settings_.address +
                                          "' is not an address to listen on; use an IP address of this machine such as "
                                          "127.0.0.1, or 0.0.0.0 for all of them");
  const tcp::endpoint endpoint(address, settings_.port);
  acceptor_.open(endpoint.protocol(), code);
  if (!code) acceptor_.set_option(asio::socket_base::reuse_address(true), code);
  if (!code) acceptor_.bind(endpoint, code);
  if (!code) acceptor_.listen(asio::socket_base::max_listen_connections, code);
  if (code == asio::error::address_in_use) {
    const std::string owner = port_owner(settings_.port);
    Error error(Error::Kind::conflict, "port " + port + " is in use by " + (owner.empty() ? "another program" : owner) +
                                           "; choose another with --listen");
    error.code = "port_in_use";
    throw error;
  }
  if (code == asio::error::access_denied) {
    Error error(Error::Kind::forbidden,
                "this user may not listen on port " + port + "; choose one above 1023 with --listen");
    error.code = "port_forbidden";
    throw error;
  }
  if (code)
    throw Error(Error::Kind::invalid, "cannot listen on " + settings_.address + " port " + port + ": " +
                                          code.message() + "; choose another address with --listen");
  port_ = acceptor_.local_endpoint().port();
}

void Server::Impl::accept() {
  acceptor_.async_accept([this](Code code, Socket::socket_type socket) {
    if (stopping_ || code == asio::error::operation_aborted) return;
    if (code) {
      // Out of file descriptors, mostly: connections that end give some back.
      log::warning("a connection could not be accepted", {{"error", code.message()}});
      accept_again_.expires_after(std::chrono::milliseconds(100));
      accept_again_.async_wait([this](Code waited) {
        if (!waited) accept();
      });
      return;
    }
    Code gone;
    const auto peer = socket.remote_endpoint(gone);
    socket.set_option(tcp::no_delay(true), gone);
    std::size_t open = 0;
    if (!gone) {
      {
        std::lock_guard lock(mutex_);
        open = ++open_sessions_;
        ++stats_.connections;
        ++stats_.accepted;
      }
      const auto session = std::make_shared<Session>(*this, std::move(socket), peer);
      sessions_.insert(session.get());
      // A few more are taken to be told so; beyond that the connection is just closed.
      if (open <= settings_.connections_max)
        session->start();
      else if (open <= settings_.connections_max + 32)
        session->refuse_as_full();
    }
    accept();
  });
}

bool Server::Impl::hand_over(Work work) {
  {
    std::lock_guard lock(mutex_);
    if (closed_ || waiting_.size() >= settings_.waiting_max) {
      ++stats_.refused_busy;
      return false;
    }
    waiting_.push_back(std::move(work));
  }
  filled_.notify_one();
  return true;
}

void Server::Impl::run_requests(int number) {
  name_thread("request-" + std::to_string(number));
  while (true) {
    Work work;
    {
      std::unique_lock lock(mutex_);
      filled_.wait(lock, [&] { return closed_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      work = std::move(waiting_.front());
      waiting_.pop_front();
    }
    Reply reply = handler_.answer(std::move(work.exchange));
    if (reply.later) {
      answer_later(std::move(work.session), std::move(reply.later));
      continue;
    }
    // The session goes back to the io thread for good, so it is destroyed there.
    asio::post(io_, [session = std::move(work.session), reply = std::move(reply)]() mutable {
      session->answer(std::move(reply));
    });
  }
}

void Server::Impl::answer_later(std::shared_ptr<Session> session,
                                std::function<void(std::function<void(Reply::Result)>)> later) {
  {
    std::lock_guard lock(mutex_);
    ++later_;
  }
  // As above: what is left of the function when it has been called holds no session.
  later([this, session = std::move(session)](Reply::Result result) mutable {
    asio::post(io_, [session = std::move(session), reply = result()]() mutable { session->answer(std::move(reply)); });
    std::lock_guard lock(mutex_);
    if (--later_ == 0) emptied_.notify_all();
  });
}

bool Server::Impl::run_stream(std::shared_ptr<Stream> stream, std::function<void(Sink&)> body) {
  std::lock_guard lock(mutex_);
  streams_.remove_if([](const StreamThread& one) { return one.ended->load(); });
  if (closed_ || streams_.size() >= settings_.streams_max) {
    ++stats_.refused_busy;
    return false;
  }
  ++stats_.streams;
  auto ended = std::make_shared<std::atomic<bool>>(false);
  std::jthread thread([this, ended, stream = std::move(stream), body = std::move(body)]() mutable {
    name_thread("stream");
    try {
      body(*stream);
    } catch (const std::exception& error) {
      // The head is out, so there is no status left to say it with: the stream ends early.
      log::warning("a stream ended by an error", {{"error", error.what()}});
    }
    body = nullptr;
    {
      std::lock_guard inner(mutex_);
      --stats_.streams;
    }
    asio::post(io_, [stream = std::move(stream)] { stream->finish(); });
    *ended = true;
  });
  streams_.push_back({std::move(thread), std::move(ended)});
  return true;
}

void Server::Impl::stop(std::chrono::milliseconds grace) {
  std::lock_guard once(stop_mutex_);
  if (std::exchange(stopped_, true)) return;
  const auto all = [this] {
    std::vector<std::shared_ptr<Session>> alive;
    for (Session* session : sessions_) alive.push_back(session->shared_from_this());
    return alive;
  };
  asio::post(io_, [this, all] {
    stopping_ = true;
    Code ignored;
    acceptor_.close(ignored);
    accept_again_.cancel();
    for (const auto& session : all()) session->wind_down();
  });
  stop_streams_.request_stop();
  stop_requests_.request_stop();
  {
    std::unique_lock lock(mutex_);
    emptied_.wait_for(lock, grace, [&] { return open_sessions_ == 0; });
  }
  asio::post(io_, [all] {
    for (const auto& session : all()) session->close();
  });
  std::list<StreamThread> streams;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    streams.swap(streams_);
  }
  filled_.notify_all();
  for (auto& thread : request_threads_)
    if (thread.joinable()) thread.join();
  streams.clear();
  {
    std::unique_lock lock(mutex_);
    emptied_.wait(lock, [&] { return later_ == 0; });
  }
  // Everything is closed, so the io thread runs out of work once it has seen the last posts.
  forever_.reset();
  if (io_thread_.joinable()) io_thread_.join();
}

Server::Server(const ServerSettings& settings, Handler handler)
    : impl_(std::make_unique<Impl>(settings, std::move(handler))) {}

Server::~Server() = default;

std::uint16_t Server::port() const {
  return impl_->port_;
}

std::string Server::url() const {
  const std::string& address = impl_->settings_.address;
  const std::string host = address == "0.0.0.0"                     ? "127.0.0.1"
                           : address == "::"                        ? "[::1]"
                           : address.find(':') != std::string::npos ? "[" + address + "]"
                                                                    : address;
  return "http://" + host + ":" + std::to_string(impl_->port_);
}

void Server::stop(std::chrono::milliseconds grace) {
  impl_->stop(grace);
}

Server::Stats Server::stats() const {
  std::lock_guard lock(impl_->mutex_);
  return impl_->stats_;
}

}  // namespace dragoman::http
