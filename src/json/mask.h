#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dragoman::json {

/// The text with the values of members whose names end in `token`, `otp`, `password`, `secret`, `api_key` or `apikey`
/// (upper or lower case) replaced by "***"; all else byte for byte. Text that is no JSON, or is cut off, comes back
/// with whatever of it looks like such members masked. `found` gets the texts that were masked, as they stood there.
///
/// Threads: safe from any thread.
std::string mask_secrets(std::string_view text, std::vector<std::string>* found = nullptr);

/// The text with `secret` replaced by "***" wherever it stands. Less than 4 characters are too few to be told from
/// other text, and stay.
std::string mask_text(std::string text, std::string_view secret);

}  // namespace dragoman::json
