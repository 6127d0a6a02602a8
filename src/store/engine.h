#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "store/migration.h"
#include "store/store.h"

namespace dragoman::store {

/// As store::open, with another list of migrations; for tests of the store itself and for its benchmark.
std::unique_ptr<Store> open(const StoreSettings& settings, Clock& clock, std::span<const Migration> migrations);

/// The file that a store URL names; nullopt if it is no SQLite URL. Errors: invalid (code `store_url`).
std::optional<std::string> sqlite_path(std::string_view url);

/// `path` may be `:memory:`.
std::unique_ptr<Store> open_sqlite(const std::string& path, const StoreSettings& settings, Clock& clock,
                                   std::span<const Migration> migrations);
std::unique_ptr<Store> open_postgres(const StoreSettings& settings, Clock& clock,
                                     std::span<const Migration> migrations);

/// Text is UTF-8 without NUL bytes on both engines, because PostgreSQL takes no other; what may be anything is
/// bytes. Errors: invalid (code `text`).
void check_text(std::string_view text);

/// An Error with its code.
[[noreturn]] void raise(Error::Kind kind, std::string_view code, std::string message, std::string detail = {});

/// Marks this thread as inside a callback of `store` while it lives, and asserts that it was not yet: a second
/// transaction on the same thread would wait for the first one for ever.
class CallbackGuard {
 public:
  explicit CallbackGuard(const Store* store);
  CallbackGuard(const CallbackGuard&) = delete;
  CallbackGuard& operator=(const CallbackGuard&) = delete;
  ~CallbackGuard();
  static void assert_outside(const Store* store);

 private:
  const Store* outer_;
};

}  // namespace dragoman::store
