// What a client may send, without the server: address, query and JSON body against an operation's fields.
// The first line is the address, the rest the body.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "api/api.h"
#include "base/error.h"
#include "http/router.h"
#include "ops/operation.h"

namespace {

using namespace dragoman;

const ops::Operation& sample() {
  static const ops::Operation operation{.name = "sample",
                                        .inputs = {{.name = "name", .required = true},
                                                   {.name = "limit", .type = ops::Type::integer, .min = 1, .max = 10},
                                                   {.name = "full", .type = ops::Type::boolean},
                                                   {.name = "at", .type = ops::Type::time},
                                                   {.name = "models", .type = ops::Type::list},
                                                   {.name = "settings", .type = ops::Type::object},
                                                   {.name = "kind", .choices = {"all", "none"}}}};
  return operation;
}

void read_body(const std::string& body) {
  try {
    const auto checked = ops::check_input(sample(), ops::parse_body(body));
    // What was accepted can be written, and is accepted again as itself.
    DRAGOMAN_ASSERT(ops::check_input(sample(), nlohmann::json::parse(ops::dump(checked))) == checked,
                    "checked input is its own checked input");
  } catch (const Error& error) {
    DRAGOMAN_ASSERT(error.kind == Error::Kind::invalid, "bad input is invalid");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const SystemClock clock;
  static SeededRandom random(1);
  static const http::Router* router = [] {
    auto* made = new http::Router(clock, random);
    made->add("GET", "/api/v1/things/{name}", [](http::Call& call) {
      nlohmann::json input = nlohmann::json::object();
      for (const auto* parameters : {&call.path, &call.query})
        for (const auto& [key, text] : *parameters)
          for (const auto& field : sample().inputs)
            if (field.name == key) input[key] = ops::value_of(field, text);
      return http::Reply{{200, {}, ops::dump(ops::check_input(sample(), std::move(input)))}, {}};
    });
    return made;
  }();

  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto line = text.find('\n');
  http::Exchange exchange;
  exchange.request.target = text.substr(0, line);
  const auto answer = router->answer(std::move(exchange)).response;
  DRAGOMAN_ASSERT(answer.status != 500, "no request makes a bug of ours");
  DRAGOMAN_ASSERT(nlohmann::json::accept(answer.body), "every answer is JSON");
  if (line != std::string::npos) read_body(text.substr(line + 1));
  return 0;
}
