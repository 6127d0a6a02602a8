#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace dragoman::tests {

/// One accepted connection of a TcpScript, in the hands of the script.
class Peer {
 public:
  Peer(int fd, const std::atomic<bool>& stopping) : fd_(fd), stopping_(stopping) {}
  ~Peer() {
    if (fd_ >= 0) ::close(fd_);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  int fd() const { return fd_; }

  /// Waits until bytes can be read. False when the test is over.
  bool readable() {
    while (!stopping_) {
      pollfd poll{fd_, POLLIN, 0};
      if (::poll(&poll, 1, 20) > 0) return true;
    }
    return false;
  }
  /// One request with its body (by Content-Length). Empty: the other side closed, or the test is over.
  std::string request() {
    std::size_t head;
    while ((head = buffer_.find("\r\n\r\n")) == std::string::npos)
      if (!fill()) return {};
    std::size_t length = 0;
    if (const auto at = buffer_.find("Content-Length: "); at < head) length = std::stoul(buffer_.substr(at + 16));
    while (buffer_.size() < head + 4 + length)
      if (!fill()) return {};
    std::string whole = buffer_.substr(0, head + 4 + length);
    buffer_.erase(0, whole.size());
    return whole;
  }
  /// False once the other side has closed.
  bool send(std::string_view text) {
    while (!text.empty() && !stopping_) {
      const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(std::size_t(sent));
    }
    return text.empty();
  }
  /// `HTTP/1.0 200 OK` with a length, as Odoo's workers answer.
  bool answer(std::string_view body, std::string_view type = "application/json", std::string_view status = "200 OK",
              std::string_view more = "") {
    std::string text = "HTTP/1.0 ";
    text += status;
    text += "\r\nContent-Type: ";
    text += type;
    text += "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n";
    text += more;
    text += "\r\n";
    text += body;
    return send(text);
  }
  /// Closes with RST instead of FIN.
  void reset() {
    linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    ::close(fd_);
    fd_ = -1;
  }
  /// Says nothing until the other side goes away or the test is over.
  void hang() {
    char byte[4096];
    while (readable())
      if (::recv(fd_, byte, sizeof byte, 0) <= 0) return;
  }

 private:
  bool fill() {
    if (!readable()) return false;
    char bytes[64 << 10];
    const auto got = ::recv(fd_, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, std::size_t(got));
    return true;
  }

  int fd_;
  const std::atomic<bool>& stopping_;
  std::string buffer_;
};

/// A TCP server on 127.0.0.1 that treats each connection as the test's script says: the way to make a server
/// misbehave in any way there is. The script runs on a thread of its own per connection.
class TcpScript {
 public:
  explicit TcpScript(std::function<void(Peer&)> script) : script_(std::move(script)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 64) != 0 || ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error("no port for a test server");
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept(); });
  }
  ~TcpScript() {
    stopping_ = true;
    acceptor_.join();
    for (auto& thread : threads_) thread.join();
    ::close(listener_);
  }
  std::uint16_t port() const { return port_; }
  std::string url(std::string_view scheme = "http") const {
    return std::string(scheme) + "://127.0.0.1:" + std::to_string(port_);
  }
  int connections() const { return connections_; }

 private:
  void accept() {
    while (!stopping_) {
      pollfd poll{listener_, POLLIN, 0};
      if (::poll(&poll, 1, 20) <= 0) continue;
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      ++connections_;
      threads_.emplace_back([this, fd] {
        Peer peer(fd, stopping_);
        script_(peer);
      });
    }
  }

  std::function<void(Peer&)> script_;
  int listener_ = -1;
  std::uint16_t port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> connections_ = 0;
  std::thread acceptor_;
  std::vector<std::thread> threads_;  // only the acceptor adds, and it is joined before they are
};

}  // namespace dragoman::tests
