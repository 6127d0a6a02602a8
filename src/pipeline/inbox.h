#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "pipeline/connections.h"
#include "store/store.h"

namespace dragoman::pipeline {

struct InboxSettings {
  Micros keys_kept = std::chrono::hours(24 * 30);  ///< so long the same key gets the same answer
  std::size_t records_max = 1000;                  ///< in one body
  std::size_t group_max = 256;                     ///< bodies in one transaction
};

/// What a sender hands in: records for one connection.
struct InboxPut {
  std::string connection;
  std::string idempotency_key;  ///< 1–255 visible ASCII characters
  std::string sender;           ///< the token's name
  std::string actor;            ///< for the audit log: `token shop`
  std::string digest;           ///< of the body: the same key has to come with the same
  struct Record {
    std::string model, key;
    std::int64_t version = 0;  ///< 0: none given
    std::string content;       ///< as Outgoing
  };
  std::vector<Record> records;
};

/// The acknowledgement: what it tells of is durable.
struct InboxReceipt {
  std::int64_t id = 0;
  std::string connection;
  std::int64_t records = 0;
  Time received{};
};

/// What a put came to.
struct InboxAnswer {
  InboxReceipt receipt;
  std::optional<Error> error;
  const InboxReceipt& receipt_or_throw() const {
    if (error) throw *error;
    return receipt;
  }
};

/// What became of one record.
struct InboxRecord {
  std::int64_t position = 0, job_id = 0;
  std::string model, key;
  std::int64_t version = 0;
  /// `waiting`, `running`, `created`, `updated`, `unchanged`, `skipped`, `refused` (a dead letter: a person decides),
  /// `dead` (for another reason), `cancelled`.
  std::string state;
  std::string external_id, message;
  std::optional<Time> finished;
};

struct InboxEntry : InboxReceipt {
  std::string idempotency_key, sender;
  std::int64_t open = 0, failed = 0;  ///< how many records have no end yet, and how many were refused or are dead
  std::vector<InboxRecord> items;     ///< of `show`
};

/// Where other systems hand in records that are to be delivered through a connection. What is acknowledged is durable
/// together with the jobs that will do it; the same key is answered in the same way, also after a crash in between and
/// by another node.
///
/// Requests that come while a transaction is under way share the next one: a disk that takes two milliseconds to sync
/// takes hundreds of them at a time. One of the threads that wait leads it; of requests for which no thread waits
/// (put_later) a thread of the inbox's own does.
///
/// Threads: safe from any thread.
class Inbox {
 public:
  Inbox(store::Store& store, const ConnectorList& connectors, InboxSettings settings = {})
      : store_(store), connectors_(connectors), settings_(settings) {}
  /// Waits for what put_later began.
  ~Inbox();

  /// Returns when the records and their jobs are durable.
  ///
  /// Errors  invalid: code `idempotency_key` (not acceptable), `idempotency_key_reused` (with another body),
  ///         `no_records`, `too_many`, `intake` (nothing can be delivered to that kind), `versions_mixed` (a record
  ///         with a version where those before came without, or the other way round: nothing of the body is taken);
  ///         conflict: code `in_progress` (a request with this key is being stored right now); not_found (no such
  ///         connection); as Store::write: where it is not durable, it was not acknowledged.
  InboxReceipt put(const InboxPut& put);
  /// As put, but returns at once: `told` is called when the answer is there, by this call or from another thread. It
  /// must neither wait nor throw.
  void put_later(InboxPut put, std::function<void(const InboxAnswer&)> told);

  /// Throws not_found.
  InboxEntry show(const std::string& connection, std::int64_t id);
  /// Newest first; `before` > 0: only older ones. `connection` empty: of all.
  std::vector<InboxEntry> list(const std::string& connection, std::int64_t before, std::int64_t limit);

  struct Cleaned {
    std::int64_t gone = 0;
    bool more = false;  ///< there may be more: call again
  };
  /// Forgets what was received before the keys' time, unless a job of it is not finished; looks at `limit` bodies.
  Cleaned clean(std::int64_t limit);

  const InboxSettings& settings() const { return settings_; }

 private:
  struct Waiting;
  void check(const InboxPut& put) const;
  void enter(Waiting& one);
  void lead(std::unique_lock<std::mutex>& lock, Waiting* mine);
  void work(const std::stop_token& stop);
  void run(const std::vector<Waiting*>& group);
  void write(const std::vector<Waiting*>& group);
  static void refuse_mixed(store::Session& session, const std::vector<Waiting*>& group);

  store::Store& store_;
  const ConnectorList& connectors_;
  const InboxSettings settings_;

  std::mutex mutex_;
  std::condition_variable come_;  ///< for the thread: somebody waits, and nobody leads
  bool leading_ = false;          ///< guarded by mutex_, as the next two
  std::deque<Waiting*> waiting_;
  std::set<std::pair<std::string, std::string>> storing_;  ///< connection, key
  std::atomic<std::int64_t> cleaned_upto_ = 0;  ///< where the next cleaning goes on; wrong values only cost time

  std::jthread thread_;  ///< made by the first put_later; guarded by mutex_
};

/// Throws invalid, code `idempotency_key`.
void check_idempotency_key(const std::string& key);

}  // namespace dragoman::pipeline
