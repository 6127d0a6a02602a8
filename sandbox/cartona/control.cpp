// The control interface: what a test, a demo or a judge does to the stand-in and reads from it.

#include <algorithm>
#include <limits>

#include "sandbox/cartona/service.h"
#include "sandbox/cartona/wire.h"

namespace sandbox::cartona {

namespace {

/// A number that may have come in a query, as text.
std::uint64_t number_at(const Json& body, const char* key, std::uint64_t otherwise) {
  const auto found = body.find(key);
  if (found == body.end()) return otherwise;
  if (found->is_number_unsigned()) return found->get<std::uint64_t>();
  if (found->is_string()) {
    const auto& text = found->get_ref<const std::string&>();
    if (!text.empty() && text.size() < 19 && text.find_first_not_of("0123456789") == std::string::npos)
      return std::stoull(text);
  }
  throw ControlError(std::string(key) + " must be a whole number");
}

std::string text_at(const Json& body, const char* key, const std::string& otherwise = "") {
  const auto found = body.find(key);
  if (found == body.end() || found->is_null()) return otherwise;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return std::to_string(found->get<std::int64_t>());
  throw ControlError(std::string(key) + " must be text");
}

std::vector<std::string> texts_at(const Json& body, const char* many, const char* one) {
  std::vector<std::string> result;
  if (body.contains(many)) {
    if (!body[many].is_array()) throw ControlError(std::string(many) + " must be a list");
    for (const auto& each : body[many]) {
      if (!each.is_string()) throw ControlError(std::string(many) + " must be a list of texts");
      result.push_back(each.get<std::string>());
    }
  }
  if (const std::string single = text_at(body, one); !single.empty()) result.push_back(single);
  return result;
}

constexpr std::size_t kEverything = std::numeric_limits<std::size_t>::max();

constexpr std::pair<const char*, Dead> kDead[] = {
    {"no", Dead::no}, {"closed", Dead::closed}, {"reset", Dead::reset}, {"hang", Dead::hang}, {"error", Dead::error}};

Json supplier_state(const Supplier& supplier) {
  Json codes = Json::array();
  for (const auto& [code, account] : supplier.accounts) codes.push_back(code);
  std::size_t acked = 0, pulled = 0;
  Json statuses = Json::object();
  for (const Order* order : supplier.orders) {
    acked += order->acked ? 1 : 0;
    pulled += order->pulls > 0 ? 1 : 0;
    statuses[order->status] = statuses.value(order->status, 0) + 1;
  }
  const char* dead = "no";
  for (const auto& [word, state] : kDead)
    if (state == supplier.dead) dead = word;
  return {{"name", supplier.name},
          {"tokens", supplier.tokens},
          {"supplier_codes", codes},
          {"dead", dead},
          {"orders", supplier.orders.size()},
          {"pulled", pulled},
          {"acked", acked},
          {"statuses", statuses}};
}

}  // namespace

Json Service::control(const std::string& method, const std::string& path, const Json& body) {
  const HttpCounters http = counters_();
  const std::lock_guard lock(mutex_);
  const bool get = method == "GET", post = method == "POST";
  try {
    if (path == "/state" && get) {
      Json result = state();
      result["connections"] = http.connections;
      result["requests"] = http.requests;
      result["open_now"] = http.open_now;
      result["open_peak"] = http.open_peak;
      return result;
    }
    if (path == "/switches") return control_switches(method, body);
    if (path == "/accounts") return control_accounts(method, body);
    if (path == "/products") return control_products(method, body);
    if (path == "/orders") return control_orders(method, body);
    if (path == "/act" && post) return control_act(body);
    if (path == "/requests") return control_requests(method, body);
    if (path == "/ledger" && get) return control_ledger(body);
    if (path == "/writes" && get) return control_writes(body);
    if (path == "/faults") return control_faults(method, body);
    if (path == "/clock" && post) return control_clock(body);
    if (path == "/scenario" || path == "/scenario/step") {
      return control_scenario(path == "/scenario" ? method : "STEP", body);
    }
    if (path == "/reset" && post) return control_reset(body);
  } catch (const nlohmann::json::exception& error) {
    throw ControlError(std::string("a value of the body is of the wrong type: ") + error.what());
  }
  throw ControlError("there is no " + method + " /sandbox" + path + ": see docs/reference/cartona-stand-in.md");
}

Json Service::state() {
  Json suppliers = Json::array();
  for (const auto& supplier : world_.suppliers()) suppliers.push_back(supplier_state(*supplier));
  Json result = {{"now", iso_utc(world_.now())},
                 {"frozen", world_.frozen().has_value()},
                 {"prefix", start_.prefix},
                 {"accounts", suppliers},
                 {"orders", world_.orders().size()},
                 {"faults", faults_.list()},
                 {"scenario", day_ ? day_->state() : Json(nullptr)}};
  return result;
}

Json Service::control_switches(const std::string& method, const Json& body) {
  if (method == "POST") {
    Switches changed = world_.switches;  // all or none
    for (const auto& [name, value] : body.items()) {
      changed.set(name, value.is_string() ? value.get<std::string>() : value.dump());
    }
    world_.switches = changed;
  } else if (method == "DELETE") {
    Switches fresh;
    for (const auto& [name, value] : start_.switches) fresh.set(name, value);
    world_.switches = fresh;
  }
  return {{"switches", world_.switches.describe()}};
}

Json Service::control_accounts(const std::string& method, const Json& body) {
  if (method == "POST") {
    auto codes = texts_at(body, "supplier_codes", "supplier_code");
    if (codes.empty()) codes = {"1"};
    Supplier& supplier = world_.add_supplier(text_at(body, "name"), texts_at(body, "tokens", "token"), codes);
    const Json products = body.value("products", Json("demo"));
    for (const auto& [code, account] : supplier.accounts) {
      if (products == "demo") {
        for (Json row : demo_products()) {
          row.erase("supplier_product_id");
          world_.put_product(*account, row);
        }
      } else if (products.is_array()) {
        for (const auto& row : products) world_.put_product(*account, row);
      } else if (products != "none") {
        throw ControlError("products must be demo, none or a list");
      }
    }
    return supplier_state(supplier);
  }
  if (method == "PATCH") {
    Supplier* supplier = world_.supplier(text_at(body, "name"));
    if (supplier == nullptr) throw ControlError("there is no account '" + text_at(body, "name") + "'");
    if (const std::string token = text_at(body, "add_token"); !token.empty()) {
      if (world_.supplier_of_token(token) != nullptr) throw ControlError("the token is in use");
      supplier->tokens.insert(token);
    }
    if (const std::string token = text_at(body, "revoke_token"); !token.empty()) supplier->tokens.erase(token);
    if (body.value("revoke", false)) supplier->tokens.clear();
    if (body.contains("dead")) {
      const std::string word = text_at(body, "dead");
      const auto* const found =
          std::find_if(std::begin(kDead), std::end(kDead), [&](const auto& each) { return word == each.first; });
      if (found == std::end(kDead)) throw ControlError("dead must be no, closed, reset, hang or error");
      supplier->dead = found->second;
    }
    return supplier_state(*supplier);
  }
  Json result = Json::array();
  for (const auto& supplier : world_.suppliers()) result.push_back(supplier_state(*supplier));
  return {{"accounts", result}};
}

Json Service::control_products(const std::string& method, const Json& body) {
  const std::string name = text_at(body, "account"), code = text_at(body, "supplier_code");
  if (method == "POST") {
    Supplier* supplier =
        name.empty() && !world_.suppliers().empty() ? world_.suppliers().front().get() : world_.supplier(name);
    if (supplier == nullptr) throw ControlError("there is no account '" + name + "'");
    Account* account = code.empty() ? supplier->accounts.begin()->second.get() : supplier->account(code);
    if (account == nullptr) throw ControlError("the account has no supplier_code '" + code + "'");
    if (!body.contains("products") || !body["products"].is_array()) throw ControlError("products must be a list");
    if (body.value("replace", false)) {
      world_.forget_writes();  // they name the products that go
      account->by_id.clear();
      account->by_code.clear();
      account->products.clear();
    }
    Json ids = Json::array();
    for (const auto& row : body["products"]) ids.push_back(world_.put_product(*account, row).supplier_product_id);
    return {{"supplier_product_ids", ids}};
  }
  Json result = Json::array();
  const std::string id = text_at(body, "supplier_product_id"), internal = text_at(body, "internal_product_id");
  for (const auto& supplier : world_.suppliers()) {
    if (!name.empty() && supplier->name != name) continue;
    for (const auto& [account_code, account] : supplier->accounts) {
      if (!code.empty() && account_code != code) continue;
      for (const auto& product : account->products) {
        if (!id.empty() && product->supplier_product_id != id) continue;
        if (!internal.empty() && product->internal_product_id != internal) continue;
        result.push_back(product_state(*product, *account));
      }
    }
  }
  return {{"products", result}};
}

Json Service::control_orders(const std::string& method, const Json& body) {
  const std::string name = text_at(body, "account");
  if (method == "POST") {
    Supplier* supplier =
        name.empty() && !world_.suppliers().empty() ? world_.suppliers().front().get() : world_.supplier(name);
    if (supplier == nullptr) throw ControlError("there is no account '" + name + "'");
    const Actor actor{"shop", "control"};
    Json ids = Json::array();
    if (body.contains("orders")) {
      std::vector<Order> made;  // all are read before the first is taken in
      for (const auto& row : body["orders"]) made.push_back(order_from(*supplier, row));
      for (auto& order : made) ids.push_back(world_.add_order(std::move(order), actor).hashed_id);
      return {{"hashed_ids", ids}};
    }
    const std::uint64_t count = number_at(body, "count", 1), seed = number_at(body, "seed", world_.seed()),
                        from = number_at(body, "from", 0);
    const Mix mix = mix_from(body.value("mix", Json()));
    const std::string code = text_at(body, "supplier_code");
    const Account* account = code.empty() ? supplier->accounts.begin()->second.get() : supplier->account(code);
    if (account == nullptr) throw ControlError("the account has no supplier_code '" + code + "'");
    for (std::uint64_t n = from; n < from + count; ++n) {
      Order order = generate_order(*account, seed, n, mix);
      if (dice_for(seed, 0x1a7e, n).chance(mix.late)) order.visible_at = world_.now() + 600 * kSecond;
      ids.push_back(world_.add_order(std::move(order), actor).hashed_id);
    }
    return {{"hashed_ids", ids}};
  }
  const std::string id = text_at(body, "hashed_id"), status = text_at(body, "status"), acked = text_at(body, "acked");
  const std::uint64_t since = number_at(body, "since", 0), limit = number_at(body, "limit", kEverything);
  Json result = Json::array();
  for (const auto& order : world_.orders()) {
    if (result.size() >= limit) break;
    if (order->seq <= since) continue;
    if (!name.empty() && order->supplier->name != name) continue;
    if (!id.empty() && order->hashed_id != id) continue;
    if (!status.empty() && order->status != status) continue;
    if (!acked.empty() && order->acked != (acked == "true")) continue;
    result.push_back(order_state(*order));
  }
  return {{"orders", result}};
}

void Service::act(Order& order, const Json& body) {
  const std::string what = text_at(body, "do");
  const bool force = body.value("force", false);
  const auto actor_of = [&](const char* usual) { return text_at(body, "by", usual); };
  const auto only_from = [&](std::initializer_list<std::string_view> states) {
    if (force || std::find(states.begin(), states.end(), order.status) != states.end()) return;
    throw ControlError("an order that is " + order.status + " takes no '" + what + "' (force does it)");
  };
  const auto step = [&](const char* usual, const std::string& status) {
    const std::string by = actor_of(usual);
    world_.set_status(order, status, {by, "control"});
  };
  if (what == "edit") {
    only_from({"pending"});
    step("shop", "editing");
  } else if (what == "finish_edit") {
    only_from({"editing"});
    const std::string by = actor_of("shop");
    if (body.contains("lines")) world_.change_lines(order, body["lines"], {by, "control"});
    step("shop", "pending");
  } else if (what == "lines") {
    const std::string by = actor_of("admin");
    if (by == "admin") order.edited_by_admin = true;
    Dice dice = dice_for(number_at(body, "seed", world_.seed()), 0x11e5, order.seq);
    world_.change_lines(order, body.contains("lines") ? body["lines"] : generate_changes(order, dice), {by, "control"});
  } else if (what == "cancel") {
    only_from({"pending", "editing", "approved"});
    order.cancellation_reason = text_at(body, "reason", "delayed_order");
    step("shop", actor_of("shop") == "supplier" ? "cancelled_by_supplier" : "cancelled_by_retailer");
  } else if (what == "approve") {
    only_from({"pending"});
    step("supplier", "approved");
  } else if (what == "assign") {
    only_from({"approved"});
    step("driver", "assigned_to_salesman");
  } else if (what == "deliver") {
    only_from({"assigned_to_salesman", "approved"});
    order.delivery_day = date_of(world_.now());
    step("driver", "delivered");
  } else if (what == "return") {
    only_from({"assigned_to_salesman"});
    order.return_reason = text_at(body, "reason", "shop_closed");
    step("driver", "returned");
  } else if (what == "status") {
    if (text_at(body, "status").empty()) throw ControlError("status is missing");
    step("cartona", text_at(body, "status"));
  } else if (what == "change") {
    Order plain = order;
    plain.raw = nullptr;
    Json row = order_state(plain)["order"];
    const Json fields = body.value("fields", Json::object());
    for (const auto& [key, value] : fields.items()) {
      if (key == "order_details" || key == "hashed_id" || key == "status")
        throw ControlError("'" + key + "' is changed by another action");
      row[key] = value;
    }
    Order changed = order_from(*order.supplier, row);
    changed.lines = order.lines;
    changed.seq = order.seq;
    changed.receipt = order.receipt;
    changed.raw = body.contains("raw") ? body["raw"] : order.raw;
    changed.retailer_otp = text_at(fields, "retailer_otp", order.retailer_otp);
    changed.wrong_otps = order.wrong_otps;
    changed.status = order.status;
    changed.created_at = order.created_at;
    changed.changed_at = order.changed_at;
    changed.visible_at = order.visible_at;
    changed.version = order.version;
    changed.pulled_version = order.pulled_version;
    changed.acked = order.acked;
    changed.pulls = order.pulls;
    changed.acks = order.acks;
    changed.first_pulled_at = order.first_pulled_at;
    changed.last_pulled_at = order.last_pulled_at;
    changed.acked_at = order.acked_at;
    order = std::move(changed);
    const std::string by = actor_of("cartona");
    world_.note(order, "fields", "", "", {by, "control"});
    world_.touched(order, false, {by, "control"});
  } else if (what == "unack") {
    order.acked = false;
  } else {
    throw ControlError(
        "'do' must be edit, finish_edit, lines, cancel, approve, assign, deliver, return, status, change "
        "or unack");
  }
}

Json Service::control_act(const Json& body) {
  Json result = Json::array();
  std::vector<Order*> orders;
  for (const auto& id : texts_at(body, "hashed_ids", "hashed_id")) {
    Order* order = world_.find_order(id);
    if (order == nullptr) throw ControlError("there is no order '" + id + "'");
    orders.push_back(order);
  }
  if (orders.empty()) throw ControlError("hashed_id is missing");
  for (Order* order : orders) {
    act(*order, body);
    result.push_back(order_state(*order));
  }
  return {{"orders", result}};
}

Json Service::logged_state(const Logged& entry) {
  return {
      {"seq", entry.seq},       {"at", iso_utc(entry.at)},     {"took_us", entry.took_us}, {"account", entry.account},
      {"method", entry.method}, {"path", entry.path},          {"query", entry.query},     {"body", entry.body},
      {"status", entry.status}, {"answer_bytes", entry.bytes}, {"fault", entry.fault}};
}

Json Service::control_requests(const std::string& method, const Json& body) {
  if (method == "DELETE") {
    log_.clear();
    log_bytes_ = 0;
    return {{"seq", next_request_ - 1}};
  }
  const std::uint64_t since = number_at(body, "since", 0), limit = number_at(body, "limit", kEverything);
  const std::string account = text_at(body, "account"), path = text_at(body, "path"), verb = text_at(body, "method");
  Json result = Json::array();
  for (const auto& entry : log_) {
    if (result.size() >= limit) break;
    if (entry.seq <= since || (!account.empty() && entry.account != account)) continue;
    if (!entry.path.starts_with(path) || (!verb.empty() && entry.method != verb)) continue;
    result.push_back(logged_state(entry));
  }
  return {{"requests", result}, {"seq", next_request_ - 1}};
}

Json Service::control_ledger(const Json& body) {
  const std::uint64_t since = number_at(body, "since", 0), limit = number_at(body, "limit", kEverything);
  const std::string account = text_at(body, "account"), id = text_at(body, "hashed_id"), what = text_at(body, "what"),
                    by = text_at(body, "by");
  Json result = Json::array();
  for (const auto& entry : world_.ledger()) {
    if (result.size() >= limit) break;
    if (entry.seq <= since || (!id.empty() && entry.order->hashed_id != id)) continue;
    if ((!account.empty() && entry.order->supplier->name != account) || (!what.empty() && entry.what != what)) continue;
    if (!by.empty() && entry.by != by) continue;
    result.push_back(ledger_state(entry));
  }
  return {{"ledger", result}};
}

Json Service::control_writes(const Json& body) {
  const std::uint64_t since = number_at(body, "since", 0), limit = number_at(body, "limit", kEverything);
  const std::string account = text_at(body, "account"), id = text_at(body, "supplier_product_id"),
                    internal = text_at(body, "internal_product_id"), field = text_at(body, "field");
  Json result = Json::array();
  for (const auto& entry : world_.writes()) {
    if (result.size() >= limit) break;
    if (entry.seq <= since || (!account.empty() && entry.account->supplier->name != account)) continue;
    if (!id.empty() && entry.product->supplier_product_id != id) continue;
    if (!internal.empty() && entry.product->internal_product_id != internal) continue;
    if (!field.empty() && entry.field != field) continue;
    result.push_back(write_state(entry));
  }
  return {{"writes", result}};
}

Json Service::control_faults(const std::string& method, const Json& body) {
  if (method == "POST") return {{"id", faults_.add(body)}};
  if (method == "DELETE") {
    if (body.contains("id")) {
      faults_.remove(static_cast<std::int64_t>(number_at(body, "id", 0)));
    } else {
      faults_.clear();
    }
  }
  return {{"faults", faults_.list()}};
}

Json Service::control_clock(const Json& body) {
  if (body.contains("freeze")) {
    const auto parsed = parse_moment(text_at(body, "freeze"));
    if (!parsed) throw ControlError("freeze must be a time such as 2026-11-20T08:00:00Z");
    world_.freeze_clock(parsed->wall - parsed->offset.value_or(0));
  } else if (body.contains("advance_seconds")) {
    const auto frozen = world_.frozen();
    if (!frozen) throw ControlError("only a frozen clock is advanced by hand");
    world_.freeze_clock(*frozen + static_cast<Moment>(body["advance_seconds"].get<double>() * 1e6));
  } else {
    world_.set_clock(static_cast<Moment>(body.value("offset_seconds", 0.0) * 1e6));
  }
  return {{"now", iso_utc(world_.now())}, {"frozen", world_.frozen().has_value()}};
}

Json Service::control_scenario(const std::string& method, const Json& body) {
  if (method == "POST") {
    if (day_ && day_->next()) throw ControlError("a scenario is playing: DELETE it first");
    day_ = std::make_unique<Day>(world_, day_options_from(body));
    day_began_ = std::chrono::steady_clock::now();
    day_changed_.notify_all();
  } else if (method == "STEP") {
    if (!day_) throw ControlError("no scenario is playing");
    if (day_->options().speed > 0) throw ControlError("it plays by itself: begin it with speed 0 to step");
    const double seconds = body.value("seconds", 0.0);
    if (!(seconds >= 0 && seconds <= 1e7)) throw ControlError("seconds must be 0 or more");
    day_->play_until(day_->played() + static_cast<Moment>(seconds * 1e6));
  }
  const Json result = day_ ? day_->state() : Json({{"scenario", nullptr}});
  if (method == "DELETE") day_.reset();
  return result;
}

Json Service::control_reset(const Json& body) {
  const auto keep = texts_at(body, "keep", "keep_one");
  const auto kept = [&](const char* what) { return std::find(keep.begin(), keep.end(), what) != keep.end(); };
  for (const auto& each : keep) {
    if (each != "accounts" && each != "switches" && each != "faults")
      throw ControlError("keep may name accounts (with their products), switches and faults");
  }
  day_.reset();
  log_.clear();
  log_bytes_ = 0;
  world_.clear_orders();
  if (!kept("faults")) faults_.clear();
  const Switches before = world_.switches;
  if (!kept("accounts")) {
    world_.clear_suppliers();
    set_up();
  } else if (!kept("switches")) {
    control_switches("DELETE", Json::object());
  }
  if (kept("switches")) world_.switches = before;
  return state();
}

std::string Service::export_all() {
  const std::lock_guard lock(mutex_);
  std::string out = state().dump();
  out.back() = ',';
  const auto list = [&](const char* name, const auto& from, const auto& append) {
    out += std::string("\"") + name + "\":[";
    bool first = true;
    for (const auto& each : from) {
      if (!first) out += ',';
      first = false;
      append(each);
    }
    out += "],";
  };
  const auto dump = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); };
  list("order_list", world_.orders(), [&](const auto& order) { append_order_state(out, *order); });
  list("ledger", world_.ledger(), [&](const LedgerEntry& entry) { out += dump(ledger_state(entry)); });
  list("writes", world_.writes(), [&](const WriteEntry& entry) { out += dump(write_state(entry)); });
  list("requests", log_, [&](const Logged& entry) { out += dump(logged_state(entry)); });
  out += "\"products\":" + dump(control_products("GET", Json::object())["products"]);
  out += ",\"switches\":" + dump(world_.switches.describe()) + "}";
  return out;
}

}  // namespace sandbox::cartona
