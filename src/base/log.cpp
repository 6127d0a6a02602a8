#include "base/log.h"

#include <fmt/format.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "base/clock.h"

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

// Text is written as JSON with everything but printable ASCII and whole UTF-8 sequences escaped, so that no
// remote byte can break a line or a terminal. Broken UTF-8 becomes U+FFFD.
void append_json(std::string& out, std::string_view text) {
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
      ++i;
    } else if (c == '\n') {
      out += "\\n";
      ++i;
    } else if (c < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", c);
      ++i;
    } else if (c < 0x80) {
      out += static_cast<char>(c);
      ++i;
    } else {
      const std::size_t length = c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;
      bool whole = length > 0 && c < 0xf5 && i + length <= text.size();
      for (std::size_t k = 1; whole && k < length; ++k)
        whole = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
      if (whole) {
        out += text.substr(i, length);
        i += length;
      } else {
        out += "\\ufffd";
        ++i;
      }
    }
  }
  out += '"';
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
  append_json(line, message);
  for (const Field& field : fields) {
    line += ',';
    append_json(line, field.name);
    line += ':';
    std::visit(
        [&](auto value) {
          if constexpr (std::is_same_v<decltype(value), std::string_view>)
            append_json(line, value);
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
