"""Many readers, or one who needs the lmdb map for himself (to grow it, to swap the file).

A thread must not enter twice. A long reader (a snapshot's copy) is waited for without keeping
the short ones out, so that reads go on while a resize waits; once no long reader is left, new
readers wait for the resize, which takes microseconds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ResizeGate:
    def __init__(self) -> None:
        self._lock = threading.Lock()  # taken by itself, which costs less, where nobody need wait
        self._changed = threading.Condition(self._lock)
        self._inside_count = 0
        self._long_count = 0
        self._exclusive = False
        self._waiting_count = 0  # for the readers to leave

    def enter(self, *, long: bool = False) -> None:
        """Begin to read; `leave` follows, with the same `long`."""
        with self._lock:
            while self._exclusive:
                self._changed.wait()
            self._inside_count += 1
            self._long_count += long

    def leave(self, *, long: bool = False) -> None:
        with self._lock:
            self._inside_count -= 1
            self._long_count -= long
            if self._waiting_count:
                self._changed.notify_all()

    @contextmanager
    def shared(self, *, long: bool = False) -> Iterator[None]:
        self.enter(long=long)
        try:
            yield
        finally:
            self.leave(long=long)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            self._waiting_count += 1
            try:
                while self._exclusive or self._long_count:
                    self._changed.wait()
                self._exclusive = True
                while self._inside_count:
                    self._changed.wait()
            finally:
                self._waiting_count -= 1
        try:
            yield
        finally:
            with self._changed:
                self._exclusive = False
                self._changed.notify_all()
