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
/// Errors  protocol: it is not a list.
void cut_orders(pipeline::Marketplace::OrderPage& page);

/// A page of products. Those without an id are left out.
/// Errors  protocol: it is not a list.
std::vector<pipeline::MarketProduct> parse_products(std::string_view text);

/// The rows of a bulk change: fields that are not set are left out.
std::string product_rows(std::span<const pipeline::MarketProduct> changes);
std::string status_row(const pipeline::Marketplace::StatusChange& change);

}  // namespace dragoman::connectors::cartona
