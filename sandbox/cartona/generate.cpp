// Shops, products and orders for tests and demos. All names, numbers and addresses are invented; the telephone numbers
// begin with zeros behind the country code, which no line has.

#include "sandbox/cartona/generate.h"

#include <array>
#include <cstdio>

namespace sandbox::cartona {

namespace {

constexpr std::size_t kShops = 120;

std::string numbered(const char* format, std::size_t n) {
  char buffer[96];
  std::snprintf(buffer, sizeof buffer, format, static_cast<unsigned>(n));
  return buffer;
}

/// A barcode of thirteen digits, with its check digit, in the range 200… that is free for everybody's own use.
std::string barcode(std::size_t n) {
  std::string digits = numbered("2000000%05u", n);
  int sum = 0;
  for (std::size_t i = 0; i < digits.size(); ++i) sum += (digits[i] - '0') * (i % 2 == 0 ? 1 : 3);
  digits += static_cast<char>('0' + (10 - sum % 10) % 10);
  return digits;
}

/// The same shop for the same seed, by number: a shop orders more than once.
Retailer shop(std::uint64_t seed, std::size_t n) {
  static constexpr std::array kKinds = {"بقالة", "سوبر ماركت", "ماركت", "ميني ماركت", "كشك", "مطعم", "كافيه", "هايبر"};
  static constexpr std::array kNames = {"النخيل",  "الياسمين", "القمر",  "الربيع",  "البستان", "النهر",   "المنارة",
                                        "الزيتون", "السنابل",  "الواحة", "المرجان", "الشروق",  "الفيروز", "الغدير"};
  static constexpr std::array kStreets = {"شارع المثال", "شارع التجربة", "ميدان النموذج", "حارة العينة",
                                          "طريق الاختبار"};
  static constexpr std::array kMarks = {" 🌙", " ☕", " 🛒", " ‏(فرع ٢)", " \"الأصلي\"", " & Sons", "  "};
  Dice dice = dice_for(seed, 0x5a0b, n);
  Retailer made;
  made.name = std::string(dice.pick(kKinds)) + " " + std::string(dice.pick(kNames));
  if (n % 9 == 4) made.name += dice.pick(kMarks);
  if (n % 30 == 11) made.name = numbered("Demo Market %u", n);
  made.code = numbered("R-%04u", n + 1);
  made.number = numbered("+2000%08u", 10'000'000 + n * 7919);
  made.address = std::to_string(1 + dice.below(200)) + " " + std::string(dice.pick(kStreets));
  if (dice.chance(0.3)) made.address_notes = "بجوار النافورة، الدور " + std::to_string(1 + dice.below(5));
  if (dice.chance(0.2)) made.number2 = numbered("+2000%08u", 60'000'000 + n * 7919);
  if (n % 25 == 3) made.number.clear();                                             // no telephone
  if (n % 20 == 7) made.number = shop(seed, n - 1).number;                          // two shops with one telephone
  if (n % 40 == 17) made.number = "0020 00 " + shop(seed, n - 1).number.substr(5);  // one again, as people write it
  if (n % 24 == 9) made.name = shop(seed, n - 1).name;                              // two shops with one name
  if (n % 60 == 33) made.code.clear();                                              // no code
  return made;
}

Line line_of(const Product& product, Figure amount) {
  Line line;
  line.supplier_product_id = product.supplier_product_id;
  line.internal_product_id = product.internal_product_id;
  line.base_product_id = product.base_product_id;
  line.unit = product.unit;
  line.unit_count = product.unit_count;
  line.product_name = product.name;
  line.amount = amount;
  line.selling_price = product.selling_price;
  return line;
}

/// A part of a price in quarters, at least one quarter.
Figure quarters(Figure price, double part) {
  constexpr Figure kQuarter = kOne / 4;
  return std::max<Figure>(kQuarter, static_cast<Figure>(static_cast<double>(price) * part) / kQuarter * kQuarter);
}

Figure whole_part(Figure total, double part) {
  return static_cast<Figure>(static_cast<double>(total) * part) / kOne * kOne;
}

}  // namespace

std::vector<Json> demo_products() {
  struct Base {
    const char* name;
    double price;
    const char* unit;
    int count;
  };
  static constexpr std::array kBases = {Base{"شاي أسود ناعم ٢٥٠ جم", 62.5, "box", 24},
                                        Base{"سكر أبيض ١ كجم", 36, "bag", 10},
                                        Base{"أرز بلدي ١ كجم", 31.25, "bag", 10},
                                        Base{"زيت عباد الشمس ٨٠٠ مل", 74.75, "box", 12},
                                        Base{"مكرونة قلم ٤٠٠ جم", 14.5, "bag", 20},
                                        Base{"عدس أصفر ٥٠٠ جم", 41, "bag", 12},
                                        Base{"فول مدمس ٤٠٠ جم", 17.75, "box", 24},
                                        Base{"تونة قطع ١٦٠ جم", 58, "box", 48},
                                        Base{"صلصة طماطم ٣٠٠ جم", 16.25, "box", 24},
                                        Base{"لبن كامل الدسم ١ لتر", 39.5, "box", 12},
                                        Base{"جبنة بيضاء ٥٠٠ جم", 67, "box", 16},
                                        Base{"مربى تين ٣٤٠ جم", 44.25, "box", 12},
                                        Base{"عسل زهور ٥٠٠ جم", 121, "box", 6},
                                        Base{"بسكويت شاي", 9.5, "box", 48},
                                        Base{"شيكولاتة بالبندق", 24.75, "box", 36},
                                        Base{"مياه معدنية ١.٥ لتر", 11, "shrink", 12},
                                        Base{"عصير مانجو ٢٣٥ مل", 12.25, "shrink", 24},
                                        Base{"عصير جوافة ٢٣٥ مل", 12.25, "shrink", 24},
                                        Base{"قهوة محوجة ٢٠٠ جم", 96, "box", 20},
                                        Base{"ملح طعام ٧٠٠ جم", 6.5, "bag", 24},
                                        Base{"خل طبيعي ١ لتر", 18, "box", 12},
                                        Base{"دقيق فاخر ١ كجم", 27.5, "bag", 10},
                                        Base{"سمن نباتي ١.٥ كجم", 139.75, "box", 6},
                                        Base{"زبدة ٢٠٠ جم", 71, "box", 40},
                                        Base{"حلاوة طحينية ٥٥٠ جم", 82.25, "box", 12},
                                        Base{"شعرية ٤٠٠ جم", 13.75, "bag", 20},
                                        Base{"صابون زيتون", 21, "box", 72},
                                        Base{"مسحوق غسيل ٢.٥ كجم", 148.5, "box", 6},
                                        Base{"سائل أطباق ليمون", 33.25, "box", 12},
                                        Base{"مناديل ورقية ٥٠٠", 28, "shrink", 10}};
  std::vector<Json> products;
  std::size_t number = 0;
  for (std::size_t i = 0; i < kBases.size(); ++i) {
    const Base& base = kBases[i];
    for (const bool packed : {false, true}) {
      ++number;
      const int count = packed ? base.count : 1;
      Json row = {{"supplier_product_id", std::to_string(70'000 + number)},
                  {"internal_product_id", numbered("DEMO-%03u", number)},
                  {"base_product_id", std::to_string(8'001 + i)},
                  {"product_name", base.name},
                  {"unit", packed ? base.unit : "piece"},
                  {"unit_count", count},
                  {"barcode", barcode(number)},
                  {"selling_price", packed ? base.price * count * 0.96 : base.price},
                  {"tax_percentage", i % 3 == 0 ? 14 : 0},
                  {"available_stock_quantity", packed ? 40 + (i * 13) % 90 : 200 + (i * 37) % 700}};
      if (number % 11 == 0) row["min_order"] = 2;
      if (number % 7 == 0) row["max_order"] = 30;
      products.push_back(row);
    }
  }
  return products;
}

Mix mix_from(const Json& given) {
  Mix mix;
  if (given.is_null()) return mix;
  if (!given.is_object()) throw ControlError("mix must be an object of shares");
  for (const auto& [key, value] : given.items()) {
    double* const slot = key == "two_lines"         ? &mix.two_lines
                         : key == "discount"        ? &mix.discount
                         : key == "credit"          ? &mix.credit
                         : key == "installment"     ? &mix.installment
                         : key == "wallet"          ? &mix.wallet
                         : key == "by_cartona"      ? &mix.by_cartona
                         : key == "unknown_product" ? &mix.unknown_product
                         : key == "late"            ? &mix.late
                         : key == "wrong"           ? &mix.wrong
                                                    : nullptr;
    if (slot == nullptr) throw ControlError("the mix has no share '" + key + "'");
    if (!value.is_number() || value < 0 || value > 1) throw ControlError("the share " + key + " must be 0 to 1");
    *slot = value.get<double>();
  }
  return mix;
}

Order generate_order(const Account& account, std::uint64_t seed, std::uint64_t n, const Mix& mix) {
  Dice dice = dice_for(seed, 0x0bde7, n);
  Order order;
  order.supplier = account.supplier;
  order.supplier_code = account.code;
  order.retailer = shop(seed, dice.below(kShops));
  std::vector<const Product*> sold;
  for (const auto& product : account.products)
    if (product->is_published && product->in_stock) sold.push_back(product.get());
  if (sold.empty())
    for (const auto& product : account.products) sold.push_back(product.get());

  const std::size_t lines = sold.empty() ? 0 : std::min(sold.size(), 1 + dice.below(dice.chance(0.1) ? 14 : 5));
  const std::size_t first = dice.below(sold.size());
  const std::size_t stride = 1 + dice.below(7);
  for (std::size_t i = 0; i < lines; ++i) {
    const Product& product = *sold[(first + i * stride) % sold.size()];
    bool there = false;
    for (const auto& line : order.lines) there = there || line.supplier_product_id == product.supplier_product_id;
    if (there) continue;
    const std::int64_t least = product.min_order.value_or(1);
    const std::int64_t most = std::max(least, std::min<std::int64_t>(product.max_order.value_or(12), 12));
    Line line = line_of(product, dice.between(least, most) * kOne);
    if (dice.chance(mix.two_lines)) {
      // The offer price up to the offer's maximum, the rest as usual.
      Line offer = line;
      offer.amount = std::max<Figure>(kOne, line.amount / 3 / kOne * kOne);
      offer.supplier_discount = quarters(line.selling_price, 0.08);
      offer.selling_price = std::max<Figure>(0, line.selling_price - offer.supplier_discount);
      order.lines.push_back(offer);
    } else if (dice.chance(mix.discount)) {
      line.supplier_discount = quarters(line.selling_price, 0.05);
      if (dice.chance(0.5)) line.cartona_discount = quarters(line.selling_price, 0.03);
      line.selling_price = std::max<Figure>(0, line.selling_price - line.supplier_discount - line.cartona_discount);
    }
    if (dice.chance(0.05)) line.comment = "من فضلك تاريخ حديث 🙏";
    order.lines.push_back(line);
  }
  if (dice.chance(mix.unknown_product) || order.lines.empty()) {
    Line line;
    line.supplier_product_id = std::to_string(79'000 + dice.below(100));
    line.internal_product_id = numbered("NEW-%03u", dice.below(100));
    line.base_product_id = "8900";
    line.unit = "piece";
    line.product_name = "منتج جديد";
    line.amount = kOne;
    line.selling_price = 25 * kOne;
    order.lines.push_back(line);
  }
  const Figure total = order.total();
  if (dice.chance(mix.credit)) order.cartona_credit = whole_part(total, 0.1 + dice.unit() * 0.4);
  if (dice.chance(mix.installment)) order.installment_cost = whole_part(total - order.cartona_credit, 0.5);
  if (dice.chance(mix.wallet)) order.wallet_top_up = static_cast<Figure>(50 * (1 + dice.below(6))) * kOne;
  if (dice.chance(mix.by_cartona)) {
    order.delivered_by = "delivered_by_cartona";
    order.pickup_otp = numbered("%04u", dice.below(10'000));
  }
  if (dice.chance(0.15)) order.note_message = "اتصل قبل التوصيل ☎️";
  order.distribution_route_code = numbered("RT-%02u", 1 + dice.below(12));
  if (dice.chance(mix.wrong)) {
    order.raw = Json::object();
    switch (dice.below(4)) {
      case 0: {
        std::string text;
        append_figure(text, total + 7 * kOne, FigureForm::natural);
        order.raw["total_price"] = Json::parse(text);
        break;
      }
      case 1:
        order.lines.front().amount = -order.lines.front().amount;
        break;
      case 2:
        order.raw["status"] = "waiting_for_the_moon";
        break;
      default:
        order.lines.push_back(order.lines.front());
        order.lines.front().id = order.lines.back().id = 5'000'000 + static_cast<std::int64_t>(n);
        break;
    }
  }
  return order;
}

Json generate_changes(const Order& order, Dice& dice) {
  if (order.lines.empty()) return Json::array();
  const Line& line = order.lines[dice.below(order.lines.size())];
  if (order.lines.size() > 1 && dice.chance(0.3)) return Json::array({{{"id", line.id}, {"cancelled", true}}});
  const std::int64_t amount = std::max<std::int64_t>(1, line.amount / kOne + dice.between(-3, 4));
  Json changes = Json::array({{{"id", line.id}, {"amount", amount}}});
  if (order.supplier != nullptr && dice.chance(0.3)) {
    const Account* account = order.supplier->account(order.supplier_code);
    if (account != nullptr && !account->products.empty()) {
      const Product& product = *account->products[dice.below(account->products.size())];
      changes.push_back({{"supplier_product_id", product.supplier_product_id}, {"amount", dice.between(1, 4)}});
    }
  }
  return changes;
}

}  // namespace sandbox::cartona
