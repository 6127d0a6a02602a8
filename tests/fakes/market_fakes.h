#pragma once

#include <fmt/format.h>

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/decimal.h"
#include "base/error.h"
#include "pipeline/marketplace.h"
#include "pipeline/order_book.h"
#include "pipeline/relink.h"
#include "pipeline/target.h"

namespace dragoman::tests {

/// A marketplace in memory. It lists what was not acknowledged, and what changed since it was.
///
/// Threads: one thread at a time.
class FakeMarketplace final : public pipeline::Marketplace {
 public:
  struct Line {
    int id = 1;
    std::string product = "700", code = "T-1", quantity = "2", price = "65";
    std::string count{};  ///< pieces in its unit; empty: it does not say
  };
  struct Order {
    std::string status = "pending", retailer = "R-17", phone = "+200000000000", total;
    std::vector<Line> lines{Line{}};
    bool synced = false;
    int acknowledged = 0;
    std::string delivered_by = "delivered_by_supplier";
    std::string otp;     ///< the code that it wants to be called delivered; empty: none
    std::string reason;  ///< of its cancellation

    std::string text(const std::string& id) const {
      nlohmann::json details = nlohmann::json::array();
      Decimal sum;
      for (const auto& line : lines) {
        details.push_back({{"id", line.id},
                           {"product", line.product},
                           {"code", line.code},
                           {"quantity", line.quantity},
                           {"price", line.price},
                           {"count", line.count}});
        if (total.empty()) sum += Decimal::of(line.quantity) * Decimal::of(line.price);
      }
      return nlohmann::json{{"hashed_id", id},
                            {"status", status},
                            {"retailer", retailer},
                            {"phone", phone},
                            {"delivered_by", delivered_by},
                            {"needs_otp", !otp.empty()},
                            {"total", total.empty() ? sum.str() : total},
                            {"lines", details}}
          .dump();
    }
  };

  /// Changes an order (or places it), as somebody at the marketplace does.
  Order& change(const std::string& id, const std::function<void(Order&)>& how = {}) {
    Order& order = all[id];
    if (how) how(order);
    order.synced = false;
    return order;
  }

  std::string kind() const override { return "fake"; }

  std::unique_ptr<OrderPage> orders(const OrdersAsked& asked, std::stop_token) override {
    ++pulls;
    if (before_pull) before_pull(asked);
    auto page = std::make_unique<OrderPage>();
    std::vector<std::pair<std::string, std::string>> listed;
    for (const auto& [id, order] : all)
      if (!order.synced) listed.emplace_back(id, order.text(id));
    const auto first = static_cast<std::size_t>((asked.page - 1) * asked.per_page);
    const auto end = std::min(listed.size(), first + static_cast<std::size_t>(asked.per_page));
    std::vector<std::size_t> lengths;
    for (std::size_t i = first; i < end; ++i) {
      lengths.push_back(listed[i].second.size());
      page->text += listed[i].second;
    }
    std::size_t at = 0;
    for (std::size_t i = first; i < end; ++i) {
      page->orders.push_back({listed[i].first, std::string_view(page->text).substr(at, lengths[i - first])});
      at += lengths[i - first];
    }
    if (asked.page == 1) page->unusable = unusable;
    page->last = page->orders.size() < static_cast<std::size_t>(asked.per_page);
    if (after_page) after_page(asked);
    return page;
  }

  pipeline::MarketOrder parse(std::string_view body) const override {
    const auto in = nlohmann::json::parse(body);
    pipeline::MarketOrder order;
    order.id = in["hashed_id"];
    order.number = "N-" + order.id;
    order.status = in["status"];
    order.state = pipeline::market_state(order.status).value_or(pipeline::MarketState::unknown);
    order.delivered_by = in["delivered_by"];
    order.delivers_itself = order.delivered_by != "delivered_by_supplier";
    order.needs_otp = in["needs_otp"];
    order.payment = "standard";
    order.customer = {.code = in["retailer"],
                      .name = "Shop " + in["retailer"].get<std::string>(),
                      .phones = {in["phone"]},
                      .email = "",
                      .address = "1 Demo St",
                      .notes = ""};
    order.total = Decimal::of(in["total"].get<std::string>());
    for (const auto& one : in["lines"]) {
      pipeline::MarketLine line;
      line.id = std::to_string(one["id"].get<int>());
      line.product_id = one["product"];
      line.internal_id = one["code"];
      line.name = "Thing " + line.product_id;
      line.unit = "box";
      line.unit_count = Decimal::parse(one["count"].get<std::string>());
      const auto quantity = Decimal::parse(one["quantity"].get<std::string>());
      if (!quantity) order.problems.push_back(fmt::format("The quantity of line {} is no number.", line.id));
      line.quantity = quantity.value_or(Decimal());
      line.price = Decimal::of(one["price"].get<std::string>());
      order.lines.push_back(line);
    }
    return order;
  }

  void acknowledge(std::span<const std::string> ids, std::stop_token) override {
    ++bulk_calls;
    if (before_ack) before_ack();
    for (const auto& id : ids)
      // As the real one: what became of a single order is not told.
      if (!deaf.contains(id)) take(id);
    if (after_ack) after_ack();
  }
  void acknowledge_one(const std::string& id, std::stop_token) override {
    ++single_calls;
    if (before_ack) before_ack();
    if (refused_acks.contains(id)) throw Error(Error::Kind::invalid, "There is no such order.");
    take(id);
    if (after_ack) after_ack();
  }
  std::string status_word(pipeline::MarketState state) const override {
    return state == pipeline::MarketState::returned || state == pipeline::MarketState::editing
               ? std::string()
               : std::string(pipeline::name(state));
  }
  std::vector<std::string> cancellation_reasons() const override { return {"out_of_stock", "delayed"}; }
  void set_status(std::span<const StatusChange> changes, std::stop_token) override {
    ++status_bulks;
    if (before_status) before_status(changes);
    for (const auto& change : changes)
      // As the real one: a row that is refused is dropped without a word.
      if (!deaf.contains(change.id) && refusal(change).empty()) set(change);
    if (after_status) after_status();
  }
  std::string status_address(const std::string& id) const override { return "fake/status/" + id; }
  void set_status_one(const StatusChange& change, std::stop_token) override {
    ++status_singles;
    if (before_status) before_status(std::span(&change, 1));
    if (const auto why = refusal(change); !why.empty()) throw Error(Error::Kind::invalid, why);
    set(change);
    if (after_status) after_status();
  }
  ProductPage products(int page, int per_page, std::stop_token) override {
    if (before_products) before_products(page);
    ProductPage out;
    int at = 0;
    for (const auto& [id, offer] : offers)
      if (at++ / per_page == page - 1) {
        pipeline::MarketProduct product;
        product.id = id;
        product.internal_id = offer.code;
        product.base_id = offer.base;
        product.name = offer.name;
        product.unit = "box";
        product.unit_count = Decimal::parse(offer.count);
        product.price = Decimal::parse(offer.price);
        product.stock = Decimal::parse(offer.stock);
        product.published = offer.published;
        product.in_stock = offer.in_stock;
        out.products.push_back(std::move(product));
      }
    out.last = out.products.empty();
    return out;
  }
  void update_products(std::span<const pipeline::MarketProduct> changes, std::stop_token) override {
    ++updates;
    rows_updated += static_cast<int>(changes.size());
    if (before_update) before_update(changes);
    for (const auto& change : changes) {
      if (bad_offers.contains(change.id)) {
        Error error = bad_offers.at(change.id);
        throw error;
      }
      Offer& offer = offers[change.id];
      if (change.price) offer.price = change.price->str();
      if (change.stock) offer.stock = change.stock->str();
      if (change.order_min) offer.min = change.order_min->str();
      if (change.order_max) offer.max = change.order_max->str();
      if (change.in_stock) offer.in_stock = *change.in_stock;
      if (change.published) offer.published = *change.published;
      if (!change.internal_id.empty()) offer.code = change.internal_id;
    }
    if (after_update) after_update();
  }
  std::string test(std::stop_token) override {
    ++tests;
    if (on_test) on_test();
    return "fine";
  }

  struct Offer {
    std::string price, stock, min, max, code, base, name, count;
    bool in_stock = true, published = true;
  };
  std::map<std::string, Offer> offers;
  /// How a batch fails that has one of these, though what comes before it is taken.
  std::map<std::string, Error> bad_offers;
  std::function<void(int)> before_products;
  std::function<void(std::span<const pipeline::MarketProduct>)> before_update;
  std::function<void()> after_update;
  int updates = 0, rows_updated = 0;

  std::map<std::string, Order> all;
  std::set<std::string> deaf, refused_acks;
  std::vector<std::string> unusable;  ///< what its first page lists that is no order, in words
  std::function<void(const OrdersAsked&)> before_pull, after_page;
  std::function<void()> before_ack, after_ack, on_test, after_status;
  std::function<void(std::span<const StatusChange>)> before_status;
  bool skips = true;                ///< whether a state may be left out
  bool own_changes_return = false;  ///< whether what the supplier sets makes an order listed again
  std::vector<std::string> told;    ///< `A approved` of each status that was taken and new, in order
  int status_bulks = 0, status_singles = 0;
  int pulls = 0, bulk_calls = 0, single_calls = 0, tests = 0;

 private:
  void take(const std::string& id) {
    const auto found = all.find(id);
    if (found == all.end()) return;
    found->second.synced = true;
    ++found->second.acknowledged;
  }
  std::string refusal(const StatusChange& change) const {
    using pipeline::market_state;
    using pipeline::rank;
    const auto found = all.find(change.id);
    if (found == all.end()) return "There is no such order.";
    const auto& order = found->second;
    if (order.status == change.status) return "";
    if (order.status == "editing") return "The shop is editing the order.";
    if (order.status == "delivered" || order.status == "cancelled") return "The order is " + order.status + ".";
    const int from = rank(*market_state(order.status)), to = rank(*market_state(change.status));
    if (to < from) return "The order is " + order.status + " already.";
    if (!skips && change.status != "cancelled" && to > from + 1)
      return fmt::format("The order is {}: that leaves out a state.", order.status);
    if (change.status == "delivered" && !order.otp.empty() && !change.otp.equals(order.otp))
      return fmt::format("The code {} is wrong.", change.otp.reveal());
    return "";
  }
  void set(const StatusChange& change) {
    Order& order = all.at(change.id);
    if (order.status == change.status) return;
    order.status = change.status;
    if (change.status == "cancelled") order.reason = change.cancellation_reason;
    if (own_changes_return) order.synced = false;
    told.push_back(change.id + " " + change.status);
  }
};

/// What the import procedure does with orders, in memory: keys that are bound once, rules that find products and
/// customers, totals that have to be right, steps that look at the state first; all of an order or nothing of it.
///
/// Threads: one thread at a time.
class FakeOdoo final : public pipeline::Target, public pipeline::Relinker {
 public:
  struct Product {
    std::string default_code, barcode, cartona_id;
    bool active = true;
  };
  struct Line {
    std::int64_t product = 0;
    Decimal quantity, price;
  };
  struct Order {
    std::int64_t id = 0, version = 0, partner = 0;
    std::string state = "draft", status;
    std::map<std::string, Line> lines;
    bool delivered = false, shipped = false, invoiced = false;
    int confirmed = 0;
    std::string sync_status, sync_message;
    Decimal total() const {
      Decimal sum;
      for (const auto& [key, line] : lines) sum += (line.quantity * line.price).rounded(2);
      return sum;
    }
  };

  std::string system() const override { return "odoo"; }
  std::vector<pipeline::Delivered> deliver(std::span<const pipeline::Outgoing> records, std::stop_token) override {
    ++calls;
    if (before_call) before_call();
    std::vector<pipeline::Delivered> out;
    for (const auto& record : records) out.push_back(apply(record));
    if (after_call) after_call();
    return out;
  }
  std::vector<std::optional<pipeline::Found>> find(std::span<const Key> keys, std::stop_token) override {
    ++probes;
    std::vector<std::optional<pipeline::Found>> out;
    for (const auto& key : keys) {
      const auto found = orders.find(key.key);
      if (const auto gone = deleted.find(key.key); found == orders.end() && gone != deleted.end())
        out.push_back(pipeline::Found{.id = std::to_string(gone->second.id), .version = gone->second.version});
      else if (found == orders.end())
        out.emplace_back();
      else
        out.push_back(pipeline::Found{.id = std::to_string(found->second.id), .version = found->second.version});
    }
    return out;
  }
  std::string child_model(const std::string&, const std::string& field, std::stop_token) override {
    return field == "order_line" ? "sale.order.line" : "";
  }
  std::string entity(const std::string& model) const override {
    return model == "sale.order"        ? "order"
           : model == "sale.order.line" ? "order_line"
           : model == "res.partner"     ? "customer"
           : model == "product.product" ? "product"
                                        : model;
  }

  /// As the procedure `relink`; a partner with `"active": false` is archived.
  pipeline::Relinked relink(const pipeline::Relink& what, std::stop_token) override {
    ++relinks;
    if (before_relink) before_relink();
    const auto bound = bound_.find(what.key);
    const std::int64_t before = bound == bound_.end() ? 0 : bound->second;
    const std::int64_t from = what.from.empty() ? 0 : std::stoll(what.from);
    const std::int64_t to = what.to.empty() ? 0 : std::stoll(what.to);
    pipeline::Relinked answer;
    const auto refuse = [&](const std::string& code, const std::string& message) {
      answer.id = before == 0 ? "" : std::to_string(before);
      answer.error = Error(Error::Kind::invalid, message);
      answer.error->code = "import_" + code;
      return answer;
    };
    if (before != 0 && before != to && from != 0 && before != from) return refuse("changed", "It is another by now.");
    if (to != 0 && before != to) {
      const auto partner = partners.find(to);
      if (partner == partners.end()) return refuse("norecord", fmt::format("There is no res.partner {} in Odoo.", to));
      if (!partner->second.value("active", true)) return refuse("archived", "It is archived in Odoo.");
      for (const auto& [key, id] : bound_)
        if (id == to && key != what.key && !what.shared) return refuse("taken", "It is what `" + key + "` stands for.");
    }
    for (const std::int64_t one : {before, from})
      if (one != 0 && one != to) refused_[what.key].insert(one);
    refused_[what.key].erase(to);
    bound_.erase(what.key);
    if (to != 0) {
      bound_[what.key] = to;
      answer.id = std::to_string(to);
      answer.name = partners.at(to).value("name", "");
    }
    answer.changed = before != to;
    if (after_relink) after_relink();
    return answer;
  }

  std::map<std::int64_t, Product> products;
  std::map<std::int64_t, nlohmann::json> partners;
  std::function<void()> before_relink, after_relink;
  int relinks = 0;
  std::map<std::string, Order> orders;   ///< by key
  std::map<std::string, Order> deleted;  ///< likewise, what somebody has deleted
  std::function<void()> before_call, after_call;
  int calls = 0, probes = 0, created = 0;
  std::vector<nlohmann::json> contents;  ///< of what was applied, in order

 private:
  struct Refused {
    std::string name, message;
  };

  bool fits(std::int64_t id, const nlohmann::json& values, const nlohmann::json& domain) const {
    for (const auto& term : domain) {
      const std::string field = term[0], op = term[1];
      const auto mine = field == "id" ? nlohmann::json(id) : values.value(field, nlohmann::json(false));
      if (op == "in" ? std::find(term[2].begin(), term[2].end(), mine) == term[2].end() : mine != term[2]) return false;
    }
    return true;
  }

  std::int64_t reference(const nlohmann::json& ref, pipeline::Delivered& answer,
                         std::map<std::string, std::int64_t>& bind) {
    const std::string key = ref["key"], model = ref["model"];
    const auto link = [&](std::int64_t id, const std::string& how) {
      answer.links[key] = {model, std::to_string(id), how};
      bind[key] = id;
      return id;
    };
    if (const auto bound = bound_.find(key); bound != bound_.end()) return link(bound->second, "key");
    if (const auto bound = bind.find(key); bound != bind.end()) return bound->second;
    std::map<std::int64_t, nlohmann::json> all;
    if (model == "product.product") {
      for (const auto& [id, product] : products)
        if (product.active)
          all[id] = {
              {"default_code", product.default_code}, {"barcode", product.barcode}, {"cartona_id", product.cartona_id}};
    } else {
      all = partners;
    }
    for (const auto& rule : ref["match"]) {
      std::vector<std::int64_t> hits;
      for (const auto& [id, values] : all) {
        const bool others = std::any_of(bound_.begin(), bound_.end(),
                                        [&, id = id](const auto& one) { return one.second == id && one.first != key; });
        if (ref.value("own", false) && others) continue;
        if (const auto not_it = refused_.find(key); not_it != refused_.end() && not_it->second.contains(id)) continue;
        if (fits(id, values, rule[1])) hits.push_back(id);
      }
      if (hits.size() > 1)
        throw Refused{"ambiguous", fmt::format("{}: {} and {}", rule[0].get<std::string>(), hits[0], hits[1])};
      if (hits.size() == 1) return link(hits[0], rule[0]);
    }
    if (!ref.contains("values"))
      throw Refused{"notmatched", fmt::format("No {} is found for `{}`, tried: nothing.", model, key)};
    new_partner_ = ref["values"];
    return link(static_cast<std::int64_t>(partners.size()) + 1000, "created");
  }

  pipeline::Delivered apply(const pipeline::Outgoing& record) {
    using What = pipeline::Delivered::What;
    const auto in = nlohmann::json::parse(record.content);
    pipeline::Delivered answer;
    const auto before = orders.find(record.key);
    Order order = before == orders.end() ? Order{} : before->second;
    if (before != orders.end() && order.version >= record.version) {
      answer.what = order.version == record.version ? What::unchanged : What::skipped;
      answer.id = std::to_string(order.id);
      return answer;
    }
    std::map<std::string, std::int64_t> bind;
    new_partner_.reset();
    try {
      if (const auto gone = deleted.find(record.key);
          before == orders.end() && gone != deleted.end() && !in.value("recreate", false))
        throw Refused{"deleted", fmt::format("sale.order `{}` was imported as {} and has been deleted in Odoo since.",
                                             record.key, gone->second.id)};
      if (in.contains("children")) {
        if (order.state == "cancel" || order.delivered) throw Refused{"closed", "The order is " + order.state};
        if (in["values"].contains("partner_id")) order.partner = reference(in["values"]["partner_id"], answer, bind);
        order.lines.clear();
        for (const auto& line : in["children"]["order_line"]) {
          const auto& values = line["values"];
          order.lines[line["key"]] = {reference(values["product_id"], answer, bind),
                                      Decimal::of(values["product_uom_qty"].dump()),
                                      Decimal::of(values["price_unit"].dump())};
        }
      } else if (before == orders.end()) {
        throw Refused{"item", "There is nothing to make the order of."};
      }
      order.status = in["values"].value("marketplace_status", order.status);
      order.sync_status = in["values"].value("marketplace_sync_status", order.sync_status);
      if (const auto said = in["values"].find("marketplace_error_message"); said != in["values"].end())
        order.sync_message = said->is_string() ? said->get<std::string>() : "";
      for (const auto& step : in.value("steps", nlohmann::json::array())) {
        if (step == "confirm" && order.state == "draft") {
          order.state = "sale";
          ++order.confirmed;
        }
        if (step == "deliver") order.delivered = true;
        if (step == "cancel") {
          if (order.delivered) {
            Error flag(Error::Kind::conflict, "It has been delivered.");
            flag.code = "import_delivered";
            answer.flag = flag;
          } else {
            order.state = "cancel";
            if (order.invoiced) {
              Error flag(Error::Kind::conflict, "Its invoice stays.");
              flag.code = "import_invoiced";
              answer.flag = flag;
            }
          }
        }
      }
      if (in.contains("expect") && Decimal::of(in["expect"]["amount_total"].get<std::string>()) != order.total())
        throw Refused{"total", "The order comes to " + order.total().str()};
    } catch (const Refused& refused) {
      Error error(Error::Kind::invalid, refused.message);
      error.code = "import_" + refused.name;
      const std::string id = before == orders.end() ? std::string() : std::to_string(before->second.id);
      return {.what = What::refused, .id = id, .children = {}, .links = {}, .flag = {}, .error = error};
    }
    order.version = record.version;
    if (new_partner_) partners[static_cast<std::int64_t>(partners.size()) + 1000] = *new_partner_;
    if (before == orders.end()) {
      order.id = ++last_id_;
      ++created;
    }
    bound_.insert(bind.begin(), bind.end());
    contents.push_back(in);
    for (const auto& [key, line] : order.lines) answer.children[key] = std::to_string(order.id * 100 + std::stoi(key));
    answer.what = before == orders.end() ? What::created : What::updated;
    answer.id = std::to_string(order.id);
    orders[record.key] = order;
    deleted.erase(record.key);
    return answer;
  }

  std::map<std::string, std::int64_t> bound_;
  std::map<std::string, std::set<std::int64_t>> refused_;
  std::optional<nlohmann::json> new_partner_;
  std::int64_t last_id_ = 0;
};

/// What the procedure `market` tells of the orders of a FakeOdoo, and of products whose stock and price are set here.
///
/// Threads: one thread at a time.
class FakeBook final : public pipeline::OrderBook {
 public:
  explicit FakeBook(FakeOdoo& odoo) : odoo_(odoo) {}

  struct Product {
    std::string free = "0", price = "0", currency = "EGP", default_code, barcode, name;
    bool active = true, deleted = false, counted = true;
  };

  /// Somebody changes an order in Odoo, which was imported under this key.
  void change(const std::string& key, const std::function<void(FakeOdoo::Order&)>& how) {
    how(odoo_.orders.at(key));
    ++writes_[key];
    changed_.insert(key);
  }
  /// Somebody deletes it.
  void remove(const std::string& key) {
    odoo_.deleted[key] = odoo_.orders.at(key);
    odoo_.orders.erase(key);
  }
  void set(std::int64_t product, const Product& how) {
    goods[product] = how;
    changed_products_.insert(product);
  }

  Watched watch(const Watch& what, std::stop_token) override {
    ++watches;
    if (before_call) before_call();
    Watched out;
    out.watermark = std::to_string(watches);
    if (what.since.empty()) return out;
    std::set<std::string> told = changed_;
    for (const auto& [key, order] : odoo_.orders)
      if (const auto seen = versions_.find(key); seen == versions_.end() || seen->second != order.version) {
        told.insert(key);
        versions_[key] = order.version;
      }
    for (const auto& key : told)
      for (const auto& prefix : what.prefixes)
        if (key.starts_with(prefix)) out.orders.push_back(facts(key));
    if (what.deleted)
      for (const auto& [key, order] : odoo_.deleted) out.orders.push_back(facts(key));
    out.products.assign(changed_products_.begin(), changed_products_.end());
    out.all_products = all_products;
    changed_.clear();
    changed_products_.clear();
    all_products = false;
    return out;
  }
  std::vector<pipeline::OrderFacts> orders(std::span<const std::string> keys, std::stop_token) override {
    if (before_call) before_call();
    std::vector<pipeline::OrderFacts> out;
    for (const auto& key : keys) out.push_back(facts(key));
    return out;
  }
  std::vector<pipeline::ProductStock> stock(const Stock& what, std::stop_token) override {
    ++stock_calls;
    asked = what;
    if (before_call) before_call();
    std::vector<pipeline::ProductStock> out;
    for (const auto id : what.products) {
      const auto found = goods.find(id);
      if (found == goods.end() || found->second.deleted)
        out.push_back({.id = id, .there = false});
      else
        out.push_back({.id = id,
                       .there = true,
                       .active = found->second.active,
                       .free = found->second.free,
                       .price = found->second.price,
                       .currency = found->second.currency,
                       .digits = 2,
                       .counted = found->second.counted});
    }
    return out;
  }
  pipeline::MarketChoices choices(std::stop_token) override { return chosen; }
  std::vector<pipeline::ProductFacts> products(std::int64_t after, int limit, const std::string&,
                                               std::stop_token) override {
    std::vector<pipeline::ProductFacts> out;
    ++product_calls;
    if (before_products) before_products();
    for (const auto& [id, product] : goods)
      if (id > after && !product.deleted && static_cast<int>(out.size()) < limit)
        out.push_back({.id = id,
                       .name = product.name,
                       .default_code = product.default_code,
                       .barcode = product.barcode,
                       .unit = "Units",
                       .active = product.active,
                       .storable = true,
                       .market_id = ""});
    return out;
  }

  std::map<std::int64_t, Product> goods;
  pipeline::MarketChoices chosen;
  Stock asked;
  bool all_products = false;
  std::function<void()> before_call, before_products;
  int watches = 0, stock_calls = 0, product_calls = 0;

 private:
  pipeline::OrderFacts facts(const std::string& key) const {
    pipeline::OrderFacts out;
    out.key = key;
    if (const auto gone = odoo_.deleted.find(key); gone != odoo_.deleted.end()) {
      out.there = pipeline::OrderFacts::There::deleted;
      out.id = gone->second.id;
      return out;
    }
    const auto found = odoo_.orders.find(key);
    if (found == odoo_.orders.end()) {
      out.there = pipeline::OrderFacts::There::missing;
      return out;
    }
    const auto& order = found->second;
    out.id = order.id;
    out.name = "S" + std::to_string(10'000 + order.id);
    out.state = order.state;
    out.total = order.total().str();
    out.currency = "EGP";
    out.delivered = order.delivered;
    out.shipped = order.delivered || order.shipped;
    const auto writes = writes_.find(key);
    out.write_date =
        fmt::format("2026-01-01 00:00:{:02}", order.version + (writes == writes_.end() ? 0 : writes->second));
    for (const auto& [line, one] : order.lines)
      out.lines.push_back({.id = order.id * 100,
                           .product_id = one.product,
                           .key = line,
                           .ordered = one.quantity.str(),
                           .delivered = order.delivered ? one.quantity.str() : "0",
                           .storable = true});
    return out;
  }

  FakeOdoo& odoo_;
  std::set<std::string> changed_;
  std::set<std::int64_t> changed_products_;
  std::map<std::string, std::int64_t> versions_, writes_;
};

}  // namespace dragoman::tests
