"""One thread for blocking work, in order, with its results on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Worker:
    def __init__(self, name: str, on_failure: Callable[[BaseException], None]) -> None:
        """`on_failure` gets, on the loop, what a piece of work, or its `done`, raised."""
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._on_failure = on_failure

    def run(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        def finished(future: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._finish, future, done)

        self._executor.submit(work).add_done_callback(finished)

    def _finish(self, future: Future[T], done: Callable[[T], None]) -> None:
        try:
            done(future.result())
        except Exception as error:
            self._on_failure(error)

    async def close(self) -> None:
        """Waits for the work that is under way."""
        await asyncio.to_thread(self._executor.shutdown)
