// The floor of a pull: the same requests that the hub makes for the records themselves, on as many connections, over
// bare sockets; answers are read and thrown away. Nothing is parsed, nothing is stored.
//
// pull_floor --url http://127.0.0.1:8069 --database DB --model res.partner --fields a,b --last-id N [--page 1000]
//            [--connections 2] [--names 1]      the API key comes in ODOO_API_KEY
// Prints one line of JSON.
#include <netdb.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace {

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "pull_floor: %s\n", what.c_str());
  std::exit(1);
}

struct Target {
  std::string host, port, head;
  addrinfo* address = nullptr;
};

// One request, one connection: Odoo's workers keep none alive. Returns the bytes of the answer.
std::size_t post(const Target& target, const std::string& body, std::vector<char>& buffer) {
  const int fd = ::socket(target.address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::connect(fd, target.address->ai_addr, target.address->ai_addrlen) != 0)
    give_up(std::string("connect: ") + std::strerror(errno));
  const std::string request = target.head + std::to_string(body.size()) + "\r\n\r\n" + body;
  for (std::size_t at = 0; at < request.size();) {
    const ssize_t n = ::send(fd, request.data() + at, request.size() - at, MSG_NOSIGNAL);
    if (n <= 0) give_up(std::string("send: ") + std::strerror(errno));
    at += static_cast<std::size_t>(n);
  }
  std::size_t total = 0;
  char status[12] = {};
  for (;;) {
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n < 0) give_up(std::string("recv: ") + std::strerror(errno));
    if (n == 0) break;
    if (total < sizeof status)
      std::memcpy(status + total, buffer.data(), std::min(sizeof status - total, static_cast<std::size_t>(n)));
    total += static_cast<std::size_t>(n);
  }
  ::close(fd);
  if (total < sizeof status || std::memcmp(status + 9, "200", 3) != 0)
    give_up("the server answered " + std::string(status, std::min(total, sizeof status)));
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> given{{"page", "1000"}, {"connections", "2"}, {"names", "0"}};
  for (int i = 1; i + 1 < argc; i += 2) given[std::string(argv[i]).substr(2)] = argv[i + 1];
  const char* key = std::getenv("ODOO_API_KEY");
  if (!key || given["url"].rfind("http://", 0) != 0 || given["fields"].empty() || given["last-id"].empty())
    give_up("needs ODOO_API_KEY, --url http://…, --fields, --last-id");
  const std::string authority = given["url"].substr(7);
  Target target;
  target.host = authority.substr(0, authority.find(':'));
  target.port = authority.find(':') == std::string::npos ? "80" : authority.substr(authority.find(':') + 1);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  if (::getaddrinfo(target.host.c_str(), target.port.c_str(), &hints, &target.address) != 0) give_up("unknown host");
  target.head = "POST /json/2/" + given["model"] + "/search_read HTTP/1.1\r\nHost: " + authority +
                "\r\nAuthorization: bearer " + key + "\r\nX-Odoo-Database: " + given["database"] +
                "\r\nContent-Type: application/json\r\nAccept: */*\r\nConnection: close\r\nContent-Length: ";
  std::string fields = "[\"";
  for (const char c : given["fields"]) fields += c == ',' ? std::string("\",\"") : std::string(1, c);
  fields += "\"]";
  const long last = std::atol(given["last-id"].c_str()), page = std::atol(given["page"].c_str());
  const long stretches = (last + page - 1) / page + 1;  // the last one has no end, as the hub's

  std::atomic<long> next{0};
  std::atomic<std::size_t> bytes{0};
  const auto began = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> connections;
    for (int i = 0; i < std::atoi(given["connections"].c_str()); ++i)
      connections.emplace_back([&] {
        std::vector<char> buffer(1 << 18);
        for (long n = next++; n < stretches; n = next++) {
          const bool open = n + 1 == stretches;
          std::string body = "{\"order\":\"id\",\"limit\":" + std::to_string(page * 3 / 2 + 1) + ",\"domain\":[" +
                             (open ? "" : "\"&\",") + "[\"id\",\">\"," + std::to_string(open ? last : n * page) + "]";
          if (!open) body += ",[\"id\",\"<=\"," + std::to_string(std::min(last, (n + 1) * page)) + "]";
          body += "],\"fields\":" + fields;
          if (given["names"] == "0") body += ",\"load\":\"\"";
          body += ",\"context\":{\"active_test\":false}}";
          bytes += post(target, body, buffer);
        }
      });
  }
  const double wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  std::printf("{\"wall\":%.6f,\"cpu\":%.6f,\"calls\":%ld,\"bytes\":%zu}\n", wall,
              seconds(usage.ru_utime) + seconds(usage.ru_stime), stretches, bytes.load());
  ::freeaddrinfo(target.address);
}
