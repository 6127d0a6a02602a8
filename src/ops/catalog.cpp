#include "ops/catalog.h"

#include <algorithm>
#include <iterator>

namespace dragoman::ops {

std::vector<Operation> catalog(const pipeline::ConnectorList& connectors) {
  std::vector<Operation> all;
  const auto append = [&](std::vector<Operation> some) {
    all.insert(all.end(), std::make_move_iterator(some.begin()), std::make_move_iterator(some.end()));
  };
  append(connection_operations(connectors));
  append(sync_operations());
  append(record_operations());
  append(change_operations());
  append(hub_operations());
  return all;
}

const Operation* find(const std::vector<Operation>& operations, std::string_view name) {
  const auto found =
      std::find_if(operations.begin(), operations.end(), [&](const auto& one) { return one.name == name; });
  return found == operations.end() ? nullptr : &*found;
}

}  // namespace dragoman::ops
