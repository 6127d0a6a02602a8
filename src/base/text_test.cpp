#include "base/text.h"

#include <gtest/gtest.h>

#include <vector>

namespace dragoman {
namespace {

TEST(Text, KnowsUtf8FromBytes) {
  for (const char* good : {"", "abc", "كتاب", "é", "\xf0\x9f\x98\x80", "\xed\x9f\xbf"})
    EXPECT_TRUE(is_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                          "ab\xc3", "\xe2\x82", "\xff"})
    EXPECT_FALSE(is_utf8(bad));
}

TEST(Text, JsonStringsStayInOneLineAndAreWholeUtf8) {
  EXPECT_EQ(json_string("a\"b\\c\n\x01\x7f"), R"("a\"b\\c\n\u0001\u007f")");
  EXPECT_EQ(json_string("é\xff\xe2\x82"), "\"é\\ufffd\\ufffd\\ufffd\"");
}

TEST(Text, NearestFindsTheTypoAndLeavesTheStranger) {
  const std::vector<std::string> names{"connection", "limit", "since"};
  EXPECT_EQ(nearest("conection", names), "connection");
  EXPECT_EQ(nearest("sicne", names), "since");
  EXPECT_EQ(nearest("password", names), "");
}

TEST(Text, ASentenceEndsOnce) {
  EXPECT_EQ(sentence("retailer_otp is wrong, invalid"), "retailer_otp is wrong, invalid.");
  EXPECT_EQ(sentence("no such order \n"), "no such order.");
  for (const char* whole : {"Not this one.", "What?", "غير صحيح؟", "and so on…", ""}) EXPECT_EQ(sentence(whole), whole);
}

TEST(JoinedReason, TheFirstStaysAndTheSecondJoinsIt) {
  EXPECT_EQ(joined_reason("stocktaking", "bob", "new prices"), "stocktaking; bob: new prices");
  EXPECT_EQ(joined_reason("", "bob", "new prices"), "bob: new prices");
  EXPECT_EQ(joined_reason("stocktaking", "bob", ""), "stocktaking");
}

TEST(JoinedReason, WhatIsSaidAlreadyIsNotSaidAgain) {
  for (const char* held : {"new prices", "bob: new prices", "stocktaking; bob: new prices",
                           "stocktaking; bob: new prices; ann: a new floor", "new prices; ann: a new floor"})
    EXPECT_EQ(joined_reason(held, "bob", "new prices"), held);
  const std::string long_one(1001, 'x');
  EXPECT_EQ(joined_reason(long_one, "bob", "new prices"), long_one);
}

}  // namespace
}  // namespace dragoman
