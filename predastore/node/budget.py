"""A bound on bytes in use, and waiting for one's share of it, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from predastore.base.errors import Overloaded


class BlockBudget:
    """For one event loop. Something larger than the whole budget gets it when nobody else has
    any of it."""

    def __init__(self, bytes_max: int, waiting_max: int) -> None:
        self._bytes_max = bytes_max
        self._waiting_max = waiting_max
        self._used = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    def _fits(self, size: int) -> bool:
        return self._used == 0 or self._used + size <= self._bytes_max

    async def acquire(self, size: int) -> None:
        """Returns when `size` bytes may be used. Overloaded if too many wait already."""
        if not self._waiting and self._fits(size):
            self._used += size
            return
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded("the node has too much to do; try again later")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, size))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release(size)
            else:
                with suppress(ValueError):  # it was passed over already
                    self._waiting.remove((turn, size))
                self._wake()
            raise

    def release(self, size: int) -> None:
        self._used -= size
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size = self._waiting.popleft()
            if not turn.done():
                self._used += size
                turn.set_result(None)
