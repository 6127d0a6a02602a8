// What every engine of the store does, run on each of them. PostgreSQL is the server that DRAGOMAN_TEST_PG names (a
// URI of a role that may create databases); each test works in a schema of its own.
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <cmath>
#include <cstdlib>
#include <latch>
#include <limits>
#include <thread>

#include "base/error.h"
#include "store/test_store.h"

namespace dragoman::store {
namespace {

class SqliteDatabase final : public Database {
 public:
  std::string url() const override { return "sqlite:" + (folder_ / "hub.db"); }

 private:
  TemporaryFolder folder_;
};

class MemoryDatabase final : public Database {
 public:
  std::string url() const override { return "sqlite::memory:"; }
};

class StoreTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string_view engine = GetParam();
    if (engine == "Sqlite") {
      database_ = std::make_unique<SqliteDatabase>();
    } else if (engine == "Memory") {
      database_ = std::make_unique<MemoryDatabase>();
    } else {
      skip_without_server();
      if (IsSkipped() || HasFatalFailure()) return;
      database_ = postgres_schema();
    }
    store_ = open_again();
  }
  void TearDown() override { store_.reset(); }
  static void TearDownTestSuite() { shared_.reset(); }

  static std::unique_ptr<Database> postgres_schema() {
    if (!shared_) shared_ = std::make_unique<PostgresDatabase>(test_server());
    return std::make_unique<PostgresSchema>(*shared_);
  }

  bool in_memory() const { return std::string_view(GetParam()) == "Memory"; }
  bool postgres() const { return std::string_view(GetParam()) == "Postgres"; }

  /// Another connection to the same database, as another node or process would have.
  std::unique_ptr<Store> open_again(std::span<const Migration> migrations = kTestMigrations) {
    return open({.url = database_->url(), .readers = 4}, clock_, migrations);
  }

  static void add(Store& store, std::string_view name) {
    store.write([&](Session& s) { s.execute("INSERT INTO thing (name) VALUES ($1)", {name}); });
  }
  static std::int64_t count(Store& store) {
    std::int64_t n = -1;
    store.read([&](Session& s) { s.first("SELECT count(*) FROM thing", {}, [&](const Row& r) { n = r.int64(0); }); });
    return n;
  }

  inline static std::unique_ptr<PostgresDatabase> shared_;
  SystemClock clock_;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Store> store_;
};

/// Those that need a second connection to the same data, which memory has not.
class SharedStoreTest : public StoreTest {};

TEST_P(StoreTest, KeepsEveryTypeAsItWas) {
  const std::string odd("a\0b\xff\xfe\n", 6);
  const std::string text = "\xf0\x9f\x90\xab caf\xc3\xa9 \xe2\x82\xac '\"\\ $1 {{id}}";
  const std::string big(3 << 20, 'x');
  const auto lowest = std::numeric_limits<std::int64_t>::min();
  const auto highest = std::numeric_limits<std::int64_t>::max();
  store_->write([&](Session& s) {
    const std::string_view sql = "INSERT INTO thing (name, size, weight, body) VALUES ($1, $2, $3, $4)";
    s.execute(sql, {text, lowest, -0.1, Bytes{odd}});
    s.execute(sql, {"", highest, std::numeric_limits<double>::max(), Bytes{""}});
    s.execute(sql, {"nulls", nullptr, nullptr, nullptr});
    s.execute(sql, {"default views", 0, 0.0, Bytes{}});
    s.execute(sql, {"big", 1, 1.5, Bytes{big}});
    s.execute("INSERT INTO part SELECT min(id), 1, $1 FROM thing", {big});
  });
  int rows = 0;
  store_->read([&](Session& s) {
    s.query("SELECT name, size, weight, body FROM thing ORDER BY id", {}, [&](const Row& row) {
      switch (rows++) {
        case 0:
          EXPECT_EQ(row.text(0), text);
          EXPECT_EQ(row.int64(1), lowest);
          EXPECT_EQ(row.real(2), -0.1);
          EXPECT_EQ(row.bytes(3), odd);
          break;
        case 1:
          EXPECT_FALSE(row.is_null(0));
          EXPECT_EQ(row.text(0), "");
          EXPECT_EQ(row.int64(1), highest);
          EXPECT_EQ(row.real(2), std::numeric_limits<double>::max());
          EXPECT_FALSE(row.is_null(3));
          EXPECT_EQ(row.bytes(3), "");
          break;
        case 2:
          EXPECT_EQ(row.maybe_text(0), "nulls");
          EXPECT_EQ(row.maybe_int64(1), std::nullopt);
          EXPECT_TRUE(row.is_null(2));
          EXPECT_TRUE(row.is_null(3));
          break;
        case 3:
          EXPECT_EQ(row.time(1), from_us(0));
          EXPECT_FALSE(row.is_null(3));
          break;
        default:
          EXPECT_EQ(row.bytes(3), big);
      }
    });
  });
  EXPECT_EQ(rows, 5);
  store_->read([&](Session& s) {
    EXPECT_TRUE(s.first("SELECT label FROM part", {}, [&](const Row& row) { EXPECT_EQ(row.text(0), big); }));
  });
}

TEST_P(StoreTest, TakesParametersInAnyOrderAndMoreThanOnce) {
  store_->read([&](Session& s) {
    EXPECT_TRUE(
        s.first("SELECT CAST($2 AS BIGINT), CAST($1 AS TEXT), CAST($2 AS BIGINT) + 1", {"one", 2}, [](const Row& row) {
          EXPECT_EQ(row.int64(0), 2);
          EXPECT_EQ(row.text(1), "one");
          EXPECT_EQ(row.int64(2), 3);
        }));
  });
}

TEST_P(StoreTest, TheSameStatementTakesNullsAndValuesInTurn) {
  store_->write([&](Session& s) {
    for (int i = 0; i < 4; ++i) {
      const auto name = std::to_string(i);
      const Param size = i % 2 == 0 ? Param(nullptr) : Param(std::int64_t{i});
      const Param weight = i < 2 ? Param(nullptr) : Param(0.5);
      s.execute("INSERT INTO thing (name, size, weight) VALUES ($1, $2, $3)", {name, size, weight});
    }
    std::int64_t sum = 0;
    s.first("SELECT CAST(sum(size) AS BIGINT) FROM thing", {}, [&](const Row& row) { sum = row.int64(0); });
    EXPECT_EQ(sum, 4);
  });
}

TEST_P(StoreTest, RefusesAColumnOfAnotherType) {
  store_->write([&](Session& s) { s.execute("INSERT INTO thing (name) VALUES ('7')"); });
  const auto read = [&](const std::function<void(const Row&)>& each) {
    return error_of([&] { store_->read([&](Session& s) { s.query("SELECT name, size FROM thing", {}, each); }); });
  };
  EXPECT_EQ(read([](const Row& row) { row.int64(0); }).kind, Error::Kind::bug);
  EXPECT_EQ(read([](const Row& row) { row.int64(1); }).kind, Error::Kind::bug);
  EXPECT_EQ(read([](const Row& row) { row.text(2); }).kind, Error::Kind::bug);
}

TEST_P(StoreTest, RefusesTextThatIsNoText) {
  for (const auto& text : {std::string("a\0b", 3), std::string("0123456789\xff"), std::string("\xed\xa0\x80")}) {
    const auto error = error_of([&] { add(*store_, text); });
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    EXPECT_EQ(error.code, "text");
  }
  EXPECT_EQ(count(*store_), 0);
}

TEST_P(StoreTest, RefusesAWrongNumberOfParameters) {
  for (const auto* sql : {"SELECT CAST($1 AS TEXT)", "SELECT CAST($1 AS TEXT), CAST($3 AS TEXT)"})
    EXPECT_EQ(error_of([&] { store_->read([&](Session& s) {
                               s.query(sql, {"a", "b"}, [](const Row&) {});
                             }); }).kind,
              Error::Kind::bug);
}

TEST_P(StoreTest, TellsTheTimeOfTheDatabase) {
  const auto before = clock_.now();
  const auto look = [&](Session& s) {
    const auto first = s.now();
    const auto second = s.now();
    EXPECT_LE(first, second) << "it moves on within a transaction";
    // Both run on this machine here.
    EXPECT_LT(std::chrono::abs(first - before), std::chrono::minutes(5));
  };
  store_->read(look);
  store_->write(look);
}

TEST_P(StoreTest, CountsTheRowsThatChanged) {
  store_->write([&](Session& s) {
    EXPECT_EQ(s.execute("INSERT INTO thing (name, size) VALUES ('a', 1), ('b', 2), ('c', 3)"), 3);
    EXPECT_EQ(s.execute("UPDATE thing SET size = 0 WHERE size >= $1", {2}), 2);
    EXPECT_EQ(s.execute("DELETE FROM thing WHERE name = $1", {"nobody"}), 0);
    EXPECT_EQ(s.execute("CREATE TABLE other (a BIGINT)"), 0);
  });
}

TEST_P(StoreTest, GivesBackWhatReturningNames) {
  store_->write([&](Session& s) {
    std::int64_t id = 0;
    EXPECT_TRUE(s.first("INSERT INTO thing (name) VALUES ($1) RETURNING id, name", {"a"}, [&](const Row& row) {
      id = row.int64(0);
      EXPECT_EQ(row.text(1), "a");
    }));
    EXPECT_GT(id, 0);
    EXPECT_FALSE(s.first("SELECT 1 FROM thing WHERE id = $1", {id + 1}, [](const Row&) { ADD_FAILURE(); }));
  });
}

TEST_P(StoreTest, ACallbackMayRunOtherStatements) {
  store_->write([&](Session& s) {
    s.execute("INSERT INTO thing (name) VALUES ('a'), ('b')");
    s.query("SELECT id FROM thing ORDER BY id", {}, [&](const Row& row) {
      s.execute("UPDATE counter SET value = value + $1", {row.int64(0)});
      s.query("SELECT name FROM thing WHERE id = $1", {row.int64(0)}, [](const Row&) {});
    });
    s.query("SELECT value FROM counter", {}, [](const Row& row) { EXPECT_EQ(row.int64(0), 3); });
  });
}

TEST_P(StoreTest, KeepsNothingOfAThrowingTransaction) {
  EXPECT_THROW(store_->write([&](Session& s) {
    s.execute("INSERT INTO thing (name) VALUES ('a')");
    throw std::runtime_error("changed our mind");
  }),
               std::runtime_error);
  EXPECT_EQ(count(*store_), 0);
  add(*store_, "a");
  EXPECT_EQ(count(*store_), 1);
}

TEST_P(StoreTest, ThrowingOutOfAQueryLeavesTheConnectionUsable) {
  store_->write([&](Session& s) { s.execute("INSERT INTO thing (name) VALUES ('a'), ('b')"); });
  for (int i = 0; i < 6; ++i)
    EXPECT_THROW(store_->read([&](Session& s) {
      s.query("SELECT name FROM thing", {}, [](const Row&) { throw std::runtime_error("enough"); });
    }),
                 std::runtime_error);
  EXPECT_EQ(count(*store_), 2);
}

TEST_P(StoreTest, SaysThatAKeyExists) {
  add(*store_, "a");
  const auto error = error_of([&] { add(*store_, "a"); });
  EXPECT_EQ(error.kind, Error::Kind::conflict);
  EXPECT_EQ(error.code, "unique");
  EXPECT_EQ(std::string_view(error.what()).find("thing"), std::string_view::npos) << "tables are not for users";
}

TEST_P(StoreTest, SaysThatARowIsReferredTo) {
  const auto error =
      error_of([&] { store_->write([](Session& s) { s.execute("INSERT INTO part VALUES (99, 1, 'orphan')"); }); });
  EXPECT_EQ(error.kind, Error::Kind::conflict);
  EXPECT_EQ(error.code, "foreign_key");
}

TEST_P(StoreTest, ASwallowedErrorStillFailsTheTransaction) {
  add(*store_, "a");
  const auto error = error_of([&] {
    store_->write([](Session& s) {
      s.execute("INSERT INTO thing (name) VALUES ('b')");
      try {
        s.execute("INSERT INTO thing (name) VALUES ('a')");
      } catch (const Error&) {
      }
      try {
        s.execute("INSERT INTO thing (name) VALUES ('c')");
      } catch (const Error&) {
      }
    });
  });
  EXPECT_EQ(error.code, "unique");
  EXPECT_EQ(count(*store_), 1);
}

TEST_P(StoreTest, RefusesBadSqlAsABug) {
  EXPECT_EQ(error_of([&] { store_->write([](Session& s) { s.execute("UPDATE nothing SET x = 1"); }); }).kind,
            Error::Kind::bug);
  EXPECT_EQ(error_of([&] { store_->write([](Session& s) { s.execute("DELETE FROM part; DELETE FROM thing"); }); }).kind,
            Error::Kind::bug);
  add(*store_, "still usable");
}

TEST_P(StoreTest, AReadKeepsNothing) {
  EXPECT_THROW(store_->read([](Session& s) { s.execute("INSERT INTO thing (name) VALUES ('a')"); }), Error);
  EXPECT_EQ(count(*store_), 0);
  add(*store_, "a");
  EXPECT_EQ(count(*store_), 1);
}

TEST_P(StoreTest, InsertsTenThousandRows) {
  std::vector<std::string> names, bodies;
  for (int i = 0; i < 10'000; ++i) {
    names.push_back("name " + std::to_string(i));
    bodies.push_back(std::string(1, static_cast<char>(i)) + std::string(static_cast<std::size_t>(i % 97), '\\'));
  }
  std::vector<Param> values;
  for (int i = 0; i < 10'000; ++i) {
    const auto at = static_cast<std::size_t>(i);
    values.insert(values.end(), {Param(std::string_view(names[at])), i % 3 ? Param(std::int64_t{i}) : Param(nullptr),
                                 Param(i / 4.0), Param(Bytes{bodies[at]})});
  }
  constexpr std::string_view columns[] = {"name", "size", "weight", "body"};
  store_->write([&](Session& s) { s.insert_many("thing", columns, values); });
  std::size_t seen = 0;
  store_->read([&](Session& s) {
    s.query("SELECT name, size, weight, body FROM thing ORDER BY id", {}, [&](const Row& row) {
      const auto i = static_cast<std::int64_t>(seen);
      ASSERT_EQ(row.text(0), names[seen]);
      ASSERT_EQ(row.maybe_int64(1), i % 3 ? std::optional(i) : std::nullopt);
      ASSERT_EQ(row.real(2), static_cast<double>(i) / 4.0);
      ASSERT_EQ(row.bytes(3), bodies[seen]);
      ++seen;
    });
  });
  EXPECT_EQ(seen, 10'000u);
}

TEST_P(StoreTest, InsertManyFailsAsAWholeOnAConflict) {
  constexpr std::string_view columns[] = {"name", "size"};
  const Param values[] = {"a", 1, "b", 2, "a", 3};
  const auto error = error_of([&] { store_->write([&](Session& s) { s.insert_many("thing", columns, values); }); });
  EXPECT_EQ(error.kind, Error::Kind::conflict);
  EXPECT_EQ(error.code, "unique");
  EXPECT_EQ(count(*store_), 0);
}

TEST_P(StoreTest, InsertManyReplacesByKey) {
  constexpr std::string_view columns[] = {"name", "size", "weight"};
  constexpr std::string_view key[] = {"name"};
  const Param before[] = {"a", 1, 0.5, "b", 2, 0.5};
  const Param after[] = {"b", 20, nullptr, "c", 30, 3.5};
  store_->write([&](Session& s) { s.insert_many("thing", columns, before); });
  store_->write([&](Session& s) {
    s.insert_many("thing", columns, after, key);
    s.insert_many("thing", columns, {}, key);
  });
  std::string all;
  store_->read([&](Session& s) {
    s.query("SELECT name, size, weight FROM thing ORDER BY name", {}, [&](const Row& row) {
      all += std::string(row.text(0)) + std::to_string(row.int64(1)) + (row.is_null(2) ? "- " : " ");
    });
  });
  EXPECT_EQ(all, "a1 b20- c30 ");
}

TEST_P(StoreTest, InsertManyWithAKeyTwiceKeepsTheLast) {
  constexpr std::string_view columns[] = {"name", "size"};
  constexpr std::string_view key[] = {"name"};
  const Param values[] = {"a", 1, "b", 2, "a", 3};
  store_->write([&](Session& s) { s.insert_many("thing", columns, values, key); });
  EXPECT_EQ(count(*store_), 2);
  store_->read([](Session& s) {
    s.query("SELECT size FROM thing WHERE name = 'a'", {}, [](const Row& row) { EXPECT_EQ(row.int64(0), 3); });
  });
}

TEST_P(StoreTest, InsertManyLeavesARowOfKeysAlone) {
  constexpr std::string_view columns[] = {"thing_id", "number"};
  store_->write([&](Session& s) {
    s.execute("CREATE TABLE pair (thing_id BIGINT, number BIGINT, PRIMARY KEY (thing_id, number))");
    const Param values[] = {1, 1, 1, 2};
    s.insert_many("pair", columns, values, columns);
    s.insert_many("pair", columns, values, columns);
    s.query("SELECT count(*) FROM pair", {}, [](const Row& row) { EXPECT_EQ(row.int64(0), 2); });
  });
}

TEST_P(StoreTest, InsertManyTwiceInOneTransaction) {
  constexpr std::string_view columns[] = {"name", "size"}, other[] = {"size", "name"}, key[] = {"name"};
  store_->write([&](Session& s) {
    const Param first[] = {"a", 1, "b", 2};
    const Param second[] = {5, "a", 6, "c"};
    s.insert_many("thing", columns, first, key);
    s.insert_many("thing", other, second, key);
    s.query("SELECT CAST(sum(size) AS BIGINT) FROM thing", {}, [](const Row& row) { EXPECT_EQ(row.int64(0), 13); });
  });
}

TEST_P(StoreTest, ConcurrentWritersAllLand) {
  constexpr int kThreads = 6, kEach = 40;
  std::vector<std::jthread> threads;
  threads.reserve(kThreads);
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i)
        store_->write([&](Session& s) {
          std::int64_t value = 0;
          s.first("SELECT value FROM counter WHERE name = 'sum'", {}, [&](const Row& r) { value = r.int64(0); });
          s.execute("UPDATE counter SET value = value + 1 WHERE name = 'sum'");
          const auto name = std::to_string(t) + "." + std::to_string(i);
          s.execute("INSERT INTO thing (name, size) VALUES ($1, $2)", {name, value});
        });
    });
  threads.clear();
  store_->read([&](Session& s) {
    s.query("SELECT value FROM counter", {}, [](const Row& r) { EXPECT_EQ(r.int64(0), kThreads * kEach); });
  });
  EXPECT_EQ(count(*store_), kThreads * kEach);
}

TEST_P(SharedStoreTest, AReadSeesOneMoment) {
  add(*store_, "a");
  store_->read([&](Session& s) {
    const auto seen = [&] {
      std::int64_t n = 0;
      s.first("SELECT count(*) FROM thing", {}, [&](const Row& r) { n = r.int64(0); });
      return n;
    };
    EXPECT_EQ(seen(), 1);
    std::jthread([&] { add(*store_, "b"); }).join();
    EXPECT_EQ(seen(), 1);
  });
  EXPECT_EQ(count(*store_), 2);
}

TEST_P(SharedStoreTest, AWriteIsSeenByOtherNodesOnceCommitted) {
  const auto other = open_again();
  store_->write([&](Session& s) {
    s.execute("INSERT INTO thing (name) VALUES ('a')");
    EXPECT_EQ(count(*other), 0);
  });
  EXPECT_EQ(count(*other), 1);
}

TEST_P(SharedStoreTest, TwoNodesWriteInTurn) {
  const auto other = open_again();
  std::vector<std::jthread> threads;
  for (Store* store : {store_.get(), other.get()})
    threads.emplace_back([store] {
      for (int i = 0; i < 60; ++i)
        store->write([&](Session& s) {
          s.lock("sum");
          std::int64_t value = 0;
          s.first("SELECT value FROM counter WHERE name = 'sum'", {}, [&](const Row& r) { value = r.int64(0); });
          s.execute("UPDATE counter SET value = $1 WHERE name = 'sum'", {value + 1});
        });
    });
  threads.clear();
  store_->read(
      [&](Session& s) { s.query("SELECT value FROM counter", {}, [](const Row& r) { EXPECT_EQ(r.int64(0), 120); }); });
}

TEST_P(StoreTest, WaitSeesWhatWasNotifiedBefore) {
  store_->write([](Session& s) { s.notify("changes"); });
  EXPECT_GT(store_->wait("changes", 0, std::chrono::seconds(30), {}), 0u);
}

TEST_P(StoreTest, WaitEndsWhenTheTimeIsUpOrAStopIsAsked) {
  const auto seen = store_->wait("changes", 0, Micros::zero(), {});
  EXPECT_EQ(store_->wait("changes", seen, std::chrono::milliseconds(1), {}), seen);
  std::stop_source source;
  std::jthread waiter([&] { store_->wait("changes", seen, std::chrono::hours(1), source.get_token()); });
  source.request_stop();
}

TEST_P(StoreTest, ARolledBackTransactionNotifiesNobody) {
  const auto seen = store_->wait("changes", 0, Micros::zero(), {});
  EXPECT_THROW(store_->write([](Session& s) {
    s.notify("changes");
    throw std::runtime_error("no");
  }),
               std::runtime_error);
  EXPECT_EQ(store_->wait("changes", seen, std::chrono::milliseconds(30), {}), seen);
}

TEST_P(StoreTest, WaitWakesOnItsChannel) {
  std::uint64_t seen = store_->wait("changes", 0, Micros::zero(), {});
  std::latch waiting(1);
  std::atomic<std::uint64_t> got = 0;
  std::jthread waiter([&] {
    waiting.count_down();
    got = store_->wait("changes", seen, std::chrono::seconds(30), {});
  });
  waiting.wait();
  store_->write([](Session& s) { s.notify("changes"); });
  waiter.join();
  EXPECT_NE(got, seen);
}

TEST_P(SharedStoreTest, WaitWakesOnAnotherNodesNotify) {
  const auto other = open_again();
  const auto seen = other->wait("changes", 0, Micros::zero(), {});
  std::latch waiting(1);
  std::atomic<std::uint64_t> got = 0;
  std::jthread waiter([&] {
    waiting.count_down();
    got = other->wait("changes", seen, std::chrono::seconds(30), {});
  });
  waiting.wait();
  store_->write([](Session& s) {
    s.execute("INSERT INTO thing (name) VALUES ('news')");
    s.notify("changes");
  });
  waiter.join();
  EXPECT_NE(got, seen);
}

TEST_P(SharedStoreTest, OpeningAgainKeepsTheDataAndTheSchema) {
  add(*store_, "a");
  store_.reset();
  store_ = open_again();
  EXPECT_EQ(count(*store_), 1);
  EXPECT_EQ(store_->info().schema_version, 2);
}

TEST_P(SharedStoreTest, ANewerProgramBringsTheSchemaForward) {
  std::vector<Migration> longer(std::begin(kTestMigrations), std::end(kTestMigrations));
  longer.push_back({3, "colour", "ALTER TABLE thing ADD COLUMN colour TEXT;"});
  add(*store_, "a");
  store_.reset();
  store_ = open_again(longer);
  EXPECT_EQ(store_->info().schema_version, 3);
  store_->read(
      [](Session& s) { s.query("SELECT colour FROM thing", {}, [](const Row& row) { EXPECT_TRUE(row.is_null(0)); }); });
  store_.reset();
  const auto error = error_of([&] { open_again(); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "newer");
}

TEST_P(SharedStoreTest, AnEditedMigrationIsRefused) {
  store_.reset();
  std::vector<Migration> edited(std::begin(kTestMigrations), std::end(kTestMigrations));
  edited[1].sql = "CREATE TABLE part (thing_id {{int}});";
  const auto error = error_of([&] { open_again(edited); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "edited_migration");
}

TEST_P(SharedStoreTest, AFailingMigrationLeavesNothingOfItself) {
  store_.reset();
  std::vector<Migration> broken(std::begin(kTestMigrations), std::end(kTestMigrations));
  broken.push_back({3, "half", "CREATE TABLE half (a {{int}}); INSERT INTO nowhere VALUES (1);"});
  EXPECT_EQ(error_of([&] { open_again(broken); }).kind, Error::Kind::bug);
  store_ = open_again();
  EXPECT_EQ(store_->info().schema_version, 2);
  store_->write([](Session& s) { s.execute("CREATE TABLE half (a BIGINT)"); });
}

TEST_P(SharedStoreTest, ManyNodesAtOnceMigrateOnce) {
  store_.reset();
  std::vector<Migration> longer(std::begin(kTestMigrations), std::end(kTestMigrations));
  longer.push_back({3, "count", "UPDATE counter SET value = value + 1;"});
  longer.push_back({4, "count_again", "UPDATE counter SET value = value + 10;"});
  std::vector<std::jthread> nodes;
  nodes.reserve(4);
  for (int i = 0; i < 4; ++i) nodes.emplace_back([&] { open_again(longer); });
  nodes.clear();
  store_ = open_again(longer);
  store_->read(
      [](Session& s) { s.query("SELECT value FROM counter", {}, [](const Row& r) { EXPECT_EQ(r.int64(0), 11); }); });
}

TEST_P(StoreTest, TheProductsSchemaApplies) {
  if (!in_memory()) store_.reset();
  std::unique_ptr<Database> own;
  if (postgres())
    own = postgres_schema();
  else
    own = std::make_unique<SqliteDatabase>();
  const auto product = open({.url = own->url()}, clock_);
  EXPECT_EQ(product->info().schema_version, static_cast<std::int64_t>(product_migrations().size()));
}

TEST_P(StoreTest, InfoShowsNoPassword) {
  const auto info = store_->info();
  EXPECT_EQ(info.engine, postgres() ? Engine::postgres : Engine::sqlite);
  EXPECT_FALSE(info.server_version.empty());
  EXPECT_GT(info.bytes, 0);
  EXPECT_FALSE(info.sync_mode.empty());
  const auto url = database_->url();
  const auto at = url.find('@');
  const auto colon = url.rfind(':', at);
  if (at == std::string::npos || colon < url.find("://") + 3) return;
  EXPECT_EQ(info.location.find(url.substr(colon + 1, at - colon - 1)), std::string::npos);
}

using StoreDeathTest = StoreTest;

TEST_P(StoreDeathTest, CallingTheStoreFromItsCallbackStopsTheProgram) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(store_->read([&](Session&) { store_->read([](Session&) {}); }), "must not call the store again");
  EXPECT_DEATH(store_->write([&](Session&) { store_->write([](Session&) {}); }), "must not call the store again");
  EXPECT_DEATH(store_->write([&](Session&) { store_->wait("x", 0, Micros::zero(), {}); }),
               "must not call the store again");
}

const auto kName = [](const auto& info) { return std::string(info.param); };
INSTANTIATE_TEST_SUITE_P(Engines, StoreTest, testing::Values("Sqlite", "Memory", "Postgres"), kName);
INSTANTIATE_TEST_SUITE_P(Engines, StoreDeathTest, testing::Values("Sqlite", "Memory", "Postgres"), kName);
INSTANTIATE_TEST_SUITE_P(Engines, SharedStoreTest, testing::Values("Sqlite", "Postgres"), kName);

}  // namespace
}  // namespace dragoman::store
