"""What the XML bodies of all requests together take.

A body over S3_XML_FREE_BYTES is received within a budget: a request that gets no share in time is
told to slow down, and a client that stalls loses its share to others (storage.buffers). The share
is kept until what the body asks for is done, as lists of what it names live as long. Trees, which
take many times the bytes that they are made of, are there a few at a time; no request waits for its
client while it has one, so that turns come soon. So are objects that are put together of parts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from predastore.base.limits import (
    S3_XML_ASSEMBLIES_BYTES_MAX,
    S3_XML_BYTES_MAX,
    S3_XML_FREE_BYTES,
    S3_XML_TREES_MAX,
)
from predastore.httpd.message import Body
from predastore.s3.xml_read import Element, parse
from predastore.storage.buffers import Budget, BudgetClient


class Documents:
    """One for all requests."""

    def __init__(self) -> None:
        self._budget = Budget(S3_XML_BYTES_MAX)
        self._turns = asyncio.Semaphore(S3_XML_TREES_MAX)
        self._assemblies = Budget(S3_XML_ASSEMBLIES_BYTES_MAX)

    @property
    def held_bytes(self) -> int:
        """What is in use of the budget."""
        return self._budget.held_bytes

    @asynccontextmanager
    async def room(self, body: Body, limit_bytes: int) -> AsyncIterator[Body]:
        """Room for a body of at most `limit_bytes`, which is to be read through what this gives;
        Overloaded. The room must last as long as what was read."""
        count = limit_bytes if body.length is None else min(body.length, limit_bytes)
        if count <= S3_XML_FREE_BYTES:
            yield body
            return
        await self._budget.take(count)
        try:
            yield _Watched(body, self._budget)
        finally:
            self._budget.give(count)

    @asynccontextmanager
    async def tree(self, data: bytes, root: str) -> AsyncIterator[Element]:
        """The root element of a document; what `parse` raises. Nobody may be waited for within the
        block: turns are few."""
        async with self._turns:
            yield await parse(data, root)

    @asynccontextmanager
    async def assembly(self, data: bytes) -> AsyncIterator[None]:
        """The turn of a document that names the parts of an object; Overloaded."""
        await self._assemblies.take(len(data))
        try:
            yield
        finally:
            self._assemblies.give(len(data))


class _Watched(Body):
    """`body`, with the waits for its client known to the budget."""

    def __init__(self, body: Body, budget: Budget) -> None:
        self.length = body.length
        self._body = body
        self._client = BudgetClient(budget)

    async def readinto(self, buffer: memoryview) -> int:
        return await self._client.readinto(self._body, buffer)
