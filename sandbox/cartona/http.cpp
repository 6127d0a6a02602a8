#include "sandbox/cartona/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <stdexcept>

namespace sandbox::cartona {

namespace {

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

enum class Read { whole, gone, too_large, broken };

/// Bytes of one connection; what comes behind a request is kept for the next.
class Reader {
 public:
  Reader(int fd, std::size_t body_bytes_max) : fd_(fd), body_bytes_max_(body_bytes_max) {}

  Read next(HttpRequest& request) {
    std::size_t head_end;
    std::size_t searched = 0;
    while ((head_end = data_.find("\r\n\r\n", searched)) == std::string::npos) {
      if (data_.size() > (64U << 10)) return Read::broken;
      searched = data_.size() < 3 ? 0 : data_.size() - 3;
      if (!more()) return Read::gone;
    }
    if (!head(std::string_view(data_).substr(0, head_end), request)) return Read::broken;
    data_.erase(0, head_end + 4);
    if (lower(request.header("expect")) == "100-continue" && !send_all(fd_, "HTTP/1.1 100 Continue\r\n\r\n"))
      return Read::gone;
    if (lower(request.header("transfer-encoding")) == "chunked") return chunked(request.body);
    const std::string length_text = request.header("content-length");
    if (length_text.empty()) return Read::whole;
    if (length_text.size() > 15 || length_text.find_first_not_of("0123456789") != std::string::npos)
      return Read::broken;
    const std::size_t length = std::stoull(length_text);
    if (length > body_bytes_max_) return Read::too_large;
    while (data_.size() < length)
      if (!more()) return Read::gone;
    request.body = data_.substr(0, length);
    data_.erase(0, length);
    return Read::whole;
  }

 private:
  bool more() {
    char buffer[65536];
    for (;;) {
      const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      data_.append(buffer, static_cast<std::size_t>(got));
      return true;
    }
  }

  static bool head(std::string_view text, HttpRequest& request) {
    auto line_end = text.find("\r\n");
    const std::string_view first = text.substr(0, line_end);
    const auto space = first.find(' ');
    const auto last_space = first.rfind(' ');
    if (space == std::string_view::npos || last_space <= space) return false;
    request.method = std::string(first.substr(0, space));
    const std::string_view target = first.substr(space + 1, last_space - space - 1);
    const auto question = target.find('?');
    request.path = std::string(target.substr(0, question));
    if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
    if (first.substr(last_space + 1) == "HTTP/1.0") request.headers["connection"] = "close";
    while (line_end != std::string_view::npos) {
      text.remove_prefix(line_end + 2);
      line_end = text.find("\r\n");
      const std::string_view line = text.substr(0, line_end);
      const auto colon = line.find(':');
      if (colon == std::string_view::npos) continue;
      request.headers[lower(trim(line.substr(0, colon)))] = std::string(trim(line.substr(colon + 1)));
    }
    return true;
  }

  Read chunked(std::string& body) {
    for (;;) {
      std::size_t end;
      while ((end = data_.find("\r\n")) == std::string::npos)
        if (data_.size() > 100 || !more()) return Read::gone;
      if (hex_digit(data_[0]) < 0 || end > 8) return Read::broken;
      const std::size_t size = std::stoull(data_.substr(0, end), nullptr, 16);
      data_.erase(0, end + 2);
      if (body.size() + size > body_bytes_max_) return Read::too_large;
      while (data_.size() < size + 2)
        if (!more()) return Read::gone;
      body.append(data_, 0, size);
      data_.erase(0, size + 2);
      if (size == 0) return Read::whole;
    }
  }

  int fd_;
  std::size_t body_bytes_max_;
  std::string data_;
};

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char buffer[64];
  std::strftime(buffer, sizeof buffer, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return buffer;
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 201:
      return "Created";
    case 204:
      return "No Content";
    case 302:
      return "Found";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 500:
      return "Internal Server Error";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Unknown";
  }
}

std::string url_decode(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      result += ' ';
    } else if (text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0) {
      result += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else {
      result += text[i];
    }
  }
  return result;
}

std::map<std::string, std::string> query_fields(std::string_view query) {
  std::map<std::string, std::string> fields;
  while (!query.empty()) {
    const auto end = query.find('&');
    const std::string_view field = query.substr(0, end);
    const auto equals = field.find('=');
    if (!field.empty()) {
      fields[url_decode(field.substr(0, equals))] =
          equals == std::string_view::npos ? std::string() : url_decode(field.substr(equals + 1));
    }
    query = end == std::string_view::npos ? std::string_view() : query.substr(end + 1);
  }
  return fields;
}

HttpServer::HttpServer(Options options, Handler handler) : options_(std::move(options)), handler_(std::move(handler)) {}

HttpServer::~HttpServer() {
  stop();
}

int HttpServer::start() {
  listen_fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listen_fd_ < 0) throw std::runtime_error(std::string("cannot make a socket: ") + std::strerror(errno));
  const int on = 1;
  ::setsockopt(listen_fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(options_.port));
  std::string why;
  if (::inet_pton(AF_INET, options_.bind.c_str(), &address.sin_addr) != 1) {
    why = "not an IPv4 address";
  } else if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
             ::listen(listen_fd_, 256) != 0) {
    why = std::strerror(errno);
  }
  if (!why.empty()) {
    ::close(listen_fd_);
    listen_fd_ = -1;
    throw std::runtime_error("cannot listen on " + options_.bind + ":" + std::to_string(options_.port) + ": " + why);
  }
  socklen_t size = sizeof address;
  ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size);
  stopping_ = false;
  acceptor_ = std::thread([this] { accept_loop(); });
  return ntohs(address.sin_port);
}

void HttpServer::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (listen_fd_ < 0) return;
    stopping_ = true;
    ::shutdown(listen_fd_, SHUT_RDWR);
    for (const auto& connection : connections_)
      if (!connection.done) ::shutdown(connection.fd, SHUT_RDWR);
  }
  changed_.notify_all();
  acceptor_.join();
  for (auto& connection : connections_) connection.thread.join();
  connections_.clear();
  ::close(listen_fd_);
  listen_fd_ = -1;
}

HttpCounters HttpServer::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

bool HttpServer::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stopping_.load(); });
}

void HttpServer::reap() {
  std::list<Connection> ended;
  {
    const std::lock_guard lock(mutex_);
    for (auto it = connections_.begin(); it != connections_.end();) {
      const auto next = std::next(it);
      if (it->done) ended.splice(ended.end(), connections_, it);
      it = next;
    }
  }
  for (auto& connection : ended) connection.thread.join();
}

void HttpServer::accept_loop() {
  while (!stopping_) {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (stopping_) return;
      if (errno != EMFILE && errno != ENFILE) return;
      wait(std::chrono::milliseconds(20));
      continue;
    }
    reap();
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    timeval idle{};
    idle.tv_sec = options_.idle_timeout.count() / 1000;
    idle.tv_usec = (options_.idle_timeout.count() % 1000) * 1000;
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    const std::lock_guard lock(mutex_);
    ++counters_.connections;
    if (stopping_ || counters_.open_now >= options_.connections_max) {
      ::close(fd);
      continue;
    }
    counters_.open_peak = std::max(counters_.open_peak, ++counters_.open_now);
    Connection& connection = connections_.emplace_back();
    connection.fd = fd;
    connection.thread = std::thread([this, &connection] {
      serve(connection.fd);
      const std::lock_guard end(mutex_);
      ::close(connection.fd);
      connection.done = true;
      --counters_.open_now;
    });
  }
}

void HttpServer::serve(int fd) {
  Reader reader(fd, options_.body_bytes_max);
  while (!stopping_) {
    HttpRequest request;
    const Read read = reader.next(request);
    if (read == Read::gone) return;
    HttpResponse response;
    if (read == Read::whole) {
      {
        const std::lock_guard lock(mutex_);
        ++counters_.requests;
      }
      response = handler_(request);
    } else {
      response.status = read == Read::too_large ? 413 : 400;
      response.content_type = "text/html";
      response.body = "<html><body><h1>" + std::to_string(response.status) + "</h1></body></html>";
      response.close = true;
    }
    const bool keep = !response.close && lower(request.header("connection")) != "close";
    if (!send(fd, request, response, keep)) return;
  }
}

bool HttpServer::send(int fd, const HttpRequest& request, const HttpResponse& response, bool keep) {
  using Delivery = HttpResponse::Delivery;
  if (response.delivery == Delivery::closed) {
    ::shutdown(fd, SHUT_RDWR);
    return false;
  }
  if (response.delivery == Delivery::reset) {
    const linger hard{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    return false;
  }
  const std::uint64_t length = std::max<std::uint64_t>(response.body.size(), response.padded_to);
  std::string head = "HTTP/1.1 " + std::to_string(response.status) + " ";
  head += reason_phrase(response.status);
  head += "\r\nServer: cartona-stand-in\r\nDate: " + http_date() + "\r\n";
  if (response.status != 204) {
    if (!response.content_type.empty()) head += "Content-Type: " + response.content_type + "\r\n";
    head += "Content-Length: " + std::to_string(length) + "\r\n";
  }
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  if (!keep) head += "Connection: close\r\n";
  head += "\r\n";
  const bool bodiless = response.status == 204 || request.method == "HEAD";
  const std::string_view body = bodiless ? std::string_view() : std::string_view(response.body);
  if (response.delivery == Delivery::cut) {
    send_all(fd, head + std::string(body.substr(0, response.cut_at)));
    ::shutdown(fd, SHUT_WR);
    return false;
  }
  if (response.delivery == Delivery::drip) {
    if (!send_all(fd, head)) return false;
    const std::size_t piece = std::max<std::size_t>(1, response.drip_bytes);
    for (std::size_t at = 0; at < body.size(); at += piece) {
      if (!wait(response.drip_pause) || !send_all(fd, body.substr(at, piece))) return false;
    }
  } else {
    iovec parts[2] = {{head.data(), head.size()}, {const_cast<char*>(body.data()), body.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    ssize_t sent;
    do sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0) return false;
    const auto done = static_cast<std::size_t>(sent);
    if (done < head.size() && !send_all(fd, std::string_view(head).substr(done))) return false;
    if (!send_all(fd, body.substr(std::min(body.size(), done < head.size() ? 0 : done - head.size())))) return false;
  }
  if (!bodiless && response.padded_to > response.body.size()) {
    const std::string block(1U << 20, ' ');
    for (std::uint64_t left = response.padded_to - response.body.size(); left > 0 && !stopping_;) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, block.size()));
      if (!send_all(fd, std::string_view(block).substr(0, part))) return false;
      left -= part;
    }
  }
  if (!keep) ::shutdown(fd, SHUT_WR);
  return keep;
}

}  // namespace sandbox::cartona
