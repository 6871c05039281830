"""The tries of one call of the database's client: its deadline, its pauses, and what is known."""

from __future__ import annotations

import asyncio
import random
from typing import NoReturn

from predastore.base.errors import (
    LevelTooLow,
    NodeFull,
    NoLeader,
    OutcomeUnknown,
    PredastoreError,
    anew,
)
from predastore.base.limits import RETRY_PAUSE_MS_MAX, RETRY_PAUSE_MS_MIN
from predastore.s3db import service


class Tries:
    """The deadline of a call, the pauses between its tries, and what is known of its outcome."""

    def __init__(self, timeout_ms: int, attempt_ms: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + timeout_ms / 1000
        self._attempt_ms = attempt_ms
        self._attempts = 0
        self._pause_ms = float(RETRY_PAUSE_MS_MIN)
        self._unknown = False
        self._last: PredastoreError | None = None

    def attempt_ms(self) -> int:
        """How long the next try may take: longer from the third one on, as two members may be
        down."""
        self._attempts += 1
        left_ms = int((self._deadline - self._loop.time()) * 1000)
        return max(1, min(self._attempt_ms << max(0, self._attempts - 2), left_ms))

    def now(self) -> float:
        return self._loop.time()

    def is_last_word(self, error: PredastoreError) -> bool:
        """Of a full disk, or a program that is too old, while no try may have done it."""
        return isinstance(error, NodeFull | LevelTooLow) and not self._unknown

    def failed(self, error: PredastoreError, *, unknown: bool) -> None:
        self._last = anew(error)
        self._unknown = self._unknown or unknown

    async def pause(self) -> None:
        pause_ms = self._pause_ms * random.uniform(0.5, 1.0)
        self._pause_ms = min(2 * self._pause_ms, RETRY_PAUSE_MS_MAX)
        await asyncio.sleep(min(pause_ms / 1000, max(0.0, self._deadline - self._loop.time())))

    def are_over(self) -> bool:
        return self._loop.time() >= self._deadline

    def give_up(self, method: str) -> NoReturn:
        if method == service.COMMIT and self._unknown:
            raise OutcomeUnknown(f"no member confirmed the commit in time: {self._last}")
        raise NoLeader(f"no member could do {method} in time: {self._last}") from self._last
