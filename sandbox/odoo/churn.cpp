#include "sandbox/odoo/churn.h"

#include <chrono>

namespace sandbox::odoo {

Churn::Churn(Service& service, int per_second, std::uint64_t seed)
    : service_(service), per_second_(per_second), state_(seed * 0x9E3779B97F4A7C15ULL + 77) {}

Churn::~Churn() {
  stop();
}

void Churn::start() {
  thread_ = std::thread([this] { run(); });
}

void Churn::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::map<std::string, std::uint64_t> Churn::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

std::size_t Churn::below(std::size_t n) {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return static_cast<std::size_t>(((state_ * 0x2545F4914F6CDD1DULL) >> 33) % n);
}

void Churn::run() {
  auto next = std::chrono::steady_clock::now();
  for (;;) {
    next += std::chrono::microseconds(1'000'000 / per_second_);
    {
      std::unique_lock lock(mutex_);
      if (wake_.wait_until(lock, next, [this] { return stopping_; })) break;
    }
    step();
  }
  for (const auto& [tx, steps] : late_) {
    service_.control("POST", "/tx/commit", {{"tx", tx}});
    const std::lock_guard lock(mutex_);
    ++counts_["late commit"];
  }
}

void Churn::step() {
  const auto count = [this](const char* what) {
    const std::lock_guard lock(mutex_);
    ++counts_[what];
  };
  for (std::size_t i = 0; i < late_.size();) {
    if (--late_[i].second > 0) {
      ++i;
      continue;
    }
    service_.control("POST", "/tx/commit", {{"tx", late_[i].first}});
    late_.erase(late_.begin() + static_cast<std::ptrdiff_t>(i));
    count("late commit");
  }
  const std::size_t dice = below(100);
  try {
    if (mine_.size() < 5 || dice < 25) {
      const Json values = {
          {"name", "Walk-in " + std::to_string(below(1'000'000))}, {"email", "walkin@example.com"}, {"city", "Porto"}};
      mine_.push_back(
          service_.call(2, "res.partner", "create", Json::array({values}), Json::object()).get<std::int64_t>());
      count("create");
      return;
    }
    const std::size_t at = below(mine_.size());
    const Json one = Json::array({mine_[at]});
    if (dice < 75) {
      service_.call(2, "res.partner", "write",
                    Json::array({one, Json{{"phone", "+32 2 " + std::to_string(below(1'000'000))}}}), Json::object());
      count("write");
    } else if (dice < 82) {
      service_.call(2, "res.partner", "write", Json::array({one, Json{{"active", below(2) == 0}}}), Json::object());
      count("archive");
    } else if (dice < 90) {
      service_.call(2, "res.partner", "unlink", Json::array({one}), Json::object());
      mine_.erase(mine_.begin() + static_cast<std::ptrdiff_t>(at));
      count("unlink");
    } else {
      const auto tx = service_.control("POST", "/tx/begin", {{"uid", 2}}).at("tx").get<std::int64_t>();
      const Json values = {{"name", "Late " + std::to_string(below(1'000'000))}};
      service_.control("POST", "/tx/create", {{"tx", tx}, {"model", "res.partner"}, {"values", values}});
      late_.emplace_back(tx, 1 + static_cast<int>(below(static_cast<std::size_t>(per_second_) * 4)));
      count("late begin");
    }
  } catch (const std::exception&) {
    count("refused");
  }
}

}  // namespace sandbox::odoo
