// Runs the committed corpus of one fuzz target as plain tests, one per file, so that every compiler and sanitizer sees it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

class CorpusFile : public testing::Test {
 public:
  explicit CorpusFile(std::filesystem::path path) : path_(std::move(path)) {}
  void TestBody() override {
    std::ifstream in(path_, std::ios::binary);
    ASSERT_TRUE(in) << path_;
    // Exactly its size on the heap: a read past the end is then seen.
    const std::vector<std::uint8_t> bytes{std::istreambuf_iterator<char>(in), {}};
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }

 private:
  std::filesystem::path path_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  std::vector<std::filesystem::path> files;
  if (std::filesystem::is_directory(CORPUS_DIR)) {
    for (const auto& entry : std::filesystem::directory_iterator(CORPUS_DIR)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    testing::RegisterTest("FuzzCorpus_" CORPUS_NAME, path.filename().c_str(), nullptr, nullptr, __FILE__, __LINE__,
                          [path] { return new CorpusFile(path); });
  }
  if (files.empty()) {
    std::fprintf(stderr, "there is no corpus in %s\n", CORPUS_DIR);
    return 1;
  }
  return RUN_ALL_TESTS();
}
