"""Those who wait for something that the log brings: an index to be applied, a commit decided."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

Settle = Callable[[Any], None]


class AppliedWaiters:
    """Futures that resolve once the state machine holds an index."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = count()

    def wait(self, index: int) -> asyncio.Future[None]:
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
