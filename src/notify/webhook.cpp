#include "notify/webhook.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"
#include "base/text.h"
#include "http/client.h"
#include "notify/text.h"

namespace dragoman::notify {
namespace {

constexpr std::string_view kPrefix = "whsec_";

std::string origin_of(const std::string& url) {
  const auto begin = url.find("://");
  const auto end = url.find_first_of("/?#", begin == std::string::npos ? 0 : begin + 3);
  std::string origin = url.substr(0, end);
  // A user and password in it are nobody's business.
  if (const auto at = origin.rfind('@'); at != std::string::npos && begin != std::string::npos)
    origin = origin.substr(0, begin + 3) + origin.substr(at + 1);
  return origin;
}

class Webhook final : public Channel {
 public:
  explicit Webhook(const Settings& settings)
      : url_(settings.webhook.url), origin_(origin_of(url_)), keys_(webhook_keys(settings.webhook.secret)) {
    http::ClientSettings client;
    client.total_timeout = client.idle_timeout = settings.patience;
    client.body_bytes_max = 1 << 20;
    client.ca_file = settings.ca_file;
    client_ = http::make_client(client);
  }

  std::string name() const override { return "webhook"; }
  std::string target() const override { return origin_; }

  std::string send(const Message& message, Time now, std::stop_token stop) override {
    const auto timestamp = std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
    http::Request request;
    request.method = "POST";
    request.target = url_;
    request.body = webhook_body(message);
    request.headers.add("Content-Type", "application/json");
    request.headers.add("webhook-id", message.uid);
    request.headers.add("webhook-timestamp", std::to_string(timestamp));
    request.headers.add("webhook-signature", webhook_signature(keys_, message.uid, timestamp, request.body));
    const auto response = client_->send(request, stop);
    if (response.status >= 200 && response.status < 300) return fmt::format("{} answered {}", origin_, response.status);
    const std::string said = plain(response.body.substr(0, 1000), true, 200);
    const auto refused = [&](Error::Kind kind, const char* code, std::string_view what) {
      Error error(kind,
                  fmt::format("{} answered {}{}{}", origin_, response.status, what, said.empty() ? "." : ": " + said));
      error.code = code;
      if (const auto wait = response.headers.find("Retry-After")) {
        int seconds = 0;
        const auto [end, failed] = std::from_chars(wait->data(), wait->data() + wait->size(), seconds);
        if (failed == std::errc() && end == wait->data() + wait->size() && seconds > 0)
          error.retry_in(std::chrono::seconds(std::min(seconds, 3600)));
      }
      return error;
    };
    if (response.status == 410) throw refused(Error::Kind::not_found, "gone", " (it wants no more messages)");
    if (response.status == 429) throw refused(Error::Kind::busy, "status", "");
    throw refused(Error::Kind::unavailable, "status", "");
  }

 private:
  const std::string url_, origin_;
  const std::vector<Secret> keys_;
  std::unique_ptr<http::Client> client_;
};

}  // namespace

std::vector<Secret> webhook_keys(const Secret& text) {
  std::vector<Secret> keys;
  std::string_view rest = text.reveal();
  while (!rest.empty()) {
    const auto comma = std::min(rest.find(','), rest.size());
    std::string_view one = rest.substr(0, comma);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    std::array<unsigned char, 65> key{};
    std::size_t size = 0;
    const char* end = nullptr;
    const bool fine =
        one.starts_with(kPrefix) &&
        sodium_base642bin(key.data(), key.size(), one.data() + kPrefix.size(), one.size() - kPrefix.size(), nullptr,
                          &size, &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
        end == one.data() + one.size() && size >= 24 && size <= 64;
    if (fine) keys.emplace_back(std::string(reinterpret_cast<const char*>(key.data()), size));
    sodium_memzero(key.data(), key.size());
    if (fine) continue;
    Error error(Error::Kind::invalid,
                "`notify.webhook_secret` is `whsec_` and base64 of 24 to 64 bytes (several with commas between them); "
                "make one with: echo \"whsec_$(openssl rand -base64 32)\".");
    error.code = "config";
    throw error;
  }
  return keys;
}

std::string webhook_signature(const std::vector<Secret>& keys, std::string_view id, std::int64_t timestamp,
                              std::string_view body) {
  const std::string head = fmt::format("{}.{}.", id, timestamp);
  std::string out;
  for (const Secret& key : keys) {
    // Keys of any length: the one-call form takes 32 bytes only.
    crypto_auth_hmacsha256_state state;
    std::array<unsigned char, crypto_auth_hmacsha256_BYTES> mac{};
    crypto_auth_hmacsha256_init(&state, reinterpret_cast<const unsigned char*>(key.reveal().data()),
                                key.reveal().size());
    crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(head.data()), head.size());
    crypto_auth_hmacsha256_update(&state, reinterpret_cast<const unsigned char*>(body.data()), body.size());
    crypto_auth_hmacsha256_final(&state, mac.data());
    std::string text(sodium_base64_encoded_len(mac.size(), sodium_base64_VARIANT_ORIGINAL), '\0');
    sodium_bin2base64(text.data(), text.size(), mac.data(), mac.size(), sodium_base64_VARIANT_ORIGINAL);
    text.pop_back();
    out += (out.empty() ? "v1," : " v1,") + text;
  }
  return out;
}

std::string webhook_body(const Message& message) {
  const Alert& alert = message.alert;
  std::string out = fmt::format(R"({{"type":"alert.{}","timestamp":"{}","data":{{"severity":"{}","count":{})",
                                message.kind, format_iso(message.at), name(alert.severity), alert.count);
  const auto add = [&](std::string_view label, std::string_view value) {
    out += ",\"";
    out += label;
    out += "\":";
    append_json_string(out, value);
  };
  add("fingerprint", alert.fingerprint);
  add("title", alert.title);
  add("text", alert.text);
  add("subject", alert.subject);
  add("link", alert.link);
  add("hub", message.hub);
  return out + "}}";
}

std::unique_ptr<Channel> make_webhook(const Settings& settings) {
  return std::make_unique<Webhook>(settings);
}

}  // namespace dragoman::notify
