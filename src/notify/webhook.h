#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret.h"
#include "notify/channel.h"
#include "notify/settings.h"

namespace dragoman::notify {

/// The keys of `whsec_…,whsec_…`. Throws invalid, code `config`, where one is none: base64 of 24 to 64 bytes.
std::vector<Secret> webhook_keys(const Secret& text);

/// The header `webhook-signature` of Standard Webhooks 1.0.0: `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`,
/// one for each key with a space in between.
std::string webhook_signature(const std::vector<Secret>& keys, std::string_view id, std::int64_t timestamp,
                              std::string_view body);

/// The JSON that is posted: `type`, `timestamp`, `data`.
std::string webhook_body(const Message& message);

/// By HTTP POST, signed as Standard Webhooks 1.0.0 has it. Any 2xx is an acceptance.
///
/// Errors  not_found (code `gone`: 410), busy (429, with its `Retry-After`), unavailable (code `status`: any other
///         status); what http::Client throws.
std::unique_ptr<Channel> make_webhook(const Settings& settings);

}  // namespace dragoman::notify
