#include "json/mask.h"

#include <gtest/gtest.h>

namespace dragoman::json {
namespace {

TEST(MaskSecrets, MasksWhatIsNamedLikeOneAndLeavesTheRestAsItIs) {
  EXPECT_EQ(mask_secrets(R"([{"hashed_id":"Q7","status":"delivered","retailer_otp":"4711"}])"),
            R"([{"hashed_id":"Q7","status":"delivered","retailer_otp":"***"}])");
  EXPECT_EQ(mask_secrets(R"({"pickup_otp" : 4711 , "n": 1.10})"), R"({"pickup_otp" : "***" , "n": 1.10})");
  EXPECT_EQ(mask_secrets(R"({"AuthorizationToken":"a\"b","x":"token"})"),
            R"({"AuthorizationToken":"***","x":"token"})");
  EXPECT_EQ(mask_secrets(R"({"secret":{"a":["}",1]},"b":2})"), R"({"secret":"***","b":2})");
}

TEST(MaskSecrets, ShowsThatThereIsNone) {
  EXPECT_EQ(mask_secrets(R"({"pickup_otp":"","retailer_otp":null})"), R"({"pickup_otp":"","retailer_otp":null})");
}

TEST(MaskSecrets, TellsWhatItMaskedSoThatItCanBeMaskedElsewhere) {
  std::vector<std::string> found;
  mask_secrets(R"({"retailer_otp":"4711","token":5012,"pickup_otp":"","x":"y"})", &found);
  EXPECT_EQ(found, (std::vector<std::string>{"4711", "5012"}));
  EXPECT_EQ(mask_text("4711 is wrong: 47114711", "4711"), "*** is wrong: ******");
  EXPECT_EQ(mask_text("order 12 of 120", "12"), "order 12 of 120") << "too short to be told from anything";
  EXPECT_EQ(mask_text("****", "****"), "***");
}

TEST(MaskSecrets, TextThatIsNoJsonOrCutOffIsNoTrouble) {
  for (const char* text : {"", "\"", "plain", "{\"a\"", "<html>token: x</html>", "{\"token\"", "{\"token\":"})
    EXPECT_EQ(mask_secrets(text), text);
  EXPECT_EQ(mask_secrets(R"({"token":"abc)"), R"({"token":"***")");
  EXPECT_EQ(mask_secrets(R"({"token":[1,{"a":)"), R"({"token":"***")");
}

}  // namespace
}  // namespace dragoman::json
