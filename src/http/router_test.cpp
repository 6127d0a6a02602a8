#include "http/router.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace dragoman::http {
namespace {

class RouterTest : public testing::Test {
 protected:
  RouterTest() : random_(1), router_(clock_, random_) {
    router_.observe([this](const Served& served) {
      route_ = served.route;
      status_ = served.status;
    });
    router_.add("GET", "/api/v1/records/{model}/{id}", [](Call& call) {
      std::string text = std::string(call.route);
      for (const auto& [name, value] : call.path) text += "|" + name + "=" + value;
      for (const auto& [name, value] : call.query) text += "|" + name + "=" + value;
      return Reply{{200, {}, text}, {}};
    });
    router_.add("GET", "/api/v1/records/all", [](Call&) { return Reply{{200, {}, "all"}, {}}; });
    router_.add("DELETE", "/api/v1/records/{model}/{id}", [](Call&) -> Reply {
      Error error(Error::Kind::busy, "later");
      error.retry_in(std::chrono::seconds(7));
      throw error;
    });
    router_.add("GET", "/bug", [](Call&) -> Reply { throw std::runtime_error("secret text"); });
    router_.add("GET", "/fault", [](Call&) -> Reply { throw Error(Error::Kind::bug, "secret text"); });
  }

  Response ask(std::string method, std::string target, Headers headers = {}) {
    Exchange exchange;
    exchange.request.method = std::move(method);
    exchange.request.target = std::move(target);
    exchange.request.headers = std::move(headers);
    return router_.answer(std::move(exchange)).response;
  }

  SystemClock clock_;
  SeededRandom random_;
  Router router_;
  std::string route_;
  int status_ = 0;
};

TEST_F(RouterTest, FindsNamesInThePathAndPrefersTheExactOne) {
  EXPECT_EQ(ask("GET", "/api/v1/records/res.partner/7?a=1&b=x%20y+z").body,
            "/api/v1/records/{model}/{id}|model=res.partner|id=7|a=1|b=x y z");
  EXPECT_EQ(route_, "/api/v1/records/{model}/{id}");
  EXPECT_EQ(ask("GET", "/api/v1/records/all").body, "all");
  EXPECT_EQ(ask("GET", "http://hub.example/api/v1/records/%61ll").body, "all");
  EXPECT_EQ(ask("HEAD", "/api/v1/records/all").status, 200);
}

TEST_F(RouterTest, AnEncodedSlashIsPartOfTheNameThatItStandsIn) {
  EXPECT_EQ(ask("GET", "/api/v1/records/order/A%2F7%2fb").body, "/api/v1/records/{model}/{id}|model=order|id=A/7/b");
  EXPECT_EQ(ask("GET", "/api/v1/records/a%2Fb/7").body, "/api/v1/records/{model}/{id}|model=a/b|id=7");
  // It makes no parts: neither those of an exact path nor those of one with names.
  EXPECT_EQ(ask("GET", "/api/v1/records%2Fall").status, 404);
  EXPECT_EQ(ask("GET", "/api/v1%2Frecords/all").status, 404);
  EXPECT_EQ(ask("GET", "/api/v1/records/order%2F7").status, 404);
  // Nor does it lead anywhere.
  for (const char* target : {"/api/v1/records/a/..%2F7", "/api/v1/records/a/7%2F..", "/api/v1/records/a/b%2F.%2Fc",
                             "/api/v1/records/a/%2e%2e%2f%2e%2e%2fetc"})
    EXPECT_EQ(ask("GET", target).status, 422) << target;
}

TEST_F(RouterTest, SaysWhatIsNotThereAndWhatAnAddressTakes) {
  EXPECT_EQ(ask("GET", "/nothing").status, 404);
  EXPECT_EQ(ask("GET", "/api/v1/records/all/").status, 404);
  EXPECT_EQ(ask("GET", "/api/v1/records//7").status, 404);
  EXPECT_EQ(route_, "");
  const auto wrong = ask("PUT", "/api/v1/records/a/7");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_EQ(wrong.headers.find("Allow"), "GET, HEAD, DELETE, OPTIONS");
  const auto options = ask("OPTIONS", "/api/v1/records/a/7");
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.find("Allow"), "GET, HEAD, DELETE, OPTIONS");
  EXPECT_EQ(ask("OPTIONS", "*").status, 204);
}

TEST_F(RouterTest, ErrorsBecomeTheOneJsonFormWithTheStatusOfTheTable) {
  const auto busy = ask("DELETE", "/api/v1/records/a/7", {{"X-Request-Id", "mine-1"}});
  EXPECT_EQ(busy.status, 429);
  EXPECT_EQ(status_, 429);
  EXPECT_EQ(busy.headers.find("Retry-After"), "7");
  EXPECT_EQ(busy.headers.find("X-Request-Id"), "mine-1");
  EXPECT_EQ(busy.body, R"({"error":{"kind":"busy","code":"busy","message":"later","request_id":"mine-1"}})"
                       "\n");
}

TEST_F(RouterTest, WhatWasNotForeseenShowsNothingOfItself) {
  for (const char* target : {"/bug", "/fault"}) {
    const auto answer = ask("GET", target);
    EXPECT_EQ(answer.status, 500);
    EXPECT_EQ(answer.body.find("secret"), std::string::npos);
    EXPECT_NE(answer.body.find("\"kind\":\"bug\""), std::string::npos);
  }
}

TEST_F(RouterTest, ARequestIdThatCouldDoHarmIsReplaced) {
  const auto answer = ask("GET", "/api/v1/records/all", {{"X-Request-Id", "a\"b c"}});
  EXPECT_EQ(answer.headers.find("X-Request-Id")->size(), 16u);
}

TEST_F(RouterTest, RefusesPathsAndQueriesThatPlayTricks) {
  for (const char* target :
       {"/api/../etc/passwd", "/api/%2e%2e/x", "/api/..%2fb", "/api/a%5cb", "/api/./x", "/a%00b", "/a%zz", "/a%4",
        "/a%", "/%ff%fe", "/x#y", "nothing", "/bug?a=1&a=2", "/bug?a=%ff", "/bug?%=1"}) {
    const auto answer = ask("GET", target);
    EXPECT_EQ(answer.status, 422) << target;
    EXPECT_NE(answer.body.find("\"kind\":\"invalid\""), std::string::npos) << answer.body;
  }
  std::string many = "/bug?";
  for (int i = 0; i < 100; ++i) many += "p" + std::to_string(i) + "=1&";
  EXPECT_EQ(ask("GET", many).status, 422);
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "/a";
  EXPECT_EQ(ask("GET", deep).status, 422);
}

TEST(Percent, EncodingLeadsBack) {
  const std::string odd = "res.partner/ü %&=+\"~";
  EXPECT_EQ(decode_percent(encode_percent(odd), true), odd);
}

}  // namespace
}  // namespace dragoman::http
