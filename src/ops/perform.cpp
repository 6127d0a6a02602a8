#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "audit/audit.h"
#include "base/error.h"
#include "ops/operation.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

constexpr std::size_t kStateBytesMax = 64 << 10;
constexpr std::size_t kTokenCharsKept = 10;  // as many as the hub itself shows of a token

bool token_character(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

// Passwords in URLs, and whole tokens where somebody pasted one in place of its prefix.
std::string masked(std::string text) {
  for (auto at = text.find("://"); at != std::string::npos; at = text.find("://", at + 3)) {
    const auto begin = at + 3;
    const auto end = std::min(text.find_first_of("/?# \"'", begin), text.size());
    const auto sign = text.rfind('@', end);
    const auto colon = text.find(':', begin);
    if (sign != std::string::npos && sign >= begin && sign < end && colon < sign)
      text.replace(colon + 1, sign - colon - 1, "***");
  }
  for (auto at = text.find("dgm_"); at != std::string::npos; at = text.find("dgm_", at + 4)) {
    auto end = at;
    while (end < text.size() && token_character(text[end])) ++end;
    if (end - at > kTokenCharsKept) text.replace(at + kTokenCharsKept, end - at - kTokenCharsKept, "***");
  }
  return text;
}

bool names_a_secret(std::string_view key) {
  static constexpr std::array<std::string_view, 6> kNames{"password", "secret",        "api_key",
                                                          "apikey",   "authorization", "access_token"};
  std::string lower(key);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return std::find(kNames.begin(), kNames.end(), lower) != kNames.end();
}

json masked_values(json value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    // A payload, say: JSON in a text.
    if (text.starts_with('{') || text.starts_with('[')) {
      const json inner = json::parse(text, nullptr, false);
      if (!inner.is_discarded()) return dump(masked_values(inner));
    }
    return masked(text);
  }
  if (value.is_array())
    for (auto& item : value) item = masked_values(std::move(item));
  if (value.is_object())
    for (auto& [key, item] : value.items()) item = names_a_secret(key) ? json("***") : masked_values(std::move(item));
  return value;
}

// Texts that are JSON already get the same treatment.
std::string masked_state(const std::string& text) {
  if (text.empty()) return {};
  const json parsed = json::parse(text, nullptr, false);
  std::string out = parsed.is_discarded() ? masked(text) : dump(masked_values(parsed));
  if (out == "{}") return {};
  if (out.size() <= kStateBytesMax) return out;
  std::size_t end = kStateBytesMax;
  while (end > 0 && (static_cast<unsigned char>(out[end]) & 0xc0) == 0x80) --end;
  return dump({{"cut", out.substr(0, end)}, {"bytes", out.size()}});
}

json input_without_secrets(const Operation& operation, json input) {
  for (const Field& field : operation.inputs) {
    if (field.secret && input.contains(field.name)) input[field.name] = "***";
    if (field.file && input.contains(field.name) && input[field.name].is_string())
      input[field.name] = std::to_string(input[field.name].get_ref<const std::string&>().size()) + " bytes";
  }
  input.erase("reason");
  return input;
}

std::string text_of(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string out;
  for (const auto& item : value) out += (out.empty() ? "" : ",") + text_of(item);
  return out;
}

std::string subject_of(const Operation& operation, const json& input) {
  std::string subject;
  for (const Field& field : operation.inputs)
    if (field.positional && !field.secret && input.contains(field.name)) {
      const std::string text = text_of(input.at(field.name));
      if (!text.empty()) subject += (subject.empty() ? "" : ":") + text;
    }
  return subject;
}

std::string dotted(std::string words) {
  std::replace(words.begin(), words.end(), ' ', '.');
  return words;
}

std::string outcome_of(const Error& error) {
  switch (error.kind) {
    case Error::Kind::in_doubt:
      return "not known: " + masked(error.message);
    case Error::Kind::busy:
    case Error::Kind::unavailable:
    case Error::Kind::cancelled:
    case Error::Kind::protocol:
    case Error::Kind::auth:
    case Error::Kind::bug:
      return "failed: " + masked(error.message);
    default:
      return "refused: " + masked(error.message);
  }
}

}  // namespace

std::string perform(const Operation& operation, Context& context, const json& input) {
  context.note = {};
  if (!operation.changes() || operation.audits_itself || input.value("dry_run", false))
    return operation.run(context, input);
  audit::Pending pending(context.services.store,
                         {.actor = context.actor.empty() ? context.caller : context.actor,
                          .action = dotted(operation.name),
                          .subject = masked(subject_of(operation, input)),
                          .why = masked(input.value("reason", std::string())),
                          .after = masked_state(dump(input_without_secrets(operation, input)))});
  const auto finish = [&](std::string outcome) {
    auto& entry = pending.entry();
    entry.outcome = std::move(outcome);
    if (context.note.subject) entry.subject = masked(*context.note.subject);
    entry.before = masked_state(context.note.before);
    if (!context.note.after.empty()) entry.after = masked_state(context.note.after);
    pending.finish();
  };
  std::string answer;
  try {
    answer = operation.run(context, input);
  } catch (const Error& error) {
    finish(outcome_of(error));
    throw;
  } catch (const std::exception&) {
    finish("failed: something that was not foreseen; the log says more");
    throw;
  }
  finish("ok");
  return answer;
}

}  // namespace dragoman::ops
