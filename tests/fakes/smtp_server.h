#pragma once

#include <signal.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "fakes/certificate.h"
#include "fakes/tcp_script.h"

namespace dragoman::tests {

/// How an SmtpServer behaves. Replies are whole lines without their end.
struct SmtpRules {
  enum class Tls { none, starttls, from_the_start } tls = Tls::starttls;
  std::string greeting = "220 mail.example.com ready";
  std::string starttls_reply = "220 go ahead";
  std::string user = "hub", password = "open sesame";  ///< what AUTH PLAIN takes; empty: AUTH is not offered
  std::string auth_refusal = "535 5.7.8 Authentication credentials invalid";
  std::map<std::string, std::string> recipients;  ///< address → reply, where it is not 250
  std::string mail_reply = "250 sender ok";
  std::deque<std::string> data_replies;  ///< to one mail after the other; then 250
  bool silent = false;                   ///< says nothing at all
  bool cut_after_mail = false;           ///< takes the mail and goes away without an answer
};

struct SmtpMail {
  std::string from;
  std::vector<std::string> to;
  std::string text;
  bool tls = false, authenticated = false;
};

/// A mail server on 127.0.0.1 that keeps what it is sent and misbehaves as its rules say.
///
/// Threads: safe from any thread.
class SmtpServer {
 public:
  explicit SmtpServer(SmtpRules rules = {}) : rules_(std::move(rules)), script_([this](Peer& peer) { serve(peer); }) {}

  std::uint16_t port() const { return script_.port(); }
  int connections() const { return script_.connections(); }
  const Certificate& certificate() const { return certificate_; }
  std::vector<SmtpMail> mails() {
    std::lock_guard lock(mutex_);
    return mails_;
  }
  /// Every command as it came, AUTH and what follows it without its secrets.
  std::vector<std::string> commands() {
    std::lock_guard lock(mutex_);
    return commands_;
  }

 private:
  // A line-wise connection that may turn to TLS.
  class Line {
   public:
    explicit Line(Peer& peer) : peer_(peer) {}
    ~Line() {
      if (ssl_) SSL_free(ssl_);
      if (context_) SSL_CTX_free(context_);
    }
    bool secure(const Certificate& certificate) {
      context_ = SSL_CTX_new(TLS_server_method());
      SSL_CTX_use_certificate(context_, certificate.x509);
      SSL_CTX_use_PrivateKey(context_, certificate.key);
      ssl_ = SSL_new(context_);
      SSL_set_fd(ssl_, peer_.fd());
      buffer_.clear();  // what came in the clear before is not to be believed
      return peer_.readable() && SSL_accept(ssl_) == 1;
    }
    bool is_secure() const { return ssl_ != nullptr; }
    bool read(std::string& line) {
      while (true) {
        if (const auto end = buffer_.find("\r\n"); end != std::string::npos) {
          line = buffer_.substr(0, end);
          buffer_.erase(0, end + 2);
          return true;
        }
        char bytes[4096];
        if (!(ssl_ && SSL_pending(ssl_) > 0) && !peer_.readable()) return false;
        const long got = ssl_ ? SSL_read(ssl_, bytes, sizeof bytes) : ::recv(peer_.fd(), bytes, sizeof bytes, 0);
        if (got <= 0) return false;
        buffer_.append(bytes, std::size_t(got));
      }
    }
    bool write(const std::string& line) {
      const std::string text = line + "\r\n";
      if (ssl_) return SSL_write(ssl_, text.data(), int(text.size())) > 0;
      return peer_.send(text);
    }

   private:
    Peer& peer_;
    SSL_CTX* context_ = nullptr;
    SSL* ssl_ = nullptr;
    std::string buffer_;
  };

  void note(std::string command) {
    std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }

  void serve(Peer& peer) {
    // OpenSSL writes with write(), and to a client that has gone.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    if (rules_.silent) return peer.hang();
    Line line(peer);
    if (rules_.tls == SmtpRules::Tls::from_the_start && !line.secure(certificate_)) return;
    if (!line.write(rules_.greeting) || rules_.greeting.front() != '2') return;
    SmtpMail mail;
    std::string said;
    while (line.read(said)) {
      const bool auth = said.starts_with("AUTH");
      note(auth ? said.substr(0, 10) : said);
      if (said.starts_with("EHLO")) {
        std::vector<std::string> offers{"mail.example.com"};
        if (rules_.tls == SmtpRules::Tls::starttls && !line.is_secure()) offers.push_back("STARTTLS");
        if (!rules_.user.empty()) offers.push_back("AUTH PLAIN LOGIN");
        for (std::size_t i = 0; i < offers.size(); ++i)
          line.write((i + 1 < offers.size() ? "250-" : "250 ") + offers[i]);
      } else if (said == "STARTTLS") {
        line.write(rules_.starttls_reply);
        if (rules_.starttls_reply.front() != '2') continue;
        if (!line.secure(certificate_)) return;
      } else if (auth) {
        if (said == "AUTH PLAIN") {
          line.write("334 ");
          if (!line.read(said)) return;
        } else {
          said = said.substr(std::min<std::size_t>(said.size(), 11));
        }
        mail.authenticated =
            said == base64(std::string(1, '\0') + rules_.user + std::string(1, '\0') + rules_.password);
        line.write(mail.authenticated ? "235 welcome" : rules_.auth_refusal);
      } else if (said.starts_with("MAIL FROM:")) {
        mail.from = address(said);
        line.write(rules_.mail_reply);
      } else if (said.starts_with("RCPT TO:")) {
        const auto refusal = rules_.recipients.find(address(said));
        if (refusal == rules_.recipients.end()) mail.to.push_back(address(said));
        line.write(refusal == rules_.recipients.end() ? "250 recipient ok" : refusal->second);
      } else if (said == "DATA") {
        line.write("354 go on");
        while (line.read(said) && said != ".") mail.text += (said.starts_with("..") ? said.substr(1) : said) + "\r\n";
        std::string reply = "250 queued as 4711";
        {
          std::lock_guard lock(mutex_);
          if (!rules_.data_replies.empty()) {
            reply = rules_.data_replies.front();
            rules_.data_replies.pop_front();
          }
          mail.tls = line.is_secure();
          if (reply.front() == '2') mails_.push_back(mail);
        }
        if (rules_.cut_after_mail) return;
        line.write(reply);
        mail.to.clear();
        mail.text.clear();
      } else if (said == "QUIT") {
        line.write("221 bye");
        return;
      } else {
        line.write("502 what?");
      }
    }
  }

  static std::string address(const std::string& command) {
    const auto open = command.find('<');
    return command.substr(open + 1, command.find('>') - open - 1);
  }
  static std::string base64(const std::string& bytes) {
    std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    out.resize(std::size_t(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                           reinterpret_cast<const unsigned char*>(bytes.data()), int(bytes.size()))));
    return out;
  }

  SmtpRules rules_;
  const Certificate certificate_{"127.0.0.1"};
  std::mutex mutex_;
  std::vector<SmtpMail> mails_;
  std::vector<std::string> commands_;
  TcpScript script_;  // last: its threads use all of the above
};

}  // namespace dragoman::tests
