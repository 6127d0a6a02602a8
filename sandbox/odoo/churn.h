#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "sandbox/odoo/service.h"

namespace sandbox::odoo {

/// People at work: creates, changes, archives and deletes a steady number of records a second, now and
/// then in a transaction that commits late. The same seed makes the same choices.
class Churn {
 public:
  Churn(Service& service, int per_second, std::uint64_t seed);
  ~Churn();
  void start();
  void stop();
  std::map<std::string, std::uint64_t> counts() const;

 private:
  void run();
  void step();
  std::size_t below(std::size_t n);

  Service& service_;
  int per_second_;
  std::uint64_t state_;
  std::vector<std::int64_t> mine_;                  // records made here, free to change and delete
  std::vector<std::pair<std::int64_t, int>> late_;  // open transactions and the steps until their commit
  std::map<std::string, std::uint64_t> counts_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace sandbox::odoo
