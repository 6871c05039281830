"""Reading a range of one extent from its file; every block is checked against its CRC."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from predastore.base.errors import ObjectUnreadable, Overloaded, is_exhausted
from predastore.base.limits import FILE_BLOCKS_AHEAD
from predastore.base.threads import until_done
from predastore.storage.beneath import Beneath
from predastore.storage.buffers import Budget, Pool
from predastore.storage.extents import FileExtent
from predastore.storage.file_io import read_block
from predastore.storage.interface import Buffer, Opened
from predastore.storage.publication import Publication


class FileReader:
    """`in_thread`: as threads.in_thread, without its executor."""

    def __init__(
        self,
        files: Beneath,
        publication: Publication,
        in_thread: Callable[..., Awaitable[Any]],
        budget: Budget,
        pool: Pool,
    ) -> None:
        self._files = files
        self._publication = publication
        self._in_thread = in_thread
        self._budget = budget
        self._pool = pool

    async def read(
        self, extent: FileExtent, start: int, end: int, opened: Opened, *, certain: bool
    ) -> AsyncGenerator[Buffer, None]:
        """The bytes [start, end); ObjectUnreadable where the file is not the extent's.

        A file of another inode is that of another version, as a rule; only if `certain` is it
        read all the same (a base path may have been restored from a copy).
        """
        size = extent.block_bytes
        descriptor = await self._open(extent, certain=certain)
        opened()
        held = min(extent.size, size) * FILE_BLOCKS_AHEAD
        blocks = iter(range(start // size, -(-end // size)))
        ahead: deque[asyncio.Task[memoryview]] = deque()
        try:
            await self._budget.take(held)
            try:
                for block in blocks:
                    ahead.append(asyncio.ensure_future(self._block(descriptor, extent, block)))
                    if len(ahead) == FILE_BLOCKS_AHEAD:
                        break
                position = start
                while ahead:
                    view = await ahead.popleft()
                    within = position % size
                    stop = min(len(view), within + end - position)
                    with self._budget.with_client():
                        yield view[within:stop]
                    position += stop - within
                    for block in blocks:
                        ahead.append(asyncio.ensure_future(self._block(descriptor, extent, block)))
                        break
            finally:
                try:
                    await _ended(ahead)
                finally:
                    self._budget.give(held)
        finally:
            await self._in_thread(os.close, descriptor)

    async def _open(self, extent: FileExtent, *, certain: bool) -> int:
        """The descriptor of the extent's file, which may be moved to its path meanwhile."""
        places = [(extent.path, certain)]
        if (tmp := self._publication.tmp_of(extent)) is not None:
            places = [(tmp, True), (extent.path, False)]
        try:
            descriptor: int = await self._in_thread(self._open_first, places, extent, undo=os.close)
        except OSError as error:
            if is_exhausted(error):
                raise Overloaded(f"{extent.path}: {error.strerror}") from error
            raise ObjectUnreadable(f"{extent.path}: {error.strerror or error}") from error
        return descriptor

    def _open_first(self, places: Sequence[tuple[str, bool]], extent: FileExtent) -> int:
        """At the first of the places (path, is it certain) where there is a file."""
        for path, certain in places[:-1]:
            with suppress(FileNotFoundError):
                return self._open_file(path, extent, certain)
        path, certain = places[-1]
        return self._open_file(path, extent, certain)

    def _open_file(self, path: str, extent: FileExtent, certain: bool) -> int:
        descriptor = self._files.open(path)
        status = os.fstat(descriptor)
        if status.st_size != extent.size or (status.st_ino != extent.inode and not certain):
            os.close(descriptor)
            raise ObjectUnreadable(f"{path} is not the file that was written")
        return descriptor

    async def _block(self, descriptor: int, extent: FileExtent, block: int) -> memoryview:
        offset = block * extent.block_bytes
        count = min(extent.block_bytes, extent.size - offset)
        view = memoryview(self._pool.get(count))[:count]
        await self._in_thread(read_block, descriptor, offset, view, extent.crcs, block)
        return view


async def _ended(tasks: deque[asyncio.Task[memoryview]]) -> None:
    """Waits for reads under way: they use the descriptor that is closed next."""
    if tasks:
        await until_done(asyncio.gather(*tasks, return_exceptions=True))
