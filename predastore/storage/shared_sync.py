"""One slow call shared by all who wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class SharedSync:
    """Calling it awaits a call of `sync` that began after the caller came."""

    def __init__(self, sync: Callable[[], Awaitable[None]]) -> None:
        self._sync = sync
        self._running: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    async def __call__(self) -> None:
        if self._next is None:
            self._next = asyncio.ensure_future(self._round(self._running))
        await asyncio.shield(self._next)

    async def _round(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.wait((before,))
            del before
        self._running, self._next = self._next, None
        try:
            await self._sync()
        finally:
            self._running = None  # its error has a traceback with frames of all who wait for it
