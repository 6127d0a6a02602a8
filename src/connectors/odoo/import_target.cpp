#include "connectors/odoo/import_target.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "connectors/odoo/provision.h"
#include "odoo/fault.h"

namespace dragoman::connectors::odoo {
namespace {

using nlohmann::json;
using pipeline::Delivered;
using pipeline::Found;

constexpr const char* kActions = "ir.actions.server";
// What names of the procedure's own begin with.
constexpr std::string_view kOurs = "dragoman.";

std::string dumped(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

Error not_understood(const std::string& what, const json& answer) {
  Error error(Error::Kind::protocol, "The answer of the import procedure is not understood: " + what + ".",
              dumped(answer).substr(0, 2000));
  error.code = "procedure_answer";
  return error;
}

std::string id_of(const json& item) {
  const auto id = item.find("id");
  return id != item.end() && id->is_number_integer() ? std::to_string(id->get<std::int64_t>()) : std::string();
}

std::map<std::string, std::string> children_of(const json& item, const std::string& key) {
  std::map<std::string, std::string> out;
  const auto children = item.find("children");
  if (children == item.end() || !children->is_object()) return out;
  const std::string prefix = key + "/";
  for (const auto& [child, id] : children->items())
    if (child.starts_with(prefix) && id.is_number_integer())
      out[child.substr(prefix.size())] = std::to_string(id.get<std::int64_t>());
  return out;
}

std::map<std::string, pipeline::Linked> links_of(const json& item) {
  std::map<std::string, pipeline::Linked> out;
  const auto links = item.find("links");
  if (links == item.end() || !links->is_object()) return out;
  for (const auto& [key, link] : links->items())
    if (link.is_object() && !id_of(link).empty())
      out[key] = {.model = link.value("model", ""), .id = id_of(link), .how = link.value("how", "")};
  return out;
}

// A marketplace's order with its lines that is to be confirmed at most: nearly always it is new.
bool is_plain(const json& item) {
  if (item.value("model", "") != "sale.order" || !item.contains("children") || !item.contains("steps")) return false;
  const json& steps = item["steps"];
  return steps.is_array() && (steps.empty() || (steps.size() == 1 && steps[0] == "confirm"));
}

// `dragoman.NotMatched` is `import_notmatched`.
std::string code_of(std::string_view name) {
  std::string code = "import_";
  for (const char c : name.substr(kOurs.size())) code += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return code;
}

// What is wrong with one record, in Odoo's words.
Error error_of(const json& item, const std::string& model) {
  std::string name = "unknown", message;
  if (const auto error = item.find("error"); error != item.end() && error->is_object()) {
    name = error->value("name", name);
    message = error->value("message", message);
  }
  if (name.starts_with(kOurs)) {
    Error error(Error::Kind::invalid, rpc::shorten(message, 1000));
    error.code = code_of(name);
    return error;
  }
  Error error = rpc::translate({.name = name, .message = message, .debug = ""}, model, "import");
  // One record's trouble never stands for the connection's.
  if (error.kind != Error::Kind::forbidden && error.kind != Error::Kind::not_found &&
      error.kind != Error::Kind::conflict)
    error.kind = Error::Kind::invalid;
  return error;
}

Error flag_of(const json& flag) {
  const std::string name = flag.value("name", "");
  Error error(Error::Kind::conflict, rpc::shorten(flag.value("message", name), 1000));
  error.code = name.starts_with(kOurs) ? code_of(name) : name;
  return error;
}

}  // namespace

std::shared_ptr<rpc::Client> ClientPool::get(const pipeline::Connection& connection, const Secret& secret,
                                             const rpc::Settings& settings, Clock& clock) {
  const std::string text = dumped(connection.settings);
  std::lock_guard lock(mutex_);
  Open& open = open_[connection.id];
  if (auto client = open.client.lock(); client && open.settings == text && open.secret.equals(secret.reveal()))
    return client;
  auto client = std::make_shared<rpc::Client>(settings, clock);
  open = {text, secret, client};
  return client;
}

json ImportTarget::run(std::int64_t action, const json& payload, std::size_t expected, bool read_only,
                       std::stop_token stop, bool may_pass) {
  rpc::CallOptions options;
  options.lane = rpc::Lane::order;
  options.companies = companies_;
  options.context = dumped({{"dragoman", payload}});
  options.read_only = read_only;
  options.stop = std::move(stop);
  rpc::Answer answer;
  try {
    answer = client_->call(kActions, "run", fmt::format("[[{}]]", action), "{}", options);
  } catch (const Error& error) {
    // Odoo's refusals about single records are in the answer; these are about the call.
    if (error.kind == Error::Kind::not_found || error.kind == Error::Kind::forbidden) {
      stale_ = true;
      // Said by a proxy, or by an Odoo without the database: all that the connection does meets that.
      const bool of_all = error.code.starts_with("http_") || error.code == "odoo_database";
      Error better(Error::Kind::unavailable,
                   of_all ? error.message
                          : fmt::format("The import procedure can't be run: {}. `dragoman provision check {}` tells "
                                        "what is missing in Odoo, and an administrator of it puts it there with "
                                        "`dragoman provision apply {}`.",
                                        error.message, connection_, connection_),
                   error.detail);
      better.code = of_all ? error.code : std::string(pipeline::kNotProvisioned);
      throw better;
    }
    throw;
  }
  const json result = json::parse(answer.result(), nullptr, false);
  const auto items = result.is_object() ? result.find("items") : result.end();
  if (may_pass && result.is_object() && items != result.end() && *items == false) return nullptr;
  if (!result.is_object() || items == result.end() || !items->is_array())
    throw not_understood("it has no items", result);
  if (items->size() != expected)
    throw not_understood(fmt::format("{} records were sent, and it tells of {}", expected, items->size()), result);
  return *items;
}

std::vector<Delivered> ImportTarget::deliver(std::span<const pipeline::Outgoing> records, std::stop_token stop) {
  json items = json::array();
  bool market = false;
  for (const auto& record : records) {
    json item = json::parse(record.content);
    item["key"] = record.key;
    item["model"] = record.model;
    item["version"] = record.version;
    if (const auto children = item.find("children"); children != item.end() && children->is_object())
      for (auto& [field, list] : children->items())
        if (list.is_array())
          for (auto& child : list)
            if (child.is_object() && child.contains("key") && child["key"].is_string())
              child["key"] = record.key + "/" + child["key"].get<std::string>();
    market = market || item.contains("steps");
    items.push_back(std::move(item));
  }
  json payload{{"items", std::move(items)}};
  // Orders of marketplaces have their documents' names.
  if (market) payload["names"] = market_names_;
  json answers;
  // What of it is out of the ordinary, `import` does, and says what is wrong.
  if (others_.order != 0 && records.size() == 1 && is_plain(payload["items"][0]))
    answers = run(others_.order, payload, 1, false, stop, true);
  if (answers.is_null()) answers = run(action_, payload, records.size(), false, std::move(stop));
  std::vector<Delivered> out;
  out.reserve(records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    const json& item = answers[i];
    if (!item.is_object() || !item.contains("outcome") || item.value("key", json()) != records[i].key)
      throw not_understood("its items are not those that were sent", answers);
    const std::string outcome = item["outcome"].is_string() ? item["outcome"].get<std::string>() : "";
    Delivered one;
    one.id = id_of(item);
    one.children = children_of(item, records[i].key);
    one.links = links_of(item);
    if (const auto flag = item.find("flag"); flag != item.end() && flag->is_object()) one.flag = flag_of(*flag);
    if (outcome == "created")
      one.what = Delivered::What::created;
    else if (outcome == "updated")
      one.what = Delivered::What::updated;
    else if (outcome == "unchanged")
      one.what = Delivered::What::unchanged;
    else if (outcome == "skipped")
      one.what = Delivered::What::skipped;
    else if (outcome == "error")
      one = {.what = Delivered::What::refused, .id = one.id, .children = {}, .error = error_of(item, records[i].model)};
    else
      throw not_understood("`" + rpc::shorten(outcome, 50) + "` is no outcome", answers);
    if (one.error && one.error->code == "import_field")
      one.error->message += fmt::format(
          " `dragoman provision apply {}` makes it, or says which name in the setting `marketplace_fields` is wrong.",
          connection_);
    if (!one.error && one.id.empty()) throw not_understood("an item has no id", answers);
    out.push_back(std::move(one));
  }
  return out;
}

std::vector<std::optional<Found>> ImportTarget::find(std::span<const Key> keys, std::stop_token stop) {
  json wanted = json::array();
  for (const auto& key : keys) wanted.push_back({{"model", key.model}, {"key", key.key}});
  const json answers = run(action_, {{"find", std::move(wanted)}}, keys.size(), true, std::move(stop));
  std::vector<std::optional<Found>> out;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const json& item = answers[i];
    if (!item.is_object() || item.value("key", json()) != keys[i].key)
      throw not_understood("its items are not those that were asked for", answers);
    const json outcome = item.value("outcome", json());
    if (outcome == "missing") {
      out.emplace_back();
      continue;
    }
    // What somebody has deleted since was there: the effect that is asked about was applied.
    if ((outcome != "found" && outcome != "deleted") || id_of(item).empty())
      throw not_understood("an item has no outcome of a search", answers);
    const json version = item.value("version", json());
    out.push_back(Found{.id = id_of(item),
                        .version = version.is_number_integer() ? version.get<std::int64_t>() : 0,
                        .children = children_of(item, keys[i].key),
                        .links = links_of(item)});
  }
  return out;
}

pipeline::Relinked ImportTarget::relink(const pipeline::Relink& what, std::stop_token stop) {
  if (others_.relink == 0) {
    Error error(Error::Kind::unavailable,
                fmt::format("The procedure `relink` is not in this Odoo: an administrator of it puts it there with "
                            "`dragoman provision apply {}`.",
                            connection_));
    error.code = pipeline::kNotProvisioned;
    throw error;
  }
  const auto number = [](const std::string& id) { return id.empty() ? json(false) : json::parse(id); };
  json item{{"model", what.model}, {"key", what.key}, {"from", number(what.from)}, {"to", number(what.to)}};
  if (what.company > 0) item["company"] = what.company;
  if (what.shared) item["shared"] = true;
  const json answers = run(others_.relink, {{"items", json::array({std::move(item)})}}, 1, false, std::move(stop));
  const json& answer = answers[0];
  if (!answer.is_object() || answer.value("key", json()) != what.key || !answer.contains("outcome"))
    throw not_understood("its item is not the one that was sent", answers);
  pipeline::Relinked out;
  out.id = id_of(answer);
  out.name = answer.value("name", "");
  if (answer["outcome"] == "error")
    out.error = error_of(answer, what.model);
  else
    out.changed = answer["outcome"] != "unchanged";
  return out;
}

std::string ImportTarget::child_model(const std::string& model, const std::string& field, std::stop_token stop) {
  {
    std::lock_guard lock(mutex_);
    if (const auto known = relations_.find(model); known != relations_.end()) {
      const auto found = known->second.find(field);
      return found == known->second.end() ? std::string() : found->second;
    }
  }
  std::map<std::string, std::string> relations;
  try {
    rpc::CallOptions options;
    options.lane = rpc::Lane::order;
    options.companies = companies_;
    options.stop = std::move(stop);
    const auto answer = client_->fields_get(model, {"type", "relation"}, options);
    const json fields = json::parse(answer.result(), nullptr, false);
    if (fields.is_object())
      for (const auto& [name, attributes] : fields.items())
        if (attributes.is_object() && attributes.value("type", json()) == "one2many")
          relations[name] = attributes.value("relation", "");
  } catch (const Error& error) {
    // An account without rights on the model may still import by the procedure; its children are then not mapped.
    if (error.kind != Error::Kind::forbidden && error.kind != Error::Kind::not_found) throw;
  }
  std::lock_guard lock(mutex_);
  const auto& known = relations_[model] = std::move(relations);
  const auto found = known.find(field);
  return found == known.end() ? std::string() : found->second;
}

std::string ImportTarget::entity(const std::string& model) const {
  if (model == "sale.order" || model == "purchase.order") return "order";
  if (model == "sale.order.line" || model == "purchase.order.line") return "order_line";
  if (model == "stock.picking") return "delivery";
  if (model == "res.partner") return "customer";
  if (model == "product.product" || model == "product.template") return "product";
  return model;
}

std::vector<jobs::Kind> delivery_kinds() {
  jobs::Kind import;
  import.name = "odoo.import";
  import.summary = "Creates or updates a record with its children in Odoo, once per key";
  // Beyond 50 a call gains little, and holds an Odoo worker for seconds.
  import.batch_max = 50;
  import.attempts_max = 10;
  import.time_limit = std::chrono::minutes(10);
  return {import};
}

}  // namespace dragoman::connectors::odoo
