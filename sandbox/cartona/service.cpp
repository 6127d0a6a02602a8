// A request's way through the stand-in: the log, faults, tokens, the call itself.

#include "sandbox/cartona/service.h"

#include <algorithm>

#include "sandbox/cartona/api.h"
#include "sandbox/cartona/wire.h"

namespace sandbox::cartona {

namespace {

using std::chrono::milliseconds;

constexpr std::size_t kLogEntriesMax = 200'000;
constexpr std::size_t kLogBytesMax = std::size_t{256} << 20;

std::string page(int status) {
  const std::string title = std::to_string(status) + " " + std::string(reason_phrase(status));
  return "<html><head><title>" + title + "</title></head><body><center><h1>" + title + "</h1></center></body></html>";
}

void put_retry_after(HttpResponse& response, bool as_date, std::int64_t seconds, Moment now) {
  response.headers.emplace_back("Retry-After",
                                as_date ? http_date_of(now + seconds * kSecond) : std::to_string(seconds));
}

/// What a fault makes of an answer.
void spoil(const Json& action, HttpResponse& response) {
  using Delivery = HttpResponse::Delivery;
  const std::string kind = action.value("kind", "");
  if (kind == "closed_after") {
    response.delivery = Delivery::closed;
  } else if (kind == "reset_after") {
    response.delivery = Delivery::reset;
  } else if (kind == "cut") {
    response.delivery = Delivery::cut;
    response.cut_at = action.value("at", response.body.size() / 2);
  } else if (kind == "truncated") {
    response.body.resize(std::min(response.body.size(), action.value("at", response.body.size() / 2)));
  } else if (kind == "drip") {
    response.delivery = Delivery::drip;
    response.drip_bytes = action.value("bytes", std::size_t{1});
    response.drip_pause = milliseconds(action.value("ms", 10));
  } else if (kind == "invalid_utf8") {
    const auto at = response.body.find("\":\"");
    if (at != std::string::npos) response.body.insert(at + 3, "\xff\xc3");
  } else if (kind == "giant") {
    response.padded_to = action.value("bytes", std::uint64_t{1} << 30);
  } else if (kind == "deep") {
    const auto depth = action.value("depth", std::size_t{100'000});
    response.body = std::string(depth, '[') + std::string(depth, ']');
  }
}

}  // namespace

Service::Service(Start start, std::function<bool(milliseconds)> pause, std::function<HttpCounters()> counters)
    : start_(std::move(start)), pause_(std::move(pause)), counters_(std::move(counters)), world_(start_.seed) {
  set_up();
}

void Service::set_up() {
  world_.switches = Switches();
  for (const auto& [name, value] : start_.switches) world_.switches.set(name, value);
  const std::vector<Json> demo = demo_products();
  for (std::size_t i = 1; i <= start_.accounts; ++i) {
    const std::string number = std::to_string(i);
    std::vector<std::string> codes;
    for (std::size_t k = 1; k <= start_.codes; ++k) codes.push_back(std::to_string(k));
    Supplier& supplier = world_.add_supplier("cartona-" + number, {"cartona-token-" + number}, codes);
    for (const auto& [code, account] : supplier.accounts) {
      if (start_.products.is_null()) {
        // Each account's own rows: a supplier_product_id means one product, wherever it is sold.
        for (Json row : demo) {
          if (code != "1") row["supplier_product_id"] = code + row["supplier_product_id"].get<std::string>();
          world_.put_product(*account, row);
        }
      } else {
        for (const auto& row : start_.products) world_.put_product(*account, row);
      }
    }
  }
}

Json Service::kept() {
  const std::lock_guard lock(mutex_);
  return {{"starts", starts_}, {"world", world_.state()}};
}

std::uint64_t Service::take_up(const Json& kept) {
  const std::lock_guard lock(mutex_);
  world_.take_up(kept.at("world"));
  return starts_ = kept.at("starts").get<std::uint64_t>() + 1;
}

bool Service::wait(Lock& lock, milliseconds time) {
  lock.unlock();
  const bool whole = pause_(time);
  lock.lock();
  return whole;
}

void Service::begin_log(Logged entry) {
  log_bytes_ += entry.body.size();
  log_.push_back(std::move(entry));
  while (log_.size() > kLogEntriesMax || (log_bytes_ > kLogBytesMax && log_.size() > 1)) {
    log_bytes_ -= log_.front().body.size();
    log_.pop_front();
  }
}

HttpResponse Service::handle(const HttpRequest& request) {
  if (request.path.starts_with("/sandbox/")) {
    HttpResponse response;
    try {
      Json body = request.body.empty() ? Json::object() : Json::parse(request.body);
      if (!body.is_object()) throw ControlError("the body must be a JSON object");
      for (const auto& [name, value] : query_fields(request.query)) body[name] = value;
      if (request.method == "GET" && request.path == "/sandbox/export") {
        response.body = export_all();
        return response;
      }
      response.body =
          control(request.method, request.path.substr(8), body).dump(-1, ' ', false, Json::error_handler_t::replace);
    } catch (const std::exception& error) {
      response.status = 400;
      response.body = Json({{"error", error.what()}}).dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    return response;
  }

  const auto began = std::chrono::steady_clock::now();
  Lock lock(mutex_);
  const std::uint64_t seq = next_request_++;
  const bool ours = request.path.starts_with(start_.prefix);
  const std::string path = ours ? request.path.substr(start_.prefix.size()) : request.path;
  Logged arrived;
  arrived.seq = seq;
  arrived.at = world_.now();
  arrived.method = request.method;
  arrived.path = path;
  arrived.query = request.query;
  arrived.body = request.body;
  begin_log(std::move(arrived));
  std::string account, fault;
  HttpResponse response;
  if (ours) {
    try {
      response = call(request, path, lock, account, fault);
    } catch (const std::exception& error) {
      response = error_response(world_.switches, 500, "internal", error.what());
    }
  } else {
    response = error_response(world_.switches, 404, "not_found", "the API is below " + start_.prefix);
  }
  // The log may have been emptied meanwhile.
  if (!log_.empty() && log_.front().seq <= seq) {
    const auto at = static_cast<std::size_t>(seq - log_.front().seq);
    if (at < log_.size()) {
      Logged& entry = log_[at];
      using Delivery = HttpResponse::Delivery;
      const bool lost = response.delivery == Delivery::closed || response.delivery == Delivery::reset;
      entry.account = account;
      entry.status = lost ? 0 : response.status;
      entry.bytes = lost ? 0 : response.body.size();
      entry.fault = fault;
      entry.took_us =
          std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count();
    }
  }
  return response;
}

HttpResponse Service::call(const HttpRequest& request, const std::string& path, Lock& lock, std::string& account,
                           std::string& fault) {
  using Delivery = HttpResponse::Delivery;
  const std::string token = request.header("authorizationtoken");
  HttpResponse lost;
  lost.delivery = Delivery::closed;
  Supplier* supplier = world_.supplier_of_token(token);
  if (supplier != nullptr) account = supplier->name;

  const auto found = faults_.match({account, path, request.method, request.body});
  const Json action = found.value_or(Json::object());
  const std::string kind = action.value("kind", "");
  const bool after = action.value("after", false);
  fault = kind;
  if (kind == "closed_before") return lost;
  if (kind == "reset_before") {
    lost.delivery = Delivery::reset;
    return lost;
  }
  if (kind == "hang") {
    wait(lock, milliseconds(action.value("ms", std::int64_t{3'600'000})));
    return lost;
  }
  if (kind == "bad_token") return bad_token_response(world_.switches);
  if (kind == "delay" && !after && !wait(lock, milliseconds(action.value("ms", 1000)))) return lost;

  const auto replaced = [&] {
    HttpResponse response;
    response.status = action.value("status", kind == "replace" ? 200 : 503);
    response.content_type = action.value("content_type", "text/html; charset=utf-8");
    response.body = action.value("body", page(response.status));
    if (action.contains("retry_after"))
      put_retry_after(response, action.value("retry_after_date", false), action.value("retry_after", std::int64_t{1}),
                      world_.now());
    return response;
  };
  if ((kind == "status" || kind == "replace") && !after) return replaced();

  // After a wait the account may be another, or none.
  supplier = world_.supplier_of_token(token);
  if (supplier != nullptr && supplier->dead != Dead::no) {
    switch (supplier->dead) {
      case Dead::closed:
        return lost;
      case Dead::reset:
        lost.delivery = Delivery::reset;
        return lost;
      case Dead::hang:
        for (;;) {
          if (!wait(lock, milliseconds(50))) return lost;
          supplier = world_.supplier_of_token(token);
          if (supplier == nullptr || supplier->dead != Dead::hang) return lost;
        }
      default: {
        HttpResponse response;
        response.status = 503;
        response.content_type = "text/html; charset=utf-8";
        response.body = page(503);
        return response;
      }
    }
  }
  if (supplier == nullptr) return bad_token_response(world_.switches);

  if (const double most = world_.switches.number(Switch::requests_per_minute); most > 0) {
    const Moment now = world_.now(), minute = now / (60 * kSecond);
    if (supplier->minute != minute) {
      supplier->minute = minute;
      supplier->in_minute = 0;
    }
    if (static_cast<double>(++supplier->in_minute) > most) {
      HttpResponse response = error_response(world_.switches, 429, "too_many_requests", "slow down");
      const std::int64_t left = 60 - now / kSecond % 60;
      if (!world_.switches.is(Switch::retry_after, "none"))
        put_retry_after(response, world_.switches.is(Switch::retry_after, "date"), left, now);
      return response;
    }
  }

  HttpResponse response = answer(world_, *supplier, request, path);
  if (kind == "delay" && after && !wait(lock, milliseconds(action.value("ms", 1000)))) return lost;
  if (kind == "status" || kind == "replace") return replaced();
  spoil(action, response);
  return response;
}

// ---------------------------------------------------------------- the scenario's thread

std::optional<std::chrono::microseconds> Service::play_due() {
  if (!day_ || day_->options().speed <= 0) return std::nullopt;
  const auto next = day_->next();
  if (!next) return std::nullopt;
  const double speed = day_->options().speed;
  const auto passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - day_began_).count() * speed;
  const auto due = static_cast<Moment>(passed * 1e6);
  if (*next <= due) {
    day_->play_until(due);
    return std::chrono::microseconds(0);
  }
  return std::chrono::microseconds(static_cast<std::int64_t>(static_cast<double>(*next - due) / speed) + 1);
}

void Service::play_until_stopped() {
  Lock lock(mutex_);
  while (!stopping_) {
    const auto pause = play_due();
    if (!pause) {
      day_changed_.wait(lock);
    } else if (pause->count() > 0) {
      day_changed_.wait_for(lock, *pause);
    }
  }
}

void Service::stop_playing() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  day_changed_.notify_all();
}

}  // namespace sandbox::cartona
