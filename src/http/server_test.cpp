#include "http/server.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <latch>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "fakes/raw_http.h"
#include "http/event_stream.h"
#include "http/router.h"

namespace dragoman::http {
namespace {

using tests::RawHttp;
using namespace std::chrono_literals;

constexpr std::string_view kGet = "GET /echo HTTP/1.1\r\nHost: h\r\n\r\n";

// Lets a test hold answers back and let them go.
class Gate {
 public:
  void open() {
    {
      std::lock_guard lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void await_arrivals(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int arrived_ = 0;
};

Reply echo(Exchange exchange) {
  Reply reply;
  reply.response.headers.add("Content-Type", "text/plain");
  reply.response.body =
      exchange.request.method + " " + exchange.request.target + " " + exchange.request.body + " from " + exchange.peer;
  return reply;
}

ServerSettings quick() {
  ServerSettings settings;
  settings.port = 0;
  settings.request_threads = 2;
  settings.body_bytes_max = 1000;
  settings.header_bytes_max = 4000;
  return settings;
}

TEST(HttpServer, KnowsItsRealPortAndKeepsTheConnection) {
  Server server(quick(), {echo, {}});
  ASSERT_NE(server.port(), 0);
  EXPECT_EQ(server.url(), "http://127.0.0.1:" + std::to_string(server.port()));
  RawHttp client(server.port());
  for (int i = 0; i < 3; ++i) {
    const auto answer = client.ask(kGet);
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, "GET /echo  from 127.0.0.1");
    EXPECT_NE(answer.head.find("Connection: keep-alive"), std::string::npos);
    EXPECT_NE(answer.head.find("\r\nDate: "), std::string::npos);
  }
  const auto last = client.ask("POST /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc");
  EXPECT_EQ(last.body, "POST /x abc from 127.0.0.1");
  EXPECT_EQ(client.to_end(), "");
}

TEST(HttpServer, AnswersPipelinedRequestsInTheirOrder) {
  Server server(quick(), {echo, {}});
  RawHttp client(server.port());
  std::string all;
  for (int i = 0; i < 20; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: h\r\n\r\n";
  client.send(all);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(client.answer().body, "GET /" + std::to_string(i) + "  from 127.0.0.1");
}

TEST(HttpServer, HeadHasTheLengthAndNoBody) {
  Server server(quick(), {echo, {}});
  RawHttp client(server.port());
  const auto head = client.ask("HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\n", true);
  EXPECT_NE(head.head.find("Content-Length: 26"), std::string::npos) << head.head;
  EXPECT_EQ(client.ask(kGet).status, 200);
}

TEST(HttpServer, SpeaksHttp10) {
  Server server(quick(), {echo, {}});
  RawHttp client(server.port());
  EXPECT_EQ(client.ask("GET /old HTTP/1.0\r\n\r\n").body, "GET /old  from 127.0.0.1");
  EXPECT_EQ(client.to_end(), "");
}

TEST(HttpServer, ReadsChunkedBodiesAndExpectContinue) {
  Server server(quick(), {echo, {}});
  RawHttp client(server.port());
  EXPECT_EQ(
      client.ask("POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
          .body,
      "POST /c abcde from 127.0.0.1");
  client.send("POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client.ask("ok").body, "POST /e ok from 127.0.0.1");
}

struct Hostile {
  const char* name;
  std::string request;
  int status;
};

class HttpServerHostile : public testing::TestWithParam<Hostile> {};

TEST_P(HttpServerHostile, IsRefusedWithAStatusAndTheNextClientIsServed) {
  Server server(quick(), {echo, {}});
  RawHttp client(server.port());
  client.send(GetParam().request);
  const auto answer = client.answer();
  EXPECT_EQ(answer.status, GetParam().status) << answer.head << answer.body;
  if (GetParam().status != 200) {
    EXPECT_NE(answer.body.find("{\"error\":{\"kind\":\"invalid\""), std::string::npos) << answer.body;
    EXPECT_NE(answer.head.find("Connection: close"), std::string::npos);
  }
  EXPECT_EQ(RawHttp(server.port()).ask(kGet).status, 200);
}

INSTANTIATE_TEST_SUITE_P(
    Requests, HttpServerHostile,
    testing::Values(
        Hostile{"NotHttp", "\x16\x03\x01\x02this is no request\r\n\r\n", 400},
        Hostile{"GiantHeader", "GET / HTTP/1.1\r\nHost: h\r\nX: " + std::string(9000, 'x') + "\r\n\r\n", 431},
        Hostile{"GiantTarget", "GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: h\r\n\r\n", 431},
        Hostile{"ManyHeaders",
                [] {
                  std::string text = "GET / HTTP/1.1\r\nHost: h\r\n";
                  for (int i = 0; i < 1000; ++i) text += "X-" + std::to_string(i) + ": 1\r\n";
                  return text + "\r\n";
                }(),
                431},
        Hostile{"DeclaredBodyTooLarge", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n", 413},
        Hostile{"HugeDeclaredLength", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999999999999\r\n\r\n",
                400},
        Hostile{"NegativeLength", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400},
        Hostile{"ChunkedBodyTooLarge",
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + std::string(2000, 'x') +
                    "\r\n0\r\n\r\n",
                413},
        Hostile{"BadChunk", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
                400},
        Hostile{"HugeChunk",
                "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc", 400},
        Hostile{"BothLengths",
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        Hostile{"TwoLengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400},
        Hostile{"UnknownEncoding", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 400},
        Hostile{"NoHost", "GET / HTTP/1.1\r\n\r\n", 400},
        Hostile{"TwoHosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        Hostile{"NewerHttp", "GET / HTTP/1.9\r\nHost: h\r\n\r\n", 505},
        Hostile{"TargetWithoutSlash", "GET echo HTTP/1.1\r\nHost: h\r\n\r\n", 400},
        Hostile{"FoldedHeaderIsOneHeader", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", 200},
        Hostile{"NulInHeader", std::string("GET / HTTP/1.1\r\nHost: h\r\nX: a").append(1, '\0').append("b\r\n\r\n"),
                400}),
    [](const auto& info) { return info.param.name; });

TEST(HttpServer, ARefusedClientThatStillSendsSeesTheRefusal) {
  Server server(quick(), {echo, {}});
  RawHttp client(server.port());
  client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n");
  client.send(std::string(500'000, 'x'));
  const auto refusal = client.answer();
  EXPECT_EQ(refusal.status, 413);
  EXPECT_NE(refusal.body.find("\"request_id\":\""), std::string::npos) << "found in the log by it";
  EXPECT_NE(refusal.head.find("X-Request-Id: "), std::string::npos);
}

TEST(HttpServer, ClosesThoseWhoSendTheirHeadOrBodyTooSlowly) {
  auto settings = quick();
  settings.header_timeout = 50ms;
  settings.body_timeout = 50ms;
  settings.idle_timeout = 50ms;
  Server server(settings, {echo, {}});
  RawHttp silent(server.port()), head(server.port()), body(server.port());
  head.send("GET / HTTP/1.1\r\nHos");
  body.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(silent.to_end(), "");
  EXPECT_EQ(head.to_end(), "");
  EXPECT_EQ(body.to_end(), "");
  server.stop(60s);
  EXPECT_EQ(server.stats().dropped_slow, 2) << "idling is no fault";
}

TEST(HttpServer, SaysComeBackLaterWhenTheQueueIsFull) {
  Gate gate;
  auto settings = quick();
  settings.request_threads = 1;
  settings.waiting_max = 1;
  Server server(settings, {[&](Exchange exchange) {
                             gate.wait();
                             return echo(std::move(exchange));
                           },
                           {}});
  RawHttp first(server.port());
  first.send(kGet);
  gate.await_arrivals(1);
  // Of two more, one waits in the queue and the other is told to come back.
  std::atomic<int> served = 0, refused = 0;
  {
    std::vector<std::jthread> two;
    for (int i = 0; i < 2; ++i)
      two.emplace_back([&] {
        RawHttp client(server.port());
        const auto answer = client.ask(kGet);
        if (answer.status == 200) ++served;
        if (answer.status != 503) return;
        ++refused;
        EXPECT_NE(answer.head.find("Retry-After: 1"), std::string::npos);
        EXPECT_NE(answer.body.find("\"kind\":\"busy\""), std::string::npos);
        gate.open();
        EXPECT_NE(client.ask(kGet).status, 0) << "the connection was kept";
      });
  }
  EXPECT_EQ(served, 1);
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(first.answer().status, 200);
}

TEST(HttpServer, WhatNeedsNoWaitingIsAnsweredWhileAllThreadsAreBusy) {
  Gate gate;
  auto settings = quick();
  settings.request_threads = 1;
  Server server(settings, {[&](Exchange exchange) {
                             if (exchange.request.target != "/now") gate.wait();
                             return echo(std::move(exchange));
                           },
                           [](Exchange& exchange) {
                             return exchange.request.target == "/now" ? std::optional(echo(exchange)) : std::nullopt;
                           }});
  RawHttp slow(server.port()), now(server.port());
  slow.send(kGet);
  gate.await_arrivals(1);
  EXPECT_EQ(now.ask("GET /now HTTP/1.1\r\nHost: h\r\n\r\n").status, 200);
  gate.open();
  EXPECT_EQ(slow.answer().status, 200);
}

// Answers what has come so far when it is told to.
class Later {
 public:
  Reply operator()(Exchange exchange) {
    Reply reply;
    reply.later = [this, answer = echo(std::move(exchange))](auto take) {
      std::lock_guard lock(mutex_);
      waiting_.push_back([take = std::move(take), answer] { take([&] { return answer; }); });
      come_.notify_all();
    };
    return reply;
  }
  void await(std::size_t count) {
    std::unique_lock lock(mutex_);
    come_.wait(lock, [&] { return waiting_.size() >= count; });
  }
  void answer() {
    std::vector<std::function<void()>> all;
    {
      std::lock_guard lock(mutex_);
      all.swap(waiting_);
    }
    for (const auto& one : all) one();
  }

 private:
  std::mutex mutex_;
  std::condition_variable come_;
  std::vector<std::function<void()>> waiting_;
};

TEST(HttpServer, AnAnswerThatComesLaterTakesNoThread) {
  Later later;
  auto settings = quick();
  settings.request_threads = 1;
  // Half of them begin on the io thread.
  Server server(settings, {[&](Exchange exchange) { return later(std::move(exchange)); },
                           [&](Exchange& exchange) {
                             return exchange.request.target == "/now" ? std::optional(later(exchange)) : std::nullopt;
                           }});
  std::vector<std::unique_ptr<RawHttp>> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(std::make_unique<RawHttp>(server.port()));
    clients.back()->send(i % 2 ? "GET /now HTTP/1.1\r\nHost: h\r\n\r\n" : kGet);
  }
  later.await(10);
  later.answer();
  for (int i = 0; i < 10; ++i)
    EXPECT_EQ(clients[static_cast<std::size_t>(i)]->answer().body,
              i % 2 ? "GET /now  from 127.0.0.1" : "GET /echo  from 127.0.0.1");
  // The connection goes on, also for what was sent meanwhile.
  clients[0]->send(std::string(kGet) + std::string(kGet));
  for (int i = 0; i < 2; ++i) {
    later.await(1);
    later.answer();
    EXPECT_EQ(clients[0]->answer().status, 200);
  }
}

TEST(HttpServer, StopsWhenWhatIsAnsweredLaterHasBeen) {
  Later later;
  Server server(quick(), {[&](Exchange exchange) { return later(std::move(exchange)); }, {}});
  RawHttp kept(server.port());
  kept.send(kGet);
  later.await(1);
  std::atomic<bool> stopped = false;
  std::jthread stopper([&] {
    server.stop(0ms);
    stopped = true;
  });
  EXPECT_EQ(kept.to_end(), "");
  EXPECT_FALSE(stopped) << "what takes the answer is still needed";
  later.answer();
  stopper.join();
}

TEST(HttpServer, RefusesConnectionsOverItsLimit) {
  auto settings = quick();
  settings.connections_max = 2;
  Server server(settings, {echo, {}});
  RawHttp a(server.port()), b(server.port());
  EXPECT_EQ(a.ask(kGet).status, 200);
  EXPECT_EQ(b.ask(kGet).status, 200);
  RawHttp c(server.port());
  EXPECT_EQ(c.answer().status, 503);
  EXPECT_EQ(a.ask(kGet).status, 200);
}

TEST(HttpServer, StopsAfterTheAnswersUnderWay) {
  Gate gate;
  Server server(quick(), {[&](Exchange exchange) {
                            gate.wait();
                            return echo(std::move(exchange));
                          },
                          {}});
  RawHttp busy(server.port()), idle(server.port());
  busy.send(kGet);
  gate.await_arrivals(1);
  std::jthread stopper([&] { server.stop(60s); });
  EXPECT_EQ(idle.to_end(), "");
  gate.open();
  const auto answer = busy.answer();
  EXPECT_EQ(answer.status, 200);
  EXPECT_NE(answer.head.find("Connection: close"), std::string::npos);
  stopper.join();
  EXPECT_THROW(RawHttp again(server.port()), std::runtime_error);
}

TEST(HttpServer, AsksWhatIsUnderWayToEndAndSendsItsAnswer) {
  std::latch arrived(1);
  Server server(quick(), {[&](Exchange exchange) {
                            std::mutex mutex;
                            std::condition_variable_any never;
                            std::unique_lock lock(mutex);
                            arrived.count_down();
                            never.wait(lock, exchange.stop, [] { return false; });
                            return echo(std::move(exchange));
                          },
                          {}});
  RawHttp client(server.port());
  client.send(kGet);
  arrived.wait();
  std::jthread stopper([&] { server.stop(60s); });
  EXPECT_EQ(client.answer().status, 200);
  EXPECT_EQ(client.to_end(), "");
}

TEST(HttpServer, WithoutGraceItClosesWhatIsUnderWay) {
  Gate gate;
  Server server(quick(), {[&](Exchange exchange) {
                            gate.wait();
                            return echo(std::move(exchange));
                          },
                          {}});
  RawHttp client(server.port());
  client.send(kGet);
  gate.await_arrivals(1);
  std::jthread stopper([&] { server.stop(0ms); });
  EXPECT_EQ(client.to_end(), "");
  gate.open();
}

Reply streaming(std::function<void(Sink&)> body) {
  Reply reply;
  reply.response.headers.add("Content-Type", "text/event-stream");
  reply.stream = std::move(body);
  return reply;
}

TEST(HttpServer, StreamsPiecesAndThenTakesTheNextRequest) {
  Gate gate;
  Server server(quick(), {[&](Exchange exchange) {
                            if (exchange.request.target == "/echo") return echo(std::move(exchange));
                            return streaming([&](Sink& sink) {
                              EXPECT_TRUE(sink.write("first"));
                              gate.wait();
                              EXPECT_TRUE(sink.write("second"));
                            });
                          },
                          {}});
  RawHttp client(server.port());
  client.send("GET /stream HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_NE(client.until("\r\n\r\n").find("Transfer-Encoding: chunked"), std::string::npos);
  EXPECT_EQ(client.until("first\r\n"), "5\r\nfirst\r\n");
  client.send(kGet);
  gate.open();
  EXPECT_EQ(client.until("0\r\n\r\n"), "6\r\nsecond\r\n0\r\n\r\n");
  EXPECT_EQ(client.answer().status, 200);
}

TEST(HttpServer, AStreamEndsWhenItsReaderGoes) {
  std::latch ended(1);
  Server server(quick(), {[&](Exchange) {
                            return streaming([&](Sink& sink) {
                              sink.write("hello");
                              std::mutex mutex;
                              std::condition_variable_any never;
                              std::unique_lock lock(mutex);
                              never.wait(lock, sink.stop(), [] { return false; });
                              EXPECT_FALSE(sink.write("nobody"));
                              ended.count_down();
                            });
                          },
                          {}});
  {
    RawHttp client(server.port());
    client.send(kGet);
    client.until("hello");
  }
  ended.wait();
}

TEST(HttpServer, ASlowReaderIsDroppedAndNeverBufferedWithoutEnd) {
  auto settings = quick();
  settings.write_timeout = 50ms;
  std::latch ended(1);
  std::atomic<std::int64_t> written = 0;
  Server server(settings, {[&](Exchange) {
                             return streaming([&](Sink& sink) {
                               const std::string piece(10'000, 'x');
                               while (sink.write(piece)) written += 10'000;
                               ended.count_down();
                             });
                           },
                           {}});
  RawHttp client(server.port(), 4096);
  client.send(kGet);
  ended.wait();
  server.stop(60s);
  EXPECT_LT(written, 64'000'000);
  EXPECT_EQ(server.stats().dropped_slow, 1);
}

TEST(HttpServer, StreamsEndWhenItStopsAndTooManyAreRefused) {
  auto settings = quick();
  settings.streams_max = 1;
  Server server(settings, {[&](Exchange) {
                             return streaming([](Sink& sink) {
                               sink.write("hello");
                               std::mutex mutex;
                               std::condition_variable_any never;
                               std::unique_lock lock(mutex);
                               never.wait(lock, sink.stop(), [] { return false; });
                             });
                           },
                           {}});
  RawHttp one(server.port()), two(server.port());
  one.send(kGet);
  one.until("hello");
  EXPECT_EQ(two.ask(kGet).status, 503);
  server.stop(60s);
  EXPECT_EQ(one.to_end(), "\r\n0\r\n\r\n");
}

TEST(HttpServer, SaysWhoHasThePort) {
  Server server(quick(), {echo, {}});
  auto settings = quick();
  settings.port = server.port();
  try {
    Server second(settings, {echo, {}});
    FAIL() << "both listen";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::conflict);
    EXPECT_EQ(error.code, "port_in_use");
    EXPECT_NE(error.message.find("(pid " + std::to_string(getpid()) + ")"), std::string::npos) << error.message;
    EXPECT_NE(error.message.find("choose another with --listen"), std::string::npos);
  }
}

TEST(HttpServer, AnAddressThatIsNoneIsSaidSo) {
  auto settings = quick();
  settings.address = "not an address";
  EXPECT_THROW(Server(settings, {echo, {}}), Error);
  settings.address = "203.0.113.7";  // documentation address: not of this machine
  EXPECT_THROW(Server(settings, {echo, {}}), Error);
}

TEST(HttpServer, ManyClientsAtOnceGetTheirOwnAnswers) {
  SystemClock clock;
  SystemRandom random;
  Router router(clock, random);
  router.add("POST", "/api/{name}",
             [](Call& call) { return Reply{{200, {}, *find(call.path, "name") + call.exchange.request.body}, {}}; });
  Server server(quick(), {[&](Exchange exchange) { return router.answer(std::move(exchange)); }, {}});
  std::vector<std::jthread> clients;
  std::atomic<int> right = 0;
  for (int c = 0; c < 8; ++c)
    clients.emplace_back([&, c] {
      RawHttp client(server.port());
      for (int i = 0; i < 50; ++i) {
        const std::string body = std::to_string(i);
        const auto answer = client.ask("POST /api/c" + std::to_string(c) + " HTTP/1.1\r\nHost: h\r\nContent-Length: " +
                                       std::to_string(body.size()) + "\r\n\r\n" + body);
        if (answer.status == 200 && answer.body == "c" + std::to_string(c) + body) ++right;
      }
    });
  clients.clear();
  EXPECT_EQ(right, 400);
}

TEST(EventStream, KeepsLineBreaksInsideData) {
  std::string text;
  append_event(text, {"7", "change", "a\nb\r\nc\rd"});
  EXPECT_EQ(text, "id: 7\nevent: change\ndata: a\ndata: b\ndata: c\ndata: d\n\n");
  text.clear();
  append_event(text, {"", "", ""});
  EXPECT_EQ(text, "data: \n\n");
}

}  // namespace
}  // namespace dragoman::http
