#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/store.h"

namespace dragoman::store {

/// One step of the schema: `migrations/NNNN_name.sql`, embedded at build time. Applied once, forwards only, in a
/// transaction of its own; never edited once released (its digest is compared at every start).
///
/// The text is SQL for both engines, several statements allowed, with these tokens:
///
///     {{id}}             a number that the engine gives: INTEGER PRIMARY KEY, or BIGINT ... IDENTITY PRIMARY KEY
///     {{int}}            INTEGER or BIGINT
///     {{real}}           REAL or DOUBLE PRECISION
///     {{bytes}}          BLOB or BYTEA
///     {{strict}}         the end of a CREATE TABLE: STRICT, or nothing
///     {{without_rowid}}  the same for a table that lives in its primary key: WITHOUT ROWID, STRICT, or nothing
///     {{strict_churning}}, {{without_rowid_churning}}  the same for a table whose rows change or go soon: PostgreSQL
///                        clears it up more often
struct Migration {
  int number;
  std::string_view name;
  std::string_view sql;
};

/// Those of this program, by number. Generated from the folder `migrations`.
std::span<const Migration> product_migrations();

/// A migration that a database says it has.
struct AppliedMigration {
  int number;
  std::string name;
  std::string digest;
};

/// The table in which a database keeps what was applied, made by the engines themselves.
inline constexpr std::string_view kMigrationTable =
    "CREATE TABLE IF NOT EXISTS dragoman_migration (number {{int}} PRIMARY KEY, name TEXT NOT NULL, "
    "digest TEXT NOT NULL, applied_at_us {{int}} NOT NULL) {{strict}}";

/// Replaces the tokens. Errors: bug (an unknown token).
std::string expand(std::string_view sql, Engine engine);

/// SHA-256 of the text as it lies in the repository, in hexadecimal.
std::string migration_digest(const Migration& migration);

/// What is left to apply. Both lists by number.
///
/// Errors  invalid: code `newer` (the database has one that we don't know), code `edited_migration` (ours is not
///         the text that was applied, or one in the middle is missing).
std::span<const Migration> pending(std::span<const Migration> ours, const std::vector<AppliedMigration>& applied);

/// Brings a database to `ours` through three doors of its engine; both engines share this.
struct Migrator {
  /// Runs a transaction that keeps all other migrating nodes and processes out.
  std::function<void(const std::function<void(Session&)>&)> exclusively;
  /// Runs a text of several statements inside it.
  std::function<void(Session&, const std::string&)> script;
};
/// Returns the number of the last migration that the database has now, 0 if none.
int migrate(const Migrator& migrator, std::span<const Migration> ours, Engine engine, Clock& clock);

}  // namespace dragoman::store
