#include "notify/settings.h"

#include <fmt/format.h>

#include "base/error.h"
#include "notify/email.h"
#include "notify/webhook.h"

namespace dragoman::notify {
namespace {

[[noreturn]] void refuse(std::string message) {
  Error error(Error::Kind::invalid, std::move(message));
  error.code = "config";
  throw error;
}

// `hub@example.com` or `Name <hub@example.com>`; what could end a header or a command is none.
void check_address(const std::string& text, std::string_view setting) {
  const auto open = text.find('<');
  const bool named = open != std::string::npos;
  const std::string address = named && text.ends_with('>') ? text.substr(open + 1, text.size() - open - 2) : text;
  const auto at = address.find('@');
  bool fine = at != std::string::npos && at > 0 && at + 1 < address.size() &&
              address.find_first_of(" <>,;\"\\()", 0) == std::string::npos &&
              address.find('@', at + 1) == std::string::npos;
  for (const char c : text)
    fine = fine && static_cast<unsigned char>(c) >= 0x20 && static_cast<unsigned char>(c) < 0x7f;
  if (named) fine = fine && text.find_first_of(",;\"\\") == std::string::npos;
  if (!fine)
    refuse(fmt::format("`{}`: `{}` is no mail address such as hub@example.com or Dragoman <hub@example.com>.", setting,
                       text));
}

}  // namespace

void check(const Settings& settings) {
  const EmailSettings& email = settings.email;
  if (!email.host.empty()) {
    if (email.host.find_first_of(" /@\r\n\t") != std::string::npos)
      refuse(fmt::format("`notify.email_host` is a host's name, without port or scheme, and `{}` is not.", email.host));
    if (email.from.empty())
      refuse("`notify.email_from` is needed where `notify.email_host` is set: who the mails are from.");
    if (email.to.empty()) refuse("`notify.email_to` is needed where `notify.email_host` is set: who gets the mails.");
    check_address(email.from, "notify.email_from");
    for (const auto& one : email.to) check_address(one, "notify.email_to");
    if (!email.user.empty() && email.security == EmailSettings::Security::none)
      refuse(
          "`notify.email_user` needs `notify.email_security` starttls or tls: a password is never sent in the clear.");
    if (email.user.empty() != email.password.empty())
      refuse("`notify.email_user` and `notify.email_password` belong together.");
  }
  const WebhookSettings& webhook = settings.webhook;
  if (!webhook.url.empty()) {
    if (!webhook.url.starts_with("http://") && !webhook.url.starts_with("https://"))
      refuse("`notify.webhook_url` begins with https:// (or http://).");
    if (webhook.secret.empty())
      refuse(
          "`notify.webhook_secret` is needed where `notify.webhook_url` is set: its receiver can't tell our messages "
          "from others' without. Make one with: echo \"whsec_$(openssl rand -base64 32)\".");
  }
  webhook_keys(webhook.secret);
}

std::vector<std::unique_ptr<Channel>> make_channels(const Settings& settings) {
  std::vector<std::unique_ptr<Channel>> channels;
  if (!settings.email.host.empty()) channels.push_back(make_email(settings));
  if (!settings.webhook.url.empty()) channels.push_back(make_webhook(settings));
  return channels;
}

}  // namespace dragoman::notify
