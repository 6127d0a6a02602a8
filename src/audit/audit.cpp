#include "audit/audit.h"

#include <fmt/format.h>
#include <sodium.h>

#include <array>
#include <iterator>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace dragoman::audit {
namespace {

using store::Bytes;
using store::Param;
using store::Row;
using store::Session;

const std::string kNoHash(64, '0');

constexpr std::string_view kColumns =
    "SELECT number, at_us, actor, action, subject, why, outcome, state_before, state_after, hash FROM audit";

std::string hex(std::string_view bytes) {
  std::string out(bytes.size() * 2 + 1, '\0');
  sodium_bin2hex(out.data(), out.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  out.pop_back();
  return out;
}

// What the store takes as text; an entry must not fail because a remote's message holds odd bytes.
void make_storable(std::string& text) {
  if (text.find('\0') == std::string::npos && is_utf8(text)) return;
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t length = 1;
    while (length <= 4 && i + length <= text.size() && !is_utf8(std::string_view(text).substr(i, length))) ++length;
    if (length > 4 || i + length > text.size() || text[i] == '\0') {
      out += "\xef\xbf\xbd";
      ++i;
    } else {
      out.append(text, i, length);
      i += length;
    }
  }
  text = std::move(out);
}

void add_part(std::string& out, std::string_view part) {
  out += std::to_string(part.size());
  out += ':';
  out += part;
  out += ',';
}

// Raw bytes of the hash; `scratch` saves an allocation per entry.
std::array<unsigned char, crypto_hash_sha256_BYTES> digest(const Entry& entry, std::int64_t number, std::string_view at,
                                                           std::string_view previous, std::string& scratch) {
  scratch.clear();
  add_part(scratch, previous);
  add_part(scratch, std::to_string(number));
  add_part(scratch, at);
  for (const std::string* part :
       {&entry.actor, &entry.action, &entry.subject, &entry.why, &entry.outcome, &entry.before, &entry.after})
    add_part(scratch, *part);
  std::array<unsigned char, crypto_hash_sha256_BYTES> hash{};
  crypto_hash_sha256(hash.data(), reinterpret_cast<const unsigned char*>(scratch.data()), scratch.size());
  return hash;
}

std::string_view view_of(const std::array<unsigned char, crypto_hash_sha256_BYTES>& hash) {
  return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

// Without `previous`, which is in the row before.
Link link_of(const Row& row) {
  Link link;
  link.number = row.int64(0);
  link.at = row.time(1);
  link.actor = row.text(2);
  link.action = row.text(3);
  link.subject = row.text(4);
  link.why = row.text(5);
  link.outcome = row.text(6);
  link.before = row.text(7);
  link.after = row.text(8);
  link.hash = hex(row.bytes(9));
  return link;
}

std::int64_t characters(std::string_view text) {
  std::int64_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

// The conditions of a filter as SQL, and their values. The texts that parameters borrow live in it.
class Conditions {
 public:
  explicit Conditions(const Filter& filter) {
    texts_.reserve(3);  // their addresses must hold
    text("actor", filter.actor);
    text("action", filter.action);
    text("subject", filter.subject);
    if (filter.since) number("at_us >= ", to_us(*filter.since));
    if (filter.until) number("at_us < ", to_us(*filter.until));
  }
  void number(std::string_view comparison, std::int64_t value) {
    params_.emplace_back(value);
    add(fmt::format("{}${}", comparison, params_.size()));
  }
  std::string sql() const { return sql_; }
  std::span<const Param> params() const { return params_; }

 private:
  void text(std::string_view column, std::string value) {
    if (value.empty() || value == "*") return;
    const bool beginning = value.back() == '*';
    if (beginning) value.pop_back();
    texts_.push_back(std::move(value));
    params_.emplace_back(std::string_view(texts_.back()));
    const auto at = params_.size();
    if (!beginning) return add(fmt::format("{} = ${}", column, at));
    params_.emplace_back(characters(texts_.back()));
    add(fmt::format("substr({}, 1, CAST(${} AS INTEGER)) = ${}", column, at + 1, at));
  }
  void add(const std::string& condition) { sql_ += (sql_.empty() ? " WHERE " : " AND ") + condition; }

  std::vector<std::string> texts_;
  std::vector<Param> params_;
  std::string sql_;
};

Error no_head() {
  Error error(
      Error::Kind::invalid,
      "The end of the audit chain is not in the database any more: somebody changed its tables by hand. Restore "
      "a backup.");
  error.code = "audit_head";
  return error;
}

struct Head {
  std::int64_t entries = 0;
  std::string hash = kNoHash;
  std::string raw;  // empty: there is none
};

std::optional<Head> read_head(Session& session, std::string_view sql) {
  std::optional<Head> head;
  session.first(sql, {}, [&](const Row& row) {
    head.emplace();
    head->entries = row.int64(0);
    if (row.is_null(1)) return;
    head->raw = row.bytes(1);
    head->hash = hex(head->raw);
  });
  return head;
}

// Looks through a chain entry by entry. Once one does not fit, the rest is searched for what belongs there: an entry
// that was moved says more than one that was changed.
class Checker {
 public:
  explicit Checker(const std::optional<Anchor>& anchor) : anchor_(anchor) {}

  // The entries in their order; false when nothing more need be seen.
  bool take(Link link) {
    if (bad_) return look_for_the_right_one(std::move(link));
    if (link.number != seen_ + 1) {
      if (link.number <= seen_) {  // only below 1: numbers are unique and sorted
        settle(link.number, "inserted", fmt::format("Entry {} stands before the first one.", link.number));
      } else {
        settle(seen_ + 1, "removed",
               link.number == seen_ + 2
                   ? fmt::format("Entry {} is not there any more.", seen_ + 1)
                   : fmt::format("Entries {} to {} are not there any more.", seen_ + 1, link.number - 1));
      }
      return false;
    }
    link.previous = previous_;
    if (hash_of(link) != link.hash) {
      bad_ = std::move(link);
      return true;
    }
    previous_ = link.hash;
    seen_ = link.number;
    if (anchor_ && anchor_->number == seen_ && anchor_->hash != previous_) {
      settle(seen_, "anchor",
             fmt::format("Entry {} is not the one whose hash was noted: the chain was made anew, up to there or "
                         "before.",
                         seen_));
      return false;
    }
    return true;
  }

  // `counted`: how many entries were ever appended; nullopt: that is not there any more.
  std::optional<Verdict::Break> end(const Head& head, std::optional<std::int64_t> counted) {
    if (bad_) settle_bad();
    if (broken_) return broken_;
    if (seen_ < head.entries)
      settle(seen_ + 1, "removed",
             fmt::format("The newest entries, {} to {}, are not there any more.", seen_ + 1, head.entries));
    else if (seen_ > head.entries)
      settle(head.entries + 1, "inserted",
             fmt::format("Entry {} was appended past the chain's end.", head.entries + 1));
    else if (previous_ != head.hash)
      settle(seen_, "changed",
             fmt::format("Entry {} is the last one, and not what the chain's end says was written there.", seen_));
    else if (!counted)
      settle(seen_ + 1, "removed",
             "The count of all entries is not in the database any more: somebody changed its tables by hand, and "
             "whether entries are missing can't be told without it. Restore a backup.");
    else if (seen_ < *counted)
      settle(seen_ + 1, "removed",
             fmt::format("{} entries were written, and the log has {}: it was {}, its end with it.", *counted, seen_,
                         seen_ == 0 ? "emptied" : "cut, or emptied and begun anew"));
    else if (seen_ > *counted)
      settle(*counted + 1, "inserted",
             fmt::format("{} entries were written, and the log has {}: somebody added to it, and to its end.", *counted,
                         seen_));
    return broken_;
  }

 private:
  bool fits(Link link, std::int64_t number, const std::string& previous) const {
    link.number = number;
    link.previous = previous;
    return hash_of(link) == link.hash;
  }
  bool look_for_the_right_one(Link link) {
    if (!fits(link, bad_->number, previous_)) return true;
    const auto n = bad_->number, r = link.number;
    // Neighbours that changed places, or one too many before it?
    if (r == n + 1 && !fits(*bad_, r, link.hash))
      settle(n, "inserted", fmt::format("Entry {} does not belong there: what does stands behind it now.", n));
    else
      settle(n, "swapped", fmt::format("Entry {} does not belong there: what does stands at {} now.", n, r));
    return false;
  }
  void settle_bad() {
    if (!broken_)
      settle(
          bad_->number, "changed",
          fmt::format("Entry {} is not what was written there: one of its fields, its hash or its place was changed.",
                      bad_->number));
  }
  void settle(std::int64_t number, std::string what, std::string message) {
    broken_ = Verdict::Break{number, std::move(what), std::move(message)};
  }

  const std::optional<Anchor>& anchor_;
  std::int64_t seen_ = 0;
  std::string previous_ = kNoHash;
  std::optional<Link> bad_;
  std::optional<Verdict::Break> broken_;
};

struct Enough {};  // ends a query early

}  // namespace

std::string hash_of(const Link& link) {
  std::string scratch;
  return hex(view_of(digest(link, link.number, format_iso(link.at), link.previous, scratch)));
}

std::string to_json(const Link& link) {
  std::string out = fmt::format(R"({{"number":{},"at":"{}")", link.number, format_iso(link.at));
  const auto add = [&](std::string_view name, std::string_view value) {
    out += ",\"";
    out += name;
    out += "\":";
    append_json_string(out, value);
  };
  add("actor", link.actor);
  add("action", link.action);
  add("subject", link.subject);
  add("why", link.why);
  add("outcome", link.outcome);
  add("before", link.before);
  add("after", link.after);
  add("previous", link.previous);
  add("hash", link.hash);
  return out + "}";
}

void append(Session& session, const Entry& entry) {
  append(session, std::span(&entry, 1));
}

void append(Session& session, std::span<const Entry> entries) {
  if (entries.empty()) return;
  auto head = read_head(session, session.engine() == store::Engine::postgres
                                     ? "SELECT entries, hash FROM audit_head WHERE id = 1 FOR UPDATE"
                                     : "SELECT entries, hash FROM audit_head WHERE id = 1");
  if (!head) throw no_head();
  const Time at = session.now();
  const std::string at_text = format_iso(at);

  // Kept until the rows are written, for parameters borrow; the vectors never grow.
  std::vector<std::array<unsigned char, crypto_hash_sha256_BYTES>> hashes;
  hashes.reserve(entries.size());
  std::vector<Entry> mended;
  mended.reserve(entries.size());
  std::vector<Param> values;
  values.reserve(entries.size() * 10);
  std::string scratch;
  for (const Entry& given : entries) {
    const Entry* entry = &given;
    for (const std::string* part :
         {&given.actor, &given.action, &given.subject, &given.why, &given.outcome, &given.before, &given.after}) {
      if (is_utf8(*part) && part->find('\0') == std::string::npos) continue;
      Entry& copy = mended.emplace_back(given);
      for (std::string* text :
           {&copy.actor, &copy.action, &copy.subject, &copy.why, &copy.outcome, &copy.before, &copy.after})
        make_storable(*text);
      entry = &copy;
      break;
    }
    ++head->entries;
    const auto& hash = hashes.emplace_back(digest(*entry, head->entries, at_text, head->hash, scratch));
    head->hash = hex(view_of(hash));
    values.insert(values.end(),
                  {head->entries, to_us(at), std::string_view(entry->actor), std::string_view(entry->action),
                   std::string_view(entry->subject), std::string_view(entry->why), std::string_view(entry->outcome),
                   std::string_view(entry->before), std::string_view(entry->after), Bytes(view_of(hash))});
  }
  if (entries.size() == 1) {
    session.execute(
        "INSERT INTO audit (number, at_us, actor, action, subject, why, outcome, state_before, state_after, hash) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        std::span<const Param>(values));
  } else {
    static constexpr std::array<std::string_view, 10> kNames{
        "number", "at_us", "actor", "action", "subject", "why", "outcome", "state_before", "state_after", "hash"};
    session.insert_many("audit", kNames, values);
  }
  // Added to and never set: what was written once stays counted, whatever becomes of the head.
  const auto count = static_cast<std::int64_t>(entries.size());
  if (session.engine() == store::Engine::postgres) {  // in one, for the way there is what it costs
    session.execute(
        "WITH counted AS (UPDATE last_number SET last = last + $3 WHERE name = 'audit') "
        "UPDATE audit_head SET entries = $1, hash = $2 WHERE id = 1",
        {head->entries, Bytes(view_of(hashes.back())), count});
  } else {
    session.execute("UPDATE last_number SET last = last + $1 WHERE name = 'audit'", {count});
    session.execute("UPDATE audit_head SET entries = $1, hash = $2 WHERE id = 1",
                    {head->entries, Bytes(view_of(hashes.back()))});
  }
}

std::vector<Link> newest(Session& session, const Filter& filter, std::int64_t before, std::int64_t limit) {
  Conditions conditions(filter);
  if (before > 0) conditions.number("number < ", before);
  std::vector<Link> links;
  session.query(fmt::format("{}{} ORDER BY number DESC LIMIT {}", kColumns, conditions.sql(), limit),
                conditions.params(), [&](const Row& row) { links.push_back(link_of(row)); });
  return links;
}

void stream(Session& session, const Filter& filter, std::int64_t after, const std::function<bool(const Link&)>& each) {
  Conditions conditions(filter);
  if (after > 0) conditions.number("number > ", after);
  const auto hash_before = [&](std::int64_t number) {
    std::string hash = kNoHash;
    session.first("SELECT hash FROM audit WHERE number = $1", {number - 1},
                  [&](const Row& row) { hash = hex(row.bytes(0)); });
    return hash;
  };
  std::int64_t last = 0;
  std::string last_hash;
  // A page at a time: on PostgreSQL one session answers one query at a time, and rows ask for the hash before them.
  constexpr std::int64_t kPage = 500;
  while (true) {
    auto page_conditions = conditions;
    std::vector<Link> page;
    if (last > 0) page_conditions.number("number > ", last);
    session.query(fmt::format("{}{} ORDER BY number LIMIT {}", kColumns, page_conditions.sql(), kPage),
                  page_conditions.params(), [&](const Row& row) { page.push_back(link_of(row)); });
    for (Link& link : page) {
      link.previous = last > 0 && link.number == last + 1 ? last_hash : hash_before(link.number);
      last = link.number;
      last_hash = link.hash;
      if (!each(link)) return;
    }
    if (static_cast<std::int64_t>(page.size()) < kPage) return;
  }
}

namespace {

// The first of the log's tables that is not there; empty: they are.
std::string missing_table(Session& session) {
  for (const std::string_view table : {std::string_view("audit"), std::string_view("audit_head")}) {
    bool there = false;
    session.first(session.engine() == store::Engine::sqlite
                      ? "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1"
                      : "SELECT CASE WHEN to_regclass($1) IS NULL THEN 0 ELSE 1 END",
                  {table}, [&](const Row& row) { there = row.int64(0) > 0; });
    if (!there) return std::string(table);
  }
  return {};
}

}  // namespace

Verdict verify(store::Store& store, const std::optional<Anchor>& anchor, std::stop_token stop) {
  Verdict verdict;
  store.read([&](Session& session) {
    verdict = {};
    Checker checker(anchor);
    if (const std::string table = missing_table(session); !table.empty()) {
      verdict.broken = Verdict::Break{
          0, "removed",
          fmt::format("The table `{}` of the audit log is not in the database any more: all entries are gone. Restore "
                      "the database from a backup.",
                      table)};
      return;
    }
    const auto head = read_head(session, "SELECT entries, hash FROM audit_head WHERE id = 1");
    if (!head) {
      verdict.broken = Verdict::Break{0, "removed", no_head().message};
      return;
    }
    verdict.end = {head->entries, head->hash};
    try {
      session.query(fmt::format("{} ORDER BY number", kColumns), {}, [&](const Row& row) {
        if (stop.stop_requested()) throw Error(Error::Kind::cancelled, "The check of the audit chain was stopped.");
        if (!checker.take(link_of(row))) throw Enough();
      });
    } catch (const Enough&) {
    }
    std::optional<std::int64_t> counted;
    session.first("SELECT last FROM last_number WHERE name = 'audit'", {},
                  [&](const Row& row) { counted = row.int64(0); });
    verdict.broken = checker.end(*head, counted);
    if (!verdict.broken && anchor && anchor->number > head->entries) {
      // A slip of the pen far more often than a log that was cut: no reason to alarm anybody by itself.
      Error error(Error::Kind::not_found,
                  fmt::format("There is no entry {}: the audit log has {}. Check the number that was noted. If it is "
                              "right, the newest entries were removed: the database was restored from a backup, or "
                              "somebody tampered with it.",
                              anchor->number, head->entries));
      error.code = "no_entry";
      throw error;
    }
  });
  return verdict;
}

Pending::Pending(store::Store& store, Entry entry) : store_(store), entry_(std::move(entry)) {
  for (std::string* text : {&entry_.actor, &entry_.action, &entry_.subject, &entry_.why, &entry_.after})
    make_storable(*text);
  store_.write([&](Session& session) {
    session.query(
        "INSERT INTO audit_pending (at_us, actor, action, subject, why, state_after) VALUES ($1, $2, $3, $4, $5, $6) "
        "RETURNING id",
        {to_us(session.now()), entry_.actor, entry_.action, entry_.subject, entry_.why, entry_.after},
        [&](const Row& row) { id_ = row.int64(0); });
  });
}

void Pending::finish() {
  try {
    store_.write([&](Session& session) {
      session.execute("DELETE FROM audit_pending WHERE id = $1", {id_});
      append(session, entry_);
    });
  } catch (const Error& error) {
    log::error("an operation's audit entry has to wait", {{"action", entry_.action},
                                                          {"subject", entry_.subject},
                                                          {"outcome", entry_.outcome},
                                                          {"error", error.message},
                                                          {"detail", error.detail}});
  }
}

std::int64_t settle(store::Store& store, Micros age) {
  std::int64_t count = 0;
  store.write([&](Session& session) {
    std::vector<Entry> entries;
    session.query(
        "DELETE FROM audit_pending WHERE at_us <= $1 RETURNING at_us, actor, action, subject, why, state_after",
        {to_us(session.now() - age)}, [&](const Row& row) {
          Entry entry;
          entry.actor = row.text(1);
          entry.action = row.text(2);
          entry.subject = row.text(3);
          entry.why = row.text(4);
          entry.outcome = fmt::format("not known: begun {}, and the hub ended or lost its database before it was over",
                                      format_iso(row.time(0)));
          entry.after = row.text(5);
          entries.push_back(std::move(entry));
        });
    append(session, entries);
    count = static_cast<std::int64_t>(entries.size());
  });
  return count;
}

}  // namespace dragoman::audit
