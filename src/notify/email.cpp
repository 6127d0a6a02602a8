#include "notify/email.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/error.h"
#include "notify/text.h"

namespace dragoman::notify {
namespace {

constexpr std::size_t kReplyBytesMax = 300;

std::string base64(std::string_view bytes) {
  std::string out(sodium_base64_encoded_len(bytes.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                    sodium_base64_VARIANT_ORIGINAL);
  out.pop_back();  // its NUL
  return out;
}

// A header's text: as it is while it is ASCII, else in encoded words of whole characters (RFC 2047).
std::string header_text(std::string_view text) {
  const bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (ascii && text.size() <= 900 && text.find("=?") == std::string_view::npos) return std::string(text);
  std::string out;
  while (!text.empty()) {
    std::size_t length = std::min<std::size_t>(text.size(), 42);  // 42 bytes make a word of at most 75 characters
    while (length < text.size() && (static_cast<unsigned char>(text[length]) & 0xc0) == 0x80) --length;
    out += (out.empty() ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?") + base64(text.substr(0, length)) + "?=";
    text.remove_prefix(length);
  }
  return out;
}

// `Sun, 20 Nov 2026 10:05:48 +0000`
std::string date_text(Time at) {
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const auto seconds = std::chrono::floor<std::chrono::seconds>(at - day).count();
  return fmt::format("{}, {} {} {} {:02}:{:02}:{:02} +0000", kDays[std::chrono::weekday(day).c_encoding()],
                     unsigned(date.day()), kMonths[unsigned(date.month()) - 1], int(date.year()), seconds / 3600,
                     seconds / 60 % 60, seconds % 60);
}

// `hub@example.com` of `Dragoman <hub@example.com>`.
std::string address_of(const std::string& text) {
  const auto open = text.find('<'), close = text.find('>');
  return open == std::string::npos || close == std::string::npos || close < open
             ? text
             : text.substr(open + 1, close - open - 1);
}

std::string body_text(const Message& message) {
  const Alert& alert = message.alert;
  std::string out = alert.title + "\n";
  if (!alert.text.empty()) out += "\n" + alert.text + "\n";
  out += "\n";
  const auto line = [&](std::string_view label, std::string_view value) {
    if (!value.empty()) out += fmt::format("{}: {}\n", label, value);
  };
  line("Severity", name(alert.severity));
  line("About", alert.subject);
  line("Where to look", alert.link);
  line("Told", format_iso(message.at));
  line("Hub", message.hub);
  if (!alert.fingerprint.empty())
    out += fmt::format("\nTo hear no more of it for a day: dragoman notification mute '{}'\n", alert.fingerprint);
  return out;
}

struct CurlFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// What was said on the line, as far as a person may see it: passwords stay out.
struct Talk {
  std::string step = "greeting";     // the last command
  std::string reply;                 // the last line of its answer
  bool over = false;                 // we said goodbye
  bool mail_out = false;             // the whole mail was handed over
  std::vector<std::string> refused;  // `ann@example.com (550 no such user)`

  const std::string* mail = nullptr;
  std::size_t mail_at = 0;
  std::stop_token stop;
};

void note_command(Talk& talk, std::string_view line) {
  line = line.substr(0, line.find_first_of("\r\n"));
  static constexpr std::string_view kShown[] = {"EHLO", "HELO", "STARTTLS", "DATA", "QUIT", "RSET"};
  std::string step;
  if (line.starts_with("MAIL FROM:") || line.starts_with("RCPT TO:")) {
    step =
        plain(line.substr(0, line.find('>') == std::string_view::npos ? line.size() : line.find('>') + 1), true, 200);
  } else {
    step = "AUTH";  // and what follows it, which holds the password
    for (const auto verb : kShown)
      if (line.starts_with(verb)) step = verb;
  }
  if (step == "QUIT") {
    talk.over = true;  // what comes now says nothing about the mail
    return;
  }
  talk.step = std::move(step);
  talk.reply.clear();
}

void note_reply(Talk& talk, std::string_view line) {
  line = line.substr(0, line.find_first_of("\r\n"));
  if (line.empty() || talk.over) return;
  talk.reply = plain(line, true, kReplyBytesMax);
  if (talk.step.starts_with("RCPT TO:") && line.front() != '2' && line.size() > 3 && line[3] != '-') {
    auto who = talk.step.substr(8);
    std::erase_if(who, [](char c) { return c == '<' || c == '>'; });
    talk.refused.push_back(fmt::format("{} ({})", who, talk.reply));
  }
}

int on_debug(CURL*, curl_infotype type, char* data, std::size_t size, void* user) {
  auto& talk = *static_cast<Talk*>(user);
  if (type == CURLINFO_HEADER_OUT) note_command(talk, {data, size});
  if (type == CURLINFO_HEADER_IN) note_reply(talk, {data, size});
  return 0;
}

std::size_t on_read(char* out, std::size_t size, std::size_t count, void* user) {
  auto& talk = *static_cast<Talk*>(user);
  const std::size_t n = std::min(size * count, talk.mail->size() - talk.mail_at);
  std::memcpy(out, talk.mail->data() + talk.mail_at, n);
  talk.mail_at += n;
  if (talk.mail_at == talk.mail->size()) {
    talk.mail_out = true;
    talk.step = "the mail";
    talk.reply.clear();
  }
  return n;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Talk*>(user)->stop.stop_requested() ? 1 : 0;
}

class Email final : public Channel {
 public:
  explicit Email(const Settings& settings) : settings_(settings) {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
    server_ = fmt::format("{}:{}", settings_.email.host, settings_.email.port);
  }

  std::string name() const override { return "email"; }
  std::string target() const override {
    const auto& to = settings_.email.to;
    return fmt::format("{} by {}",
                       to.size() == 1 ? to.front() : fmt::format("{} and {} more", to.front(), to.size() - 1), server_);
  }
  std::string send(const Message& message, Time, std::stop_token stop) override;

 private:
  Error failure(CURLcode code, const Talk& talk, const std::string& text, long os_error) const;

  const Settings settings_;
  std::string server_;
};

Error coded(Error::Kind kind, std::string code, std::string message, std::string detail) {
  Error error(kind, std::move(message), std::move(detail));
  error.code = std::move(code);
  return error;
}

Error Email::failure(CURLcode code, const Talk& talk, const std::string& text, long os_error) const {
  using Kind = Error::Kind;
  const std::string detail = fmt::format("libcurl {}: {}", int(code), text);
  const std::string said = talk.reply.empty() ? std::string() : fmt::format(": {}", talk.reply);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
      return coded(Kind::unavailable, "dns",
                   fmt::format("The name of the mail server {} can't be resolved: check the spelling and the name "
                               "server.",
                               settings_.email.host),
                   detail);
    case CURLE_COULDNT_CONNECT:
      return coded(
          Kind::unavailable, "connect",
          fmt::format("No connection to the mail server {}{}: check that it runs there and that no firewall is "
                      "in between.",
                      server_, os_error > 0 ? fmt::format(" ({})", std::strerror(int(os_error))) : ""),
          detail);
    case CURLE_OPERATION_TIMEDOUT:
      return coded(Kind::unavailable, "timeout",
                   fmt::format("The mail server {} did not answer within {} s; the last step was {}.", server_,
                               settings_.patience.count(), talk.step),
                   detail);
    case CURLE_USE_SSL_FAILED:
      return coded(
          Kind::unavailable, "starttls",
          talk.step == "STARTTLS"
              ? fmt::format("The mail server {} refused STARTTLS{}.", server_, said)
              : fmt::format("The mail server {} offers no STARTTLS: if it speaks TLS from the start (port 465), "
                            "set `notify.email_security` to tls.",
                            server_),
          detail);
    case CURLE_PEER_FAILED_VERIFICATION:
      return coded(Kind::unavailable, "tls",
                   fmt::format("The certificate of the mail server {} is not trusted ({}): if it is your own, name its "
                               "issuer's certificate in `notify.ca_file`.",
                               server_, text),
                   detail);
    case CURLE_SSL_CACERT_BADFILE:
      return coded(Kind::invalid, "ca_file",
                   fmt::format("The certificate file {} (`notify.ca_file`) can't be read or holds no certificate.",
                               settings_.ca_file),
                   detail);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
      return coded(Kind::unavailable, "tls",
                   fmt::format("TLS with the mail server {} failed ({}): check that this port speaks TLS as "
                               "`notify.email_security` says.",
                               server_, text),
                   detail);
    case CURLE_LOGIN_DENIED:
      return coded(Kind::auth, "auth",
                   talk.step == "AUTH"
                       ? fmt::format("The mail server {} refused user or password{}.", server_, said)
                       : fmt::format("The mail server {} offers no way to log in that is known here.", server_),
                   detail);
    case CURLE_ABORTED_BY_CALLBACK:
      return Error(Kind::cancelled, "Sending the mail was stopped.", detail);
    default:
      break;
  }
  if (talk.reply.size() >= 3 && talk.reply[0] == '5')
    return coded(Kind::invalid, "smtp_5xx",
                 fmt::format("The mail server {} refused at {}: {}", server_, talk.step, talk.reply), detail);
  if (talk.reply.size() >= 3 && talk.reply[0] == '4')
    return coded(Kind::unavailable, "smtp_4xx",
                 fmt::format("The mail server {} does not take it now, at {}: {}", server_, talk.step, talk.reply),
                 detail);
  if (code == CURLE_WEIRD_SERVER_REPLY || code == CURLE_FTP_WEIRD_SERVER_REPLY)
    return coded(Kind::protocol, "not_smtp",
                 fmt::format("What answers at {} is no mail server{}: check host, port and `notify.email_security`.",
                             server_, said),
                 detail);
  return coded(talk.mail_out ? Kind::in_doubt : Kind::unavailable, "cut",
               fmt::format("The mail server {} broke off; the last step was {}{}.", server_, talk.step, said), detail);
}

std::string Email::send(const Message& message, Time, std::stop_token stop) {
  const EmailSettings& email = settings_.email;
  const std::string mail = compose(message, email);
  Talk talk;
  talk.mail = &mail;
  talk.stop = stop;
  const std::unique_ptr<CURL, CurlFree> handle(curl_easy_init());
  if (!handle) throw Error(Error::Kind::unavailable, "out of memory for a mail");
  CURL* easy = handle.get();
  char error_text[CURL_ERROR_SIZE] = {};
  const bool tls = email.security == EmailSettings::Security::tls;
  const std::string host = email.host.find(':') == std::string::npos ? email.host : "[" + email.host + "]";
  curl_easy_setopt(easy, CURLOPT_URL, fmt::format("{}://{}:{}", tls ? "smtps" : "smtp", host, email.port).c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // those of the environment are for HTTP
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
  // The greeting counts to it, which some servers hold back for half a minute.
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, long(settings_.patience.count() * 1000));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, long(settings_.patience.count() * 1000));
  if (email.security == EmailSettings::Security::starttls)
    curl_easy_setopt(easy, CURLOPT_USE_SSL, long(CURLUSESSL_ALL));
  if (!settings_.ca_file.empty()) {
    // The file takes the place of the default bundle; the default folder of single certificates stays.
    curl_easy_setopt(easy, CURLOPT_CAINFO, settings_.ca_file.c_str());
    curl_easy_setopt(easy, CURLOPT_CAPATH, "/etc/ssl/certs");
  }
  if (!email.user.empty()) {
    curl_easy_setopt(easy, CURLOPT_USERNAME, email.user.c_str());
    curl_easy_setopt(easy, CURLOPT_PASSWORD, email.password.reveal().c_str());
  }
  curl_easy_setopt(easy, CURLOPT_MAIL_FROM, ("<" + address_of(email.from) + ">").c_str());
  curl_slist* raw = nullptr;
  for (const auto& one : message.to.empty() ? email.to : message.to)
    if (curl_slist* longer = curl_slist_append(raw, ("<" + address_of(one) + ">").c_str())) raw = longer;
  const std::unique_ptr<curl_slist, CurlFree> recipients(raw);
  curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, recipients.get());
  // One mistyped address must not keep the message from everybody else.
#if LIBCURL_VERSION_NUM >= 0x080200
  curl_easy_setopt(easy, CURLOPT_MAIL_RCPT_ALLOWFAILS, 1L);
#else
  curl_easy_setopt(easy, CURLOPT_MAIL_RCPT_ALLLOWFAILS, 1L);
#endif
  curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
  curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
  curl_easy_setopt(easy, CURLOPT_READDATA, &talk);
  curl_easy_setopt(easy, CURLOPT_VERBOSE, 1L);  // for the callback; nothing is printed
  curl_easy_setopt(easy, CURLOPT_DEBUGFUNCTION, on_debug);
  curl_easy_setopt(easy, CURLOPT_DEBUGDATA, &talk);
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &talk);

  const CURLcode code = curl_easy_perform(easy);
  long os_error = 0;
  curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &os_error);
  if (code != CURLE_OK) throw failure(code, talk, error_text[0] ? error_text : curl_easy_strerror(code), os_error);
  std::string result = "accepted by " + server_ + (talk.reply.empty() ? "" : ": " + talk.reply);
  if (!talk.refused.empty()) {
    result += "; refused:";
    for (const auto& one : talk.refused) result += " " + one;
  }
  return result;
}

}  // namespace

std::string compose(const Message& message, const EmailSettings& settings) {
  const std::string from = address_of(settings.from);
  const auto at = from.rfind('@');
  const std::string domain = at == std::string::npos ? "dragoman" : from.substr(at + 1);
  std::string recipients;
  for (const auto& one : message.to.empty() ? settings.to : message.to) recipients += (recipients.empty() ? "" : ",\r\n ") + one;
  std::string out;
  const auto header = [&](std::string_view label, std::string_view value) {
    out += fmt::format("{}: {}\r\n", label, value);
  };
  header("Date", date_text(message.at));
  header("From", settings.from.find('<') == std::string::npos ? "Dragoman <" + from + ">" : settings.from);
  header("To", recipients);
  header("Subject", header_text(plain(
                        fmt::format("[Dragoman] {}: {}", message.kind == "test" ? "test" : name(message.alert.severity),
                                    message.alert.title),
                        true, 400)));
  header("Message-ID", fmt::format("<{}@{}>", message.uid, domain));
  header("Auto-Submitted", "auto-generated");  // no absence note shall answer
  header("MIME-Version", "1.0");
  header("Content-Type", "text/plain; charset=utf-8");
  header("Content-Transfer-Encoding", "base64");
  out += "\r\n";
  std::string text;
  for (const char c : body_text(message)) text += c == '\n' ? std::string("\r\n") : std::string(1, c);
  const std::string encoded = base64(text);
  for (std::size_t i = 0; i < encoded.size(); i += 76) out += encoded.substr(i, 76) + "\r\n";
  return out;
}

std::unique_ptr<Channel> make_email(const Settings& settings) {
  return std::make_unique<Email>(settings);
}

}  // namespace dragoman::notify
