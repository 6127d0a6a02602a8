#include "jobs/concurrency.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace dragoman::jobs {
namespace {

using Answer = Concurrency::Answer;
using std::chrono::milliseconds;

void fill(Concurrency& one) {
  while (one.has_room()) one.begin();
}

TEST(Concurrency, GrowsByOneARoundWhileAllPlacesAreTaken) {
  Concurrency one(16, 4);
  Micros now{};
  for (int i = 0; i < 200; ++i) {
    fill(one);
    one.end(Answer::fine, milliseconds(50), 1, now += milliseconds(10));
  }
  EXPECT_EQ(one.limit(), 16);
}

TEST(Concurrency, DoesNotGrowWhileThereIsRoom) {
  Concurrency one(16, 4);
  Micros now{};
  for (int i = 0; i < 200; ++i) {
    one.begin();
    one.end(Answer::fine, milliseconds(50), 1, now += milliseconds(10));
  }
  EXPECT_EQ(one.limit(), 4);
}

TEST(Concurrency, HalvesOnceForAllThatWereUnderWay) {
  Concurrency one(16, 16);
  Micros now = milliseconds(1000);
  fill(one);
  one.end(Answer::fine, milliseconds(100), 1, now);
  fill(one);
  for (int i = 0; i < 8; ++i) one.end(Answer::strained, milliseconds(100), 1, now += milliseconds(1));
  EXPECT_EQ(one.limit(), 8);
  one.end(Answer::strained, milliseconds(100), 1, now += milliseconds(200));
  EXPECT_EQ(one.limit(), 4);
  for (int i = 0; i < 20; ++i) {
    one.begin();
    one.end(Answer::strained, milliseconds(100), 1, now += milliseconds(200));
  }
  EXPECT_EQ(one.limit(), 1) << "one always goes on";
}

TEST(Concurrency, GivesWayWhenAnswersTakeMuchLonger) {
  Concurrency one(16, 16);
  Micros now{};
  for (int i = 0; i < 50; ++i) {
    fill(one);
    one.end(Answer::fine, milliseconds(20), 1, now += milliseconds(20));
  }
  EXPECT_EQ(one.limit(), 16);
  for (int i = 0; i < 20; ++i) {
    fill(one);
    one.end(Answer::fine, milliseconds(200), 1, now += milliseconds(200));
  }
  EXPECT_LT(one.limit(), 8);
}

TEST(Concurrency, GrowsAgainWhereTheRemoteIsSlowerWhateverTheLoad) {
  Concurrency one(16, 16);
  Micros now{};
  for (int i = 0; i < 50; ++i) {
    fill(one);
    one.end(Answer::fine, milliseconds(20), 1, now += milliseconds(20));
  }
  int least = one.limit();
  for (int i = 0; i < 250; ++i) {
    fill(one);
    one.end(Answer::fine, milliseconds(2000), 1, now += milliseconds(2000));
    least = std::min(least, one.limit());
  }
  EXPECT_EQ(least, 1);
  EXPECT_EQ(one.limit(), 16);
}

TEST(Concurrency, WhatSaysNothingAboutTheRemoteChangesNothing) {
  Concurrency one(16, 4);
  for (int i = 0; i < 50; ++i) {
    fill(one);
    one.end(Answer::nothing, milliseconds(1), 1, milliseconds(i));
  }
  EXPECT_EQ(one.limit(), 4);
}

}  // namespace
}  // namespace dragoman::jobs
