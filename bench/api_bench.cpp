// S1: the status endpoint beside bare Beast. Both are asked by the same client over connections that stay open; each
// pair of runs is one after the other, in changing order. The hub's side is the whole of it: token, rate limit (set out
// of the way), router, operation, metrics.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>

#include "access/sealed.h"
#include "api/api.h"
#include "bench/figure.h"
#include "connectors/catalog.h"
#include "http/server.h"
#include "jobs/board.h"
#include "jobs/scheduler.h"
#include "notify/sender.h"
#include "pipeline/connections.h"
#include "pipeline/inbox.h"
#include "pipeline/mapping.h"
#include "pipeline/market_jobs.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_products.h"
#include "pipeline/records.h"
#include "pipeline/sync.h"
#include "pipeline/trace.h"
#include "store/store.h"

namespace {

using namespace dragoman;
namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using tcp = asio::ip::tcp;

// The least that Beast can do: one thread, the message read and written by its own means, a fixed body of the same
// size.
class BareSession : public std::enable_shared_from_this<BareSession> {
 public:
  BareSession(tcp::socket socket, const std::string& body) : stream_(std::move(socket)), body_(body) {}
  void read() {
    request_ = {};
    wire::async_read(stream_, buffer_, request_, [self = shared_from_this()](beast::error_code code, std::size_t) {
      if (!code) self->write();
    });
  }

 private:
  void write() {
    response_ = {wire::status::ok, request_.version()};
    response_.set(wire::field::content_type, "application/json");
    response_.keep_alive(request_.keep_alive());
    response_.body() = body_;
    response_.prepare_payload();
    wire::async_write(stream_, response_, [self = shared_from_this()](beast::error_code code, std::size_t) {
      if (!code) self->read();
    });
  }
  beast::tcp_stream stream_;
  const std::string& body_;
  beast::flat_buffer buffer_;
  wire::request<wire::string_body> request_;
  wire::response<wire::string_body> response_;
};

class BareServer {
 public:
  explicit BareServer(std::string body)
      : body_(std::move(body)), acceptor_(io_, {asio::ip::address_v4::loopback(), 0}) {
    accept();
    thread_ = std::jthread([this] { io_.run(); });
  }
  ~BareServer() { io_.stop(); }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }

 private:
  void accept() {
    acceptor_.async_accept([this](beast::error_code code, tcp::socket socket) {
      if (code) return;
      socket.set_option(tcp::no_delay(true));
      std::make_shared<BareSession>(std::move(socket), body_)->read();
      accept();
    });
  }
  const std::string body_;
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  std::jthread thread_;
};

// One connection that asks `count` times.
void ask(std::uint16_t port, const std::string& request, std::int64_t count) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect");
  char bytes[8192];
  std::size_t expected = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
      throw std::runtime_error("cannot send");
    std::size_t got = 0;
    do {
      const auto part = ::recv(fd, bytes + got, sizeof bytes - 1 - got, 0);
      if (part <= 0) throw std::runtime_error("the connection ended");
      got += static_cast<std::size_t>(part);
      // All answers of a server are of one length, so only the first is looked at.
      if (expected == 0) {
        bytes[got] = '\0';
        const char* end = std::strstr(bytes, "\r\n\r\n");
        const char* length = std::strstr(bytes, "Content-Length: ");
        if (!end || !length) continue;
        if (std::strncmp(bytes + 9, "200", 3) != 0) throw std::runtime_error("not 200");
        expected = static_cast<std::size_t>(end + 4 - bytes) + static_cast<std::size_t>(std::atoi(length + 16));
      }
    } while (expected == 0 || got < expected);
  }
  ::close(fd);
}

void ask_all(std::uint16_t port, const std::string& request, std::int64_t connections, std::int64_t count) {
  std::vector<std::jthread> clients;
  for (std::int64_t i = 0; i < connections; ++i) clients.emplace_back([&] { ask(port, request, count); });
}

std::vector<double> ratios(const bench::Pairs& pairs) {
  std::vector<double> out;
  // Throughput of ours by the floor's: the same number of requests, so the inverse of the times.
  for (std::size_t i = 0; i < pairs.ours.size(); ++i) out.push_back(pairs.floor[i] / pairs.ours[i]);
  return out;
}

std::vector<double> rates(const std::vector<double>& seconds, double requests) {
  std::vector<double> out;
  for (const double one : seconds) out.push_back(requests / one);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  const auto pairs = bench::option(argc, argv, "pairs", 9);
  const auto connections = bench::option(argc, argv, "connections", 16);
  const auto count = bench::option(argc, argv, "requests", 2000);
  bench::print_setting(fmt::format("{} connections, {} requests each, client on the same machine", connections, count));

  SystemClock clock;
  SystemRandom random;
  const auto folder = std::filesystem::temp_directory_path() / ("dragoman-bench-" + random_hex(random, 8));
  std::filesystem::create_directory(folder);
  {
    const auto store = store::open({.url = (folder / "hub.db").string()}, clock);
    auto keys = access::KeyRing::open_file((folder / "secret.key").string(), random);
    access::Tokens tokens(*store, clock, random);
    const auto connectors = connectors::catalog();
    pipeline::Connections known(*store, keys, clock);
    pipeline::Records records(*store);
    pipeline::SyncService sync(*store, known, connectors, clock, random, {});
    notify::Sender sender(*store, {}, {}, clock, random);
    const jobs::Kinds kinds;
    jobs::Board board(*store, kinds);
    const jobs::Schedules schedules(kinds);
    jobs::Scheduler scheduler(*store, schedules);
    pipeline::Inbox inbox(*store, connectors);
    pipeline::Mapping mapping(*store);
    pipeline::MarketOrders market(*store, clock);
    pipeline::MarketProducts market_products(*store);
    pipeline::Marketplaces marketplaces(known, connectors, clock);
    pipeline::Traces traces(*store, known);
    ops::Services services{.store = *store,
                           .tokens = tokens,
                           .keys = keys,
                           .connections = known,
                           .connectors = connectors,
                           .records = records,
                           .sync = sync,
                           .sender = sender,
                           .jobs = board,
                           .schedules = schedules,
                           .scheduler = scheduler,
                           .inbox = inbox,
                           .mapping = mapping,
                           .market = market,
                           .market_products = market_products,
                           .marketplaces = marketplaces,
                           .traces = traces,
                           .clock = clock,
                           .version = "bench",
                           .started = clock.now()};
    const auto operations = ops::catalog(connectors);
    api::Metrics metrics("bench");
    api::Api api({.per_token = {.per_second = 0}}, operations, services, metrics);
    http::Router router(clock, random);
    api.add_routes(router);
    router.observe([&](const http::Served& served) { metrics.served(served); });
    http::Server server({.port = 0}, {[&](http::Exchange exchange) { return router.answer(std::move(exchange)); },
                                      [&](http::Exchange& exchange) { return router.at_once(exchange); }});
    const auto issued = tokens.create("bench", access::Role::viewer, {});
    const std::string tail =
        " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + issued.secret.reveal() + "\r\n\r\n";
    const std::string status = "GET /api/v1/status" + tail, health = "GET /healthz" + tail;
    BareServer bare(R"({"now":"2026-11-20T10:05:48.113847Z","started":"2026-11-20T10:05:48.113847Z","version":"bench"})"
                    "\n");

    const double total = static_cast<double>(connections * count);
    const auto run = [&](std::uint16_t port, const std::string& request) {
      return [&, port] { ask_all(port, request, connections, count); };
    };
    const auto measured = bench::measure_pairs(pairs, run(server.port(), status), run(bare.port(), status));
    bench::print_figure("S1 status/bare Beast", bench::estimate(ratios(measured)), "ratio", 0.5, "higher");
    bench::print_figure("S1 status", bench::estimate(rates(measured.ours, total)), "requests/s");
    bench::print_figure("S1 bare Beast", bench::estimate(rates(measured.floor, total)), "requests/s");
    const auto light = bench::measure_pairs(pairs, run(server.port(), health), run(bare.port(), health));
    bench::print_figure("S1 healthz/bare Beast", bench::estimate(ratios(light)), "ratio");
  }
  std::filesystem::remove_all(folder);
}
