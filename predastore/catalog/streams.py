"""The bytes of a version, as a stream and as a body."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from predastore.storage.interface import Buffer


class VersionStream:
    """Iterate once, and `aclose` unless it was to the end."""

    def __init__(self, buffers: AsyncGenerator[Buffer, None]) -> None:
        self._buffers = buffers
        self._first: Buffer | None = None

    async def begin(self) -> VersionStream:
        """Fetches the first buffer, so that early errors come early."""
        self._first = await anext(self._buffers, None)
        return self

    def __aiter__(self) -> VersionStream:
        return self

    async def __anext__(self) -> Buffer:
        first, self._first = self._first, None
        return first if first is not None else await anext(self._buffers)

    async def aclose(self) -> None:
        self._first = None
        await self._buffers.aclose()


class StreamSource:
    """A stored version's bytes as a body; an async context manager."""

    def __init__(self, stream: VersionStream) -> None:
        self._stream = stream
        self._rest = memoryview(b"")

    async def readinto(self, buffer: memoryview) -> int:
        if not self._rest:
            self._rest = memoryview(await anext(self._stream, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def __aenter__(self) -> StreamSource:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stream.aclose()
