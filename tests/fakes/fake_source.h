#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "fakes/hand_clock.h"
#include "pipeline/source.h"

namespace dragoman::tests {

/// A table behind transactions, with Odoo's habits: a record's write_date is the start of the transaction that wrote
/// it, kept in microseconds and shown in whole seconds; it can be seen from the commit on; a transaction may not write
/// what another changed since it began; deletions leave nothing.
///
/// Threads: one thread at a time.
class FakeSource final : public pipeline::Source {
 public:
  struct Row {
    Time write_date{};
    std::string value;
    bool active = true;
  };
  struct Transaction {
    Time start{};
    std::map<std::int64_t, std::optional<Row>> writes;  ///< none: deleted
  };

  explicit FakeSource(HandClock& clock, Micros ahead = Micros(0)) : clock_(clock), ahead_(ahead) {}

  /// Its own clock: a jump of ours is not one of its.
  Time server_now() const { return Time(std::chrono::seconds(1'790'000'000)) + clock_.steady() + ahead_ + shift; }

  Micros shift{};  ///< how far the server's clock was set, by hand

  Transaction begin() const { return {server_now(), {}}; }
  std::int64_t create(Transaction& transaction, const std::string& value) {
    const std::int64_t id = ++last_id_;
    transaction.writes[id] = Row{transaction.start, value, true};
    locked_.insert(id);
    return id;
  }
  /// False if the record is locked or newer than the transaction, or gone.
  bool write(Transaction& transaction, std::int64_t id, const std::string& value, bool active = true) {
    if (!lock(transaction, id)) return false;
    transaction.writes[id] = Row{transaction.start, value, active};
    return true;
  }
  bool unlink(Transaction& transaction, std::int64_t id) {
    if (!lock(transaction, id)) return false;
    transaction.writes[id] = std::nullopt;
    return true;
  }
  void commit(Transaction& transaction) {
    for (auto& [id, row] : transaction.writes) {
      if (row)
        rows[id] = *row;
      else
        rows.erase(id);
      committed_[id] = server_now();
      locked_.erase(id);
    }
    transaction.writes.clear();
  }
  /// As by SQL: the time of writing stays.
  void change_silently(std::int64_t id, const std::string& value) { rows.at(id).value = value; }

  std::vector<std::string> default_models(std::stop_token) override { return {"thing"}; }
  std::optional<pipeline::Description> describe(const std::string& model, std::optional<pipeline::Range>,
                                                std::stop_token) override {
    ++calls_;
    if (blind) throw *blind;
    if (model != "thing") return std::nullopt;
    pipeline::Description description;
    description.fields = fields;
    description.plan.fields = {"active", "id", "value", "write_date"};
    description.plan.types = {{"active", "boolean"}, {"id", "integer"}, {"value", "char"}, {"write_date", "datetime"}};
    description.plan.has_active = true;
    description.plan.has_write_date = has_write_date;
    return description;
  }
  std::int64_t count(const std::string&, const pipeline::Plan&, std::stop_token) override {
    return static_cast<std::int64_t>(rows.size());
  }
  std::int64_t last_id(const std::string&, const pipeline::Plan&, std::stop_token) override {
    return rows.empty() ? 0 : rows.rbegin()->first;
  }
  std::unique_ptr<pipeline::Page> page(const std::string&, const pipeline::Plan&, pipeline::Range range,
                                       std::int64_t limit, std::stop_token) override {
    fail_if_told();
    std::vector<std::int64_t> ids;
    for (auto at = rows.upper_bound(range.after); at != rows.end() && (!range.upto || at->first <= *range.upto); ++at) {
      if (limit > 0 && static_cast<std::int64_t>(ids.size()) == limit) break;
      ids.push_back(at->first);
    }
    bodies_paged += static_cast<std::int64_t>(ids.size());
    return answer(ids);
  }
  std::unique_ptr<pipeline::Page> read(const std::string&, const pipeline::Plan&, const std::vector<std::int64_t>& ids,
                                       std::stop_token) override {
    fail_if_told();
    std::vector<std::int64_t> there;
    for (const std::int64_t id : ids)
      if (rows.contains(id)) there.push_back(id);
    std::sort(there.begin(), there.end());
    bodies_read += static_cast<std::int64_t>(there.size());
    return answer(there);
  }
  Stamps stamps(const std::string&, const pipeline::Plan& plan, std::optional<Time> since, pipeline::Range range,
                std::int64_t limit, std::stop_token) override {
    fail_if_told();
    if (on_call) on_call();
    Stamps out;
    out.read_at = server_now();
    const auto from = since ? std::chrono::floor<std::chrono::seconds>(*since)
                            : std::chrono::floor<std::chrono::seconds>(Time::min());
    for (auto at = rows.upper_bound(range.after); at != rows.end() && (!range.upto || at->first <= *range.upto); ++at) {
      if (static_cast<std::int64_t>(out.stamps.size()) == limit) break;
      const auto second = std::chrono::floor<std::chrono::seconds>(at->second.write_date);
      if (since && second < from) continue;
      out.stamps.push_back({at->first, plan.has_write_date ? std::optional<Time>(second) : std::nullopt});
    }
    return out;
  }
  std::vector<std::int64_t> existing(const std::string&, const std::vector<std::int64_t>& ids,
                                     std::stop_token) override {
    fail_if_told();
    std::vector<std::int64_t> there;
    for (const std::int64_t id : ids)
      if (rows.contains(id)) there.push_back(id);
    std::sort(there.begin(), there.end());
    return there;
  }
  std::optional<std::string> binary(const std::string&, std::int64_t, const std::string&, std::stop_token) override {
    return std::nullopt;
  }
  std::string learnt() const override { return "{}"; }
  int places() const override { return 1; }
  std::int64_t calls() const override { return calls_; }

  std::map<std::int64_t, Row> rows;
  std::string fields =
      R"({"active":{"type":"boolean"},"id":{"type":"integer"},"value":{"type":"char"},"write_date":{"type":"datetime"}})";
  bool has_write_date = true;
  std::int64_t nan_id = 0;  ///< this record's body is no JSON, as Python writes a NaN
  std::int64_t bodies_paged = 0, bodies_read = 0;
  std::function<void()> on_call;  ///< before a call for stamps is answered
  std::optional<Error> failure;   ///< thrown by the next call
  std::optional<Error> blind;     ///< thrown by every description

  static std::string body(std::int64_t id, const Row& row) {
    return fmt::format(R"({{"id": {}, "active": {}, "value": "{}", "write_date": "{}"}})", id, row.active, row.value,
                       format_odoo(row.write_date));
  }

 private:
  class TextPage final : public pipeline::Page {
   public:
    TextPage(std::string text, Time at) : text_(std::move(text)), reader_({}) {
      read_at = at;
      bytes = static_cast<std::int64_t>(text_.size());
      text_.reserve(text_.size() + 128);
      records_ = reader_.parse(text_);
    }
    std::span<const json::Record> records() const override { return records_; }

   private:
    std::string text_;
    json::PageReader reader_;
    std::span<const json::Record> records_;
  };

  std::unique_ptr<pipeline::Page> answer(const std::vector<std::int64_t>& ids) {
    std::string text = "[";
    for (const std::int64_t id : ids)
      text += (text.size() > 1 ? ", " : "") +
              (id == nan_id ? fmt::format(R"({{"id": {}, "value": NaN}})", id) : body(id, rows.at(id)));
    return std::make_unique<TextPage>(text + "]", server_now());
  }
  bool lock(Transaction& transaction, std::int64_t id) {
    if (transaction.writes.contains(id)) return transaction.writes[id].has_value();
    const auto changed = committed_.find(id);
    if (!rows.contains(id) || locked_.contains(id) ||
        (changed != committed_.end() && changed->second > transaction.start))
      return false;
    locked_.insert(id);
    return true;
  }
  void fail_if_told() {
    ++calls_;
    if (failure) throw *std::exchange(failure, std::nullopt);
  }

  HandClock& clock_;
  const Micros ahead_;
  std::int64_t last_id_ = 0, calls_ = 0;
  std::map<std::int64_t, Time> committed_;
  std::set<std::int64_t> locked_;
};

}  // namespace dragoman::tests
