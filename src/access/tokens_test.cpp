#include "access/tokens.h"

#include <gtest/gtest.h>

#include "access/rate_limit.h"
#include "base/error.h"
#include "fakes/hand_clock.h"
#include "store/test_store.h"

namespace dragoman::access {
namespace {

using namespace std::chrono_literals;

class TokensTest : public testing::Test {
 protected:
  store::TemporaryFolder folder_;
  tests::HandClock clock_;
  SystemRandom random_;
  std::unique_ptr<store::Store> store_ = store::open({.url = folder_ / "hub.db"}, clock_);
  Tokens tokens_{*store_, clock_, random_};
};

TEST_F(TokensTest, ATokenIsGoodForItsRoleUntilRevoked) {
  EXPECT_FALSE(tokens_.any());
  const auto admin = tokens_.create("first", Role::admin, {});
  const auto viewer = tokens_.create("wall screen", Role::viewer, {});
  EXPECT_TRUE(tokens_.any());
  EXPECT_TRUE(viewer.secret.reveal().starts_with("dgm_"));
  EXPECT_EQ(viewer.secret.reveal().size(), 47u);
  EXPECT_EQ(viewer.token.prefix, viewer.secret.reveal().substr(0, 10));
  const auto seen = tokens_.check(viewer.secret.reveal());
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->role, Role::viewer);
  EXPECT_EQ(seen->name, "wall screen");

  EXPECT_EQ(tokens_.revoke(viewer.token.prefix).state(clock_.now()), "revoked");
  EXPECT_FALSE(tokens_.check(viewer.secret.reveal()));
  EXPECT_TRUE(tokens_.check(admin.secret.reveal()));
}

TEST_F(TokensTest, WhatIsNoTokenIsRefused) {
  const auto token = tokens_.create("one", Role::user, {});
  std::string changed = token.secret.reveal();
  changed.back() = changed.back() == 'A' ? 'B' : 'A';
  for (const std::string& text : {std::string(), std::string("dgm_"), changed, token.token.prefix,
                                  std::string(9999, 'x'), "dgm_" + std::string(9999, 'x')})
    EXPECT_FALSE(tokens_.check(text));
}

TEST_F(TokensTest, TheDatabaseHoldsNoToken) {
  const auto token = tokens_.create("one", Role::user, {});
  store_->read([&](store::Session& session) {
    session.query("SELECT name, prefix, hash FROM token", std::initializer_list<store::Param>{},
                  [&](const store::Row& row) {
                    EXPECT_EQ(row.bytes(2).size(), 32u);
                    EXPECT_EQ(row.bytes(2).find(token.secret.reveal()), std::string::npos);
                  });
  });
}

TEST_F(TokensTest, ExpiresWhenItsTimeIsOver) {
  const auto token = tokens_.create("one", Role::user, clock_.now() + 1h);
  EXPECT_TRUE(tokens_.check(token.secret.reveal()));
  clock_.advance(1h);
  EXPECT_FALSE(tokens_.check(token.secret.reveal()));
  EXPECT_EQ(tokens_.list().at(0).state(clock_.now()), "expired");
  EXPECT_THROW(tokens_.create("late", Role::user, clock_.now()), Error);
}

TEST_F(TokensTest, RevokedElsewhereIsRefusedWithinTheAgeOfTheCache) {
  const auto admin = tokens_.create("admin", Role::admin, {});
  const auto token = tokens_.create("one", Role::user, {});
  Tokens elsewhere(*store_, clock_, random_);
  EXPECT_TRUE(tokens_.check(token.secret.reveal()));
  elsewhere.revoke(std::to_string(token.token.id));
  clock_.advance(Tokens::kCacheAge);
  EXPECT_FALSE(tokens_.check(token.secret.reveal()));
}

TEST_F(TokensTest, FromMemoryComesWhatNeedsNoLookAndNoNote) {
  const auto token = tokens_.create("one", Role::user, clock_.now() + 50s);
  const auto other = tokens_.create("two", Role::user, {});
  const auto known = [&] { return tokens_.check_from_memory(token.secret.reveal()).has_value(); };
  EXPECT_FALSE(known()) << "nothing is in memory yet";
  EXPECT_TRUE(tokens_.check(token.secret.reveal()));
  EXPECT_TRUE(known());
  EXPECT_FALSE(tokens_.check_from_memory(other.secret.reveal())) << "that it was used is to be noted";
  EXPECT_FALSE(tokens_.check_from_memory("dgm_unknown"));
  EXPECT_FALSE(tokens_.check_from_memory("other"));
  clock_.advance(Tokens::kCacheAge);
  EXPECT_FALSE(known()) << "what is in memory is too old";
  clock_.advance(47s);
  EXPECT_TRUE(tokens_.check(token.secret.reveal()));
  EXPECT_TRUE(known());
  clock_.advance(1s);
  EXPECT_FALSE(known()) << "it has ended";
  EXPECT_TRUE(tokens_.check(other.secret.reveal()));
  EXPECT_TRUE(tokens_.check_from_memory(other.secret.reveal()));
  tokens_.revoke(std::to_string(other.token.id));
  EXPECT_FALSE(tokens_.check_from_memory(other.secret.reveal()));
}

TEST_F(TokensTest, RemembersWhenItWasUsedAtMostOnceAMinute) {
  const auto token = tokens_.create("one", Role::user, {});
  const Time first = clock_.now();
  tokens_.check(token.secret.reveal());
  clock_.advance(30s);
  tokens_.check(token.secret.reveal());
  EXPECT_EQ(tokens_.list().at(0).used, first);
  clock_.advance(30s);
  tokens_.check(token.secret.reveal());
  EXPECT_EQ(tokens_.list().at(0).used, first + 1min);
}

TEST_F(TokensTest, TheLastAdminTokenStays) {
  const auto admin = tokens_.create("first", Role::admin, {});
  tokens_.create("short", Role::admin, clock_.now() + 1s);
  clock_.advance(2s);
  try {
    tokens_.revoke(admin.token.prefix);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "last_admin");
  }
  EXPECT_THROW(tokens_.revoke("dgm_nobody"), Error);
  tokens_.create("taken", Role::user, clock_.now() + 1h);
  try {
    tokens_.create("taken", Role::viewer, {});
    ADD_FAILURE() << "two of one name";
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "name_taken");
  }
  clock_.advance(2h);
  EXPECT_NO_THROW(tokens_.create("taken", Role::viewer, {})) << "the first has ended";
  EXPECT_THROW(tokens_.create("", Role::user, {}), Error);
  EXPECT_THROW(tokens_.create("a\nb", Role::user, {}), Error);
  EXPECT_THROW(tokens_.create("\xff", Role::user, {}), Error);
}

TEST(Role, AllowsWhatTheLowerOnesMay) {
  EXPECT_TRUE(allows(Role::admin, Role::viewer));
  EXPECT_TRUE(allows(Role::user, Role::user));
  EXPECT_FALSE(allows(Role::user, Role::manager));
  EXPECT_EQ(role("manager"), Role::manager);
  EXPECT_FALSE(role("Manager"));
}

TEST(RateLimit, LetsABurstThroughAndThenTheRate) {
  tests::HandClock clock;
  RateLimit limit({.per_second = 2, .burst = 3}, clock);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limit.take("a"));
  EXPECT_EQ(limit.take("a"), Micros(500'000));
  EXPECT_FALSE(limit.take("b")) << "each key has its own";
  clock.advance(500ms);
  EXPECT_FALSE(limit.take("a"));
  EXPECT_TRUE(limit.take("a"));
  clock.advance(1h);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(limit.take("a"));
  EXPECT_TRUE(limit.take("a"));
}

TEST(RateLimit, ItsMemoryIsBoundedAndNoRateIsNoLimit) {
  tests::HandClock clock;
  RateLimit limit({.per_second = 1, .burst = 1, .keys_max = 100}, clock);
  for (int i = 0; i < 10'000; ++i) EXPECT_FALSE(limit.take(std::to_string(i)));
  RateLimit none({.per_second = 0}, clock);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(none.take("a"));
}

}  // namespace
}  // namespace dragoman::access
