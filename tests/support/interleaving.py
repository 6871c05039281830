"""The steps of an operation, which are its calls to the state: something happens before any one of
them; how many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from predastore.s3db.global_state import LocalState

CALLS = ("get", "read", "list", "commit", "call", "ask")
COMMITS = ("commit", "call")
_IS_WATCHED: ContextVar[bool] = ContextVar("is_watched", default=False)


class Interleaving:
    """`result` of an operation before whose call `number` (from 0) to the state something happens.

    `was_reached`: it made so many calls; `had_committed`: one of those before was a commit.
    """

    def __init__(self) -> None:
        self.was_reached = self.had_committed = False
        self.result: Any = None


async def interleaved(
    state: LocalState,
    number: int,
    operation: Callable[[], Awaitable[Any]],
    meanwhile: Callable[[], Awaitable[Any]],
) -> Interleaving:
    """Runs `operation`, and `meanwhile` before its call `number`; exceptions are results."""
    seen = Interleaving()
    count = 0

    def watched(name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(type(state), name)

        async def held(*arguments: Any) -> Any:
            nonlocal count
            if _IS_WATCHED.get():
                count += 1
                if count == number + 1:
                    seen.was_reached = True
                    _IS_WATCHED.set(False)
                    await meanwhile()
                    _IS_WATCHED.set(True)
                elif name in COMMITS and not seen.was_reached:
                    seen.had_committed = True
            return await call(state, *arguments)

        return held

    async def run() -> Any:
        _IS_WATCHED.set(True)
        return await operation()

    for name in CALLS:
        setattr(state, name, watched(name))
    try:
        (seen.result,) = await asyncio.gather(asyncio.ensure_future(run()), return_exceptions=True)
    finally:
        for name in CALLS:
            delattr(state, name)
    return seen


async def calls_of(state: LocalState, work: Awaitable[Any]) -> tuple[Any, list[str]]:
    """What `work` gives, and the names of the calls to the state that it makes, in their order;
    those of others at the same time are not counted."""
    calls: list[str] = []

    def counted(name: str) -> Callable[..., Awaitable[Any]]:
        call = getattr(type(state), name)

        async def held(*arguments: Any) -> Any:
            if _IS_WATCHED.get():
                calls.append(name)
            return await call(state, *arguments)

        return held

    async def run() -> Any:
        _IS_WATCHED.set(True)
        return await work

    for name in CALLS:
        setattr(state, name, counted(name))
    try:
        return await asyncio.ensure_future(run()), calls
    finally:
        for name in CALLS:
            delattr(state, name)
