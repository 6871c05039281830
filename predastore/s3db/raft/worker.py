"""One thread for blocking work, in order, with its results on the event loop.

Each commit passes through two of them, so they do without the locks and objects of an executor.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Worker:
    def __init__(self, name: str, on_failure: Callable[[BaseException], None]) -> None:
        """`on_failure` gets, on the loop, what a piece of work, or its `done`, raised."""
        self._loop = asyncio.get_running_loop()
        self._on_failure = on_failure
        self._queue: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        def step() -> Callable[[], None]:
            return partial(done, work())

        self._queue.put(step)

    def _work(self) -> None:
        while (step := self._queue.get()) is not None:
            try:
                then = step()
            except BaseException as error:
                then = partial(self._on_failure, error)
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._finish, then)
            del step, then  # what they have is others', while this waits

    def _finish(self, then: Callable[[], None]) -> None:
        try:
            then()
        except Exception as error:
            self._on_failure(error)

    async def close(self) -> None:
        """Waits for the work that is under way."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
