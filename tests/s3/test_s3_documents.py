"""XML bodies take bounded memory, however many come at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from predastore.errors import HttpError, Overloaded, S3Error
from predastore.httpd.message import Body, BytesBody
from predastore.limits import S3_XML_BYTES_MAX, S3_XML_FREE_BYTES, S3_XML_TREES_MAX
from predastore.s3 import documents as documents_module
from predastore.s3.documents import Documents
from support.waiting import eventually_async

LARGE = S3_XML_BYTES_MAX // 4


class Stalled(Body):
    """Says its length, and then nothing until `proceed` is set."""

    def __init__(self, length: int | None) -> None:
        self.length = length
        self.proceed = asyncio.Event()

    async def readinto(self, buffer: memoryview) -> int:
        await self.proceed.wait()
        return 0


async def receive(documents: Documents, body: Body) -> bytes:
    async with documents.room(body, LARGE) as watched:
        return await watched.read(LARGE)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def cancelled(*tasks: asyncio.Task[bytes]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize("length", [LARGE, None])
def test_large_bodies_share_a_budget(length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.backend.buffers.BACKEND_BUFFER_WAIT_MS_MAX", 1)

    async def main() -> None:
        documents = Documents()
        held = [asyncio.ensure_future(receive(documents, Stalled(length))) for _ in range(4)]
        await eventually_async(lambda: documents.held_bytes == S3_XML_BYTES_MAX)
        with pytest.raises(Overloaded):
            await receive(documents, Stalled(length))
        assert await receive(documents, BytesBody(b"x" * S3_XML_FREE_BYTES))
        await cancelled(*held)
        assert documents.held_bytes == 0

    run(main())


def test_a_client_that_stalls_loses_its_share_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predastore.backend.buffers.BACKEND_IDLE_MS_MAX", 0)
    monkeypatch.setattr("predastore.backend.buffers.BACKEND_IDLE_CHECK_MS", 1)

    async def main() -> None:
        documents = Documents()
        held = [asyncio.ensure_future(receive(documents, Stalled(LARGE))) for _ in range(4)]
        await eventually_async(lambda: documents.held_bytes == S3_XML_BYTES_MAX)
        data = b"x" * LARGE
        assert await receive(documents, BytesBody(data)) == data
        assert [task.cancelled() for task in held].count(True) == 1
        await cancelled(*held)

    run(main())


def test_a_body_that_is_too_long_is_refused_and_holds_nothing() -> None:
    async def main() -> None:
        documents = Documents()
        with pytest.raises(HttpError):
            await receive(documents, BytesBody(bytes(LARGE + 1)))
        assert documents.held_bytes == 0

    run(main())


def test_few_trees_are_there_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[bytes] = []
    parse = documents_module.parse

    async def noted(data: bytes, root: str) -> Any:
        begun.append(data)
        return await parse(data, root)

    monkeypatch.setattr(documents_module, "parse", noted)

    async def main() -> None:
        documents = Documents()
        proceed = asyncio.Event()

        async def look(data: bytes) -> None:
            async with documents.tree(data, "a"):
                await proceed.wait()

        looking = [asyncio.ensure_future(look(b"<a/>")) for _ in range(3 * S3_XML_TREES_MAX)]
        await eventually_async(lambda: len(begun) >= S3_XML_TREES_MAX)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(begun) == S3_XML_TREES_MAX
        proceed.set()
        await asyncio.gather(*looking)
        assert len(begun) == 3 * S3_XML_TREES_MAX

        for _ in range(2 * S3_XML_TREES_MAX):  # a malformed one gives its turn back
            with pytest.raises(S3Error):
                await look(b"<a>")

    run(main())
