#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string_view>

#include "base/clock.h"

namespace dragoman::odoo {

/// Who goes first when there are more calls than Odoo has workers: a person waiting, an order, bulk work.
enum class Lane { interactive, order, bulk };

struct GateSettings {
  int workers = 0;  ///< 0: learnt
  int learnt = 0;   ///< what an earlier run learnt; 0: nothing
  bool bulk_share_all = false;
  /// How long before and between trials for a third worker. A call of somebody else's that comes during one waits for a page; with one a
  /// minute that is less than one in a hundred of them.
  Micros trial_spacing = std::chrono::minutes(1);
};

/// How a call ended, as far as the number of places is concerned.
enum class Ending {
  good,     ///< answered, errors of Odoo's logic included
  refused,  ///< 429, 503
  lost,     ///< timed out, reset
  unknown   ///< not sent, stopped
};

/// Lets as many calls at once through to one Odoo as it has workers, which it learns (see GateCore).
///
/// For bulk work to go wide, give it more callers than there are places: those that wait lend their thread to find out
/// whether there are more. With n callers it finds up to n - 1 places for bulk.
///
/// Threads: safe from any thread.
class Gate {
 public:
  Gate(GateSettings settings, Clock& clock);
  ~Gate();

  /// A place, held until it dies. Move-only.
  class Place {
   public:
    Place(Place&& other) noexcept : gate_(other.gate_), ticket_(other.ticket_) { other.gate_ = nullptr; }
    Place& operator=(Place&&) = delete;
    ~Place();
    void ended(Ending ending) { ending_ = ending; }

   private:
    friend class Gate;
    Place(Gate* gate, std::uint64_t ticket) : gate_(gate), ticket_(ticket) {}
    Gate* gate_;
    std::uint64_t ticket_;
    Ending ending_ = Ending::unknown;
  };

  /// Waits for a place. `work` names calls that cost about the same (`res.partner.search_read`). `probe` makes the
  /// smallest call there is; a waiting caller's thread is borrowed for it, rarely. Throws cancelled.
  Place enter(Lane lane, std::string_view work, const std::function<Ending()>& probe, std::stop_token stop);

  int places() const;
  int bulk_places() const;
  /// To be kept, and given as GateSettings::learnt the next time.
  int learnt() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dragoman::odoo
