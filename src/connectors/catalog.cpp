#include "connectors/catalog.h"

#include "connectors/cartona/cartona.h"
#include "connectors/odoo/odoo_source.h"

namespace dragoman::connectors {

pipeline::ConnectorList catalog() {
  return pipeline::ConnectorList({odoo::connector(), cartona::connector()});
}

}  // namespace dragoman::connectors
