#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "base/clock.h"
#include "jobs/queue.h"
#include "notify/alert.h"
#include "store/store.h"

namespace dragoman::pipeline {

/// For jobs::Kinds: people are told of dead letters, all of one kind of error as one problem, `dead:` and the group's
/// fingerprint, with the connection's name behind it where that has people of its own to tell.
void tell_of_dead_letters(store::Session& session, std::span<const jobs::DeadLetter> dead);

/// Who is told of an alert: those whom the connection that it is about names in its setting `tell`. Empty: whoever the
/// hub names.
std::vector<std::string> who_is_told(store::Session& session, const notify::Alert& alert);
/// Throws invalid where the setting `tell` among those of a connection is no list of e-mail addresses.
void check_told(const nlohmann::json& settings);

/// Tells people, once per outage, of connections that did not answer for `patience` (0: never), and at once of those
/// whose credentials are refused, and of those to which nothing can be delivered because what that needs is not there.
/// To be called every minute or so, by any node. How many were told of.
int tell_of_outages(store::Store& store, Micros patience);

}  // namespace dragoman::pipeline
