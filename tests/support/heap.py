"""How much memory this process uses, to the byte: what C has, and how many objects Python has."""

from __future__ import annotations

import ctypes
import gc
from dataclasses import dataclass


class _Mallinfo2(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


@dataclass(frozen=True)
class Heap:
    """`c_bytes`: allocated with malloc and not freed. `objects`: those that gc knows."""

    c_bytes: int
    objects: int


def heap() -> Heap:
    """After a collection, so that two of them can be compared. glibc 2.33 and later."""
    gc.collect()
    function = ctypes.CDLL(None).mallinfo2
    function.restype = _Mallinfo2
    found = function()
    return Heap(found.uordblks + found.hblkhd, len(gc.get_objects()))
