#pragma once

#include "sandbox/odoo/methods.h"

namespace sandbox::odoo {

/// Server actions, as far as Dragoman uses them: an action whose code begins with `# Dragoman procedure: NAME` does
/// what that procedure does on a real server (contract/odoo/cases/procedures.json), by an implementation of its own.
/// Other code is refused. Adds `ir.actions.server.run` and what imports may call.
void add_procedures(Methods& methods);

/// An administrator's field: a row of ir.model.fields was made or is about to go.
void add_manual_field(Orm& orm, Id row);
void remove_manual_field(Orm& orm, Id row);

}  // namespace sandbox::odoo
