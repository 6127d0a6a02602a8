#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace sandbox::odoo {

/// Where an answer is written, value by value, without a tree in between: a page of a thousand
/// records costs one pass over the columns. One implementation per wire format.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual void null() = 0;
  virtual void boolean(bool value) = 0;
  virtual void integer(std::int64_t value) = 0;
  virtual void floating(double value) = 0;
  virtual void string(std::string_view value) = 0;
  virtual void begin_array() = 0;
  virtual void end_array() = 0;
  virtual void begin_object() = 0;
  virtual void key(std::string_view name) = 0;
  virtual void end_object() = 0;
};

/// How text is spelled: 14 escapes everything above ASCII as \uXXXX, later series send UTF-8.
enum class Spelling { ascii, utf8 };

/// Writes what Python's json.dumps writes: ", " and ": " between parts, floats as repr() (10.0, 1e-05).
/// A hub that keeps bytes must meet the same bytes here.
class PythonJsonSink final : public Sink {
 public:
  PythonJsonSink(std::string& out, Spelling spelling) : out_(out), spelling_(spelling) {}
  void null() override;
  void boolean(bool value) override;
  void integer(std::int64_t value) override;
  void floating(double value) override;
  void string(std::string_view value) override;
  void begin_array() override;
  void end_array() override;
  void begin_object() override;
  void key(std::string_view name) override;
  void end_object() override;

 private:
  void separate();

  std::string& out_;
  Spelling spelling_;
  bool comma_ = false;
};

/// Writes what Python's xmlrpc.client marshals. None is refused with an Error named TypeError,
/// as the real server does ("cannot marshal None unless allow_none is enabled").
class XmlRpcSink final : public Sink {
 public:
  explicit XmlRpcSink(std::string& out) : out_(out) {}
  void null() override;
  void boolean(bool value) override;
  void integer(std::int64_t value) override;
  void floating(double value) override;
  void string(std::string_view value) override;
  void begin_array() override;
  void end_array() override;
  void begin_object() override;
  void key(std::string_view name) override;
  void end_object() override;

 private:
  void close_member();

  std::string& out_;
  std::string stack_;  // 'o' inside an object, 'a' inside an array, 'm' a member awaits its value
};

/// The text of Python's repr(float).
std::string python_float(double value);

/// Writes a parsed JSON value to a sink, keeping the order of keys.
void write_json(Sink& sink, const nlohmann::ordered_json& value);

/// `value` as Python's json.dumps would print it.
std::string python_json(const nlohmann::ordered_json& value, Spelling spelling);

}  // namespace sandbox::odoo
