#include "notify/email.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <thread>

#include "base/error.h"
#include "fakes/smtp_server.h"

namespace dragoman::notify {
namespace {

using namespace std::chrono_literals;
using tests::SmtpRules;
using tests::SmtpServer;

Message sample() {
  Message message;
  message.uid = "msg_0123456789";
  message.kind = "first";
  message.alert = {.fingerprint = "connection:main:auth",
                   .severity = Severity::critical,
                   .title = "The connection main stopped",
                   .text = "Its password is refused.\n.\nGrüße",
                   .subject = "main",
                   .link = "dragoman connection test main"};
  message.at = from_us(1'790'000'000'000'000);
  message.hub = "hub1";
  return message;
}

std::string decoded(const std::string& mail) {
  std::string text = mail.substr(mail.find("\r\n\r\n") + 4);
  std::erase_if(text, [](char c) { return c == '\r' || c == '\n'; });
  std::string out(text.size(), '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), int(text.size()));
  EXPECT_GE(size, 0);
  out.resize(std::size_t(std::max(size, 0)));
  while (!out.empty() && out.back() == '\0') out.pop_back();
  return out;
}

class EmailTest : public testing::Test {
 protected:
  ~EmailTest() override {
    for (const auto& path : files_) std::remove(path.c_str());
  }

  Settings settings_for(SmtpServer& server, EmailSettings::Security security = EmailSettings::Security::starttls) {
    Settings settings;
    settings.email = {.host = "127.0.0.1",
                      .port = server.port(),
                      .security = security,
                      .user = security == EmailSettings::Security::none ? "" : "hub",
                      .password = Secret(security == EmailSettings::Security::none ? "" : "open sesame"),
                      .from = "Dragoman <hub@example.com>",
                      .to = {"ann@example.com", "bob@example.com"}};
    settings.ca_file = server.certificate().save();
    files_.push_back(settings.ca_file);
    check(settings);
    return settings;
  }
  static std::string send(const Settings& settings, std::stop_token stop = {}) {
    return make_email(settings)->send(sample(), sample().at, stop);
  }
  static Error failure(const Settings& settings, std::stop_token stop = {}) {
    try {
      const auto said = send(settings, stop);
      ADD_FAILURE() << "sent: " << said;
    } catch (const Error& error) {
      // A person reads the message; the password is in neither.
      EXPECT_EQ((error.message + error.detail).find("sesame"), std::string::npos) << error.message;
      return error;
    }
    return Error(Error::Kind::bug, "");
  }

 private:
  std::vector<std::string> files_;
};

TEST_F(EmailTest, SendsOneMailToAllByStartTlsAfterLoggingIn) {
  SmtpServer server;
  const auto said = send(settings_for(server));
  EXPECT_NE(said.find("250 queued as 4711"), std::string::npos) << said;
  ASSERT_EQ(server.mails().size(), 1u);
  const auto mail = server.mails().front();
  EXPECT_TRUE(mail.tls);
  EXPECT_TRUE(mail.authenticated);
  EXPECT_EQ(mail.from, "hub@example.com");
  EXPECT_EQ(mail.to, (std::vector<std::string>{"ann@example.com", "bob@example.com"}));
  EXPECT_NE(mail.text.find("Subject: [Dragoman] critical: The connection main stopped\r\n"), std::string::npos);
  EXPECT_NE(mail.text.find("Message-ID: <msg_0123456789@example.com>\r\n"), std::string::npos);
  EXPECT_NE(mail.text.find("Date: Mon, 21 Sep 2026 "), std::string::npos) << mail.text;
  EXPECT_NE(mail.text.find("Auto-Submitted: auto-generated\r\n"), std::string::npos);
  const std::string body = decoded(mail.text);
  EXPECT_NE(body.find("Its password is refused.\r\n.\r\nGrüße\r\n"), std::string::npos) << body;
  EXPECT_NE(body.find("dragoman notification mute 'connection:main:auth'"), std::string::npos) << body;
}

TEST_F(EmailTest, SendsByTlsFromTheStart) {
  SmtpServer server({.tls = SmtpRules::Tls::from_the_start});
  send(settings_for(server, EmailSettings::Security::tls));
  ASSERT_EQ(server.mails().size(), 1u);
  EXPECT_TRUE(server.mails().front().tls);
}

TEST_F(EmailTest, SendsInTheClearOnlyWhereThatIsAskedFor) {
  SmtpServer server({.tls = SmtpRules::Tls::none, .user = ""});
  send(settings_for(server, EmailSettings::Security::none));
  EXPECT_EQ(server.mails().size(), 1u);
  auto error = failure(settings_for(server));
  EXPECT_EQ(error.code, "starttls");
  EXPECT_NE(error.message.find("offers no STARTTLS"), std::string::npos) << error.message;
  EXPECT_EQ(server.mails().size(), 1u);
}

TEST_F(EmailTest, NothingListeningIsSaidSo) {
  Settings settings;
  {
    SmtpServer gone;
    settings = settings_for(gone);
  }
  const auto error = failure(settings);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "connect");
  EXPECT_NE(error.message.find("Connection refused"), std::string::npos) << error.message;
}

TEST_F(EmailTest, ANameThatThereIsNotIsSaidSo) {
  SmtpServer server;
  auto settings = settings_for(server);
  settings.email.host = "no-such-host.invalid";
  EXPECT_EQ(failure(settings).code, "dns");
}

TEST_F(EmailTest, ARefusedStartTlsSendsNothing) {
  SmtpServer server({.starttls_reply = "454 TLS not available due to temporary reason"});
  const auto error = failure(settings_for(server));
  EXPECT_EQ(error.code, "starttls");
  EXPECT_NE(error.message.find("454 TLS not available"), std::string::npos) << error.message;
  for (const auto& command : server.commands()) EXPECT_EQ(command.find("AUTH"), std::string::npos) << command;
}

TEST_F(EmailTest, ACertificateOfNoKnownIssuerIsRefusedBeforeThePasswordIsOut) {
  SmtpServer server;
  auto settings = settings_for(server);
  settings.ca_file.clear();
  const auto error = failure(settings);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "tls");
  EXPECT_NE(error.message.find("notify.ca_file"), std::string::npos) << error.message;
  for (const auto& command : server.commands()) EXPECT_EQ(command.find("AUTH"), std::string::npos) << command;
}

TEST_F(EmailTest, ACertificateForAnotherNameIsRefused) {
  SmtpServer server;
  auto settings = settings_for(server);
  settings.email.host = "localhost";
  EXPECT_EQ(failure(settings).code, "tls");
}

TEST_F(EmailTest, AServerThatSpeaksNoTlsIsSaidSo) {
  SmtpServer server({.tls = SmtpRules::Tls::none});
  EXPECT_EQ(failure(settings_for(server, EmailSettings::Security::tls)).code, "tls");
}

TEST_F(EmailTest, AWrongPasswordIsToldInTheServersWords) {
  SmtpServer server({.password = "another"});
  const auto error = failure(settings_for(server));
  EXPECT_EQ(error.kind, Error::Kind::auth);
  EXPECT_EQ(error.code, "auth");
  EXPECT_NE(error.message.find("535 5.7.8 Authentication credentials invalid"), std::string::npos) << error.message;
}

TEST_F(EmailTest, ARefusalForNowIsTriedAgainAndOneForGoodIsNot) {
  SmtpServer server({.data_replies = {"451 4.3.0 try again later", "554 5.7.1 spam"}});
  const auto settings = settings_for(server);
  auto error = failure(settings);
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_NE(error.message.find("451 4.3.0 try again later"), std::string::npos) << error.message;
  error = failure(settings);
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_NE(error.message.find("554 5.7.1 spam"), std::string::npos) << error.message;
  send(settings);
  EXPECT_EQ(server.mails().size(), 1u);
}

TEST_F(EmailTest, ARefusedSenderIsToldWithItsStep) {
  SmtpServer server({.mail_reply = "550 5.1.0 sender rejected"});
  const auto error = failure(settings_for(server));
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_NE(error.message.find("MAIL FROM:<hub@example.com>: 550 5.1.0"), std::string::npos) << error.message;
}

TEST_F(EmailTest, OneWrongAddressKeepsTheMailFromNobodyElse) {
  SmtpServer server({.recipients = {{"ann@example.com", "550 no such user"}}});
  const auto said = send(settings_for(server));
  EXPECT_NE(said.find("refused: ann@example.com (550 no such user)"), std::string::npos) << said;
  ASSERT_EQ(server.mails().size(), 1u);
  EXPECT_EQ(server.mails().front().to, (std::vector<std::string>{"bob@example.com"}));

  SmtpServer nobody({.recipients = {{"ann@example.com", "550 no such user"}, {"bob@example.com", "550 nor he"}}});
  EXPECT_EQ(failure(settings_for(nobody)).kind, Error::Kind::invalid);
}

TEST_F(EmailTest, AServerThatIsBusyAtTheDoorIsTriedAgain) {
  SmtpServer server({.greeting = "421 too many connections"});
  const auto error = failure(settings_for(server));
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_NE(error.message.find("421 too many connections"), std::string::npos) << error.message;
}

TEST_F(EmailTest, AnAnswerThatNeverCameLeavesItInDoubt) {
  SmtpServer server({.cut_after_mail = true});
  EXPECT_EQ(failure(settings_for(server)).kind, Error::Kind::in_doubt);
}

TEST_F(EmailTest, AServerThatSaysNothingEndsWithThePatienceOrAStop) {
  SmtpServer server({.silent = true});
  auto settings = settings_for(server);
  settings.patience = 1s;
  auto error = failure(settings);
  EXPECT_EQ(error.code, "timeout");
  EXPECT_NE(error.message.find("greeting"), std::string::npos) << error.message;
  settings.patience = 60s;
  std::stop_source stop;
  std::jthread stopper([&] {
    while (server.connections() < 2) std::this_thread::yield();
    stop.request_stop();
  });
  EXPECT_EQ(failure(settings, stop.get_token()).kind, Error::Kind::cancelled);
}

TEST(Compose, NoTextBreaksOutOfAHeader) {
  EmailSettings settings;
  settings.from = "hub@example.com";
  settings.to = {"ann@example.com"};
  auto message = sample();
  message.alert.title = "Größe\r\nBcc: evil@example.com " + std::string(200, 'x');
  const std::string mail = compose(message, settings);
  message.to = {"other@example.com"};
  EXPECT_NE(compose(message, settings).find("To: other@example.com\r\n"), std::string::npos);
  const std::string head = mail.substr(0, mail.find("\r\n\r\n"));
  EXPECT_EQ(head.find("\r\nBcc:"), std::string::npos) << head;
  EXPECT_NE(head.find("Subject: =?UTF-8?B?"), std::string::npos) << head;
  for (std::size_t at = 0; at < mail.size();) {
    const auto end = mail.find("\r\n", at);
    ASSERT_NE(end, std::string::npos);
    EXPECT_LE(end - at, 78u);
    for (std::size_t i = at; i < end; ++i) EXPECT_LT(static_cast<unsigned char>(mail[i]), 0x80);
    at = end + 2;
  }
}

TEST(NotifySettings, WhatCanNotBeRightIsRefusedBeforeItIsUsed) {
  const auto refusal = [](const std::function<void(Settings&)>& change) {
    Settings settings;
    settings.email = {
        .host = "mail.example.com", .user = "u", .password = Secret("p"), .from = "a@b.example", .to = {"c@d.example"}};
    settings.webhook = {.url = "https://x.example/hook", .secret = Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")};
    change(settings);
    try {
      check(settings);
    } catch (const Error& error) {
      EXPECT_EQ(error.code, "config");
      return error.message;
    }
    return std::string("(accepted)");
  };
  EXPECT_EQ(refusal([](Settings&) {}), "(accepted)");
  const auto names = [&](const char* setting, const std::function<void(Settings&)>& change) {
    const auto message = refusal(change);
    EXPECT_NE(message.find(setting), std::string::npos) << message;
  };
  names("email_host", [](Settings& s) { s.email.host = "smtp://mail"; });
  names("email_from", [](Settings& s) { s.email.from = ""; });
  names("email_from", [](Settings& s) { s.email.from = "a@b.example\r\nBcc: x@y"; });
  names("email_to", [](Settings& s) { s.email.to = {}; });
  names("email_to", [](Settings& s) { s.email.to = {"c@d.example", "nobody"}; });
  names("email_user", [](Settings& s) { s.email.security = EmailSettings::Security::none; });
  names("email_password", [](Settings& s) { s.email.password = Secret(); });
  names("webhook_url", [](Settings& s) { s.webhook.url = "ftp://x"; });
  names("webhook_secret", [](Settings& s) { s.webhook.secret = Secret(); });
  names("webhook_secret", [](Settings& s) { s.webhook.secret = Secret("whsec_short"); });
  names("webhook_secret", [](Settings& s) { s.webhook.secret = Secret("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"); });
}

}  // namespace
}  // namespace dragoman::notify
