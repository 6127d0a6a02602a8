#include "ops/catalog.h"

#include <algorithm>
#include <iterator>

namespace dragoman::ops {
namespace {

// Whoever changes something may say why.
void add_reason(Operation& operation) {
  const bool has_one = std::any_of(operation.inputs.begin(), operation.inputs.end(),
                                   [](const Field& field) { return field.name == "reason"; });
  if (!operation.changes() || operation.audits_itself || has_one) return;
  operation.inputs.push_back({.name = "reason", .doc = "why, for the audit log"});
}

}  // namespace

std::vector<Operation> catalog(const pipeline::ConnectorList& connectors) {
  std::vector<Operation> all;
  const auto append = [&](std::vector<Operation> some) {
    all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  };
  append(connection_operations(connectors));
  append(provision_operations());
  append(sync_operations());
  append(record_operations());
  append(change_operations());
  append(schedule_operations());
  append(audit_operations());
  append(notify_operations());
  append(job_operations());
  append(inbox_operations());
  append(mapping_operations());
  append(market_operations());
  append(market_customer_operations());
  append(market_stock_operations());
  append(market_status_operations());
  append(trace_operations());
  append(hub_operations());
  for (Operation& operation : all) add_reason(operation);
  return all;
}

const Operation* find(const std::vector<Operation>& operations, std::string_view name) {
  const auto found =
      std::find_if(operations.begin(), operations.end(), [&](const auto& one) { return one.name == name; });
  return found == operations.end() ? nullptr : &*found;
}

}  // namespace dragoman::ops
