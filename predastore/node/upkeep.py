"""What a store does by itself: a task that looks, about once a second, whether its files are still
there, whether the index waits to be written, and whether segments are worth rewriting.

A failure of one round is logged, and the next round tries again; what the disk refuses for want of
room is tried again when there is some.
"""

from __future__ import annotations

import asyncio
import logging

from predastore.errors import NodeFull, Overloaded, PredastoreError, StoreFailed
from predastore.limits import NODE_UPKEEP_S
from predastore.node.compaction import Compactor
from predastore.node.writer import Writer

logger = logging.getLogger(__name__)


class Upkeep:
    """Runs from `start` until `close`."""

    def __init__(self, node_id: int, writer: Writer, compactor: Compactor) -> None:
        self._node_id = node_id
        self._writer = writer
        self._compactor = compactor
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._every_second(), name=f"node-{self._node_id}-upkeep"),
            asyncio.create_task(self._compact(), name=f"node-{self._node_id}-compaction"),
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _every_second(self) -> None:
        while True:
            await asyncio.sleep(NODE_UPKEEP_S)
            self._writer.wake()

    async def _compact(self) -> None:
        while True:
            await asyncio.sleep(NODE_UPKEEP_S)
            try:
                while await self._compactor.step():
                    pass
            except (NodeFull, StoreFailed, Overloaded):
                continue  # its time comes when there is room again
            except (PredastoreError, OSError):
                logger.exception("compaction stopped", extra={"node": self._node_id})
            except Exception:
                logger.exception("compaction ended", extra={"node": self._node_id})
                raise
