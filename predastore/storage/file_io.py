"""Bytes of one file, in and out, with a CRC32C for each block; calls block, for a thread."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from predastore._fast.crc import crc32c
from predastore.base.errors import NodeFull, ObjectUnreadable, Overloaded, StoreFailed, is_exhausted
from predastore.base.limits import FILE_WRITEBACK_BYTES
from predastore.base.syscalls import start_writeback
from predastore.storage.beneath import Beneath
from predastore.storage.extents import FileExtent
from predastore.storage.interface import DigestSink
from predastore.storage.room import Room

_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)
CRC_BYTES: Final = 4


class FileWriter:
    """Appends blocks to an open file, and remembers their CRCs."""

    def __init__(self, descriptor: int, digests: DigestSink, room: Room) -> None:
        self._descriptor = descriptor
        self._room = room
        self._digests = digests
        self._crcs = bytearray()
        self._written = 0
        self._pushed = 0

    def append(self, block: memoryview) -> None:
        """Every block but the last has the same size. NodeFull, StoreFailed."""
        self._digests.update(block)
        self._crcs += crc32c(block).to_bytes(CRC_BYTES, "little")
        with disk_errors(), self._room.taken(self._descriptor, len(block)):
            while block:
                count = os.pwrite(self._descriptor, block, self._written)
                self._written += count
                block = block[count:]
            if self._written - self._pushed >= FILE_WRITEBACK_BYTES:
                start_writeback(self._descriptor, self._pushed, self._written - self._pushed)
                self._pushed = self._written

    def sync(self) -> tuple[bytes, int]:
        """Makes the file's bytes durable; the blocks' CRCs, and the inode."""
        with disk_errors():
            os.fsync(self._descriptor)
            return bytes(self._crcs), os.fstat(self._descriptor).st_ino


def read_block(descriptor: int, offset: int, view: memoryview, crcs: bytes, block: int) -> None:
    """Fills `view` with a whole block; ObjectUnreadable unless it has the CRC that it should."""
    filled = 0
    with disk_errors():
        while filled < len(view):
            count = os.preadv(descriptor, [view[filled:]], offset + filled)
            if count == 0:
                raise ObjectUnreadable("the file is shorter than it was written")
            filled += count
    if crc32c(view) != crc_of(crcs, block):
        raise ObjectUnreadable(f"block {block} of the file is not as it was written")


def crc_of(crcs: bytes, block: int) -> int:
    return int.from_bytes(crcs[block * CRC_BYTES : (block + 1) * CRC_BYTES], "little")


@contextmanager
def disk_errors() -> Iterator[None]:
    """OSError as NodeFull, Overloaded or StoreFailed."""
    try:
        yield
    except OSError as error:
        if is_exhausted(error):
            raise Overloaded(str(error)) from error
        if error.errno in _NO_ROOM:
            raise NodeFull("the disk is full") from error
        raise StoreFailed(f"the disk failed: {error}") from error


def looks_like(files: Beneath, extent: FileExtent) -> bool:
    """Whether the file at an extent's path is the extent's, by its size and first block (inodes
    are used again, and change when a base path is restored from a copy)."""
    try:
        descriptor = files.open(extent.path)
    except OSError as error:
        if is_exhausted(error):
            raise
        return False
    try:
        if os.fstat(descriptor).st_size != extent.size:
            return False
        first = bytearray(min(extent.size, extent.block_bytes))
        if first:
            with memoryview(first) as view:
                read_block(descriptor, 0, view, extent.crcs, 0)
        return True
    except (ObjectUnreadable, StoreFailed):
        return False
    finally:
        os.close(descriptor)
