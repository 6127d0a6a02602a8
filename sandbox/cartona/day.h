#pragma once

#include <cstdint>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "sandbox/cartona/generate.h"
#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

struct DayOptions {
  std::uint64_t seed = 1;
  double speed = 60;         ///< seconds of the day in a second; 0: only by hand
  std::size_t orders = 400;  ///< of each supplier_code
  double hours = 16;
  std::vector<std::string> accounts;  ///< names; empty: all there are
  Mix mix{.late = 0.02};
  double edits = 0.06;  ///< shares of the orders to which this happens
  double cancels = 0.05;
  double approvals = 0;  ///< approved by people within minutes, in Cartona's own pages
  double admin_edits = 0.03;
  double drivers = 0.3;   ///< of those the supplier delivers: driven with Cartona's app by the supplier's driver
  double returns = 0.02;  ///< of those under way
};
/// Reads what `given` names. Throws ControlError.
DayOptions day_options_from(const Json& given);

/// A trading day: shops order, change their minds and cancel, administrators edit and approve, drivers deliver. What
/// happens is decided by the seed alone; whether a step is possible, by what the order is when its time comes. Threads:
/// as World.
class Day {
 public:
  Day(World& world, DayOptions options);

  /// Plays all that is due up to `at`, in microseconds from the day's beginning. Where the world's clock is frozen it
  /// moves along.
  void play_until(Moment at);
  Moment played() const { return played_; }
  Moment length() const { return static_cast<Moment>(options_.hours * 3600 * 1e6); }
  /// When the next thing happens; nullopt when the day is over.
  std::optional<Moment> next() const;
  const DayOptions& options() const { return options_; }
  Json state() const;

 private:
  enum class What { order, edit, end_edit, cancel, admin_edit, assign, deliver, approve };
  struct Event {
    Moment at;
    std::uint64_t seq;
    What what;
    Order* order;
    std::string account, supplier_code;
    std::uint64_t n;
    std::string by;
    bool operator>(const Event& other) const { return at != other.at ? at > other.at : seq > other.seq; }
  };

  void plan(Moment at, What what, Order* order, std::uint64_t n, std::string by);
  void play(const Event& event);
  void order_comes(const Event& event);
  void count(const char* what);

  World& world_;
  DayOptions options_;
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::uint64_t seq_ = 0;
  Moment played_ = 0;
  std::vector<std::pair<std::string, std::int64_t>> counts_;
};

}  // namespace sandbox::cartona
