#include "simulation/fibres.h"

#include <utility>

namespace dragoman::simulation {

Threads::~Threads() {
  {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [&] { return idle_.size() == workers_.size(); });
    stopping_ = true;
  }
  for (auto& worker : workers_) {
    worker->go.release();
    worker->thread.join();
  }
}

void Threads::run(std::function<void()> task) {
  std::lock_guard lock(mutex_);
  if (idle_.empty()) {
    workers_.push_back(std::make_unique<Worker>());
    auto& fresh = *workers_.back();
    fresh.thread = std::thread([this, &fresh] { work(fresh); });
    idle_.push_back(&fresh);
  }
  Worker* const worker = idle_.back();
  idle_.pop_back();
  worker->task = std::move(task);
  worker->go.release();
}

void Threads::work(Worker& worker) {
  while (true) {
    worker.go.acquire();
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    std::exchange(worker.task, nullptr)();
    std::lock_guard lock(mutex_);
    idle_.push_back(&worker);
    ended_.notify_all();
  }
}

int Fibres::start(Group group, std::string name, std::function<void()> body, Micros after) {
  auto fibre = std::make_unique<Fibre>();
  fibre->id = ++last_;
  fibre->group = group;
  fibre->name = std::move(name);
  fibre->body = std::move(body);
  Fibre& there = *fibre;
  fibres_[there.id] = std::move(fibre);
  enqueue(there, now_ + after);
  threads_.run([this, &there] { live(there); });
  return there.id;
}

void Fibres::enqueue(Fibre& fibre, Micros at) {
  fibre.wake = at;
  fibre.tie = dice_.next();
  fibre.queued = true;
  queue_.emplace(at, fibre.tie, fibre.id);
}

Fibres::Fibre* Fibres::next() {
  while (!queue_.empty()) {
    const auto [at, tie, id] = *queue_.begin();
    queue_.erase(queue_.begin());
    Fibre& fibre = *fibres_.at(id);
    fibre.queued = false;
    if (at > now_) now_ = at;
    const auto frozen = frozen_.find(fibre.group);
    if (frozen != frozen_.end() && !killed(fibre.group) && frozen->second > now_) {
      enqueue(fibre, frozen->second);
      held_up_[fibre.group].insert(id);
      continue;
    }
    return &fibre;
  }
  return nullptr;
}

void Fibres::live(Fibre& fibre) {
  fibre.turn.acquire();
  try {
    if (!killed(fibre.group)) fibre.body();
  } catch (const Killed&) {
    // as it should be
  } catch (const std::exception& error) {
    failures_.push_back(fibre.name + ": " + error.what());
  }
  fibre.body = nullptr;
  const auto self = std::move(fibres_.at(fibre.id));
  fibres_.erase(fibre.id);
  current_ = next();
  (current_ ? current_->turn : main_).release();
}

void Fibres::run() {
  current_ = next();
  if (!current_) return;
  current_->turn.release();
  main_.acquire();
}

void Fibres::sleep(Micros duration) {
  Fibre& self = *current_;
  if (killed(self.group)) throw Killed();
  enqueue(self, now_ + std::max(duration, Micros::zero()));
  current_ = next();
  if (current_ != &self) {
    current_->turn.release();
    self.turn.acquire();
  }
  if (killed(self.group)) throw Killed();
}

void Fibres::wake(int id, Micros after) {
  const auto found = fibres_.find(id);
  if (found == fibres_.end() || !found->second->queued) return;
  Fibre& fibre = *found->second;
  if (fibre.wake <= now_ + after) return;
  queue_.erase({fibre.wake, fibre.tie, fibre.id});
  enqueue(fibre, now_ + after);
}

void Fibres::kill(Group group) {
  killed_.insert(group);
  frozen_.erase(group);
  held_up_.erase(group);
  for (auto& [id, fibre] : fibres_)
    if (fibre->group == group) wake(id);
}

void Fibres::thaw(Group group) {
  frozen_.erase(group);
  for (const int id : std::exchange(held_up_[group], {})) wake(id);
}

bool Fibres::frozen(Group group) const {
  const auto found = frozen_.find(group);
  return found != frozen_.end() && found->second > now_;
}

int Fibres::count(Group group) const {
  int count = 0;
  for (const auto& [id, fibre] : fibres_) count += fibre->group == group;
  return count;
}

}  // namespace dragoman::simulation
