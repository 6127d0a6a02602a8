#pragma once

#include <vector>

#include "ops/operation.h"

namespace dragoman::ops {

// One function per noun, each in its own file; catalog.cpp puts them in order.
std::vector<Operation> connection_operations(const pipeline::ConnectorList& connectors);
std::vector<Operation> sync_operations();
std::vector<Operation> record_operations();
std::vector<Operation> change_operations();
std::vector<Operation> schedule_operations();
std::vector<Operation> audit_operations();
std::vector<Operation> notify_operations();
std::vector<Operation> job_operations();
std::vector<Operation> provision_operations();
std::vector<Operation> inbox_operations();
std::vector<Operation> mapping_operations();
std::vector<Operation> market_operations();
std::vector<Operation> market_customer_operations();
std::vector<Operation> market_stock_operations();
std::vector<Operation> market_status_operations();
std::vector<Operation> trace_operations();
std::vector<Operation> hub_operations();

}  // namespace dragoman::ops
