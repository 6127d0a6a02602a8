#pragma once

#include <functional>
#include <string_view>

namespace dragoman {

/// Marks a place where it matters most what happens if the process dies there: between an intent and its effect, an
/// answer and its commit. Costs a load where nobody listens.
///
/// `DRAGOMAN_KILL_AT=deliver.sent:3` in the environment ends the process with SIGKILL when it comes to that step for the third
/// time (`dragoman selftest crash` and the tests do so); the simulator listens, and throws.
///
/// Names are `part.moment`: see docs/reference/selftest.md.
/// Threads: safe from any thread.
void step(std::string_view name);

/// Listens to every step from now on, in place of whoever did; an empty function: nobody. What it throws comes out of
/// step(). Set while no other thread runs.
void on_step(std::function<void(std::string_view)> listener);

/// Reads DRAGOMAN_KILL_AT; called once, by main. Throws invalid if it makes no sense.
void kill_at_step_from_environment();

}  // namespace dragoman
