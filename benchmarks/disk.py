"""The disk as a yardstick: what it can do with nothing in the way, on the same file system.

Both write over blocks that the file has already, so that no figure has the file system's own
work for growing files in it: they are what the device gives at best.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

_FILE_BYTES: Final = 256 << 20
_CHUNK_BYTES: Final = 4 << 20


class Disk:
    """A file in `folder`; each method runs for `seconds`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "yardstick"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT)
        self._chunk = os.urandom(_CHUNK_BYTES)
        for at in range(0, _FILE_BYTES, _CHUNK_BYTES):
            os.pwrite(self._fd, self._chunk, at)
        os.fsync(self._fd)

    def syncs_per_second(self, size_bytes: int = 4096, seconds: float = 0.5) -> float:
        """pwrite of `size_bytes` and fdatasync, one after the other."""
        data = self._chunk[:size_bytes]
        start, count = time.perf_counter(), 0
        while (taken_s := time.perf_counter() - start) < seconds:
            os.pwrite(self._fd, data, count * size_bytes % _FILE_BYTES)
            os.fdatasync(self._fd)
            count += 1
        return count / taken_s

    def mib_per_second(self, seconds: float = 1.0) -> float:
        """pwrite of chunks of 4 MiB, an fdatasync after every fourth."""
        start, count = time.perf_counter(), 0
        while (taken_s := time.perf_counter() - start) < seconds:
            for _ in range(4):
                os.pwrite(self._fd, self._chunk, count * _CHUNK_BYTES % _FILE_BYTES)
                count += 1
            os.fdatasync(self._fd)
        return count * _CHUNK_BYTES / (1 << 20) / taken_s

    def close(self) -> None:
        os.close(self._fd)
        self._path.unlink()
