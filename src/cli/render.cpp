#include "cli/render.h"

#include <algorithm>
#include <vector>

#include "base/text.h"
#include "json/scan.h"

namespace dragoman::cli {
namespace {

struct Member {
  std::string name;
  std::string_view value;  ///< JSON text
};

std::vector<Member> members(std::string_view object) {
  std::vector<Member> out;
  json::Scanner scanner(object);
  if (!scanner.take('{') || scanner.take('}')) return out;
  do {
    bool escaped = false;
    std::string name = json::unquote(scanner.string(escaped));
    scanner.expect(':');
    scanner.space();
    out.push_back({std::move(name), scanner.value()});
  } while (scanner.take(','));
  return out;
}

std::vector<std::string_view> items(std::string_view array) {
  std::vector<std::string_view> out;
  json::Scanner scanner(array);
  if (!scanner.take('[') || scanner.take(']')) return out;
  do {
    scanner.space();
    out.push_back(scanner.value());
  } while (scanner.take(','));
  return out;
}

std::string_view find(const std::vector<Member>& object, std::string_view name) {
  for (const auto& member : object)
    if (member.name == name) return member.value;
  return {};
}

std::string harmless(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

// As the API writes every moment: a list doesn't say of what it is.
bool is_moment(std::string_view text) {
  constexpr std::string_view kShape = "0000-00-00T00:00:00.000000Z";
  return text.size() == kShape.size() && std::equal(text.begin(), text.end(), kShape.begin(), [](char c, char shape) {
           return shape == '0' ? c >= '0' && c <= '9' : c == shape;
         });
}

// A value in the way a person reads it.
std::string cell(std::string_view value, ops::Type type) {
  if (value.empty() || value == "null") return {};
  if (value.front() == '"') {
    std::string text = harmless(json::unquote(value));
    // `2026-11-20T10:05:48.113847Z` → `2026-11-20 10:05:48`
    if ((type == ops::Type::time && text.size() >= 19) || (type == ops::Type::list && is_moment(text))) {
      text.resize(19);
      text[10] = ' ';
    }
    return text;
  }
  if (value.front() == '[') return std::to_string(items(value).size());
  return harmless(std::string(value));
}

// What is nested in a value can be very long, such as the choices of a field.
std::string cut(std::string text) {
  constexpr std::size_t kBytesMax = 300;
  if (text.size() <= kBytesMax) return text;
  std::size_t end = kBytesMax;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "… (whole with --json)";
}

std::size_t width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

std::string padded(const std::string& text, std::size_t to, bool right) {
  const std::string space(to > width(text) ? to - width(text) : 0, ' ');
  return right ? space + text : text + space;
}

void append_table(std::string& out, const std::vector<ops::Field>& fields, std::string_view rows) {
  struct Column {
    std::string heading;
    bool right = false;
    std::vector<std::string> cells;
  };
  std::vector<Column> columns;
  const auto objects = items(rows);
  for (const auto& field : fields) {
    if (field.hidden) continue;
    Column column{field.name, field.type == ops::Type::integer || field.type == ops::Type::list, {}};
    std::replace(column.heading.begin(), column.heading.end(), '_', ' ');
    for (const auto& object : objects) column.cells.push_back(cell(find(members(object), field.name), field.type));
    const bool empty =
        std::all_of(column.cells.begin(), column.cells.end(), [](const auto& text) { return text.empty(); });
    if (!empty) columns.push_back(std::move(column));
  }
  if (objects.empty()) {
    out += "(none)\n";
    return;
  }
  std::vector<std::size_t> widths;
  for (const auto& column : columns) {
    std::size_t wide = width(column.heading);
    for (const auto& text : column.cells) wide = std::max(wide, width(text));
    widths.push_back(wide);
  }
  const auto line = [&](auto text_of) {
    std::string one;
    for (std::size_t c = 0; c < columns.size(); ++c)
      one += (c ? "  " : "") + padded(text_of(columns[c]), widths[c], columns[c].right);
    one.erase(one.find_last_not_of(' ') + 1);
    out += one + "\n";
  };
  line([](const Column& column) { return column.heading; });
  for (std::size_t r = 0; r < objects.size(); ++r) line([&](const Column& column) { return column.cells[r]; });
}

void append_details(std::string& out, const ops::Output& output, std::string_view rows) {
  for (const auto& row : items(rows)) {
    const auto object = members(row);
    for (const auto& detail : items(find(object, output.details))) {
      std::string line = cell(find(object, output.columns.front().name), ops::Type::text) + ":";
      for (const auto& [name, value] : members(detail)) {
        const std::string text = cell(value, ops::Type::text);
        if (value == "false" || text.empty()) continue;
        line += " " + (value == "true"                      ? "(" + name + ")"
                       : name == "what" || name == "reason" ? text
                                                            : name + " " + text);
      }
      out += line + "\n";
    }
  }
}

}  // namespace

std::string render(const ops::Operation& operation, std::string_view answer) {
  std::string out;
  const auto object = members(answer);
  std::size_t wide = 0;
  for (const auto& field : operation.output.fields) wide = std::max(wide, width(field.name));
  for (const auto& field : operation.output.fields) {
    const auto value = find(object, field.name);
    if (value.empty() || value == "null" || value == "{}" || value == "\"\"") continue;
    if (value.front() == '[') {
      // Lists of texts are messages; what else is in lists is for programs.
      for (const auto& item : items(value))
        if (item.front() == '"') out += padded(field.name, wide, false) + "  " + cell(item, field.type) + "\n";
    } else if (value.front() == '{') {
      out += field.name + ":\n";
      for (const auto& [name, inner] : members(value))
        out += "  " + harmless(name) + ": " +
               (inner.front() == '"' ? cell(inner, ops::Type::text) : cut(harmless(std::string(inner)))) + "\n";
    } else {
      out += padded(field.name, wide, false) + "  " + cell(value, field.type) + "\n";
    }
  }
  if (!operation.output.rows.empty()) {
    if (!out.empty()) out += "\n";
    const auto rows = find(object, operation.output.rows);
    append_table(out, operation.output.columns, rows);
    if (!operation.output.details.empty()) append_details(out, operation.output, rows);
  }
  return out;
}

std::vector<std::string_view> rows_of(const ops::Operation& operation, std::string_view answer) {
  return items(find(members(answer), operation.output.rows));
}

std::string_view value_of(std::string_view answer, std::string_view name) {
  return find(members(answer), name);
}

std::string render_row(const ops::Operation& operation, std::string_view row) {
  std::string out;
  const auto object = members(row);
  for (const auto& field : operation.output.columns) {
    if (field.hidden) continue;
    const std::string text = cell(find(object, field.name), field.type);
    if (!text.empty()) out += (out.empty() ? "" : "  ") + text;
  }
  return out;
}

bool is_well(const ops::Operation& operation, std::string_view answer) {
  if (operation.output.verdict.empty()) return true;
  const auto value = value_of(answer, operation.output.verdict);
  return value == "true" || value == "0" || value == "[]";
}

}  // namespace dragoman::cli
