#pragma once

#include <string>
#include <string_view>

namespace dragoman {

/// A password, key or token. It has no printer, no conversion and no comparison that leaks time; what needs
/// the text says `reveal()` at the place where it goes out. The memory is overwritten when it dies.
///
/// Threads: a value; one thread at a time.
class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string value) : value_(std::move(value)) {}
  Secret(const Secret&) = default;
  Secret(Secret&& other) noexcept;
  Secret& operator=(const Secret&);
  Secret& operator=(Secret&& other) noexcept;
  ~Secret();

  bool empty() const { return value_.empty(); }
  /// The text itself. Valid while this Secret lives.
  const std::string& reveal() const { return value_; }
  /// Constant-time comparison.
  bool equals(std::string_view other) const;

 private:
  std::string value_;
};

}  // namespace dragoman
