#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "fakes/fake_hub.h"
#include "jobs/node.h"
#include "jobs/queue.h"
#include "ops/operation.h"

namespace dragoman::ops {
namespace {

using nlohmann::json;

class Works final : public jobs::Handler {
 public:
  std::vector<jobs::Outcome> run(std::span<const jobs::Job> jobs, std::stop_token) override {
    return std::vector<jobs::Outcome>(jobs.size(), jobs::done());
  }
};

/// The operations on jobs, as a person uses them through any face.
class JobOperationsTest : public testing::Test {
 protected:
  json ask(std::string_view name, json input = json::object()) {
    const auto& operation = hub_.operation(name);
    Context context{hub_.services, "ann", {}};
    return json::parse(operation.run(context, check_input(operation, std::move(input))));
  }
  std::int64_t add(const std::string& payload, const std::string& flow = "inbox") {
    jobs::Enqueued added;
    hub_.store->write([&](store::Session& session) {
      added = jobs::enqueue(session, {.kind = "work", .flow = flow, .payload = payload, .cause = "test"});
    });
    return added.id;
  }
  void die(const std::string& message) {
    std::vector<jobs::Finished> finished;
    for (auto& one : queue_.claim(node_.id(), {}).jobs)
      finished.push_back({std::move(one), jobs::failed(Error(Error::Kind::invalid, message))});
    queue_.finish(finished);
  }

  tests::FakeHub hub_;
  Works works_;
  const jobs::Kinds kinds_{{{.name = "work", .handler = &works_}}};
  jobs::Queue queue_{*hub_.store, kinds_, hub_.random, "here"};
  jobs::Node node_{queue_, hub_.clock, {.name = "here"}};

  void SetUp() override { node_.start(); }
};

TEST_F(JobOperationsTest, ADeadLetterIsFoundExplainedEditedAndRetried) {
  const auto id = add(R"({"qty":0})");
  die("the quantity is 0");
  const auto listed = ask("job list", {{"state", "discarded"}})["jobs"];
  ASSERT_EQ(listed.size(), 1u);
  EXPECT_EQ(listed[0]["id"], id);
  EXPECT_EQ(listed[0]["error"], "the quantity is 0");
  EXPECT_EQ(ask("job list", {{"kind", "work"}, {"flow", "inbox"}})["jobs"].size(), 1u);
  EXPECT_THROW(ask("job list", {{"kind", "wrok"}}), Error) << "an empty list would say that all is well";
  EXPECT_THROW(ask("job list", {{"flow", "inbocks"}}), Error);

  auto shown = ask("job show", {{"id", id}});
  EXPECT_NE(shown["explanation"].get<std::string>().find("the quantity is 0"), std::string::npos);
  EXPECT_EQ(shown["payload"], R"({"qty":0})");
  EXPECT_EQ(shown["history"].size(), 1u);

  EXPECT_EQ(ask("job edit", {{"id", id}, {"payload", R"({"qty":2})"}, {"reason", "typing error"}})["difference"],
            "/qty: 0 → 2");
  EXPECT_EQ(ask("job retry", {{"id", id}})["state"], "available");
  shown = ask("job show", {{"id", id}});
  EXPECT_EQ(shown["payload"], R"({"qty":2})");
  EXPECT_EQ(shown["history"].back()["who"], "ann");
  EXPECT_EQ(ask("job cancel", {{"id", id}, {"reason", "not wanted"}})["state"], "cancelled");
  EXPECT_THROW(ask("job retry", {{"id", id}}), Error);
}

TEST_F(JobOperationsTest, LikeErrorsAreRetriedOrDiscardedTogether) {
  for (int i = 0; i < 5; ++i) add("{}");
  die("order 7 has no lines");
  add("{}");
  die("something else");
  const auto groups = ask("job groups")["groups"];
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0]["jobs"], 5);
  EXPECT_EQ(ask("job list", {{"group", groups[0]["group"]}})["jobs"].size(), 5u);
  EXPECT_EQ(ask("job retry-group", {{"group", groups[0]["group"]}})["jobs"], 5);
  EXPECT_EQ(ask("job discard-group", {{"group", groups[1]["group"]}})["jobs"], 1);
  EXPECT_TRUE(ask("job groups")["groups"].empty());
  const auto status = ask("status");
  EXPECT_EQ(status["jobs_accepted"], 6);
  EXPECT_EQ(status["jobs_waiting"], 5);
  EXPECT_EQ(status["jobs_cancelled"], 1);
}

TEST_F(JobOperationsTest, PausingSaysWhatWillWait) {
  add("{}");
  add("{}");
  add("{}", "other");
  EXPECT_EQ(ask("flow pause", {{"what", "flow"}, {"name", "inbox"}, {"reason", "stocktaking"}})["waiting"], 2);
  EXPECT_EQ(queue_.claim(node_.id(), {}).jobs.size(), 1u);
  const auto lanes = ask("flow list")["lanes"];
  ASSERT_EQ(lanes.size(), 2u);
  EXPECT_EQ(lanes[0]["flow"], "inbox");
  EXPECT_EQ(lanes[0]["ready"], 2);
  EXPECT_EQ(lanes[0]["closed"], "flow paused by ann: stocktaking");
  EXPECT_EQ(ask("flow resume", {{"what", "flow"}, {"name", "inbox"}})["resumed"], true);
  EXPECT_EQ(ask("flow resume", {{"what", "flow"}, {"name", "inbox"}})["resumed"], false);
  EXPECT_EQ(queue_.claim(node_.id(), {}).jobs.size(), 2u);
  EXPECT_THROW(ask("flow pause", {{"what", "connection"}, {"name", "nobody"}}), Error);
  EXPECT_THROW(ask("flow pause", {{"what", "flow"}, {"name", "stauts"}}), Error);
  EXPECT_EQ(ask("flow pause", {{"what", "flow"}, {"name", "status"}})["waiting"], 0) << "no job of it yet";
  EXPECT_THROW(ask("flow pause", {{"what", "kind"}, {"name", "odoo.imprt"}}), Error);
  EXPECT_EQ(ask("node list")["nodes"][0]["jobs"], 3);
}

TEST_F(JobOperationsTest, AConnectionThatAPersonResumesIsTriedAtOnce) {
  ask("connection add", {{"name", "main"}, {"url", "x"}, {"secret", "open sesame"}});
  const auto connection = hub_.connections.get("main").id;
  jobs::Enqueued added;
  hub_.store->write([&](store::Session& session) {
    added = jobs::enqueue(session, {.kind = "work", .flow = "inbox", .connection_id = connection, .payload = "{}"});
  });
  std::vector<jobs::Finished> finished;
  for (auto& one : queue_.claim(node_.id(), {}).jobs)
    finished.push_back({std::move(one), jobs::failed(Error(Error::Kind::auth, "the password is refused"))});
  queue_.finish(finished);
  EXPECT_TRUE(queue_.claim(node_.id(), {}).jobs.empty());
  EXPECT_EQ(ask("flow list")["lanes"][0]["closed"], "until a person acts: the password is refused");
  ask("connection pause", {{"name", "main"}});
  EXPECT_EQ(ask("flow list")["lanes"][0]["closed"], "the connection is paused");
  ask("connection resume", {{"name", "main"}});
  EXPECT_EQ(queue_.claim(node_.id(), {}).jobs.size(), 1u);
}

}  // namespace
}  // namespace dragoman::ops
