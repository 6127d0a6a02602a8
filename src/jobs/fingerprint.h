#pragma once

#include <string>
#include <string_view>

namespace dragoman::jobs {

/// What stays of an error's message when all that differs between two jobs is taken out: numbers, quoted texts, long
/// hexadecimal words.
std::string normalised(std::string_view message);

/// The same for all dead letters of one kind of error; 16 hexadecimal digits.
std::string fingerprint(std::string_view kind, std::string_view code, std::string_view message);

}  // namespace dragoman::jobs
