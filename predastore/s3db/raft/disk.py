"""The disk under the journal: one directory, flat names; a protocol so that tests can lose power.

What a `JournalDisk` promises, and no more: bytes appended survive once `sync` has returned; a file
created, renamed or unlinked stays so once `sync_directory` has returned. Until then any part
may be there after a power loss, in any order.

Zeros ahead: to sync what made a file longer, the file system has to commit its own journal, too.
So a small append that is placed (`OsAppendFile.place`) may bring a stretch of zeros with it, into
which the next ones go: until `finish`, such a file may end in zeros that nobody appended.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from predastore.base import fs
from predastore.base.limits import JOURNAL_SMALL_BYTES, JOURNAL_ZERO_AHEAD_BYTES

_ZEROS: Final = bytes(JOURNAL_ZERO_AHEAD_BYTES)


class AppendFile(Protocol):
    def append(self, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def finish(self) -> None:
        """Closes it for good: its length is that of what was appended, durably."""

    def close(self) -> None: ...


class JournalDisk(Protocol):
    def describe(self, name: str) -> str:
        """The name for an operator."""

    def list(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def read_at(self, name: str, offset: int, size_bytes: int) -> bytes:
        """So many bytes from there on, or fewer at its end; FileNotFoundError."""

    def create(self, name: str) -> AppendFile:
        """A new, empty file; FileExistsError if there is one."""

    def open(self, name: str) -> AppendFile: ...

    def cut(self, name: str, size_bytes: int) -> None:
        """Drop all from `size_bytes` on, durably."""

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def sync_directory(self) -> None: ...


class OsAppendFile:
    """Appends behind what the file has when it is opened."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = fs.opened(path, flags | os.O_WRONLY, 0o600)
        self._end = self._extent = os.fstat(self._fd).st_size

    def append(self, data: bytes) -> None:
        offset = self._take(len(data))
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, offset)
            view, offset = view[count:], offset + count

    def place(self, data: bytes) -> tuple[int, bytes, int]:
        """An append for somebody else to write: descriptor, bytes, offset."""
        if self._end + len(data) > self._extent and len(data) <= JOURNAL_SMALL_BYTES:
            offset = self._take(len(data))
            data += _ZEROS
            self._extent = offset + len(data)
            return self._fd, data, offset
        return self._fd, data, self._take(len(data))

    def _take(self, size_bytes: int) -> int:
        """The offset of the next so many bytes."""
        offset, self._end = self._end, self._end + size_bytes
        self._extent = max(self._extent, self._end)
        return offset

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def finish(self) -> None:
        os.ftruncate(self._fd, self._end)
        os.fsync(self._fd)
        self.close()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsDisk:
    """A directory of the file system, created (durably) if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        fs.make_folder(path, 0o700)

    def describe(self, name: str) -> str:
        return str(self.path / name)

    def list(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def read_at(self, name: str, offset: int, size_bytes: int) -> bytes:
        fd = fs.opened(self.path / name, os.O_RDONLY)
        try:
            return os.pread(fd, size_bytes, offset)
        finally:
            os.close(fd)

    def create(self, name: str) -> AppendFile:
        return OsAppendFile(self.path / name, os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> AppendFile:
        return OsAppendFile(self.path / name, 0)

    def cut(self, name: str, size_bytes: int) -> None:
        fd = fs.opened(self.path / name, os.O_WRONLY)
        try:
            os.ftruncate(fd, size_bytes)
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.path / old, self.path / new)

    def unlink(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path / name)

    def sync_directory(self) -> None:
        fs.sync(self.path)
