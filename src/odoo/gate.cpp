#include "odoo/gate.h"

#include <condition_variable>
#include <mutex>
#include <set>

#include "base/error.h"
#include "odoo/gate_core.h"

namespace dragoman::odoo {

class Gate::Impl {
 public:
  Impl(GateSettings settings, Clock& given) : clock(given), core(settings, given.steady()) {}

  // Under the lock: hands out what may happen now.
  void step() {
    bool any = false;
    for (auto step = core.next(clock.steady()); step.what != GateCore::Step::none; step = core.next(clock.steady())) {
      (step.what == GateCore::Step::admit ? admitted : asked_to_probe).insert(step.ticket);
      any = true;
    }
    if (any) changed.notify_all();
  }

  Clock& clock;
  mutable std::mutex mutex;
  std::condition_variable_any changed;
  GateCore core;
  std::set<std::uint64_t> admitted, asked_to_probe;
};

Gate::Gate(GateSettings settings, Clock& clock) : impl_(std::make_unique<Impl>(settings, clock)) {}
Gate::~Gate() = default;

Gate::Place Gate::enter(Lane lane, std::string_view work, const std::function<Ending()>& probe, std::stop_token stop) {
  Impl& impl = *impl_;
  std::unique_lock lock(impl.mutex);
  const std::uint64_t ticket = impl.core.arrive(lane, work, impl.clock.steady());
  impl.step();
  for (;;) {
    impl.changed.wait(lock, stop,
                      [&] { return impl.admitted.contains(ticket) || impl.asked_to_probe.contains(ticket); });
    if (impl.admitted.erase(ticket)) return Place(this, ticket);
    if (impl.asked_to_probe.erase(ticket)) {
      lock.unlock();
      Ending ending = Ending::unknown;
      try {
        ending = probe();
      } catch (const std::exception& error) {
        ignore_error("a probe says nothing then", error);
      }
      lock.lock();
      impl.core.probed(ticket, ending, impl.clock.steady());
      impl.step();
      continue;
    }
    impl.core.give_up(ticket);
    impl.step();
    throw Error(Error::Kind::cancelled, "the call was stopped while it waited for its turn at Odoo");
  }
}

Gate::Place::~Place() {
  if (!gate_) return;
  Impl& impl = *gate_->impl_;
  std::lock_guard lock(impl.mutex);
  impl.core.leave(ticket_, ending_, impl.clock.steady());
  impl.step();
}

int Gate::places() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->core.places();
}
int Gate::bulk_places() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->core.bulk_places();
}
int Gate::learnt() const {
  std::lock_guard lock(impl_->mutex);
  return impl_->core.learnt();
}

}  // namespace dragoman::odoo
