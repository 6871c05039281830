"""Calls of another member that wait for what this one will have to say to it.

Most messages ask for one in return, which follows as soon as it is true: after one sync of the
journal. So the call that brings them is kept open for it, within a bound, and its response takes
the message along: half as many calls, and packets, as if each had its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from predastore.limits import RAFT_STEP_HOLD_MS
from predastore.s3db.raft.messages import Append, Message, PreVote, SnapshotChunk, Vote

_ASKING: Final = Append | SnapshotChunk | Vote | PreVote


@dataclass(frozen=True)
class _Waiting:
    """A call with `count` messages that ask for one."""

    count: int
    answer: asyncio.Future[Sequence[Message]]


class Answers:
    """Those of one other member."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()

    async def wait(self, messages: Sequence[Message]) -> Sequence[Message]:
        """What there is to say to a call that has brought `messages`; nothing, if not soon."""
        count = sum(isinstance(message, _ASKING) for message in messages)
        if count == 0:
            return ()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(count, loop.create_future())
        self._waiting.append(waiting)
        timer = loop.call_later(RAFT_STEP_HOLD_MS / 1000, _release, waiting)
        try:
            return await waiting.answer
        finally:
            timer.cancel()
            if waiting in self._waiting:
                self._waiting.remove(waiting)

    def give(self, messages: Sequence[Message]) -> bool:
        """Let the oldest call take them; False if none waits.

        A call all of whose questions are answered so waits no longer.
        """
        while self._waiting:
            first = self._waiting.popleft()
            if not first.answer.done():
                first.answer.set_result(messages)
                self._settle(len(messages) - first.count)
                return True
        return False

    def _settle(self, count: int) -> None:
        while self._waiting and count >= self._waiting[0].count:
            waiting = self._waiting.popleft()
            count -= waiting.count
            _release(waiting)

    def close(self) -> None:
        while self._waiting:
            _release(self._waiting.popleft())


def _release(waiting: _Waiting) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(())
