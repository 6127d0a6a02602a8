#pragma once

#include <csignal>

#include "app/config.h"
#include "base/clock.h"
#include "base/random.h"
#include "pipeline/connections.h"

namespace dragoman::app {

/// Blocks the signals that stop the hub in this thread and all that it starts; before the first thread.
sigset_t block_stop_signals();

/// `dragoman run`: builds everything, says what it does, and works until SIGINT or SIGTERM; then finishes what is under
/// way and ends. A second SIGINT ends it at once; what was acknowledged is durable either way.
///
/// Threads: runs on the main thread.
void run_hub(const Config& config, const std::map<std::string, std::string>& environment, const sigset_t& signals,
             Clock& clock, Random& random, const pipeline::ConnectorList& connectors);

}  // namespace dragoman::app
