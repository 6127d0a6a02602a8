#pragma once

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "notify/channel.h"
#include "notify/settings.h"
#include "store/store.h"

namespace dragoman::notify {

/// Turns alerts into messages and sends them: the first of a kind at once, then one message per window that says how
/// many more there were; so many an hour at most, the last of which sums up all that is left. Everything is in the
/// store, so nothing is lost when the hub is killed; a message may then come twice (with the same id).
///
/// Several nodes on one database share the work: each attempt is taken by one of them.
///
/// Threads: `step` and `run` one thread at a time; `test` from any.
class Sender {
 public:
  /// Attempts end after so long without success.
  static constexpr Micros kGiveUpAfter = std::chrono::hours(24);
  static constexpr Micros kBackoffFirst = std::chrono::seconds(30), kBackoffMax = std::chrono::hours(1);
  /// Who took an attempt and did not come back is counted out after this; no attempt lasts so long.
  static constexpr Micros kLease = std::chrono::minutes(5);
  /// Messages are kept so long, and alerts that were not raised since.
  static constexpr Micros kKept = std::chrono::hours(24 * 90);

  /// The e-mail addresses of those who are told of an alert, as it is sent; empty: those of the settings.
  using Recipients = std::function<std::vector<std::string>(store::Session&, const Alert&)>;

  Sender(store::Store& store, std::vector<std::unique_ptr<Channel>> channels, const Settings& settings, Clock& clock,
         Random& random, Recipients recipients = {});

  /// Does what is due. Returns how long nothing will be, at most a minute, unless something is raised.
  /// Errors: as Store::write.
  Micros step(std::stop_token stop);
  /// Steps until a stop is asked for; waits for alerts and for better times.
  void run(std::stop_token stop);

  /// What came of sending a test message.
  struct Tried {
    std::string channel, target;
    bool ok = false;
    std::string result;  ///< what the other side said, or what is wrong
  };
  /// Sends one through every channel, now, without the store. Empty: no channel is set up.
  std::vector<Tried> test(std::stop_token stop);

 private:
  void make_messages();
  void make_message(store::Session& session, const Message& message, std::int64_t times);
  void deliver(std::stop_token stop);
  void attempt(std::int64_t id, const std::string& channel, Time due, std::stop_token stop);
  void clean();
  Micros until_next();

  store::Store& store_;
  const std::vector<std::unique_ptr<Channel>> channels_;
  const Settings settings_;
  Clock& clock_;
  Random& random_;
  const Recipients recipients_;
  Micros cleaned_{};
};

}  // namespace dragoman::notify
