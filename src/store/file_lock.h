#pragma once

#include <string>

#include "base/clock.h"

namespace dragoman::store {

/// An exclusive lock between processes (and between two of them in one process): flock on a file of its own, because
/// opening and closing a SQLite file by other means drops the locks that SQLite holds on it.
///
/// Threads: one thread at a time.
class FileLock {
 public:
  /// Makes the file, readable by its owner only. Errors: unavailable (code `read_only`, `disk_full` or `open`).
  explicit FileLock(const std::string& path);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  /// False if another process still holds it after `timeout`. Tries every millisecond: flock has no time limit.
  bool lock(Clock& clock, Micros timeout);
  void unlock();

 private:
  int fd_;
};

}  // namespace dragoman::store
