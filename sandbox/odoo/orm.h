#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sandbox/odoo/database.h"
#include "sandbox/odoo/domain.h"
#include "sandbox/odoo/sink.h"

namespace sandbox::odoo {

enum class Access { read, write, create, unlink };

/// How read() answers many2one fields: a pair with the name, or the id alone (`load` None or "").
enum class Links { pairs, ids };

/// What Odoo's BaseModel does, for one caller in one transaction.
/// Threads: one thread at a time; the caller holds the database's mutex as the operation needs.
class Orm {
 public:
  Orm(Database& database, Env env, Transaction* transaction);

  Database& database() { return database_; }
  const Env& env() const { return env_; }
  Transaction* transaction() { return transaction_; }
  int series() const { return database_.series(); }

  /// Throws AccessError unless a right of one of the user's groups allows it.
  void check_access(const Table& table, Access access) const;
  bool has_access(const Model& model, Access access) const;
  /// True where the user is in one of these groups, by others' inheritance too.
  bool in_any_group(const std::vector<Id>& groups) const;
  /// True where the record rules (companies) show the record.
  bool visible(const Table& table, Slot slot) const;
  /// Throws AccessError for the first record that the rules hide, MissingError for one that is not there.
  void check_records(const Table& table, const std::vector<Id>& ids, Access access) const;

  std::vector<Id> search(const Table& table, const Json& domain, std::int64_t offset, std::int64_t limit,
                         const std::string& order);
  std::int64_t count(const Table& table, const Json& domain, std::int64_t limit);
  /// Writes the list of records. `fields` empty: all that the user may read.
  void read(const Table& table, const std::vector<Id>& ids, const std::vector<std::string>& fields, Links links,
            Sink& out);
  void fields_get(const Table& table, const std::vector<std::string>& fields,
                  const std::vector<std::string>& attributes, Sink& out);

  /// Creates one record and returns its id; `reserved` is an id taken from the sequence before.
  Id create(Table& table, const Json& values, Id reserved = 0);
  void write(Table& table, const std::vector<Id>& ids, const Json& values);
  void unlink(Table& table, const std::vector<Id>& ids);
  Json load(Table& table, const Json& fields, const Json& rows);
  Json name_search(const Table& table, const std::string& name, const Json& domain, const std::string& op,
                   std::int64_t limit);

  std::string display_name(const Table& table, Slot slot) const;
  /// The value of any field, stored or not.
  Cell value(const Table& table, const Field& field, Slot slot) const;
  /// Writes one cell and remembers how to undo it. No write_date, no checks.
  void set_cell(Table& table, Id id, const Field& field, Cell cell);
  void set_cell(Table& table, Id id, std::string_view field, Cell cell);
  std::optional<Id> find_external_id(const std::string& xml_id, const std::string& model) const;
  void add_external_id(const std::string& xml_id, const std::string& model, Id id);

  std::string missing_text(const Table& table, Id id) const;

 private:
  struct Sorter;

  std::vector<Id> filtered(const Table& table, const CompiledDomain& domain, std::int64_t stop_after) const;
  void sort(const Table& table, std::vector<Id>& ids, const std::string& order, std::size_t first) const;
  std::vector<Id> list_ids(const Table& table, const Field& field, Slot slot) const;
  void write_value(const Table& table, const Field& field, Slot slot, Id id, Links links, Sink& out,
                   std::unordered_map<Id, std::string>& names) const;
  void assign(Table& table, Id id, const Field& field, const Json& value);
  void apply_commands(Table& table, Id id, const Field& field, const Json& commands);
  void check_constraints(Table& table, Id id, bool created);
  void touch(Table& table, Id id, bool created);
  void after_write(Table& table, Id id, const Json& values, bool created);
  /// The stored totals of an order from its lines.
  void add_up(Id order);
  Json creation_defaults(const Table& table, const Json& values);
  void erase_row(Table& table, Id id);
  bool drop_inactive(const Table& table) const;
  std::vector<Id> groups_of(Id uid) const;

  Database& database_;
  Env env_;
  Transaction* transaction_;
  DomainContext domain_context_;
};

}  // namespace sandbox::odoo
