#pragma once

#include <functional>
#include <memory>
#include <string>

#include "sandbox/odoo/database.h"

namespace sandbox::odoo {

/// A condition on the records of one table, ready to be tested row by row.
class Predicate {
 public:
  virtual ~Predicate() = default;
  virtual bool test(Slot slot) const = 0;
};

/// A parsed domain, with what the search can use to look at fewer records.
struct CompiledDomain {
  std::unique_ptr<Predicate> predicate;  // null: every record
  Id id_above = 0;                       // every match has an id above this
  std::optional<std::vector<Id>> among;  // every match is one of these (ascending)
  bool mentions_active = false;
};

/// What a domain needs to know beyond the table.
struct DomainContext {
  const Database& database;
  const Env& env;
  /// The display name of a record, for comparisons of a many2one with text.
  std::function<std::string(const Table&, Slot)> display_name;
  /// A field without cells of its own, as the value JSON would show; null where it has none.
  std::function<Cell(const Table&, const Field&, Slot)> computed;
};

/// Compiles a domain in prefix notation. Throws OdooError as the series would.
CompiledDomain compile_domain(const DomainContext& context, const Table& table, const Json& domain);

}  // namespace sandbox::odoo
