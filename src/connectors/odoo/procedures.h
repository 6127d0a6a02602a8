#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dragoman::connectors::odoo {

/// A Python text that runs inside of Odoo as a server action: one transaction, callable by a user who has no right on
/// the models that it writes. The texts are addon/procedures/*.py, as they were when this program was built.
struct Procedure {
  std::string name;     ///< `import`
  int version = 0;      ///< from its second line; grows with what it takes and answers
  std::string summary;  ///< from its third line
  std::string text;
  std::string digest;  ///< of the text, as digest_of gives it

  /// False: `setup`, which is in Odoo for the length of one call.
  bool stays() const { return name != "setup"; }
  /// How the server action is called: `dragoman: import`.
  std::string action_name() const { return "dragoman: " + name; }
};

/// All of them, by name. Immutable.
const std::vector<Procedure>& procedures();
/// Throws bug if there is none of this name.
const Procedure& procedure(std::string_view name);

/// Sixteen hexadecimal digits of BLAKE2b over the text, without white space at its end and with plain line ends, which
/// editors change.
std::string digest_of(std::string_view text);

/// Name and text, as embedded.
std::vector<std::pair<std::string, std::string>> embedded_procedures();

}  // namespace dragoman::connectors::odoo
