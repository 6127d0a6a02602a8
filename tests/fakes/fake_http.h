#pragma once

#include <functional>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "http/client.h"

namespace dragoman::fakes {

/// An HTTP client whose answers a test makes up, and which keeps what it was asked.
///
/// Threads: safe from any thread, if the handler is.
class FakeHttp final : public http::Client {
 public:
  using Handler = std::function<http::Response(const http::Request&)>;

  /// What was asked, readable after the FakeHttp was given away. Shared, because its reader outlives it at times.
  struct Log {
    std::mutex mutex;
    std::vector<http::Request> requests;
    std::vector<http::Request> all() {
      std::lock_guard lock(mutex);
      return requests;
    }
    http::Request last() {
      std::lock_guard lock(mutex);
      return requests.at(requests.size() - 1);
    }
  };

  explicit FakeHttp(Handler handler, std::shared_ptr<Log> log = std::make_shared<Log>())
      : handler_(std::move(handler)), log_(std::move(log)) {}

  http::Response send(const http::Request& request, std::stop_token) override {
    {
      std::lock_guard lock(log_->mutex);
      log_->requests.push_back(request);
    }
    http::Response response = handler_(request);
    response.body.reserve(response.body.size() + 64);  // as the real one promises
    return response;
  }

  static http::Response json(std::string body, int status = 200) {
    return {status, {{"Content-Type", "application/json; charset=utf-8"}}, std::move(body)};
  }
  static http::Response html(int status, std::string body = "<html><title>Oops</title></html>") {
    return {status, {{"Content-Type", "text/html; charset=utf-8"}}, std::move(body)};
  }

 private:
  Handler handler_;
  std::shared_ptr<Log> log_;
};

}  // namespace dragoman::fakes
