#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sandbox/odoo/schema.h"
#include "sandbox/odoo/table.h"

namespace sandbox::odoo {

/// Who calls, and with what context.
struct Env {
  Id uid = 0;
  bool su = false;  // past access rights and rules, as sudo()
  Json context = Json::object();
  bool active_test = true;
  bool bin_size = false;
  std::vector<Id> companies;  // allowed companies, the first is the current one; empty: no filter

  Id company() const { return companies.empty() ? 1 : companies.front(); }
};

/// One transaction: its start is the write_date of everything it writes. Undoes itself unless committed.
class Transaction {
 public:
  explicit Transaction(std::int64_t start_us) : start_us_(start_us) {}
  ~Transaction() { roll_back(); }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;

  std::int64_t start_us() const { return start_us_; }
  void on_rollback(std::function<void()> undo) { undo_.push_back(std::move(undo)); }
  void commit() { undo_.clear(); }
  /// A savepoint, and the way back to it.
  std::size_t mark() const { return undo_.size(); }
  void roll_back_to(std::size_t mark) {
    while (undo_.size() > mark) {
      undo_.back()();
      undo_.pop_back();
    }
  }
  void roll_back() {
    while (!undo_.empty()) {
      undo_.back()();
      undo_.pop_back();
    }
  }

 private:
  std::int64_t start_us_;
  std::vector<std::function<void()>> undo_;
};

/// Model and external key of an imported record.
using ImportKeyName = std::pair<std::string, std::string>;
/// What the import procedure knows of one.
struct ImportKey {
  Id id = 0;
  std::optional<std::int64_t> version = std::nullopt;
  std::string digest = {};
  std::string called = {};
  ImportKeyName parent = {};
  std::vector<ImportKeyName> links = {};  // keys that it refers to, looked for by rules
  std::set<Id> refused = {};              // what it does not stand for, as a person said
};

struct ApiKey {
  Id uid = 0;
  std::string name;
};

/// Everything the stand-in holds: tables, logins, clock.
/// Threads: hold `mutex` shared to read records, alone to change them; the clock is safe from any thread.
class Database {
 public:
  Database(std::string name, std::unique_ptr<Schema> schema);

  const std::string& name() const { return name_; }
  int series() const { return schema_->series; }
  Schema& schema() { return *schema_; }
  const Schema& schema() const { return *schema_; }

  Table* find(std::string_view model) const {
    const auto found = tables_.find(model);
    return found == tables_.end() ? nullptr : found->second.get();
  }
  /// For models that every series has.
  Table& table(std::string_view model) const;
  /// Gives a model that was just added to the schema its table.
  Table& add_table(const Model& model);

  std::int64_t now_us() const;
  void set_clock_offset_us(std::int64_t offset) { clock_offset_us_ = offset; }

  // External ids, as ir.model.data keeps them: "module.name" to the row of that table.
  std::unordered_map<std::string, Id> external_ids;
  std::map<std::string, ApiKey> api_keys;
  std::unordered_map<Id, std::string> passwords;
  std::map<std::string, Id> sessions;
  std::map<std::string, std::int64_t> sequences;

  // What the procedures of Dragoman keep in tables of their own.
  bool import_table = false;
  std::map<ImportKeyName, ImportKey> import_keys;
  std::map<ImportKeyName, std::set<ImportKeyName>> import_children;  // of some it is only thought that they are
  std::set<std::string> own_indexes;
  // What of a stock move is reserved.
  std::map<Id, double> reserved;

  /// Raised whenever users, groups or access rights change, so that what was derived from them is redone.
  std::uint64_t rights_version = 0;

  /// A transaction that runs: as long as it lives, `oldest_start_us` is not after its start. Threads: any.
  class Running {
   public:
    Running(Database& database, std::int64_t start_us) : database_(&database), start_us_(start_us) {
      const std::lock_guard lock(database.running_mutex_);
      database.running_.insert(start_us);
    }
    Running(Running&& other) noexcept
        : database_(std::exchange(other.database_, nullptr)), start_us_(other.start_us_) {}
    Running& operator=(Running&&) = delete;
    ~Running() {
      if (database_ == nullptr) return;
      const std::lock_guard lock(database_->running_mutex_);
      database_->running_.erase(database_->running_.find(start_us_));
    }

   private:
    Database* database_;
    std::int64_t start_us_;
  };
  /// When the longest running transaction began; now if none runs.
  std::int64_t oldest_start_us() const {
    const std::lock_guard lock(running_mutex_);
    return running_.empty() ? now_us() : *running_.begin();
  }

  mutable std::shared_mutex mutex;

 private:
  std::string name_;
  std::unique_ptr<Schema> schema_;
  std::unordered_map<std::string_view, std::unique_ptr<Table>> tables_;
  std::atomic<std::int64_t> clock_offset_us_{0};
  mutable std::mutex running_mutex_;
  std::multiset<std::int64_t> running_;
};

}  // namespace sandbox::odoo
