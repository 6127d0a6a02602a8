#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace dragoman::log {

enum class Level { debug, info, warning, error };

/// Text, whole number, fraction or truth; there is no conversion from Secret.
using Value = std::variant<std::string_view, std::int64_t, double, bool>;

struct Field {
  Field(std::string_view field_name, std::string_view text) : name(field_name), value(text) {}
  Field(std::string_view field_name, const std::string& text) : name(field_name), value(std::string_view(text)) {}
  Field(std::string_view field_name, const char* text) : name(field_name), value(std::string_view(text)) {}
  Field(std::string_view field_name, bool truth) : name(field_name), value(truth) {}
  Field(std::string_view field_name, double number) : name(field_name), value(number) {}
  template <typename Integer>
  requires std::is_integral_v<Integer> Field(std::string_view field_name, Integer number)
      : name(field_name), value(static_cast<std::int64_t>(number)) {}

  std::string_view name;
  Value value;
};
using Fields = std::initializer_list<Field>;

/// One JSON object per line: `time`, `level`, `message`, then the fields in order. Use the same names for
/// the same things everywhere: `connection`, `model`, `run`, `job`, `kind`, `error`.
///
/// Threads: safe from any thread. A line is whole or not there.
void write(Level level, std::string_view message, Fields fields = {});

inline void debug(std::string_view message, Fields fields = {}) {
  write(Level::debug, message, fields);
}
inline void info(std::string_view message, Fields fields = {}) {
  write(Level::info, message, fields);
}
inline void warning(std::string_view message, Fields fields = {}) {
  write(Level::warning, message, fields);
}
inline void error(std::string_view message, Fields fields = {}) {
  write(Level::error, message, fields);
}

/// Where lines go and from which level on. Call once, before other threads. Standard error and info until then.
/// `path` empty: standard error; else a file that is rotated at 50 MB, 5 kept.
void configure(Level level, const std::string& path);

}  // namespace dragoman::log
