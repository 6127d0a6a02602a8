#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/secret.h"

namespace dragoman::access {

/// The keys that secrets are sealed with (XChaCha20-Poly1305), kept outside the database: in a file or the
/// environment.
///
/// A sealed secret is bound to its context (`connection:main`): moved to another row it does not open. It names its
/// key, so that old and new keys can be in use at once while a rotation is under way, also one that another process
/// does: a file that changed is read again.
///
/// Threads: safe from any thread.
class KeyRing {
 public:
  /// From `DRAGOMAN_SECRET_KEY` if set (32 bytes in hexadecimal or base64; several, newest first, with commas between
  /// them), else from the file at `path`, made with mode 0600 if it is not there. `random` gives keys and nonces and
  /// must outlive the ring.
  ///
  /// Errors  invalid (code `key_file`: others may read the file, or it is no key file; code `key_environment`),
  ///         unavailable (code `key_file`: it cannot be read or made).
  static KeyRing open_file(const std::string& path, Random& random);

  KeyRing(KeyRing&&) noexcept;
  KeyRing& operator=(KeyRing&&) noexcept;
  ~KeyRing();

  /// With the newest key. Bytes, not text. Where a rotation may run meanwhile, seal inside the transaction that stores
  /// it and after `session.lock(kSecretsLock)`: or the old key may be gone when it is committed.
  std::string seal(const Secret& secret, std::string_view context) const;
  /// Errors: invalid (code `sealed`): its key is not in the ring, or it was changed or moved.
  Secret open(std::string_view sealed, std::string_view context) const;
  /// True if it is sealed with the newest key.
  bool is_current(std::string_view sealed) const;

  /// Makes a new key, calls `reseal`, and drops the old ones. `reseal` opens every sealed secret in the store that is
  /// not current, seals it again, and has committed that when it returns; it holds kSecretsLock meanwhile.
  ///
  /// If it is cut off at any point, every secret can still be opened, and the next rotation goes on with the key that
  /// was made. With keys from the environment nothing is made or dropped: the new one has to stand first there.
  ///
  /// Errors  what `reseal` throws; invalid (code `key_environment`: there is no new key); busy (another rotation is
  ///         under way); unavailable (code `key_file`).
  void rotate(const std::function<void()>& reseal);

  /// Where the keys are: `the file …` or `DRAGOMAN_SECRET_KEY`.
  std::string location() const;

 private:
  struct State;
  explicit KeyRing(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// The store's lock that those hold who write sealed secrets.
inline constexpr std::string_view kSecretsLock = "dragoman secrets";

}  // namespace dragoman::access
