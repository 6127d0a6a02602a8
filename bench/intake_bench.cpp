// S2: taking in records, stored and then acknowledged, beside the least that can be called that: bare Beast in front of
// one thread that inserts what has come meanwhile, with one commit for all of it. Both write to SQLite with
// synchronous=FULL, both are asked by the same client over connections that stay open; each pair of runs is one after
// the other, in changing order. The hub's side is the whole of it: token, router, JSON, validation, idempotency key,
// the job with its order key, and the row that tells the sender what became of it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
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

void run_sql(sqlite3* db, const char* sql) {
  if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(db));
}

// Inserts what has come, in one transaction, and then answers all of it.
class BareInbox {
 public:
  explicit BareInbox(const std::string& path) {
    if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) throw std::runtime_error("cannot open");
    run_sql(db_, "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    run_sql(db_, "CREATE TABLE inbox (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, body BLOB NOT NULL)");
    sqlite3_prepare_v2(db_, "INSERT INTO inbox (key, body) VALUES (?, ?)", -1, &insert_, nullptr);
    thread_ = std::jthread([this](std::stop_token stop) { work(stop); });
  }
  ~BareInbox() {
    thread_.request_stop();
    come_.notify_all();
    thread_.join();
    sqlite3_finalize(insert_);
    sqlite3_close(db_);
  }
  void put(std::string key, std::string body, std::function<void()> stored) {
    {
      std::lock_guard lock(mutex_);
      waiting_.push_back({std::move(key), std::move(body), std::move(stored)});
    }
    come_.notify_one();
  }

 private:
  struct Waiting {
    std::string key, body;
    std::function<void()> stored;
  };
  void work(std::stop_token stop) {
    while (!stop.stop_requested()) {
      std::vector<Waiting> group;
      {
        std::unique_lock lock(mutex_);
        come_.wait(lock, [&] { return !waiting_.empty() || stop.stop_requested(); });
        group.swap(waiting_);
      }
      if (group.empty()) continue;
      run_sql(db_, "BEGIN IMMEDIATE");
      for (const auto& one : group) {
        sqlite3_bind_text(insert_, 1, one.key.data(), static_cast<int>(one.key.size()), SQLITE_STATIC);
        sqlite3_bind_blob(insert_, 2, one.body.data(), static_cast<int>(one.body.size()), SQLITE_STATIC);
        if (sqlite3_step(insert_) != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(db_));
        sqlite3_reset(insert_);
      }
      run_sql(db_, "COMMIT");
      for (const auto& one : group) one.stored();
    }
  }
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
  std::mutex mutex_;
  std::condition_variable come_;
  std::vector<Waiting> waiting_;
  std::jthread thread_;
};

class BareSession : public std::enable_shared_from_this<BareSession> {
 public:
  BareSession(tcp::socket socket, BareInbox& inbox) : stream_(std::move(socket)), inbox_(inbox) {}
  void read() {
    request_ = {};
    wire::async_read(stream_, buffer_, request_, [self = shared_from_this()](beast::error_code code, std::size_t) {
      if (code) return;
      self->inbox_.put(std::string(self->request_["Idempotency-Key"]), std::move(self->request_.body()),
                       [self] { asio::post(self->stream_.get_executor(), [self] { self->write(); }); });
    });
  }

 private:
  void write() {
    response_ = {wire::status::accepted, request_.version()};
    response_.set(wire::field::content_type, "application/json");
    response_.keep_alive(request_.keep_alive());
    response_.body() = "{\"id\":1234567,\"connection\":\"main\",\"records\":1}\n";
    response_.prepare_payload();
    wire::async_write(stream_, response_, [self = shared_from_this()](beast::error_code code, std::size_t) {
      if (!code) self->read();
    });
  }
  beast::tcp_stream stream_;
  BareInbox& inbox_;
  beast::flat_buffer buffer_;
  wire::request<wire::string_body> request_;
  wire::response<wire::string_body> response_;
};

class BareServer {
 public:
  explicit BareServer(BareInbox& inbox) : inbox_(inbox), acceptor_(io_, {asio::ip::address_v4::loopback(), 0}) {
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
      std::make_shared<BareSession>(std::move(socket), inbox_)->read();
      accept();
    });
  }
  BareInbox& inbox_;
  asio::io_context io_{1};
  tcp::acceptor acceptor_;
  std::jthread thread_;
};

std::atomic<std::int64_t> next_key = 0;

std::string request_of(const std::string& token, std::int64_t number) {
  const std::string body = fmt::format(
      R"({{"model":"sale.order","key":"EXT-{0:09}","version":1,"values":{{"partner_id":{{"key":"SHOP-{1:05}"}},"client_order_ref":"EXT-{0:09}","date_order":"2026-11-20 10:05:48"}},"children":{{"order_line":[{{"key":"1","values":{{"product_id":77,"product_uom_qty":5,"price_unit":9.99}}}},{{"key":"2","values":{{"product_id":78,"product_uom_qty":1,"price_unit":105.5}}}}]}}}})",
      number, number % 30'000);
  return fmt::format(
      "POST /api/v1/inbox/main HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\nContent-Type: "
      "application/json\r\nIdempotency-Key: bench-{:09}\r\nContent-Length: {}\r\n\r\n{}",
      token, number, body.size(), body);
}

// One connection that hands in `count` records, and how long each took.
std::vector<double> hand_in(std::uint16_t port, const std::string& token, std::int64_t count) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw std::runtime_error("cannot connect");
  std::vector<double> took;
  char bytes[8192];
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string request = request_of(token, ++next_key);
    const auto begin = std::chrono::steady_clock::now();
    if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
      throw std::runtime_error("cannot send");
    std::size_t got = 0, expected = 0;
    do {
      const auto part = ::recv(fd, bytes + got, sizeof bytes - 1 - got, 0);
      if (part <= 0) throw std::runtime_error("the connection ended");
      got += static_cast<std::size_t>(part);
      bytes[got] = '\0';
      const char* end = std::strstr(bytes, "\r\n\r\n");
      const char* length = std::strstr(bytes, "Content-Length: ");
      if (!end || !length) continue;
      if (std::strncmp(bytes + 9, "202", 3) != 0) throw std::runtime_error(bytes);
      expected = static_cast<std::size_t>(end + 4 - bytes) + static_cast<std::size_t>(std::atoi(length + 16));
    } while (expected == 0 || got < expected);
    took.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
  }
  ::close(fd);
  return took;
}

std::vector<double> hand_in_all(std::uint16_t port, const std::string& token, std::int64_t connections,
                                std::int64_t count) {
  std::vector<std::vector<double>> took(static_cast<std::size_t>(connections));
  {
    std::vector<std::jthread> clients;
    for (auto& mine : took) clients.emplace_back([&] { mine = hand_in(port, token, count); });
  }
  std::vector<double> all;
  for (const auto& mine : took) all.insert(all.end(), mine.begin(), mine.end());
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const auto pairs = bench::option(argc, argv, "pairs", 9);
  const auto connections = bench::option(argc, argv, "connections", 32);
  const auto count = bench::option(argc, argv, "requests", 400);
  const auto threads = bench::option(argc, argv, "threads", 16);
  bench::print_setting(fmt::format(
      "{} connections, {} records each, one in a request; SQLite {}, WAL, synchronous=FULL; client on the same machine",
      connections, count, sqlite3_libversion()));

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
    known.add("main", "odoo", connectors.check_settings("odoo", {{"url", "http://127.0.0.1:9"}, {"login", "hub"}}),
              Secret("bench"));
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
    http::Server server({.port = 0, .request_threads = static_cast<int>(threads)},
                        {[&](http::Exchange exchange) { return router.answer(std::move(exchange)); },
                         [&](http::Exchange& exchange) { return router.at_once(exchange); }});
    const auto token = tokens.create("bench", access::Role::admin, {}).secret.reveal();
    BareInbox bare_inbox((folder / "bare.db").string());
    BareServer bare(bare_inbox);

    std::vector<double> p99, p99_bare;
    const auto measured = bench::measure_pairs(
        pairs,
        [&] {
          const auto took = hand_in_all(server.port(), token, connections, count);
          p99.push_back(took[took.size() * 99 / 100]);
        },
        [&] {
          const auto took = hand_in_all(bare.port(), token, connections, count);
          p99_bare.push_back(took[took.size() * 99 / 100]);
        });
    const double total = static_cast<double>(connections * count);
    std::vector<double> ratios, ours, floor;
    for (std::size_t i = 0; i < measured.ours.size(); ++i) {
      ratios.push_back(measured.floor[i] / measured.ours[i]);
      ours.push_back(total / measured.ours[i]);
      floor.push_back(total / measured.floor[i]);
    }
    p99.erase(p99.begin());  // the pair that isn't counted
    p99_bare.erase(p99_bare.begin());
    bench::print_figure("S2 intake/bare group commit behind Beast", bench::estimate(ratios), "ratio", 0.5, "higher");
    bench::print_figure("S2 intake", bench::estimate(ours), "records/s", 2000, "higher");
    bench::print_figure("S2 intake p99", bench::estimate(p99), "ms", 25, "lower");
    bench::print_figure("S2 bare group commit behind Beast", bench::estimate(floor), "records/s");
    bench::print_figure("S2 bare p99", bench::estimate(p99_bare), "ms");
    std::int64_t stored = 0;
    store->read([&](store::Session& session) {
      session.query(
          "SELECT count(*) FROM inbox i JOIN inbox_record r ON r.inbox_id = i.id JOIN job j ON j.id = r.job_id",
          std::initializer_list<store::Param>{}, [&](const store::Row& row) { stored = row.int64(0); });
    });
    if (stored != (pairs + 1) * connections * count) throw std::runtime_error("an acknowledged record is not there");
  }
  std::filesystem::remove_all(folder);
}
