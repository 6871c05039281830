"""The bounds on what is in flight to one peer: calls, and bytes of their requests.

A call that does not fit waits its turn, first come first served, until its deadline; when the
queue of waiting calls is full it is refused at once. Either way the error is Overloaded, and
nothing was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque

from predastore.base.errors import Overloaded
from predastore.base.limits import (
    RPC_BYTES_IN_FLIGHT_MAX,
    RPC_CALLS_IN_FLIGHT_MAX,
    RPC_CALLS_WAITING_MAX,
)


class Admission:
    """Invariant: whoever waits does so because the head of the queue does not fit."""

    def __init__(
        self,
        peer: str,
        *,
        calls_max: int = RPC_CALLS_IN_FLIGHT_MAX,
        bytes_max: int = RPC_BYTES_IN_FLIGHT_MAX,
        waiting_max: int = RPC_CALLS_WAITING_MAX,
    ) -> None:
        self._peer = peer
        self._calls_max = calls_max
        self._bytes_max = bytes_max
        self._waiting_max = waiting_max
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.calls = 0
        self.bytes = 0

    def _fits(self, size_bytes: int) -> bool:
        # A call alone always fits: its size has a bound of its own.
        return self.calls < self._calls_max and (
            self.calls == 0 or self.bytes + size_bytes <= self._bytes_max
        )

    def try_enter(self, size_bytes: int) -> bool:
        """Takes a place if one is free now and nobody waits for it."""
        if self._waiting or not self._fits(size_bytes):
            return False
        self.calls += 1
        self.bytes += size_bytes
        return True

    async def enter(self, size_bytes: int, deadline: float) -> None:
        """Takes a place, waiting for it until `deadline` (loop time)."""
        if self.try_enter(size_bytes):
            return
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded(f"{self._peer}: {self._waiting_max} calls wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (turn, size_bytes)
        self._waiting.append(entry)
        try:
            left_s = deadline - asyncio.get_running_loop().time()
            await asyncio.wait((turn,), timeout=max(0.0, left_s))
            if not turn.done():
                raise Overloaded(f"{self._peer}: no place in flight before the deadline")
        except BaseException:
            self._leave_queue(entry)
            raise

    def _leave_queue(self, entry: tuple[asyncio.Future[None], int]) -> None:
        turn, size_bytes = entry
        if turn.done():
            self.leave(size_bytes)  # admitted and given up in the same moment
            return
        self._waiting.remove(entry)
        self._admit()

    def leave(self, size_bytes: int) -> None:
        """Gives the place back."""
        self.calls -= 1
        self.bytes -= size_bytes
        assert self.calls >= 0
        assert self.bytes >= 0
        if self._waiting:
            self._admit()

    def _admit(self) -> None:
        while self._waiting and self._fits(self._waiting[0][1]):
            turn, size_bytes = self._waiting.popleft()
            self.calls += 1
            self.bytes += size_bytes
            turn.set_result(None)
