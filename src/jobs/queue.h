#pragma once

#include <span>
#include <vector>

#include "jobs/job.h"

namespace dragoman::jobs {

/// Enqueues in the caller's transaction. Who waits for work is woken when it commits.
///
/// Errors  as Store::write.
/// Threads as the Session.
Enqueued enqueue(store::Session& session, const NewJob& job);
/// Many at once: cheaper than one by one. The answers are in the order of `jobs`.
std::vector<Enqueued> enqueue(store::Session& session, std::span<const NewJob> jobs);

}  // namespace dragoman::jobs
