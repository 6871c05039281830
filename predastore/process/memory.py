"""What a process that serves tells its collector and its allocator, once, before it starts.

Blocks are large, and live for a moment. glibc by itself gives their pages back to the kernel as
soon as the top of the heap is free, and takes them, cleared, for the next: a quarter of what it
costs to move a block over QUIC. So some are kept.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

from predastore.base.limits import GC_THRESHOLDS, HEAP_BLOCK_BYTES_MAX, HEAP_FREE_BYTES_MAX

_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3


def tune() -> None:
    gc.set_threshold(*GC_THRESHOLDS)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # as in glibc
        mallopt(_M_MMAP_THRESHOLD, HEAP_BLOCK_BYTES_MAX)
        mallopt(_M_TRIM_THRESHOLD, HEAP_FREE_BYTES_MAX)
