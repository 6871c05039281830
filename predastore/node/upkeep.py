"""What a store does by itself: tasks that look, about once a second, whether its files are still
there, whether the index waits to be written, whether segments are worth rewriting, and whether it
is time to read everything back.

A failure of one round is logged, and the next round tries again; what the disk refuses for want of
room is tried again when there is some.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from predastore.base.errors import NodeFull, Overloaded, StoreFailed, is_exhausted
from predastore.base.limits import NODE_SAY_S, NODE_UPKEEP_S
from predastore.node.compaction import Compactor
from predastore.node.index import Index
from predastore.node.moving import WriteIndex
from predastore.node.scrub import Scrubber
from predastore.node.writer import Writer

logger = logging.getLogger(__name__)


class StoreUpkeep:
    """Runs from `start` until `close`."""

    def __init__(
        self,
        node_id: int,
        writer: Writer,
        index: Index,
        compactor: Compactor,
        scrubber: Scrubber,
    ) -> None:
        self._node_id = node_id
        self._writer = writer
        self._index = index
        self._compactor = compactor
        self._scrubber = scrubber
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        for name, main in (
            ("look", self._look()),
            ("compaction", self._again(self._compactor.step)),
            ("scrub", self._again(self._scrubber.step)),
        ):
            self._tasks.append(asyncio.create_task(main, name=f"node-{self._node_id}-{name}"))

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        said_s = loop.time()
        while True:
            await asyncio.sleep(NODE_UPKEEP_S)
            self._writer.wake()
            if self._index.unsaid and loop.time() >= said_s + NODE_SAY_S:
                said_s = loop.time()
                with suppress(NodeFull, StoreFailed, Overloaded):
                    await self._writer.run(WriteIndex(loop.create_future()))

    async def _again(self, step: Callable[[], Awaitable[bool]]) -> None:
        while True:
            await asyncio.sleep(NODE_UPKEEP_S)
            try:
                while await step():
                    pass
            except (NodeFull, StoreFailed, Overloaded):
                continue  # its time comes when there is room again
            except Exception as error:
                if is_exhausted(error):
                    continue
                logger.exception("upkeep failed", extra={"node": self._node_id})
