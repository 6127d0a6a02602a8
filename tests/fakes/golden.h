#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace dragoman::tests {

/// Compares a text with a committed file; `./dev test --update-golden` writes the file instead.
inline void expect_golden(const std::string& path, const std::string& text) {
  if (const char* update = std::getenv("DRAGOMAN_UPDATE_GOLDEN"); update && *update) {
    std::ofstream(path) << text;
    return;
  }
  std::ifstream in(path);
  std::ostringstream committed;
  committed << in.rdbuf();
  EXPECT_TRUE(in) << path << " is not there";
  EXPECT_TRUE(committed.str() == text) << path << " is not what comes out now; look at the difference after "
                                       << "`./dev test --update-golden`";
}

}  // namespace dragoman::tests
