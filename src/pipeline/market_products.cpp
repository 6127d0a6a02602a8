#include "pipeline/market_products.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>

#include "base/csv.h"
#include "base/error.h"
#include "pipeline/market_content.h"
#include "pipeline/market_factor.h"
#include "pipeline/market_orders.h"
#include "pipeline/market_stock.h"

namespace dragoman::pipeline {
namespace {

using nlohmann::json;
using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kColumns =
    "SELECT p.id, p.connection_id, COALESCE(c.name, ''), p.external_id, p.internal_code, p.base_id, p.name, p.unit, "
    "p.unit_count, p.factor, p.odoo_product_id, p.how, p.state, p.changed_us, p.odoo_name, p.price_now, p.stock_now, "
    "p.published, p.read_us, p.price_sent, p.stock_sent, p.flags, p.flags_sent, p.proposals, p.sent_us, "
    "p.dirty_since_us, p.price_noticed_us, p.price_accepted_us, p.stock_noticed_us, p.stock_accepted_us, "
    "p.send_error_code, p.send_error, p.send_note, p.send_error_us, p.factors FROM market_product p LEFT JOIN "
    "connection c ON "
    "c.id "
    "= p.connection_id ";

json parsed(std::string_view text, json fallback) {
  json out = json::parse(text, nullptr, false);
  return out.type() == fallback.type() ? out : fallback;
}

MarketProductRow row_of(const Row& row) {
  MarketProductRow out;
  out.id = row.int64(0);
  out.connection_id = row.int64(1);
  out.connection = row.text(2);
  out.external_id = row.text(3);
  out.internal_code = row.text(4);
  out.base_id = row.text(5);
  out.name = row.text(6);
  out.unit = row.text(7);
  out.unit_count = row.text(8);
  out.factor = row.text(9);
  out.odoo_product_id = row.int64(10);
  out.how = row.text(11);
  out.state = row.text(12);
  out.changed = row.time(13);
  out.odoo_name = row.text(14);
  out.price_now = row.text(15);
  out.stock_now = row.text(16);
  out.published = row.text(17);
  out.read = row.maybe_time(18);
  out.price_sent = row.text(19);
  out.stock_sent = row.text(20);
  out.flags = parsed(row.text(21), json::object());
  out.flags_sent = parsed(row.text(22), json::object());
  out.proposals = parsed(row.text(23), json::array());
  out.sent = row.maybe_time(24);
  out.waits_since = row.maybe_time(25);
  out.price_noticed = row.maybe_time(26);
  out.price_accepted = row.maybe_time(27);
  out.stock_noticed = row.maybe_time(28);
  out.stock_accepted = row.maybe_time(29);
  out.error_code = row.text(30);
  out.error = row.text(31);
  out.note = row.text(32);
  out.error_since = row.maybe_time(33);
  out.factors = row.text(34);
  return out;
}

// In the caller's transaction, checked.
void link_row(Session& session, std::int64_t connection_id, const MarketProducts::Link& link, const std::string& who) {
  const std::string how = std::string(kLinkedBy) + who;
  std::string factors, listed, factor = link.factor.str();
  session.first(
      "SELECT unit_count, CASE WHEN state = 'linked' AND odoo_product_id = $3 THEN factors ELSE '' END, factor FROM "
      "market_product WHERE connection_id = $1 AND external_id = $2",
      {connection_id, std::string_view(link.product), link.odoo_product_id}, [&](const Row& row) {
        listed = row.text(0);
        factors = row.text(1);
        // Said of another package than the one that it is listed in, it is that package's alone.
        if (link.unit_count && !listed.empty() && Decimal::parse(listed) != link.unit_count && !factors.empty())
          factor = row.text(2);
      });
  const auto count = link.unit_count ? link.unit_count : Decimal::parse(listed);
  factors = count ? with_factor(factors, *count, link.factor) : std::string();
  // What the marketplace has is of another product, or in other units, from now on.
  session.execute(
      "INSERT INTO market_product (connection_id, external_id, odoo_product_id, factor, how, state, seen_us, "
      "changed_us, factors) VALUES ($1, $2, $3, $4, $5, 'linked', $6, $6, $7) ON CONFLICT (connection_id, external_id) "
      "DO UPDATE SET odoo_product_id = EXCLUDED.odoo_product_id, factor = EXCLUDED.factor, how = EXCLUDED.how, state = "
      "'linked', odoo_name = '', changed_us = EXCLUDED.changed_us, factors = EXCLUDED.factors",
      {connection_id, std::string_view(link.product), link.odoo_product_id, std::string_view(factor),
       std::string_view(how), to_us(session.now()), std::string_view(factors)});
  MarketStock::mark_product(session, connection_id, link.product, "linked");
}

void unlink_row(Session& session, std::int64_t connection_id, const std::string& product, bool ignored,
                const std::string& who) {
  const std::string how = ignored ? std::string(kLinkedBy) + who : std::string();
  session.execute(
      "UPDATE market_product SET odoo_product_id = 0, factor = '1', factors = '', how = $3, state = $4, "
      "changed_us = "
      "$5, odoo_name = '', "
      "send_error_code = '', send_error = '', send_error_us = NULL, send_note = '' WHERE connection_id = $1 AND "
      "external_id = $2",
      {connection_id, std::string_view(product), std::string_view(how),
       ignored ? std::string_view("ignored") : std::string_view("proposed"), to_us(session.now())});
}

void check_link(const MarketProducts::Link& link) {
  if (link.product.empty() || link.product.size() > 100)
    throw Error(Error::Kind::invalid, "The marketplace's id of a product has 1 to 100 bytes.");
  if (link.odoo_product_id < 1)
    throw Error(Error::Kind::invalid, "The product of Odoo is the id of a variant, a number above 0.");
  check_market_factor(link.factor);
}

std::string never_seen(const char* no, const std::string& product) {
  return fmt::format("{} product `{}` has been seen at the marketplace: `dragoman market catalog` reads them.", no,
                     product);
}

json merged_flags(json flags, const json& changes) {
  for (const auto& [name, value] : changes.items()) {
    check_flag(name);
    if (value.is_null())
      flags.erase(name);
    else
      flags[name] = value;
  }
  return checked_flags(flags);
}

void flag_row(Session& session, std::int64_t connection_id, const std::string& product, const json& flags) {
  const std::string text = flags.dump();
  if (session.execute(
          "UPDATE market_product SET flags = $3, changed_us = $4 WHERE connection_id = $1 AND external_id = "
          "$2 AND flags <> $3",
          {connection_id, std::string_view(product), std::string_view(text), to_us(session.now())}) > 0)
    MarketStock::mark_product(session, connection_id, product, "its flags were changed");
}

}  // namespace

std::map<std::int64_t, std::string> unusable_products(OrderBook& book, const std::set<std::int64_t>& ids,
                                                      std::stop_token stop) {
  std::map<std::int64_t, std::string> out;
  for (auto at = ids.begin(); at != ids.end();) {
    // A page from the first that is left: those that stand close together in Odoo come in one answer.
    const int limit = std::next(at) == ids.end() ? 1 : 1000;
    const auto page = book.products(*at - 1, limit, "", stop);
    std::map<std::int64_t, const ProductFacts*> there;
    for (const auto& one : page) there[one.id] = &one;
    const auto last = static_cast<int>(page.size()) < limit ? std::numeric_limits<std::int64_t>::max() : page.back().id;
    for (; at != ids.end() && *at <= last; ++at) {
      const auto found = there.find(*at);
      if (found == there.end())
        out[*at] = fmt::format("There is no product {} in Odoo: give the id of a variant (`product.product`).", *at);
      else if (!found->second->active)
        out[*at] = fmt::format(
            "The product {} ({}) is archived in Odoo: take it out of the archive there, or give another "
            "one.",
            *at, found->second->name);
    }
  }
  return out;
}

std::vector<MarketProductRow> MarketProducts::list(const Filter& filter) {
  std::vector<MarketProductRow> out;
  std::string sql = std::string(kColumns) + "WHERE p.id > $1";
  std::vector<Param> params{filter.after};
  const auto only = [&](const char* column, const std::string& value) {
    if (value.empty()) return;
    params.emplace_back(std::string_view(value));
    sql += fmt::format(" AND {} = ${}", column, params.size());
  };
  only("c.name", filter.connection);
  only("p.state", filter.state);
  if (filter.only == "unsent") sql += " AND p.dirty_us IS NOT NULL";
  if (filter.only == "refused") sql += " AND p.send_error_code <> ''";
  if (filter.only == "proposed") sql += " AND p.state = 'proposed'";
  if (!filter.text.empty()) {
    params.emplace_back(std::string_view(filter.text));
    sql += fmt::format(" AND (p.external_id = ${0} OR p.internal_code = ${0} OR p.name = ${0})", params.size());
  }
  params.emplace_back(filter.limit);
  sql += fmt::format(" ORDER BY p.id LIMIT ${}", params.size());
  store_.read([&](Session& session) {
    out.clear();
    session.query(sql, params, [&](const Row& row) { out.push_back(row_of(row)); });
  });
  return out;
}

MarketProductRow MarketProducts::get(std::int64_t connection_id, const std::string& product) {
  std::optional<MarketProductRow> found;
  store_.read([&](Session& session) {
    found.reset();
    session.first(std::string(kColumns) + "WHERE p.connection_id = $1 AND p.external_id = $2", {connection_id, product},
                  [&](const Row& row) { found = row_of(row); });
  });
  if (!found)
    throw Error(
        Error::Kind::not_found,
        fmt::format("No product `{}` has been seen there yet: `dragoman market products` lists those that were.",
                    product));
  return *found;
}

MarketProductRow MarketProducts::link(std::int64_t connection_id, const Link& link, const std::string& who) {
  check_link(link);
  store_.write([&](Session& session) {
    const bool seen = session.first("SELECT 1 FROM market_product WHERE connection_id = $1 AND external_id = $2",
                                    {connection_id, std::string_view(link.product)}, [](const Row&) {});
    // Before all were read, nobody knows that there is none such.
    if (!seen && MarketOrders::cursor(session, connection_id, "catalog"))
      throw Error(Error::Kind::not_found, never_seen("No", link.product));
    link_row(session, connection_id, link, who);
  });
  return get(connection_id, link.product);
}

MarketProductRow MarketProducts::unlink(std::int64_t connection_id, const std::string& product, bool ignored,
                                        const std::string& who) {
  get(connection_id, product);
  store_.write([&](Session& session) { unlink_row(session, connection_id, product, ignored, who); });
  return get(connection_id, product);
}

MarketProductRow MarketProducts::set_flags(std::int64_t connection_id, const std::string& product, const json& changes,
                                           bool write_code) {
  const auto row = get(connection_id, product);
  json flags = merged_flags(row.flags, changes);
  if (write_code) {
    if (row.state != "linked")
      throw Error(Error::Kind::invalid,
                  fmt::format("`{}` is linked to no product of Odoo whose id could become its code.", product));
    flags["code"] = std::to_string(row.odoo_product_id);
  }
  store_.write([&](Session& session) { flag_row(session, connection_id, product, flags); });
  return get(connection_id, product);
}

MarketProducts::Confirmed MarketProducts::confirm(std::int64_t connection_id, const std::string& product,
                                                  const std::string& who, const MarketplaceSettings& settings) {
  Confirmed out;
  std::vector<Link> links;
  const auto factor_of = [&](const MarketProductRow& row) {
    return settings.factor_of(Decimal::parse(row.unit_count).value_or(1));
  };
  const auto take = [&](const MarketProductRow& row) {
    links.push_back({.product = row.external_id,
                     .odoo_product_id = row.proposals[0].at("odoo_product").get<std::int64_t>(),
                     .factor = factor_of(row).value_or(1)});
  };
  if (!product.empty()) {
    const auto row = get(connection_id, product);
    if (row.state != "proposed" || row.proposals.size() != 1)
      throw Error(
          Error::Kind::conflict,
          row.state != "proposed" ? fmt::format("`{}` is {} already.", product, row.state)
          : row.proposals.empty()
              ? fmt::format("No product of Odoo was found that `{}` may be: link it with `dragoman market link`.",
                            product)
              : fmt::format("Several products of Odoo may be `{}`: {}. Say which with `dragoman market link`.", product,
                            row.proposals.dump()));
    if (!factor_of(row))
      throw Error(Error::Kind::conflict, factor_unknown(row.name, product, row.unit,
                                                        Decimal::parse(row.unit_count).value_or(1), row.connection));
    take(row);
  } else {
    store_.read([&](Session& session) {
      links.clear();
      out = {};
      session.query(std::string(kColumns) + "WHERE p.connection_id = $1 AND p.state = 'proposed' ORDER BY p.id",
                    {connection_id}, [&](const Row& row) {
                      const auto one = row_of(row);
                      if (one.proposals.size() != 1)
                        ++(one.proposals.empty() ? out.without : out.ambiguous);
                      else if (!factor_of(one))
                        ++out.factor_unknown;
                      else
                        take(one);
                    });
    });
  }
  for (const Link& link : links) check_link(link);
  store_.write([&](Session& session) {
    for (const Link& link : links) link_row(session, connection_id, link, who);
  });
  for (const Link& link : links) out.linked.push_back(get(connection_id, link.product));
  return out;
}

namespace {

// Columns that a table is read by, and those that are only there for the person who fills it in.
const std::vector<std::string> kTaken{"product",   "odoo_product", "factor",    "state",
                                      "published", "in_stock",     "min_order", "max_order"};
const std::vector<std::string> kShown{"code", "name", "unit", "unit_count", "odoo_name", "proposal"};
constexpr std::size_t kWrongMax = 50;
constexpr std::size_t kTableMax = 16 * 1024 * 1024;

std::string cell_of(const json& value) {
  return value.is_null() ? "" : value.is_string() ? value.get<std::string>() : value.dump();
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

}  // namespace

std::string MarketProducts::export_csv(const std::string& connection) {
  std::string out = "\xEF\xBB\xBF";  // or spreadsheets take it for something else than UTF-8
  csv::append(out, {"product", "code", "name", "unit", "unit_count", "state", "odoo_product", "odoo_name", "factor",
                    "published", "in_stock", "min_order", "max_order", "proposal"});
  Filter filter;
  filter.connection = connection;
  filter.limit = 1000;
  for (;;) {
    const auto some = list(filter);
    for (const auto& row : some) {
      std::string proposal;
      if (row.state == "proposed")
        for (const auto& one : row.proposals)
          proposal += fmt::format("{}{} {}", proposal.empty() ? "" : " | ", one.value("odoo_product", 0),
                                  one.value("name", ""));
      csv::append(
          out,
          {row.external_id, row.internal_code, row.name, row.unit, row.unit_count, row.state,
           row.odoo_product_id > 0 ? std::to_string(row.odoo_product_id) : "", row.odoo_name,
           row.state == "proposed" && !row.unit_count.empty() && row.unit_count != "1" ? std::string() : row.factor,
           cell_of(row.flags.value("published", json())), cell_of(row.flags.value("in_stock", json())),
           cell_of(row.flags.value("min_order", json())), cell_of(row.flags.value("max_order", json())), proposal});
    }
    if (some.size() < 1000) return out;
    filter.after = some.back().id;
  }
}

MarketProducts::Imported MarketProducts::import_csv(std::int64_t connection_id, const std::string& text,
                                                    const std::string& who, const Unusable& unusable,
                                                    const MarketplaceSettings& settings) {
  const auto refuse = [](std::string message) {
    Error error(Error::Kind::invalid, std::move(message));
    error.code = "csv";
    throw error;
  };
  if (text.size() > kTableMax) refuse("The table has more than 16 MiB.");
  const auto rows = csv::parse(text);
  if (rows.empty())
    refuse("The table is empty: it begins with a line of column names, as `market export` writes them.");
  std::map<std::string, std::size_t> columns;
  for (std::size_t i = 0; i < rows[0].cells.size(); ++i) {
    const std::string name = lower(rows[0].cells[i]);
    const auto is = [&](const std::string& one) { return one == name; };
    if (std::none_of(kTaken.begin(), kTaken.end(), is) && std::none_of(kShown.begin(), kShown.end(), is))
      refuse(fmt::format("Line {}: there is no column `{}`; there are {}, {}.", rows[0].line, rows[0].cells[i],
                         fmt::join(kTaken, ", "), fmt::join(kShown, ", ")));
    if (!columns.emplace(name, i).second)
      refuse(fmt::format("Line {}: the column `{}` is there twice.", rows[0].line, name));
  }
  if (!columns.contains("product")) refuse(fmt::format("Line {}: the column `product` is missing.", rows[0].line));

  std::map<std::string, MarketProductRow> known;
  store_.read([&](Session& session) {
    known.clear();
    session.query(std::string(kColumns) + "WHERE p.connection_id = $1", {connection_id}, [&](const Row& row) {
      auto one = row_of(row);
      std::string id = one.external_id;
      known.emplace(std::move(id), std::move(one));
    });
  });

  struct Change {
    std::size_t line = 0;
    Link link;
    bool relink = false, ignore = false;
    std::optional<json> flags;
  };
  std::vector<Change> changes;
  std::map<std::size_t, std::string> wrong;  // by line
  std::map<std::string, std::size_t> lines;
  for (std::size_t n = 1; n < rows.size(); ++n) {
    const auto& row = rows[n];
    const auto cell = [&](const char* name) {
      const auto at = columns.find(name);
      return at == columns.end() || at->second >= row.cells.size() ? std::string() : csv::plain(row.cells[at->second]);
    };
    const auto bad = [&](const std::string& what) { wrong[row.line] = fmt::format("Line {}: {}", row.line, what); };
    if (row.cells.size() > rows[0].cells.size()) {
      bad(fmt::format("it has {} cells, and there are {} columns.", row.cells.size(), rows[0].cells.size()));
      continue;
    }
    Change change;
    change.line = row.line;
    change.link.product = cell("product");
    const auto found = known.find(change.link.product);
    if (found == known.end()) {
      bad(change.link.product.empty() ? std::string("the column `product` is empty.")
                                      : never_seen("no", change.link.product));
      continue;
    }
    const auto& before = found->second;
    if (const auto [at, fresh] = lines.emplace(change.link.product, row.line); !fresh) {
      bad(fmt::format("the product `{}` is in line {} already.", change.link.product, at->second));
      continue;
    }
    try {
      const std::string odoo = cell("odoo_product"), factor = cell("factor"), state = lower(cell("state"));
      change.link.odoo_product_id = before.odoo_product_id;
      change.link.factor = Decimal::parse(before.factor).value_or(1);
      if (!odoo.empty()) {
        // As spreadsheets write numbers, but for those that they shortened.
        const auto id = odoo.find_first_of("eE") == std::string::npos ? Decimal::parse(odoo) : std::nullopt;
        if (!id || *id != Decimal(id->floor()) || *id <= Decimal(0) || *id > Decimal(std::int64_t{1} << 31))
          throw Error(Error::Kind::invalid, fmt::format("`{}` is no id of a product in Odoo.", odoo));
        change.link.odoo_product_id = id->floor();
      }
      // One that stands there from before there were limits is no mistake of this table's.
      if (!factor.empty()) {
        if (factor != before.factor) change.link.factor = market_factor(factor);
      } else if (before.state != "linked" && change.link.odoo_product_id > 0 && state != "ignored") {
        const auto said = settings.factor_of(Decimal::parse(before.unit_count).value_or(1));
        if (!said)
          throw Error(
              Error::Kind::invalid,
              fmt::format("`{}` is sold by the {} of {}: the column `factor` says how many of Odoo's units that is.",
                          change.link.product, before.unit.empty() ? "box" : before.unit, before.unit_count));
        change.link.factor = *said;
      }
      if (!state.empty() && state != "linked" && state != "proposed" && state != "ignored")
        throw Error(Error::Kind::invalid,
                    fmt::format("`{}` is no state; there are linked, proposed and ignored.", state));
      if (state == "proposed" && before.state == "linked" && change.link.odoo_product_id == before.odoo_product_id)
        throw Error(Error::Kind::invalid,
                    fmt::format("`{}` is linked to {}, and a table takes no link away: `dragoman market unlink` does.",
                                change.link.product, before.odoo_product_id));
      change.ignore = state == "ignored" && before.state != "ignored";
      change.relink = state != "ignored" && change.link.odoo_product_id > 0 &&
                      (before.state != "linked" || before.odoo_product_id != change.link.odoo_product_id ||
                       before.factor != change.link.factor.str() ||
                       // Said once more, now that it is sold in another package.
                       (!factor.empty() && !before.factors.empty() && Decimal::parse(before.unit_count) &&
                        !factor_for(before.factors, *Decimal::parse(before.unit_count))));
      if (change.relink) check_link(change.link);
      if (state == "linked" && change.link.odoo_product_id < 1)
        throw Error(Error::Kind::invalid, "it is said to be linked, and `odoo_product` is empty.");
      json flags = json::object();
      for (const char* name : {"published", "in_stock"}) {
        const std::string value = lower(cell(name));
        if (value.empty()) continue;
        if (value != "true" && value != "false" && value != "1" && value != "0" && value != "yes" && value != "no")
          throw Error(Error::Kind::invalid, fmt::format("`{}` is true or false, and this is `{}`.", name, value));
        flags[name] = value == "true" || value == "1" || value == "yes";
      }
      for (const char* name : {"min_order", "max_order"})
        if (const std::string value = cell(name); !value.empty()) flags[name] = value;
      const json merged = merged_flags(before.flags, flags);
      if (merged != before.flags) change.flags = merged;
    } catch (const Error& error) {
      bad(error.message);
      continue;
    }
    if (change.relink || change.ignore || change.flags) changes.push_back(std::move(change));
  }
  std::set<std::int64_t> asked;
  for (const Change& change : changes)
    if (change.relink) asked.insert(change.link.odoo_product_id);
  if (unusable && !asked.empty()) {
    const auto none = unusable(asked);
    for (const Change& change : changes)
      if (const auto found = none.find(change.link.odoo_product_id); change.relink && found != none.end())
        wrong[change.line] = fmt::format("Line {}: {}", change.line, found->second);
  }
  if (!wrong.empty()) {
    std::vector<std::string> said;
    for (const auto& [line, what] : wrong)
      if (said.size() < kWrongMax) said.push_back(what);
    refuse(
        fmt::format("Nothing was taken in, since {} of the lines are wrong.\n{}", wrong.size(), fmt::join(said, "\n")));
  }
  Imported out;
  store_.write([&](Session& session) {
    out = {};
    out.rows = static_cast<std::int64_t>(rows.size()) - 1;
    for (const Change& change : changes) {
      if (change.flags) {
        ++out.flagged;
        flag_row(session, connection_id, change.link.product, *change.flags);
      }
      if (change.relink) {
        ++out.linked;
        link_row(session, connection_id, change.link, who);
      }
      if (change.ignore) {
        ++out.ignored;
        unlink_row(session, connection_id, change.link.product, true, who);
      }
    }
  });
  return out;
}

}  // namespace dragoman::pipeline
