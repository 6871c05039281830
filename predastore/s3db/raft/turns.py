"""When a member takes its turns: as soon as something has happened, and when time is up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Turns:
    def __init__(self, turn: Callable[[], None], deadline: Callable[[], float]) -> None:
        """`deadline`: the loop time at which a turn is due even if nothing happens."""
        self._turn = turn
        self._deadline = deadline
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._is_stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def wake(self) -> None:
        """A turn soon; one for all that this iteration of the loop brings."""
        if not self._is_due and not self._is_stopped:
            self._is_due = True
            self._loop.call_soon(self._tick)

    def now(self) -> None:
        """A turn at once: for what a peer waits for."""
        if not self._is_stopped:
            self._turn()

    def _tick(self) -> None:
        self._is_due = False
        self.now()

    def arm(self) -> None:
        """Time matters only for heartbeats and elections; the timer is moved when it rings."""
        if self._is_stopped:
            return
        when = self._deadline()
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer, self._timer_at = self._loop.call_at(when, self._ring), when

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() >= self._deadline():
            self.wake()
        else:
            self.arm()

    def stop(self) -> None:
        self._is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
