"""How old a member's own replica may be: since when it is known to lack nothing.

A read barrier that has passed proves that the replica holds all that was acknowledged before the
barrier began. So the age that is told is an upper bound, on a member that is cut off as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from predastore.base.errors import PredastoreError
from predastore.base.limits import STALENESS_ASK_MS, STALENESS_WAIT_MS


class Freshness:
    def __init__(self, barrier: Callable[[], Awaitable[None]]) -> None:
        """`barrier` calls `proven` if it passes."""
        self._barrier = barrier
        self._loop = asyncio.get_running_loop()
        self._proven_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    def proven(self, begun: float) -> None:
        """A barrier that began at `begun` (loop time) has passed."""
        self._proven_at = max(self._proven_at, begun)

    async def age_ms(self) -> int | None:
        """The age at most; None: not known. Waits a moment for the leader if it is not recent."""
        if self._age_s() > STALENESS_ASK_MS / 1000:
            if self._asking is None:
                self._asking = self._loop.create_task(self._ask())
            await asyncio.wait([self._asking], timeout=STALENESS_WAIT_MS / 1000)
        age_s = self._age_s()
        return None if age_s == float("inf") else int(age_s * 1000) + 1

    def _age_s(self) -> float:
        return self._loop.time() - self._proven_at

    async def _ask(self) -> None:
        try:
            with suppress(PredastoreError):
                await self._barrier()
        finally:
            self._asking = None

    async def close(self) -> None:
        asking = self._asking
        if asking is not None:
            asking.cancel()
            await asyncio.wait([asking])
