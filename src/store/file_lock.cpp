#include "store/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "store/engine.h"

namespace dragoman::store {

FileLock::FileLock(const std::string& path) : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
  if (fd_ >= 0) return;
  const int error = errno;
  const bool forbidden = error == EACCES || error == EPERM || error == EROFS;
  raise(Error::Kind::unavailable,
        forbidden         ? "read_only"
        : error == ENOSPC ? "disk_full"
                          : "open",
        fmt::format("the file {} beside the store cannot be made: {}{}", path, std::strerror(error),
                    forbidden ? "; this user needs write permission on the folder" : ""));
}

FileLock::~FileLock() {
  ::close(fd_);
}

bool FileLock::lock(Clock& clock, Micros timeout) {
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return true;
  const auto deadline = clock.steady() + timeout;
  while (clock.steady() < deadline) {
    clock.wait(std::chrono::milliseconds(1), {});
    if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) return true;
  }
  return false;
}

void FileLock::unlock() {
  ::flock(fd_, LOCK_UN);
}

}  // namespace dragoman::store
