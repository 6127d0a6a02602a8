#include "connectors/catalog.h"

#include "connectors/odoo/odoo_source.h"

namespace dragoman::connectors {

pipeline::ConnectorList catalog() {
  return pipeline::ConnectorList({odoo::connector()});
}

}  // namespace dragoman::connectors
