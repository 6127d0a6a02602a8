#include "odoo/fault.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/text.h"

namespace dragoman::odoo {
namespace {

using Kind = Error::Kind;

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

bool any_of(std::string_view text, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), text) != words.end();
}

Error made(Kind kind, const char* code, std::string message, const Fault& fault) {
  Error error(kind, std::move(message), fault.name + ": " + fault.debug);
  error.code = code;
  return error;
}

// 14 to 19 say it in these words; on 14 to 16 the message is inside the text of a ValueError if a server action met it.
bool is_serialization(const Fault& fault, std::string_view last) {
  return any_of(last, {"SerializationFailure", "TransactionRollbackError", "DeadlockDetected", "LockNotAvailable"}) ||
         has(fault.message, "could not serialize access") || has(fault.message, "deadlock detected") ||
         has(fault.message, "SerializationFailure");
}

}  // namespace

std::string shorten(std::string_view text, std::size_t max) {
  std::string line;
  for (char c : text) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
    if (c == ' ' && (line.empty() || line.back() == ' ')) continue;
    line += c;
    if (line.size() > max) break;
  }
  if (line.size() > max) {
    line.resize(max);
    while (!line.empty() && !is_utf8(line)) line.pop_back();
    line += "…";
  }
  while (!line.empty() && line.back() == ' ') line.pop_back();
  return line;
}

Error translate(const Fault& fault, std::string_view model, std::string_view method) {
  const auto dot = fault.name.rfind('.');
  const std::string_view last = std::string_view(fault.name).substr(dot == std::string::npos ? 0 : dot + 1);
  const std::string text = shorten(fault.message, 1000);
  const std::string call = fmt::format("{}.{}", model, method);

  if (any_of(last, {"AccessDenied", "Unauthorized", "SessionExpiredException"}))
    return made(
        Kind::auth, "odoo_auth",
        "Odoo refused the login: check the login name, and that the password or API key is right and not expired",
        fault);
  if (last == "AccessError")
    return made(Kind::forbidden, "odoo_access", fmt::format("Odoo does not allow this account {}: {}", call, text),
                fault);
  if (is_serialization(fault, last))
    return made(Kind::conflict, "odoo_serialization",
                fmt::format("{} met another transaction in Odoo and was rolled back: it may be repeated", call), fault);
  if (last == "MissingError")
    return made(Kind::not_found, "odoo_missing", fmt::format("a record of {} is not there: {}", call, text), fault);
  if (has(fault.message, "bject ") && has(fault.message, "doesn't exist") && last == "UserError")
    return made(Kind::not_found, "odoo_model", fmt::format("this Odoo has no model {}", model), fault);
  if (last == "NotFound") {
    if (has(fault.message, "method"))
      return made(Kind::not_found, "odoo_method", fmt::format("the model {} has no method {}", model, method), fault);
    if (has(fault.message, "atabase"))
      return made(Kind::not_found, "odoo_database", "this Odoo has no database of that name", fault);
    return made(Kind::not_found, "odoo_model", fmt::format("this Odoo has no model {}", model), fault);
  }
  if (last == "AttributeError" && has(fault.message, method))
    return made(Kind::not_found, "odoo_method", fmt::format("the model {} has no method {}", model, method), fault);
  if (last == "KeyError" && has(fault.message, model) && !model.empty())
    return made(Kind::not_found, "odoo_model", fmt::format("this Odoo has no model {}", model), fault);
  if (any_of(last, {"OperationalError", "InterfaceError", "AdminShutdown", "ConnectionError"}) &&
      has(fault.name, "psycopg")) {
    if (has(fault.message, "does not exist") || has(fault.message, "existiert nicht"))
      return made(Kind::not_found, "odoo_database", "this Odoo has no database of that name", fault);
    return made(Kind::unavailable, "odoo_database_down", "Odoo cannot reach its own database: try again later", fault);
  }
  if (last == "PoolError")
    return made(Kind::busy, "odoo_pool", "Odoo has no free database connection: try again later", fault);
  if (any_of(last, {"TooManyRequests"})) return made(Kind::busy, "odoo_busy", "Odoo asks to come back later", fault);
  if (last == "MemoryError")
    return made(Kind::unavailable, "odoo_memory", fmt::format("Odoo ran out of memory in {}", call), fault);
  if (any_of(last, {"RequestEntityTooLarge"}))
    return made(Kind::invalid, "odoo_too_large", fmt::format("{} sends more than Odoo takes in one call", call), fault);
  if (any_of(last, {"UserError", "ValidationError", "RedirectWarning", "Warning", "except_orm"}))
    return made(Kind::invalid, last == "ValidationError" ? "odoo_validation" : "odoo_user",
                fmt::format("Odoo refused {}: {}", call, text), fault);
  if (any_of(last, {"ValueError", "TypeError", "KeyError", "UnprocessableEntity", "BadRequest", "AssertionError",
                    "InvalidDatetimeFormat", "UndefinedColumn", "NumericValueOutOfRange", "UniqueViolation",
                    "NotNullViolation", "ForeignKeyViolation", "CheckViolation", "DataError", "IntegrityError"}))
    return made(Kind::invalid, "odoo_argument", fmt::format("Odoo refused {}: {}", call, text), fault);
  return made(Kind::invalid, "odoo_error",
              fmt::format("{} failed inside Odoo: {}{}{}", call, shorten(last, 100), text.empty() ? "" : ": ", text),
              fault);
}

Fault xml_rpc_fault(int code, std::string_view text) {
  Fault fault;
  fault.debug = std::string(text);
  fault.message = std::string(text);
  if (code == 3) {
    fault.name = "odoo.exceptions.AccessDenied";
  } else if (code == 4) {
    fault.name = "odoo.exceptions.AccessError";
  } else if (code == 2) {
    // 2 stands for every warning; the missing record is told by its words, which are translated for no RPC user.
    fault.name = has(text, "Record does not exist or has been deleted") ? "odoo.exceptions.MissingError"
                                                                        : "odoo.exceptions.UserError";
  } else if (has(text, "Traceback (most recent call last)")) {
    // The exception is the last line that is not indented: `odoo.exceptions.X: message`, and the message may go on.
    std::size_t at = text.rfind("\n  File ");
    at = at == std::string_view::npos ? 0 : at + 1;
    std::string_view rest = text.substr(at);
    std::string_view tail;
    while (!rest.empty()) {
      const auto end = rest.find('\n');
      const auto line = rest.substr(0, end);
      const auto colon = line.find(':');
      if (!line.empty() && line.front() != ' ' && !line.starts_with("Traceback") &&
          line.substr(0, colon).find(' ') == std::string_view::npos) {
        tail = rest;
        break;
      }
      if (end == std::string_view::npos) break;
      rest.remove_prefix(end + 1);
    }
    const auto colon = tail.find(':');
    fault.name = std::string(tail.substr(0, std::min(colon, tail.find('\n'))));
    fault.message = colon == std::string_view::npos ? "" : shorten(tail.substr(colon + 1), 2000);
    // Python prints its own exceptions without a module.
    if (fault.name.find('.') == std::string::npos) fault.name = "builtins." + fault.name;
  } else {
    fault.name = "odoo.exceptions.UserError";
  }
  return fault;
}

}  // namespace dragoman::odoo
