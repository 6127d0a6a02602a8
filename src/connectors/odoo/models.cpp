#include "connectors/odoo/models.h"

namespace dragoman::connectors::odoo {
namespace {

struct Entry {
  const char* model;
  int since = 0, before = 1000;  ///< Odoo versions that have it: since <= major < before
};

// The differences between versions are these and no others; a saas~N.M server counts as N.
constexpr Entry kModels[] = {
    {"res.company"},
    {"uom.category", 0, 19},
    {"uom.uom"},
    {"product.category"},
    {"product.attribute"},
    {"product.attribute.value"},
    {"product.template"},
    {"product.template.attribute.line"},
    {"product.template.attribute.value"},
    {"product.product"},
    {"product.pricelist"},
    {"product.pricelist.item"},
    {"res.partner.category"},
    {"res.partner"},
    {"account.tax.group"},
    {"account.tax"},
    {"account.fiscal.position"},
    {"account.fiscal.position.tax", 0, 19},
    {"delivery.carrier"},
    {"coupon.program", 0, 16},
    {"coupon.coupon", 0, 16},
    {"loyalty.program", 16},
    {"loyalty.rule", 16},
    {"loyalty.reward", 16},
    {"loyalty.card", 16},
    {"payment.acquirer", 0, 16},
    {"payment.provider", 16},
    {"payment.method", 17},
    {"stock.warehouse"},
    {"stock.location"},
    {"sale.order"},
    {"sale.order.line"},
    {"stock.picking"},
    {"stock.move"},
    {"stock.move.line"},
    {"stock.quant"},
    {"account.move"},
    {"account.move.line"},
    {"account.payment"},
    {"payment.transaction"},
};

}  // namespace

std::vector<std::string> default_models(int major) {
  std::vector<std::string> models;
  for (const Entry& entry : kModels)
    if (major >= entry.since && major < entry.before) models.emplace_back(entry.model);
  return models;
}

}  // namespace dragoman::connectors::odoo
