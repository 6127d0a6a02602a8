#include "http/message.h"

#include <gtest/gtest.h>

namespace dragoman::http {
namespace {

TEST(Headers, NamesCompareWithoutCaseAndKeepTheirOrder) {
  Headers headers{{"Accept", "a"}, {"X-One", "1"}, {"accept", "b"}};
  EXPECT_EQ(headers.find("ACCEPT"), "a");
  EXPECT_FALSE(headers.find("Acc"));
  headers.set("aCCept", "c");
  EXPECT_EQ(headers.find("accept"), "c");
  EXPECT_EQ(std::distance(headers.begin(), headers.end()), 2);
  EXPECT_EQ(headers.begin()->first, "Accept");
}

TEST(RetryAfter, ReadsSecondsAndDates) {
  using namespace std::chrono_literals;
  const Time now = *parse_time("1994-11-06 08:49:00");
  EXPECT_EQ(parse_retry_after("120", now), 120s);
  EXPECT_EQ(parse_retry_after(" 0 ", now), 0s);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), 37s);
  EXPECT_EQ(parse_retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), 0s);
  EXPECT_EQ(parse_retry_after("99999999999999999999999999", now), 24h);
  EXPECT_EQ(parse_retry_after("Fri, 31 Dec 9999 23:59:59 GMT", now), 24h);
  for (const char* text : {"", "-1", "1.5", "soon", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT",
                           "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Xyz 1994 08:49:37 GMT"})
    EXPECT_FALSE(parse_retry_after(text, now)) << text;
}

TEST(HeaderLine, IsANameAndAValueOrNothing) {
  using Field = std::pair<std::string_view, std::string_view>;
  EXPECT_EQ(parse_header_line("Content-Type:  text/html \r\n"), (Field{"Content-Type", "text/html"}));
  EXPECT_EQ(parse_header_line("X:"), (Field{"X", ""}));
  for (const char* line : {"", ":x", "no colon", "bad name: x", "X: a\rb", "X: a\nb", "X: \x01"})
    EXPECT_FALSE(parse_header_line(line)) << line;
}

TEST(MediaType, LeavesTheParametersOut) {
  EXPECT_EQ(media_type({{"content-type", "Text/HTML; charset=utf-8"}}), "text/html");
  EXPECT_EQ(media_type({}), "");
}

}  // namespace
}  // namespace dragoman::http
