#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/guarded.h"
#include "base/random.h"
#include "base/secret.h"
#include "store/store.h"

namespace dragoman::access {

/// What somebody may do, each with all that the one below may: look, work with records and runs, manage connections,
/// everything (tokens, keys).
enum class Role { viewer, user, manager, admin };
std::string_view name(Role role);
std::optional<Role> role(std::string_view name);
inline bool allows(Role has, Role needs) {
  return static_cast<int>(has) >= static_cast<int>(needs);
}

/// A token as it may be shown: the token itself is known only to who was given it.
struct Token {
  std::int64_t id = 0;
  std::string name;    ///< who or what it was made for
  std::string prefix;  ///< `dgm_k3Xp…`, to tell tokens apart
  Role role = Role::viewer;
  Time created{};
  std::optional<Time> expires, used, revoked;

  std::string state(Time now) const;  ///< `active`, `expired`, `revoked`
};

/// The hub's own API tokens: opaque, random, stored as their BLAKE2b hash.
///
/// A token that is revoked elsewhere (another node, a command beside the hub) is refused here within kCacheAge.
///
/// Threads: safe from any thread.
class Tokens {
 public:
  static constexpr Micros kCacheAge = std::chrono::seconds(2);
  /// `used` is written at most so often, so that reading doesn't become writing.
  static constexpr Micros kUsedEvery = std::chrono::minutes(1);

  Tokens(store::Store& store, Clock& clock, Random& random) : store_(store), clock_(clock), random_(random) {}

  struct Issued {
    Token token;
    Secret secret;  ///< shown once
  };
  /// Throws invalid if the name is empty, too long or not plain text, or the expiry is past; conflict (code
  /// `name_taken`) if an active token has the name.
  Issued create(const std::string& name, Role role, std::optional<Time> expires);
  /// Newest last.
  std::vector<Token> list();
  /// By id or prefix. Throws not_found; conflict (code `last_admin`) if no active admin token would be left.
  Token revoke(const std::string& id_or_prefix);
  /// The token that was presented, if it is active.
  std::optional<Token> check(std::string_view presented);
  /// The same from memory, without ever waiting: nothing also where `check` would have to ask or note something.
  std::optional<Token> check_from_memory(std::string_view presented);
  bool any();

 private:
  struct Cache {
    std::map<std::string, Token> by_hash;
    Micros read{};
    bool fresh = false;
  };
  std::optional<Token> lookup(const std::string& hash);

  store::Store& store_;
  Clock& clock_;
  Random& random_;
  Guarded<Cache> cache_;
};

}  // namespace dragoman::access
