#include "base/step.h"

#include <atomic>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/error.h"

namespace dragoman {
namespace {

std::atomic<bool> listened{false};
std::function<void(std::string_view)>& listener() {
  static std::function<void(std::string_view)> one;
  return one;
}

}  // namespace

void step(std::string_view name) {
  if (listened.load(std::memory_order_acquire)) [[unlikely]]
    listener()(name);
}

void on_step(std::function<void(std::string_view)> to) {
  listened = false;
  listener() = std::move(to);
  listened = static_cast<bool>(listener());
}

void kill_at_step_from_environment() {
  const char* given = std::getenv("DRAGOMAN_KILL_AT");
  if (!given || !*given) return;
  const std::string text = given;
  const auto colon = text.rfind(':');
  long left = 1;
  const char* const end = text.data() + text.size();
  const auto number = colon == std::string::npos ? std::from_chars_result{end, {}}
                                                 : std::from_chars(text.data() + colon + 1, end, left);
  if (number.ec != std::errc() || number.ptr != end || left < 1 || colon == 0)
    throw Error(Error::Kind::invalid,
                "DRAGOMAN_KILL_AT is `" + text + "`; it takes a step and which time, as in `deliver.sent:3`.");
  on_step([name = text.substr(0, colon), count = std::make_shared<std::atomic<long>>(left)](std::string_view step) {
    if (step == name && --*count == 0) std::raise(SIGKILL);
  });
}

}  // namespace dragoman
