#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "access/sealed.h"
#include "base/error.h"
#include "pipeline/connections.h"
#include "pipeline/target.h"
#include "store/test_store.h"

namespace dragoman::tests {

/// A remote that keeps records by key, as the import procedure does: once per key, and never back to an older version.
///
/// Threads: one thread at a time.
class FakeTarget final : public pipeline::Target {
 public:
  struct Record {
    std::string id;
    std::int64_t version = 0;
    std::string content;
    int created = 0;  ///< how often it was made
    std::map<std::string, std::string> children;
  };
  using Key = std::pair<std::string, std::string>;  ///< model, key

  std::string system() const override { return "fake"; }
  std::vector<pipeline::Delivered> deliver(std::span<const pipeline::Outgoing> records, std::stop_token) override {
    ++calls;
    if (before_call) before_call(records);
    for (const auto& record : records)
      if (poisonous.contains(record.key)) throw Error(Error::Kind::invalid, "The whole call failed.");
    std::vector<pipeline::Delivered> out;
    for (const auto& record : records) out.push_back(apply(record));
    if (after_call) after_call(records);
    return out;
  }
  std::vector<std::optional<pipeline::Found>> find(std::span<const Target::Key> keys, std::stop_token) override {
    ++probes;
    if (before_find) before_find();
    std::vector<std::optional<pipeline::Found>> out;
    for (const auto& key : keys) {
      const auto found = records.find({key.model, key.key});
      if (found == records.end())
        out.emplace_back();
      else
        out.push_back(pipeline::Found{found->second.id, found->second.version, found->second.children});
    }
    return out;
  }
  std::string child_model(const std::string& model, const std::string& field, std::stop_token) override {
    return field == "lines" ? model + ".line" : "";
  }
  std::string entity(const std::string& model) const override {
    return model == "order" ? "order" : model == "order.line" ? "order_line" : model;
  }

  std::map<Key, Record> records;
  std::map<std::string, Error> refused;  ///< by key
  std::set<std::string> poisonous;       ///< keys that fail the whole call
  std::function<void(std::span<const pipeline::Outgoing>)> before_call, after_call;
  std::function<void()> before_find;
  std::vector<std::string> log;  ///< `KEY version` of what was applied, in order
  int calls = 0, probes = 0;

 private:
  pipeline::Delivered apply(const pipeline::Outgoing& record) {
    using What = pipeline::Delivered::What;
    if (const auto wrong = refused.find(record.key); wrong != refused.end())
      return {.what = What::refused, .id = "", .children = {}, .error = wrong->second};
    Record& here = records[{record.model, record.key}];
    if (here.version > record.version) return {.what = What::skipped, .id = here.id, .children = here.children};
    const bool fresh = here.created == 0;
    const bool same = here.content == record.content;
    here.version = record.version;
    if (fresh) {
      ++here.created;
      here.id = std::to_string(++last_id_);
    }
    if (same) return {.what = What::unchanged, .id = here.id, .children = here.children};
    here.content = record.content;
    log.push_back(record.key + " " + std::to_string(record.version));
    const auto content = nlohmann::json::parse(record.content);
    if (content.contains("children"))
      for (const auto& [field, list] : content["children"].items())
        for (const auto& child : list) here.children.try_emplace(child["key"], std::to_string(++last_id_));
    return {.what = fresh ? What::created : What::updated, .id = here.id, .children = here.children};
  }
  std::int64_t last_id_ = 0;
};

/// The store of a test, by the test's parameter: `Sqlite` or `Postgres`, with a connection 1 `main` of the kind `fake`.
class DeliveryStore : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string_view(GetParam()) == "Sqlite") {
      folder_.emplace();
      url_ = *folder_ / "hub.db";
    } else {
      store::skip_without_server();
      if (IsSkipped() || HasFatalFailure()) return;
      if (!shared_) shared_ = std::make_unique<store::PostgresDatabase>(store::test_server());
      schema_.emplace(*shared_);
      url_ = schema_->url();
    }
    store_ = open_again();
    store_->write([](store::Session& session) {
      session.execute(
          "INSERT INTO connection (id, name, kind, settings, state, created_us, changed_us) VALUES (1, 'main', 'fake', "
          "'{}', 'active', 0, 0)");
    });
  }
  void TearDown() override { store_.reset(); }
  static void TearDownTestSuite() { shared_.reset(); }

  /// As another node or process opens it.
  std::unique_ptr<store::Store> open_again() { return store::open({.url = url_}, clock_); }
  /// Where it lies: a path of a file, or an address.
  const std::string& url() const { return url_; }

  /// One row, its columns as text with `|` between; empty: none. Rows are separated by a blank.
  std::string rows(std::string_view sql, int columns) {
    std::string out;
    store_->read([&](store::Session& session) {
      out.clear();
      session.query(sql, {}, [&](const store::Row& row) {
        if (!out.empty()) out += ' ';
        for (int i = 0; i < columns; ++i) {
          if (i > 0) out += '|';
          out += row.is_null(i) ? "-" : std::string(row.text(i));
        }
      });
    });
    return out;
  }

  SystemClock clock_;
  std::unique_ptr<store::Store> store_;

 private:
  inline static std::unique_ptr<store::PostgresDatabase> shared_;
  std::optional<store::TemporaryFolder> folder_;
  std::optional<store::PostgresSchema> schema_;
  std::string url_;
};

}  // namespace dragoman::tests
