"""Deadlines of the calls within this process.

`asyncio.timeout` sets a timer for each call and takes it back when the call is done, which costs
more than the call itself; hardly any of these timers ever fires. Here the calls that are due
within the same tick share one timer: a call joins their set, and leaves it when it is done. So a
deadline is noticed up to a tick late.

As with `asyncio.timeout`, what is late is cancelled, and the cancellation ends at the limit: it
leaves as DeadlineExceeded, unless somebody else has cancelled the task, too.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol

from predastore.base.errors import DeadlineExceeded
from predastore.base.limits import RPC_DEADLINE_TICK_MS

_TICK_S = RPC_DEADLINE_TICK_MS / 1000


class Expiring(Protocol):
    """What can be late."""

    def expire(self) -> None: ...


class Limit:
    """`with` it around what the current task has to have done by the deadline."""

    __slots__ = ("_cancelling", "_due", "_expired", "_task", "_what")

    def __init__(self, due: set[Expiring], what: str) -> None:
        task = asyncio.current_task()
        assert task is not None, "a deadline is for a task"
        self._task = task
        self._due = due
        self._what = what
        self._expired = False
        self._cancelling = task.cancelling()

    def __enter__(self) -> None:
        self._due.add(self)

    def expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._expired:
            self._due.discard(self)
            return
        is_ours = self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
        del self._task  # its error has a traceback with this frame
        if is_ours:
            raise DeadlineExceeded(f"{self._what}: no answer before the deadline") from None


class Deadlines:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._due: dict[int, set[Expiring]] = {}  # by tick: tick n is at n * _TICK_S of loop time

    def limit(self, deadline: float, what: str) -> Limit:
        """`deadline`: loop time. `what`: for the error's message."""
        return Limit(self.due(deadline), what)

    def due(self, deadline: float) -> set[Expiring]:
        """Whoever is in this set at the deadline is told that it is late."""
        tick = int(deadline / _TICK_S) + 1
        due = self._due.get(tick)
        if due is None:
            due = self._due[tick] = set()
            asyncio.get_running_loop().call_at(tick * _TICK_S, self._expire, tick)
        return due

    def _expire(self, tick: int) -> None:
        due = self._due.pop(tick)
        while due:  # who is done with meanwhile leaves it
            due.pop().expire()
