"""The disk under the journal: one directory, flat names; a protocol so that tests can lose power.

What a `Disk` promises, and no more: bytes appended survive once `sync` has returned; a file
created, renamed or unlinked stays so once `sync_directory` has returned. Until then any part
may be there after a power loss, in any order.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol


class AppendFile(Protocol):
    def append(self, data: bytes) -> None: ...

    def sync(self) -> None: ...

    def close(self) -> None: ...


class Disk(Protocol):
    def describe(self, name: str) -> str:
        """The name for an operator."""

    def list(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...

    def create(self, name: str) -> AppendFile:
        """A new, empty file; FileExistsError if there is one."""

    def open(self, name: str) -> AppendFile: ...

    def cut(self, name: str, size_bytes: int) -> None:
        """Drop all from `size_bytes` on, durably."""

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def sync_directory(self) -> None: ...


class OsAppendFile:
    """Appends to a file descriptor; fdatasync also makes the new length durable."""

    def __init__(self, path: Path, flags: int) -> None:
        self._fd = os.open(path, flags | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def append(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def sync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class OsDisk:
    """A directory of the file system, created (durably) if it is not there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_dir():
            path.mkdir(mode=0o700, parents=True)
            _sync_directory(path.parent)

    def describe(self, name: str) -> str:
        return str(self.path / name)

    def list(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def create(self, name: str) -> AppendFile:
        return OsAppendFile(self.path / name, os.O_CREAT | os.O_EXCL)

    def open(self, name: str) -> AppendFile:
        return OsAppendFile(self.path / name, 0)

    def cut(self, name: str, size_bytes: int) -> None:
        fd = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
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
        _sync_directory(self.path)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
