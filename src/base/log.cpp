#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "base/clock.h"
#include "base/text.h"

namespace dragoman::log {
namespace {

spdlog::level::level_enum native(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::string_view name(Level level) {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warning:
      return "warning";
    case Level::error:
      return "error";
  }
  return "error";
}

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("dragoman", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("%v");
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return instance;
}

}  // namespace

void write(Level level, std::string_view message, Fields fields) {
  auto& target = *logger();
  if (!target.should_log(native(level))) return;
  std::string line =
      fmt::format(R"({{"time":"{}","level":"{}","message":)",
                  format_iso(std::chrono::time_point_cast<Micros>(std::chrono::system_clock::now())), name(level));
  append_json_string(line, message);
  for (const Field& field : fields) {
    line += ',';
    append_json_string(line, field.name);
    line += ':';
    std::visit(
        [&](auto value) {
          if constexpr (std::is_same_v<decltype(value), std::string_view>)
            append_json_string(line, value);
          else
            line += fmt::format("{}", value);
        },
        field.value);
  }
  line += '}';
  target.log(native(level), spdlog::string_view_t(line.data(), line.size()));
}

void configure(Level level, const std::string& path) {
  if (!path.empty()) {
    auto made = std::make_shared<spdlog::logger>(
        "dragoman", std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, 50u << 20, 5));
    made->set_pattern("%v");
    made->flush_on(spdlog::level::info);
    logger() = made;
  }
  logger()->set_level(native(level));
}

}  // namespace dragoman::log
