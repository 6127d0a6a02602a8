#include "connectors/odoo/procedures.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include "base/error.h"

namespace dragoman::connectors::odoo {
namespace {

// `# Version: 1` among the first lines.
std::string header(std::string_view text, std::string_view name) {
  const std::string wanted = fmt::format("\n# {}: ", name);
  const auto at = text.find(wanted);
  DRAGOMAN_ASSERT(at != std::string_view::npos, "a procedure without its header");
  const auto begin = at + wanted.size();
  return std::string(text.substr(begin, text.find('\n', begin) - begin));
}

}  // namespace

std::string digest_of(std::string_view text) {
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i)
    if (!(text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n')) plain += text[i];
  const auto last = plain.find_last_not_of(" \t\r\n");
  plain.resize(last == std::string::npos ? 0 : last + 1);
  std::array<std::uint8_t, 16> hash{};
  crypto_generichash(hash.data(), hash.size(), reinterpret_cast<const unsigned char*>(plain.data()), plain.size(),
                     nullptr, 0);
  std::string out;
  for (std::size_t i = 0; i < 8; ++i) out += fmt::format("{:02x}", hash[i]);
  return out;
}

const std::vector<Procedure>& procedures() {
  static const std::vector<Procedure> all = [] {
    std::vector<Procedure> made;
    for (auto& [name, text] : embedded_procedures()) {
      Procedure one;
      one.name = name;
      const std::string version = header(text, "Version");
      std::from_chars(version.data(), version.data() + version.size(), one.version);
      one.summary = header(text, "Summary");
      one.digest = digest_of(text);
      one.text = text;
      made.push_back(std::move(one));
    }
    return made;
  }();
  return all;
}

const Procedure& procedure(std::string_view name) {
  const auto& all = procedures();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Procedure& one) { return one.name == name; });
  if (found == all.end()) throw Error(Error::Kind::bug, fmt::format("There is no procedure `{}`.", name));
  return *found;
}

}  // namespace dragoman::connectors::odoo
