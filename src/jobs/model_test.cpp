// Random operations against a simple model in memory. A failing seed is replayed with DRAGOMAN_SEED.
#include <cstdlib>
#include <deque>
#include <set>

#include "jobs/retention.h"
#include "jobs/test_jobs.h"

namespace dragoman::jobs {
namespace {

class ModelTest : public JobsTest {
 protected:
  struct One {
    std::int64_t id = 0;
    std::string kind, key, unique;
    bool until_finished = false;
    int priority = 2;
    State state = State::available;
    bool released = false;  // a dead letter that let its key go
    int attempt = 0, interruptions = 0, max = 3;
    bool begun = false;
    bool alone = false;
  };
  struct Key {
    std::int64_t head = 0;
    std::set<std::int64_t> behind;
  };
  std::map<std::int64_t, One> jobs;
  std::map<std::string, Key> keys;
  std::map<std::string, std::int64_t> uniques;
  std::map<std::int64_t, Claimed> running;

  void enter(One& one) {
    if (one.key.empty()) return;
    auto& key = keys[one.key];
    if (key.head == 0)
      key.head = one.id;
    else
      key.behind.insert(one.id);
  }
  void leave(One& one) {
    if (one.key.empty()) return;
    auto& key = keys[one.key];
    if (key.head == one.id) {
      key.head = key.behind.empty() ? 0 : *key.behind.begin();
      if (key.head) key.behind.erase(key.head);
    } else {
      key.behind.erase(one.id);
    }
    if (key.head == 0) keys.erase(one.key);
  }
  bool is_head(const One& one) const { return one.key.empty() || keys.at(one.key).head == one.id; }
  bool ready(const One& one) const { return one.state == State::available && is_head(one); }
  void take_unique(const One& one) {
    if (!one.unique.empty()) uniques.try_emplace(one.unique, one.id);
  }
  void drop_unique(const One& one) {
    const auto found = uniques.find(one.unique);
    if (found != uniques.end() && found->second == one.id) uniques.erase(found);
  }
  void back(One& one, State state) {
    one.state = state;
    if (!one.until_finished) take_unique(one);
  }
  void die(One& one) {
    one.state = State::discarded;
    if (one.until_finished) drop_unique(one);
    one.alone = false;
    if (one.kind == "loose" && !one.key.empty()) {
      one.released = true;
      leave(one);
    }
  }

  void compare(const std::string& after) {
    std::map<State, std::int64_t> expected;
    for (const auto& [id, one] : jobs) {
      const auto view = board_->show(id);
      ASSERT_EQ(view.state, one.state) << after << " job " << id;
      ASSERT_EQ(view.attempt, one.attempt) << after << " job " << id;
      const bool behind = !one.released && !is_head_or_ended(one);
      ASSERT_EQ(view.hold == 1, behind) << after << " job " << id;
    }
  }
  bool is_head_or_ended(const One& one) const {
    if (one.key.empty() || one.state == State::completed || one.state == State::cancelled) return true;
    return keys.at(one.key).head == one.id;
  }
};

TEST_P(ModelTest, TheQueueDoesWhatASimpleModelDoes) {
  SystemRandom system;
  const char* given = std::getenv("DRAGOMAN_SEED");
  const std::uint64_t seed = given ? std::strtoull(given, nullptr, 10) : system.next() % 1'000'000;
  SCOPED_TRACE("DRAGOMAN_SEED=" + std::to_string(seed));
  SeededRandom random(seed);
  const auto below = [&](std::uint64_t n) { return static_cast<std::int64_t>(random.next() % n); };
  const char* const kKinds[] = {"work", "batch", "loose"};
  const int kMax[] = {3, 10, 1};

  for (int step = 0; step < 400 && !HasFatalFailure(); ++step) {
    std::string did;
    switch (below(10)) {
      case 0:
      case 1:
      case 2: {
        did = "enqueue";
        std::vector<NewJob> fresh;
        for (std::int64_t n = 1 + below(4); n > 0; --n) {
          auto one = job("{}", kKinds[below(3)]);
          if (below(2)) one.order_key = "k" + std::to_string(below(4));
          if (below(3) == 0) {
            one.unique_key = "u" + std::to_string(below(6));
            // A key is of one scope, as those of a kind are.
            one.unique = one.unique_key < "u3" ? Unique::waiting : Unique::unfinished;
          }
          one.priority = static_cast<Priority>(below(4));
          if (below(5) == 0) one.run_at = clock_.now() + std::chrono::hours(1);
          fresh.push_back(one);
        }
        const auto answers = add_all(fresh);
        for (std::size_t i = 0; i < fresh.size(); ++i) {
          const auto known = fresh[i].unique_key.empty() ? uniques.end() : uniques.find(fresh[i].unique_key);
          ASSERT_EQ(answers[i].folded, known != uniques.end()) << did << step;
          if (known != uniques.end()) {
            ASSERT_EQ(answers[i].id, known->second);
            auto& into = jobs.at(known->second);
            into.priority = std::min(into.priority, static_cast<int>(fresh[i].priority));
            continue;
          }
          One one{.id = answers[i].id,
                  .kind = fresh[i].kind,
                  .key = fresh[i].order_key,
                  .unique = fresh[i].unique_key,
                  .until_finished = fresh[i].unique == Unique::unfinished,
                  .priority = static_cast<int>(fresh[i].priority),
                  .state = fresh[i].run_at ? State::scheduled : State::available,
                  .max = kMax[fresh[i].kind == "work"    ? 0
                              : fresh[i].kind == "batch" ? 1
                                                         : 2]};
          take_unique(one);
          enter(one);
          jobs[one.id] = one;
        }
        break;
      }
      case 3:
      case 4: {
        did = "claim";
        const auto limit = 1 + below(6);
        const bool idle = running.empty();
        std::set<std::int64_t> could, alone;
        for (const auto& [id, one] : jobs)
          if (ready(one)) (one.alone ? alone : could).insert(id);
        const auto claims = queue_->claim(node_->id(), {.jobs_max = static_cast<int>(limit), .idle = idle});
        if (!alone.empty()) {
          ASSERT_EQ(claims.jobs.size(), idle ? 1u : 0u) << step;
          ASSERT_EQ(claims.alone_waits, !idle) << step;
        } else {
          ASSERT_EQ(claims.jobs.size(), std::min<std::size_t>(could.size(), static_cast<std::size_t>(limit))) << step;
        }
        std::map<std::int64_t, std::pair<int, std::int64_t>> last_of_lane;
        for (const auto& claimed : claims.jobs) {
          auto& one = jobs.at(claimed.job.id);
          ASSERT_TRUE(could.count(one.id) || alone.count(one.id)) << step;
          const std::pair place(one.priority, one.id);
          if (last_of_lane.count(claimed.lane.id)) {
            ASSERT_LT(last_of_lane[claimed.lane.id], place) << step;
          }
          last_of_lane[claimed.lane.id] = place;
          one.state = State::running;
          ASSERT_EQ(claimed.job.attempt, ++one.attempt);
          if (!one.until_finished) drop_unique(one);
          running[one.id] = claimed;
          // Claimed ahead, it need not have begun when a death comes.
          one.begun = one.interruptions == 0;
          if (!one.begun && below(2)) {
            ASSERT_EQ(Queue::begin(*store_, std::span(&claimed, 1)).size(), 1u) << step;
            one.begun = true;
          }
        }
        break;
      }
      case 5:
      case 6: {
        did = "finish";
        std::vector<Finished> finished;
        std::vector<std::int64_t> which;
        for (const auto& [id, claimed] : running)
          if (below(2)) {
            auto& one = jobs.at(id);
            Outcome outcome = done();
            switch (below(6)) {
              case 0:
                outcome = error(Error::Kind::in_doubt);
                one.interruptions = 0;
                one.alone = false;
                if (one.attempt >= one.max)
                  die(one);
                else
                  back(one, State::retryable);
                break;
              case 1:
                outcome = error(Error::Kind::invalid);
                die(one);
                break;
              case 2:
                outcome = snooze(std::chrono::hours(1));
                --one.attempt;
                back(one, State::scheduled);
                break;
              case 3:
                outcome = cancel("no");
                one.state = State::cancelled;
                if (one.until_finished) drop_unique(one);
                leave(one);
                break;
              default:
                one.state = State::completed;
                if (one.until_finished) drop_unique(one);
                leave(one);
            }
            finished.push_back({claimed, outcome});
            which.push_back(id);
          }
        for (const auto ending : queue_->finish(finished)) ASSERT_EQ(ending, Ending::recorded) << step;
        for (const auto id : which) running.erase(id);
        break;
      }
      case 7: {
        did = "time";
        time_passes();
        for (auto& [id, one] : jobs)
          if ((one.state == State::scheduled || one.state == State::retryable) && is_head(one))
            one.state = State::available;
        // What is behind stays as it is until it is let go; a look makes the due ones available.
        queue_->claim(node_->id(), {.jobs_max = 0});
        break;
      }
      case 8: {
        if (below(4)) break;
        did = "death";
        store_->write([&](store::Session& session) {
          ASSERT_EQ(queue_->rescue(session, node_->id(), "test"), static_cast<std::int64_t>(running.size()));
        });
        for (const auto& [id, claimed] : running) {
          auto& one = jobs.at(id);
          --one.attempt;
          if (one.begun) ++one.interruptions;
          if (one.alone && one.begun) {
            die(one);
          } else {
            one.alone = one.alone || one.interruptions >= 3;
            back(one, State::available);
          }
          std::vector<Finished> late{{claimed, done([](store::Session&) { ADD_FAILURE() << "an effect too late"; })}};
          ASSERT_EQ(queue_->finish(late).front(), Ending::refused) << step;
        }
        running.clear();
        break;
      }
      default: {
        did = "person";
        if (jobs.empty()) break;
        auto at = jobs.begin();
        std::advance(at, below(jobs.size()));
        auto& one = at->second;
        if (one.state == State::discarded && below(2)) {
          board_->retry(one.id, {.who = "test"});
          one.attempt = one.interruptions = 0;
          one.state = State::available;
          take_unique(one);
          if (one.released) {
            one.released = false;
            enter(one);
          }
        } else if (one.state == State::discarded) {
          board_->discard(one.id, {.who = "test"});
          one.state = State::cancelled;
          drop_unique(one);
          if (!one.released) leave(one);
          one.released = false;
        } else if (one.state == State::available || one.state == State::scheduled || one.state == State::retryable) {
          board_->cancel(one.id, {.who = "test"});
          one.state = State::cancelled;
          drop_unique(one);
          leave(one);
        }
      }
    }
    // Those that were let go and whose time had come are available at once.
    for (auto& [id, one] : jobs)
      if ((one.state == State::scheduled || one.state == State::retryable) && is_head(one) &&
          board_->show(id).run_at <= clock_.now())
        one.state = State::available;
    if (step % 10 == 0) compare(did + " " + std::to_string(step));
  }
  compare("the end");
  const auto counts = board_->counts();
  EXPECT_EQ(counts.accepted(), static_cast<std::int64_t>(jobs.size()));
  EXPECT_EQ(number("SELECT count(*) FROM order_queue"), static_cast<std::int64_t>(keys.size()));
  EXPECT_EQ(number("SELECT count(*) FROM job_unique"), static_cast<std::int64_t>(uniques.size()));
}

INSTANTIATE_TEST_SUITE_P(Engines, ModelTest, testing::Values("Sqlite", "Postgres"), kEngineName);

}  // namespace
}  // namespace dragoman::jobs
