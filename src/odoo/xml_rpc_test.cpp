#include "odoo/xml_rpc.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "json/records.h"

namespace dragoman::odoo {
namespace {

std::string answer(const std::string& value) {
  return "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n<value>" + value +
         "</value>\n</param>\n</params>\n</methodResponse>\n";
}

std::string read(const std::string& value) {
  std::string body = answer(value);
  return read_xml_rpc(body).json;
}

std::string code_of(std::string body) {
  try {
    read_xml_rpc(body);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::protocol);
    return error.code;
  }
  return "";
}

TEST(XmlRpc, WritesACallWithEveryKindOfArgument) {
  EXPECT_EQ(xml_rpc_call("execute_kw", std::vector<std::string>{R"("a<&\u00e9\r")", "[1,5000000000,-2.50]",
                                                                R"({"k":true,"n":null})"}),
            "<?xml version='1.0'?><methodCall><methodName>execute_kw</methodName><params>"
            "<param><value><string>a&lt;&amp;é&#13;</string></value></param>"
            "<param><value><array><data><value><int>1</int></value><value><i8>5000000000</i8></value>"
            "<value><double>-2.50</double></value></data></array></value></param>"
            "<param><value><struct><member><name>k</name><value><boolean>1</boolean></value></member>"
            "<member><name>n</name><value><nil/></value></member></struct></value></param></params></methodCall>");
  EXPECT_THROW(xml_rpc_call("x", std::vector<std::string>{"[1,"}), Error);
}

TEST(XmlRpc, AnswersBecomeTheBytesThatJsonRpcWouldGive) {
  EXPECT_EQ(read("<array><data>\n<value><struct>\n<member>\n<name>id</name>\n<value><int>7</int></value>\n</member>\n"
                 "<member>\n<name>name</name>\n<value><string>Zo&#235; &amp; \"é\" 😀</string></value>\n</member>\n"
                 "<member>\n<name>amount</name>\n<value><double>12.0</double></value>\n</member>\n"
                 "<member><name>ids</name><value><array><data>\n</data></array></value></member>\n"
                 "<member><name>active</name><value><boolean>0</boolean></value></member>\n"
                 "</struct></value>\n</data></array>"),
            R"([{"id": 7, "name": "Zo\u00eb & \"\u00e9\" \ud83d\ude00", "amount": 12.0, "ids": [], "active": false}])");
}

TEST(XmlRpc, KeepsWhiteSpaceLongNumbersAndLineEnds) {
  EXPECT_EQ(read("<string>   </string>"), "\"   \"");
  EXPECT_EQ(read("<string>a\r\nb\tc</string>"), R"("a\r\nb\tc")");
  EXPECT_EQ(read("plain text"), "\"plain text\"");
  EXPECT_EQ(read("<string></string>"), "\"\"");
  EXPECT_EQ(read("<i8>9007199254740993</i8>"), "9007199254740993");
  EXPECT_EQ(read("<double>1234567890.123456789012345678</double>"), "1234567890.123456789012345678");
  EXPECT_EQ(read("<string>a<![CDATA[<b>]]>c</string>"), "\"a<b>c\"");
  EXPECT_EQ(read("<dateTime.iso8601>20261120T10:05:48</dateTime.iso8601>"), "\"2026-11-20 10:05:48\"");
  EXPECT_EQ(read("<base64>\nYWJj\nZGVm\n</base64>"), "\"YWJjZGVm\"");
  EXPECT_EQ(read("<nil/>"), "null");
}

TEST(XmlRpc, RefusesWhatIsNoAnswer) {
  for (const std::string& body :
       {std::string("<html><body>hi</body></html>"), std::string(""), std::string("{}"),
        std::string("<methodResponse>"), std::string("<!DOCTYPE x [<!ENTITY a \"b\">]><methodResponse/>"),
        std::string("<methodResponse/>"), answer("<int>seven</int>"), answer("<int>1.5</int>"),
        answer("<boolean>yes</boolean>"), answer("<odd>1</odd>"), answer("<array/>"), answer("<double>nan</double>")})
    EXPECT_EQ(code_of(body), "xml_rpc") << body;
  EXPECT_EQ(code_of(answer("<string>\xff</string>")), "json_utf8");
}

TEST(XmlRpc, RefusesNestingOfAHundredThousandLevels) {
  std::string deep, shut;
  for (int i = 0; i < 100'000; ++i) {
    deep += "<array><data><value>";
    shut += "</value></data></array>";
  }
  EXPECT_EQ(code_of(answer(deep + shut)), "json_depth");
  EXPECT_EQ(code_of("<methodResponse>" + deep), "json_depth");
}

TEST(XmlRpc, TellsFaultsApart) {
  const auto fault = [](const std::string& code, const std::string& text) {
    std::string body =
        "<?xml version='1.0'?><methodResponse><fault><value><struct><member><name>faultCode</name><value>" + code +
        "</value></member><member><name>faultString</name><value><string>" + text +
        "</string></value></member></struct></value></fault></methodResponse>";
    return read_xml_rpc(body);
  };
  EXPECT_EQ(fault("<int>3</int>", "Access Denied").fault->name, "odoo.exceptions.AccessDenied");
  EXPECT_EQ(fault("<int>4</int>", "No").fault->name, "odoo.exceptions.AccessError");
  EXPECT_EQ(fault("<int>2</int>", "No stock").fault->name, "odoo.exceptions.UserError");
  EXPECT_EQ(fault("<int>2</int>", "Record does not exist or has been deleted.").fault->name,
            "odoo.exceptions.MissingError");
  const auto traced = fault("<int>1</int>",
                            "Traceback (most recent call last):\n  File \"/srv/x.py\", line 1, in f\n    g()\n"
                            "psycopg2.OperationalError: FATAL:  database \"nope\" does not exist\n\n");
  EXPECT_EQ(traced.fault->name, "psycopg2.OperationalError");
  EXPECT_NE(traced.fault->message.find("does not exist"), std::string::npos);
  EXPECT_TRUE(fault("<int>1</int>",
                    "Traceback (most recent call last):\n  File \"x\", line 1\n    z\nTypeError: cannot "
                    "marshal None unless allow_none is enabled\n")
                  .none);
}

}  // namespace
}  // namespace dragoman::odoo
