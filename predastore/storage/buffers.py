"""Memory for bodies under way: budgets for the process, and buffers that are used again.

A budget counts what requests hold; bodies that come and bodies that go have one each, so that a
copy can not wait for itself. Waiting is first come, first served, and bounded in time
(then Overloaded: the client is to slow down). A request waits only while it holds nothing; for
more than its first share it may only `try_take`, so that requests never wait for one another.

A client that takes or gives nothing for long, or hardly anything, holds its share only as long as
nobody else needs it: then its request is cancelled, which cuts its connection. Slow peers cost only
themselves.

A pooled buffer is free again as soon as nobody refers to it: a memoryview of it counts, so
whoever still sends from it keeps it, and nobody has to give it back.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from typing import Any

from predastore.base.errors import Overloaded
from predastore.base.limits import (
    BACKEND_BUFFER_WAIT_MS_MAX,
    BACKEND_IDLE_BYTES,
    BACKEND_IDLE_CHECK_MS,
    BACKEND_IDLE_MS_MAX,
    BACKEND_POOL_BYTES_MAX,
    BACKEND_POOLED_BUFFER_BYTES_MIN,
)
from predastore.storage.interface import Source


class Budget:
    """Bytes that requests may hold together."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        # Requests that hold a share and wait for their clients, since when.
        self._with_clients: dict[asyncio.Task[Any], float] = {}
        self.held_bytes = 0

    def try_take(self, count: int) -> bool:
        """Takes `count` bytes if they are free and nobody waits."""
        if self._waiting or not self._fits(count):
            return False
        self.held_bytes += count
        return True

    async def take(self, count: int) -> None:
        """Takes `count` bytes, in turn; more than there are at all is granted alone."""
        if self.try_take(count):
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = (count, granted)
        self._waiting.append(place)
        try:
            await self._granted(granted)
        except BaseException:
            if granted.done() and not granted.cancelled():
                self.give(count)
            else:
                self._waiting.remove(place)
                self._grant()
            raise

    async def _granted(self, granted: asyncio.Future[None]) -> None:
        """Waits for it; Overloaded. Now and then, whoever holds a share idly loses it."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + BACKEND_BUFFER_WAIT_MS_MAX / 1000
        while not granted.done():
            left_s = give_up_at - clock()
            if left_s <= 0:
                raise Overloaded("no memory for bodies came free in time")
            await asyncio.wait((granted,), timeout=min(left_s, BACKEND_IDLE_CHECK_MS / 1000))
            if not granted.done():
                self._cut_the_most_idle()

    def _cut_the_most_idle(self) -> None:
        """Cancels the request that has waited longest for its client, if that is long."""
        if not self._with_clients:
            return
        task, since = min(self._with_clients.items(), key=lambda item: item[1])
        if asyncio.get_running_loop().time() - since > BACKEND_IDLE_MS_MAX / 1000:
            del self._with_clients[task]
            task.cancel("its client was too slow, and others wait for the memory it holds")

    @contextmanager
    def with_client(self, waited_s: float = 0.0) -> Iterator[None]:
        """Around a wait of the current task, which holds a share, for its client, for whom it has
        waited that long already."""
        task = asyncio.current_task()
        assert task is not None
        self._with_clients[task] = asyncio.get_running_loop().time() - waited_s
        try:
            yield
        finally:
            self._with_clients.pop(task, None)
            del task  # its error has a traceback with this frame

    def give(self, count: int) -> None:
        """Gives back what was taken."""
        self.held_bytes -= count
        self._grant()

    def _fits(self, count: int) -> bool:
        return self.held_bytes + count <= self._bytes_max or self.held_bytes == 0

    def _grant(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            count, granted = self._waiting.popleft()
            if not granted.done():
                self.held_bytes += count
                granted.set_result(None)


class BudgetClient:
    """Who sends to one that holds a share of `budget`. Waits for it count together until so much
    has come of it that it is not idle: a byte now and then does not make it a good client."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._waited_s = 0.0
        self._byte_count = 0

    async def readinto(self, source: Source, view: memoryview) -> int:
        clock = asyncio.get_running_loop().time
        began = clock()
        with self._budget.with_client(self._waited_s):
            count = await source.readinto(view)
        self._waited_s += clock() - began
        self._byte_count += count
        if self._byte_count >= BACKEND_IDLE_BYTES:
            self._waited_s, self._byte_count = 0.0, 0
        return count


class Pool:
    """Writable buffers by size class; small ones are not worth keeping.

    Where there is no room for another, free ones are let go of, one by one, of the size that was
    asked for longest ago.
    """

    def __init__(self, bytes_max: int = BACKEND_POOL_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._kept: dict[int, list[mmap]] = {}  # the size that was asked for last stands last
        self.kept_bytes = 0

    def get(self, count: int) -> bytearray | mmap:
        """A writable buffer of at least `count` bytes with any content.

        Large ones are fresh mappings: their pages come as they are filled, while a bytearray is
        cleared at once, which stops the event loop for milliseconds.
        """
        if count < BACKEND_POOLED_BUFFER_BYTES_MIN:
            return bytearray(count)
        size = _size_class(count)
        kept = self._kept[size] = self._kept.pop(size, [])
        for buffer in kept:
            if _is_free(buffer):
                return buffer
        while self.kept_bytes + size > self._bytes_max and self._drop_one():
            pass
        buffer = mmap(-1, size)
        if self.kept_bytes + size <= self._bytes_max:
            kept.append(buffer)
            self.kept_bytes += size
        return buffer

    @property
    def used_bytes(self) -> int:
        """Of those that are kept, what somebody refers to."""
        used = 0
        for size, kept in self._kept.items():
            for buffer in kept:
                if not _is_free(buffer):
                    used += size
        return used

    def _drop_one(self) -> bool:
        """False when all are in use."""
        for size, kept in self._kept.items():
            for buffer in kept:
                if _is_free(buffer):
                    kept.remove(buffer)
                    self.kept_bytes -= size
                    return True
        return False


def _is_free(buffer: mmap) -> bool:
    # the pool's list, the caller's loop, this parameter, and getrefcount's own
    return sys.getrefcount(buffer) <= 4


def _size_class(count: int) -> int:
    """The next of 8 steps between two powers of two: at most an eighth is lost."""
    step = 1 << max(0, (count - 1).bit_length() - 4)
    return -(-count // step) * step
