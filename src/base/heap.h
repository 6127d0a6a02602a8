#pragma once

namespace dragoman {

/// Makes the C library give memory back: what was read in one piece goes back to the system at once instead of leaving a
/// hole, and threads share two arenas instead of having one each. A pull of 500,000 records then needs no more than one
/// of 50,000 (34 MB; 37 and 40 with a threshold of a megabyte), at a few per cent more processor time.
///
/// Threads: call once, first in main.
void keep_heap_small();

}  // namespace dragoman
