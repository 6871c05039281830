"""Plain-Python twin of the syncer: it writes at once, and waits for the sync."""

from __future__ import annotations

import os
import time


class Syncer:
    def __init__(self) -> None:
        self._done = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._result: float | OSError | None = None

    def fileno(self) -> int:
        return self._done

    def begin(self, fd: int, data: bytes, offset: int) -> None:
        if self._result is not None:
            raise ValueError("a write is under way")
        try:
            view = memoryview(data)
            while view:
                count = os.pwrite(fd, view, offset)
                view, offset = view[count:], offset + count
            begun_s = time.perf_counter()
            os.fdatasync(fd)
            self._result = time.perf_counter() - begun_s
        except OSError as error:
            self._result = error
        os.eventfd_write(self._done, 1)

    def finish(self) -> float:
        result = self._result
        if result is None:
            raise ValueError("no write is under way")
        os.eventfd_read(self._done)
        self._result = None
        if isinstance(result, OSError):
            raise result
        return result

    def close(self) -> None:
        os.close(self._done)
