#pragma once

#include <string>
#include <string_view>

namespace dragoman::notify {

/// What the store takes as text and a terminal or a mail header can bear: no NUL, and U+FFFD for what is not UTF-8.
/// `one_line`: control characters become spaces. Cut after `bytes_max`, at a whole character.
std::string plain(std::string_view text, bool one_line, std::size_t bytes_max);

}  // namespace dragoman::notify
