#include "odoo/gate.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

#include "base/error.h"

namespace dragoman::odoo {

class Gate::Impl {
 public:
  explicit Impl(GateSettings settings)
      : places(std::max(1, settings.workers  ? settings.workers
                           : settings.learnt ? settings.learnt
                                             : 2)),
        bulk_places(settings.bulk_share_all ? places : std::max(1, places - 1)) {}

  int places, bulk_places;
  std::mutex mutex;
  std::condition_variable_any free;
  int inside = 0, bulk_inside = 0;
  std::map<std::uint64_t, Lane> tickets;
  std::uint64_t next = 1;
};

Gate::Gate(GateSettings settings, Clock&) : impl_(std::make_unique<Impl>(settings)) {}
Gate::~Gate() = default;

Gate::Place Gate::enter(Lane lane, std::string_view, const std::function<Ending()>&, std::stop_token stop) {
  std::unique_lock lock(impl_->mutex);
  const bool in = impl_->free.wait(lock, stop, [&] {
    return impl_->inside < impl_->places && (lane != Lane::bulk || impl_->bulk_inside < impl_->bulk_places);
  });
  if (!in) throw Error(Error::Kind::cancelled, "the call was stopped while it waited for its turn at Odoo");
  ++impl_->inside;
  if (lane == Lane::bulk) ++impl_->bulk_inside;
  impl_->tickets.emplace(impl_->next, lane);
  return Place(this, impl_->next++);
}

Gate::Place::~Place() {
  if (!gate_) return;
  {
    std::lock_guard lock(gate_->impl_->mutex);
    const auto found = gate_->impl_->tickets.find(ticket_);
    --gate_->impl_->inside;
    if (found->second == Lane::bulk) --gate_->impl_->bulk_inside;
    gate_->impl_->tickets.erase(found);
  }
  gate_->impl_->free.notify_all();
}

int Gate::places() const {
  return impl_->places;
}
int Gate::bulk_places() const {
  return impl_->bulk_places;
}
int Gate::learnt() const {
  return impl_->places;
}

}  // namespace dragoman::odoo
