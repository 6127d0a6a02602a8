#include "access/tokens.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>

#include "base/error.h"
#include "base/text.h"

namespace dragoman::access {
namespace {

using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kScheme = "dgm_";
constexpr std::size_t kRandomBytes = 32;
constexpr std::size_t kPrefixChars = 10;  // of which the scheme is four: 36 bits, enough to tell tokens apart

constexpr std::string_view kColumns =
    "SELECT id, name, prefix, hash, role, created_us, expires_us, used_us, revoked_us FROM token ";

std::string hash_of(std::string_view token) {
  std::string hash(crypto_generichash_BYTES, '\0');
  crypto_generichash(reinterpret_cast<unsigned char*>(hash.data()), hash.size(),
                     reinterpret_cast<const unsigned char*>(token.data()), token.size(), nullptr, 0);
  return hash;
}

Token token_of(const Row& row) {
  Token token;
  token.id = row.int64(0);
  token.name = row.text(1);
  token.prefix = row.text(2);
  token.role = role(row.text(4)).value_or(Role::viewer);
  token.created = row.time(5);
  token.expires = row.maybe_time(6);
  token.used = row.maybe_time(7);
  token.revoked = row.maybe_time(8);
  return token;
}

bool active(const Token& token, Time now) {
  return !token.revoked && (!token.expires || *token.expires > now);
}

}  // namespace

std::string_view name(Role role) {
  switch (role) {
    case Role::viewer:
      return "viewer";
    case Role::user:
      return "user";
    case Role::manager:
      return "manager";
    case Role::admin:
      return "admin";
  }
  return "viewer";
}

std::optional<Role> role(std::string_view text) {
  for (const Role each : {Role::viewer, Role::user, Role::manager, Role::admin})
    if (name(each) == text) return each;
  return std::nullopt;
}

std::string Token::state(Time now) const {
  return revoked ? "revoked" : active(*this, now) ? "active" : "expired";
}

Tokens::Issued Tokens::create(const std::string& name, Role role, std::optional<Time> expires) {
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (name.empty() || name.size() > 100 || !is_utf8(name) || std::any_of(name.begin(), name.end(), control))
    throw Error(Error::Kind::invalid, "A token needs a name of 1 to 100 characters that says what it is for.");
  const Time now = clock_.now();
  if (expires && *expires <= now)
    throw Error(Error::Kind::invalid, fmt::format("The expiry {} is not in the future.", format_iso(*expires)));

  std::string raw(kRandomBytes, '\0');
  random_.fill({reinterpret_cast<std::uint8_t*>(raw.data()), raw.size()});
  std::string text(sodium_base64_ENCODED_LEN(kRandomBytes, sodium_base64_VARIANT_URLSAFE_NO_PADDING), '\0');
  sodium_bin2base64(text.data(), text.size(), reinterpret_cast<const unsigned char*>(raw.data()), raw.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  text.resize(text.find('\0'));
  sodium_memzero(raw.data(), raw.size());

  Issued issued{{}, Secret(std::string(kScheme) + text)};
  sodium_memzero(text.data(), text.size());
  Token& token = issued.token;
  token.name = name;
  token.prefix = issued.secret.reveal().substr(0, kPrefixChars);
  token.role = role;
  token.created = now;
  token.expires = expires;
  const std::string hash = hash_of(issued.secret.reveal());
  store_.write([&](Session& session) {
    session.lock("dragoman tokens");
    std::optional<Token> same;
    session.query(std::string(kColumns) + "WHERE name = $1 AND revoked_us IS NULL", {{name}}, [&](const Row& row) {
      if (Token one = token_of(row); active(one, now)) same = std::move(one);
    });
    if (same) {
      Error error(
          Error::Kind::conflict,
          fmt::format("There is a token `{}` already ({}): revoke that, or choose another name.", name, same->prefix));
      error.code = "name_taken";
      throw error;
    }
    const Param until = expires ? Param(to_us(*expires)) : Param(nullptr);
    session.query(
        "INSERT INTO token (name, prefix, hash, role, created_us, expires_us) VALUES ($1, $2, $3, $4, $5, $6) "
        "RETURNING id",
        {{name}, {token.prefix}, {Bytes{hash}}, {access::name(role)}, {to_us(now)}, until},
        [&](const Row& row) { token.id = row.int64(0); });
  });
  cache_.lock()->fresh = false;
  return issued;
}

std::vector<Token> Tokens::list() {
  std::vector<Token> tokens;
  store_.read([&](Session& session) {
    tokens.clear();
    session.query(std::string(kColumns) + "ORDER BY id", std::initializer_list<Param>{},
                  [&](const Row& row) { tokens.push_back(token_of(row)); });
  });
  return tokens;
}

Token Tokens::revoke(const std::string& id_or_prefix) {
  const Time now = clock_.now();
  Token revoked;
  store_.write([&](Session& session) {
    std::vector<Token> all;
    session.query(std::string(kColumns) + "ORDER BY id", std::initializer_list<Param>{},
                  [&](const Row& row) { all.push_back(token_of(row)); });
    const auto found = std::find_if(all.begin(), all.end(), [&](const Token& token) {
      return std::to_string(token.id) == id_or_prefix || token.prefix == id_or_prefix;
    });
    if (found == all.end())
      throw Error(Error::Kind::not_found,
                  fmt::format("There is no token `{}`; `dragoman token list` shows ids and prefixes.", id_or_prefix));
    const auto last_admin = std::none_of(all.begin(), all.end(), [&](const Token& token) {
      return token.id != found->id && token.role == Role::admin && active(token, now);
    });
    if (found->role == Role::admin && active(*found, now) && last_admin) {
      Error error(Error::Kind::conflict,
                  "This is the last active admin token: make another one first (`dragoman token create`).");
      error.code = "last_admin";
      throw error;
    }
    session.execute("UPDATE token SET revoked_us = $2 WHERE id = $1 AND revoked_us IS NULL",
                    {{found->id}, {to_us(now)}});
    if (!found->revoked) found->revoked = now;
    revoked = *found;
  });
  cache_.lock()->fresh = false;
  return revoked;
}

std::optional<Token> Tokens::lookup(const std::string& hash) {
  {
    auto cache = cache_.lock();
    if (cache->fresh && clock_.steady() - cache->read < kCacheAge) {
      const auto found = cache->by_hash.find(hash);
      return found == cache->by_hash.end() ? std::nullopt : std::optional(found->second);
    }
  }
  // Read without the lock: a slow database must not hold up those whose answer is in the cache by then.
  Cache read;
  read.read = clock_.steady();
  read.fresh = true;
  store_.read([&](Session& session) {
    read.by_hash.clear();
    session.query(std::string(kColumns) + "WHERE revoked_us IS NULL", std::initializer_list<Param>{},
                  [&](const Row& row) { read.by_hash.emplace(std::string(row.bytes(3)), token_of(row)); });
  });
  const auto found = read.by_hash.find(hash);
  std::optional<Token> token;
  if (found != read.by_hash.end()) token = found->second;
  *cache_.lock() = std::move(read);
  return token;
}

std::optional<Token> Tokens::check(std::string_view presented) {
  if (!presented.starts_with(kScheme) || presented.size() > 200) return std::nullopt;
  // Looked up by its hash: how long that takes tells nothing about any token that is stored.
  const std::string hash = hash_of(presented);
  const auto token = lookup(hash);
  const Time now = clock_.now();
  if (!token || !active(*token, now)) return std::nullopt;
  if (!token->used || now - *token->used >= kUsedEvery) {
    {
      auto cache = cache_.lock();
      if (const auto found = cache->by_hash.find(hash); found != cache->by_hash.end()) found->second.used = now;
    }
    try {
      store_.write([&](Session& session) {
        session.execute("UPDATE token SET used_us = $2 WHERE id = $1", {{token->id}, {to_us(now)}});
      });
    } catch (const Error& error) {
      // A full disk must not lock people out of the hub that tells them so.
      ignore_error("noting when a token was used", error);
    }
  }
  return token;
}

std::optional<Token> Tokens::check_from_memory(std::string_view presented) {
  if (!presented.starts_with(kScheme) || presented.size() > 200) return std::nullopt;
  const std::string hash = hash_of(presented);
  const Time now = clock_.now();
  auto cache = cache_.lock();
  if (!cache->fresh || clock_.steady() - cache->read >= kCacheAge) return std::nullopt;
  const auto found = cache->by_hash.find(hash);
  if (found == cache->by_hash.end() || !active(found->second, now)) return std::nullopt;
  const auto& used = found->second.used;
  if (!used || now - *used >= kUsedEvery) return std::nullopt;
  return found->second;
}

bool Tokens::any() {
  bool found = false;
  store_.read([&](Session& session) {
    session.query("SELECT 1 FROM token LIMIT 1", std::initializer_list<Param>{}, [&](const Row&) { found = true; });
  });
  return found;
}

}  // namespace dragoman::access
