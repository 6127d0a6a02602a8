#pragma once

#include <memory>
#include <string>

#include "notify/channel.h"
#include "notify/settings.h"

namespace dragoman::notify {

/// The mail itself, with its headers, in lines ended by CR LF: plain text, UTF-8 in base64.
std::string compose(const Message& message, const EmailSettings& settings);

/// By SMTP (libcurl). With STARTTLS or TLS the certificate is always verified, and nothing is sent where there is none.
///
/// `send` answers what the server said in the end, and whom it refused. Errors  unavailable (code `dns`, `connect`,
/// `timeout`, `tls`, `starttls`, `cut`, or `smtp_4xx`: not now), auth (code `auth`: user or password), invalid (code
/// `smtp_5xx`: it will not take this mail; `ca_file`), cancelled. Each names the step and what the server answered.
std::unique_ptr<Channel> make_email(const Settings& settings);

}  // namespace dragoman::notify
