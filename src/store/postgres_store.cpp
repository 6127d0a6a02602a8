#include "store/engine.h"

namespace dragoman::store {

std::unique_ptr<Store> open_postgres(const StoreSettings&, Clock&, std::span<const Migration>) {
  raise(Error::Kind::invalid, "store_url", "this build has no PostgreSQL yet: give sqlite:PATH");
}

}  // namespace dragoman::store
