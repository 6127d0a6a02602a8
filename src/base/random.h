#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>

namespace dragoman {

/// The only door to randomness, so that a simulated run replays from its seed.
///
/// Threads: safe from any thread.
class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(std::span<std::uint8_t> bytes) = 0;
  std::uint64_t next();
  /// Evenly in [0, 1).
  double unit();
};

/// From the operating system; for everything that an enemy must not guess.
class SystemRandom final : public Random {
 public:
  void fill(std::span<std::uint8_t> bytes) override;
};

/// The same sequence for the same seed. One thread at a time.
class SeededRandom final : public Random {
 public:
  explicit SeededRandom(std::uint64_t seed) : engine_(seed) {}
  void fill(std::span<std::uint8_t> bytes) override;

 private:
  std::mt19937_64 engine_;
};

/// `bytes` random bytes in lower-case hexadecimal.
std::string random_hex(Random& random, std::size_t bytes);

}  // namespace dragoman
