#include "pipeline/record_check.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "pipeline/deliver.h"

namespace dragoman::pipeline {
namespace {

const auto check = delivery_check("fake.import", "fake");

// What the check says, or nothing.
std::string said(const std::string& payload, const std::string* before = nullptr,
                 const std::string& connector = "fake") {
  try {
    check({.payload = payload, .connector = connector, .before = before});
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, Error::Kind::invalid);
    return error.message;
  }
}

const std::string kFine = R"({"model":"order","key":"A","values":{"name":"x"}})";

// Why a record that is handed in is refused, or nothing.
std::string refusal(const std::string& record) {
  try {
    checked_record(nlohmann::json::parse(record), "record 3", "");
    return {};
  } catch (const Error& error) {
    EXPECT_EQ(error.code, "record");
    return error.message;
  }
}

TEST(RecordCheck, ANulInATextIsRefusedWithItsPlace) {
  EXPECT_EQ(refusal("{\"model\":\"order\",\"key\":\"A\",\"values\":{\"name\":\"x\\\\u0000y\"}}"), "")
      << "that is a backslash, and no NUL";
  EXPECT_EQ(refusal("{\"model\":\"order\",\"key\":\"A\",\"values\":{\"name\":\"x\\u0000y\"}}"),
            "`values.name` of record 3 has a NUL character in it, which can't be stored: leave it out.");
  EXPECT_EQ(refusal("{\"model\":\"order\",\"key\":\"A\",\"values\":{},\"children\":{\"lines\":[{\"key\":\"1\","
                    "\"values\":{\"a\":[\"\\u0000\"]}}]}}"),
            "`children.lines.values.a` of record 3 has a NUL character in it, which can't be stored: leave it out.");
}

TEST(RecordCheck, ABlankKeyIsRefused) {
  for (const char* key : {" ", "   ", "\u00a0", " \u3000\u200b "}) {
    const nlohmann::json record{{"model", "order"}, {"key", key}, {"values", nlohmann::json::object()}};
    EXPECT_EQ(refusal(record.dump()), "`key` of record 3 is blank: it takes something to find the record again by.");
  }
  EXPECT_NE(refusal(R"({"model":"order","key":"A","values":{},"children":{"lines":[{"key":" ","values":{}}]}})")
                .find("is blank"),
            std::string::npos);
  EXPECT_EQ(refusal(R"({"model":"order","key":" A ","values":{}})"), "");
}

TEST(RecordCheck, AModelsNameThatCanBeNoneIsRefused) {
  for (const char* model : {"Res.Partner", "res partner", "res.partner;", "res/partner", "ordr\u00e9", ""}) {
    const nlohmann::json record{{"model", model}, {"key", "A"}, {"values", nlohmann::json::object()}};
    EXPECT_NE(refusal(record.dump()), "") << model;
  }
  EXPECT_NE(refusal(R"({"model":"Res.Partner","key":"A","values":{}})").find("small letters, digits, `_` and `.`"),
            std::string::npos);
  EXPECT_EQ(refusal(R"({"model":"x_my.model_2","key":"A","values":{}})"), "");
}

TEST(DeliveryCheck, APayloadThatCanOnlyFailIsRefusedWithWhatIsWrong) {
  EXPECT_EQ(said(kFine), "");
  EXPECT_EQ(
      said(R"({"model":"order","key":"A","version":3,"values":{},"children":{"lines":[{"key":"1","values":{}}]}})"),
      "");
  EXPECT_EQ(said(R"({"model":"order","key":"A","values":)"), "The payload is not a JSON object.");
  EXPECT_EQ(said("[]"), "The payload is not a JSON object.");
  EXPECT_EQ(said(R"({"key":"A","values":{}})"), "the payload needs `model`, or the body one for all of its records.");
  EXPECT_EQ(said(R"({"model":"order","values":{}})"), "the payload needs `key`.");
  EXPECT_EQ(said(R"({"model":"order","key":"A","valeus":{}})"), "the payload has no `valeus`. Did you mean `values`?");
  EXPECT_EQ(said(R"({"model":"order","key":"A","values":[]})"),
            "the payload needs `values`, an object of fields and their values.");
  EXPECT_EQ(said(R"({"model":"order","key":"A","version":-1,"values":{}})"),
            "`version` of the payload is a whole number from 1.");
}

TEST(DeliveryCheck, ADeliveryNeedsAConnectionOfItsKind) {
  EXPECT_EQ(said(kFine, nullptr, ""),
            "Jobs of the kind `fake.import` are for a connection of the kind `fake`, and there is none.");
  EXPECT_EQ(said(kFine, nullptr, "other"),
            "Jobs of the kind `fake.import` are for a connection of the kind `fake`, and this one is of the kind "
            "`other`.");
}

TEST(DeliveryCheck, AnEditedOneStaysTheSameRecordsAndTellsTheSameInbox) {
  const std::string before = DeliveryOrder{"order", "A", 2, R"({"values":{"name":"x"}})", 7, 1}.json();
  EXPECT_EQ(said(DeliveryOrder{"order", "A", 3, R"({"values":{"name":"y"}})", 7, 1}.json(), &before), "");
  EXPECT_EQ(said(DeliveryOrder{"order", "A", 0, R"({"values":{"name":"y"}})", 7, 1}.json(), &before), "");
  const auto other = said(DeliveryOrder{"order", "B", 2, R"({"values":{}})", 7, 1}.json(), &before);
  EXPECT_NE(other.find("`key` of the payload was `A` and can't become `B`"), std::string::npos) << other;
  EXPECT_NE(said(DeliveryOrder{"line", "A", 2, R"({"values":{}})", 7, 1}.json(), &before).find("`model`"),
            std::string::npos);
  for (const auto& [inbox, position] : {std::pair{8, 1}, {7, 0}, {0, 0}}) {
    const auto elsewhere = said(DeliveryOrder{"order", "A", 2, R"({"values":{}})", inbox, position}.json(), &before);
    EXPECT_NE(elsewhere.find("stay as they are: 7 and 1"), std::string::npos) << elsewhere;
  }
  EXPECT_EQ(said(DeliveryOrder{"order", "A", 2, R"({"values":{}})", 7, 1}.json()),
            "`inbox` and `position` of the payload are the hub's own.");
}

TEST(DeliveryCheck, APayloadThatWasNoRecordMayBecomeAny) {
  const std::string before = R"({"nothing":"of use"})";
  EXPECT_EQ(said(kFine, &before), "");
}

}  // namespace
}  // namespace dragoman::pipeline
