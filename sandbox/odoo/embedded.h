#pragma once

#include <string_view>

namespace sandbox::odoo {

// The files of schema/, as they were when the program was built.
std::string_view embedded_schema_19();
std::string_view embedded_schema_14();
std::string_view embedded_models();

}  // namespace sandbox::odoo
