#include "odoo/domain.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace dragoman::odoo {
namespace {

TEST(Domain, WritesConditionsAsJson) {
  EXPECT_EQ(Domain().json(), "[]");
  EXPECT_EQ(Domain::where("id", ">", std::int64_t{5'000'000'000}).json(), R"([["id",">",5000000000]])");
  EXPECT_EQ(Domain::where("id", ">", 7).json(), R"([["id",">",7]])");
  EXPECT_EQ(Domain::where("name", "=", "a\"b").json(), R"([["name","=","a\"b"]])");
  EXPECT_EQ(Domain::where("active", "=", false).json(), R"([["active","=",false]])");
  EXPECT_EQ(Domain::where("id", "in", {1, 2}).json(), R"([["id","in",[1,2]]])");
  EXPECT_EQ(Domain::where("write_date", ">=", *parse_time("2026-11-20T10:05:48.9Z")).json(),
            R"([["write_date",">=","2026-11-20 10:05:48"]])");
}

TEST(Domain, CombinesInPrefixForm) {
  const Domain a = Domain::where("a", "=", 1), b = Domain::where("b", "=", 2), c = Domain::where("c", "=", 3);
  EXPECT_EQ((a && b).json(), R"(["&",["a","=",1],["b","=",2]])");
  EXPECT_EQ((a || (b && !c)).json(), R"(["|",["a","=",1],"&",["b","=",2],"!",["c","=",3]])");
  EXPECT_EQ((Domain() && a).json(), a.json());
  EXPECT_EQ((a && Domain()).json(), a.json());
  EXPECT_TRUE((a || Domain()).empty());
  EXPECT_EQ((!Domain()).json(), R"([[0,"=",1]])");
}

TEST(Domain, ReadsAUsersTextAndMakesTheImplicitAndExplicit) {
  EXPECT_EQ(
      Domain::parse(R"( [ ["a", "=", 1] , ["b" , "in" , [ 1 , 2 ] ] , "|", ["c","=",false],["d","=","x"] ] )").json(),
      R"(["&","&",["a","=",1],["b","in",[ 1 , 2 ]],"|",["c","=",false],["d","=","x"]])");
  EXPECT_TRUE(Domain::parse("[]").empty());
  EXPECT_EQ(Domain::parse(R"(["!",["a","=",1]])").json(), R"(["!",["a","=",1]])");
  EXPECT_EQ(Domain::parse(R"([[1,"=",1]])").json(), R"([[1,"=",1]])");
  // What was read once is read the same again.
  const auto joined = Domain::parse(R"([["a","=",1],["b","=",2],["c","=",3]])");
  EXPECT_EQ(Domain::parse(joined.json()).json(), joined.json());
}

TEST(Domain, SaysWhatIsWrongWhere) {
  const auto message = [](const char* text) -> std::string {
    try {
      Domain::parse(text);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind, Error::Kind::invalid);
      return error.message;
    }
    return "taken";
  };
  EXPECT_NE(message("customer_rank > 0").find("no JSON"), std::string::npos);
  EXPECT_NE(message(R"({"a":1})").find("JSON array"), std::string::npos);
  EXPECT_NE(message(R"([["a","=",1],["b","="]])").find("item 2"), std::string::npos);
  EXPECT_NE(message(R"([["a","~",1]])").find("no operator \"~\""), std::string::npos);
  EXPECT_NE(message(R"(["&",["a","=",1]])").find("& needs 2"), std::string::npos);
  EXPECT_NE(message(R"(["and",["a","=",1]])").find("one of & | !"), std::string::npos);
  EXPECT_NE(message(R"([7])").find("item 1"), std::string::npos);
  EXPECT_NE(message(R"([["","=",1]])").find("a name"), std::string::npos);
}

}  // namespace
}  // namespace dragoman::odoo
