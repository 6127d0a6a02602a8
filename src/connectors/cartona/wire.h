#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/marketplace.h"

namespace dragoman::connectors::cartona {

/// What an order's JSON says, whichever of its known spellings it uses: numbers may come as numbers or as text, fields
/// be missing, null or empty. Every digit of an amount is kept. What is wrong with it is in `problems`.
///
/// `states`: words of this connection that mean something else than they usually do.
/// Errors  none, whatever the bytes are.
/// Source  docs/reference/marketplace.md, section "Cartona's words".
pipeline::MarketOrder parse_order(std::string_view body, const std::map<std::string, pipeline::MarketState>& states);

/// A page of orders out of the text of an answer, each with its exact bytes. `page` owns the text already.
/// `supplier_code`: those that are another account's are left out; one that says of none is not usable. Empty: all.
/// How many there were.
/// Errors  protocol: it is not a list.
std::size_t cut_orders(pipeline::Marketplace::OrderPage& page, const std::string& supplier_code = {});

struct ListedProducts {
  std::vector<pipeline::MarketProduct> products;
  std::size_t listed = 0;  ///< with those that were left out
};
/// A page of products. Those without an id are left out, and those that say that they are another account's.
/// Errors  protocol: it is not a list.
ListedProducts parse_products(std::string_view text, const std::string& supplier_code = {});

/// The rows of a bulk change: fields that are not set are left out. `supplier_code`: the account that they are of,
/// under both names that its API has for that; empty: the marketplace takes them for whatever the token covers.
std::string product_rows(std::span<const pipeline::MarketProduct> changes, const std::string& supplier_code = {});
std::string status_row(const pipeline::Marketplace::StatusChange& change);

}  // namespace dragoman::connectors::cartona
