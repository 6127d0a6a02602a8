#include "base/csv.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/decimal.h"
#include "base/error.h"
#include "base/text.h"

namespace dragoman::csv {
namespace {

constexpr std::size_t kCellsMax = 1000;
constexpr std::size_t kCellMax = 100'000;
constexpr std::string_view kMark = "\xEF\xBB\xBF";

[[noreturn]] void wrong(std::size_t line, const char* what) {
  Error error(Error::Kind::invalid, fmt::format("Line {}: {}", line, what));
  error.code = "csv";
  throw error;
}

bool begins_formula(std::string_view cell) {
  return !cell.empty() && std::string_view("=+-@\t\r\n").find(cell.front()) != std::string_view::npos;
}

// One that has apostrophes before what would be a formula without them.
bool is_guarded(std::string_view cell) {
  return cell.starts_with('\'') && begins_formula(cell.substr(std::min(cell.find_first_not_of('\''), cell.size())));
}

char separator_of(std::string_view text) {
  bool quoted = false, semicolon = false;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (quoted) continue;
    if (c == ',') return ',';
    if (c == ';') semicolon = true;
    if (c == '\n' || c == '\r') break;
  }
  return semicolon ? ';' : ',';
}

}  // namespace

std::vector<Row> parse(std::string_view text) {
  if (text.starts_with(kMark)) text.remove_prefix(kMark.size());
  if (!is_utf8(text)) {
    Error error(Error::Kind::invalid, "The file is not UTF-8: save it as `CSV UTF-8`.");
    error.code = "csv";
    throw error;
  }
  const char comma = separator_of(text);

  std::vector<Row> rows;
  std::size_t line = 1, at = 0;
  while (at < text.size()) {
    Row row;
    row.line = line;
    bool ended = false;
    while (!ended) {
      std::string cell;
      if (at < text.size() && text[at] == '"') {
        const std::size_t opened = line;
        ++at;
        for (;;) {
          if (at == text.size()) wrong(opened, "a quote is not closed.");
          const char c = text[at++];
          if (c == '"') {
            if (at == text.size() || text[at] != '"') break;
            ++at;
          }
          if (c == '\0') wrong(line, "it holds a NUL byte.");
          if (c == '\n' || (c == '\r' && (at == text.size() || text[at] != '\n'))) ++line;
          cell += c;
          if (cell.size() > kCellMax) wrong(opened, "a cell has more than 100,000 bytes.");
        }
        if (at < text.size() && text[at] != comma && text[at] != '\r' && text[at] != '\n')
          wrong(line, "something follows a closing quote; a quote within quotes is written twice.");
      } else {
        while (at < text.size() && text[at] != comma && text[at] != '\r' && text[at] != '\n') {
          if (text[at] == '"') wrong(line, "a quote stands in the middle of a cell; put the whole cell in quotes.");
          if (text[at] == '\0') wrong(line, "it holds a NUL byte.");
          cell += text[at++];
          if (cell.size() > kCellMax) wrong(line, "a cell has more than 100,000 bytes.");
        }
      }
      row.cells.push_back(std::move(cell));
      if (row.cells.size() > kCellsMax) wrong(line, "it has more than 1,000 cells.");
      if (at == text.size()) {
        ended = true;
      } else if (text[at] == comma) {
        ++at;
      } else {
        if (text[at] == '\r' && at + 1 < text.size() && text[at + 1] == '\n') ++at;
        ++at;
        ++line;
        ended = true;
      }
    }
    if (row.cells.size() > 1 || !row.cells.front().empty()) rows.push_back(std::move(row));
  }
  return rows;
}

void append(std::string& out, const std::vector<std::string>& cells) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) out += ',';
    std::string cell = cells[i];
    // One that begins with an apostrophe of its own gets another, or reading it back would lose that.
    if ((begins_formula(cell) && !Decimal::parse(cell)) || is_guarded(cell)) cell.insert(cell.begin(), '\'');
    // A byte order mark of its own would be taken for the file's.
    const bool quoted = cell.find_first_of(",;\"\r\n") != std::string::npos || cell.starts_with(' ') ||
                        cell.ends_with(' ') || cell.starts_with(kMark) || (cells.size() == 1 && cell.empty());
    if (!quoted) {
      out += cell;
      continue;
    }
    out += '"';
    for (const char c : cell) {
      if (c == '"') out += '"';
      out += c;
    }
    out += '"';
  }
  out += "\r\n";
}

std::string plain(std::string_view cell) {
  return std::string(is_guarded(cell) ? cell.substr(1) : cell);
}

}  // namespace dragoman::csv
