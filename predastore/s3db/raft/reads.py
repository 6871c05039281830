"""Read indexes for a member, leader or not (Raft 6.4).

The leader asks its core; a follower asks the leader, with one call under way: barriers that come
meanwhile share the next call, because a read index must be taken after the read began. Without
a leader a barrier waits for one until its deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import msgspec

from predastore.base.errors import NoLeader, PredastoreError, anew
from predastore.base.limits import RAFT_READ_LOOK_MS, RAFT_READ_RETRY_MS
from predastore.base.threads import within

logger = logging.getLogger(__name__)

T = TypeVar("T")


class ReadIndexRequest(msgspec.Struct, frozen=True, array_like=True):
    """To the leader; NotLeader if it is none."""


class ReadIndexReply(msgspec.Struct, frozen=True, array_like=True):
    index: int


class ReadIndexes:
    """`take` gets one read index, from wherever the leader is, or raises a PredastoreError."""

    def __init__(self, take: Callable[[], Awaitable[int]]) -> None:
        self._take = take
        self._waiting: list[asyncio.Future[int]] = []
        self._gatherer: asyncio.Task[None] | None = None

    async def index(self, deadline: float) -> int:
        """A read index taken after this call; NoLeader at `deadline` (loop time)."""
        loop = asyncio.get_running_loop()
        while True:
            future: asyncio.Future[int] = loop.create_future()
            self._waiting.append(future)
            if self._gatherer is None:
                self._gatherer = loop.create_task(self._gather())
            try:
                return await within(future, deadline)
            except TimeoutError:
                raise NoLeader("no read index in time: no leader has answered") from None
            except PredastoreError as error:
                if loop.time() + RAFT_READ_RETRY_MS / 1000 >= deadline:
                    raise NoLeader(f"no read index in time: {error}") from error
            finally:
                del future  # its error has a traceback with this frame
            await asyncio.sleep(RAFT_READ_RETRY_MS / 1000)

    async def _gather(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await self._gather_for(waiting)
        finally:
            self._gatherer = None

    async def _gather_for(self, waiting: list[asyncio.Future[int]]) -> None:
        try:
            index = await self._take()
        except PredastoreError as error:
            _fail(waiting, error)
        except Exception as error:
            logger.exception("raft: no read index")
            _fail(waiting, NoLeader(f"no read index: {error}"))
        else:
            for future in waiting:
                if not future.done():
                    future.set_result(index)

    async def close(self) -> None:
        gatherer = self._gatherer
        if gatherer is not None:
            gatherer.cancel()
            with suppress(asyncio.CancelledError):
                await gatherer
        for future in self._waiting:
            future.cancel()


async def while_it_leads(call: Awaitable[T], leads: Callable[[], bool]) -> T:
    """The outcome of a call to the leader; NoLeader as soon as that is another one, which a leader
    that is cut off would not say."""
    task = asyncio.ensure_future(call)
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=RAFT_READ_LOOK_MS / 1000)
            if not task.done() and not leads():
                raise NoLeader("the leader that was asked leads no more")
        return task.result()
    finally:
        task.cancel()
        del task  # its error has a traceback with this frame


def _fail(waiting: list[asyncio.Future[int]], error: PredastoreError) -> None:
    for future in waiting:
        if not future.done():
            future.set_exception(anew(error))
