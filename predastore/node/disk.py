"""The disk as a store sees it: the few calls that change it, in one place.

`StoreDisk` is the seam where tests put in a disk that forgets what was not synced, fills up or
fails. Reads are not here: they go through file descriptors that `create` and `open` return.

Every method may raise OSError; the caller decides what that means.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from predastore.base import fs, syscalls
from predastore.rpc import Buffer


class StoreDisk(Protocol):
    def create(self, path: Path) -> int:
        """A descriptor of a new, empty file, for reading and writing."""

    def open(self, path: Path) -> int:
        """A descriptor of an existing file, for reading and writing."""

    def write(self, descriptor: int, pieces: Sequence[Buffer], offset: int) -> None:
        """Writes all pieces, one after the other, from `offset` on."""

    def start_writeback(self, descriptor: int, offset: int, length: int) -> None:
        """Asks for this range to be on its way to the disk soon; promises nothing."""

    def sync(self, descriptor: int) -> None:
        """On return everything written to this file is durable, and its length."""

    def truncate(self, descriptor: int, length: int) -> None: ...

    def sync_folder(self, path: Path) -> None:
        """On return the names in this folder are durable."""

    def unlink(self, path: Path) -> None: ...

    def rename(self, old: Path, new: Path) -> None: ...

    def free_bytes(self, path: Path) -> int:
        """What can still be written on the file system of `path`."""

    def space(self, path: Path) -> tuple[int, int]:
        """`free_bytes`, and the size of the file system of `path`."""


class RealDisk:
    """The operating system's."""

    def create(self, path: Path) -> int:
        return fs.opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)

    def open(self, path: Path) -> int:
        return fs.opened(path, os.O_RDWR)

    def write(self, descriptor: int, pieces: Sequence[Buffer], offset: int) -> None:
        total = sum(len(piece) for piece in pieces)
        done = fs.patiently(os.pwritev, descriptor, pieces, offset)
        while done < total:
            # Rare: a signal, or a disk that is nearly full.
            rest = b"".join(pieces)
            done += fs.patiently(os.pwrite, descriptor, memoryview(rest)[done:], offset + done)

    def start_writeback(self, descriptor: int, offset: int, length: int) -> None:
        syscalls.start_writeback(descriptor, offset, length)

    def sync(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def truncate(self, descriptor: int, length: int) -> None:
        os.ftruncate(descriptor, length)

    def sync_folder(self, path: Path) -> None:
        fs.sync(path)

    def unlink(self, path: Path) -> None:
        os.unlink(path)

    def rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)

    def free_bytes(self, path: Path) -> int:
        state = os.statvfs(path)
        return state.f_bavail * state.f_frsize

    def space(self, path: Path) -> tuple[int, int]:
        state = os.statvfs(path)
        return self.free_bytes(path), state.f_blocks * state.f_frsize
