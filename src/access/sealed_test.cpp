#include "access/sealed.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <thread>

#include "base/error.h"

namespace dragoman::access {
namespace {

class KeyRingTest : public testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("DRAGOMAN_SECRET_KEY");
    folder_ = std::filesystem::temp_directory_path() / ("dragoman-keys-" + random_hex(random_, 8));
    std::filesystem::create_directory(folder_);
    path_ = (folder_ / "secret.key").string();
  }
  void TearDown() override {
    ::unsetenv("DRAGOMAN_SECRET_KEY");
    std::filesystem::remove_all(folder_);
  }

  KeyRing ring() { return KeyRing::open_file(path_, random_); }
  std::string content() const {
    std::ifstream file(path_);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::size_t keys_in_file() const {
    const auto text = content();
    std::size_t keys = 0;
    for (std::size_t at = 0; at < text.size(); at = text.find('\n', at) + 1) keys += text[at] != '#';
    return keys;
  }
  template <typename F>
  static Error error_of(F&& run) {
    try {
      run();
    } catch (const Error& error) {
      return error;
    }
    ADD_FAILURE() << "nothing was thrown";
    return Error(Error::Kind::bug, "");
  }

  /// What a store would hold: context and sealed secret.
  using Rows = std::map<std::string, std::string>;
  static void reseal(const KeyRing& ring, Rows& rows) {
    for (auto& [context, sealed] : rows)
      if (!ring.is_current(sealed)) sealed = ring.seal(ring.open(sealed, context), context);
  }
  void expect_readable(const Rows& rows) {
    const auto fresh = ring();
    for (const auto& [context, sealed] : rows) EXPECT_TRUE(fresh.open(sealed, context).equals("secret of " + context));
  }
  Rows three_rows(const KeyRing& ring) {
    Rows rows;
    for (const char* context : {"connection:a", "connection:b", "connection:c"})
      rows[context] = ring.seal(Secret("secret of " + std::string(context)), context);
    return rows;
  }

  SystemRandom random_;
  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(KeyRingTest, OpensWhatItSealed) {
  const auto ring = this->ring();
  for (const auto& text : {std::string(), std::string("hunter2"), std::string("a\0b", 3), std::string(100'000, 'x')}) {
    const auto sealed = ring.seal(Secret(text), "connection:main");
    EXPECT_TRUE(ring.open(sealed, "connection:main").equals(text));
    EXPECT_TRUE(text.size() < 4 || sealed.find(text.substr(0, 4)) == std::string::npos);
  }
  EXPECT_NE(ring.seal(Secret("same"), "c"), ring.seal(Secret("same"), "c"));
}

TEST_F(KeyRingTest, TheKeyIsMadeOnceForItsOwnerOnly) {
  const auto sealed = ring().seal(Secret("s"), "c");
  struct stat info {};
  ASSERT_EQ(::stat(path_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_TRUE(ring().open(sealed, "c").equals("s"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1) << "nothing else is left behind";
}

TEST_F(KeyRingTest, ManyAtFirstStartAgreeOnOneKey) {
  std::vector<std::string> sealed(6);
  {
    std::vector<std::jthread> threads;
    threads.reserve(sealed.size());
    for (auto& mine : sealed) threads.emplace_back([&] { mine = ring().seal(Secret("s"), "c"); });
  }
  const auto ring = this->ring();
  for (const auto& each : sealed) EXPECT_TRUE(ring.open(each, "c").equals("s"));
}

TEST_F(KeyRingTest, AnotherKeyDoesNotOpen) {
  const auto sealed = ring().seal(Secret("hunter2"), "c");
  std::filesystem::remove(path_);
  const auto other = ring();
  const auto error = error_of([&] { other.open(sealed, "c"); });
  EXPECT_EQ(error.kind, Error::Kind::invalid);
  EXPECT_EQ(error.code, "sealed");
}

TEST_F(KeyRingTest, EveryChangedByteIsNoticed) {
  const auto ring = this->ring();
  const auto sealed = ring.seal(Secret("hunter2"), "c");
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    auto changed = sealed;
    changed[i] = static_cast<char>(changed[i] ^ 1);
    EXPECT_EQ(error_of([&] { ring.open(changed, "c"); }).code, "sealed") << i;
  }
  for (std::size_t size = 0; size < sealed.size(); ++size)
    EXPECT_EQ(error_of([&] { ring.open(std::string_view(sealed).substr(0, size), "c"); }).code, "sealed") << size;
  EXPECT_EQ(error_of([&] { ring.open(sealed + "x", "c"); }).code, "sealed");
}

TEST_F(KeyRingTest, ASecretMovedToAnotherContextDoesNotOpen) {
  const auto ring = this->ring();
  const auto sealed = ring.seal(Secret("hunter2"), "connection:main");
  for (const char* context : {"connection:other", "connection:mai", "", "connection:main "}) {
    const auto error = error_of([&] { ring.open(sealed, context); });
    EXPECT_EQ(error.code, "sealed") << context;
    EXPECT_EQ(std::string(error.what()).find("hunter2"), std::string::npos);
  }
}

TEST_F(KeyRingTest, RefusesAFileThatOthersMayRead) {
  ring();
  for (const unsigned mode : {0640u, 0604u, 0620u, 0602u, 0644u}) {
    ::chmod(path_.c_str(), mode);
    const auto error = error_of([&] { ring(); });
    EXPECT_EQ(error.kind, Error::Kind::invalid) << mode;
    EXPECT_EQ(error.code, "key_file");
  }
  ::chmod(path_.c_str(), 0400);
  ring();
}

TEST_F(KeyRingTest, RefusesAFileThatIsNoKeyFile) {
  for (const char* text : {"", "# only a comment\n", "hunter2\n", "0123456789abcdef\n"}) {
    std::ofstream(path_) << text;
    ::chmod(path_.c_str(), 0600);
    const auto error = error_of([&] { ring(); });
    EXPECT_EQ(error.code, "key_file") << text;
    EXPECT_EQ(std::string(error.what()).find("hunter2"), std::string::npos);
    EXPECT_EQ(content(), text) << "what is there is never written over";
  }
}

TEST_F(KeyRingTest, SaysThatTheFileCannotBeMade) {
  const auto error = error_of([&] { KeyRing::open_file((folder_ / "no/such/secret.key").string(), random_); });
  EXPECT_EQ(error.kind, Error::Kind::unavailable);
  EXPECT_EQ(error.code, "key_file");
}

TEST_F(KeyRingTest, TakesTheKeyFromTheEnvironmentInEveryForm) {
  const std::string key = "00fbff" + std::string(58, 'e');
  ::setenv("DRAGOMAN_SECRET_KEY", key.c_str(), 1);
  const auto sealed = ring().seal(Secret("s"), "c");
  EXPECT_FALSE(std::filesystem::exists(path_));
  for (const char* same :
       {"00FBFFEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE",
        "APv/7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u4=", "APv_7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u4",
        " APv/7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u7u4 "}) {
    ::setenv("DRAGOMAN_SECRET_KEY", same, 1);
    EXPECT_TRUE(ring().open(sealed, "c").equals("s")) << same;
  }
  for (const char* bad : {"hunter2", "00fb", ",", "zz"}) {
    ::setenv("DRAGOMAN_SECRET_KEY", bad, 1);
    const auto error = error_of([&] { ring(); });
    EXPECT_EQ(error.code, "key_environment") << bad;
    EXPECT_EQ(std::string(error.what()).find("hunter2"), std::string::npos);
  }
}

TEST_F(KeyRingTest, ARotationSealsEverythingAnewAndDropsTheOldKey) {
  auto ring = this->ring();
  auto rows = three_rows(ring);
  const auto before = rows;
  const auto old_file = content();
  ring.rotate([&] {
    EXPECT_EQ(keys_in_file(), 2u);
    for (const auto& [context, sealed] : rows) EXPECT_FALSE(ring.is_current(sealed));
    reseal(ring, rows);
  });
  EXPECT_EQ(keys_in_file(), 1u);
  EXPECT_NE(content(), old_file);
  expect_readable(rows);
  for (const auto& [context, sealed] : before)
    EXPECT_EQ(error_of([&] { ring.open(sealed, context); }).code, "sealed") << "the old key is gone";
}

TEST_F(KeyRingTest, ARotationThatIsCutOffLosesNothingAndIsGoneOnWith) {
  auto ring = this->ring();
  auto rows = three_rows(ring);
  // Cut off before the first row, in the middle, and after all were committed but before the old key was dropped.
  for (const int done : {0, 1, 3}) {
    EXPECT_THROW(ring.rotate([&] {
      int left = done;
      for (auto& [context, sealed] : rows)
        if (left-- > 0 && !ring.is_current(sealed)) sealed = ring.seal(ring.open(sealed, context), context);
      throw std::runtime_error("cut off");
    }),
                 std::runtime_error);
    EXPECT_EQ(keys_in_file(), 2u) << "the same new key, not another";
    expect_readable(rows);
    // A process that was killed while it wrote the file leaves only this.
    std::ofstream(path_ + ".4711.new") << "half";
    expect_readable(rows);
  }
  auto fresh = this->ring();
  fresh.rotate([&] { reseal(fresh, rows); });
  EXPECT_EQ(keys_in_file(), 1u);
  expect_readable(rows);
}

TEST_F(KeyRingTest, ARotationByAnotherProcessIsFollowed) {
  const auto hub = this->ring();
  auto rows = three_rows(hub);
  auto command = this->ring();
  command.rotate([&] { reseal(command, rows); });
  for (const auto& [context, sealed] : rows) EXPECT_TRUE(hub.open(sealed, context).equals("secret of " + context));
  EXPECT_TRUE(command.open(hub.seal(Secret("new"), "c"), "c").equals("new")) << "sealed with the new key";
}

TEST_F(KeyRingTest, TwoRotationsAtOnceAreRefused) {
  auto one = this->ring(), two = this->ring();
  one.rotate([&] { EXPECT_EQ(error_of([&] { two.rotate([] {}); }).kind, Error::Kind::busy); });
}

TEST_F(KeyRingTest, ARotationWithKeysFromTheEnvironmentNeedsTheNewOneThere) {
  const std::string old_key(64, 'a'), new_key(64, 'b');
  ::setenv("DRAGOMAN_SECRET_KEY", old_key.c_str(), 1);
  auto ring = this->ring();
  auto rows = three_rows(ring);
  EXPECT_EQ(error_of([&] { ring.rotate([] {}); }).code, "key_environment");
  ::setenv("DRAGOMAN_SECRET_KEY", (new_key + "," + old_key).c_str(), 1);
  ring = this->ring();
  ring.rotate([&] { reseal(ring, rows); });
  ::setenv("DRAGOMAN_SECRET_KEY", new_key.c_str(), 1);
  expect_readable(rows);
}

}  // namespace
}  // namespace dragoman::access
