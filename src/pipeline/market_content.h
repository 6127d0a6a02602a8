#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "pipeline/market_settings.h"
#include "pipeline/marketplace.h"

namespace dragoman::pipeline {

/// Whose orders they are: keys at the target begin with both, `cartona/shop1`.
struct MarketName {
  std::string kind, connection;
  std::string order_key(const std::string& order) const { return prefix() + order; }
  std::string prefix() const { return kind + "/" + connection + "/"; }
};

/// What a person has said about a product of the marketplace.
struct MarketLink {
  std::int64_t odoo_product_id = 0;  ///< 0: nobody has said which one it is, the rules find it
  Decimal factor = 1;                ///< Odoo's units in one of the marketplace's
  std::string factors;               ///< of which packages that was said, as factor_for; empty: that is not known
  bool ignored = false;              ///< a person said that it is none of ours
  bool settled = false;              ///< linked, by whom or what ever, or ignored: what a rule finds changes nothing
  /// `51 Tea`: products of Odoo that it was found to be when the products were read last, if it is not settled.
  std::vector<std::string> candidates;
};

/// What of an order has been applied already.
struct MarketApplied {
  bool imported = false;
  bool in_doubt = false;             ///< not imported, but it was sent, and what became of that is not known
  std::optional<MarketState> state;  ///< the last one that was applied
  std::string body;                  ///< `body` of the plan that was applied last
  bool edited = false;               ///< the shop was changing it since
  bool anew = false;                 ///< a person wants it made anew where it was deleted: all of it goes
  bool settled = false;              ///< a person leaves Odoo's order as it is in this version: its state alone goes
  bool cancelled = false;            ///< in Odoo, for it was at the marketplace, and nobody took that back there
};

/// What is to be done with the newest version of an order.
struct MarketPlan {
  enum class What {
    deliver,  ///< `content` goes to Odoo
    hold,     ///< not as it is: `code` and `message` say why
    wait,     ///< the shop is changing it
    record    ///< nothing to do in Odoo: it was cancelled before it came, or is older than what was applied
  };
  What what = What::hold;
  std::string content;        ///< of deliver: as pipeline::Outgoing
  std::string body;           ///< of deliver: digest of what the marketplace says of it but its state
  std::string code, message;  ///< of hold, wait and record: why, in words for a person
  std::string flag;           ///< a word for what a person should see to, with `message`; empty: nothing
  std::string customer_key;   ///< key of the customer at the target
  std::map<std::string, std::string> products;  ///< key at the target -> the marketplace's id of the product
};

/// The one place that says how an order of a marketplace looks in Odoo, and what its state does there. Pure.
///
/// `links`: of the products on its lines, by the marketplace's id.
MarketPlan plan_order(const MarketOrder& order, const MarketplaceSettings& settings, const MarketName& name,
                      const std::map<std::string, MarketLink>& links, const MarketApplied& applied);

/// Why a product that is sold in boxes waits for a person, and what that person can do.
std::string factor_unknown(const std::string& product_name, const std::string& product, const std::string& unit,
                           const Decimal& unit_count, const std::string& connection);
/// That a product that is linked is sold in a package of which nobody has said what it is in Odoo. `order`: an order
/// says so, and the list of products need not.
std::string factor_missing(const std::string& product_name, const std::string& product, const std::string& factors,
                           const Decimal& unit_count, const std::string& connection, bool order);

/// What a later version of an order says otherwise of its shop, old and new, for a person who goes there; empty:
/// nothing, or it is another shop. What it does not say any more is no news.
std::string contact_changes(const MarketCustomer& before, const MarketCustomer& now);

/// The part of a customer's key behind the prefix: its code, else its first phone and a digest of its name, else one of
/// name and address.
/// Empty: there is nothing to tell it from others.
std::string customer_key(const MarketCustomer& customer);

}  // namespace dragoman::pipeline
