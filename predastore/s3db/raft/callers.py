"""Who waits for which entry of the log, and what they are told."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from predastore.base.limits import RAFT_WAITERS_LOOK_MIN
from predastore.s3db.raft.messages import Entry

Callback = Callable[[Any, int], None]  # (outcome, pysyncobj's fail reason)

SUCCESS = 0
DISCARDED = 3
UNKNOWN_OUTCOME = 7


class Callers:
    """Callbacks of proposals, by the index and term that their entries got."""

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[int, Callback]] = {}

    def add(self, first: int, term: int, callbacks: Sequence[Callback]) -> None:
        for position, callback in enumerate(callbacks):
            self._waiting[first + position] = (term, callback)

    def applied(self, entries: Sequence[Entry], outcomes: Sequence[Any]) -> None:
        """An entry of another term at its index: the proposal was dropped for good."""
        for entry, outcome in zip(entries, outcomes, strict=True):
            waiting = self._waiting.pop(entry.index, None)
            if waiting is not None:
                term, callback = waiting
                callback(outcome, SUCCESS if term == entry.term else DISCARDED)

    def step_down(self, commit: int) -> None:
        """Nobody can tell what becomes of entries that are not committed yet."""
        for index in [index for index in self._waiting if index > commit]:
            self._waiting.pop(index)[1](None, UNKNOWN_OUTCOME)

    def abandon(self) -> None:
        self.step_down(-1)


class AppliedWaiters:
    """Futures that resolve once the state machine holds an index."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()
        self._look_at = RAFT_WAITERS_LOOK_MIN

    def wait(self, index: int) -> asyncio.Future[None]:
        if len(self._heap) >= self._look_at:  # for such as wait no longer
            self._heap = [each for each in self._heap if not each[2].done()]
            heapq.heapify(self._heap)
            self._look_at = max(RAFT_WAITERS_LOOK_MIN, 2 * len(self._heap))
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heap, (index, next(self._order), future))
        return future

    def applied(self, index: int) -> None:
        while self._heap and self._heap[0][0] <= index:
            future = heapq.heappop(self._heap)[2]
            if not future.done():
                future.set_result(None)

    def fail(self, error: Exception) -> None:
        for _, _, future in self._heap:
            if not future.done():
                future.set_exception(error)
        self._heap.clear()
