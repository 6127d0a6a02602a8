#include <fcntl.h>
#include <fmt/format.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <set>

#include "base/error.h"
#include "base/guarded.h"
#include "base/log.h"
#include "store/engine.h"
#include "store/file_lock.h"
#include "store/insert_sql.h"
#include "store/signals.h"
#include "store/sqlite_connection.h"
#include "store/turnstile.h"

namespace dragoman::store {
namespace {

// "DRAG", in the header of the file: `file hub.db` and our own check know it by that.
constexpr std::int64_t kApplicationId = 0x44524147;
// Records are 0.5 to 2 KB with their keys. Measured with 5,000 of 2 KB in commits of 500: 4,096 takes 1.6 times the
// processor time and 1.4 times the disk (one record fills a page); 16,384 saves a little more, but reads single records
// slower and writes twice as much for a single change.
constexpr int kPageSize = 8192;
// More than 8 MB made no difference that could be measured.
constexpr int kWriterCacheKib = 8 * 1024;
constexpr int kReaderCacheKib = 2 * 1024;
// After this many pages (32 MB) the log is copied into the file, without waiting for readers. Half of that cost a tenth
// of the speed.
constexpr int kCheckpointPages = 4000;
// Past this many (readers came and went without a gap) the checkpoint waits a little for them, so that the log
// starts again from its beginning. A single reader that stays longer than that is let be.
constexpr int kLogPagesMax = 2 * kCheckpointPages;
constexpr int kRestartPatienceMs = 250;
// How often a waiter looks whether another process has committed something.
constexpr Micros kForeignPoll = std::chrono::milliseconds(20);

/// Makes the file with mode 0600 and the missing folders above it with 0700. SQLite gives its -wal and -shm the
/// same mode as the file.
void make_private_file(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  std::filesystem::path made;
  for (const auto& part : parent) {
    made /= part;
    if (::mkdir(made.c_str(), 0700) == 0 || errno == EEXIST) continue;
    const int error = errno;
    std::error_code ignored;
    if (std::filesystem::is_directory(made, ignored)) continue;
    raise(Error::Kind::unavailable, error == EACCES || error == EROFS || error == EPERM ? "read_only" : "open",
          fmt::format("the folder {} for the store cannot be made: {}", made.string(), std::strerror(error)));
  }
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) {
    ::close(fd);
    return;
  }
  const int error = errno;
  if (error == EEXIST) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored))
      raise(Error::Kind::invalid, "not_ours", fmt::format("{} is a folder: name a file for the store", path));
    return;
  }
  const bool forbidden = error == EACCES || error == EROFS || error == EPERM;
  raise(Error::Kind::unavailable,
        forbidden         ? "read_only"
        : error == ENOSPC ? "disk_full"
                          : "open",
        fmt::format("the store {} cannot be made: {}{}", path, std::strerror(error),
                    forbidden ? "; this user needs write permission on its folder" : ""));
}

void sync_file(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  const bool ok = fd >= 0 && ::fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (!ok)
    raise(Error::Kind::unavailable, error == ENOSPC ? "disk_full" : "io",
          fmt::format("writing {} to disk failed: {}", path, std::strerror(error)));
}

class SqliteSession final : public Session {
 public:
  SqliteSession(SqliteConnection& connection, const Clock& clock) : connection_(connection), clock_(clock) {}

  using Session::execute;
  using Session::query;

  Engine engine() const override { return Engine::sqlite; }
  Time now() override { return clock_.now(); }

  void query(std::string_view sql, std::span<const Param> params,
             const std::function<void(const Row&)>& each) override {
    bool in_callback = false;
    guarded(in_callback, [&] {
      connection_.query(sql, params, [&](const Row& row) {
        in_callback = true;
        each(row);
        in_callback = false;
      });
    });
  }

  std::int64_t execute(std::string_view sql, std::span<const Param> params) override {
    bool in_callback = false;
    std::int64_t changed = 0;
    guarded(in_callback, [&] { changed = connection_.execute(sql, params); });
    return changed;
  }

  void insert_many(std::string_view table, std::span<const std::string_view> columns, std::span<const Param> values,
                   std::span<const std::string_view> upsert_key) override {
    DRAGOMAN_ASSERT(!columns.empty() && values.size() % columns.size() == 0, "values are whole rows");
    std::string places;
    for (std::size_t i = 1; i <= columns.size(); ++i) places += fmt::format("{}${}", i == 1 ? "" : ", ", i);
    auto sql = fmt::format("INSERT INTO {} ({}) VALUES ({})", table, comma_list(columns), places);
    if (!upsert_key.empty()) sql += on_conflict(columns, upsert_key);
    bool in_callback = false;
    guarded(in_callback, [&] { connection_.execute_rows(sql, columns.size(), values); });
  }

  void notify(std::string_view channel) override { notified_.emplace_back(channel); }
  // There is one writer, and it is this transaction.
  void lock(std::string_view) override {}
  void script(const std::string& sql) {
    bool in_callback = false;
    guarded(in_callback, [&] { connection_.script(sql); });
  }

  const std::vector<std::string>& notified() const { return notified_; }
  /// Throws again the error that `work` swallowed.
  void throw_if_failed() const {
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  // A failed statement fails the transaction, as in PostgreSQL: SQLite undoes some failed statements alone, and for
  // others (a full disk) the whole transaction, after which going on would write outside of any.
  template <typename F>
  void guarded(const bool& in_callback, F&& run) {
    throw_if_failed();
    try {
      run();
    } catch (...) {
      if (!in_callback) failure_ = std::current_exception();
      throw;
    }
  }

  SqliteConnection& connection_;
  const Clock& clock_;
  std::vector<std::string> notified_;
  std::exception_ptr failure_;
};

class SqliteStore final : public Store {
 public:
  SqliteStore(std::string path, const StoreSettings& settings, Clock& clock, std::span<const Migration> migrations)
      : path_(std::move(path)),
        in_memory_(path_ == ":memory:"),
        lock_timeout_(settings.lock_timeout),
        readers_max_(std::max(1, settings.readers)),
        clock_(clock) {
    if (!in_memory_) {
      make_private_file(path_);
      process_lock_.emplace(path_ + ".lock");
    }
    const ProcessTurn alone(*this);
    writer_ = std::make_unique<SqliteConnection>(path_, lock_timeout_);
    if (!in_memory_) ::stat(path_.c_str(), &opened_);
    check_ours();
    prepare_writer();
    schema_version_ =
        migrate({.exclusively =
                     [&](const auto& work) { transaction(*writer_, "BEGIN IMMEDIATE", work, [](SqliteSession&) {}); },
                 .script = [](Session& s, const std::string& sql) { static_cast<SqliteSession&>(s).script(sql); }},
                migrations, Engine::sqlite, clock_);
  }

  ~SqliteStore() override {
    idle_readers_.clear();
    if (in_memory_ || !writer_) return;
    // The last connection of all processes copies the log into the file and removes it, so that a stopped hub is one
    // file. If another process is busy now, its own end will do it.
    const bool alone = process_lock_->lock(clock_, Micros::zero());
    sqlite3_db_config(writer_->handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, alone ? 0 : 1, nullptr);
    writer_.reset();
  }

  void read(const std::function<void(Session&)>& work) override {
    const CallbackGuard guard(this);
    if (in_memory_) {
      const Turnstile::Turn turn(turnstile_);
      writer_->script("PRAGMA query_only = 1");
      const Finally allow_writes([&] { writer_->script("PRAGMA query_only = 0"); });
      transaction(*writer_, "BEGIN", work, [](SqliteSession&) {});
      return;
    }
    Lease lease(*this);
    transaction(*lease, "BEGIN", work, [](SqliteSession&) {});
  }

  void write(const std::function<void(Session&)>& work) override {
    const CallbackGuard guard(this);
    const Turnstile::Turn turn(turnstile_);
    const ProcessTurn alone(*this);
    if (!writer_) reopen_writer();
    refuse_if_replaced();
    look_for_foreign_commits();
    try {
      transaction(*writer_, "BEGIN IMMEDIATE", work, [&](SqliteSession& session) {
        for (const auto& channel : session.notified()) signals_.notify(channel);
      });
      checkpoint_if_due();
    } catch (const Error& error) {
      if (error.code == "disk_full") {
        std::lock_guard lock(full_mutex_);
        full_ = error.message;
      }
      throw;
    }
  }

  std::string trouble() override {
    std::lock_guard lock(full_mutex_);
    // That a small write goes well says nothing: there may be room for it in what the log's file has already.
    if (!full_.empty() && room()) full_.clear();
    return full_;
  }

  std::uint64_t wait(std::string_view channel, std::uint64_t seen, Micros timeout, std::stop_token stop) override {
    CallbackGuard::assert_outside(this);
    return signals_.wait(channel, seen, clock_, timeout, stop, kForeignPoll, [&] {
      if (in_memory_) return;
      // Busy means that a write of ours is on its way, which looks by itself.
      const Turnstile::Turn turn(turnstile_, std::try_to_lock);
      if (turn && writer_) look_for_foreign_commits();
    });
  }

  void backup(const std::string& target) override {
    CallbackGuard::assert_outside(this);
    // The copy is made under another name, so that what is there under the right one is always whole.
    const std::string part = target + ".part";
    // Of two at once the second would write into what the first gives its name.
    static Guarded<std::set<std::string>> under_way;
    if (!under_way.lock()->insert(target).second)
      raise(Error::Kind::conflict, "exists", fmt::format("{} is being made just now: name a new file", target));
    const Finally done([&] { under_way.lock()->erase(target); });
    std::error_code ignored;
    if (std::filesystem::exists(target, ignored))
      raise(Error::Kind::conflict, "exists", fmt::format("{} exists already: name a new file for the backup", target));
    std::filesystem::remove(part, ignored);
    make_private_file(part);
    const Finally clean([&] { std::filesystem::remove(part, ignored); });
    if (in_memory_) {
      const Turnstile::Turn turn(turnstile_);
      copy(*writer_, part);
    } else {
      Lease lease(*this);
      copy(*lease, part);
    }
    sync_file(part, O_RDWR);
    // link and not rename: it refuses a file that came into being meanwhile.
    if (::link(part.c_str(), target.c_str()) != 0)
      raise(errno == EEXIST ? Error::Kind::conflict : Error::Kind::unavailable, errno == EEXIST ? "exists" : "io",
            fmt::format("the backup {} cannot be made: {}", target, std::strerror(errno)));
    const auto folder = std::filesystem::path(target).parent_path();
    sync_file(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  }

  Info info() override {
    Info info{.engine = Engine::sqlite, .location = path_, .server_version = sqlite3_libversion()};
    info.schema_version = schema_version_;
    info.sync_mode = in_memory_ ? "in memory: nothing is kept" : "WAL, synchronous=FULL";
    if (in_memory_) {
      const Turnstile::Turn turn(turnstile_);
      info.bytes = writer_->number("PRAGMA page_count") * writer_->number("PRAGMA page_size");
      return info;
    }
    for (const char* suffix : {"", "-wal", "-shm"}) {
      struct stat file{};
      if (::stat((path_ + suffix).c_str(), &file) == 0) info.bytes += file.st_size;
    }
    return info;
  }

 private:
  // Whether the log could grow by a megabyte: asked with a file of its own, which is gone afterwards.
  bool room() const {
    if (in_memory_) return true;
    constexpr off_t kMore = 1 << 20;
    const std::string file = path_ + ".room";
    std::error_code ignored;
    const auto size = std::filesystem::file_size(path_ + "-wal", ignored);
    const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    const bool fits = ::posix_fallocate(fd, ignored ? 0 : static_cast<off_t>(size), kMore) == 0;
    ::close(fd);
    ::unlink(file.c_str());
    return fits;
  }

  template <typename F>
  class Finally {
   public:
    explicit Finally(F run) : run_(std::move(run)) {}
    Finally(const Finally&) = delete;
    Finally& operator=(const Finally&) = delete;
    ~Finally() { run_(); }

   private:
    F run_;
  };

  /// Keeps the other processes' writers and checkpoints out while it lives.
  ///
  /// SQLite's own lock would do for writes alone. This one is for the checkpoints: up to 3.51.2 a checkpoint at the
  /// very moment of another connection's write can spoil the file (sqlite.org/wal.html, "the WAL-reset bug").
  class ProcessTurn {
   public:
    explicit ProcessTurn(SqliteStore& store) : lock_(store.process_lock_ ? &*store.process_lock_ : nullptr) {
      if (!lock_ || lock_->lock(store.clock_, store.lock_timeout_)) return;
      const auto holders = lock_holders(store.path_);
      raise(Error::Kind::busy, "locked",
            fmt::format("the store {} has been locked by {} for {} s: end what it is doing, or wait and try again",
                        store.path_, holders.empty() ? "another program" : holders,
                        std::chrono::duration_cast<std::chrono::seconds>(store.lock_timeout_).count()));
    }
    ProcessTurn(const ProcessTurn&) = delete;
    ProcessTurn& operator=(const ProcessTurn&) = delete;
    ~ProcessTurn() {
      if (lock_) lock_->unlock();
    }

   private:
    FileLock* lock_;
  };

  /// A reading connection, for a scope. Made when first needed, at most `readers_max_`.
  class Lease {
   public:
    explicit Lease(SqliteStore& store) : store_(store) {
      std::unique_lock lock(store.readers_mutex_);
      store.reader_free_.wait(lock,
                              [&] { return !store.idle_readers_.empty() || store.readers_made_ < store.readers_max_; });
      if (!store.idle_readers_.empty()) {
        connection_ = std::move(store.idle_readers_.back());
        store.idle_readers_.pop_back();
        return;
      }
      ++store.readers_made_;
      lock.unlock();
      try {
        connection_ = store.make_reader();
      } catch (...) {
        give_back();
        throw;
      }
    }
    ~Lease() { give_back(); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    SqliteConnection& operator*() { return *connection_; }

   private:
    void give_back() {
      {
        std::lock_guard lock(store_.readers_mutex_);
        // One that could not end its transaction is thrown away, and another made when needed.
        if (connection_ && !connection_->in_transaction())
          store_.idle_readers_.push_back(std::move(connection_));
        else
          --store_.readers_made_;
      }
      store_.reader_free_.notify_one();
    }

    SqliteStore& store_;
    std::unique_ptr<SqliteConnection> connection_;
  };

  void check_ours() {
    if (in_memory_) return;
    const auto id = writer_->number("PRAGMA application_id");
    if (id == kApplicationId) return;
    if (id != 0 || writer_->number("SELECT count(*) FROM sqlite_master") != 0)
      raise(Error::Kind::invalid, "not_ours",
            fmt::format("{} is a database of another program: name another file for the store", path_));
    writer_->script(fmt::format("PRAGMA page_size = {}; PRAGMA application_id = {}", kPageSize, kApplicationId));
  }

  void prepare_writer() {
    configure(*writer_, kWriterCacheKib);
    // The hook takes the place of SQLite's own automatic checkpoints.
    log_pages_ = 0;
    sqlite3_wal_hook(
        writer_->handle(),
        [](void* self, sqlite3*, const char*, int pages) {
          static_cast<SqliteStore*>(self)->log_pages_ = pages;
          return SQLITE_OK;
        },
        this);
    data_version_ = writer_->number("PRAGMA data_version");
  }

  std::unique_ptr<SqliteConnection> make_reader() {
    auto reader = std::make_unique<SqliteConnection>(path_, lock_timeout_);
    configure(*reader, kReaderCacheKib);
    reader->script("PRAGMA query_only = 1");
    return reader;
  }

  void configure(SqliteConnection& connection, int cache_kib) {
    // Reading through mmap would be faster by a little, and turn a disk's read error into the end of the process.
    connection.script(
        fmt::format("PRAGMA cache_size = -{}; PRAGMA mmap_size = 0; PRAGMA foreign_keys = 1; "
                    "PRAGMA trusted_schema = 0; PRAGMA synchronous = FULL",
                    cache_kib));
    if (in_memory_) return;
    connection.script(
        fmt::format("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; "
                    "PRAGMA journal_size_limit = {}",
                    std::int64_t{kCheckpointPages} * kPageSize * 2));
    sqlite3_db_config(connection.handle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
  }

  /// A file that was removed or replaced under us still takes writes, which nobody would ever find again.
  void refuse_if_replaced() {
    if (in_memory_) return;
    struct stat now{};
    const bool there = ::stat(path_.c_str(), &now) == 0;
    if (there && now.st_ino == opened_.st_ino && now.st_dev == opened_.st_dev) return;
    raise(
        Error::Kind::unavailable, "database_gone",
        fmt::format("the database file {} {} while the hub was at work, so nothing more is written: stop the hub, put "
                    "the file back (or a backup of it), and start again",
                    path_, there ? "was replaced" : "was removed"));
  }

  void reopen_writer() {
    refuse_if_replaced();
    writer_ = std::make_unique<SqliteConnection>(path_, lock_timeout_);
    prepare_writer();
    signals_.notify_all();
  }

  /// Runs `work` between `begin` and COMMIT; `committed` is told once it is durable.
  template <typename Work, typename Committed>
  void transaction(SqliteConnection& connection, std::string_view begin, const Work& work, const Committed& committed) {
    connection.execute(begin);
    SqliteSession session(connection, clock_);
    try {
      work(session);
      session.throw_if_failed();
      connection.execute("COMMIT");
    } catch (...) {
      // SQLite has already rolled back after some errors.
      if (connection.in_transaction()) roll_back(connection);
      throw;
    }
    committed(session);
  }

  void roll_back(SqliteConnection& connection) {
    try {
      connection.execute("ROLLBACK");
    } catch (const Error& error) {
      ignore_error("a transaction that cannot be rolled back ends with its connection", error);
      // Leases look by themselves. In memory there is nothing to reopen.
      if (&connection == writer_.get() && !in_memory_) writer_.reset();
    }
  }

  /// On the writing connection this number changes by other processes' commits only.
  void look_for_foreign_commits() {
    if (in_memory_) return;
    const auto version = writer_->number("PRAGMA data_version");
    if (std::exchange(data_version_, version) != version) signals_.notify_all();
  }

  /// Copies the log into the file when it has grown enough. Called by the writer, with both turns held: so there is
  /// no write at the time, in any process.
  void checkpoint_if_due() {
    if (in_memory_) return;
    if (log_pages_ < last_log_pages_) next_checkpoint_ = kCheckpointPages;
    last_log_pages_ = log_pages_;
    if (log_pages_ < next_checkpoint_) return;
    const bool restart = log_pages_ >= kLogPagesMax;
    next_checkpoint_ = log_pages_ + (restart ? kCheckpointPages / 2 : kCheckpointPages);
    if (restart) sqlite3_busy_timeout(writer_->handle(), kRestartPatienceMs);
    const int rc = sqlite3_wal_checkpoint_v2(
        writer_->handle(), "main", restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
    if (restart) sqlite3_busy_timeout(writer_->handle(), static_cast<int>(lock_timeout_.count() / 1000));
    // What was written is durable in the log already; the next checkpoint tries again.
    if (rc != SQLITE_OK && (rc & 0xff) != SQLITE_BUSY)
      log::warning("the store's log could not be copied into its file yet",
                   {{"store", path_}, {"error", sqlite3_errstr(rc)}});
  }

  void copy(SqliteConnection& source, const std::string& path) {
    SqliteConnection target(path, lock_timeout_);
    // If it is cut off, the file is thrown away: no journal and no syncs on the way.
    target.script("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF");
    sqlite3_backup* backup = sqlite3_backup_init(target.handle(), "main", source.handle(), "main");
    if (!backup) target.fail(sqlite3_extended_errcode(target.handle()), "backup");
    // All in one step: one snapshot, never begun again because of others' writes.
    const int step = sqlite3_backup_step(backup, -1);
    const int rc = sqlite3_backup_finish(backup);
    if (step != SQLITE_DONE) target.fail(rc == SQLITE_OK ? step : rc, "backup");
  }

  const std::string path_;
  const bool in_memory_;
  struct stat opened_{};  ///< which file it is, whatever its name comes to mean
  const Micros lock_timeout_;
  const int readers_max_;
  Clock& clock_;
  int schema_version_ = 0;
  Signals signals_;
  std::mutex full_mutex_;  ///< guards what follows
  std::string full_;       ///< what the last write that met a full disk said

  // The writer: reached with the turn only, as all up to the next blank line.
  Turnstile turnstile_;
  std::optional<FileLock> process_lock_;
  std::unique_ptr<SqliteConnection> writer_;
  std::int64_t data_version_ = 0;
  int log_pages_ = 0;
  int last_log_pages_ = 0;
  int next_checkpoint_ = kCheckpointPages;

  std::mutex readers_mutex_;
  std::condition_variable reader_free_;
  std::vector<std::unique_ptr<SqliteConnection>> idle_readers_;
  int readers_made_ = 0;
};

}  // namespace

std::unique_ptr<Store> open_sqlite(const std::string& path, const StoreSettings& settings, Clock& clock,
                                   std::span<const Migration> migrations) {
  return std::make_unique<SqliteStore>(path, settings, clock, migrations);
}

}  // namespace dragoman::store
