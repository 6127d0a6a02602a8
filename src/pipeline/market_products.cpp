#include "pipeline/market_products.h"

#include <fmt/format.h>

#include "base/error.h"
#include "pipeline/market_orders.h"

namespace dragoman::pipeline {
namespace {

using store::Param;
using store::Row;
using store::Session;

constexpr std::string_view kColumns =
    "SELECT p.id, p.connection_id, COALESCE(c.name, ''), p.external_id, p.internal_code, p.base_id, p.name, p.unit, "
    "p.unit_count, p.factor, p.odoo_product_id, p.how, p.state, p.changed_us FROM market_product p LEFT JOIN "
    "connection "
    "c ON c.id = p.connection_id ";

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
  return out;
}

}  // namespace

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
  if (link.product.empty() || link.product.size() > 100)
    throw Error(Error::Kind::invalid, "The marketplace's id of a product has 1 to 100 bytes.");
  if (link.odoo_product_id < 1)
    throw Error(Error::Kind::invalid, "The product of Odoo is the id of a variant, a number above 0.");
  if (link.factor <= Decimal(0))
    throw Error(
        Error::Kind::invalid,
        fmt::format("The factor says how many of Odoo's units are in one of the marketplace's: it is above 0, and "
                    "this is {}.",
                    link.factor.str()));
  store_.write([&](Session& session) {
    const std::string how = std::string(kLinkedBy) + who, factor = link.factor.str();
    session.execute(
        "INSERT INTO market_product (connection_id, external_id, odoo_product_id, factor, how, state, seen_us, "
        "changed_us) VALUES ($1, $2, $3, $4, $5, 'linked', $6, $6) ON CONFLICT (connection_id, external_id) DO UPDATE "
        "SET odoo_product_id = EXCLUDED.odoo_product_id, factor = EXCLUDED.factor, how = EXCLUDED.how, state = "
        "'linked', "
        "changed_us = EXCLUDED.changed_us",
        {connection_id, link.product, link.odoo_product_id, factor, how, to_us(session.now())});
  });
  return get(connection_id, link.product);
}

MarketProductRow MarketProducts::unlink(std::int64_t connection_id, const std::string& product, bool ignored,
                                        const std::string& who) {
  get(connection_id, product);
  store_.write([&](Session& session) {
    const std::string how = ignored ? std::string(kLinkedBy) + who : std::string();
    session.execute(
        "UPDATE market_product SET odoo_product_id = 0, factor = '1', how = $3, state = $4, changed_us = $5 WHERE "
        "connection_id = $1 AND external_id = $2",
        {connection_id, product, how, ignored ? std::string_view("ignored") : std::string_view("proposed"),
         to_us(session.now())});
  });
  return get(connection_id, product);
}

}  // namespace dragoman::pipeline
