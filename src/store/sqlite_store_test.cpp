// What only a store in a file has: the file itself, other processes, and disks that fill up.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "base/error.h"
#include "store/test_store.h"
#include "store/turnstile.h"

namespace dragoman::store {
namespace {

class SqliteStoreTest : public testing::Test {
 protected:
  std::unique_ptr<Store> open_file(const std::string& path, Micros lock_timeout = std::chrono::seconds(10)) {
    return open({.url = path, .lock_timeout = lock_timeout}, clock_, kTestMigrations);
  }
  std::unique_ptr<Store> open_file() { return open_file(path_); }

  static void add(Store& store, std::string_view name, std::string_view body = {}) {
    store.write([&](Session& s) { s.execute("INSERT INTO thing (name, body) VALUES ($1, $2)", {name, Bytes{body}}); });
  }
  static std::vector<std::string> names(Store& store) {
    std::vector<std::string> found;
    store.read([&](Session& s) {
      found.clear();
      s.query("SELECT name FROM thing ORDER BY id", {}, [&](const Row& row) { found.emplace_back(row.text(0)); });
    });
    return found;
  }
  static void expect_sound(Store& store) {
    store.read([](Session& s) {
      s.query("PRAGMA integrity_check", {}, [](const Row& row) { EXPECT_EQ(row.text(0), "ok"); });
    });
  }
  static int mode(const std::string& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 ? static_cast<int>(info.st_mode & 0777) : -1;
  }
  static void write_file(const std::string& path, const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
  }
  static std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  /// Runs `work` in a process of its own and returns what it says, for limits that would spoil this one.
  static std::string in_child(const std::function<std::string()>& work) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      std::string said;
      try {
        said = work();
      } catch (const Error& error) {
        said = "error " + error.code + ": " + error.what();
      }
      [[maybe_unused]] const auto written = ::write(ends[1], said.data(), said.size());
      ::_exit(0);
    }
    ::close(ends[1]);
    std::string said;
    char buffer[4096];
    for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;) said.append(buffer, static_cast<std::size_t>(n));
    ::close(ends[0]);
    ::waitpid(pid, nullptr, 0);
    return said;
  }
  /// As somebody whom permissions hold back.
  static void become_nobody() {
    if (::getuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0)) throw std::runtime_error("setuid");
  }

  static void limit_files(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit value{.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};
    ::setrlimit(RLIMIT_FSIZE, &value);
  }
  /// A disk of a child's own, that no other process sees and that ends with it. Where this user may not mount one,
  /// a folder with a limit on the size of files, which SQLite meets in the same calls.
  std::string small_disk(const std::string& size) {
    const auto disk = folder_ / "disk";
    std::filesystem::create_directory(disk);
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", disk.c_str(), "tmpfs", 0, ("size=" + size).c_str()) != 0)
      limit_files(size == "64k" ? 0 : 2 << 20);
    return disk;
  }

  /// Writes until it fails, and checks that what failed left nothing, what was acknowledged is there, and that the
  /// store goes on once there is room again. Says "ok" or what is wrong. `disk`: it is the disk that is full.
  std::string fill_up(Store& store, const std::function<void()>& make_room, bool disk = true) {
    const std::string body(100'000, 'x');
    std::vector<std::string> acknowledged;
    for (int i = 0;; ++i) {
      if (i == 1000) return "the disk did not fill up";
      try {
        store.write([&](Session& s) {
          const auto name = std::to_string(i);
          s.execute("INSERT INTO thing (name, body) VALUES ($1, $2)", {name, Bytes{body}});
          s.execute("INSERT INTO thing (name, body) VALUES ($1, $2)", {name + " again", Bytes{body}});
        });
        acknowledged.push_back(std::to_string(i));
        acknowledged.push_back(std::to_string(i) + " again");
      } catch (const Error& error) {
        if (error.kind != Error::Kind::unavailable || error.code != "disk_full")
          return "wrong error " + error.code + ": " + error.detail;
        // What is small enough goes well, and says nothing.
        try {
          store.write([](Session& s) { s.execute("UPDATE thing SET name = name WHERE name = '0'"); });
        } catch (const Error&) {  // or there is not even room for it
        }
        if (disk && store.trouble().find("disk") == std::string::npos) return "no trouble: " + store.trouble();
        break;
      }
    }
    if (acknowledged.empty()) return "nothing was written before the disk was full";
    if (names(store) != acknowledged) return "half of a transaction is there, or an acknowledged one is not";
    make_room();
    if (!store.trouble().empty()) return "trouble although there is room: " + store.trouble();
    add(store, "after", body);
    acknowledged.push_back("after");
    if (names(store) != acknowledged) return "what was written afterwards is not there";
    expect_sound(store);
    return "ok";
  }

  SystemClock clock_;
  TemporaryFolder folder_;
  std::string path_ = folder_ / "hub.db";
};

TEST_F(SqliteStoreTest, FilesAreForTheirOwnerOnly) {
  const auto path = folder_ / "new/deep/hub.db";
  const auto store = open_file(path);
  add(*store, "a");
  EXPECT_EQ(mode(folder_ / "new"), 0700);
  EXPECT_EQ(mode(folder_ / "new/deep"), 0700);
  for (const char* suffix : {"", "-wal", "-shm", ".lock"}) EXPECT_EQ(mode(path + suffix), 0600) << suffix;
}

TEST_F(SqliteStoreTest, AStoppedStoreIsOneFile) {
  auto store = open_file();
  add(*store, "a");
  EXPECT_EQ(names(*store).size(), 1u);
  store.reset();
  EXPECT_EQ(mode(path_ + "-wal"), -1);
  EXPECT_EQ(mode(path_ + "-shm"), -1);
  std::filesystem::rename(path_, folder_ / "moved.db");
  EXPECT_EQ(names(*open_file(folder_ / "moved.db")), std::vector<std::string>{"a"});
}

TEST_F(SqliteStoreTest, WritesNothingMoreOnceItsFileWasRemovedOrReplaced) {
  const auto store = open_file();
  add(*store, "a");
  std::filesystem::rename(path_, folder_ / "away.db");
  try {
    add(*store, "b");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::unavailable);
    EXPECT_EQ(error.code, "database_gone");
  }
  write_file(path_, "something else");
  EXPECT_THROW(add(*store, "c"), Error);
  std::filesystem::rename(folder_ / "away.db", path_);
  add(*store, "d");
  EXPECT_EQ(names(*store), (std::vector<std::string>{"a", "d"}));
}

TEST_F(SqliteStoreTest, RefusesAndKeepsWhatIsNotOurs) {
  const auto text = folder_ / "notes.txt";
  write_file(text, "A shopping list, long enough to be taken for the header of a database: " + std::string(2000, '-'));
  const auto short_text = folder_ / "short.txt";
  write_file(short_text, "hi");
  const auto other = folder_ / "other.db";
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(other.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "CREATE TABLE recipe (name TEXT)", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  const auto foreign = folder_ / "foreign.db";
  ASSERT_EQ(sqlite3_open(foreign.c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA application_id = 77", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);

  for (const auto& path : {text, short_text, other, foreign, folder_.path()}) {
    const bool is_file = path != folder_.path();
    const auto before = is_file ? read_file(path) : "";
    const auto error = error_of([&] { open_file(path); });
    EXPECT_EQ(error.kind, Error::Kind::invalid) << path;
    EXPECT_EQ(error.code, "not_ours") << path;
    EXPECT_NE(error.message.find(path), std::string::npos) << error.message;
    EXPECT_EQ(is_file ? read_file(path) : "", before) << path;
  }
}

TEST_F(SqliteStoreTest, RefusesAnUnknownKindOfStoreWithoutShowingIt) {
  for (const char* url : {"mysql://me:hunter2@host/db", "", "sqlite:"}) {
    const auto error = error_of([&] { open_file(url); });
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    EXPECT_EQ(error.message.find("hunter2"), std::string::npos);
  }
}

TEST_F(SqliteStoreTest, SaysThatAFolderOrFileCannotBeWritten) {
  open_file().reset();
  const auto open_and_write = [&](const std::string& path) {
    return in_child([&] {
      become_nobody();
      const auto store = open_file(path);
      add(*store, "a");
      return std::string("written");
    });
  };
  ::chmod(folder_.path().c_str(), 0555);
  ::chmod(path_.c_str(), 0444);
  ::chmod((path_ + ".lock").c_str(), 0666);
  EXPECT_TRUE(open_and_write(folder_ / "new.db").starts_with("error read_only")) << "a new file";
  EXPECT_TRUE(open_and_write(folder_ / "new/hub.db").starts_with("error read_only")) << "a new folder";
  EXPECT_TRUE(open_and_write(path_).starts_with("error read_only")) << "a file that may be read";
  ::chmod(path_.c_str(), 0666);
  EXPECT_TRUE(open_and_write(path_).starts_with("error read_only")) << "a folder that takes no -wal";
  ::chmod(path_.c_str(), 0000);
  EXPECT_TRUE(open_and_write(path_).starts_with("error read_only")) << "a file that may not be read";
  ::chmod(folder_.path().c_str(), 0777);
  ::chmod(path_.c_str(), 0666);
  EXPECT_EQ(open_and_write(path_), "written");
}

TEST_F(SqliteStoreTest, SaysThatTheFileIsDamaged) {
  auto store = open_file();
  for (int i = 0; i < 200; ++i) add(*store, std::to_string(i), std::string(2000, 'x'));
  store.reset();
  auto content = read_file(path_);
  std::fill(content.begin() + static_cast<std::ptrdiff_t>(content.size() / 2), content.end(), '\xa5');
  write_file(path_, content);
  const auto error = error_of([&] {
    store = open_file();
    store->read([](Session& s) { s.query("SELECT name, body FROM thing", {}, [](const Row& r) { r.bytes(1); }); });
  });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "corrupt");
}

TEST_F(SqliteStoreTest, AFullDatabaseUndoesTheTransactionAndGoesOn) {
  const auto store = open_file();
  const auto limit = [&](int pages) {
    store->write([&](Session& s) { s.execute("PRAGMA max_page_count = " + std::to_string(pages)); });
  };
  limit(200);
  EXPECT_EQ(fill_up(*store, [&] { limit(100'000); }, false), "ok");
}

TEST_F(SqliteStoreTest, AFileSizeLimitUndoesTheTransactionAndGoesOn) {
  EXPECT_EQ(in_child([&] {
              const auto store = open_file();
              limit_files(2 << 20);
              return fill_up(*store, [&] { limit_files(RLIM_INFINITY); });
            }),
            "ok");
}

TEST_F(SqliteStoreTest, AFullDiskUndoesTheTransactionAndGoesOn) {
  EXPECT_EQ(in_child([&] {
              const auto disk = small_disk("4m");
              write_file(disk + "/ballast", std::string(1 << 20, 'b'));
              const auto store = open_file(disk + "/hub.db");
              return fill_up(*store, [&] {
                std::filesystem::remove(disk + "/ballast");
                limit_files(RLIM_INFINITY);
              });
            }),
            "ok");
}

TEST_F(SqliteStoreTest, ADiskThatIsFullFromTheStartIsSaid) {
  const auto said = in_child([&] {
    const auto disk = small_disk("64k");
    write_file(disk + "/ballast", std::string(60 << 10, 'b'));
    return std::string(open_file(disk + "/hub.db") ? "opened" : "");
  });
  EXPECT_TRUE(said.starts_with("error disk_full")) << said;
}

TEST_F(SqliteStoreTest, SaysWhoHoldsTheLock) {
  auto store = open_file(path_, std::chrono::milliseconds(50));
  int to_child[2], from_child[2];
  ASSERT_EQ(::pipe(to_child), 0);
  ASSERT_EQ(::pipe(from_child), 0);
  char byte = 0;
  store.reset();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const auto own = open_file(path_);
    own->write([&](Session&) {
      [[maybe_unused]] auto n = ::write(from_child[1], "x", 1);
      n = ::read(to_child[0], &byte, 1);
    });
    ::_exit(0);
  }
  ASSERT_EQ(::read(from_child[0], &byte, 1), 1);
  const auto error = error_of([&] {
    store = open_file(path_, std::chrono::milliseconds(50));
    add(*store, "a");
  });
  EXPECT_EQ(error.kind, Error::Kind::busy);
  EXPECT_EQ(error.code, "locked");
  EXPECT_NE(error.message.find("process " + std::to_string(pid)), std::string::npos) << error.message;
  ASSERT_EQ(::write(to_child[1], "x", 1), 1);
  ::waitpid(pid, nullptr, 0);
  store = open_file();
  add(*store, "a");
}

TEST_F(SqliteStoreTest, AnotherProgramsLockIsBusyAndPasses) {
  const auto store = open_file(path_, std::chrono::milliseconds(50));
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  const auto error = error_of([&] { add(*store, "a"); });
  EXPECT_EQ(error.kind, Error::Kind::busy);
  EXPECT_EQ(error.code, "locked");
  ASSERT_EQ(sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK);
  add(*store, "b");
  EXPECT_EQ(names(*store), std::vector<std::string>{"b"});
  sqlite3_close(other);
}

TEST_F(SqliteStoreTest, AKilledProcessLosesNothingThatWasAcknowledged) {
  open_file().reset();
  std::size_t expected = 0;
  for (int round = 0; round < 5; ++round) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      const auto store = open_file();
      const std::string body(5000, 'k');
      for (int i = 0;; ++i) {
        store->write([&](Session& s) {
          const auto name = std::to_string(round) + "." + std::to_string(i);
          s.execute("INSERT INTO thing (name, body) VALUES ($1, $2)", {name, Bytes{body}});
          s.execute("UPDATE counter SET value = value + 1");
        });
        if (::write(ends[1], "x", 1) != 1) ::_exit(0);
      }
    }
    ::close(ends[1]);
    char byte = 0;
    for (int acknowledged = 0; acknowledged < 30 + 17 * round; ++acknowledged) {
      ASSERT_EQ(::read(ends[0], &byte, 1), 1);
      ++expected;
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    while (::read(ends[0], &byte, 1) == 1) ++expected;
    ::close(ends[0]);

    const auto store = open_file();
    const auto found = names(*store).size();
    EXPECT_GE(found, expected);
    EXPECT_LE(found, expected + 1) << "at most the one whose answer the kill cut off";
    store->read([&](Session& s) {
      s.query("SELECT value FROM counter", {}, [&](const Row& r) {
        EXPECT_EQ(r.int64(0), static_cast<std::int64_t>(found)) << "a transaction is there by half";
      });
    });
    expect_sound(*store);
    expected = found;
  }
}

TEST_F(SqliteStoreTest, WaitWakesOnAnotherProcess) {
  auto store = open_file();
  const auto seen = store->wait("changes", 0, Micros::zero(), {});
  EXPECT_EQ(in_child([&] {
              open_file()->write([](Session& s) {
                s.execute("INSERT INTO thing (name) VALUES ('news')");
                s.notify("changes");
              });
              return std::string("done");
            }),
            "done");
  EXPECT_NE(store->wait("changes", seen, std::chrono::seconds(30), {}), seen);
  EXPECT_EQ(names(*store), std::vector<std::string>{"news"});
}

TEST_F(SqliteStoreTest, ABackupMadeWhileOthersWriteIsWhole) {
  const auto store = open_file();
  std::atomic<bool> stop = false;
  std::jthread writer([&] {
    const std::string body(20'000, 'b');
    for (int i = 0; !stop; ++i)
      store->write([&](Session& s) {
        const auto name = std::to_string(i);
        s.execute("INSERT INTO thing (name, body) VALUES ($1, $2)", {name, Bytes{body}});
        s.execute("UPDATE counter SET value = value + 1");
      });
  });
  while (names(*store).size() < 50) std::this_thread::yield();
  for (int i = 0; i < 5; ++i) store->backup(folder_ / ("copy" + std::to_string(i)));
  stop = true;
  writer.join();

  std::size_t before = 50;
  for (int i = 0; i < 5; ++i) {
    const auto path = folder_ / ("copy" + std::to_string(i));
    EXPECT_EQ(mode(path), 0600);
    EXPECT_EQ(mode(path + ".part"), -1);
    const auto copy = open_file(path);
    const auto found = names(*copy).size();
    EXPECT_GE(found, before);
    before = found;
    copy->read([&](Session& s) {
      s.query("SELECT value FROM counter", {},
              [&](const Row& r) { EXPECT_EQ(r.int64(0), static_cast<std::int64_t>(found)); });
    });
    expect_sound(*copy);
    add(*copy, "a copy can be written to");
  }
}

TEST_F(SqliteStoreTest, ABackupReplacesNothing) {
  const auto store = open_file();
  write_file(folder_ / "precious", "precious");
  const auto error = error_of([&] { store->backup(folder_ / "precious"); });
  EXPECT_EQ(error.kind, Error::Kind::conflict);
  EXPECT_EQ(read_file(folder_ / "precious"), "precious");
}

TEST_F(SqliteStoreTest, TheLogStaysBoundedUnderALongLoad) {
  const auto store = open_file();
  const std::string body(1 << 20, 'x');
  std::uintmax_t largest = 0;
  const auto write_megabytes = [&](int count) {
    for (int i = 0; i < count; ++i) {
      store->write([&](Session& s) {
        const auto name = std::to_string(i % 20);
        s.execute("DELETE FROM thing WHERE name = $1", {name});
        s.execute("INSERT INTO thing (name, body) VALUES ($1, $2)", {name, Bytes{body}});
      });
      largest = std::max(largest, std::filesystem::file_size(path_ + "-wal"));
    }
  };
  write_megabytes(80);
  EXPECT_LT(largest, 40u << 20);

  // A reader that stays holds the log where it was; once it has gone the log begins again.
  store->read([&](Session& s) {
    std::int64_t before = 0;
    s.first("SELECT count(*) FROM thing", {}, [&](const Row& row) { before = row.int64(0); });
    std::jthread([&] { write_megabytes(70); }).join();
    s.first("SELECT count(*) FROM thing", {}, [&](const Row& row) { EXPECT_EQ(row.int64(0), before); });
  });
  const auto held = largest;
  EXPECT_GT(held, 60u << 20);
  write_megabytes(80);
  EXPECT_LT(largest, held + (40u << 20));
  EXPECT_LE(std::filesystem::file_size(path_ + "-wal"), 64u << 20);
}

TEST(Turnstile, LetsInByOrderOfArrival) {
  Turnstile turnstile;
  std::vector<int> order;
  std::vector<std::jthread> threads;
  {
    const Turnstile::Turn first(turnstile);
    for (int i = 0; i < 5; ++i) {
      threads.emplace_back([&, i] {
        const Turnstile::Turn turn(turnstile);
        order.push_back(i);
      });
      while (turnstile.waiting() != static_cast<std::size_t>(i) + 1) std::this_thread::yield();
    }
    EXPECT_FALSE(turnstile.try_enter());
  }
  threads.clear();
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
  EXPECT_TRUE(turnstile.try_enter());
}

}  // namespace
}  // namespace dragoman::store
