#include "pipeline/inbox.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>

#include "audit/audit.h"
#include "base/error.h"
#include "base/step.h"
#include "base/text.h"
#include "jobs/queue.h"
#include "pipeline/deliver.h"

namespace dragoman::pipeline {
namespace {

using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kFlow = "inbox";
constexpr std::size_t kKeyBytesMax = 255;

Error error_of(Error::Kind kind, std::string code, std::string message) {
  Error error(kind, std::move(message));
  error.code = std::move(code);
  return error;
}

// States as jobs::State has them.
std::string state_of(std::int64_t job_state) {
  switch (job_state) {
    case 2:
      return "running";
    case 5:
      return "cancelled";
    case 6:
      return "dead";
    default:
      return "waiting";
  }
}

std::string order_key(std::int64_t connection_id, std::string_view model, std::string_view key) {
  return fmt::format("{}:{}:{}", connection_id, model, key);
}

constexpr std::string_view kEntryColumns =
    "SELECT i.id, c.name, i.records, i.received_us, i.idempotency_key, i.sender, "
    "(SELECT count(*) FROM inbox_record r LEFT JOIN job j ON j.id = r.job_id WHERE r.inbox_id = i.id AND r.outcome = "
    "'' "
    "AND j.state NOT IN (5, 6)), "
    "(SELECT count(*) FROM inbox_record r LEFT JOIN job j ON j.id = r.job_id WHERE r.inbox_id = i.id AND "
    "(r.outcome = 'refused' OR (r.outcome = '' AND j.state = 6))) "
    "FROM inbox i JOIN connection c ON c.id = i.connection_id ";

InboxEntry entry_of(const Row& row) {
  InboxEntry entry;
  entry.id = row.int64(0);
  entry.connection = row.text(1);
  entry.records = row.int64(2);
  entry.received = row.time(3);
  entry.idempotency_key = row.text(4);
  entry.sender = row.text(5);
  entry.open = row.int64(6);
  entry.failed = row.int64(7);
  return entry;
}

}  // namespace

void check_idempotency_key(const std::string& key) {
  const bool fine = !key.empty() && key.size() <= kKeyBytesMax &&
                    std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < '\x7f'; });
  if (!fine)
    throw error_of(Error::Kind::invalid, "idempotency_key",
                   fmt::format("The idempotency key is 1 to {} visible ASCII characters, without spaces: one of your "
                               "own for each request, the same when you send it again.",
                               kKeyBytesMax));
}

struct Inbox::Waiting {
  const InboxPut* put = nullptr;
  InboxAnswer answer;
  // Of the transaction:
  std::int64_t connection_id = 0;
  bool fresh = false;
  // Of a thread that waits; guarded by mutex_:
  bool done = false, leads = false;
  std::condition_variable ready;
  // Of one for which none waits:
  InboxPut own;
  std::function<void(const InboxAnswer&)> told;
};

Inbox::~Inbox() {
  std::jthread thread;
  {
    std::lock_guard lock(mutex_);
    thread = std::move(thread_);
    thread.request_stop();
  }
  come_.notify_all();
}

void Inbox::check(const InboxPut& put) const {
  check_idempotency_key(put.idempotency_key);
  if (put.records.empty()) throw error_of(Error::Kind::invalid, "no_records", "There is no record in the body.");
  if (put.records.size() > settings_.records_max)
    throw error_of(
        Error::Kind::invalid, "too_many",
        fmt::format("A body holds {} records at most, and this has {}.", settings_.records_max, put.records.size()));
}

void Inbox::enter(Waiting& one) {
  if (!storing_.insert({one.put->connection, one.put->idempotency_key}).second) {
    auto error = error_of(Error::Kind::conflict, "in_progress",
                          "A request with this idempotency key is being stored right now; ask again in a moment.");
    error.retry_in(std::chrono::seconds(1));
    throw error;
  }
  waiting_.push_back(&one);
}

InboxReceipt Inbox::put(const InboxPut& put) {
  check(put);
  Waiting mine;
  mine.put = &put;
  std::unique_lock lock(mutex_);
  enter(mine);
  if (leading_)
    mine.ready.wait(lock, [&] { return mine.done || mine.leads; });
  else
    leading_ = true;
  if (!mine.done) lead(lock, &mine);
  lock.unlock();
  return mine.answer.receipt_or_throw();
}

void Inbox::put_later(InboxPut put, std::function<void(const InboxAnswer&)> told) {
  auto one = std::make_unique<Waiting>();
  try {
    check(put);
    one->own = std::move(put);
    one->put = &one->own;
    one->told = std::move(told);
    std::lock_guard lock(mutex_);
    enter(*one);
    one.release();  // lead() destroys it
    if (leading_) return;
    if (!thread_.joinable()) thread_ = std::jthread([this](std::stop_token stop) { work(stop); });
    come_.notify_one();
  } catch (const Error& error) {
    (one->told ? one->told : told)({{}, error});
  }
}

void Inbox::work(const std::stop_token& stop) {
  pthread_setname_np(pthread_self(), "inbox");
  std::unique_lock lock(mutex_);
  while (true) {
    come_.wait(lock, [&] { return waiting_.empty() ? stop.stop_requested() : !leading_; });
    if (waiting_.empty()) return;
    leading_ = true;
    lead(lock, nullptr);
  }
}

// Stores those who wait and tells them. The caller has set leading_, and is among them, or is the inbox's own thread.
void Inbox::lead(std::unique_lock<std::mutex>& lock, Waiting* mine) {
  const auto size = static_cast<std::ptrdiff_t>(std::min(waiting_.size(), settings_.group_max));
  std::vector<Waiting*> group(waiting_.begin(), waiting_.begin() + size);
  waiting_.erase(waiting_.begin(), waiting_.begin() + size);
  // Its own may stand behind the group's end; then it comes along.
  if (mine && std::find(group.begin(), group.end(), mine) == group.end()) {
    std::erase(waiting_, mine);
    group.push_back(mine);
  }
  lock.unlock();
  run(group);
  lock.lock();
  std::vector<std::unique_ptr<Waiting>> to_tell;
  for (Waiting* one : group) {
    storing_.erase({one->put->connection, one->put->idempotency_key});
    if (one->told) {
      to_tell.emplace_back(one);
    } else if (one != mine) {
      one->done = true;
      one->ready.notify_one();  // under the lock, for it lives on its own thread's stack
    }
  }
  if (mine) mine->done = true;
  // Who waits longest goes on.
  leading_ = false;
  if (!waiting_.empty()) {
    if (Waiting* next = waiting_.front(); !next->told) {
      leading_ = next->leads = true;
      next->ready.notify_one();
    } else if (mine) {
      if (!thread_.joinable()) thread_ = std::jthread([this](std::stop_token stop) { work(stop); });
      come_.notify_one();
    }
  }
  if (to_tell.empty()) return;
  lock.unlock();
  for (const auto& one : to_tell) one->told(one->answer);
  to_tell.clear();
  lock.lock();
}

void Inbox::run(const std::vector<Waiting*>& group) {
  try {
    write(group);
    return;
  } catch (const Error& error) {
    const bool shared = error.kind == Error::Kind::unavailable || error.kind == Error::Kind::busy ||
                        error.kind == Error::Kind::cancelled || group.size() == 1;
    // Of one whose commit is in doubt the same again tells: it finds its own row, or writes it.
    if (shared && error.kind != Error::Kind::in_doubt) {
      for (Waiting* one : group) one->answer.error = error;
      return;
    }
  } catch (const std::exception& error) {
    for (Waiting* one : group)
      one->answer.error = Error(Error::Kind::bug, "The request could not be stored.", error.what());
    return;
  }
  // Something about one of them; the others have nothing to do with it.
  for (Waiting* one : group) {
    try {
      one->answer.error.reset();
      write({one});
    } catch (const Error& error) {
      one->answer.error = error;
    }
  }
}

// The first record of a key says whether those of the key come with versions, and holds the later ones to it. Another
// node may say the opposite at the same moment: one of the two waits for the other's commit.
void Inbox::refuse_mixed(Session& session, const std::vector<Waiting*>& group) {
  using Key = std::tuple<std::int64_t, std::string_view, std::string_view>;
  struct Said {
    Versions versions = Versions::unknown;
    bool now = false;  // by a body of this transaction
  };
  std::map<Key, Said> keys;
  for (const Waiting* one : group)
    if (one->fresh)
      for (const auto& record : one->put->records)
        keys.try_emplace({one->connection_id, record.model, record.key}, Said{versions_of(record.version)});
  if (keys.empty()) return;

  // In the order of the keys, so that nodes wait for each other one way round only.
  if (session.engine() == store::Engine::sqlite) {
    for (auto& [key, said] : keys) {
      const auto& [connection_id, model, record_key] = key;
      if (session.execute("INSERT INTO delivery (connection_id, model, record_key, versions) VALUES ($1, $2, $3, $4) "
                          "ON CONFLICT (connection_id, model, record_key) DO NOTHING",
                          {connection_id, model, record_key, static_cast<std::int64_t>(said.versions)}) == 0)
        session.query("SELECT versions FROM delivery WHERE connection_id = $1 AND model = $2 AND record_key = $3",
                      {connection_id, model, record_key},
                      [&said = said](const Row& row) { said.versions = static_cast<Versions>(row.int64(0)); });
    }
  } else {
    std::set<Key> known;
    const auto list = [&](const auto& wanted) {
      std::string out;
      for (const auto& [key, said] : keys) {
        if (!wanted(key)) continue;
        out += fmt::format("{}[{},", out.empty() ? "[" : ",", std::get<0>(key));
        append_json_string(out, std::get<1>(key));
        out += ',';
        append_json_string(out, std::get<2>(key));
        out += fmt::format(",{}]", static_cast<int>(said.versions));
      }
      return out += ']';
    };
    for (const auto& [key, said] : keys) known.insert(key);
    session.query(
        "INSERT INTO delivery (connection_id, model, record_key, versions) SELECT CAST(d ->> 0 AS bigint), "
        "d ->> 1, d ->> 2, CAST(d ->> 3 AS bigint) FROM json_array_elements(CAST($1 AS json)) d "
        "ON CONFLICT (connection_id, model, record_key) DO NOTHING RETURNING connection_id, model, record_key",
        {list([](const Key&) { return true; })},
        [&](const Row& row) { known.erase({row.int64(0), row.text(1), row.text(2)}); });
    if (!known.empty())
      session.query(
          "SELECT d.connection_id, d.model, d.record_key, d.versions FROM json_array_elements(CAST($1 AS json)) k "
          "JOIN delivery d ON d.connection_id = CAST(k ->> 0 AS bigint) AND d.model = k ->> 1 AND "
          "d.record_key = k ->> 2",
          {list([&](const Key& key) { return known.count(key) > 0; })}, [&](const Row& row) {
            keys.at({row.int64(0), row.text(1), row.text(2)}).versions = static_cast<Versions>(row.int64(3));
          });
  }

  for (Waiting* one : group) {
    if (!one->fresh) continue;
    const auto& records = one->put->records;
    const auto say = [&](const Key& key, Versions versions) {
      const auto order = order_key(std::get<0>(key), std::get<1>(key), std::get<2>(key));
      return session.execute(
                 "UPDATE delivery SET versions = $4 WHERE connection_id = $1 AND model = $2 AND record_key = $3 AND "
                 "(versions = 0 OR (version = 0 AND intent_job IS NULL AND NOT EXISTS (SELECT 1 FROM order_queue WHERE "
                 "key = $5)))",
                 {std::get<0>(key), std::get<1>(key), std::get<2>(key), static_cast<std::int64_t>(versions),
                  std::string_view(order)}) == 1;
    };
    std::map<Key, Versions> here;
    for (std::size_t i = 0; i < records.size() && !one->answer.error; ++i) {
      const Key key{one->connection_id, records[i].model, records[i].key};
      const auto versions = versions_of(records[i].version);
      const auto [mine, first] = here.try_emplace(key, versions);
      const Said before = keys.at(key);
      bool fits = mine->second == versions;
      // What was said by one that has come to nothing (it was refused, and given up) holds nobody.
      if (first)
        fits =
            before.versions == versions || before.versions == Versions::unknown || (!before.now && say(key, versions));
      if (!fits)
        one->answer.error = versions_mixed(fmt::format("Record {}", i), records[i].model, records[i].key,
                                           versions == Versions::given ? Versions::counted : Versions::given);
    }
    if (!one->answer.error) {
      for (const auto& [key, versions] : here) {
        auto& said = keys.at(key);
        if (said.versions == Versions::unknown) say(key, versions);
        said = {versions, true};
      }
      continue;
    }
    // Nothing of the body is taken in, and its key may come again with another.
    session.execute("DELETE FROM inbox WHERE id = $1", {one->answer.receipt.id});
    one->fresh = false;
  }
}

void Inbox::write(const std::vector<Waiting*>& group) {
  // In one order on every node: whoever waits for another's key holds none that the other waits for.
  std::vector<Waiting*> sorted = group;
  std::sort(sorted.begin(), sorted.end(), [](const Waiting* a, const Waiting* b) {
    return std::tie(a->put->connection, a->put->idempotency_key) <
           std::tie(b->put->connection, b->put->idempotency_key);
  });
  step("intake.before_store");
  store_.write([&](Session& session) {
    const Time now = session.now();
    struct Known {
      std::int64_t id = 0;
      std::string intake;
      std::string kind;
    };
    std::map<std::string, Known> connections;
    std::vector<jobs::NewJob> enqueued;
    for (Waiting* one : sorted) {
      one->answer.error.reset();
      one->fresh = false;
      const InboxPut& put = *one->put;
      auto known = connections.find(put.connection);
      if (known == connections.end()) {
        Known found;
        session.query("SELECT id, kind FROM connection WHERE name = $1", {put.connection}, [&](const Row& row) {
          found.id = row.int64(0);
          found.kind = row.text(1);
        });
        if (found.id != 0) found.intake = connectors_.get(found.kind).intake;
        known = connections.emplace(put.connection, std::move(found)).first;
      }
      const Known& connection = known->second;
      if (connection.id == 0) {
        one->answer.error =
            Error(Error::Kind::not_found,
                  fmt::format("There is no connection `{}`; `dragoman connection list` shows those that there "
                              "are.",
                              put.connection));
        continue;
      }
      if (connection.intake.empty()) {
        one->answer.error =
            error_of(Error::Kind::invalid, "intake",
                     fmt::format("The connection `{}` is of the kind `{}`, and nothing can be delivered to it.",
                                 put.connection, connection.kind));
        continue;
      }
      one->connection_id = connection.id;
      one->answer.receipt = {
          .connection = put.connection, .records = static_cast<std::int64_t>(put.records.size()), .received = now};
      session.query(
          "INSERT INTO inbox (connection_id, idempotency_key, digest, sender, received_us, records) VALUES ($1, $2, "
          "$3, "
          "$4, $5, $6) ON CONFLICT (connection_id, idempotency_key) DO NOTHING RETURNING id",
          {connection.id, put.idempotency_key, Bytes{put.digest}, put.sender, to_us(now), one->answer.receipt.records},
          [&](const Row& row) {
            one->answer.receipt.id = row.int64(0);
            one->fresh = true;
          });
      if (!one->fresh) {
        bool same = false;
        session.query(
            "SELECT id, digest, received_us, records FROM inbox WHERE connection_id = $1 AND idempotency_key = $2",
            {connection.id, put.idempotency_key}, [&](const Row& row) {
              one->answer.receipt.id = row.int64(0);
              same = row.bytes(1) == put.digest;
              one->answer.receipt.received = row.time(2);
              one->answer.receipt.records = row.int64(3);
            });
        if (!same)
          one->answer.error =
              error_of(Error::Kind::invalid, "idempotency_key_reused",
                       fmt::format("This idempotency key came before (inbox {}), with another body. Another "
                                   "request takes another key.",
                                   one->answer.receipt.id));
        continue;
      }
    }
    refuse_mixed(session, sorted);
    for (const Waiting* one : sorted) {
      if (!one->fresh) continue;
      const InboxPut& put = *one->put;
      const std::string cause = fmt::format("inbox {}", one->answer.receipt.id);
      for (std::size_t i = 0; i < put.records.size(); ++i) {
        const auto& record = put.records[i];
        DeliveryOrder order{.model = record.model,
                            .key = record.key,
                            .version = record.version,
                            .content = record.content,
                            .inbox_id = one->answer.receipt.id,
                            .position = static_cast<std::int64_t>(i)};
        jobs::NewJob job;
        job.kind = connections.at(put.connection).intake;
        job.flow = kFlow;
        job.connection_id = one->connection_id;
        job.payload = order.json();
        job.order_key = order_key(one->connection_id, record.model, record.key);
        job.cause = cause;
        enqueued.push_back(std::move(job));
      }
    }
    if (!enqueued.empty()) {
      const auto jobs = jobs::enqueue(session, enqueued);
      static constexpr std::string_view kColumns[] = {"inbox_id", "position",   "job_id",
                                                      "model",    "record_key", "version"};
      std::vector<Param> rows;
      rows.reserve(enqueued.size() * std::size(kColumns));
      std::size_t job = 0;
      for (const Waiting* one : sorted) {
        if (!one->fresh) continue;
        for (std::size_t i = 0; i < one->put->records.size(); ++i) {
          const auto& record = one->put->records[i];
          const Param row[] = {one->answer.receipt.id,         static_cast<std::int64_t>(i), jobs.at(job++).id,
                               std::string_view(record.model), std::string_view(record.key), record.version};
          rows.insert(rows.end(), std::begin(row), std::end(row));
        }
      }
      session.insert_many("inbox_record", kColumns, rows);
    }
    std::vector<audit::Entry> entries;
    for (const Waiting* one : sorted) {
      if (!one->fresh) continue;
      entries.push_back({.actor = one->put->actor,
                         .action = "inbox.put",
                         .subject = fmt::format("{}:inbox {}", one->put->connection, one->answer.receipt.id),
                         .why = "",
                         .outcome = "ok",
                         .before = "",
                         .after = fmt::format(R"({{"records":{}}})", one->answer.receipt.records)});
    }
    if (!entries.empty()) audit::append(session, entries);
  });
  step("intake.stored");
}

Inbox::Cleaned Inbox::clean(std::int64_t limit) {
  Cleaned cleaned;
  std::int64_t upto = 0;
  const std::int64_t from = cleaned_upto_;
  store_.write([&](Session& session) {
    // Ids grow with time: the oldest rows are the first ones. Those that stay (a dead letter waits for a person) are
    // passed over, so that they don't stand in the way of those behind them.
    cleaned = {};
    const std::int64_t before = to_us(session.now() - settings_.keys_kept);
    bool young = false;
    std::vector<std::int64_t> old;
    session.query("SELECT id, received_us FROM inbox WHERE id > $1 ORDER BY id LIMIT $2", {from, limit},
                  [&](const Row& row) {
                    young = young || row.int64(1) >= before;
                    if (!young) old.push_back(row.int64(0));
                  });
    for (const std::int64_t id : old) {
      const bool waits = session.first(
          "SELECT 1 FROM inbox_record r JOIN job j ON j.id = r.job_id WHERE r.inbox_id = $1 AND j.state NOT IN (4, 5) "
          "LIMIT 1",
          {id}, [](const Row&) {});
      if (waits) continue;
      session.execute("DELETE FROM inbox_record WHERE inbox_id = $1", {id});
      session.execute("DELETE FROM inbox WHERE id = $1", {id});
      ++cleaned.gone;
    }
    cleaned.more = static_cast<std::int64_t>(old.size()) == limit;
    upto = cleaned.more ? old.back() : 0;
  });
  cleaned_upto_ = upto;
  return cleaned;
}

InboxEntry Inbox::show(const std::string& connection, std::int64_t id) {
  std::optional<InboxEntry> found;
  store_.read([&](Session& session) {
    found.reset();
    session.query(std::string(kEntryColumns) + "WHERE c.name = $1 AND i.id = $2", {connection, id},
                  [&](const Row& row) { found = entry_of(row); });
    if (!found) return;
    session.query(
        "SELECT r.position, r.job_id, r.model, r.record_key, r.version, r.outcome, r.external_id, r.message, "
        "r.finished_us, COALESCE(j.state, 4), COALESCE(j.error_message, ''), j.finished_us FROM inbox_record r "
        "LEFT JOIN job j ON j.id = r.job_id WHERE r.inbox_id = $1 ORDER BY r.position",
        {id}, [&](const Row& row) {
          InboxRecord record;
          record.position = row.int64(0);
          record.job_id = row.int64(1);
          record.model = row.text(2);
          record.key = row.text(3);
          record.version = row.int64(4);
          record.state = row.text(5);
          record.external_id = row.text(6);
          record.message = row.text(7);
          record.finished = row.maybe_time(8);
          const std::int64_t job = row.int64(9);
          // Refused and then retried by a person: it is on its way again.
          if (record.state.empty() || (record.state == "refused" && job <= 3)) {
            record.state = state_of(job);
            record.message = row.text(10);
            record.finished = job >= 4 ? row.maybe_time(11) : std::nullopt;
          }
          if (!record.message.empty() && record.message.front() == ' ') record.message.erase(0, 1);
          found->items.push_back(std::move(record));
        });
  });
  if (!found)
    throw Error(Error::Kind::not_found,
                fmt::format("The inbox of `{}` has no {}. What is done is forgotten {} days after it came.", connection,
                            id, std::chrono::duration_cast<std::chrono::hours>(settings_.keys_kept).count() / 24));
  return *found;
}

std::vector<InboxEntry> Inbox::list(const std::string& connection, std::int64_t before, std::int64_t limit) {
  std::vector<InboxEntry> out;
  const std::int64_t under = before > 0 ? before : INT64_MAX;
  store_.read([&](Session& session) {
    out.clear();
    const auto each = [&](const Row& row) { out.push_back(entry_of(row)); };
    if (connection.empty())
      session.query(std::string(kEntryColumns) + "WHERE i.id < $1 ORDER BY i.id DESC LIMIT $2", {under, limit}, each);
    else
      session.query(std::string(kEntryColumns) + "WHERE c.name = $3 AND i.id < $1 ORDER BY i.id DESC LIMIT $2",
                    {under, limit, connection}, each);
  });
  return out;
}

}  // namespace dragoman::pipeline
