#pragma once

#include <string>
#include <string_view>

namespace dragoman::json {

/// The text with the values of members whose names end in `token`, `otp`, `password`, `secret`, `api_key` or `apikey`
/// (upper or lower case) replaced by "***"; all else byte for byte. Text that is no JSON, or is cut off, comes back
/// with whatever of it looks like such members masked.
///
/// Threads: safe from any thread.
std::string mask_secrets(std::string_view text);

}  // namespace dragoman::json
