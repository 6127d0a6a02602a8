#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace sandbox::odoo {

/// An exception as Odoo would raise it: `name` is the Python class ("odoo.exceptions.UserError"),
/// what() the message. Every transport turns it into its own shape.
class OdooError : public std::runtime_error {
 public:
  OdooError(std::string class_name, const std::string& message)
      : std::runtime_error(message), name(std::move(class_name)) {}

  std::string name;
  /// Set where JSON-2 answers a different class or status than the class alone would tell.
  int json2_status = 0;
  std::string json2_name;
};

inline OdooError user_error(const std::string& message) {
  return {"odoo.exceptions.UserError", message};
}
inline OdooError access_error(const std::string& message) {
  return {"odoo.exceptions.AccessError", message};
}
inline OdooError validation_error(const std::string& message) {
  return {"odoo.exceptions.ValidationError", message};
}
inline OdooError missing_error(const std::string& message) {
  return {"odoo.exceptions.MissingError", message};
}
inline OdooError value_error(const std::string& message) {
  return {"builtins.ValueError", message};
}
inline OdooError key_error(const std::string& message) {
  return {"builtins.KeyError", message};
}
inline OdooError type_error(const std::string& message) {
  return {"builtins.TypeError", message};
}

}  // namespace sandbox::odoo
