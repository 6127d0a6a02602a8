#pragma once

#include <string>
#include <vector>

namespace dragoman::connectors::odoo {

/// The models that are captured unless the connection says otherwise, in an order in which what others refer to comes
/// first. `major` is Odoo's version; what a server lacks (a module that isn't installed) is left out later.
std::vector<std::string> default_models(int major);

}  // namespace dragoman::connectors::odoo
