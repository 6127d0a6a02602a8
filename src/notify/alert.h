#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace dragoman::notify {

/// Numbers as stored: a warning can wait until somebody looks, what is critical keeps the hub from its work.
enum class Severity { warning = 1, critical = 2 };
std::string_view name(Severity severity);

/// Something that people have to be told.
struct Alert {
  /// What is alike has the same one, and is told together: `connection:main:auth`, `dead:odoo.import:AccessError`.
  std::string fingerprint;
  Severity severity = Severity::warning;
  std::string title;       ///< one line: what is wrong
  std::string text;        ///< what happened and what to do; no secrets
  std::string subject;     ///< what it is about: `main`, `job 17`
  std::string link;        ///< where to look: an address, or a command
  std::int64_t count = 1;  ///< how many of them this call stands for
};

/// Raises it in the caller's transaction: one statement, before an audit entry. Who sends is woken when it commits. The
/// first of a kind is told at once, what follows is counted and told as one message at the end of the window.
/// Text that is not UTF-8, or holds NUL, is kept with U+FFFD in its place.
///
/// Errors  as Store::write.
void raise(store::Session& session, const Alert& alert);

/// The channel that `raise` notifies (Store::wait).
inline constexpr std::string_view kAlertsChannel = "dragoman alerts";

/// An alert as it stands.
struct Problem {
  Alert alert;  ///< as it was raised last; `count`: in all
  std::int64_t untold = 0;
  Time first{}, last{};
  std::optional<Time> told;   ///< when the last message about it was made
  std::optional<Time> muted;  ///< until when
  /// `waiting` (for its message, or the message for its channel), `sent`, `failed`, `muted`, or `untold`: there is no
  /// channel, or it is less severe than what is sent.
  std::string state;
  struct Delivery {
    std::string channel, state, result;
    std::int64_t attempts = 0;
    std::optional<Time> due;  ///< of one that waits
  };
  std::vector<Delivery> deliveries;  ///< of the last message about it
};

/// Those raised last come first.
std::vector<Problem> problems(store::Session& session, std::int64_t limit);
/// No messages about it before `until`; at once again when that is past. Throws not_found.
Problem mute(store::Session& session, const std::string& fingerprint, Time until);

/// Messages on their way through a channel, and those given up within the last day.
struct MessageCounts {
  std::int64_t waiting = 0, failed = 0;
};
MessageCounts message_counts(store::Session& session);

}  // namespace dragoman::notify
