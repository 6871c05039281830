"""Reading blocks: from the page cache at once where they are small and there, else in a thread.

A block is read whole and its CRC checked, whatever part of it is asked for. Buffers of large
blocks are pooled; one is free again when nobody refers to it, so nobody gives it back. Segment
files stay open, the most recently used of them; one is closed when its last reader lets go.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from mmap import mmap
from pathlib import Path

from predastore._fast.frame import READ_OK, READ_WOULD_BLOCK, read_block
from predastore.base.errors import ShardCorrupt, is_exhausted
from predastore.base.limits import (
    NODE_OPEN_SEGMENTS_MAX,
    NODE_READ_BUFFERS_MAX,
    NODE_READ_BYTES_MAX,
    NODE_READ_INLINE_BYTES_MAX,
    NODE_READ_THREADS,
    NODE_READS_WAITING_MAX,
)
from predastore.node.budget import BlockBudget
from predastore.node.segment import segment_path
from predastore.node.shard import Location

_LISTED_ONLY = 2  # references to a buffer that only the pool has: its list, and the question


class BufferPool:
    """Buffers in size classes of powers of two, a bounded number of each."""

    def __init__(self) -> None:
        self._classes: dict[int, list[mmap]] = {}

    def take(self, size: int) -> memoryview:
        """A buffer of `size` bytes with whatever was in it."""
        rounded = 1 << (size - 1).bit_length()
        buffers = self._classes.setdefault(rounded, [])
        for place in range(len(buffers)):
            if sys.getrefcount(buffers[place]) == _LISTED_ONLY:
                return memoryview(buffers[place])[:size]
        # A mapping, whose pages come as they are filled; a bytearray is cleared at once.
        buffer = mmap(-1, rounded)
        if len(buffers) < NODE_READ_BUFFERS_MAX:
            buffers.append(buffer)
        return memoryview(buffer)[:size]


class _File:
    """An open segment; closed when nobody refers to it."""

    __slots__ = ("descriptor",)

    def __init__(self, path: Path) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(NODE_READ_THREADS, thread_name_prefix="node-read")


class Reader:
    """For one event loop."""

    def __init__(self, folder: Path, files_max: int = NODE_OPEN_SEGMENTS_MAX) -> None:
        """`files_max`: kept open."""
        self._folder = folder
        self._files_max = files_max
        self._files: OrderedDict[int, _File] = OrderedDict()
        self._buffers = BufferPool()
        self._budget = BlockBudget(NODE_READ_BYTES_MAX, NODE_READS_WAITING_MAX)

    async def read(self, place: Location) -> memoryview:
        """A whole block. ShardCorrupt if it is not what was written, FileNotFoundError if its
        segment is gone."""
        file = self._files.get(place.segment)
        if file is not None:
            self._files.move_to_end(place.segment)
            if place.length <= NODE_READ_INLINE_BYTES_MAX:
                block = memoryview(bytearray(place.length))
                if _read(file, place, block, nowait=True):
                    return block
        await self._budget.acquire(place.length)
        try:
            block = self._buffers.take(place.length)
            loop = asyncio.get_running_loop()
            used = await loop.run_in_executor(_threads(), self._read_in_thread, file, place, block)
        finally:
            self._budget.release(place.length)
        if file is None:
            self._cache(place.segment, used)
        return block

    def _read_in_thread(self, file: _File | None, place: Location, block: memoryview) -> _File:
        if file is None:
            file = _File(segment_path(self._folder, place.segment))
        _read(file, place, block, nowait=False)
        return file

    def _cache(self, segment: int, file: _File) -> None:
        if os.fstat(file.descriptor).st_nlink == 0:
            return  # `forget` came before: its space is to be free
        self._files.setdefault(segment, file)
        while len(self._files) > self._files_max:
            self._files.popitem(last=False)

    def forget(self, segments: list[int]) -> None:
        """Closes files of segments that are gone, so that their space is free."""
        for segment in segments:
            self._files.pop(segment, None)

    def close(self) -> None:
        self._files.clear()


def _read(file: _File, place: Location, block: memoryview, *, nowait: bool) -> bool:
    """False if the disk has to be waited for."""
    try:
        state = read_block(file.descriptor, place.payload_offset, block, place.crc, nowait)
    except OSError as error:
        if is_exhausted(error):
            raise
        raise ShardCorrupt(f"{_show(place)} can not be read: {error}") from error
    if state not in (READ_OK, READ_WOULD_BLOCK):
        raise ShardCorrupt(f"{_show(place)} does not match its CRC")
    return state == READ_OK


def _show(place: Location) -> str:
    return f"the block at {place.offset} of segment {place.segment}"
