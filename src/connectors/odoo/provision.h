#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/random.h"
#include "base/secret.h"
#include "odoo/client.h"
#include "pipeline/connections.h"

namespace dragoman::connectors::odoo {

namespace rpc = dragoman::odoo;

/// A field of our own on one of Odoo's models.
struct CustomField {
  std::string model;  ///< `sale.order`
  std::string name;   ///< `x_market_ref`: Odoo wants the `x_`
  std::string type = "char";
  std::string label;   ///< empty: made of the name
  std::string target;  ///< of a many2one: the model it points to
  bool index = true;
  bool unique = false;  ///< by a unique index of the database; empty values don't count
  std::string why;      ///< who wants it, for the plan

  /// From `sale.order.x_market_ref`, with `:integer`, `:many2one=res.partner`, `:unique` behind. Throws invalid.
  static CustomField parse(const std::string& text);
  nlohmann::json json() const;
  static CustomField from(const nlohmann::json& json);
};

/// What marketplaces write into an Odoo, by the names that the orders' documents have for it, and the field of our own
/// that stands for it where this Odoo has none of that name.
struct MarketField {
  std::string source;  ///< `cartona_id`, of `field.model`
  CustomField field;   ///< `x_cartona_id`
};
const std::vector<MarketField>& marketplace_fields();
/// The same, as the procedure `import` takes it: model → source name → field. `own`: what a connection's setting
/// `marketplace_fields` has in place of it.
nlohmann::json marketplace_names(const nlohmann::json& own);
/// Throws invalid, saying what is wrong with that setting.
void check_marketplace_fields(const nlohmann::json& own);

/// One thing in Odoo, and what becomes of it.
struct ProvisionStep {
  enum class Change { none, create, change, remove };
  std::string object;  ///< `group`, `user`, `grant`, `right`, `field`, `index`, `table`, `procedure`
  std::string name;
  Change change = Change::none;
  std::string why;     ///< what it is for
  std::string detail;  ///< what exactly is made or changed
};
std::string_view name(ProvisionStep::Change change);

/// What `provision apply` left in Odoo, as the hub remembers it in `connection.learnt`.
struct Provisioned {
  std::map<std::string, std::int64_t> actions;  ///< procedure → id of its server action
  std::map<std::string, std::string> digests;   ///< procedure → digest of what was put in place
  bool own_user = false;
  std::string login;
  std::vector<CustomField> fields;
  bool market = false;     ///< with what marketplaces need: indexes over when records were written
  std::string checked;     ///< when, as text; empty: not yet
  std::string difference;  ///< found by the last check: what somebody changed; empty: all as it was

  nlohmann::json json() const;
};
/// nullopt: never provisioned, or removed.
std::optional<Provisioned> provisioned(const pipeline::Connection& connection);
/// The server action of a procedure. Throws conflict (code `not_provisioned`) saying what to do.
std::int64_t action_of(const pipeline::Connection& connection, std::string_view procedure);

struct ProvisionOptions {
  /// A user of the hub's own, that may read what is captured and run the procedures; else the group is granted to the
  /// connection's login.
  bool own_user = false;
  std::string own_login = "dragoman";
  std::vector<std::string> readable;    ///< models that the hub's own user may read
  std::vector<std::int64_t> companies;  ///< of the hub's own user; empty: the administrator's
  std::vector<CustomField> fields;
  /// Marketplaces use it: their fields, and indexes without which asking each second what changed would read whole
  /// tables.
  bool market = false;
  /// Fields that this Odoo has for what marketplaces write, in place of those of our own: model → source name → field.
  /// They are to be there.
  nlohmann::json market_names = nlohmann::json::object();
};

/// Puts into one Odoo what the hub needs there, and takes it out again. All that it makes carries an external id of the
/// module `__dragoman__`, made in the same transaction as the thing: what was left by a run that was killed is found by
/// the next one.
///
/// Errors  as the Client's; forbidden (code `not_administrator`) if the login given is none; conflict (code
///         `duplicates`) where a unique index can't be made.
/// Threads one thread at a time.
class Provisioning {
 public:
  /// Opens a client on the connection's Odoo for a login.
  using Open = std::function<std::unique_ptr<rpc::Client>(const std::string& login, const Secret& secret)>;

  /// `login` and `secret` are the connection's. `admin` lives longer.
  Provisioning(rpc::Client& admin, Open open, std::string login, Secret secret, ProvisionOptions options, Clock& clock,
               Random& random);
  ~Provisioning();

  /// Everything that is wanted, with what would be done about it. Changes nothing.
  std::vector<ProvisionStep> plan(std::stop_token stop);

  struct Applied {
    std::vector<ProvisionStep> steps;  ///< as plan gave them before
    Provisioned state;
    /// The connection's login and secret from now on; an empty secret: as before.
    std::string login;
    Secret secret;
  };
  /// Does what plan says. `keep_user` is called as soon as the hub's own user has a password, which nobody else knows:
  /// it stores it.
  Applied apply(std::stop_token stop, const std::function<void(const std::string& login, const Secret&)>& keep_user);

  std::vector<ProvisionStep> plan_removal(std::stop_token stop);
  /// Removes all that apply made, and reads back that it is gone.
  std::vector<ProvisionStep> remove(std::stop_token stop);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

/// Asks Odoo through the connection's own login what is there, and compares it with what was put in place: one line per
/// difference. Not being able to run the procedures at all is a difference, too; not reaching Odoo is an Error.
std::vector<std::string> check_provisioned(rpc::Client& own, const Provisioned& expected, std::stop_token stop);

}  // namespace dragoman::connectors::odoo
