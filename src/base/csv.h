#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dragoman::csv {

struct Row {
  std::size_t line = 0;  ///< on which it begins, from 1
  std::vector<std::string> cells;
};

/// The rows of a table as spreadsheets save it (RFC 4180): cells in quotes may hold line ends, a byte order mark and
/// any kind of line end are taken, empty lines are left out. `;` separates where the first line has one and no comma.
/// Throws invalid, code `csv`, naming the line: a quote that is not closed or stands in the middle, NUL, no UTF-8, more
/// than 1,000 cells in a row or a cell of more than 100,000 bytes.
std::vector<Row> parse(std::string_view text);

/// Appends a row with its line end (CRLF). A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a
/// line end for a formula: such a one gets an apostrophe before it, unless it is a number.
void append(std::string& out, const std::vector<std::string>& cells);

/// The cell without the apostrophe that `append` puts there.
std::string plain(std::string_view cell);

}  // namespace dragoman::csv
