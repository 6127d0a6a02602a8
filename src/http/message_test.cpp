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

}  // namespace
}  // namespace dragoman::http
