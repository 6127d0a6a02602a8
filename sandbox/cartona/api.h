#pragma once

#include <string>

#include "sandbox/cartona/http.h"
#include "sandbox/cartona/world.h"

namespace sandbox::cartona {

/// An error in the shape that the switch error_body says.
HttpResponse error_response(const Switches& switches, int status, const std::string& error, const std::string& details);

/// What the token is answered that is none.
HttpResponse bad_token_response(const Switches& switches);

/// Answers one call of the API for a supplier whose token is good. `path` is what follows the prefix.
HttpResponse answer(World& world, Supplier& supplier, const HttpRequest& request, const std::string& path);

}  // namespace sandbox::cartona
