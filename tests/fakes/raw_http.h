#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

namespace dragoman::tests {

/// A TCP connection to 127.0.0.1 that says exactly what it is told, for the tests of servers.
///
/// Threads: one thread at a time. Waits at most 20 s for anything.
class RawHttp {
 public:
  explicit RawHttp(std::uint16_t port, int receive_bytes = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    if (receive_bytes > 0) ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof receive_bytes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
      throw std::runtime_error("cannot connect to port " + std::to_string(port));
  }
  ~RawHttp() { ::close(fd_); }
  RawHttp(const RawHttp&) = delete;
  RawHttp& operator=(const RawHttp&) = delete;

  /// False once the other side has closed.
  bool send(std::string_view text) {
    while (!text.empty()) {
      const auto sent = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return true;
  }
  void shut_down_sending() { ::shutdown(fd_, SHUT_WR); }

  /// Reads until `what` was seen, and returns everything up to its end; what is there at the end if it never comes.
  std::string until(std::string_view what) {
    std::size_t at;
    while ((at = buffer_.find(what)) == std::string::npos)
      if (!fill()) return std::exchange(buffer_, {});
    std::string front = buffer_.substr(0, at + what.size());
    buffer_.erase(0, at + what.size());
    return front;
  }
  std::string to_end() {
    while (fill()) {
    }
    return std::exchange(buffer_, {});
  }

  struct Answer {
    int status = 0;
    std::string head, body;
  };
  /// One answer with a Content-Length (or none). Status 0: the connection closed before.
  Answer answer(bool head_request = false) {
    Answer got;
    got.head = until("\r\n\r\n");
    if (got.head.size() < 12) return got;
    got.status = std::atoi(got.head.c_str() + 9);
    const auto at = got.head.find("Content-Length: ");
    const std::size_t length = at == std::string::npos || head_request ? 0 : std::stoul(got.head.substr(at + 16));
    while (buffer_.size() < length)
      if (!fill()) break;
    got.body = buffer_.substr(0, length);
    buffer_.erase(0, length);
    return got;
  }
  Answer ask(std::string_view request, bool head_request = false) {
    send(request);
    return answer(head_request);
  }

 private:
  bool fill() {
    pollfd poll{fd_, POLLIN, 0};
    if (::poll(&poll, 1, 20'000) <= 0) throw std::runtime_error("the server said nothing for 20 s");
    char bytes[16 << 10];
    const auto got = ::recv(fd_, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  int fd_;
  std::string buffer_;
};

}  // namespace dragoman::tests
