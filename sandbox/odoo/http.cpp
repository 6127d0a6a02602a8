#include "sandbox/odoo/http.h"

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

namespace sandbox::odoo {

namespace {

std::string http_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char buffer[64];
  std::strftime(buffer, sizeof buffer, "%a, %d %b %Y %H:%M:%S GMT", &parts);
  return buffer;
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

/// Header and the three parts of the body in as few packets as the kernel can make of them.
bool send_parts(int fd, std::string_view head, const HttpResponse& response) {
  std::string_view parts[4] = {head, response.prefix, response.body, response.suffix};
  iovec vectors[4];
  int count = 0;
  for (const auto part : parts) {
    if (part.empty()) continue;
    vectors[count].iov_base = const_cast<char*>(part.data());
    vectors[count].iov_len = part.size();
    ++count;
  }
  iovec* next = vectors;
  while (count > 0) {
    msghdr message{};
    message.msg_iov = next;
    message.msg_iovlen = static_cast<std::size_t>(count);
    ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    while (count > 0 && static_cast<std::size_t>(sent) >= next->iov_len) {
      sent -= static_cast<ssize_t>(next->iov_len);
      ++next;
      --count;
    }
    if (count > 0) {
      next->iov_base = static_cast<char*>(next->iov_base) + sent;
      next->iov_len -= static_cast<std::size_t>(sent);
    }
  }
  return true;
}

void set_timeout(int fd, std::chrono::milliseconds time) {
  timeval value{};
  value.tv_sec = time.count() / 1000;
  value.tv_usec = (time.count() % 1000) * 1000;
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
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

/// Reads one request. nullopt: the peer sent nothing of use (closed, silent, or not HTTP).
std::optional<HttpRequest> read_request(int fd, std::size_t body_bytes_max, bool& too_large) {
  std::string data;
  std::size_t head_end = std::string::npos;
  char buffer[65536];
  while (head_end == std::string::npos) {
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    const std::size_t from = data.size() < 3 ? 0 : data.size() - 3;
    data.append(buffer, static_cast<std::size_t>(got));
    head_end = data.find("\r\n\r\n", from);
    if (head_end == std::string::npos && data.size() > (1U << 20)) return std::nullopt;
  }
  HttpRequest request;
  std::string_view head(data.data(), head_end);
  const auto line_end = head.find("\r\n");
  const std::string_view first = head.substr(0, line_end);
  const auto space = first.find(' ');
  const auto last_space = first.rfind(' ');
  if (space == std::string_view::npos || last_space <= space) return std::nullopt;
  request.method = std::string(first.substr(0, space));
  const std::string_view target = first.substr(space + 1, last_space - space - 1);
  const auto question = target.find('?');
  request.path = std::string(target.substr(0, question));
  if (question != std::string_view::npos) request.query = std::string(target.substr(question + 1));
  std::string_view rest = line_end == std::string_view::npos ? std::string_view() : head.substr(line_end + 2);
  while (!rest.empty()) {
    const auto end = rest.find("\r\n");
    const std::string_view line = rest.substr(0, end);
    const auto colon = line.find(':');
    if (colon != std::string_view::npos) {
      request.headers[lower(trim(line.substr(0, colon)))] = std::string(trim(line.substr(colon + 1)));
    }
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 2);
  }
  std::size_t length = 0;
  if (const auto found = request.headers.find("content-length"); found != request.headers.end()) {
    length = static_cast<std::size_t>(std::strtoull(found->second.c_str(), nullptr, 10));
  }
  if (length > body_bytes_max) {
    too_large = true;
    return request;
  }
  request.body = data.substr(head_end + 4);
  if (request.body.size() < length) request.body.reserve(length);
  while (request.body.size() < length) {
    const ssize_t got = ::recv(fd, buffer, std::min(sizeof buffer, length - request.body.size()), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return std::nullopt;
    request.body.append(buffer, static_cast<std::size_t>(got));
  }
  request.body.resize(length);
  return request;
}

}  // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 301:
      return "MOVED PERMANENTLY";
    case 302:
      return "FOUND";
    case 303:
      return "SEE OTHER";
    case 307:
      return "TEMPORARY REDIRECT";
    case 308:
      return "PERMANENT REDIRECT";
    case 400:
      return "BAD REQUEST";
    case 401:
      return "UNAUTHORIZED";
    case 403:
      return "FORBIDDEN";
    case 404:
      return "NOT FOUND";
    case 405:
      return "METHOD NOT ALLOWED";
    case 413:
      return "REQUEST ENTITY TOO LARGE";
    case 415:
      return "UNSUPPORTED MEDIA TYPE";
    case 422:
      return "UNPROCESSABLE ENTITY";
    case 429:
      return "TOO MANY REQUESTS";
    case 500:
      return "INTERNAL SERVER ERROR";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Time-out";
    default:
      return "UNKNOWN";
  }
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
  if (::inet_pton(AF_INET, options_.bind.c_str(), &address.sin_addr) != 1) {
    throw std::runtime_error("not an IPv4 address to listen on: " + options_.bind);
  }
  // The real server listens with a backlog of eight connections per worker.
  if (::bind(listen_fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(listen_fd_, 8 * options_.workers) != 0) {
    const std::string why = std::strerror(errno);
    ::close(listen_fd_);
    listen_fd_ = -1;
    throw std::runtime_error("cannot listen on " + options_.bind + ":" + std::to_string(options_.port) + ": " + why);
  }
  socklen_t size = sizeof address;
  ::getsockname(listen_fd_, reinterpret_cast<sockaddr*>(&address), &size);
  stopping_ = false;
  acceptor_ = std::thread([this] { accept_loop(); });
  for (int i = 0; i < options_.workers; ++i) workers_.emplace_back([this] { work_loop(); });
  return ntohs(address.sin_port);
}

void HttpServer::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (listen_fd_ < 0) return;
    stopping_ = true;
    ::shutdown(listen_fd_, SHUT_RDWR);
    for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
  }
  changed_.notify_all();
  acceptor_.join();
  for (auto& worker : workers_) worker.join();
  workers_.clear();
  for (const int fd : waiting_) ::close(fd);
  waiting_.clear();
  open_.clear();
  ::close(listen_fd_);
  listen_fd_ = -1;
}

HttpCounters HttpServer::counters() const {
  const std::lock_guard lock(mutex_);
  return counters_;
}

void HttpServer::reset_counters() {
  const std::lock_guard lock(mutex_);
  const int open = counters_.open_now;
  const int busy = counters_.busy_now;
  counters_ = HttpCounters{};
  counters_.open_now = counters_.open_peak = open;
  counters_.busy_now = counters_.busy_peak = busy;
}

bool HttpServer::wait(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, [this] { return stopping_.load(); });
}

// Connections are taken at once and queued here, where they can be counted; to the client that is the
// same as waiting in the kernel's backlog.
void HttpServer::accept_loop() {
  while (!stopping_) {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (stopping_) return;
      if (errno == EMFILE || errno == ENFILE) {
        wait(std::chrono::milliseconds(20));
        continue;
      }
      return;
    }
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) {
        ::close(fd);
        return;
      }
      waiting_.push_back(fd);
      open_.insert(fd);
      ++counters_.connections;
      counters_.open_now = static_cast<int>(open_.size());
      counters_.open_peak = std::max(counters_.open_peak, counters_.open_now);
    }
    changed_.notify_all();
  }
}

void HttpServer::work_loop() {
  for (;;) {
    int fd = -1;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      fd = waiting_.front();
      waiting_.pop_front();
      ++counters_.busy_now;
      counters_.busy_peak = std::max(counters_.busy_peak, counters_.busy_now);
    }
    serve(fd);
    {
      const std::lock_guard lock(mutex_);
      --counters_.busy_now;
      open_.erase(fd);
      counters_.open_now = static_cast<int>(open_.size());
      ::close(fd);
    }
  }
}

void HttpServer::serve(int fd) {
  set_timeout(fd, options_.socket_timeout);
  bool too_large = false;
  const auto request = read_request(fd, options_.body_bytes_max, too_large);
  if (!request) return;
  {
    const std::lock_guard lock(mutex_);
    ++counters_.requests;
  }
  HttpResponse response;
  if (too_large) {
    response.status = 413;
    response.content_type = "text/html; charset=utf-8";
    response.body = "<!doctype html>\n<html lang=en>\n<title>413 Request Entity Too Large</title>\n";
  } else {
    response = handler_(*request);
  }
  using Delivery = HttpResponse::Delivery;
  if (response.delivery == Delivery::nothing) return;
  if (response.delivery == Delivery::reset) {
    const linger hard{1, 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    return;
  }
  std::size_t length = response.prefix.size() + response.body.size() + response.suffix.size();
  if (response.delivery == Delivery::endless) length = response.endless_bytes;
  const std::size_t announced =
      response.delivery == Delivery::cut && response.short_content_length ? std::min(length, response.cut_at) : length;
  std::string head = "HTTP/1.0 " + std::to_string(response.status) + " ";
  head += reason_phrase(response.status);
  head += "\r\n";
  if (!response.content_type.empty()) head += "Content-Type: " + response.content_type + "\r\n";
  head += "Content-Length: " + std::to_string(announced) + "\r\n";
  for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
  head += "Server: " + options_.server_name + "\r\nDate: " + http_date() + "\r\n";
  if (options_.announces_close) head += "X-Content-Type-Options: nosniff\r\nConnection: close\r\n";
  head += "\r\n";
  if (response.delivery == Delivery::cut) {
    const std::string whole = response.prefix + response.body + response.suffix;
    send_all(fd, head);
    send_all(fd, std::string_view(whole).substr(0, response.cut_at));
    ::shutdown(fd, SHUT_WR);
    return;
  }
  if (response.delivery == Delivery::endless) {
    if (!send_all(fd, head) || !send_all(fd, response.prefix)) return;
    std::string block;
    const std::string unit = response.body.empty() ? std::string(" ") : response.body;
    while (block.size() < (1U << 20)) block += unit;
    std::uint64_t left =
        response.endless_bytes > response.prefix.size() ? response.endless_bytes - response.prefix.size() : 0;
    while (left > 0 && !stopping_) {
      const auto part = static_cast<std::size_t>(std::min<std::uint64_t>(left, block.size()));
      if (!send_all(fd, std::string_view(block).substr(0, part))) return;
      left -= part;
    }
    return;
  }
  if (request->method == "HEAD") {
    send_all(fd, head);
  } else {
    send_parts(fd, head, response);
  }
  // Without this the kernel may reset the connection while the peer still reads: unread bytes of the
  // request (a body longer than announced) would turn close() into a reset.
  ::shutdown(fd, SHUT_WR);
}

}  // namespace sandbox::odoo
