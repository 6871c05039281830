"""How fast healing may go, so that requests hardly notice it.

Bytes a second are bounded. While requests are served, a few pieces of work are under way at most,
and only for a share of the time: after work that took so long, as many times longer passes before
the next. As everything takes longer on a busy machine, so do the pauses. What the loss of one more
node would destroy is urgent: its pauses are short.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from predastore.base.limits import (
    HEALING_BUSY_JOBS,
    HEALING_BUSY_PAUSES,
    HEALING_BYTES_PER_S_MAX,
    HEALING_PAUSE_S_MAX,
    HEALING_RATE_WINDOW_S,
    HEALING_URGENT_PAUSES,
)


@dataclass
class Slot:
    """`byte_count`: what was read and written in it, told before its end."""

    byte_count: int = 0


class Throttle:
    """`is_busy`: whether requests are being served. All work takes its turns here."""

    def __init__(
        self,
        is_busy: Callable[[], bool],
        *,
        bytes_per_s: float = HEALING_BYTES_PER_S_MAX,
        busy_pauses: float = HEALING_BUSY_PAUSES,
    ) -> None:
        self._is_busy = is_busy
        self._bytes_per_s = bytes_per_s
        self._busy_pauses = busy_pauses
        self._next_turn = 0.0  # loop time
        self._one_by_one = asyncio.Lock()
        self._under_way = 0
        self._ended = asyncio.Event()
        self._recent_bytes = 0.0  # decays with the window
        self._recent_at = 0.0

    @asynccontextmanager
    async def slot(self, *, urgent: bool = False) -> AsyncIterator[Slot]:
        """Around a piece of work, which waits until it may begin."""
        loop = asyncio.get_running_loop()
        async with self._one_by_one:
            while self._is_busy() and self._under_way >= HEALING_BUSY_JOBS:
                self._ended.clear()
                await self._ended.wait()
            await asyncio.sleep(max(0.0, self._next_turn - loop.time()))
        turn, began = Slot(), loop.time()
        self._under_way += 1
        try:
            yield turn
        finally:
            self._pay(turn.byte_count, loop.time() - began, urgent=urgent)
            self._under_way -= 1
            self._ended.set()

    def _pay(self, byte_count: int, seconds: float, *, urgent: bool) -> None:
        """What was done at the same time shares the seconds."""
        now = asyncio.get_running_loop().time()
        self._recent_bytes = self._decayed(now) + byte_count
        self._recent_at = now
        pause_s = byte_count / self._bytes_per_s
        if self._is_busy():
            pauses = min(self._busy_pauses, HEALING_URGENT_PAUSES if urgent else math.inf)
            pause_s = max(pause_s, seconds / self._under_way * pauses)
        self._next_turn = max(self._next_turn, now) + min(pause_s, HEALING_PAUSE_S_MAX)

    @property
    def rate_bytes_s(self) -> int:
        """Of late."""
        now = asyncio.get_running_loop().time()
        return int(self._decayed(now) / HEALING_RATE_WINDOW_S)

    def _decayed(self, now: float) -> float:
        return self._recent_bytes * math.exp((self._recent_at - now) / HEALING_RATE_WINDOW_S)
