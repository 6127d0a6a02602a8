// What only a store on a server has: connections that are cut, answers that are lost, several hosts.
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <fstream>
#include <map>
#include <thread>

#include "base/error.h"
#include "store/test_store.h"

#if defined(__SANITIZE_ADDRESS__)
// Of sanitizer/allocator_interface.h, which not every compiler package brings.
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();
#endif

namespace dragoman::store {
namespace {

/// Stands between the store and the server, and cuts when told: when it next sees `word` from the store, or in the
/// server's answer to it.
class Proxy {
 public:
  enum class Cut { never, before_server, before_client };

  Proxy(std::string host, std::string port) : host_(std::move(host)), port_(std::move(port)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::listen(listener_, 16), 0);
    EXPECT_EQ(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    number_ = ntohs(address.sin_port);
    accepter_ = std::jthread([this](std::stop_token stop) {
      while (!stop.stop_requested()) {
        pollfd ready{.fd = listener_, .events = POLLIN, .revents = 0};
        if (::poll(&ready, 1, 20) == 1) {
          const int client = ::accept(listener_, nullptr, nullptr);
          links_.emplace_back([this, client](std::stop_token end) { link(client, end); });
        }
      }
    });
  }
  ~Proxy() {
    accepter_.request_stop();
    accepter_.join();
    links_.clear();
    ::close(listener_);
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  std::string port() const { return std::to_string(number_); }
  /// Cuts once.
  void arm(Cut cut, std::string word) {
    word_ = std::move(word);
    cut_ = cut;
  }
  bool fired() const { return cut_ == Cut::never; }

 private:
  void link(int client, std::stop_token stop) {
    const int server = dial();
    bool answer_is_lost = false;
    char buffer[64 << 10];
    while (!stop.stop_requested()) {
      pollfd ready[2] = {{.fd = client, .events = POLLIN, .revents = 0},
                         {.fd = server, .events = POLLIN, .revents = 0}};
      if (::poll(ready, 2, 20) <= 0) continue;
      if (ready[1].revents) {
        const auto n = ::recv(server, buffer, sizeof buffer, 0);
        if (n <= 0 || answer_is_lost) break;
        send_all(client, {buffer, static_cast<std::size_t>(n)});
      }
      if (ready[0].revents) {
        const auto n = ::recv(client, buffer, sizeof buffer, 0);
        if (n <= 0) break;
        const std::string_view said(buffer, static_cast<std::size_t>(n));
        if (cut_ != Cut::never && said.find(word_) != std::string_view::npos) {
          const Cut how = cut_.exchange(Cut::never);
          if (how == Cut::before_server) break;
          answer_is_lost = how == Cut::before_client;
        }
        send_all(server, said);
      }
    }
    ::close(client);
    ::close(server);
  }
  int dial() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(port_)));
    ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
    return fd;
  }
  static void send_all(int fd, std::string_view data) {
    while (!data.empty()) {
      const auto n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
      if (n <= 0) return;
      data.remove_prefix(static_cast<std::size_t>(n));
    }
  }

  const std::string host_, port_;
  int listener_ = -1;
  int number_ = 0;
  std::string word_;
  std::atomic<Cut> cut_ = Cut::never;
  std::vector<std::jthread> links_;  // of the accepter's thread until it is joined
  std::jthread accepter_;
};

class PostgresStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    skip_without_server();
    if (IsSkipped() || HasFatalFailure()) return;
    database_ = std::make_unique<PostgresDatabase>(test_server());
    PQconninfoOption* options = PQconninfoParse(database_->url().c_str(), nullptr);
    for (auto* option = options; option && option->keyword; ++option)
      if (option->val) parts_[option->keyword] = option->val;
    PQconninfoFree(options);
  }

  std::string part(const std::string& name) { return parts_[name]; }
  /// The URL of the test's database with other hosts and ports.
  std::string url(const std::string& hosts, const std::string& password) {
    return "postgresql://" + part("user") + ":" + password + "@" + hosts + "/" + part("dbname");
  }
  std::string url(const std::string& hosts) { return url(hosts, part("password")); }
  bool by_tcp() { return !part("host").empty() && part("host")[0] != '/'; }

  std::unique_ptr<Store> open_store(const std::string& url) {
    return open({.url = url, .readers = 2}, clock_, kTestMigrations);
  }
  std::unique_ptr<Store> open_store() { return open_store(database_->url()); }

  static std::int64_t count(Store& store) {
    std::int64_t n = -1;
    store.read([&](Session& s) { s.first("SELECT count(*) FROM thing", {}, [&](const Row& r) { n = r.int64(0); }); });
    return n;
  }
  static void add(Session& s, std::string_view name) { s.execute("INSERT INTO thing (name) VALUES ($1)", {name}); }
  static std::int64_t backend(Session& s) {
    std::int64_t pid = 0;
    s.first("SELECT pg_backend_pid()", {}, [&](const Row& row) { pid = row.int64(0); });
    return pid;
  }
  /// As an administrator would, or a server that is shut down.
  void end_backend(std::int64_t pid) {
    // Waits until it is gone.
    database_->run("DO $$ BEGIN PERFORM pg_terminate_backend(" + std::to_string(pid) + ", 10000); END $$");
  }
  void end_all_backends() {
    database_->run("DO $$ BEGIN PERFORM pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" +
                   database_->name() + "'; END $$");
  }

  SystemClock clock_;
  std::unique_ptr<PostgresDatabase> database_;
  std::map<std::string, std::string> parts_;
};

TEST_F(PostgresStoreTest, ConnectionsCutWhileIdleAreNotNoticed) {
  const auto store = open_store();
  store->write([](Session& s) { add(s, "a"); });
  end_all_backends();
  store->write([](Session& s) { add(s, "b"); });
  end_all_backends();
  EXPECT_EQ(count(*store), 2);
}

TEST_F(PostgresStoreTest, AWriteThatIsCutBeforeItsCommitRunsAgain) {
  const auto store = open_store();
  int runs = 0;
  store->write([&](Session& s) {
    add(s, "a");
    if (++runs == 1) end_backend(backend(s));
    add(s, "b");
  });
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(count(*store), 2);
}

TEST_F(PostgresStoreTest, AWriteThatIsCutEveryTimeIsGivenUp) {
  const auto store = open_store();
  int runs = 0;
  const auto error = error_of([&] {
    store->write([&](Session& s) {
      ++runs;
      end_backend(backend(s));
      add(s, "a");
    });
  });
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "cut");
  EXPECT_LE(runs, 5);
  EXPECT_EQ(count(*store), 0);
}

TEST_F(PostgresStoreTest, AReadThatIsCutRunsAgainOnlyIfItGaveNothingYet) {
  const auto store = open_store();
  int runs = 0;
  store->read([&](Session& s) {
    if (++runs == 1) {
      // Not through the session: that would give out a row.
      end_all_backends();
    }
    s.query("SELECT name FROM thing", {}, [](const Row&) {});
  });
  EXPECT_EQ(runs, 2);

  runs = 0;
  const auto error = error_of([&] {
    store->read([&](Session& s) {
      ++runs;
      end_backend(backend(s));
      s.query("SELECT name FROM thing", {}, [](const Row&) {});
    });
  });
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(runs, 1);
}

TEST_F(PostgresStoreTest, ACommitWhoseAnswerIsLostIsInDoubtAndNotRunAgain) {
  if (!by_tcp()) GTEST_SKIP() << "the server of DRAGOMAN_TEST_PG is not reached by TCP";
  Proxy proxy(part("host"), part("port"));
  const auto store = open_store(url("127.0.0.1:" + proxy.port()));
  for (const auto cut : {Proxy::Cut::before_client, Proxy::Cut::before_server}) {
    const std::string name = cut == Proxy::Cut::before_client ? "applied" : "lost";
    int runs = 0;
    const auto error = error_of([&] {
      store->write([&](Session& s) {
        ++runs;
        add(s, name);
        proxy.arm(cut, "COMMIT");
      });
    });
    EXPECT_TRUE(proxy.fired());
    EXPECT_EQ(error.kind, Error::Kind::in_doubt) << name;
    EXPECT_EQ(runs, 1) << name;
  }
  // What the caller will find when it looks.
  store->read([](Session& s) {
    std::string names;
    s.query("SELECT name FROM thing", {}, [&](const Row& row) { names += row.text(0); });
    EXPECT_EQ(names, "applied");
  });
}

TEST_F(PostgresStoreTest, ACutInTheMiddleOfACopyRunsAgain) {
  if (!by_tcp()) GTEST_SKIP() << "the server of DRAGOMAN_TEST_PG is not reached by TCP";
  Proxy proxy(part("host"), part("port"));
  const auto store = open_store(url("127.0.0.1:" + proxy.port()));
  std::vector<std::string> names;
  names.reserve(2000);
  for (int i = 0; i < 2000; ++i) names.push_back("row " + std::to_string(i) + std::string(500, '.'));
  const std::vector<Param> values(names.begin(), names.end());
  constexpr std::string_view columns[] = {"name"}, key[] = {"name"};
  for (const bool upsert : {false, true}) {
    proxy.arm(Proxy::Cut::before_server, "row 999");
    store->write([&](Session& s) {
      s.execute("DELETE FROM thing");
      s.insert_many("thing", columns, values, upsert ? std::span(key) : std::span<const std::string_view>());
    });
    EXPECT_TRUE(proxy.fired());
    EXPECT_EQ(count(*store), 2000);
  }
}

TEST_F(PostgresStoreTest, ADeadlockIsRunAgain) {
  const auto store = open_store();
  store->write([](Session& s) { s.execute("INSERT INTO thing (name, size) VALUES ('a', 0), ('b', 0)"); });
  std::barrier both_hold_one(2);
  std::atomic<int> runs = 0;
  const auto swap = [&](std::string_view first, std::string_view second) {
    bool again = false;
    store->write([&](Session& s) {
      ++runs;
      s.execute("UPDATE thing SET size = size + 1 WHERE name = $1", {first});
      if (!std::exchange(again, true)) both_hold_one.arrive_and_wait();
      s.execute("UPDATE thing SET size = size + 1 WHERE name = $1", {second});
    });
  };
  std::jthread other([&] { swap("b", "a"); });
  swap("a", "b");
  other.join();
  EXPECT_GE(runs, 3) << "a loaded server may end one of them twice";
  store->read(
      [](Session& s) { s.query("SELECT size FROM thing", {}, [](const Row& row) { EXPECT_EQ(row.int64(0), 2); }); });
}

TEST_F(PostgresStoreTest, TheFirstHostThatAnswersIsTaken) {
  if (!by_tcp()) GTEST_SKIP() << "the server of DRAGOMAN_TEST_PG is not reached by TCP";
  std::string gone;
  {
    Proxy nobody(part("host"), part("port"));
    gone = nobody.port();
  }
  const auto store = open_store(url("127.0.0.1:" + gone + "," + part("host") + ":" + part("port")));
  store->write([](Session& s) { add(s, "a"); });
  EXPECT_NE(store->info().location.find(":" + part("port")), std::string::npos);
}

TEST_F(PostgresStoreTest, WaitersAreWokenAfterTheListenerWasCut) {
  const auto store = open_store();
  const auto seen = store->wait("changes", 0, Micros::zero(), {});
  end_all_backends();
  const auto later = store->wait("changes", seen, std::chrono::seconds(30), {});
  EXPECT_NE(later, seen) << "something may have been said while nobody listened";
  store->write([](Session& s) { s.notify("changes"); });
  EXPECT_NE(store->wait("changes", later, std::chrono::seconds(30), {}), later);
}

TEST_F(PostgresStoreTest, MoreThreadsThanConnectionsTakeTurns) {
  const auto store = open_store();
  std::vector<std::jthread> threads;
  threads.reserve(20);
  for (int i = 0; i < 20; ++i)
    threads.emplace_back([&, i] {
      store->write([&](Session& s) { add(s, std::to_string(i)); });
      count(*store);
    });
  threads.clear();
  EXPECT_EQ(count(*store), 20);
}

TEST_F(PostgresStoreTest, RefusesADatabaseWithTablesOfOthers) {
  PGconn* own = PQconnectdb(database_->url().c_str());
  PQclear(PQexec(own, "CREATE TABLE recipe (name TEXT)"));
  PQfinish(own);
  const auto error = error_of([&] { open_store(); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "not_ours");
  EXPECT_NE(error.message.find(database_->name()), std::string::npos);
}

TEST_F(PostgresStoreTest, SaysThatTheServerIsReadOnly) {
  open_store();
  database_->run("ALTER DATABASE " + database_->name() + " SET default_transaction_read_only = on");
  const auto error = error_of([&] { open_store(); });
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_NE(error.message.find("read-only"), std::string::npos) << error.message;
}

TEST_F(PostgresStoreTest, AsksTheServerToWaitForItsDisk) {
  database_->run("ALTER DATABASE " + database_->name() + " SET synchronous_commit = off");
  EXPECT_NE(open_store()->info().sync_mode.find("synchronous_commit=on"), std::string::npos);
}

TEST_F(PostgresStoreTest, NoErrorShowsThePassword) {
  const std::string password = "hunter2%40";
  for (const auto& url :
       {url("127.0.0.1:1", password), url("nowhere.invalid:5432", password), url("127.0.0.1:notaport", password),
        url(part("host") + ":" + part("port"), password), "postgres://me:" + password + "@[::1"}) {
    const auto error = error_of([&] { open_store(url); });
    for (const auto& text : {error.message, error.detail}) EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
    EXPECT_TRUE(error.kind == Error::Kind::unavailable || error.kind == Error::Kind::invalid) << error.message;
  }
}

TEST_F(PostgresStoreTest, ABackupNamesTheCommandThatMakesIt) {
  const auto store = open_store();
  const auto error = error_of([&] { store->backup("copy.db"); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_NE(error.message.find("pg_dump"), std::string::npos);
  EXPECT_EQ(error.message.find(part("password").empty() ? "\n" : part("password")), std::string::npos);
}

TEST_F(PostgresStoreTest, ALongAnswerIsNotHeldInMemory) {
  const auto store = open_store();
  // What was freed stays resident under the sanitizer, which looks for uses after it.
  const auto in_use = []() -> std::size_t {
#if defined(__SANITIZE_ADDRESS__)
    return __sanitizer_get_current_allocated_bytes();
#else
    std::size_t pages = 0, ignored = 0;
    std::ifstream("/proc/self/statm") >> ignored >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
#endif
  };
  const auto before = in_use();
  std::size_t most = 0;
  std::int64_t rows = 0;
  store->read([&](Session& s) {
    s.query("SELECT n, repeat('x', 4000) FROM generate_series(1, 100000) AS n", {}, [&](const Row&) {
      if (++rows % 1000 == 0) most = std::max(most, in_use());
    });
  });
  EXPECT_EQ(rows, 100'000);
  EXPECT_LT(most, before + (50u << 20)) << "of an answer of 400 MB";
}

}  // namespace
}  // namespace dragoman::store
