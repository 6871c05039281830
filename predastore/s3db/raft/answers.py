"""Calls of another member that wait for what this one will have to say to it.

Most messages ask for one in return, which follows as soon as it is true: after one sync of the
journal. So the call that brings them is kept open for it, within a bound, and its response takes
the message along: half as many calls, and packets, as if each had its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from predastore.base.limits import RAFT_STEP_HOLD_MS
from predastore.s3db.raft.messages import AppendEntries, Message, PreVote, SnapshotChunk, Vote

_ASKING: Final = AppendEntries | SnapshotChunk | Vote | PreVote

Take = Callable[[Sequence[Message]], bool]  # False: the call was given up


class _Waiting:
    """A call with `count` messages that ask for one. `until`: loop time."""

    __slots__ = ("count", "take", "until")

    def __init__(self, count: int, take: Take, until: float) -> None:
        self.count = count
        self.take = take
        self.until = until


class Answers:
    """Those of one other member."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()  # the longest first
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, messages: Sequence[Message], take: Take) -> None:
        """`take` gets, once, what there is to say to a call that has brought `messages`; nothing,
        if not soon."""
        count = sum(isinstance(message, _ASKING) for message in messages)
        if count == 0:
            take(())
            return
        hold_s = RAFT_STEP_HOLD_MS / 1000
        self._waiting.append(_Waiting(count, take, self._loop.time() + hold_s))
        if self._timer is None:
            self._timer = self._loop.call_later(hold_s, self._ring)

    def _ring(self) -> None:
        """One timer for all, which is set anew when it rings: hardly a call waits so long."""
        now = self._loop.time()
        while self._waiting and self._waiting[0].until <= now:
            self._waiting.popleft().take(())
        self._timer = None
        if self._waiting:
            self._timer = self._loop.call_at(self._waiting[0].until, self._ring)

    def give(self, messages: Sequence[Message]) -> bool:
        """Let the oldest call take them; False if none waits.

        A call all of whose questions are answered so waits no longer.
        """
        while self._waiting:
            first = self._waiting.popleft()
            if first.take(messages):
                self._settle(len(messages) - first.count)
                return True
        return False

    def _settle(self, count: int) -> None:
        while self._waiting and count >= self._waiting[0].count:
            waiting = self._waiting.popleft()
            count -= waiting.count
            waiting.take(())

    def close(self) -> None:
        while self._waiting:
            self._waiting.popleft().take(())
        if self._timer is not None:
            self._timer.cancel()
