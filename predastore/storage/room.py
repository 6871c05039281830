"""The reserve of a disk on which objects are plain files: what adds to it stops in time.

To let go of an object takes room, too: its record is taken out of the state, which writes pages
anew before it has old ones to spare. So where no more than the reserve is left, on the disk and
within the state's file together, nothing is added, neither bytes nor records, and what removes goes
on. A part of the reserve is always kept on the disk. How large it is follows from that of the file
system, within bounds.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from predastore.base.errors import NodeFull
from predastore.base.limits import (
    FILE_RESERVE_BYTES_MAX,
    FILE_RESERVE_BYTES_MIN,
    FILE_RESERVE_PART,
    FILE_RESERVE_SPARE_PART,
)

OBSTACLE = "the disk is full but for its reserve"


class Room:
    """`spare_bytes`: what the state may write anew of its own file. Its methods are for threads."""

    def __init__(self, spare_bytes: Callable[[], int]) -> None:
        self._spare_bytes = spare_bytes
        self._lock = threading.Lock()
        self._writing_bytes = 0

    def left_bytes(self, disk: os.statvfs_result) -> int:
        """What may be added to a file system; negative where it is into the reserve."""
        part = disk.f_blocks * disk.f_frsize // FILE_RESERVE_PART
        reserve = min(FILE_RESERVE_BYTES_MAX, max(part, FILE_RESERVE_BYTES_MIN))
        kept = max(reserve // FILE_RESERVE_SPARE_PART, reserve - self._spare_bytes())
        return disk.f_bavail * disk.f_frsize - kept

    def check(self, disk: os.statvfs_result, count: int) -> None:
        """NodeFull unless so many bytes can be added."""
        if self.left_bytes(disk) < count:
            raise NodeFull(OBSTACLE)

    @contextmanager
    def taken(self, descriptor: int, count: int) -> Iterator[None]:
        """Around a write of so many bytes to an open file; NodeFull."""
        self._add(count)
        try:
            self.check(os.fstatvfs(descriptor), self._writing_bytes)
            yield
        finally:
            self._add(-count)

    def _add(self, count: int) -> None:
        with self._lock:
            self._writing_bytes += count
