"""Whether writes can be done now: looked at when somebody asks, and not more often than needed.

Reads are another matter: `Common.is_ready` says whether metadata answers. A look asks every node
that takes shards, and makes a commit that changes nothing; so whoever asks within READY_CHECK_MS
gets the answer of the look before, and those who ask at the same time share one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from predastore.base.errors import PredastoreError
from predastore.base.limits import READY_CHECK_MS, READY_WRITES_MS_MAX


class WriteReadiness:
    """`look`: why nothing could be written now, "" where it could; it may take its time."""

    def __init__(self, look: Callable[[], Awaitable[str]]) -> None:
        self._look = look
        self._looking: asyncio.Task[str] | None = None
        self._looked_at = 0.0

    async def obstacle(self) -> str:
        """Why nothing could be written, some seconds ago at most; "" where it could."""
        now = asyncio.get_running_loop().time()
        task = self._looking
        if task is None or (task.done() and now - self._looked_at >= READY_CHECK_MS / 1000):
            self._looked_at = now
            task = self._looking = asyncio.ensure_future(self._bounded())
        return await asyncio.shield(task)

    async def _bounded(self) -> str:
        try:
            async with asyncio.timeout(READY_WRITES_MS_MAX / 1000):
                return await self._look()
        except TimeoutError:
            return f"it could not be found out within {READY_WRITES_MS_MAX} ms"
        except PredastoreError as error:
            return str(error)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))
