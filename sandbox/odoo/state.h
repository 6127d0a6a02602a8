#pragma once

#include <string>

#include "sandbox/odoo/database.h"

namespace sandbox::odoo {

/// Writes all that a database holds beside what its series has by itself, for a start that goes on from there. The file
/// is replaced in one step. Throws std::runtime_error.
void save_state(const Database& database, const std::string& path);

/// Fills a database that is as new, of the same series. Throws std::runtime_error with what is wrong with the file.
void load_state(Database& database, const std::string& path);

}  // namespace sandbox::odoo
