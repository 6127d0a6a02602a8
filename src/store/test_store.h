#pragma once

#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "base/random.h"
#include "store/engine.h"

namespace dragoman::store {

/// A folder for one test, removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    SystemRandom random;
    path_ = std::filesystem::temp_directory_path() / ("dragoman-store-" + random_hex(random, 8));
    std::filesystem::create_directory(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

/// A throw-away database of one engine.
class Database {
 public:
  virtual ~Database() = default;
  virtual std::string url() const = 0;
};

/// On the server whose URL is given, by a role that may create databases.
class PostgresDatabase final : public Database {
 public:
  explicit PostgresDatabase(std::string server) : server_(std::move(server)) {
    SystemRandom random;
    name_ = "store_test_" + random_hex(random, 6);
    run("CREATE DATABASE " + name_);
  }
  ~PostgresDatabase() override { run("DROP DATABASE " + name_ + " WITH (FORCE)"); }
  std::string url() const override {
    // postgresql://user:password@host:port/database?options
    const auto host = server_.find("://") + 3;
    const auto options = server_.find('?');
    const auto path = server_.find('/', host);
    return server_.substr(0, std::min(path, options)) + "/" + name_ +
           (options == std::string::npos ? "" : server_.substr(options));
  }

  /// Runs a statement on the server, in its own database.
  void run(const std::string& sql) { run_at(server_, sql); }
  static void run_at(const std::string& url, const std::string& sql) {
    PGconn* connection = PQconnectdb(url.c_str());
    PGresult* result = PQexec(connection, sql.c_str());
    EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK) << PQerrorMessage(connection);
    PQclear(result);
    PQfinish(connection);
  }
  const std::string& name() const { return name_; }

 private:
  std::string server_, name_;
};

/// A schema in a database that several tests share, which is as good as one of its own and made in a moment.
class PostgresSchema final : public Database {
 public:
  explicit PostgresSchema(const PostgresDatabase& database) : database_(database.url()) {
    SystemRandom random;
    name_ = "s_" + random_hex(random, 6);
    PostgresDatabase::run_at(database_, "CREATE SCHEMA " + name_);
  }
  ~PostgresSchema() override {
    PostgresDatabase::run_at(database_, "SET client_min_messages = error; DROP SCHEMA " + name_ + " CASCADE");
  }
  std::string url() const override {
    return database_ + (database_.find('?') == std::string::npos ? "?" : "&") + "options=-csearch_path%3D" + name_;
  }

 private:
  std::string database_, name_;
};

/// The PostgreSQL server to test on, or empty.
inline std::string test_server() {
  const char* server = std::getenv("DRAGOMAN_TEST_PG");
  return server ? server : "";
}

/// Without a server a developer sees a skipped test; where everything must run it has failed.
inline void skip_without_server() {
  if (!test_server().empty()) return;
  const char* ci = std::getenv("CI");
  if (ci && std::string_view(ci) == "true") FAIL() << "DRAGOMAN_TEST_PG names no PostgreSQL to test on";
  GTEST_SKIP() << "DRAGOMAN_TEST_PG names no PostgreSQL to test on";
}

/// What `run` throws.
template <typename F>
Error error_of(F&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "nothing was thrown";
  return Error(Error::Kind::bug, "");
}

/// The schema of these tests; a real one would tie them to the product's tables.
inline constexpr Migration kTestMigrations[] = {
    {1, "things", R"(
      CREATE TABLE thing (id {{id}}, name TEXT NOT NULL UNIQUE, size {{int}}, weight {{real}}, body {{bytes}}){{strict}};
      CREATE TABLE counter (name TEXT NOT NULL PRIMARY KEY, value {{int}} NOT NULL) {{without_rowid}};
      INSERT INTO counter (name, value) VALUES ('sum', 0);)"},
    {2, "parts", R"(
      CREATE TABLE part (thing_id {{int}} NOT NULL REFERENCES thing (id), number {{int}} NOT NULL,
                         label TEXT NOT NULL, PRIMARY KEY (thing_id, number)){{strict}};)"},
};

}  // namespace dragoman::store
