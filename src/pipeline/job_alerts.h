#pragma once

#include "base/clock.h"
#include "jobs/queue.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// For jobs::Kinds: people are told of dead letters, all of one kind of error as one problem, `dead:` and the group's
/// fingerprint.
void tell_of_dead_letters(store::Session& session, std::span<const jobs::DeadLetter> dead);

/// Tells people, once per outage, of connections that did not answer for `patience` (0: never), and at once of those
/// whose credentials are refused, and of those to which nothing can be delivered because what that needs is not there.
/// To be called every minute or so, by any node. How many were told of.
int tell_of_outages(store::Store& store, Micros patience);

}  // namespace dragoman::pipeline
