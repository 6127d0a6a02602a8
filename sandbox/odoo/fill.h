#pragma once

#include <cstdint>
#include <string>

#include "sandbox/odoo/database.h"

namespace sandbox::odoo {

/// The day on which generated data ends, 2026-03-06: not the clock's, so that a stand-in started again
/// holds the same bytes as before.
inline constexpr std::int64_t kSeedDay_us = 1'772'784'000'000'000;

/// A small trading company: a few hundred records of every model, linked as real ones are. The same
/// seed gives the same company.
struct SeedUsers {
  std::string admin_password = "admin";
  std::string admin_key;
  std::string limited_password = "limited";
  std::string limited_key;
};
void seed_company(Database& database, std::uint64_t seed, const SeedUsers& users);

/// Users, groups, access rights and the few records that every database has. seed_company calls it.
void seed_base(Database& database, const SeedUsers& users);

/// Adds `count` generated records of a model, 25 fields and more where the model has them. They are
/// written straight into the columns: a million partners take about two seconds.
void fill(Database& database, const std::string& model, std::size_t count, std::uint64_t seed);

/// The rows that describe a model to the outside (ir.model) and give administrators their rights.
void describe_model(Database& database, const std::string& model);
/// id, display_name and the four log fields.
void add_standard_fields(Json& fields);

}  // namespace sandbox::odoo
