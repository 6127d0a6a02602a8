#pragma once

#include <set>
#include <string>
#include <vector>

#include "sandbox/odoo/orm.h"

namespace sandbox::odoo {

/// What becomes of a sale order in sales and stock: confirmed, reserved, delivered, cancelled, as far as Odoo's own
/// answers show it. One step from the shelf to the customer, no lots, no packages.
///
/// Errors  OdooError in the words of the procedure `import`, whose steps these are.
/// Threads as Orm.
class Orders {
 public:
  explicit Orders(Orm& orm);

  /// All of them; with a transfer of what is goods, reserved as far as there is any.
  void confirm(const std::vector<Id>& ids);
  /// True if something was there to be reserved again.
  bool reserve(Id order);
  /// Delivers what is reserved. Throws dragoman.Stock where it is not all, unless `partial`: the rest becomes a
  /// backorder.
  bool deliver(Id order, bool partial);
  bool drop_deliveries(Id order);
  void cancel(Id order);
  /// After lines of a confirmed order were changed: more becomes a transfer, less takes from it.
  void adjust(Id order);

  bool delivered_from(Id order);
  /// Empty, or what of its goods is not delivered, and will not be: `A: 6 of 10 Units`.
  std::string undelivered(Id order, bool partial);
  void cancel_picking(Id picking);
  bool locked(Id order);
  /// Empty, or why its content is not changed any more: `is cancelled`.
  std::string why_closed(Id order);
  std::string state(Id order);
  std::string name(Id order);
  /// Transfers of an order, by id.
  std::vector<Id> pickings(Id order);
  std::vector<Id> moves(Id picking);
  std::vector<Id> lines(Id order);
  bool storable(Id product);
  bool goods(Id product);

  // One value of one record; 0, false and "" where there is none.
  double real(const Table& table, Id id, const char* field);
  Id link(const Table& table, Id id, const char* field);
  std::string text(const Table& table, Id id, const char* field);

 private:
  double open_demand(Id line);
  void launch(Id order, const std::vector<std::pair<Id, double>>& wanted, Id backorder_of);
  double free_at(Id product, Id location);
  void move_stock(Id product, Id location, double quantity, double reserved);
  /// Reserves what it can of one move, and says its state.
  bool reserve_move(Id move);
  void set_reserved(Id move, double quantity);
  double reserved(Id move);
  void settle_picking(Id picking);
  void cancel_move(Id move);
  void set_state(Id order, const char* state);
  std::string goods_type(Id product);

  Orm& orm_;
  Database& database_;
  Table &orders_, &lines_, &pickings_, &moves_, &quants_;
};

}  // namespace sandbox::odoo
