#include "pipeline/mapping.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "fakes/delivery_fakes.h"

namespace dragoman::pipeline {
namespace {

class MappingTest : public tests::DeliveryStore {
 protected:
  Mapping::Put put(const std::string& entity, const std::string& internal_id, const std::string& external_id) {
    Mapping::Put done{};
    store_->write([&](store::Session& session) {
      Mapped mapped;
      mapped.connection_id = 1;
      mapped.entity = entity;
      mapped.internal_id = internal_id;
      mapped.external_id = external_id;
      mapped.cause = "job 1";
      mapped.created = session.now();
      done = Mapping::put(session, mapped);
    });
    return done;
  }
  std::string share(const std::string& entity, const std::string& internal_id, const std::string& external_id,
                    const std::string& by) {
    try {
      store_->write([&](store::Session& session) {
        Mapped mapped;
        mapped.connection_id = 1;
        mapped.entity = entity;
        mapped.internal_id = internal_id;
        mapped.external_id = external_id;
        mapped.cause = "a person";
        mapped.created = session.now();
        Mapping::share(session, mapped, by);
      });
      return "shared";
    } catch (const Error& error) {
      return error.code.empty() ? std::string(policy(error.kind).name) : error.code;
    }
  }
  std::string all() {
    return rows("SELECT internal_id, external_id FROM integration_mapping ORDER BY internal_id, external_id", 2);
  }
};

TEST_P(MappingTest, AnExternalIdMeansOneOfOursAlways) {
  EXPECT_EQ(put("order", "A", "odoo:sale.order:1"), Mapping::Put::made);
  EXPECT_EQ(put("order", "A", "odoo:sale.order:1"), Mapping::Put::kept);
  EXPECT_EQ(put("order", "B", "odoo:sale.order:1"), Mapping::Put::taken);
  EXPECT_EQ(share("customer", "C", "odoo:sale.order:1", "ann"), "taken");
  EXPECT_EQ(all(), "A|odoo:sale.order:1");
}

TEST_P(MappingTest, OneOfOursMeansOneOfTheirs) {
  EXPECT_EQ(put("order", "A", "odoo:sale.order:1"), Mapping::Put::made);
  EXPECT_EQ(put("order", "A", "odoo:sale.order:2"), Mapping::Put::moved);
  EXPECT_EQ(put("delivery", "A", "odoo:stock.picking:1"), Mapping::Put::made);
  EXPECT_EQ(all(), "A|odoo:sale.order:2 A|odoo:stock.picking:1");
  const auto twice = [&] {
    store_->write([](store::Session& session) {
      session.execute(
          "INSERT INTO integration_mapping (connection_id, entity, internal_id, external_id, cause, created_us) VALUES "
          "(1, 'order', 'A', 'odoo:sale.order:3', 'x', 0)");
    });
  };
  EXPECT_THROW(twice(), Error) << "the database itself holds it";
}

TEST_P(MappingTest, SharingTakesAPersonsYesAndIsForCustomersAndProducts) {
  EXPECT_EQ(put("customer", "A", "market:shop:1"), Mapping::Put::made);
  EXPECT_EQ(share("customer", "A", "market:shop:2", ""), "invalid");
  EXPECT_EQ(share("customer", "A", "market:shop:2", "ann"), "shared");
  EXPECT_EQ(share("customer", "A", "market:shop:2", "ann"), "shared") << "once more is no harm";
  EXPECT_EQ(share("product", "P", "market:item:2", "ann"), "shared");
  for (const char* entity : {"order", "order_line", "delivery", "res.country"})
    EXPECT_EQ(share(entity, "A", "market:x:9", "ann"), "not_shared") << entity;
  EXPECT_EQ(all(), "A|market:shop:1 A|market:shop:2 P|market:item:2");
}

TEST_P(MappingTest, APersonSharesForAReasonAndItIsAudited) {
  put("customer", "A", "odoo:res.partner:1");
  put("order", "O", "odoo:sale.order:1");
  Mapping mapping(*store_);
  const auto give = [&](const std::string& internal_id, const std::string& external_id,
                        const std::string& connection = "main", const std::string& entity = "customer") {
    Mapped mapped;
    mapped.connection = connection;
    mapped.entity = entity;
    mapped.internal_id = internal_id;
    mapped.external_id = external_id;
    mapped.cause = "token ann";
    return mapped;
  };
  const auto share = [&](const Mapped& mapped) { return mapping.share(mapped, "two branches, one firm", "token ann"); };
  const auto kind_of = [&](const Mapped& mapped) { return store::error_of([&] { share(mapped); }).kind; };
  EXPECT_EQ(store::error_of([&] { mapping.share(give("A", "odoo:res.partner:2"), "", "token ann"); }).kind,
            Error::Kind::invalid);
  EXPECT_EQ(kind_of(give("A", "odoo:res.partner:2", "nowhere")), Error::Kind::not_found);
  EXPECT_EQ(kind_of(give("B", "odoo:res.partner:2")), Error::Kind::not_found) << "B stands for nothing yet";
  EXPECT_EQ(kind_of(give("A", "odoo:product.product:2")), Error::Kind::invalid);
  EXPECT_EQ(kind_of(give("A", "odoo:res.partner:")), Error::Kind::invalid);
  EXPECT_EQ(store::error_of([&] { share(give("O", "odoo:sale.order:2", "main", "order")); }).code, "not_shared");
  const auto shared = share(give("A", "odoo:res.partner:2"));
  EXPECT_EQ(shared.shared_by, "token ann");
  EXPECT_EQ(shared.connection, "main");
  EXPECT_EQ(share(give("A", "odoo:res.partner:2")).id, shared.id) << "once more is no harm";
  put("customer", "C", "odoo:res.partner:3");
  EXPECT_EQ(store::error_of([&] { share(give("A", "odoo:res.partner:3")); }).code, "taken");
  EXPECT_EQ(all(), "A|odoo:res.partner:1 A|odoo:res.partner:2 C|odoo:res.partner:3 O|odoo:sale.order:1");
  EXPECT_EQ(rows("SELECT actor, action, subject, why FROM audit", 4),
            "token ann|mapping.share|main:odoo:res.partner:2|two branches, one firm");
}

TEST_P(MappingTest, IsListedFoundAndUnlinkedForAReason) {
  for (int i = 1; i <= 5; ++i) put("order", fmt::format("A{}", i), fmt::format("odoo:sale.order:{}", i));
  Mapping mapping(*store_);
  const auto first = mapping.list({.connection = "main", .limit = 3});
  ASSERT_EQ(first.size(), 3u);
  EXPECT_EQ(first[2].internal_id, "A3");
  EXPECT_EQ(mapping.list({.after = first[2].id}).size(), 2u);
  const auto found = mapping.list({.external_id = "odoo:sale.order:4"});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].internal_id, "A4");
  EXPECT_EQ(found[0].connection, "main");
  EXPECT_THROW(mapping.unlink(found[0].id, "", "token ann"), Error);
  mapping.unlink(found[0].id, "the wrong order", "token ann");
  EXPECT_THROW(mapping.show(found[0].id), Error);
  EXPECT_EQ(rows("SELECT actor, action, subject, why FROM audit", 4),
            "token ann|mapping.unlink|main:odoo:sale.order:4|the wrong order");
}

INSTANTIATE_TEST_SUITE_P(Stores, MappingTest, ::testing::Values("Sqlite", "Postgres"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace dragoman::pipeline
