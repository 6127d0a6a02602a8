#include "sandbox/odoo/database.h"

#include <chrono>
#include <stdexcept>

namespace sandbox::odoo {

Database::Database(std::string name, std::unique_ptr<Schema> schema)
    : name_(std::move(name)), schema_(std::move(schema)) {
  for (const auto& model : schema_->models) add_table(*model);
}

Table& Database::table(std::string_view model) const {
  Table* found = find(model);
  if (found == nullptr) throw std::runtime_error("no model " + std::string(model));
  return *found;
}

Table& Database::add_table(const Model& model) {
  auto& table = tables_[model.name];
  table = std::make_unique<Table>(model);
  return *table;
}

std::int64_t Database::now_us() const {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count() + clock_offset_us_;
}

}  // namespace sandbox::odoo
