#include <gtest/gtest.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "base/secret.h"
#include "base/step.h"

namespace dragoman {
namespace {

TEST(Clock, FormatsAndReadsBothForms) {
  const auto t = parse_time("2026-11-20 10:05:48.113847");
  ASSERT_TRUE(t);
  EXPECT_EQ(format_iso(*t), "2026-11-20T10:05:48.113847Z");
  EXPECT_EQ(format_odoo(*t), "2026-11-20 10:05:48");
  EXPECT_EQ(parse_time("2026-11-20T10:05:48.113847Z"), t);
  EXPECT_EQ(parse_time("1969-12-31 23:59:59"), from_us(-1'000'000));
  EXPECT_EQ(format_iso(from_us(-1)), "1969-12-31T23:59:59.999999Z");
}

TEST(Clock, RefusesWhatIsNoTime) {
  for (const char* text : {"", "2026", "2026-13-01", "2026-02-30 00:00:00", "2026-11-20 25:00:00", "2026-11-20 10:05",
                           "2026-11-20 10:05:48x", "false"})
    EXPECT_FALSE(parse_time(text)) << text;
}

TEST(Clock, WaitEndsAtOnceWhenStopped) {
  std::stop_source source;
  source.request_stop();
  EXPECT_FALSE(SystemClock().wait(std::chrono::hours(1), source.get_token()));
}

TEST(ErrorPolicy, EveryKindHasOneAndItsNameLeadsBack) {
  for (int i = 0; i <= static_cast<int>(Error::Kind::bug); ++i) {
    const auto kind = static_cast<Error::Kind>(i);
    EXPECT_EQ(error_kind(policy(kind).name), kind);
  }
  EXPECT_FALSE(error_kind("nonsense"));
}

TEST(Secret, IsWipedWhenMovedFrom) {
  Secret a("short");
  const Secret b(std::move(a));
  EXPECT_TRUE(a.empty());  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_TRUE(b.equals("short"));
  EXPECT_FALSE(b.equals("shorT"));
}

TEST(Random, SameSeedSameSequence) {
  SeededRandom a(7), b(7), c(8);
  const auto first = a.next();
  EXPECT_EQ(first, b.next());
  EXPECT_NE(first, c.next());
  EXPECT_EQ(random_hex(a, 20).size(), 40u);
}

}  // namespace
TEST(Step, TellsWhoListensAndNobodyElse) {
  std::vector<std::string> seen;
  step("before");
  on_step([&](std::string_view name) {
    seen.emplace_back(name);
    if (name == "crash") throw std::runtime_error("crashed");
  });
  step("one");
  EXPECT_THROW(step("crash"), std::runtime_error);
  on_step({});
  step("after");
  EXPECT_EQ(seen, (std::vector<std::string>{"one", "crash"}));
}

TEST(Step, KillsTheProcessAtTheNamedTime) {
  EXPECT_EXIT(
      {
        setenv("DRAGOMAN_KILL_AT", "deliver.sent:2", 1);
        kill_at_step_from_environment();
        step("deliver.sent");
        step("deliver.intended");
        step("deliver.sent");
        _exit(0);
      },
      testing::KilledBySignal(SIGKILL), "");
  EXPECT_EXIT(
      {
        setenv("DRAGOMAN_KILL_AT", "deliver.sent:x", 1);
        try {
          kill_at_step_from_environment();
        } catch (const Error&) {
          _exit(7);
        }
      },
      testing::ExitedWithCode(7), "");
}

}  // namespace dragoman
