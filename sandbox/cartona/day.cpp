#include "sandbox/cartona/day.h"

#include <algorithm>
#include <array>

namespace sandbox::cartona {

namespace {

constexpr Moment kMinute = 60 * kSecond;

/// When in the day an order comes: two waves, one in the late morning and one in the evening.
Moment arrival(Dice& dice, double hours) {
  static constexpr std::array kWeights = {1, 3, 6, 8, 9, 8, 6, 5, 4, 4, 5, 6, 7, 6, 4, 2};
  int sum = 0;
  for (const int weight : kWeights) sum += weight;
  auto drawn = static_cast<int>(dice.below(static_cast<std::size_t>(sum)));
  std::size_t slot = 0;
  while (drawn >= kWeights[slot]) drawn -= kWeights[slot++];
  const double at = (static_cast<double>(slot) + dice.unit()) / static_cast<double>(kWeights.size());
  return static_cast<Moment>(at * hours * 3600 * 1e6);
}

}  // namespace

DayOptions day_options_from(const Json& given) {
  DayOptions options;
  for (const auto& [key, value] : given.items()) {
    const auto share = [&](double& slot) {
      if (!value.is_number() || value < 0 || value > 1) throw ControlError(key + " must be 0 to 1");
      slot = value.get<double>();
    };
    if (key == "scenario") {
      if (value != "day") throw ControlError("there is one scenario: day");
    } else if (key == "seed") {
      options.seed = value.get<std::uint64_t>();
    } else if (key == "speed" || key == "hours") {
      if (!value.is_number() || value < 0 || value > 1e6) throw ControlError(key + " must be 0 or more");
      (key == "speed" ? options.speed : options.hours) = value.get<double>();
    } else if (key == "orders") {
      options.orders = value.get<std::size_t>();
    } else if (key == "accounts") {
      options.accounts = value.get<std::vector<std::string>>();
    } else if (key == "mix") {
      Json mix = value;
      if (mix.is_object() && !mix.contains("late")) mix["late"] = options.mix.late;
      options.mix = mix_from(mix);
    } else if (key == "edits") {
      share(options.edits);
    } else if (key == "cancels") {
      share(options.cancels);
    } else if (key == "approvals") {
      share(options.approvals);
    } else if (key == "admin_edits") {
      share(options.admin_edits);
    } else if (key == "drivers") {
      share(options.drivers);
    } else if (key == "returns") {
      share(options.returns);
    } else {
      throw ControlError("the scenario knows no '" + key + "'");
    }
  }
  return options;
}

Day::Day(World& world, DayOptions options) : world_(world), options_(std::move(options)) {
  std::uint64_t part = 0;
  for (const auto& supplier : world_.suppliers()) {
    const auto& names = options_.accounts;
    if (!names.empty() && std::find(names.begin(), names.end(), supplier->name) == names.end()) continue;
    for (const auto& [code, account] : supplier->accounts) {
      ++part;
      for (std::size_t i = 0; i < options_.orders; ++i) {
        const std::uint64_t n = part * 10'000'000 + i;
        Dice dice = dice_for(options_.seed, 0xa771, n);
        events_.push({arrival(dice, options_.hours), seq_++, What::order, nullptr, supplier->name, code, n, "shop"});
      }
    }
  }
  if (part == 0) throw ControlError("the scenario has no account to play for");
}

std::optional<Moment> Day::next() const {
  if (events_.empty()) return std::nullopt;
  return events_.top().at;
}

void Day::count(const char* what) {
  for (auto& [name, times] : counts_) {
    if (name == what) {
      ++times;
      return;
    }
  }
  counts_.emplace_back(what, 1);
}

void Day::plan(Moment at, What what, Order* order, std::uint64_t n, std::string by) {
  // What would come after closing time does not come.
  if (at < length()) events_.push({at, seq_++, what, order, {}, {}, n, std::move(by)});
}

void Day::play_until(Moment at) {
  const auto frozen = world_.frozen();
  const Moment base = frozen ? *frozen - played_ : 0;
  while (!events_.empty() && events_.top().at <= at) {
    const Event event = events_.top();
    events_.pop();
    if (frozen) world_.freeze_clock(base + event.at);
    play(event);
  }
  played_ = std::max(played_, at);
  if (frozen) world_.freeze_clock(base + played_);
}

void Day::order_comes(const Event& event) {
  const Supplier* supplier = world_.supplier(event.account);
  const Account* account = supplier == nullptr ? nullptr : supplier->account(event.supplier_code);
  if (account == nullptr) return;
  Order made = generate_order(*account, options_.seed, event.n, options_.mix);
  Dice dice = dice_for(options_.seed, 0x11fe, event.n);
  made.created_at = world_.now();
  if (dice.chance(options_.mix.late)) {
    // Late at the supplier, though not by the order's own time.
    const double pace = options_.speed > 0 && !world_.frozen() ? options_.speed : 1;
    made.visible_at = made.created_at + static_cast<Moment>(dice.between(2, 20) * static_cast<double>(kMinute) / pace);
    count("late");
  }
  if (dice.chance(0.4)) {
    made.retailer_preferred_delivery_date = date_of(made.created_at + kDay);
    made.estimated_delivery_day = made.retailer_preferred_delivery_date;
  }
  Order& order = world_.add_order(std::move(made), {"shop", "scenario"});
  count("order");
  const std::uint64_t n = event.n;
  if (dice.chance(options_.edits)) plan(event.at + dice.between(20, 600) * kSecond, What::edit, &order, n, "shop");
  if (dice.chance(options_.cancels))
    plan(event.at + dice.between(300, 3000) * kSecond, What::cancel, &order, n, "shop");
  if (dice.chance(options_.admin_edits))
    plan(event.at + dice.between(600, 7200) * kSecond, What::admin_edit, &order, n, "admin");
  if (order.delivered_by == "delivered_by_cartona") {
    plan(event.at + dice.between(60, 180) * kMinute, What::assign, &order, n, "cartona");
  } else if (dice.chance(options_.drivers)) {
    plan(event.at + dice.between(30, 120) * kMinute, What::assign, &order, n, "driver");
  }
  if (options_.approvals > 0 && dice.chance(options_.approvals))
    plan(event.at + dice.between(2, 20) * kMinute, What::approve, &order, n, "admin");
}

void Day::play(const Event& event) {
  if (event.what == What::order) return order_comes(event);
  Order& order = *event.order;
  const Actor actor{event.by, "scenario"};
  Dice dice = dice_for(options_.seed, 0xe7e17 + static_cast<std::uint64_t>(event.what), event.n);
  switch (event.what) {
    case What::order:
      break;
    case What::edit:
      if (order.status != "pending") return;
      world_.set_status(order, "editing", actor);
      plan(event.at + dice.between(60, 300) * kSecond, What::end_edit, event.order, event.n, "shop");
      count("edit");
      break;
    case What::end_edit:
      if (order.status != "editing") return;
      if (const Json changes = generate_changes(order, dice); !changes.empty())
        world_.change_lines(order, changes, actor);
      world_.set_status(order, "pending", actor);
      count("end_edit");
      break;
    case What::cancel:
      if (order.status != "pending" && order.status != "approved") return;
      order.cancellation_reason = dice.chance(0.5) ? "delayed_order" : "different_prices";
      world_.set_status(order, "cancelled_by_retailer", actor);
      count("cancel");
      break;
    case What::admin_edit:
      if (order.status != "pending" && order.status != "approved" && order.status != "assigned_to_salesman") return;
      order.edited_by_admin = true;
      if (const Json changes = generate_changes(order, dice); !changes.empty())
        world_.change_lines(order, changes, actor);
      count("admin_edit");
      break;
    case What::approve:
      if (order.status == "editing") {
        plan(event.at + 5 * kMinute, What::approve, event.order, event.n, event.by);
        return;
      }
      if (order.status != "pending") return;
      world_.set_status(order, "approved", actor);
      count("approve");
      break;
    case What::assign:
      if (order.status == "pending" || order.status == "editing") {
        // The supplier has not approved yet: the driver asks again.
        plan(event.at + 30 * kMinute, What::assign, event.order, event.n, event.by);
        return;
      }
      if (order.status != "approved") return;
      world_.set_status(order, "assigned_to_salesman", actor);
      plan(event.at + dice.between(40, 240) * kMinute, What::deliver, event.order, event.n, event.by);
      count("assign");
      break;
    case What::deliver:
      if (order.status != "assigned_to_salesman") return;
      if (dice.chance(options_.returns)) {
        order.return_reason = "shop_closed";
        world_.set_status(order, "returned", actor);
        count("return");
      } else {
        order.delivery_day = date_of(world_.now());
        world_.set_status(order, "delivered", actor);
        count("deliver");
      }
      break;
  }
}

Json Day::state() const {
  Json counts = Json::object();
  for (const auto& [name, times] : counts_) counts[name] = times;
  return {{"scenario", "day"},
          {"seed", options_.seed},
          {"speed", options_.speed},
          {"played_seconds", static_cast<double>(played_) / 1e6},
          {"length_seconds", static_cast<double>(length()) / 1e6},
          {"waiting", events_.size()},
          {"finished", events_.empty()},
          {"counts", counts}};
}

}  // namespace sandbox::cartona
