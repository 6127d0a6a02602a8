#include "base/csv.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace dragoman::csv {
namespace {

std::string shown(std::string_view text) {
  std::string out;
  for (const auto& row : parse(text)) {
    out += std::to_string(row.line) + ":";
    for (const auto& cell : row.cells) out += "[" + cell + "]";
    out += " ";
  }
  return out;
}

TEST(Csv, TablesAsSpreadsheetsSaveThem) {
  EXPECT_EQ(shown("a,b\n1,2\n"), "1:[a][b] 2:[1][2] ");
  EXPECT_EQ(shown("\xEF\xBB\xBF" "a,b\r\n1,2"), "1:[a][b] 2:[1][2] ");
  EXPECT_EQ(shown("a,b\r1,2\r"), "1:[a][b] 2:[1][2] ");
  EXPECT_EQ(shown("a;b\n1,5;2\n"), "1:[a][b] 2:[1,5][2] ");
  EXPECT_EQ(shown("a,\"b;c\"\n"), "1:[a][b;c] ");
  EXPECT_EQ(shown("\"a \"\"x\"\"\",\"1\r\n2\"\r\n,\r\nc"), "1:[a \"x\"][1\r\n2] 3:[][] 4:[c] ");
  EXPECT_EQ(shown("\n\na\n\n"), "3:[a] ");
  EXPECT_EQ(shown(""), "");
  EXPECT_EQ(shown("a,"), "1:[a][] ");
  EXPECT_EQ(shown("\"\""), "");
  EXPECT_EQ(shown("شاي,\"☕\"\n"), "1:[شاي][☕] ");
}

TEST(Csv, WhatIsWrongNamesItsLine) {
  const auto error = [](std::string_view text) {
    try {
      parse(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.code, "csv");
      return error.message;
    }
    return std::string("nothing");
  };
  EXPECT_EQ(error("a\n\"b\nc").substr(0, 7), "Line 2:");
  EXPECT_EQ(error("a\nb\"c\n").substr(0, 7), "Line 2:");
  EXPECT_EQ(error("a\n\"1\n2\"x\n").substr(0, 7), "Line 3:");
  EXPECT_EQ(error(std::string_view("a\n\0", 3)).substr(0, 7), "Line 2:");
  EXPECT_NE(error("a\xff").find("UTF-8"), std::string::npos);
  EXPECT_EQ(error(std::string(2000, ',')).substr(0, 7), "Line 1:");
  EXPECT_EQ(error(std::string(200'000, 'x')).substr(0, 7), "Line 1:");
}

TEST(Csv, WhatIsWrittenIsReadBackAndIsNoFormula) {
  const std::vector<std::string> cells{"=1+1", "@x",   "-5",   "+3.5", "-a",    "'=x",  "''=x",   "'x",
                                       "a,b",  "a\"b", "\t=1", "",     " led ", "1\n2", "1\r\n2", "x;y"};
  std::string text;
  append(text, cells);
  EXPECT_NE(text.find("'=1+1"), std::string::npos);
  EXPECT_EQ(text.find("'-5"), std::string::npos);
  const auto rows = parse(text);
  ASSERT_EQ(rows.size(), 1u);
  std::vector<std::string> read;
  for (const auto& cell : rows[0].cells) read.push_back(plain(cell));
  EXPECT_EQ(read, cells);
}

TEST(Csv, AByteOrderMarkInTheFirstCellIsNotTakenForTheFiles) {
  std::string text;
  append(text, {"\xEF\xBB\xBFname", "other"});
  EXPECT_EQ(parse(text).at(0).cells, (std::vector<std::string>{"\xEF\xBB\xBFname", "other"}));
}

}  // namespace
}  // namespace dragoman::csv
