"""Waiting for a condition with a deadline, in place of sleeping for a time that may be enough."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.01


def eventually(probe: Callable[[], T], *, within_s: float = 10.0, what: str = "condition") -> T:
    """The first truthy value of `probe`; AssertionError when there is none within `within_s`."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {within_s} s")
        pause.wait(_POLL_S)


async def eventually_async(
    probe: Callable[[], T], *, within_s: float = 10.0, what: str = "condition"
) -> T:
    """`eventually` for coroutines: yields to the loop between two probes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        value = probe()
        if value:
            return value
        if loop.time() > deadline:
            raise AssertionError(f"{what} did not hold within {within_s} s")
        ticked = loop.create_future()
        loop.call_later(_POLL_S, ticked.set_result, None)
        await ticked


async def until(probe: Callable[[], Awaitable[object]], within_s: float = 30.0) -> None:
    """Until `probe` gives something true; its last answer is in the error."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while not (answer := await probe()):
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_s} s: {answer}")
        ticked = loop.create_future()
        loop.call_later(_POLL_S, ticked.set_result, None)
        await ticked
