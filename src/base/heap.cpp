#include "base/heap.h"

#include <malloc.h>

namespace dragoman {

void keep_heap_small() {
#ifdef M_ARENA_MAX
  mallopt(M_ARENA_MAX, 2);
  // Said explicitly, it doesn't grow with the sizes that are freed.
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 256 << 10);
#endif
}

}  // namespace dragoman
