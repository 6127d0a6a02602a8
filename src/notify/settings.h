#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "base/secret.h"
#include "notify/channel.h"

namespace dragoman::notify {

struct EmailSettings {
  std::string host;  ///< empty: no e-mail
  int port = 587;
  enum class Security { starttls, tls, none } security = Security::starttls;
  std::string user;  ///< empty: without logging in
  Secret password;
  std::string from;  ///< `hub@example.com` or `Dragoman <hub@example.com>`
  std::vector<std::string> to;
};

struct WebhookSettings {
  std::string url;  ///< empty: no webhook
  /// `whsec_` and base64 of 24 to 64 bytes; several with commas between while one replaces another.
  Secret secret;
};

/// Everything about telling people that can be set.
struct Settings {
  EmailSettings email;
  WebhookSettings webhook;
  std::string ca_file;                       ///< certificates to trust besides the system's, for both
  std::chrono::seconds patience{60};         ///< for one attempt
  Micros window = std::chrono::minutes(60);  ///< between two messages about the same problem
  int per_hour_max = 20;                     ///< messages about all problems
  Severity least = Severity::warning;        ///< what is less severe is listed only
  std::string hub;                           ///< this hub's name in the messages
};

/// Throws invalid, code `config`, where the settings can't be right.
void check(const Settings& settings);

/// The channels that are set up.
std::vector<std::unique_ptr<Channel>> make_channels(const Settings& settings);

}  // namespace dragoman::notify
