#include "notify/webhook.h"

#include <gtest/gtest.h>

#include <future>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "fakes/tcp_script.h"

namespace dragoman::notify {
namespace {

using nlohmann::json;
using tests::Peer;
using tests::TcpScript;

Message sample() {
  Message message;
  message.uid = "msg_p5jXN8AQM9LWM0D4loKWxJek";
  message.kind = "digest";
  message.alert = {.fingerprint = "a", .severity = Severity::warning, .title = "t \"q\"", .text = "x\ny", .count = 7};
  message.at = from_us(1'790'000'000'000'000);
  message.hub = "hub1";
  return message;
}

Settings settings_for(const TcpScript& server) {
  ::setenv("no_proxy", "127.0.0.1", 1);
  Settings settings;
  settings.webhook = {.url = server.url() + "/hook?key=hidden",
                      .secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")};
  return settings;
}

Error failure(const TcpScript& server) {
  try {
    make_webhook(settings_for(server))->send(sample(), sample().at, {});
  } catch (const Error& error) {
    EXPECT_EQ(error.message.find("hidden"), std::string::npos) << error.message;
    return error;
  }
  ADD_FAILURE() << "sent";
  return Error(Error::Kind::bug, "");
}

TEST(WebhookSignature, IsThatOfTheSpecificationsOwnExample) {
  // Of the specification's reference libraries, which all test with it.
  const auto keys = webhook_keys(Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
  EXPECT_EQ(webhook_signature(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, "{\"test\": 2432232314}"),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(WebhookSignature, EachKeyMakesOneWhileOneReplacesAnother) {
  const auto keys =
      webhook_keys(Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
  ASSERT_EQ(keys.size(), 2u);
  const auto both = webhook_signature(keys, "m", 1, "b");
  EXPECT_EQ(both, webhook_signature({keys[0]}, "m", 1, "b") + " " + webhook_signature({keys[1]}, "m", 1, "b"));
}

TEST(Webhook, PostsSignedJson) {
  std::promise<std::string> seen;
  TcpScript server([&](Peer& peer) {
    seen.set_value(peer.request());
    peer.answer("", "text/plain", "204 No Content");
  });
  const auto channel = make_webhook(settings_for(server));
  EXPECT_EQ(channel->target(), server.url());
  channel->send(sample(), sample().at, {});
  const std::string request = seen.get_future().get();
  EXPECT_EQ(request.substr(0, 31), "POST /hook?key=hidden HTTP/1.1\r");
  EXPECT_NE(request.find("webhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n"), std::string::npos) << request;
  EXPECT_NE(request.find("webhook-timestamp: 1790000000\r\n"), std::string::npos);
  EXPECT_NE(request.find("webhook-signature: v1,"), std::string::npos);
  const auto body = json::parse(request.substr(request.find("\r\n\r\n") + 4));
  EXPECT_EQ(body.at("type"), "alert.digest");
  EXPECT_EQ(body.at("data").at("count"), 7);
  EXPECT_EQ(body.at("data").at("title"), "t \"q\"");
  EXPECT_EQ(body.at("data").at("text"), "x\ny");
}

TEST(Webhook, WhatTheReceiverRefusesIsToldInItsWords) {
  TcpScript broken([](Peer& peer) {
    peer.request();
    peer.answer("database is down", "text/plain", "500 Internal Server Error");
  });
  auto error = failure(broken);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_NE(error.message.find("answered 500: database is down"), std::string::npos) << error.message;
  TcpScript gone([](Peer& peer) {
    peer.request();
    peer.answer("", "text/plain", "410 Gone");
  });
  EXPECT_EQ(failure(gone).kind, Error::Kind::not_found);
  TcpScript busy([](Peer& peer) {
    peer.request();
    peer.answer("", "text/plain", "429 Too Many Requests", "Retry-After: 77\r\n");
  });
  error = failure(busy);
  EXPECT_EQ(error.kind, Error::Kind::busy);
  EXPECT_EQ(error.retry_after, std::chrono::seconds(77));
}

}  // namespace
}  // namespace dragoman::notify
