#include "connectors/odoo/field_plan.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "connectors/odoo/models.h"
#include "connectors/odoo/server_clock.h"

namespace dragoman::connectors::odoo {
namespace {

constexpr const char* kFields = R"({
  "id": {"type": "integer", "store": true},
  "name": {"type": "char", "store": true},
  "write_date": {"type": "datetime", "store": true},
  "active": {"type": "boolean", "store": true},
  "category_id": {"type": "many2many", "store": true, "relation": "res.partner.category"},
  "child_ids": {"type": "one2many", "store": true, "relation": "res.partner", "relation_field": "parent_id"},
  "message_ids": {"type": "one2many", "store": true, "relation": "mail.message", "relation_field": "res_id"},
  "display_name": {"type": "char", "store": false},
  "property_term": {"type": "many2one", "store": false, "company_dependent": true, "relation": "account.payment.term"},
  "image_1920": {"type": "binary", "store": true},
  "stripe_secret_key": {"type": "char", "store": true}
})";

std::string reason(const pipeline::Plan& plan, const std::string& field) {
  for (const auto& out : plan.left_out)
    if (out.field == field) return out.reason;
  return "";
}

TEST(FieldPlan, TakesWhatIsStoredAndSaysWhyOfEverythingElse) {
  const auto plan = make_plan(kFields, {}, {"res.partner"});
  EXPECT_EQ(plan.fields, (std::vector<std::string>{"active", "category_id", "id", "message_ids", "name",
                                                   "property_term", "write_date"}));
  EXPECT_EQ(plan.fields.size() + plan.left_out.size(), 11u);
  EXPECT_EQ(reason(plan, "child_ids"), "the same link is captured as res.partner.parent_id");
  EXPECT_EQ(reason(plan, "display_name"), "computed by Odoo when asked, not stored");
  EXPECT_NE(reason(plan, "image_1920").find("binaries"), std::string::npos);
  EXPECT_NE(reason(plan, "stripe_secret_key").find("credential"), std::string::npos);
  EXPECT_TRUE(plan.has_write_date);
  EXPECT_TRUE(plan.has_active);
}

TEST(FieldPlan, KeepsAOneToManyWhoseOtherEndIsNotCaptured) {
  const auto plan = make_plan(kFields, {}, {});
  EXPECT_EQ(reason(plan, "child_ids"), "");
}

TEST(FieldPlan, ReadsOnlyTheFieldsThatAreNamedAndThoseItNeeds) {
  const auto plan = make_plan(kFields, {.fields = {"name", "stripe_secret_key", "display_name"}}, {});
  EXPECT_EQ(plan.fields,
            (std::vector<std::string>{"active", "display_name", "id", "name", "stripe_secret_key", "write_date"}));
}

TEST(FieldPlan, CapturesBinariesApart) {
  const auto plan = make_plan(kFields, {.binary_bytes_max = -1}, {});
  EXPECT_EQ(plan.binaries, std::vector<std::string>{"image_1920"});
  EXPECT_EQ(std::count(plan.fields.begin(), plan.fields.end(), "image_1920"), 0);
}

TEST(FieldPlan, RefusesANameThatIsNoFieldAndProposesOne) {
  try {
    make_plan(kFields, {.fields = {"nmae"}}, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    EXPECT_NE(error.message.find("Did you mean `name`?"), std::string::npos) << error.message;
  }
}

TEST(FieldPlan, RefusesAnAnswerThatIsNoDescription) {
  for (const char* text : {"[]", "false", "{\"a\": 1}", "{"}) EXPECT_THROW(make_plan(text, {}, {}), Error) << text;
}

TEST(FieldPlan, SurvivesTheStore) {
  const auto plan = make_plan(kFields, {.names = true, .binary_bytes_max = 5000}, {"res.partner"});
  const auto again = pipeline::Plan::parse(plan.json());
  EXPECT_EQ(again.json(), plan.json());
  EXPECT_TRUE(again.names);
}

TEST(DefaultModels, FollowTheNamesOfTheVersion) {
  const auto has = [](int major, const std::string& model) {
    const auto models = default_models(major);
    return std::count(models.begin(), models.end(), model) == 1;
  };
  EXPECT_TRUE(has(14, "payment.acquirer") && !has(14, "payment.provider"));
  EXPECT_TRUE(has(15, "coupon.program") && has(16, "loyalty.program") && !has(16, "coupon.program"));
  EXPECT_TRUE(has(19, "payment.provider") && !has(19, "payment.acquirer") && !has(19, "uom.category"));
}

TEST(ServerClock, NarrowsWholeSecondsDownAndNeverRunsAhead) {
  using namespace std::chrono_literals;
  ServerClock clock;
  const Micros offset = 1'000'000s + 123'456us;  // the server's time is ours plus this
  EXPECT_FALSE(clock.at_least(0us));
  for (Micros now = 5s; now < 25s; now += 730ms) {
    const Micros sent = now, received = now + 20ms;
    const Time server(now + 10ms + offset);
    clock.observe(sent, received, std::chrono::floor<std::chrono::seconds>(server));
    EXPECT_LE(*clock.at_least(sent), Time(sent + offset));
  }
  EXPECT_GT(*clock.at_least(25s), Time(25s + offset) - 100ms);
}

TEST(ServerClock, BeginsAnewWhenTheServersClockIsSet) {
  using namespace std::chrono_literals;
  ServerClock clock;
  clock.observe(10s, 10s, Time(100s));
  clock.observe(11s, 11s, Time(40s));
  EXPECT_LE(*clock.at_least(12s), Time(42s));
  clock.observe(13s, 13s, Time(900s));
  EXPECT_GE(*clock.at_least(13s), Time(899s));
}

}  // namespace
}  // namespace dragoman::connectors::odoo
