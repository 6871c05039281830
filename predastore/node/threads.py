"""Work in threads, for an event loop that must know when it has ended.

A caller who is cancelled goes, and the work goes on. So before what it works with is taken away,
`finish` waits for all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work` returns or raises."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(None, partial(work, *args, **kwargs))
        self._running.add(future)
        future.add_done_callback(self._ended)
        return await asyncio.shield(future)

    def _ended(self, future: asyncio.Future[Any]) -> None:
        self._running.discard(future)
        if not future.cancelled():
            future.exception()  # its caller has it, unless it has gone

    async def finish(self) -> None:
        """Returns when nothing runs any more."""
        while self._running:
            await asyncio.wait(set(self._running))
