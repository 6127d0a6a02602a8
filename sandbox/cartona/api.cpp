// The supplier's API: paths, paging and bulks. What the calls mean is in world.cpp.

#include "sandbox/cartona/api.h"

#include <algorithm>
#include <cstdlib>
#include <functional>

#include "sandbox/cartona/wire.h"

namespace sandbox::cartona {

namespace {

int refused_status(const Switches& switches) {
  return std::atoi(std::string(switches.word(Switch::refused_status)).c_str());
}

HttpResponse refusal(const Switches& switches, const Refusal& refused) {
  const int status = refused.status != 0 ? refused.status : refused_status(switches);
  return error_response(switches, status, status == 404 ? "not_found" : "invalid", refused.why);
}

HttpResponse success(const Switches& switches, const Json& sent) {
  HttpResponse response;
  response.status = std::atoi(std::string(switches.word(Switch::success_status)).c_str());
  if (response.status == 204) return response;
  if (switches.is(Switch::success_body, "object")) response.body = "{\"message\":\"success\"}";
  if (switches.is(Switch::success_body, "empty_object")) response.body = "{}";
  if (switches.is(Switch::success_body, "array"))
    response.body = (sent.is_array() ? sent : Json::array({sent})).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (switches.is(Switch::success_body, "text")) {
    response.content_type = "text/plain; charset=utf-8";
    response.body = "OK";
  }
  return response;
}

struct Paging {
  std::size_t page = 1, per_page = 25;
  std::string wrong;
};

Paging paging_of(const Switches& switches, const std::map<std::string, std::string>& fields) {
  Paging paging;
  const auto number = [&](const char* name) -> std::optional<std::size_t> {
    const auto found = fields.find(name);
    if (found == fields.end() || found->second.empty()) return std::nullopt;
    if (found->second.size() > 9 || found->second.find_first_not_of("0123456789") != std::string::npos) {
      paging.wrong = std::string(name) + " must be a number";
      return std::nullopt;
    }
    return static_cast<std::size_t>(std::strtoul(found->second.c_str(), nullptr, 10));
  };
  paging.page = std::max<std::size_t>(1, number("page").value_or(1));
  auto per_page = number("per_page");
  if (!per_page && switches.is(Switch::limit, "per_page")) per_page = number("limit");
  paging.per_page = per_page.value_or(static_cast<std::size_t>(switches.number(Switch::per_page_default)));
  const auto most = static_cast<std::size_t>(switches.number(Switch::per_page_max));
  if (paging.per_page > most) {
    if (switches.is(Switch::per_page_over, "refused"))
      paging.wrong = "per_page must not be above " + std::to_string(most);
    paging.per_page = most;
  }
  paging.per_page = std::max<std::size_t>(1, paging.per_page);
  return paging;
}

/// A bound of the range as the switches read it. False: it is no time.
bool bound_of(const Switches& switches, const std::string& text, std::optional<Moment>& bound) {
  if (text.empty()) return true;
  const auto parsed = parse_moment(text);
  if (!parsed) return false;
  if (parsed->offset && switches.is(Switch::from_to_offset, "refused")) return false;
  if (parsed->offset && switches.is(Switch::from_to_offset, "honoured")) {
    bound = parsed->wall - *parsed->offset;
  } else {
    bound = switches.is(Switch::from_to_zone, "cairo") ? from_cairo(parsed->wall) : parsed->wall;
  }
  return true;
}

HttpResponse pull_orders(World& world, Supplier& supplier, const HttpRequest& request) {
  auto fields = query_fields(request.query);
  const Paging paging = paging_of(world.switches, fields);
  World::Pull asked;
  if (!paging.wrong.empty()) return refusal(world.switches, {paging.wrong, 0});
  if (!bound_of(world.switches, fields["from"], asked.from) || !bound_of(world.switches, fields["to"], asked.to))
    return refusal(world.switches, {"from and to must be times", 0});
  asked.page = paging.page;
  asked.per_page = paging.per_page;
  asked.what = fields["from"] + "|" + fields["to"] + "|" + std::to_string(paging.per_page);
  const auto page = world.pull(supplier, asked);
  if (!page) return error_response(world.switches, 404, "not_found", "there is no such page");
  HttpResponse response;
  response.body.reserve(page->size() * 1600 + 2);
  response.body += '[';
  for (const Order* order : *page) {
    if (response.body.size() > 1) response.body += ',';
    append_order(response.body, *order, world.switches);
  }
  response.body += ']';
  return response;
}

/// One page of rows that `append` writes.
HttpResponse list_page(const Switches& switches, const std::map<std::string, std::string>& fields, std::size_t count,
                       const std::function<void(std::string&, std::size_t)>& append) {
  const Paging paging = paging_of(switches, fields);
  if (!paging.wrong.empty()) return refusal(switches, {paging.wrong, 0});
  const std::size_t pages = (count + paging.per_page - 1) / paging.per_page;
  std::size_t page = paging.page;
  if (page > pages && page > 1) {
    if (switches.is(Switch::paging_end, "error"))
      return error_response(switches, 404, "not_found", "there is no such page");
    if (switches.is(Switch::paging_end, "repeat")) page = std::max<std::size_t>(1, pages);
  }
  HttpResponse response;
  response.body = "[";
  for (std::size_t i = (page - 1) * paging.per_page; i < std::min(count, page * paging.per_page); ++i) {
    if (response.body.size() > 1) response.body += ',';
    append(response.body, i);
  }
  response.body += ']';
  return response;
}

HttpResponse list_products(World& world, Supplier& supplier, const HttpRequest& request) {
  auto fields = query_fields(request.query);
  const std::string token = fields["search_token"], base = fields["base_product_id"],
                    id = fields["supplier_product_id"], code = fields["internal_product_id"],
                    account_code = fields["supplier_code"];
  std::vector<const Product*> found;
  for (const auto& [name, account] : supplier.accounts) {
    if (!account_code.empty() && account_code != name) continue;
    for (const auto& product : account->products) {
      if (!base.empty() && product->base_product_id != base) continue;
      if (!id.empty() && product->supplier_product_id != id) continue;
      if (!code.empty() && product->internal_product_id != code) continue;
      if (!token.empty() && product->name.find(token) == std::string::npos &&
          product->internal_product_id.find(token) == std::string::npos)
        continue;
      found.push_back(product.get());
    }
  }
  return list_page(world.switches, fields, found.size(),
                   [&](std::string& out, std::size_t i) { append_product(out, *found[i], world.switches); });
}

HttpResponse list_base_products(World& world, Supplier& supplier, const HttpRequest& request) {
  const auto fields = query_fields(request.query);
  std::vector<const Product*> found;
  std::set<std::string> seen;
  for (const auto& [name, account] : supplier.accounts)
    for (const auto& product : account->products)
      if (seen.insert(product->base_product_id).second) found.push_back(product.get());
  const bool ascii = world.switches.is(Switch::text_escapes, "ascii");
  return list_page(world.switches, fields, found.size(), [&](std::string& out, std::size_t i) {
    out += "{\"base_product_id\":";
    append_text(out, found[i]->base_product_id, ascii);
    out += ",\"base_product_name\":";
    append_text(out, found[i]->name, ascii);
    out += ",\"available_stock_quantity\":" + std::to_string(found[i]->stock * found[i]->unit_count) + "}";
  });
}

using Apply = std::function<std::optional<Refusal>(const Json& row, bool check)>;

HttpResponse bulk(World& world, Json rows, Switch policy, const Apply& apply) {
  const Switches& switches = world.switches;
  if (!rows.is_array()) return refusal(switches, {"the body must be a list of objects", 0});
  const auto most = static_cast<std::size_t>(switches.number(Switch::bulk_max));
  if (most > 0 && rows.size() > most) {
    if (switches.is(Switch::bulk_over, "refused")) {
      return error_response(switches, 413, "too_large",
                            "a list may have " + std::to_string(most) + " rows, not " + std::to_string(rows.size()));
    }
    rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(most), rows.end());
  }
  if (switches.is(policy, "refused")) {
    for (const auto& row : rows)
      if (const auto wrong = apply(row, true)) return refusal(switches, *wrong);
  }
  for (const auto& row : rows) {
    const auto wrong = apply(row, false);
    if (!wrong || switches.is(policy, "ignored")) continue;
    if (switches.is(policy, "stops_quietly")) break;
    // Also where rows were checked first: one may stand in another's way.
    return refusal(switches, *wrong);
  }
  return success(switches, rows);
}

/// The names of 2023 for the paths of today.
std::string current_path(const std::string& path) {
  if (path.starts_with("orders/")) return "order/" + path.substr(7);
  if (path == "base-product") return "supplier-product";
  if (path == "base-product/bulk-update") return "supplier-product/bulk-update";
  if (path == "base-product/bulk-update-stock") return "supplier-product/base-product/bulk-update-stock";
  return path;
}

}  // namespace

HttpResponse error_response(const Switches& switches, int status, const std::string& error,
                            const std::string& details) {
  HttpResponse response;
  response.status = status;
  const auto dump = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  if (switches.is(Switch::error_body, "object")) response.body = dump({{"error", error}, {"details", details}});
  if (switches.is(Switch::error_body, "errors")) response.body = dump({{"errors", {{error, Json::array({details})}}}});
  if (switches.is(Switch::error_body, "text")) {
    response.content_type = "text/plain; charset=utf-8";
    response.body = details;
  }
  if (switches.is(Switch::error_body, "html")) {
    response.content_type = "text/html; charset=utf-8";
    const std::string title = std::to_string(status) + " " + std::string(reason_phrase(status));
    response.body =
        "<!doctype html><html><head><title>" + title + "</title></head><body><h1>" + title + "</h1></body></html>";
  }
  return response;
}

HttpResponse bad_token_response(const Switches& switches) {
  return error_response(switches, std::atoi(std::string(switches.word(Switch::bad_token)).c_str()), "unauthorized",
                        "the token is not known");
}

HttpResponse answer(World& world, Supplier& supplier, const HttpRequest& request, const std::string& given) {
  const Switches& switches = world.switches;
  const std::string path = switches.is(Switch::paths, "all") ? current_path(given) : given;
  constexpr std::string_view kSingle = "order/update-order-status/";
  const bool single = path.starts_with(kSingle) && path.size() > kSingle.size();

  using Get = HttpResponse (*)(World&, Supplier&, const HttpRequest&);
  const Get get = path == "order/pull-orders"                ? &pull_orders
                  : path == "supplier-product"               ? &list_products
                  : path == "supplier-product/base-products" ? &list_base_products
                                                             : nullptr;
  const bool post = single || path == "order/update-order-status" || path == "order/update-order-details" ||
                    path == "supplier-product/bulk-update" || path == "supplier-product/base-product/bulk-update" ||
                    path == "supplier-product/base-product/bulk-update-stock";
  if (get == nullptr && !post) return error_response(switches, 404, "not_found", "there is nothing at this path");
  if ((get != nullptr) != (request.method == "GET") || (post && request.method != "POST"))
    return error_response(switches, 405, "method_not_allowed", "the path knows another method");
  if (get != nullptr) return get(world, supplier, request);

  const Json body = Json::parse(request.body, nullptr, false);
  if (body.is_discarded()) return refusal(switches, {"the body is not JSON", 400});
  if (single) {
    const std::string id = url_decode(path.substr(kSingle.size()));
    const Actor actor{"supplier", "single"};
    if (const auto wrong = world.supplier_status(supplier, body, id, false, actor)) return refusal(switches, *wrong);
    return success(switches, body);
  }
  const Actor actor{"supplier", "bulk"};
  if (path == "order/update-order-status") {
    return bulk(world, body, Switch::bulk_status_bad_row,
                [&](const Json& row, bool check) { return world.supplier_status(supplier, row, "", check, actor); });
  }
  if (path == "order/update-order-details") {
    return bulk(world, body, Switch::bulk_details_bad_row,
                [&](const Json& row, bool check) { return world.supplier_details(supplier, row, check, actor); });
  }
  if (path.ends_with("bulk-update-stock")) {
    return bulk(world, body, Switch::bulk_product_bad_row,
                [&](const Json& row, bool check) { return world.supplier_base_stock(supplier, row, check); });
  }
  return bulk(world, body, Switch::bulk_product_bad_row,
              [&](const Json& row, bool check) { return world.supplier_product(supplier, row, check); });
}

}  // namespace sandbox::cartona
