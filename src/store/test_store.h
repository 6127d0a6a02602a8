#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
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
