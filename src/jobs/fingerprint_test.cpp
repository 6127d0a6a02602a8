#include "jobs/fingerprint.h"

#include <gtest/gtest.h>

namespace dragoman::jobs {
namespace {

TEST(Fingerprint, WhatDiffersBetweenJobsIsTakenOut) {
  EXPECT_EQ(normalised("Order SO00042 of 2026-11-20 has no lines"), "Order # of # has no lines");
  EXPECT_EQ(normalised("field 'x_code' of \"Deco Addict\" can't be `7`"), "field '…' of '…' can't be '…'");
  EXPECT_EQ(normalised("id 5f2b7c0e-11aa, sum 12.50"), "id #, sum #.#");
  EXPECT_EQ(normalised("don't touch"), "don't touch");
  EXPECT_EQ(normalised("an open \" quote"), "an open \" quote");
  EXPECT_EQ(normalised(""), "");
}

TEST(Fingerprint, IsTheSameForOneKindOfErrorOnly) {
  const auto one = fingerprint("odoo.import", "missing", "order 12 has no lines");
  EXPECT_EQ(one.size(), 16u);
  EXPECT_EQ(fingerprint("odoo.import", "missing", "order 99999 has no lines"), one);
  EXPECT_NE(fingerprint("odoo.import", "missing", "order 12 has no partner"), one);
  EXPECT_NE(fingerprint("odoo.import", "rights", "order 12 has no lines"), one);
  EXPECT_NE(fingerprint("shop.status", "missing", "order 12 has no lines"), one);
}

}  // namespace
}  // namespace dragoman::jobs
