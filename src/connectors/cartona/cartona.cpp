#include "connectors/cartona/cartona.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/text.h"
#include "connectors/cartona/wire.h"
#include "pipeline/market_settings.h"

namespace dragoman::connectors::cartona {
namespace {

using nlohmann::json;
using pipeline::MarketOrder;
using pipeline::MarketProduct;
using pipeline::MarketState;

// Of an answer: 1,000 orders with 200 lines each would be less.
constexpr std::uint64_t kAnswerMax = 128ull << 20;
constexpr std::size_t kWordsMax = 300;
constexpr const char* kCancellationReason = "supplier_asked_me_to_cancel";

Error wrong(std::string what) {
  return Error(Error::Kind::invalid, std::move(what));
}

// The port left out.
bool is_loopback(std::string host) {
  if (host.starts_with("[")) return host.starts_with("[::1]");
  host = host.substr(0, host.find(':'));
  if (host == "localhost") return true;
  if (!host.starts_with("127.")) return false;
  return std::all_of(host.begin(), host.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; });
}

std::string checked_url(std::string url) {
  const std::size_t scheme = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  if (scheme == 0) throw wrong(fmt::format("`{}` is no address of a marketplace: it begins with https://.", url));
  if (std::any_of(url.begin(), url.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f; }))
    throw wrong("The address holds a space or a control character.");
  const std::string rest = url.substr(scheme);
  const std::string host = rest.substr(0, rest.find_first_of("/?#"));
  if (host.empty() || host.front() == ':') throw wrong(fmt::format("`{}` has no host.", url));
  if (host.find('@') != std::string::npos)
    throw wrong(
        "The address holds a user or password, which would be shown in the clear: give the token as the secret.");
  if (rest.find_first_of("?#") != std::string::npos) throw wrong("The address is without ? and #.");
  if (scheme == 7 && !is_loopback(host))
    throw wrong("The token would travel in the clear: the address begins with https://, but for this very machine.");
  while (url.ends_with('/')) url.pop_back();
  return url;
}

// Only what stays below the address that the token is meant for.
bool is_path(const std::string& text) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), [](char c) {
        return c > ' ' && c < '\x7f' && std::string_view("?#\\:@%").find(c) == std::string_view::npos;
      }))
    return false;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('/', at), text.size());
    const std::string_view part = std::string_view(text).substr(at, end - at);
    if (part.empty() || part == "." || part == "..") return false;
    at = end + 1;
  }
  return true;
}

std::string encoded(std::string_view text) {
  std::string out;
  for (const unsigned char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
                       c == '_' || c == '.' || c == '~';
    if (plain)
      out += static_cast<char>(c);
    else
      out += fmt::format("%{:02X}", c);
  }
  return out;
}

void words_of(const json& value, std::string& out) {
  if (out.size() > kWordsMax) return;
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    if (!text.empty()) out += (out.empty() ? "" : ", ") + text;
  }
  if (value.is_structured())
    for (const auto& part : value) words_of(part, out);
}

// What an answer says for itself, on one line; empty if it says nothing that a person could use.
std::string words_of(const http::Response& response) {
  std::string words;
  const json body = json::parse(response.body, nullptr, false);
  if (!body.is_discarded())
    words_of(body, words);
  else if (http::media_type(response.headers) == "text/plain" && is_utf8(response.body))
    words = response.body;
  std::replace_if(
      words.begin(), words.end(), [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, ' ');
  if (words.size() > kWordsMax) {
    words.resize(kWordsMax);
    while (!words.empty() && !is_utf8(words)) words.pop_back();
    words += "…";
  }
  return words;
}

// True if they are about who asks, not about what was asked.
bool about_credentials(std::string words) {
  std::transform(words.begin(), words.end(), words.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  for (const char* word : {"token", "authori", "authenti", "credential", "unauth", "forbidden", "permission"})
    if (words.find(word) != std::string::npos) return true;
  return false;
}

const std::vector<std::string>& known_reasons() {
  static const std::vector<std::string> reasons{"out_of_stock",
                                                "cannot_deliver_the_order",
                                                "supplier_asked_me_to_cancel",
                                                "delayed_order",
                                                "pending_order_without_action",
                                                "removed_items",
                                                "supplier_attitude",
                                                "missing_items",
                                                "expired_products",
                                                "different_prices",
                                                "different_products"};
  return reasons;
}

}  // namespace

CartonaSettings CartonaSettings::parse(const json& settings, const Secret& token) {
  CartonaSettings out;
  out.url = checked_url(settings.value("url", ""));
  out.token = token;
  const json paths = settings.value("paths", json::object());
  for (const auto& [name, path] : paths.items()) {
    std::string* const where = name == "orders"            ? &out.orders_path
                               : name == "status"          ? &out.status_path
                               : name == "products"        ? &out.products_path
                               : name == "update_products" ? &out.update_path
                                                           : nullptr;
    if (!where)
      throw wrong(
          fmt::format("`{}` is no path of the setting `paths`; there are orders, status, products and "
                      "update_products.",
                      name));
    const std::string text = path.is_string() ? path.get<std::string>() : "";
    if (!is_path(text))
      throw wrong(
          fmt::format("The path `{}` is {}; it is to be like order/pull-orders, behind the setting `url`: without a "
                      "scheme, a host or `..`.",
                      name, path.dump()));
    *where = text;
  }
  out.supplier_code = settings.value("supplier_code", "");
  if (out.supplier_code.size() > 100 ||
      std::any_of(out.supplier_code.begin(), out.supplier_code.end(), [](char c) { return c <= ' ' || c > '~'; }))
    throw wrong(fmt::format("`{}` is no supplier_code: it is what the marketplace calls the account, such as 1.",
                            out.supplier_code));
  out.states = pipeline::MarketplaceSettings::parse(settings).states;
  const std::int64_t timeout = settings.value("timeout_seconds", std::int64_t{30});
  if (timeout < 1 || timeout > 600)
    throw wrong(fmt::format("The setting `timeout_seconds` is from 1 to 600, and this is {}.", timeout));
  out.http.total_timeout = std::chrono::seconds(timeout);
  out.http.idle_timeout = std::chrono::seconds(timeout);
  out.http.connect_timeout =
      std::min<std::chrono::milliseconds>(std::chrono::seconds(timeout), std::chrono::seconds(10));
  out.http.body_bytes_max = kAnswerMax;
  out.http.ca_file = settings.value("ca_file", "");
  if (!out.http.ca_file.empty() && !std::ifstream(out.http.ca_file))
    throw wrong(fmt::format("The file `{}` of the setting ca_file can't be read.", out.http.ca_file));
  return out;
}

Cartona::Cartona(CartonaSettings settings, Clock& clock, std::unique_ptr<http::Client> http)
    : settings_(std::move(settings)),
      clock_(clock),
      http_(http ? std::move(http) : http::make_client(settings_.http)) {}

http::Response Cartona::call(http::Request request, std::stop_token stop) {
  const bool reads = request.method == "GET";
  request.headers.set("AuthorizationToken", settings_.token.reveal());
  request.headers.set("Accept", "application/json");
  if (!request.body.empty()) request.headers.set("Content-Type", "application/json");
  http::Response response;
  pipeline::Exchange exchange;
  const Micros begun = clock_.steady();
  const auto tell = [&] {
    if (!listener_) return;
    exchange.took = clock_.steady() - begun;
    exchange.at = clock_.now() - exchange.took;
    exchange.method = request.method;
    exchange.target = request.target;
    exchange.request = request.body;
    exchange.status = response.status;
    exchange.response = response.body;
    listener_(exchange);
  };
  try {
    response = http_->send(request, std::move(stop));
    tell();
  } catch (const Error& error) {
    exchange.error = error.message;
    tell();
    if (error.kind == Error::Kind::cancelled) throw;
    // A question may be asked again; whether a change was made is not known.
    if (reads && error.kind == Error::Kind::in_doubt) {
      Error better(Error::Kind::unavailable, error.message, error.detail);
      better.code = error.code;
      throw better;
    }
    throw;
  }
  const int status = response.status;
  if (status == 200 || status == 201 || status == 204) return response;
  const std::string words = words_of(response);
  const std::string said = fmt::format("The marketplace answered {}{}", status, words.empty() ? "." : ": " + words);
  const std::string detail = response.body.substr(0, 2000);
  const auto fail = [&](Error::Kind kind, std::string_view code, const std::string& message) {
    Error error(kind, message, detail);
    error.code = code;
    throw error;
  };
  if (status == 401 || status == 403)
    fail(Error::Kind::auth, "cartona_token", sentence(said) + " The token is refused.");
  if (status == 429 || status == 503) {
    Error error(status == 429 ? Error::Kind::busy : Error::Kind::unavailable, said, detail);
    error.code = "cartona_busy";
    if (const auto header = response.headers.find("Retry-After"))
      if (const auto delay = http::parse_retry_after(*header, clock_.now())) error.retry_in(*delay);
    throw error;
  }
  // What stands in front of it could not reach it, or it broke: of a change nobody knows whether it was made.
  if (status >= 500) fail(reads ? Error::Kind::unavailable : Error::Kind::in_doubt, pipeline::kServerFailed, said);
  if (status >= 300 && status < 400)
    fail(Error::Kind::protocol, "cartona_redirect",
         sentence(said) + " It sends to another address; the setting `url` is not right.");
  if (status == 400 && (words.empty() || about_credentials(words))) fail(Error::Kind::invalid, "suspect", said);
  if (status == 404 && reads) fail(Error::Kind::not_found, "cartona_path", said);
  if (status < 400) fail(Error::Kind::protocol, "cartona_answer", said);
  fail(Error::Kind::invalid, "cartona_refused", said);
  return response;
}

http::Response Cartona::get(const std::string& path, const std::string& query, std::stop_token stop) {
  http::Request request;
  request.target = settings_.url + "/" + path + (query.empty() ? "" : "?" + query);
  return call(std::move(request), std::move(stop));
}

void Cartona::post(const std::string& path, std::string body, std::stop_token stop) {
  http::Request request;
  request.method = "POST";
  request.target = settings_.url + "/" + path;
  request.body = std::move(body);
  // A success may have any body or none.
  call(std::move(request), std::move(stop));
}

std::unique_ptr<Cartona::OrderPage> Cartona::orders(const OrdersAsked& asked, std::stop_token stop) {
  std::string query = fmt::format("page={}&per_page={}", asked.page, asked.per_page);
  if (asked.from) {
    // The zone of these is not known: the range is wider than any zone is off, and is only there to spare the remote.
    const auto text = [](Time at) {
      std::string out = format_odoo(at);
      std::replace(out.begin(), out.end(), ' ', 'T');
      return encoded(out);
    };
    query += fmt::format("&from={}&to={}", text(*asked.from), text(clock_.now() + std::chrono::hours(24)));
  }
  auto page = std::make_unique<OrderPage>();
  try {
    auto response = get(settings_.orders_path, query, std::move(stop));
    page->text = std::move(response.body);
    if (response.status == 204) page->text.clear();
    if (page->text.empty() && response.status != 204) {
      Error error(Error::Kind::protocol, "The marketplace answered nothing where a list of orders is expected.");
      error.code = "empty";
      throw error;
    }
  } catch (const Error& error) {
    // Some lists end with a page that is not there.
    if (error.kind != Error::Kind::not_found || asked.page == 1) throw;
  }
  // How many a page may hold is the remote's to say: only one without any is the end.
  page->last = page->text.empty() || cut_orders(*page, settings_.supplier_code) == 0;
  return page;
}

MarketOrder Cartona::parse(std::string_view body) const {
  return parse_order(body, settings_.states);
}

void Cartona::acknowledge(std::span<const std::string> ids, std::stop_token stop) {
  std::vector<StatusChange> changes;
  for (const auto& id : ids) changes.push_back({.id = id, .status = "synced", .otp = {}, .cancellation_reason = ""});
  set_status(changes, std::move(stop));
}

void Cartona::acknowledge_one(const std::string& id, std::stop_token stop) {
  set_status_one({.id = id, .status = "synced", .otp = {}, .cancellation_reason = ""}, std::move(stop));
}

std::string Cartona::status_word(MarketState state) const {
  switch (state) {
    case MarketState::pending:
      return "pending";
    case MarketState::approved:
      return "approved";
    case MarketState::assigned:
      return "assigned_to_salesman";
    case MarketState::delivered:
      return "delivered";
    case MarketState::cancelled:
      return "cancelled_by_supplier";
    default:
      return {};
  }
}

std::vector<std::string> Cartona::cancellation_reasons() const {
  return known_reasons();
}

void Cartona::set_status(std::span<const StatusChange> changes, std::stop_token stop) {
  std::string body = "[";
  for (const auto& change : changes) body += (body.size() > 1 ? "," : "") + status_row(change);
  post(settings_.status_path, body + "]", std::move(stop));
}

void Cartona::set_status_one(const StatusChange& change, std::stop_token stop) {
  post(status_path(change.id), status_row(change), std::move(stop));
}

std::string Cartona::status_path(const std::string& id) const {
  return id.empty() ? settings_.status_path : settings_.status_path + "/" + encoded(id);
}

std::string Cartona::status_address(const std::string& id) const {
  return settings_.url + "/" + status_path(id);
}

std::string Cartona::of_account(int page, int per_page) const {
  return fmt::format("page={}&per_page={}{}{}", page, per_page,
                     settings_.supplier_code.empty() ? "" : "&supplier_code=", encoded(settings_.supplier_code));
}

Cartona::ProductPage Cartona::products(int page, int per_page, std::stop_token stop) {
  ProductPage out;
  try {
    const auto response = get(settings_.products_path, of_account(page, per_page), std::move(stop));
    if (response.status != 204) {
      auto listed = parse_products(response.body, settings_.supplier_code);
      out.products = std::move(listed.products);
      out.last = listed.listed == 0;
    } else {
      out.last = true;
    }
  } catch (const Error& error) {
    if (error.kind != Error::Kind::not_found || page == 1) throw;
    out.last = true;
  }
  return out;
}

void Cartona::update_products(std::span<const MarketProduct> changes, std::stop_token stop) {
  post(settings_.update_path, product_rows(changes, settings_.supplier_code), std::move(stop));
}

std::string Cartona::test(std::stop_token stop) {
  const auto response = get(settings_.products_path, of_account(1, 1), std::move(stop));
  const auto products = response.status == 204 ? std::vector<MarketProduct>()
                                               : parse_products(response.body, settings_.supplier_code).products;
  return products.empty() ? "the token is taken, and there are no products"
                          : fmt::format("the token is taken, and there are products, such as `{}`", products[0].name);
}

namespace {

pipeline::Probe probe(const pipeline::Connection& connection, const Secret& secret, Clock& clock,
                      std::stop_token stop) {
  pipeline::Probe probe;
  const auto step = [&](const std::string& name, const std::function<std::string()>& work) {
    if (!probe.ok()) return;
    try {
      probe.steps.push_back({name, work(), true});
    } catch (const Error& error) {
      const bool refused = error.kind == Error::Kind::auth || error.code == "suspect";
      probe.steps.push_back({name,
                             refused && error.kind != Error::Kind::auth
                                 ? sentence(error.message) + " That is how a wrong token looks, too."
                                 : error.message,
                             false});
    }
  };
  step("token", [&]() -> std::string {
    if (secret.empty()) throw wrong("There is no token: give it with --secret-file.");
    return "there is one";
  });
  std::unique_ptr<Cartona> cartona;
  step("reach", [&] {
    cartona = std::make_unique<Cartona>(CartonaSettings::parse(connection.settings, secret), clock);
    return cartona->test(stop);
  });
  step("orders", [&] {
    Cartona::OrdersAsked asked;
    asked.per_page = 1;
    const auto page = cartona->orders(asked, stop);
    return page->orders.empty() ? "none waits" : "there are some that wait to be pulled";
  });
  return probe;
}

}  // namespace

pipeline::Connector connector() {
  pipeline::Connector connector;
  connector.kind = "cartona";
  connector.summary = "A supplier's account at Cartona: orders in, states, stock and prices out.";
  connector.settings = {
      {"url", "text", true, nullptr, "address of the API, such as https://marketplace.example.com/api/v1"},
      {"paths", "object", false, json::object(),
       "paths that are not the usual ones: orders, status, products, update_products"},
      {"supplier_code", "text", false, "",
       "which of the token's accounts it is, where one token covers several: a connection for each, with the code that "
       "its orders have; empty: all that the token covers"},
      {"timeout_seconds", "number", false, 30, "the longest one call may take"},
      {"ca_file", "text", false, "", "certificates to trust besides the system's"},
      {"cancellation_reason", "text", false, kCancellationReason,
       "what the marketplace is told as the reason of a cancellation"},
  };
  for (auto& setting : pipeline::marketplace_settings()) connector.settings.push_back(std::move(setting));
  connector.secret_doc = "the supplier's token";
  connector.make_marketplace = [](const pipeline::Connection& connection, const Secret& secret, Clock& clock) {
    return std::make_shared<Cartona>(CartonaSettings::parse(connection.settings, secret), clock);
  };
  connector.test = probe;
  connector.check = [](const json& settings) {
    CartonaSettings::parse(settings, Secret());
    const auto common = pipeline::MarketplaceSettings::parse(settings);
    const auto& reasons = known_reasons();
    if (std::find(reasons.begin(), reasons.end(), common.cancellation_reason) == reasons.end())
      throw wrong(fmt::format("`{}` is no reason of a cancellation; there are {}.", common.cancellation_reason,
                              fmt::join(reasons, ", ")));
  };
  return connector;
}

}  // namespace dragoman::connectors::cartona
