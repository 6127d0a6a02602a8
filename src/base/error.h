#pragma once

#include <chrono>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>

namespace dragoman {

/// Thrown when the current job, request or command cannot go on.
///
/// Caught in three places only: the job runner, the HTTP router, the command line. A record that a
/// partner rejects is a value (an outcome), not an Error; "not there" is std::optional.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    invalid,      ///< the input is wrong; the same input will fail again
    not_found,    ///< what was named does not exist
    conflict,     ///< the state of the thing does not allow it
    auth,         ///< a remote refused our credentials
    forbidden,    ///< known, but not allowed
    busy,         ///< asked to come back later (429, full queue, locked)
    unavailable,  ///< not reached, or known not to have been done
    in_doubt,     ///< sent, and no answer: a write may have been applied
    protocol,     ///< the other side answered something that is not its documented shape
    cancelled,    ///< we were told to stop
    bug           ///< ours
  };

  /// `message` may be shown to a user: it says what is wrong and what to do, and holds no secret and
  /// no remote traceback. `detail` goes to the log only.
  Error(Kind kind, std::string message, std::string detail = {},
        std::source_location where = std::source_location::current())
      : std::runtime_error(message), kind(kind), message(std::move(message)), detail(std::move(detail)), where(where) {}

  Error& retry_in(std::chrono::seconds delay) {
    retry_after = delay;
    return *this;
  }

  Kind kind;
  std::string message;
  std::string detail;
  std::optional<std::chrono::seconds> retry_after;
  /// Which of several like errors it is, as a stable word (`odoo_access`, `tls`, `disk_full`), or empty.
  std::string code;
  std::source_location where;
};

/// What each kind means to the three places that catch. The one table of it.
struct ErrorPolicy {
  std::string_view name;  ///< `in_doubt`
  bool retry;             ///< a job with it is tried again by itself
  int http_status;        ///< of the hub's own answer
  int exit_code;          ///< of the command line (sysexits.h where one fits)
};
const ErrorPolicy& policy(Error::Kind kind);

/// The kind with this name, if there is one.
std::optional<Error::Kind> error_kind(std::string_view name);

/// Says that an error is dropped on purpose, and logs it at debug level with the reason.
void ignore_error(std::string_view why, const std::exception& error);

[[noreturn]] void assertion_failed(const char* expression, const char* why,
                                   std::source_location where = std::source_location::current());

}  // namespace dragoman

/// A broken invariant is a bug of ours: going on would spoil data, so the process stops, in release builds too.
#define DRAGOMAN_ASSERT(expression, why) ((expression) ? void(0) : ::dragoman::assertion_failed(#expression, why))
