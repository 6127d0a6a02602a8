#include "base/error.h"

#include <array>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"

namespace dragoman {
namespace {

struct Named {
  Error::Kind kind;
  ErrorPolicy policy;
};

// The one table of what a kind means; exit codes are those of sysexits.h where one fits.
constexpr std::array<Named, 11> kPolicies{{
    {Error::Kind::invalid, {"invalid", false, 422, 65}},
    {Error::Kind::not_found, {"not_found", false, 404, 65}},
    {Error::Kind::conflict, {"conflict", false, 409, 65}},
    {Error::Kind::auth, {"auth", false, 502, 77}},
    {Error::Kind::forbidden, {"forbidden", false, 403, 65}},
    {Error::Kind::busy, {"busy", true, 429, 75}},
    {Error::Kind::unavailable, {"unavailable", true, 503, 75}},
    {Error::Kind::in_doubt, {"in_doubt", true, 504, 75}},
    {Error::Kind::protocol, {"protocol", false, 502, 65}},
    {Error::Kind::cancelled, {"cancelled", true, 503, 130}},
    {Error::Kind::bug, {"bug", false, 500, 70}},
}};

}  // namespace

const ErrorPolicy& policy(Error::Kind kind) {
  for (const auto& named : kPolicies)
    if (named.kind == kind) return named.policy;
  assertion_failed("kind is in kPolicies", "every kind has a policy");
}

std::optional<Error::Kind> error_kind(std::string_view name) {
  for (const auto& named : kPolicies)
    if (named.policy.name == name) return named.kind;
  return std::nullopt;
}

void ignore_error(std::string_view why, const std::exception& error) {
  log::debug("error dropped on purpose", {{"why", why}, {"error", error.what()}});
}

void assertion_failed(const char* expression, const char* why, std::source_location where) {
  std::fprintf(stderr, "dragoman: assertion failed at %s:%u: %s (%s)\n", where.file_name(), where.line(), expression,
               why);
  std::abort();
}

}  // namespace dragoman
