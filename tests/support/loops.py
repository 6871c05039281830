"""Tests that are coroutines: each runs on an event loop of its own, or a clock too."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def on_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


class _Skipping(selectors.SelectSelector):
    """Does not wait: what was to be waited for has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _Skipping) -> None:
        super().__init__(selector)
        self._skipping = selector

    def time(self) -> float:
        return self._skipping.now_s


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Runs what waits for timers alone, which are due at once, on a clock that shows their time."""
    loop = _Loop(_Skipping())
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()


async def passed(seconds: float) -> None:
    """So much of the loop's time later."""
    loop = asyncio.get_running_loop()
    later: asyncio.Future[None] = loop.create_future()
    loop.call_later(seconds, later.set_result, None)
    await later
