"""Blocking calls in threads, and waits. Whoever is cancelled leaves when his call has ended.

What a call works with, a descriptor, a buffer, a file's name, is closed or used again once its
caller has gone: a write that went on would end in whatever file has the descriptor's number by
then. And what a call has made for a caller who will not take it has to be let go of (`undo`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(
    executor: ThreadPoolExecutor | None,
    work: Callable[..., T],
    *arguments: object,
    undo: Callable[[T], object] | None = None,
) -> T:
    """What `work` returns or raises; `undo` gets a result that nobody takes. `executor`: None for
    the loop's own."""
    future = asyncio.get_running_loop().run_in_executor(executor, partial(work, *arguments))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        with suppress(asyncio.CancelledError):  # another one
            await until_done(future)
        if undo is not None and not future.cancelled() and future.exception() is None:
            undo(future.result())
        raise
    finally:
        del future  # its error has a traceback with this frame


async def within(future: asyncio.Future[T], deadline: float) -> T:
    """What `future`, which is given up then, comes to; TimeoutError at `deadline` (loop time).

    asyncio's own timeouts know their task: an error that ends it would keep all that it has.
    """
    try:
        left_s = deadline - asyncio.get_running_loop().time()
        await asyncio.wait((future,), timeout=max(0.0, left_s))
        if not future.done():
            raise TimeoutError
        return future.result()
    finally:
        future.cancel()
        del future  # its error has a traceback with this frame


async def until_done(future: asyncio.Future[Any]) -> None:
    """Returns when it is, however often the caller is cancelled meanwhile; then raises that."""
    is_cancelled = False
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
