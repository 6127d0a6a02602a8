#include "http/client.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <future>

#include "base/error.h"
#include "fakes/certificate.h"
#include "fakes/tcp_script.h"

namespace dragoman::http {
namespace {

using namespace std::chrono_literals;
using tests::Certificate;
using tests::Peer;
using tests::TcpScript;

class HttpClient : public ::testing::Test {
 protected:
  // The servers are on this machine; a proxy of the environment is none of theirs.
  static void SetUpTestSuite() { ::setenv("no_proxy", "127.0.0.1", 1); }

  static Request post(const TcpScript& server, std::string body = "{\"a\":1}") {
    Request request;
    request.method = "POST";
    request.target = server.url() + "/x";
    request.headers.add("Content-Type", "application/json");
    request.body = std::move(body);
    return request;
  }
  static Error failure(const Request& request, ClientSettings settings = {}, std::stop_token stop = {}) {
    const auto client = make_client(std::move(settings));
    try {
      client->send(request, stop);
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "no error";
    return Error(Error::Kind::bug, "none");
  }
};

TEST_F(HttpClient, SendsTheRequestAndBringsBackTheAnswerWithRoomBehindIt) {
  std::promise<std::string> seen;
  TcpScript server([&](Peer& peer) {
    seen.set_value(peer.request());
    peer.send("HTTP/1.0 201 Created\r\nX-One: 1\r\nx-two:  2 \r\nContent-Length: 5\r\n\r\nhello");
  });
  auto request = post(server);
  request.headers.add("X-Odoo-Database", "shop");
  const auto client = make_client({});
  const Response response = client->send(request);
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(response.body, "hello");
  EXPECT_GE(response.body.capacity() - response.body.size(), 64u);
  EXPECT_EQ(response.headers.find("X-ONE"), "1");
  EXPECT_EQ(response.headers.find("X-Two"), "2");
  const std::string text = seen.get_future().get();
  EXPECT_EQ(text.substr(0, 18), "POST /x HTTP/1.1\r\n");
  EXPECT_NE(text.find("X-Odoo-Database: shop\r\n"), std::string::npos);
  EXPECT_NE(text.find("Content-Type: application/json\r\n"), std::string::npos);
  EXPECT_EQ(text.find("Expect:"), std::string::npos);
  EXPECT_EQ(text.substr(text.size() - 7), "{\"a\":1}");
}

TEST_F(HttpClient, HandsBackEveryStatusAndFollowsNoRedirect) {
  TcpScript server([](Peer& peer) {
    peer.request();
    peer.answer("", "text/html", "303 SEE OTHER", "Location: http://127.0.0.1:1/elsewhere\r\n");
  });
  const Response response = make_client({})->send(post(server));
  EXPECT_EQ(response.status, 303);
  EXPECT_EQ(response.headers.find("Location"), "http://127.0.0.1:1/elsewhere");
}

TEST_F(HttpClient, UsesAKeptConnectionAgainAndNeedsNoneFromServersThatClose) {
  TcpScript keeping([](Peer& peer) {
    while (!peer.request().empty()) peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
  });
  TcpScript closing([](Peer& peer) {
    peer.request();
    peer.answer("{}");
  });
  const auto client = make_client({});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(client->send(post(keeping)).body, "{}");
    EXPECT_EQ(client->send(post(closing)).body, "{}");
  }
  EXPECT_EQ(keeping.connections(), 1);
  EXPECT_EQ(closing.connections(), 5);
}

TEST_F(HttpClient, NothingListeningIsUnavailable) {
  std::string url;
  {
    TcpScript gone([](Peer&) {});
    url = gone.url();
  }
  Request request;
  request.target = url;
  const Error error = failure(request);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "connect");
  EXPECT_NE(error.message.find("check that the server runs"), std::string::npos);
}

TEST_F(HttpClient, AnUnknownNameIsUnavailable) {
  Request request;
  request.target = "http://no-such-host.invalid/";
  const Error error = failure(request);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "dns");
}

TEST_F(HttpClient, RefusesUrlsThatAreNoneWithoutShowingTheirSecrets) {
  for (const char* url : {"", "erp.example.com:99999", "ftp://example.com/", "file:///etc/passwd", "http://",
                          "http:// x", "http://a\r\nb/", "gopher://127.0.0.1/x"}) {
    Request request;
    request.target = url;
    const Error error = failure(request);
    EXPECT_EQ(error.kind, Error::Kind::invalid) << url;
    EXPECT_EQ(error.code, "url") << url;
  }
  Request request;
  request.target = "ftp://user:hush@example.com/?token=hush";
  EXPECT_EQ(failure(request).message.find("hush"), std::string::npos);
}

TEST_F(HttpClient, RefusesHeadersThatWouldBecomeTwo) {
  TcpScript server([](Peer& peer) { peer.hang(); });
  for (const auto& [name, value] :
       {std::pair<std::string, std::string>{"X", "a\r\nY: b"}, {"X\r\nY", "a"}, {"", "a"}}) {
    auto request = post(server);
    request.headers.add(name, value);
    const Error error = failure(request);
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    EXPECT_EQ(error.code, "header");
  }
}

TEST_F(HttpClient, AnAnswerThatNeverComesLeavesTheRequestInDoubt) {
  TcpScript server([](Peer& peer) {
    peer.request();
    peer.hang();
  });
  const Error idle = failure(post(server), {.idle_timeout = 100ms});
  EXPECT_EQ(idle.kind, Error::Kind::in_doubt);
  EXPECT_EQ(idle.code, "timeout");
  const Error total = failure(post(server), {.total_timeout = 100ms});
  EXPECT_EQ(total.kind, Error::Kind::in_doubt);
  EXPECT_EQ(total.code, "timeout");
}

TEST_F(HttpClient, ASlowServerThatKeepsTalkingIsNotIdle) {
  TcpScript server([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\n");
    for (int i = 0; i < 8; ++i) {
      ::poll(nullptr, 0, 60);
      peer.send("x");
    }
  });
  EXPECT_EQ(make_client({.idle_timeout = 400ms})->send(post(server)).body, "xxxxxxxx");
}

TEST_F(HttpClient, AConnectionClosedOrResetAfterTheRequestLeavesItInDoubt) {
  TcpScript closing([](Peer& peer) { peer.request(); });
  TcpScript resetting([](Peer& peer) {
    peer.request();
    peer.reset();
  });
  for (const TcpScript* server : {&closing, &resetting}) {
    const Error error = failure(post(*server));
    EXPECT_EQ(error.kind, Error::Kind::in_doubt);
    EXPECT_EQ(error.code, "reset");
    EXPECT_EQ(server->connections(), 1);
  }
}

TEST_F(HttpClient, AConnectionCutBeforeTheRequestIsOutIsUnavailable) {
  TcpScript server([](Peer& peer) {
    peer.readable();
    peer.reset();
  });
  // Larger than all the buffers in between: it cannot have been taken whole.
  const Error error = failure(post(server, std::string(64 << 20, 'x')));
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "reset");
}

TEST_F(HttpClient, ACutAnswerLeavesTheRequestInDoubt) {
  TcpScript in_body([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":");
  });
  TcpScript in_head([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.0 200 OK\r\nContent-Le");
  });
  TcpScript in_chunk([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc");
  });
  TcpScript in_gzip([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nwrong");
  });
  for (const TcpScript* server : {&in_body, &in_head, &in_chunk, &in_gzip}) {
    const Error error = failure(post(*server));
    EXPECT_EQ(error.kind, Error::Kind::in_doubt) << error.detail;
    EXPECT_EQ(error.code, "cut") << error.detail;
  }
}

TEST_F(HttpClient, ADeadKeptConnectionDoesNotMakeItSendAWriteTwice) {
  std::atomic<int> got = 0;
  TcpScript server([&](Peer& peer) {
    while (!peer.request().empty()) {
      if (++got == 2) return;  // the second request arrives whole, and the connection closes without an answer
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    }
  });
  const auto client = make_client({});
  client->send(post(server));
  try {
    client->send(post(server));
    ADD_FAILURE() << "answered";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::in_doubt) << error.detail;
  }
  EXPECT_EQ(got, 2);
  // And a connection that died while it was kept is noticed before it is used.
  EXPECT_EQ(client->send(post(server)).body, "{}");
}

TEST_F(HttpClient, AWriteWithoutABodyIsNotSentTwiceEither) {
  std::atomic<int> got = 0;
  TcpScript server([&](Peer& peer) {
    while (!peer.request().empty())
      if (++got % 2 == 0 || !peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) return;
  });
  const auto client = make_client({});
  client->send(post(server));
  auto request = post(server, "");
  EXPECT_THROW(client->send(request), Error);
  request.method = "DELETE";
  client->send(request);
  EXPECT_EQ(got, 3);
}

TEST_F(HttpClient, ConnectsNowhereForLongerThanItsLimit) {
  // 192.0.2.0/24 is for documentation: nothing answers there, or a router says at once that there is no way.
  Request request;
  request.target = "http://192.0.2.1:81/";
  const Error error = failure(request, {.connect_timeout = 100ms});
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_TRUE(error.code == "connect_timeout" || error.code == "connect") << error.code;
}

TEST_F(HttpClient, WhatIsNoHttpIsSaidSo) {
  TcpScript server([](Peer& peer) {
    peer.readable();
    peer.send("SSH-2.0-OpenSSH_9.2\r\n");
    peer.hang();
  });
  const Error error = failure(post(server), {.idle_timeout = 2s});
  EXPECT_EQ(error.kind, Error::Kind::protocol);
  EXPECT_EQ(error.code, "not_http");
}

TEST_F(HttpClient, ABodyOfAGigabyteIsRefusedAndNotKept) {
  TcpScript announced([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.0 200 OK\r\nContent-Length: 1073741824\r\n\r\n");
    const std::string block(1 << 20, 'x');
    for (int i = 0; i < 1024; ++i)
      if (!peer.send(block)) return;
  });
  TcpScript chunked([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    std::string block = "100000\r\n" + std::string(1 << 20, 'x') + "\r\n";
    for (int i = 0; i < 1024; ++i)
      if (!peer.send(block)) return;
  });
  rusage before{}, after{};
  ::getrusage(RUSAGE_SELF, &before);
  for (const TcpScript* server : {&announced, &chunked}) {
    const Error error = failure(post(*server), {.body_bytes_max = 16 << 20});
    EXPECT_EQ(error.kind, Error::Kind::protocol);
    EXPECT_EQ(error.code, "too_large");
    EXPECT_NE(error.message.find("16777216"), std::string::npos);
  }
  ::getrusage(RUSAGE_SELF, &after);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10) << "kB more at the peak";
#endif
}

TEST_F(HttpClient, AGzipBombIsRefusedByItsUnpackedSize) {
  // 32 MB of zeros: gzip makes 1,000 to 1 of them.
  const std::string packed = [] {
    std::string out;
    const std::string dir = std::filesystem::temp_directory_path();
    FILE* pipe = ::popen("head -c 33554432 /dev/zero | gzip -9", "r");
    char bytes[4096];
    for (std::size_t n; (n = std::fread(bytes, 1, sizeof bytes, pipe)) > 0;) out.append(bytes, n);
    ::pclose(pipe);
    return out;
  }();
  TcpScript server([&](Peer& peer) {
    peer.request();
    peer.answer(packed, "application/json", "200 OK", "Content-Encoding: gzip\r\n");
  });
  const Error error = failure(post(server), {.body_bytes_max = 1 << 20});
  EXPECT_EQ(error.code, "too_large");
  EXPECT_EQ(make_client({})->send(post(server)).body.size(), 33554432u);
}

TEST_F(HttpClient, HeadersWithoutEndAreRefused) {
  TcpScript server([](Peer& peer) {
    peer.request();
    peer.send("HTTP/1.0 200 OK\r\n");
    for (int i = 0; i < 100'000; ++i)
      if (!peer.send("X-Filler: " + std::string(100, 'x') + "\r\n")) return;
  });
  const Error error = failure(post(server));
  EXPECT_EQ(error.kind, Error::Kind::protocol);
  EXPECT_EQ(error.code, "too_large");
}

TEST_F(HttpClient, StopsWithinMomentsWhenAsked) {
  std::promise<void> waiting;
  TcpScript server([&](Peer& peer) {
    peer.request();
    waiting.set_value();
    peer.hang();
  });
  std::stop_source source;
  std::chrono::steady_clock::time_point asked;
  std::thread stopper([&] {
    waiting.get_future().wait();
    asked = std::chrono::steady_clock::now();
    source.request_stop();
  });
  const Error error = failure(post(server), {}, source.get_token());
  const auto took = std::chrono::steady_clock::now() - asked;
  stopper.join();
  EXPECT_EQ(error.kind, Error::Kind::cancelled);
  EXPECT_EQ(error.code, "sent");
  // Far below the second in which libcurl looks around by itself, and above what a loaded machine takes.
  EXPECT_LT(took, 800ms);
  // Asked before: nothing goes out.
  EXPECT_EQ(failure(post(server), {}, source.get_token()).code, "");
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClient, ManyThreadsShareOneClient) {
  TcpScript server([](Peer& peer) {
    for (std::string request; !(request = peer.request()).empty();) {
      const std::string body = request.substr(request.find("\r\n\r\n") + 4);
      peer.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    }
  });
  const auto client = make_client({});
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const std::string body = std::to_string(t) + ":" + std::to_string(i);
        EXPECT_EQ(client->send(post(server, body)).body, body);
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_LE(server.connections(), 8);
}

// --- TLS -----------------------------------------------------------------------------------------------------------

void serve_tls(Peer& peer, const Certificate& certificate) {
  // OpenSSL writes with write(), and to a client that has gone; the client under test must do without this.
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
  SSL_CTX* context = SSL_CTX_new(TLS_server_method());
  SSL_CTX_use_certificate(context, certificate.x509);
  SSL_CTX_use_PrivateKey(context, certificate.key);
  SSL* ssl = SSL_new(context);
  SSL_set_fd(ssl, peer.fd());
  if (peer.readable() && SSL_accept(ssl) == 1) {
    char bytes[4096];
    std::string request;
    for (int n; (n = SSL_read(ssl, bytes, sizeof bytes)) > 0;) {
      request.append(bytes, std::size_t(n));
      if (request.find('}') == std::string::npos) continue;
      const std::string_view answer = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}";
      SSL_write(ssl, answer.data(), int(answer.size()));
      SSL_shutdown(ssl);
      break;
    }
  }
  SSL_free(ssl);
  SSL_CTX_free(context);
}

TEST_F(HttpClient, ACertificateOfNoKnownIssuerIsRefusedBeforeAnythingIsSent) {
  const Certificate certificate("127.0.0.1");
  TcpScript server([&](Peer& peer) { serve_tls(peer, certificate); });
  auto request = post(server);
  request.target = server.url("https");
  const Error error = failure(request);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "tls");
  EXPECT_NE(error.message.find("CA file"), std::string::npos) << error.message;
}

TEST_F(HttpClient, ACertificateGivenAsCaFileIsTrustedForItsNameOnly) {
  const Certificate certificate("127.0.0.1"), other("127.0.0.2");
  TcpScript server([&](Peer& peer) { serve_tls(peer, certificate); });
  TcpScript wrong([&](Peer& peer) { serve_tls(peer, other); });
  const std::string file = certificate.save(), other_file = other.save();
  auto request = post(server);
  request.target = server.url("https");
  EXPECT_EQ(make_client({.ca_file = file})->send(request).body, "{}");
  request.target = wrong.url("https");
  EXPECT_EQ(failure(request, {.ca_file = other_file}).code, "tls");
  std::filesystem::remove(file);
  std::filesystem::remove(other_file);
}

TEST_F(HttpClient, TlsWhereThereIsNoneAndACaFileThatIsNotThereAreTold) {
  TcpScript plain([](Peer& peer) {
    peer.readable();
    peer.send("HTTP/1.0 400 Bad Request\r\n\r\n");
  });
  auto request = post(plain);
  request.target = plain.url("https");
  const Error error = failure(request);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "tls");
  const Error missing = failure(request, {.ca_file = "/nonexistent/ca.pem"});
  EXPECT_EQ(missing.kind, Error::Kind::invalid);
  EXPECT_EQ(missing.code, "ca_file");
}

TEST_F(HttpClient, GoesThroughTheProxyOfTheEnvironment) {
  std::promise<std::string> seen;
  TcpScript proxy([&](Peer& peer) {
    seen.set_value(peer.request());
    peer.answer("{\"by\":\"proxy\"}");
  });
  ::setenv("http_proxy", proxy.url().c_str(), 1);
  Request request;
  request.target = "http://odoo.invalid/web/version";
  const std::string body = make_client({})->send(request).body;
  ::unsetenv("http_proxy");
  EXPECT_EQ(body, "{\"by\":\"proxy\"}");
  EXPECT_EQ(seen.get_future().get().substr(0, 36), "GET http://odoo.invalid/web/version ");
}

}  // namespace
}  // namespace dragoman::http
