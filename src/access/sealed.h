#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/secret.h"

namespace dragoman::access {

/// The keys that secrets are sealed with, kept outside the database: in a file or the environment.
///
/// A sealed secret is bound to its context (`connection:main`): moved to another row it does not open. It names its
/// key, so that old and new keys can be in use at once while a rotation is under way.
///
/// Threads: immutable but for `add` and `drop`; those are for the rotation, which holds it alone.
class KeyRing {
 public:
  /// From `DRAGOMAN_SECRET_KEY` if set (32 bytes in hexadecimal or base64), else from the file at `path`, made with
  /// mode 0600 if it is not there. Throws invalid if others may read it or it is no key file.
  static KeyRing open_file(const std::string& path, Random& random);

  std::string seal(const Secret& secret, std::string_view context) const;
  /// Throws invalid (code `sealed`) if the key is not in the ring, or the text was changed or moved.
  Secret open(std::string_view sealed, std::string_view context) const;

 private:
  std::map<std::uint32_t, Secret> keys_;
  std::uint32_t newest_ = 0;
};

}  // namespace dragoman::access
