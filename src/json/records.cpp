#include "json/records.h"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "base/text.h"
#include "json/scan.h"

namespace dragoman::json {
namespace {

constexpr int kInnerDepth = 1024;  // text in here was checked before, with the reader's own limit

bool integer(std::string_view token, std::int64_t& value) {
  const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
  return error == std::errc() && end == token.data() + token.size();
}

unsigned hex4(const char* p) {
  unsigned value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    value = value * 16 + unsigned(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return value;
}

// Where canonical text is written to: room for everything is made once per record, so that appending is a copy.
class Out {
 public:
  void begin(std::size_t room) {
    if (buffer_.size() < room) buffer_.resize(std::max(room, buffer_.size() * 2));
    at_ = buffer_.data();
  }
  void put(char c) { *at_++ = c; }
  void put(const void* data, std::size_t size) {
    std::memcpy(at_, data, size);
    at_ += size;
  }
  void put(std::string_view text) { put(text.data(), text.size()); }
  char* at() { return at_; }
  char* limit() { return buffer_.data() + buffer_.size(); }
  void move_to(char* at) { at_ = at; }
  std::string_view text() const { return {buffer_.data(), std::size_t(at_ - buffer_.data())}; }

 private:
  std::string buffer_;
  char* at_ = nullptr;
};

void put_utf8(Out& out, unsigned c) {
  if (c < 0x80) {
    out.put(static_cast<char>(c));
  } else if (c < 0x800) {
    out.put(static_cast<char>(0xc0 | c >> 6));
    out.put(static_cast<char>(0x80 | (c & 0x3f)));
  } else if (c < 0x10000) {
    out.put(static_cast<char>(0xe0 | c >> 12));
    out.put(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    out.put(static_cast<char>(0x80 | (c & 0x3f)));
  } else {
    out.put(static_cast<char>(0xf0 | c >> 18));
    out.put(static_cast<char>(0x80 | (c >> 12 & 0x3f)));
    out.put(static_cast<char>(0x80 | (c >> 6 & 0x3f)));
    out.put(static_cast<char>(0x80 | (c & 0x3f)));
  }
}

// Never longer than the token it is made from: every escape it keeps or makes is the shortest one.
void put_escaped_string(Out& out, std::string_view token) {
  static constexpr char kHex[] = "0123456789abcdef";
  const char* p = token.data();
  const char* const end = token.data() + token.size() - 1;  // the closing quote
  out.put(*p++);
  while (p < end) {
    if (*p != '\\') {
      out.put(*p++);
      continue;
    }
    const char c = p[1];
    if (c == '/') {
      out.put('/');
      p += 2;
      continue;
    }
    if (c != 'u') {
      out.put(p, 2);
      p += 2;
      continue;
    }
    unsigned u = hex4(p + 2);
    p += 6;
    if (u >= 0xd800 && u < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
      const unsigned low = hex4(p + 2);
      if (low >= 0xdc00 && low < 0xe000) {
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
        p += 6;
      }
    }
    const char* const two = u < 0x80 ? std::strchr("\"\"\\\\\bb\ff\nn\rr\tt", int(u)) : nullptr;
    if (u == '"' || u == '\\') {
      out.put('\\');
      out.put(static_cast<char>(u));
    } else if (two && u != 0 && u < 0x20) {
      out.put('\\');
      out.put(two[1]);
    } else if (u < 0x20 || (u >= 0xd800 && u < 0xe000)) {  // a lone surrogate has no UTF-8: it stays an escape
      out.put("\\u", 2);
      for (int shift = 12; shift >= 0; shift -= 4) out.put(kHex[u >> shift & 15]);
    } else {
      put_utf8(out, u);
    }
  }
  out.put('"');
}

void put_string(Out& out, std::string_view token, bool escaped) {
  if (escaped)
    put_escaped_string(out, token);
  else
    out.put(token);
}

void put_value(Out& out, Scanner& scanner);

void put_object(Out& out, Scanner& scanner) {
  struct Member {
    std::string key;
    std::string_view value;
  };
  std::vector<Member> members;
  scanner.expect('{');
  if (!scanner.take('}')) {
    do {
      bool escaped;
      const std::string_view key = scanner.string(escaped);
      scanner.expect(':');
      Out name;
      name.begin(key.size());
      put_string(name, key, escaped);
      members.push_back({std::string(name.text()), scanner.value()});
    } while (scanner.take(','));
    scanner.expect('}');
  }
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) {
    const int order = a.key.compare(b.key);
    return order < 0 || (order == 0 && a.value.data() < b.value.data());
  });
  out.put('{');
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (i) out.put(',');
    out.put(members[i].key);
    out.put(':');
    Scanner inner(members[i].value, kInnerDepth);
    put_value(out, inner);
  }
  out.put('}');
}

void put_value(Out& out, Scanner& scanner) {
  const char c = scanner.peek();
  if (c == '"') {
    bool escaped;
    const auto token = scanner.string(escaped);
    put_string(out, token, escaped);
  } else if (c == '{') {
    put_object(out, scanner);
  } else if (c == '[') {
    scanner.expect('[');
    out.put('[');
    if (!scanner.take(']')) {
      put_value(out, scanner);
      while (scanner.take(',')) {
        out.put(',');
        put_value(out, scanner);
      }
      scanner.expect(']');
    }
    out.put(']');
  } else {
    out.put(scanner.scalar());
  }
}

// The id of `[7,"name"]`, or nullopt if it is anything else.
std::optional<std::string_view> many2one_id(std::string_view value) {
  if (value.empty() || value.front() != '[') return std::nullopt;
  Scanner scanner(value, kInnerDepth);
  scanner.expect('[');
  const char c = scanner.peek();
  if (c < '0' || c > '9') return std::nullopt;
  const auto id = scanner.scalar();
  std::int64_t number;
  if (!integer(id, number) || !scanner.take(',') || scanner.peek() != '"') return std::nullopt;
  scanner.value();
  return scanner.take(']') ? std::optional(id) : std::nullopt;
}

// True if `value` is a list of whole numbers; then `ids` holds them, sorted.
bool id_list(std::string_view value, std::vector<std::int64_t>& ids) {
  ids.clear();
  if (value.empty() || value.front() != '[') return false;
  const char* p = value.data() + 1;
  const char* const end = value.data() + value.size();
  const auto space = [&] {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t')) ++p;
  };
  space();
  if (*p == ']') return true;
  for (;;) {
    std::int64_t id;
    const auto [next, error] = std::from_chars(p, end, id);
    if (error != std::errc()) return false;
    p = next;
    space();
    ids.push_back(id);
    if (*p == ']') break;
    if (*p != ',') return false;
    ++p;
    space();
  }
  if (!std::is_sorted(ids.begin(), ids.end())) std::sort(ids.begin(), ids.end());
  return true;
}

void put_field(Out& out, std::string_view value, bool escaped, FieldKind kind, std::vector<std::int64_t>& ids) {
  const char c = value.front();
  if (c == '"') return put_string(out, value, escaped);
  if (c != '[' && c != '{') return out.put(value);
  if (kind == FieldKind::many2one) {
    if (const auto id = many2one_id(value)) return out.put(*id);
  } else if ((kind == FieldKind::many2many || kind == FieldKind::one2many) && id_list(value, ids)) {
    out.put('[');
    char* at = out.at();
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (i) *at++ = ',';
      at = std::to_chars(at, out.limit(), ids[i]).ptr;
    }
    out.move_to(at);
    return out.put(']');
  }
  Scanner scanner(value, kInnerDepth);
  put_value(out, scanner);
}

// So many bytes the canonical form of `raw` cannot exceed: escapes only get shorter, brackets and commas stay.
std::size_t room_for(std::size_t raw) {
  return raw + 64;
}

enum class Role : std::uint8_t { none, id, write_date, company, active };

struct LayoutField {
  std::string token;  // `"name":` as it stands in the text
  std::string name;
  FieldKind kind;
  Role role;
};

struct Value {
  std::string_view text;
  bool escaped;
};

}  // namespace

class PageReader::Impl {
 public:
  Impl(FieldKinds kinds, PageOptions options) : kinds_(std::move(kinds)), options_(options) {
    DRAGOMAN_ASSERT(sodium_init() >= 0, "libsodium works; it also picks its fastest BLAKE2b here");
  }

  std::span<const Record> parse(std::string_view page) {
    records_.clear();
    if (!valid_utf8(page)) json::fail("json_utf8", "bytes that are no UTF-8 in the page that ends", page.size());
    // One bracket is the array's own.
    Scanner scanner(page, options_.depth_max + 1);
    if (scanner.peek() != '[') scanner.fail("a list of records is expected");
    scanner.expect('[');
    scanner.enter();
    try {
      if (!scanner.take(']')) {
        for (;;) {
          one(scanner);
          if (scanner.take(']')) break;
          scanner.expect(',');
        }
      }
      scanner.finish();
    } catch (...) {
      records_.clear();
      throw;
    }
    return records_;
  }

  Digest digest(std::string_view record) {
    if (!valid_utf8(record)) json::fail("json_utf8", "bytes that are no UTF-8 in the record that ends", record.size());
    records_.clear();
    Scanner scanner(record, options_.depth_max);
    one(scanner);
    scanner.finish();
    const Digest made = options_.digest ? records_.back().digest : hash();
    records_.clear();
    return made;
  }

 private:
  // Records of a page have the same fields in the same order: the names are compared, not read.
  void one(Scanner& scanner) {
    if (scanner.peek() != '{') scanner.fail("a record is expected");
    const char* const start = scanner.at();
    if (!known(scanner)) {
      scanner.move_to(start);
      learn(scanner);
    }
    Record record;
    record.raw = {start, std::size_t(scanner.at() - start)};
    bool has_id = false;
    for (std::size_t i : special_) {
      const std::string_view text = values_[i].text;
      switch (layout_[i].role) {
        case Role::id:
          has_id = integer(text, record.id) && record.id > 0;
          break;
        case Role::write_date:
          if (text.size() > 2 && text.front() == '"') record.write_date = parse_time(text.substr(1, text.size() - 2));
          break;
        case Role::company: {
          std::int64_t id;
          if (integer(many2one_id(text).value_or(text), id)) record.company_id = id;
          break;
        }
        case Role::active:
          if (text == "true") record.active = true;
          if (text == "false") record.active = false;
          break;
        case Role::none:
          break;
      }
    }
    if (!has_id) {
      scanner.move_to(start);
      Error error(Error::Kind::protocol,
                  fmt::format("record {} of the answer has no usable id: it must be a whole number above 0",
                              records_.size() + 1));
      error.code = "record_id";
      throw error;
    }
    if (options_.digest) record.digest = hash();
    records_.push_back(record);
  }

  // Reads a record that has the fields of the one before. False if it has others: then `learn` reads it again.
  bool known(Scanner& scanner) {
    if (layout_.empty()) return false;
    scanner.expect('{');
    scanner.enter();
    for (std::size_t i = 0; i < layout_.size(); ++i) {
      const std::string& token = layout_[i].token;
      scanner.space();
      if (std::size_t(scanner.end() - scanner.at()) < token.size() ||
          std::memcmp(scanner.at(), token.data(), token.size()) != 0) {
        scanner.leave();
        return false;
      }
      scanner.move_to(scanner.at() + token.size());
      scanner.expect(':');
      values_[i].text = scanner.value(values_[i].escaped);
      if (scanner.take(',')) continue;
      if (i + 1 < layout_.size() || !scanner.take('}')) {
        scanner.leave();
        return false;
      }
      scanner.leave();
      return true;
    }
    scanner.leave();
    return false;  // a comma followed the last known field
  }

  void learn(Scanner& scanner) {
    // Whatever goes wrong from here on, no half of a layout may meet the next page.
    special_.clear();
    order_.clear();
    values_.clear();
    layout_.clear();
    std::vector<LayoutField> layout;
    scanner.expect('{');
    scanner.enter();
    if (!scanner.take('}')) {
      do {
        bool escaped;
        const auto token = scanner.string(escaped);
        scanner.expect(':');
        Value value;
        value.text = scanner.value(value.escaped);
        values_.push_back(value);
        std::string name = unquote(token);
        const Role role = name == "id"           ? Role::id
                          : name == "write_date" ? Role::write_date
                          : name == "company_id" ? Role::company
                          : name == "active"     ? Role::active
                                                 : Role::none;
        const FieldKind kind = kinds_.of(name);
        layout.push_back({std::string(token), std::move(name), kind, role});
      } while (scanner.take(','));
      scanner.expect('}');
    }
    scanner.leave();
    std::vector<std::size_t> order;
    order.reserve(layout.size());
    for (std::size_t i = 0; i < layout.size(); ++i) order.push_back(i);
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return layout[a].name < layout[b].name; });
    for (std::size_t i = 1; i < order.size(); ++i)
      if (layout[order[i - 1]].name == layout[order[i]].name) scanner.fail("a record has a field twice, and ends");
    layout_ = std::move(layout);
    order_ = std::move(order);
    for (std::size_t i = 0; i < layout_.size(); ++i)
      if (layout_[i].role != Role::none) special_.push_back(i);
    std::erase_if(order_, [&](std::size_t i) { return layout_[i].kind == FieldKind::ignored; });
    std::string names;
    for (std::size_t i : order_) {
      append_json_string(names, layout_[i].name);
      names += ':';
    }
    crypto_generichash(names_hash_.data(), names_hash_.size(), reinterpret_cast<const unsigned char*>(names.data()),
                       names.size(), nullptr, 0);
  }

  // Over the values of the record read last. The names, half of the bytes, are in by their hash.
  Digest hash() {
    std::size_t room = names_hash_.size();
    for (std::size_t i : order_) room += values_[i].text.size() + 1;
    out_.begin(room_for(room));
    out_.put(names_hash_.data(), names_hash_.size());
    for (std::size_t i : order_) {
      put_field(out_, values_[i].text, values_[i].escaped, layout_[i].kind, ids_);
      out_.put(',');
    }
    Digest digest;
    const auto text = out_.text();
    crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                       nullptr, 0);
    return digest;
  }

  FieldKinds kinds_;
  PageOptions options_;
  std::vector<Record> records_;
  std::vector<LayoutField> layout_;   // in the order of the text
  std::vector<Value> values_;         // of the current record, parallel to layout_
  std::vector<std::size_t> order_;    // indices by name, ignored ones left out
  std::vector<std::size_t> special_;  // indices of the fields that Record shows
  Digest names_hash_{};
  Out out_;
  std::vector<std::int64_t> ids_;
};

PageReader::PageReader(FieldKinds kinds, PageOptions options)
    : impl_(std::make_unique<Impl>(std::move(kinds), options)) {}
PageReader::~PageReader() = default;
PageReader::PageReader(PageReader&&) noexcept = default;
PageReader& PageReader::operator=(PageReader&&) noexcept = default;

std::span<const Record> PageReader::parse(std::string_view page) {
  return impl_->parse(page);
}

Digest PageReader::digest(std::string_view record) {
  return impl_->digest(record);
}

namespace {

struct Member {
  std::string name;
  std::string_view raw;
  std::string canonical;
};

std::vector<Member> members_of(std::string_view record, const FieldKinds& kinds) {
  std::vector<Member> members;
  check(record);
  Scanner scanner(record);
  Out out;
  std::vector<std::int64_t> ids;
  scanner.expect('{');
  if (!scanner.take('}')) {
    do {
      bool escaped;
      std::string name = unquote(scanner.string(escaped));
      scanner.expect(':');
      const auto value = scanner.value(escaped);
      const FieldKind kind = kinds.of(name);
      if (kind == FieldKind::ignored) continue;
      out.begin(room_for(value.size()));
      put_field(out, value, escaped, kind, ids);
      members.push_back({std::move(name), value, std::string(out.text())});
    } while (scanner.take(','));
    scanner.expect('}');
  }
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.name < b.name; });
  return members;
}

}  // namespace

std::string canonical(std::string_view record, const FieldKinds& kinds) {
  std::string text = "{";
  for (const Member& member : members_of(record, kinds)) {
    if (text.size() > 1) text += ',';
    append_json_string(text, member.name);
    text += ':';
    text += member.canonical;
  }
  return text + "}";
}

std::optional<std::string_view> field(std::string_view object, std::string_view name) {
  Scanner scanner(object);
  scanner.expect('{');
  if (scanner.take('}')) return std::nullopt;
  do {
    bool escaped;
    const auto token = scanner.string(escaped);
    scanner.expect(':');
    const auto value = scanner.value();
    if (escaped ? unquote(token) == name : token.substr(1, token.size() - 2) == name) return value;
  } while (scanner.take(','));
  scanner.expect('}');
  return std::nullopt;
}

std::vector<FieldChange> diff(std::string_view before, std::string_view after, const FieldKinds& kinds) {
  std::vector<FieldChange> changes;
  const auto old_members = members_of(before, kinds), new_members = members_of(after, kinds);
  auto a = old_members.begin(), b = new_members.begin();
  while (a != old_members.end() || b != new_members.end()) {
    if (b == new_members.end() || (a != old_members.end() && a->name < b->name)) {
      changes.push_back({a->name, std::string(a->raw), std::nullopt});
      ++a;
    } else if (a == old_members.end() || b->name < a->name) {
      changes.push_back({b->name, std::nullopt, std::string(b->raw)});
      ++b;
    } else {
      if (a->canonical != b->canonical) changes.push_back({a->name, std::string(a->raw), std::string(b->raw)});
      ++a;
      ++b;
    }
  }
  return changes;
}

FieldKinds FieldKinds::from_fields_get(std::string_view json) {
  FieldKinds kinds;
  check(json);
  Scanner scanner(json);
  if (scanner.peek() != '{') scanner.fail("an object of fields is expected");
  scanner.expect('{');
  if (scanner.take('}')) return kinds;
  do {
    bool escaped;
    const auto name = scanner.string(escaped);
    scanner.expect(':');
    if (scanner.peek() != '{') scanner.fail("the attributes of a field are expected");
    const auto type = field(scanner.value(), "type");
    if (!type) scanner.fail("a field without its type ends");
    const FieldKind kind = *type == "\"many2one\""    ? FieldKind::many2one
                           : *type == "\"many2many\"" ? FieldKind::many2many
                           : *type == "\"one2many\""  ? FieldKind::one2many
                                                      : FieldKind::plain;
    if (kind != FieldKind::plain) kinds.set(unquote(name), kind);
  } while (scanner.take(','));
  scanner.expect('}');
  return kinds;
}

}  // namespace dragoman::json
