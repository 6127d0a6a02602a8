#include "access/sealed.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "store/file_lock.h"

namespace dragoman::access {
namespace {

constexpr const char* kVariable = "DRAGOMAN_SECRET_KEY";
constexpr std::size_t kKeyBytes = crypto_aead_xchacha20poly1305_ietf_KEYBYTES;
constexpr std::size_t kNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr std::size_t kTagBytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;
constexpr std::size_t kIdBytes = 8;
// An envelope: version, id of the key, nonce, text and its tag. All before the text is authenticated with it.
constexpr char kVersion = 1;
constexpr std::size_t kHeadBytes = 1 + kIdBytes;

constexpr std::string_view kFileHead =
    "# The keys that Dragoman seals its secrets with, newest first. Without this file they cannot be opened:\n"
    "# keep a copy of it, and not beside the backups of the database.\n";

[[noreturn]] void raise(Error::Kind kind, std::string_view code, std::string message) {
  Error error(kind, std::move(message));
  error.code = code;
  throw error;
}

const unsigned char* in(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}
unsigned char* out(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

struct Key {
  std::string id;
  Secret bytes;

  explicit Key(Secret key) : id(kIdBytes, '\0'), bytes(std::move(key)) {
    static constexpr std::string_view kPurpose = "dragoman key id";
    std::array<unsigned char, crypto_generichash_BYTES> hash{};
    crypto_generichash(hash.data(), hash.size(), in(kPurpose), kPurpose.size(), in(bytes.reveal()), kKeyBytes);
    std::memcpy(id.data(), hash.data(), kIdBytes);
  }
};
using Keys = std::vector<Key>;

Key new_key(Random& random) {
  std::string bytes(kKeyBytes, '\0');
  random.fill(std::span(out(bytes), bytes.size()));
  return Key(Secret(std::move(bytes)));
}

std::string hex(const Secret& key) {
  std::string text(kKeyBytes * 2 + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), in(key.reveal()), kKeyBytes);
  text.pop_back();
  return text;
}

std::optional<Key> parse_key(std::string_view text) {
  std::string bytes(kKeyBytes, '\0');
  std::size_t length = 0;
  const char* end = nullptr;
  const auto whole = [&](int rc) { return rc == 0 && length == kKeyBytes && end == text.data() + text.size(); };
  if (whole(sodium_hex2bin(out(bytes), bytes.size(), text.data(), text.size(), nullptr, &length, &end)))
    return Key(Secret(std::move(bytes)));
  for (const int variant : {sodium_base64_VARIANT_ORIGINAL, sodium_base64_VARIANT_ORIGINAL_NO_PADDING,
                            sodium_base64_VARIANT_URLSAFE, sodium_base64_VARIANT_URLSAFE_NO_PADDING})
    if (whole(sodium_base642bin(out(bytes), bytes.size(), text.data(), text.size(), nullptr, &length, &end, variant)))
      return Key(Secret(std::move(bytes)));
  sodium_memzero(bytes.data(), bytes.size());
  return std::nullopt;
}

std::string_view trimmed(std::string_view text) {
  const auto from = text.find_first_not_of(" \t\r");
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(" \t\r") - from + 1);
}

/// One key per piece; pieces that are empty or begin with # don't count. nullopt if one is no key, or there is none.
std::optional<Keys> parse_keys(std::string_view text, char separator) {
  Keys keys;
  while (!text.empty()) {
    const auto piece = trimmed(text.substr(0, text.find(separator)));
    text.remove_prefix(
        std::min(text.size(), text.find(separator) == std::string_view::npos ? text.size() : text.find(separator) + 1));
    if (piece.empty() || piece.front() == '#') continue;
    auto key = parse_key(piece);
    if (!key) return std::nullopt;
    keys.push_back(std::move(*key));
  }
  if (keys.empty()) return std::nullopt;
  return keys;
}

class File {
 public:
  File(const std::string& path, int flags, mode_t mode = 0) : fd_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void file_fails(const std::string& path, std::string_view what) {
  raise(Error::Kind::unavailable, "key_file",
        fmt::format("the key file {} cannot be {}: {}", path, what, std::strerror(errno)));
}

/// Changes whenever the file is replaced.
struct FileIdentity {
  dev_t device = 0;
  ino_t number = 0;
  timespec changed{};
  bool operator==(const FileIdentity& other) const {
    return device == other.device && number == other.number && changed.tv_sec == other.changed.tv_sec &&
           changed.tv_nsec == other.changed.tv_nsec;
  }
};
FileIdentity identity(const struct stat& info) {
  return {info.st_dev, info.st_ino, info.st_ctim};
}

struct KeyFile {
  Keys keys;
  FileIdentity identity;
};

/// nullopt if there is no such file.
std::optional<KeyFile> read_key_file(const std::string& path) {
  const File file(path, O_RDONLY);
  if (!file) {
    if (errno == ENOENT) return std::nullopt;
    file_fails(path, "read");
  }
  struct stat info {};
  if (::fstat(file.fd(), &info) != 0) file_fails(path, "read");
  if (!S_ISREG(info.st_mode))
    raise(Error::Kind::invalid, "key_file", fmt::format("{} is no file: it has to hold the key for secrets", path));
  if (info.st_mode & 077)
    raise(Error::Kind::invalid, "key_file",
          fmt::format("others may read the key file {} (mode {:03o}): run chmod 600 on it, and rotate the key if "
                      "somebody may have read it",
                      path, info.st_mode & 0777u));
  // Far more than any ring has.
  std::string text(64 << 10, '\0');
  const ssize_t size = ::read(file.fd(), text.data(), text.size());
  if (size < 0) file_fails(path, "read");
  auto keys = parse_keys(std::string_view(text).substr(0, static_cast<std::size_t>(size)), '\n');
  sodium_memzero(text.data(), text.size());
  if (!keys)
    raise(Error::Kind::invalid, "key_file",
          fmt::format("{} is no key file: restore it from your copy; secrets that were sealed with its key cannot be "
                      "opened without it",
                      path));
  return KeyFile{std::move(*keys), identity(info)};
}

void sync_folder_of(const std::string& path) {
  const auto folder = std::filesystem::path(path).parent_path();
  const File handle(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  if (!handle || ::fsync(handle.fd()) != 0) file_fails(path, "written to disk");
}

/// Whole and durable, or as it was before. `may_replace` false: keeps a file that is there already.
void write_key_file(const std::string& path, const Keys& keys, bool may_replace, Random& random) {
  std::string text(kFileHead);
  text.reserve(text.size() + keys.size() * (kKeyBytes * 2 + 1));
  for (const auto& key : keys) {
    auto line = hex(key.bytes);
    text += line + "\n";
    sodium_memzero(line.data(), line.size());
  }
  const std::string fresh = fmt::format("{}.{}.new", path, random_hex(random, 6));
  {
    const File file(fresh, O_WRONLY | O_CREAT | O_EXCL, 0600);
    const bool written = file && ::write(file.fd(), text.data(), text.size()) == static_cast<ssize_t>(text.size()) &&
                         ::fsync(file.fd()) == 0;
    sodium_memzero(text.data(), text.size());
    if (!written) {
      const int error = errno;
      ::unlink(fresh.c_str());
      errno = error;
      file_fails(path, "written");
    }
  }
  const int rc = may_replace ? ::rename(fresh.c_str(), path.c_str()) : ::link(fresh.c_str(), path.c_str());
  const int error = errno;
  if (!may_replace || rc != 0) ::unlink(fresh.c_str());
  errno = error;
  if (rc != 0 && (may_replace || errno != EEXIST)) file_fails(path, "written");
  sync_folder_of(path);
}

}  // namespace

struct KeyRing::State {
  std::string path;  // empty: the keys are from the environment
  Random* random = nullptr;

  std::mutex mutex;
  Keys keys;  // newest first; guarded by the mutex, as `read`
  FileIdentity read;

  void load() {
    auto file = read_key_file(path);
    if (!file)
      raise(Error::Kind::unavailable, "key_file",
            fmt::format("the key file {} is gone: restore it from your copy", path));
    keys = std::move(file->keys);
    read = file->identity;
  }
  void load_if_changed() {
    struct stat info {};
    if (path.empty() || (::stat(path.c_str(), &info) == 0 && identity(info) == read)) return;
    load();
  }
};

KeyRing::KeyRing(std::unique_ptr<State> state) : state_(std::move(state)) {}
KeyRing::KeyRing(KeyRing&&) noexcept = default;
KeyRing& KeyRing::operator=(KeyRing&&) noexcept = default;
KeyRing::~KeyRing() = default;

KeyRing KeyRing::open_file(const std::string& path, Random& random) {
  DRAGOMAN_ASSERT(sodium_init() >= 0, "the system gives random bytes");
  auto state = std::make_unique<State>();
  state->random = &random;
  if (const char* text = std::getenv(kVariable); text && *text) {
    auto keys = parse_keys(text, ',');
    if (!keys)
      raise(Error::Kind::invalid, "key_environment",
            fmt::format("{} is not 32 bytes in hexadecimal (64 characters) or base64: make one with openssl rand "
                        "-hex 32",
                        kVariable));
    state->keys = std::move(*keys);
    return KeyRing(std::move(state));
  }
  state->path = path;
  if (!read_key_file(path)) {
    Keys keys;
    keys.push_back(new_key(random));
    write_key_file(path, keys, false, random);
  }
  // What lies there now counts: another process may have been first.
  state->load();
  return KeyRing(std::move(state));
}

std::string KeyRing::seal(const Secret& secret, std::string_view context) const {
  const std::lock_guard lock(state_->mutex);
  state_->load_if_changed();
  const Key& key = state_->keys.front();
  const auto& text = secret.reveal();

  std::string envelope(kHeadBytes + kNonceBytes + text.size() + kTagBytes, '\0');
  envelope[0] = kVersion;
  envelope.replace(1, kIdBytes, key.id);
  auto* nonce = out(envelope) + kHeadBytes;
  state_->random->fill(std::span(nonce, kNonceBytes));
  const std::string bound = envelope.substr(0, kHeadBytes).append(context);
  crypto_aead_xchacha20poly1305_ietf_encrypt(nonce + kNonceBytes, nullptr, in(text), text.size(), in(bound),
                                             bound.size(), nullptr, nonce, in(key.bytes.reveal()));
  return envelope;
}

Secret KeyRing::open(std::string_view sealed, std::string_view context) const {
  if (sealed.size() < kHeadBytes + kNonceBytes + kTagBytes || sealed[0] != kVersion)
    raise(Error::Kind::invalid, "sealed", fmt::format("the secret of {} is not in sealed form: set it again", context));
  const std::lock_guard lock(state_->mutex);
  const auto id = sealed.substr(1, kIdBytes);
  const auto find = [&]() -> const Key* {
    for (const auto& key : state_->keys)
      if (key.id == id) return &key;
    return nullptr;
  };
  const Key* key = find();
  if (!key) {
    state_->load_if_changed();
    key = find();
  }
  if (!key)
    raise(Error::Kind::invalid, "sealed",
          fmt::format("the secret of {} was sealed with a key that is not in {}: restore that key, or set the secret "
                      "again",
                      context, location()));
  const auto nonce = sealed.substr(kHeadBytes, kNonceBytes);
  const auto body = sealed.substr(kHeadBytes + kNonceBytes);
  const std::string bound = std::string(sealed.substr(0, kHeadBytes)).append(context);
  std::string text(body.size() - kTagBytes, '\0');
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(out(text), nullptr, nullptr, in(body), body.size(), in(bound),
                                                 bound.size(), in(nonce), in(key->bytes.reveal())) != 0)
    raise(Error::Kind::invalid, "sealed",
          fmt::format("the secret of {} was changed or moved since it was sealed: set it again", context));
  return Secret(std::move(text));
}

bool KeyRing::is_current(std::string_view sealed) const {
  const std::lock_guard lock(state_->mutex);
  return sealed.size() > kHeadBytes && sealed[0] == kVersion && sealed.substr(1, kIdBytes) == state_->keys.front().id;
}

void KeyRing::rotate(const std::function<void()>& reseal) {
  if (state_->path.empty()) {
    if (state_->keys.size() < 2)
      raise(Error::Kind::invalid, "key_environment",
            fmt::format("the key is in {}: put a new one before it, with a comma between them, start again and "
                        "rotate; then take the old one away",
                        kVariable));
    reseal();
    return;
  }
  store::FileLock alone(state_->path + ".lock");
  SystemClock clock;
  if (!alone.lock(clock, Micros::zero()))
    raise(Error::Kind::busy, "locked", "another rotation of the key is under way: wait for it");

  {
    const std::lock_guard lock(state_->mutex);
    state_->load();
    // Several keys are a rotation that was cut off, whose new key may be in use: it is gone on with.
    if (state_->keys.size() == 1) {
      Keys keys;
      keys.push_back(new_key(*state_->random));
      keys.push_back(state_->keys.front());
      write_key_file(state_->path, keys, true, *state_->random);
      state_->load();
    }
  }
  reseal();
  const std::lock_guard lock(state_->mutex);
  Keys newest;
  newest.push_back(state_->keys.front());
  write_key_file(state_->path, newest, true, *state_->random);
  state_->load();
}

std::string KeyRing::location() const {
  return state_->path.empty() ? kVariable : "the file " + state_->path;
}

}  // namespace dragoman::access
