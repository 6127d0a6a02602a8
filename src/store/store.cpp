#include "store/store.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "store/engine.h"

namespace dragoman::store {
namespace {

thread_local const Store* inside_callback_of = nullptr;

}  // namespace

void check_text(std::string_view text) {
  if (text.find('\0') != std::string_view::npos || !is_utf8(text))
    raise(Error::Kind::invalid, "text", "text with a NUL byte or invalid UTF-8 cannot be stored as text");
}

void raise(Error::Kind kind, std::string_view code, std::string message, std::string detail) {
  Error error(kind, std::move(message), std::move(detail));
  error.code = code;
  throw error;
}

CallbackGuard::CallbackGuard(const Store* store) : outer_(inside_callback_of) {
  assert_outside(store);
  inside_callback_of = store;
}

CallbackGuard::~CallbackGuard() {
  inside_callback_of = outer_;
}

void CallbackGuard::assert_outside(const Store* store) {
  DRAGOMAN_ASSERT(inside_callback_of != store, "a callback of the store must not call the store again");
}

bool Session::first(std::string_view sql, std::initializer_list<Param> params,
                    const std::function<void(const Row&)>& each) {
  bool found = false;
  query(sql, std::span(params.begin(), params.size()), [&](const Row& row) {
    if (!std::exchange(found, true)) each(row);
  });
  return found;
}

std::unique_ptr<Store> open(const StoreSettings& settings, Clock& clock) {
  return open(settings, clock, product_migrations());
}

std::optional<std::string> sqlite_path(std::string_view url) {
  if (url.starts_with("postgres://") || url.starts_with("postgresql://")) return std::nullopt;
  if (url.starts_with("sqlite:")) {
    url.remove_prefix(7);
    if (url.starts_with("//")) url.remove_prefix(2);
  } else if (const auto scheme = url.find("://"); scheme != std::string_view::npos) {
    // Only the scheme is shown: the rest may hold a password.
    raise(Error::Kind::invalid, "store_url",
          fmt::format("there is no kind of store called '{}': give sqlite:PATH or postgres://HOST/DATABASE",
                      url.substr(0, scheme)));
  }
  if (url.empty())
    raise(Error::Kind::invalid, "store_url", "no store is named: give sqlite:PATH or postgres://HOST/DATABASE");
  return std::string(url);
}

std::unique_ptr<Store> open(const StoreSettings& settings, Clock& clock, std::span<const Migration> migrations) {
  if (const auto path = sqlite_path(settings.url)) return open_sqlite(*path, settings, clock, migrations);
  return open_postgres(settings, clock, migrations);
}

}  // namespace dragoman::store
